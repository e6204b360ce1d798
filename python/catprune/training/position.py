"""The position of a training: the next batch, and what was done."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Position:
    """The position of a training: the next batch, and what was done.

    `pairs` counts the pairs of this epoch, pruned ones included. `target_tokens` counts no pruned pairs. The `pruned_`
    counts are over all epochs.
    """

    epoch: int = 0
    window: int = 0
    batch: int = 0
    step: int = 0
    pairs: int = 0
    target_tokens: int = 0
    flops: float = 0.0
    tokens: int = 0  # target tokens since the last line of metrics: the denominator of its losses
    pruned_pairs: int = 0
    pruned_tokens: int = 0
    pruned_batches: int = 0  # batches whose pairs were all pruned
    metrics: int = 0  # bytes of metrics.jsonl when the state was saved
    metrics_digest: str = ""
    pruning_files: dict[str, str] = field(default_factory=dict[str, str])  # digests by name, where training prunes
    dev_nll: dict[str, float] = field(default_factory=dict[str, float])  # by checkpoint, where training may stop early
