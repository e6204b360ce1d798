"""Units of pruning while training: what is kept or dropped as a whole, a pair or a span of tokens of a long target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from catprune.model.batches import pairs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from catprune.tokens.blocks import BlockEntry, Tokens


class Units(NamedTuple):
    """The units of some pairs, in the order of the pairs and of their tokens.

    Attributes:
        numbers: the unit's number in the corpus, int64 [units].
        owners: index of its pair, int64 [units].
        lengths: its target tokens, int64 [units].
    """

    numbers: NDArray[np.int64]
    owners: NDArray[np.int64]
    lengths: NDArray[np.int64]


class Spans:
    """Spans of targets: a target of n tokens has ceil(n / span) of them, of `span` tokens each, the last one shorter.

    They are numbered in the order of rows and tokens.

    Args:
        tokens: the tokens folder.
        span: tokens of a span.
        reverse: whether source and target are swapped.
    """

    def __init__(self, tokens: Tokens, span: int, *, reverse: bool) -> None:
        self.tokens, self.span, self.reverse = tokens, span, reverse
        self.count = sum(int(self._counts(entry).sum()) for entry in tokens.blocks)
        #: Number of the first span of each row, and behind the last row the count, int64 [rows + 1]; it may be mapped.
        self.firsts: NDArray[Any] | None = None

    def _counts(self, entry: BlockEntry) -> NDArray[np.int64]:
        """Count the spans of each row of a block, int64 [rows]; 0 for rows without tokens."""
        pairs = pairs_of(self.tokens.read(entry), reverse=self.reverse)
        counts = np.zeros(entry.end - entry.first, np.int64)
        counts[pairs.rows - entry.first] = -(-pairs.target.lengths // self.span)
        return counts

    def parts(self) -> Iterator[NDArray[np.int64]]:
        """Yield `firsts` block by block."""
        first, row = 0, 0
        for entry in self.tokens.blocks:
            yield np.full(entry.first - row, first, np.int64)
            ends = first + np.cumsum(self._counts(entry))
            yield np.concatenate([[first], ends[:-1]])
            first, row = int(ends[-1]), entry.end
        yield np.array([first], np.int64)

    def numbers(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the spans of rows: their numbers, the indices of their rows, and their places in the target."""
        assert self.firsts is not None
        firsts = self.firsts[rows]
        counts = self.firsts[rows + 1] - firsts
        owners = np.repeat(np.arange(len(rows)), counts)
        places = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        return firsts[owners] + places, owners, places

    def units(self, rows: NDArray[np.int64], lengths: NDArray[np.int64]) -> Units:
        """Return the spans of rows whose targets have `lengths` tokens."""
        numbers, owners, places = self.numbers(rows)
        return Units(numbers, owners, np.minimum(self.span, lengths[owners] - places * self.span))
