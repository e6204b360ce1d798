"""Results of an evaluation: the scores and costs of subsets, read from its folder and shown as tables."""

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

    __test__: ClassVar[bool] = False  # keeps pytest from collecting the class
    name: str
    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one subset on one test set.

    Attributes:
        score: the corpus score, 0 to 100.
        interval: half the width of the 95% bootstrap interval over sentences of the test set.
        p: p-value of sacrebleu's paired bootstrap against each baseline (absent for the baseline itself). It is the
            share of resamples whose absolute difference exceeds its mean over all resamples by more than the observed
            difference. Only deviations upwards count: if two systems differ clearly, p is about half the p-value of a
            two-sided test.
    """

    score: float
    interval: float
    p: Mapping[str, float] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Subset:
    """A subset, the model trained on it, and its scores by test set and metric.

    Attributes:
        pairs, target_tokens: size of the subset; target tokens include one end-of-sentence token per pair.
        steps, epochs: length of the model's training.
        trained_tokens: target tokens seen in training, with repetitions.
        flops, seconds: cost of selection and training; seconds are measured, None if a log is missing.
        scorers: scorers whose columns the selection used; `seconds` include their models, `flops` do not.
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
    """Results of `evaluate`.

    Attributes:
        folder: holds results.json, models/<subset>/ and translations/<subset>.<test>.txt.
        held_fixed: "updates" or "epochs": the amount of training that all models have in common.
        against: the baselines that p-values refer to.
        tests: test sets and their numbers of lines.
        signatures: sacrebleu's signature of each metric, bootstrap seed and resamples included.
        resamples: number of bootstrap resamples.
        signature: version, model size, seed and beam.
        subsets: in the order given.
    """

    folder: Path
    held_fixed: str
    against: tuple[str, ...]
    tests: Mapping[str, int] = field(hash=False, repr=False)
    signatures: Mapping[str, str] = field(hash=False, repr=False)
    resamples: int
    signature: str = field(repr=False)
    subsets: tuple[Subset, ...]


def open_evaluation(folder: Path) -> Evaluated:
    """Read the results of a finished evaluation.

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


#: A difference with a smaller p-value is called significant.
SIGNIFICANT = 0.05


def against(score: Score, other: Score | None, baseline: str) -> str:
    """Compare a score with a baseline's: "better", "worse" or "same"; "" without a test."""
    if other is None or baseline not in score.p:
        return ""
    if score.p[baseline] >= SIGNIFICANT:
        return "same"
    return "better" if score.score > other.score else "worse"


def p_text(p: float, resamples: int) -> str:
    """Format a p-value; the smallest possible with this number of resamples is shown as a bound."""
    least = 1 / (resamples + 1)
    return f"<{max(least, 0.001):.3f}" if p < max(least * 1.5, 0.001) else f"{p:.3f}"


def number_text(value: float) -> str:
    """Format a large number with three digits: "1.23M"."""
    for factor, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def _quality(evaluated: Evaluated, test: str) -> list[list[str]]:
    """Return the cells of one test set's table: a header, then one row per subset."""
    rows = [["subset", "pairs", "target tokens"]]
    for metric in evaluated.signatures:
        rows[0] += [metric, *(f"p ~{baseline}" for baseline in evaluated.against)]
    for subset in evaluated.subsets:
        row = [subset.name, f"{subset.pairs:,}", f"{subset.target_tokens:,}"]
        for metric in evaluated.signatures:
            score = subset.scores[test][metric]
            row.append(f"{score.score:.1f} ±{score.interval:.1f}")
            row += [p_text(score.p[b], evaluated.resamples) if b in score.p else "-" for b in evaluated.against]
        rows.append(row)
    return rows


def cost_table(evaluated: Evaluated) -> list[list[str]]:
    """Return the cells of the cost table: a header, then one row per subset."""
    rows = [["subset", "updates", "epochs", "warm-up", "scoring", "training", "FLOPs", "of full", "seconds"]]
    full = next((subset for subset in evaluated.subsets if subset.name == "full"), None)
    for subset in evaluated.subsets:
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
    """Return the lines of a table; the first row is the header, the first column holds names."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    cells = [
        [cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(pairs)]
        for pairs in (zip(row, widths, strict=True) for row in rows)
    ]
    lines = ["  ".join(row).rstrip() for row in cells]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def render(evaluated: Evaluated) -> str:
    """Return the results as plain tables, followed by notes on the numbers."""
    lines: list[str] = []
    for test, count in evaluated.tests.items():
        lines += [f"{test} ({count:,} lines)", *align(_quality(evaluated, test)), ""]
    lines += ["cost", *align(cost_table(evaluated)), "", *notes(evaluated)]
    return "\n".join(lines) + "\n"


def notes(evaluated: Evaluated) -> list[str]:
    """Return notes on the numbers: what was held fixed, and what p and cost mean."""
    fixed = {
        "updates": "Updates are held fixed: every model was trained for the same number of updates. Pruning then "
        "saves no training cost; compare quality.",
        "epochs": "Epochs are held fixed: every model made the same number of passes over its own subset. Smaller "
        "subsets had fewer updates and cost less.",
    }
    return [
        fixed[evaluated.held_fixed],
        "±: half the width of the 95% bootstrap interval over the lines of the test set. p: sacrebleu's paired "
        f"bootstrap (about half the p-value of a two-sided test), {evaluated.resamples:,} resamples, not corrected "
        "for multiple comparisons. Each subset has one training seed: p does not cover the variance between "
        "training runs.",
        "Cost: warm-up training up to the last scored checkpoint, scoring, and training on the subset.",
        *(
            f"{subset.name}: FLOPs do not include the models of {', '.join(subset.scorers)}; seconds do."
            for subset in evaluated.subsets
            if subset.scorers
        ),
        *evaluated.signatures.values(),
        evaluated.signature,
    ]


def summary(evaluated: Evaluated) -> list[str]:
    """The tables of an evaluation."""
    return [render(evaluated)]
