"""Strategies for hostile text, and readers of a clean folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
from hypothesis import strategies as st

SPICE = [
    "\r",
    "\u2028",
    "\u0085",
    "\x00",
    "\u00a0",
    "ﬁ",
    "İ",
    "ß",
    "…",
    "$",
    "¿",
    "ำ",
    "한",
    "\t",
    "\u200b",
    *"१क्ष",
    *"²½５％，-–#%%\u00ad\ufeff\u3164",
    *"e\u0301\u0327ᄒ\u1161\u11ab",
    *"བོད་",
]

SIDE = st.one_of(
    st.lists(st.sampled_from(["a", "A", "b.", "ein", "Haus", "1", "12", "--", "!", *SPICE]), max_size=8).map(" ".join),
    st.text(st.sampled_from(["a", "B", " ", "1", ".", *SPICE]), max_size=12),
    # Characters in the Unicode versions of both Rust and Python.
    st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=10),
).map(lambda text: text.replace("\n", "").encode())


def as_text(data: bytes) -> bytes:
    """One line of bytes that does not begin like another format, which would be refused."""
    return data.replace(b"\n", b"").lstrip(b"<[{\xef\xfe\xff\x1f\xfdBLP7R%A")


BYTES = st.one_of(SIDE, st.binary(max_size=12).map(as_text))


def read(folder: Path) -> dict[str, list[Any]]:
    """All columns of a step, or of a column set."""
    columns = folder / "columns"
    return parquet.read_table(columns if columns.is_dir() else folder).to_pydict()


def reasons(folder: Path) -> list[set[str]]:
    metadata = parquet.read_metadata(next(folder.glob("columns/*.parquet"))).metadata
    names, columns = metadata[b"reasons"].decode().split(","), read(folder)
    names_of_rows = [[name for bit, name in enumerate(names) if mask >> bit & 1] for mask in columns["reasons"]]
    assert columns["reason"] == ["+".join(reasons) or None for reasons in names_of_rows]
    return [set(reasons) for reasons in names_of_rows]


def stripped(data: bytes) -> bytes:
    """A side read back from a line: one carriage return belongs to the line end."""
    return data.removesuffix(b"\r")


KEYS = ("pair", "source", "target", "either", "none")

FORMS = (
    "raw",
    "normalised",
    "nfkc",
    "case",
    "white_space,digits",
    "punctuation",
    "nfkc,case,white_space,punctuation,digits",
)


def duplicates_of(folder: Path) -> dict[int, int | None]:
    """The content of `duplicates/`, by row."""
    if not list(folder.glob("duplicates/part-*")):
        return {}
    columns = read(folder / "duplicates")
    return dict(zip(columns["row"], columns["duplicate_of"], strict=True))


#: Pieces of text that trigger the rules, or nearly do, when put together.
PIECES = """
a Haus haus! (a) B Ж ζ 中 文字 カ ー ﾞ ไ ท่ ລາວ 한 é . 。 ؟ … ” " ) 1 12 1,000 1.000 007 ١٢ ٬ 𝟗 ’ http://a.b/c HTTPS://A.b
www.x.org). <b> </b < > &nbsp; &#160; & ; %s %1$s %-05.2f % %(n)s %1 {0} ${a.b} {{ } \\n \\
"""

TEXT = st.lists(
    st.one_of(st.sampled_from(PIECES.split()), st.sampled_from([" ", "\u00a0", "\u2003", "<!-- a"])), max_size=40
).map("".join)

SHARE = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
