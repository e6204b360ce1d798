"""Callbacks for trainers of the transformers library: see `catprune.integrations.early_checkpoints`."""

from catprune.integrations.early_checkpoints import EarlyCheckpoints

__all__ = ["EarlyCheckpoints"]
