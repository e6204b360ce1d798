"""The step `train`: a translation model on token blocks, with checkpoints at given epochs or steps."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import digest_file
from catprune.errors import CatpruneError, UsageError
from catprune.model.sizes import find_size
from catprune.training.options import TrainOptions
from catprune.training.request import Request
from catprune.workspace.device import Device, own_state, require_torch, use_threads
from catprune.workspace.manifest import read_manifest, verify_shards
from catprune.workspace.options import takes
from catprune.workspace.progress import Progress, say
from catprune.workspace.shards import is_first_process
from catprune.workspace.spool import Spool
from catprune.workspace.step_folder import PRUNED_ROWS, STATE, StepFolder, finish_once
from catprune.workspace.wording import share_text

if TYPE_CHECKING:
    from catprune.training.data_order import Order
    from catprune.training.loop import Training
    from catprune.training.processes import Processes
    from catprune.training.pruned_rows import PrunedRows
    from catprune.training.recipe import Mark, Recipe


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training.

    Attributes:
        folder: the step's folder.
        checkpoints: the checkpoints' folders in the order of training.
        steps: updates, including those whose whole batch was pruned.
        epochs: passes over the training rows.
        target_tokens: target tokens trained on, repeats counted.
        flops: floating-point operations, counted from shapes; a backward pass counts twice a forward pass.
        parameters: trained parameters.
        precision: precision of matrix products, `float32` or `bfloat16`.
        manifest: the content of `manifest.json`.
        best: the checkpoint of the lowest dev loss; None without a dev set.
        is_new: whether this call trained; False if the training was finished before.
    """

    folder: Path
    checkpoints: tuple[Path, ...]
    steps: int
    epochs: float
    target_tokens: int
    flops: float
    parameters: int
    precision: str
    manifest: dict[str, Any] = field(repr=False)
    best: Path | None = None
    is_new: bool = field(default=True, compare=False)


@takes(TrainOptions)
def train(options: TrainOptions) -> Trained:
    """Train a model on a tokens folder; a killed run continues from its last state and ends with the same bytes.

    The loss is cross-entropy with label smoothing (Szegedy et al. 2016, arXiv 1512.00567), a mean over the batch's
    target tokens. Updates are AdamW without weight decay of embeddings and LayerNorm, and an inverse square-root
    schedule (Vaswani et al. 2017). Each preset has its own recipe; options that are given replace parts of it.

    Processes that torchrun starts train one model together, each on its own GPU, or on processors over gloo. Each batch
    is split across them, so that `batch_tokens` and all other options mean the same for any number of processes. Rank 0
    writes. A stopped run may continue with another number of processes; it gives the bytes of an undisturbed run if the
    number stays.

    Raises:
        UsageError: an option has no valid meaning.
        CatpruneError: a folder that cannot be read or holds other work; a selection of another corpus; a checkpoint
            `init` of another shape or tokenizer; no pairs to train on, or fewer than the sample; an invalid file of
            rows; a loss that is not finite.
        MissingExtra: torch or safetensors is not installed; or tensorboard, for `log`.
    """
    require_torch()
    spool = Spool(Path(options.out) / "log")
    with spool.discarded(), spool.replaced(Path(options.out) / "plan.json", force=options.force):
        return _train(options, spool)


def _train(options: TrainOptions, spool: Spool) -> Trained:
    """Train; rows that Python holds become files of the folder's log, which stay."""
    from catprune.training.processes import Processes

    request = Request.read(options, spool)
    with Processes.join() as processes, own_state(options.threads):
        running = _Running.start(request, processes)
        processes.check_plans(running.folder.plan)
        is_new = running.lead() if processes.leads else running.follow()
        processes.broadcast()  # wait until rank 0 has written the manifest
    return _trained(request.out, read_manifest(request.out, step="train"), is_new=is_new)


@dataclass(frozen=True, slots=True)
class _Running:
    """A training in this process, which leads or follows the others."""

    request: Request
    processes: Processes
    device: Device
    folder: StepFolder

    @classmethod
    def start(cls, request: Request, processes: Processes) -> _Running:
        """Choose the device; the folder is not touched yet."""
        import torch

        options, width = request.options, find_size(request.options.preset).d_model
        device = Device.choose(options.precision, local=processes.local, trained_width=width)
        folder = StepFolder(
            request.out,
            step="train",
            reads=request.reads,
            options=request.plan(device.precision),
            force=options.force,
            threads=(options.threads, torch.get_num_threads()),
        )
        return cls(request, processes, device, folder)

    def lead(self) -> bool:
        """Train in the folder, unless it is finished; return whether anything was trained."""
        with self.folder as folder:
            use_threads(folder.threads)
            if folder.manifest is not None:
                self.processes.broadcast(stop=False)
            finish_once(folder, self._train)
            # Only now: a process that ended before this line continues from these files.
            (self.request.out / STATE).unlink(missing_ok=True)
            shutil.rmtree(self.request.out / PRUNED_ROWS, ignore_errors=True)
            return not folder.finished_before

    def follow(self) -> bool:
        """Train along with rank 0, if it trains; return whether it did."""
        is_new = self.processes.broadcast()
        if is_new:
            _run(self._open(), self.request.marks, quiet=True)
        return is_new

    def _train(self) -> dict[str, Any]:
        """Verify what is read, train, and return the results for the manifest."""
        from catprune.training.loop import verify_unfinished

        request = self.request
        if request.selection is not None:
            verify_shards(request.selection.path, request.selection.manifest)
        _check_order(request.order, request.marks)
        try:
            verify_unfinished(request.out)
        except CatpruneError:
            if not request.options.force:
                raise
            self.folder.start_over()
        self.processes.broadcast(stop=True)
        training = self._open()
        _run(training, request.marks, quiet=request.options.quiet)
        return _describe(training, request.marks)

    def _open(self) -> Training:
        """The training at its start, or at its last saved state."""
        from catprune.training.loop import Training

        request, options = self.request, self.request.options
        losses = None
        if request.pruned is not None:
            losses = _open_pruning(request, processes=self.processes)
        updates = _planned_updates(request.order, request.marks[-1], request.recipe)
        if request.recipe.warmup_share is None and request.recipe.warmup_steps > updates:
            say(
                f"train: the warm-up of {request.recipe.warmup_steps:,} updates is longer than the training, "
                f"{updates:,} updates: the learning rate does not reach its peak",
                quiet=options.quiet or not self.processes.leads,
            )
        return Training(
            self.folder,
            request.order,
            request.recipe.within(updates),
            size=find_size(options.preset),
            marks=request.marks,
            device=self.device,
            save_every=options.save_every,
            accumulate=options.accumulate,
            writes_events=options.log is not None and self.processes.leads,
            processes=self.processes,
            pruning=losses,
            init=request.init,
            resumes=options.resume_from is not None,
            keep_moments=options.keep_moments,
            stopping=request.stopping,
        )


def _open_pruning(request: Request, *, processes: Processes) -> PrunedRows:
    """Return the pruning of a training; its pairs are rows or spans of targets."""
    from catprune.training.dynamic import Ddp, InfoBatch
    from catprune.training.pruned_rows import PrunedRows
    from catprune.training.spans import Spans

    assert request.pruned is not None
    options, order, end = request.pruned, request.order, request.marks[-1]
    rows, spans = order.tokens.blocks[-1].end, None
    if options["method"] == "ddp":
        if options["span"] is not None:
            spans = Spans(order.tokens, options["span"], reverse=order.reverse)
        units = rows if spans is None else spans.count
        pruning = Ddp(pairs=units, ratio=options["ratio"], cycle=options["cycle"])
    else:
        epochs = end.amount if end.unit == "epoch" else end.amount / order.updates()
        pruning = InfoBatch(
            pairs=rows, epochs=epochs, ratio=options["ratio"], anneal=options["anneal"], seed=order.seed
        )
    return PrunedRows(request.out / PRUNED_ROWS, pruning, rows=rows, spans=spans, processes=processes)


def _planned_updates(order: Order, end: Mark, recipe: Recipe) -> int:
    """Return the updates until `end`; of a training that is too long for a limit of the warm-up, a lower bound."""
    if end.unit == "step":
        return int(end.amount)
    least = int(end.amount * order.counts[1] / recipe.batch_tokens)
    if least * (recipe.warmup_share or 1) >= recipe.warmup_steps:
        return least
    return math.ceil(end.amount * order.updates())


def _run(training: Training, marks: list[Mark], *, quiet: bool) -> None:
    if training.at.step:
        say(f"train: {training.place()}", quiet=quiet)
    in_epochs = marks[-1].unit == "epoch"
    total = marks[-1].amount * (training.order.counts[1] if in_epochs else 1)
    unit = "tokens" if in_epochs else "updates"
    with Progress("train", total=total, unit=unit, quiet=quiet, done=training.done) as bar:
        training.run(bar)


def _describe(training: Training, marks: list[Mark]) -> dict[str, Any]:
    """Return the results of a training, for the manifest."""
    import torch

    from catprune.checkpoints.native import read_checkpoint
    from catprune.model.transformer import count_parameters

    written = [mark.name for mark in marks if training.reached(mark)]
    read = [(name, read_checkpoint(training.folder.path / name)) for name in written]
    read.sort(key=lambda item: item[1].step)
    last = read[-1][1]
    listed = [
        {
            "name": name,
            "step": checkpoint.step,
            "epoch": checkpoint.epoch,
            "target_tokens": checkpoint.target_tokens,
            "flops": checkpoint.flops,
            "seen": checkpoint.seen,
            "digest": checkpoint.files[checkpoint.weights.name],
            **({"dev_nll": training.at.dev_nll[name]} if name in training.at.dev_nll else {}),
        }
        for name, checkpoint in read
    ]
    pairs, tokens = training.order.counts
    at, pruned = training.at, dict[str, Any]()
    if training.pruning is not None:
        counts = {"pairs": at.pruned_pairs, "target_tokens": at.pruned_tokens, "batches": at.pruned_batches}
        pruned = {"pruned": counts}
    return {
        **pruned,
        "checkpoints": listed,
        "counts": {"pairs": pairs, "target_tokens": tokens},
        "steps": last.step,
        "epochs": last.epoch,
        "target_tokens": last.target_tokens,
        "flops": last.flops,
        "parameters": count_parameters(training.model),
        "warmup_steps": training.recipe.warmup_steps,
        "precision": training.device.precision,
        "metrics": digest_file(str(training.folder.path / "metrics.jsonl")),
        "torch": torch.__version__,
    }


def _trained(path: Path, manifest: dict[str, Any], *, is_new: bool) -> Trained:
    names = ("steps", "epochs", "target_tokens", "flops", "parameters", "precision")
    listed = tuple(path / entry["name"] for entry in manifest["checkpoints"])
    losses = {entry["name"]: entry["dev_nll"] for entry in manifest["checkpoints"] if "dev_nll" in entry}
    best = path / min(losses, key=lambda name: losses[name]) if losses else None
    results = {name: manifest[name] for name in names}
    return Trained(path, listed, **results, manifest=manifest, best=best, is_new=is_new)


def _check_order(order: Order, marks: list[Mark]) -> None:
    """Refuse an empty corpus, and checkpoints after the end, before the training starts."""
    pairs, _ = order.counts
    if not pairs:
        reason = "" if order.is_whole else ": the selection and the files of rows exclude all"
        raise CatpruneError(f"{order.tokens.path} has no pairs to train on{reason}: keep more rows")
    if len({mark.unit for mark in marks}) == 1:
        return
    end, step, epoch = marks[-1], 0, 0
    done = 0
    while not end.reached(step=step, pairs=done, per_epoch=pairs):
        for window, entries in enumerate(order.windows(epoch)):
            for batch in order.batches(epoch, window, entries)[1]:
                if end.reached(step=step, pairs=done, per_epoch=pairs):
                    break
                step, done = step + 1, done + len(batch)
        epoch += 1
    for mark in marks:
        if not mark.reached(step=step, pairs=done, per_epoch=pairs):
            raise UsageError(f"checkpoint {mark.name} is after the end ({step} steps, {done / pairs:g} epochs)")


def summary(done: Trained) -> list[str]:
    """What was trained, in lines for a reader; nothing in processes that do not write."""
    if not is_first_process():
        return []
    lines = [
        f"{done.steps:,} updates, {done.target_tokens:,} target tokens, {done.parameters:,} parameters, "
        f"{done.precision}, {done.flops:.2e} FLOPs"
    ]
    if pruned := done.manifest.get("pruned"):
        whole = done.target_tokens + pruned["target_tokens"]
        skipped = share_text(pruned["target_tokens"], whole)
        lines.append(f"skipped {pruned['pairs']:,} pairs in all epochs, {skipped} of {whole:,} target tokens")
    if done.best is not None:
        losses = {entry["name"]: entry["dev_nll"] for entry in done.manifest["checkpoints"]}
        lines.append(f"lowest dev loss {losses[done.best.name]:.3f} at {done.best.name}")
    return [*lines, *(f"  {path}" for path in done.checkpoints)]
