"""The fused output layer against the plain one; runs with TRITON_INTERPRET=1, see test_fused_output.py."""

from __future__ import annotations

import pytest
import torch
from catprune.model.fused_output import running_values
from catprune.model.output_layer import fused_statistics, token_statistics
from hypothesis import given, settings
from hypothesis import strategies as st

TYPES = [torch.float32, torch.bfloat16, torch.float16]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 150), st.integers(2, 300), st.sampled_from([16, 70, 128])),
    kind=st.sampled_from(TYPES),
    scale=st.sampled_from([0.1, 1.0, 8.0]),
    has_bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_statistics_equal_the_plain_ones(
    *, size: tuple[int, int, int], kind: torch.dtype, scale: float, has_bias: bool, seed: int
) -> None:
    tokens, entries, width = size
    drawn = torch.Generator().manual_seed(seed)
    # Values that 16 bits hold exactly: only the products of the plain layer are rounded.
    hidden, matrix = (
        (torch.randn(count, width, generator=drawn) * (scale / width**0.5) ** 0.5).to(kind).float()
        for count in (tokens, entries)
    )
    targets = torch.randint(entries, (tokens,), generator=drawn)
    bias = torch.randn(entries, generator=drawn) if has_bias else None
    if bias is not None:
        bias[0] = -torch.inf  # an entry that the model cannot write
        targets[targets == 0] = 1
    matrix[1] = matrix[-1]  # a tie
    matrix[targets[0]] += 8 * hidden[0]  # a learned token
    plain = token_statistics(hidden, matrix, targets, bias)  # products in float32
    fused = fused_statistics(hidden, matrix, targets, bias, products=matrix.to(kind))
    # Only the learned token's row is not exact in 16 bits; its logit is computed in float32 for its own token.
    rounding = {torch.float32: 2e-6, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}[kind]
    logits = hidden.norm(dim=1) * matrix.norm(dim=1).max()
    for name, expected, computed in zip(plain._fields, plain, fused, strict=True):
        if name != "correct":
            length = hidden.norm(dim=1) if name == "grad_norm" else 1.0
            assert ((expected - computed).abs() <= rounding * (expected.abs() + (4 + logits) * length)).all(), name
    ties = hidden @ matrix.T + (0.0 if bias is None else bias)
    ahead = ties.gather(1, targets[:, None])[:, 0] - ties.scatter(1, targets[:, None], -torch.inf).amax(1)
    decided = ahead.abs() > rounding * (1 + logits)
    assert torch.equal(plain.correct[decided], fused.correct[decided])


@pytest.mark.parametrize("kind", TYPES)
def test_splits_of_the_vocabulary(kind: torch.dtype) -> None:
    drawn = torch.Generator().manual_seed(1)
    hidden, matrix = (torch.randn(count, 64, generator=drawn).to(kind) for count in (70, 9000))
    targets = torch.tensor([0, 8191, 8192, 8999, *range(66)])
    most, rest, length = running_values(hidden, matrix, targets)
    logits = (hidden.float() @ matrix.float().T).scatter(1, targets[:, None], -torch.inf)
    exponentials = (logits - logits.amax(1, keepdim=True)).exp()
    torch.testing.assert_close(most, logits.amax(1), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(rest, exponentials.sum(1), rtol=1e-4, atol=0)
    torch.testing.assert_close(length, exponentials.norm(dim=1), rtol=1e-4, atol=0)


def test_the_loss_of_learned_tokens_keeps_its_digits() -> None:
    hidden, matrix = torch.ones(3, 16), torch.zeros(40, 16)
    matrix[5], targets = 1.5, torch.full((3,), 5)
    fused = fused_statistics(hidden, matrix, targets)
    nll = torch.log1p(39 * torch.exp(torch.tensor(-24.0, dtype=torch.float64)))
    torch.testing.assert_close(fused.nll.double(), nll.expand(3), rtol=1e-6, atol=0)


def test_other_inputs_are_refused() -> None:
    hidden, matrix, targets = torch.ones(3, 16), torch.ones(40, 16), torch.zeros(3, dtype=torch.int64)
    for wrong in (
        (hidden.half(), matrix, targets),
        (hidden, matrix[:, :8], targets),
        (hidden, matrix, targets.int()),
        (hidden.T.contiguous().T, matrix, targets),
        (hidden, matrix, targets, torch.ones(39)),
        (hidden.double(), matrix.double(), targets),
    ):
        with pytest.raises(ValueError, match="the fused output layer cannot read"):
            running_values(*wrong)
