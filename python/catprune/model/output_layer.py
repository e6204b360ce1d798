"""The output layer in chunks, so that tokens x vocabulary is never held: the training loss and the raw statistics."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

# Logits that training holds at once, all types of some tokens: with fewer tokens more time goes into adding up the
# gradient of the matrix than into its products.
_CHUNK = {"cpu": 1 << 22, "cuda": 1 << 26}
# Tokens and logits that scoring holds at once: 1 MB of float32 stays in the cache of a processor's core, and several
# hundred tokens make its product as fast as it gets; 256 MB keep a GPU busy.
_TILE = {"cpu": (1 << 9, 1 << 18), "cuda": (1 << 13, 1 << 26)}
#: Types, and tokens, of a tile on processors where the matrix is in a form of its own.
TYPES = 1 << 9


def _rows(device: torch.device, vocab_size: int) -> int:
    return max(1, _CHUNK.get(device.type, _CHUNK["cpu"]) // vocab_size)


def _tile(device: torch.device, tokens: int, vocab_size: int) -> tuple[int, int]:
    """Tokens and types whose logits are held at once."""
    most, logits = _TILE.get(device.type, _TILE["cpu"])
    types = min(vocab_size, max(1, logits // max(1, min(tokens, most))))
    return max(1, logits // types), types


class _SmoothedLoss(torch.autograd.Function):
    """The loss and, in the same pass over the chunks, its gradients: no logits are kept for the way back."""

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
        for first in range(0, len(hidden), step):
            x = hidden[first : first + step].to(dtype)
            gold = targets[first : first + step, None]
            logits = (x @ weights.T).float()
            gold_logit = logits.gather(1, gold)
            mean_logit = logits.mean(1, keepdim=True)
            largest = logits.amax(1, keepdim=True)
            total = logits.sub_(largest).exp_().sum(1, keepdim=True)
            log_total = total.log() + largest
            smoothed = log_total - (1 - smoothing) * gold_logit - smoothing * mean_logit
            nll = log_total - gold_logit
            gradient = logits.div_(total).sub_(smoothing / vocab_size)
            gradient.scatter_add_(1, gold, torch.full_like(gold_logit, smoothing - 1))
            nlls[first : first + step] = nll[:, 0]
            if counts is not None:
                some = counts[first : first + step, None]
                smoothed, nll, gradient = smoothed * some, nll * some, gradient.mul_(some)
            sums[0] += smoothed.sum()
            sums[1] += nll.sum()
            gradient = gradient.to(dtype)
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
    """Cross-entropy with label smoothing as torch defines it, and without: two sums over the tokens, in nats.

    The gradient is worked out on the way forward, chunk by chunk, as cut cross-entropy does
    (Wijmans et al. 2024, arXiv 2411.09009; here with all of its terms).

    Args:
        hidden: float32 [tokens, d_model].
        matrix: the output matrix, float32 [vocabulary, d_model].
        targets: int64 [tokens].
        smoothing: the share of the target that is spread over the vocabulary.
        dtype: the type of the matrix products; sums and exponentials are float32 or finer.
    """
    loss, nll, _ = _SmoothedLoss.apply(hidden, matrix, targets, smoothing, dtype, None)  # pyright: ignore[reportGeneralTypeIssues]
    return loss, nll


def weighted_loss(
    hidden: Tensor, matrix: Tensor, targets: Tensor, counts: Tensor | None, *, smoothing: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """`smoothed_loss` with each token counting `counts` times, and each token's nll without.

    Args:
        hidden, matrix, targets, smoothing, dtype: as for `smoothed_loss`.
        counts: float32 [tokens]; None: each counts once.

    Returns:
        The two weighted sums, and the nll of the tokens as it is, float32 [tokens] without gradient.
    """
    loss, nll, nlls = _SmoothedLoss.apply(hidden, matrix, targets, smoothing, dtype, counts)  # pyright: ignore[reportGeneralTypeIssues]
    return loss, nll, nlls


class TokenStatistics(NamedTuple):
    """Per target token, float32 [tokens]: negative log-likelihood, 1 where it is the most probable, and two norms.

    el2n is the length of p - onehot(y); grad_norm is el2n times the length of the vector that meets the output matrix.
    """

    nll: Tensor
    correct: Tensor
    el2n: Tensor
    grad_norm: Tensor


class Types(Protocol):
    """The output matrix in a form of its own, some types at a time; `dtype` is that of the products."""

    dtype: torch.dtype
    types: int

    def multiply(self, x: Tensor, low: int) -> Tensor:
        """Logits [tokens, types] of [tokens, d_model] and of the types from `low` on, at most `types` of them."""
        ...


class _Plain:
    """A matrix as it is."""

    def __init__(self, matrix: Tensor, types: int) -> None:
        self.dtype, self.types, self.matrix = matrix.dtype, types, matrix

    def multiply(self, x: Tensor, low: int) -> Tensor:
        return x @ self.matrix[low : low + self.types].T


def token_statistics(
    hidden: Tensor,
    matrix: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    *,
    products: Tensor | Types | None = None,
) -> TokenStatistics:
    """The raw statistics of each token; sums, exponentials and the target's logit are float32, whatever products are.

    Logits are made for some tokens and some types at a time: both many, so that the product runs at its full rate, and
    memory depends on neither. What is kept of the types before is online: the largest logit m but the target's, and of
    exp(z_v - m), also without the target's, the sum and the length. log p_y is -log1p(rest / e_y), and 1 - p_y is
    -expm1(log p_y): so a token that has been learnt keeps its digits. Only where rest / e_y overflows the plain form
    serves. The target's logit is worked out apart, so that products in bfloat16 blur only what stands against it.

    Args:
        hidden: float32 [tokens, d_model], the vectors that are multiplied with the output matrix.
        matrix: float32 [vocabulary, d_model].
        targets: int64 [tokens].
        bias: float32 [vocabulary], added to the products.
        products: the matrix in the type that products are to have, or in a form of its own; None: float32, as it is.
    """
    step, types = _tile(hidden.device, len(hidden), len(matrix))
    if products is None or isinstance(products, Tensor):
        products = _Plain(matrix if products is None else products, types)
    else:
        step, types = TYPES, products.types
    parts: list[Tensor] = []
    for first in range(0, len(hidden), step):
        x, gold = hidden[first : first + step], targets[first : first + step]
        z_gold = torch.linalg.vecdot(x, matrix[gold])
        if bias is not None:
            z_gold += bias[gold]
        multiplied = x.to(products.dtype)
        most = torch.full_like(z_gold, torch.finfo(z_gold.dtype).min)
        rest, length = torch.zeros_like(z_gold), torch.zeros_like(z_gold)
        for low in range(0, len(matrix), types):
            logits = products.multiply(multiplied, low).float()
            if bias is not None:
                logits += bias[low : low + types]
            here = ((gold >= low) & (gold < low + types)).nonzero()[:, 0]
            logits[here, gold[here] - low] = -torch.inf
            larger = torch.maximum(most, logits.amax(1))
            shrunk = torch.exp(most - larger)
            exponentials = logits.sub_(larger[:, None]).exp_()
            rest = rest * shrunk + exponentials.sum(1)
            length = torch.hypot(length * shrunk, torch.linalg.vector_norm(exponentials, dim=1))
            most = larger
        parts.append(_statistics(x, z_gold, most=most, rest=rest, length=length))
    return TokenStatistics(*torch.cat(parts, dim=1))


def _statistics(x: Tensor, z_gold: Tensor, *, most: Tensor, rest: Tensor, length: Tensor) -> Tensor:
    """The four statistics, [4, tokens], of what `token_statistics` keeps of the logits."""
    ahead = most - z_gold
    plain = ahead + torch.log(rest + torch.exp(-ahead))
    nll = torch.where(ahead < 60, torch.log1p(rest * torch.exp(ahead)), plain)
    top = torch.maximum(most, z_gold)
    behind = torch.exp(most - top)
    others = length * behind / (rest * behind + torch.exp(z_gold - top))
    el2n = torch.hypot(torch.expm1(-nll), others)
    return torch.stack([nll, (ahead <= 0).float(), el2n, el2n * torch.linalg.vector_norm(x, dim=1)])
