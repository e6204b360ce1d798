"""What input files hold, by the start of their text: other formats, headers, numbers, other encodings, nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from catprune._core import read_start
from catprune.errors import CatpruneError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_START = 1 << 16
#: Fewest lines whose columns are judged.
_LINES = 3
#: A file is likely in another encoding if this share of its first lines is not UTF-8.
_OTHER_ENCODING = 0.01
#: The start of an object, perhaps in an array.
_OBJECT = re.compile(rb'(\[\s*)?\{\s*"(?:[^"\\]|\\.)*"\s*:')
_SEGMENTS = re.compile(rb"<(srcset|refset|tstset|mteval|dataset)\b|<seg\b")
_NAMES = {
    "source", "src", "source_text", "source_sentence", "target", "tgt", "trg", "target_text", "target_sentence",
    "reference", "ref", "translation", "text", "sentence", "sentence1", "sentence2", "score", "id", "url",
}  # fmt: skip


def kind_of(start: bytes) -> str | None:
    """Return what a text is by its start; None for lines of text.

    Returns:
        "tmx", "segments" (a test set in SGML or XML), "xml", "html", "json" (one object per line) or "json document".
    """
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    head = text[:4096].lower()
    if head.startswith(b"<"):
        if b"<tmx" in head:
            return "tmx"
        if _SEGMENTS.search(head):
            return "segments"
        if head.startswith((b"<!doctype html", b"<html")):
            return "html"
        return "xml" if head.startswith((b"<?xml", b"<!doctype")) else None
    found = _OBJECT.match(text)
    if found is None:
        return None
    return "json document" if found[1] or b"\n" in found[0] else "json"


#: What a kind of text is, and the format that reads it.
_KINDS = {
    "tmx": ("TMX", "give format = tmx, or a name that ends in .tmx"),
    "segments": ("a test set in SGML or XML", "write its segments as lines, or give it to exclude"),
    "xml": ("XML", "write its text as lines"),
    "html": ("HTML", "write its text as lines"),
    "json": ("JSON", "give format = jsonl, or a name that ends in .jsonl"),
    "json document": ("one JSON document", "write one object per line (jq -c '.[]' FILE > FILE.jsonl)"),
}


def check_contents(paths: Sequence[str], format: str) -> None:
    """Refuse files that hold another format than "moses", "text", "tsv" or "jsonl", as it would be read.

    Missing files are left to the pass that reads them.

    Raises:
        CatpruneError: a file is TMX, JSON, SGML, XML or HTML, an archive, or of a compression that is not read.
    """
    for path in paths:
        try:
            kind = kind_of(read_start(path, _START))
        except OSError:
            continue
        if kind is None or (kind == "json" and format == "jsonl"):
            continue
        what, remedy = _KINDS[kind]
        read = {"tsv": "TSV", "jsonl": "lines of JSON"}.get(format, "lines of text")
        forced = "; format = moses reads its lines" if format in ("moses", "text") else ""
        raise CatpruneError(f"{path} is {what}, not {read}: {remedy}{forced}")


def is_empty(path: str, *, format: str, header: bool) -> bool:
    """Whether a text file that exists has no record: no byte, or only a header."""
    if format in ("parquet", "tmx"):
        return False
    try:
        start = read_start(path, _START)
    except (OSError, CatpruneError):
        return False
    return not (start.partition(b"\n")[2] if header and len(start) < _START else start)


def describe_contents(inputs: Sequence[Mapping[str, Any]], languages: Sequence[str | None]) -> list[str]:
    """Describe what is unusual in the first lines of inputs: another encoding, and for TSV headers and numbers."""
    notes: list[str] = []
    for entry in inputs:
        paths = [entry["source"], entry["target"]] if entry["format"] == "moses" else [entry["path"]]
        if entry["format"] not in ("moses", "text", "tsv", "jsonl"):
            continue
        for path in paths:
            start = read_start(path, _START)
            lines = start.removeprefix(b"\xef\xbb\xbf").split(b"\n")
            # The last line may be cut off; a file that ends with a line end has an empty one.
            lines = lines[: -1 if len(start) == _START or not lines[-1] else None]
            notes += _describe_encoding(path, lines)
            if entry["format"] == "tsv":
                notes += _describe_columns(entry, lines, {code.lower() for code in languages if code})
    return notes


def _describe_encoding(path: str, lines: Sequence[bytes]) -> list[str]:
    if _is_utf8(b"\n".join(lines)):
        return []
    wrong = sum(not _is_utf8(line) for line in lines)
    if wrong <= _OTHER_ENCODING * len(lines):
        return []
    return [
        f"{path}: {wrong:,} of the first {len(lines):,} lines are not UTF-8: the file looks like Latin-1 or another "
        "encoding; convert it (iconv -f LATIN1 -t UTF-8)"
    ]


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _describe_columns(entry: Mapping[str, Any], lines: Sequence[bytes], codes: set[str]) -> list[str]:
    records = [[cell.decode(errors="replace").strip() for cell in line.split(b"\t")] for line in lines]
    chosen = [entry[key] for key in ("source_column", "target_column") if key in entry]
    if not records or min(map(len, records)) < max(chosen):
        return []
    notes: list[str] = []
    has_header = bool(entry.get("header"))
    if not has_header and all(records[0][column - 1].lower() in _NAMES | codes for column in chosen):
        notes.append(f"{entry['path']}: the first line looks like a header: give header = true, so that it is no pair")
        has_header = True
    records = records[has_header:]
    if len(records) >= _LINES:
        count = min(map(len, records))
        numbers = {column for column in range(1, count + 1) if all(_is_number(cells[column - 1]) for cells in records)}
        text = [column for column in range(1, count + 1) if column not in numbers][: len(chosen)]
        if numbers & set(chosen) and len(text) == len(chosen):
            columns = ",".join(map(str, text))
            notes.append(
                f"{entry['path']}: column {min(numbers & set(chosen))} holds numbers: if the text is in other columns, "
                f"give columns = {columns}"
            )
    return notes


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?", cell))
