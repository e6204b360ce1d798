"""Which near duplicates are found: pairs of pairs of known Jaccard similarity, beside what theory says.

Usage: uv run python benches/near_recall.py [--threshold 0.8] [--permutations 128] [--couples 20000] [--seed 1]

A couple is a generated pair and a copy in which words were replaced, the share of them drawn evenly, so that
similarities cover the range. Words are random letters, so that couples have next to nothing in common; a couple
counts as found if the second is dropped for the first.
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
    """Character shingles of both sides; the words are such that normalising changes nothing."""
    texts = [" ".join(side) for side in pair]
    return {(number, text[at : at + size]) for number, text in enumerate(texts) for at in range(len(text) - size + 1)}


def couple(draw: random.Random) -> tuple[list[list[str]], list[list[str]]]:
    """A pair and its changed copy."""

    def word() -> str:
        return "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 10)))

    pair = [[word() for _ in range(draw.randint(8, 30))] for _ in range(2)]
    share = draw.uniform(0.0, 0.3)
    return pair, [[word() if draw.random() < share else held for held in side] for side in pair]


def passes(similarity: float, *, bits: int, most: int) -> float:
    """Chance that two sketches differ in at most `most` of `bits` bits, each with chance (1 - similarity) / 2."""
    differs = (1 - similarity) / 2
    return sum(math.comb(bits, k) * differs**k * (1 - differs) ** (bits - k) for k in range(most + 1))


def main() -> None:
    """Prints a line for each step of similarity."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--permutations", type=int, default=128)
    parser.add_argument("--couples", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    near = {"threshold": given.threshold, "permutations": given.permutations}
    chosen = choose_near("pair", NearDuplicates(**near))
    assert chosen is not None
    draw = random.Random(given.seed)
    couples = [couple(draw) for _ in range(given.couples)]
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / "source", Path(name) / "target"]
        for side, path in enumerate(paths):
            path.write_text("".join(" ".join(one[side]) + "\n" for both in couples for one in both))
        out = Path(name) / "clean"
        rules = {"max_word_ratio": 1000.0, "max_character_ratio": 1000.0}
        options = {"duplicates": "none", "near_duplicates": "pair", "near": near, "rules": rules, "quiet": True}
        catprune.clean(paths, out=out, **options)
        found: set[tuple[int, int]] = set()
        for path in (out / "duplicates").glob("*.parquet"):
            columns = (column.to_pylist() for column in parquet.read_table(path))
            found.update(zip(*columns, strict=True))
    steps: dict[int, list[bool]] = {}
    for number, both in enumerate(couples):
        one, other = (shingles(pair, chosen["shingle_size"]) for pair in both)
        step = int(len(one & other) / len(one | other) * 40 + 1e-9)
        steps.setdefault(step, []).append((2 * number + 1, 2 * number) in found)
    rows, bits = given.permutations // chosen["bands"], min(128, given.permutations)
    most = int(bits * (1 - given.threshold) / 2 + 1e-9)
    print(f"threshold {given.threshold}, {chosen['bands']} bands of {rows}, seed {given.seed}\n")
    print("| similarity | couples | compared (theory) | found (theory) | found (measured) |")
    print("|---|---|---|---|---|")
    for step, hits in sorted(steps.items()):
        middle = (step + 0.5) / 40 if step < 40 else 1.0
        curve = compared(middle, bands=chosen["bands"], rows=rows)
        theory = curve * passes(middle, bits=bits, most=most)
        span = f"{step / 40:.3f}–{(step + 1) / 40:.3f}" if step < 40 else "1"
        print(f"| {span} | {len(hits):,} | {curve:.3f} | {theory:.3f} | {sum(hits) / len(hits):.3f} |")
    rest = [pair for pair in found if pair[0] != pair[1] + 1 or pair[1] % 2]
    print(f"\nrows joined across couples: {len(rest)}")


if __name__ == "__main__":
    main()
