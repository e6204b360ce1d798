"""From the results of all trials to one summary: means, differences, equal budgets and decisions on hypotheses."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from catprune.evaluation.curves import AXES, LOWER, best_within, common_budget, read_at
from catprune.evaluation.metrics import METRICS
from catprune.evaluation.significance import Estimate, Seeds, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    #: Subset → the content of result.json under each seed, in the order of the seeds.
    Results = Mapping[str, Sequence[Mapping[str, Any]]]
    #: Subset → the subsets that it is compared with.
    Baselines = Mapping[str, Sequence[str]]

#: The margin of "not worse" in chrF, unless another is given.
MARGIN = 1.0
#: All metrics of a test set; COMET if a model is given.
TEST_METRICS = (*METRICS, "nll", "COMET")


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A question that is asked before the results are known.

    Attributes:
        subset: the subset that it is about.
        baseline: the subset that it is compared with.
        margin: it may be worse by less than this, in the metric's unit; 0 asks whether it is better.
        metric: "chrF", "BLEU", "nll" or "COMET".
        test: name of the test set; None: the mean over all test sets.
    """

    subset: str
    baseline: str
    margin: float = 0.0
    metric: str = "chrF"
    test: str | None = None

    @property
    def text(self) -> str:
        """The hypothesis in words."""
        where = self.test or "the mean of all test sets"
        relation = "is better than" if not self.margin else f"is not worse by {self.margin:g} {self.metric} than"
        return f"{self.subset} {relation} {self.baseline} ({self.metric}, {where})"


def summarise(results: Results, *, tests: Sequence[str], against: Baselines, hypotheses: Sequence[Hypothesis]) -> Any:
    """Return the part of results.json that follows from the trials.

    Args:
        results: of all trials.
        tests: names of the test sets.
        against: the baselines of each subset.
        hypotheses: what is decided.
    """

    def of_test(test: str, metric: str) -> dict[str, list[float]]:
        return {name: [trial["tests"][test][metric] for trial in trials] for name, trials in results.items()}

    measured = next(iter(results.values()))[0]["tests"]
    scores = {test: {metric: _table(of_test(test, metric), against) for metric in measured[test]} for test in tests}
    return {
        "scores": scores,
        "readings": _readings(results, against),
        "hypotheses": _decided(hypotheses, tests, of_test),
        "subsets": [_describe(name, trials) for name, trials in results.items()],
    }


def _describe(name: str, trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a subset's trials have been trained on: means over seeds."""

    def mean(group: str, key: str) -> float:
        return float(np.mean([trial[group][key] for trial in trials]))

    return {
        "name": name,
        "pairs": round(mean("counts", "pairs")),
        "target_tokens": round(mean("counts", "target_tokens")),
        "steps": trials[0]["end"]["step"],
        "epochs": mean("end", "epoch"),
        "trained_tokens": round(mean("end", "target_tokens")),
        "flops": {part: mean("flops", part) for part in ("warmup", "scoring", "training")},
        "scorers": trials[0]["scorers"],
        "external": trials[0]["external"],
        "full_steps": trials[0]["full_steps"],
        "tested": [trial["tested"] for trial in trials],
        "curves": [trial["curve"] for trial in trials],
    }


def _table(values: Mapping[str, Sequence[float]], against: Baselines) -> dict[str, Any]:
    """Return the values of each subset, their mean, and the differences from its baselines."""
    seeds = Seeds(dict(values))
    return {
        name: {
            "values": list(values[name]),
            "mean": _plain(seeds.mean(name)),
            "differences": {
                baseline: _plain(seeds.difference(name, baseline))
                for baseline in against.get(name, ())
                if baseline in values
            },
        }
        for name in values
    }


def _plain(estimate: Estimate) -> dict[str, Any]:
    low, high = estimate.interval or (None, None)
    return {
        "value": estimate.value,
        "deviation": estimate.deviation,
        "freedom": estimate.freedom,
        "low": low,
        "high": high,
    }


def _readings(results: Results, against: Baselines) -> list[dict[str, Any]]:
    """Return dev scores at equal budgets; under each seed the budget is the largest that all subsets reach."""
    if not all(trial["curve"] for trials in results.values() for trial in trials):
        return []
    readings = [_reading(results, against, axis, read_at) for axis in AXES]
    readings.append(_reading(results, against, "flops", best_within))
    return readings


def _reading(
    results: Results, against: Baselines, axis: str, read: Callable[[Any, str, float, str], float | None]
) -> dict[str, Any]:
    seeds = range(len(next(iter(results.values()))))
    budgets = [common_budget([trials[seed]["curve"] for trials in results.values()], axis) for seed in seeds]
    tables: dict[str, Any] = {}
    for metric in ("nll", "chrF"):
        read_off = {
            name: [read(trial["curve"], axis, budget, metric) for trial, budget in zip(trials, budgets, strict=True)]
            for name, trials in results.items()
        }
        # A subset whose first checkpoint with this metric came later has no value.
        values = {name: [v for v in row if v is not None] for name, row in read_off.items() if None not in row}
        tables[metric] = _table(values, against) if values else {}
    return {"axis": axis, "best": read is best_within, "budget": float(np.mean(budgets)), "tables": tables}


def _decided(
    hypotheses: Sequence[Hypothesis],
    tests: Sequence[str],
    of_test: Callable[[str, str], dict[str, list[float]]],
) -> list[dict[str, Any]]:
    """Return each hypothesis with its difference and decision."""
    differences: list[Estimate] = []
    gains: list[tuple[Estimate, float]] = []
    for hypothesis in hypotheses:
        compared = [hypothesis.test] if hypothesis.test else tests
        rows = [of_test(test, hypothesis.metric) for test in compared]
        sign = -1 if hypothesis.metric in LOWER else 1
        values = {name: np.mean([row[name] for row in rows], axis=0) for name in rows[0]}
        gain = Seeds({name: (sign * row).tolist() for name, row in values.items()})
        gains.append((gain.difference(hypothesis.subset, hypothesis.baseline), hypothesis.margin))
        seeds = Seeds({name: row.tolist() for name, row in values.items()})
        differences.append(seeds.difference(hypothesis.subset, hypothesis.baseline))
    return [
        {**asdict(hypothesis), "text": hypothesis.text, "difference": _plain(difference), **asdict(decision)}
        for hypothesis, difference, decision in zip(hypotheses, differences, decide(gains), strict=True)
    ]
