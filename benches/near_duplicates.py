"""Near duplicates of two Moses files by catprune and by gaoya, with equal permutations, bands and shingles.

Usage: uv run --with gaoya python benches/near_duplicates.py wmt.en wmt.de [--pairs 200000] [--rounds 5]

Each run is a process of its own and takes turns with the others; what is compared is its processor time (user and
system, all threads), from the files to the rows that are dropped, without the imports.
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
    """Cleans with every rule off that drops pairs, and gives how many near duplicates there are."""
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
    """Puts every pair into an index, asks for its neighbours, and counts the pairs with an earlier one."""
    from gaoya.minhash import MinHashStringIndex

    with source.open(encoding="utf-8") as sources, target.open(encoding="utf-8") as targets:
        texts = [f"{one[:-1]} {other[:-1]}" for one, other in zip(sources, targets, strict=True)]
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
    return sum(min(found) < row for row, found in enumerate(index.par_bulk_query(texts)) if found)


def work(what: str, source: Path, target: Path) -> None:
    """One run, in a process of its own: prints its seconds, peak memory and what it found."""
    if what == "gaoya":
        import gaoya  # noqa: F401
    else:
        import catprune  # noqa: F401
    before = resource.getrusage(resource.RUSAGE_SELF)
    with tempfile.TemporaryDirectory(dir=source.parent) as out:
        if what == "gaoya":
            found = run_gaoya(source, target)
        else:
            found = run_catprune(source, target, Path(out) / "clean", "pair" if what == "near" else "none")
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "megabytes": after.ru_maxrss / 1000, "found": found}))


def main() -> None:
    """Prints the median of each and the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--pairs", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--what")
    given = parser.parse_args()
    if given.what:
        work(given.what, given.source, given.target)
        return
    runs: dict[str, list[dict[str, float]]] = {"near": [], "clean": [], "gaoya": []}
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / "source", Path(name) / "target"]
        for path, whole in zip(paths, (given.source, given.target), strict=True):
            with whole.open("rb") as stream:
                path.write_bytes(b"".join(islice(stream, given.pairs)))
        for _ in range(given.rounds):
            for what, found in runs.items():
                command = [sys.executable, __file__, *map(str, paths), "--what", what]
                environment = {**os.environ, "RAYON_NUM_THREADS": "1"}
                told = subprocess.run(command, check=True, capture_output=True, env=environment).stdout
                found.append(json.loads(told))
    seconds = {what: statistics.median(run["seconds"] for run in found) for what, found in runs.items()}
    for what, found in runs.items():
        each = seconds[what] / given.pairs * 1e6
        print(f"{what:8} {each:7.2f} µs a pair, {found[0]['megabytes']:6.0f} MB, {found[0]['found']:,.0f} dropped")
    print(f"gaoya over the whole of clean with near duplicates: {seconds['gaoya'] / seconds['near']:.1f}")
    alone = seconds["near"] - seconds["clean"]
    print(f"gaoya over what near duplicates add to clean:       {seconds['gaoya'] / alone:.1f}")


if __name__ == "__main__":
    main()
