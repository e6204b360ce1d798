"""A callback that saves early checkpoints of a trainer of the transformers library, for `score`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.errors import UsageError, require
from catprune.training.recipe import read_marks
from catprune.workspace.files import whole_folder
from catprune.workspace.progress import say

require("transformers", "transformers", "accelerate")
from transformers import TrainerCallback  # noqa: E402
from transformers.trainer_utils import has_length  # noqa: E402

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from catprune.training.recipe import Mark


class EarlyCheckpoints(TrainerCallback):
    """Save checkpoints for `score` early in a training by `Trainer` or `Seq2SeqTrainer`.

    A checkpoint is a folder `step-500` or `epoch-0.5` with weights, configuration and tokenizer, and without the state
    of the optimizer. The first process writes it whole or not at all. The training itself stays the same, bit by bit. A
    resumed training keeps the checkpoints that exist. Give the trainer the tokenizer as `processing_class`.

    Args:
        out: the folder for the checkpoints.
        checkpoints: where to save checkpoints: epochs or updates, like "0.5,1" or "100steps,500steps"; not both.
        stop: after the last of them, also save the state of the trainer in its own folder, and stop. Another trainer
            can then continue on selected pairs, with `resume_from_checkpoint` and `ignore_data_skip`.

    Raises:
        UsageError: `checkpoints` is invalid. When the training starts: a checkpoint is after its end, or is there from
            an earlier start; epochs are given, but the data has no length; a resumed training has passed a checkpoint
            that is not there; `stop` with `save_only_model`; the trainer has no tokenizer, or no whole model (adapters,
            FSDP, DeepSpeed ZeRO-3). When it ends: it ended before a checkpoint.
        MissingExtra: on import, if transformers or accelerate is not installed.
    """

    def __init__(self, out: str | Path, checkpoints: str, *, stop: bool = False) -> None:
        self.out, self.stop = Path(out), stop
        self._marks = sorted(read_marks(checkpoints), key=lambda mark: (mark.unit, mark.amount))
        if self._marks[0].unit != self._marks[-1].unit:
            raise UsageError(f"checkpoints {checkpoints!r} are epochs and steps: give all of them in one unit")
        self._left: list[Mark] = []

    @property
    def folders(self) -> list[Path]:
        """The checkpoints in the order of training, for `score`; one is there once the training has reached it."""
        return [self.out / mark.name for mark in self._marks]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **values: Any
    ) -> None:
        """Check that the checkpoints can be saved in this training."""
        del control
        self._left = [mark for mark in self._marks if not _is_reached(mark, state)]
        unit = self._marks[0].unit
        end = state.max_steps if unit == "step" else _epochs(args, state, values.get("train_dataloader"))
        for mark in self._left:
            if not mark.reached(step=state.max_steps, pairs=end, per_epoch=1):
                raise UsageError(
                    f"checkpoint {mark.name} is after the end of the training ({unit} {end:.6g}): train longer"
                )
        passed = [mark.name for mark in self._marks if mark not in self._left]
        if missing := [name for name in passed if not (self.out / name).is_dir()]:
            raise UsageError(
                f"the training goes on after {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not in "
                f"{self.out}: give later checkpoints, or train from the beginning"
            )
        if self.stop and not self._left:
            say(f"EarlyCheckpoints: {passed[-1]} is there, so the training goes on to its end", quiet=False)
        if self.stop and args.save_only_model:
            raise UsageError("stop = True needs the whole state of the trainer: leave save_only_model out")
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"{self.out} is not a folder: give another name")
        _check_model(values["model"])
        if values.get("processing_class") is None:
            raise UsageError("the trainer has no tokenizer to save: give it processing_class=tokenizer")
        if state.global_step == 0 and state.is_world_process_zero:
            for folder in self.folders:
                if folder.exists():
                    raise UsageError(
                        f"{folder} is there from an earlier start: resume that training (resume_from_checkpoint), "
                        "give another folder, or remove it"
                    )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **values: Any) -> None:
        """Save the checkpoints that this update reaches."""
        del args
        reached = [mark for mark in self._left if _is_reached(mark, state)]
        if not reached:
            return
        self._left = [mark for mark in self._left if mark not in reached]
        if state.is_world_process_zero:
            for mark in reached:
                _save(self.out / mark.name, values["model"], values["processing_class"], state)
        if self.stop and not self._left:
            control.should_save = control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **values: Any
    ) -> None:
        """Check that all checkpoints were saved."""
        del args, control, values
        if self._left:
            names = ", ".join(mark.name for mark in self._left)
            raise UsageError(
                f"the training ended at step {state.global_step} (epoch {state.epoch or 0:.6g}), before {names}: "
                "train longer, or give earlier checkpoints"
            )


def _epochs(args: TrainingArguments, state: TrainerState, data: Any) -> float:
    """Return the epochs at which a training ends; the trainer's own number is rounded up.

    Raises:
        UsageError: the data has no length.
    """
    if not has_length(data):
        raise UsageError("the training data has no length, so it has no epochs: give checkpoints in steps (500steps)")
    epochs, rest = divmod(state.max_steps, max(math.ceil(len(data) / args.gradient_accumulation_steps), 1))
    return epochs + min(rest * args.gradient_accumulation_steps / max(len(data), 1), 1)


def _is_reached(mark: Mark, state: TrainerState) -> bool:
    return mark.reached(step=state.global_step, pairs=state.epoch or 0, per_epoch=1)


def _check_model(model: Any) -> None:
    """Check that this process has all weights of a model, and that `score` can read them.

    Raises:
        UsageError: it has not, or it cannot.
    """
    if not hasattr(model, "save_pretrained"):
        raise UsageError(f"{type(model).__name__} is no model of transformers: save its checkpoints in your own format")
    if hasattr(model, "peft_config"):
        raise UsageError("the model is an adapter, which `score` does not read: merge a copy of it (merge_and_unload)")
    # Shards are tensors of a device mesh, parts of a flat parameter, or empty until they are needed.
    if any(
        hasattr(weight, "device_mesh") or hasattr(weight, "_is_flat_param") or not weight.numel()
        for weight in model.parameters()
    ):
        raise UsageError("the weights are split among processes (FSDP, DeepSpeed ZeRO-3): use the trainer's own save")


def _save(folder: Path, model: Any, tokenizer: Any, state: TrainerState) -> None:
    """Save a checkpoint, unless it is there: a training that was resumed reaches it again."""
    if folder.exists():
        return
    with whole_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        state.save_to_json(str(temporary / "trainer_state.json"))  # its step and epoch order checkpoints
