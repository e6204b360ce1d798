"""The step `train`: a translation model on token blocks, with checkpoints at given epochs or steps."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import digest_file
from catprune.corpus.inputs import is_monolingual
from catprune.corpus.kept_rows import check_length
from catprune.errors import CatpruneError, UsageError
from catprune.model.sizes import PRESETS, find_size
from catprune.tokens.blocks import Tokens
from catprune.training.early_stopping import EarlyStopping, read_dev
from catprune.training.options import TrainOptions
from catprune.training.recipe import RECIPES, plan_marks, read_pruning
from catprune.workspace.common_options import several
from catprune.workspace.device import Device, own_state, require_torch, use_threads
from catprune.workspace.manifest import describe_folder, digest_manifest, read_manifest, trace, verify_shards
from catprune.workspace.options import takes
from catprune.workspace.progress import Progress, say
from catprune.workspace.shards import is_first_process
from catprune.workspace.spool import Spool
from catprune.workspace.step_folder import PRUNED_ROWS, STATE, StepFolder, finish_once
from catprune.workspace.wording import share_text

if TYPE_CHECKING:
    from catprune.checkpoints.native import Checkpoint
    from catprune.model.sizes import Size
    from catprune.training.data_order import Order
    from catprune.training.loop import Training
    from catprune.training.processes import Processes
    from catprune.training.pruned_rows import PrunedRows
    from catprune.training.recipe import Mark, Recipe

#: Options that replace a part of the preset's recipe.
_RECIPE = ("batch_tokens", "learning_rate", "warmup_steps", "label_smoothing", "dropout")


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
        MissingExtra: torch or safetensors is not installed.
    """
    require_torch()
    spool = Spool(Path(options.out) / "log")
    with spool.discarded(), spool.replaced(Path(options.out) / "plan.json", force=options.force):
        return _train(options, spool)


def _train(options: TrainOptions, spool: Spool) -> Trained:
    """Train; rows that Python holds become files of the folder's log, which stay."""
    import torch

    from catprune.training.data_order import Order, Rows, Selection, spool_rows
    from catprune.training.loop import Training, verify_unfinished
    from catprune.training.processes import Processes

    size = find_size(options.preset)
    marks = plan_marks(options.epochs, options.steps, options.checkpoints)
    pruned = read_pruning(
        options.prune_while_training,
        ratio=options.prune_ratio,
        anneal=options.prune_anneal,
        cycle=options.prune_cycle,
        span=options.prune_span,
    )
    out_path, opened, selection = Path(options.out), Tokens.open(options.tokens), options.selection
    if options.reverse and is_monolingual(opened.manifest):
        raise UsageError(f"reverse = True: {options.tokens} is monolingual and has no source to predict")
    values = {name: value for name in _RECIPE if (value := getattr(options, name)) is not None}
    recipe = replace(RECIPES[options.preset], **values)
    if options.warmup_steps is not None:
        recipe = replace(recipe, warmup_share=None)
    reads: dict[str, Any] = {"tokens": describe_folder(opened.path, relative_to=out_path)}
    chosen = None if selection is None else Selection(Path(selection))
    if chosen is not None:
        require_origin(chosen.path, opened.path)
        reads["selection"] = describe_folder(chosen.path, relative_to=out_path)
    files = {
        name: Rows(spool_rows(rows, spool, name=name), exclude=name == "exclude_rows")
        for name, rows in (("rows", options.rows), ("exclude_rows", options.exclude_rows))
        if rows is not None
    }
    for name, file in files.items():
        file.check_end(opened.blocks[-1].end if opened.blocks else 0)
        if file.selection is not None:
            require_origin(file.selection, opened.path)
        reads[name] = file.describe(relative_to=out_path)
    init, resumes = _open_init(options, size, opened, marks), options.resume_from is not None
    if init is not None:
        reads["resume_from" if resumes else "init"] = init.describe(relative_to=out_path)
    dev = read_dev(several(options.dev), patience=options.patience, reverse=options.reverse)
    if dev is not None and is_monolingual(opened.manifest):
        raise UsageError(
            f"dev: {options.tokens} is monolingual, and a dev set has two sides: leave dev and patience out"
        )
    stopping = None if dev is None else EarlyStopping(dev, patience=options.patience or 0, tokens=opened)
    if stopping is not None:
        reads["dev"] = stopping.digests
    filters = (*([] if chosen is None else [chosen]), *files.values())
    order = Order(
        opened, options.seed, recipe.batch_tokens, filters=filters, sample=options.sample, reverse=options.reverse
    )
    with Processes.join() as processes, own_state(options.threads):
        device = Device.choose(options.precision, local=processes.local, trained_width=size.d_model)
        plan: dict[str, Any] = {
            "preset": options.preset,
            "end": marks[-1].name,
            "checkpoints": [mark.name for mark in marks],
            "sample": options.sample,
            "reverse": options.reverse,
            "seed": options.seed,
            **{**asdict(recipe), "betas": list(recipe.betas)},
            "precision": device.precision,
        }
        if pruned is not None:
            plan["prune_while_training"] = pruned
        if stopping is not None:
            plan["patience"] = stopping.patience
        if options.keep_moments is not None:
            plan["keep_moments"] = options.keep_moments
        folder = StepFolder(
            out_path,
            step="train",
            reads=reads,
            options=plan,
            force=options.force,
            threads=(options.threads, torch.get_num_threads()),
        )

        def start() -> Training:
            losses = None
            if pruned is not None:
                losses = _open_pruning(pruned, order, marks[-1], folder=out_path / PRUNED_ROWS, processes=processes)
            updates = _planned_updates(order, marks[-1], recipe)
            if recipe.warmup_share is None and recipe.warmup_steps > updates:
                say(
                    f"train: warmup_steps = {recipe.warmup_steps:,}, but the training has {updates:,} updates: the "
                    "learning rate does not reach its peak",
                    quiet=options.quiet or not processes.leads,
                )
            return Training(
                folder,
                order,
                recipe.within(updates),
                size=size,
                marks=marks,
                device=device,
                save_every=options.save_every,
                accumulate=options.accumulate,
                processes=processes,
                pruning=losses,
                init=init,
                resumes=resumes,
                keep_moments=options.keep_moments,
                stopping=stopping,
            )

        def work() -> dict[str, Any]:
            if chosen is not None:
                verify_shards(chosen.path, chosen.manifest)
            _check_order(order, marks)
            try:
                verify_unfinished(out_path)
            except CatpruneError:
                if not options.force:
                    raise
                folder.start_over()
            processes.hear(stop=True)
            training = start()
            _run(training, marks, quiet=options.quiet)
            return _describe(training, marks)

        if processes.leads:
            with folder:
                use_threads(folder.threads)
                if folder.manifest is not None:
                    processes.hear(stop=False)
                finish_once(folder, work)
                is_new = not folder.finished_before
                # Only now: a process that ended before this line continues from these files.
                (out_path / STATE).unlink(missing_ok=True)
                shutil.rmtree(out_path / PRUNED_ROWS, ignore_errors=True)
        else:
            is_new = processes.hear()
            if is_new:
                _run(start(), marks, quiet=True)
        processes.hear()  # wait until rank 0 has written the manifest
        return _trained(out_path, read_manifest(out_path, step="train"), is_new=is_new)


def require_origin(selection: Path, tokens: Path) -> None:
    """Refuse a selection that was made from another clean folder than the tokens.

    A selection from an external file does not say which rows it means; only the length of an array is compared.

    Raises:
        CatpruneError: the clean folders differ, or one of them is missing.
    """
    manifest = read_manifest(selection, step="select")
    selected = trace(selection, manifest, "clean")
    tokenized = trace(tokens, read_manifest(tokens, step="tokenize"), "clean")
    if tokenized is None:
        return
    if selected is None:
        check_length(selection, manifest, read_manifest(tokenized, step="clean")["counts"]["rows"], tokenized)
        return
    if digest_manifest(selected) != digest_manifest(tokenized):
        raise CatpruneError(
            f"{selection} was made from {selected}, {tokens} from {tokenized}: rows do not mean the same pairs; "
            "give a selection and tokens of one clean folder"
        )


def _open_init(options: TrainOptions, size: Size, tokens: Tokens, marks: list[Mark]) -> Checkpoint | None:
    """Open the checkpoint to start from; None: random weights.

    Raises:
        UsageError: both `init` and `resume_from` are given, or a mark that is not after `resume_from`.
        CatpruneError: it is not a native checkpoint, or has another shape, direction or tokenizer, or no moments.
    """
    from catprune.checkpoints.native import read_checkpoint, require_tokenizer

    if options.init is not None and options.resume_from is not None:
        raise UsageError("both init and resume_from are given: give one of them")
    path = options.init if options.resume_from is None else options.resume_from
    if path is None:
        return None
    init = read_checkpoint(path)
    if init.size != asdict(size):
        presets = [f"preset = {name}" for name, preset in PRESETS.items() if asdict(preset) == init.size]
        remedy = [*presets, "another checkpoint"][0]
        raise CatpruneError(f"{init.path} has another shape than preset {options.preset}: give {remedy}")
    if init.reverse != options.reverse:
        raise CatpruneError(
            f"{init.path} was trained with reverse = {init.reverse}: give the same, or another checkpoint"
        )
    require_tokenizer(init, tokens)
    if options.resume_from is not None:
        if not init.moments.is_file():
            raise CatpruneError(f"{init.path} has no moments: train it with keep_moments = {init.step}")
        if early := [mark.name for mark in marks if mark.unit != "step" or mark.amount <= init.step]:
            raise UsageError(f"checkpoint {early[0]}: give updates after {init.step}, those of {init.path}")
    return init


def _open_pruning(
    options: dict[str, Any], order: Order, end: Mark, *, folder: Path, processes: Processes
) -> PrunedRows:
    """Return the pruning that a plan's options describe; its pairs are rows or spans of targets."""
    from catprune.training.dynamic import Ddp, InfoBatch
    from catprune.training.pruned_rows import PrunedRows
    from catprune.training.spans import Spans

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
    return PrunedRows(folder, pruning, rows=rows, spans=spans, processes=processes)


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
