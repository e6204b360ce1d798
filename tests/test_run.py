"""Whole runs: from a file, killed in every step and started again; mistakes in the file are told by their place."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import catprune
import pytest
from catprune import CatpruneError, UsageError
from catprune.config import read_run_file
from catprune.demo_bitext import write_demo_bitext

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

[[select]]
name = "random"
method = "random"

[[select]]
name = "cat"
on = "nll"
within = "tag"

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
subsets = ["full", "cat"]
against = ["full"]
resamples = 20

[[evaluate.tests]]
name = "test"
source = "bitext/test.en"
target = "bitext/test.de"
"""

#: A file whose appearance says that the step is at work, and not done.
MOMENTS = (
    "run/clean/plan.json",
    "run/tokens/plan.json",
    "run/tokens/tokenizer.json",
    "run/warmup/plan.json",
    "run/warmup/step-4",
    "run/scores/step-4/plan.json",
    "run/scores/step-12/plan.json",
    "run/selection/cat/plan.json",
    "pruned.en.catprune.json",
    "pruned.en",
    "run/evaluate/models/full/plan.json",
    "run/evaluate/models/cat/step-4",
    "run/evaluate/translations",
    "run/evaluate/results.json",
)


def prepare(folder: Path) -> Path:
    write_demo_bitext(folder / "bitext", pairs=300, test_pairs=4, seed=1)
    (folder / "run.toml").write_text(RUN_FILE)
    return folder / "run.toml"


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a run but the logs, and the report, which shows how many seconds each training took."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "log" not in path.relative_to(folder).parts and path.name != "report.html"
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    catprune.run(prepare(folder), quiet=True)
    return folder


def test_killed_in_every_step_a_run_ends_with_the_same_bytes(undisturbed: Path, tmp_path: Path) -> None:
    file = prepare(tmp_path)
    command = [sys.executable, "-c", f"import catprune; catprune.run({str(file)!r}, quiet=True)"]
    for moment in MOMENTS:
        process = subprocess.Popen(command)
        while not (tmp_path / moment).exists():
            assert process.poll() is None, f"the run ended before {moment}"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "run/report.html").exists()
    subprocess.run(command, check=True)
    assert (tmp_path / "run/report.html").exists()
    found, expected = files(tmp_path), files(undisturbed)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


def test_a_finished_run_does_nothing_again(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (undisturbed / "run").rglob("*.parquet")}
    said: list[str] = []
    catprune.run(undisturbed / "run.toml", quiet=True, say=said.append)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(said) == 8


def test_random_is_matched_on_tokens(undisturbed: Path) -> None:
    from catprune.folder import read_manifest

    counts = {
        name: read_manifest(undisturbed / "run/selection" / name, step="select")["counts"]
        for name in ("cat", "random-tokens")
    }
    assert 0 <= counts["cat"]["tokens_kept"] - counts["random-tokens"]["tokens_kept"] < 100


def test_changed_options_are_refused_by_their_name(undisturbed: Path) -> None:
    file = undisturbed / "other.toml"
    file.write_text(RUN_FILE.replace("vocab_size = 400", "vocab_size = 500"))
    with pytest.raises(CatpruneError, match=r"options\.vocab_size was 400, is 500"):
        catprune.run(file, quiet=True)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('out = "run"', "", "out: Field required"),
        ("vocab_size", "vocab_sise", r"tokenize\.vocab_sise: Extra inputs"),
        ('tokens_of = "cat"', 'tokens_of = "dog"', "dog is not a selection above it"),
        ('selection = "cat"', 'selection = "dog"', "write: selection = dog"),
        ('subsets = ["full", "cat"]', 'subsets = ["dog"]', "evaluate: dog is neither"),
        ('name = "cat"', 'name = "random"', "random twice"),
        ("seed = 3", "seed = ", "is not TOML"),
    ],
)
def test_mistakes_in_the_file_are_told_by_their_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(RUN_FILE.replace(old, new, 1))
    with pytest.raises((UsageError, CatpruneError), match=told):
        read_run_file(file)


def test_evaluate_needs_its_section(tmp_path: Path) -> None:
    from catprune.run import evaluate_file

    file = tmp_path / "run.toml"
    file.write_text(RUN_FILE[: RUN_FILE.index("[evaluate]")])
    with pytest.raises(CatpruneError, match=r"no \[evaluate\] section"):
        evaluate_file(file)
