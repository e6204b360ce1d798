"""The usual last loss of pairs by their first loss: what a pair of similar initial loss reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BINS = 50
_PAIRS_PER_BIN = 200  # at least; a median of fewer pairs is noise


@dataclass(frozen=True, slots=True)
class LossTrend:
    """Medians of the last loss in quantile bins of the first loss, in nats per target token.

    Attributes:
        edges: float64 [bins - 1], the limits between the bins.
        first, last: float64 [bins], the medians of both losses in each bin.
    """

    edges: NDArray[np.float64]
    first: NDArray[np.float64]
    last: NDArray[np.float64]

    def at(self, first: float) -> float:
        """Return the median last loss of pairs whose first loss is similar to `first`."""
        import numpy as np

        return float(self.last[np.searchsorted(self.edges, first, side="right")])


def measure_trend(nll: NDArray[np.float64]) -> LossTrend | None:
    """Measure the trend of sampled pairs.

    Args:
        nll: float64 [checkpoints, n], in the order of training; NaN where a pair has no loss.

    Returns:
        The trend; None if there are fewer than two checkpoints or no pair has both losses.
    """
    import numpy as np

    if len(nll) < 2:
        return None
    scored = np.isfinite(nll[0]) & np.isfinite(nll[-1])
    first, last = nll[0, scored], nll[-1, scored]
    if not first.size:
        return None
    bins = min(_BINS, max(1, first.size // _PAIRS_PER_BIN))
    edges = np.unique(np.quantile(first, np.arange(1, bins) / bins))
    place = np.searchsorted(edges, first, side="right")
    filled = [place == number for number in range(len(edges) + 1)]
    if not all(part.any() for part in filled):  # many pairs have the very same loss
        edges, filled = edges[:0], [np.ones(len(first), dtype=bool)]
    medians = [[float(np.median(loss[part])) for part in filled] for loss in (first, last)]
    return LossTrend(edges, np.array(medians[0]), np.array(medians[1]))
