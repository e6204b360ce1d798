"""Matrices in the layout of oneDNN's CPU kernels, converted once for all batches of scoring."""

from __future__ import annotations

import platform
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from catprune.model.batches import ROW_STEP
from catprune.model.transformer import FeedForward, Transformer

# The layout depends on an expected number of rows; the kernels accept any number.
_ROWS = 512
_KERNELS: Any = torch.ops.mkldnn


class LaidOut(nn.Module):
    """A linear layer without bias, with an optional fused ReLU; products have the type `dtype`.

    Plain float32 products do not use oneDNN, whose kernels are faster on matrices in its layout. In bfloat16, autocast
    would convert every matrix again for every batch. torch's compiler uses the same operators for frozen models.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, *, relu: bool = False) -> None:
        super().__init__()
        self.dtype, self.behind = dtype, "relu" if relu else "none"
        self.matrix: Tensor = _KERNELS._reorder_linear_weight(linear.weight.detach().to(dtype), _ROWS)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., inputs] to [..., outputs]."""
        rows = x.to(self.dtype).flatten(0, -2)
        return _product(rows, self.matrix, self.behind).unflatten(0, x.shape[:-1])


class LaidOutEntries:
    """The output matrix in tiles of vocabulary entries, for `output_layer.token_statistics`.

    Args:
        matrix: [vocabulary, d_model].
        dtype: dtype of the products.
        entries: vocabulary entries of one tile.
    """

    def __init__(self, matrix: Tensor, dtype: torch.dtype, *, entries: int) -> None:
        self.dtype, self.entries = dtype, entries
        self._tiles: list[Tensor] = [
            _KERNELS._reorder_linear_weight(part.detach().to(dtype).contiguous(), _ROWS)
            for part in matrix.split(entries)
        ]

    def multiply(self, x: Tensor, low: int) -> Tensor:
        """Multiply x [tokens, d_model] with the tile that starts at entry `low`: logits [tokens, entries]."""
        return _product(x, self._tiles[low // self.entries], "none")


def _product(rows: Tensor, matrix: Tensor, behind: str) -> Tensor:
    # The library caches code and memory for each different number of rows: almost a gigabyte for a thousand batches.
    missing = -len(rows) % ROW_STEP
    padded = F.pad(rows, (0, 0, 0, missing)) if missing else rows
    product: Tensor = _KERNELS._linear_pointwise(padded, matrix, None, behind, [], "")
    return product[: len(rows)]


def has_layout(dtype: torch.dtype) -> bool:
    """Whether this torch and this CPU have the kernels."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return False
    names = ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported")
    if not all(hasattr(_KERNELS, name) for name in names):
        return False
    return dtype == torch.float32 or bool(_KERNELS._is_mkldnn_bf16_supported())


def lay_out(model: Transformer, dtype: torch.dtype) -> None:
    """Convert all matrices but the embedding in place; the model can then only be run, not trained."""
    for module in list(model.modules()):
        fused = isinstance(module, FeedForward)
        for name, part in list(module.named_children()):
            if isinstance(part, nn.Linear):
                setattr(module, name, LaidOut(part, dtype, relu=fused and name == "inner"))
        if fused:
            module.activate = nn.Identity()
