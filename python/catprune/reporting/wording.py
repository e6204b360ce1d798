"""Texts of the report: numbers, shares, and pair text with its control characters made visible."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Unicode has a picture for each C0 control character. C1 controls and marks that reorder the text around them
# have none.
_VISIBLE = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x7F: 0x2421,
    **dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD),
}


def visible(text: str) -> str:
    """Return `text` with a visible character instead of each control character."""
    return text.translate(_VISIBLE)


def shorten(text: str, *, longest: int) -> str:
    """Return the visible `text`, cut to `longest` characters."""
    return visible(text if len(text) <= longest else f"{text[: longest - 1]}…")


def percent(part: float, whole: float) -> str:
    """Return `part` as a percentage of `whole`; a dash if `whole` is 0."""
    return f"{100 * part / whole:.1f}%" if whole else "–"


def difference(value: float) -> str:
    """Return a signed difference in one decimal; zero has no sign."""
    return f"{value:+.1f}" if abs(value) >= 0.05 else "0.0"


def selection_label(name: str, options: Mapping[str, object]) -> str:
    """Return the name of a selection, with its method if the name does not say it."""
    method = str(options.get("method") or "")
    return visible(name if name.startswith(method) else f"{name} ({method})")
