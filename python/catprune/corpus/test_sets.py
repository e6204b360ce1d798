"""Test sets as files: lines, TSV with both sides, SGML and WMT's XML, by name and content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from catprune._core import read_start
from catprune.corpus.contents import kind_of
from catprune.corpus.names import COMPRESSED, MARKUP, format_of, refuse_other_formats
from catprune.errors import UsageError

if TYPE_CHECKING:
    from typing import Literal

    from catprune.boundary import TestSet

_START = 1 << 16


def describe_test_set(source: str | Path, target: str | Path | None = None) -> TestSet:
    """Describe a test set for a pass: two files of equal length, or one.

    Lines are segments. A lone file of TSV (by its name, or if all its first lines have equally many tabs) has the
    source in column 1 and the target in column 2. Files with `<seg>` are SGML or XML, and of XML `<src>` and `<ref>`
    are the sides.

    Raises:
        UsageError: a file is of another format.
        CatpruneError: a file is an archive, or of a compression that is not read.
        OSError: a file cannot be read.
    """
    formats: list[Literal["lines", "tsv", "markup"]] = [
        _format_of(path, alone=target is None) for path in (source, target) if path is not None
    ]
    if formats[0] != formats[-1] or (target is not None and formats[0] == "tsv"):
        raise UsageError(
            f"{source} and {target}: give two files of lines or of markup, or one .tsv file with both sides"
        )
    return {
        "format": formats[0],
        "source": str(Path(source).absolute()),
        "target": None if target is None else str(Path(target).absolute()),
    }


def _format_of(path: str | Path, *, alone: bool) -> Literal["lines", "tsv", "markup"]:
    name = Path(path)
    while name.suffix.lower() in COMPRESSED:
        name = name.with_suffix("")
    known = format_of(path)
    start = b"" if known == "parquet" else read_start(str(path), _START)
    kind = kind_of(start)
    if known == "tsv":
        return "tsv"
    if name.suffix.lower() in MARKUP or kind == "segments":
        return "markup"
    if other := known or kind:
        raise UsageError(f"{path}: a test set is lines, TSV, SGML or XML, not {other}: write its sides as lines")
    refuse_other_formats(path, remedy="a test set is lines, .tsv, .sgm or .xml")
    lines = start.splitlines()[: -1 if len(start) == _START else None]
    tabs = {line.count(b"\t") for line in lines}
    return "tsv" if alone and len(tabs) == 1 and tabs != {0} else "lines"
