"""The benchmark corpus: Zipfian words, log-normal lengths, about 30% repeated pairs; the same bytes on every machine.

Every pair is computed from its row number by integer hashing. So the first n pairs of a larger corpus are the corpus of
n pairs, no state is kept between rows, and a repetition may come a few or a billion rows after its original.

    python benches/corpus.py 8000000 FOLDER      # FOLDER/corpus.en, FOLDER/corpus.de: 2.3 GB
"""

from __future__ import annotations

import hashlib
import sys
from math import exp, log
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LANGUAGES = ("en", "de")
TYPES = 50_000
WIDTH = 16  # bytes of a word in the table: up to 15 letters, then a space or a line end
STEPS = 4096  # quantiles of a distribution
LETTERS = np.frombuffer(b"etaoinshrdlucmfwypvbgkjqxz", np.uint8)
BATCH = 1 << 16
#: sha256 over all tables: another value means that floating-point results of the platform differ.
TABLES = "e56c234754f242ea1cc5f898919949a93ca4e02f73eedc9f975c2c415bc4c29f"

Hashes = NDArray[np.uint64]


def mix(numbers: Hashes) -> Hashes:
    """Mix the bits of every number (the finalizer of splitmix64, Steele et al. 2014)."""
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def draw(rows: Hashes, place: int) -> Hashes:
    """Draw a 64-bit number for each row; `place` (below 2^20) selects the stream."""
    return mix(mix(rows) + np.uint64(place << 40))


def _normal(mean: float, deviation: float) -> list[float]:
    distribution = NormalDist(mean, deviation)
    return [distribution.inv_cdf((step + 0.5) / STEPS) for step in range(STEPS)]


class Tables:
    """Lookup tables for the hashes.

    Attributes:
        lengths: words of a source, int64 [STEPS], by quantile: log-normal.
        ratios: words of the target to those of the source in 1/1024, int64 [STEPS]: log-normal.
        likely, other: the alias table of Zipf's law (Walker 1977), uint32 [TYPES]: a rank stays if 32 hashed bits are
            below likely[rank], else it is other[rank].
        words: per side uint8 [2 TYPES, WIDTH], zero-padded; the second half ends in a line end.
    """

    def __init__(self) -> None:
        self.lengths = np.array([min(max(int(exp(x)), 1), 140) for x in _normal(2.97, 0.6)])
        self.ratios = np.array([int(1024 * exp(x)) for x in _normal(0, 0.15)])
        self.likely, self.other = _alias([(1 << 50) // (rank + 1) for rank in range(TYPES)])
        self.words = [_spell(side) for side in range(2)]
        tables = (self.lengths, self.ratios, self.likely, self.other, *self.words)
        digest = hashlib.sha256(b"".join(table.tobytes() for table in tables)).hexdigest()
        if digest != TABLES:
            raise SystemExit(f"the tables have the digest {digest}, not {TABLES}: this platform makes another corpus")


def _alias(weights: list[int]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    count, total = len(weights), sum(weights)
    scaled = [weight * count for weight in weights]
    likely, other = [(1 << 32) - 1] * count, list(range(count))
    small = [rank for rank in range(count) if scaled[rank] < total]
    large = [rank for rank in range(count) if scaled[rank] >= total]
    while small and large:
        low, high = small.pop(), large[-1]
        likely[low], other[low] = (scaled[low] << 32) // total, high
        scaled[high] -= total - scaled[low]
        if scaled[high] < total:
            small.append(large.pop())
    return np.array(likely, np.uint32), np.array(other, np.uint32)


def _spell(side: int) -> NDArray[np.uint8]:
    """Make the words: common words are short, letters follow English, and the sides have different words."""
    ranks = np.arange(TYPES, dtype=np.uint64) + np.uint64(TYPES * side)
    magnitude = np.array([len(str(rank + 1)) for rank in range(TYPES)])
    noise = np.array([round(x) for x in _normal(3.5, 1.5)])
    length = np.clip(magnitude + noise[(draw(ranks, 1) % STEPS).astype(int)], 2, WIDTH - 1)
    skew = np.array([min(int(-6 * log(1 - (step + 0.5) / STEPS)), 25) for step in range(STEPS)])
    table = np.zeros((2 * TYPES, WIDTH), np.uint8)
    for place in range(WIDTH - 1):
        letters = LETTERS[skew[(draw(ranks, 2 + place) % STEPS).astype(int)]]
        table[:TYPES, place] = np.where(place < length, letters, 0)
    table[TYPES:] = table[:TYPES]
    for half, end in enumerate(b" \n"):
        table[np.arange(TYPES) + half * TYPES, length] = end
    return table


def originals(rows: Hashes) -> Hashes:
    """Return the row whose pair each row repeats: itself or an earlier row, half of them at most 1,000 rows back."""
    shown = rows.copy()
    left = np.arange(len(rows))
    while len(left):
        here = shown[left]
        left = left[(draw(here, 1) % np.uint64(100) < 30) & (here > 0)]
        here = shown[left]
        near = draw(here, 2) % np.uint64(2) == 0
        back = draw(here, 3) % np.minimum(here, np.where(near, np.uint64(1000), here))
        shown[left] = here - np.uint64(1) - back
    return shown


def lines(tables: Tables, side: int, shown: Hashes) -> bytes:
    """Return the lines of one side for these pairs."""
    counts = tables.lengths[(draw(shown, 4) % np.uint64(STEPS)).astype(np.int64)]
    if side:
        ratio = tables.ratios[(draw(shown, 5) % np.uint64(STEPS)).astype(np.int64)]
        counts = np.clip(counts * ratio // 1024, 1, 140)
    ends = np.cumsum(counts)
    places = np.arange(ends[-1], dtype=np.uint64) - np.repeat((ends - counts).astype(np.uint64), counts)
    hashes = mix(np.repeat(draw(shown, 6 + side), counts) + places)
    ranks = ((hashes >> np.uint64(32)) * np.uint64(TYPES)) >> np.uint64(32)
    low = hashes.astype(np.uint32)
    ranks = np.where(low < tables.likely[ranks], ranks.astype(np.uint32), tables.other[ranks])
    ranks[ends - 1] += TYPES
    padded = tables.words[side][ranks].ravel()
    return padded[padded != 0].tobytes()


def make(folder: Path, pairs: int) -> tuple[Path, Path]:
    """Write the corpus of this number of pairs unless it exists: `corpus-<pairs>.en` and `.de`."""
    paths = tuple(folder / f"corpus-{pairs}.{language}" for language in LANGUAGES)
    if all(path.exists() for path in paths):
        return paths[0], paths[1]
    folder.mkdir(parents=True, exist_ok=True)
    tables = Tables()
    drafts = [path.with_name(path.name + ".tmp") for path in paths]
    with drafts[0].open("wb") as source, drafts[1].open("wb") as target:
        for first in range(0, pairs, BATCH):
            shown = originals(np.arange(first, min(first + BATCH, pairs), dtype=np.uint64))
            for side, file in enumerate((source, target)):
                file.write(lines(tables, side, shown))
    for draft, path in zip(drafts, paths, strict=True):
        draft.rename(path)
    return paths[0], paths[1]


if __name__ == "__main__":
    print(*make(Path(sys.argv[2]), int(sys.argv[1])))
