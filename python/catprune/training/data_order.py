"""The order of training: which pairs are trained on, and when, fixed by the tokens, what narrows them, and the seed."""

from __future__ import annotations

import bisect
import itertools
import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from catprune._core import digest_file
from catprune.errors import CatpruneError
from catprune.model.batches import cut, join, pairs_of
from catprune.workspace.manifest import read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from catprune.model.batches import Pairs
    from catprune.tokens.blocks import BlockEntry, Tokens

# Pairs are shuffled, and sorted by length, within windows of about this many: what bounds the memory.
WINDOW_PAIRS = 1 << 18
_CHECKED_AT_ONCE = 1 << 20  # rows of a file


class Filter(Protocol):
    """What narrows the rows that are trained on."""

    def keeps(self, entry: BlockEntry, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of a block's ascending `rows` are left, bool [rows]."""
        ...


class Selection:
    """The rows that a selection folder keeps, read as they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.path, self.manifest = folder, read_manifest(folder, step="select")
        self._shards = [
            (int(shard["first"]), int(shard["end"]), folder / shard["file"]) for shard in self.manifest["shards"]
        ]
        self._last: tuple[Path, NDArray[np.int64]] | None = None

    def keeps(self, entry: BlockEntry, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """As `Filter` says; rows that the selection does not know are not left."""
        kept = np.zeros(len(rows), dtype=np.bool_)
        from_place = bisect.bisect_right(self._shards, entry.first, key=lambda shard: shard[1])
        for first, _, path in itertools.islice(self._shards, from_place, None):
            if first >= entry.end:
                break
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


class Rows:
    """The rows in a .npy file, or all others: what `select --rows` writes, mapped and not read as a whole."""

    def __init__(self, path: Path, *, exclude: bool = False) -> None:
        self.path, self.exclude = path, exclude
        how = "give a .npy file of ascending row numbers, like the rows.npy that `catprune select --rows` writes"
        try:
            found: Any = np.load(path, mmap_mode="r")
        except FileNotFoundError:
            raise CatpruneError(f"{path} does not exist: {how}") from None
        except (ValueError, EOFError):  # NumPy takes whatever is not its own for a pickle, and says how to load it
            raise CatpruneError(f"{path} is no .npy file: {how}") from None
        except OSError as error:
            raise CatpruneError(f"{path} cannot be read ({error.strerror}): {how}") from None
        if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype.kind not in "iu":
            raise CatpruneError(f"{path} does not hold one column of whole numbers: {how}")
        self._rows: NDArray[Any] = found
        if len(self._rows) and self._rows[0] < 0:
            raise CatpruneError(f"{path} begins with row {self._rows[0]}: {how}")
        for first in range(0, len(self._rows), _CHECKED_AT_ONCE):
            part = self._rows[first : first + _CHECKED_AT_ONCE + 1]
            falls = np.flatnonzero(part[1:] <= part[:-1])
            if len(falls):
                before, after = part[falls[0] : falls[0] + 2]
                raise CatpruneError(f"{path} names row {after} after row {before}: {how}")

    def describe(self, *, relative_to: Path) -> dict[str, str]:
        """For a plan: the relative path and the digest."""
        path = os.path.relpath(self.path.absolute(), relative_to.absolute())
        return {"path": path, "digest": digest_file(str(self.path))}

    def check_end(self, end: int) -> None:
        """Refuse rows that the corpus does not have.

        Raises:
            CatpruneError: there is one.
        """
        if len(self._rows) and int(self._rows[-1]) >= end:
            raise CatpruneError(f"{self.path} names row {self._rows[-1]}, the tokens end before row {end}: give others")

    def keeps(self, entry: BlockEntry, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """As `Filter` says."""
        within = self._rows[self._place(entry.first) : self._place(entry.end)].astype(np.int64)
        return np.isin(rows, within, assume_unique=True, invert=self.exclude)

    def _place(self, row: int) -> int:
        """How many rows of the file are below this one; asked in the file's own type, so that it stays mapped."""
        kind = self._rows.dtype
        return len(self._rows) if row > np.iinfo(kind).max else int(np.searchsorted(self._rows, kind.type(row)))


@dataclass(frozen=True)
class Order:
    """The order of training.

    Blocks are shuffled and joined to windows; pairs are shuffled within a window and sorted by length, so that pairs of
    like length meet at random; they are cut into batches, and the batches of a window are shuffled.

    Attributes:
        tokens: whose pairs these are.
        filters: the pairs that pass all of them are trained on.
        sample: so many of those, drawn once; None: all. Every block gives its share, so that no input is left out.
        reverse: whether the sides have changed places.
        seed: of the sample and of the order.
        batch_tokens: most tokens of a batch on either side, padding counted.
    """

    tokens: Tokens
    seed: int
    batch_tokens: int
    filters: tuple[Filter, ...] = ()
    sample: int | None = None
    reverse: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether every pair that carries tokens is trained on."""
        return not self.filters and self.sample is None

    def left(self, entry: BlockEntry, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of a block's rows are trained on, bool [rows]."""
        left = self._passing(entry, rows)
        if self.sample is None:
            return left
        passing = np.flatnonzero(left)
        share = self.shares[self._places[entry.first]]
        drawn = np.random.default_rng([self.seed, entry.first, 1]).permutation(len(passing))[:share]
        left[:] = False
        left[passing[drawn]] = True
        return left

    def _passing(self, entry: BlockEntry, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        passing = np.ones(len(rows), dtype=np.bool_)
        for one in self.filters:
            passing &= one.keeps(entry, rows)
        return passing

    @cached_property
    def _places(self) -> dict[int, int]:
        return {entry.first: place for place, entry in enumerate(self.tokens.blocks)}

    @cached_property
    def _stock(self) -> list[tuple[int, int]]:
        """Of each block the pairs that pass the filters and their target tokens; with filters all are read, once."""
        stock: list[tuple[int, int]] = []
        for entry in self.tokens.blocks:
            if self.filters:
                block = self.tokens.read(entry)
                lengths = pairs_of(block, reverse=self.reverse).target.lengths[self._passing(entry, block.rows)]
                stock.append((len(lengths), int(lengths.sum())))
            else:
                stock.append((entry.pairs, entry.source_tokens if self.reverse else entry.target_tokens))
        return stock

    @cached_property
    def shares(self) -> list[int]:
        """How many pairs of each block are trained on.

        Raises:
            CatpruneError: the sample is larger than what there is.
        """
        shares = [pairs for pairs, _ in self._stock]
        if self.sample is None:
            return shares
        total = sum(shares)
        if self.sample > total:
            raise CatpruneError(f"a sample of {self.sample} pairs is asked, there are {total} to train on: ask fewer")
        ends = [0]
        for share in shares:
            ends.append(ends[-1] + share)
        # In integers of any size: the parts of what comes before a block, rounded down.
        given = [end * self.sample // total for end in ends]
        return [after - before for before, after in itertools.pairwise(given)]

    def pairs(self, entry: BlockEntry) -> Pairs:
        """The pairs of one block that are trained on."""
        block = self.tokens.read(entry)
        pairs = pairs_of(block, reverse=self.reverse)
        return pairs if self.is_whole else pairs.take(np.flatnonzero(self.left(entry, block.rows)))

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Pairs and target tokens of an epoch; of a sample every block is read for them, once."""
        if self.sample is None:
            return sum(self.shares), sum(tokens for _, tokens in self._stock)
        lengths = (self.pairs(entry).target.lengths for entry in self.tokens.blocks)
        return sum(self.shares), sum(int(one.sum()) for one in lengths)

    def windows(self, epoch: int) -> list[list[BlockEntry]]:
        """The blocks of each window of an epoch."""
        blocks = [(entry, share) for entry, share in zip(self.tokens.blocks, self.shares, strict=True) if share]
        windows: list[list[BlockEntry]] = []
        held = WINDOW_PAIRS
        for place in np.random.default_rng([self.seed, epoch]).permutation(len(blocks)):
            entry, share = blocks[place]
            if held + share > WINDOW_PAIRS:
                windows.append([])
                held = 0
            windows[-1].append(entry)
            held += share
        return windows

    def batches(self, epoch: int, window: int, entries: list[BlockEntry]) -> tuple[Pairs, list[NDArray[np.int64]]]:
        """The pairs of a window and its batches, in the order of training."""
        pairs = join([self.pairs(entry) for entry in sorted(entries, key=lambda entry: entry.first)])
        random = np.random.default_rng([self.seed, epoch, window])
        shuffled = random.permutation(len(pairs.rows))
        by_length = np.lexsort((pairs.source.lengths[shuffled], pairs.target.lengths[shuffled]))
        batches = cut(pairs, shuffled[by_length], batch_tokens=self.batch_tokens)
        return pairs, [batches[place] for place in random.permutation(len(batches))]
