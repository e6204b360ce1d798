"""COMET models: the scorer comet-qe estimates quality without references, the metric COMET reads them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from catprune._core import digest_file
from catprune.errors import CatpruneError
from catprune.scoring.scorers import Scorer
from catprune.scoring.scorers.environment import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Rei et al. 2020, arXiv 2010.15535. Its download needs no accepted licence.
WMT20 = "Unbabel/wmt20-comet-qe-da"


class Comet(Scorer):
    """A COMET model: a name, a checkpoint file, or a folder with `checkpoints/….ckpt`.

    Raises:
        CatpruneError: the file or folder is not a COMET model.
    """

    name = "comet-qe"

    def __init__(
        self, model: str | Path | None, *, threads: int | None, local: int | None, install: bool = False
    ) -> None:
        self.model = str(model or WMT20)
        self._checkpoint = _find_checkpoint(self.model)
        self._worker = Worker(
            "comet-qe", str(self._checkpoint or self.model), threads=threads, local=local, install=install
        )

    def describe(self) -> dict[str, Any]:
        """Return digests or name of the model, and the requirements of its environment."""
        return {"model": _describe(self.model, self._checkpoint), "libraries": self._worker.requirements()}

    def score(self, rows: NDArray[Any], sources: Sequence[str], targets: Sequence[str]) -> NDArray[Any]:
        """Return the estimates, float32 [pairs]."""
        del rows
        return self._worker.ask({"source": sources, "target": targets}).column("score").to_numpy()

    def __enter__(self) -> Self:
        self._worker.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._worker.__exit__(*error)


class CometMetric:
    """The metric COMET: a model that reads references. The library starts at the first measurement.

    Args:
        model: a name, a checkpoint file, or a folder with `checkpoints/….ckpt`.
        threads: processor threads; None: chosen by torch.

    Raises:
        CatpruneError: the file or folder is not a COMET model, or uv is missing.
    """

    def __init__(self, model: str | Path, *, threads: int | None) -> None:
        checkpoint = _find_checkpoint(str(model))
        self.described = _describe(str(model), checkpoint)
        self._worker = Worker(
            "comet-qe", str(checkpoint or model), arguments=("references",), threads=threads, local=None
        )
        self._stack = ExitStack()
        self._is_started = False

    def check(self) -> None:
        """Check that the environment is there, before anything is trained.

        Raises:
            CatpruneError: it is not.
        """
        self._worker.python()

    def measure(self, sources: Sequence[str], translations: Sequence[str], references: Sequence[str]) -> float:
        """Return the mean score of translations.

        Raises:
            CatpruneError: the model cannot be loaded, or does not read references.
        """
        if not self._is_started:
            self._stack.enter_context(self._worker)
            self._is_started = True
        columns = {"source": sources, "target": translations, "reference": references}
        scores: NDArray[Any] = self._worker.ask(columns).column("score").to_numpy()
        return float(scores.mean(dtype="float64"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def _describe(model: str, checkpoint: Path | None) -> dict[str, str]:
    """Return the digests of a model's files, or the name of a model that the library downloads."""
    if checkpoint is None:
        return {"name": model}
    return {"checkpoint": digest_file(str(checkpoint)), "hparams": digest_file(str(_hparams(checkpoint)))}


def _hparams(checkpoint: Path) -> Path:
    """Return the file in which COMET looks up the class of a checkpoint."""
    return checkpoint.absolute().parent.parent / "hparams.yaml"


def _find_checkpoint(model: str) -> Path | None:
    """Return the checkpoint file; None for a model that the library downloads."""
    path = Path(model)
    if path.is_dir():
        files = sorted(path.glob("checkpoints/*.ckpt"))
        if len(files) != 1:
            raise CatpruneError(
                f"{path} has {len(files)} files checkpoints/*.ckpt, a COMET model has one: give another folder, or the "
                "file"
            )
        path = files[0]
    elif not path.is_file():
        if path.suffix == ".ckpt" or path.is_absolute():
            raise CatpruneError(f"{path} does not exist: give a checkpoint file, its folder, or the name of a model")
        return None
    if not _hparams(path).is_file():
        raise CatpruneError(
            f"{path} is not a COMET model: {_hparams(path)}, which names the model's class, does not exist"
        )
    return path.absolute()
