"""How often differences of equal means are called significant, by how variances are pooled (prints a table)."""

import numpy as np
from catprune.evaluation.significance import ALIKE, LEVEL
from scipy import stats

CASES = 20_000


def levels(subsets: int, seeds: int, deviations: np.ndarray) -> tuple[float, float, float]:
    """Shares of cases in which the first two subsets differ: own variance, pooled always, and the rule of `Seeds`."""
    table = np.random.default_rng(0).normal(size=(CASES, subsets, seeds)) * deviations[:, None]
    variances, n = table.var(2, ddof=1), seeds - 1
    pooled = variances.mean(1)
    bartlett = n * (subsets * np.log(pooled) - np.log(variances).sum(1))
    bartlett /= 1 + (subsets / n - 1 / (subsets * n)) / (3 * (subsets - 1))
    differences = table[:, 0] - table[:, 1]
    residuals = table - table.mean(2, keepdims=True) - table.mean(1, keepdims=True) + table.mean((1, 2), keepdims=True)
    freedom = (subsets - 1) * n
    own = differences.std(1, ddof=1)
    common = np.sqrt(2 * (residuals**2).sum((1, 2)) / freedom)
    means = np.abs(differences.mean(1)) * seeds**0.5
    p_own, p_common = 2 * stats.t.sf(means / own, n), 2 * stats.t.sf(means / common, freedom)
    pools = (stats.chi2.sf(bartlett, subsets - 1) >= ALIKE) & (common >= own)
    return tuple(float((p < LEVEL).mean()) for p in (p_own, p_common, np.where(pools, p_common, p_own)))


if __name__ == "__main__":
    print("| subsets | seeds | deviations | own variance | always pooled | rule |\n|---|---|---|---|---|---|")
    for subsets in (3, 5, 10):
        for seeds in (3, 5):
            for ratio in (1, 2, 4, 8):
                for place, which in ((0, "compared"), (-1, "another")):
                    deviations = np.ones(subsets)
                    deviations[place] = ratio
                    shares = " | ".join(f"{share:.1%}" for share in levels(subsets, seeds, deviations))
                    print(f"| {subsets} | {seeds} | {which} × {ratio} | {shares} |")
