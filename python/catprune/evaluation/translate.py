"""Translation with a native checkpoint: CTranslate2 runs its weights, its own tokenizer splits the text."""

from __future__ import annotations

import shutil
import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import encode
from catprune.checkpoints.native import Checkpoint, load_tensors, read_checkpoint
from catprune.errors import CatpruneError, UsageError, require
from catprune.workspace.device import require_torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

# Longest source in tokens; CTranslate2 truncates longer ones. The position table has this length.
_LONGEST_SOURCE = 1024
# Lines tokenized and passed on at once; CTranslate2 sorts them by length.
_LINES = 4096


def translate(
    checkpoint: str | Path,
    lines: Iterable[str],
    *,
    beam: int = 4,
    longest: int = 256,
    batch_tokens: int = 4096,
    threads: int | None = None,
) -> list[str]:
    """Translate lines of text by beam search.

    Args:
        checkpoint: the folder of a native checkpoint.
        lines: source sentences without line ends; empty lines are translated, too.
        beam: hypotheses kept at each step; 1 is greedy.
        longest: largest number of tokens of a translation; short sources have a lower limit.
        batch_tokens: largest number of source tokens of a batch, with padding.
        threads: CPU threads; None is CTranslate2's default.

    Returns:
        One translation per line.

    Raises:
        UsageError: an option is invalid.
        CatpruneError: `checkpoint` is not a native checkpoint.
        MissingExtra: torch or ctranslate2 is not installed.
    """
    for name, number in {"beam": beam, "longest": longest, "batch_tokens": batch_tokens}.items():
        if number < 1:
            raise UsageError(f"{name} is {number}: give at least 1")
    _require()
    import ctranslate2
    from tokenizers import Tokenizer

    native = read_checkpoint(checkpoint)
    tokenizer = Tokenizer.from_file(str(native.path / "tokenizer.json"))
    ids = tokenizer.get_vocab()
    names = {id: token for token, id in ids.items()}
    translations: list[str] = []
    with tempfile.TemporaryDirectory(prefix="catprune-") as temporary:
        model = export(checkpoint, Path(temporary) / "model")
        translator: Any = ctranslate2.Translator(str(model), device="auto", intra_threads=threads or 0)
        remaining = iter(lines)
        while chunk := list(islice(remaining, _LINES)):
            hypotheses: list[list[int]] = [[] for _ in chunk]
            encoded = encode(native.path / "tokenizer.json", chunk)
            sources = [[names[id] for id in line] for line in encoded]
            for limit, places in _by_limit(sources, longest).items():
                results = translator.translate_batch(
                    [sources[place] for place in places],
                    beam_size=beam,
                    max_decoding_length=limit,
                    max_input_length=_LONGEST_SOURCE,
                    max_batch_size=batch_tokens,
                    batch_type="tokens",
                )
                for place, result in zip(places, results, strict=True):
                    hypotheses[place] = [ids[token] for token in result.hypotheses[0]]
            translations += [line.strip() for line in tokenizer.decode_batch(hypotheses)]
    return translations


def _by_limit(sources: list[list[str]], longest: int) -> dict[int, list[int]]:
    """Group the positions of sources by length limit: twice the next power of two of their length, plus 16 tokens.

    Without the limit, a model that has not learned to stop would write `longest` tokens for every line.
    """
    limits: dict[int, list[int]] = {}
    for place, source in enumerate(sources):
        limit = min(longest, 2 * (1 << max(0, len(source) - 1).bit_length()) + 16)
        limits.setdefault(limit, []).append(place)
    return limits


def export(checkpoint: str | Path, folder: str | Path) -> Path:
    """Write a native checkpoint as a float32 CTranslate2 model folder; the folder appears only when complete.

    Args:
        checkpoint: the folder of a native checkpoint.
        folder: a new folder.

    Raises:
        CatpruneError: `checkpoint` is not a native checkpoint, or `folder` exists.
        MissingExtra: torch or ctranslate2 is not installed.
    """
    _require()
    native, path = read_checkpoint(checkpoint), Path(folder)
    if path.exists():
        raise CatpruneError(f"{path} exists: give a new folder")
    spec = _make_spec(native)
    temporary = path.with_name(path.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    spec.validate()
    spec.optimize()
    spec.save(str(temporary))
    temporary.rename(path)
    return path


def _require() -> None:
    require_torch()
    require("evaluate", "ctranslate2")


def _make_spec(checkpoint: Checkpoint) -> Any:
    """Build CTranslate2's model specification with the weights."""
    from ctranslate2.specs import TransformerSpec
    from tokenizers import Tokenizer

    size, special = checkpoint.size, checkpoint.tokenizer
    layers = (size["encoder_layers"], size["decoder_layers"])
    spec: Any = TransformerSpec.from_config(layers, size["heads"], pre_norm=True)
    _fill(spec, _numpy_tensors(checkpoint), size)
    tokenizer = Tokenizer.from_file(str(checkpoint.path / "tokenizer.json"))
    names = {i: name for name, i in tokenizer.get_vocab().items()}
    # Ids may have gaps; every row of the embedding needs a unique name.
    vocabulary = [names.get(i, f"<unused {i}>") for i in range(special.vocab_size)]
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.config.bos_token = spec.config.decoder_start_token = vocabulary[special.bos_id]
    spec.config.eos_token = vocabulary[special.eos_id]
    spec.config.unk_token = vocabulary[special.pad_id]  # byte-level: no token is unknown, but a name is required
    spec.config.add_source_eos = False  # the tokenizer's post-processor appends it
    return spec


def _numpy_tensors(checkpoint: Checkpoint) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.float().numpy() for name, tensor in load_tensors(checkpoint.weights)[0].items()}


def _fill(spec: Any, tensors: dict[str, NDArray[np.float32]], size: dict[str, int]) -> None:
    """Fill every part of the spec; our fused matrices have CTranslate2's order."""
    from catprune.model.transformer import sinusoids

    positions = sinusoids(_LONGEST_SOURCE, size["d_model"]).numpy()
    embedding = tensors["embedding.weight"]
    spec.encoder.embeddings[0].weight = spec.decoder.embeddings.weight = embedding
    spec.decoder.projection.weight = embedding
    for name, side in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        side.scale_embeddings = True
        side.position_encodings.encodings = positions
        _fill_norm(side.layer_norm, tensors, f"{name}_norm")
        for i, layer in enumerate(side.layer):
            _fill_layer(layer, tensors, f"{name}.{i}", cross=name == "decoder")


def _fill_layer(layer: Any, tensors: dict[str, NDArray[np.float32]], name: str, *, cross: bool) -> None:
    parts: list[tuple[Any, str, tuple[str, ...]]] = [(layer.self_attention, "self", ("query_key_value", "out"))]
    if cross:
        parts.append((layer.attention, "cross", ("query", "key_value", "out")))
    for attention, kind, matrices in parts:
        _fill_norm(attention.layer_norm, tensors, f"{name}.{kind}_norm")
        for linear, matrix in zip(attention.linear, matrices, strict=True):
            linear.weight = tensors[f"{name}.{kind}_attention.{matrix}.weight"]
    _fill_norm(layer.ffn.layer_norm, tensors, f"{name}.ffn_norm")
    layer.ffn.linear_0.weight = tensors[f"{name}.ffn.inner.weight"]
    layer.ffn.linear_1.weight = tensors[f"{name}.ffn.outer.weight"]


def _fill_norm(norm: Any, tensors: dict[str, NDArray[np.float32]], name: str) -> None:
    norm.gamma, norm.beta = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
