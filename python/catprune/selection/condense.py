"""Condense: keep the best-ranked record of each near-duplicate cluster, in passes over a million rows."""

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

#: Name of the column that marks the records to keep.
COLUMN = "condensed"
#: Rows of clusters per pass, about 60 bytes each.
MEMBERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Ranked:
    """A shard of ranked records, with the columns `row` and `score`; scores may be null."""

    path: Path
    first: int
    end: int


def check_clusters(near: Path, clean: Path) -> None:
    """Check that the clusters of the clean folder `near` belong to the records of `clean`.

    Raises:
        CatpruneError: `near` has other inputs, other options, or no near duplicates.
    """
    clustered, ranked = (read_manifest(folder, step="clean") for folder in (near, clean))
    if clustered["options"]["near_duplicates"] is None:
        raise CatpruneError(f"{near} was cleaned without near_duplicates: there are no clusters to condense")
    if _files(clustered) != _files(ranked):
        raise CatpruneError(f"{near} was cleaned from other inputs than {clean}: row numbers do not match")
    options = [{**manifest["options"], "near_duplicates": None} for manifest in (clustered, ranked)]
    if options[0] != options[1]:
        name = next(name for name in options[1] if options[0].get(name) != options[1][name])
        raise CatpruneError(
            f"{near} was cleaned with other options than {clean} ({name}): only the near-duplicate options may differ"
        )


def _files(manifest: Mapping[str, Any]) -> list[str]:
    """Return the digests of the cleaned files, in order."""
    return [file["digest"] for read in manifest["inputs"] for file in read["files"]]


def condense(near: Path, ranked: Sequence[Ranked], into: Path, *, lowest: bool) -> list[Path]:
    """Write the column `COLUMN` for ranked records: 0 if the cluster has a better record, else 1.

    The higher score is better; of equal scores the lower row is better. A record without a score keeps its 1, and does
    not affect other records.

    Args:
        near: a clean folder; a cluster is a kept row and the rows that were dropped as its near duplicates.
        ranked: shards in row order.
        into: the folder for the new shards; a shard without records is left out.
        lowest: whether lower scores are better.

    Returns:
        The new shards.
    """
    dropped = np.zeros(max((shard.end for shard in ranked), default=0) // 8 + 1, np.uint8)
    for rows, clusters in _members(near):
        beaten = _beaten(rows, clusters, _scores(rows, ranked), lowest=lowest)
        np.bitwise_or.at(dropped, beaten >> 3, (1 << (beaten & 7)).astype(np.uint8))
    into.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for shard in ranked:
        rows = _read(shard.path, "row")[0]
        if not len(rows):
            continue
        is_dropped = dropped[rows >> 3] >> (rows & 7).astype(np.uint8) & 1
        written.append(into / shard.path.name)
        write_columns(str(written[-1]), {"row": rows, COLUMN: (1 - is_dropped).astype(np.float32)}, metadata={})
    return written


def _read(path: Path, *columns: str) -> list[NDArray[Any]]:
    """Read columns of a shard; null scores become NaN."""
    import pyarrow.parquet as parquet

    table: Any = parquet.read_table(path, columns=list(columns))
    return [table[column].to_numpy() for column in columns]


def _members(near: Path) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield groups of whole clusters: ascending rows, and the row that names the cluster of each."""
    import pyarrow.parquet as parquet

    manifest = read_manifest(near, step="clean")
    verify_shards(near, {**manifest, "shards": [], "fingerprints": [], "files": {}})
    listed: list[dict[str, Any]] = manifest["duplicates"]
    parts = -(-sum(shard["rows"] for shard in listed) // MEMBERS)
    for part in range(parts):
        members: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for shard in listed:
            # Null: the kept duplicate is in another corpus.
            table: Any = parquet.read_table(near / shard["file"]).drop_null()
            row, of = (table[name].to_numpy() for name in ("row", "duplicate_of"))
            in_part = of % parts == part
            members.append((row[in_part], of[in_part]))
        row, of = (np.concatenate(columns) for columns in zip(*members, strict=True))
        firsts = np.unique(of)
        rows, clusters = np.concatenate([row, firsts]), np.concatenate([of, firsts])
        order = np.argsort(rows, kind="stable")
        yield rows[order], clusters[order]


def _scores(rows: NDArray[np.int64], ranked: Sequence[Ranked]) -> NDArray[np.float32]:
    """Return the scores of ascending rows; NaN for rows without a score."""
    scores = np.full(len(rows), np.nan, np.float32)
    for shard in ranked:
        first, end = np.searchsorted(rows, [shard.first, shard.end]).tolist()
        if first == end:
            continue
        known, values = _read(shard.path, "row", "score")
        places = np.searchsorted(known, rows[first:end])
        is_known = places < len(known)
        is_known[is_known] = known[places[is_known]] == rows[first:end][is_known]
        scores[first:end][is_known] = values[places[is_known]]
    return scores


def _beaten(
    rows: NDArray[np.int64], clusters: NDArray[np.int64], scores: NDArray[np.float32], *, lowest: bool
) -> NDArray[np.int64]:
    """Return the scored rows that are not the best of their cluster."""
    scored = ~np.isnan(scores)
    rows, clusters, scores = rows[scored], clusters[scored], scores[scored]
    order = np.lexsort((rows, scores if lowest else -scores, clusters))
    rows, clusters = rows[order], clusters[order]
    return rows[1:][clusters[1:] == clusters[:-1]]
