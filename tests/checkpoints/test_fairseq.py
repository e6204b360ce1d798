"""Checkpoints of fairseq against fairseq's own scores of the same files, which `make test-environments` makes again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from argparse import Namespace
from pathlib import Path
from typing import Any

import catprune
import pyarrow.parquet as parquet
import pytest
import torch
from catprune.checkpoints.fairseq import Fairseq
from catprune.checkpoints.marian_vocabulary import read_dictionary
from catprune.errors import CatpruneError, UsageError
from catprune.scoring.score import score
from support.fairseq_models import PAIRS, POSITIONS, VARIANTS, write_model

#: Negative log-likelihoods of PAIRS by fairseq-fixed 0.12.3.1 and torch 2.15.0.
RECORDED = Path(__file__).with_name("fairseq_scores.json")
SCRIPT = Path(__file__).parents[1] / "support" / "score_with_fairseq.py"
OPTIONS: dict[str, Any] = {"precision": "float32", "threads": 1, "quiet": True}
UNKNOWN = (None, None)


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for place, language in enumerate(("en", "de")):
        (folder / f"a.{language}").write_text("".join(f"{pair[place]}\n" for pair in PAIRS))
    catprune.clean([folder / "a.en", folder / "a.de"], out=folder / "clean", rules=False, duplicates="none", quiet=True)
    return folder / "clean"


def scores_of(folder: Path) -> list[Any]:
    shards = json.loads((folder / "manifest.json").read_bytes())["shards"]
    return [
        value for shard in shards for value in parquet.read_table(folder / shard["file"]).column("nll_sum").to_pylist()
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_scores_are_those_of_fairseq(tmp_path: Path, cleaned: Path, name: str) -> None:
    model = write_model(tmp_path / "checkpoint7.pt", **VARIANTS[name])
    scored = score(cleaned, checkpoints=f"early={model}", out=tmp_path / "scores", **OPTIONS)
    assert scored.manifests["early"]["checkpoint"]["step"] == 700 and scored.flops > 0
    expected = json.loads(RECORDED.read_text())[name]
    assert scores_of(tmp_path / "scores/early") == pytest.approx(expected, rel=1e-5)


@pytest.mark.skipif("CATPRUNE_TEST_ENVIRONMENTS" not in os.environ, reason="downloads fairseq")
def test_the_recorded_scores_are_those_of_fairseq(tmp_path: Path) -> None:
    models = [write_model(tmp_path / str(n) / "a.pt", **changed) for n, changed in enumerate(VARIANTS.values())]
    command = [shutil.which("uv") or "uv", "run", "-q", "--script", str(SCRIPT), *map(str, models)]
    done = subprocess.run(command, input=json.dumps(PAIRS), capture_output=True, text=True, check=True)
    for found, expected in zip(json.loads(done.stdout), json.loads(RECORDED.read_text()).values(), strict=True):
        assert found == pytest.approx(expected, rel=1e-5)


def test_old_files_and_half_precision(tmp_path: Path, cleaned: Path) -> None:
    """Checkpoints before fairseq 0.10 have all options in `args`; those of a training in float16 have such weights."""
    model = write_model(tmp_path / "new.pt")
    saved = torch.load(model, weights_only=False)
    configuration = saved.pop("cfg")
    task = configuration["task"] | {"task": "translation"}
    task.pop("_name")
    weights = {name: tensor.half() for name, tensor in saved["model"].items()}
    del weights["decoder.output_projection.weight"]  # which old versions did not store
    torch.save(
        saved | {"args": Namespace(**vars(configuration["model"]), **task), "model": weights}, tmp_path / "old.pt"
    )
    score(cleaned, checkpoints=[tmp_path / "new.pt", tmp_path / "old.pt"], out=tmp_path / "scores", **OPTIONS)
    new, old = (scores_of(tmp_path / "scores" / name) for name in ("new.pt", "old.pt"))
    assert old == pytest.approx(new, rel=5e-3) and old != new


def test_dictionaries_are_found_and_checked(tmp_path: Path) -> None:
    model = write_model(tmp_path / "run" / "checkpoint1.pt", task={"source_lang": None, "target_lang": None})
    with pytest.raises(UsageError, match="does not name its languages: give source_lang and target_lang"):
        Fairseq.open(model, languages=UNKNOWN)
    opened = Fairseq.open(model, languages=("en", "de"))
    assert opened.encode(["the  cat\t<pad> </s> a dog"], ["die <s> hund"]) == ([[4, 5, 3, 3, 7, 8, 2]], [[4, 3, 7, 2]])
    with pytest.raises(CatpruneError, match=r"dict\.fr\.txt is missing: copy it next to the checkpoint"):
        Fairseq.open(model, languages=("fr", "de"))
    with pytest.raises(CatpruneError, match=r"13 embeddings on the encoder side, but .* has 9 entries"):
        Fairseq.open(model, languages=("de", "en"))
    # As fairseq does, from the names of its binary files, and from the folder of the data.
    data = tmp_path / "data"
    data.mkdir()
    for language in ("en", "de"):
        (model.parent / f"dict.{language}.txt").rename(data / f"dict.{language}.txt")
        (data / f"train.en-de.{language}.idx").touch()
    moved = write_model(
        tmp_path / "b" / "c" / "m.pt", task={"data": str(data), "source_lang": None, "target_lang": None}
    )
    for language in ("en", "de"):
        (moved.parent / f"dict.{language}.txt").unlink()
    assert Fairseq.open(moved, languages=UNKNOWN).tokenizer == opened.tokenizer


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 is not a word and its count"),
        ("word\n", "line 1 is not a word"),
        ("a 3\na 2\n", "line 2 has a word that an earlier line has"),
        ("a x\n", "line 1 is not"),
        (b"\xff 3\n", "can't decode"),
    ],
)
def test_damaged_dictionaries(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "dict.en.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CatpruneError, match=rf"is not a dictionary of fairseq \(.*{message}"):
        read_dictionary(path)
    path.write_text("a 3\nb c 2\n<unk> 1 #fairseq:overwrite\n\u00a0 1\n")
    assert read_dictionary(path) | {} == {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 6, "a": 4, "b c": 5, "\u00a0": 7}


def test_unsupported_files_are_refused(tmp_path: Path, cleaned: Path) -> None:
    path = tmp_path / "m.pt"
    for changed, message in (
        ({"task": {"_name": "translation_multi_simple_epoch"}}, "the task translation_multi_simple_epoch: only"),
        ({"no_scale_embedding": True}, "no_scale_embedding = True: not supported"),
        ({"adaptive_softmax_cutoff": "10,20"}, "adaptive_softmax_cutoff = 10,20: not supported"),
        ({"activation_fn": "tanh"}, "activation_fn = tanh: not supported"),
        ({"decoder_normalize_before": True}, r"normalize_before differs between encoder and decoder \(False, True\)"),
    ):
        write_model(path, **changed)
        with pytest.raises(CatpruneError, match=message):
            Fairseq.open(path, languages=UNKNOWN)
    write_model(path)
    saved = torch.load(path, weights_only=False)
    weights = saved["model"]
    for broken, message in (
        ({**weights, "decoder.project_out_dim.weight": torch.zeros(2)}, "project_out_dim.weight belong to unsupported"),
        (
            {name: weight for name, weight in weights.items() if "decoder.layers.0.fc1" not in name},
            r"the weights 'decoder_l1_ffn_W1' are missing",
        ),
    ):
        torch.save({**saved, "model": broken}, path)
        with pytest.raises(CatpruneError, match=message):
            score(cleaned, checkpoints=path, out=tmp_path / "s", **OPTIONS)
    for content, message in (
        ({"a": 1}, "it has no model"),
        ({"model": {}}, "it has no options"),
        ({**saved, "extra": Path("x")}, "cannot be read .*without objects of other code"),
    ):
        torch.save(content, path)
        with pytest.raises(CatpruneError, match=message):
            Fairseq.open(path, languages=UNKNOWN)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CatpruneError, match="cannot be read"):
        Fairseq.open(path, languages=UNKNOWN)


def test_learned_positions_bound_the_length(tmp_path: Path) -> None:
    """Longer pairs have no score, as for other models."""
    model = write_model(tmp_path / "m.pt", **VARIANTS["learned"])
    assert Fairseq.open(model, languages=UNKNOWN).longest == POSITIONS
    for language, word in (("en", "cat"), ("de", "katze")):
        lines = (" ".join([word] * length) for length in (POSITIONS - 1, POSITIONS, 3 * POSITIONS))
        (tmp_path / f"a.{language}").write_text("".join(f"{line}\n" for line in lines))
    catprune.clean(tmp_path / "a.{en,de}", out=tmp_path / "clean", rules=False, duplicates="none", quiet=True)
    score(tmp_path / "clean", checkpoints=f"x={model}", out=tmp_path / "scores", **OPTIONS)
    assert [value is not None for value in scores_of(tmp_path / "scores/x")] == [True, False, False]


def test_other_options_and_corpora(tmp_path: Path, cleaned: Path) -> None:
    model = write_model(tmp_path / "checkpoint1.pt")
    with pytest.raises(UsageError, match="prompts are only for checkpoints of transformers"):
        score(cleaned, checkpoints=model, prompt="{source} {target}", out=tmp_path / "s", **OPTIONS)
    with pytest.raises(UsageError, match=r"holds checkpoints: give those to score: \S+checkpoint1\.pt"):
        score(cleaned, checkpoints=tmp_path, out=tmp_path / "s", **OPTIONS)
    (tmp_path / "a.txt").write_text("the cat\n")
    alone = catprune.clean(tmp_path / "a.txt", out=tmp_path / "alone", monolingual=True, rules=False, quiet=True)
    assert alone.folder is not None
    with pytest.raises(UsageError, match="translates, and a monolingual corpus has no source"):
        score(alone.folder, checkpoints=model, out=tmp_path / "s", **OPTIONS)
    for place, language in enumerate(("en", "de")):
        (tmp_path / f"plain.{language}").write_text("".join(f"{pair[place]} unknown words here\n" for pair in PAIRS))
    catprune.clean(tmp_path / "plain.{en,de}", out=tmp_path / "plain", rules=False, quiet=True)
    with pytest.raises(CatpruneError, match=r"words of a block are not in .*: segment the corpus"):
        score(tmp_path / "plain", checkpoints=model, out=tmp_path / "s", **OPTIONS)
