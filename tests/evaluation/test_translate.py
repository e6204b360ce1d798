"""CTranslate2 with our weights against our own model: scores and greedy decoding."""

import json
import shutil
from pathlib import Path

import ctranslate2
import pytest
import torch
from catprune.checkpoints.native import load_model, read_checkpoint
from catprune.errors import CatpruneError, UsageError
from catprune.evaluation.translate import export, translate
from catprune.tokens.tokenizer import describe_tokenizer
from catprune.training.train import train
from support.synthetic import BOS, EOS, make_tokenizer, read_ids, sentences, write_tokens


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tokens folder and a checkpoint after a few updates."""
    folder = tmp_path_factory.mktemp("translate")
    write_tokens(folder / "tokens", longest=4)
    options = {"steps": 60, "warmup_steps": 20, "batch_tokens": 512, "threads": 1, "precision": "float32"}
    train(folder / "tokens", out=folder / "warmup", quiet=True, **options)
    return folder


@torch.inference_mode()
def greedy(model, ids, longest):
    """The most probable continuation, token by token."""
    output = [BOS]
    while output[-1] != EOS and len(output) <= longest:
        hidden = model(torch.tensor([ids]), torch.tensor([output]))
        output.append(int((hidden[0, -1] @ model.embedding.weight.T).argmax()))
    return [i for i in output[1:] if i != EOS]


def test_ctranslate2_gives_our_probabilities(trained, tmp_path):
    checkpoint = trained / "warmup/step-60"
    translator = ctranslate2.Translator(str(export(checkpoint, tmp_path / "model")), intra_threads=1)
    model, name = load_model(read_checkpoint(checkpoint)), make_tokenizer().id_to_token
    pairs = list(read_ids(trained / "tokens"))[:50]
    names = [[[name(i) for i in side] for side in sides] for _, *sides in pairs]
    results = translator.score_batch([source for source, _ in names], [target[:-1] for _, target in names])
    for (_, source, target), result in zip(pairs, results, strict=True):
        with torch.inference_mode():
            hidden = model(torch.tensor([source]), torch.tensor([[BOS, *target[:-1]]]))[0]
            ours = (hidden @ model.embedding.weight.T).log_softmax(1)[range(len(target)), target]
        assert result.log_probs == pytest.approx(ours.tolist(), abs=1e-4)


def test_greedy_translation_is_our_models(trained):
    checkpoint = trained / "warmup/step-60"
    lines = ["", *sentences(20, seed=7, longest=4)[0], "ein Wort, das länger ist 🐈"]
    translations = translate(checkpoint, iter(lines), beam=1, longest=12, threads=1)
    tokenizer, model = make_tokenizer(), load_model(read_checkpoint(checkpoint))
    outputs = [greedy(model, tokenizer.encode(line).ids, 12) for line in lines]
    assert translations == [tokenizer.decode(output).strip() for output in outputs]
    assert len(set(translations)) > 5


def test_a_line_is_translated_whole_despite_truncation_in_the_tokenizer_file(trained, tmp_path):
    """A user's tokenizer file may truncate and pad, and may have ids without tokens."""
    checkpoint = trained / "warmup/step-60"
    lines = ["abcdefgh", "d", ""]
    expected = translate(checkpoint, lines, beam=1, longest=12, threads=1)
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    tokenizer = make_tokenizer()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=20, pad_token="<pad>")
    settings = json.loads(tokenizer.to_str())
    del settings["model"]["vocab"]["\u0120"]  # the space, which these lines do without
    (copy / "tokenizer.json").write_text(json.dumps(settings))
    assert translate(copy, lines, beam=1, longest=12, threads=1) == expected
    assert describe_tokenizer(copy / "tokenizer.json")["eos_id"] == EOS


def test_beam_search_translates_every_line(trained):
    translations = translate(trained / "warmup/step-60", ["abc", "d"] * 3, longest=12, threads=1)
    assert translations[:2] * 3 == translations and all(translations)


def test_refusals(trained, tmp_path):
    checkpoint = trained / "warmup/step-60"
    with pytest.raises(UsageError, match="beam is 0"):
        translate(checkpoint, ["a"], beam=0)
    with pytest.raises(CatpruneError, match="is not a checkpoint"):
        translate(tmp_path, ["a"])
    with pytest.raises(CatpruneError, match="exists: give a new folder"):
        export(checkpoint, tmp_path)
