"""Sentences that are near duplicates, and the near duplicates in a clean folder."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as parquet
from hypothesis import strategies as st
from support.cleaned import SPICE, reasons

WORDS = ["das", "Haus", "ist", "rot", "grün", "alt", "und", "42", "家", "ประเทศไทย", *SPICE]

#: Sentences that share most of their words, so that many of them are near duplicates.
SENTENCE = st.tuples(
    st.sampled_from(["Ein Mann geht heute mit seinem Hund durch den Park", "The committee met on Monday", ""]),
    st.lists(st.sampled_from(WORDS), max_size=3),
).map(lambda parts: " ".join([parts[0], *parts[1]]).replace("\n", ""))

LOOSE = {"min_letter_word_share": 0.0, "min_letter_share": 0.0, "max_word_ratio": 1000.0, "max_character_ratio": 1000.0}


def near_of(folder: Path) -> dict[int, int]:
    """Rows dropped as near duplicates, with the row kept instead."""
    clusters = reasons(folder)
    tables = [parquet.read_table(path) for path in sorted((folder / "duplicates").glob("part-*.parquet"))]
    of = {row: first for table in tables for row, first in zip(*(column.to_pylist() for column in table), strict=True)}
    assert of.keys() == {row for row, names in enumerate(clusters) if names & {"duplicate", "near_duplicate"}}
    return {row: first for row, first in of.items() if clusters[row] == {"near_duplicate"}}
