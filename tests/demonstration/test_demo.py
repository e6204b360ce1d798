"""The demo with few pairs, and `prune`: the first commands of new users."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import catprune
import pytest
from catprune import CatpruneError, UsageError
from catprune.demonstration.bitext import write_demo_bitext
from catprune.demonstration.demo import to_text
from catprune.pipeline.prune import decide


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> catprune.Demonstrated:
    return catprune.demo(out=tmp_path_factory.mktemp("demo") / "here", pairs=600, steps=30, threads=1, quiet=True)


def test_the_small_demo_runs_every_step(done: catprune.Demonstrated) -> None:
    assert sum(done.planted.values()) == 600
    assert done.kept["cleaning"]["duplicate"] == 0 < done.planted["duplicate"]
    for name in ("random", "cat-diff", "cat-diff-nll", "progress"):
        assert sum(done.kept[name].values()) == sum(done.kept["cleaning"].values()) // 2
    assert done.nll.keys() == {"random", "progress"}
    sides = [(done.folder / f"pruned.{side}").read_text().count("\n") for side in ("en", "de")]
    assert sides == [sum(done.kept["cat-diff-nll"].values())] * 2
    assert done.report.stat().st_size > 100_000
    table = to_text(done)
    for kind in done.planted:
        assert kind in table
    cells = next(line for line in table.splitlines() if line.startswith("held-out loss")).split()[2:]
    losses = {name: f"{done.nll[name]:.2f}" for name in done.nll}
    assert cells == [losses["random"], "-", "-", losses["progress"]]


def test_a_second_call_shows_the_same_and_other_options_are_refused(done: catprune.Demonstrated) -> None:
    models = sorted((done.folder / "evaluate" / "trials").rglob("*.safetensors"))
    before = [path.stat().st_mtime_ns for path in models]
    again = catprune.demo(out=done.folder, pairs=600, steps=30, threads=1, quiet=True)
    assert again == done
    assert [path.stat().st_mtime_ns for path in models] == before
    text = (done.folder / "bitext" / "train.en").read_bytes()
    with pytest.raises(CatpruneError, match="a demo with other options"):
        catprune.demo(out=done.folder, pairs=600, steps=31, threads=1, quiet=True)
    with pytest.raises(CatpruneError, match="a demo with other options"):
        catprune.demo(out=done.folder, pairs=700, steps=30, threads=1, quiet=True)
    assert (done.folder / "bitext" / "train.en").read_bytes() == text


def test_a_demo_killed_at_its_start_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("catprune.demonstration.demo")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "run.toml.tmp").write_text("half")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(import_module("catprune.demonstration.bitext"), "write_demo_bitext", killed)
        with pytest.raises(KeyboardInterrupt):
            module.demo(out=tmp_path / "here", pairs=200, steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(import_module("catprune.pipeline.run"), "run", killed)
        with pytest.raises(KeyboardInterrupt):
            module.demo(out=tmp_path / "here", pairs=200, steps=2)
    assert (tmp_path / "here/bitext/train.en").exists()


def test_prune_by_a_method_that_needs_no_model_trains_none(tmp_path: Path) -> None:
    write_demo_bitext(tmp_path, pairs=250, seed=5)
    messages: list[str] = []
    outputs = [tmp_path / "p.en", tmp_path / "p.de"]
    options: dict[str, Any] = {"out": tmp_path / "run", "method": "random", "quiet": True}
    catprune.prune([tmp_path / "train.en", tmp_path / "train.de"], outputs, keep=20, say=messages.append, **options)
    assert outputs[0].read_text().count("\n") == 20
    assert any("keep 20 pairs by random; no warm-up model needed" in line for line in messages)
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.name != "log") == [
        "clean",
        "report.html",
        "run-file.schema.json",
        "run.toml",
        "selection",
    ]


def test_prune_hands_format_and_folder_of_temporary_files_on(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("".join(f"ein Haus {n}\ta house {n}\n" for n in range(9)))
    options: dict[str, Any] = {"out": tmp_path / "run", "method": "random", "quiet": True, "keep": 4}
    catprune.prune([tmp_path / "pairs.txt"], [tmp_path / "p.tsv"], format="tsv", tmp_dir=tmp_path, **options)
    assert len((tmp_path / "p.tsv").read_text().splitlines()) == 4
    assert 'format = "tsv"' in (tmp_path / "run" / "run.toml").read_text()


def test_prune_from_two_files_to_two_files(tmp_path: Path) -> None:
    write_demo_bitext(tmp_path, pairs=250, seed=5)
    inputs, outputs = [tmp_path / "train.en", tmp_path / "train.de"], [tmp_path / "p.en", tmp_path / "p.de"]
    options: dict[str, Any] = {"out": tmp_path / "run", "threads": 1, "quiet": True}
    messages: list[str] = []
    catprune.prune(inputs, outputs, keep="50%", say=messages.append, **options)
    assert [line.split()[0] for line in messages if not line.startswith(" ")][:4] == [
        "clean",
        "decided",
        "tokenize",
        "expected",
    ]
    pairs = set(zip(*(path.read_text().splitlines() for path in inputs), strict=True))
    pruned = list(zip(*(path.read_text().splitlines() for path in outputs), strict=True))
    assert 50 < len(pruned) < 125
    assert set(pruned) <= pairs
    checkpoint = tmp_path / "run" / "warmup" / "epoch-5" / "model.safetensors"
    trained = checkpoint.stat().st_mtime_ns
    with pytest.raises(CatpruneError, match="has other options"):
        catprune.prune(inputs, outputs, keep=30, **options)
    catprune.prune(inputs, outputs, keep=30, force=True, **options)
    assert outputs[0].read_text().count("\n") == 30
    assert checkpoint.stat().st_mtime_ns == trained
    assert catprune.run(tmp_path / "run" / "run.toml", quiet=True).outputs == tuple(outputs)


def test_prune_refuses_before_it_does_anything(tmp_path: Path, pair: Any) -> None:
    paths, outputs = pair(b"ein Haus\n", b"a house\n"), [tmp_path / "p.en", tmp_path / "p.de"]
    for wrong in ({"keep": "150%"}, {"keep": "50x"}, {"on": "foo"}, {"method": "best"}):
        with pytest.raises(UsageError):
            catprune.prune(paths, outputs, out=tmp_path / "run", quiet=True, **wrong)
    assert not (tmp_path / "run").exists()
    with pytest.raises(CatpruneError, match=r"too few .5 are to be kept"):
        catprune.prune(paths, outputs, out=tmp_path / "run", method="random", keep=5, quiet=True)
    assert not (tmp_path / "run" / "run.toml").exists(), "the next try may have other options"


def test_prune_by_a_scorer_needs_no_model(tmp_path: Path) -> None:
    write_demo_bitext(tmp_path / "bitext", pairs=60, test_pairs=1)
    sides = [tmp_path / "bitext/train.en", tmp_path / "bitext/train.de"]
    outputs = [tmp_path / "p.en", tmp_path / "p.de"]
    done = catprune.prune(sides, outputs, method="e5", keep=10, out=tmp_path / "run", quiet=True)
    assert [path.read_text().count("\n") for path in outputs] == [10, 10]
    selected = catprune.select(tmp_path / "run/scores", method="e5", keep=10, out=done.selections["pruned"], quiet=True)
    assert (selected.kept, selected.manifest["options"]["column"]) == (10, "e5")
    assert not (tmp_path / "run/tokens").exists()


def test_prune_of_too_little(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"ein Haus\n", b"a house\n")
    with pytest.raises(CatpruneError, match="kept 1 of 1 pairs, too few"):
        catprune.prune(paths, [tmp_path / "p.en", tmp_path / "p.de"], out=tmp_path / "run", quiet=True)


def test_decisions_grow_with_the_corpus() -> None:
    sizes = [decide(pairs)["vocab_size"] for pairs in (100, 10_000, 100_000, 10_000_000)]
    assert sizes == sorted(set(sizes))
