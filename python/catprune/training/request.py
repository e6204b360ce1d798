"""The checked options of a training, and what it reads: tokens, selection, rows, checkpoint, dev set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.corpus.inputs import is_monolingual
from catprune.corpus.kept_rows import check_length
from catprune.errors import CatpruneError, UsageError, require
from catprune.model.sizes import PRESETS, find_size
from catprune.tokens.blocks import Tokens
from catprune.training.early_stopping import EarlyStopping, read_dev
from catprune.training.recipe import choose_recipe, plan_marks, read_pruning
from catprune.workspace.common_options import several
from catprune.workspace.manifest import describe_folder, digest_manifest, read_manifest, trace

if TYPE_CHECKING:
    from catprune.checkpoints.native import Checkpoint
    from catprune.training.data_order import Order, Selection
    from catprune.training.options import TrainOptions
    from catprune.training.recipe import Mark, Recipe
    from catprune.workspace.spool import Spool


@dataclass(frozen=True, slots=True)
class Request:
    """The checked options of a training.

    Attributes:
        options: as they were given.
        out: the step's folder.
        reads: the folders and files that are read, as the plan has them.
        recipe: of the preset, with the options that replace parts of it.
        marks: where checkpoints are saved, the end last.
        order: the pairs and their order.
        selection: the selection that chooses pairs; None: all.
        pruned: the options of pruning while training; None: no pruning.
        init: the checkpoint to start from; None: random weights.
        stopping: ends the training early; None: nothing does.
    """

    options: TrainOptions
    out: Path
    reads: dict[str, Any]
    recipe: Recipe
    marks: list[Mark]
    order: Order
    selection: Selection | None
    pruned: dict[str, Any] | None
    init: Checkpoint | None
    stopping: EarlyStopping | None

    @classmethod
    def read(cls, options: TrainOptions, spool: Spool) -> Request:
        """Check the options together and open what is read.

        Raises:
            UsageError, CatpruneError, MissingExtra: as `train`.
        """
        from catprune.training.data_order import Order

        if options.log is not None:
            require("tensorboard", "tensorboard")
        marks = plan_marks(options.epochs, options.steps, options.checkpoints)
        kept = options.keep_moments
        if kept is not None and not any(mark.unit == "step" and mark.amount == kept for mark in marks):
            raise UsageError(f"keep_moments = {kept}: no checkpoint is saved after {kept} updates, give one of them")
        pruned = read_pruning(
            options.prune_while_training,
            ratio=options.prune_ratio,
            anneal=options.prune_anneal,
            cycle=options.prune_cycle,
            span=options.prune_span,
        )
        out, tokens = Path(options.out), Tokens.open(options.tokens)
        if options.reverse and is_monolingual(tokens.manifest):
            raise UsageError(f"reverse = True: {options.tokens} is monolingual and has no source to predict")
        recipe = choose_recipe(options.preset, vars(options))
        reads: dict[str, Any] = {"tokens": describe_folder(tokens.path, relative_to=out)}
        selection, filters = _open_filters(options, tokens, spool, reads)
        init = _open_init(options, tokens, marks)
        if init is not None:
            reads["init" if options.resume_from is None else "resume_from"] = init.describe(relative_to=out)
        stopping = _open_dev(options, tokens)
        if stopping is not None:
            reads["dev"] = stopping.digests
        order = Order(
            tokens, options.seed, recipe.batch_tokens, filters=filters, sample=options.sample, reverse=options.reverse
        )
        return cls(options, out, reads, recipe, marks, order, selection, pruned, init, stopping)

    def plan(self, precision: str) -> dict[str, Any]:
        """What decides the result besides what is read."""
        options, stopping = self.options, self.stopping
        optional = {
            "prune_while_training": self.pruned,
            "patience": None if stopping is None else stopping.patience,
            "keep_moments": options.keep_moments,
        }
        return {
            "preset": options.preset,
            "end": self.marks[-1].name,
            "checkpoints": [mark.name for mark in self.marks],
            "sample": options.sample,
            "reverse": options.reverse,
            "seed": options.seed,
            **{**asdict(self.recipe), "betas": list(self.recipe.betas)},
            "precision": precision,
            **{name: value for name, value in optional.items() if value is not None},
        }


def _open_filters(
    options: TrainOptions, tokens: Tokens, spool: Spool, reads: dict[str, Any]
) -> tuple[Selection | None, tuple[Any, ...]]:
    """Open the selection and the files of rows that choose pairs, and note them in `reads`.

    Returns:
        The selection, and all that chooses pairs.
    """
    from catprune.training.data_order import Rows, Selection, spool_rows

    out = Path(options.out)
    selection = None if options.selection is None else Selection(Path(options.selection))
    if selection is not None:
        require_origin(selection.path, tokens.path)
        reads["selection"] = describe_folder(selection.path, relative_to=out)
    files = {
        name: Rows(spool_rows(rows, spool, name=name), exclude=name == "exclude_rows")
        for name, rows in (("rows", options.rows), ("exclude_rows", options.exclude_rows))
        if rows is not None
    }
    for name, file in files.items():
        file.check_end(tokens.blocks[-1].end if tokens.blocks else 0)
        if file.selection is not None:
            require_origin(file.selection, tokens.path)
        reads[name] = file.describe(relative_to=out)
    return selection, (*([] if selection is None else [selection]), *files.values())


def _open_dev(options: TrainOptions, tokens: Tokens) -> EarlyStopping | None:
    """Read the dev set of early stopping; None without one."""
    dev = read_dev(several(options.dev), patience=options.patience, reverse=options.reverse)
    if dev is None:
        return None
    if is_monolingual(tokens.manifest):
        raise UsageError(
            f"dev: {options.tokens} is monolingual, and a dev set has two sides: leave dev and patience out"
        )
    return EarlyStopping(dev, patience=options.patience or 0, tokens=tokens)


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


def _open_init(options: TrainOptions, tokens: Tokens, marks: list[Mark]) -> Checkpoint | None:
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
    if init.size != asdict(find_size(options.preset)):
        presets = [f"preset = {name}" for name, preset in PRESETS.items() if asdict(preset) == init.size]
        remedy = [*presets, "another checkpoint"][0]
        raise CatpruneError(f"{init.path} has another shape than preset {options.preset}: give {remedy}")
    if init.reverse != options.reverse:
        raise CatpruneError(
            f"{init.path} was trained {'backward' if init.reverse else 'forward'}: train in the same direction "
            "(reverse), or give another checkpoint"
        )
    require_tokenizer(init, tokens)
    if options.resume_from is not None:
        if not init.moments.is_file():
            raise CatpruneError(f"{init.path} has no moments: train it with keep_moments = {init.step}")
        if early := [mark.name for mark in marks if mark.unit != "step" or mark.amount <= init.step]:
            raise UsageError(f"checkpoint {early[0]}: give updates after {init.step}, those of {init.path}")
    return init
