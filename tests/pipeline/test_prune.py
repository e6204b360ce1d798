"""Prune: dry runs, refusals, and the command line."""

from __future__ import annotations

import gzip
import json
import random
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import catprune
import pytest
from catprune import CatpruneError, UsageError
from catprune.cli import app
from catprune.demonstration.bitext import write_demo_bitext
from catprune.pipeline.run_file import json_schema


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_demo_bitext(tmp_path, pairs=250, test_pairs=3, seed=5)
    return tmp_path


def sides(folder: Path, name: str) -> list[Path]:
    return [folder / f"{name}.en", folder / f"{name}.de"]


def entries(folder: Path, *, log: bool = True) -> dict[str, int]:
    """All files and folders and when they were changed."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if log or "log" not in path.parts}


@pytest.mark.parametrize(
    ("chosen", "decided"),
    [
        ({}, "epochs 5, checkpoints 1,5"),
        ({"method": "cat-var"}, "epochs 5, checkpoints 1,3,5"),
        ({"epochs": 1}, "epochs 1, checkpoints 0.5,1"),
        ({"epochs": 10}, "epochs 10, checkpoints 1,10"),
        ({"epochs": 0.5, "method": "cat-var"}, "epochs 0.5, checkpoints 0.25,0.375,0.5"),
        ({"epochs": 3, "method": "cat-var"}, "epochs 3, checkpoints 1,2,3"),
        ({"checkpoints": "1,3,8"}, "epochs 8, checkpoints 1,3,8"),
        ({"checkpoints": "2steps"}, "epochs 5, checkpoints 2steps"),
        ({"epochs": 2, "checkpoints": "2steps,1"}, "epochs 2, checkpoints 2steps,1"),
        ({"epochs": 3, "checkpoints": "1,2"}, "epochs 3, checkpoints 1,2"),
    ],
)
def test_epochs_and_checkpoints_fit_each_other(corpus: Path, chosen: dict[str, Any], decided: str) -> None:
    messages: list[str] = []
    options: dict[str, Any] = {"out": corpus / "run", "quiet": True, "say": messages.append, "dry_run": True}
    catprune.prune(sides(corpus, "train"), sides(corpus, "p"), **chosen, **options)
    assert any(f"vocab_size 1000, preset tiny, {decided}" in line for line in messages)


def test_a_huge_corpus_is_sampled_for_the_warm_up_model(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catprune.pipeline.prune._SAMPLE", 90)
    messages: list[str] = []
    options: dict[str, Any] = {
        "out": corpus / "run",
        "quiet": True,
        "threads": 1,
        "dry_run": True,
        "say": messages.append,
    }
    for more, expected in (({}, "sample 90"), ({"sample": 50}, "sample 50")):
        catprune.prune(sides(corpus, "train"), sides(corpus, "p"), **more, **options)
        assert expected in next(line for line in messages if line.startswith("decided"))
        messages.clear()
    monkeypatch.setattr("catprune.pipeline.prune._SAMPLE", 1000)
    catprune.prune(sides(corpus, "train"), sides(corpus, "p"), **options)
    assert "sample " not in next(line for line in messages if line.startswith("decided"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "dual-xent"}, "dual-xent needs a model that a run does not train"),
        ({"within": "tag"}, r"within = tag needs tags"),
        ({"keep": ["50%", "tag=news:80%"]}, "tag=news needs tags"),
    ],
)
def test_what_a_run_cannot_do_is_refused_before_anything_is_written(
    corpus: Path, changed: dict[str, Any], message: str
) -> None:
    for dry_run in (True, False):
        with pytest.raises(UsageError, match=f"^{message}"):
            catprune.prune(
                sides(corpus, "train"), sides(corpus, "p"), out=corpus / "run", quiet=True, dry_run=dry_run, **changed
            )
    assert not (corpus / "run").exists()


def test_a_dry_run_shows_the_plan_and_writes_nothing(corpus: Path) -> None:
    before, messages = entries(corpus), list[str]()
    options: dict[str, Any] = {"out": corpus / "run", "quiet": True, "say": messages.append, "threads": 1}
    done = catprune.prune(sides(corpus, "train"), sides(corpus, "p"), dry_run=True, keep="30%", **options)
    assert entries(corpus) == before
    assert (done.selections, done.outputs, done.report) == ({}, (), None)
    steps = [line.split()[0] for line in messages if not line.startswith(" ")]
    assert steps == ["clean", "decided", "tokenize", "expected", "dry"]
    assert any(line.startswith("          250 pairs read") for line in messages)
    decided = next(line for line in messages if line.startswith("decided"))
    assert "keep 30% by progress; vocab_size 1000, preset tiny, epochs 5, checkpoints 1,5" in decided
    expected = next(line for line in messages if line.startswith("expected"))
    assert all(word in expected for word in ("train ", "score ", "select and write ", "target tokens/s"))
    assert messages[-1] == "dry run   nothing was written; run the same command without dry_run to start"
    # Given options are kept; without a model there is nothing to train.
    messages.clear()
    options_of_model: dict[str, Any] = {
        "preset": "small",
        "epochs": 2,
        "checkpoints": "1,2",
        "method": "cat-diff",
        "on": "nll",
    }
    catprune.prune(sides(corpus, "train"), sides(corpus, "p"), dry_run=True, **options_of_model, **options)
    assert any("by cat-diff; vocab_size 1000, preset small, epochs 2, checkpoints 1,2" in line for line in messages)
    messages.clear()
    catprune.prune(sides(corpus, "train"), sides(corpus, "p"), dry_run=True, method="random", **options)
    assert [line.split()[0] for line in messages if not line.startswith(" ")] == ["clean", "decided", "dry"]
    assert entries(corpus) == before
    with pytest.raises(CatpruneError, match=r"too few: 1,000 are to be kept; give more text, or keep less"):
        catprune.prune(sides(corpus, "train"), sides(corpus, "p"), dry_run=True, keep=1000, **options)
    assert entries(corpus) == before


@pytest.mark.parametrize("compressed", [False, True])
def test_a_dry_run_knows_the_tokens_of_the_run(tmp_path: Path, monkeypatch: Any, *, compressed: bool) -> None:
    """The estimate is of the text that is kept: half of this corpus is dropped, and what is kept is short."""
    random.seed(1)
    words = [f"{a}{b}" for a in ("ba", "ko", "shi", "tu") for b in ("ren", "lam", "dog", "ix")]
    short = [" ".join(random.choices(words, k=5)) for _ in range(300)]
    lines = [line for text in short for line in (text, " ".join(random.choices(words, k=200)))]
    paths = [tmp_path / f"train.{side}{'.gz' if compressed else ''}" for side in ("en", "de")]
    for path, step in zip(paths, (1, -1), strict=True):
        data = "".join(f"{line[::step]}\n" for line in lines).encode()
        path.write_bytes(gzip.compress(data) if compressed else data)
    estimates: list[float] = []

    def note(tokens: float, *_: Any, **__: Any) -> str:
        estimates.append(tokens)
        return "nothing"

    monkeypatch.setattr(import_module("catprune.pipeline.prune"), "expected", note)
    options: dict[str, Any] = {"threads": 1, "quiet": True, "out": tmp_path / "run"}
    catprune.prune(paths, sides(tmp_path, "p"), dry_run=True, **options)
    assert 290 < catprune.clean(paths, out=tmp_path / "clean").kept <= 300  # without some duplicates
    counted = catprune.tokenize(tmp_path / "clean", out=tmp_path / "tokens", vocab_size=1000).target_tokens
    assert estimates == [counted]


def test_what_a_user_added_to_the_run_file_stays(corpus: Path) -> None:
    messages: list[str] = []
    options: dict[str, Any] = {"out": corpus / "run", "quiet": True, "method": "random", "say": messages.append}
    catprune.prune(sides(corpus, "train"), sides(corpus, "p"), **options)
    path = corpus / "run/run.toml"
    added = '[[select]]\nname = "long"\nmethod = "length"\n\n# three seeds\n[evaluate]\nseeds = 3\nepochs = 1\n'
    added += '[[evaluate.tests]]\nname = "test"\nsource = "../test.en"\ntarget = "../test.de"\n'
    path.write_text(path.read_text() + added)
    catprune.prune(sides(corpus, "train"), sides(corpus, "p"), dry_run=True, **options)
    before = tomllib.loads(path.read_text())
    with pytest.raises(
        CatpruneError, match=r'other options \(select\.keep: "50%" before, "30%" now\): give another folder as out'
    ):
        catprune.prune(sides(corpus, "train"), sides(corpus, "p"), keep="30%", **options)
    messages.clear()
    pruning = import_module("catprune.pipeline.prune")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruning, "run", lambda *_, **__: pruning.Ran(corpus / "run", {}, (), None))
        catprune.prune(sides(corpus, "train"), sides(corpus, "p"), keep="30%", force=True, **options)
    assert f'note: {path} is changed: select.keep: "50%" before, "30%" now' in messages
    assert "# three seeds\n" in path.read_text()
    own, other = before["select"]
    assert tomllib.loads(path.read_text()) == {**before, "select": [{**own, "keep": "30%"}, other]}


def test_mistakes_are_found_before_the_corpus_is_read(corpus: Path) -> None:
    catprune.prune(sides(corpus, "train"), sides(corpus, "p"), method="random", out=corpus / "run", quiet=True)
    (corpus / "file").write_text("x")
    before = entries(corpus)
    for dry_run in (True, False):
        for changed, message in (
            ({"out": corpus / "file"}, f"{corpus / 'file'} is a file: give a folder"),
            ({"memory": "4x"}, "memory = 4x: give bytes, or a number with K, M, G or T"),
            ({"out": corpus / "other"}, r"p\.en was written from run/clean: give another name, or force"),
        ):
            options: dict[str, Any] = {"out": corpus / "new", "method": "random", **changed}
            with pytest.raises(CatpruneError, match=message):
                catprune.prune(sides(corpus, "train"), sides(corpus, "p"), dry_run=dry_run, quiet=True, **options)
    assert entries(corpus) == before
    with pytest.raises(UsageError, match="memory = 4x"):
        catprune.run(corpus / "run", memory="4x", quiet=True)


def test_a_dry_run_from_the_command_line(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = entries(corpus)
    words = [*map(str, sides(corpus, "train")), *map(str, sides(corpus, "p")), "--out", str(corpus / "run")]
    assert app(["prune", *words, "--dry-run", "--method", "length", "--keep", "9"], standalone_mode=False) in (0, None)
    captured = capsys.readouterr()
    assert "keep 9 pairs by length; no warm-up model needed" in captured.err
    assert "nothing was written" in captured.err
    assert entries(corpus) == before


def test_the_run_file_has_the_given_options_and_other_options_are_reported(corpus: Path) -> None:
    options: dict[str, Any] = {"out": corpus / "run", "quiet": True, "threads": 1}
    options_of_prune: dict[str, Any] = {"method": "random", "keep": 20, "exclude": str(corpus / "test.{en,de}")}
    catprune.prune(
        sides(corpus, "train"), sides(corpus, "p"), source_lang="en", target_lang="de", **options_of_prune, **options
    )
    text = (corpus / "run/run.toml").read_text()
    assert text.startswith("#:schema run-file.schema.json\n")
    assert (corpus / "run/run-file.schema.json").read_bytes() == json_schema()
    settings = tomllib.loads(text)
    assert settings["clean"] == {
        "inputs": ["../train.en", "../train.de"],
        "source_lang": "en",
        "target_lang": "de",
        "exclude": ["../test.{en,de}"],
    }
    assert settings["select"] == [{"name": "pruned", "method": "random", "keep": 20}]
    assert "train" not in settings and "tokenize" not in settings
    before = entries(corpus, log=False)
    for changed, message in (
        ({"keep": 30}, r"select\.keep: 20 before, 30 now"),
        ({"keep": "30%"}, r'select\.keep: 20 before, "30%" now'),
        ({"method": "length"}, r'select\.method: "random" before, "length" now'),
        ({"seed": 3}, r"seed: 1 before, 3 now"),
        ({"within": "length"}, r'select\.within: the default before, "length" now'),
        ({"exclude": ()}, r'clean\.exclude: \["\.\./test\.{en,de}"\] before, the default now'),
        ({"keep": 30, "seed": 3}, r"seed: 1 before, 3 now; select\.keep: 20 before, 30 now"),
    ):
        both = {"source_lang": "en", "target_lang": "de", **options_of_prune, **options, **changed}
        with pytest.raises(
            CatpruneError,
            match=rf"run\.toml has other options \({message}\): give another folder as out, or force = true",
        ):
            catprune.prune(sides(corpus, "train"), sides(corpus, "p"), **both)
    assert entries(corpus, log=False) == before
    # Resources are no options of the run.
    again = {**options_of_prune, **options, "source_lang": "en", "target_lang": "de", "threads": 2, "memory": "1G"}
    catprune.prune(sides(corpus, "train"), sides(corpus, "p"), **again)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "cat-var", "checkpoints": "1,5"}, "cat-var needs 3 checkpoints, checkpoints = 1,5 gives 2"),
        ({"on": "nll"}, "on = nll: progress does not use on, only cat-diff, cat-var, ppl: leave it out"),
        ({"method": "random", "on": "ppl"}, "on = ppl: random does not use on"),
        ({"method": "random", "epochs": 3}, "epochs is given, but random needs no warm-up model: leave it out"),
        ({"method": "random", "preset": "tiny"}, "preset is given, but random needs no warm-up model: leave it out"),
        ({"method": "random", "sample": 100}, "sample is given, but random needs no warm-up model: leave it out"),
        ({"method": "progres"}, "there is no method progres; did you mean progress?"),
        ({"epochs": -1}, "epochs = -1: give a number, above 0"),
        ({"epochs": True}, "epochs = True: give a number, above 0"),
        ({"checkpoints": "x"}, "checkpoint 'x' is invalid: give epochs (1,0.5) or 500steps"),
        ({"checkpoints": "2", "epochs": 1}, "checkpoint epoch-2 is after the end of the training (epoch-1)"),
        ({"checkpoints": "2steps,1"}, "checkpoints are given in epochs and in steps: say where to end"),
        ({"dry_run": "yes"}, "dry_run = 'yes': give true or false"),
        ({"presett": "tiny"}, "prune: there is no option presett; did you mean preset?"),
        ({"merge": "ppl + labse"}, "prune: there is no option merge"),
    ],
)
def test_invalid_options_are_refused(corpus: Path, options: dict[str, Any], message: str) -> None:
    before = entries(corpus)
    with pytest.raises(UsageError) as caught:
        catprune.prune(sides(corpus, "train"), sides(corpus, "p"), out=corpus / "run", quiet=True, **options)
    assert str(caught.value).startswith(message)
    assert entries(corpus) == before


def test_outputs_of_the_command_are_the_last_files(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = [str(path) for path in sides(corpus, "train")]
    for outputs in (
        [str(corpus / "p.en"), str(corpus / "p.de")],
        [str(corpus / "p.tsv")],
        [str(corpus / "p.jsonl.gz")],
    ):
        words = [*inputs, *outputs, "--out", f"{outputs[0]}.run", "--method", "random", "--keep", "7", "--json"]
        words += ["--source-lang", "en", "--target-lang", "de"]
        assert app(["prune", *words], standalone_mode=False) in (0, None)
        assert json.loads(capsys.readouterr().out)["outputs"] == outputs
    assert len((corpus / "p.tsv").read_text().splitlines()) == 7


def test_a_share_that_is_none_of_the_pairs_is_refused_before_training(tmp_path: Path) -> None:
    write_demo_bitext(tmp_path, pairs=200, test_pairs=1, seed=1)
    inputs, outputs = [tmp_path / "train.en", tmp_path / "train.de"], [tmp_path / "p.en", tmp_path / "p.de"]
    for options in ({"method": "random"}, {}):
        with pytest.raises(CatpruneError, match=r"keep = 0\.1% keeps none of \d+ clean pairs"):
            catprune.prune(inputs, outputs=outputs, keep="0.1%", out=tmp_path / "run", quiet=True, **options)
    assert not (tmp_path / "run/tokens").exists()
