"""A callback that saves early checkpoints of a trainer of the transformers library, for `score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.errors import UsageError, require
from catprune.training.recipe import read_marks
from catprune.workspace.files import whole_folder

require("transformers", "transformers")
from transformers import TrainerCallback  # noqa: E402

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
        checkpoints: where to save checkpoints: epochs or updates, like "0.5,1" or "100steps,500steps".
        stop: after the last of them, also save the state of the trainer in its own folder, and stop. Another trainer
            can then continue on selected pairs, with `resume_from_checkpoint` and `ignore_data_skip`.

    Raises:
        UsageError: `checkpoints` is invalid. When the training starts: a checkpoint is after its end, or is there from
            another training; or the trainer has no tokenizer, or no whole model (adapters, FSDP, DeepSpeed ZeRO-3).
        MissingExtra: on import, if transformers is not installed.
    """

    def __init__(self, out: str | Path, checkpoints: str, *, stop: bool = False) -> None:
        self.out, self.stop = Path(out), stop
        self._marks = sorted(read_marks(checkpoints), key=lambda mark: (mark.unit, mark.amount))
        self._left: list[Mark] = []

    @property
    def folders(self) -> list[Path]:
        """The folders of the checkpoints, for `score`; a checkpoint is there once the training has reached it."""
        return [self.out / mark.name for mark in self._marks]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **values: Any
    ) -> None:
        """Check that the checkpoints can be saved in this training."""
        del args, control
        self._left = [mark for mark in self._marks if not _is_reached(mark, state)]
        for mark in self._left:
            end = state.max_steps if mark.unit == "step" else state.num_train_epochs
            if mark.amount > end:
                raise UsageError(
                    f"checkpoint {mark.name} is after the end of the training ({mark.unit} {end}): train longer"
                )
        _check_model(values["model"])
        if values.get("processing_class") is None:
            raise UsageError("the trainer has no tokenizer to save: give it processing_class=tokenizer")
        if state.global_step == 0 and state.is_world_process_zero:
            for folder in self.folders:
                if folder.exists():
                    raise UsageError(
                        f"{folder} is of another training: give another folder, resume that training "
                        "(resume_from_checkpoint), or remove the folder"
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
