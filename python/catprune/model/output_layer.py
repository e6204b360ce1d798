"""The output layer in chunks: training loss and raw statistics without a tokens x vocabulary matrix in memory."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

# Logits in memory at once in training (the whole vocabulary of some tokens). With fewer tokens, accumulating the
# gradient of the matrix takes longer than the products.
_CHUNK = {"cpu": 1 << 22, "cuda": 1 << 26}
# Tokens and logits in memory at once in scoring: 1 MB of float32 stays in the cache of a CPU core, and several hundred
# tokens reach the full speed of the product.
_TILE = 1 << 9, 1 << 18
# Tokens that the fused kernel takes at once: enough blocks for every part of a GPU.
_FUSED = 1 << 14
#: Vocabulary entries, and tokens, of a tile on CPUs if the matrix is in the layout of the kernels.
LAID_OUT_TILE = 1 << 9


def _rows(device: torch.device, vocab_size: int) -> int:
    return max(1, _CHUNK.get(device.type, _CHUNK["cpu"]) // vocab_size)


def _tile(tokens: int, vocab_size: int) -> tuple[int, int]:
    """Return the numbers of tokens and vocabulary entries whose logits are in memory at once."""
    most, logits = _TILE
    entries = min(vocab_size, max(1, logits // max(1, min(tokens, most))))
    return max(1, logits // entries), entries


@cache
def _has_kernel(device: str) -> bool:
    """Whether the kernels of this module run on such a device; torch has Triton on some systems only."""
    return device == "cuda" and find_spec("triton") is not None


def _fused_gradients(
    logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `_gradients` in the place of the logits."""
    from catprune.model.fused_loss import take_gradients

    smoothed, nll = take_gradients(logits, targets, weights, smoothing=smoothing)
    return smoothed, nll, logits


def _gradients(
    logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the losses of logits [tokens, vocabulary], and gradients in their dtype, multiplied with the weights.

    float32 logits are overwritten.

    Returns:
        The loss with label smoothing and the nll, float32 [tokens] without weights; and the gradients.
    """
    dtype, gold, logits = logits.dtype, targets[:, None], logits.float()
    gold_logit = logits.gather(1, gold)
    mean_logit = logits.mean(1, keepdim=True)
    largest = logits.amax(1, keepdim=True)
    total = logits.sub_(largest).exp_().sum(1, keepdim=True)
    log_total = total.log() + largest
    smoothed = log_total - (1 - smoothing) * gold_logit - smoothing * mean_logit
    gradient = logits.div_(total).sub_(smoothing / logits.shape[1])
    gradient.scatter_add_(1, gold, torch.full_like(gold_logit, smoothing - 1))
    if weights is not None:
        gradient = gradient.mul_(weights[:, None])
    return smoothed[:, 0], (log_total - gold_logit)[:, 0], gradient.to(dtype)


class _SmoothedLoss(torch.autograd.Function):
    """The loss and its gradients in one pass over the chunks: no logits are kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        matrix: Tensor,
        targets: Tensor,
        smoothing: float,
        dtype: torch.dtype,
        counts: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        vocab_size = len(matrix)
        weights = matrix.to(dtype)
        hidden_gradient = torch.empty_like(hidden)
        matrix_gradient = torch.zeros_like(matrix)
        sums = torch.zeros(2, dtype=torch.float64, device=hidden.device)
        nlls = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        step = _rows(hidden.device, vocab_size)
        gradients_of = _fused_gradients if _has_kernel(hidden.device.type) else _gradients
        for first in range(0, len(hidden), step):
            x = hidden[first : first + step].to(dtype)
            gold = targets[first : first + step]
            weight = None if counts is None else counts[first : first + step]
            smoothed, nll, gradient = gradients_of(x @ weights.T, gold, weight, smoothing)
            nlls[first : first + step] = nll
            if weight is not None:
                smoothed, nll = smoothed * weight, nll * weight
            sums[0] += smoothed.sum()
            sums[1] += nll.sum()
            hidden_gradient[first : first + step] = gradient @ weights
            if dtype == matrix_gradient.dtype:
                matrix_gradient.addmm_(gradient.T, x)
            else:
                matrix_gradient += gradient.T @ x
        ctx.save_for_backward(hidden_gradient, matrix_gradient)
        loss, nll = sums.unbind()
        ctx.mark_non_differentiable(nll, nlls)
        return loss, nll, nlls

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        hidden_gradient, matrix_gradient = ctx.saved_tensors
        scale = gradients[0].to(hidden_gradient.dtype)
        return hidden_gradient * scale, matrix_gradient * scale, None, None, None, None


def smoothed_loss(
    hidden: Tensor, matrix: Tensor, targets: Tensor, *, smoothing: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Compute cross-entropy with label smoothing (as torch defines it) and without: sums over the tokens, in nats.

    The forward pass computes the gradient chunk by chunk, like cut cross-entropy (Wijmans et al. 2024,
    arXiv 2411.09009), but with all terms of the gradient. `torch.nn.functional.linear_cross_entropy` keeps
    all logits if there is label smoothing, and returns a bfloat16 sum.

    Args:
        hidden: float32 [tokens, d_model].
        matrix: the output matrix, float32 [vocabulary, d_model].
        targets: int64 [tokens].
        smoothing: the share of the target distribution that is spread over the vocabulary.
        dtype: dtype of the matrix products; sums and exponentials are at least float32.
    """
    loss, nll, _ = _SmoothedLoss.apply(hidden, matrix, targets, smoothing, dtype, None)  # pyright: ignore[reportGeneralTypeIssues]
    return loss, nll


def weighted_loss(
    hidden: Tensor, matrix: Tensor, targets: Tensor, counts: Tensor | None, *, smoothing: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `smoothed_loss` with a weight for each token, and the unweighted nll of each token.

    Args:
        hidden, matrix, targets, smoothing, dtype: as for `smoothed_loss`.
        counts: weights, float32 [tokens]; None: 1 for every token.

    Returns:
        The two weighted sums, and the unweighted nll, float32 [tokens] without gradient.
    """
    loss, nll, nlls = _SmoothedLoss.apply(hidden, matrix, targets, smoothing, dtype, counts)  # pyright: ignore[reportGeneralTypeIssues]
    return loss, nll, nlls


class TokenStatistics(NamedTuple):
    """Statistics of target tokens, float32 [tokens] each.

    Attributes:
        nll: negative log-likelihood in nats.
        correct: 1 if the token is the most probable one, else 0.
        el2n: norm of p - onehot(y).
        grad_norm: el2n times the norm of the vector that is multiplied with the output matrix.
    """

    nll: Tensor
    correct: Tensor
    el2n: Tensor
    grad_norm: Tensor


class Types(Protocol):
    """The output matrix in tiles of `entries` vocabulary entries; products have the type `dtype`."""

    dtype: torch.dtype
    entries: int

    def multiply(self, x: Tensor, low: int) -> Tensor:
        """Multiply x [tokens, d_model] with at most `entries` entries from entry `low` on: logits [tokens, entries]."""
        ...


class _Plain:
    """A matrix without a special layout."""

    def __init__(self, matrix: Tensor, entries: int) -> None:
        self.dtype, self.entries, self.matrix = matrix.dtype, entries, matrix

    def multiply(self, x: Tensor, low: int) -> Tensor:
        return x @ self.matrix[low : low + self.entries].T


def token_statistics(
    hidden: Tensor,
    matrix: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    *,
    products: Tensor | Types | None = None,
) -> TokenStatistics:
    """Compute the raw statistics of each token; sums, exponentials and target logits are always float32.

    Logits are computed in tiles of tokens and vocabulary entries: large enough for the full speed of the product, while
    memory depends on neither number. Across tiles, running values are kept without the target: the largest logit m, and
    the sum and the norm of exp(z_v - m). log p_y is -log1p(rest / e_y), and 1 - p_y is -expm1(log p_y), which keeps the
    precision of learned tokens; the plain form serves only if rest / e_y overflows. The target's logit is computed
    separately in float32, so bfloat16 products only affect the other logits.

    Args:
        hidden: vectors that are multiplied with the output matrix, float32 [tokens, d_model].
        matrix: the output matrix, float [vocabulary, d_model].
        targets: int64 [tokens].
        bias: float32 [vocabulary], added to the products.
        products: the matrix in the dtype of the products, or in tiles; None: `matrix` in float32.
    """
    if _has_kernel(hidden.device.type) and (products is None or isinstance(products, Tensor)):
        return fused_statistics(hidden, matrix, targets, bias, products=products)
    step, entries = _tile(len(hidden), len(matrix))
    if products is None or isinstance(products, Tensor):
        products = _Plain(matrix if products is None else products, entries)
    else:
        step, entries = LAID_OUT_TILE, products.entries
    parts: list[Tensor] = []
    for first in range(0, len(hidden), step):
        x, gold = hidden[first : first + step], targets[first : first + step]
        z_gold = torch.linalg.vecdot(x, matrix[gold].to(x.dtype))
        if bias is not None:
            z_gold += bias[gold]
        multiplied = x.to(products.dtype)
        most = torch.full_like(z_gold, torch.finfo(z_gold.dtype).min)
        rest, length = torch.zeros_like(z_gold), torch.zeros_like(z_gold)
        for low in range(0, len(matrix), entries):
            logits = products.multiply(multiplied, low).float()
            if bias is not None:
                logits += bias[low : low + entries]
            place = (gold - low).clamp(0, logits.shape[1] - 1)[:, None]
            is_here = ((gold >= low) & (gold < low + entries))[:, None]
            logits.scatter_(1, place, torch.where(is_here, -torch.inf, logits.gather(1, place)))
            larger = torch.maximum(most, logits.amax(1))
            shrunk = torch.exp(most - larger)
            exponentials = logits.sub_(larger[:, None]).exp_()
            rest = rest * shrunk + exponentials.sum(1)
            length = torch.hypot(length * shrunk, torch.linalg.vector_norm(exponentials, dim=1))
            most = larger
        parts.append(_statistics(x, z_gold, most=most, rest=rest, length=length))
    return TokenStatistics(*torch.cat(parts, dim=1))


def fused_statistics(
    hidden: Tensor, matrix: Tensor, targets: Tensor, bias: Tensor | None = None, *, products: Tensor | None = None
) -> TokenStatistics:
    """Compute `token_statistics` with the fused kernel, in blocks of tokens; the arguments are the same."""
    from catprune.model.fused_output import running_values

    weights, parts = matrix if products is None else products, []
    for first in range(0, len(hidden), _FUSED):
        x, gold = hidden[first : first + _FUSED], targets[first : first + _FUSED]
        z_gold = torch.linalg.vecdot(x, matrix[gold].to(x.dtype))
        if bias is not None:
            z_gold += bias[gold]
        most, rest, length = running_values(x.to(weights.dtype), weights, gold, bias)
        parts.append(_statistics(x, z_gold, most=most, rest=rest, length=length))
    return TokenStatistics(*torch.cat(parts, dim=1))


def _statistics(x: Tensor, z_gold: Tensor, *, most: Tensor, rest: Tensor, length: Tensor) -> Tensor:
    """Return the four statistics, [4, tokens], from the running values of `token_statistics`."""
    ahead = most - z_gold
    plain = ahead + torch.log(rest + torch.exp(-ahead))
    nll = torch.where(ahead < 60, torch.log1p(rest * torch.exp(ahead)), plain)
    top = torch.maximum(most, z_gold)
    behind = torch.exp(most - top)
    others = length * behind / (rest * behind + torch.exp(z_gold - top))
    el2n = torch.hypot(torch.expm1(-nll), others)
    return torch.stack([nll, (ahead <= 0).float(), el2n, el2n * torch.linalg.vector_norm(x, dim=1)])
