"""Early stopping: a training ends when the loss on a dev set has not fallen for some checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from catprune.corpus.bitexts import TestSet
from catprune.errors import UsageError
from catprune.training.held_out import HeldOut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catprune.tokens.blocks import Tokens


class EarlyStopping:
    """Stops a training by its losses on a dev set.

    Args:
        dev: the two line-aligned files of the dev set, the predicted side last.
        patience: checkpoints in a row without a lower loss, after which the training stops.
        tokens: the tokens folder, whose tokenizer encodes the dev set.

    Raises:
        CatpruneError: a file that is missing, empty or not UTF-8, or sides of unequal length.
    """

    def __init__(self, dev: tuple[Path, Path], *, patience: int, tokens: Tokens) -> None:
        bitext = TestSet("dev", *dev).read()
        self.patience, self.digests, self._dev = patience, bitext.digests, HeldOut(bitext, tokens)

    def nll(self, checkpoint: Path) -> float:
        """Return the loss of a checkpoint on the dev set, in nats per target token."""
        return self._dev.nll(checkpoint)

    def is_over(self, losses: Sequence[float]) -> bool:
        """Whether a training with these losses, in the order of its checkpoints, stops."""
        return len(losses) - 1 - losses.index(min(losses)) >= self.patience


def read_dev(dev: Sequence[str | Path], *, patience: int | None, reverse: bool) -> tuple[Path, Path] | None:
    """Return the files of the dev set, the predicted side last; None without early stopping.

    Raises:
        UsageError: only one of `dev` and `patience` is given, or not two files.
    """
    if not dev and patience is None:
        return None
    if not dev or patience is None:
        raise UsageError("dev and patience belong together: give both, or none of them")
    if len(dev) != 2:
        raise UsageError(f"dev names {len(dev)} files: give two line-aligned files, source and target")
    source, target = map(Path, dev)
    return (target, source) if reverse else (source, target)
