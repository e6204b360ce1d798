"""The quality section: decisions on hypotheses, scores and differences of the evaluated subsets, and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catprune.evaluation.curves import LOWER
from catprune.evaluation.results import (
    cost_table,
    difference_text,
    notes,
    open_evaluation,
    p_text,
    reading_table,
    score_table,
)
from catprune.reporting.charts import Chart, make_axis, make_band, make_line
from catprune.reporting.corpus import colour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catprune.evaluation.results import Evaluated, Interval, Subset
    from catprune.reporting.run_columns import Steps

# A model below this BLEU does not translate yet: a difference between two such models says nothing about the data.
LEAST_BLEU = 5
_KINDS = {"better": "better", "as good": "better", "worse": "worse"}
_EMPTY: dict[str, Any] = {"decision": None, "tests": [], "quality_notes": [], "costs": [], "cost_bars": []}


def quality(steps: Steps) -> dict[str, Any]:
    """Return the decisions, the tables and plots of each test set, dev curves, costs and notes; empty if unknown."""
    if steps.evaluate is None:
        return {**_EMPTY, "curves": [], "readings": []}
    evaluated = open_evaluation(steps.evaluate.folder)
    return {
        "decision": _decision(evaluated, cautions(steps, evaluated)),
        "tests": [_test(evaluated, test, lines) for test, lines in evaluated.tests.items()],
        "curves": [chart for metric in ("nll", "chrF") if (chart := _curves(evaluated, metric)) is not None],
        "readings": _readings(evaluated),
        "quality_notes": notes(evaluated),
        "costs": cost_table(evaluated),
        "cost_bars": _cost_bars(evaluated),
    }


def cautions(steps: Steps, evaluated: Evaluated) -> list[str]:
    """Return what to know before reading the scores."""
    weak = [test for test in evaluated.tests if best_bleu(evaluated, test) < LEAST_BLEU]
    texts = [appended_since(steps), _weak_text(evaluated, weak) if weak else None, *evaluated.cautions]
    return [text for text in texts if text]


def _weak_text(evaluated: Evaluated, weak: Sequence[str]) -> str:
    best = max(best_bleu(evaluated, test) for test in weak)
    return (
        f"No model reaches {LEAST_BLEU} BLEU on {', '.join(weak)} (best: {best:.1f}). The models were trained too "
        "briefly to compare the data by them."
    )


def best_bleu(evaluated: Evaluated, test: str) -> float:
    """Return the best mean BLEU of any subset on a test set."""
    return max((entry.mean.value for entry in evaluated.scores[test]["BLEU"].values()), default=0.0)


def _is_coloured(evaluated: Evaluated) -> bool:
    """Return whether decisions mean something: several seeds, and models that translate."""
    return len(evaluated.seeds) > 1 and all(best_bleu(evaluated, test) >= LEAST_BLEU for test in evaluated.tests)


def appended_since(steps: Steps) -> str | None:
    """Return a caution if rows were appended to the corpus after the models were trained."""
    from catprune.corpus.appended import was_appended_to

    if steps.evaluate is None or steps.tokens is None:
        return None
    if not was_appended_to(steps.tokens.folder, steps.evaluate.manifest["reads"]["tokens"]["manifest"]):
        return None
    return (
        "These models were trained before rows were appended to the corpus, on what was selected then. The rest of "
        "this page shows the corpus as it is now. To train models on it, move the folder evaluate away and run again."
    )


def _cell(text: str, kind: str = "") -> dict[str, str]:
    return {"text": text, "kind": kind}


def _decision(evaluated: Evaluated, caution: list[str]) -> dict[str, Any]:
    """Return the table of the hypotheses."""
    coloured = _is_coloured(evaluated)
    rows = [
        [
            _cell(hypothesis.text),
            _cell(difference_text(hypothesis.difference, hypothesis.metric)),
            _cell(p_text(hypothesis.adjusted)),
            _cell(hypothesis.outcome, _KINDS.get(hypothesis.outcome, "same") if coloured else ""),
        ]
        for hypothesis in evaluated.hypotheses
    ]
    count = len(evaluated.seeds)
    return {
        "head": ["hypothesis", "difference", "p, corrected", "decision"],
        "rows": rows,
        "cautions": caution,
        "note": f"{count} training seed{'s' if count > 1 else ''} per subset, all with the same number of updates. "
        + (
            "Only the hypotheses that were named in the run file are decided."
            if rows
            else "No hypothesis was named in the run file, so nothing is decided."
        ),
    }


def _test(evaluated: Evaluated, test: str, lines: int) -> dict[str, Any]:
    """Return the table of one test set, and a forest plot of each metric."""
    plots = [_forest(evaluated, test, metric) for metric in evaluated.scores[test]]
    return {
        "name": test,
        "lines": f"{lines:,}",
        "scores": score_table(evaluated, test),
        "plots": [plot for plot in plots if plot is not None],
    }


def _forest(evaluated: Evaluated, test: str, metric: str) -> dict[str, Any] | None:
    """Return the differences in one metric with their intervals on a common axis; None without baselines."""
    table = evaluated.scores[test][metric]
    compared = [(name, baseline) for name, baselines in evaluated.against.items() for baseline in baselines]
    differences = [table[name].differences[baseline] for name, baseline in compared]
    if not differences:
        return None
    sign = -1 if metric in LOWER else 1
    margins = {
        (hypothesis.subset, hypothesis.baseline): -sign * hypothesis.margin
        for hypothesis in evaluated.hypotheses
        if hypothesis.metric == metric and hypothesis.margin and hypothesis.test in (None, test)
    }
    ends = [end for difference in differences for end in _ends(difference)]
    low, high = min(0.0, *ends, *margins.values()), max(0.0, *ends, *margins.values())
    rows: list[dict[str, Any]] = []
    for (name, baseline), difference in zip(compared, differences, strict=True):
        start, end = _ends(difference)
        margin = margins.get((name, baseline))
        rows.append(
            {
                "name": f"{name} – {baseline}",
                "score": difference_text(difference, metric),
                "from": _place(start, low, high),
                "to": _place(end, low, high),
                "at": _place(difference.value, low, high),
                "margin": None if margin is None else _place(margin, low, high),
                "p": _randomised(evaluated, test, name, baseline, metric),
            }
        )
    return {
        "metric": f"{metric}, lower is better" if metric in LOWER else metric,
        "low": f"{low:+.2f}",
        "high": f"{high:+.2f}",
        "base": _place(0.0, low, high),
        "has_p": any(row["p"] for row in rows),
        "rows": rows,
    }


def _randomised(evaluated: Evaluated, test: str, name: str, baseline: str, metric: str) -> str:
    p = evaluated.randomisation.get(test, {}).get(name, {}).get(baseline, {}).get(metric)
    return "" if p is None else p_text(p)


def _ends(interval: Interval) -> tuple[float, float]:
    """Return the ends of an interval; with one seed the value itself."""
    return (
        (interval.value, interval.value)
        if interval.low is None or interval.high is None
        else (interval.low, interval.high)
    )


def _place(value: float, low: float, high: float) -> float:
    """Return the place of a value in percent of an axis."""
    return round(100 * (value - low) / (high - low), 2) if high > low else 50.0


def _readings(evaluated: Evaluated) -> list[dict[str, Any]]:
    """Return the tables of dev scores at equal budgets."""
    shown = [metric for metric in ("nll", "chrF") if any(reading.tables[metric] for reading in evaluated.readings)]
    return [{"metric": metric, "rows": reading_table(evaluated, metric)} for metric in shown]


def _curves(evaluated: Evaluated, metric: str) -> Chart | None:
    """Return the dev curves of all subsets against total FLOPs: means, and a band between seeds."""
    drawn = [(subset, points) for subset in evaluated.subsets if (points := _points(subset, metric))]
    if not drawn:
        return None
    every = [point for _, points in drawn for point in points]
    x = make_axis("total FLOPs in 10¹², warm-up and scoring counted", 0, max(point[0] for point in every))
    name = "nll per token of the dev set" if metric in LOWER else f"{metric} of the dev set"
    y = make_axis(name, min(point[1] for point in every), max(point[3] for point in every))
    lines = [
        make_line(subset.name, colour(place), x, y, [(at, mean) for at, _, mean, _ in points])
        for place, (subset, points) in enumerate(drawn)
    ]
    bands = [
        make_band(subset.name, colour(place), x, y, [(at, low, high) for at, low, _, high in points])
        for place, (subset, points) in enumerate(drawn)
        if len(evaluated.seeds) > 1
    ]
    return Chart(f"{name} against total FLOPs, for each subset", x, y, tuple(lines), bands=tuple(bands))


def _points(subset: Subset, metric: str) -> list[tuple[float, float, float, float]]:
    """Return FLOPs in 10¹², and the lowest, mean and highest value over seeds, at each evaluated number of updates."""
    points: list[tuple[float, float, float, float]] = []
    for under_seeds in zip(*subset.curves, strict=False):
        values = [float(point[metric]) for point in under_seeds if metric in point]
        if values:
            flops = sum(float(point["flops"]) for point in under_seeds) / len(under_seeds)
            points.append((flops / 1e12, min(values), sum(values) / len(values), max(values)))
    return points


def _cost_bars(evaluated: Evaluated) -> list[dict[str, Any]]:
    """Return each subset's FLOPs of warm-up, scoring and training, in percent of the most expensive subset."""
    most = max((subset.flops.total for subset in evaluated.subsets), default=0.0) or 1.0
    parts = (("warmup", "warm-up"), ("scoring", "scoring"), ("training", "training"))
    return [
        {
            "name": subset.name,
            "parts": [
                {"style": part, "name": name, "width": f"{100 * getattr(subset.flops, part) / most:.2f}"}
                for part, name in parts
            ],
        }
        for subset in evaluated.subsets
    ]
