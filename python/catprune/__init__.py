"""catprune: prune machine-translation bitext by how the loss of a model changes on each pair in early training.

Every step is a function with the name of its command; `catprune.dynamic` is for your own training loop, and
`catprune.hugging_face` for trainers of transformers. Large packages are imported when a step needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catprune.checkpoints.native import average_checkpoints
    from catprune.cleaning.clean import Cleaned, clean
    from catprune.cleaning.stats import Stats, stats
    from catprune.corpus.open_corpus import OpenCorpus, open_corpus
    from catprune.demonstration.demo import Demonstrated, demo
    from catprune.errors import CatpruneError, MissingExtra, UsageError
    from catprune.evaluation.evaluate import Evaluated, Hypothesis, TestSet, evaluate
    from catprune.pipeline.prune import prune
    from catprune.pipeline.run import Ran, run
    from catprune.reporting.explore import explore
    from catprune.reporting.report import report
    from catprune.scoring.column_shards import ScoredPairs
    from catprune.scoring.score import Scored, score
    from catprune.scoring.score_columns import score_columns
    from catprune.scoring.score_pairs import score_pairs
    from catprune.selection.select import Selected, select
    from catprune.tokens.tokenize import Tokenized, tokenize
    from catprune.training.train import Trained, train
    from catprune.writing.write import Written, write

    __version__: str

#: Public name -> the module that defines it.
_MODULES = {
    "CatpruneError": "errors",
    "Cleaned": "cleaning.clean",
    "Demonstrated": "demonstration.demo",
    "Evaluated": "evaluation.evaluate",
    "Hypothesis": "evaluation.evaluate",
    "MissingExtra": "errors",
    "OpenCorpus": "corpus.open_corpus",
    "Ran": "pipeline.run",
    "Scored": "scoring.score",
    "ScoredPairs": "scoring.column_shards",
    "Selected": "selection.select",
    "Stats": "cleaning.stats",
    "TestSet": "evaluation.evaluate",
    "Tokenized": "tokens.tokenize",
    "Trained": "training.train",
    "UsageError": "errors",
    "Written": "writing.write",
    "__version__": "_core",
    "average_checkpoints": "checkpoints.native",
    "clean": "cleaning.clean",
    "demo": "demonstration.demo",
    "evaluate": "evaluation.evaluate",
    "explore": "reporting.explore",
    "open_corpus": "corpus.open_corpus",
    "prune": "pipeline.prune",
    "report": "reporting.report",
    "run": "pipeline.run",
    "score": "scoring.score",
    "score_columns": "scoring.score_columns",
    "score_pairs": "scoring.score_pairs",
    "select": "selection.select",
    "stats": "cleaning.stats",
    "tokenize": "tokens.tokenize",
    "train": "training.train",
    "write": "writing.write",
}

__all__ = [
    "CatpruneError",
    "Cleaned",
    "Demonstrated",
    "Evaluated",
    "Hypothesis",
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
    "average_checkpoints",
    "clean",
    "demo",
    "evaluate",
    "explore",
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
    if name in ("dynamic", "hugging_face"):
        return import_module(f"catprune.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'catprune' has no attribute {name!r}")
    return getattr(import_module(f"catprune.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
