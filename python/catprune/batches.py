"""Which pairs stand in which batch, in training and in scoring, and gathering them into padded matrices.

Plans are made from lengths alone, without torch, and depend on nothing but what their arguments say: a step that was
killed makes the same plan again and goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from catprune.errors import CatpruneError
from catprune.folder import read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from catprune.tokens import Block, BlockEntry, Tokenizer, Tokens

# Pairs are shuffled, and sorted by length, within windows of about this many: what bounds the memory.
WINDOW_PAIRS = 1 << 18


class Batch(NamedTuple):
    """Ids of some pairs, int64, and the sequences' lengths, int64 [pairs].

    Padded, source is [pairs, longest source], inputs and targets are [pairs, longest target]; packed, they are the
    sequences end to end, [source tokens] and [target tokens]. inputs is the start symbol and the target without its
    last token.
    """

    source: NDArray[np.int64]
    source_lengths: NDArray[np.int64]
    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    target_lengths: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sequences:
    """One side of some pairs: sequence i is `ids[starts[i] : starts[i] + lengths[i]]`."""

    ids: NDArray[Any]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def pad(self, chosen: NDArray[np.int64], *, pad_id: int) -> NDArray[np.int64]:
        """The chosen sequences as int64 [chosen, longest], padded on the right."""
        lengths = self.lengths[chosen]
        columns = np.arange(lengths.max())
        places = np.minimum(self.starts[chosen, None] + columns, len(self.ids) - 1)
        return np.where(columns < lengths[:, None], self.ids[places], pad_id).astype(np.int64)

    def pack(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """The chosen sequences end to end, int64 [tokens]."""
        lengths = self.lengths[chosen]
        firsts = np.cumsum(lengths) - lengths
        places = np.arange(lengths.sum()) + np.repeat(self.starts[chosen] - firsts, lengths)
        return self.ids[places].astype(np.int64)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of a block or of a window of blocks: their rows (int64 [pairs]) and both sides."""

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
        targets = self.target.pack(chosen)
        inputs = np.empty_like(targets)
        inputs[1:] = targets[:-1]
        inputs[np.cumsum(lengths) - lengths] = tokenizer.bos_id
        return Batch(self.source.pack(chosen), self.source.lengths[chosen], inputs, targets, lengths)


def pairs_of(block: Block, kept: NDArray[np.bool_] | None = None) -> Pairs:
    """The pairs of a block, or those of them where `kept` is True; ids are not copied."""
    sides: list[Sequences] = []
    for ids, offsets in (
        (block.source_ids, block.source_offsets),
        (block.target_ids, block.target_offsets),
    ):
        starts, lengths = offsets[:-1], np.diff(offsets)
        if kept is not None:
            starts, lengths = starts[kept], lengths[kept]
        sides.append(Sequences(ids, starts, lengths))
    return Pairs(block.rows if kept is None else block.rows[kept], *sides)


def join(parts: list[Pairs]) -> Pairs:
    """Several blocks' pairs as one."""
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


def cut(pairs: Pairs, order: NDArray[np.int64], *, batch_tokens: int) -> list[NDArray[np.int64]]:
    """Cut `order` into batches of at most `batch_tokens` tokens a side, padding counted (one pair always fits)."""
    longest = np.maximum(pairs.source.lengths, pairs.target.lengths)[order]
    batches: list[NDArray[np.int64]] = []
    first = 0
    while first < len(order):
        most = max(1, batch_tokens // int(longest[first]))
        widths = np.maximum.accumulate(longest[first : first + most])
        padded = widths * np.arange(1, len(widths) + 1)
        size = max(1, int(np.searchsorted(padded, batch_tokens, side="right")))
        batches.append(order[first : first + size])
        first += size
    return batches


def plan_scoring(pairs: Pairs, *, batch_tokens: int) -> list[NDArray[np.int64]]:
    """Batches whose sources are equally long, longest first, so that no source needs a mask."""
    order = np.lexsort((np.arange(len(pairs.rows)), -pairs.target.lengths, -pairs.source.lengths))
    lengths = pairs.source.lengths[order]
    groups = np.split(order, np.flatnonzero(np.diff(lengths)) + 1) if len(order) else []
    return [batch for group in groups for batch in cut(pairs, group, batch_tokens=batch_tokens)]


def plan_packed(pairs: Pairs, *, batch_tokens: int) -> list[NDArray[np.int64]]:
    """Batches of at most `batch_tokens` tokens a side (one pair always fits), of like length, longest first."""
    order = np.lexsort((np.arange(len(pairs.rows)), -pairs.target.lengths, -pairs.source.lengths))
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


class Selection:
    """A selection folder: which rows it keeps, read as they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.path, self.manifest = folder, read_manifest(folder, step="select")
        self._shards = [
            (int(shard["first"]), int(shard["end"]), folder / shard["file"]) for shard in self.manifest["shards"]
        ]
        self._last: tuple[Path, NDArray[np.int64]] | None = None

    def keeps(self, entry: BlockEntry, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of a block's `rows` are kept, bool [rows]; rows that the selection does not know are not."""
        kept = np.zeros(len(rows), dtype=np.bool_)
        for first, end, path in self._shards:
            if first < entry.end and end > entry.first:
                found = self._kept_rows(path)
                within = found[np.searchsorted(found, entry.first) : np.searchsorted(found, entry.end)]
                kept |= np.isin(rows, within, assume_unique=True)
        return kept

    def _kept_rows(self, path: Path) -> NDArray[np.int64]:
        """The rows that a shard keeps, ascending; those of the last shard stay at hand for the next block."""
        import pyarrow.parquet as parquet

        if self._last is None or self._last[0] != path:
            try:
                table = parquet.read_table(path, columns=["row", "kept"])
            except (OSError, ValueError) as error:
                raise CatpruneError(f"{path} cannot be read ({error}): run `catprune select` again") from None
            self._last = path, table["row"].to_numpy()[table["kept"].to_numpy().astype(np.bool_)]
        return self._last[1]


@dataclass(frozen=True)
class Order:
    """The order of training: fixed by the tokens, the selection, the seed and the epoch.

    Blocks are shuffled and joined to windows; pairs are shuffled within a window and sorted by length, so that pairs of
    like length meet at random; they are cut into batches, and the batches of a window are shuffled.
    """

    tokens: Tokens
    selection: Selection | None
    seed: int
    batch_tokens: int

    def pairs(self, entry: BlockEntry) -> Pairs:
        """The pairs of one block that are trained on."""
        block = self.tokens.read(entry)
        if self.selection is None:
            return pairs_of(block)
        return pairs_of(block, self.selection.keeps(entry, block.rows))

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Pairs and target tokens of an epoch; with a selection every block is read for them, once."""
        if self.selection is None:
            counts = self.tokens.manifest["counts"]
            return counts["pairs"], counts["target_tokens"]
        pairs = tokens = 0
        for entry in self.tokens.blocks:
            lengths = self.pairs(entry).target.lengths
            pairs, tokens = pairs + len(lengths), tokens + int(lengths.sum())
        return pairs, tokens

    def windows(self, epoch: int) -> list[list[BlockEntry]]:
        """The blocks of each window of an epoch."""
        blocks = [entry for entry in self.tokens.blocks if entry.pairs]
        windows: list[list[BlockEntry]] = []
        held = WINDOW_PAIRS
        for place in np.random.default_rng([self.seed, epoch]).permutation(len(blocks)):
            entry = blocks[place]
            if held + entry.pairs > WINDOW_PAIRS:
                windows.append([])
                held = 0
            windows[-1].append(entry)
            held += entry.pairs
        return windows

    def batches(self, epoch: int, window: int, entries: list[BlockEntry]) -> tuple[Pairs, list[NDArray[np.int64]]]:
        """The pairs of a window and its batches, in the order of training."""
        pairs = join([self.pairs(entry) for entry in sorted(entries, key=lambda entry: entry.first)])
        random = np.random.default_rng([self.seed, epoch, window])
        shuffled = random.permutation(len(pairs.rows))
        by_length = np.lexsort((pairs.source.lengths[shuffled], pairs.target.lengths[shuffled]))
        batches = cut(pairs, shuffled[by_length], batch_tokens=self.batch_tokens)
        return pairs, [batches[place] for place in random.permutation(len(batches))]


def row_ranges(
    pairs: Pairs, batches: list[NDArray[np.int64]], *, partly: list[BlockEntry], whole: list[BlockEntry]
) -> list[list[int]]:
    """The rows of some batches, drawn from the blocks `partly`, and of whole blocks, as ascending half-open ranges.

    Inside a block a range runs on over rows that are not trained on at all: nobody asks how often those were seen.
    """
    ranges = [[entry.first, entry.end] for entry in whole]
    if batches:
        chosen = np.sort(np.concatenate(batches))
        rows = pairs.rows[chosen]
        block = np.searchsorted(sorted(entry.first for entry in partly), rows, side="right")
        breaks = np.flatnonzero((np.diff(chosen) != 1) | (np.diff(block) != 0))
        firsts = rows[np.concatenate([[0], breaks + 1])]
        ends = rows[np.concatenate([breaks, [len(rows) - 1]])] + 1
        ranges += [[int(first), int(end)] for first, end in zip(firsts, ends, strict=True)]
    merged: list[list[int]] = []
    for first, end in sorted(ranges):
        if merged and merged[-1][1] == first:
            merged[-1][1] = end
        else:
            merged.append([first, end])
    return merged
