"""The training loss on GPUs, in one Triton kernel: the losses of logits, whose gradients take the logits' place."""

# Triton does not accept annotations of other modules in a kernel.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

#: Vocabulary entries of a tile, and warps. A program is one token.
BLOCK, WARPS = 4096, 8


@triton.jit
def rows_of_gradients(
    logits, targets, weights, out, tokens, entries, smoothing, has_weights: tl.constexpr, block: tl.constexpr
):
    """Compute, for one token, what `take_gradients` returns, in two passes over its logits.

    Args:
        logits: pointer to [tokens, entries], contiguous; read and written.
        targets: pointer to int64 [tokens].
        weights: pointer to float32 [tokens], read if `has_weights`.
        out: pointer to float32 [2, tokens]: smoothed loss, nll.
        tokens, entries: sizes.
        smoothing: share of the target distribution that is spread over the vocabulary.
        has_weights: whether the gradients are multiplied with weights.
        block: entries of a tile.
    """
    token = tl.program_id(0)
    target = tl.load(targets + token)
    row = logits + token.to(tl.int64) * entries
    most = tl.full((block,), -3.0e38, tl.float32)
    total = tl.zeros((block,), tl.float32)
    added = tl.zeros((block,), tl.float32)
    gold = tl.zeros((block,), tl.float32)
    for low in range(0, entries, block):
        columns = low + tl.arange(0, block)
        is_entry = columns < entries
        z = tl.load(row + columns, mask=is_entry, other=float("-inf")).to(tl.float32)
        larger = tl.maximum(most, z)
        total = total * tl.exp(most - larger) + tl.exp(z - larger)
        most = larger
        added += tl.where(is_entry, z, 0.0)
        # Not loaded by its place: another warp may have written that place by then.
        gold += tl.where(columns == target, z, 0.0)
    largest = tl.max(most, axis=0)
    log_total = tl.log(tl.sum(total * tl.exp(most - largest), axis=0)) + largest
    gold_logit = tl.sum(gold, axis=0)
    tl.store(out + token, log_total - (1 - smoothing) * gold_logit - smoothing * (tl.sum(added, axis=0) / entries))
    tl.store(out + tokens + token, log_total - gold_logit)
    weight = tl.load(weights + token) if has_weights else 1.0
    for low in range(0, entries, block):
        columns = low + tl.arange(0, block)
        is_entry = columns < entries
        z = tl.load(row + columns, mask=is_entry, other=float("-inf")).to(tl.float32)
        wanted = smoothing / entries + tl.where(columns == target, 1 - smoothing, 0.0)
        gradient = (tl.exp(z - log_total) - wanted) * weight
        tl.store(row + columns, gradient.to(logits.dtype.element_ty), mask=is_entry)


def take_gradients(
    logits: Tensor, targets: Tensor, weights: Tensor | None, *, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Replace logits by the gradients of their smoothed cross-entropies; return these and the nll of each token.

    Args:
        logits: [tokens, vocabulary], contiguous, float32, bfloat16 or float16; replaced.
        targets: int64 [tokens], each in the vocabulary.
        weights: float32 [tokens], multiplied with the gradients alone; None: 1.
        smoothing: the share of the target distribution that is spread over the vocabulary.

    Returns:
        Two tensors without weights, float32 [tokens].

    Raises:
        ValueError: shapes, dtypes, devices or strides are others.
    """
    parts = [logits, targets, *([] if weights is None else [weights])]
    is_valid = (
        logits.dim() == 2
        and logits.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and (targets.shape, targets.dtype) == (logits.shape[:1], torch.int64)
        and (weights is None or (weights.shape, weights.dtype) == (logits.shape[:1], torch.float32))
        and all(part.is_contiguous() and part.device == logits.device for part in parts)
    )
    if not is_valid:
        described = ", ".join(f"{part.dtype} {tuple(part.shape)} on {part.device}" for part in parts)
        raise ValueError(f"the fused loss cannot read {described}")
    tokens, entries = logits.shape
    out = torch.empty(2, tokens, dtype=torch.float32, device=logits.device)
    if tokens:
        launch: Any = rows_of_gradients[(tokens,)]
        launch(
            logits,
            targets,
            out if weights is None else weights,
            out,
            tokens,
            entries,
            smoothing,
            has_weights=weights is not None,
            block=BLOCK,
            num_warps=WARPS,
            enable_fp_fusion=True,
        )
    smoothed, nll = out.unbind()
    return smoothed, nll
