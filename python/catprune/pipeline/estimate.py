"""Estimates of the time that each step of `prune` takes, from known rates and short measurements."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Any

from catprune.workspace.device import own_state
from catprune.workspace.manifest import read_manifest
from catprune.workspace.wording import duration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Seconds of one CPU core to select and write a pair, roughly.
WRITE = 2e-6
#: Scoring is a forward pass, a third of the work of training on the same tokens.
FORWARD_SHARE = 1 / 3
#: Updates of a speed measurement on random tokens, and target tokens per batch of any measurement.
UPDATES, BATCH_TOKENS = 3, 2048


def expected(target_tokens: float, pairs: int, rows: int, *, model: Mapping[str, Any], speed: float) -> str:
    """Return the expected times of training, scoring, selecting and writing as one line.

    Args:
        target_tokens: tokens of the clean pairs.
        pairs: clean pairs.
        rows: records of the corpus.
        model: `epochs` and `checkpoints` of the warm-up model.
        speed: target tokens per second of training.
    """
    share = min(1.0, model.get("sample", pairs) / max(1, pairs))
    training = target_tokens * share * model["epochs"] / speed
    writing = rows * WRITE
    scoring = target_tokens * len(model["checkpoints"].split(",")) * FORWARD_SHARE / speed
    return (
        f"train {duration(max(1, training))}, score {duration(max(1, scoring))}, select and write "
        f"{duration(max(1, writing))} "
        f"(training processes {speed:,.0f} target tokens/s here)"
    )


def measure_training(tokens: Path, *, preset: Any, seed: int, threads: int | None) -> float:
    """Measure target tokens per second of training: a few updates of the real model on the real tokens."""
    from catprune.training.train import train

    # In the tokens folder: a temporary folder elsewhere may be too small for a model.
    folder = tokens / "log" / "speed"
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed measurement
    try:
        train(
            tokens,
            out=folder,
            preset=preset,
            steps=10,
            batch_tokens=BATCH_TOKENS,
            seed=seed,
            threads=threads,
            quiet=True,
        )
        events = (folder / "log" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    trained = next(event for event in map(json.loads, events) if event["event"] == "trained")
    return float(trained["tokens_per_second"])


def guess_training(*, preset: str, vocab_size: int, threads: int | None) -> float:
    """Measure target tokens per second of training on random tokens, before any text is tokenized."""
    import torch

    from catprune.model.output_layer import smoothed_loss
    from catprune.model.sizes import find_size
    from catprune.model.transformer import Transformer
    from catprune.workspace.device import Device

    with own_state(threads):
        size = find_size(preset)
        device = Device.choose("auto", trained_width=size.d_model)
        dtype = torch.bfloat16 if device.precision == "bfloat16" else torch.float32
        model = Transformer(size, vocab_size=vocab_size).to(device.name)
        ids = torch.randint(vocab_size, (BATCH_TOKENS // 32, 32), device=device.name)
        optimizer = torch.optim.AdamW(model.parameters())
        started = 0.0
        for update in range(UPDATES + 1):
            if update == 1:
                started = time.monotonic()  # the first update compiles kernels
            with torch.autocast(device.name, dtype, enabled=dtype == torch.bfloat16):
                hidden = model(ids, ids)
            loss, _ = smoothed_loss(
                hidden.float().flatten(0, 1), model.output_matrix, ids.flatten(), smoothing=0.1, dtype=dtype
            )
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return UPDATES * BATCH_TOKENS / (time.monotonic() - started)


def target_tokens(folder: Path) -> tuple[int, int, int]:
    """Return the target tokens, the pairs that carry them and the rows of a run's tokens folder."""
    counts = read_manifest(folder, step="tokenize")["counts"]
    return counts["target_tokens"], counts["pairs"], counts["rows"]
