"""What makes two pairs near duplicates: the options of MinHash and its bands, and the curve that follows from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from catprune.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catprune.boundary import Key, NearOptions

KEYS = ("pair", "source", "target", "none")
#: How many units make a shingle, unless the caller says otherwise.
SHINGLE_SIZES = {"characters": 5, "words": 2}
#: The defaults; None is chosen by the others. Meanings: docs/near-duplicates.md.
NEAR: dict[str, Any] = {
    "threshold": 0.8,
    "permutations": 128,
    "bands": None,
    "shingles": "characters",
    "shingle_size": None,
}
#: Chance of a pair at the threshold not to be compared, at most, where the bands are chosen.
MISSED = 0.1


def choose_near(key: str, given: Mapping[str, Any]) -> NearOptions | None:
    """The options as the pass takes them, the bands and the shingle filled in; None if near duplicates are kept.

    Raises:
        UsageError: an option that cannot be meant.
    """
    if key not in KEYS:
        raise UsageError(f"near_duplicates = {key}: one of {', '.join(KEYS)}")
    if unknown := [name for name in given if name not in NEAR]:
        raise UsageError(f"{unknown[0]} is not an option of near duplicates; they are {', '.join(NEAR)}")
    near = NEAR | {name: value for name, value in given.items() if value is not None}
    threshold, permutations, bands, size = (
        near[name] for name in ("threshold", "permutations", "bands", "shingle_size")
    )
    if not 0 < threshold < 1:
        raise UsageError(f"near threshold {threshold}: a similarity between 0 and 1 (equal pairs are exact duplicates)")
    if near["shingles"] not in SHINGLE_SIZES:
        raise UsageError(f"near shingles {near['shingles']}: one of {', '.join(SHINGLE_SIZES)}")
    for name, value, least, most in (
        ("permutations", permutations, 16, 4096),
        ("bands", bands, 1, permutations),
        ("shingle_size", size, 1, 100),
    ):
        if value is not None and not (isinstance(value, int) and least <= value <= most):
            raise UsageError(f"near {name} {value}: give a whole number from {least} to {most}")
    if key == "none":
        if given := {name: value for name, value in given.items() if value is not None and value != NEAR[name]}:
            raise UsageError(f"near {', '.join(given)} without near_duplicates: say pair, source or target")
        return None
    return {
        "key": cast("Key", key),
        "threshold": float(threshold),
        "permutations": permutations,
        "bands": bands or choose_bands(threshold, permutations=permutations),
        "shingles": near["shingles"],
        "shingle_size": size or SHINGLE_SIZES[near["shingles"]],
    }


def choose_bands(threshold: float, *, permutations: int) -> int:
    """As few bands (of as many rows) as still compare all but `MISSED` of the pairs at the threshold."""
    for rows in range(permutations, 1, -1):
        bands = permutations // rows
        if compared(threshold, bands=bands, rows=rows) >= 1 - MISSED:
            return bands
    return permutations


def compared(similarity: float, *, bands: int, rows: int) -> float:
    """Chance that two sets of this Jaccard similarity agree on a whole band: 1 - (1 - J^rows)^bands.

    Source: Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4.
    """
    return 1 - (1 - similarity**rows) ** bands
