"""Compares near duplicates by catprune and by gaoya, with equal permutations, bands and shingles.

Usage: uv run --with gaoya python benches/near_duplicates.py wmt.en wmt.de [--pairs 200000] [--rounds 5]

Each run has its own process, in turn with the others. The processor time (user and system, all threads) is compared,
from the files to the dropped rows, without imports.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

BANDS, ROWS, SHINGLE, THRESHOLD = 16, 8, 5, 0.8


def run_catprune(source: Path, target: Path, out: Path, near_duplicates: str) -> int:
    """Clean without rules that drop pairs, and return the number of near duplicates."""
    import catprune

    off = {"max_words": 10_000, "max_characters": 100_000, "max_word_ratio": 1e6, "max_character_ratio": 1e6}
    off |= {"min_letter_word_share": 0, "min_letter_share": 0, "max_word_characters": 100_000, "keep_identical": True}
    near = {"bands": BANDS, "permutations": BANDS * ROWS, "shingle_size": SHINGLE, "threshold": THRESHOLD}
    done = catprune.clean(
        [source, target],
        out=out,
        duplicates="none",
        near_duplicates=near_duplicates,
        near=near if near_duplicates != "none" else {},
        rules={**off, "keep_control_characters": True},
        threads=1,
        quiet=True,
    )
    return done.reasons["near_duplicate"]


def run_gaoya(source: Path, target: Path) -> int:
    """Index every pair, query its neighbours, and count the pairs with an earlier neighbour."""
    from gaoya.minhash import MinHashStringIndex

    with source.open(encoding="utf-8") as sources, target.open(encoding="utf-8") as targets:
        texts = [f"{line[:-1]} {translation[:-1]}" for line, translation in zip(sources, targets, strict=True)]
    index = MinHashStringIndex(
        hash_size=32,
        jaccard_threshold=THRESHOLD,
        num_bands=BANDS,
        band_size=ROWS,
        analyzer="char",
        lowercase=True,
        ngram_range=(SHINGLE, SHINGLE),
        id_container="smallvec",
    )
    index.par_bulk_insert_docs(list(range(len(texts))), texts)
    return sum(min(near) < row for row, near in enumerate(index.par_bulk_query(texts)) if near)


def work(name: str, source: Path, target: Path) -> None:
    """Do one run in this process; print its seconds, peak memory and dropped rows."""
    if name == "gaoya":
        import gaoya  # noqa: F401
    else:
        import catprune  # noqa: F401
    before = resource.getrusage(resource.RUSAGE_SELF)
    with tempfile.TemporaryDirectory(dir=source.parent) as out:
        if name == "gaoya":
            dropped = run_gaoya(source, target)
        else:
            dropped = run_catprune(source, target, Path(out) / "clean", "pair" if name == "near" else "none")
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "megabytes": after.ru_maxrss / 1000, "dropped": dropped}))


def main() -> None:
    """Print the medians and the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--pairs", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--what")
    options = parser.parse_args()
    if options.what:
        work(options.what, options.source, options.target)
        return
    runs: dict[str, list[dict[str, float]]] = {"near": [], "clean": [], "gaoya": []}
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / "source", Path(name) / "target"]
        for path, whole in zip(paths, (options.source, options.target), strict=True):
            with whole.open("rb") as stream:
                path.write_bytes(b"".join(islice(stream, options.pairs)))
        for _ in range(options.rounds):
            for kind, results in runs.items():
                command = [sys.executable, __file__, *map(str, paths), "--what", kind]
                environment = {**os.environ, "RAYON_NUM_THREADS": "1"}
                output = subprocess.run(command, check=True, capture_output=True, env=environment).stdout
                results.append(json.loads(output))
    seconds = {kind: statistics.median(run["seconds"] for run in results) for kind, results in runs.items()}
    for kind, results in runs.items():
        each = seconds[kind] / options.pairs * 1e6
        print(
            f"{kind:8} {each:7.2f} µs per pair, {results[0]['megabytes']:6.0f} MB, {results[0]['dropped']:,.0f} dropped"
        )
    print(f"gaoya / clean with near duplicates:         {seconds['gaoya'] / seconds['near']:.1f}")
    difference = seconds["near"] - seconds["clean"]
    print(f"gaoya / difference to clean without them:   {seconds['gaoya'] / difference:.1f}")


if __name__ == "__main__":
    main()
