"""Rows of the model benchmark apart from scoring speed: agreement of precisions, memory, and training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import catprune
import numpy as np
from catprune.model.sizes import find_size
from catprune.workspace.device import processor_gains_by_bfloat16
from model_rows import Bench, Row, nll_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def agreement(bench: Bench) -> Row:
    """Compare the ranks of pairs in bfloat16 and in float32 under a trained model."""
    options, data = bench.options, bench.data
    row = Row("Agreement of bfloat16 with float32")
    if not processor_gains_by_bfloat16():
        row.ask("ranks in bfloat16", "same as in float32", None, 0)
        return row
    external = [Path(path) for path in options.trained]
    trained = external or data.trained(options.trained_preset, options.trained_steps, precision="bfloat16")
    tokens = data.corpus(options.pairs, tokenizer=external[0] / "tokenizer.json" if external else None)
    nll: dict[str, list[NDArray[np.float64]]] = {}
    for precision in ("float32", "bfloat16"):
        out = data.scratch / "out" / f"agreement-{precision}"
        named = [f"{i}={path}" for i, path in enumerate(trained)]
        scored = catprune.score(tokens, checkpoints=named, out=out, precision=precision, force=True, quiet=True)
        nll[precision] = [nll_of(folder, per_token=True) for folder in scored.folders.values()]
    values = {
        "nll": [-nll[precision][-1] for precision in nll],
        "cat-diff": [np.exp(nll[precision][0]) - np.exp(nll[precision][-1]) for precision in nll],
    }
    for name, least in (("nll", 0.9999), ("cat-diff", 0.999)):
        agreed = spearman(*values[name])
        row.ask(f"Spearman of {name}, bfloat16 and float32", f"≥ {least}", agreed, least, "{:.6f}")
        row.ask_most(f"turnover of the top half by {name}", "≤ 1%", turnover(*values[name]), 0.01, "{:.2%}")
    means = ", ".join(f"{each.mean():.3f}" for each in nll["float32"])
    row.numbers = {"mean_nll_per_pair": [float(each.mean()) for each in nll["float32"]]}
    origin = "given" if external else f"{options.trained_preset}, {options.trained_steps:,} updates"
    row.notes.append(
        f"two checkpoints ({origin}) on {options.pairs:,} pairs; mean of the pairs' nll per token: {means}"
    )
    return row


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 0; equal values share their mean rank."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[places]


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the correlation of the ranks of two scores."""
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def turnover(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the share of the top half (ties to the lower row) that differs between two scores."""
    half = len(first) // 2
    tops = [set(np.argsort(-values, kind="stable")[:half].tolist()) for values in (first, second)]
    return 1 - len(tops[0] & tops[1]) / half


def memory(bench: Bench) -> Row:
    """Measure private memory of scoring with a small model, for a number of pairs and twice that number."""
    options, data = bench.options, bench.data
    row = Row("Memory by the size of the corpus", versus="two blocks")
    # Large blocks: after two of them, most kernels, buffers and batch shapes have been used.
    pairs, checkpoint = 200 if options.quick else 11_500, data.checkpoint("tiny")
    entries = [
        bench.scoring(label, data.corpus(pairs * parts, parts=parts), checkpoint=checkpoint)
        for label, parts in (("two blocks", 2), ("four blocks", 4))
    ]
    row.rounds = bench.run("memory", entries, rounds=options.trials, sample=True)
    peaks = {label: min(result["dirty"] for result in rounds) for label, rounds in row.rounds.items() if rounds}
    growth = peaks["four blocks"] / peaks["two blocks"] if len(peaks) == 2 else None
    row.ask_most("memory, twice the pairs", "flat: ≤ 1.1 × here", growth, 1.1, "{:.2f} ×")
    listed = ", ".join(f"{label} {peak / 2**20:,.0f} MiB" for label, peak in peaks.items())
    row.notes.append(f"{pairs:,} pairs per block, preset tiny; private memory beyond loading: {listed}")
    return row


def output(bench: Bench) -> Row:
    """Measure private memory of the output layer for numbers of tokens and vocabulary sizes."""
    row = Row("Memory of the output layer")
    width = find_size(bench.options.preset).d_model
    some = 256 if bench.options.quick else 2048
    shapes = ((some, 32_000), (4 * some, 32_000), (some, 256_000))
    labels = [f"{count:,} tokens, {types // 1000}k types" for count, types in shapes]
    entries = [
        bench.entry(label, "output_layer", count=count, types=types, width=width)
        for label, (count, types) in zip(labels, shapes, strict=True)
    ]
    row.versus = labels[0]
    row.rounds = bench.run("output", entries, rounds=bench.options.trials, sample=True)
    peaks = {label: min(result["dirty"] for result in rounds) for label, rounds in row.rounds.items() if rounds}
    most = max(peaks.values()) / 2**20 if len(peaks) == len(labels) else None
    target = "independent of tokens and vocabulary: ≤ 64 MiB here"
    row.ask_most("memory of the output layer", target, most, 64, "{:.0f} MiB at most")
    listed = ", ".join(f"{label} {peak / 2**20:,.0f} MiB" for label, peak in peaks.items())
    row.notes.append(f"private memory without vectors and matrix: {listed}")
    return row


def training(bench: Bench) -> Row:
    """Compare `train` with a bare loop of the same updates."""
    options = bench.options
    job = {"tokens": str(bench.data.tokens), "preset": options.training_preset, "batch_tokens": 2048}
    job |= {"steps": options.training_steps, "precision": "auto"}
    row = Row("Training", versus="a bare loop")
    row.rounds = bench.run(
        "training",
        [
            bench.entry("catprune train", "training", **job),
            bench.entry("a bare loop", "bare_training", plain=False, **job),
            bench.entry("a bare loop, torch's loss", "bare_training", plain=True, **job),
        ],
    )
    ratios = [row.ratio("catprune train", label) for label in ("a bare loop", "a bare loop, torch's loss")]
    least = min((ratio for ratio in ratios if ratio is not None), default=None)
    row.ask("training, token throughput", "≥ 0.9 × a bare loop (the faster of two)", least, 0.9, "{:.2f} ×")
    steps = f"the first {options.training_steps} updates, of 2,048 tokens"
    row.notes.append(f"preset {options.training_preset}, {steps}")
    return row
