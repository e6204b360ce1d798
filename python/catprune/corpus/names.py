"""Formats by file name: those that are read, and those that are recognized, so that they are not taken for text."""

from __future__ import annotations

from pathlib import Path

from catprune.errors import UsageError

COMPRESSED = (".gz", ".zst", ".zstd", ".xz", ".bz2")
#: Formats by suffix in lower case; all but Parquet may be compressed.
SUFFIXES = {
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".tmx": "tmx",
}
#: What `format` may be; "moses" is lines of text.
FORMATS = ("moses", "tsv", "jsonl", "parquet", "tmx")
#: The suffixes that messages list.
NAMED = tuple(suffix for suffix in SUFFIXES if suffix != ".json")
#: Files of segments in markup, which are read as test sets only.
MARKUP = (".sgm", ".sgml", ".xml")

_BACKUP = (".bak", ".backup", ".old", ".orig", ".tmp", ".part", ".crdownload")
_TABLES = (".csv", ".xls", ".xlsx", ".ods", ".arrow", ".feather", ".orc", ".avro", ".npy", ".npz")
_DOCUMENTS = (".html", ".htm", ".xlf", ".xliff", ".pdf", ".docx", ".odt", ".rtf")


def format_of(name: str | Path) -> str | None:
    """Return the format of a file that holds both sides, by its name; None if the name does not say it."""
    suffix, is_compressed = _inner_suffix(Path(name))
    format = SUFFIXES.get(suffix)
    return None if is_compressed and format == "parquet" else format


def choose_format(name: str | Path, format: str | None) -> str | None:
    """Return the format of an input: by its name, or as the option says; None if neither says it.

    The option decides for names that end in `.json` or in the suffix of a format that is not read.

    Raises:
        UsageError: the name is that of another format, and the option does not decide.
    """
    if format == "moses":
        return None
    known = format_of(name)
    if known and not (format and _inner_suffix(Path(name))[0] == ".json"):
        return known
    if format is None:
        refuse_other_formats(name)
    return format


def refuse_other_formats(name: str | Path, *, remedy: str = "format = moses reads its lines as text") -> None:
    """Refuse a name that ends in the suffix of a format that is not text, unless that format is read.

    Raises:
        UsageError: it does.
    """
    path = Path(name)
    suffix, is_compressed = _inner_suffix(path)
    if suffix == ".parquet" and is_compressed:
        raise UsageError(f"{name}: Parquet compresses its columns: decompress the file")
    original = path
    while original.suffix.lower() in _BACKUP or original.name.endswith("~"):
        original = original.with_name(original.name[:-1]) if original.name.endswith("~") else original.with_suffix("")
    if original != path and (known := format_of(original)):
        raise UsageError(f"{name} is a copy of a {known} file: give format = {known}; {remedy}")
    suffix = _inner_suffix(original)[0]
    if suffix in _TABLES:
        raise UsageError(f"{name}: a {suffix} table is not read: write it as TSV, JSONL or Parquet; {remedy}")
    if suffix in MARKUP or suffix in _DOCUMENTS:
        raise UsageError(f"{name}: a {suffix} document is not read: write its text as lines; {remedy}")


def _inner_suffix(path: Path) -> tuple[str, bool]:
    """Return the last suffix before that of a compression, in lower case, and whether there is a compression."""
    suffix = path.suffix.lower()
    return (path.with_suffix("").suffix.lower(), True) if suffix in COMPRESSED else (suffix, False)
