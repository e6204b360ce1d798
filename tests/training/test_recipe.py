"""Recipes: what decays, batches in parts, defaults of presets."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from catprune._core import digest_file
from catprune.checkpoints.native import average_checkpoints, load_tensors, read_checkpoint
from catprune.errors import CatpruneError, UsageError
from catprune.model.sizes import PRESETS
from catprune.training import loop, loss, updates
from catprune.training.recipe import RECIPES
from catprune.training.train import train
from catprune.workspace.sealed import seal
from support.synthetic import write_tokens

FAST = {
    "steps": 6,
    "warmup_steps": 200,
    "precision": "float32",
    "dropout": 0.0,
    "batch_tokens": 512,
    "threads": 1,
    "quiet": True,
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return write_tokens(tmp_path_factory.mktemp("recipe") / "tokens", longest=40)


def test_every_preset_has_a_recipe_and_options_replace_parts_of_it(tokens, tmp_path):
    assert RECIPES.keys() == PRESETS.keys()
    assert RECIPES["base"].learning_rate == pytest.approx(512**-0.5 * 4000**-0.5)
    train(tokens, out=tmp_path / "w", steps=1, dropout=0.3, threads=1, quiet=True)
    plan = json.loads((tmp_path / "w/plan.json").read_text())["options"]
    tiny = RECIPES["tiny"]
    assert (plan["batch_tokens"], plan["warmup_steps"], plan["clip"]) == (tiny.batch_tokens, tiny.warmup_steps, 1.0)
    assert plan["dropout"] == 0.3


def test_only_matrices_of_layers_decay(tokens, tmp_path, monkeypatch):
    """With gradients of zero, an update is the decay alone."""
    kept = loop.Training._update

    def update(training, *batch):
        before = {name: part.clone() for name, part in training.model.named_parameters()}
        step = training.optimizer.step

        def decay_only():
            for part in training.model.parameters():
                part.grad.zero_()
            step()

        monkeypatch.setattr(training.optimizer, "step", decay_only)
        kept(training, *batch)
        group = training.optimizer.param_groups[0]
        shrunk = 1 - group["lr"] * RECIPES["tiny"].weight_decay
        for name, part in training.model.named_parameters():
            decays = name.endswith("weight") and "norm" not in name and "embedding" not in name
            torch.testing.assert_close(part.detach(), before[name] * (shrunk if decays else 1), rtol=1e-6, atol=0)
            assert decays == (part.dim() == 2 and name != "embedding.weight")

    monkeypatch.setattr(loop.Training, "_update", update)
    train(tokens, out=tmp_path / "w", **FAST | {"steps": 1})


@pytest.mark.parametrize("pruned", [{}, {"prune_while_training": "infobatch", "epochs": 3, "steps": None}])
def test_a_batch_in_parts_is_the_same_update(tokens, tmp_path, monkeypatch, pruned):
    calls = []
    forward = loss.Loss.forward

    def counting(self, source, *rest):
        calls.append(len(source))
        return forward(self, source, *rest)

    monkeypatch.setattr(loss.Loss, "forward", counting)
    by_parts = {}
    for name, parts in (("whole", {}), ("four", {"accumulate": 4}), ("limit", {})):
        if name == "limit":
            monkeypatch.setattr(updates, "PART_TOKENS", 100)
        calls.clear()
        done = train(tokens, out=tmp_path / name, **FAST | pruned | parts)
        by_parts[name] = load_tensors(done.checkpoints[-1] / "model.safetensors")[0], len(calls), done.steps
    (whole, once, steps), (four, often, _), (limit, most, _) = by_parts.values()
    assert once <= steps and often > 3 * once and most > 3 * once
    for other in (four, limit):
        for name, part in whole.items():
            np.testing.assert_allclose(other[name], part, rtol=1e-3, atol=2e-4)


def test_a_training_starts_from_a_checkpoint_of_the_same_kind(tokens, tmp_path):
    first = train(tokens, out=tmp_path / "first", **FAST | {"steps": None, "epochs": 2, "sample": 200}).checkpoints[-1]
    rows = np.arange(0, 300, 2)
    options = FAST | {"steps": None, "epochs": 1, "rows": rows, "learning_rate": 1e-9}
    tuned = train(tokens, out=tmp_path / "tuned", init=first, **options)
    for name, tensor in load_tensors(first / "model.safetensors")[0].items():
        np.testing.assert_allclose(
            load_tensors(tuned.checkpoints[-1] / "model.safetensors")[0][name], tensor, atol=1e-6
        )
    assert json.loads((tuned.folder / "plan.json").read_text())["reads"]["init"]["weights"] == digest_file(
        str(first / "model.safetensors")
    )
    before, after = (parquet.read_table(path / "seen.parquet").to_pydict() for path in (first, tuned.checkpoints[-1]))
    expected = [times + (row in rows) for row, times in zip(before["row"], before["times"], strict=True)]
    assert after["times"] == expected and set(expected) == {0, 1, 2, 3}
    assert read_checkpoint(tuned.checkpoints[-1]).seen["times"] == [0, 1, 2, 3]
    odd = Path(shutil.copytree(first, tmp_path / "odd"))
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_bytes(seal({**config, "tokenizer": {**config["tokenizer"], "digest": "0"}}))
    for init, change, message in (
        (first, {"preset": "small"}, "give preset = tiny"),
        (first, {"reverse": True}, "was trained forward: train in the same direction"),
        (odd, {}, "was trained with tokenizer 0"),
    ):
        with pytest.raises(CatpruneError, match=message):
            train(tokens, out=tmp_path / "refused", init=init, **options | change)


def test_an_average_is_the_mean_of_the_weights(tokens, tmp_path):
    done = train(tokens, out=tmp_path / "w", **FAST | {"checkpoints": "2steps,4steps", "sample": 100})
    parts = [load_tensors(path / "model.safetensors")[0] for path in done.checkpoints]
    for folder in (done.checkpoints[0], done.folder, done.folder.parent):  # whatever holds a checkpoint
        with pytest.raises(UsageError, match="holds checkpoints that are averaged"):
            average_checkpoints(done.checkpoints, folder)
    (tmp_path / "other").mkdir()
    with pytest.raises(CatpruneError):
        average_checkpoints(done.checkpoints, tmp_path / "other")
    out = average_checkpoints(done.checkpoints, tmp_path / "mean")
    averaged, last = read_checkpoint(out), read_checkpoint(done.checkpoints[-1])
    for name, tensor in load_tensors(averaged.weights)[0].items():
        np.testing.assert_allclose(tensor, sum(part[name].double() for part in parts) / 3, rtol=1e-6)
    assert averaged.recorded() == last.recorded()
    assert averaged.seen_file.read_bytes() == last.seen_file.read_bytes()
    other = train(tokens, out=tmp_path / "other", **FAST | {"steps": 1, "preset": "small"}).checkpoints[0]
    with pytest.raises(CatpruneError, match="has another size than"):
        average_checkpoints([*done.checkpoints, other], tmp_path / "mixed")


def test_the_warmup_of_a_preset_is_limited_by_the_planned_updates(tokens, tmp_path, capsys):
    """Half of the updates, counted exactly where epochs are given; a given warm-up is kept, and said if long."""
    tiny = RECIPES["tiny"]
    updates = (1, 2, 3, 100, 798, 800, 10**6)
    assert [tiny.within(count).warmup_steps for count in updates] == [1, 1, 2, 50, 399, 400, 400]
    assert replace(tiny, warmup_share=None).within(3).warmup_steps == 400

    def rates(name, **given):
        done = train(
            tokens, out=tmp_path / name, **{**FAST, "steps": None, "warmup_steps": None, "quiet": False, **given}
        )
        assert (done.manifest["options"]["warmup_share"] is None) == ("warmup_steps" in given)
        lines = (done.folder / "metrics.jsonl").read_text().splitlines()
        return done.steps, done.manifest["warmup_steps"], json.loads(lines[-1])["learning_rate"]

    steps, warmup, rate = rates("epochs", epochs=2)
    assert warmup == math.ceil(steps / 2) and rate == pytest.approx(tiny.learning_rate * math.sqrt(warmup / steps))
    assert rates("steps", steps=9)[1] == 5
    by_selection = rates("rows", epochs=2, rows=np.arange(20))
    assert by_selection[1] == math.ceil(by_selection[0] / 2) < warmup
    assert "does not reach its peak" not in capsys.readouterr().err
    assert rates("given", steps=6, warmup_steps=6)[1:] == (6, tiny.learning_rate)
    assert "does not reach its peak" not in capsys.readouterr().err
    assert rates("long", steps=6, warmup_steps=7)[1:] == (7, pytest.approx(tiny.learning_rate * 6 / 7))
    assert "the warm-up of 7 updates is longer than the training, 6 updates" in capsys.readouterr().err
