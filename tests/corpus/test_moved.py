"""Inputs and folders that are elsewhere now, or are reached by other names: the same bytes are the same work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import catprune
import pytest
from catprune import CatpruneError
from support.folders import files

QUIET: dict[str, Any] = {"quiet": True}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder `data` of two inputs with tags."""
    data = tmp_path / "data"
    data.mkdir()
    for part in ("a", "b"):
        lines = [f"{part} the house number {number} is green" for number in range(50)]
        (data / f"{part}.en").write_text("\n".join(lines) + "\n")
        (data / f"{part}.de").write_text("\n".join(line.replace("the house", "das haus") for line in lines) + "\n")
    (data / "tags").write_text("x\ny\n" * 25)
    return data


def cleaned(data: Path, *parts: str, out: Path, **options: Any) -> Any:
    inputs = [data / f"{part}.{{en,de}}" for part in parts]
    return catprune.clean(inputs, out=out, **QUIET, **options)


def steps(run: Path, outputs: Path) -> None:
    catprune.tokenize(run / "clean", out=run / "tokens", vocab_size=300, **QUIET)
    catprune.select(run / "clean", method="random", keep=20, out=run / "half", **QUIET)
    catprune.write(run / "clean", [outputs / "p.en", outputs / "p.de"], selection=run / "half", **QUIET)


def test_moved_inputs_are_the_same_inputs(tmp_path: Path, corpus: Path) -> None:
    run = tmp_path / "run"
    cleaned(corpus, "a", out=run / "clean", tags=corpus / "tags")
    steps(run, tmp_path)
    before = {name: data for name, data in files(run).items() if name.startswith(("tokens/", "half/"))}
    shards = {path: path.stat().st_mtime_ns for path in run.rglob("part-*")}
    elsewhere = Path(shutil.move(corpus, tmp_path / "deep/er"))
    with pytest.raises(CatpruneError, match=r"is missing since cleaning: .* if it was moved, give its new path"):
        catprune.write(run / "clean", [tmp_path / "q.en", tmp_path / "q.de"], **QUIET)
    done = cleaned(elsewhere, "a", out=run / "clean", tags=elsewhere / "tags")
    assert [file["path"] for file in done.manifest["inputs"][0]["files"]] == [
        "../../deep/er/a.en",
        "../../deep/er/a.de",
    ]
    steps(run, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("part-*")} == shards
    assert {name: files(run)[name] for name in before} == before
    assert catprune.write(run / "clean", [tmp_path / "q.en", tmp_path / "q.de"], **QUIET).pairs == 50


def test_appended_inputs_after_a_move(tmp_path: Path, corpus: Path) -> None:
    cleaned(corpus, "a", out=tmp_path / "clean")
    moved = Path(shutil.move(corpus, tmp_path / "moved"))
    assert cleaned(moved, "a", "b", out=tmp_path / "clean").new == 50


def test_other_bytes_are_another_input(tmp_path: Path, corpus: Path) -> None:
    cleaned(corpus, "a", out=tmp_path / "clean")
    with pytest.raises(CatpruneError, match=r"other inputs \(inputs 1"):
        cleaned(corpus, "b", out=tmp_path / "clean")
    moved = Path(shutil.move(corpus, tmp_path / "moved"))
    (moved / "a.de").write_text((moved / "a.de").read_text().replace("haus number 7", "haus nummer 7"))
    with pytest.raises(CatpruneError, match=r"other inputs \(inputs 1"):
        cleaned(moved, "a", out=tmp_path / "clean")


def test_moved_folders_are_the_same_folders(tmp_path: Path, corpus: Path) -> None:
    run = tmp_path / "run"
    cleaned(corpus, "a", out=run / "clean")
    steps(run, tmp_path)
    shutil.move(run / "clean", tmp_path / "elsewhere")
    # Its inputs are found again, and what was made of it is not made again.
    cleaned(corpus, "a", out=tmp_path / "elsewhere")
    assert not catprune.tokenize(tmp_path / "elsewhere", out=run / "tokens", vocab_size=300, **QUIET).is_new
    catprune.select(tmp_path / "elsewhere", method="random", keep=20, out=run / "half", **QUIET)
    outputs = [tmp_path / "p.en", tmp_path / "p.de"]
    assert catprune.write(tmp_path / "elsewhere", outputs, selection=run / "half", **QUIET).pairs == 20


def test_a_run_whose_inputs_moved(tmp_path: Path, corpus: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    outputs: dict[str, Any] = {"outputs": ["p.en", "p.de"], "out": "run", "method": "random", **QUIET}
    catprune.prune(["data/a.{en,de}"], **outputs)
    shards = {path: path.stat().st_mtime_ns for path in Path("run").rglob("part-*")}
    shutil.move(corpus, tmp_path / "moved")
    text = Path("run/run.toml").read_text()
    Path("run/run.toml").write_text(text.replace("../data", "../moved"))
    catprune.run("run/run.toml", **QUIET)
    Path("run/run.toml").write_text(text)
    catprune.prune(["moved/a.{en,de}"], **outputs)
    assert Path("run/run.toml").read_text() == text.replace("../data", "../moved")
    assert {path: path.stat().st_mtime_ns for path in Path("run").rglob("part-*")} == shards
    with pytest.raises(CatpruneError, match="has other inputs"):
        catprune.prune(["moved/b.{en,de}"], **outputs)


@pytest.mark.usefixtures("corpus")
def test_a_folder_by_a_link_is_the_same_folder(tmp_path: Path, monkeypatch: Any) -> None:
    """Scratch disks: the run's folder is a link to a folder of another depth."""
    (tmp_path / "scratch/deep/er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "scratch/deep/er")
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"outputs": ["p.en", "p.de"], "method": "random", **QUIET}
    catprune.prune(["data/a.{en,de}"], out="link", **options)
    before = files(tmp_path / "scratch")
    for folder in ("link", "scratch/deep/er", "./scratch/../link"):
        catprune.run(f"{folder}/run.toml", **QUIET)
        catprune.prune(["data/a.{en,de}"], out=folder, **options)
        catprune.write(f"{folder}/clean", ["p.en", "p.de"], selection=f"{folder}/selection/pruned", **QUIET)
    for folder in ("link", "scratch/deep/er"):
        monkeypatch.chdir(tmp_path / folder)
        catprune.run("run.toml", **QUIET)
        catprune.write("clean", [f"{folder[0]}.en", f"{folder[0]}.de"], **QUIET)
    after = {name: data for name, data in files(tmp_path / "scratch").items() if name in before}
    assert after == before


def test_a_linked_data_folder(tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/data").symlink_to(corpus)
    (tmp_path / "here/x.en").symlink_to(corpus / "a.en")
    (tmp_path / "here/x.de").symlink_to(corpus / "a.de")
    cleaned(tmp_path / "here/data", "a", out=tmp_path / "here/clean")
    shards = list((tmp_path / "here/clean/columns").iterdir())
    before = [shard.stat().st_mtime_ns for shard in shards]
    cleaned(corpus, "a", out=tmp_path / "here/clean")
    cleaned(tmp_path / "here", "x", out=tmp_path / "here/clean")
    assert [shard.stat().st_mtime_ns for shard in shards] == before  # only the paths in the plan are new
