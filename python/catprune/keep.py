"""How much is kept: what `--keep` can say, read exactly, and how a part of a whole is shown."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

from catprune.errors import UsageError

_FORM = re.compile(r"(?P<number>\d+(?P<decimals>\.\d+)?|(?P<bare>\.\d+))(?P<percent>%)?(?P<tokens>tokens)?")
_LARGEST = 2**63


def parse_keep(keep: str | float) -> dict[str, Any]:
    """Read "50%", "0.5", 1000, "50%tokens" or "123456tokens" as the pass wants it.

    A fraction carries % or a decimal point and is read as the decimal number it is written as; an integer is
    a count.

    Raises:
        UsageError: anything else, nothing at all, or more than everything.
    """
    match = None if isinstance(keep, bool) else _FORM.fullmatch(str(keep).replace("_", "").strip())
    if match is None:
        raise UsageError(
            f"keep = {keep!r} cannot be read: give a fraction (50% or 0.5), a count (1000) "
            "or a token budget (50%tokens or 123456tokens)"
        )
    value = Fraction(Decimal(match["number"])) / (100 if match["percent"] else 1)
    tokens = match["tokens"] is not None
    if not (match["percent"] or match["decimals"] or match["bare"]):
        if value >= _LARGEST:
            raise UsageError(f"keep = {keep!r}: no corpus has so many, give a count below 2^63")
        if not value:
            raise UsageError(f"keep = {keep!r}: a count is at least 1; a fraction carries % or a decimal point")
        return {"tokens" if tokens else "rows": int(value)}
    if not 0 < value <= 1 or value.denominator >= _LARGEST:
        raise UsageError(f"keep = {keep!r}: a fraction is above 0 and at most 1, like 50% or 0.5")
    return {"token_fraction" if tokens else "fraction": [value.numerator, value.denominator]}


def is_token_budget(share: dict[str, Any]) -> bool:
    """Whether what `parse_keep` read counts target tokens and not pairs."""
    return not {"tokens", "token_fraction"}.isdisjoint(share)


def share_text(part: int, whole: int) -> str:
    """A part of a whole for a reader: "1,234 (12.3%)"."""
    return f"{part:,} ({part / whole:.1%})" if whole else f"{part:,}"
