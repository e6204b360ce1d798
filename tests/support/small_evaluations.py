"""Evaluations of tiny models that take seconds: a corpus of 120 pairs, two halves of it, a dev and a test set."""

from __future__ import annotations

import itertools
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from catprune._core import write_columns
from catprune.corpus.bitexts import TestSet
from catprune.evaluation.evaluate import evaluate
from catprune.evaluation.summary import Hypothesis
from catprune.workspace.step_folder import StepFolder
from support.synthetic import sentences, write_tokens

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from catprune.evaluation.results import Evaluated

PAIRS = 120


def write_selection(folder: Path, *, remainder: int) -> Path:
    """Every other row."""
    rows = np.arange(PAIRS, dtype=np.int64)
    with StepFolder(folder, step="select", reads={"clean": {}}, options={"method": "random"}) as half:
        file = f"columns/part-{0:012d}-{PAIRS:012d}.parquet"
        columns = {"row": rows, "kept": rows % 2 == remainder}
        digest = write_columns(str(folder / file), columns, metadata={"plan": half.digest})
        half.publish(shards=[{"file": file, "first": 0, "end": PAIRS, "digest": digest}])
    return folder


def write_small_corpus(folder: Path) -> Path:
    """Write tokens/, half-0/, half-1/ and the files of a dev and a test set."""
    write_tokens(folder / "tokens", pairs=PAIRS, longest=4)
    for remainder in (0, 1):
        write_selection(folder / f"half-{remainder}", remainder=remainder)
    for seed, name in ((8, "dev"), (9, "test")):
        for side, lines in zip(("source", "target"), sentences(12, seed=seed, longest=4), strict=True):
            (folder / f"{name}.{side}").write_text("".join(line + "\n" for line in lines))
    return folder


def evaluate_small(corpus: Path, out: Path, **changed: Any) -> Evaluated:
    """Evaluate full and a half, another one for each of two seeds."""
    options: dict[str, Any] = {
        "subsets": {"full": None, "half": {1: corpus / "half-0", 2: corpus / "half-1"}},
        "tests": [TestSet("toy", corpus / "test.source", corpus / "test.target")],
        "dev": TestSet("dev", corpus / "dev.source", corpus / "dev.target"),
        "out": out,
        "seeds": 2,
        "steps": 8,
        "evaluate_every": 3,
        "translate_every": 2,
        "beam": 1,
        "resamples": 20,
        "hypotheses": [Hypothesis("half", "full", 1.0)],
        "warmup_steps": 4,
        "batch_tokens": 128,
        "precision": "float32",
        "threads": 1,
        "quiet": True,
    }
    return evaluate(corpus / "tokens", **{**options, **changed})


def contents(folder: Path) -> dict[str, bytes]:
    """All files that are results: no logs."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "log" not in path.relative_to(folder).parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def kill_in(patch: pytest.MonkeyPatch, module: str, name: str, *, call: int) -> None:
    """Let the nth call of a function be interrupted."""
    work, calls = getattr(import_module(module), name), itertools.count(1)

    def dying(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            raise KeyboardInterrupt
        return work(*arguments, **options)

    patch.setattr(import_module(module), name, dying)
