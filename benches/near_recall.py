"""Measures the recall of near duplicates at known Jaccard similarities, and compares it with theory.

Usage: uv run python benches/near_recall.py [--threshold 0.8] [--permutations 128] [--couples 20000] [--seed 1]

A couple is a generated pair and a copy in which a random share of the words was replaced, so that similarities cover
the range. Words are random letters, so that different couples have almost nothing in common. A couple counts as found
if the copy is dropped as a duplicate of the original.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
from pathlib import Path

import catprune
import pyarrow.parquet as parquet
from catprune.cleaning.minhash_options import choose_near, compared
from catprune.cleaning.options import NearDuplicates


def shingles(pair: list[list[str]], size: int) -> set[tuple[int, str]]:
    """Return the character shingles of both sides; the words do not change in normalization."""
    texts = [" ".join(side) for side in pair]
    return {(number, text[at : at + size]) for number, text in enumerate(texts) for at in range(len(text) - size + 1)}


def couple(draw: random.Random) -> tuple[list[list[str]], list[list[str]]]:
    """Draw a pair and its changed copy."""

    def word() -> str:
        return "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 10)))

    pair = [[word() for _ in range(draw.randint(8, 30))] for _ in range(2)]
    share = draw.uniform(0.0, 0.3)
    return pair, [[word() if draw.random() < share else old for old in side] for side in pair]


def passes(similarity: float, *, bits: int, most: int) -> float:
    """Return the probability that at most `most` of `bits` bits differ, each with probability (1 - similarity) / 2."""
    differs = (1 - similarity) / 2
    return sum(math.comb(bits, k) * differs**k * (1 - differs) ** (bits - k) for k in range(most + 1))


def main() -> None:
    """Print a row for each range of similarity."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--permutations", type=int, default=128)
    parser.add_argument("--couples", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    near = {"threshold": options.threshold, "permutations": options.permutations}
    chosen = choose_near("pair", NearDuplicates(**near))
    assert chosen is not None
    draw = random.Random(options.seed)
    couples = [couple(draw) for _ in range(options.couples)]
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / "source", Path(name) / "target"]
        for side, path in enumerate(paths):
            path.write_text("".join(" ".join(pair[side]) + "\n" for both in couples for pair in both))
        out = Path(name) / "clean"
        rules = {"max_word_ratio": 1000.0, "max_character_ratio": 1000.0}
        settings = {"duplicates": "none", "near_duplicates": "pair", "near": near, "rules": rules, "quiet": True}
        catprune.clean(paths, out=out, **settings)
        linked: set[tuple[int, int]] = set()
        for path in (out / "duplicates").glob("*.parquet"):
            columns = (column.to_pylist() for column in parquet.read_table(path))
            linked.update(zip(*columns, strict=True))
    steps: dict[int, list[bool]] = {}
    for number, both in enumerate(couples):
        first, second = (shingles(pair, chosen["shingle_size"]) for pair in both)
        step = int(len(first & second) / len(first | second) * 40 + 1e-9)
        steps.setdefault(step, []).append((2 * number + 1, 2 * number) in linked)
    rows, bits = options.permutations // chosen["bands"], min(128, options.permutations)
    most = int(bits * (1 - options.threshold) / 2 + 1e-9)
    print(f"threshold {options.threshold}, {chosen['bands']} bands of {rows}, seed {options.seed}\n")
    print("| similarity | couples | compared (theory) | found (theory) | found (measured) |")
    print("|---|---|---|---|---|")
    for step, hits in sorted(steps.items()):
        middle = (step + 0.5) / 40 if step < 40 else 1.0
        curve = compared(middle, bands=chosen["bands"], rows=rows)
        theory = curve * passes(middle, bits=bits, most=most)
        span = f"{step / 40:.3f}–{(step + 1) / 40:.3f}" if step < 40 else "1"
        print(f"| {span} | {len(hits):,} | {curve:.3f} | {theory:.3f} | {sum(hits) / len(hits):.3f} |")
    rest = [pair for pair in linked if pair[0] != pair[1] + 1 or pair[1] % 2]
    print(f"\nduplicates across couples: {len(rest)}")


if __name__ == "__main__":
    main()
