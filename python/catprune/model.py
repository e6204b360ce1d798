"""The translation model: one encoder-decoder transformer, and how many operations it takes.

Pre-norm layers without biases, ReLU, sinusoidal absolute positions, one embedding for source, target and output
(Vaswani et al. 2017, arXiv 1706.03762; pre-norm: Xiong et al. 2020, arXiv 2002.04745), as CTranslate2 knows them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from catprune.recipe import Size


def sinusoids(length: int, width: int) -> Tensor:
    """Position encodings, float32 [length, width]: sines in the first half of the width, cosines in the second."""
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float64) * (-math.log(10000.0) / max(half - 1, 1)))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def attend(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, causal: bool) -> Tensor:
    """Scaled dot-product attention over [batch, heads, length, width]; `mask` [batch, 1, 1, keys] is True at tokens."""
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
    # torch's fused kernel for processors takes seven times as long as these lines on short bfloat16 sequences.
    weights = query @ (key * query.shape[-1] ** -0.5).transpose(-1, -2)
    if causal:
        future = torch.ones(weights.shape[-2:], dtype=torch.bool, device=query.device).triu(1)
        weights = weights.masked_fill(future, -math.inf)
    if mask is not None:
        weights = weights.masked_fill(~mask, -math.inf)
    return weights.softmax(-1) @ value


class Attention(nn.Module):
    """Multi-head attention of `x` to itself, or to `memory` where one is given."""

    def __init__(self, size: Size, *, cross: bool) -> None:
        super().__init__()
        self.heads = size.heads
        width = size.d_model
        if cross:
            self.query = nn.Linear(width, width, bias=False)
            self.key_value = nn.Linear(width, 2 * width, bias=False)
        else:
            self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, memory: Tensor | None = None, *, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """[batch, length, d_model] to the same."""
        if memory is None:
            query, key, value = self.query_key_value(x).chunk(3, dim=-1)
        else:
            query = self.query(x)
            key, value = self.key_value(memory).chunk(2, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        mixed = attend(query, key, value, mask=mask, causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two matrices with a ReLU between."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.inner = nn.Linear(size.d_model, size.ffn, bias=False)
        self.outer = nn.Linear(size.ffn, size.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, d_model] to the same."""
        return self.outer(F.relu(self.inner(x)))


class Layer(nn.Module):
    """One layer of the encoder, or of the decoder (which also attends to the encoder's output)."""

    def __init__(self, size: Size, *, cross: bool, dropout: float) -> None:
        super().__init__()
        self.cross = cross
        self.self_norm, self.self_attention = nn.LayerNorm(size.d_model), Attention(size, cross=False)
        if cross:
            self.cross_norm, self.cross_attention = nn.LayerNorm(size.d_model), Attention(size, cross=True)
        self.ffn_norm, self.ffn = nn.LayerNorm(size.d_model), FeedForward(size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor | None, mask: Tensor | None) -> Tensor:
        """[batch, length, d_model] to the same."""
        if self.cross:  # of the decoder: targets are padded on the right, which causal attention never sees
            x = x + self.dropout(self.self_attention(self.self_norm(x), causal=True))
            x = x + self.dropout(self.cross_attention(self.cross_norm(x), memory, mask=mask))
        else:
            x = x + self.dropout(self.self_attention(self.self_norm(x), mask=mask))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


class Transformer(nn.Module):
    """The model. `embedding.weight` [vocabulary, d_model] is also the output matrix, without a bias."""

    positions: Tensor

    def __init__(self, size: Size, *, vocab_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.size, self.vocab_size = size, vocab_size
        self.embedding = nn.Embedding(vocab_size, size.d_model)
        self.encoder = nn.ModuleList(Layer(size, cross=False, dropout=dropout) for _ in range(size.encoder_layers))
        self.decoder = nn.ModuleList(Layer(size, cross=True, dropout=dropout) for _ in range(size.decoder_layers))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(size.d_model), nn.LayerNorm(size.d_model)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("positions", sinusoids(512, size.d_model), persistent=False)
        nn.init.normal_(self.embedding.weight, std=size.d_model**-0.5)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def embed(self, ids: Tensor) -> Tensor:
        """Ids [batch, length] as vectors with their positions, float32 [batch, length, d_model]."""
        if ids.shape[1] > len(self.positions):
            self.positions = sinusoids(2 * ids.shape[1], self.size.d_model).to(ids.device)
        return self.dropout(self.embedding(ids) * self.size.d_model**0.5 + self.positions[: ids.shape[1]])

    def encode(self, source: Tensor, mask: Tensor | None = None) -> Tensor:
        """The encoder's output, [batch, source, d_model]; `mask` is True at tokens, None where there is no padding."""
        mask = None if mask is None else mask[:, None, None]
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, None, mask)
        return self.encoder_norm(x)

    def decode(self, memory: Tensor, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """The vectors that the output matrix multiplies, [batch, target, d_model].

        Args:
            memory: the encoder's output, [batch, source, d_model].
            inputs: int64 [batch, target]: the start symbol, then the target without its last token.
            mask: bool [batch, source], as given to `encode`.
        """
        mask = None if mask is None else mask[:, None, None]
        x = self.embed(inputs)
        for layer in self.decoder:
            x = layer(x, memory, mask)
        return self.decoder_norm(x)

    def forward(self, source: Tensor, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """`decode` after `encode`."""
        return self.decode(self.encode(source, mask), inputs, mask)


def count_parameters(model: nn.Module) -> int:
    """Trained numbers, the shared embedding once."""
    return sum(parameter.numel() for parameter in model.parameters())


def forward_flops(
    size: Size, *, vocab_size: int, pairs: int, source: int, target: int, outputs: int | None = None
) -> float:
    """Floating-point operations of one forward pass, from shapes: matrix products only, a multiply-add being two.

    A backward pass takes twice as many. Causal attention is counted in full, as it is computed.

    Args:
        size: the model's shape.
        vocab_size: types.
        pairs: sequences in the batch.
        source: padded source length.
        target: padded target length.
        outputs: target positions at which the output matrix is applied (None: all).
    """
    d, ffn = size.d_model, size.ffn
    encoder = source * (8 * d * d + 4 * d * ffn) + 4 * source * source * d
    decoder = target * (12 * d * d + 4 * d * ffn) + source * 4 * d * d + 4 * target * (target + source) * d
    layers = size.encoder_layers * encoder + size.decoder_layers * decoder
    return float(pairs * layers + 2 * d * vocab_size * (pairs * target if outputs is None else outputs))
