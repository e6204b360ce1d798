"""The output layer in chunks, so that tokens x vocabulary is never held: the training loss and the raw statistics."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

# Logits held at once: 4 MB of float32 stay in a processor's cache, 256 MB keep a GPU busy.
_CHUNK = {"cpu": 1 << 20, "cuda": 1 << 26}


def _rows(device: torch.device, vocab_size: int) -> int:
    return max(1, _CHUNK.get(device.type, _CHUNK["cpu"]) // vocab_size)


class _SmoothedLoss(torch.autograd.Function):
    """The loss and, in the same pass over the chunks, its gradients: no logits are kept for the way back."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, matrix: Tensor, targets: Tensor, smoothing: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        vocab_size = len(matrix)
        weights = matrix.to(dtype)
        hidden_gradient = torch.empty_like(hidden)
        matrix_gradient = torch.zeros_like(matrix)
        sums = torch.zeros(2, dtype=torch.float64, device=hidden.device)
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
            sums[0] += (log_total - (1 - smoothing) * gold_logit - smoothing * mean_logit).sum()
            sums[1] += (log_total - gold_logit).sum()
            gradient = logits.div_(total).sub_(smoothing / vocab_size)
            gradient.scatter_add_(1, gold, torch.full_like(gold_logit, smoothing - 1))
            gradient = gradient.to(dtype)
            hidden_gradient[first : first + step] = gradient @ weights
            matrix_gradient += gradient.T @ x
        ctx.save_for_backward(hidden_gradient, matrix_gradient)
        loss, nll = sums.unbind()
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        hidden_gradient, matrix_gradient = ctx.saved_tensors
        scale = gradients[0].to(hidden_gradient.dtype)
        return hidden_gradient * scale, matrix_gradient * scale, None, None, None


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
    loss, nll = _SmoothedLoss.apply(hidden, matrix, targets, smoothing, dtype)  # pyright: ignore[reportGeneralTypeIssues]
    return loss, nll


class TokenStatistics(NamedTuple):
    """Per target token, float32 [tokens]: negative log-likelihood, 1 where it is the most probable, and two norms.

    el2n is the length of p - onehot(y); grad_norm is el2n times the length of the vector that meets the output matrix.
    """

    nll: Tensor
    correct: Tensor
    el2n: Tensor
    grad_norm: Tensor


def token_statistics(hidden: Tensor, matrix: Tensor, targets: Tensor, bias: Tensor | None = None) -> TokenStatistics:
    """The raw statistics of each token, in float32 whatever the precision of the model.

    log p_y is -log1p(rest / e_y), with e_v = exp(z_v - max z) and rest their sum without y, and 1 - p_y is
    -expm1(log p_y): so a token that has been learnt keeps its digits. Only where e_y underflows the plain form serves.

    Args:
        hidden: float32 [tokens, d_model], the vectors that are multiplied with the output matrix.
        matrix: float32 [vocabulary, d_model].
        targets: int64 [tokens].
        bias: float32 [vocabulary], added to the products.
    """
    step = _rows(hidden.device, len(matrix))
    parts: list[Tensor] = []
    for first in range(0, len(hidden), step):
        x = hidden[first : first + step]
        gold = targets[first : first + step, None]
        logits = x @ matrix.T if bias is None else torch.addmm(bias, x, matrix.T)
        largest = logits.amax(1, keepdim=True)
        gold_logit = logits.gather(1, gold)
        exponentials = logits.sub_(largest).exp_()
        gold_share = exponentials.gather(1, gold)
        exponentials.scatter_(1, gold, 0.0)
        rest = exponentials.sum(1, keepdim=True)
        norm = torch.linalg.vector_norm(exponentials, dim=1, keepdim=True)
        total = rest + gold_share
        nll = torch.where(gold_share > 1e-30, torch.log1p(rest / gold_share), largest - gold_logit + total.log())
        el2n = torch.hypot(torch.expm1(-nll), norm / total)
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        parts.append(torch.cat([nll, (gold_logit >= largest).float(), el2n, el2n * length], dim=1))
    return TokenStatistics(*torch.cat(parts).unbind(1))
