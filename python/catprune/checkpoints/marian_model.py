"""The transformer of Marian-NMT, built from its configuration and its weights; fairseq's differs in few conventions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from catprune.model.attention import Padded
from catprune.model.transformer import sinusoids

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from catprune.model.attention import Form


def _gelu(x: Tensor) -> Tensor:
    """Compute Marian's GELU up to version 1.12.0; later versions use the error function."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "swish": F.silu, "gelu": _gelu}


@dataclass(frozen=True)
class Conventions:
    """What tools with the same architecture compute differently; the defaults are Marian's.

    Attributes:
        epsilon: added to a variance before the square root.
        activations: functions that are not those of Marian, by name.
        positions: float32 [positions, d_model] of sources and of targets; None: sinusoids from 0.
    """

    epsilon: float = 1e-9
    activations: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    positions: tuple[Tensor, Tensor] | None = None


def _embedding(matrix: Tensor, start: int) -> nn.Embedding:
    """Build an embedding, with additional rows of zeros if start symbol and padding have none."""
    return nn.Embedding.from_pretrained(F.pad(matrix, (0, 0, 0, max(0, start + 1 - len(matrix)))))


def _suffix(kind: str) -> str:
    """Return the suffix of normalization weights; to Marian, "postprocess-emb" is preprocessing, too."""
    return "_pre" if kind in ("preprocess", "postprocess-emb") else ""


def _version(options: dict[str, Any]) -> tuple[int, ...]:
    match = re.match(r"v?([0-9]+)\.([0-9]+)\.?([0-9]*)", str(options.get("version", "")))
    return tuple(int(part or 0) for part in match.groups()) if match else (0, 0, 0)


class MarianModel(nn.Module):
    """The model, with pre-norm or post-norm layers (`transformer-preprocess`, `transformer-postprocess`).

    Attributes:
        output_matrix: float32 [vocabulary, d_model].
        output_bias: float32 [vocabulary].
        vocab_sizes: vocabulary sizes of source and target.
    """

    encoder_positions: Tensor
    decoder_positions: Tensor
    output_bias: Tensor
    vocab_sizes: tuple[int, int]

    def __init__(
        self,
        weights: dict[str, NDArray[np.float32]],
        options: dict[str, Any],
        *,
        start: int,
        conventions: Conventions | None = None,
    ) -> None:
        """Build the model from its weights.

        Args:
            weights: the weights by Marian's names.
            options: the configuration.
            start: id of the decoder's start symbol; its embedding is zero if the weights have none.
            conventions: of the tool that trained the model; None: Marian's.

        Raises:
            KeyError: a weight is missing.
            ValueError: the configuration or the weights have unsupported parts.
        """
        super().__init__()
        self._used: set[str] = set()
        own, is_marian = conventions or Conventions(), conventions is None
        self.epsilon = own.epsilon
        self._given = {name: torch.from_numpy(value) for name, value in weights.items()}
        self.heads = int(options["transformer-heads"])
        self.depths = {"encoder": int(options["enc-depth"]), "decoder": int(options["dec-depth"])}
        kinds = ("preprocess", "postprocess", "postprocess-emb", "postprocess-top")
        self.steps = {kind: str(options.get(f"transformer-{kind}") or "") for kind in kinds}
        if any(set(steps) - set("dan") for steps in self.steps.values()):
            raise ValueError(f"{self.steps}: only the operations d, a and n are supported")
        if "a" in self.steps["postprocess-emb"] + self.steps["postprocess-top"]:
            raise ValueError("transformer-postprocess-emb and transformer-postprocess-top with a are not supported")
        if is_marian and "n" in self.steps["preprocess"] and _version(options) < (1, 10):
            raise ValueError("transformer-preprocess with n is only supported from Marian 1.10 on")
        activation = str(options.get("transformer-ffn-activation", "swish"))
        if (
            activation not in ACTIVATIONS
            or options.get("transformer-decoder-autoreg", "self-attention") != "self-attention"
        ):
            raise ValueError(
                f"activation {activation}, decoder {options.get('transformer-decoder-autoreg')}: not supported"
            )
        if is_marian and activation == "gelu" and not (1, 0, 0) <= _version(options) <= (1, 12, 0):
            raise ValueError("gelu is only supported up to Marian 1.12.0; later versions compute it differently")
        self.activation = {**ACTIVATIONS, **own.activations}[activation]
        self.weights = nn.ParameterDict()
        for side, depth in self.depths.items():
            self._take_side(side, depth)
        source, target = (self._take_embedding(f"{side}_Wemb") for side in ("encoder", "decoder"))
        self.source_embedding, self.target_embedding = _embedding(source, start), _embedding(target, start)
        tied = options.get("tied-embeddings") or options.get("tied-embeddings-all")
        matrix = target if tied else self._take_output()
        self.vocab_sizes = (len(source), len(matrix))
        self.output_matrix = nn.Parameter(matrix, requires_grad=False)
        self.register_buffer("output_bias", self._take("decoder_ff_logit_out_b").flatten().clone(), persistent=False)
        positions = own.positions or (sinusoids(512, source.shape[1]),) * 2
        for side, table in zip(self.depths, positions, strict=True):
            self.register_buffer(f"{side}_positions", table, persistent=False)
        if unknown := sorted(set(self._given) - self._used):
            raise ValueError(f"the weights {', '.join(unknown[:4])} belong to unsupported parts")
        del self._given

    def _take(self, name: str) -> Tensor:
        self._used.add(name)
        return self._given[name]

    def _take_embedding(self, name: str) -> Tensor:
        return self._take(name if name in self._given else "Wemb")

    def _take_output(self) -> Tensor:
        """Return the output matrix, [vocabulary, d_model]; old versions store it transposed."""
        name = "decoder_ff_logit_out_W"
        return self._take(name).T.contiguous() if name in self._given else self._take(f"{name}t")

    def _take_side(self, side: str, depth: int) -> None:
        names: list[str] = []
        for layer in range(1, depth + 1):
            blocks = ["self", "context"] if side == "decoder" else ["self"]
            for block in blocks:
                prefix = f"{side}_l{layer}_{block}"
                names += [f"{prefix}_{kind}{part}" for kind in "Wb" for part in "qkvo"]
                names += self._norms(f"{prefix}_Wo")
            prefix = f"{side}_l{layer}_ffn"
            names += [f"{prefix}_{kind}{part}" for kind in "Wb" for part in "12"]
            names += self._norms(f"{prefix}_ffn")
        for place in ("emb", "top"):
            if "n" in self.steps[f"postprocess-{place}"]:
                names += [f"{side}_{place}_ln_{part}{_suffix(f'postprocess-{place}')}" for part in ("scale", "bias")]
        for name in names:
            self.weights[name] = nn.Parameter(self._take(name), requires_grad=False)

    def _norms(self, prefix: str) -> list[str]:
        suffixes = [end for kind, end in (("preprocess", "_pre"), ("postprocess", "")) if "n" in self.steps[kind]]
        return [f"{prefix}_ln_{part}{suffix}" for suffix in suffixes for part in ("scale", "bias")]

    def _wrap(self, kind: str, prefix: str, x: Tensor, before: Tensor | None = None) -> Tensor:
        """Apply the operations around a block: add `before` (a) and normalize (n); dropout (d) is off."""
        for step in self.steps[kind]:
            if step == "a" and before is not None:
                x = x + before
            elif step == "n":
                end = _suffix(kind)
                scale, bias = (self.weights[f"{prefix}_ln_{part}{end}"].flatten() for part in ("scale", "bias"))
                x = F.layer_norm(x, scale.shape, scale, bias, self.epsilon)
        return x

    def _attend(self, prefix: str, x: Tensor, memory: Tensor | None = None, *, causal: bool = False) -> Tensor:
        inputs = self._wrap("preprocess", f"{prefix}_Wo", x)
        keys = inputs if memory is None else memory
        parts: list[Tensor] = []
        for part, values in zip("qkv", (inputs, keys, keys), strict=True):
            projected = values @ self.weights[f"{prefix}_W{part}"] + self.weights[f"{prefix}_b{part}"]
            parts.append(projected.unflatten(-1, (self.heads, -1)).transpose(1, 2))
        query, key, value = parts
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=causal).transpose(1, 2).flatten(-2)
        mixed = mixed @ self.weights[f"{prefix}_Wo"] + self.weights[f"{prefix}_bo"]
        return self._wrap("postprocess", f"{prefix}_Wo", mixed, x)

    def _feed(self, prefix: str, x: Tensor) -> Tensor:
        inner = self._wrap("preprocess", f"{prefix}_ffn", x) @ self.weights[f"{prefix}_W1"]
        inner = self.activation(inner + self.weights[f"{prefix}_b1"])
        outer = inner @ self.weights[f"{prefix}_W2"] + self.weights[f"{prefix}_b2"]
        return self._wrap("postprocess", f"{prefix}_ffn", outer, x)

    def _side(self, side: str, embedding: nn.Embedding, ids: Tensor, memory: Tensor | None = None) -> Tensor:
        length, width = ids.shape[1], embedding.embedding_dim
        positions = self.get_buffer(f"{side}_positions")[:length]
        x = self._wrap("postprocess-emb", f"{side}_emb", embedding(ids) * width**0.5 + positions)
        for layer in range(1, self.depths[side] + 1):
            x = self._attend(f"{side}_l{layer}_self", x, causal=side == "decoder")
            if memory is not None:
                x = self._attend(f"{side}_l{layer}_context", x, memory)
            x = self._feed(f"{side}_l{layer}_ffn", x)
        return self._wrap("postprocess-top", f"{side}_top", x)

    def forward(self, source: Tensor, inputs: Tensor, form: Form) -> Tensor:
        """Return the vectors for the output matrix, [pairs, target length, d_model].

        Args:
            source: ids of equal length, int64 [pairs, source length].
            inputs: the start symbol, then the target without its last token, int64 [pairs, target length].
            form: `transformer.UNMASKED`; other layouts are not supported.
        """
        assert isinstance(form, Padded) and form.mask is None
        memory = self._side("encoder", self.source_embedding, source)
        return self._side("decoder", self.target_embedding, inputs, memory)

    def flops(self, *, source: NDArray[np.int64], target: NDArray[np.int64], outputs: int) -> float:
        """Count the FLOPs of one forward pass without attention: two per weight and position."""
        numbers = dict.fromkeys(self.depths, 0)
        for name, weight in self.weights.items():
            numbers[name.split("_", 1)[0]] += weight.numel()
        layers = float(source.sum()) * numbers["encoder"] + float(target.sum()) * numbers["decoder"]
        return 2.0 * (layers + float(self.output_matrix.numel()) * outputs)
