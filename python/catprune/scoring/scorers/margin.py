"""Pairs scored by the ratio margin of their embeddings, over neighbours among pairs that are drawn from the corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from catprune.corpus.inputs import read_rows
from catprune.errors import CatpruneError, require
from catprune.scoring.scorers.embeddings import Embedder, Embeddings, cosine
from catprune.workspace.files import whole_file
from catprune.workspace.manifest import COLUMNS, read_manifest
from catprune.workspace.resources import choose_threads

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

#: Pairs among which neighbours are looked for, and the file that holds them and their vectors.
POOL_PAIRS = 32_768
POOL = "neighbours.npy"


class Margin(Embeddings):
    """A scorer by the ratio margin, see `Neighbours`, which are looked for among up to 32,768 pairs of the corpus.

    They are drawn evenly before the first block is scored, and are those of every block: a block's size and what is
    joined later change no score.
    """

    def __init__(self, name: str, embedder: Embedder, neighbours: int, *, threads: int | None) -> None:
        super().__init__(f"{name}-margin", embedder)
        self.neighbours, self.threads = neighbours, threads
        require("faiss", "faiss")

    def describe(self) -> dict[str, Any]:
        """Model, and what is made of its vectors."""
        return {**super().describe(), "neighbours": self.neighbours, "among": POOL_PAIRS}

    def begin(self, clean: Path, folder: Path) -> None:
        """Embed the pairs to look among, or read them where that was done."""
        import pyarrow.parquet as parquet

        path = folder / POOL
        if not path.is_file():
            if any(parquet.read_metadata(shard).num_rows for shard in (folder / COLUMNS).glob("*.parquet")):
                raise CatpruneError(f"{path}, by which scores were made, is gone: score again with force = true")
            rows, sources, targets = draw_pairs(clean, POOL_PAIRS)
            vectors = np.stack(self.embed(sources, targets))
            if not path.is_file():  # another process of --shard may have been faster
                with whole_file(path) as stream:
                    np.save(stream, rows)
                    np.save(stream, vectors)
        with path.open("rb") as stream:
            rows, (sources, targets) = np.load(stream), np.load(stream)
        self._near = Neighbours(rows, sources, targets, self.neighbours, threads=self.threads)

    def score(self, rows: NDArray[np.int64], sources: Sequence[str], targets: Sequence[str]) -> NDArray[np.float32]:
        """float32 [pairs]; nothing is embedded a second time."""
        places = self._near.find(rows)
        new = np.flatnonzero(places < 0)
        sides = [known.copy() for known in self._near.vectors(np.maximum(places, 0))]
        if len(new):
            found = self.embed(*([side[place] for place in new.tolist()] for side in (sources, targets)))
            for side, vectors in zip(sides, found, strict=True):
                side[new] = vectors
        return self._near.ratio_margin(rows, *sides)


class Neighbours:
    """The ratio margin of Artetxe & Schwenk 2019, arXiv 1811.01136, over k neighbours among some pairs.

    Args:
        rows: of these pairs, ascending, int64 [pairs].
        sources, targets: their vectors of length 1, float32 [pairs, dimensions].
        neighbours: k.
        threads: of the search; None: the machine's.
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
        """Where rows stand among these pairs, int64 [rows]; -1 of others."""
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where(self.rows[places] == rows, places, -1)

    def vectors(self, places: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both sides of the pairs at these places, float32 [places, dimensions]."""
        return self._sources.reconstruct_batch(places), self._targets.reconstruct_batch(places)

    def ratio_margin(
        self, rows: NDArray[np.int64], sources: NDArray[np.float32], targets: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The cosine of each pair over the mean cosine of both sides with their nearest neighbours, float32 [pairs].

        The neighbours are looked for among the other side of the drawn pairs and the pair's own. Where there are fewer
        than k, all are.
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
        # Sides that are alike to nothing would be divided by 0 or turn the sign.
        return np.asarray(own / np.maximum(near / 2, 1e-3), np.float32)

    def _mean_nearest(
        self, of: NDArray[np.float32], among: Any, own: NDArray[np.float32], places: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Mean cosine with the nearest neighbours, float32 [pairs]."""
        found, ids = among.search(np.ascontiguousarray(of), min(self.neighbours + 1, len(self.rows)))
        found[ids == places[:, None]] = -np.inf  # it comes with the pair
        nearest = -np.sort(-np.column_stack([own, found]), axis=1)[:, : self.neighbours]
        there = np.isfinite(nearest)
        return np.where(there, nearest, 0).sum(axis=1, dtype=np.float32) / there.sum(axis=1, dtype=np.float32)


def draw_pairs(clean: Path, count: int) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """Rows, sources and targets of up to so many of the pairs that cleaning kept, evenly spaced."""
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
