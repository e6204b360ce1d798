"""Whole evaluations of tiny models: seeds, dev curves, resuming, and what a changed comparison keeps."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catprune.checkpoints.native import read_checkpoint
from catprune.corpus.bitexts import Bitext, TestSet
from catprune.errors import CatpruneError, MissingExtra, UsageError
from catprune.evaluation import results
from catprune.evaluation.evaluate import choose_seeds
from catprune.evaluation.significance import Seeds, decide
from catprune.evaluation.summary import Hypothesis
from catprune.scoring.scorers.comet import CometMetric
from catprune.tokens.blocks import Tokens
from catprune.training.held_out import HeldOut
from support.small_evaluations import contents, evaluate_small, kill_in, write_small_corpus
from support.synthetic import BOS, make_tokenizer


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "e"
    evaluate_small(corpus, out)
    return out


@pytest.fixture
def copy(finished: Path, corpus: Path) -> Path:
    """A copy as far from the corpus as the original: plans hold relative paths."""
    out = finished.parent / "copy"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(finished, out)
    assert corpus.is_dir()
    return out


def test_every_subset_and_seed_has_a_result(finished: Path) -> None:
    evaluation = results.open_evaluation(finished)
    assert (evaluation.seeds, evaluation.dev, evaluation.tests) == ((1, 2), 12, {"toy": 12})
    full, half = evaluation.subsets
    assert (full.pairs, half.pairs, full.steps, half.steps) == (120, 60, 8, 8)
    assert half.epochs > 1.2 * full.epochs and full.flops.total > 0
    assert full.seconds is not None and full.seconds.training > 0
    for place, seed in enumerate((1, 2)):
        result = json.loads((finished / f"trials/half/seed-{seed}/result.json").read_bytes())
        assert [point["step"] for point in result["curve"]] == [3, 6, 8]
        assert ["chrF" in point for point in result["curve"]] == [True, False, True]
        best = min(result["curve"], key=lambda point: point["nll"])
        assert result["tested"] == [best["step"]] == list(half.tested[place])
        assert result["tests"]["toy"]["nll"] == evaluation.scores["toy"]["nll"]["half"].values[place]
        assert "seconds" not in json.dumps(result)
        folder = finished / f"trials/half/seed-{seed}"
        assert len((folder / "translations/toy.txt").read_text().splitlines()) == 12
        assert read_checkpoint(folder / "model/checkpoint").step == best["step"]
        assert not (folder / "model/training").exists(), "the other checkpoints are gone"
    values = evaluation.scores["toy"]["nll"]["full"].values
    assert values[0] != values[1], "seeds differ"
    chrf = {name: measured.values for name, measured in evaluation.scores["toy"]["chrF"].items()}
    (decision,) = decide([(Seeds(chrf).difference("half", "full"), 1.0)])
    assert (evaluation.hypotheses[0].outcome, evaluation.hypotheses[0].adjusted) == (
        decision.outcome,
        decision.adjusted,
    )
    assert {reading.axis for reading in evaluation.readings} == {"step", "epoch", "target_tokens", "flops"}


def test_the_held_out_loss_is_that_of_the_model(finished: Path, corpus: Path) -> None:
    import torch
    from catprune.checkpoints.native import load_model

    checkpoint = finished / "trials/full/seed-1/model/checkpoint"
    model, tokenizer = load_model(read_checkpoint(checkpoint)), make_tokenizer()
    total = tokens = 0.0
    for line in zip(
        *[(corpus / f"test.{side}").read_text().splitlines() for side in ("source", "target")], strict=True
    ):
        source, target = (tokenizer.encode(text).ids for text in line)
        with torch.inference_mode():
            hidden = model(torch.tensor([source]), torch.tensor([[BOS, *target[:-1]]]))[0]
            logits = (hidden @ model.embedding.weight.T).log_softmax(1)
        total -= float(logits[range(len(target)), target].sum())
        tokens += len(target)
    assert results.open_evaluation(finished).scores["toy"]["nll"]["full"].values[0] == pytest.approx(
        total / tokens, abs=1e-5
    )


def test_lines_of_any_length_count_whole(corpus: Path, finished: Path) -> None:
    tokens, checkpoint = Tokens.open(corpus / "tokens"), finished / "trials/full/seed-1/model/checkpoint"
    lines = ("", "abc" * 300, "d"), ("ab", "c" * 900, "")
    together = HeldOut(Bitext("t", *lines, {}), tokens).nll(checkpoint)
    apart = [HeldOut(Bitext("t", (s,), (t,), {}), tokens).nll(checkpoint) for s, t in zip(*lines, strict=True)]
    counts = [len(make_tokenizer().encode(target).ids) for target in lines[1]]
    assert together == pytest.approx(np.average(apart, weights=counts), abs=1e-4)


def test_a_finished_evaluation_does_nothing(finished: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("catprune.training.train"), "train", None)
    before = contents(finished)
    assert evaluate_small(corpus, finished) == results.open_evaluation(finished)
    assert contents(finished) == before


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        ("catprune.training.loop", "save_tensors", 4),
        ("catprune.evaluation.translate", "translate", 1),
        ("catprune.evaluation.translate", "translate", 5),
        ("catprune.evaluation.trial", "average_checkpoints", 2),
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
            evaluate_small(corpus, out)
    evaluate_small(corpus, out)
    assert contents(out) == contents(finished)


def test_finished_parts_that_were_changed_before_a_resume(copy: Path, finished: Path, corpus: Path) -> None:
    """A changed trial is refused, and made again by force; a changed translation is made again."""
    trial = copy / "trials/half/seed-1"
    for name in ("model/metrics.jsonl", "model/checkpoint/tokenizer.json", "model/checkpoint/model.safetensors"):
        (copy / "manifest.json").unlink()
        data = (trial / name).read_bytes()
        (trial / name).write_bytes(data[:9] + bytes([data[9] ^ 1]) + data[10:])
        with pytest.raises(CatpruneError, match=rf"{name} was changed"):
            evaluate_small(corpus, copy)
        evaluate_small(corpus, copy, force=True)
        assert contents(copy) == contents(finished)
    (copy / "manifest.json").unlink()
    (trial / "translations/toy.txt").write_text("x\n" * 12)
    evaluate_small(corpus, copy)
    assert contents(copy) == contents(finished)


def test_force_repairs_a_damaged_trial_of_a_finished_evaluation(copy: Path, corpus: Path) -> None:
    before = contents(copy)
    for name in ("trials/half/seed-2/model/manifest.json", "trials/full/seed-1/result.json"):
        (copy / name).write_bytes((copy / name).read_bytes().replace(b'"', b"'", 1))
    evaluate_small(corpus, copy)  # finished work is not read again
    assert contents(copy) != before
    evaluate_small(corpus, copy, force=True)
    assert contents(copy) == before


def test_a_new_comparison_trains_only_what_is_new(copy: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, trained = import_module("catprune.training.train"), []
    work = module.train

    def train(tokens: Path, *, out: Path, **options: Any) -> Any:
        trained.append(f"{out.parent.parent.parent.name} {options['seed']}")
        return work(tokens, out=out, **options)

    monkeypatch.setattr(module, "train", train)
    evaluation = evaluate_small(
        corpus, copy, beam=2, hypotheses=[], tests=[TestSet("other", corpus / "dev.source", corpus / "dev.target")]
    )
    assert trained == [] and list(evaluation.scores) == ["other"] and evaluation.hypotheses == ()
    more = {"full": None, "half": {1: corpus / "half-0", 2: corpus / "half-1", 3: corpus / "half-0"}}
    assert evaluate_small(corpus, copy, subsets=more, seeds=3).seeds == (1, 2, 3)
    assert trained == ["full 3", "half 3"]


def test_comet_is_measured_once(copy: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = copy.parent / "comet"
    (model / "checkpoints").mkdir(parents=True, exist_ok=True)
    (model / "checkpoints/model.ckpt").write_bytes(b"weights")
    (model / "hparams.yaml").write_text("class_identifier: regression_metric")
    asked: list[tuple[str, ...]] = []

    def measure(_: CometMetric, sources: list[str], translations: list[str], references: list[str]) -> float:
        assert (sources, references) == (bitext.source, bitext.target)
        asked.append(tuple(translations))
        return 0.25 + len(asked) / 100

    bitext = TestSet("toy", corpus / "test.source", corpus / "test.target").read()

    def missing(_: CometMetric) -> None:
        raise CatpruneError("there is no environment")

    monkeypatch.setattr(CometMetric, "check", missing)
    with pytest.raises(CatpruneError, match="there is no environment"):  # before anything is trained
        evaluate_small(corpus, copy.parent / "new", comet=model)
    assert not (copy.parent / "new" / "trials").exists()
    monkeypatch.setattr(CometMetric, "check", lambda _: None)
    monkeypatch.setattr(CometMetric, "measure", measure)
    monkeypatch.setattr(import_module("catprune.training.train"), "train", None)  # no model is trained again
    hypotheses = [Hypothesis("half", "full", 0.1, "COMET")]
    found = evaluate_small(corpus, copy, comet=model, hypotheses=hypotheses)
    assert found.scores["toy"]["COMET"]["full"].values == (0.26, 0.28)
    assert found.hypotheses[0].difference.value == pytest.approx(0.01)
    assert "COMET" in results.render(found)
    before = contents(copy)
    evaluate_small(corpus, copy, comet=model, hypotheses=[])
    assert len(asked) == 4, "an unchanged model and unchanged translations are not scored again"
    assert {name for name, data in contents(copy).items() if before[name] != data} <= {
        *("plan.json", "manifest.json", "results.json")
    }
    with pytest.raises(UsageError, match="COMET needs a model: give comet"):
        evaluate_small(corpus, copy, hypotheses=hypotheses)


def test_other_trainings_need_force(copy: Path, corpus: Path) -> None:
    with pytest.raises(CatpruneError, match=r"other options \(steps was 8, is now 9\)"):
        evaluate_small(corpus, copy, steps=9)
    assert results.open_evaluation(copy).subset("full").steps == 8, "the results are still there"
    with pytest.raises(CatpruneError, match="other inputs"):
        evaluate_small(corpus, copy, subsets={"full": None, "half": corpus / "half-1"})
    assert evaluate_small(corpus, copy, steps=9, force=True).subset("full").steps == 9


def test_one_seed_without_a_dev_set(corpus: Path, tmp_path: Path) -> None:
    evaluation = evaluate_small(corpus, tmp_path / "e", seeds=1, dev=None, steps=None, epochs=0.5, average=None)
    full, half = evaluation.subsets
    assert full.epochs == pytest.approx(0.5, abs=0.2) and half.steps == full.steps
    assert full.tested == ((full.steps,),) and full.curves == ((),) and evaluation.readings == ()
    assert set(evaluation.randomisation["toy"]["half"]["full"]) == {"BLEU", "chrF"}
    assert results.ONE_SEED in evaluation.cautions and any("no dev set" in text for text in evaluation.cautions)
    assert evaluation.hypotheses[0].outcome == "not decided"


def test_the_last_checkpoints_are_averaged(corpus: Path, tmp_path: Path) -> None:
    evaluation = evaluate_small(corpus, tmp_path / "e", seeds=[5], subsets={"full": None}, hypotheses=[], average=2)
    assert evaluation.subset("full").tested == ((6, 8),) and evaluation.seeds == (5,)


def test_seeds() -> None:
    assert choose_seeds(3, 2) == [3, 4] and choose_seeds(3, [7, 1]) == [7, 1]
    for wrong in (0, [], [1, 1]):
        with pytest.raises(UsageError, match="at least one seed, each once"):
            choose_seeds(1, wrong)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 2.0}, "both steps and epochs"),
        ({"against": ["full", "missing"]}, "no subset has that name"),
        ({"beams": 3}, "evaluate: there is no option beams; did you mean beam"),
        ({"subsets": {"../x": None}, "against": [], "hypotheses": []}, "cannot name a subset"),
        ({"tests": []}, "needs a subset and a test set"),
        ({"subsets": {"half": {1: "half-0"}}, "hypotheses": []}, "subset half has no selection for seed 2"),
        ({"hypotheses": [Hypothesis("half", "third")]}, "hypothesis on third: no subset"),
        ({"hypotheses": [Hypothesis("half", "half")]}, "compare it with another"),
        ({"hypotheses": [Hypothesis("half", "full", 1.0, "TER")]}, "give a metric of BLEU, chrF, nll"),
        ({"hypotheses": [Hypothesis("half", "full", 1.0, "nll", "no")]}, "no is not a test set"),
    ],
)
def test_options_that_cannot_be_meant(corpus: Path, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate_small(corpus, tmp_path / "e", **changed)


def test_held_out_sets_are_checked_before_anything_is_trained(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "short").write_text("nur eine Zeile\n")
    (tmp_path / "empty").write_text("")
    source = corpus / "test.source"
    for name, message in (("short", r"has 12 lines.*has 1"), ("no", "does not exist")):
        with pytest.raises(CatpruneError, match=message):
            evaluate_small(corpus, tmp_path / "e", tests=[TestSet("toy", source, tmp_path / name)])
        with pytest.raises(CatpruneError, match=message):
            evaluate_small(corpus, tmp_path / "e", dev=TestSet("dev", source, tmp_path / name))
    with pytest.raises(CatpruneError, match="is empty"):
        TestSet("toy", tmp_path / "empty", tmp_path / "empty").read()
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("package", "extra"),
    [("torch", "torch"), ("sacrebleu", "evaluate"), ("ctranslate2", "evaluate"), ("scipy", "evaluate")],
)
def test_a_missing_package_is_named_with_its_extra(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"package {package}: install catprune with its extra {extra}"):
        evaluate_small(corpus, tmp_path / "e")


def test_compressed_sets_with_odd_line_ends(tmp_path: Path) -> None:
    lines = ["ein Satz", "mit\u2028Zeichen", "Ende"]
    (tmp_path / "a.gz").write_bytes(gzip.compress("\r\n".join(lines).encode()))
    (tmp_path / "b").write_text("\n".join(lines) + "\n")
    read = TestSet("t", tmp_path / "a.gz", tmp_path / "b").read()
    assert list(read.source) == list(read.target) == lines


def test_a_seed_that_is_no_number_is_refused(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACREBLEU_SEED", "none")
    with pytest.raises(UsageError, match="SACREBLEU_SEED"):
        evaluate_small(corpus, tmp_path / "e")
