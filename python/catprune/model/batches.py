"""Batches of training and scoring: which pairs share a batch, and their ids as padded or packed arrays.

Plans depend only on their arguments and are made from lengths, without torch: a killed step makes the same plan again
and continues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from catprune.tokens.blocks import Block, Tokenizer


#: Scoring prefers batches whose number of pairs is a multiple of this: CPU kernels cache code for each different number
#: of rows (see `processor_layout`).
ROW_STEP = 16
#: Most tokens of a part of a training batch on either side, padding included, on processors.
PART_TOKENS = 4096


class Batch(NamedTuple):
    """Ids of the pairs of a batch, int64, and the lengths of the sequences, int64 [pairs].

    If padded, source is [pairs, longest source]; inputs and targets are [pairs, longest target]. If packed, they are
    sequences end to end: [source tokens], [target tokens]. inputs are the start symbol and the target without its
    last token.
    """

    source: NDArray[np.int64]
    source_lengths: NDArray[np.int64]
    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    target_lengths: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sequences:
    """One side of pairs: sequence i is `ids[starts[i] : starts[i] + lengths[i]]`."""

    ids: NDArray[Any]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def pad(self, chosen: NDArray[np.int64], *, pad_id: int) -> NDArray[np.int64]:
        """Return the chosen sequences as int64 [chosen, longest], padded on the right."""
        lengths = self.lengths[chosen]
        columns = np.arange(lengths.max())
        places = np.minimum(self.starts[chosen, None] + columns, len(self.ids) - 1)
        return np.where(columns < lengths[:, None], self.ids[places], pad_id).astype(np.int64)

    def pack(self, chosen: NDArray[np.int64]) -> NDArray[Any]:
        """Return the ids of the chosen sequences end to end, [tokens]."""
        lengths = self.lengths[chosen]
        firsts = np.cumsum(lengths) - lengths
        places = np.arange(lengths.sum()) + np.repeat(self.starts[chosen] - firsts, lengths)
        return self.ids[places]

    def take(self, chosen: NDArray[np.int64]) -> Sequences:
        """Return only the chosen sequences."""
        lengths = self.lengths[chosen]
        return Sequences(self.pack(chosen), np.cumsum(lengths) - lengths, lengths)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of one or several blocks: their rows, int64 [pairs], and both sides."""

    rows: NDArray[np.int64]
    source: Sequences
    target: Sequences

    def batch(self, chosen: NDArray[np.int64], tokenizer: Tokenizer) -> Batch:
        """Gather the pairs at the indices `chosen`, padded."""
        source = self.source.pad(chosen, pad_id=tokenizer.pad_id)
        targets = self.target.pad(chosen, pad_id=tokenizer.pad_id)
        inputs = np.empty_like(targets)
        inputs[:, 0], inputs[:, 1:] = tokenizer.bos_id, targets[:, :-1]
        return Batch(source, self.source.lengths[chosen], inputs, targets, self.target.lengths[chosen])

    def pack(self, chosen: NDArray[np.int64], tokenizer: Tokenizer) -> Batch:
        """Gather the pairs at the indices `chosen`, packed."""
        lengths = self.target.lengths[chosen]
        targets = self.target.pack(chosen).astype(np.int64)
        inputs = np.empty_like(targets)
        inputs[1:] = targets[:-1]
        inputs[np.cumsum(lengths) - lengths] = tokenizer.bos_id
        source = self.source.pack(chosen).astype(np.int64)
        return Batch(source, self.source.lengths[chosen], inputs, targets, lengths)

    def take(self, chosen: NDArray[np.int64]) -> Pairs:
        """Return only the pairs at the indices `chosen`."""
        return Pairs(self.rows[chosen], self.source.take(chosen), self.target.take(chosen))


def pairs_of(block: Block, *, reverse: bool = False) -> Pairs:
    """Return the pairs of a block without copying ids; `reverse` swaps the sides."""
    source = Sequences(block.source_ids, block.source_offsets[:-1], np.diff(block.source_offsets))
    target = Sequences(block.target_ids, block.target_offsets[:-1], np.diff(block.target_offsets))
    return Pairs(block.rows, target, source) if reverse else Pairs(block.rows, source, target)


def join(parts: list[Pairs]) -> Pairs:
    """Concatenate the pairs of several blocks."""
    sides: list[Sequences] = []
    for sequences in ([part.source for part in parts], [part.target for part in parts]):
        shifts = np.cumsum([0] + [len(part.ids) for part in sequences])
        sides.append(
            Sequences(
                np.concatenate([part.ids for part in sequences]),
                np.concatenate([part.starts + shift for part, shift in zip(sequences, shifts, strict=False)]),
                np.concatenate([part.lengths for part in sequences]),
            )
        )
    return Pairs(np.concatenate([part.rows for part in parts]), *sides)


def cut(pairs: Pairs, order: NDArray[np.int64], *, batch_tokens: int, multiple: int = 1) -> list[NDArray[np.int64]]:
    """Cut `order` into batches of at most `batch_tokens` tokens per side, with padding (one pair always fits).

    The number of pairs of a batch is a multiple of `multiple` if it is larger, except in the last batch.
    """
    longest = np.maximum(pairs.source.lengths, pairs.target.lengths)[order]
    batches: list[NDArray[np.int64]] = []
    first = 0
    while first < len(order):
        most = max(1, batch_tokens // int(longest[first]))
        widths = np.maximum.accumulate(longest[first : first + most])
        padded = widths * np.arange(1, len(widths) + 1)
        size = max(1, int(np.searchsorted(padded, batch_tokens, side="right")))
        if size > multiple and first + size < len(order):
            size -= size % multiple
        batches.append(order[first : first + size])
        first += size
    return batches


def plan_scoring(pairs: Pairs, *, batch_tokens: int) -> list[NDArray[np.int64]]:
    """Plan batches with sources of equal length, longest first, so that no source needs a mask."""
    order = np.lexsort((np.arange(len(pairs.rows)), -pairs.target.lengths, -pairs.source.lengths))
    lengths = pairs.source.lengths[order]
    groups = np.split(order, np.flatnonzero(np.diff(lengths)) + 1) if len(order) else []
    cuts = (cut(pairs, group, batch_tokens=batch_tokens, multiple=ROW_STEP) for group in groups)
    return [batch for batches in cuts for batch in batches]


def cut_unpadded(pairs: Pairs, order: NDArray[np.int64], *, batch_tokens: int) -> list[NDArray[np.int64]]:
    """Cut `order` into batches of at most `batch_tokens` tokens per side, without padding (one pair always fits)."""
    totals = [np.cumsum(side.lengths[order]) for side in (pairs.source, pairs.target)]
    batches: list[NDArray[np.int64]] = []
    first = 0
    while first < len(order):
        before = [int(total[first - 1]) if first else 0 for total in totals]
        ends = [
            int(np.searchsorted(total, start + batch_tokens, side="right"))
            for total, start in zip(totals, before, strict=True)
        ]
        end = max(first + 1, min(ends))
        batches.append(order[first:end])
        first = end
    return batches


def plan_packed(pairs: Pairs, *, batch_tokens: int) -> list[NDArray[np.int64]]:
    """Plan batches for scoring of at most `batch_tokens` tokens per side (one pair always fits), longest first."""
    order = np.lexsort((np.arange(len(pairs.rows)), -pairs.target.lengths, -pairs.source.lengths))
    return cut_unpadded(pairs, order, batch_tokens=batch_tokens)


def token_places(batch: Batch) -> NDArray[np.int64]:
    """Return the indices of target tokens in the flattened [pairs, target length] matrix."""
    columns = np.arange(batch.targets.shape[1])
    return np.flatnonzero(columns < batch.target_lengths[:, None])
