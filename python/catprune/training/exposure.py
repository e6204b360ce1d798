"""How often each pair has been trained on at a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from catprune.checkpoints.native import Exposure
    from catprune.model.batches import Pairs
    from catprune.tokens.blocks import BlockEntry
    from catprune.training.data_order import Order
    from catprune.training.position import Position
    from catprune.training.pruned_rows import PrunedRows


def count_exposure(
    at: Position,
    order: Order,
    pairs: Pairs,
    batches: list[NDArray[np.int64]],
    windows: list[list[BlockEntry]],
    *,
    pruning: PrunedRows | None,
    before: Exposure | None,
) -> tuple[list[int], Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]] | None]:
    """Count how often pairs have been trained on.

    Args:
        at: the position of the training.
        order: the order of the pairs.
        pairs: the pairs of the current window.
        batches: the finished batches of the window.
        windows: the windows of the current epoch.
        pruning: which pairs were skipped; None: none.
        before: the exposure at the checkpoint that the training started from; None: it started from random weights.

    Returns:
        The counts that occur, ascending. If they differ, also for each block the rows that carry tokens and the
        count of each row, both int64 [rows]; else None.
    """
    per_epoch = order.counts[0]
    at_end = at.pairs == per_epoch
    times = {at.epoch + 1} if at_end else {at.epoch, at.epoch + 1}
    if per_epoch < order.tokens.manifest["counts"]["pairs"]:
        times.add(0)
    if len(times) == 1 and pruning is None and before is None:
        return list(times), None
    place = len(windows) if at_end else at.window
    whole = {entry.first for window in windows[:place] for entry in window}
    partly = set() if at_end else {entry.first for entry in windows[place]}
    done = pairs.rows[np.concatenate(batches)]

    def counted() -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        for entry in order.tokens.blocks:
            rows = order.tokens.read(entry).rows
            left = order.left(entry, rows)
            once_more = left if entry.first in whole else np.zeros(len(rows), np.bool_)
            if entry.first in partly:
                once_more = np.isin(rows, done, assume_unique=True)
            now = left * (at.epoch + once_more if pruning is None else pruning.times(rows, once_more))
            yield rows, now if before is None else now + before.times(entry, rows)

    if pruning is not None or before is not None:
        times = {number for _, numbers in counted() for number in np.unique(numbers).tolist()}
    return sorted(times), counted() if len(times) > 1 else None
