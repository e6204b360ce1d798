"""Corpora and score columns in the form of the steps before `select`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from catprune._core import digest_file
from catprune.workspace.manifest import digest_manifest
from catprune.workspace.sealed import FORMAT, seal
from hypothesis import strategies as st

FEW = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 0.75, 3.0])


def put(path: Path, value: dict[str, Any]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "manifest.json").write_bytes(seal({"format": FORMAT, "options": {}, **value}))


def put_shards(folder: Path, table: pa.Table, bounds: list[int]) -> list[dict[str, Any]]:
    (folder / "columns").mkdir(parents=True, exist_ok=True)
    rows, shards = table["row"].to_numpy(), []
    for first, end in itertools.pairwise(bounds):
        name = f"columns/part-{first:012}-{end:012}.parquet"
        part = table.slice(int(np.searchsorted(rows, first)), int(((rows >= first) & (rows < end)).sum()))
        pq.write_table(part, folder / name)
        shards.append({"file": name, "first": first, "end": end, "digest": digest_file(str(folder / name))})
    return shards


def put_corpus(
    run: Path, end: int, kept: list[int], *, bounds: list[int], tags: list[str] | None, inputs: list[int]
) -> None:
    """A clean folder of rows 0..end, and an empty tokens folder on top of it."""
    reasons = np.ones(end, dtype=np.uint32)
    reasons[kept] = 0
    columns = {
        "row": pa.array(np.arange(end)),
        "reasons": pa.array(reasons),
        "target_characters": pa.array((np.arange(end) * 7 % 5).astype(np.uint32)),
    }
    if tags is not None:
        columns["tag"] = pa.array(tags).dictionary_encode()
    shards = put_shards(run / "clean", pa.table(columns), bounds)
    ranges = [{"first": a, "end": b} for a, b in itertools.pairwise(inputs)]
    reads = {"tags": "tags" if tags is not None else None}
    put(run / "clean", {"step": "clean", "shards": shards, "inputs": ranges, "reads": reads})
    cleaned = {"path": "../clean", "manifest": digest_manifest(run / "clean")}
    put(run / "tokens", {"step": "tokenize", "reads": {"clean": cleaned}})


def put_scores(
    run: Path,
    name: str,
    step: int,
    rows: list[int],
    tokens: list[int],
    nll: list[float | None],
    bounds: list[int],
    seen: list[int] | None = None,
    more: dict[str, list[float]] | None = None,
    training: str | None = None,
    **facts: Any,
) -> None:
    """Scores whose nll per token is just `nll`, null where it is None, of a checkpoint in the folder `training`.

    `more` are further sums as they are stored; `seen` is how often rows had been trained on.
    """
    sums = [None if value is None else value * n for value, n in zip(nll, tokens, strict=True)]
    counts = [None if value is None else n for value, n in zip(nll, tokens, strict=True)]
    table = pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "tokens": pa.array(counts, pa.uint32()),
            "nll_sum": pa.array(sums, pa.float32()),
        }
    )
    for column, values in (more or {}).items():
        known = [None if value is None else score for value, score in zip(nll, values, strict=True)]
        kind = pa.uint32() if column == "correct" else pa.float32()
        table = table.append_column(column, pa.array(known, kind))
    checkpoint: dict[str, Any] = {"step": step, "reverse": False, "seen": None, **facts}
    if seen is not None:
        checkpoint["seen"] = {"tokens": "", "times": sorted(set(seen))}
        if len(set(seen)) > 1:
            times = [None if value is None else n for value, n in zip(nll, seen, strict=True)]
            table = table.append_column("seen", pa.array(times, pa.uint32()))
    folder = run / "scores" / name
    shards = put_shards(folder, table, bounds)
    reads = {"tokens": {"path": "../../tokens", "manifest": digest_manifest(run / "tokens")}}
    if training is not None:
        reads["checkpoint"] = {"path": f"../../{training}/{name}"}
    put(folder, {"step": "score", "shards": shards, "reads": reads, "checkpoint": checkpoint})


def read(folder: Path) -> pa.Table:
    return pq.read_table(folder / "columns")


def kept(folder: Path) -> set[int]:
    table = read(folder)
    return set(table["row"].to_numpy()[table["kept"].to_numpy()].tolist())
