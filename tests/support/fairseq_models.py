"""Tiny transformers of fairseq with random weights, in the files that fairseq writes."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch

WIDTH, FFN, POSITIONS = 16, 32, 40
WORDS = {
    "en": ["the", "cat", "sat", "a", "dog", "two", "wor@@", "ds", "again"],
    "de": ["die", "katze", "ein", "hund", "zwei"],
}
PAIRS = [
    ("the cat sat", "die katze"),
    ("a dog", "ein hund"),
    ("two wor@@ ds again", "zwei"),
    ("a zebra cat", "eine katze hund"),
]
#: The variants that are tested, by name: options of the model.
VARIANTS: dict[str, dict[str, Any]] = {
    "post-norm": {},
    "pre-norm": {"encoder_normalize_before": True, "decoder_normalize_before": True, "activation_fn": "gelu"},
    "pre-norm, early": {"encoder_normalize_before": True, "decoder_normalize_before": True, "version": 1},
    "learned": {
        "encoder_learned_pos": True,
        "decoder_learned_pos": True,
        "layernorm_embedding": True,
        "share_decoder_input_output_embed": False,
    },
}


def options(**changed: Any) -> dict[str, Any]:
    """The options of a model by fairseq's names."""
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {
            "embed_dim": WIDTH,
            "ffn_embed_dim": FFN,
            "attention_heads": 2,
            "normalize_before": False,
            "learned_pos": False,
            "layerdrop": 0.0,
        }.items()
    }
    return {
        "arch": "transformer",
        **sides,
        "encoder_layers": 2,
        "decoder_layers": 1,
        "decoder_input_dim": WIDTH,
        "decoder_output_dim": WIDTH,
        "activation_fn": "relu",
        "dropout": 0.1,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "share_decoder_input_output_embed": True,
        "share_all_embeddings": False,
        "layernorm_embedding": False,
        "no_scale_embedding": False,
        "no_token_positional_embeddings": False,
        "no_cross_attention": False,
        "cross_self_attention": False,
        "adaptive_input": False,
        "adaptive_softmax_cutoff": None,
        "max_source_positions": POSITIONS,
        "max_target_positions": POSITIONS,
        **changed,
    }


def write_model(
    path: Path, *, task: dict[str, Any] | None = None, version: int = 3, seed: int = 0, **changed: Any
) -> Path:
    """A checkpoint with random weights, and its dictionaries next to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = options(**changed)
    random = np.random.default_rng(seed)
    weights: dict[str, torch.Tensor] = {}

    def put(name: str, *shape: int, mean: float = 0.0) -> None:
        weights[name] = torch.from_numpy(random.normal(mean, 0.3, shape).astype(np.float32))

    def norm(name: str) -> None:
        put(f"{name}.weight", WIDTH, mean=1.0)
        put(f"{name}.bias", WIDTH)

    for side, language in (("encoder", "en"), ("decoder", "de")):
        words = WORDS[language]
        (path.parent / f"dict.{language}.txt").write_text("".join(f"{word} {9 - n}\n" for n, word in enumerate(words)))
        weights[f"{side}.version"] = torch.tensor([float(version)])
        put(f"{side}.embed_tokens.weight", len(words) + 4, WIDTH)
        if chosen[f"{side}_learned_pos"]:
            put(f"{side}.embed_positions.weight", POSITIONS + 2, WIDTH)
        if chosen["layernorm_embedding"]:
            norm(f"{side}.layernorm_embedding")
        for layer in range(chosen[f"{side}_layers"]):
            prefix = f"{side}.layers.{layer}"
            for block in ("self_attn", "encoder_attn") if side == "decoder" else ("self_attn",):
                for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
                    put(f"{prefix}.{block}.{part}.weight", WIDTH, WIDTH)
                    put(f"{prefix}.{block}.{part}.bias", WIDTH)
                norm(f"{prefix}.{block}_layer_norm")
            for part, shape in (("fc1", (FFN, WIDTH)), ("fc2", (WIDTH, FFN))):
                put(f"{prefix}.{part}.weight", *shape)
                put(f"{prefix}.{part}.bias", shape[0])
            norm(f"{prefix}.final_layer_norm")
        if chosen[f"{side}_normalize_before"]:
            norm(f"{side}.layer_norm")
    embedded = weights["decoder.embed_tokens.weight"]
    weights["decoder.output_projection.weight"] = embedded
    if not chosen["share_decoder_input_output_embed"]:
        put("decoder.output_projection.weight", *embedded.shape)
    configuration = {
        "_name": None,
        "model": Namespace(**chosen),
        "task": {"_name": "translation", "data": "elsewhere", "source_lang": "en", "target_lang": "de"} | (task or {}),
    }
    history = [{"num_updates": 300, "optimizer_name": "FairseqAdam"}, {"num_updates": 700}]
    torch.save({"args": None, "cfg": configuration, "model": weights, "optimizer_history": history}, path)
    return path
