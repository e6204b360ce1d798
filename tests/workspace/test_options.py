"""Options: NumPy scalars are numbers; numbers that are not finite or out of bounds are refused by name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from catprune import UsageError
from catprune.cleaning.options import CleanOptions, Filters
from catprune.training.options import TrainOptions
from catprune.workspace.options import make


def training(**options: Any) -> TrainOptions:
    return make(TrainOptions, {"tokens": "t", "out": "o", **options}, of="train")


def test_numpy_scalars_are_plain_numbers() -> None:
    options = training(steps=np.int64(3), seed=np.uint64(2**64 - 1), dropout=np.float32(0.25), reverse=np.bool_(True))
    values = options.steps, options.seed, options.dropout, options.reverse
    assert values == (3, 2**64 - 1, 0.25, True)
    assert [type(value) for value in values] == [int, int, float, bool]
    rules = make(CleanOptions, {"inputs": ["a"], "rules": {"max_words": np.int32(9)}}).rules
    assert isinstance(rules, Filters) and type(rules.max_words) is int and rules.max_words == 9


@pytest.mark.parametrize("wrap", [float, np.float32, np.float64])
def test_numbers_that_are_not_finite_are_refused(wrap: Any) -> None:
    for name in ("epochs", "learning_rate", "label_smoothing", "dropout", "prune_ratio", "prune_anneal"):
        for value in (math.nan, math.inf, -math.inf):
            with pytest.raises(UsageError, match=f"^{name} = {value}: give a number, "):
                training(**{name: wrap(value)})


def test_bounds_and_types_are_those_of_the_declaration() -> None:
    for name, value in (
        ("epochs", 0),
        ("epochs", -1.5),
        ("learning_rate", 0.0),
        ("label_smoothing", 1.0),
        ("dropout", 1),
        ("dropout", -0.1),
        ("prune_ratio", 1.0),
        ("prune_anneal", 0.0),
        ("epochs", True),
        ("epochs", "1"),
        ("steps", np.float64(2.0)),
        ("steps", True),
        ("seed", 2**64),
        ("batch_tokens", np.int64(0)),
        ("reverse", 1),
    ):
        with pytest.raises(UsageError, match=f"^{name} = .*: give "):
            training(**{name: value})
    assert training(epochs=0.001, label_smoothing=0, dropout=0.999, prune_anneal=1).prune_anneal == 1.0


def test_an_unknown_option_is_reported_with_a_similar_one() -> None:
    with pytest.raises(UsageError, match=r"^train: there is no option epoch; did you mean epochs"):
        training(epoch=1)
