"""Scores with a COMET model: `comet_worker.py MODEL [references]`, with a checkpoint file or a name to download.

It maps the columns `source` and `target`, and `reference` if it is told so, to a column `score`.
"""
# /// script
# requires-python = "==3.11.*"
# dependencies = [
#     "unbabel-comet==2.2.7",
#     "sentencepiece==0.2.0",
#     "torch==2.15.0",
#     "pyarrow>=17,<22",
#     "setuptools<81",
# ]
#
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# ///

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow
from serving import choose_gpu, serve

if TYPE_CHECKING:
    from collections.abc import Callable

#: Pairs of a batch on CPUs and on GPUs.
BATCH_PAIRS = {"cpu": 8, "gpu": 64}


def load(model: str, *, references: bool) -> Callable[[pyarrow.Table], pyarrow.Table]:
    """Return the scoring function of a model that reads references, or of one that reads none."""
    from comet import download_model, load_from_checkpoint

    loaded = load_from_checkpoint(model if Path(model).is_file() else download_model(model))
    if loaded.requires_references() and not references:
        raise ValueError("the model needs references: give a model for quality estimation")
    if references and not loaded.requires_references():
        raise ValueError("the model reads no references: give a model for translations with references")
    gpu = choose_gpu()

    def score(pairs: pyarrow.Table) -> pyarrow.Table:
        columns = [pairs.column(name).to_pylist() for name in pairs.column_names]
        names = [{"source": "src", "target": "mt", "reference": "ref"}[name] for name in pairs.column_names]
        samples = [dict(zip(names, texts, strict=True)) for texts in zip(*columns, strict=True)]
        scores = _predict(loaded, samples, gpu)
        return pyarrow.table({"score": pyarrow.array(scores, pyarrow.float32())})

    return score


def _predict(loaded: object, samples: list[dict[str, str]], gpu: int | None) -> list[float]:
    """Return the scores in the order of the samples; the library sorts its batches by length."""
    import torch

    batch_size = BATCH_PAIRS["cpu" if gpu is None else "gpu"]
    devices = {"gpus": 0} if gpu is None else {"gpus": 1, "devices": [gpu], "accelerator": "gpu"}
    while True:
        try:
            return loaded.predict(samples, batch_size=batch_size, progress_bar=False, **devices).scores
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise
            batch_size //= 2
            torch.cuda.empty_cache()


if __name__ == "__main__":
    serve(lambda: load(sys.argv[1], references=sys.argv[2:] == ["references"]))
