"""The training loop: updates, checkpoints, metrics, and the saved state from which a killed run continues."""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from catprune._core import digest_bytes, digest_file
from catprune.checkpoints.native import (
    exposure_of,
    fit,
    load_tensors,
    read_checkpoint,
    save_tensors,
    verify_files,
    write_checkpoint,
)
from catprune.errors import CatpruneError
from catprune.model.transformer import Transformer
from catprune.training.exposure import count_exposure
from catprune.training.loss import Loss
from catprune.training.position import Position
from catprune.training.tensorboard import EventFiles
from catprune.training.updates import Updates
from catprune.workspace.ahead import ahead
from catprune.workspace.files import append_line, write_whole
from catprune.workspace.manifest import digest_manifest
from catprune.workspace.signals import Interrupts
from catprune.workspace.step_folder import PRUNED_ROWS, STATE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from catprune.checkpoints.native import Checkpoint
    from catprune.model.batches import Pairs
    from catprune.model.sizes import Size
    from catprune.tokens.blocks import BlockEntry
    from catprune.training.data_order import Order
    from catprune.training.early_stopping import EarlyStopping
    from catprune.training.processes import Processes
    from catprune.training.pruned_rows import PrunedRows
    from catprune.training.recipe import Mark, Recipe
    from catprune.training.updates import Update
    from catprune.workspace.device import Device
    from catprune.workspace.progress import Progress
    from catprune.workspace.step_folder import StepFolder

METRICS_EVERY = 25
#: Updates between two questions whether a process was interrupted: the answer takes a millisecond with 64 processes.
LISTEN_EVERY = 8
#: The file of means over updates, a line each.
METRICS = "metrics.jsonl"
#: Most seconds between two saved states, so that a killed run never loses more than these.
SAVE_SECONDS = 180
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Training:
    """A model in training.

    Args:
        folder: the step's folder; checkpoints, metrics and the state are written there.
        order: the order of the pairs.
        recipe: the options of an update.
        size: the model's shape.
        marks: where checkpoints are written; the training ends at the last one.
        device: device and precision.
        save_every: updates between two saved states.
        accumulate: parts that a batch is computed in; None: see `Updates`.
        processes: the processes that train together. Each batch is split round-robin across them and gradients are
            averaged, so that an update equals that of one process, except for rounding and dropout.
        init: the checkpoint whose weights the training starts from; None: random weights.
        resumes: whether the moments, the count of updates and the costs of `init` are taken over, too.
        keep_moments: number of updates whose checkpoint also holds the moments; None: no checkpoint does.
        pruning: which pairs of each batch are skipped; None: none. A batch without pairs makes no update but counts
            as one, so that learning rates and marks are those of the training on all pairs.
        writes_events: whether the metrics are also written for TensorBoard.
        stopping: ends the training before the last mark, when the dev loss no longer falls; None: nothing does.
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
        accumulate: int | None = None,
        pruning: PrunedRows | None = None,
        init: Checkpoint | None = None,
        resumes: bool = False,
        keep_moments: int | None = None,
        writes_events: bool = False,
        stopping: EarlyStopping | None = None,
    ) -> None:
        self.folder, self.order, self.recipe, self.size = folder, order, recipe, size
        self.device, self.save_every, self.processes, self.pruning = device, save_every, processes, pruning
        self.stopping, self.keep_moments = stopping, keep_moments
        self._writes_events = writes_events
        self._events: EventFiles | None = None
        self.updates = Updates.of(
            order, size=size, device=device, processes=processes, pruning=pruning, accumulate=accumulate
        )
        # Updates whose losses are still on the device: the unit numbers, the unit of each token, the nll of each token.
        self._unread: list[tuple[NDArray[np.int64], NDArray[np.int64], Tensor]] = []
        self._exposure_before = None if init is None else exposure_of(init, order.tokens)
        self.at, self._epochs_before = Position(), 0.0
        if init is not None and resumes:
            self.at = Position(step=init.step, target_tokens=init.target_tokens, flops=init.flops)
            self._epochs_before = init.epoch
        self._interrupts = Interrupts()
        self.per_epoch = order.counts[0]
        torch.manual_seed(_seed_of(order.seed, 0))
        vocab_size = order.tokens.tokenizer.vocab_size
        self.model = Transformer(size, vocab_size=vocab_size, dropout=recipe.dropout).to(device.name).train()
        self.optimizer = torch.optim.AdamW(
            _groups(self.model, recipe.weight_decay), lr=0.0, betas=recipe.betas, eps=1e-9, fused=True
        )
        self.loss: nn.Module = Loss(
            self.model, smoothing=recipe.label_smoothing, device=device, of_tokens=pruning is not None
        )
        if processes.count > 1:
            self.loss = processes.wrap(self.loss)
        # Sums of loss and nll since the last line of metrics, saved with the state: so a resume rounds as before.
        self._sums = torch.zeros(2, dtype=torch.float64, device=device.name)
        if self._state_file.is_file():
            self._load_state()
        elif init is not None:
            fit(self.model, load_tensors(init.weights)[0], name=init.weights)
            if resumes:
                self._set_moments(load_tensors(init.moments)[0])
        if processes.leads:
            self._cut_metrics()
        self._started, self._before = time.monotonic(), self.at.target_tokens
        self._saved = self._started
        self.marks, self.end = [mark for mark in marks if not self.reached(mark)], marks[-1]

    @property
    def _state_file(self) -> Path:
        return self.folder.path / STATE

    def reached(self, mark: Mark) -> bool:
        """Whether the training has come to a mark."""
        done = self.at.epoch * self.per_epoch + self.at.pairs
        return mark.reached(step=self.at.step, pairs=done, per_epoch=self.per_epoch)

    @property
    def done(self) -> int:
        """Progress in the unit of the last mark: updates, or target tokens including pruned ones."""
        at = self.at
        return at.step if self.end.unit == "step" else at.target_tokens + at.pruned_tokens

    def place(self) -> str:
        """Say where a resumed training continues: "continuing at update 527 of 2,635"."""
        at, end = self.at, self.end
        if end.unit == "step":
            return f"continuing at update {at.step:,} of {end.amount:,.0f}"
        # An estimate: epochs differ by a few batches, and counting those to come would take a pass over all lengths.
        epochs = at.epoch + at.pairs / self.per_epoch
        return f"continuing at update {at.step:,} of about {at.step * end.amount / epochs:,.0f}"

    def run(self, bar: Progress) -> None:
        """Train until the last mark is reached.

        Args:
            bar: shows `done`.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed, or SIGTERM or SIGHUP came; the current update was finished and the
                state saved.
        """
        self._show(bar)
        started, before, at = self._started, self._before, self.at
        with self._interrupts, self._open_events() as self._events:
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
        used["part_tokens"] = self.updates.part_tokens
        if self.processes.leads:
            self.folder.log("trained", step=at.step, target_tokens=tokens, **used, **rates)

    def _open_events(self) -> contextlib.AbstractContextManager[EventFiles | None]:
        if not self._writes_events:
            return contextlib.nullcontext()
        # A run for each plan: another training in the same folder is another run of TensorBoard.
        name = f"{self.folder.path.absolute().name}-{self.folder.digest[:8]}"
        return EventFiles(self.folder.path / "log" / "tensorboard" / name, step=self.at.step)

    def _run_window(self, windows: list[list[BlockEntry]], bar: Progress) -> None:
        at = self.at
        pairs, batches = self.order.batches(at.epoch, at.window, windows[at.window])
        with contextlib.closing(ahead(partial(self.updates.make, pairs), batches[at.batch :])) as updates:
            for update in updates:
                self._update(update)
                at.batch += 1
                self._after_update(pairs, batches, windows, bar)
                if not self.marks:
                    break
        self._read_losses()
        if self.marks:
            at.window, at.batch = at.window + 1, 0

    def _after_update(
        self, pairs: Pairs, batches: list[NDArray[np.int64]], windows: list[list[BlockEntry]], bar: Progress
    ) -> None:
        """Write what is due: metrics, checkpoints, the state; stop where that is asked for."""
        at = self.at
        reached = [mark for mark in self.marks if self.reached(mark)]
        self.marks = [mark for mark in self.marks if mark not in reached]
        if at.step % METRICS_EVERY == 0 or not self.marks:
            self._write_metrics(bar)
        elif at.step == 1 and at.tokens and self._events is not None:
            self._events.write(1, self._metrics())  # so that curves begin where the training does
        stop = self._is_stopped()
        if self.processes.leads:
            for mark in reached:
                self._write_checkpoint(mark, pairs, batches[: at.batch], windows)
        if reached and self.stopping is not None and self._ends_early(reached):
            self.marks = []
            self._write_metrics(bar)
        if self.processes.leads and (stop or (self.marks and (reached or self._is_save_due()))):
            self._save_state()
        if stop:
            raise KeyboardInterrupt(*filter(None, [self._interrupts.noted]))

    def _is_stopped(self) -> bool:
        """Whether a process was interrupted. Several processes ask each other after every few updates only."""
        if self.processes.count > 1 and self.at.step % LISTEN_EVERY:
            return False
        return self.processes.any(flag=bool(self._interrupts.noted))

    def _ends_early(self, reached: Sequence[Mark]) -> bool:
        """Measure the dev loss of new checkpoints; return whether the training stops."""
        stopping, losses = self.stopping, self.at.dev_nll
        assert stopping is not None
        if self.processes.leads:
            losses |= {mark.name: stopping.nll(self.folder.path / mark.name) for mark in reached}
            if self._events is not None:
                self._events.write(self.at.step, {"dev_nll": losses[reached[-1].name]})
        return self.processes.broadcast(stop=self.processes.leads and stopping.is_over([*losses.values()]))

    def _is_save_due(self) -> bool:
        return self.at.step % self.save_every == 0 or time.monotonic() - self._saved >= SAVE_SECONDS

    def _update(self, update: Update) -> None:
        """One update: forward, loss, backward, clipping, AdamW. Nothing here waits for a GPU."""
        at, processes = self.at, self.processes
        at.step += 1
        self._count(update)
        if not update.parts:
            return
        # Seeded by step and rank: a resumed run drops the same units, and two processes drop different ones.
        torch.manual_seed(_seed_of(self.order.seed, at.step, processes.number))
        weight = processes.count / update.basis if update.has_own else 0.0  # DDP averages the gradients
        total = torch.zeros(2, dtype=torch.float64, device=self.device.name)
        of_tokens = update.of_tokens
        nlls = None if of_tokens is None else torch.zeros(len(of_tokens), device=self.device.name)
        for part in update.parts:
            with contextlib.nullcontext() if part is update.parts[-1] else processes.apart(self.loss):
                *arguments, tokens = part
                sums, token_nlls = self.loss(*arguments)
                (sums[0] * weight).backward()
            if update.has_own:
                total += sums.detach()
                if nlls is not None and tokens is not None:
                    nlls.index_copy_(0, tokens, token_nlls)
        if self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(at.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        processes.add(total)
        self._sums += total
        if of_tokens is not None and nlls is not None:
            processes.add(nlls)
            self._unread.append((update.units, of_tokens, nlls))

    def _read_losses(self) -> None:
        """Record the mean nll of the units of the last updates, which the device still holds."""
        if self.pruning is not None and self.processes.leads:
            for units, of_tokens, nlls in self._unread:
                owners, counts = of_tokens[of_tokens >= 0], of_tokens >= 0
                sums = np.bincount(owners, nlls.cpu().numpy()[counts], len(units))
                self.pruning.observe(units, sums / np.bincount(owners))
        self._unread.clear()

    def _count(self, update: Update) -> None:
        """Count a batch: all of its pairs, but tokens and operations only of the kept ones."""
        at = self.at
        at.pairs += update.pairs
        at.target_tokens += update.kept_tokens
        at.tokens += update.basis
        at.pruned_pairs += update.pairs - update.kept_pairs
        at.pruned_tokens += update.tokens - update.kept_tokens
        at.pruned_batches += not update.kept_pairs
        at.flops += update.flops

    def _epoch(self) -> float:
        """Passes over the pairs, those before the training resumed included; whole ones as integers."""
        epoch = self._epochs_before + self.at.epoch + self.at.pairs / self.per_epoch
        return int(epoch) if epoch == int(epoch) else round(epoch, 6)

    def _write_metrics(self, bar: Progress) -> None:
        """Append a line to metrics.jsonl: means over the updates since the last line, in nats per token."""
        at = self.at
        self._read_losses()
        if not at.tokens:  # all pairs of these batches were pruned
            return
        line = self._metrics()
        self._sums.zero_()
        if not math.isfinite(line["loss"]):
            raise CatpruneError(
                f"{self.folder.path}: the loss is not a number at step {at.step}: "
                "train again with a lower learning_rate and force = true"
            )
        if self.processes.leads:
            append_line(self._metrics_file, {"step": at.step, **line})
        if self._events is not None:
            self._events.write(at.step, line)
        self._show(bar, loss=f"{line['loss']:.3f}")
        at.tokens = 0

    def _metrics(self) -> dict[str, float]:
        at, (loss, nll) = self.at, self._sums.tolist()
        line: dict[str, float] = {
            "epoch": self._epoch(),
            "loss": loss / at.tokens,
            "nll": nll / at.tokens,
            "learning_rate": self.recipe.rate(at.step),
        }
        if self.pruning is not None:
            line |= {"pruned_pairs": at.pruned_pairs, "pruned_tokens": at.pruned_tokens}
        return line

    def _show(self, bar: Progress, **shown: str) -> None:
        at = self.at
        if self.end.unit == "step":
            speed = (at.target_tokens - self._before) / max(time.monotonic() - self._started, 1e-9)
            bar.to(self.done, epoch=f"{self._epoch():.2f}", tokens=f"{speed:,.0f}/s", **shown)
        else:
            bar.to(self.done, step=at.step, **shown)

    @property
    def _metrics_file(self) -> Path:
        return self.folder.path / METRICS

    def _cut_metrics(self) -> None:
        """Remove the lines that a killed run wrote after its last saved state."""
        path, at = self._metrics_file, self.at
        write_whole(path, path.read_bytes()[: at.metrics] if at.metrics else b"")

    def _write_checkpoint(
        self, mark: Mark, pairs: Pairs, batches: list[NDArray[np.int64]], windows: list[list[BlockEntry]]
    ) -> None:
        at = self.at
        self._read_losses()
        target = self.folder.path / mark.name
        times, seen = count_exposure(
            at, self.order, pairs, batches, windows, pruning=self.pruning, before=self._exposure_before
        )
        training = {
            "step": at.step,
            "epoch": self._epoch(),
            "target_tokens": at.target_tokens,
            "flops": at.flops,
            "reverse": self.order.reverse,
            "seen": {
                "tokens": digest_manifest(self.order.tokens.path),
                "end": self.order.tokens.blocks[-1].end,
                "times": times,
            },
        }
        moments = self._moments() if at.step == self.keep_moments else None
        write_checkpoint(
            target, self.model, self.order.tokens, size=self.size, training=training, seen=seen, moments=moments
        )
        self.folder.log("checkpoint", name=mark.name, step=at.step)

    def _save_state(self) -> None:
        """Replace the saved state: weights, moments, loss sums and position in one file, renamed into place."""
        self._read_losses()
        if self.pruning is not None:
            self.at.pruning_files = self.pruning.save(self.at.step)
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors["sums"] = self._sums
        tensors |= self._moments()
        metrics = self._metrics_file.read_bytes()
        self.at.metrics, self.at.metrics_digest = len(metrics), digest_bytes(metrics)
        save_tensors(self._state_file, tensors, metadata={"position": json.dumps(asdict(self.at))})
        self._saved = time.monotonic()
        if self.pruning is not None:
            self.pruning.forget(self.at.epoch, self.at.pruning_files)

    def _moments(self) -> dict[str, Tensor]:
        """Return the moments of all parameters by name."""
        return {
            f"{moment}.{name}": self.optimizer.state[parameter][moment]
            for name, parameter in self.model.named_parameters()
            for moment in _MOMENTS
        }

    def _set_moments(self, tensors: dict[str, Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            moments = {moment: tensors[f"{moment}.{name}"].to(self.device.name) for moment in _MOMENTS}
            self.optimizer.state[parameter] = moments

    def _load_state(self) -> None:
        tensors, metadata = load_tensors(self._state_file)
        if "sums" not in tensors:
            raise CatpruneError(
                f"{self._state_file} was written by another version: remove the file to start the training again"
            )
        self._sums = tensors["sums"].to(self.device.name)
        prefix = "model."
        weights = {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
        fit(self.model, weights, name=self._state_file)
        self._set_moments(tensors)
        self.at = Position(**json.loads(metadata["position"]))
        if self.pruning is not None:
            self.pruning.restore(self.at.pruning_files)


def verify_unfinished(folder: Path) -> None:
    """Check the files of an unfinished training that a resumed one goes on with.

    Raises:
        CatpruneError: the saved state, the metrics up to it, a file of losses or a checkpoint before it was changed, or
            is missing.
    """
    if not (folder / STATE).is_file():
        return
    at = Position(**json.loads(load_tensors(folder / STATE)[1]["position"]))
    metrics = folder / METRICS
    if not metrics.is_file() or digest_bytes(metrics.read_bytes()[: at.metrics]) != at.metrics_digest:
        state = "was changed since it was written" if metrics.is_file() else "is missing"
        raise CatpruneError(f"{metrics} {state}: train again with force = true")
    for name, digest in at.pruning_files.items():
        path = folder / PRUNED_ROWS / name
        if not path.is_file() or digest_file(str(path)) != digest:
            state = "was changed since it was written" if path.is_file() else "is missing"
            raise CatpruneError(f"{path} {state}: train again with force = true")
    for pattern in ("epoch-*", "step-*"):
        for path in sorted(folder.glob(f"{pattern}/config.json")):
            checkpoint = read_checkpoint(path.parent)
            if path.parent.suffix != ".tmp" and checkpoint.step <= at.step:
                verify_files(checkpoint)


def _groups(model: Transformer, weight_decay: float) -> list[dict[str, Any]]:
    """Split the parameters into those that decay, the matrices of linear layers, and all others."""
    decayed = {module.weight for module in model.modules() if isinstance(module, nn.Linear)}
    others = [parameter for parameter in model.parameters() if parameter not in decayed]
    matrices = [parameter for parameter in model.parameters() if parameter in decayed]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
