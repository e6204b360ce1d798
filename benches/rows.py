"""The rows of the comparison: the jobs of the contenders, and the goals."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import corpus
import numpy as np


@dataclass
class Entry:
    """One contender of a row.

    Attributes:
        label: name of the contender in the report.
        function: name of the contender's function.
        job: the argument of the function.
        home: "own" (this environment), or the name of a peers' environment.
        once: whether it only runs in the first round, because it is slow.
        core: whether it runs on one core.
        keep: whether its output is kept until the row ends.
    """

    label: str
    function: str
    job: dict[str, Any]
    home: str = "own"
    once: bool = False
    core: bool = False
    keep: bool = False


@dataclass
class Row:
    """A task with its contenders.

    Attributes:
        versus: the label of the entry that all times are divided by.
        goals: (label, other label, largest ratio of their times).
        compare: the outputs that must agree: "files", "rows", "tokens", or "nothing".
        unordered: labels of entries whose pairs may be in any order.
    """

    name: str
    title: str
    versus: str
    entries: list[Entry]
    compare: str
    goals: list[tuple[str, str, float]] = field(default_factory=list)
    unordered: tuple[str, ...] = ()
    note: str = ""


@dataclass
class Setup:
    """The folder for data, and its size."""

    scratch: Path
    pairs: int
    scores: int

    def text(self, pairs: int) -> list[str]:
        """Return the two sides of a corpus."""
        return [*map(str, corpus.make(self.scratch / "data", pairs))]

    def compressed(self, pairs: int) -> list[str]:
        """Return the two sides compressed by zstd, one frame each."""
        files = []
        for path in self.text(pairs):
            if not Path(f"{path}.zst").exists():
                subprocess.run(["zstd", "-3", "-q", "-T0", path, "-o", f"{path}.zst.tmp"], check=True)
                Path(f"{path}.zst.tmp").rename(f"{path}.zst")
            files.append(f"{path}.zst")
        return files


def dedup(setup: Setup) -> Row:
    """Deduplicate exact pairs, from two files to two files."""
    job = {"inputs": setup.text(setup.pairs), "mode": "open"}
    entries = [
        Entry("floor", "floor", job),
        Entry("catprune", "ours", job),
        Entry("catprune, whole commands", "ours_commands", job),
        Entry("Python set of xxh3-128", "python_set", job, home="peers"),
        Entry("Polars", "polars", job, home="peers"),
        Entry("DuckDB", "duckdb", job, home="peers"),
        Entry("awk", "awk", job, once=True),
        Entry("GNU sort -u", "gnu_sort", job, once=True),
        Entry("OpusFilter", "opusfilter", job, home="opusfilter", once=True),
    ]
    title = "exact pair dedup, raw key, no rules"
    goals = [("catprune", "floor", 1.5)]
    return Row("dedup", title, "floor", entries, "files", goals, unordered=("GNU sort -u",))


def clean(setup: Setup) -> Row:
    """Clean with all default rules."""
    job = {"inputs": setup.text(setup.pairs), "mode": "default"}
    entries = [
        Entry("floor", "floor", job),
        Entry("catprune", "ours", job),
        Entry("catprune, whole commands", "ours_commands", job),
    ]
    title = "all default rules, lengths, normalized pair dedup, written"
    return Row("clean", title, "floor", entries, "files", [("catprune", "floor", 2.5)])


def zstd(setup: Setup) -> Row:
    """Clean between compressed files."""
    if shutil.which("zstd") is None:
        raise RuntimeError("the command zstd is not installed")
    job = {"inputs": setup.compressed(setup.pairs), "mode": "default", "ending": ".zst"}
    kept = [str(setup.scratch / "out" / "zstd-catprune" / f"{side}.zst") for side in ("source", "target")]
    entries = [
        Entry("floor", "floor", {**job, "inputs": setup.text(setup.pairs), "ending": ""}),
        Entry("catprune", "ours", job, keep=True),
        Entry("codec only (zstd)", "codec", {**job, "kept": kept}),
    ]
    note = "cores in use = processor seconds / seconds; the floor copies the plain text"
    return Row("zstd", "the same from zstd to zstd", "floor", entries, "nothing", note=note)


def select(setup: Setup) -> Row:
    """Select the exact upper half of float32 scores."""
    npy, parquet = _scores(setup)
    job = {"npy": str(npy), "parquet": str(parquet)}
    entries = [
        Entry("numpy script", "numpy_top", job, home="peers"),
        Entry("catprune, .npy to rows.npy", "ours_select", {**job, "read": "npy", "rows_only": True}),
        Entry("catprune, Parquet to rows.npy", "ours_select", {**job, "read": "parquet", "rows_only": True}),
        Entry("catprune, Parquet to selection/", "ours_select", {**job, "read": "parquet", "rows_only": False}),
    ]
    goals = [
        ("catprune, .npy to rows.npy", "numpy script", 0.5),
        ("catprune, Parquet to rows.npy", "catprune, .npy to rows.npy", 2.0),
    ]
    title = f"exact top half of {setup.scores:,} float32, ties to the lower row"
    return Row("select", title, "numpy script", entries, "rows", goals, note="at most 64 MiB private memory from .npy")


def minhash(setup: Setup) -> Row:
    """Find near duplicates by MinHash, on one core each."""
    pairs = min(setup.pairs // 40, 100_000)
    job = {"inputs": setup.text(pairs), "threshold": 0.8, "bands": 16, "band_size": 8}
    entries = [
        Entry("catprune", "near", job, core=True),
        Entry("gaoya", "gaoya", job, home="peers", core=True),
        Entry("rensa", "rensa", job, home="peers", core=True),
    ]
    title = f"MinHash near duplicates of {pairs:,} sources, one core"
    note = "16 bands of 8, word pairs, Jaccard 0.8; kept pairs may differ: other hashes, other clusters"
    return Row("minhash", title, "gaoya", entries, "nothing", [("catprune", "gaoya", 0.25)], note=note)


def tokenize(setup: Setup) -> Row:
    """Tokenize text, on one core each."""
    import catprune

    pairs = min(setup.pairs // 40, 100_000)
    folder = setup.scratch / "data" / f"tokenize-{pairs}"
    inputs = setup.text(pairs)
    options = {"rules": False, "duplicates": "none", "quiet": True, "force": True}
    catprune.clean(inputs, out=folder / "clean", **options)
    catprune.tokenize(folder / "clean", out=folder / "tokens", vocab_size=16_000, quiet=True, force=True)
    job = {"inputs": inputs, "clean": str(folder / "clean"), "tokenizer": str(folder / "tokens" / "tokenizer.json")}
    entries = [
        Entry("catprune", "ours_tokenize", job, core=True),
        Entry("HF encode_batch", "encode_batch", job, home="peers", core=True),
    ]
    title = f"tokenizing {pairs:,} pairs, BPE of 16,000, one core"
    return Row("tokenize", title, "HF encode_batch", entries, "tokens", [("catprune", "HF encode_batch", 1.0)])


def growth(setup: Setup) -> Row:
    """Compare with ten times the pairs, page cache warm."""
    few = setup.pairs // 10
    small, large = f"{few:,} pairs", f"{setup.pairs:,} pairs"
    entries = [
        Entry(small, "ours", {"inputs": setup.text(few), "mode": "open"}),
        Entry(large, "ours", {"inputs": setup.text(setup.pairs), "mode": "open"}),
    ]
    return Row("growth", "growth, exact pair dedup", small, entries, "nothing", [(large, small, 11.0)])


def disk(setup: Setup) -> Row:
    """Compare with ten times the pairs again, within 512 MiB, page cache cold."""
    many = setup.pairs * 10
    small, large = f"{setup.pairs:,} pairs", f"{many:,} pairs"
    job = {"mode": "open", "memory": 512 << 20, "clean_only": True, "cold": True}
    entries = [
        Entry(small, "ours", {**job, "inputs": setup.text(setup.pairs)}),
        Entry(large, "ours", {**job, "inputs": setup.text(many)}),
    ]
    title = "growth from disk, only clean, memory 512 MiB"
    return Row("disk", title, small, entries, "nothing", [(large, small, 12.0)])


#: All rows except `disk` run by default.
ROWS: dict[str, Callable[[Setup], Row]] = {
    function.__name__: function for function in (dedup, clean, zstd, select, minhash, tokenize, growth, disk)
}


def _scores(setup: Setup) -> tuple[Path, Path]:
    """Write seeded float32 scores as an array and as Parquet in catprune's encoding."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = setup.scratch / "data"
    folder.mkdir(parents=True, exist_ok=True)
    npy, parquet = (folder / f"scores-{setup.scores}.{ending}" for ending in ("npy", "parquet"))
    if npy.exists() and parquet.exists():
        return npy, parquet
    random, step = np.random.Generator(np.random.PCG64(7)), 1 << 20
    schema = pa.schema([pa.field("row", pa.int64(), nullable=False), ("score", pa.float32())])
    encoding = {"row": "DELTA_BINARY_PACKED", "score": "PLAIN"}
    plain = {"use_dictionary": False, "compression": "none", "column_encoding": encoding}
    array = np.lib.format.open_memmap(npy, "w+", np.float32, (setup.scores,))
    with pq.ParquetWriter(parquet, schema, **plain) as writer:
        for first in range(0, setup.scores, step):
            scores = random.random(min(step, setup.scores - first), np.float32)
            array[first : first + len(scores)] = scores
            writer.write_table(pa.table([np.arange(first, first + len(scores)), scores], schema=schema))
    array.flush()
    return npy, parquet


def _install(scratch: Path, name: str, packages: list[str]) -> Path | str:
    """Create an environment for peers; return its interpreter, or the reason why it is missing."""
    interpreter = scratch / "environments" / name / "bin" / "python"
    if interpreter.exists():
        return interpreter
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    quiet = partial(subprocess.run, capture_output=True, text=True, check=False)
    draft = scratch / "environments" / f"{name}.tmp"
    shutil.rmtree(draft, ignore_errors=True)
    for command in (
        ["uv", "venv", "--relocatable", "--python", version, str(draft)],
        ["uv", "pip", "install", "--python", str(draft / "bin" / "python"), *packages],
    ):
        if (done := quiet(command)).returncode:
            return f"cannot be installed: {done.stderr.strip().splitlines()[-1]}"
    draft.rename(interpreter.parent.parent)
    return interpreter


def environments(scratch: Path) -> dict[str, Path | str]:
    """Return interpreters by `Entry.home`; a string is the reason why one is missing."""
    peers = ["polars", "duckdb", "xxhash", "rensa", "gaoya", "numpy", "tokenizers"]
    return {
        "own": Path(sys.executable),
        "peers": _install(scratch, "peers", peers),
        "opusfilter": _install(scratch, "opusfilter", ["opusfilter"]),
    }
