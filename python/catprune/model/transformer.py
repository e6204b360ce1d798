"""The translation model: an encoder-decoder transformer.

Pre-norm layers without biases, ReLU, sinusoidal absolute positions, one embedding for source, target and output
(Vaswani et al. 2017, arXiv 1706.03762; pre-norm: Xiong et al. 2020, arXiv 2002.04745). CTranslate2 supports this model.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from catprune.model.attention import Padded
from catprune.model.sizes import forward_flops

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from catprune.model.attention import Form, Spans
    from catprune.model.sizes import Size

    Attend = Callable[[Tensor, Tensor, Tensor], Tensor]

#: Sequences of equal length.
UNMASKED = Padded()


def sinusoids(length: int, width: int) -> Tensor:
    """Compute position encodings, float32 [length, width]: sines in the first half, cosines in the second."""
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float64) * (-math.log(10000.0) / max(half - 1, 1)))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


class Attention(nn.Module):
    """Multi-head attention of `x` to itself, or to `memory` if given."""

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

    def forward(self, x: Tensor, attend: Attend, memory: Tensor | None = None) -> Tensor:
        """Map [..., d_model] to the same shape."""
        if memory is None:
            query, key, value = self.query_key_value(x).chunk(3, dim=-1)
        else:
            query = self.query(x)
            key, value = self.key_value(memory).chunk(2, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)) for part in (query, key, value))
        return self.out(attend(query, key, value).flatten(-2))


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.inner = nn.Linear(size.d_model, size.ffn, bias=False)
        self.outer = nn.Linear(size.ffn, size.d_model, bias=False)
        self.activate: nn.Module = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., d_model] to the same shape."""
        return self.outer(self.activate(self.inner(x)))


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

    def forward(self, x: Tensor, form: Form, memory: Tensor | None = None) -> Tensor:
        """Map [..., d_model] to the same shape."""
        attend = form.within_target if self.cross else form.within_source
        x = x + self.dropout(self.self_attention(self.self_norm(x), attend))
        if self.cross:
            x = x + self.dropout(self.cross_attention(self.cross_norm(x), form.across, memory))
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

    def narrow(self, dtype: torch.dtype) -> None:
        """Convert the layers to `dtype`, and with them the vectors between them.

        Embeddings, which are also the output matrix, stay float32. LayerNorm and softmax accumulate in float32.
        """
        for part in (self.encoder, self.decoder, self.encoder_norm, self.decoder_norm):
            part.to(dtype)

    def embed(self, ids: Tensor, spans: Spans | None = None) -> Tensor:
        """Embed ids, int64 [...] ([pairs, length] without `spans`), with positions: [..., d_model].

        The sum is float32, and is converted to the dtype of the layers.
        """
        longest = ids.shape[-1] if spans is None else spans.longest
        if longest > len(self.positions):
            self.positions = sinusoids(2 * longest, self.size.d_model).to(ids.device)
        positions = self.positions[:longest] if spans is None else self.positions[spans.places]
        x = self.embedding(ids) * self.size.d_model**0.5 + positions
        return self.dropout(x.to(self.encoder_norm.weight.dtype))

    def encode(self, source: Tensor, form: Form = UNMASKED) -> Tensor:
        """Run the encoder on ids, int64 [pairs, length] or packed as in `form`: [..., d_model]."""
        x = self.embed(source, form.source)
        for layer in self.encoder:
            x = layer(x, form)
        return self.encoder_norm(x)

    def decode(self, memory: Tensor, inputs: Tensor, form: Form = UNMASKED) -> Tensor:
        """Run the decoder: the vectors for the output matrix, [..., d_model].

        Args:
            memory: the encoder's output.
            inputs: for each pair the start symbol, then the target without its last token, int64 [...].
            form: the same as for `encode`.
        """
        x = self.embed(inputs, form.target)
        for layer in self.decoder:
            x = layer(x, form, memory)
        return self.decoder_norm(x)

    def forward(self, source: Tensor, inputs: Tensor, form: Form = UNMASKED) -> Tensor:
        """Run encoder and decoder; see `decode`."""
        return self.decode(self.encode(source, form), inputs, form)

    @property
    def output_matrix(self) -> Tensor:
        """The shared embedding, float32 [vocabulary, d_model]."""
        return self.embedding.weight

    @property
    def vocab_sizes(self) -> tuple[int, int]:
        """Vocabulary sizes of source and target."""
        return self.vocab_size, self.vocab_size

    @property
    def output_bias(self) -> None:
        """None: the model has no output bias."""
        return

    def flops(self, *, source: NDArray[np.int64], target: NDArray[np.int64], outputs: int) -> float:
        """See `forward_flops`."""
        return forward_flops(self.size, vocab_size=self.vocab_size, source=source, target=target, outputs=outputs)


def count_parameters(model: nn.Module) -> int:
    """Count the parameters; the shared embedding counts once."""
    return sum(parameter.numel() for parameter in model.parameters())
