"""How well scores of layers in bfloat16 agree with float32: the precision of a GPU, computed on the processor.

    uv run python benches/narrow_layers.py TOKENS EARLY LATE      # two native checkpoints of these tokens

Two kinds are compared with float32: products in bfloat16 between vectors of float32 (autocast), and layers with all
vectors between them in bfloat16 (`Transformer.narrow`, as on GPUs).
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from catprune.checkpoints.native import read_checkpoint
from catprune.model import attention
from catprune.model.batches import pairs_of, plan_scoring
from catprune.scoring.block_scoring import Scoring
from catprune.scoring.column_shards import STATISTICS
from catprune.tokens.blocks import Tokens
from catprune.workspace.device import Device
from machine import ROOT, describe
from model_checks import spearman, turnover


class Wide(Scoring):
    """Plain layers, in products of bfloat16 under autocast or in float32."""

    @cached_property
    def model(self) -> Any:
        """The model in torch's own layout."""
        return self.checkpoint.load(device="cpu")

    @cached_property
    def _products(self) -> Any:
        return self.model.output_matrix.to(self.device.dtype)


class Narrow(Wide):
    """Layers in bfloat16, and vectors between them."""

    @cached_property
    def model(self) -> Any:
        """The model with narrow layers."""
        model = self.checkpoint.load(device="cpu")
        model.narrow(torch.bfloat16)
        return model

    def _autocast(self) -> Any:
        return nullcontext()


KINDS = {"autocast": Wide, "narrow layers": Narrow}


def losses(kind: type[Scoring], tokens: Tokens, path: Path, precision: str, least: int) -> Any:
    """Return the statistics of the pairs of random batches of the first block, float64 [columns, pairs]."""
    plan: Any = SimpleNamespace(plan={"options": {"batches": "equal source lengths", "batch_tokens": 1024}})
    scoring = kind(plan, tokens, read_checkpoint(path), Device("cpu", precision))
    pairs = pairs_of(tokens.read(tokens.blocks[0]))
    batches = plan_scoring(pairs, batch_tokens=1024)
    order = [batches[place] for place in np.random.default_rng(1).permutation(len(batches))]
    count = int(np.searchsorted(np.cumsum([len(batch) for batch in order]), least)) + 1
    sums, weights = np.zeros((len(STATISTICS), len(pairs.rows))), np.ones(tokens.tokenizer.vocab_size)
    for chosen in order[:count]:
        scoring._collect(pairs, scoring._queue_in_memory(pairs, chosen), weights, sums)
    return sums[:, np.concatenate(order[:count])]


def main() -> None:
    """Measure, and write a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs=2)
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "runs")
    options = parser.parse_args()
    # The attention of GPUs also sums in float32; the one for short sequences on processors does not.
    attention.attend = lambda query, key, value, *, mask, causal: torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal
    )
    tokens = Tokens.open(options.tokens)

    def scores(kind: type[Scoring], precision: str) -> dict[str, Any]:
        early, late = (losses(kind, tokens, path, precision, options.pairs) for path in options.checkpoints)
        nll = early[1] / early[0], late[1] / late[0]
        return {
            "nll": -nll[1],
            "progress": nll[0] - nll[1],
            "cat-diff": np.exp(nll[0]) - np.exp(nll[1]),
            "el2n": late[3] / late[0],
        }

    exact, record = scores(Wide, "float32"), {}
    for name, kind in KINDS.items():
        for score, values in scores(kind, "bfloat16").items():
            numbers = {
                "spearman": round(spearman(exact[score], values), 7),
                "turnover_of_the_top_half": turnover(exact[score], values),
                "error_over_deviation": float(np.std(values - exact[score]) / np.std(exact[score])),
            }
            record[f"{name}, {score}"] = numbers
            print(f"{name}, {score}: {numbers}", flush=True)
    started = datetime.now(UTC)
    steps = [read_checkpoint(path).step for path in options.checkpoints]
    size = read_checkpoint(options.checkpoints[0]).size
    described = {"size": size, "steps": steps, "pairs": len(exact["nll"]), "mean_nll": float(-exact["nll"].mean())}
    machine = describe(options.out, {}, packages=("torch", "numpy"))
    whole = {"started": started.isoformat(timespec="seconds"), **described, "machine": machine, "agreement": record}
    out = options.out / f"{started:%Y-%m-%d-%H%M}-narrow-layers-{size['d_model']}.json"
    out.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
