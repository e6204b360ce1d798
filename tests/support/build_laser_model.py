"""Builds a tiny LASER2 and embeds pairs only with the library: FOLDER, with pairs.json.

Runs in the environment of laser_worker.py. FOLDER/model is the model as it is downloaded, FOLDER/expected.json the
cosines.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from laser_encoders import LaserEncoderPipeline
from laser_encoders.models import LaserLstmEncoder

TINY = {"embed_dim": 16, "hidden_size": 24, "num_layers": 2}


def build(folder: Path, texts: list[str], *, types: int = 120, **sizes: int) -> None:
    """A tiny LSTM, or one of other sizes, with a SentencePiece model of the texts."""
    folder.mkdir()
    with (folder / "laser2.spm").open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([text.lower() for text in texts] * 5),
            model_writer=stream,
            vocab_size=types,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "laser2.spm"))
    names = [pieces.id_to_piece(number) for number in range(3, pieces.get_piece_size())]
    (folder / "laser2.cvocab").write_text("".join(f"{name} 1\n" for name in names))
    dictionary = {name: number for number, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", *names])}
    params = {"num_embeddings": len(dictionary), "padding_idx": 1, "left_pad": True, "padding_value": 0.0}
    params |= {"bidirectional": True, **(sizes or TINY)}
    encoder = LaserLstmEncoder(**params)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.normal_(0, 0.05 if sizes else 0.5)
    torch.save({"params": params, "model": encoder.state_dict(), "dictionary": dictionary}, folder / "laser2.pt")


def main() -> None:
    """Build and embed."""
    folder = Path(sys.argv[1])
    pairs = json.loads((folder / "pairs.json").read_text())
    torch.manual_seed(1)
    build(folder / "model", [text for pair in pairs for text in pair])
    encoder = LaserEncoderPipeline(laser="laser2", model_dir=str(folder / "model"))
    sources, targets = (encoder.encode_sentences(list(side)) for side in zip(*pairs, strict=True))
    products = (sources * targets).sum(axis=1)
    cosines = products / np.linalg.norm(sources, axis=1) / np.linalg.norm(targets, axis=1)
    (folder / "expected.json").write_text(json.dumps(cosines.tolist()))


if __name__ == "__main__":
    main()
