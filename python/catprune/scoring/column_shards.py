"""The shards of a column that is scored block by block: which blocks there are, and which are finished."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from catprune._core import digest_file
from catprune.errors import CatpruneError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from catprune.workspace.step_folder import StepFolder

#: Rows of a block, which restart at every input.
BLOCK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Block:
    """The rows `first..end`."""

    first: int
    end: int

    def path(self, folder: Path) -> Path:
        """Its shard."""
        return folder / f"part-{self.first:012d}-{self.end:012d}.parquet"


def blocks_of(cleaned: Mapping[str, Any]) -> Iterator[Block]:
    """The blocks of a clean folder's manifest: those of `tokenize`."""
    for one in cleaned["inputs"]:
        for first in range(one["first"], one["end"], BLOCK_ROWS):
            yield Block(first, min(first + BLOCK_ROWS, one["end"]))


def metadata_of(folder: StepFolder, path: Path) -> dict[bytes, bytes] | None:
    """The metadata of a shard that this or another process wrote by the folder's plan, or by one that it extends."""
    import pyarrow.parquet as parquet

    if not path.is_file():
        return None
    try:
        metadata: dict[bytes, bytes] = parquet.read_metadata(path).metadata or {}
    except (OSError, ValueError):
        return None
    return metadata if metadata.get(b"plan", b"").decode() in folder.digests else None


def finished(folder: StepFolder, block: Block) -> bool:
    """Whether a block's shard is there, by this plan."""
    return metadata_of(folder, block.path(folder.path)) is not None


def count_pairs(shard: Path) -> int:
    """Count the pairs of a finished shard."""
    import pyarrow.parquet as parquet

    return parquet.read_metadata(shard).num_rows


def describe_shards(folder: StepFolder, blocks: Sequence[Block]) -> dict[str, Any]:
    """Shards and counts, for the manifest."""
    shards: list[dict[str, Any]] = []
    for block in blocks:
        path = block.path(folder.path)
        listed = {"file": path.name, "first": block.first, "end": block.end, "digest": digest_file(str(path))}
        shards.append({**listed, "pairs": count_pairs(path)})
    return {"counts": {"pairs": sum(shard["pairs"] for shard in shards)}, "shards": shards}


COLUMNS = ("tokens", "nll_sum", "correct", "el2n_sum", "grad_norm_sum", "ign_sum")


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """A finished column.

    Attributes:
        folder: it holds one column, `score`.
        pairs: pairs that the column has: all that cleaning kept; of `score_columns` all that were tokenised, among them
            those without statistics, which get no score.
        new: of them those that were scored now.
        left: blocks that other processes still score; the manifest is empty until none are left.
        manifest: as written.
        is_new: whether this call scored; False if the column was finished before.
    """

    folder: Path
    pairs: int
    new: int
    left: int
    manifest: Mapping[str, Any]
    is_new: bool = field(default=True, compare=False)


def check_scores(scores: Any, rows: NDArray[np.int64], *, by: str) -> NDArray[np.float32]:
    """What a function gave for some rows, as float32 [rows].

    Raises:
        CatpruneError: another number of scores than rows, or one that is not finite.
    """
    try:
        found = np.asarray(scores, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise CatpruneError(f"{by} gives no numbers ({error}): return one for each pair") from None
    if found.shape != rows.shape:
        raise CatpruneError(f"{by} gives scores of shape {found.shape} for {len(rows)} pairs: return one for each")
    if not np.isfinite(found).all():
        row = int(rows[~np.isfinite(found)][0])
        raise CatpruneError(f"{by} gives row {row} the score {found[rows == row][0]}: return finite numbers")
    return found
