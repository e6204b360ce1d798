"""Pruning while training: an epoch trains on pairs chosen by their last known losses. For any training loop, no torch.

A decision depends on the pair, the epoch and the losses at the start of the cycle, never on the order of batches. So a
loop that was killed repeats its decisions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from catprune.errors import UsageError
from catprune.training.recipe import PRUNING, check_numbers
from catprune.workspace.hashing import GOLDEN, mix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

#: Pairs of a slice: losses are read in slices, so that a mapped file is never in memory as a whole.
SLICE = 1 << 18


class Drawn(NamedTuple):
    """A batch after pruning.

    Attributes:
        kept: the pairs to train on, int64 [kept], in the order of the batch.
        weights: the weights of their losses, float32 [kept].
        basis: the pairs whose tokens (or number) are the denominator of the summed losses, int64: for infobatch the
            whole batch, for ddp the kept pairs.
    """

    kept: NDArray[np.int64]
    weights: NDArray[np.float32]
    basis: NDArray[np.int64]


class Pruning(ABC):
    """Choose among pairs 0 to `pairs` - 1 by their losses; pairs without a known loss are kept.

    Attributes:
        by_whole: whether the denominator of the losses is the tokens of the whole batch, or of the kept pairs.
        cycle: epochs of a cycle; the losses at its start decide for the whole cycle.
        before: the losses at the start of the cycle, float32 [pairs], NaN if unknown.
        losses: the last known losses, float32 [pairs], NaN if unknown; `observe` writes here. To continue after a
            stop, store both arrays with the epoch and give them to `resume`.
        epoch: the current epoch, from 0; -1 before the first.
    """

    by_whole: ClassVar[bool] = False

    def __init__(self, pairs: int, *, cycle: int = 1) -> None:
        if pairs < 0:
            raise UsageError(f"pairs is {pairs}: give at least 0")
        _check(cycle=cycle)
        self.pairs, self.cycle = pairs, cycle
        self.before: NDArray[np.float32] | None = None
        self.losses: NDArray[np.float32] | None = None
        self.epoch = -1

    def begin(self, epoch: int) -> None:
        """Start an epoch (from 0). At the first epoch of a cycle the current losses become those that decide."""
        if self.losses is None:
            self.losses = np.full(self.pairs, np.nan, np.float32)
        if self.before is None or epoch % self.cycle == 0:
            self.before = self.losses.copy()
        self.resume(epoch, before=self.before, losses=self.losses)

    def resume(self, epoch: int, *, before: NDArray[np.float32], losses: NDArray[np.float32] | None) -> None:
        """Start an epoch, or continue within it, with arrays of the caller, which may be mapped files.

        Args:
            epoch: from 0.
            before: float32 [pairs], the losses at the start of the cycle; not written.
            losses: float32 [pairs], where `observe` writes; None if `observe` is not called.

        Raises:
            UsageError: an array has another shape.
        """
        for array in (before, losses):
            if array is not None and array.shape != (self.pairs,):
                raise UsageError(f"losses of shape {array.shape}, for {self.pairs} pairs: give one float32 a pair")
        self.before, self.losses, self.epoch = before, losses, epoch
        self._prepare(before)

    @abstractmethod
    def _prepare(self, before: NDArray[np.float32]) -> None:
        """Compute, once an epoch, the thresholds of the decisions."""

    @abstractmethod
    def _drops(self, pairs: NDArray[np.int64], before: NDArray[np.float32]) -> NDArray[np.bool_]: ...

    def _known(self, pairs: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the losses of pairs at the start of the cycle, float32 [pairs]."""
        if self.before is None:
            raise UsageError("no epoch has started: call begin(epoch) first")
        return self.before[pairs]

    def keeps(self, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of these pairs this epoch trains on, bool [pairs]."""
        return ~self._drops(pairs, self._known(pairs))

    def weights(self, kept: NDArray[np.int64]) -> NDArray[np.float32] | None:  # noqa: ARG002
        """Return the loss weights of kept pairs, float32 [kept]; None: all 1."""
        return None

    def draw(self, batch: Sequence[int] | NDArray[np.int64]) -> Drawn:
        """Prune a batch of pairs."""
        pairs = np.asarray(batch, np.int64)
        kept = pairs[self.keeps(pairs)]
        if (weights := self.weights(kept)) is None:
            weights = np.ones(len(kept), np.float32)
        return Drawn(kept, weights, pairs if self.by_whole else kept)

    def observe(self, kept: NDArray[np.int64], losses: NDArray[Any]) -> None:
        """Record the losses of pairs: the mean nll of the tokens of each, [kept]."""
        if self.losses is None:
            raise UsageError("no epoch has started: call begin(epoch) first")
        self.losses[kept] = losses


class InfoBatch(Pruning):
    """InfoBatch (Qin et al. 2024, arXiv 2303.04947): drop easy pairs at random, and weight the kept ones up.

    A pair whose last known loss is below the mean of the known losses is dropped with probability `ratio`, by a hash of
    (seed, epoch, pair). If it is kept, its loss is multiplied by 1 / (1 - ratio). With the tokens of the whole batch as
    the denominator, the expected gradient is that of the whole batch.

    Args:
        pairs: number of pairs of the corpus.
        epochs: epochs of the training, for `anneal`.
        ratio: probability with which an easy pair is dropped (0.5).
        anneal: an epoch that ends after this share of the epochs (0.875) drops nothing, so that the training ends on
            all pairs (1: all epochs may drop).
        seed: seed of the hash.

    Raises:
        UsageError: an argument is out of range.
    """

    by_whole = True  # a mean over the kept pairs would be biased

    def __init__(
        self,
        *,
        pairs: int,
        epochs: float,
        ratio: float = PRUNING["infobatch"]["ratio"],
        anneal: float = PRUNING["infobatch"]["anneal"],
        seed: int = 1,
    ) -> None:
        super().__init__(pairs)
        _check(epochs=epochs, ratio=ratio, anneal=anneal)
        self.ratio, self._epochs, self._anneal, self._seed = ratio, epochs, anneal, seed
        self._mean: float | None = None

    def _prepare(self, before: NDArray[np.float32]) -> None:
        end = min(self.epoch + 1, self._epochs) / self._epochs
        # A computed share may be slightly above the decimal number that was given.
        self._mean = mean_of_known(before) if end <= self._anneal + 1e-9 else None

    def _is_easy(self, before: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.zeros(len(before), np.bool_) if self._mean is None else before.astype(np.float64) < self._mean

    def _drops(self, pairs: NDArray[np.int64], before: NDArray[np.float32]) -> NDArray[np.bool_]:
        return self._is_easy(before) & (uniform(self._seed, self.epoch, pairs) < self.ratio)

    def weights(self, kept: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return 1 / (1 - ratio) for easy pairs and 1 for others, float32 [kept]; None in epochs that drop nothing."""
        known = self._known(kept)
        if self._mean is None:
            return None
        return np.where(self._is_easy(known), 1 / (1 - self.ratio), 1.0).astype(np.float32)


class Ddp(Pruning):
    """Dynamic data pruning (Xiao et al. 2024, arXiv 2406.18373, there for speech) of whole pairs: keep the hard ones.

    The share `ratio` of the pairs with a known loss is dropped for a cycle: those with the lowest losses, their number
    rounded down. Ties: lower pairs are kept first. With `ratio` 0.3 the paper reaches the results of all data.

    Args:
        pairs: number of pairs of the corpus, or of whatever is kept or dropped as a whole, like spans of targets.
        ratio: the share that is dropped (0.3).
        cycle: epochs of a cycle (1).

    Raises:
        UsageError: an argument is out of range.
    """

    def __init__(
        self, *, pairs: int, ratio: float = PRUNING["ddp"]["ratio"], cycle: int = PRUNING["ddp"]["cycle"]
    ) -> None:
        super().__init__(pairs, cycle=cycle)
        _check(ratio=ratio)
        self.ratio = ratio
        self._cut: tuple[np.float32, int] | None = None

    def _prepare(self, before: NDArray[np.float32]) -> None:
        known = sum(int(np.count_nonzero(~np.isnan(part))) for part in _slices(before))
        # Exact, from the decimal number as written: as a product of floats 0.29 of 100 would be 28.
        dropped = math.floor(Fraction(str(self.ratio)) * known)
        self._cut = highest(before, known - dropped) if dropped else None

    def _drops(self, pairs: NDArray[np.int64], before: NDArray[np.float32]) -> NDArray[np.bool_]:
        if self._cut is None:
            return np.zeros(len(pairs), np.bool_)
        loss, last = self._cut
        return (before < loss) | ((before == loss) & (pairs > last))


class PrunedBatches:
    """A batch sampler that yields the batches of another one after pruning; batches without pairs are skipped.

    Use it as `torch.utils.data.DataLoader(…, batch_sampler=PrunedBatches(…))`, or in any loop over lists of indices.
    Call `pruning.begin(epoch)` before each epoch. The sampler may run ahead of the training, as a loader with workers
    does: no decision depends on the losses of the epoch itself.

    Args:
        batches: any iterable of batches, each a list of pairs.
        pruning: decides which pairs are kept.
    """

    def __init__(self, batches: Iterable[Sequence[int]], pruning: Pruning) -> None:
        self.batches, self.pruning = batches, pruning
        # Results for batches that `along` has not yielded yet; None unless `along` is in use.
        self._ahead: deque[Drawn] | None = None

    def __iter__(self) -> Iterator[list[int]]:
        ahead = self._ahead
        for batch in self.batches:
            drawn = self.pruning.draw(batch)
            if len(drawn.kept):
                if ahead is not None:
                    ahead.append(drawn)
                yield drawn.kept.tolist()

    def __len__(self) -> int:
        """Upper bound of the number of batches; exact if no batch is skipped."""
        return len(self.batches)  # pyright: ignore[reportArgumentType]

    def along(self, loader: Iterable[Any]) -> Iterator[tuple[Any, Drawn]]:
        """Yield each batch of a loader of this sampler with its `Drawn`; the loader must keep the order of batches.

        Raises:
            UsageError: the loader started before.
        """
        self._ahead = ahead = deque[Drawn]()
        try:
            for batch in loader:
                if not ahead:
                    raise UsageError("the loader started before `along`: give the loader itself, not its iterator")
                yield batch, ahead.popleft()
        finally:
            if self._ahead is ahead:  # the next epoch may have started before this generator was closed
                self._ahead = None


def _check(**values: Any) -> None:
    """Refuse numbers out of range; NumPy numbers are accepted."""
    check_numbers(
        **{name: number.item() if isinstance(number, np.generic) else number for name, number in values.items()}
    )


def _slices(array: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for first in range(0, len(array), SLICE):
        yield array[first : first + SLICE]


def mean_of_known(losses: NDArray[np.float32]) -> float | None:
    """Return the mean of the losses that are not NaN, added in float64 in the order of pairs; None if all are NaN."""
    total, count = 0.0, 0
    for part in _slices(losses):
        known = part[~np.isnan(part)]
        total, count = total + float(known.sum(dtype=np.float64)), count + len(known)
    return total / count if count else None


def _keys(losses: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Map losses that are not NaN to integers of the same order; -0.0 equals 0.0."""
    bits = (losses[~np.isnan(losses)] + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def highest(losses: NDArray[np.float32], count: int) -> tuple[np.float32, int]:
    """Find the end of the `count` highest losses: the lowest loss among them, and the last pair that has it.

    Exact, in three passes that hold one slice each: two count the upper and the lower 16 bits, one finds the pair.
    Ties: lower pairs come first.

    Args:
        losses: float32 [pairs], NaN if unknown.
        count: from 1 to the number of known losses.
    """
    left, upper = count, 0
    for place in range(2):
        counts = np.zeros(1 << 16, np.int64)
        for part in _slices(losses):
            keys = _keys(part)
            digits = keys >> 16 if place == 0 else keys[keys >> 16 == upper] & 0xFFFF
            counts += np.bincount(digits, minlength=1 << 16)
        from_top = np.cumsum(counts[::-1])
        bucket = int(np.searchsorted(from_top, left))
        left -= int(from_top[bucket - 1]) if bucket else 0
        upper = (upper << 16) | ((1 << 16) - 1 - bucket)
    bits = upper & 0x7FFFFFFF if upper >> 31 else ~upper & 0xFFFFFFFF
    loss: np.float32 = np.array([bits], np.uint32).view(np.float32)[0]
    return loss, _place_of(losses, loss, left)


def _place_of(losses: NDArray[np.float32], loss: np.float32, count: int) -> int:
    """Return the `count`th pair (from 1) with this loss."""
    first = 0
    for part in _slices(losses):
        equal = np.flatnonzero(part == loss)
        if len(equal) >= count:
            return first + int(equal[count - 1])
        first, count = first + len(part), count - len(equal)
    return first


def uniform(seed: int, epoch: int, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each pair, a hash of (seed, epoch, pair): splitmix64 (Steele et al. 2014)."""
    stream = np.array([seed], np.uint64)
    stream = mix(mix(stream + GOLDEN) + np.array([epoch], np.uint64))
    mixed = mix(stream + (pairs.astype(np.uint64) + np.uint64(1)) * GOLDEN)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
