"""Runs with appended inputs: only new rows are processed, the model stays, and cheap steps are recomputed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import catprune
import pyarrow.parquet as parquet
import pytest
from catprune import CatpruneError
from catprune.demonstration.bitext import write_demo_bitext
from catprune.workspace.manifest import read_manifest
from support.dying_run import DYING, MINE, files

RUN_FILE = """
out = "run"
seed = 3
threads = 1

[clean]
inputs = ["a/train.en", "a/train.de"]

[tokenize]
vocab_size = 400

[train]
checkpoints = "4steps,12steps"
precision = "float32"
batch_tokens = 512

[score]
precision = "float32"

[[scorer]]
scorer = "mine.py:lengths"

[[select]]
name = "cat"
method = "cat-diff"
on = "nll"
where = ["source_words>=2", "lengths>-30"]

[[select]]
name = "random-tokens"
method = "random"
tokens_of = "cat"

[write]
selection = "cat"
outputs = ["pruned.en", "pruned.de"]

[evaluate]
steps = 2
precision = "float32"
batch_tokens = 512
subsets = ["full", "cat"]
against = ["full"]
resamples = 10

[[evaluate.tests]]
name = "test"
source = "a/test.en"
target = "a/test.de"
"""
OLD = 'inputs = ["a/train.en", "a/train.de"]'
NEW = 'inputs = ["a/train.{en,de}", "b/train.{en,de}"]'

#: The appended run is killed while it writes this file for the given time.
MOMENTS = (
    ("run/clean/plan.json", 1),
    ("run/clean/manifest.json", 1),
    ("run/tokens/plan.json", 1),
    ("run/tokens/manifest.json", 1),
    ("run/scores/step-4/manifest.json", 1),
    ("run/scores/step-12/plan.json", 1),
    ("run/scores/step-12/manifest.json", 1),
    ("run/scores/lengths/plan.json", 1),
    ("run/scores/lengths/manifest.json", 1),
    ("run/selection/cat/plan.json", 1),
    ("run/selection/cat/manifest.json", 1),
    ("run/selection/random-tokens/manifest.json", 1),
    ("pruned.en.catprune.json", 1),
    ("pruned.en.catprune.json", 2),  # the new text is there, the record does not say so
    ("run/report.html", 1),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over the input `a`; the input `b` exists and shares some pairs with `a`."""
    folder = tmp_path_factory.mktemp("finished")
    write_demo_bitext(folder / "a", pairs=260, test_pairs=4, seed=1)
    write_demo_bitext(folder / "b", pairs=120, test_pairs=4, seed=2)
    for side in ("en", "de"):
        first = (folder / "a" / f"train.{side}").read_text().splitlines(keepends=True)
        with (folder / "b" / f"train.{side}").open("a") as stream:
            stream.writelines(first[:40])
    (folder / "mine.py").write_text(MINE)
    (folder / "run.toml").write_text(RUN_FILE)
    catprune.run(folder / "run.toml", quiet=True)
    return folder


def grow(finished: Path, folder: Path, *, text: str = RUN_FILE.replace(OLD, NEW)) -> Path:
    """A copy of the finished run whose file lists the input `b`, too."""
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    (folder / "run.toml").write_text(text)
    return folder / "run.toml"


@pytest.fixture(scope="module")
def appended(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The appended run without a kill, and its progress lines."""
    folder, messages = tmp_path_factory.mktemp("appended"), list[str]()
    catprune.run(grow(finished, folder), quiet=True, say=messages.append)
    return folder, messages


def states(folder: Path) -> dict[Path, tuple[int, int, bytes]]:
    """Inode, time and bytes of every file except logs."""
    return {
        path: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and "log" not in path.parts
    }


def read_pairs(base: Path) -> list[tuple[str, ...]]:
    sides = [base.with_name(f"{base.name}.{side}").read_text().splitlines() for side in ("en", "de")]
    return list(zip(*sides, strict=True))


def test_only_new_rows_are_worked_on_and_the_model_stays(finished: Path, tmp_path: Path) -> None:
    file, run = grow(finished, tmp_path), tmp_path / "run"
    before = states(run)
    kept = read_manifest(run / "clean", step="clean")["counts"]["kept"]
    messages: list[str] = []
    catprune.run(file, quiet=True, say=messages.append)
    after = states(run)
    shards = [path.stem for path in after if path.name.startswith("part-") and "evaluate" not in path.parts]
    assert len(shards) >= 5 and {*shards} == {"part-000000000000-000000000420"}, "new rows continue the last shard"
    for name in ("warmup", "evaluate"):
        assert {path: state for path, state in after.items() if path.is_relative_to(run / name)} == {
            path: state for path, state in before.items() if path.is_relative_to(run / name)
        }
    counts = read_manifest(run / "clean", step="clean")["counts"]
    new = counts["kept"] - kept
    assert counts["rows"] == 420 and 0 < new < 160
    assert counts["reasons"]["duplicate_elsewhere"] >= 20
    summaries = {line.split()[0]: line for line in messages if not line.startswith(" ")}
    assert f"{counts['rows']} pairs read, of them 160 new" in summaries["clean"]
    assert f"{counts['kept']} pairs, of them {new} new" in summaries["tokenize"]
    assert "trained before rows were appended" in summaries["train"]
    assert f"2 checkpoints over {counts['kept']} pairs, of them {new} new" in summaries["score"]
    assert any("of the kept pairs are new" in line for line in messages)
    assert any("evaluated before rows were appended" in line for line in messages)
    assert "were trained before rows were appended" in (run / "report.html").read_text()
    selected = read_manifest(run / "selection/cat", step="select")
    scores = parquet.read_table(run / "scores/step-12/columns/part-000000000000-000000000420.parquet").to_pylist()
    assert {row["seen"] for row in scores if row["row"] >= 260} == {0}
    assert 1 in {row["seen"] for row in scores if row["row"] < 260}
    assert "seen 0 times by step-4, 0 times by step-12" in [group["name"] for group in selected["groups"]]
    rows = [
        row
        for shard in selected["shards"]
        for row in parquet.read_table(run / "selection/cat" / shard["file"]).to_pylist()
    ]
    assert len(rows) == counts["kept"]
    assert any(row["kept"] for row in rows if row["row"] >= 260)
    pairs = [pair for name in "ab" for pair in read_pairs(tmp_path / name / "train")]
    assert read_pairs(tmp_path / "pruned") == [pairs[row["row"]] for row in rows if row["kept"]]
    again = states(tmp_path)
    messages.clear()
    catprune.run(file, quiet=True, say=messages.append)
    assert states(tmp_path) == again
    assert [line for line in messages if "of them" in line] == []


def test_an_appended_run_equals_the_single_steps(
    finished: Path, appended: tuple[Path, list[str]], tmp_path: Path
) -> None:
    grow(finished, tmp_path)
    run, quiet = tmp_path / "run", {"threads": 1, "quiet": True}
    inputs = [f"{tmp_path}/{name}/train.{{en,de}}" for name in "ab"]
    catprune.clean(inputs, out=run / "clean", **quiet)
    catprune.tokenize(run / "clean", out=run / "tokens", vocab_size=400, seed=3, **quiet)
    checkpoints = [run / "warmup" / name for name in ("step-4", "step-12")]
    catprune.score(run / "tokens", checkpoints=checkpoints, out=run / "scores", precision="float32", **quiet)
    catprune.score_pairs(run / "clean", scorer=f"{tmp_path}/mine.py:lengths", out=run / "scores", **quiet)
    options: dict[str, Any] = {"checkpoints": ["step-4", "step-12"], "seed": 3, "force": True, **quiet}
    cat, where = run / "selection/cat", ["source_words>=2", "lengths>-30"]
    with pytest.raises(CatpruneError, match="holds work with other"):
        catprune.select(
            run / "scores", out=cat, method="cat-diff", on="nll", where=where, **{**options, "force": False}
        )
    selected = catprune.select(run / "scores", out=cat, method="cat-diff", on="nll", where=where, **options)
    keep = f"{selected.tokens_kept}tokens"
    catprune.select(run / "scores", out=run / "selection/random-tokens", method="random", keep=keep, **options)
    outputs = [tmp_path / "pruned.en", tmp_path / "pruned.de"]
    with pytest.raises(CatpruneError, match="holds something else"):
        catprune.write(run / "clean", outputs, selection=cat, **quiet)
    catprune.write(run / "clean", outputs, selection=cat, force=True, **quiet)
    by_steps, expected = files(tmp_path), files(appended[0])
    assert by_steps.keys() == expected.keys()
    assert [name for name in expected if by_steps[name] != expected[name]] == []


def test_an_appended_run_killed_in_every_step_ends_with_the_same_bytes(
    finished: Path, appended: tuple[Path, list[str]], tmp_path: Path
) -> None:
    file = grow(finished, tmp_path)
    for name, time in MOMENTS:
        done = subprocess.run([sys.executable, "-c", DYING, file, tmp_path / name, str(time)], check=False)
        assert done.returncode == -signal.SIGKILL, f"the run never wrote {name}"
    catprune.run(file, quiet=True)
    resumed, expected = files(tmp_path), files(appended[0])
    assert resumed.keys() == expected.keys()
    assert [name for name in expected if resumed[name] != expected[name]] == []


def test_moving_the_evaluation_away_trains_models_of_the_current_corpus(
    appended: tuple[Path, list[str]], tmp_path: Path
) -> None:
    shutil.copytree(appended[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "run/evaluate").rename(tmp_path / "evaluated")
    messages: list[str] = []
    catprune.run(tmp_path / "run.toml", quiet=True, say=messages.append)
    assert not any("of the corpus before" in line for line in messages)
    assert "were trained before rows were appended" not in (tmp_path / "run/report.html").read_text()
    trained = read_manifest(tmp_path / "run/evaluate/trials/full/seed-3/model", step="trial")["counts"]["pairs"]
    assert trained == read_manifest(tmp_path / "run/clean", step="clean")["counts"]["kept"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (OLD, 'inputs = ["b/train.{en,de}", "a/train.{en,de}"]', r"in another order: .*a.train\.en .* comes first"),
        (OLD, 'inputs = ["b/train.en", "b/train.de"]', r"inputs 1\.source was "),
        (OLD, NEW + "\nmax_line_bytes = 999", r"max_line_bytes was 16384, is now 999"),
        (OLD, NEW + '\ntags = "a/train.kind"', "tags was not given, is now"),
    ],
)
def test_changed_inputs_are_refused_and_nothing_is_modified(
    finished: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    file = grow(finished, tmp_path, text=RUN_FILE.replace(old, new))
    before = states(tmp_path)
    with pytest.raises(CatpruneError, match=message):
        catprune.run(file, quiet=True)
    assert states(tmp_path) == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"4steps,12steps"',
            '"4steps,8steps"',
            r"warmup holds work with other options and inputs \((epochs|checkpoints)",
        ),
        ('on = "nll"', 'on = "nll"\nkeep = "30%"', r"cat holds work with other options and inputs \(keep"),
        ("resamples = 10", "resamples = 20", r"evaluate holds work with other options and inputs \(resamples was"),
    ],
)
def test_options_that_change_with_the_inputs_are_refused(
    finished: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    file = grow(finished, tmp_path, text=RUN_FILE.replace(OLD, NEW).replace(old, new))
    with pytest.raises(CatpruneError, match=message):
        catprune.run(file, quiet=True)


def test_force_keeps_appended_rows_and_repeats_steps_with_changed_options(
    appended: tuple[Path, list[str]], finished: Path, tmp_path: Path
) -> None:
    text = RUN_FILE.replace(OLD, NEW).replace('on = "nll"', 'on = "nll"\nkeep = "30%"')
    for start, folder in ((appended[0], tmp_path / "later"), (finished, tmp_path / "at once")):
        file, run = grow(start, folder, text=text), folder / "run"
        before = states(run / "warmup")
        if start == appended[0]:
            before |= {path: state for path, state in states(run).items() if "part-" in path.name}
        catprune.run(file, quiet=True, force=True)
        kept = ("selection", "evaluate")
        stays = [path for path in before if not any(name in path.parts for name in kept)]
        assert len(stays) > 4
        assert all(states(run)[path] == before[path] for path in stays)
        assert "extends" in read_manifest(run / "clean", step="clean")
        selected = read_manifest(run / "selection/cat", step="select")
        trained = read_manifest(run / "evaluate/trials/cat/seed-3/model", step="trial")
        assert trained["counts"]["pairs"] == selected["counts"]["kept"]
        assert "were trained before rows were appended" not in (run / "report.html").read_text()
    (tmp_path / "later/run/clean").rename(tmp_path / "clean")
    catprune.run(tmp_path / "later/run.toml", quiet=True, force=True, until="score")
    assert "extends" not in read_manifest(tmp_path / "later/run/tokens", step="tokenize")
    trained = read_manifest(tmp_path / "later/run/warmup", step="train")["counts"]["pairs"]
    assert trained == read_manifest(tmp_path / "later/run/tokens", step="tokenize")["counts"]["pairs"]


@pytest.mark.parametrize("name", ["warmup", "evaluate"])
def test_rows_are_not_appended_during_an_unfinished_training(finished: Path, tmp_path: Path, name: str) -> None:
    file = grow(finished, tmp_path)
    (tmp_path / "run" / name / "manifest.json").unlink()
    before = states(tmp_path)
    with pytest.raises(CatpruneError, match=f"{name} is unfinished and was started without the new inputs"):
        catprune.run(file, quiet=True)
    assert states(tmp_path) == before
    (tmp_path / "run" / name).rename(tmp_path / name)
    catprune.run(file, quiet=True, until="train")
    trained = read_manifest(tmp_path / "run/warmup", step="train")["counts"]["pairs"]
    is_of_all = trained == read_manifest(tmp_path / "run/clean", step="clean")["counts"]["kept"]
    assert is_of_all == (name == "warmup")


def test_outputs_that_somebody_changed_are_not_replaced(finished: Path, tmp_path: Path) -> None:
    file = grow(finished, tmp_path)
    with (tmp_path / "pruned.de").open("a") as stream:
        stream.write("mine\n")
    with pytest.raises(CatpruneError, match=r"pruned\.en holds something else"):
        catprune.run(file, quiet=True, until="write")
    assert (tmp_path / "pruned.de").read_text().endswith("mine\n")
    (tmp_path / "pruned.de").rename(tmp_path / "mine.de")
    catprune.run(file, quiet=True, until="write")
    lines = [(tmp_path / f"pruned.{side}").read_text().count("\n") for side in ("en", "de")]
    kept = read_manifest(tmp_path / "run/selection/cat", step="select")["counts"]["kept"]
    assert lines == [kept, kept]


def test_a_column_next_to_the_scores_must_have_the_new_rows(finished: Path, tmp_path: Path) -> None:
    text = RUN_FILE.replace('method = "cat-diff"\non = "nll"', 'on = "nll"\nmerge = "cat-diff + characters"')
    (tmp_path / "run.toml").write_text(text)
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run.toml", "evaluate"))
    shutil.rmtree(tmp_path / "run/selection")
    for output in tmp_path.glob("pruned*"):
        output.unlink()
    from catprune.scoring.score_pairs import score_pairs

    def characters(sources: Any, targets: Any) -> list[float]:
        return [float(len(source) + len(target)) for source, target in zip(sources, targets, strict=True)]

    column: dict[str, Any] = {"scorer": characters, "out": tmp_path / "run/scores", "quiet": True}
    score_pairs(tmp_path / "run/clean", **column)
    catprune.run(tmp_path / "run.toml", quiet=True, until="write")
    (tmp_path / "run.toml").write_text(text.replace(OLD, NEW))
    with pytest.raises(CatpruneError, match=r"characters was made from .*clean, which changed since"):
        catprune.run(tmp_path / "run.toml", quiet=True, until="write")
    score_pairs(tmp_path / "run/clean", **column)
    catprune.run(tmp_path / "run.toml", quiet=True, until="write")
    counts = read_manifest(tmp_path / "run/selection/cat", step="select")["counts"]
    assert counts["scored"] + counts["guarded"] == read_manifest(tmp_path / "run/clean", step="clean")["counts"]["kept"]


def test_prune_with_more_inputs_continues(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import import_module

    shutil.copytree(finished / "a", tmp_path / "a")
    shutil.copytree(finished / "b", tmp_path / "b")
    inputs = [str(tmp_path / name) + "/train.{en,de}" for name in "ab"]
    outputs = [tmp_path / "p.en", tmp_path / "p.de"]
    options: dict[str, Any] = {"out": tmp_path / "run", "threads": 1, "quiet": True}
    prune = import_module("catprune.pipeline.prune")
    decided = {"vocab_size": 320, "preset": "tiny", "epochs": 1, "checkpoints": "0.5,1"}
    monkeypatch.setattr(prune, "decide", lambda *_, **__: decided)
    monkeypatch.setattr(prune, "measure_training", lambda *_, **__: 1.0)
    catprune.prune([tmp_path / "a/train.en", tmp_path / "a/train.de"], outputs, **options)
    monkeypatch.setattr(prune, "decide", lambda *_, **__: {**decided, "vocab_size": 8000})
    before = states(tmp_path)
    for other, keep, message in (
        (inputs[::-1], "50%", "has other inputs: give its inputs first"),
        (inputs[1:], "50%", "has other inputs"),
        (inputs, "30%", "has other options"),
    ):
        with pytest.raises(CatpruneError, match=message):
            catprune.prune(other, outputs, keep=keep, **options)
    assert states(tmp_path) == before
    messages: list[str] = []
    catprune.prune(inputs, outputs, say=messages.append, **options)
    warmup = {path: state for path, state in before.items() if "warmup" in path.parts}
    assert {path: state for path, state in states(tmp_path).items() if "warmup" in path.parts} == warmup
    file = tmp_path / "run/run.toml"
    assert '"../a/train.{en,de}", "../b/train.{en,de}"' in file.read_text() and "vocab_size = 320" in file.read_text()
    assert any("of them" in line and line.startswith("tokenize") for line in messages)
    selected = read_manifest(tmp_path / "run/selection/pruned", step="select")
    assert outputs[0].read_text().count("\n") == selected["counts"]["kept"]
    again = states(tmp_path)
    catprune.prune(inputs, outputs, **options)
    catprune.run(file, quiet=True)
    changed = {path for path, state in states(tmp_path).items() if again.get(path) != state}
    assert changed <= {file}
    catprune.prune(inputs, outputs, keep="30%", force=True, **options)
    assert {path: state for path, state in states(tmp_path).items() if "warmup" in path.parts} == warmup
    assert outputs[0].read_text().count("\n") < selected["counts"]["kept"]
