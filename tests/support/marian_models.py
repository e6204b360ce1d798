"""Tiny models of Marian-NMT with random weights, in the files that Marian writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import yaml
from catprune.checkpoints.marian import CONFIGURATION

WIDTH, FFN = 16, 32
PAIRS = [
    ("the cat sat", "die katze"),
    ("a dog", "ein hund"),
    ("two words again", "zwei"),
    ("a cat", "eine katze rennt"),
]


def train_vocabularies(folder: Path) -> Path:
    """Two SentencePiece models with the special ids that Marian trains them with."""
    for place, language in enumerate(("en", "de")):
        (folder / language).write_text("".join(f"{pair[place]}\n" for pair in PAIRS * 30))
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / language),
            model_prefix=str(folder / language),
            vocab_size=30 + 3 * place,
            hard_vocab_limit=False,
            bos_id=-1,
            eos_id=0,
            unk_id=1,
            minloglevel=2,
        )
    return folder


def pieces(vocabularies: Path, language: str) -> Any:
    return sentencepiece.SentencePieceProcessor(model_file=str(vocabularies / f"{language}.spm"))


def write_model(path: Path, vocabularies: Path, *, seed: int = 0, **changed: Any) -> dict[str, np.ndarray]:
    """A model file with random weights, as Marian names them."""
    for language in ("en", "de"):
        source = vocabularies / f"{language}.model"
        (vocabularies / f"{language}.spm").write_bytes(source.read_bytes())
        (path.parent / f"{language}.spm").write_bytes(source.read_bytes())
    options: dict[str, Any] = {
        "type": "transformer",
        "dim-emb": WIDTH,
        "enc-depth": 2,
        "dec-depth": 1,
        "transformer-heads": 2,
        "transformer-ffn-activation": "relu",
        "transformer-preprocess": "",
        "transformer-postprocess": "dan",
        "transformer-postprocess-emb": "d",
        "transformer-decoder-autoreg": "self-attention",
        "tied-embeddings": True,
        "tied-embeddings-all": False,
        "transformer-no-projection": False,
        "transformer-guided-alignment-layer": "last",
        "version": "v1.11.0",
        **changed,
    }
    random = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}

    def put(name: str, *shape: int, mean: float = 0.0) -> None:
        weights[name] = random.normal(mean, 0.3, shape).astype(np.float32)

    def norms(prefix: str) -> None:
        for kind, suffix in (("transformer-preprocess", "_pre"), ("transformer-postprocess", "")):
            if "n" in options[kind]:
                put(f"{prefix}_ln_scale{suffix}", 1, WIDTH, mean=1.0)
                put(f"{prefix}_ln_bias{suffix}", 1, WIDTH)

    sizes = [pieces(vocabularies, language).get_piece_size() for language in ("en", "de")]
    for side, size, depth in (("encoder", sizes[0], options["enc-depth"]), ("decoder", sizes[1], options["dec-depth"])):
        put(f"{side}_Wemb", size, WIDTH)
        for layer in range(1, depth + 1):
            for block in ("self", "context") if side == "decoder" else ("self",):
                for part in "qkvo":
                    put(f"{side}_l{layer}_{block}_W{part}", WIDTH, WIDTH)
                    put(f"{side}_l{layer}_{block}_b{part}", 1, WIDTH)
                norms(f"{side}_l{layer}_{block}_Wo")
            for part, shape in (("1", (WIDTH, FFN)), ("2", (FFN, WIDTH))):
                put(f"{side}_l{layer}_ffn_W{part}", *shape)
                put(f"{side}_l{layer}_ffn_b{part}", 1, shape[1])
            norms(f"{side}_l{layer}_ffn_ffn")
        if "n" in options["transformer-postprocess-emb"]:
            put(f"{side}_emb_ln_scale_pre", 1, WIDTH, mean=1.0)
            put(f"{side}_emb_ln_bias_pre", 1, WIDTH)
        if "n" in options.get("transformer-postprocess-top", ""):
            put(f"{side}_top_ln_scale", 1, WIDTH, mean=1.0)
            put(f"{side}_top_ln_bias", 1, WIDTH)
    put("decoder_ff_logit_out_b", 1, sizes[1])
    if not options["tied-embeddings"]:
        put("decoder_ff_logit_out_Wt", sizes[1], WIDTH)
    save(path, weights, options)
    return weights


def save(path: Path, weights: dict[str, np.ndarray], options: dict[str, Any]) -> None:
    configuration = np.frombuffer(yaml.safe_dump(options).encode() + b"\0", np.int8)
    with path.open("wb") as stream:
        np.savez(stream, **{CONFIGURATION: configuration}, **weights)
    vocabs = ["/elsewhere/en.spm", "/elsewhere/de.spm"]
    path.with_name(re.sub(r"\.iter\d+", "", f"{path.name}.yml")).write_text(
        yaml.safe_dump({**options, "vocabs": vocabs})
    )
