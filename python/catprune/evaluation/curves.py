"""Dev curves: what a training had reached at equal updates, epochs, target tokens or FLOPs."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    #: Checkpoints in the order of training; each has the values of `AXES`, nll, and chrF where it was translated.
    Curve = Sequence[Mapping[str, Any]]

#: What may be held equal: the axis → its name. FLOPs count warm-up and scoring, too.
AXES = {"step": "updates", "epoch": "epochs", "target_tokens": "target tokens", "flops": "total FLOPs"}
#: Metrics of which less is better.
LOWER = frozenset({"nll"})


def read_at(curve: Curve, axis: str, budget: float, metric: str) -> float | None:
    """Return the metric at a point of an axis, by linear interpolation between the two nearest checkpoints.

    Args:
        curve: a dev curve.
        axis: one of `AXES`.
        budget: the value on this axis.
        metric: "nll" or "chrF".

    Returns:
        The value; None before the first and after the last checkpoint that has the metric.
    """
    points = [(float(point[axis]), float(point[metric])) for point in curve if point.get(metric) is not None]
    for place, value in points:
        if place == budget:
            return value
    for (left, low), (right, high) in pairwise(points):
        if left < budget < right:
            return low + (high - low) * (budget - left) / (right - left)
    return None


def best_within(curve: Curve, axis: str, budget: float, metric: str) -> float | None:
    """Return the best value of the checkpoints up to a point of an axis; None if there is none."""
    values = [float(point[metric]) for point in curve if point.get(metric) is not None and point[axis] <= budget]
    if not values:
        return None
    return min(values) if metric in LOWER else max(values)


def common_budget(curves: Sequence[Curve], axis: str) -> float:
    """Return the largest value of an axis that all curves reach."""
    return float(min(curve[-1][axis] for curve in curves))
