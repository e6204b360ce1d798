"""The updates of a training as tensors: which pairs of a batch are trained on, in which parts, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from catprune.model.attention import Packed, Padded, Spans, has_packed
from catprune.model.batches import PART_TOKENS, token_places
from catprune.model.sizes import forward_flops
from catprune.workspace.device import send

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from catprune.model.attention import Form
    from catprune.model.batches import Batch, Pairs, Sequences
    from catprune.model.sizes import Size
    from catprune.training.data_order import Order
    from catprune.training.processes import Processes
    from catprune.training.pruned_rows import PrunedRows
    from catprune.workspace.device import Device

#: Bytes that a token of either side keeps for the backward pass, for each layer and number of its vector: measured with
#: products of 2 bytes (42 to 45) and 4 bytes (72 to 75) on all presets.
_KEPT = {2: 45, 4: 75}


class Part(NamedTuple):
    """A part of an update, on the device.

    Attributes:
        source, inputs, targets, places, form, weights: the arguments of `Loss`.
        tokens: the indices of the part's tokens that count among the target tokens of the kept pairs, int64 [tokens];
            None without pruning.
    """

    source: Tensor
    inputs: Tensor
    targets: Tensor
    places: Tensor
    form: Form
    weights: Tensor | None
    tokens: Tensor | None


class Update(NamedTuple):
    """An update, as one process computes it.

    Attributes:
        pairs: pairs of the batch, pruned ones included.
        tokens: target tokens of the batch, pruned ones included.
        kept_pairs: the pairs that are trained on.
        kept_tokens: the target tokens that are trained on.
        basis: the denominator of the summed losses.
        units: numbers of the kept units, int64 [units].
        of_tokens: for each target token of the kept pairs the index of its unit; -1 if the token does not count;
            None without pruning.
        flops: floating-point operations, of all processes.
        has_own: whether this process has pairs. Without, it computes a dummy pair that must not count.
        parts: computed one after the other, their gradients added up; none if all pairs are pruned.
    """

    pairs: int
    tokens: int
    kept_pairs: int
    kept_tokens: int
    basis: int
    units: NDArray[np.int64]
    of_tokens: NDArray[np.int64] | None
    flops: float
    has_own: bool
    parts: list[Part]


class _Pruned(NamedTuple):
    """A batch after pruning.

    Attributes:
        kept: the pairs that are trained on, indices into the window, int64 [kept].
        lengths: their target tokens that count, int64 [kept].
        weights: the weights of their losses, float32 [kept]; None: 1.
        basis, units, of_tokens: as in `Update`.
    """

    kept: NDArray[np.int64]
    lengths: NDArray[np.int64]
    weights: NDArray[np.float32] | None
    basis: int
    units: NDArray[np.int64]
    of_tokens: NDArray[np.int64] | None


def fitting_tokens(size: Size, dtype: torch.dtype, *, memory: int) -> int:
    """Return how many tokens of either side fit into half of `memory` bytes, with all that the backward pass needs."""
    layers = size.encoder_layers + size.decoder_layers
    return max(1, memory // 2 // (_KEPT[dtype.itemsize] * size.d_model * layers))


@dataclass(frozen=True, slots=True)
class Updates:
    """Makes the updates of a training; safe to call from one other thread while the model is trained.

    Attributes:
        order: the order of the pairs.
        size: the model's shape.
        device: where the tensors go.
        processes: the processes that train together; the pairs of a batch are split round-robin across them.
        pruning: which pairs of each batch are skipped; None: none.
        accumulate: parts that a batch is computed in; None: as many as keep a part within `part_tokens`.
        part_tokens: about the most tokens of a part on either side, padding included.
        is_packed: whether sequences are packed end to end, without padding.
        gpu: the number of the GPU; None on processors.
    """

    order: Order
    size: Size
    device: Device
    processes: Processes
    pruning: PrunedRows | None
    accumulate: int | None
    part_tokens: int
    is_packed: bool
    gpu: int | None

    @classmethod
    def of(
        cls,
        order: Order,
        *,
        size: Size,
        device: Device,
        processes: Processes,
        pruning: PrunedRows | None,
        accumulate: int | None,
    ) -> Updates:
        """Choose parts and layout by the device."""
        tokens, gpu = PART_TOKENS, None
        if device.name == "cuda":
            gpu = torch.cuda.current_device()
            tokens = fitting_tokens(size, device.dtype, memory=torch.cuda.get_device_properties(gpu).total_memory)
        is_packed = has_packed(device.name, device.dtype)
        return cls(order, size, device, processes, pruning, accumulate, tokens, is_packed, gpu)

    def make(self, pairs: Pairs, chosen: NDArray[np.int64]) -> Update:
        """Prune the batch of the pairs at the indices `chosen`, and make the tensors of this process."""
        if self.gpu is not None:
            torch.cuda.set_device(self.gpu)  # a setting of each thread
        pruned = self._prune(pairs, chosen)
        kept, number = pruned.kept, self.processes.number
        has_own, parts = number < len(kept), list[Part]()
        if len(kept):
            own = self._split(pairs, kept, number) if has_own else [np.zeros(1, np.int64)]
            parts = [self._part(pairs, pruned, places) for places in own]
        return Update(
            pairs=len(chosen),
            tokens=int(pairs.target.lengths[chosen].sum()),
            kept_pairs=len(kept),
            kept_tokens=int(pruned.lengths.sum()),
            basis=pruned.basis,
            units=pruned.units,
            of_tokens=pruned.of_tokens,
            flops=self._flops(pairs, pruned),
            has_own=has_own,
            parts=parts,
        )

    def _prune(self, pairs: Pairs, chosen: NDArray[np.int64]) -> _Pruned:
        lengths = pairs.target.lengths[chosen]
        if self.pruning is None:
            return _Pruned(chosen, lengths, None, int(lengths.sum()), chosen[:0], None)
        pruning, units = self.pruning.pruning, self.pruning.units(pairs.rows[chosen], lengths)
        keeps = pruning.keeps(units.numbers)
        counted = np.bincount(units.owners, units.lengths * keeps, len(chosen)).astype(np.int64)
        kept, of_kept = chosen[counted > 0], (counted > 0)[units.owners]
        of_units = np.where(keeps, np.cumsum(keeps) - 1, -1)[of_kept]
        return _Pruned(
            kept,
            counted[counted > 0],
            pruning.weights(pairs.rows[kept]),
            int(lengths.sum() if pruning.by_whole else counted.sum()),
            units.numbers[keeps],
            np.repeat(of_units, units.lengths[of_kept]),
        )

    def _split(self, pairs: Pairs, kept: NDArray[np.int64], number: int) -> list[NDArray[np.int64]]:
        """Split the pairs of process `number` into parts: places in `kept`."""
        own = np.arange(number, len(kept), self.processes.count)
        padded = len(own) * max(int(side.lengths[kept[own]].max()) for side in (pairs.source, pairs.target))
        count = self.accumulate or -(-padded // self.part_tokens)
        return np.array_split(own, min(count, len(own)))

    def _flops(self, pairs: Pairs, pruned: _Pruned) -> float:
        """Count the operations of all processes."""
        kept, flops = pruned.kept, 0.0
        for number in range(min(self.processes.count, len(kept))):
            for part in self._split(pairs, kept, number):
                flops += 3 * forward_flops(
                    self.size,
                    vocab_size=self.order.tokens.tokenizer.vocab_size,
                    source=self._computed(pairs.source, kept[part]),
                    target=self._computed(pairs.target, kept[part]),
                    outputs=int(pruned.lengths[part].sum()),
                )
        return flops

    def _computed(self, side: Sequences, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions that are computed for each sequence, int64 [chosen]."""
        lengths = side.lengths[chosen]
        return lengths if self.is_packed else np.full(len(chosen), lengths.max())

    def _part(self, pairs: Pairs, pruned: _Pruned, places: NDArray[np.int64]) -> Part:
        """Gather the kept pairs at `places`."""
        device = self.device.name
        kept, gather = pruned.kept[places], pairs.pack if self.is_packed else pairs.batch
        batch = gather(kept, self.order.tokens.tokenizer)
        counted = np.arange(len(batch.targets)) if self.is_packed else token_places(batch)
        tokens = None
        if pruned.of_tokens is not None:
            tokens = _ranges(np.cumsum(pairs.target.lengths[pruned.kept]), places)
            counts = pruned.of_tokens[tokens] >= 0
            counted, tokens = counted[counts], send(tokens[counts], device)
        weights = None if pruned.weights is None else np.repeat(pruned.weights[places], batch.target_lengths)
        return Part(
            source=send(batch.source, device),
            inputs=send(batch.inputs, device),
            targets=send(batch.targets, device),
            places=send(counted, device),
            form=self._form(batch),
            weights=None if weights is None else send(weights, device),
            tokens=tokens,
        )

    def _form(self, batch: Batch) -> Form:
        device = self.device.name
        if self.is_packed:
            source, target = (
                Spans.of(lengths, device=device) for lengths in (batch.source_lengths, batch.target_lengths)
            )
            return Packed(source, target)
        longest = batch.source.shape[1]
        if batch.source_lengths.min() == longest:
            return Padded()
        return Padded(send(np.arange(longest) < batch.source_lengths[:, None], device))


def _ranges(ends: NDArray[np.int64], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of some of the ranges that end at `ends` and follow each other, one after the other."""
    firsts = np.concatenate([[0], ends[:-1]])[chosen]
    lengths = ends[chosen] - firsts
    return np.arange(lengths.sum()) + np.repeat(firsts - (np.cumsum(lengths) - lengths), lengths)
