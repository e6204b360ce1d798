"""Embeddings by LASER2, which has one encoder for all its languages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from catprune._core import digest_file
from catprune.errors import CatpruneError
from catprune.scoring.scorers.environment import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

#: Files that laser_encoders looks for in a folder.
FILES = ("laser2.pt", "laser2.spm", "laser2.cvocab")


class Laser:
    """LASER2 from a folder, or downloaded by its library.

    Raises:
        CatpruneError: the folder lacks files of the model.
    """

    def __init__(self, model: str | Path | None, *, threads: int | None, local: int | None) -> None:
        self.folder = None if model is None else Path(model).absolute()
        if self.folder and (missing := [name for name in FILES if not (self.folder / name).is_file()]):
            raise CatpruneError(
                f"{model} has no {', '.join(missing)}: give a folder with {', '.join(FILES)}, or leave model out"
            )
        self._worker = Worker("laser_worker.py", str(self.folder or ""), name="LASER2", threads=threads, local=local)

    def describe(self) -> dict[str, Any]:
        """Return digests or name of the model, and the requirements of its environment."""
        model: dict[str, str] = {"name": "laser2"}
        if self.folder:
            model = {name: digest_file(str(self.folder / name)) for name in FILES}
        return {"model": model, "libraries": self._worker.requirements()}

    def embed(self, texts: Sequence[str], side: str) -> NDArray[np.float32]:
        """Return vectors, float32 [texts, dimensions]; both sides share one encoder."""
        del side
        column = self._worker.ask({"text": texts}).column("embedding").combine_chunks()
        return column.flatten().to_numpy().reshape(len(texts), -1)

    def __enter__(self) -> Self:
        self._worker.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._worker.__exit__(*error)
