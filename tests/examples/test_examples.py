"""Every example runs, in small form: with few pairs, random tiny models, and a stand-in for Marian."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import catprune
import pytest
from catprune.demonstration.bitext import write_demo_bitext

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMALL = ["tokenize.vocab_size=400", "train.checkpoints=2steps,6steps", "train.batch_tokens=512"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with bitext under the names that the examples use."""
    write_demo_bitext(tmp_path / "demo", pairs=300, test_pairs=20)
    for side in ("en", "de"):
        for name in ("wmt", "train"):
            shutil.copy(tmp_path / f"demo/train.{side}", tmp_path / f"{name}.{side}")
    shutil.copy(tmp_path / "demo/train.de", tmp_path / "news.de")
    return tmp_path


def copy(example: str, folder: Path) -> None:
    """Copy the files of an example beside the bitext."""
    for path in (EXAMPLES / example).iterdir():
        if path.is_file():
            shutil.copy(path, folder)


def run(folder: Path, *command: str | Path) -> str:
    """Run a command in the folder as its user does; return what it prints."""
    binaries = f"{folder / 'bin'}:{Path(sys.executable).parent}"
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def test_every_example_is_tested() -> None:
    """A new folder needs a test here and a row in the table."""
    text, table = Path(__file__).read_text(), (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.is_dir():
            assert f'"{path.name}"' in text and f"({path.name}/)" in table


def test_analyse_scores(folder: Path) -> None:
    pytest.importorskip("duckdb")
    copy("analyse_scores", folder)
    options = {"method": "progress", "preset": "tiny", "epochs": 1, "checkpoints": "0.5,1", "quiet": True}
    languages = {"source_lang": "en", "target_lang": "de"}
    catprune.prune(
        [folder / "wmt.en", folder / "wmt.de"],
        [folder / "pruned.en", folder / "pruned.de"],
        out=folder / "run",
        **languages,
        **options,
    )
    printed = run(folder, sys.executable, "analyse.py", "run", "pruned")
    assert "duplicate" in printed and "kept_pairs" in printed and "epoch-1" in printed


def test_own_scorer(folder: Path) -> None:
    copy("own_scorer", folder)
    functions = runpy.run_path(str(folder / "agreement.py"))
    sources = ["Berlin has 24 (COVID-19).", "the iPhone", "The End", "a 5"]
    targets = ["Berlin hat 24: COVID-19!", "ein Telefon", "Das Ende", "eine 5 und 6"]
    assert functions["shared_numbers"](sources, targets) == [1.0, 0.0, 1.0, 0.5]
    catprune.run(folder / "run.toml", set=SMALL, quiet=True)
    assert 0 < lines(folder / "pruned.en") == lines(folder / "pruned.de")


def test_monolingual(folder: Path) -> None:
    copy("monolingual", folder)
    catprune.run(folder / "run.toml", set=SMALL, quiet=True)
    assert lines(folder / "pruned.de") > 0


@pytest.mark.parametrize(
    ("example", "kind", "codes"),
    [("fine_tune_nllb", "nllb", ["eng_Latn", "deu_Latn"]), ("translation_llm", "gpt2", [])],
)
def test_fine_tuning(folder: Path, example: str, kind: str, codes: list[str]) -> None:
    pytest.importorskip("datasets")
    pytest.importorskip("accelerate")
    from support.tiny_checkpoints import build

    copy(example, folder)
    model = build(kind, folder / "model")
    for name, words in (("short.en", ("a cat", "the dog")), ("short.de", ("eine katze", "der hund"))):
        (folder / name).write_text("".join(f"{word} {number}\n" for number in range(40) for word in words))
    arguments = (model, "short.en", "short.de", *codes, "2steps,4steps", "4", "6")
    run(folder, sys.executable, "fine_tune.py", *map(str, arguments))
    kept = catprune.open_corpus(folder / "run/clean", selection=folder / "run/kept")
    assert 0 < sum(batch.num_rows for batch in kept) <= 40
    assert (folder / "run/model/config.json").is_file()
    assert (folder / "run/trainer/checkpoint-6/trainer_state.json").is_file()


MARIAN = """#!{python}
# Stands for marian: copies a model to each name that Marian would write.
import shutil, sys
given = dict(zip(sys.argv, sys.argv[1:]))
model, last = given["--model"], int(given.get("--after", "0u")[:-1])
step = int(given.get("--save-freq", "1u")[:-1])
folder = model.rpartition("/")[0]
for side in ("en", "de"):
    shutil.copy(f"models/{{side}}.spm", folder)
shutil.copy("models/model.npz.yml", folder)
for update in range(step, last + 1, step):
    shutil.copy(f"models/{{update}}.npz", model.replace(".npz", f".iter{{update}}.npz"))
shutil.copy("models/2.npz", model)
"""


def test_marian(folder: Path) -> None:
    pytest.importorskip("sentencepiece")
    pytest.importorskip("yaml")
    from support.marian_models import train_vocabularies, write_model

    copy("marian", folder)
    (folder / "models").mkdir()
    (folder / "bin").mkdir()
    vocabularies = train_vocabularies(folder / "models")
    for update in (2, 4):
        write_model(folder / f"models/{update}.npz", vocabularies, seed=update)
    (folder / "models/2.npz.yml").rename(folder / "models/model.npz.yml")
    (folder / "bin/marian").write_text(MARIAN.format(python=sys.executable))
    (folder / "bin/marian").chmod(0o755)
    (folder / "bin/catprune").write_text(f'#!/bin/sh\nexec {sys.executable} -m catprune "$@"\n')
    (folder / "bin/catprune").chmod(0o755)
    run(folder, "env", "EARLY=2", "LATE=4", "./recipe.sh", "wmt.en", "wmt.de", "en", "de")
    assert 0 < lines(folder / "pruned.en") == lines(folder / "pruned.de")
    assert (folder / "run/model/model.npz").is_file()
