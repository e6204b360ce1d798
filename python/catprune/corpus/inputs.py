"""Inputs: parsing the names that users give, and the form in which steps pass them on."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune._core import read_pairs
from catprune.corpus.contents import check_contents, is_empty
from catprune.corpus.names import FORMATS, NAMED, choose_format, format_of, refuse_other_formats
from catprune.corpus.templates import expand, expand_pairs, find_sides, is_pattern
from catprune.corpus.unchanged import check_unchanged, cleaned_files
from catprune.errors import UsageError
from catprune.workspace.files import Places
from catprune.workspace.wording import some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catprune.boundary import Corpus, Input, MosesInput

#: The keys of an input that a pass reads, besides its format.
_KEYS = {
    "moses": ("source", "target"),
    "text": ("path",),
    "tsv": ("path", "source_column", "target_column", "header"),
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
    header: bool = False,
    monolingual: bool = False,
) -> list[Input]:
    """Parse the names of inputs, and look at the start of the files that exist.

    Two plain files are a Moses pair; otherwise each name is a file with both sides, or a template. In a monolingual
    corpus each name is one file, of lines unless its name or `format` says otherwise. Of the files that wildcards
    match, those without a record are left out.

    Args:
        names: as given on the command line. In templates (`wmt.{en,de}`) and names of one file, the wildcards `*`, `?`
            and `[…]` match files, in natural order (part-2 before part-10). Folders that exist are taken literally.
        columns: numbers of the source and target column of TSV files, from 1; the first two by default. For a
            monolingual corpus one number, 1 by default.
        fields: names of the source and target field of JSONL and Parquet files, with dots for nested fields; the
            language codes by default. For a monolingual corpus one name, "text" by default.
        languages: codes of the two languages; TMX files need them.
        format: "tsv", "jsonl", "parquet" or "tmx": the format of files whose names do not say it; "moses": all files
            are lines of text, whatever their names and contents.
        header: the first line of TSV files holds names.
        monolingual: each record is one text, the target; there is no source.

    Returns:
        For each input `{"format": …}` and the keys that a pass reads, with absolute paths.

    Raises:
        UsageError: a name is invalid or of a format that is not read, a file is named twice, or the sides of a template
            do not match.
        CatpruneError: a file holds another format than its name or `format` says.
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
            entry
            for text in texts
            for entry in _parse_texts(text, format, header=header, columns=columns, fields=fields)
        ]
    elif len(texts) == 2 and not any(map(is_pattern, texts)) and not any(choose_format(text, format) for text in texts):
        inputs = [_moses(*texts)]
    else:
        parsed = [entry for text in texts for entry in _parse_name(text, format, header=header)]
        inputs = [
            _complete(entry, header=header, columns=columns, fields=fields, languages=languages) for entry in parsed
        ]
    for entry in inputs if format != "moses" else ():
        if entry["format"] in ("moses", "text", "tsv", "jsonl"):
            check_contents(input_paths(entry), entry["format"])
    counts = Counter(path for entry in inputs for path in input_paths(entry))
    for path, count in counts.items():
        if count > 1:
            raise UsageError(f"{path} is named twice: name each file once")
    return inputs


def inputs_of(options: Any, names: Sequence[str | Path] | None = None) -> list[Input]:
    """Parse the inputs of a step's options, or of the section of a run file, as `parse_inputs` does.

    Args:
        options: of `clean`, `prune` or a section of them.
        names: what to read instead of `options.inputs`.
    """
    return parse_inputs(
        options.inputs if names is None else names,
        columns=options.columns,
        fields=options.fields,
        languages=(options.source_lang, options.target_lang),
        format=options.format,
        header=options.header,
        monolingual=options.monolingual,
    )


def _moses(source: str, target: str) -> MosesInput:
    return {"format": "moses", "source": str(Path(source).absolute()), "target": str(Path(target).absolute())}


def find_inputs(name: str, parsed: Sequence[Mapping[str, Any]]) -> list[int]:
    """Find the inputs that a file name, a template or wildcards mean.

    Returns:
        The positions of these inputs in `parsed`.

    Raises:
        UsageError: the name matches no input.
    """
    paths = {str(Path(name).absolute())}
    if is_pattern(name):
        paths |= {path for entry in _parse_name(name, "tsv", header=False) for path in input_paths(entry)}
    numbers = [number for number, entry in enumerate(parsed) if paths & set(input_paths(entry))]
    if not numbers:
        files = some([path for entry in parsed for path in input_paths(entry)])
        raise UsageError(f"{name} is not one of the inputs: {files}")
    return numbers


def _parse_name(text: str, format: str | None, *, header: bool) -> list[Mapping[str, Any]]:
    if sides := find_sides(text):
        if format != "moses":
            for side in sides:
                if known := format_of(side):
                    raise UsageError(
                        f"{text}: a {known} file holds both sides, but a template names two: give the files"
                    )
                refuse_other_formats(side)
        pairs = expand_pairs(text, list(sides))
        filled = [pair for pair in pairs if pair == sides or not all(_is_empty(path, "moses") for path in pair)]
        return [_moses(*pair) for pair in filled or pairs]
    names = expand(text)
    formats: list[str] = []
    for name in names:
        chosen = choose_format(name, format)
        if chosen is None:
            check_contents([str(Path(name).absolute())], "moses")  # an archive, or a format that the name does not say
            raise UsageError(
                f"{name}: give two files, or names that end in {', '.join(NAMED)}, or templates in quotes like "
                "'wmt.{en,de}'; give format for a file of another name (format = tsv), "
                "or monolingual = true if there is one side"
            )
        formats.append(chosen)
    return [
        {"format": chosen, "path": str(Path(name).absolute())}
        for name, chosen in _without_empty(text, names, formats, header=header)
    ]


def _parse_texts(
    text: str,
    format: str | None,
    *,
    header: bool,
    columns: tuple[int, int] | int | None,
    fields: tuple[str, str] | str | None,
) -> list[Input]:
    """Parse one name of a monolingual corpus; wildcards may give several inputs."""
    if find_sides(text):
        raise UsageError(f"{text}: a template has two sides, but a monolingual corpus has one: name its files")
    parsed: list[dict[str, Any]] = []
    names = expand(text)
    formats = [choose_format(name, format) or "text" for name in names]
    for name, chosen in _without_empty(text, names, formats, header=header):
        entry: dict[str, Any] = {"format": chosen, "path": str(Path(name).absolute())}
        if chosen == "tmx":
            raise UsageError(f"{name}: TMX holds pairs: write the side that you want to a text file first")
        if chosen == "tsv":
            column = 1 if columns is None else columns
            if not isinstance(column, int) or not 1 <= column <= _MOST_COLUMNS:
                raise UsageError(
                    f"columns {columns}: a monolingual corpus has one column: give one number from 1 to {_MOST_COLUMNS}"
                )
            entry |= {"target_column": column, **({"header": True} if header else {})}
        elif chosen != "text":
            entry["target_field"] = check_field(fields)
        parsed.append(entry)
    return cast("list[Input]", parsed)


def _without_empty(text: str, names: list[str], formats: list[str], *, header: bool) -> list[tuple[str, str]]:
    """Return the names with their formats; without the files that have no record, if wildcards match other files."""
    named = list(zip(names, formats, strict=True))
    if names == [text]:
        return named
    return [(name, format) for name, format in named if not _is_empty(name, format, header=header)] or named


def _is_empty(name: str, format: str, *, header: bool = False) -> bool:
    return is_empty(name, format=format, header=header and format == "tsv")


def left_out(names: Sequence[str | Path], parsed: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the files that wildcards match, but that are no inputs because they have no record."""
    inputs = {path for entry in parsed for path in input_paths(entry)}
    matched: list[str] = []
    for name in map(str, names):
        sides = find_sides(name)
        if sides or is_pattern(name):
            matched += [path for pair in expand_pairs(name, list(sides)) for path in pair] if sides else expand(name)
    return [path for path in matched if str(Path(path).absolute()) not in inputs]


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


def relative_inputs(inputs: Sequence[Mapping[str, Any]], folder: Path) -> list[Input]:
    """Return inputs as the manifest in `folder` lists them, with relative paths."""
    places = Places(folder)
    return [with_paths(entry, [places.relative(path) for path in input_paths(entry)]) for entry in inputs]


def is_monolingual(manifest: Mapping[str, Any]) -> bool:
    """Whether the manifest of a clean or a tokens folder says that the corpus has no sources."""
    return bool(manifest.get("monolingual", False))


def resolve(clean: Path, manifest: dict[str, Any]) -> Corpus:
    """Return the corpus of a finished clean folder, in the form that passes over text take."""
    places = Places(clean)
    inputs = [with_paths(entry, [places.resolve(path) for path in input_paths(entry)]) for entry in manifest["inputs"]]
    options = manifest["options"]
    return {"inputs": inputs, "max_line_bytes": options["max_line_bytes"], "repair": options["repair"]}


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
    header: bool,
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
        named: Input = {"format": "tsv", "path": entry["path"], "source_column": source, "target_column": target}
        return {**named, "header": True} if header else named
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
