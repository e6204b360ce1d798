"""The quality section: scores of the evaluated subsets, comparisons with the baselines, and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catprune.evaluation.results import SIGNIFICANT, against, cost_table, notes, open_evaluation, p_text
from catprune.reporting.wording import difference, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catprune.evaluation.results import Evaluated, Score, Subset
    from catprune.reporting.run_columns import Steps

# A model below this BLEU does not translate yet: a difference between two such models says nothing about the data.
LEAST_BLEU = 5
ONE_SEED = "Each subset was trained once, with one seed: this report cannot tell luck of training from an effect."
_COUNTED = (("better", "better"), ("worse", "worse"), ("same", "no significant difference"))


def quality(steps: Steps) -> dict[str, Any]:
    """Return the decision table, the tables of each test set, the costs and the notes; empty if nothing is known."""
    if steps.evaluate is None:
        return {"decision": None, "tests": [], "quality_notes": [], "costs": [], "cost_bars": []}
    evaluated = open_evaluation(steps.evaluate.folder)
    return {
        "decision": _decision(evaluated, cautions(steps, evaluated)),
        "tests": [_test(evaluated, test, lines) for test, lines in evaluated.tests.items()],
        "quality_notes": notes(evaluated),
        "costs": cost_table(evaluated),
        "cost_bars": _cost_bars(evaluated),
    }


def cautions(steps: Steps, evaluated: Evaluated) -> list[str]:
    """Return what to know before reading the scores."""
    weak = [test for test in evaluated.tests if not is_readable(evaluated, test)]
    texts = [appended_since(steps), _weak_text(evaluated, weak) if weak else None, ONE_SEED]
    return [text for text in texts if text]


def _weak_text(evaluated: Evaluated, weak: Sequence[str]) -> str:
    best = max(best_bleu(evaluated, test) for test in weak)
    return (
        f"No model reaches {LEAST_BLEU} BLEU on {', '.join(weak)} (best: {best:.1f}). The models were trained too "
        "briefly to compare the data by them."
    )


def best_bleu(evaluated: Evaluated, test: str) -> float:
    """Return the best BLEU of any subset on a test set."""
    return max((subset.scores[test]["BLEU"].score for subset in evaluated.subsets), default=0.0)


def is_readable(evaluated: Evaluated, test: str) -> bool:
    """Return whether a model translates a test set well enough for differences to mean something."""
    return best_bleu(evaluated, test) >= LEAST_BLEU


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


def _decision(evaluated: Evaluated, caution: list[str]) -> dict[str, Any] | None:
    """Return the table of all subsets against each baseline, over all test sets and metrics."""
    subsets = [subset for subset in evaluated.subsets if subset.name != "full"]
    if not subsets or not evaluated.against:
        return None
    full = next((subset for subset in evaluated.subsets if subset.name == "full"), None)
    coloured = all(is_readable(evaluated, test) for test in evaluated.tests)
    rows: list[list[dict[str, str]]] = []
    for subset in subsets:
        share = f"{subset.pairs:,}" if full is None else percent(subset.pairs, full.pairs)
        compared = [_counted(_kinds(evaluated, subset, name), coloured=coloured) for name in evaluated.against]
        rows.append([_cell(subset.name), _cell(share), *compared])
    held = "number of updates" if evaluated.held_fixed == "updates" else "number of epochs"
    scores = f"{len(evaluated.tests) * len(evaluated.signatures)} scores: {', '.join(evaluated.signatures)}"
    return {
        "head": ["subset", "pairs", *(f"against {name}" for name in evaluated.against)],
        "rows": rows,
        "cautions": caution,
        "note": f"{scores} on {', '.join(evaluated.tests)}. Every model was trained for the same {held}. "
        f"Significant: p < {SIGNIFICANT} in sacrebleu's paired bootstrap.",
    }


def _kinds(evaluated: Evaluated, subset: Subset, baseline: str) -> list[str]:
    """Return how each score of a subset compares with a baseline: better, worse or same."""
    other = next(entry for entry in evaluated.subsets if entry.name == baseline)
    kinds = [
        against(subset.scores[test][metric], other.scores[test][metric], baseline)
        for test in evaluated.tests
        for metric in evaluated.signatures
    ]
    return [kind for kind in kinds if kind]


def _counted(kinds: Sequence[str], *, coloured: bool) -> dict[str, str]:
    """Return the counts of comparisons, coloured if they all point one way."""
    if not kinds:
        return _cell("–")
    counts = {kind: kinds.count(kind) for kind, _ in _COUNTED}
    text = ", ".join(f"{words} on {counts[kind]} of {len(kinds)}" for kind, words in _COUNTED if counts[kind])
    one_way = bool(counts["better"]) != bool(counts["worse"])
    kind = ("better" if counts["better"] else "worse") if one_way else "same"
    return _cell(text, kind if coloured else "")


def _test(evaluated: Evaluated, test: str, lines: int) -> dict[str, Any]:
    """Return the tables of one test set, one for each metric."""
    tables = [_metric_table(evaluated, test, metric) for metric in evaluated.signatures]
    return {"name": test, "lines": f"{lines:,}", "tables": tables}


def _metric_table(evaluated: Evaluated, test: str, metric: str) -> dict[str, Any]:
    """Return one metric on one test set: scores, intervals on a common axis, and tests against the baselines."""
    scores = [subset.scores[test][metric] for subset in evaluated.subsets]
    low = min(score.score - score.interval for score in scores)
    high = max(score.score + score.interval for score in scores)
    rows = [_metric_row(evaluated, subset, test, metric, low, high) for subset in evaluated.subsets]
    base = next((s.scores[test][metric] for s in evaluated.subsets if s.name in evaluated.against[:1]), None)
    return {
        "metric": metric,
        "low": f"{low:.1f}",
        "high": f"{high:.1f}",
        "base": None if base is None else _place(base.score, low, high),
        "against": list(evaluated.against),
        "rows": rows,
    }


def _metric_row(
    evaluated: Evaluated, subset: Subset, test: str, metric: str, low: float, high: float
) -> dict[str, Any]:
    score = subset.scores[test][metric]
    by_name = {entry.name: entry.scores[test][metric] for entry in evaluated.subsets}
    coloured = is_readable(evaluated, test)
    return {
        "name": subset.name,
        "score": f"{score.score:.1f} ± {score.interval:.1f}",
        "from": _place(score.score - score.interval, low, high),
        "to": _place(score.score + score.interval, low, high),
        "at": _place(score.score, low, high),
        "cells": [
            _against(score, by_name[name], name, evaluated.resamples, coloured=coloured) for name in evaluated.against
        ],
    }


def _place(value: float, low: float, high: float) -> float:
    """Return the place of a value in percent of an axis."""
    return round(100 * (value - low) / (high - low), 2) if high > low else 50.0


def _against(score: Score, other: Score, baseline: str, resamples: int, *, coloured: bool) -> dict[str, str]:
    kind = against(score, other, baseline)
    if not kind:
        return _cell("–")
    p = p_text(score.p[baseline], resamples)
    return _cell(f"{difference(score.score - other.score)} (p {p})", kind if coloured else "")


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
