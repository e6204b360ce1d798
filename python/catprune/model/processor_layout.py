"""A model's matrices in the layout of the processor's own kernels, made once for all batches that are scored."""

from __future__ import annotations

import platform
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from catprune.model.batches import ROW_STEP
from catprune.model.transformer import FeedForward, Transformer

# The layout depends on how many rows are multiplied at once; kernels take any number of them.
_ROWS = 512
_KERNELS: Any = torch.ops.mkldnn


class LaidOut(nn.Module):
    """A linear layer without a bias, with the ReLU behind it where there is one; its products are of type `dtype`.

    Plain float32 products go to another library than oneDNN, whose kernels are faster where the matrix is in their
    layout; and in bfloat16 autocast would convert every matrix again for every batch. The operators are those that
    torch's compiler uses for models that are no longer trained.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, *, relu: bool = False) -> None:
        super().__init__()
        self.dtype, self.behind = dtype, "relu" if relu else "none"
        self.matrix: Tensor = _KERNELS._reorder_linear_weight(linear.weight.detach().to(dtype), _ROWS)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        rows = x.to(self.dtype).flatten(0, -2)
        return _product(rows, self.matrix, self.behind).unflatten(0, x.shape[:-1])


class LaidOutTypes:
    """The output matrix, some types at a time: what `output.token_statistics` multiplies with.

    Args:
        matrix: [vocabulary, d_model].
        dtype: of the products.
        types: of one tile.
    """

    def __init__(self, matrix: Tensor, dtype: torch.dtype, *, types: int) -> None:
        self.dtype, self.types = dtype, types
        self._tiles: list[Tensor] = [
            _KERNELS._reorder_linear_weight(part.detach().to(dtype).contiguous(), _ROWS) for part in matrix.split(types)
        ]

    def multiply(self, x: Tensor, low: int) -> Tensor:
        """[tokens, d_model] to [tokens, types], of the tile that begins with type `low`."""
        return _product(x, self._tiles[low // self.types], "none")


def _product(rows: Tensor, matrix: Tensor, behind: str) -> Tensor:
    # The library keeps code and memory for every number of rows that it meets: most of a gigabyte for those of a
    # thousand batches.
    missing = -len(rows) % ROW_STEP
    padded = F.pad(rows, (0, 0, 0, missing)) if missing else rows
    product: Tensor = _KERNELS._linear_pointwise(padded, matrix, None, behind, [], "")
    return product[: len(rows)]


def has_layout(dtype: torch.dtype) -> bool:
    """Whether this torch and this processor have the kernels."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return False
    names = ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported")
    if not all(hasattr(_KERNELS, name) for name in names):
        return False
    return dtype == torch.float32 or bool(_KERNELS._is_mkldnn_bf16_supported())


def lay_out(model: Transformer, dtype: torch.dtype) -> None:
    """Bring all matrices but the embedding into the layout, in place: the model can only be run from here on."""
    for module in list(model.modules()):
        fused = isinstance(module, FeedForward)
        for name, part in list(module.named_children()):
            if isinstance(part, nn.Linear):
                setattr(module, name, LaidOut(part, dtype, relu=fused and name == "inner"))
        if fused:
            module.activate = nn.Identity()
