"""Parts of the rows of the model benchmark: contenders in rounds, goals, and counts of tokens and operations."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as parquet
from catprune.model.batches import Pairs, pairs_of
from catprune.model.transformer import forward_flops
from catprune.tokens.blocks import Tokens
from rows import Entry
from scorers import SCORES

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from pathlib import Path

    from catprune.model.sizes import Size
    from model_data import Data
    from numpy.typing import NDArray

    Rounds = dict[str, list[dict[str, Any]]]


@dataclass
class Answer:
    """A goal and its result; `reached` is None if it could not be measured here."""

    work: str
    asked: str
    measured: str
    reached: bool | None


@dataclass
class Row:
    """The results of a row: every round of every contender, other numbers, and goals."""

    title: str
    rounds: Rounds = field(default_factory=dict)
    versus: str = ""
    answers: list[Answer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    def ratio(self, label: str, other: str) -> float | None:
        """Return the median over the rounds of the ratio of speeds; None if one was not measured."""
        both = zip(self.rounds.get(label, ()), self.rounds.get(other, ()), strict=False)
        ratios = [speed(first) / speed(second) for first, second in both]
        return statistics.median(ratios) if ratios else None

    def ask(self, work: str, target: str, value: float | None, least: float, form: str = "{:.2f}") -> None:
        """Add a goal of at least `least`."""
        measured = "not measured" if value is None else form.format(value)
        self.answers.append(Answer(work, target, measured, None if value is None else value >= least))

    def ask_most(self, work: str, target: str, value: float | None, most: float, form: str = "{:.2f}") -> None:
        """Add a goal of at most `most`."""
        measured = "not measured" if value is None else form.format(value)
        self.answers.append(Answer(work, target, measured, None if value is None else value <= most))

    def record(self) -> dict[str, Any]:
        """Return the row for the JSON file."""
        return asdict(self)


@dataclass
class Bench:
    """The context of rows: options, data, and a function that runs contenders in interleaved rounds."""

    options: Namespace
    data: Data
    run: Callable[..., Rounds]

    def entry(self, label: str, function: str, **job: Any) -> Entry:
        """Return a contender on one thread, unless `job` says otherwise."""
        return Entry(label, function, {"threads": 1, **job}, core=job.get("threads", 1) == 1)

    def scoring(self, label: str, tokens: Path, **job: Any) -> Entry:
        """Return catprune's scoring pass with the random model, in float32 unless `job` says otherwise."""
        checkpoint = job.pop("checkpoint", None) or self.data.checkpoint(self.options.preset)
        job = {"precision": "float32", "batch_tokens": self.options.batch_tokens, **job}
        function = job.pop("function", "scoring")
        return self.entry(label, function, tokens=str(tokens), checkpoint=str(checkpoint), **job)


def speed(result: dict[str, Any]) -> float:
    """Return target tokens per second."""
    return result.get("tokens_per_second") or result["tokens"] / result["seconds"]


def pairs_in(tokens: Path) -> list[Pairs]:
    """Return the pairs of every block."""
    opened = Tokens.open(tokens)
    return [pairs_of(opened.read(entry)) for entry in opened.blocks]


def flops_of(tokens: Path, size: Size, *, vocab_size: int | None = None) -> tuple[float, int]:
    """Return the operations of scoring all pairs without padding, and their target tokens.

    Without `vocab_size`, the model has the vocabulary of the tokens.
    """
    flops, target_tokens = 0.0, 0
    vocab_size = vocab_size or Tokens.open(tokens).tokenizer.vocab_size
    for pairs in pairs_in(tokens):
        source, target = pairs.source.lengths, pairs.target.lengths
        outputs = int(target.sum())
        flops += forward_flops(size, vocab_size=vocab_size, source=source, target=target, outputs=outputs)
        target_tokens += outputs
    return flops, target_tokens


def nll_of(folder: Path, *, per_token: bool) -> NDArray[np.float64]:
    """Return nats per pair, or per token of each pair, in row order."""
    table = parquet.read_table(folder / "columns", columns=["tokens", "nll_sum"]).drop_null()
    sums = table["nll_sum"].to_numpy().astype(np.float64)
    return sums / table["tokens"].to_numpy() if per_token else sums


def read_nll(out: Path) -> NDArray[np.float64] | None:
    """Return the nats per pair that a contender wrote, in row order."""
    if (out / "nll.npy").exists():
        return np.load(out / "nll.npy")
    return nll_of(out / SCORES, per_token=False) if (out / SCORES).exists() else None
