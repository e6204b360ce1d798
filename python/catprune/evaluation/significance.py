"""Statistics over training seeds: means, differences with intervals, and decisions on hypotheses named beforehand.

Subsets share their seeds, so that differences are taken within a seed. A difference has its own variance over seeds
(paired t-test), unless variances are alike: then it has that of the residuals of the two-way table (subset, seed),
pooled over all subsets. Alike means that Bartlett's test of all subsets has p >= `ALIKE`, and that the pooled variance
is not below the difference's own. docs/explanation/interval_levels.py simulates how often equal means are then called
different: in 3% to 6% of cases, if one of 3 to 10 subsets varies 1 to 8 times as much as the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Two-sided level of all intervals and decisions.
LEVEL = 0.05
#: Below this p of Bartlett's test, the variances of subsets are not pooled.
ALIKE = 0.2
#: How differences are decided, in words.
TEST = (
    "t-test on differences paired by seed; the variance is pooled over subsets where Bartlett's test has p >= "
    f"{ALIKE} and the pooled variance is not below the difference's own"
)

Outcome = Literal["as good", "better", "worse", "not decided"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds, or a difference of two means.

    Attributes:
        value: the mean.
        deviation: standard deviation over seeds; None with one seed.
        error: standard error of the mean; None with one seed.
        freedom: degrees of freedom of the error; 0 with one seed.
    """

    value: float
    deviation: float | None
    error: float | None
    freedom: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """The limits of the 95% interval (Student's t); None with one seed."""
        if self.error is None:
            return None
        from scipy.stats import t

        half = float(t.ppf(1 - LEVEL / 2, self.freedom)) * self.error
        return self.value - half, self.value + half

    def p(self, threshold: float = 0.0) -> float:
        """Return the two-sided p of the hypothesis that the true value is `threshold`; 1 with one seed."""
        if self.error is None:
            return 1.0
        if self.error == 0:
            return float(self.value == threshold)
        from scipy.stats import t

        return float(2 * t.sf(abs(self.value - threshold) / self.error, self.freedom))


class Seeds:
    """One number for each subset and seed.

    Args:
        values: subset → its number under each seed, the same seeds in the same order for all subsets.
    """

    def __init__(self, values: dict[str, Sequence[float]]) -> None:
        self.values: dict[str, NDArray[np.float64]] = {name: np.asarray(row, float) for name, row in values.items()}
        self._table = np.stack(list(self.values.values()))
        self.count = self._table.shape[1]

    @cached_property
    def are_alike(self) -> bool:
        """Whether the subsets' variances may be pooled."""
        variances = self._table.var(axis=1)
        if self.count < 2 or len(self._table) < 2 or not variances.all():
            return False
        from scipy.stats import bartlett

        return bool(bartlett(*self._table).pvalue >= ALIKE)

    def mean(self, name: str) -> Estimate:
        """Return the mean of a subset; its error is pooled over subsets if they are alike."""
        values = self.values[name]
        if self.count < 2:
            return Estimate(float(values.mean()), None, None, 0)
        pooled = float(np.sqrt(self._table.var(axis=1, ddof=1).mean()))
        return self._estimate(values, pooled, subsets=len(self._table))

    def difference(self, name: str, baseline: str) -> Estimate:
        """Return the mean of a subset minus that of a baseline, paired by seed."""
        differences = self.values[name] - self.values[baseline]
        if self.count < 2:
            return Estimate(float(differences.mean()), None, None, 0)
        rows, columns = self._table.mean(axis=1, keepdims=True), self._table.mean(axis=0, keepdims=True)
        residuals = self._table - rows - columns + self._table.mean()
        subsets = len(self._table) - 1
        pooled = float(np.sqrt(2 * (residuals**2).sum() / (subsets * (self.count - 1))))
        return self._estimate(differences, pooled, subsets=subsets)

    def _estimate(self, values: NDArray[np.float64], pooled: float, *, subsets: int) -> Estimate:
        """Return the mean of `values` [seeds] with their own deviation or the pooled one, see the head of the file."""
        own = float(values.std(ddof=1))
        pools = self.are_alike and pooled >= own
        freedom = (self.count - 1) * (subsets if pools else 1)
        return Estimate(float(values.mean()), own, (pooled if pools else own) / self.count**0.5, freedom)


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision on a hypothesis.

    Attributes:
        p: two-sided p of a difference equal to the threshold.
        adjusted: the same after Holm's correction over all hypotheses.
        outcome: "as good": not worse by more than the margin; "better": better than the baseline itself;
            "worse": worse than the threshold; "not decided": none of these.
    """

    p: float
    adjusted: float
    outcome: Outcome


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the given order (Holm 1979)."""
    adjusted, least = [0.0] * len(p), 0.0
    for rank, place in enumerate(np.argsort(p, kind="stable").tolist()):
        least = max(least, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = least
    return adjusted


def decide(differences: Sequence[tuple[Estimate, float]]) -> list[Decision]:
    """Decide hypotheses, corrected for their number by Holm's method.

    Args:
        differences: for each hypothesis the gain over the baseline (higher is better) and the margin by which it may
            be worse; a margin of 0 asks for "better".
    """
    ps = [gain.p(-margin) for gain, margin in differences]
    adjusted = holm(ps)
    return [
        Decision(p, total, _outcome(gain, margin, p, total))
        for (gain, margin), p, total in zip(differences, ps, adjusted, strict=True)
    ]


def _outcome(gain: Estimate, margin: float, p: float, adjusted: float) -> Outcome:
    if adjusted > LEVEL:
        return "not decided"
    if gain.value < -margin:
        return "worse"
    # Once "as good" is decided, "better" may be asked at the same level: a fixed sequence of two tests.
    factor = adjusted / p if p else 1.0
    return "better" if not margin or (gain.value > 0 and factor * gain.p() <= LEVEL) else "as good"
