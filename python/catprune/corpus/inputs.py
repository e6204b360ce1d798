"""Inputs: parsing the names that users give, and the form in which steps pass them on."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune._core import read_pairs
from catprune.corpus.templates import TEMPLATE, WILDCARD, expand, expand_pairs
from catprune.corpus.unchanged import check_unchanged, cleaned_files
from catprune.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catprune.boundary import Corpus, Input, MosesInput

_COMPRESSED = (".gz", ".zst", ".xz", ".bz2")
#: Formats by file suffix; all but Parquet may be compressed.
SUFFIXES = {".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".tmx": "tmx"}
FORMATS = ("tsv", "jsonl", "parquet", "tmx")
#: The keys of an input that a pass reads, besides its format.
_KEYS = {
    "moses": ("source", "target"),
    "text": ("path",),
    "tsv": ("path", "source_column", "target_column"),
    "jsonl": ("path", "source_field", "target_field"),
    "parquet": ("path", "source_field", "target_field"),
    "tmx": ("path", "source_language", "target_language"),
}
#: The highest number of a TSV column: a line has at most as many bytes.
_MOST_COLUMNS = 2**20
#: The default field of a monolingual corpus in JSONL and Parquet.
TEXT = "text"


def parse_inputs(
    names: Sequence[str | Path],
    *,
    columns: tuple[int, int] | int | None = None,
    fields: tuple[str, str] | str | None = None,
    languages: tuple[str | None, str | None] = (None, None),
    format: str | None = None,
    monolingual: bool = False,
) -> list[Input]:
    """Parse the names of inputs.

    Two plain files are a Moses pair; otherwise each name is a file with both sides, or a template. In a monolingual
    corpus each name is one file, of lines unless its name or `format` says otherwise.

    Args:
        names: as given on the command line. In templates (`wmt.{en,de}`) and names of one file, the wildcards `*`, `?`
            and `[…]` match files, sorted by name.
        columns: numbers of the source and target column of TSV files, from 1; the first two by default. For a
            monolingual corpus one number, 1 by default.
        fields: names of the source and target field of JSONL and Parquet files, with dots for nested fields; the
            language codes by default. For a monolingual corpus one name, "text" by default.
        languages: codes of the two languages; TMX files need them.
        format: "tsv", "jsonl", "parquet" or "tmx": the format of files whose names do not say it.
        monolingual: each record is one text, the target; there is no source.

    Returns:
        For each input `{"format": …}` and the keys that a pass reads, with absolute paths.

    Raises:
        UsageError: a name is invalid, a file is named twice, or the sides of a template do not match.
    """
    texts = [str(name) for name in names]
    if not texts:
        raise UsageError("no input: give two files, files that hold both sides, or templates like 'wmt.{en,de}'")
    if format is not None and format not in FORMATS:
        raise UsageError(f"format {format}: give {', '.join(FORMATS)}")
    if monolingual:
        if languages[0]:
            raise UsageError(f"source_lang = {languages[0]}: a monolingual corpus has no source: give only target_lang")
        inputs: list[Input] = [
            entry for text in texts for entry in _parse_texts(text, format, columns=columns, fields=fields)
        ]
    elif len(texts) == 2 and not (format or any(_is_more(text) for text in texts)):
        inputs = [_moses(*texts)]
    else:
        parsed = [entry for text in texts for entry in _parse_name(text, format)]
        inputs = [_complete(entry, columns=columns, fields=fields, languages=languages) for entry in parsed]
    counts = Counter(path for entry in inputs for path in input_paths(entry))
    for path, count in counts.items():
        if count > 1:
            raise UsageError(f"{path} is named twice: name each file once")
    return inputs


def format_of(name: str | Path) -> str | None:
    """Return the format of a file that holds both sides, by its name; None if the name does not say it."""
    path = Path(name)
    suffix = path.suffix
    if suffix in _COMPRESSED:
        inner = SUFFIXES.get(path.with_suffix("").suffix)
        return None if inner == "parquet" else inner
    return SUFFIXES.get(suffix)


def _is_more(text: str) -> bool:
    """Whether a name means more than one side: a file with both sides, a template, or wildcards."""
    return bool(format_of(text) or TEMPLATE.search(text) or (WILDCARD.search(text) and not Path(text).exists()))


def _moses(source: str, target: str) -> MosesInput:
    return {"format": "moses", "source": str(Path(source).absolute()), "target": str(Path(target).absolute())}


def find_sides(text: str) -> tuple[str, str] | None:
    """Expand a template like `wmt.{en,de}` into two names; None if the text is not a template.

    Raises:
        UsageError: one name holds two different templates.
    """
    templates = {match[0]: match for match in TEMPLATE.finditer(text)}
    if len(templates) > 1:
        raise UsageError(f"{text}: give one template, not {' and '.join(templates)}")
    for whole, match in templates.items():
        return text.replace(whole, match[1]), text.replace(whole, match[2])
    return None


def find_inputs(name: str, parsed: Sequence[Mapping[str, Any]]) -> list[int]:
    """Find the inputs that a file name, a template or wildcards mean.

    Returns:
        The positions of these inputs in `parsed`.

    Raises:
        UsageError: the name matches no input.
    """
    paths = {str(Path(name).absolute())}
    if find_sides(name) or WILDCARD.search(name):
        paths |= {path for entry in _parse_name(name, "tsv") for path in input_paths(entry)}
    numbers = [number for number, entry in enumerate(parsed) if paths & set(input_paths(entry))]
    if not numbers:
        files = ", ".join(path for entry in parsed for path in input_paths(entry))
        raise UsageError(f"{name} is not one of the inputs: {files}")
    return numbers


def _parse_name(text: str, format: str | None) -> list[Mapping[str, Any]]:
    if sides := find_sides(text):
        return [_moses(*pair) for pair in expand_pairs(text, list(sides))]
    names = expand(text)
    for name in names:
        if not (format_of(name) or format):
            raise UsageError(
                f"{name}: give two files, or names that end in {', '.join(SUFFIXES)}, or templates in quotes like "
                "'wmt.{en,de}'; give format for a file of another name, or monolingual = true if there is one side"
            )
    return [{"format": format_of(name) or format, "path": str(Path(name).absolute())} for name in names]


def _parse_texts(
    text: str, format: str | None, *, columns: tuple[int, int] | int | None, fields: tuple[str, str] | str | None
) -> list[Input]:
    """Parse one name of a monolingual corpus; wildcards may give several inputs."""
    if find_sides(text):
        raise UsageError(f"{text}: a template has two sides, but a monolingual corpus has one: name its files")
    parsed: list[dict[str, Any]] = []
    for name in expand(text):
        entry: dict[str, Any] = {"format": format_of(name) or format or "text", "path": str(Path(name).absolute())}
        if entry["format"] == "tmx":
            raise UsageError(f"{name}: TMX holds pairs: write the side that you want to a text file first")
        if entry["format"] == "tsv":
            column = 1 if columns is None else columns
            if not isinstance(column, int) or not 1 <= column <= _MOST_COLUMNS:
                raise UsageError(
                    f"columns {columns}: a monolingual corpus has one column: give one number from 1 to {_MOST_COLUMNS}"
                )
            entry["target_column"] = column
        elif entry["format"] != "text":
            entry["target_field"] = check_field(fields)
        parsed.append(entry)
    return cast("list[Input]", parsed)


def check_languages(path: str, languages: tuple[str | None, str | None]) -> tuple[str, str]:
    """Check the languages of a TMX file.

    Raises:
        UsageError: a language is missing or is not a code, or a variant could belong to both.
    """
    source, target = languages
    if not source or not target:
        raise UsageError(f"{path}: a TMX file needs two languages: give source_lang and target_lang")
    if bad := [code for code in (source, target) if not re.fullmatch(r"[A-Za-z0-9]+([-_][A-Za-z0-9]+)*", code)]:
        raise UsageError(f"{path}: {bad[0]} is not a language code: give a code like en or pt-BR")
    codes = [code.lower().replace("_", "-") + "-" for code in (source, target)]
    if codes[0].startswith(codes[1]) or codes[1].startswith(codes[0]):
        raise UsageError(f"{path}: {source} and {target} match the same variants: give two languages")
    return source, target


def check_field(fields: tuple[str, str] | str | None) -> str:
    """Check the name of the field of a monolingual corpus; dots lead into nested fields.

    Raises:
        UsageError: there are two names, or a part is empty.
    """
    field = TEXT if fields is None else fields
    if not isinstance(field, str) or not all(field.split(".")):
        raise UsageError(f"fields {fields!r}: a monolingual corpus has one field: give its name, like {TEXT}")
    return field


def check_fields(fields: tuple[str, str] | str) -> tuple[str, str]:
    """Check the names of the source and target field; dots lead into nested fields.

    Raises:
        UsageError: there is one name, a name is empty, or one field would be inside the other.
    """
    if isinstance(fields, str):
        raise UsageError(f"fields {fields}: give two fields, like en,de; only a monolingual corpus has one")
    source, target = fields
    paths = [f"{name}." for name in fields]
    if ".." in "".join(paths) or "." in (source[:1], target[:1]) or not source or not target:
        raise UsageError(f"fields {source},{target}: a name is empty: give two fields, like en,de")
    if paths[0].startswith(paths[1]) or paths[1].startswith(paths[0]):
        raise UsageError(f"fields {source},{target}: one field is inside the other: give two separate fields")
    return source, target


def input_paths(entry: Mapping[str, Any]) -> list[str]:
    """Return the files of an input, source first."""
    return [entry["source"], entry["target"]] if entry["format"] == "moses" else [entry["path"]]


def with_paths(entry: Mapping[str, Any], paths: Sequence[str]) -> Input:
    """Return the input with other paths, and only the keys that a pass reads."""
    named = {"source": paths[0], "target": paths[1]} if entry["format"] == "moses" else {"path": paths[0]}
    kept = {key: entry[key] for key in ("format", *_KEYS[entry["format"]]) if key in entry}
    return cast("Input", {**kept, **named})


def relative_input(entry: Mapping[str, Any], folder: Path) -> Input:
    """Return an input as the manifest in `folder` lists it, with relative paths."""
    return with_paths(entry, [os.path.relpath(path, folder.absolute()) for path in input_paths(entry)])


def is_monolingual(manifest: Mapping[str, Any]) -> bool:
    """Whether the manifest of a clean or a tokens folder says that the corpus has no sources."""
    return bool(manifest.get("monolingual", False))


def resolve(clean: Path, manifest: dict[str, Any]) -> Corpus:
    """Return the corpus of a finished clean folder, in the form that passes over text take."""
    base = clean.absolute()
    inputs = [
        with_paths(entry, [os.path.normpath(base / path) for path in input_paths(entry)])
        for entry in manifest["inputs"]
    ]
    return {"inputs": inputs, "max_line_bytes": manifest["options"]["max_line_bytes"]}


def read_rows(clean: Path, manifest: dict[str, Any], rows: Sequence[int]) -> list[tuple[str, str]]:
    """Read the sources and targets of some ascending rows of a finished clean folder.

    Raises:
        CatpruneError: an input file is missing or changed.
    """
    if not rows:
        return []
    check_unchanged(cleaned_files(clean, manifest), cache=clean / "log" / "digests.json")
    return read_pairs({"corpus": resolve(clean, manifest), "rows": list(rows)})


def _complete(
    entry: Mapping[str, Any],
    *,
    columns: tuple[int, int] | int | None,
    fields: tuple[str, str] | str | None,
    languages: tuple[str | None, str | None],
) -> Input:
    """Add to an input where its two sides are: columns, fields or languages."""
    if entry["format"] == "moses":
        return cast("MosesInput", entry)
    if entry["format"] == "tsv":
        source, target = (1, 2) if columns is None else (columns, columns) if isinstance(columns, int) else columns
        if not (min(source, target) >= 1 and max(source, target) <= _MOST_COLUMNS) or source == target:
            raise UsageError(f"columns {source},{target}: give two different numbers from 1 to {_MOST_COLUMNS}")
        return {"format": "tsv", "path": entry["path"], "source_column": source, "target_column": target}
    if entry["format"] == "tmx":
        first, second = check_languages(entry["path"], languages)
        return {"format": "tmx", "path": entry["path"], "source_language": first, "target_language": second}
    if fields is None and not all(languages):
        raise UsageError(
            f"{entry['path']}: give the fields of the two sides, like fields = en,de or fields = text.en,text.de"
        )
    source_field, target_field = check_fields(fields or (str(languages[0]), str(languages[1])))
    return {
        "format": entry["format"],
        "path": entry["path"],
        "source_field": source_field,
        "target_field": target_field,
    }
