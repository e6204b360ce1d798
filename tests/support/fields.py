"""Strategies for fields of the formats, and a reader of pairs."""

from __future__ import annotations

from typing import Any

from catprune import _core
from hypothesis import strategies as st
from support import oracles_formats

SIDE = st.text(st.sampled_from('ab de1.\t\r\n\u2028\u0085\x00\\"<&é漢\U0001f600'), max_size=10)

VALUE = st.one_of(SIDE, st.none(), st.integers(), st.just([]), st.just({"en": "x"}))


def read_records(corpus: dict[str, Any], rows: int) -> list[tuple[str, str]]:
    return _core.read_pairs({"corpus": {"inputs": [corpus]}, "rows": list(range(rows))})


def shown(record: oracles_formats.Found) -> tuple[str, str]:
    """A record as `read_pairs` gives it."""
    return (
        ("", "")
        if isinstance(record, str)
        else (record[0].decode(errors="replace"), record[1].decode(errors="replace"))
    )
