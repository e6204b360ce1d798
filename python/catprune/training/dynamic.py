"""Pruning while training: which pairs an epoch trains on, by their last known losses; for any training loop, no torch.

A decision follows from the pair, the epoch and the losses as they stood when the cycle began, never from the order of
batches; so a loop that was killed decides again what it had decided.
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

#: Losses are read in slices of so many pairs, so that a mapped file is never held as a whole.
SLICE = 1 << 18
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Drawn(NamedTuple):
    """What is left of a batch.

    Attributes:
        kept: the pairs to train on, int64 [kept], in the order of the batch.
        weights: what the loss of each of them is multiplied by, float32 [kept].
        basis: the pairs whose tokens (or number) the sum of the weighted losses is divided by, int64: of infobatch
            the whole batch, of ddp what is kept.
    """

    kept: NDArray[np.int64]
    weights: NDArray[np.float32]
    basis: NDArray[np.int64]


class Pruning(ABC):
    """Decides by the losses of pairs 0 to `pairs` - 1 which are trained on; pairs without a known loss are kept.

    Attributes:
        by_whole: whether the sum of the losses is divided by the tokens of the whole batch, or of what is kept.
        cycle: epochs for which the losses at their beginning decide.
        before: those losses, float32 [pairs], NaN where none is known.
        losses: the last known ones, likewise; `observe` writes here. To go on after a stop, store both with the
            epoch and give them to `resume`.
        epoch: the one that has begun, from 0.
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
        """Begin an epoch (from 0): at the first of a cycle the losses as they stand decide from here on."""
        if self.losses is None:
            self.losses = np.full(self.pairs, np.nan, np.float32)
        if self.before is None or epoch % self.cycle == 0:
            self.before = self.losses.copy()
        self.resume(epoch, before=self.before, losses=self.losses)

    def resume(self, epoch: int, *, before: NDArray[np.float32], losses: NDArray[np.float32] | None) -> None:
        """Begin an epoch, or go on within it, with arrays of the caller's; they may be mapped files.

        Args:
            epoch: from 0.
            before: float32 [pairs], the losses as they stood when the cycle began; not written.
            losses: float32 [pairs], where `observe` writes; None if it is not called.

        Raises:
            UsageError: arrays of other pairs.
        """
        for array in (before, losses):
            if array is not None and array.shape != (self.pairs,):
                raise UsageError(f"losses of shape {array.shape}, for {self.pairs} pairs: give one float32 a pair")
        self.before, self.losses, self.epoch = before, losses, epoch
        self._fix(before)

    @abstractmethod
    def _fix(self, before: NDArray[np.float32]) -> None:
        """Work out, once an epoch, what decides."""

    @abstractmethod
    def _drops(self, pairs: NDArray[np.int64], before: NDArray[np.float32]) -> NDArray[np.bool_]: ...

    def _known(self, pairs: NDArray[np.int64]) -> NDArray[np.float32]:
        """What decides over these pairs: their losses when the cycle began."""
        if self.before is None:
            raise UsageError("no epoch has begun: call begin(epoch) first")
        return self.before[pairs]

    def keeps(self, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these pairs this epoch trains on, bool [pairs]."""
        return ~self._drops(pairs, self._known(pairs))

    def weights(self, kept: NDArray[np.int64]) -> NDArray[np.float32] | None:  # noqa: ARG002
        """What the losses of pairs that are kept are multiplied by, float32 [kept]; None: 1 for all."""
        return None

    def draw(self, batch: Sequence[int] | NDArray[np.int64]) -> Drawn:
        """What is left of an unpruned batch of pairs."""
        pairs = np.asarray(batch, np.int64)
        kept = pairs[self.keeps(pairs)]
        if (weights := self.weights(kept)) is None:
            weights = np.ones(len(kept), np.float32)
        return Drawn(kept, weights, pairs if self.by_whole else kept)

    def observe(self, kept: NDArray[np.int64], losses: NDArray[Any]) -> None:
        """Take down the losses that pairs had: of each the mean nll of its tokens, as float32."""
        if self.losses is None:
            raise UsageError("no epoch has begun: call begin(epoch) first")
        self.losses[kept] = losses


class InfoBatch(Pruning):
    """InfoBatch (Qin et al. 2024, arXiv 2303.04947): easy pairs at random, and those that are kept count for more.

    A pair whose last known loss is below the mean of the known ones is dropped with chance `ratio`, by a hash of
    (seed, epoch, pair); if it is kept, its loss is multiplied by 1 / (1 - ratio). Divided by the tokens of the whole
    batch, the expected gradient of a batch is that of the whole batch.

    Args:
        pairs: of the corpus.
        epochs: of the training, for `anneal`.
        ratio: the chance with which an easy pair is dropped (0.5).
        anneal: an epoch that ends after this share of the epochs (0.875) drops nothing, so that the training ends on
            everything (1: all epochs may drop).
        seed: of the hash.

    Raises:
        UsageError: numbers that cannot be meant.
    """

    by_whole = True  # a mean over what is left would be biased

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

    def _fix(self, before: NDArray[np.float32]) -> None:
        end = min(self.epoch + 1, self._epochs) / self._epochs
        # What is computed of a share may lie a little below what is meant.
        self._mean = mean_of_known(before) if end <= self._anneal + 1e-9 else None

    def _is_easy(self, before: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.zeros(len(before), np.bool_) if self._mean is None else before.astype(np.float64) < self._mean

    def _drops(self, pairs: NDArray[np.int64], before: NDArray[np.float32]) -> NDArray[np.bool_]:
        return self._is_easy(before) & (uniform(self._seed, self.epoch, pairs) < self.ratio)

    def weights(self, kept: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """1 / (1 - ratio) for pairs that might have been dropped, 1 for others; None in epochs that drop nothing."""
        known = self._known(kept)
        if self._mean is None:
            return None
        return np.where(self._is_easy(known), 1 / (1 - self.ratio), 1.0).astype(np.float32)


class Ddp(Pruning):
    """Dynamic data pruning (Xiao et al. 2024, arXiv 2406.18373, there for speech), whole pairs: the hard ones are kept.

    Of the pairs with a known loss the share `ratio` (a decimal number; rounded down) with the lowest losses is dropped
    for a cycle; of equal losses the lower pairs are kept. The paper finds the results of all data at `ratio` 0.3.

    Args:
        pairs: of the corpus.
        ratio: the share that is dropped (0.3).
        cycle: epochs for which a choice stands (1).

    Raises:
        UsageError: numbers that cannot be meant.
    """

    def __init__(
        self, *, pairs: int, ratio: float = PRUNING["ddp"]["ratio"], cycle: int = PRUNING["ddp"]["cycle"]
    ) -> None:
        super().__init__(pairs, cycle=cycle)
        _check(ratio=ratio)
        self.ratio = ratio
        self._cut: tuple[np.float32, int] | None = None

    def _fix(self, before: NDArray[np.float32]) -> None:
        known = sum(int(np.count_nonzero(~np.isnan(part))) for part in _slices(before))
        # Of the decimal that was written: as a product of floats 0.29 of 100 would be 28.
        dropped = math.floor(Fraction(str(self.ratio)) * known)
        self._cut = highest(before, known - dropped) if dropped else None

    def _drops(self, pairs: NDArray[np.int64], before: NDArray[np.float32]) -> NDArray[np.bool_]:
        if self._cut is None:
            return np.zeros(len(pairs), np.bool_)
        loss, last = self._cut
        return (before < loss) | ((before == loss) & (pairs > last))


class PrunedBatches:
    """A batch sampler that yields what `pruning` leaves of the batches of another; batches without a pair are skipped.

    For `torch.utils.data.DataLoader(…, batch_sampler=PrunedBatches(…))`, or any loop over lists of indices. Call
    `pruning.begin(epoch)` before each epoch. It may run ahead of the training, as a loader with workers does: no
    decision depends on the losses of the epoch itself.

    Args:
        batches: any iterable of batches, each a list of pairs.
        pruning: what decides.
    """

    def __init__(self, batches: Iterable[Sequence[int]], pruning: Pruning) -> None:
        self.batches, self.pruning = batches, pruning
        # What was drawn for batches that `along` has not given yet; None while nobody would take it out again.
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
        """Batches at most; where none is left without a pair, exactly."""
        return len(self.batches)  # pyright: ignore[reportArgumentType]

    def along(self, loader: Iterable[Any]) -> Iterator[tuple[Any, Drawn]]:
        """Each batch of a loader of this sampler, with what was drawn for it; the loader keeps the order of batches.

        Raises:
            UsageError: the loader began before.
        """
        self._ahead = ahead = deque[Drawn]()
        try:
            for batch in loader:
                if not ahead:
                    raise UsageError("the loader began before `along`: give the loader itself, not an iterator of it")
                yield batch, ahead.popleft()
        finally:
            if self._ahead is ahead:  # another epoch may have begun before this one was cleared away
                self._ahead = None


def _check(**given: Any) -> None:
    """Refuse numbers that cannot be meant; NumPy's are as good as Python's."""
    check_numbers(**{name: one.item() if isinstance(one, np.generic) else one for name, one in given.items()})


def _slices(array: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for first in range(0, len(array), SLICE):
        yield array[first : first + SLICE]


def mean_of_known(losses: NDArray[np.float32]) -> float | None:
    """The mean of what is not NaN, added up in float64 from the first pair on; None if there is nothing."""
    total, count = 0.0, 0
    for part in _slices(losses):
        known = part[~np.isnan(part)]
        total, count = total + float(known.sum(dtype=np.float64)), count + len(known)
    return total / count if count else None


def _keys(losses: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Of losses that are not NaN, numbers in their order; -0.0 is 0.0."""
    bits = (losses[~np.isnan(losses)] + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def highest(losses: NDArray[np.float32], count: int) -> tuple[np.float32, int]:
    """Where the `count` highest losses end (1 to those known): the lowest among them, and the last pair that has it.

    Exact, in three passes that hold a slice each: two count the upper and the lower 16 bits, one finds the pair. Of
    equal losses the lower pairs come first.
    """
    left, upper = count, 0
    for place in range(2):
        counts = np.zeros(1 << 16, np.int64)
        for part in _slices(losses):
            keys = _keys(part)
            found = keys >> 16 if place == 0 else keys[keys >> 16 == upper] & 0xFFFF
            counts += np.bincount(found, minlength=1 << 16)
        from_top = np.cumsum(counts[::-1])
        bucket = int(np.searchsorted(from_top, left))
        left -= int(from_top[bucket - 1]) if bucket else 0
        upper = (upper << 16) | ((1 << 16) - 1 - bucket)
    bits = upper & 0x7FFFFFFF if upper >> 31 else ~upper & 0xFFFFFFFF
    loss: np.float32 = np.array([bits], np.uint32).view(np.float32)[0]
    return loss, _place_of(losses, loss, left)


def _place_of(losses: NDArray[np.float32], loss: np.float32, count: int) -> int:
    """The pair that is the `count`th (from 1) of those with this loss."""
    first = 0
    for part in _slices(losses):
        found = np.flatnonzero(part == loss)
        if len(found) >= count:
            return first + int(found[count - 1])
        first, count = first + len(part), count - len(found)
    return first


def uniform(seed: int, epoch: int, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """A number from 0 to below 1 for each pair, by (seed, epoch, pair) alone: splitmix64 (Steele et al. 2014)."""
    stream = np.array([seed], np.uint64)
    stream = _mix(_mix(stream + _GOLDEN) + np.array([epoch], np.uint64))
    mixed = _mix(stream + (pairs.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's way of spreading a change of any bit over all."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
