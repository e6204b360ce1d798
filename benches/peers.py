"""The floor and the peers as contenders; each is imported in its function, because no environment has all."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from job import Job, Timed, outputs, sync


def floor(job: Job) -> Timed:
    """Run `cp` of both inputs and `sync` the copies; --reflink=never, because a shared extent is not a copy."""

    def run() -> dict[str, Any]:
        for path, copy in zip(job["inputs"], outputs(job), strict=True):
            subprocess.run(["cp", "--reflink=never", path, copy], check=True)
        subprocess.run(["sync", *outputs(job)], check=True)
        return {}

    return run


def _shell(job: Job, middle: str) -> Timed:
    source, target = map(shlex.quote, job["inputs"])
    left, right = outputs(job)
    split = f'{{ print $1 > "{left}"; print $2 > "{right}" }}'
    command = f"set -o pipefail; paste {source} {target} | {middle.replace('SPLIT', split)}"
    environment = {**os.environ, "LC_ALL": "C", "TMPDIR": job["out"]}

    def run() -> dict[str, Any]:
        subprocess.run(["bash", "-c", command], env=environment, check=True)
        sync(left, right)
        return {}

    return run


def gnu_sort(job: Job) -> Timed:
    """Run GNU sort, which loses the order: only the set of pairs is compared."""
    return _shell(job, f"sort -u --parallel={os.cpu_count()} -S 40% | awk -F '\\t' 'SPLIT'")


def awk(job: Job) -> Timed:
    """Run the classic one-liner over pasted sides; with gawk if installed, because mawk is slow on long keys."""
    return _shell(job, f"{shutil.which('gawk') or 'awk'} -F '\\t' '!seen[$0]++ SPLIT'")


def python_set(job: Job) -> Timed:
    """Keep a set of xxh3-128 hashes, line by line."""
    from xxhash import xxh3_128_digest

    def run() -> dict[str, Any]:
        seen: set[bytes] = set()
        first, second = outputs(job)
        with (
            Path(job["inputs"][0]).open("rb") as source,
            Path(job["inputs"][1]).open("rb") as target,
            first.open("wb") as left,
            second.open("wb") as right,
        ):
            for pair in zip(source, target, strict=True):
                digest = xxh3_128_digest(b"\t".join(pair))
                if digest not in seen:
                    seen.add(digest)
                    left.write(pair[0])
                    right.write(pair[1])
        sync(first, second)
        return {"kept": len(seen)}

    return run


def polars(job: Job) -> Timed:
    """Run Polars' `unique(maintain_order=True)` over both columns."""
    import polars as pl

    def run() -> dict[str, Any]:
        text: dict[str, Any] = {"has_header": False, "separator": "\x1f", "quote_char": None}
        sides = [pl.read_csv(path, new_columns=[str(side)], **text) for side, path in enumerate(job["inputs"])]
        kept = pl.concat(sides, how="horizontal").unique(maintain_order=True, keep="first")
        for side, path in enumerate(outputs(job)):
            kept.select(str(side)).write_csv(path, include_header=False, separator="\x1f", quote_style="never")
        sync(*outputs(job))
        return {"kept": kept.height}

    return run


def duckdb(job: Job) -> Timed:
    """Group equal pairs in DuckDB, in the order of their first rows."""
    import duckdb

    def run() -> dict[str, Any]:
        base = duckdb.connect(config={"temp_directory": job["out"]})
        form = "delim = '\x1f', quote = '', escape = '', header = false"
        texts = [f"read_csv('{path}', {form}, columns = {{'side': 'VARCHAR'}})" for path in job["inputs"]]
        base.execute(
            "CREATE TABLE kept AS SELECT s, t FROM (SELECT row_number() OVER () AS r, a.side AS s, b.side AS t "
            f"FROM {texts[0]} a POSITIONAL JOIN {texts[1]} b) GROUP BY s, t ORDER BY min(r)"
        )
        for side, path in zip("st", outputs(job), strict=True):
            base.execute(f"COPY (SELECT {side} FROM kept) TO '{path}' (FORMAT csv, {form.replace(' =', '')})")
        sync(*outputs(job))
        return {"kept": base.execute("SELECT count(*) FROM kept").fetchone()[0]}

    return run


def opusfilter(job: Job) -> Timed:
    """Run OpusFilter's step remove_duplicates."""
    import logging

    from opusfilter.opusfilter import OpusFilter

    logging.disable()
    parameters = {"inputs": job["inputs"], "outputs": [*map(str, outputs(job))]}
    step = {"type": "remove_duplicates", "parameters": parameters}

    def run() -> dict[str, Any]:
        OpusFilter({"common": {"output_directory": job["out"]}, "steps": [step]}).execute_steps()
        sync(*outputs(job))
        return {}

    return run


def codec(job: Job) -> Timed:
    """Only run zstd: decompress the inputs and compress the kept pairs (level 3), on all cores."""
    plain = [f"{job['out']}/plain.{side}" for side in range(2)]
    for path, kept in zip(plain, job["kept"], strict=True):
        subprocess.run(["zstd", "-dqf", kept, "-o", path], check=True)

    def run() -> dict[str, Any]:
        for command in (["zstd", "-dqc"], ["zstd", "-3qc", f"-T{os.cpu_count()}"]):
            reading = command[1] == "-dqc"
            for path in () if reading else plain:
                with Path(f"{path}.zst").open("wb") as file:
                    subprocess.run([*command, path], stdout=file, check=True)
            children = [
                subprocess.Popen([*command, path], stdout=subprocess.DEVNULL)
                for path in (job["inputs"] if reading else ())
            ]
            if any(child.wait() for child in children):
                raise RuntimeError("zstd failed")
        sync(*(f"{path}.zst" for path in plain))
        return {}

    return run


def numpy_top(job: Job) -> Timed:
    """Load, partition, fill ties from the lowest row, write."""
    import numpy as np

    def run() -> dict[str, Any]:
        scores = np.load(job["npy"])
        keep = len(scores) // 2
        cut = np.partition(scores, len(scores) - keep)[len(scores) - keep]
        kept = scores > cut
        kept[np.flatnonzero(scores == cut)[: keep - np.count_nonzero(kept)]] = True
        rows = np.flatnonzero(kept).astype(np.uint32)
        np.save(f"{job['out']}/rows.npy", rows)
        sync(f"{job['out']}/rows.npy")
        return {"kept": len(rows)}

    return run


def gaoya(job: Job) -> Timed:
    """Keep texts that are not similar to a text kept before."""
    from gaoya.minhash import MinHashStringIndex

    bands = {"num_bands": job["bands"], "band_size": job["band_size"]}
    words = {"analyzer": "word", "ngram_range": (2, 2), "lowercase": True}

    def run() -> dict[str, Any]:
        index = MinHashStringIndex(hash_size=32, jaccard_threshold=job["threshold"], **bands, **words)

        def is_new(row: int, line: str) -> bool:
            return not index.query(line) and index.insert_document(row, line) is None

        return _write_new(job, is_new)

    return run


def rensa(job: Job) -> Timed:
    """Run rensa's deduplicator with the same bands and word pairs."""
    from rensa import RMinHash, RMinHashDeduplicator

    permutations = job["bands"] * job["band_size"]

    def run() -> dict[str, Any]:
        index = RMinHashDeduplicator(job["threshold"], permutations, use_lsh=True, num_bands=job["bands"], seed=42)

        def is_new(row: int, line: str) -> bool:
            words = line.lower().split()
            sketch = RMinHash(permutations, 42)
            sketch.update([f"{first} {two}" for first, two in pairwise(words)] or words)
            return index.add(str(row), sketch)

        return _write_new(job, is_new)

    return run


def _write_new(job: Job, is_new: Callable[[int, str], bool]) -> dict[str, Any]:
    kept, (first, second) = 0, outputs(job)
    with (
        Path(job["inputs"][0]).open(newline="\n") as source,
        Path(job["inputs"][1]).open(newline="\n") as target,
        first.open("w", newline="\n") as left,
        second.open("w", newline="\n") as right,
    ):
        for row, (source_line, two) in enumerate(zip(source, target, strict=True)):
            if is_new(row, source_line[:-1]):
                left.write(source_line)
                right.write(two)
                kept += 1
    sync(first, second)
    return {"kept": kept}


def encode_batch(job: Job) -> Timed:
    """Run the `tokenizers` package on one core (RAYON_NUM_THREADS=1): both sides in batches, ids to two arrays."""
    import numpy as np
    from tokenizers import Tokenizer

    def run() -> dict[str, Any]:
        tokenizer, tokens = Tokenizer.from_file(job["tokenizer"]), 0
        for path, out in zip(job["inputs"], outputs(job), strict=True):
            with Path(path).open(newline="\n") as file:
                lines = file.read().removesuffix("\n").split("\n")
            parts = []
            for first in range(0, len(lines), 10_000):
                encoded = tokenizer.encode_batch(lines[first : first + 10_000])
                parts += [np.array(encoding.ids, np.uint16) for encoding in encoded]
            ids = np.concatenate(parts)
            ids.tofile(out)
            sync(out)
            tokens += len(ids)
        return {"tokens": tokens}

    return run
