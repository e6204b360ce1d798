"""Translating text with a native checkpoint: its weights as a CTranslate2 model, its tokenizer around it."""

from __future__ import annotations

import shutil
import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.checkpoints.native import Checkpoint, load_tensors, read_checkpoint
from catprune.errors import CatpruneError, UsageError, require
from catprune.workspace.device import require_torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

# The longest source; CTranslate2 cuts longer ones. Its position table must reach as far.
_LONGEST_SOURCE = 1024
# Lines that are tokenized and handed over at once: CTranslate2 sorts them by length.
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
    """Translate lines of text by beam search, one line for each.

    Args:
        checkpoint: the folder of a native checkpoint.
        lines: source text without line ends; an empty line is translated as the model sees fit.
        beam: hypotheses kept at each step; 1 is greedy.
        longest: most tokens of a translation; short sources have a lower limit.
        batch_tokens: most source tokens of a batch, padding counted.
        threads: of the processor (None: as CTranslate2 has it).

    Raises:
        UsageError: options that cannot be meant.
        CatpruneError: not a native checkpoint.
        MissingExtra: torch or ctranslate2 is not installed.
    """
    for name, number in {"beam": beam, "longest": longest, "batch-tokens": batch_tokens}.items():
        if number < 1:
            raise UsageError(f"{name} is {number}: give at least 1")
    _require()
    import ctranslate2
    from tokenizers import Tokenizer

    read = read_checkpoint(checkpoint)
    tokenizer = Tokenizer.from_file(str(read.path / "tokenizer.json"))
    tokenizer.no_truncation()  # as in tokenizing: a line is translated whole
    tokenizer.no_padding()
    ids = tokenizer.get_vocab()
    translations: list[str] = []
    with tempfile.TemporaryDirectory(prefix="catprune-") as temporary:
        model = export(checkpoint, Path(temporary) / "model")
        translator: Any = ctranslate2.Translator(str(model), device="auto", intra_threads=threads or 0)
        remaining = iter(lines)
        while chunk := list(islice(remaining, _LINES)):
            found: list[list[int]] = [[] for _ in chunk]
            sources = [encoding.tokens for encoding in tokenizer.encode_batch(chunk)]
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
                    found[place] = [ids[token] for token in result.hypotheses[0]]
            translations += [line.strip() for line in tokenizer.decode_batch(found)]
    return translations


def _by_limit(sources: list[list[str]], longest: int) -> dict[int, list[int]]:
    """Places of the sources by how long their translation may get: twice the next power of two of their length, and 16.

    A model that has not learnt to stop would otherwise write `longest` tokens for every line.
    """
    limits: dict[int, list[int]] = {}
    for place, source in enumerate(sources):
        limit = min(longest, 2 * (1 << max(0, len(source) - 1).bit_length()) + 16)
        limits.setdefault(limit, []).append(place)
    return limits


def export(checkpoint: str | Path, folder: str | Path) -> Path:
    """Write a native checkpoint as a CTranslate2 model folder, float32; it has its name only when it is whole.

    Args:
        checkpoint: the folder of a native checkpoint.
        folder: a new folder.

    Raises:
        CatpruneError: not a native checkpoint, or `folder` exists.
        MissingExtra: torch or ctranslate2 is not installed.
    """
    _require()
    read, path = read_checkpoint(checkpoint), Path(folder)
    if path.exists():
        raise CatpruneError(f"{path} exists: give a new folder")
    spec = _make_spec(read)
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
    """CTranslate2's description of the model, filled with the weights."""
    from ctranslate2.specs import TransformerSpec
    from tokenizers import Tokenizer

    size, special = checkpoint.size, checkpoint.tokenizer
    layers = (size["encoder_layers"], size["decoder_layers"])
    spec: Any = TransformerSpec.from_config(layers, size["heads"], pre_norm=True)
    _fill(spec, _numpy_tensors(checkpoint), size)
    tokenizer = Tokenizer.from_file(str(checkpoint.path / "tokenizer.json"))
    names = {i: name for name, i in tokenizer.get_vocab().items()}
    # Ids may have gaps; every place of the table needs a name of its own.
    vocabulary = [names.get(i, f"<unused {i}>") for i in range(special.vocab_size)]
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.config.bos_token = spec.config.decoder_start_token = vocabulary[special.bos_id]
    spec.config.eos_token = vocabulary[special.eos_id]
    spec.config.unk_token = vocabulary[special.pad_id]  # byte-level: nothing is unknown, but a name is asked for
    spec.config.add_source_eos = False  # the tokenizer's post-processor appends it
    return spec


def _numpy_tensors(checkpoint: Checkpoint) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.float().numpy() for name, tensor in load_tensors(checkpoint.weights)[0].items()}


def _fill(spec: Any, tensors: dict[str, NDArray[np.float32]], size: dict[str, int]) -> None:
    """Give every part of the spec its weights; our fused matrices have CTranslate2's order."""
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
