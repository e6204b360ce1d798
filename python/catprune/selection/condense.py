"""Condense: of each cluster of near duplicates the best-ranked record, a million rows of clusters at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from catprune._core import write_columns
from catprune.errors import CatpruneError
from catprune.workspace.manifest import read_manifest, verify_shards

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

#: The column that says of each record whether it stays.
COLUMN = "condensed"
#: Rows of clusters that are compared at a time, some 60 bytes each; with more of them there are more passes.
MEMBERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Ranked:
    """A shard of ranked records: `row`, and `score`, null where there is none."""

    path: Path
    first: int
    end: int


def check_clusters(near: Path, clean: Path) -> None:
    """Refuse a clean folder whose near duplicates are not those of another's records.

    Raises:
        CatpruneError: it is of other inputs, was cleaned with other options, or not for near duplicates.
    """
    theirs, ours = (read_manifest(folder, step="clean") for folder in (near, clean))
    if theirs["options"]["near_duplicates"] is None:
        raise CatpruneError(f"{near} was cleaned without near_duplicates: there are no clusters to condense")
    if _files(theirs) != _files(ours):
        raise CatpruneError(f"{near} was cleaned from other inputs than {clean}: rows do not mean the same pairs")
    options = [{**one["options"], "near_duplicates": None} for one in (theirs, ours)]
    if options[0] != options[1]:
        name = next(name for name in options[1] if options[0].get(name) != options[1][name])
        raise CatpruneError(
            f"{near} was cleaned with other options than {clean} ({name}): only those of near duplicates may differ"
        )


def _files(manifest: Mapping[str, Any]) -> list[str]:
    """The digests of what was cleaned, in order."""
    return [file["digest"] for one in manifest["inputs"] for file in one["files"]]


def condense(near: Path, ranked: Sequence[Ranked], into: Path, *, lowest: bool) -> list[Path]:
    """Write beside every ranked record whether it stays: 0 in `COLUMN` if its cluster has a better one, else 1.

    Better is the higher score, of equal ones the lower row. A record without a score neither goes nor makes others go.

    Args:
        near: a clean folder; a cluster is a row that it keeps and those that it dropped in favour of that one.
        ranked: shards in row order.
        into: the folder for as many shards, without those that hold no record.
        lowest: whether lower scores are better.

    Returns:
        The shards.
    """
    gone = np.zeros(max((shard.end for shard in ranked), default=0) // 8 + 1, np.uint8)
    for rows, clusters in _members(near):
        lost = _beaten(rows, clusters, _scores(rows, ranked), lowest=lowest)
        np.bitwise_or.at(gone, lost >> 3, (1 << (lost & 7)).astype(np.uint8))
    into.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for shard in ranked:
        rows = _read(shard.path, "row")[0]
        if not len(rows):
            continue
        goes = gone[rows >> 3] >> (rows & 7).astype(np.uint8) & 1
        written.append(into / shard.path.name)
        write_columns(str(written[-1]), {"row": rows, COLUMN: (1 - goes).astype(np.float32)}, metadata={})
    return written


def _read(path: Path, *columns: str) -> list[NDArray[Any]]:
    """Columns of a shard; NaN where a score is null."""
    import pyarrow.parquet as parquet

    table: Any = parquet.read_table(path, columns=list(columns))
    return [table[column].to_numpy() for column in columns]


def _members(near: Path) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Some clusters after the other, whole: their rows, ascending, and beside each the row that names its cluster."""
    import pyarrow.parquet as parquet

    manifest = read_manifest(near, step="clean")
    verify_shards(near, {**manifest, "shards": [], "fingerprints": [], "files": {}})
    listed: list[dict[str, Any]] = manifest["duplicates"]
    parts = -(-sum(shard["rows"] for shard in listed) // MEMBERS)
    for part in range(parts):
        found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for shard in listed:
            # Null: another corpus keeps it.
            table: Any = parquet.read_table(near / shard["file"]).drop_null()
            row, of = (table[name].to_numpy() for name in ("row", "duplicate_of"))
            here = of % parts == part
            found.append((row[here], of[here]))
        row, of = (np.concatenate(one) for one in zip(*found, strict=True))
        firsts = np.unique(of)
        rows, clusters = np.concatenate([row, firsts]), np.concatenate([of, firsts])
        order = np.argsort(rows, kind="stable")
        yield rows[order], clusters[order]


def _scores(rows: NDArray[np.int64], ranked: Sequence[Ranked]) -> NDArray[np.float32]:
    """The scores of ascending rows, NaN where there is none."""
    scores = np.full(len(rows), np.nan, np.float32)
    for shard in ranked:
        first, end = np.searchsorted(rows, [shard.first, shard.end]).tolist()
        if first == end:
            continue
        known, values = _read(shard.path, "row", "score")
        places = np.searchsorted(known, rows[first:end])
        there = places < len(known)
        there[there] = known[places[there]] == rows[first:end][there]
        scores[first:end][there] = values[places[there]]
    return scores


def _beaten(
    rows: NDArray[np.int64], clusters: NDArray[np.int64], scores: NDArray[np.float32], *, lowest: bool
) -> NDArray[np.int64]:
    """The scored rows that are not the best of their cluster."""
    scored = ~np.isnan(scores)
    rows, clusters, scores = rows[scored], clusters[scored], scores[scored]
    order = np.lexsort((rows, scores if lowest else -scores, clusters))
    rows, clusters = rows[order], clusters[order]
    return rows[1:][clusters[1:] == clusters[:-1]]
