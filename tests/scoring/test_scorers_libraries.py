"""Scorers through the loading code of their libraries, on tiny models in the libraries' own files."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import catprune
import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from catprune.errors import CatpruneError, UsageError
from catprune.scoring.score_pairs import score_pairs
from catprune.scoring.scorers import environment
from catprune.scoring.scorers.comet import CometMetric
from catprune.scoring.scorers.environment import Worker

# Creating the environments installs gigabytes and compiles: `make test-environments` does so.
needs_uv = pytest.mark.skipif(
    shutil.which("uv") is None or not os.environ.get("CATPRUNE_TEST_ENVIRONMENTS"),
    reason="needs uv and CATPRUNE_TEST_ENVIRONMENTS, because it creates environments",
)
WORDS = {
    language: text.split()
    for language, text in (
        ("en", "the a dog cat sits runs on under over mat park house old new and sees small green river stone"),
        ("de", "der ein hund katze sitzt rennt auf unter über matte park haus alt neu und sieht klein grün bach stein"),
    )
}


def make_pairs() -> list[tuple[str, str]]:
    """Pairs of 1 to 14 words, none twice."""
    draw = random.Random(5)
    pairs: dict[tuple[str, str], None] = {}
    while len(pairs) < 45:
        places = [draw.randrange(20) for _ in range(draw.randint(1, 14))]
        source, target = (" ".join(WORDS[language][place] for place in places) for language in ("en", "de"))
        pairs[f"{source.capitalize()}.", f"{target.capitalize()}."] = None
    return list(pairs)


PAIRS = make_pairs()


def clean_in_parts(folder: Path, ends: tuple[int, ...]) -> Path:
    """A clean folder with a block for each part, and one record that cleaning drops."""
    lines = [*PAIRS[:20], ("", "Leer."), *PAIRS[20:]]
    for number, (first, end) in enumerate(zip((0, *ends), (*ends, len(lines)), strict=True)):
        for place, language in enumerate(("en", "de")):
            text = "".join(f"{pair[place]}\n" for pair in lines[first:end])
            (folder / f"{number}.{language}").write_text(text)
    inputs = [str(folder / f"{number}.{{en,de}}") for number in range(len(ends) + 1)]
    rules = {"max_word_ratio": 9.0, "max_character_ratio": 9.0}
    done = catprune.clean(inputs, out=folder / "clean", rules=rules, quiet=True)
    assert done.kept == len(PAIRS)
    return folder / "clean"


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: Any) -> Path:
    """The pairs in three blocks."""
    return clean_in_parts(tmp_path_factory.mktemp("blocks"), (7, 30))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: Any) -> Path:
    """The pairs in one block."""
    return clean_in_parts(tmp_path_factory.mktemp("whole"), ())


def read_scores(folder: Path) -> np.ndarray[Any, Any]:
    table = parquet.read_table(folder / "columns")
    assert table["row"].to_pylist() == [row for row in range(len(PAIRS) + 1) if row != 20]
    return table[folder.name].to_numpy()


def shards_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("columns/*.parquet")}


def end_script(worker: Worker) -> None:
    """Kill the process like a system that is out of memory."""
    assert worker._process is not None
    os.kill(worker._process.pid, signal.SIGKILL)


def build_in_environment(folder: Path, script: str) -> Path:
    """Run a script of `support` in the environment of a worker; return the library's scores."""
    (folder / "pairs.json").write_text(json.dumps(PAIRS))
    worker = Worker(script, "", threads=None, local=None, install=True)
    built = Path(__file__).parent.parent / "support" / f"build_{script}_model.py"
    command = [worker.python(), str(built), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=worker.environment())
    assert done.returncode == 0, done.stderr
    return folder


# --- sentence-transformers


@pytest.fixture(scope="module")
def sentence_model(tmp_path_factory: Any) -> Path:
    """A BERT with LaBSE's modules: vector of the first token, dense layer, norm 1."""
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer import modules as models
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("sentences")
    words = sorted({word for language in WORDS.values() for word in language})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *words]
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(pieces), initializer_range=0.4, **sizes)).save_pretrained(folder / "bert")
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder / "bert")
    modules = [
        models.Transformer(str(folder / "bert"), max_seq_length=32),
        models.Pooling(16, pooling_mode="cls"),
        models.Dense(16, 12),
        models.Normalize(),
    ]
    library.SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
    return folder / "model"


def test_labse_scores_equal_the_librarys(sentence_model: Path, blocks: Path, whole: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer, util

    library = SentenceTransformer(str(sentence_model), device="cpu")
    sides = [library.encode(list(side), convert_to_tensor=True) for side in zip(*PAIRS, strict=True)]
    expected = util.pairwise_cos_sim(*sides).numpy()
    assert expected.std() > 0.01, "the model tells pairs apart"
    found = {}
    for name, clean in (("blocks", blocks), ("whole", whole)):
        done = score_pairs(clean, scorer="labse", model=sentence_model, out=tmp_path / name, quiet=True)
        found[name] = read_scores(done.folder)
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)
    assert done.manifest["options"]["scorer"]["model"].keys() == {"digest"}


def test_invalid_models_of_sentence_transformers_are_reported(blocks: Path, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("sentence_transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    for model in (str(tmp_path / "empty"), "nobody/no-such-model"):
        with pytest.raises(CatpruneError, match=f"{model} cannot be loaded by sentence-transformers"):
            score_pairs(blocks, scorer="labse", model=model, out=tmp_path / "out", quiet=True)


# --- COMET


@pytest.fixture(scope="module")
def comet(tmp_path_factory: Any) -> Path:
    return build_in_environment(tmp_path_factory.mktemp("comet"), "comet")


@needs_uv
def test_comet_scores_equal_the_librarys_and_scoring_resumes(
    comet: Path, blocks: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    expected = np.array(json.loads((comet / "expected.json").read_text()), np.float32)
    check(blocks, expected, tmp_path, monkeypatch, scorer="comet-qe", model=comet / "model")
    checkpoint = comet / "model" / "checkpoints" / "model.ckpt"
    again = score_pairs(blocks, scorer="comet-qe", model=checkpoint, out=tmp_path / "at-once", quiet=True)
    assert again.new == 0, "the file and its folder are one model"


@needs_uv
def test_the_comet_metric_equals_the_librarys(comet: Path) -> None:
    expected = np.mean(json.loads((comet / "expected_metric.json").read_text()))
    sources, targets = (list(side) for side in zip(*PAIRS, strict=True))
    references = [targets[place - 1] for place in range(len(targets))]
    with CometMetric(comet / "reference", threads=1) as metric:
        assert metric.measure(sources, targets, references) == pytest.approx(expected, abs=1e-6)
        assert metric.measure(sources, targets, targets) != pytest.approx(expected, abs=1e-3)
    with CometMetric(comet / "model", threads=1) as metric, pytest.raises(CatpruneError, match="reads no references"):
        metric.measure(sources, targets, targets)


@needs_uv
def test_invalid_comet_models_are_reported(comet: Path, whole: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for model, message in (
        ("nobody/no-such-model", "nobody/no-such-model cannot be loaded .*give a file or folder as model, or a name"),
        (comet / "reference", "cannot be loaded .*the model needs references"),
        (comet / "encoder", "has 0 files checkpoints"),
        (comet / "no.ckpt", "no.ckpt does not exist"),
        (comet / "expected.json", "is not a COMET model: .*hparams.yaml"),
    ):
        with pytest.raises(CatpruneError, match=message):
            score_pairs(whole, scorer="comet-qe", model=model, out=tmp_path / "out", force=True, quiet=True)


# --- LASER


@pytest.fixture(scope="module")
def laser(tmp_path_factory: Any) -> Path:
    return build_in_environment(tmp_path_factory.mktemp("laser"), "laser")


@needs_uv
def test_laser_scores_equal_the_librarys_and_scoring_resumes(
    laser: Path, blocks: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    expected = np.array(json.loads((laser / "expected.json").read_text()), np.float32)
    check(blocks, expected, tmp_path, monkeypatch, scorer="laser", model=laser / "model")


@needs_uv
def test_invalid_laser_models_are_reported(laser: Path, whole: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(laser / "model", damaged)
    (damaged / "laser2.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CatpruneError, match="LASER2 cannot be loaded"):
        score_pairs(whole, scorer="laser", model=damaged, out=tmp_path / "out", quiet=True)
    (damaged / "laser2.spm").unlink()
    with pytest.raises(CatpruneError, match=r"damaged has no laser2.spm: give a folder with laser2.pt"):
        score_pairs(whole, scorer="laser", model=damaged, out=tmp_path / "out", quiet=True)


# --- scorers with environments


def check(blocks: Path, expected: np.ndarray[Any, Any], out: Path, monkeypatch: Any, **options: Any) -> None:
    """Scores equal those of all pairs at once; a killed script is reported, and finished blocks are kept."""
    ask, asked = Worker.ask, []

    def disturbed(worker: Worker, columns: Any) -> Any:
        asked.append(columns)
        if len(asked) == (2 if options["scorer"] == "comet-qe" else 3):
            end_script(worker)
        return ask(worker, columns)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "ask", disturbed)
        with pytest.raises(CatpruneError, match="was ended by SIGKILL: memory may be exhausted; run it again"):
            score_pairs(blocks, out=out / "killed", quiet=True, **options)
    kept = shards_of(out / "killed" / options["scorer"])
    assert len(kept) == 1
    done = score_pairs(blocks, out=out / "killed", quiet=True, **options)
    assert done.new == len(PAIRS) - 7 and shards_of(done.folder).items() > kept.items()
    assert expected.std() > 0.01, "the model tells pairs apart"
    np.testing.assert_allclose(read_scores(done.folder), expected, rtol=1e-4, atol=1e-5)
    at_once = score_pairs(blocks, out=out / "at-once", quiet=True, **options)
    assert shards_of(at_once.folder) == shards_of(done.folder)


def test_a_missing_uv_is_said(whole: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(environment.shutil, "which", lambda _: None)
    with pytest.raises(CatpruneError, match="wmt20-comet-qe-da runs in an environment that uv creates: install uv"):
        score_pairs(whole, scorer="comet-qe", out=tmp_path, quiet=True)


def test_comet_has_no_margin(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="comet-qe has no embeddings"):
        score_pairs(whole, scorer="comet-qe", margin=True, out=tmp_path, quiet=True)
