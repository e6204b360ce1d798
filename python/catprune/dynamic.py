"""Pruning while training, for any training loop: see `catprune.training.dynamic`."""

from catprune.training.dynamic import Ddp, Drawn, InfoBatch, PrunedBatches, Pruning

__all__ = ["Ddp", "Drawn", "InfoBatch", "PrunedBatches", "Pruning"]
