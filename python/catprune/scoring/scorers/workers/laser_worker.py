"""Embeds texts with LASER2: `laser_worker.py FOLDER`, with the folder of its files, or "" to download them.

It maps a column `text` to a column `embedding` of vectors of norm 1.
"""
# /// script
# requires-python = "==3.11.*"
# dependencies = [
#     "laser-encoders==0.0.2",
#     "fairseq-fixed==0.12.3.1",
#     "requests>=2",
#     "torch==2.15.0",
#     "pyarrow>=17",
#     "setuptools<81",
# ]
#
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# override-dependencies = ["fairseq ; sys_platform == 'never'", "torchaudio ; sys_platform == 'never'"]
# ///

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pyarrow
from serving import choose_gpu, serve

if TYPE_CHECKING:
    from collections.abc import Callable

#: Tokens of a batch, as in LASER's own scripts.
BATCH_TOKENS = 12_000


def load(folder: str | None) -> Callable[[pyarrow.Table], pyarrow.Table]:
    """Return the function that embeds a table."""
    from laser_encoders import LaserEncoderPipeline

    choose_gpu()
    pipeline = LaserEncoderPipeline(laser="laser2", model_dir=folder)
    # Otherwise each text is a batch.
    pipeline.encoder.max_sentences, pipeline.encoder.max_tokens = None, BATCH_TOKENS

    def embed(texts: pyarrow.Table) -> pyarrow.Table:
        vectors = pipeline.encode_sentences(texts.column("text").to_pylist(), normalize_embeddings=True)
        flat = pyarrow.array(np.asarray(vectors, np.float32).ravel())
        return pyarrow.table({"embedding": pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})

    return embed


if __name__ == "__main__":
    serve(lambda: load(sys.argv[1] or None))
