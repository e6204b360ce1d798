"""Trainings that continue `full` on a part: the same updates as by hand, resumed with the same bytes, compared."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from catprune.checkpoints.native import load_tensors, read_checkpoint
from catprune.errors import CatpruneError, UsageError
from catprune.evaluation.after_full import baselines_of, full_steps, name_continued
from catprune.evaluation.results import open_evaluation, render
from catprune.evaluation.summary import Hypothesis
from catprune.training.train import train
from support.small_evaluations import contents, evaluate_small, kill_in, write_small_corpus

if TYPE_CHECKING:
    from catprune.evaluation.results import Evaluated

STEPS, FULL_STEPS, NAME = 10, 8, "full-then-half"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_corpus(tmp_path_factory.mktemp("corpus"))


def run(corpus: Path, out: Path, **changed: Any) -> Evaluated:
    options = {
        "steps": STEPS,
        "evaluate_every": 2,
        "seeds": 1,
        "after_full": ["half"],
        "hypotheses": [Hypothesis(NAME, "full", 1.0)],
        "batch_tokens": 256,
    }
    return evaluate_small(corpus, out, **{**options, **changed})


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "e"
    run(corpus, out)
    return out


def result(folder: Path, subset: str) -> Any:
    return json.loads((folder / f"trials/{subset}/seed-1/result.json").read_bytes())


def test_it_is_compared_like_every_other_subset(finished: Path) -> None:
    evaluated = open_evaluation(finished)
    full, half, then = evaluated.subsets
    assert (full.name, half.name, then.name) == ("full", "half", NAME)
    assert evaluated.against[NAME] == ["full"] and evaluated.hypotheses[0].subset == NAME
    assert (then.steps, then.full_steps, full.full_steps, then.pairs) == (STEPS, FULL_STEPS, 0, half.pairs)
    assert NAME in render(evaluated) and f"{FULL_STEPS} updates of full, then 2 on the part" in render(evaluated)
    whole, part = result(finished, "full"), result(finished, NAME)
    assert [point["step"] for point in part["curve"]] == [2, 4, 6, 8, 10]
    assert part["curve"][:-1] == whole["curve"][:-1]
    assert ["chrF" in point for point in part["curve"]] == ["chrF" in point for point in whole["curve"]]
    before = whole["curve"][-2]
    for name in ("epoch", "target_tokens", "flops"):
        assert part["curve"][-1][name] == part["end"][name] > before[name], name
    assert part["flops"]["training"] == part["end"]["flops"]
    assert part["curve"][-1]["nll"] != whole["curve"][-1]["nll"]
    assert part["tested"] == [STEPS] and part["tests"]["toy"]["nll"] != whole["tests"]["toy"]["nll"]
    assert not list(finished.rglob("moments.safetensors")), "only needed while trainings continue"


def test_continuing_on_the_same_pairs_is_the_training_itself(corpus: Path, tmp_path: Path) -> None:
    """At the end of an epoch, `resume_from` on the same pairs makes the updates that the training makes."""
    options: dict[str, Any] = {"batch_tokens": 4096, "precision": "float32", "threads": 1, "quiet": True}
    options |= {"steps": 4, "warmup_steps": 2, "dropout": 0.0}
    checkpoints = ",".join(f"{step}steps" for step in range(1, 5))
    whole = train(corpus / "tokens", out=tmp_path / "a", checkpoints=checkpoints, keep_moments=2, **options)
    assert [read_checkpoint(path).epoch for path in whole.checkpoints] == [1, 2, 3, 4], "a batch is an epoch"
    rest = train(
        corpus / "tokens", out=tmp_path / "b", checkpoints="3steps,4steps", resume_from=tmp_path / "a/step-2", **options
    )
    assert [path.name for path in rest.checkpoints] == ["step-3", "step-4"]
    for name in ("step-3", "step-4"):
        one, other = (read_checkpoint(tmp_path / folder / name) for folder in "ab")
        assert one.recorded() | {"seen": None} == other.recorded() | {"seen": None}
        assert one.seen["times"] == other.seen["times"], "exposure counts the updates before"
        tensors, others = load_tensors(one.weights)[0], load_tensors(other.weights)[0]
        for key in tensors:
            torch.testing.assert_close(tensors[key], others[key], rtol=1e-4, atol=1e-6)


def test_the_schedule_and_the_moments_go_on(corpus: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_tokens": 256, "precision": "float32", "threads": 1, "quiet": True}
    options |= {"warmup_steps": 5}
    a = train(corpus / "tokens", out=tmp_path / "a", checkpoints="20steps,50steps", keep_moments=20, **options)
    assert [(path / "moments.safetensors").is_file() for path in a.checkpoints] == [True, False]
    moments = load_tensors(a.checkpoints[0] / "moments.safetensors")[0]
    assert float(moments["step.embedding.weight"]) == 20
    rows = np.arange(0, 60)
    train(corpus / "tokens", out=tmp_path / "b", steps=50, rows=rows, resume_from=a.checkpoints[0], **options)
    rates = [
        {
            line["step"]: line["learning_rate"]
            for line in map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
        }
        for path in (tmp_path / "a", tmp_path / "b")
    ]
    assert rates[1] == {step: rate for step, rate in rates[0].items() if step > 20} and len(rates[1]) > 1


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        ("catprune.training.loop", "save_tensors", 5),
        ("catprune.evaluation.trial", "average_checkpoints", 1),
        ("catprune.evaluation.trial", "average_checkpoints", 3),
        ("catprune.evaluation.evaluate", "summarise", 1),
    ],
)
def test_killed_anywhere_it_ends_with_the_same_bytes(
    finished: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, call: int
) -> None:
    out = finished.parent / f"killed-{name}-{call}"
    with monkeypatch.context() as patch:
        kill_in(patch, module, name, call=call)
        with pytest.raises(KeyboardInterrupt):
            run(corpus, out)
    run(corpus, out)
    assert contents(out) == contents(finished)


def test_asked_for_later_it_gives_the_same(finished: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`full` is not changed; where its checkpoint is gone, only its training is made again."""
    out = finished.parent / "later"
    run(corpus, out, after_full=[], hypotheses=[])
    before = contents(out / "trials")
    assert set(before) < set(contents(finished / "trials"))
    run(corpus, out)
    assert contents(out) == contents(finished)
    assert before.items() <= contents(out / "trials").items()

    module, trained = import_module("catprune.training.train"), []
    monkeypatch.setattr(module, "train", lambda *_, **options: trained.append(options))
    assert run(corpus, out, after_full=[], hypotheses=[]).subsets[-1].name == "half" and trained == []


def test_a_training_without_moments_that_is_half_done(
    finished: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = finished.parent / "half-done"
    with monkeypatch.context() as patch:
        patch.setattr(import_module("catprune.evaluation.trial"), "average_checkpoints", None)
        with pytest.raises(TypeError):
            run(corpus, out, after_full=[], hypotheses=[])
    run(corpus, out)
    assert contents(out) == contents(finished)


def test_without_a_dev_set_the_last_checkpoint_is_tested(corpus: Path, tmp_path: Path) -> None:
    done = run(corpus, tmp_path / "e", dev=None)
    assert done.subset(NAME).tested == ((STEPS,),) and done.subset(NAME).curves == ((),)
    assert result(tmp_path / "e", NAME)["end"]["step"] == STEPS
    shutil.rmtree(tmp_path / "e")
    averaged = run(corpus, tmp_path / "e", average=2, evaluate_every=1)
    assert averaged.subset(NAME).tested == ((9, 10),)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"after_full": ["full"]}, "full itself is the control"),
        ({"after_full": ["third"]}, "names third, but no subset has that name"),
        ({"after_full": ["half", "half"]}, "give each subset once"),
        ({"after_full": ["half"], "subsets": {"half": None}, "hypotheses": []}, "needs the subset full"),
        ({"subsets": {"full": None, "half": None, NAME: None}}, "give it another name"),
        ({"average": 2}, "average = 2, but a training that continues full has 1 of"),
        ({"steps": 1, "warmup_steps": 1}, "at least 2 updates"),
    ],
)
def test_options_that_cannot_be_meant(corpus: Path, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(corpus, tmp_path / "e", **changed)
    assert not list(tmp_path.rglob("model.safetensors"))


def test_what_a_resumed_training_refuses(corpus: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path / "b", "threads": 1, "quiet": True}
    done = train(corpus / "tokens", **{**options, "out": tmp_path / "a"}, checkpoints="1steps,2steps", keep_moments=1)
    first, second = done.checkpoints
    with pytest.raises(CatpruneError, match="has no moments: train it with keep_moments = 2"):
        train(corpus / "tokens", steps=4, resume_from=second, **options)
    with pytest.raises(UsageError, match=r"checkpoint step-1: give updates after 1"):
        train(corpus / "tokens", steps=4, checkpoints="1steps", resume_from=first, **options)
    with pytest.raises(UsageError, match=r"checkpoint epoch-2: give updates"):
        train(corpus / "tokens", epochs=2, resume_from=first, **options)
    with pytest.raises(UsageError, match="both init and resume_from"):
        train(corpus / "tokens", steps=4, resume_from=first, init=first, **options)
    (first / "moments.safetensors").unlink()
    with pytest.raises(CatpruneError, match="has no moments"):
        train(corpus / "tokens", steps=4, resume_from=first, **options)


def test_names_baselines_and_updates() -> None:
    continued = name_continued(["half", "random"], ["full", "half", "random", "third"])
    assert continued == {NAME: "half", "full-then-random": "random"}
    assert baselines_of(["full", "random", "third"], continued) == ["full", "full-then-random", "third"]
    assert [full_steps(steps) for steps in (2, 3, 10, 1000)] == [1, 2, 8, 800]
