"""Pairs that repairs changed, stored and repaired side by side, with the characters that differ marked."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from catprune.reporting.pairs import read_texts
from catprune.reporting.wording import shorten
from catprune.workspace.wording import first_difference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catprune.reporting.pairs import Texts
    from catprune.reporting.run_columns import Part

#: The most pairs that are shown; characters of a side, and how many of them are before the first difference.
_SHOWN, _LONGEST, _BEFORE = 50, 400, 60
_CODES = (0xA0, 0xAD, 0x1680, 0x180E, *range(0x2000, 0x2010), 0x2028, 0x2029, 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF)
#: Characters that look like a space or like nothing, with their numbers.
_INVISIBLE = {code: f"<U+{code:04X}>" for code in _CODES}


@dataclass(frozen=True, slots=True)
class RepairedPairs:
    """The sampled pairs that repairs changed.

    Attributes:
        names: the repairs.
        count: the number of these pairs.
        shown: how many of them are in `sides`, the first by row.
        sides: each changed side: its row, and stored and repaired text as pieces (whether marked, text).
    """

    names: str
    count: int
    shown: int
    sides: list[dict[str, Any]]


def find_repaired(clean: Part, rows: Sequence[int], texts: Texts) -> RepairedPairs | None:
    """Read how sampled pairs are stored, and compare; None if the corpus is not repaired."""
    options = clean.manifest["options"]
    if not options["repair"] or not texts:
        return None
    unrepaired = {**clean.manifest, "options": {**options, "repair": []}}
    stored = read_texts(replace(clean, manifest=unrepaired), rows)
    if isinstance(stored, str):
        return None
    changed = [row for row in sorted(rows) if stored[row] != texts[row]]
    sides = [
        {"row": f"{row:,}", "stored": list(_pieces(before, after)), "repaired": list(_pieces(after, before))}
        for row in changed[:_SHOWN]
        for before, after in zip(stored[row], texts[row], strict=True)
        if before != after
    ]
    return RepairedPairs(", ".join(options["repair"]), len(changed), min(len(changed), _SHOWN), sides)


def _pieces(text: str, other: str) -> Iterator[tuple[bool, str]]:
    """Yield a text in pieces, each with whether the other text lacks it."""
    begin = max(0, first_difference(text, other) - _BEFORE)
    parts = (("…" if begin else "") + side[begin:] for side in (text, other))
    shown, compared = (shorten(part.translate(_INVISIBLE), longest=_LONGEST) for part in parts)
    for kind, start, end, _, _ in difflib.SequenceMatcher(None, shown, compared, autojunk=False).get_opcodes():
        if start < end:
            yield kind != "equal", shown[start:end]
