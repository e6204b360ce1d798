"""Presets: shapes of the built-in transformer, and the operations and parameters that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from catprune.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Size:
    """The shape of a transformer: width, heads, feed-forward width, layers of each side."""

    d_model: int
    heads: int
    ffn: int
    encoder_layers: int
    decoder_layers: int


PRESETS = {
    "tiny": Size(128, 4, 512, 2, 2),
    "small": Size(256, 4, 1024, 3, 3),
    "base": Size(512, 8, 2048, 6, 6),
    "big": Size(1024, 16, 4096, 6, 6),
}


def find_size(preset: str) -> Size:
    """Return the size of a preset.

    Raises:
        UsageError: the preset is unknown.
    """
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset}: give one of {', '.join(PRESETS)}")
    return PRESETS[preset]


def forward_flops(
    size: Size, *, vocab_size: int, source: NDArray[np.int64], target: NDArray[np.int64], outputs: int
) -> float:
    """Count the FLOPs of one forward pass from shapes: matrix products only, two per multiply-add.

    A backward pass takes twice as many. Causal attention is counted in full because it is computed in full.

    Args:
        size: the model's shape.
        vocab_size: vocabulary size.
        source: source positions of each pair, with padding, int64 [pairs].
        target: target positions of each pair, with padding, int64 [pairs].
        outputs: number of target positions at which the output matrix is applied.
    """
    d, ffn = size.d_model, size.ffn
    encoder = source * (8 * d * d + 4 * d * ffn) + 4 * source * source * d
    decoder = target * (12 * d * d + 4 * d * ffn) + source * 4 * d * d + 4 * target * (target + source) * d
    layers = size.encoder_layers * encoder + size.decoder_layers * decoder
    return float(layers.sum() + 2 * d * vocab_size * outputs)
