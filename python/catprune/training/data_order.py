"""The order of training: which pairs are trained on, and when; fixed by the tokens, the filters and the seed."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from catprune._core import digest_file
from catprune.errors import CatpruneError, UsageError
from catprune.model.batches import PART_TOKENS, cut, cut_unpadded, join, pairs_of
from catprune.workspace.files import relative_place
from catprune.workspace.manifest import read_manifest
from catprune.workspace.sealed import read_sealed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from catprune.model.batches import Pairs
    from catprune.tokens.blocks import BlockEntry, Tokens
    from catprune.workspace.spool import Spool

# Pairs of a window. Pairs are shuffled and sorted by length within windows, which bounds the memory.
WINDOW_PAIRS = 1 << 18
_CHECKED_AT_ONCE = 1 << 20  # rows of a file


class Filter(Protocol):
    """A filter of the rows that are trained on."""

    def keeps(self, entry: BlockEntry, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of a block's ascending `rows` pass, bool [rows]."""
        ...


class Selection:
    """The rows that a selection folder keeps, read block by block."""

    def __init__(self, folder: Path) -> None:
        self.path, self.manifest = folder, read_manifest(folder, step="select")
        self._shards = [
            (int(shard["first"]), int(shard["end"]), folder / shard["file"]) for shard in self.manifest["shards"]
        ]
        self._last: tuple[Path, NDArray[np.int64]] | None = None

    def keeps(self, entry: BlockEntry, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """See `Filter`; rows that the selection does not contain do not pass."""
        kept = np.zeros(len(rows), dtype=np.bool_)
        from_place = bisect.bisect_right(self._shards, entry.first, key=lambda shard: shard[1])
        for first, _, path in itertools.islice(self._shards, from_place, None):
            if first >= entry.end:
                break
            selected = self._kept_rows(path)
            within = selected[np.searchsorted(selected, entry.first) : np.searchsorted(selected, entry.end)]
            kept |= np.isin(rows, within, assume_unique=True)
        return kept

    def _kept_rows(self, path: Path) -> NDArray[np.int64]:
        """Return the rows that a shard keeps, ascending; the last shard is cached for the next block."""
        import pyarrow.parquet as parquet

        if self._last is None or self._last[0] != path:
            try:
                table = parquet.read_table(path, columns=["row", "kept"])
            except (OSError, ValueError) as error:
                raise CatpruneError(f"{path} cannot be read ({error}): run `catprune select` again") from None
            self._last = path, table["row"].to_numpy()[table["kept"].to_numpy().astype(np.bool_)]
        return self._last[1]


def spool_rows(rows: Any, spool: Spool, *, name: str) -> Path:
    """The .npy file of row numbers; an array or list of them, in any order, is spooled to one.

    Args:
        rows: a path, or integers of one dimension.
        spool: where the file goes.
        name: of the option.

    Raises:
        UsageError: these are no integers.
    """
    if isinstance(rows, str | Path):
        return Path(rows)
    try:
        values: Any = np.asarray(rows)
    except (ValueError, TypeError):
        values = np.empty((), np.object_)
    if values.shape == (0,):
        values = values.astype(np.int64)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise UsageError(f"{name} is a {type(rows).__name__} of {values.dtype}: give integers of one dimension")
    return spool.array(np.unique(values), name=f"{name}-".replace("_", "-"))


class Rows:
    """The rows in a .npy file, as `select` writes it with `rows_only`, or all others. The file is mapped, not read."""

    def __init__(self, path: Path, *, exclude: bool = False) -> None:
        self.path, self.exclude = path, exclude
        remedy = (
            "give a .npy file of ascending row numbers, like the rows.npy that `select` writes with rows_only = true"
        )
        try:
            array: Any = np.load(path, mmap_mode="r")
        except FileNotFoundError:
            raise CatpruneError(f"{path} does not exist: {remedy}") from None
        except (ValueError, EOFError):  # NumPy takes any other file for a pickle, and its message says how to load one
            raise CatpruneError(f"{path} is not a .npy file: {remedy}") from None
        except OSError as error:
            raise CatpruneError(f"{path} cannot be read ({error.strerror}): {remedy}") from None
        if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "iu":
            raise CatpruneError(f"{path} does not hold a one-dimensional array of whole numbers: {remedy}")
        self._rows: NDArray[Any] = array
        if len(self._rows) and self._rows[0] < 0:
            raise CatpruneError(f"{path} starts with row {self._rows[0]}: {remedy}")
        for first in range(0, len(self._rows), _CHECKED_AT_ONCE):
            part = self._rows[first : first + _CHECKED_AT_ONCE + 1]
            falls = np.flatnonzero(part[1:] <= part[:-1])
            if len(falls):
                before, after = part[falls[0] : falls[0] + 2]
                raise CatpruneError(f"{path} names row {after} after row {before}: {remedy}")

    @property
    def selection(self) -> Path | None:
        """The folder of the selection that wrote the file; None for other files."""
        manifest = self.path.parent / "manifest.json"
        is_selection = manifest.is_file() and read_sealed(manifest).get("step") == "select"
        return self.path.parent if is_selection and self.path.name == "rows.npy" else None

    def describe(self, *, relative_to: Path) -> dict[str, str]:
        """Describe the file for a plan: its relative path and its digest."""
        path = relative_place(self.path, relative_to)
        return {"path": path, "digest": digest_file(str(self.path))}

    def check_end(self, end: int) -> None:
        """Refuse rows that the corpus does not have.

        Raises:
            CatpruneError: a row is at or after `end`.
        """
        if len(self._rows) and int(self._rows[-1]) >= end:
            raise CatpruneError(
                f"{self.path} names row {self._rows[-1]}, but the tokens end before row {end}: give rows of this corpus"
            )

    def keeps(self, entry: BlockEntry, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """See `Filter`."""
        within = self._rows[self._place(entry.first) : self._place(entry.end)].astype(np.int64)
        return np.isin(rows, within, assume_unique=True, invert=self.exclude)

    def _place(self, row: int) -> int:
        """Count the rows of the file below `row`; compared in the file's dtype, so that NumPy makes no copy."""
        kind = self._rows.dtype
        return len(self._rows) if row > np.iinfo(kind).max else int(np.searchsorted(self._rows, kind.type(row)))


@dataclass(frozen=True)
class Order:
    """The order of training.

    Blocks are shuffled and grouped into windows. Within a window, pairs are shuffled and sorted by length, so that
    pairs of equal length are in random order. They are cut into batches, and the batches of a window are shuffled.

    Attributes:
        tokens: the tokens folder.
        seed: seed of the sample and of the order.
        batch_tokens: most tokens of a batch on either side; with padding, if at most `PART_TOKENS`.
        filters: pairs that pass all of them are trained on.
        sample: number of those pairs to train on, drawn once; None: all. Sampling is proportional: each block
            contributes its share of the eligible pairs.
        reverse: whether source and target are swapped.
    """

    tokens: Tokens
    seed: int
    batch_tokens: int
    filters: tuple[Filter, ...] = ()
    sample: int | None = None
    reverse: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether all pairs that carry tokens are trained on."""
        return not self.filters and self.sample is None

    def left(self, entry: BlockEntry, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of a block's rows are trained on, bool [rows]."""
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
        for row_filter in self.filters:
            passing &= row_filter.keeps(entry, rows)
        return passing

    @cached_property
    def _places(self) -> dict[int, int]:
        return {entry.first: place for place, entry in enumerate(self.tokens.blocks)}

    @cached_property
    def _eligible(self) -> list[tuple[int, int]]:
        """Pairs of each block that pass the filters, and their target tokens; filters need one pass over all blocks."""
        counts: list[tuple[int, int]] = []
        for entry in self.tokens.blocks:
            if self.filters:
                block = self.tokens.read(entry)
                lengths = pairs_of(block, reverse=self.reverse).target.lengths[self._passing(entry, block.rows)]
                counts.append((len(lengths), int(lengths.sum())))
            else:
                counts.append((entry.pairs, entry.source_tokens if self.reverse else entry.target_tokens))
        return counts

    @cached_property
    def shares(self) -> list[int]:
        """Pairs of each block that are trained on.

        Raises:
            CatpruneError: the sample is larger than the number of eligible pairs.
        """
        shares = [pairs for pairs, _ in self._eligible]
        if self.sample is None:
            return shares
        total = sum(shares)
        if self.sample > total:
            raise CatpruneError(
                f"sample = {self.sample}, but there are {total} pairs to train on: give a smaller sample"
            )
        ends = [0]
        for share in shares:
            ends.append(ends[-1] + share)
        # Cumulative shares in integers of any size, rounded down: so the shares add up to the sample.
        drawn = [end * self.sample // total for end in ends]
        return [after - before for before, after in itertools.pairwise(drawn)]

    def pairs(self, entry: BlockEntry) -> Pairs:
        """Return the pairs of one block that are trained on."""
        block = self.tokens.read(entry)
        pairs = pairs_of(block, reverse=self.reverse)
        return pairs if self.is_whole else pairs.take(np.flatnonzero(self.left(entry, block.rows)))

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Pairs and target tokens of an epoch; a sample needs one pass over all blocks."""
        if self.sample is None:
            return sum(self.shares), sum(tokens for _, tokens in self._eligible)
        lengths = (self.pairs(entry).target.lengths for entry in self.tokens.blocks)
        return sum(self.shares), sum(int(block.sum()) for block in lengths)

    def windows(self, epoch: int) -> list[list[BlockEntry]]:
        """Return the blocks of each window of an epoch."""
        blocks = [(entry, share) for entry, share in zip(self.tokens.blocks, self.shares, strict=True) if share]
        windows: list[list[BlockEntry]] = []
        size = WINDOW_PAIRS
        for place in np.random.default_rng([self.seed, epoch]).permutation(len(blocks)):
            entry, share = blocks[place]
            if size + share > WINDOW_PAIRS:
                windows.append([])
                size = 0
            windows[-1].append(entry)
            size += share
        return windows

    def batches(self, epoch: int, window: int, entries: list[BlockEntry]) -> tuple[Pairs, list[NDArray[np.int64]]]:
        """Return the pairs of a window and its batches (indices into the pairs), in the order of training."""
        pairs = join([self.pairs(entry) for entry in sorted(entries, key=lambda entry: entry.first)])
        random = np.random.default_rng([self.seed, epoch, window])
        shuffled = random.permutation(len(pairs.rows))
        by_length = np.lexsort((pairs.source.lengths[shuffled], pairs.target.lengths[shuffled]))
        # Larger batches are computed in parts, or packed: the padding of the whole is never computed.
        cut_up = cut if self.batch_tokens <= PART_TOKENS else cut_unpadded
        batches = cut_up(pairs, shuffled[by_length], batch_tokens=self.batch_tokens)
        return pairs, [batches[place] for place in random.permutation(len(batches))]

    def updates(self, epoch: int = 0) -> int:
        """Count the batches of an epoch; epochs differ by a few."""
        windows = enumerate(self.windows(epoch))
        return sum(len(self.batches(epoch, window, entries)[1]) for window, entries in windows)
