"""Results of an evaluation: subsets, scores, differences, decisions and costs, read from its folder, as tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from catprune.corpus.bitexts import TestSet
from catprune.evaluation.cost import Cost
from catprune.evaluation.curves import AXES
from catprune.evaluation.metrics import METRICS
from catprune.evaluation.significance import TEST
from catprune.workspace.files import read_json
from catprune.workspace.manifest import read_manifest, verify_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Decided", "Evaluated", "Interval", "Measured", "Reading", "Subset", "TestSet", "open_evaluation"]

ONE_SEED = "Each subset was trained with one seed: this cannot tell luck of training from an effect of the data."
#: Decimals of a metric.
DECIMALS = {"BLEU": 1, "chrF": 1, "nll": 3, "COMET": 4}


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds, or a difference of means.

    Attributes:
        value: the mean.
        deviation: standard deviation over seeds; None with one seed.
        freedom: degrees of freedom of the interval.
        low, high: limits of the 95% interval; None with one seed.
    """

    value: float
    deviation: float | None
    freedom: int
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one subset.

    Attributes:
        values: under each seed.
        mean: their mean.
        differences: baseline → mean of the subset minus that of the baseline, paired by seed.
    """

    values: tuple[float, ...]
    mean: Interval
    differences: Mapping[str, Interval] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Reading:
    """Dev scores of all subsets at an equal budget.

    Attributes:
        axis: what is equal: "step", "epoch", "target_tokens" or "flops" (warm-up and scoring counted).
        best: the best checkpoint within the budget; else the value at the budget, interpolated linearly between
            checkpoints.
        budget: the budget, a mean over seeds: the largest value that all subsets reach.
        tables: metric ("nll", "chrF") → subset → score; without subsets whose first checkpoint came later.
    """

    axis: str
    best: bool
    budget: float
    tables: Mapping[str, Mapping[str, Measured]] = field(hash=False, repr=False)

    @property
    def name(self) -> str:
        """The budget in words."""
        return f"best within equal {AXES[self.axis]}" if self.best else f"equal {AXES[self.axis]}"


@dataclass(frozen=True, slots=True)
class Decided:
    """A hypothesis and what was decided on it; see `summary.Hypothesis` and `significance.Decision`."""

    text: str
    subset: str
    baseline: str
    margin: float
    metric: str
    test: str | None
    difference: Interval
    p: float
    adjusted: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Subset:
    """A subset and its trainings; numbers are means over seeds.

    Attributes:
        pairs, target_tokens: what its models were trained on, each pair once, ends of sentences included.
        steps, epochs: how long its models were trained; `trained_tokens`: target tokens seen, repeats too.
        flops, seconds: what choosing and training cost; seconds are measured, and may be missing (None).
        scorers: those whose columns it was chosen by; `flops` lack what their models do, `seconds` do not.
        external: external checkpoints that it was chosen by; `flops` and `seconds` lack their training.
        full_steps: updates on all clean pairs before those on its own pairs; all numbers but the pairs and their
            tokens count them, too.
        tested: for each seed the updates of the checkpoint that was tested, or of those that were averaged.
        curves: for each seed the evaluated checkpoints: step, epoch, target_tokens, flops (warm-up and scoring
            counted), nll, and chrF where the dev set was translated.
    """

    name: str
    pairs: int
    target_tokens: int
    steps: int
    epochs: float
    trained_tokens: int
    flops: Cost = field(repr=False)
    seconds: Cost | None = field(repr=False)
    scorers: tuple[str, ...]
    external: tuple[str, ...]
    tested: tuple[tuple[int, ...], ...] = field(repr=False)
    curves: tuple[tuple[Mapping[str, Any], ...], ...] = field(hash=False, repr=False)
    full_steps: int = 0


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Results of `evaluate`.

    Attributes:
        folder: holds results.json, and for each subset and seed trials/<subset>/seed-<seed>/ with model/checkpoint/,
            translations/ and result.json.
        seeds: the training seeds.
        against: subset → its baselines.
        tests: test set → its lines.
        dev: lines of the dev set; None without one.
        scores: test set → metric → subset → score.
        readings: dev scores at equal budgets; empty without a dev set.
        hypotheses: what was decided.
        randomisation: with one seed: test set → subset → baseline → metric → p that the two models translate alike.
        signatures: metric → sacrebleu's signature.
        signature: version, model size, steps and beam.
        cautions: what to know before reading the scores.
        subsets: in the order given.
        is_new: whether this call evaluated; False if the evaluation was finished before.
    """

    folder: Path
    seeds: tuple[int, ...]
    against: Mapping[str, Sequence[str]] = field(hash=False, repr=False)
    tests: Mapping[str, int] = field(hash=False, repr=False)
    dev: int | None
    scores: Mapping[str, Mapping[str, Mapping[str, Measured]]] = field(hash=False, repr=False)
    readings: tuple[Reading, ...] = field(repr=False)
    hypotheses: tuple[Decided, ...]
    randomisation: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]] = field(hash=False, repr=False)
    signatures: Mapping[str, str] = field(hash=False, repr=False)
    signature: str = field(repr=False)
    cautions: tuple[str, ...]
    subsets: tuple[Subset, ...]
    is_new: bool = field(default=True, compare=False)

    def subset(self, name: str) -> Subset:
        """Return the subset of this name."""
        return next(subset for subset in self.subsets if subset.name == name)


def open_evaluation(folder: Path, *, is_new: bool = False) -> Evaluated:
    """Read the results of a finished evaluation.

    Raises:
        CatpruneError: the folder holds no finished evaluation.
    """
    manifest = read_manifest(folder, step="evaluate")
    verify_file(folder, manifest, "results.json")
    options, results = manifest["options"], read_json(folder / "results.json")
    times = folder / "log" / "seconds.json"
    seconds: dict[str, Any] = read_json(times) if times.is_file() else {}
    subsets = tuple(_subset(entry, seconds.get(entry["name"])) for entry in results["subsets"])
    scores = {
        test: {metric: _measured(table) for metric, table in metrics.items()}
        for test, metrics in results["scores"].items()
    }
    readings = tuple(
        Reading(
            entry["axis"],
            entry["best"],
            entry["budget"],
            {metric: _measured(table) for metric, table in entry["tables"].items()},
        )
        for entry in results["readings"]
    )
    decided = tuple(
        Decided(
            difference=Interval(**hypothesis["difference"]),
            **{key: hypothesis[key] for key in hypothesis if key != "difference"},
        )
        for hypothesis in results["hypotheses"]
    )
    return Evaluated(
        folder=folder,
        seeds=tuple(results["seeds"]),
        against={subset.name: results["against"].get(subset.name, []) for subset in subsets},
        tests={name: results["tests"][name] for name in results["test_order"]},
        dev=results["dev"],
        scores={name: scores[name] for name in results["test_order"]},
        readings=readings,
        hypotheses=decided,
        randomisation=results["randomisation"],
        signatures=results["signatures"],
        signature=f"catprune {manifest['catprune']}, preset {options['training']['preset']}, "
        f"{subsets[0].steps:,} updates, beam {options['beam']}, translated by CTranslate2",
        cautions=tuple(_cautions(results, subsets)),
        subsets=subsets,
        is_new=is_new,
    )


def _measured(table: Mapping[str, Any]) -> dict[str, Measured]:
    return {
        name: Measured(
            tuple(entry["values"]),
            Interval(**entry["mean"]),
            {baseline: Interval(**difference) for baseline, difference in entry["differences"].items()},
        )
        for name, entry in table.items()
    }


def _subset(entry: Mapping[str, Any], seconds: Mapping[str, float] | None) -> Subset:
    values: dict[str, Any] = {
        **entry,
        "flops": Cost(**entry["flops"]),
        "seconds": None if seconds is None else Cost(**seconds),
        "scorers": tuple(entry["scorers"]),
        "external": tuple(entry["external"]),
        "tested": tuple(tuple(steps) for steps in entry["tested"]),
        "curves": tuple(tuple(curve) for curve in entry["curves"]),
    }
    return Subset(**values)


def _cautions(results: Mapping[str, Any], subsets: Sequence[Subset]) -> list[str]:
    """Return what to know before reading the scores."""
    texts: list[str] = []
    if len(results["seeds"]) == 1:
        texts.append(ONE_SEED)
    if results["dev"] is None:
        texts.append("There is no dev set: the last checkpoint of each model was tested, chosen by nothing.")
    if results["contained"] is None:
        texts.append("The text of the corpus could not be read: whether it holds lines of the test sets is not known.")
    for name, count in (results["contained"] or {}).items():
        if count:
            lines = results["tests"].get(name, results["dev"])
            texts.append(
                f"{count:,} of the {lines:,} lines of {name} are in the clean pairs, on which models are trained: "
                "clean with exclude, which drops them."
            )
    full = next((subset for subset in subsets if subset.name == "full"), None)
    if full is not None and any(
        curve and min(curve, key=lambda point: point["nll"])["step"] == curve[-1]["step"] for curve in full.curves
    ):
        texts.append(
            "full still improved on the dev set at its last checkpoint: train for more updates, or the comparison "
            "favours subsets that are learned sooner."
        )
    return texts


def value_text(value: float, metric: str) -> str:
    """Format a score with the decimals of its metric."""
    return f"{value:.{DECIMALS[metric]}f}"


def score_text(mean: Interval, metric: str) -> str:
    """Format a mean and its standard deviation over seeds."""
    text = value_text(mean.value, metric)
    return text if mean.deviation is None else f"{text} ±{value_text(mean.deviation, metric)}"


def difference_text(difference: Interval, metric: str) -> str:
    """Format a difference with its 95% interval: "+0.3 [-0.5, +1.1]"."""
    decimals = DECIMALS[metric]
    text = f"{difference.value:+.{decimals}f}"
    if difference.low is None or difference.high is None:
        return text
    return f"{text} [{difference.low:+.{decimals}f}, {difference.high:+.{decimals}f}]"


def number_text(value: float) -> str:
    """Format a large number with three digits: "1.23M"."""
    for factor, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def p_text(p: float) -> str:
    """Format a p-value with three decimals."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def score_table(evaluated: Evaluated, test: str) -> list[list[str]]:
    """Return the cells of the scores on one test set: a header, then one row per subset."""
    metrics = evaluated.scores[test]
    rows = [["subset", "pairs", "target tokens", *metrics]]
    for subset in evaluated.subsets:
        scores = [score_text(table[subset.name].mean, metric) for metric, table in metrics.items()]
        rows.append([subset.name, f"{subset.pairs:,}", f"{subset.target_tokens:,}", *scores])
    return rows


def difference_table(evaluated: Evaluated, test: str) -> list[list[str]]:
    """Return the cells of the differences on one test set, one row per subset and baseline; with one seed also p."""
    p = evaluated.randomisation.get(test, {})
    rows = [["difference", *(name for metric in evaluated.scores[test] for name in _columns(metric, p))]]
    for name, baselines in evaluated.against.items():
        for baseline in baselines:
            row = [f"{name} - {baseline}"]
            for metric, table in evaluated.scores[test].items():
                row.append(difference_text(table[name].differences[baseline], metric))
                if p and metric in evaluated.signatures:
                    row.append(p_text(p[name][baseline][metric]))
            rows.append(row)
    return rows


def _columns(metric: str, p: Mapping[str, Any]) -> list[str]:
    return [metric, f"p {metric}"] if p and metric in METRICS else [metric]


def hypothesis_table(evaluated: Evaluated) -> list[list[str]]:
    """Return the cells of the hypotheses: a header, then one row each."""
    rows = [
        [
            hypothesis.text,
            difference_text(hypothesis.difference, hypothesis.metric),
            p_text(hypothesis.adjusted),
            hypothesis.outcome,
        ]
        for hypothesis in evaluated.hypotheses
    ]
    return [["hypothesis", "difference", "p, Holm", "decision"], *rows]


def reading_table(evaluated: Evaluated, metric: str) -> list[list[str]]:
    """Return the cells of the dev scores at equal budgets: a header, then one row per subset."""
    readings = [reading for reading in evaluated.readings if reading.tables[metric]]
    rows = [["subset", *(f"{reading.name} ({number_text(reading.budget)})" for reading in readings)]]
    for subset in evaluated.subsets:
        tables = [reading.tables[metric].get(subset.name) for reading in readings]
        rows.append(
            [subset.name, *("-" if estimate is None else score_text(estimate.mean, metric) for estimate in tables)]
        )
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
        lines += [f"{test} ({count:,} lines)", *align(score_table(evaluated, test)), ""]
        if any(evaluated.against.values()):
            lines += [*align(difference_table(evaluated, test)), ""]
    if evaluated.hypotheses:
        lines += ["hypotheses", *align(hypothesis_table(evaluated)), ""]
    for metric in ("nll", "chrF"):
        if any(reading.tables[metric] for reading in evaluated.readings):
            lines += [f"dev {metric}", *align(reading_table(evaluated, metric)), ""]
    lines += ["cost", *align(cost_table(evaluated)), "", *evaluated.cautions, *notes(evaluated)]
    return "\n".join(lines) + "\n"


def notes(evaluated: Evaluated) -> list[str]:
    """Return notes on the numbers: what was held fixed, and what intervals, p and cost mean."""
    several = len(evaluated.seeds) > 1
    return [
        f"Every model was trained for the same number of updates with seeds {', '.join(map(str, evaluated.seeds))}."
        if several
        else "Every model was trained for the same number of updates.",
        f"±: standard deviation over seeds. [ ]: 95% interval of the difference ({TEST})."
        if several
        else "p: approximate randomisation of the two models' translations, not corrected for the number of "
        "comparisons. p says whether these two models differ, and nothing of other models trained on the same data.",
        *(
            ["Decisions: two-sided p corrected by Holm's method over the hypotheses; everything else has no decision."]
            if evaluated.hypotheses
            else []
        ),
        *(
            [
                "Equal budgets are read from dev curves, interpolated linearly between checkpoints. "
                "-: the subset had no checkpoint within the budget."
            ]
            if evaluated.readings
            else []
        ),
        "nll: nats per target token, by forced decoding; lower is better.",
        "Cost: warm-up training up to the last scored checkpoint, scoring, and training on the subset.",
        *(
            f"{subset.name}: {subset.full_steps:,} updates of full, then {subset.steps - subset.full_steps:,} on the "
            "part, from full's weights and moments and with its schedule; full is the control. Epochs and cost count "
            "both. It is tested at a checkpoint on the part."
            for subset in evaluated.subsets
            if subset.full_steps
        ),
        *(
            f"{subset.name}: FLOPs do not include the models of {', '.join(subset.scorers)}; seconds do."
            for subset in evaluated.subsets
            if subset.scorers
        ),
        *(
            f"{subset.name}: the cost does not include the training of {', '.join(subset.external)}, which is unknown."
            for subset in evaluated.subsets
            if subset.external
        ),
        *evaluated.signatures.values(),
        evaluated.signature,
    ]


def summary(evaluated: Evaluated) -> list[str]:
    """The tables of an evaluation."""
    return [render(evaluated)]
