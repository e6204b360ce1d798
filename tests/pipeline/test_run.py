"""Whole runs: from a file, killed in every step and started again; mistakes in the file are reported."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import catprune
import duckdb
import polars
import pyarrow.parquet as parquet
import pytest
from catprune import CatpruneError, UsageError
from catprune.demonstration.bitext import write_demo_bitext
from catprune.pipeline.run_file import read_run_file
from catprune.workspace.manifest import COLUMN_SETS, COLUMNS, listed_shards
from catprune.workspace.sealed import seal
from support.dying_run import DYING, MINE, files

RUN_FILE = """
out = "run"
seed = 3
threads = 1

[clean]
inputs = ["bitext/train.en", "bitext/train.de"]
tags = "bitext/train.kind"

[tokenize]
vocab_size = 400

[train]
checkpoints = "4steps,12steps"
precision = "float32"
batch_tokens = 512
save_every = 3

[score]
precision = "float32"

[[scorer]]
scorer = "mine.py:lengths"

[[select]]
name = "random"
method = "random"

[[select]]
name = "cat"
method = "cat-diff"
on = "nll"
within = "tag"
where = "lengths>-8"

[[select]]
name = "random-tokens"
method = "random"
tokens_of = "cat"

[write]
selection = "cat"
outputs = ["pruned.en", "pruned.de"]

[evaluate]
steps = 4
precision = "float32"
batch_tokens = 512
save_every = 3
subsets = ["full", "cat"]
against = ["full"]
resamples = 20

[[evaluate.tests]]
name = "test"
source = "bitext/test.en"
target = "bitext/test.de"
"""

#: The run is killed while it writes this file for the given time: at least once in every step.
MOMENTS = (
    ("run/clean/manifest.json", 1),
    ("run/tokens/tokenizer.json", 1),
    ("run/tokens/manifest.json", 1),
    ("run/warmup/state.safetensors", 2),
    ("run/warmup/step-12.tmp/config.json", 1),
    ("run/warmup/manifest.json", 1),
    ("run/scores/step-4/manifest.json", 1),
    ("run/scores/step-12/manifest.json", 1),
    ("run/scores/lengths/manifest.json", 1),
    ("run/selection/cat/manifest.json", 1),
    ("pruned.en.catprune.json", 1),
    ("pruned.en.catprune.json", 2),  # the text is there, the record does not say so
    ("run/evaluate/trials/full/seed-3/model/training/state.safetensors", 1),
    ("run/evaluate/trials/cat/seed-3/model/training/manifest.json", 1),
    ("run/evaluate/trials/cat/seed-3/model/manifest.json", 1),
    ("run/evaluate/trials/cat/seed-3/translations/test.txt", 1),
    ("run/evaluate/trials/cat/seed-3/result.json", 1),
    ("run/evaluate/results.json", 1),
    ("run/evaluate/manifest.json", 1),
    ("run/report.html", 1),
)


def prepare(folder: Path) -> Path:
    (folder / "mine.py").write_text(MINE)
    write_demo_bitext(folder / "bitext", pairs=300, test_pairs=4, seed=1)
    (folder / "run.toml").write_text(RUN_FILE)
    return folder / "run.toml"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    catprune.run(prepare(folder), quiet=True)
    return folder


def test_killed_in_every_step_a_run_ends_with_the_same_bytes(undisturbed: Path, tmp_path: Path) -> None:
    file = prepare(tmp_path)
    for name, time in MOMENTS:
        done = subprocess.run([sys.executable, "-c", DYING, file, tmp_path / name, str(time)], check=False)
        assert done.returncode == -signal.SIGKILL, f"the run never wrote {name}"
        assert (tmp_path / f"{name}.tmp").exists()
    catprune.run(file, quiet=True)
    assert (tmp_path / "run/report.html").exists()
    resumed, expected = files(tmp_path), files(undisturbed)
    assert resumed.keys() == expected.keys()
    assert [name for name in expected if resumed[name] != expected[name]] == []


def test_other_tools_read_the_folders_of_columns(undisturbed: Path) -> None:
    """These folders only hold shards."""
    run, sets = undisturbed / "run", COLUMN_SETS.values()
    steps = ["clean", *(f"scores/{name}" for name in ("step-4", "step-12", "lengths"))]
    steps += [f"selection/{name}" for name in ("random", "cat", "random-tokens")]
    folders = {*(run / step / COLUMNS for step in steps), run / "clean/duplicates", run / "clean/fingerprints"}
    assert {path.parent for path in run.rglob("*.parquet") if path.parent.name in sets} == folders
    for folder in folders:
        listed = [shard["file"] for shard in listed_shards(json.loads((folder.parent / "manifest.json").read_text()))]
        assert sorted(folder.iterdir()) == sorted(folder.parent / file for file in listed if folder.name in file)
        rows = parquet.read_table(folder)["row"].to_pylist()
        assert rows and rows == sorted(set(rows))
        assert polars.scan_parquet(folder).collect()["row"].to_list() == rows
        assert polars.read_parquet(f"{folder}/*.parquet")["row"].to_list() == rows
        assert duckdb.sql(f"select row from '{folder}/*.parquet'").fetchall() == [(row,) for row in rows]


def test_a_finished_run_does_nothing_again(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (undisturbed / "run").rglob("*.parquet")}
    messages: list[str] = []
    assert not catprune.run(undisturbed / "run.toml", quiet=True, say=messages.append).is_new
    assert {path: path.stat().st_mtime_ns for path in before} == before
    steps = [line.split()[0] for line in messages if not line.startswith(" ")]
    assert steps == ["clean", "tokenize", "train", "score", "select", "write", "evaluate", "report"]
    assert sum("target tokens kept" in line for line in messages) == 3, "of every selection, also where they are equal"
    assert sum("more often than on others" in line for line in messages) <= 1
    for name in ("run/report.html", "run/selection/random/manifest.json"):
        (undisturbed / name).unlink()
        assert catprune.run(undisturbed / "run.toml", quiet=True).is_new, name
        assert not catprune.run(undisturbed / "run.toml", quiet=True).is_new, name
    assert any(line.split()[:1] == ["duplicate"] for line in messages), "the reasons are always shown"


def test_random_is_matched_on_tokens(undisturbed: Path) -> None:
    from catprune.workspace.manifest import read_manifest

    counts = {
        name: read_manifest(undisturbed / "run/selection" / name, step="select")["counts"]
        for name in ("cat", "random-tokens")
    }
    assert 0 <= counts["cat"]["tokens_kept"] - counts["random-tokens"]["tokens_kept"] < 100


def test_a_scorer_guards_a_selection_and_its_cost_is_reported(undisturbed: Path) -> None:
    from catprune.evaluation.results import notes, open_evaluation
    from catprune.workspace.manifest import read_manifest

    assert read_manifest(undisturbed / "run/selection/cat", step="select")["counts"]["guarded"] > 10
    evaluation = open_evaluation(undisturbed / "run/evaluate")
    assert [(subset.name, subset.scorers) for subset in evaluation.subsets] == [("full", ()), ("cat", ("lengths",))]
    assert all(subset.seconds is not None for subset in evaluation.subsets)
    assert any("cat: FLOPs do not include the models of lengths" in note for note in notes(evaluation))


SEEDS = """
[[select]]
name = "best"
column = "lengths"

[evaluate]
seeds = 2
warmup_seeds = true
steps = 2
precision = "float32"
batch_tokens = 512
subsets = ["full", "cat-40", "random-40", "best-40"]

[evaluate.dev]
source = "bitext/test.en"
target = "bitext/test.de"

[[evaluate.sweep]]
methods = ["cat", "random", "best"]
keep = ["40%"]

[[evaluate.hypotheses]]
subset = "cat-40"
better_than = "random-40"

[[evaluate.tests]]
name = "test"
source = "bitext/test.en"
target = "bitext/test.de"
"""


def test_each_seed_has_its_own_warmup_model_and_selections(undisturbed: Path, tmp_path: Path) -> None:
    """What does not depend on the seed is that of the run; a killed evaluation ends with the same bytes."""
    from catprune.evaluation.results import open_evaluation
    from catprune.workspace.manifest import read_manifest

    text = RUN_FILE[: RUN_FILE.index("[write]")] + SEEDS
    folders = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        shutil.copytree(undisturbed, folder, ignore=shutil.ignore_patterns("evaluate", "report.html", "run.toml"))
        (folder / "run.toml").write_text(text)
    moment = folders[1] / "run/evaluate/seeds/seed-4/selection/cat-40/manifest.json"
    for name in (moment, folders[1] / "run/evaluate/trials/cat-40/seed-4/model/manifest.json"):
        subprocess.run([sys.executable, "-c", DYING, folders[1] / "run.toml", name, "1"], check=False)
        assert name.with_name(f"{name.name}.tmp").exists()
    for folder in folders:
        catprune.run(folder / "run.toml", quiet=True)
    of_seed, expected = files(folders[1]), files(folders[0])
    assert of_seed.keys() == expected.keys()
    assert [name for name in expected if of_seed[name] != expected[name]] == []
    run = folders[0] / "run"
    drawn = run / "evaluate/seeds/seed-4"
    assert sorted(path.name for path in (drawn / "selection").iterdir()) == ["cat-40", "random-40"]
    assert not (run / "evaluate/seeds/seed-3").exists(), "the run's own seed"
    assert read_manifest(drawn / "warmup", step="train")["options"]["seed"] == 4
    for name in ("cat-40", "random-40"):
        kept = [
            parquet.read_table(folder / name / "columns")["kept"] for folder in (run / "selection", drawn / "selection")
        ]
        assert kept[0] != kept[1], name
    evaluated = open_evaluation(run / "evaluate")
    assert [subset.name for subset in evaluated.subsets] == ["full", "cat-40", "random-40", "best-40"]
    assert evaluated.against == {
        "full": [],
        "cat-40": ["full", "random-40"],
        "random-40": ["full"],
        "best-40": ["full", "random-40"],
    }
    assert [hypothesis.text for hypothesis in evaluated.hypotheses] == [
        "cat-40 is better than random-40 (chrF, the mean of all test sets)"
    ]
    assert evaluated.seeds == (3, 4) and evaluated.subset("cat-40").flops.warmup > 0


def test_default_hypotheses_are_about_the_written_selection(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(RUN_FILE.replace('subsets = ["full", "cat"]', "").replace('against = ["full"]', ""))
    read = read_run_file(file)
    assert read.subsets == ["full", "random", "cat", "random-tokens"]
    assert [hypothesis.text for hypothesis in read.hypotheses()] == [
        "cat is not worse by 1 chrF than full (chrF, the mean of all test sets)",
        "cat is better than random-tokens (chrF, the mean of all test sets)",
    ]
    assert read.baselines()["cat"] == ["full", "random-tokens"] and read.baselines()["random"] == ["full"]
    file.write_text(RUN_FILE[: RUN_FILE.index("[write]")] + RUN_FILE[RUN_FILE.index("[evaluate]") :])
    assert read_run_file(file).hypotheses() == []


def test_without_a_model_scorers_alone_rank(tmp_path: Path) -> None:
    file = prepare(tmp_path)
    file.write_text(
        'out = "run"\nreport = ""\n[clean]\ninputs = ["bitext/train.{en,de}"]\n'
        '[[scorer]]\nscorer = "mine.py:lengths"\nname = "own"\n[[scorer]]\nscorer = "e5"\n'
        '[[select]]\nname = "best"\nmethod = "e5"\nkeep = 5\nwhere = "own>=-1"\n'
        '[[select]]\nname = "some"\nmethod = "random"\nkeep = 5\nwhere = ["own==0", "e5>0.5"]\n'
    )
    messages: list[str] = []
    done = catprune.run(file, quiet=True, say=messages.append)
    assert any(line.split()[:3] == ["score", "own", "over"] for line in messages)
    assert any(line.split()[:2] == ["e5", "over"] for line in messages)
    corpus = catprune.open_corpus(tmp_path / "run/clean", selection=done.selections["some"])
    pairs = [pair for batch in corpus for pair in batch.to_pylist()]
    assert len(pairs) == 5
    assert all(len(pair["source"]) == len(pair["target"]) for pair in pairs)


def test_changed_options_are_refused_by_their_name(undisturbed: Path) -> None:
    file = undisturbed / "other.toml"
    file.write_text(RUN_FILE.replace("vocab_size = 400", "vocab_size = 500"))
    with pytest.raises(CatpruneError, match=r"vocab_size was 400, is now 500"):
        catprune.run(file, quiet=True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('out = "run"', "", "out is missing: give it"),
        ("vocab_size", "vocab_sise", r"tokenize\.vocab_sise: there is no such key; did you mean vocab_size\?"),
        ('tokens_of = "cat"', 'tokens_of = "dog"', "dog is not a selection above it"),
        ('selection = "cat"', 'selection = "dog"', "write: selection = dog"),
        ('subsets = ["full", "cat"]', 'subsets = ["dog"]', "evaluate: dog is neither"),
        ('name = "cat"', 'name = "random"', "two selections are named random"),
        ("seed = 3", "seed = ", "is not TOML"),
        ('on = "nll"', 'on = "loss"', r'select\.1\.on = "loss": give one of ppl, nll'),
        ('on = "nll"', "bins = 0", r"select\.1\.bins = 0: give a whole number, at least 1 and at most 1000"),
        ('on = "nll"', 'keep = "120%"', "keep = '120%'"),
        ('on = "nll"', 'checkpoints = ["step-4"]', "cat-diff needs 2 checkpoints, there will be 1"),
        (
            'on = "nll"',
            'checkpoints = ["step-4", "step-5"]',
            "checkpoint step-5 is unknown or named twice: use step-4, step-12",
        ),
        ('checkpoints = "4steps,12steps"', 'checkpoints = "x"', "checkpoint 'x' is invalid"),
        ('checkpoints = "4steps,12steps"', "learning_rate = -1", r"train\.learning_rate = -1: give a number, above 0"),
        ("vocab_size = 400", "vocab_size = 1", r"tokenize\.vocab_size = 1: give a whole number, at least 300"),
        ('scorer = "mine.py:lengths"', 'scorer = "e5"\n[[scorer]]\nscorer = "e5"', "two columns are named e5"),
        ('scorer = "mine.py:lengths"', 'scorer = "e5"\nname = "step-4"', "two columns are named step-4"),
        ("[score]", "[score]\nbatch_tokens = 0", r"score\.batch_tokens = 0: give a whole number, at least 1"),
        (
            "[tokenize]",
            "[clean.rules]\nmin_wrds = 3\n[tokenize]",
            r"rules: there is no option min_wrds; did you mean min_words\?",
        ),
        ('checkpoints = "4steps,12steps"', "steps = 4", "needs 2 checkpoints, there will be 1"),
        ('tags = "bitext/train.kind"', "", "within = tag needs tags"),
        ("steps = 4", "steps = 4\nepochs = 2", "both steps and epochs are given"),
        ("steps = 4", "steps = 4\nseeds = [1, 1]", "at least one seed, each once"),
        ("steps = 4", 'steps = 4\nhypotheses = [{ subset = "cat" }]', "give not_worse_than or better_than"),
        (
            "steps = 4",
            'steps = 4\nhypotheses = [{ subset = "cat", better_than = "dog" }]',
            "hypothesis on dog: no subset has that name",
        ),
        (
            "steps = 4",
            'steps = 4\nhypotheses = [{ subset = "cat", not_worse_than = "full", metric = "nll" }]',
            "give the margin in nll",
        ),
        (
            "steps = 4",
            'steps = 4\nsweep = [{ methods = ["cat", "el2n"], keep = ["30%", 0.3] }]',
            "two selections are named cat-30",
        ),
        ("steps = 4", 'steps = 4\nsweep = [{ methods = ["cat-dif"], keep = [5] }]', "there is no method cat-dif"),
        ("steps = 4", 'steps = 4\npreset = "huge"', r'evaluate\.preset = "huge": give one of tiny, small, base, big'),
        (
            'precision = "float32"',
            'precision = "float16"',
            r'train\.precision = "float16": give one of auto, float32, bfloat16',
        ),
        ("[evaluate]", "[evaluate]\nbeam = 0", r"evaluate\.beam = 0: give a whole number, at least 1"),
        ("[clean]", "[claen]", r"claen: there is no such key; did you mean clean\?; clean is missing: give it"),
        ("seed = 3", "seed = -1", "seed = -1: give a whole number, at least 0"),
        (
            'on = "nll"',
            "keep = true",
            r"select\.1\.keep = true: give text or a whole number or a number, or a list of these",
        ),
        ('name = "cat"', 'name = "cat.v2"', r'select\.1\.name = "cat\.v2": give letters, digits'),
        ('name = "test"', 'name = "te st"', r'evaluate\.tests\.0\.name = "te st": give letters, digits'),
        (
            'scorer = "mine.py:lengths"',
            'scorer = "e5"\nmargin = "yes"',
            r'scorer\.0\.margin = "yes": give true or false',
        ),
        ("save_every = 3", "save_evry = 3", r"train\.save_evry: there is no such key; did you mean save_every\?"),
        ("resamples = 20", "resamples = true", r"evaluate\.resamples = true: give a whole number, at least 1"),
        ("threads = 1", "threads = 1.5", r"threads = 1\.5: give a whole number, at least 1"),
        ("[tokenize]", "near = 3\n[tokenize]", r"clean\.near = 3: give a table of options"),
        ("[tokenize]", "rules = 3\n[tokenize]", r"clean\.rules = 3: give a table of options or false"),
        ("[tokenize]", "exclude = 3\n[tokenize]", r"clean\.exclude = 3: give text or a path, or a list of these"),
        ("[train]", "[[train]]", r"train = \[.*\]: give a table of options"),
        ("[score]", 'select = "all"\n[score]', r"train\.select: there is no such key"),
        ('method = "cat-diff"', 'method = "cat-dif"', r"there is no method cat-dif; did you mean cat-diff\?"),
        ('on = "nll"', "bins = 7", "bins = 7: cat-diff does not use bins, only progress: leave it out"),
        ('on = "nll"', "seen_apart = true", r"select\.1\.seen_apart: there is no such key"),
    ],
)
def test_mistakes_in_the_file_are_reported_with_their_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(RUN_FILE.replace(old, new, 1))
    with pytest.raises((UsageError, CatpruneError), match=f"^{re.escape(str(file))}.*{message}"):
        read_run_file(file)


def test_mistakes_are_reported_before_training_where_possible(tmp_path: Path) -> None:
    file = prepare(tmp_path)
    (tmp_path / "pruned.de").write_text("mine")
    with pytest.raises(CatpruneError, match=r"pruned\.de exists"):
        catprune.run(file, quiet=True)
    assert not (tmp_path / "run").exists()
    (tmp_path / "pruned.de").unlink()
    (tmp_path / "pruned.en").write_text("another run's")
    (tmp_path / "pruned.en.catprune.json").write_bytes(seal({"reads": {"clean": {"path": "elsewhere/clean"}}}))
    with pytest.raises(CatpruneError, match=r"pruned\.en was written from elsewhere/clean"):
        catprune.run(file, quiet=True)
    (tmp_path / "pruned.en.catprune.json").unlink()
    (tmp_path / "pruned.en").unlink()
    file.write_text(RUN_FILE.replace("lengths>-8", "length_>-8"))
    with pytest.raises(UsageError, match=r"cat: there is no column length_: \[\[scorer\]\] makes lengths"):
        catprune.run(file, quiet=True)
    file.write_text(RUN_FILE.replace("lengths>-8", "labse.score>0.5"))
    with pytest.raises(UsageError, match=r"cat: there is no column labse.score: \[\[scorer\]\] makes lengths"):
        catprune.run(file, quiet=True)
    file.write_text(RUN_FILE.replace("mine.py:lengths", "none.py:lengths"))
    with pytest.raises(UsageError, match=r"none\.py is not a Python file"):
        catprune.run(file, quiet=True)
    file.write_text(RUN_FILE)
    test_set = (tmp_path / "bitext/test.de").read_bytes()
    (tmp_path / "bitext/test.de").write_bytes(test_set + b"mehr\n")
    with pytest.raises(CatpruneError, match=r"test\.en has 4 lines, .*test\.de has 5"):
        catprune.run(file, quiet=True)
    (tmp_path / "bitext/test.de").write_bytes(test_set)
    assert not (tmp_path / "run").exists()
    file.write_text(RUN_FILE.replace('on = "nll"', "keep = 1000"))
    with pytest.raises(CatpruneError, match=r"cat: cannot keep 1000 pairs, cleaning kept \d+"):
        catprune.run(file, quiet=True)
    assert not (tmp_path / "run/tokens").exists()


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    from catprune.workspace.locks import lock_folder

    file = prepare(tmp_path)
    with lock_folder(tmp_path / "run"), pytest.raises(CatpruneError, match=r"another process is at work in .*/run:"):
        catprune.run(file, quiet=True)
    inputs, outputs = (
        [tmp_path / "bitext/train.en", tmp_path / "bitext/train.de"],
        [tmp_path / "q.en", tmp_path / "q.de"],
    )
    with (
        lock_folder(tmp_path / "prune"),
        pytest.raises(CatpruneError, match=r"another process is at work in .*/prune:"),
    ):
        catprune.prune(inputs, outputs, out=tmp_path / "prune", quiet=True)


def test_evaluate_needs_its_section(tmp_path: Path) -> None:
    from catprune.pipeline.run import evaluate_file

    file = tmp_path / "run.toml"
    file.write_text(RUN_FILE[: RUN_FILE.index("[evaluate]")])
    with pytest.raises(CatpruneError, match=r"no \[evaluate\] section"):
        evaluate_file(file)
