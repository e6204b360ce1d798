"""Presets: shapes of the built-in transformer."""

from __future__ import annotations

from dataclasses import dataclass

from catprune.errors import UsageError


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
