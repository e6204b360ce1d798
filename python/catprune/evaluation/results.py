"""What an evaluation found: subsets, their scores and costs, read from its folder, shown as tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from catprune.evaluation.cost import Cost
from catprune.workspace.files import read_json
from catprune.workspace.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class TestSet:
    """A held-out bitext: two line-aligned files, plain, gzip or zstd, and a name for the tables."""

    __test__: ClassVar[bool] = False  # its name is no invitation to pytest
    name: str
    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one subset on one test set.

    Attributes:
        score: the corpus score, 0 to 100.
        interval: half the width of the 95% bootstrap interval over sentences of the test set.
        p: of sacrebleu's paired bootstrap against each baseline (absent for the baseline itself): the share of
            resamples in which the absolute difference exceeds its mean over the resamples by more than the one found.
            It does not ask which is better, but counts deviations upwards only: where two systems differ clearly it is
            about half the p of a two-sided test.
    """

    score: float
    interval: float
    p: Mapping[str, float] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Subset:
    """A subset, the model trained on it, and its scores by test set and metric.

    Attributes:
        pairs, target_tokens: what its model was trained on, each pair once, ends of sentences included.
        steps, epochs: how long its model was trained; `trained_tokens`: target tokens seen, repeats too.
        flops, seconds: what choosing and training cost; seconds are measured, and may be missing (None).
        scorers: those whose columns it was chosen by; `flops` lack what their models do, `seconds` do not.
    """

    name: str
    pairs: int
    target_tokens: int
    steps: int
    epochs: float
    trained_tokens: int
    scores: Mapping[str, Mapping[str, Score]] = field(hash=False, repr=False)
    flops: Cost = field(repr=False)
    seconds: Cost | None = field(repr=False)
    scorers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What `evaluate` found.

    Attributes:
        folder: holds results.json, models/<subset>/ and translations/<subset>.<test>.txt.
        held_fixed: "updates" or "epochs": what every model had the same of.
        against: the baselines that p-values refer to.
        tests: test sets and their numbers of lines.
        signatures: sacrebleu's signature of each metric, bootstrap seed and resamples included.
        resamples: of the bootstrap.
        signature: version, model size, seed and beam.
        subsets: in the order given.
        is_new: whether this call evaluated; False if the evaluation was finished before.
    """

    folder: Path
    held_fixed: str
    against: tuple[str, ...]
    tests: Mapping[str, int] = field(hash=False, repr=False)
    signatures: Mapping[str, str] = field(hash=False, repr=False)
    resamples: int
    signature: str = field(repr=False)
    subsets: tuple[Subset, ...]
    is_new: bool = field(default=True, compare=False)


def open_evaluation(folder: Path, *, is_new: bool = False) -> Evaluated:
    """What `evaluate` found earlier in `folder`.

    Raises:
        CatpruneError: the folder holds no finished evaluation.
    """
    manifest = read_manifest(folder, step="evaluate")
    options = manifest["options"]
    results = read_json(folder / "results.json")
    times = folder / "log" / "seconds.json"
    seconds: dict[str, Any] = read_json(times) if times.is_file() else {}
    subsets = [_subset(entry, seconds.get(entry["name"])) for entry in results.pop("subsets")]
    return Evaluated(
        folder=folder,
        held_fixed=results["held_fixed"],
        against=tuple(results["against"]),
        tests={name: results["tests"][name] for name in results["test_order"]},
        signatures=results["signatures"],
        resamples=options["resamples"],
        signature=f"catprune {manifest['version']}, preset {options['preset']}, "
        f"training seed {options['seed']}, beam {options['beam']}, translated by CTranslate2",
        subsets=tuple(subsets),
        is_new=is_new,
    )


def _subset(entry: Mapping[str, Any], seconds: Mapping[str, float] | None) -> Subset:
    scores = {
        test: {metric: Score(**score) for metric, score in metrics.items()} for test, metrics in entry["scores"].items()
    }
    return Subset(
        name=entry["name"],
        pairs=entry["pairs"],
        target_tokens=entry["target_tokens"],
        steps=entry["steps"],
        epochs=entry["epochs"],
        trained_tokens=entry["trained_tokens"],
        scores=scores,
        flops=Cost(**entry["flops"]),
        seconds=None if seconds is None else Cost(**seconds),
        scorers=tuple(entry.get("scorers", ())),
    )


#: Below this p a difference is called one.
SIGNIFICANT = 0.05


def against(score: Score, other: Score | None, baseline: str) -> str:
    """How a score compares with a baseline's: better, worse, same; nothing where there is no test."""
    if other is None or baseline not in score.p:
        return ""
    if score.p[baseline] >= SIGNIFICANT:
        return "same"
    return "better" if score.score > other.score else "worse"


def p_text(p: float, resamples: int) -> str:
    """A p-value; the smallest that so many resamples can give is shown as a bound."""
    least = 1 / (resamples + 1)
    return f"<{max(least, 0.001):.3f}" if p < max(least * 1.5, 0.001) else f"{p:.3f}"


def number_text(value: float) -> str:
    """A large number in three digits: 1.23M."""
    for factor, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def _quality(found: Evaluated, test: str) -> list[list[str]]:
    """Cells of the table of one test set: header, then a row a subset."""
    rows = [["subset", "pairs", "target tokens"]]
    for metric in found.signatures:
        rows[0] += [metric, *(f"p ~{baseline}" for baseline in found.against)]
    for subset in found.subsets:
        row = [subset.name, f"{subset.pairs:,}", f"{subset.target_tokens:,}"]
        for metric in found.signatures:
            score = subset.scores[test][metric]
            row.append(f"{score.score:.1f} ±{score.interval:.1f}")
            row += [p_text(score.p[b], found.resamples) if b in score.p else "-" for b in found.against]
        rows.append(row)
    return rows


def cost_table(found: Evaluated) -> list[list[str]]:
    """Cells of the table of costs: header, then a row a subset."""
    rows = [["subset", "updates", "epochs", "warm-up", "scoring", "training", "FLOPs", "of full", "seconds"]]
    full = next((subset for subset in found.subsets if subset.name == "full"), None)
    for subset in found.subsets:
        flops = subset.flops
        rows.append(
            [
                subset.name,
                f"{subset.steps:,}",
                f"{subset.epochs:.3g}",
                *(number_text(part) for part in (flops.warmup, flops.scoring, flops.training, flops.total)),
                "-" if full is None else f"{100 * flops.total / full.flops.total:.0f}%",
                "-" if subset.seconds is None else f"{subset.seconds.total:,.0f}",
            ]
        )
    return rows


def align(rows: list[list[str]]) -> list[str]:
    """Lines of a table: the first row is its header, the first column its names."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    cells = [
        [cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(pairs)]
        for pairs in (zip(row, widths, strict=True) for row in rows)
    ]
    lines = ["  ".join(row).rstrip() for row in cells]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def render(found: Evaluated) -> str:
    """The results as plain tables, and below them what the numbers mean and how they were made."""
    lines: list[str] = []
    for test, count in found.tests.items():
        lines += [f"{test} ({count:,} lines)", *align(_quality(found, test)), ""]
    lines += ["cost", *align(cost_table(found)), "", *notes(found)]
    return "\n".join(lines) + "\n"


def notes(found: Evaluated) -> list[str]:
    """What a reader must know to trust the numbers: what was held fixed, what p and cost mean."""
    fixed = {
        "updates": "Updates are held fixed: every model was trained for the same number of updates, so "
        "pruning saves nothing in training, and the question is quality.",
        "epochs": "Epochs are held fixed: every model made the same number of passes over its own subset, "
        "so a smaller one had fewer updates and cost less.",
    }
    return [
        fixed[found.held_fixed],
        "±: half a 95% bootstrap interval over the lines of the test set. p: paired bootstrap as sacrebleu "
        f"computes it (about half the p of a two-sided test), {found.resamples:,} resamples, not corrected for the "
        "number of comparisons. One training seed a subset: p says nothing of the luck of training.",
        "Cost: warm-up training up to the last scored checkpoint, scoring, and training on the subset.",
        *(
            f"FLOPs of {subset.name} lack those of the models of {', '.join(subset.scorers)}; its seconds do not."
            for subset in found.subsets
            if subset.scorers
        ),
        *found.signatures.values(),
        found.signature,
    ]


def summary(evaluated: Evaluated) -> list[str]:
    """The tables of an evaluation."""
    return [render(evaluated)]
