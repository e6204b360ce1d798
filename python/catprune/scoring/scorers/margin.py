"""Scorers by the ratio margin of sentence embeddings, with neighbours in a sample of the corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from catprune.corpus.inputs import read_rows
from catprune.errors import CatpruneError, require
from catprune.scoring.scorers.embeddings import Embedder, Embeddings, cosine
from catprune.workspace.files import whole_file
from catprune.workspace.locks import lock_folder
from catprune.workspace.manifest import COLUMNS, read_manifest
from catprune.workspace.resources import choose_threads

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

#: Pairs of the sample in which neighbours are searched, and the file with their rows and vectors.
POOL_PAIRS = 32_768
POOL = "neighbours.npy"


class Margin(Embeddings):
    """A scorer by the ratio margin (see `Neighbours`), with neighbours in up to 32,768 pairs of the corpus.

    The sample is drawn evenly before the first block is scored and serves for all blocks. So neither the block size nor
    rows that are appended later change a score.
    """

    def __init__(self, name: str, embedder: Embedder, neighbours: int, *, threads: int | None) -> None:
        super().__init__(f"{name}-margin", embedder)
        self.neighbours, self.threads = neighbours, threads
        require("faiss", "faiss")

    def describe(self) -> dict[str, Any]:
        """Describe the model and the score."""
        return {**super().describe(), "neighbours": self.neighbours, "among": POOL_PAIRS}

    def begin(self, clean: Path, folder: Path) -> None:
        """Embed the sample, or read its vectors if they were computed before."""
        import pyarrow.parquet as parquet

        path = folder / POOL
        with lock_folder(folder, name="pool", wait=True):  # one of several processes makes it, for all
            if not path.is_file():
                if any(parquet.read_metadata(shard).num_rows for shard in (folder / COLUMNS).glob("*.parquet")):
                    raise CatpruneError(
                        f"{path}, from which scores were computed, is missing: score again with force = true"
                    )
                rows, sources, targets = draw_pairs(clean, POOL_PAIRS)
                vectors = np.stack(self.embed(sources, targets))
                with whole_file(path) as stream:
                    np.save(stream, rows)
                    np.save(stream, vectors)
        with path.open("rb") as stream:
            rows, (sources, targets) = np.load(stream), np.load(stream)
        self._near = Neighbours(rows, sources, targets, self.neighbours, threads=self.threads)

    def score(self, rows: NDArray[np.int64], sources: Sequence[str], targets: Sequence[str]) -> NDArray[np.float32]:
        """Return the margins, float32 [pairs]; pairs of the sample are not embedded again."""
        places = self._near.find(rows)
        new = np.flatnonzero(places < 0)
        sides = [known.copy() for known in self._near.vectors(np.maximum(places, 0))]
        if len(new):
            embedded = self.embed(*([side[place] for place in new.tolist()] for side in (sources, targets)))
            for side, vectors in zip(sides, embedded, strict=True):
                side[new] = vectors
        return self._near.ratio_margin(rows, *sides)


class Neighbours:
    """The ratio margin of Artetxe & Schwenk 2019, arXiv 1811.01136, with k neighbours in a sample of pairs.

    Args:
        rows: rows of the sample, ascending, int64 [pairs].
        sources, targets: vectors of the sample, of norm 1, float32 [pairs, dimensions].
        neighbours: k.
        threads: threads of the search; None: all cores.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        sources: NDArray[np.float32],
        targets: NDArray[np.float32],
        neighbours: int,
        *,
        threads: int | None = None,
    ) -> None:
        import faiss

        self.rows, self.neighbours, self.threads = rows, neighbours, choose_threads(threads)
        self._sources, self._targets = (faiss.IndexFlatIP(side.shape[1]) for side in (sources, targets))
        self._sources.add(np.ascontiguousarray(sources))
        self._targets.add(np.ascontiguousarray(targets))

    def find(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of rows in the sample, int64 [rows]; -1 for other rows."""
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where(self.rows[places] == rows, places, -1)

    def vectors(self, places: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the vectors of both sides at positions of the sample, float32 [places, dimensions]."""
        return self._sources.reconstruct_batch(places), self._targets.reconstruct_batch(places)

    def ratio_margin(
        self, rows: NDArray[np.int64], sources: NDArray[np.float32], targets: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Divide the cosine of each pair by the mean cosine with the nearest neighbours of both sides, float32 [pairs].

        Neighbours are searched in the other side of the sample and of the pair itself; if there are fewer than k, all
        are used.
        """
        import faiss

        own, places = cosine(sources, targets), self.find(rows)
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(self.threads)
        try:
            near = self._mean_nearest(sources, self._targets, own, places)
            near += self._mean_nearest(targets, self._sources, own, places)
        finally:
            faiss.omp_set_num_threads(before)
        # Sides without similar neighbours would divide by 0 or change the sign.
        return np.asarray(own / np.maximum(near / 2, 1e-3), np.float32)

    def _mean_nearest(
        self, queries: NDArray[np.float32], index: Any, own: NDArray[np.float32], places: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the mean cosine with the nearest neighbours, float32 [pairs]."""
        cosines, ids = index.search(np.ascontiguousarray(queries), min(self.neighbours + 1, len(self.rows)))
        cosines[ids == places[:, None]] = -np.inf  # `own` has the cosine of the pair itself
        nearest = -np.sort(-np.column_stack([own, cosines]), axis=1)[:, : self.neighbours]
        valid = np.isfinite(nearest)
        return np.where(valid, nearest, 0).sum(axis=1, dtype=np.float32) / valid.sum(axis=1, dtype=np.float32)


def draw_pairs(clean: Path, count: int) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """Draw up to `count` evenly spaced clean pairs; return rows, sources and targets."""
    import pyarrow.parquet as parquet

    manifest = read_manifest(clean, step="clean")
    kept, before = manifest["counts"]["kept"], 0
    wanted = np.arange(min(count, kept)) * kept // max(1, min(count, kept))
    drawn: list[NDArray[np.int64]] = []
    for shard in manifest["shards"]:
        table = parquet.read_table(clean / shard["file"], columns=["row", "reasons"])
        rows = table["row"].to_numpy()[table["reasons"].to_numpy() == 0]
        first, end = np.searchsorted(wanted, [before, before + len(rows)])
        drawn.append(rows[wanted[first:end] - before])
        before += len(rows)
    rows = np.concatenate([np.zeros(0, np.int64), *drawn])
    pairs = read_rows(clean, manifest, rows.tolist())
    return rows, [source for source, _ in pairs], [target for _, target in pairs]
