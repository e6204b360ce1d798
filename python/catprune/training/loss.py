"""The loss of a model as one module: smoothed cross-entropy over the target tokens, with weights of pairs if needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from catprune.model.output_layer import smoothed_loss, weighted_loss

if TYPE_CHECKING:
    from torch import Tensor

    from catprune.model.attention import Form
    from catprune.model.transformer import Transformer
    from catprune.workspace.device import Device


class Loss(nn.Module):
    """A model and its loss as one module, which DDP wraps."""

    def __init__(self, model: Transformer, *, smoothing: float, device: Device, of_tokens: bool) -> None:
        super().__init__()
        self.model, self.smoothing, self.device, self.of_tokens = model, smoothing, device, of_tokens

    def forward(
        self,
        source: Tensor,
        inputs: Tensor,
        targets: Tensor,
        places: Tensor,
        form: Form,
        weights: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return sums over the target tokens, float64 [2]: the smoothed loss, and the nll without gradient.

        Weights apply to both. With `of_tokens` the second result is the unweighted nll of each token, float32
        [tokens], else None.

        Args:
            source, inputs, targets: ids as in `Batch`, in the layout of `form`.
            places: indices of the tokens that count in the flattened targets, int64 [tokens].
            form: the layout of the sequences.
            weights: weights of the tokens, float32 [tokens]; None: all 1. Without `of_tokens` it must be None.
        """
        with self.device.autocast():
            hidden = self.model(source, inputs, form)
        hidden = hidden.flatten(0, -2).index_select(0, places)
        gold, matrix = targets.flatten().index_select(0, places), self.model.embedding.weight
        smoothing, dtype = self.smoothing, self.device.dtype
        if not self.of_tokens:
            return torch.stack(smoothed_loss(hidden, matrix, gold, smoothing=smoothing, dtype=dtype)), None
        *sums, nlls = weighted_loss(hidden, matrix, gold, weights, smoothing=smoothing, dtype=dtype)
        return torch.stack(sums), nlls
