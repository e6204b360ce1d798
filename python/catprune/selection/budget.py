"""The budget of a selection: `keep` and `always_keep`, parsed exactly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, cast

from catprune.errors import CatpruneError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catprune.boundary import Keep

_FORM = re.compile(r"(?P<number>\d+(?P<decimals>\.\d+)?|(?P<bare>\.\d+))(?P<percent>%)?(?P<tokens>tokens)?")
_LARGEST = 2**63
_PART = re.compile(r"(?P<of>tag|input)=(?P<name>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Own:
    """An input or tag with its own share.

    Attributes:
        of: "input" or "tag".
        name: name of the input or tag.
        keep: the share, in the form of a request; None: all pairs are kept, unranked.
    """

    of: Literal["input", "tag"]
    name: str
    keep: Keep | None

    @property
    def label(self) -> str:
        """The input or tag as the user wrote it, without the share."""
        return f"{self.of}={self.name}"


def list_shares(keep: str | float | Sequence[str | float]) -> list[str | float]:
    """Return the shares of `keep`, which may be a single share or a list."""
    return [keep] if isinstance(keep, str | int | float) else list(keep)


def parse_keeps(keep: str | float | Sequence[str | float], always: Sequence[str] = ()) -> tuple[Keep, tuple[Own, ...]]:
    """Parse the general share, the shares of inputs and tags ("tag=news:80%"), and what is always kept ("input=wmt").

    The general share is 50% if it is not given.

    Raises:
        UsageError: a share cannot be read, there are two general shares, or an input or tag is named twice.
    """
    general: list[str | float] = []
    own: list[Own] = []
    for text in list_shares(keep):
        match = _PART.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            general.append(text)
            continue
        name, colon, share = match["name"].rpartition(":")
        if not colon:
            raise UsageError(f"keep = {text!r}: give a share, like {text}:80%")
        own.append(Own(cast("Literal['input', 'tag']", match["of"]), name, parse_keep(share)))
    for text in always:
        match = _PART.fullmatch(text)
        if match is None:
            raise UsageError(f"always_keep = {text!r} cannot be read: give input=NAME or tag=NAME")
        own.append(Own(cast("Literal['input', 'tag']", match["of"]), match["name"], None))
    if len(general) > 1:
        raise UsageError(
            f"keep = {general[0]!r} and {general[1]!r}: give one share for all, and others like tag=NAME:80%"
        )
    labels = [share.label for share in own]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"{label} is named twice: give it one share")
    return parse_keep(general[0] if general else "50%"), tuple(own)


def parse_keep(keep: str | float) -> Keep:
    """Parse "50%", "0.5", 1000, "50%tokens" or "123456tokens" into the form of a request.

    A fraction has % or a decimal point and is read as an exact decimal number; an integer is a count.

    Raises:
        UsageError: `keep` has another form, or a value that is out of range.
    """
    text = f"{Decimal(str(keep)):f}" if isinstance(keep, float) else str(keep)  # 0.00001, not 1e-05
    match = None if isinstance(keep, bool) else _FORM.fullmatch(text.replace("_", "").strip())
    if match is None:
        raise UsageError(
            f"keep = {keep!r} cannot be read: give a fraction (50% or 0.5), a count (1000) "
            "or a token budget (50%tokens or 123456tokens)"
        )
    value = Fraction(Decimal(match["number"])) / (100 if match["percent"] else 1)
    tokens = match["tokens"] is not None
    if not (match["percent"] or match["decimals"] or match["bare"]):
        if value >= _LARGEST:
            raise UsageError(f"keep = {keep!r}: give a count below 2^63")
        if not value:
            raise UsageError(f"keep = {keep!r}: a count is at least 1; a fraction has % or a decimal point")
        return {"tokens": int(value)} if tokens else {"rows": int(value)}
    if not 0 < value <= 1 or value.denominator >= _LARGEST:
        raise UsageError(f"keep = {keep!r}: a fraction is above 0 and at most 1, like 50% or 0.5")
    fraction = [value.numerator, value.denominator]
    return {"token_fraction": fraction} if tokens else {"fraction": fraction}


def require_some(keep: str | float | Sequence[str | float], always: Sequence[str], pairs: int) -> None:
    """Refuse a share that keeps none of the clean pairs, before anything is trained for it.

    Raises:
        CatpruneError: the share of all pairs, rounded down, is none, and no input or tag has a share of its own.
    """
    share, own = parse_keeps(keep, always)
    numerator, denominator = share.get("fraction", (1, 1))
    if pairs and not own and pairs * numerator < denominator:
        named = keep if isinstance(keep, str | int | float) else keep[0]
        raise CatpruneError(f"keep = {named} keeps none of {pairs} clean pairs: keep more")


def is_token_budget(share: Keep) -> bool:
    """Whether a share from `parse_keep` counts target tokens instead of pairs."""
    return not {"tokens", "token_fraction"}.isdisjoint(share)
