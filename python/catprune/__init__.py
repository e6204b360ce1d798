"""catprune: prune machine-translation bitext by what a model's own early training says about each pair.

Every step is a function of the name of its command. Nothing heavy is imported before a step is used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catprune.clean import Cleaned, clean
    from catprune.demo import Demonstrated, demo
    from catprune.errors import CatpruneError, MissingExtra, UsageError
    from catprune.evaluate import Evaluated, TestSet, evaluate
    from catprune.open_corpus import OpenCorpus, open_corpus
    from catprune.prune import prune
    from catprune.report import report
    from catprune.run import Ran, run
    from catprune.score import Scored, score
    from catprune.score_columns import score_columns
    from catprune.score_pairs import ScoredPairs, score_pairs
    from catprune.select import Selected, select
    from catprune.stats import Stats, stats
    from catprune.tokenize import Tokenized, tokenize
    from catprune.train import Trained, train
    from catprune.write import Written, write

    __version__: str

_HOMES = {
    "clean": ("Cleaned", "clean"),
    "demo": ("Demonstrated", "demo"),
    "errors": ("CatpruneError", "MissingExtra", "UsageError"),
    "evaluate": ("Evaluated", "TestSet", "evaluate"),
    "open_corpus": ("OpenCorpus", "open_corpus"),
    "prune": ("prune",),
    "report": ("report",),
    "run": ("Ran", "run"),
    "score": ("Scored", "score"),
    "score_columns": ("score_columns",),
    "score_pairs": ("ScoredPairs", "score_pairs"),
    "select": ("Selected", "select"),
    "stats": ("Stats", "stats"),
    "tokenize": ("Tokenized", "tokenize"),
    "train": ("Trained", "train"),
    "write": ("Written", "write"),
}

__all__ = [
    "CatpruneError",
    "Cleaned",
    "Demonstrated",
    "Evaluated",
    "MissingExtra",
    "OpenCorpus",
    "Ran",
    "Scored",
    "ScoredPairs",
    "Selected",
    "Stats",
    "TestSet",
    "Tokenized",
    "Trained",
    "UsageError",
    "Written",
    "__version__",
    "clean",
    "demo",
    "evaluate",
    "open_corpus",
    "prune",
    "report",
    "run",
    "score",
    "score_columns",
    "score_pairs",
    "select",
    "stats",
    "tokenize",
    "train",
    "write",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("catprune._core").__version__
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"catprune.{home}"), name)
    raise AttributeError(f"module 'catprune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Steps and their modules share names: `catprune.clean` stays the function also after its module was imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in _HOMES):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
