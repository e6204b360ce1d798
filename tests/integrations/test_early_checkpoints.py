"""The callback for trainers of transformers: tiny models train, and their early checkpoints are scored."""

from __future__ import annotations

import json
import re
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import catprune
import pytest
import torch
from catprune.checkpoints.hugging_face import HuggingFace
from catprune.errors import MissingExtra, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:Recommended", "ignore:.*pin_memory")
transformers = pytest.importorskip("transformers")
for package in ("accelerate", "sentencepiece"):
    pytest.importorskip(package)
from catprune.hugging_face import EarlyCheckpoints  # noqa: E402
from support.tiny_checkpoints import KINDS, PAIRS, build  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "fine-tune-with-transformers.md"
RULES = {"max_word_ratio": 9.0, "max_character_ratio": 9.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: Any) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: build(kind, folder / kind) for kind in ("marian", "gpt2")}


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    return catprune.clean(PAIRS, out=folder / "clean", quiet=True, rules=RULES).folder


class Weights(transformers.TrainerCallback):
    """Copies of the weights after some updates."""

    def __init__(self, *steps: int) -> None:
        self.steps, self.copies = steps, dict[int, Any]()

    def on_step_end(self, args: Any, state: Any, control: Any, **values: Any) -> None:
        del args, control
        if state.global_step in self.steps:
            self.copies[state.global_step] = copy_of(values["model"])


def copy_of(model: Any) -> dict[str, Any]:
    """Those that are trained: the library computes sinusoidal positions again."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if "positions" not in name}


def are_equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def new_trainer(
    kind: str, model: Path, out: Path, callbacks: list[Any], *, has_tokenizer: bool = True, **options: Any
) -> Any:
    """A trainer of 6 pairs in batches of two: three updates an epoch."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    settings = {
        **{"output_dir": str(out), "per_device_train_batch_size": 2, "max_steps": 7, "learning_rate": 0.01},
        **{"report_to": [], "disable_tqdm": True, "use_cpu": True, "save_strategy": "no", "seed": 3},
        "remove_unused_columns": False,
    }
    if kind == "gpt2":
        library, form = transformers.AutoModelForCausalLM, transformers.TrainingArguments
        trainer = transformers.Trainer
    else:
        library, form = transformers.AutoModelForSeq2SeqLM, transformers.Seq2SeqTrainingArguments
        trainer = transformers.Seq2SeqTrainer

    def collate(pairs: list[tuple[str, str]]) -> Any:
        sources, targets = ([pair[side] for pair in pairs] for side in range(2))
        if kind == "gpt2":
            texts = [KINDS[kind].settings["prompt"].format(source=source) + target for source, target in pairs]
            ids = [torch.tensor([*tokenizer(text)["input_ids"], tokenizer.eos_token_id]) for text in texts]
            padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=tokenizer.eos_token_id)
            return {"input_ids": padded, "labels": padded.clone()}
        batch = tokenizer(sources, text_target=targets, padding=True, return_tensors="pt")
        batch["labels"][batch["labels"] == tokenizer.pad_token_id] = -100
        return batch

    return trainer(
        library.from_pretrained(model),
        form(**(settings | options)),
        collate,
        PAIRS,
        processing_class=tokenizer if has_tokenizer else None,
        callbacks=callbacks,
    )


@pytest.mark.parametrize("kind", ["marian", "gpt2"])
def test_early_checkpoints_are_scored_and_select(
    kind: str, models: dict[str, Path], cleaned: Path, tmp_path: Path
) -> None:
    early, weights = EarlyCheckpoints(tmp_path / "early", "2,0.5"), Weights(2, 6)
    trainer = new_trainer(kind, models[kind], tmp_path / "a", [early, weights])
    trainer.train()
    plain = new_trainer(kind, models[kind], tmp_path / "b", [])
    plain.train()
    assert are_equal(copy_of(trainer.model), copy_of(plain.model))
    assert [path.name for path in early.folders] == ["epoch-0.5", "epoch-2"], "in the order of training"
    assert sorted((tmp_path / "early").iterdir()) == early.folders
    library = type(trainer.model)
    for folder, step in zip(early.folders, (2, 6), strict=True):
        assert are_equal(copy_of(library.from_pretrained(folder)), weights.copies[step])
        assert not list(folder.glob("*optimizer*")) and not list(folder.glob("*.tmp"))
    settings = KINDS[kind].settings
    scored = catprune.score(cleaned, checkpoints=early.folders, out=tmp_path / "scores", quiet=True, **settings)
    languages = (None, None)
    opened = [HuggingFace.open(path, languages=languages, prompt=settings.get("prompt")) for path in early.folders]
    assert [(checkpoint.step, checkpoint.epoch) for checkpoint in opened] == [(2, pytest.approx(2 / 3)), (6, 2.0)]
    early.folders[1].rename(tmp_path / "epoch-2")
    with pytest.raises(UsageError, match=r"early holds .* those to score: \S+epoch-0.5$"):
        catprune.score(cleaned, checkpoints=tmp_path / "early", out=tmp_path / "no", quiet=True, **settings)
    selected = catprune.select(scored.folder, method="cat-diff", keep="50%", out=tmp_path / "kept", quiet=True)
    assert selected.kept == 3
    order = json.loads((tmp_path / "kept" / "manifest.json").read_text())
    assert "epoch-0.5" in str(order) and "epoch-2" in str(order)


def test_a_resumed_training_keeps_its_checkpoints(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stops after the last checkpoint with a state, and goes on from it to the end."""
    marks = "2steps,4steps"
    early = EarlyCheckpoints(tmp_path / "early", marks, stop=True)
    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1}
    stopped = new_trainer("marian", models["marian"], tmp_path / "a", [early], **options)
    stopped.train()
    assert stopped.state.global_step == 4 and (tmp_path / "a" / "checkpoint-4" / "optimizer.pt").is_file()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "early").rglob("*")}
    # From before the last checkpoint: it is reached again, kept, and the training stops again.
    again = EarlyCheckpoints(tmp_path / "early", marks, stop=True)
    stopped = new_trainer("marian", models["marian"], tmp_path / "a", [again])
    stopped.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-1"))
    assert stopped.state.global_step == 4
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "early").rglob("*")} == before
    # From the last one: nothing is left to save, and nothing stops the training.
    last = new_trainer("marian", models["marian"], tmp_path / "a", [early])
    last.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    assert last.state.global_step == 7
    assert "step-4 is there, so the training goes on to its end" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "early").rglob("*")} == before
    (tmp_path / "early" / "step-2").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"goes on after step-2, which is not in .*early: give later checkpoints"):
        last.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    (tmp_path / "elsewhere").rename(tmp_path / "early" / "step-2")
    with pytest.raises(UsageError, match=r"step-2 is there from an earlier start: resume"):
        new_trainer("marian", models["marian"], tmp_path / "b", [early]).train()


def test_the_learning_rate_of_both_parts_is_that_of_one_training(models: dict[str, Path], tmp_path: Path) -> None:
    rates: list[dict[int, float]] = []
    for name in ("one", "two"):
        early = [EarlyCheckpoints(tmp_path / name / "early", "3steps", stop=True)] if name == "two" else []
        options: dict[str, Any] = {"logging_steps": 1, "logging_strategy": "steps", "ignore_data_skip": True}
        trainer = new_trainer("marian", models["marian"], tmp_path / name, early, **options)
        trainer.train()
        if early:
            trainer = new_trainer("marian", models["marian"], tmp_path / name, [], **options)
            trainer.train(resume_from_checkpoint=True)
        history = trainer.state.log_history
        rates.append({line["step"]: line["learning_rate"] for line in history if "learning_rate" in line})
    assert rates[0] == rates[1] and sorted(rates[0]) == list(range(1, 8))
    assert len(set(rates[0].values())) == 7


def values_of(trainer: Any) -> dict[str, Any]:
    return {"model": trainer.model, "processing_class": trainer.processing_class}


def test_a_checkpoint_is_written_whole_by_the_first_process(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = new_trainer("marian", models["marian"], tmp_path / "a", [])
    values, early = values_of(trainer), EarlyCheckpoints(tmp_path / "early", "1steps")
    state = transformers.TrainerState(max_steps=2, num_train_epochs=1, is_world_process_zero=False)
    control = transformers.TrainerControl()
    early.on_train_begin(trainer.args, state, control, **values)
    state.global_step = 1
    early.on_step_end(trainer.args, state, control, **values)
    assert not (tmp_path / "early").exists()

    def full(folder: Any, *_: Any, **__: Any) -> None:
        assert any(Path(folder).iterdir())
        raise OSError("No space left on device")

    state = transformers.TrainerState(max_steps=2, num_train_epochs=1, is_world_process_zero=True)
    early.on_train_begin(trainer.args, state, control, **values)
    state.global_step = 1
    monkeypatch.setattr(trainer.processing_class, "save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        early.on_step_end(trainer.args, state, control, **values)
    assert not list((tmp_path / "early").iterdir())
    # What a killed process left is replaced.
    monkeypatch.undo()
    (tmp_path / "early" / "step-1.tmp").mkdir()
    (tmp_path / "early" / "step-1.tmp" / "config.json").write_text("{")
    state.global_step = 0
    early.on_train_begin(trainer.args, state, control, **values)
    state.global_step = 1
    early.on_step_end(trainer.args, state, control, **values)
    assert [path.name for path in (tmp_path / "early").iterdir()] == ["step-1"]
    assert json.loads((early.folders[0] / "config.json").read_text())["model_type"] == "marian"


def test_what_cannot_be_saved_is_refused_before_the_training(models: dict[str, Path], tmp_path: Path) -> None:
    for checkpoints, message, options in (
        ("8steps", r"checkpoint step-8 is after the end of the training \(step 7\): train longer", {}),
        ("4", r"checkpoint epoch-4 is after the end of the training \(epoch 2.33333\): train longer", {}),
        ("2.5", r"checkpoint epoch-2.5 is after the end of the training \(epoch 2.33333\)", {}),
        ("1", r"checkpoint epoch-1 is after the end of the training \(epoch 0.666667\)", {"max_steps": 2}),
        (
            "1",
            r"checkpoint epoch-1 is after the end of the training \(epoch 0.666667\)",
            {"max_steps": 1, "gradient_accumulation_steps": 2},
        ),
    ):
        early = EarlyCheckpoints(tmp_path / "e", checkpoints)
        trainer = new_trainer("marian", models["marian"], tmp_path, [early], **options)
        with pytest.raises(UsageError, match=message):
            trainer.train()
        assert trainer.state.global_step == 0
    early = EarlyCheckpoints(tmp_path / "e", "1steps", stop=True)
    with pytest.raises(UsageError, match="needs the whole state of the trainer: leave save_only_model out"):
        new_trainer("marian", models["marian"], tmp_path, [early], save_only_model=True).train()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file is not a folder"):
        new_trainer("marian", models["marian"], tmp_path, [EarlyCheckpoints(tmp_path / "file", "1steps")]).train()
    early = EarlyCheckpoints(tmp_path / "e", "1steps")
    with pytest.raises(UsageError, match="no tokenizer to save: give it processing_class=tokenizer"):
        new_trainer("marian", models["marian"], tmp_path, [early], has_tokenizer=False).train()
    trainer = new_trainer("marian", models["marian"], tmp_path, [])
    empty = transformers.MarianMTModel(trainer.model.config)
    empty.final = torch.nn.Parameter(torch.empty(0))
    adapter = transformers.MarianMTModel(trainer.model.config)
    adapter.peft_config = {}
    state = transformers.TrainerState(max_steps=2, num_train_epochs=1)
    for model, message in (
        (torch.nn.Linear(1, 1), "Linear is no model of transformers"),
        (adapter, r"the model is an adapter, .* \(merge_and_unload\)"),
        (empty, r"the weights are split among processes \(FSDP, DeepSpeed ZeRO-3\)"),
    ):
        values = {**values_of(trainer), "model": model}
        with pytest.raises(UsageError, match=message):
            early.on_train_begin(trainer.args, state, transformers.TrainerControl(), **values)
    for checkpoints in ("", "1.5steps", "0", ["1"], "1,2steps"):
        with pytest.raises(UsageError, match="checkpoint"):
            EarlyCheckpoints(tmp_path / "e", checkpoints)  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "e").exists()


class Stops(transformers.TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **values: Any) -> None:
        del args, values
        control.should_training_stop = state.global_step == 2


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self) -> Any:
        return iter(PAIRS)


@pytest.mark.parametrize("length", [{"max_steps": 7}, {"num_train_epochs": 7 / 3, "max_steps": -1}])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_checkpoint_at_the_end_of_the_training_is_saved(
    models: dict[str, Path], tmp_path: Path, length: dict[str, Any], accumulate: int
) -> None:
    """Three batches an epoch: with two per update, the second update of an epoch has one batch."""
    length = length | {"gradient_accumulation_steps": accumulate}
    end = 7 / 3 if accumulate == 1 else 3 + 2 / 3 if length["max_steps"] == 7 else 2 + 2 / 3
    early = EarlyCheckpoints(tmp_path / "early", f"{end:.6f}"[:-1])
    new_trainer("marian", models["marian"], tmp_path / "a", [early], **length).train()
    assert early.folders[0].is_dir()


def test_a_training_that_ends_before_a_checkpoint_is_an_error(models: dict[str, Path], tmp_path: Path) -> None:
    for checkpoints, names in (("1steps,3steps,5steps", "step-3, step-5"), ("1", "epoch-1")):
        early = EarlyCheckpoints(tmp_path / "early", checkpoints)
        trainer = new_trainer("marian", models["marian"], tmp_path / "a", [early, Stops()])
        with pytest.raises(UsageError, match=rf"ended at step 2 \(epoch 0.666667\), before {names}: train longer"):
            trainer.train()
    trainer = new_trainer("marian", models["marian"], tmp_path / "b", [EarlyCheckpoints(tmp_path / "e", "0.5")])
    trainer.train_dataset = Stream()
    with pytest.raises(UsageError, match=r"has no length, so it has no epochs: give checkpoints in steps"):
        trainer.train()
    early = EarlyCheckpoints(tmp_path / "e", "2steps")
    trainer = new_trainer("marian", models["marian"], tmp_path / "b", [early])
    trainer.train_dataset = Stream()
    trainer.train()
    assert early.folders[0].is_dir()


def test_transformers_is_imported_only_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("catprune.hugging_face", "catprune.integrations"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delattr(catprune, "hugging_face", raising=False)
    with pytest.raises(MissingExtra, match="needs the package transformers: install catprune with its extra transf"):
        import_module("catprune.hugging_face")


def test_the_loop_of_the_documentation_runs(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    program = next(block for block in blocks if "stop=True" in block)
    assert len(program.splitlines()) <= 40
    for name, number in (
        ("100steps,500steps", "2steps,4steps"),
        ("checkpoint-500", "checkpoint-4"),
        ("max_steps=5000", "max_steps=8, report_to=[]"),
    ):
        assert name in program
        program = program.replace(name, number)
    (tmp_path / "my-model").symlink_to(models["marian"])
    for side, language in enumerate(("en", "de")):
        lines = [f"{pair[side]} {'a' * number}\n" for number in range(1, 9) for pair in PAIRS[:4]]
        (tmp_path / f"train.{language}").write_text("".join(lines))
    monkeypatch.chdir(tmp_path)
    save_state = transformers.TrainerState.save_to_json

    def killed(state: Any, path: str) -> None:
        if "checkpoint-4" in path:
            raise KeyboardInterrupt
        save_state(state, path)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(transformers.TrainerState, "save_to_json", killed)
        exec(compile(program, str(PAGE), "exec"), {"__name__": "loop"})
    assert (tmp_path / "run" / "early" / "step-4").is_dir(), "the checkpoints are there, the trainer's state is not"
    with pytest.raises(UsageError, match="is there from an earlier start"):
        exec(compile(program, str(PAGE), "exec"), {"__name__": "loop"})
    for name in ("early", "trainer"):
        shutil.rmtree(tmp_path / "run" / name)
    for times in range(2):
        values: dict[str, Any] = {"__name__": "loop"}
        exec(compile(program, str(PAGE), "exec"), values)
        kept, early = values["kept"], values["early"]
        rows = catprune.open_corpus("run/clean", selection="run/kept")
        assert kept["row"][:] == [row for batch in rows for row in batch["row"].to_pylist()]
        assert 0 < len(kept) <= 16
        assert [path.name for path in early.folders] == ["step-2", "step-4"]
        assert all(weight.isfinite().all() for weight in values["model"].parameters())
        state = json.loads((tmp_path / "run" / "trainer" / "checkpoint-8" / "trainer_state.json").read_text())
        assert state["global_step"] == 8, times
