"""Curves, equal budgets, decisions and tables, from results of trials that are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from catprune.evaluation import results
from catprune.evaluation.curves import best_within, common_budget, read_at
from catprune.evaluation.summary import Hypothesis, summarise
from catprune.workspace.files import to_json, write_whole
from catprune.workspace.step_folder import StepFolder
from support.evaluations import TESTS, make_results, write_evaluation

CURVE = [
    {"step": 10, "epoch": 1.0, "flops": 5.0, "nll": 4.0},
    {"step": 20, "epoch": 2.0, "flops": 7.0, "nll": 3.0, "chrF": 20.0},
    {"step": 30, "epoch": 3.0, "flops": 9.0, "nll": 3.5},
    {"step": 40, "epoch": 4.0, "flops": 11.0, "nll": 3.2, "chrF": 40.0},
]


def test_curves_are_interpolated_between_checkpoints_that_have_the_metric() -> None:
    assert read_at(CURVE, "step", 20, "nll") == 3.0
    assert read_at(CURVE, "step", 25, "nll") == 3.25
    assert read_at(CURVE, "epoch", 3, "chrF") == 30.0
    assert read_at(CURVE, "flops", 8.0, "nll") == 3.25
    assert read_at(CURVE, "step", 10, "chrF") is None, "before the first translation"
    assert read_at(CURVE, "step", 41, "nll") is None


def test_the_best_within_a_budget_is_a_checkpoint() -> None:
    assert best_within(CURVE, "flops", 10.0, "nll") == 3.0
    assert best_within(CURVE, "flops", 10.0, "chrF") == 20.0
    assert best_within(CURVE, "flops", 4.0, "nll") is None
    assert common_budget([CURVE, CURVE[:2]], "step") == 20


def summary(**changed: Any) -> Any:
    options: dict[str, Any] = {
        "tests": TESTS,
        "against": {"full": ["random"], "half": ["full", "random"], "random": ["full"]},
        "hypotheses": [Hypothesis("half", "full", 1.0), Hypothesis("half", "random")],
    }
    return summarise(make_results(), **{**options, **changed})


def test_differences_are_paired_by_seed() -> None:
    table = summary()["scores"]["held"]["chrF"]
    difference = table["half"]["differences"]["full"]
    assert difference["value"] == pytest.approx(0.2)
    assert difference["deviation"] == pytest.approx(0.1, abs=0.05), "seeds move all subsets alike"
    assert table["half"]["mean"]["deviation"] > 0.9
    assert difference["low"] < 0.2 < difference["high"]


def test_hypotheses_are_decided() -> None:
    not_worse, better = summary()["hypotheses"]
    assert not_worse["outcome"] in ("as good", "better") and better["outcome"] == "better"
    worse = summary(hypotheses=[Hypothesis("random", "full", 1.0)])["hypotheses"][0]
    assert worse["outcome"] == "worse" and worse["difference"]["value"] == pytest.approx(-5.0, abs=0.2)
    loss = summary(hypotheses=[Hypothesis("random", "full", metric="nll")])["hypotheses"][0]
    assert loss["outcome"] == "worse" and loss["difference"]["value"] > 0, "more loss is worse"


def test_equal_budgets() -> None:
    readings = {(reading["axis"], reading["best"]): reading for reading in summary()["readings"]}
    assert list(readings) == [
        ("step", False),
        ("epoch", False),
        ("target_tokens", False),
        ("flops", False),
        ("flops", True),
    ]
    assert readings["step", False]["budget"] == 40
    epochs = readings["epoch", False]
    assert epochs["budget"] == 2.0, "full makes fewer passes in as many updates"
    updates = readings["step", False]["tables"]["nll"]
    assert epochs["tables"]["nll"]["half"]["mean"]["value"] > updates["half"]["mean"]["value"], "read half way"
    assert epochs["tables"]["nll"]["full"]["values"] == updates["full"]["values"]
    assert readings["flops", False]["tables"]["nll"]["half"]["mean"]["value"] > updates["half"]["mean"]["value"]
    assert summary(against={})["readings"][0]["tables"]["nll"]["half"]["differences"] == {}


def test_the_tables_say_what_they_show(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "several")
    text = results.render(results.open_evaluation(tmp_path / "several"))
    assert "held (40 lines)" in text and "seeds 1, 2, 3" in text
    assert "half is not worse by 1 chrF than full (chrF, the mean of all test sets)" in text
    assert "equal epochs (2)" in text and "best within equal total FLOPs" in text
    assert results.ONE_SEED not in text and "Holm" in text and "interpolated" in text
    row = next(line for line in text.splitlines() if line.startswith("half - full"))
    assert row.count("[") == 3
    write_evaluation(tmp_path / "one", seeds=1)
    evaluation = results.open_evaluation(tmp_path / "one")
    text = results.render(evaluation)
    assert results.ONE_SEED in text and "±" not in text.split("cost")[0] and "p BLEU" in text
    assert [decided.outcome for decided in evaluation.hypotheses] == ["not decided"] * 2
    assert max(map(len, text.splitlines()[:6])) <= 100
    write_evaluation(tmp_path / "rising", improving=True)
    assert any("full still improved" in text for text in results.open_evaluation(tmp_path / "rising").cautions)


def test_an_evaluation_without_results_is_unfinished(tmp_path: Path) -> None:
    from catprune.errors import CatpruneError

    with StepFolder(tmp_path / "e", step="evaluate", reads={}, options={}):
        write_whole(tmp_path / "e" / "results.json", to_json({}))
    with pytest.raises(CatpruneError, match="is unfinished"):
        results.open_evaluation(tmp_path / "e")
