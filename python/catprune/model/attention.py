"""Attention over a batch in one of two forms: padded matrices, or sequences packed end to end.

The model is the same in both. CPUs run `Padded`. GPUs run `Packed`: no position is padding, and sequences of any
length share a batch. On CPUs a plain reference implementation of packed attention serves the tests, which then cover
everything but `_flash`.
"""

from __future__ import annotations

import inspect
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from catprune.workspace.device import send

if TYPE_CHECKING:
    from numpy.typing import NDArray

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # an older torch; see `has_packed`
    varlen_attn = None


class Form(Protocol):
    """The layout of the sequences of a batch in its tensors. Queries, keys and values are [..., heads, width]."""

    @property
    def source(self) -> Spans | None:
        """Spans of the sources; None if each source is a row of a matrix."""

    @property
    def target(self) -> Spans | None:
        """Spans of the targets; None if each target is a row of a matrix."""

    def within_source(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Let source tokens attend to their whole sequence."""
        ...

    def within_target(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Let target tokens attend to themselves and to earlier tokens."""
        ...

    def across(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Let target tokens attend to the source of their pair."""
        ...


@dataclass(frozen=True, slots=True)
class Padded:
    """Tensors [pairs, length, ...], padded on the right.

    Attributes:
        mask: bool [pairs, source length], True at tokens; None if no source is padded. Targets need no mask:
            causal attention never looks at padding on the right.
    """

    mask: Tensor | None = None
    source: None = None
    target: None = None

    def within_source(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `Form`."""
        return self._attend(query, key, value, mask=self.mask, causal=False)

    def within_target(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `Form`."""
        return self._attend(query, key, value, mask=None, causal=True)

    def across(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `Form`."""
        return self._attend(query, key, value, mask=self.mask, causal=False)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, causal: bool) -> Tensor:
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        mask = None if mask is None else mask[:, None, None]
        return attend(query, key, value, mask=mask, causal=causal).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, causal: bool) -> Tensor:
    """Compute attention over [batch, heads, length, width]; `mask` [batch, 1, 1, keys] is True at tokens."""
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
    # torch's fused CPU kernel takes seven times as long as these lines on short bfloat16 sequences.
    weights = query @ (key * query.shape[-1] ** -0.5).transpose(-1, -2)
    if causal:
        future = torch.ones(weights.shape[-2:], dtype=torch.bool, device=query.device).triu(1)
        weights = weights.masked_fill(future, -math.inf)
    if mask is not None:
        weights = weights.masked_fill(~mask, -math.inf)
    return weights.softmax(-1) @ value


@dataclass(frozen=True, slots=True)
class Spans:
    """The positions of packed sequences: sequence i is `offsets[i] : offsets[i + 1]`.

    Attributes:
        offsets: int32 [sequences + 1], on the device of the batch.
        places: the position of each token in its sequence, int64 [tokens], on the same device.
        ends: the offsets as Python numbers, so that no code waits for the device.
        longest: number of tokens of the longest sequence.
    """

    offsets: Tensor
    places: Tensor
    ends: tuple[int, ...]
    longest: int

    def __post_init__(self) -> None:
        """Refuse inconsistent values, with which the kernel would read beyond its tensors."""
        lengths = [end - first for first, end in itertools.pairwise(self.ends)]
        if min(lengths) < 1 or max(lengths) != self.longest or len(self.offsets) != len(self.ends):
            raise ValueError(
                f"spans of lengths {min(lengths)} to {max(lengths)} cannot have a longest of {self.longest}"
            )

    @classmethod
    def of(cls, lengths: NDArray[np.int64], *, device: str | torch.device = "cpu") -> Spans:
        """Build spans from the lengths of the sequences, int64 [sequences], each at least 1."""
        ends = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)
        return cls(send(ends.astype(np.int32), device), send(places, device), tuple(ends.tolist()), int(lengths.max()))


@dataclass(frozen=True, slots=True)
class Packed:
    """Tensors [tokens, ...]: the sequences of each side end to end, both sides in the same order of pairs."""

    source: Spans
    target: Spans

    def within_source(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `Form`."""
        return attend_packed(query, key, value, queries=self.source, keys=self.source, causal=False)

    def within_target(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `Form`."""
        return attend_packed(query, key, value, queries=self.target, keys=self.target, causal=True)

    def across(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `Form`."""
        return attend_packed(query, key, value, queries=self.target, keys=self.source, causal=False)


def attend_packed(query: Tensor, key: Tensor, value: Tensor, *, queries: Spans, keys: Spans, causal: bool) -> Tensor:
    """Compute attention of each sequence of `queries` to its counterpart in `keys`, over [tokens, heads, width]."""
    if query.device.type != "cpu":
        return _flash(query, key, value, queries=queries, keys=keys, causal=causal)
    mixed = torch.empty_like(query)
    bounds = zip(itertools.pairwise(queries.ends), itertools.pairwise(keys.ends), strict=True)
    for (first, end), (key_first, key_end) in bounds:
        parts = query[first:end], key[key_first:key_end], value[key_first:key_end]
        output = attend(*(part.transpose(0, 1)[None] for part in parts), mask=None, causal=causal)
        mixed[first:end] = output[0].transpose(0, 1)
    return mixed


def has_packed(device: str, dtype: torch.dtype) -> bool:
    """Whether `_flash` can run: a GPU of compute capability 8 or more, 16-bit numbers, a torch with the kernel."""
    if device != "cuda" or varlen_attn is None or dtype not in (torch.float16, torch.bfloat16):
        return False
    if "num_splits" not in inspect.signature(varlen_attn).parameters:  # as in the first versions of the kernel
        return False
    return torch.cuda.get_device_capability()[0] >= 8


def _flash(query: Tensor, key: Tensor, value: Tensor, *, queries: Spans, keys: Spans, causal: bool) -> Tensor:
    """Compute `attend_packed` with torch's GPU kernel.

    All requirements of the kernel are checked here, because tests on fake tensors would accept every wrong call.
    """
    if varlen_attn is None:
        raise RuntimeError("this torch has no attention over packed sequences")
    width, device = query.shape[-1], query.device
    problems = {
        f"numbers are {query.dtype}, {key.dtype}, {value.dtype}, not one of float16 and bfloat16": not (
            query.dtype == key.dtype == value.dtype and query.dtype in (torch.float16, torch.bfloat16)
        ),
        f"a head has {width} numbers, not a multiple of 8 up to 256": width % 8 != 0 or not 0 < width <= 256,
        f"shapes are {list(query.shape)}, {list(key.shape)}, {list(value.shape)}": not (
            query.dim() == key.dim() == 3 and key.shape == value.shape and query.shape[1:] == key.shape[1:]
        ),
        "offsets are not int32": not queries.offsets.dtype == keys.offsets.dtype == torch.int32,
        "offsets and numbers are on different devices": not (
            queries.offsets.device == keys.offsets.device == key.device == value.device == device
        ),
        f"{len(queries.offsets) - 1} sequences attend to {len(keys.offsets) - 1}": (
            len(queries.offsets) != len(keys.offsets)
        ),
        "offsets do not cover the tokens": (queries.ends[-1], keys.ends[-1]) != (len(query), len(key)),
        "causal attention is between different sequences": causal and queries is not keys,
    }
    if violated := [problem for problem, holds in problems.items() if holds]:
        raise ValueError(f"attention over packed sequences: {'; '.join(violated)}")
    # One split: the result of a pair must not depend on the other pairs of its batch.
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        mixed = varlen_attn(
            query,
            key,
            value,
            queries.offsets,
            keys.offsets,
            queries.longest,
            keys.longest,
            window_size=(-1, 0) if causal else (-1, -1),
            num_splits=1,
        )
    assert isinstance(mixed, Tensor)  # a tuple only if auxiliary results are requested
    return mixed
