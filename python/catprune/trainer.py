"""The training loop: updates, checkpoints, metrics, and the saved state from which a killed run goes on."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from catprune._core import digest_file
from catprune.attention import Padded
from catprune.batches import Batch, Order, Pairs, row_ranges
from catprune.checkpoints import fit, load_tensors, save_tensors, write_checkpoint
from catprune.errors import CatpruneError
from catprune.folder import STATE, append_line, write_whole
from catprune.model import UNMASKED, Transformer, forward_flops
from catprune.output import smoothed_loss

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from catprune.device import Device
    from catprune.folder import StepFolder
    from catprune.progress import Progress
    from catprune.recipe import Mark, Recipe, Size
    from catprune.tokens import BlockEntry

METRICS_EVERY = 25
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(slots=True)
class Position:
    """Where the training stands: the next batch, and what was done. `pairs` counts those of this epoch."""

    epoch: int = 0
    window: int = 0
    batch: int = 0
    step: int = 0
    pairs: int = 0
    target_tokens: int = 0
    flops: float = 0.0
    tokens: int = 0  # target tokens since the last line of metrics


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
    ) -> None:
        self.folder, self.order, self.recipe, self.size = folder, order, recipe, size
        self.device, self.save_every = device, save_every
        self.at = Position()
        self._interrupts = _Interrupts()
        self.per_epoch = order.counts[0]
        torch.manual_seed(_seed_of(recipe.seed, 0))
        vocab_size = order.tokens.tokenizer.vocab_size
        self.model = Transformer(size, vocab_size=vocab_size, dropout=recipe.dropout).to(device.name).train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=0.0, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.01, fused=True
        )
        # Of loss and nll since the last line of metrics: kept as they are, so that no save changes their rounding.
        self._sums = torch.zeros(2, dtype=torch.float64, device=device.name)
        if self._state_file.is_file():
            self._load_state()
        self._cut_metrics()
        self._started, self._before = time.monotonic(), self.at.target_tokens
        self.marks, self.end = [mark for mark in marks if not self._reached(mark)], marks[-1]

    @property
    def _state_file(self) -> Path:
        return self.folder.path / STATE

    def _reached(self, mark: Mark) -> bool:
        done = self.at.epoch * self.per_epoch + self.at.pairs
        return mark.reached(step=self.at.step, pairs=done, per_epoch=self.per_epoch)

    def run(self, bar: Progress) -> None:
        """Train until the last mark is reached; the bar counts updates where the last mark does, else target tokens.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed; the update at hand was finished and the state saved.
        """
        self._show(bar)
        started, before, at = self._started, self._before, self.at
        with self._interrupts:
            while self.marks:
                windows = self.order.windows(at.epoch)
                while at.window < len(windows) and self.marks:
                    self._run_window(windows, bar)
                if self.marks:
                    at.epoch, at.window, at.batch, at.pairs = at.epoch + 1, 0, 0, 0
        seconds = max(time.monotonic() - started, 1e-9)
        tokens = at.target_tokens - before
        rates = {"seconds": round(seconds, 3), "tokens_per_second": round(tokens / seconds, 1)}
        self.folder.log("trained", step=at.step, target_tokens=tokens, threads=torch.get_num_threads(), **rates)

    def _run_window(self, windows: list[list[BlockEntry]], bar: Progress) -> None:
        at = self.at
        pairs, batches = self.order.batches(at.epoch, at.window, windows[at.window])
        while at.batch < len(batches) and self.marks:
            self._update(pairs.batch(batches[at.batch], self.order.tokens.tokenizer))
            at.batch += 1
            reached = [mark for mark in self.marks if self._reached(mark)]
            self.marks = [mark for mark in self.marks if mark not in reached]
            if at.step % METRICS_EVERY == 0 or not self.marks:
                self._write_metrics(bar)
            for mark in reached:
                self._write_checkpoint(mark, pairs, batches[: at.batch], windows)
            stop = self._interrupts.noted
            if stop or (self.marks and (reached or at.step % self.save_every == 0)):
                self._save_state()
            if stop:
                raise KeyboardInterrupt
        if self.marks:
            at.window, at.batch = at.window + 1, 0

    def _update(self, batch: Batch) -> None:
        """One update: forward, loss, backward, clipping, AdamW."""
        at, device = self.at, self.device.name
        at.step += 1
        torch.manual_seed(_seed_of(self.recipe.seed, at.step))  # so that a resumed run drops the same units
        source, inputs, targets = (
            torch.from_numpy(part).to(device) for part in (batch.source, batch.inputs, batch.targets)
        )
        form = UNMASKED
        if batch.source_lengths.min() < batch.source.shape[1]:
            mask = torch.from_numpy(np.arange(batch.source.shape[1]) < batch.source_lengths[:, None])
            form = Padded(mask.to(device))
        with self.device.autocast():
            hidden = self.model(source, inputs, form)
        tokens = int(batch.target_lengths.sum())
        places = torch.from_numpy(token_places(batch)).to(device)
        sums = smoothed_loss(
            hidden.flatten(0, 1).index_select(0, places),
            self.model.embedding.weight,
            targets.flatten().index_select(0, places),
            smoothing=self.recipe.label_smoothing,
            dtype=self.device.dtype,
        )
        (sums[0] / tokens).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(at.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._sums += torch.stack(sums).detach()
        self._count(batch, tokens)

    def _count(self, batch: Batch, tokens: int) -> None:
        at = self.at
        (pairs, source), target = batch.source.shape, batch.targets.shape[1]
        at.pairs += pairs
        at.target_tokens += tokens
        at.tokens += tokens
        forward = forward_flops(
            self.size,
            vocab_size=self.model.vocab_size,
            source=np.full(pairs, source),
            target=np.full(pairs, target),
            outputs=tokens,
        )
        at.flops += 3 * forward

    def _epoch(self) -> float:
        """Passes over the pairs, whole ones as integers."""
        epoch = self.at.epoch + self.at.pairs / self.per_epoch
        return int(epoch) if epoch == int(epoch) else round(epoch, 6)

    def _write_metrics(self, bar: Progress) -> None:
        """Append a line to metrics.jsonl: means over the updates since the last one, in nats per token."""
        at = self.at
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
        append_line(self.folder.path / "metrics.jsonl", line)
        self._show(bar, loss=f"{line['loss']:.3f}")
        at.tokens = 0

    def _show(self, bar: Progress, **shown: str) -> None:
        at = self.at
        if self.end.unit == "step":
            speed = (at.target_tokens - self._before) / max(time.monotonic() - self._started, 1e-9)
            bar.to(at.step, epoch=f"{self._epoch():.2f}", tokens=f"{speed:,.0f}/s", **shown)
        else:
            bar.to(at.target_tokens, step=at.step, **shown)

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
        seen: dict[str, Any] = {
            "rows": "all" if self.order.selection is None else "selection",
            "tokens": digest_file(str(self.order.tokens.path / "manifest.json")),
        }
        if at.pairs == self.per_epoch:
            seen |= {"times": at.epoch + 1, "once_more": []}
        else:
            whole = [entry for window in windows[: at.window] for entry in window]
            once_more = row_ranges(pairs, batches, partly=windows[at.window], whole=whole)
            seen |= {"times": at.epoch, "once_more": once_more}
        training = {
            "step": at.step,
            "epoch": self._epoch(),
            "target_tokens": at.target_tokens,
            "flops": at.flops,
            "seen": seen,
        }
        target = self.folder.path / mark.name
        write_checkpoint(target, self.model, self.order.tokens, size=self.size, training=training)
        self.folder.log("checkpoint", name=mark.name, step=at.step)

    def _save_state(self) -> None:
        """Replace the state: weights, moments, the losses' sums and the position in one file, renamed into place."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors["sums"] = self._sums
        for name, parameter in self.model.named_parameters():
            moments = self.optimizer.state[parameter]
            tensors |= {f"{moment}.{name}": moments[moment] for moment in _MOMENTS}
        save_tensors(self._state_file, tensors, metadata={"position": json.dumps(asdict(self.at))})

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


def token_places(batch: Batch) -> NDArray[np.int64]:
    """Where the targets' tokens stand in the flattened [pairs, target] matrix."""
    columns = np.arange(batch.targets.shape[1])
    return np.flatnonzero(columns < batch.target_lengths[:, None])


def _seed_of(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])
