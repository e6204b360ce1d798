"""What makes two pairs near duplicates: the options of MinHash and its bands, and the curve that follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from catprune.cleaning.options import NearDuplicates
from catprune.errors import UsageError
from catprune.workspace.options import changed_values, make

if TYPE_CHECKING:
    from catprune.boundary import Key, NearOptions

#: Units per shingle by default.
SHINGLE_SIZES = {"characters": 5, "words": 2}
#: Largest chance that a pair at the threshold is not compared, where the bands are chosen.
MISSED = 0.1


def choose_near(key: str, near: NearDuplicates | Mapping[str, Any] | None) -> NearOptions | None:
    """Return the options for a request, with bands and shingle size filled in; None to keep near duplicates.

    Raises:
        UsageError: more bands than permutations, or options without near duplicates.
    """
    if isinstance(near, Mapping):
        near = make(NearDuplicates, near, of="near")
    if key == "none":
        if near is not None and (changed := changed_values(near)):
            raise UsageError(
                f"near {next(iter(changed))} is given without near_duplicates: give pair, source or target"
            )
        return None
    near = near or NearDuplicates()
    if not 0 < near.threshold < 1:
        raise UsageError(
            f"near threshold = {near.threshold}: give a similarity between 0 and 1 (identical pairs are exact "
            "duplicates)"
        )
    if near.bands is not None and near.bands > near.permutations:
        raise UsageError(f"near bands = {near.bands}: give a whole number from 1 to {near.permutations}")
    return {
        "key": cast("Key", key),
        "threshold": float(near.threshold),
        "permutations": near.permutations,
        "bands": near.bands or choose_bands(near.threshold, permutations=near.permutations),
        "shingles": near.shingles,
        "shingle_size": near.shingle_size or SHINGLE_SIZES[near.shingles],
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
