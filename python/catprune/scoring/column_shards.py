"""The shards of a score column: one per block of rows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from catprune._core import BLOCK_ROWS
from catprune.errors import CatpruneError
from catprune.tokens.blocks import block_ranges
from catprune.workspace.manifest import COLUMNS
from catprune.workspace.resources import digest_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from catprune.workspace.step_folder import StepFolder


@dataclass(frozen=True, slots=True)
class Block:
    """The rows [first, end)."""

    first: int
    end: int

    @property
    def file(self) -> str:
        """The file of the block's shard, relative to the step's folder."""
        return f"{COLUMNS}/part-{self.first:012d}-{self.end:012d}.parquet"

    def path(self, folder: Path) -> Path:
        """Return the file of the block's shard in a step's folder."""
        return folder / self.file


def blocks_of(cleaned: Mapping[str, Any]) -> Iterator[Block]:
    """Return the blocks of a clean folder, the same as in `tokenize`."""
    return itertools.starmap(Block, block_ranges(cleaned["counts"]["rows"], BLOCK_ROWS))


def metadata_of(path: Path) -> dict[bytes, bytes]:
    """Read the metadata of a shard; empty if it cannot be read."""
    import pyarrow.parquet as parquet

    try:
        return parquet.read_metadata(path).metadata or {}
    except (OSError, ValueError):
        return {}


def unfinished(folder: StepFolder, blocks: Iterable[Block]) -> list[Block]:
    """Return the blocks that have no shard with the digest it was written with, of the plan or one that it extends."""
    digests, plans = folder.shard_digests(), {plan.encode() for plan in folder.digests}

    blocks = list(blocks)
    present = [block for block in blocks if digests.get(block.file) and block.path(folder.path).is_file()]
    now = digest_all([block.path(folder.path) for block in present])
    finished = {
        block.file
        for block, digest in zip(present, now, strict=True)
        if digest == digests[block.file] and metadata_of(block.path(folder.path)).get(b"plan") in plans
    }
    return [block for block in blocks if block.file not in finished]


def count_pairs(shard: Path) -> int:
    """Count the pairs of a finished shard."""
    import pyarrow.parquet as parquet

    return parquet.read_metadata(shard).num_rows


def describe_shards(folder: StepFolder, blocks: Sequence[Block]) -> dict[str, Any]:
    """Describe shards and counts for the manifest."""
    paths = [block.path(folder.path) for block in blocks]
    shards: list[dict[str, Any]] = [
        {"file": block.file, "first": block.first, "end": block.end, "digest": digest, "pairs": count_pairs(path)}
        for block, path, digest in zip(blocks, paths, digest_all(paths), strict=True)
    ]
    return {"counts": {"pairs": sum(shard["pairs"] for shard in shards)}, "shards": shards}


STATISTICS = ("tokens", "nll_sum", "correct", "el2n_sum", "grad_norm_sum", "ign_sum")


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """A finished column.

    Attributes:
        folder: the folder of the column, which has the folder's name.
        pairs: pairs of the column: all clean pairs; for `score_columns` all tokenized pairs, with null scores for pairs
            without statistics.
        new: pairs that this call scored.
        left: blocks left to other processes; the manifest is empty until none are left.
        manifest: the content of `manifest.json`.
        is_new: whether this call scored; False if the column was finished before.
    """

    folder: Path
    pairs: int
    new: int
    left: int
    manifest: Mapping[str, Any] = field(repr=False)
    is_new: bool = field(default=True, compare=False)


def check_scores(scores: Any, rows: NDArray[np.int64], *, by: str) -> NDArray[np.float32]:
    """Check the scores that a function returned for rows, and convert them to float32 [rows].

    Raises:
        CatpruneError: the number of scores is wrong, or a score is not finite.
    """
    try:
        values = np.asarray(scores, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise CatpruneError(f"{by} does not return numbers ({error}): return one number for each pair") from None
    if values.shape != rows.shape:
        raise CatpruneError(
            f"{by} returns scores of shape {values.shape} for {len(rows)} pairs: return one number for each pair"
        )
    if not np.isfinite(values).all():
        row = int(rows[~np.isfinite(values)][0])
        raise CatpruneError(f"{by} returns the score {values[rows == row][0]} for row {row}: return finite numbers")
    return values
