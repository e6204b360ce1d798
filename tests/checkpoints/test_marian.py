"""Marian-NMT's model files, built here, against CTranslate2's scores of the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import catprune
import ctranslate2
import numpy as np
import pyarrow.parquet as parquet
import pytest
from catprune.checkpoints.marian import CONFIGURATION, Marian
from catprune.checkpoints.marian_vocabulary import open_vocabulary
from catprune.errors import CatpruneError, UsageError
from catprune.scoring.score import score
from support.marian_models import PAIRS, WIDTH, pieces, save, train_vocabularies, write_model

pytest.importorskip("sentencepiece")
yaml = pytest.importorskip("yaml")


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: Any) -> Path:
    return train_vocabularies(tmp_path_factory.mktemp("vocabularies"))


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for place, language in enumerate(("en", "de")):
        (folder / f"a.{language}").write_text("".join(f"{pair[place]}\n" for pair in PAIRS))
    rules = {"max_word_ratio": 9.0, "max_character_ratio": 9.0}
    catprune.clean([folder / "a.en", folder / "a.de"], out=folder / "clean", quiet=True, rules=rules)
    return folder / "clean"


def reference_scores(
    weights: dict[str, np.ndarray], options: dict[str, Any], vocabularies: Path, folder: Path
) -> list[float]:
    """The negative log-likelihoods by CTranslate2, which reads the same weights with its own code.

    It works out other positions than Marian where a file does not hold them (its exponents are 2k/d, Marian's
    k / (d/2 - 1): src/graph/node_initializers.cpp), so here it gets Marian's.
    """
    exponents = np.arange(WIDTH // 2) / (WIDTH // 2 - 1)
    angles = np.arange(64)[:, None] * 10000.0**-exponents
    positions = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    path = folder / "scored.npz"
    save(path, {**weights, "Wpos": positions}, options)
    texts: list[str] = []
    for language in ("en", "de"):
        model = pieces(vocabularies, language)
        lines = [
            f"{json.dumps(model.id_to_piece(n), ensure_ascii=False)}: {n}\n" for n in range(model.get_piece_size())
        ]
        (folder / f"{language}.yml").write_text("".join(lines))
        texts.append(str(folder / f"{language}.yml"))
    converter = ctranslate2.converters.MarianConverter(str(path), texts)
    converter.convert(str(folder / "converted"), force=True)
    translator = ctranslate2.Translator(str(folder / "converted"), compute_type="float32", intra_threads=1)
    sides = [
        [pieces(vocabularies, language).encode(pair[n], out_type=str) for pair in PAIRS]
        for n, language in ((0, "en"), (1, "de"))
    ]
    return [-sum(hypothesis.log_probs) for hypothesis in translator.score_batch(*sides)]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    shards = json.loads((folder / "manifest.json").read_bytes())["shards"]
    return [row for shard in shards for row in parquet.read_table(folder / shard["file"]).to_pylist()]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"transformer-ffn-activation": "swish", "tied-embeddings": False, "transformer-postprocess-emb": "nd"},
        {"transformer-preprocess": "n", "transformer-postprocess": "da", "transformer-postprocess-top": "n"},
        {"transformer-ffn-activation": "gelu", "version": "v1.12.0 65bf82ff 2023-02-21"},
    ],
    ids=["post-norm", "swish and an output matrix of its own", "pre-norm", "gelu"],
)
def test_scores_are_those_of_ctranslate2(tmp_path: Path, vocabularies: Path, cleaned: Path, changed: Any) -> None:
    model = tmp_path / "model.iter700.npz"
    weights = write_model(model, vocabularies, **changed)
    options: dict[str, Any] = {"precision": "float32", "threads": 1, "quiet": True}
    scored = score(cleaned, checkpoints=f"early={model}", out=tmp_path / "scores", **options)
    assert scored.manifests["early"]["checkpoint"]["step"] == 700 and scored.flops > 0
    rows = rows_of(tmp_path / "scores/early")
    lengths = [len(pieces(vocabularies, "de").encode(target)) + 1 for _, target in PAIRS]
    assert [row["tokens"] for row in rows] == lengths
    scores = [row["nll_sum"] for row in rows]
    settings = yaml.safe_load((tmp_path / "model.npz.yml").read_text())
    assert scores == pytest.approx(reference_scores(weights, settings, vocabularies, tmp_path), rel=1e-3)


@pytest.mark.parametrize("suffix", [".yml", ".json", ".txt"])
def test_a_segmented_corpus_with_a_list_of_words(tmp_path: Path, vocabularies: Path, suffix: str) -> None:
    """Words that are the pieces of a SentencePiece model have its ids, so scores are the same."""
    model = tmp_path / "model.npz"
    write_model(model, vocabularies)
    options: dict[str, Any] = {"precision": "float32", "threads": 1, "quiet": True}
    loose = {"rules": False, "duplicates": "none", "quiet": True}
    scores: list[list[float]] = []
    for kind in ("spm", "words"):
        for place, language in enumerate(("en", "de")):
            lines = [pair[place] for pair in (*PAIRS, ("a zebra", "hund yes \u00a0 1.0"))]
            if kind == "words":
                spm = pieces(vocabularies, language)
                lines = [f" {'  '.join(spm.encode(line, out_type=str))} " for line in lines]
                entries = [spm.id_to_piece(id) for id in range(spm.get_piece_size())]
                text = {
                    ".txt": "".join(f"{piece}\n" for piece in entries),
                    ".json": json.dumps({piece: id for id, piece in enumerate(entries)}),
                    ".yml": "".join(f"{json.dumps(piece)}: {id}\n" for id, piece in enumerate(entries)),
                }[suffix]
                (tmp_path / f"{language}{suffix}").write_text(text)
            (tmp_path / f"{kind}.{language}").write_text("".join(f"{line}\n" for line in lines))
        if kind == "words":
            settings = model.with_name("model.npz.yml")
            settings.write_text(settings.read_text().replace(".spm", suffix))
        catprune.clean(tmp_path / f"{kind}.{{en,de}}", out=tmp_path / kind, **loose)
        score(tmp_path / kind, checkpoints=f"early={model}", out=tmp_path / f"scores-{kind}", **options)
        scores.append([row["nll_sum"] for row in rows_of(tmp_path / f"scores-{kind}/early")])
    assert scores[0] == scores[1] and len(scores[0]) == 5
    with pytest.raises(CatpruneError, match=r"words of a block are not in .*: segment the corpus"):
        score(tmp_path / "spm", checkpoints=f"early={model}", out=tmp_path / "unsegmented", **options)


def test_words_are_split_at_spaces_and_never_special(tmp_path: Path) -> None:
    """A word may look like another type of YAML; `</s>` in a text is not the end of the sentence."""
    words = ["</s>", "<unk>", "yes", "1.0", "~", "a\u00a0b", "\u3000", "#", "nan"]
    path = tmp_path / "v.yml"
    path.write_text("".join(f"{json.dumps(word, ensure_ascii=False)}: {id}\n" for id, word in enumerate(words)))
    vocabulary = open_vocabulary(path)
    assert (vocabulary.size, vocabulary.end) == (9, 0)
    text = " yes 1.0  ~ a\u00a0b \u3000 # nan </s> "
    assert vocabulary.encode([text, "yes", ""]) == [[2, 3, 4, 5, 6, 7, 8, 1, 0], [2, 0], [0]]
    path.write_text("yes: 3\n~: 2\n</s>: 0\n<unk>: 1\n1.0: 4\n")
    assert open_vocabulary(path).encode(["1.0 ~ yes"]) == [[4, 2, 3, 0]]
    for broken in ("yes: 3\n", "- a\n", "a: b\n", "a: [1\n", "", "</s>: 0\n<unk>: 0\n", "</s>: 0\n<unk>: -1\n"):
        path.write_text(broken)
        with pytest.raises(CatpruneError, match="give the vocabulary of the model"):
            open_vocabulary(path)
    with pytest.raises(UsageError, match="no factored vocabularies"):
        open_vocabulary(tmp_path / "v.fsv")


def test_raw_weights_are_preferred_to_smoothed_ones(tmp_path: Path, vocabularies: Path) -> None:
    model = tmp_path / "model.npz"
    write_model(model, vocabularies)
    (tmp_path / "model.npz.progress.yml").write_text("batches: 4200\nepochs: 3\n")
    assert (Marian.open(model).path, Marian.open(model).step) == (model, 4200)
    raw = tmp_path / "model.npz.orig.npz"
    write_model(raw, vocabularies, seed=1)
    assert (Marian.open(model).path, Marian.open(model).step) == (raw, 4200)
    assert (Marian.open(raw).path, Marian.open(raw).step) == (raw, 4200)
    best = tmp_path / "model.npz.best-perplexity.npz"
    best.write_bytes(model.read_bytes())
    assert Marian.open(best).path == best


def test_the_weights_that_are_read_are_reported(tmp_path: Path, vocabularies: Path, cleaned: Path) -> None:
    models = [tmp_path / name for name in ("model.iter700.npz", "model.npz", "model.npz.orig.npz")]
    for seed, model in enumerate(models):
        write_model(model, vocabularies, seed=seed)
    options: dict[str, Any] = {"threads": 1, "quiet": True}
    plain = score(cleaned, checkpoints=f"m={models[0]}", out=tmp_path / "a", **options)
    message = "no .yml says whether its weights are smoothed (exponential-smoothing)"
    assert plain.notes == {"m": f"{models[0]}: {message}"}
    path = tmp_path / "model.npz.yml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "exponential-smoothing": 0.0001}))
    smoothed = score(cleaned, checkpoints=f"m={models[0]}", out=tmp_path / "b", **options)
    assert smoothed.notes == {
        "m": f"{models[0]}: smoothed weights; no file of raw weights (.orig.npz) is next to the file"
    }
    assert smoothed.manifests["m"]["checkpoint"]["smoothed"] is True
    raw = score(cleaned, checkpoints=models[1], out=tmp_path / "c", **options)
    assert raw.notes == {"model.npz": f"{models[2]}: raw weights instead of smoothed weights"}
    with pytest.raises(
        UsageError, match=r"iter700\.npz has smoothed weights, .*orig\.npz has raw weights: give checkpoints"
    ):
        score(cleaned, checkpoints=models[:2], out=tmp_path / "d", **options)


def test_unsupported_models_are_refused(tmp_path: Path, vocabularies: Path, cleaned: Path) -> None:
    model, options = tmp_path / "model.npz", {"out": tmp_path / "s", "threads": 1, "quiet": True}
    weights = write_model(model, vocabularies)
    settings = yaml.safe_load(model.with_name("model.npz.yml").read_text())
    for broken, message in (
        ({**weights, "decoder_Wemb": weights["decoder_Wemb"][:5]}, "5 embeddings on the target side"),
        ({**weights, "decoder_l1_rnn_W": weights["decoder_l1_self_Wq"]}, "belong to unsupported parts"),
        (
            {name: weight for name, weight in weights.items() if name != "decoder_l1_self_Wq"},
            "decoder_l1_self_Wq' are missing",
        ),
    ):
        save(model, broken, settings)
        with pytest.raises(CatpruneError, match=message):
            score(cleaned, checkpoints=model, **options)
    for changed, message in (
        ({"type": "s2s"}, "a model of type s2s"),
        ({"transformer-ffn-activation": "tanh"}, "activation tanh"),
        ({"transformer-ffn-activation": "gelu", "version": "v1.12.14"}, "only supported up to Marian 1.12.0"),
        ({"transformer-preprocess": "n", "version": "v1.9.0"}, "only supported from Marian 1.10 on"),
        ({"transformer-postprocess-top": "an"}, "with a are not supported"),
        ({"transformer-decoder-autoreg": "rnn"}, "decoder rnn: not supported"),
        ({"transformer-postprocess": "dhn"}, "only the operations d, a and n are supported"),
    ):
        save(model, weights, {**settings, **changed})
        with pytest.raises(CatpruneError, match=message):
            score(cleaned, checkpoints=model, **options)
    with model.open("wb") as stream:
        np.savez(stream, **{CONFIGURATION: np.array([{"a": 1}], dtype=object)})
    with pytest.raises(CatpruneError, match="holds pickled objects, which are not read"):
        score(cleaned, checkpoints=model, **options)
    with model.open("wb") as stream:
        np.savez(stream, **weights)
    with pytest.raises(CatpruneError, match=r"holds no special:model\.yml"):
        score(cleaned, checkpoints=model, **options)
    save(model, weights, settings)
    whole = model.read_bytes()
    place = whole.index(weights["decoder_l1_self_Wq"].tobytes())
    for damaged in (whole[:5000], whole[:place] + b"damage" + whole[place + 6 :]):
        model.write_bytes(damaged)
        with pytest.raises(CatpruneError, match=r"is damaged or not an \.npz"):
            score(cleaned, checkpoints=model, **options)
    save(model, weights, settings)
    (tmp_path / "de.spm").unlink()
    with pytest.raises(CatpruneError, match=r"the vocabulary /elsewhere/de\.spm does not exist"):
        score(cleaned, checkpoints=model, **options)
    with pytest.raises(UsageError, match="are only for checkpoints of transformers"):
        score(cleaned, checkpoints=model, prompt="{source}", **options)
