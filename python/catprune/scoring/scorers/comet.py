"""Pairs scored by COMET's models of quality estimation, which read the source and the translation alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from catprune._core import digest_file
from catprune.errors import CatpruneError
from catprune.scoring.scorers import Scorer
from catprune.scoring.scorers.environment import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Rei et al. 2020, arXiv 2010.15535: downloaded without a licence to accept.
WMT20 = "Unbabel/wmt20-comet-qe-da"


class Comet(Scorer):
    """A model by its name, by its checkpoint's file, or by the folder that has it as `checkpoints/….ckpt`.

    Raises:
        CatpruneError: a file or a folder that is no model of COMET's.
    """

    name = "comet-qe"

    def __init__(self, model: str | Path | None, *, threads: int | None, local: int | None) -> None:
        self.model = str(model or WMT20)
        self._checkpoint = _find_checkpoint(self.model)
        self._worker = Worker("comet_worker.py", str(self._checkpoint or self.model), threads=threads, local=local)

    def describe(self) -> dict[str, Any]:
        """Digests or name of the model, and what its environment is made of."""
        told: dict[str, str] = {"name": self.model}
        if self._checkpoint is not None:
            files = {"checkpoint": self._checkpoint, "hparams": _hparams(self._checkpoint)}
            told = {name: digest_file(str(path)) for name, path in files.items()}
        return {"model": told, "libraries": self._worker.requirements()}

    def score(self, rows: NDArray[Any], sources: Sequence[str], targets: Sequence[str]) -> NDArray[Any]:
        """float32 [pairs]."""
        del rows
        return self._worker.ask({"source": sources, "target": targets}).column("score").to_numpy()

    def __enter__(self) -> Self:
        self._worker.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._worker.__exit__(*error)


def _hparams(checkpoint: Path) -> Path:
    """Where COMET looks for what class a checkpoint is of."""
    return checkpoint.absolute().parent.parent / "hparams.yaml"


def _find_checkpoint(model: str) -> Path | None:
    """The checkpoint's file; None of a model that its library downloads."""
    path = Path(model)
    if path.is_dir():
        found = sorted(path.glob("checkpoints/*.ckpt"))
        if len(found) != 1:
            raise CatpruneError(
                f"{path} has {len(found)} files checkpoints/*.ckpt, a model of COMET's has one: give its folder, or "
                "the file"
            )
        path = found[0]
    elif not path.is_file():
        if path.suffix == ".ckpt" or path.is_absolute():
            raise CatpruneError(f"{path} does not exist: give a checkpoint's file, its folder, or a model's name")
        return None
    if not _hparams(path).is_file():
        raise CatpruneError(
            f"{path} is no model of COMET's: {_hparams(path)}, which says of what class it is, does not exist"
        )
    return path.absolute()
