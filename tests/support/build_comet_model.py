"""Builds a tiny COMET model for quality estimation and scores pairs only with the library: FOLDER, with pairs.json.

Runs in the environment of comet_worker.py. FOLDER/model is the model as it is downloaded, FOLDER/encoder what its
hyper-parameters name, FOLDER/expected.json the scores. FOLDER/reference is a model that reads references,
FOLDER/expected_metric.json its scores with each pair's reference taken from the pair before it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytorch_lightning
import sentencepiece
import torch
import yaml
from comet import load_from_checkpoint
from comet.models import ReferencelessRegression, RegressionMetric
from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizer, XLMRobertaTokenizerFast

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def build_encoder(folder: Path, texts: list[str], *, types: int = 120, longest: int = 64, **sizes: int) -> None:
    """A tiny XLM-R, or one of other sizes, with a SentencePiece model of the texts."""
    folder.mkdir()
    pieces = folder / "sentencepiece.bpe.model"
    with pieces.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts * 5),
            model_writer=stream,
            vocab_size=types,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    tokenizer = XLMRobertaTokenizerFast.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert tokenizer(texts[0])["input_ids"] == XLMRobertaTokenizer(str(pieces))(texts[0])["input_ids"]
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=longest + 2,
        type_vocab_size=1,
        initializer_range=0.02 if sizes else 0.3,
        **(sizes or TINY),
    )
    XLMRobertaModel(config).save_pretrained(folder)


def save(
    folder: Path, kind: type[RegressionMetric], name: str, encoder: Path, *, hidden: tuple[int, ...] = (16,)
) -> Path:
    """A model in Lightning's format, with its hyper-parameters."""
    options = {"nr_frozen_epochs": 0, "hidden_sizes": list(hidden), "layer": "mix", "layer_norm": True, "pool": "avg"}
    model = kind(encoder_model="XLM-RoBERTa", pretrained_model=str(encoder), local_files_only=True, **options)
    trainer = pytorch_lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(model)
    path = folder / "checkpoints" / "model.ckpt"
    path.parent.mkdir(parents=True)
    trainer.save_checkpoint(path, weights_only=True)
    hparams = {key: value for key, value in model.hparams.items() if not key.endswith("_data")}
    (folder / "hparams.yaml").write_text(yaml.dump({**hparams, "class_identifier": name}))
    return path


def main() -> None:
    """Build and score."""
    folder = Path(sys.argv[1])
    pairs = json.loads((folder / "pairs.json").read_text())
    torch.manual_seed(1)
    build_encoder(folder / "encoder", [text for pair in pairs for text in pair])
    path = save(folder / "model", ReferencelessRegression, "referenceless_regression_metric", folder / "encoder")
    metric = save(folder / "reference", RegressionMetric, "regression_metric", folder / "encoder")
    samples = [{"src": source, "mt": target} for source, target in pairs]
    scores = load_from_checkpoint(str(path)).predict(samples, gpus=0, progress_bar=False).scores
    (folder / "expected.json").write_text(json.dumps(scores))
    # Each target is translated like that of the pair before it.
    samples = [{**sample, "ref": pairs[place - 1][1]} for place, sample in enumerate(samples)]
    scores = load_from_checkpoint(str(metric)).predict(samples, gpus=0, progress_bar=False).scores
    (folder / "expected_metric.json").write_text(json.dumps(scores))


if __name__ == "__main__":
    main()
