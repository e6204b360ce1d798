"""Numbers in words, for summaries and progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def share_text(part: int, whole: int) -> str:
    """Write a part of a whole with its share: "1,234 (12.3%)"."""
    return f"{part:,} ({part / whole:.1%})" if whole else f"{part:,}"


def duration(seconds: float) -> str:
    """Write a duration in seconds, minutes or hours: "0.2 s", "45 s", "12 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def continuing(done: int, blocks: int) -> str:
    """Say that a step continues after some of its blocks: "continuing: 12 of 40 blocks are done"."""
    return f"continuing: {done:,} of {blocks:,} blocks {'is' if done == 1 else 'are'} done"


def new_text(new: int, whole: int, *, was_extended: bool = False) -> str:
    """Say how many items are new, if others were done before: ", of them 12 new".

    Args:
        new: the new items.
        whole: all items.
        was_extended: whether this call extended earlier work, so that 0 is worth saying.
    """
    return f", of them {new:,} new" if 0 < new < whole or (was_extended and not new) else ""


def left_text(blocks: int) -> str:
    """Say how many blocks other processes score."""
    return f"{blocks:,} {'block is' if blocks == 1 else 'blocks are'} left to other shards"


def some(names: Sequence[str], *, separator: str = ", ", most: int = 6) -> str:
    """Join names for a message, the first few of many: "a, b, c and 597 more"."""
    if len(names) <= most:
        return separator.join(names)
    return f"{separator.join(names[: most - 1])} and {len(names) - most + 1:,} more"


def first_difference(one: str, other: str) -> int:
    """Return the place of the first character that differs; the shorter length if there is none."""
    places = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in places if a != b), min(len(one), len(other)))
