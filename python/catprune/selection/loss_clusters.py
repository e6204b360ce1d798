"""Clusters of loss trajectories for s2l: k-means on a sample; `select` assigns every pair to the nearest centre.

Yang et al. 2024, arXiv 2403.07384. The trajectory of a pair is its nll per token under each checkpoint, in training
order, unscaled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from catprune.errors import CatpruneError, UsageError, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from catprune.boundary import Clusters, ShardFile

#: Size of the sample for k-means, in records.
SAMPLE = 100_000
_ITERATIONS = 25


def find_clusters(sets: Sequence[Sequence[ShardFile]], trajectory: Sequence[int], clusters: int, seed: int) -> Clusters:
    """Find the centres of clusters of loss trajectories.

    Args:
        sets: the score shards of each checkpoint.
        trajectory: numbers of the checkpoints of a trajectory, in training order.
        clusters: number of clusters.
        seed: random seed of the sample and of the initial centres.

    Raises:
        UsageError: there are fewer scored records than clusters.
        CatpruneError: the checkpoints were scored over different ranges of rows.
        MissingExtra: faiss is not installed.
    """
    points = sample_trajectories([sets[number] for number in trajectory], most=SAMPLE, seed=seed)
    if len(points) < clusters:
        raise UsageError(f"clusters = {clusters}: only {len(points)} pairs have a score, give fewer clusters")
    centres = k_means(points, clusters, seed=seed)
    return {"sets": list(trajectory), "centres": centres.tolist()}


def sample_trajectories(sets: Sequence[Sequence[ShardFile]], *, most: int, seed: int) -> NDArray[np.float32]:
    """Draw about `most` of the scored records (all if there are no more), shard by shard: float32 [records, sets].

    The shards of a set may come in any order, because workers may score into different folders.

    Raises:
        CatpruneError: the sets have different ranges of rows.
    """
    import pyarrow.parquet as parquet

    aligned = _align(sets)
    total = sum(parquet.read_metadata(shards[0]["path"]).num_rows for shards in aligned)
    parts: list[NDArray[np.float32]] = []
    for shards in aligned:
        tables = [parquet.read_table(shard["path"], columns=["tokens", "nll_sum"]) for shard in shards]
        values = np.stack([_nll(table) for table in tables], axis=1)
        drawn = np.random.default_rng([seed, shards[0]["first"]]).random(len(values)) * total < most
        parts.append(values[drawn & np.isfinite(values).all(axis=1)])
    return np.concatenate(parts) if parts else np.zeros((0, len(sets)), np.float32)


def _align(sets: Sequence[Sequence[ShardFile]]) -> list[tuple[ShardFile, ...]]:
    """Group the shards of all sets by their rows, in row order."""
    ordered = [sorted(shards, key=lambda shard: (shard["first"], shard["end"])) for shards in sets]
    for shards in ordered[1:]:
        for a, b in zip(ordered[0], shards, strict=False):
            if (a["first"], a["end"]) != (b["first"], b["end"]):
                raise CatpruneError(
                    f"{a['path']} and {b['path']} have different ranges: score both checkpoints over the same tokens"
                )
        if len(shards) != len(ordered[0]):
            ends = [files[-1]["path"] if files else "no shards" for files in (ordered[0], shards)]
            raise CatpruneError(
                f"one checkpoint's scores end with {ends[0]}, another's with {ends[1]}: score both over the same tokens"
            )
    return list(zip(*ordered, strict=True))


def _nll(table: Any) -> NDArray[np.float32]:
    """Compute the nll per token of a shard's records; NaN for records without tokens."""
    sums, counts = (table[name].to_numpy().astype(np.float64) for name in ("nll_sum", "tokens"))
    return (sums / np.where(counts > 0, counts, np.nan)).astype(np.float32)


def k_means(points: NDArray[np.float32], clusters: int, *, seed: int) -> NDArray[np.float32]:
    """Return the centres in ascending order, float32 [clusters, dimensions]; deterministic on the same CPU."""
    require("faiss", "faiss")
    import faiss

    k_means = faiss.Kmeans(
        points.shape[1],
        clusters,
        niter=_ITERATIONS,
        seed=seed % 2**31,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
    )
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # the order of additions affects the result
    try:
        k_means.train(np.ascontiguousarray(points))
    finally:
        faiss.omp_set_num_threads(threads)  # other code of the process may use faiss
    centres = np.asarray(k_means.centroids, np.float32).reshape(clusters, -1)
    return centres[np.lexsort(centres.T[::-1])]
