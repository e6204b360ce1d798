"""An oracle of near-duplicate detection, in a few lines of Python that hold everything in memory."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import xxhash
from support.oracles import normalise

GOLDEN = 0x9E3779B97F4A7C15
MASK = 2**64 - 1


def mix(number: int) -> int:
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & MASK
    return number ^ number >> 31


def shingles(side: str, *, unit: str, size: int) -> set[tuple[str, ...]]:
    """The runs of `size` characters or words of a normalised side; a shorter side is a single one."""
    normal = normalise(side)
    units = list(normal) if unit == "characters" else normal.split(" ") if normal else []
    size = min(size, len(units))
    return {tuple(units[start : start + size]) for start in range(len(units) - size + 1)} if units else set()


def sides(pair: tuple[str, str], key: str) -> list[tuple[int, str]]:
    return [(number, side) for number, side in enumerate(pair, 1) if key in ("pair", ("source", "target")[number - 1])]


def similarity(left: tuple[str, str], other: tuple[str, str], *, key: str, shingles_of: dict[str, Any]) -> float:
    """Jaccard similarity of the shingles; shingles of the source and of the target differ."""
    sets = [
        {(number, *shingle) for number, side in sides(pair, key) for shingle in shingles(side, **shingles_of)}
        for pair in (left, other)
    ]
    return len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))


def signature(pair: tuple[str, str], options: dict[str, Any]) -> tuple[list[int], int] | None:
    """Band hashes and sketch."""
    permutations, rows = options["permutations"], options["permutations"] // options["bands"]
    hashes = []
    for number, side in sides(pair, options["key"]):
        for shingle in shingles(side, unit=options["shingles"], size=options["shingle_size"]):
            run = 0
            for unit in shingle:
                value = ord(unit) if options["shingles"] == "characters" else xxhash.xxh3_64_intdigest(unit.encode())
                run = (run * GOLDEN + value) & MASK
            hashes.append(mix(run ^ mix(number)) >> 32)
    if not hashes:
        return None
    minima = []
    for index in range(permutations):
        multiplier = mix((2 * index + 1) * GOLDEN & MASK) >> 32 | 1
        addend = mix((2 * index + 2) * GOLDEN & MASK) >> 32
        minima.append(min((multiplier * value + addend) % 2**32 for value in hashes))
    bands = [
        xxhash.xxh3_64_intdigest(np.array(minima[band * rows : (band + 1) * rows], "<u4").tobytes(), seed=band)
        for band in range(options["bands"])
    ]
    sketch = sum((least * (GOLDEN & 0xFFFFFFFF) % 2**32 >> 31) << bit for bit, least in enumerate(minima[:128]))
    return bands, sketch


def clusters(pairs: dict[int, tuple[str, str]], options: dict[str, Any]) -> dict[int, int]:
    """Map each row that is not the first of its cluster to the first row.

    In a bucket a row is compared with the first row and the one before it; clusters are connected components.
    """
    bits = min(128, options["permutations"])
    most = int(bits * (1 - options["threshold"]) / 2 + 1e-9)
    buckets: dict[int, list[int]] = defaultdict(list)
    sketches, label = {}, {row: row for row in pairs}
    for row in sorted(pairs):
        if minima := signature(pairs[row], options):
            sketches[row] = minima[1]
            for band in minima[0]:
                buckets[band].append(row)
    for rows in buckets.values():
        for place, row in enumerate(rows[1:]):
            for other in (rows[0], rows[place]):
                if (sketches[row] ^ sketches[other]).bit_count() <= most and label[row] != label[other]:
                    low, high = sorted((label[row], label[other]))
                    label = {row_of_label: low if lowest == high else lowest for row_of_label, lowest in label.items()}
    return {row: first for row, first in label.items() if row != first}
