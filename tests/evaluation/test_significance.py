"""Statistics over seeds: known values, calibration on simulated seeds, and the decisions that known effects deserve."""

from __future__ import annotations

import numpy as np
import pytest
from catprune.evaluation.significance import Estimate, Seeds, decide, holm
from scipy import stats


def test_two_subsets_have_the_paired_t_test() -> None:
    values = {"half": [30.1, 31.4, 29.7, 30.9], "full": [29.0, 30.9, 29.9, 29.2]}
    difference = Seeds(values).difference("half", "full")
    expected = stats.ttest_rel(values["half"], values["full"])
    assert difference.p() == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert difference.interval == pytest.approx((low, high))
    assert (difference.value, difference.freedom) == (pytest.approx(0.775), 3)


def test_variance_is_pooled_over_subsets_of_similar_variance() -> None:
    values = {"a": [3.0, 3.5, 2.8], "b": [4.2, 4.1, 4.9], "c": [5.0, 5.8, 5.1]}
    seeds = Seeds(values)
    table = np.array(list(values.values()))
    assert seeds.are_alike
    residuals = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    difference = seeds.difference("c", "a")
    assert difference.error == pytest.approx((2 * (residuals**2).sum() / 4 / 3) ** 0.5)
    assert difference.freedom == 4
    own = np.std(np.subtract(values["c"], values["a"]), ddof=1)
    assert difference.deviation == pytest.approx(own) and own < difference.error * 3**0.5  # pooling widened it
    variances = table.var(1, ddof=1)
    assert seeds.mean("c").freedom == (6 if variances.mean() >= variances[2] else 2)


def test_a_subset_that_varies_more_is_not_pooled() -> None:
    seeds = Seeds(
        {"full": [30.7, 24.7, 13.5, 44.1, 14.2], "a": [47.6, 48.1, 46.8, 47.2, 48.0], "b": [47, 48, 46, 47, 49]}
    )
    assert not seeds.are_alike
    difference = seeds.difference("a", "full")
    assert difference.freedom == 4
    assert difference.error == pytest.approx(np.std(seeds.values["a"] - seeds.values["full"], ddof=1) / 5**0.5)


def test_one_seed_gives_no_interval() -> None:
    seeds = Seeds({"full": [30.0], "half": [40.0]})
    difference = seeds.difference("half", "full")
    assert (difference.value, difference.interval, difference.p()) == (10.0, None, 1.0)
    assert seeds.mean("half").deviation is None
    assert [decision.outcome for decision in decide([(difference, 0.0), (difference, 1.0)])] == ["not decided"] * 2


def test_equal_numbers_under_all_seeds() -> None:
    difference = Seeds({"full": [30.0, 31.0], "half": [30.0, 31.0]}).difference("half", "full")
    assert (difference.interval, difference.p(), difference.p(-1.0)) == ((0.0, 0.0), 1.0, 0.0)
    assert [decision.outcome for decision in decide([(difference, 0.0), (difference, 1.0)])] == [
        "not decided",
        "as good",
    ]


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5]) == [0.5] and holm([]) == []


@pytest.mark.parametrize("deviations", [(1, 1, 1), (4, 1, 1), (1, 1, 1, 1, 8)])
def test_equal_subsets_are_called_different_in_five_percent_of_cases(deviations: tuple[int, ...]) -> None:
    random, cases = np.random.default_rng(7), 1000
    false = 0
    for _ in range(cases):
        table = random.normal(size=(len(deviations), 3)) * np.array(deviations)[:, None] + random.normal(size=3)
        names = [str(number) for number in range(len(deviations))]
        seeds = Seeds(dict(zip(names, table, strict=True)))
        false += seeds.difference(names[0], names[-1]).p() < 0.05
    assert 0.03 <= false / cases <= 0.07


def outcomes(effect: float, margin: float, *, deviation: float = 0.25, cases: int = 300) -> dict[str, float]:
    """Shares of the outcomes on a simulated subset with a known effect, among two hypotheses and five seeds."""
    random, counts = np.random.default_rng(11), dict[str, float]()
    for _ in range(cases):
        table = random.normal(scale=deviation, size=(3, 5))
        table[0] += effect
        seeds = Seeds(dict(zip(("half", "full", "random"), table, strict=True)))
        gains = [(seeds.difference("half", "full"), margin), (seeds.difference("half", "random"), 0.0)]
        outcome = decide(gains)[0].outcome
        counts[outcome] = counts.get(outcome, 0) + 1 / cases
    return counts


def test_known_effects_are_decided_as_they_should_be() -> None:
    assert outcomes(0.0, 1.0)["as good"] > 0.75
    assert outcomes(3.0, 1.0).get("better", 0) > 0.95
    assert outcomes(-3.0, 1.0).get("worse", 0) > 0.95
    assert outcomes(3.0, 0.0).get("better", 0) > 0.95
    at_the_margin = outcomes(-1.0, 1.0)
    assert at_the_margin.get("as good", 0) + at_the_margin.get("better", 0) <= 0.04
    none = outcomes(0.0, 0.0)
    assert none.get("better", 0) <= 0.04 and none.get("worse", 0) <= 0.04 and none["not decided"] > 0.9
    assert outcomes(0.5, 0.0, deviation=3.0)["not decided"] > 0.8


def test_a_subset_within_the_margin_but_below_the_baseline_is_as_good() -> None:
    gain = Estimate(-0.5, 0.1, 0.05, 4)
    assert gain.p() < 0.05
    assert decide([(gain, 1.0)])[0].outcome == "as good"
    assert decide([(gain, 0.0)])[0].outcome == "worse"
