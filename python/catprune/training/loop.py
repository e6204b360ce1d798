"""The training loop: updates, checkpoints, metrics, and the saved state from which a killed run goes on."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
from torch import nn

from catprune._core import digest_file
from catprune.checkpoints.native import fit, load_tensors, save_tensors, write_checkpoint
from catprune.errors import CatpruneError
from catprune.model.attention import Padded
from catprune.model.batches import token_places
from catprune.model.output_layer import smoothed_loss, weighted_loss
from catprune.model.transformer import UNMASKED, Transformer, forward_flops
from catprune.workspace.files import append_line, write_whole
from catprune.workspace.step_folder import STATE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from catprune.model.batches import Pairs
    from catprune.model.sizes import Size
    from catprune.tokens.blocks import BlockEntry
    from catprune.training.data_order import Order
    from catprune.training.processes import Processes
    from catprune.training.pruned_rows import PrunedRows
    from catprune.training.recipe import Mark, Recipe
    from catprune.workspace.device import Device
    from catprune.workspace.progress import Progress
    from catprune.workspace.step_folder import StepFolder

METRICS_EVERY = 25
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(slots=True)
class Position:
    """Where the training stands: the next batch, and what was done. `pairs` counts those of this epoch.

    Pairs that were pruned count among `pairs`, and not among `target_tokens`; the `pruned_` numbers are of all epochs.
    """

    epoch: int = 0
    window: int = 0
    batch: int = 0
    step: int = 0
    pairs: int = 0
    target_tokens: int = 0
    flops: float = 0.0
    tokens: int = 0  # target tokens that the losses since the last line of metrics are divided by
    pruned_pairs: int = 0
    pruned_tokens: int = 0
    pruned_batches: int = 0  # of which nothing was left


class _Part(NamedTuple):
    """What is left of a batch: places in the window; `basis` target tokens divide the sum of the weighted losses."""

    kept: NDArray[np.int64]
    weights: NDArray[np.float32] | None  # None: 1
    basis: int


class _Interrupts:
    """While open, the first Ctrl-C is only noted, so that the training can stop between two updates.

    The second ends it at once. Elsewhere than on the main thread, or where the process has its own way with the signal
    (or ignores it), nothing changes.
    """

    def __init__(self) -> None:
        self.noted = self._open = False

    def __enter__(self) -> Self:
        on_main = threading.current_thread() is threading.main_thread()
        self._open = on_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._open:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, *_: object) -> None:
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True


class _Loss(nn.Module):
    """A model and its loss as one module: what processes that train together wrap."""

    def __init__(self, model: Transformer, *, smoothing: float, device: Device, of_pairs: bool) -> None:
        super().__init__()
        self.model, self.smoothing, self.device, self.of_pairs = model, smoothing, device, of_pairs

    def forward(
        self,
        source: Tensor,
        inputs: Tensor,
        targets: Tensor,
        places: Tensor,
        mask: Tensor | None,
        weights: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Sums over the targets' tokens, float64 [2]: the smoothed loss, and the nll without gradient.

        With weights both are weighted. Where it is asked for (`of_pairs`), the nll of each pair comes besides as it is,
        float64 [pairs].

        Args:
            source, inputs, targets: ids as in `Batch`, padded.
            places: where tokens stand in the flattened targets.
            mask: of the sources, as in `Padded`.
            weights: of the tokens, float32; None: 1, always so where nothing is asked for of the pairs.
        """
        with self.device.autocast():
            hidden = self.model(source, inputs, UNMASKED if mask is None else Padded(mask))
        hidden = hidden.flatten(0, 1).index_select(0, places)
        gold, matrix = targets.flatten().index_select(0, places), self.model.embedding.weight
        smoothing, dtype = self.smoothing, self.device.dtype
        if not self.of_pairs:
            return torch.stack(smoothed_loss(hidden, matrix, gold, smoothing=smoothing, dtype=dtype)), None
        *sums, nlls = weighted_loss(hidden, matrix, gold, weights, smoothing=smoothing, dtype=dtype)
        of_pairs = torch.zeros(targets.numel(), dtype=torch.float64, device=nlls.device)
        of_pairs[places] = nlls.double()
        return torch.stack(sums), of_pairs.view(targets.shape).sum(1)


class Training:
    """A model in training.

    Args:
        folder: the step's folder, in which checkpoints, metrics and the state are written.
        order: which pairs come when.
        recipe: how to update.
        size: the model's shape.
        marks: where checkpoints are written; the training ends at the last that is reached.
        device: where and in which precision.
        save_every: updates between two states.
        processes: those that train together. Each takes every so many pairs of a batch; gradients are added up, so
            that an update is that of one process but for rounding, and for what dropout drops.
        pruning: what of each batch is passed over; None: nothing. A batch of which nothing is left makes no update
            and is counted as one, so that rates and marks are those of the same training on everything.
    """

    def __init__(
        self,
        folder: StepFolder,
        order: Order,
        recipe: Recipe,
        *,
        size: Size,
        marks: list[Mark],
        device: Device,
        save_every: int,
        processes: Processes,
        pruning: PrunedRows | None = None,
    ) -> None:
        self.folder, self.order, self.recipe, self.size = folder, order, recipe, size
        self.device, self.save_every, self.processes, self.pruning = device, save_every, processes, pruning
        self.at = Position()
        self._interrupts = _Interrupts()
        self.per_epoch = order.counts[0]
        torch.manual_seed(_seed_of(recipe.seed, 0))
        vocab_size = order.tokens.tokenizer.vocab_size
        self.model = Transformer(size, vocab_size=vocab_size, dropout=recipe.dropout).to(device.name).train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=0.0, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.01, fused=True
        )
        self.loss: nn.Module = _Loss(
            self.model, smoothing=recipe.label_smoothing, device=device, of_pairs=pruning is not None
        )
        if processes.count > 1:
            self.loss = processes.wrap(self.loss)
        # Of loss and nll since the last line of metrics: kept as they are, so that no save changes their rounding.
        self._sums = torch.zeros(2, dtype=torch.float64, device=device.name)
        if self._state_file.is_file():
            self._load_state()
        if processes.leads:
            self._cut_metrics()
        self._started, self._before = time.monotonic(), self.at.target_tokens
        self.marks, self.end = [mark for mark in marks if not self._reached(mark)], marks[-1]

    @property
    def _state_file(self) -> Path:
        return self.folder.path / STATE

    def _reached(self, mark: Mark) -> bool:
        done = self.at.epoch * self.per_epoch + self.at.pairs
        return mark.reached(step=self.at.step, pairs=done, per_epoch=self.per_epoch)

    @property
    def done(self) -> int:
        """What is done, in the unit of the last mark: updates, or target tokens, the pruned ones included."""
        at = self.at
        return at.step if self.end.unit == "step" else at.target_tokens + at.pruned_tokens

    def place(self) -> str:
        """Say where a resumed training continues: "continuing at update 527 of 2,635"."""
        at, end = self.at, self.end
        if end.unit == "step":
            return f"continuing at update {at.step:,} of {end.amount:,.0f}"
        # Epochs differ by a few batches, and to count those to come would take a pass over all lengths.
        epochs = at.epoch + at.pairs / self.per_epoch
        return f"continuing at update {at.step:,} of about {at.step * end.amount / epochs:,.0f}"

    def run(self, bar: Progress) -> None:
        """Train until the last mark is reached; the bar counts updates where the last mark does, else target tokens.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed; the update at hand was finished and the state saved.
        """
        self._show(bar)
        started, before, at = self._started, self._before, self.at
        with self._interrupts:
            while self.marks:
                if self.pruning is not None:
                    self.pruning.begin(at.epoch, resumed=at.window > 0 or at.batch > 0)
                windows = self.order.windows(at.epoch)
                while at.window < len(windows) and self.marks:
                    self._run_window(windows, bar)
                if self.marks:
                    at.epoch, at.window, at.batch, at.pairs = at.epoch + 1, 0, 0, 0
        seconds = max(time.monotonic() - started, 1e-9)
        tokens = at.target_tokens - before
        rates = {"seconds": round(seconds, 3), "tokens_per_second": round(tokens / seconds, 1)}
        used = {"threads": torch.get_num_threads(), "processes": self.processes.count}
        if self.processes.leads:
            self.folder.log("trained", step=at.step, target_tokens=tokens, **used, **rates)

    def _run_window(self, windows: list[list[BlockEntry]], bar: Progress) -> None:
        at = self.at
        pairs, batches = self.order.batches(at.epoch, at.window, windows[at.window])
        while at.batch < len(batches) and self.marks:
            self._update(pairs, batches[at.batch])
            at.batch += 1
            reached = [mark for mark in self.marks if self._reached(mark)]
            self.marks = [mark for mark in self.marks if mark not in reached]
            if at.step % METRICS_EVERY == 0 or not self.marks:
                self._write_metrics(bar)
            stop = self.processes.any(said=self._interrupts.noted)
            if self.processes.leads:
                for mark in reached:
                    self._write_checkpoint(mark, pairs, batches[: at.batch], windows)
                if stop or (self.marks and (reached or at.step % self.save_every == 0)):
                    self._save_state()
            if stop:
                raise KeyboardInterrupt
        if self.marks:
            at.window, at.batch = at.window + 1, 0

    def _part(self, pairs: Pairs, chosen: NDArray[np.int64]) -> _Part:
        """What is left of a batch."""
        if self.pruning is None:
            return _Part(chosen, None, int(pairs.target.lengths[chosen].sum()))
        pruning = self.pruning.pruning
        kept = chosen[pruning.keeps(pairs.rows[chosen])]
        basis = chosen if pruning.by_whole else kept
        return _Part(kept, pruning.weights(pairs.rows[kept]), int(pairs.target.lengths[basis].sum()))

    def _update(self, pairs: Pairs, chosen: NDArray[np.int64]) -> None:
        """One update: forward, loss, backward, clipping, AdamW."""
        at, processes = self.at, self.processes
        at.step += 1
        kept, weights, basis = self._part(pairs, chosen)
        self._count(pairs, chosen, kept, basis)
        if not len(kept):
            return
        # So that a resumed run drops the same units, and two processes do not.
        torch.manual_seed(_seed_of(self.recipe.seed, at.step, processes.number))
        mine = slice(processes.number, None, processes.count)
        # A process that is left without a pair goes along with one that does not count.
        has_own = processes.number < len(kept)
        taken = mine if has_own else slice(1)
        sums: Tensor
        nlls: Tensor | None
        sums, nlls = self.loss(*self._tensors(pairs, kept[taken], None if weights is None else weights[taken]))
        weight = processes.count / basis if has_own else 0.0  # processes take the mean of their gradients
        (sums[0] * weight).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(at.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        sums = sums.detach() if has_own else torch.zeros_like(sums)
        processes.add(sums)
        self._sums += sums
        if nlls is not None:
            found = torch.zeros(len(kept), dtype=torch.float64, device=self.device.name)
            if has_own:
                found[mine] = nlls
            self._observe(pairs, kept, found)

    def _observe(self, pairs: Pairs, kept: NDArray[np.int64], nlls: Tensor) -> None:
        """Take down the mean nll of each pair that was trained on; of sums in which other processes' pairs are 0."""
        self.processes.add(nlls)
        if self.pruning is not None and self.processes.leads:
            self.pruning.observe(pairs.rows[kept], nlls.cpu().numpy() / pairs.target.lengths[kept])

    def _tensors(
        self, pairs: Pairs, taken: NDArray[np.int64], weights: NDArray[np.float32] | None
    ) -> Iterator[Tensor | None]:
        """What `_Loss` takes, on the device."""
        batch = pairs.batch(taken, self.order.tokens.tokenizer)
        parts = (batch.source, batch.inputs, batch.targets, token_places(batch))
        yield from (torch.from_numpy(part).to(self.device.name) for part in parts)
        longest = batch.source.shape[1]
        is_padded = batch.source_lengths.min() < longest
        mask = np.arange(longest) < batch.source_lengths[:, None]
        yield torch.from_numpy(mask).to(self.device.name) if is_padded else None
        of_tokens = None if weights is None else torch.from_numpy(np.repeat(weights, batch.target_lengths))
        yield None if of_tokens is None else of_tokens.to(self.device.name)

    def _count(self, pairs: Pairs, chosen: NDArray[np.int64], kept: NDArray[np.int64], basis: int) -> None:
        """Count a batch: its pairs are passed over, and only tokens and operations of those kept were computed."""
        at, processes = self.at, self.processes
        tokens, computed = (int(pairs.target.lengths[part].sum()) for part in (chosen, kept))
        at.pairs += len(chosen)
        at.target_tokens += computed
        at.tokens += basis
        at.pruned_pairs += len(chosen) - len(kept)
        at.pruned_tokens += tokens - computed
        at.pruned_batches += not len(kept)
        for number in range(min(processes.count, len(kept))):
            own = kept[number :: processes.count]
            at.flops += 3 * forward_flops(
                self.size,
                vocab_size=self.model.vocab_size,
                source=np.full(len(own), pairs.source.lengths[own].max()),
                target=np.full(len(own), pairs.target.lengths[own].max()),
                outputs=int(pairs.target.lengths[own].sum()),
            )

    def _epoch(self) -> float:
        """Passes over the pairs, whole ones as integers."""
        epoch = self.at.epoch + self.at.pairs / self.per_epoch
        return int(epoch) if epoch == int(epoch) else round(epoch, 6)

    def _write_metrics(self, bar: Progress) -> None:
        """Append a line to metrics.jsonl: means over the updates since the last one, in nats per token."""
        at = self.at
        if not at.tokens:  # nothing was left of any batch
            return
        loss, nll = self._sums.tolist()
        self._sums.zero_()
        if not math.isfinite(loss):
            raise CatpruneError(
                f"{self.folder.path}: the loss is not a number at step {at.step}: "
                "train with a lower --learning-rate and --force"
            )
        line = {
            "step": at.step,
            "epoch": self._epoch(),
            "loss": loss / at.tokens,
            "nll": nll / at.tokens,
            "learning_rate": self.recipe.rate(at.step),
        }
        if self.pruning is not None:
            line |= {"pruned_pairs": at.pruned_pairs, "pruned_tokens": at.pruned_tokens}
        if self.processes.leads:
            append_line(self.folder.path / "metrics.jsonl", line)
        self._show(bar, loss=f"{line['loss']:.3f}")
        at.tokens = 0

    def _show(self, bar: Progress, **shown: str) -> None:
        at = self.at
        if self.end.unit == "step":
            speed = (at.target_tokens - self._before) / max(time.monotonic() - self._started, 1e-9)
            bar.to(self.done, epoch=f"{self._epoch():.2f}", tokens=f"{speed:,.0f}/s", **shown)
        else:
            bar.to(self.done, step=at.step, **shown)

    def _cut_metrics(self) -> None:
        """Drop the lines that a killed run wrote after its last state."""
        path = self.folder.path / "metrics.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        kept = [line for line in lines if line.endswith(b"\n") and json.loads(line)["step"] <= self.at.step]
        write_whole(path, b"".join(kept))

    def _write_checkpoint(
        self, mark: Mark, pairs: Pairs, batches: list[NDArray[np.int64]], windows: list[list[BlockEntry]]
    ) -> None:
        at = self.at
        target = self.folder.path / mark.name
        times, seen = self._seen(pairs, batches, windows)
        training = {
            "step": at.step,
            "epoch": self._epoch(),
            "target_tokens": at.target_tokens,
            "flops": at.flops,
            "reverse": self.order.reverse,
            "seen": {
                "tokens": digest_file(str(self.order.tokens.path / "manifest.json")),
                "end": self.order.tokens.blocks[-1].end,
                "times": times,
            },
        }
        write_checkpoint(target, self.model, self.order.tokens, size=self.size, training=training, seen=seen)
        self.folder.log("checkpoint", name=mark.name, step=at.step)

    def _seen(
        self, pairs: Pairs, batches: list[NDArray[np.int64]], windows: list[list[BlockEntry]]
    ) -> tuple[list[int], Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]] | None]:
        """How often pairs have been trained on.

        Args:
            pairs, batches: of the window at hand, the batches that are done.
            windows: of the epoch at hand.

        Returns:
            The numbers of times that occur, ascending; and where they differ, for each block the rows that carry tokens
            and how often each of them was trained on, both int64 [rows].
        """
        at, order, pruning = self.at, self.order, self.pruning
        at_end = at.pairs == self.per_epoch
        times = {at.epoch + 1} if at_end else {at.epoch, at.epoch + 1}
        if self.per_epoch < order.tokens.manifest["counts"]["pairs"]:
            times.add(0)
        if len(times) == 1 and pruning is None:
            return list(times), None
        place = len(windows) if at_end else at.window
        whole = {entry.first for window in windows[:place] for entry in window}
        partly = set() if at_end else {entry.first for entry in windows[place]}
        done = pairs.rows[np.concatenate(batches)]

        def counted() -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
            for entry in order.tokens.blocks:
                rows = order.tokens.read(entry).rows
                left = order.left(entry, rows)
                once_more = left if entry.first in whole else np.zeros(len(rows), np.bool_)
                if entry.first in partly:
                    once_more = np.isin(rows, done, assume_unique=True)
                yield rows, left * (at.epoch + once_more if pruning is None else pruning.times(rows, once_more))

        if pruning is not None:
            times = {number for _, numbers in counted() for number in np.unique(numbers).tolist()}
        return sorted(times), counted() if len(times) > 1 else None

    def _save_state(self) -> None:
        """Replace the state: weights, moments, the losses' sums and the position in one file, renamed into place."""
        if self.pruning is not None:
            self.pruning.flush()
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors["sums"] = self._sums
        for name, parameter in self.model.named_parameters():
            moments = self.optimizer.state[parameter]
            tensors |= {f"{moment}.{name}": moments[moment] for moment in _MOMENTS}
        save_tensors(self._state_file, tensors, metadata={"position": json.dumps(asdict(self.at))})
        if self.pruning is not None:
            self.pruning.forget(self.at.epoch)

    def _load_state(self) -> None:
        tensors, metadata = load_tensors(self._state_file)
        if "sums" not in tensors:
            raise CatpruneError(f"{self._state_file} is another version's: remove it, and the training starts anew")
        self._sums = tensors["sums"].to(self.device.name)
        prefix = "model."
        weights = {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
        fit(self.model, weights, name=self._state_file)
        for name, parameter in self.model.named_parameters():
            moments = {moment: tensors[f"{moment}.{name}"].to(self.device.name) for moment in _MOMENTS}
            self.optimizer.state[parameter] = moments
        self.at = Position(**json.loads(metadata["position"]))


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
