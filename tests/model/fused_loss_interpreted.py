"""The kernel of the training loss against the plain loss; runs with TRITON_INTERPRET=1, see test_fused_loss.py."""

from __future__ import annotations

import math

import pytest
import torch
from catprune.model import fused_loss, output_layer
from catprune.model.fused_loss import take_gradients
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(2, 300)),
    kind=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    smoothing=st.sampled_from([0.0, 0.1]),
    has_weights=st.booleans(),
    seed=st.integers(0, 99),
)
def test_losses_and_gradients_equal_the_plain_ones(
    *, size: tuple[int, int], kind: torch.dtype, scale: float, smoothing: float, has_weights: bool, seed: int
) -> None:
    drawn = torch.Generator().manual_seed(seed)
    logits = (torch.randn(size, generator=drawn) * scale + 5).to(kind)
    targets = torch.randint(size[1], size[:1], generator=drawn)
    logits[0, targets[0]] = logits.max() + 20  # a learned token
    weights = torch.rand(size[0], generator=drawn) if has_weights else None
    expected = logits.double().requires_grad_()
    plain = torch.nn.functional.cross_entropy(expected, targets, label_smoothing=smoothing, reduction="none")
    (plain * (1 if weights is None else weights)).sum().backward()
    before, fused_loss.BLOCK = fused_loss.BLOCK, 64  # several tiles
    try:
        smoothed, nll = take_gradients(logits, targets, weights, smoothing=smoothing)
    finally:
        fused_loss.BLOCK = before
    assert expected.grad is not None
    near = {"rtol": 1e-5, "atol": 2e-6 * (25 + 6 * scale)}
    torch.testing.assert_close(smoothed.double(), plain.detach(), **near)
    unsmoothed = torch.nn.functional.cross_entropy(expected.detach(), targets, reduction="none")
    torch.testing.assert_close(nll.double(), unsmoothed, **near)
    # The interpreter cuts the digits of bfloat16 off; GPUs round.
    rounding = {torch.float32: 3e-5, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}[kind]
    torch.testing.assert_close(logits.double(), expected.grad, rtol=rounding, atol=3e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_weights", [False, True])
def test_the_loss_of_a_training_is_that_of_processors(
    monkeypatch: pytest.MonkeyPatch, kind: torch.dtype, *, has_weights: bool
) -> None:
    monkeypatch.setitem(output_layer._CHUNK, "cpu", 300 * 8)  # eight tokens at once
    drawn, by_device = torch.Generator().manual_seed(1), list[list[torch.Tensor]]()
    hidden, matrix = (torch.randn(count, 16, generator=drawn).requires_grad_() for count in (21, 300))
    targets = torch.randint(300, (21,), generator=drawn)
    counts = torch.rand(21, generator=drawn) if has_weights else None
    for has_kernel in (False, True):
        monkeypatch.setattr(output_layer, "_has_kernel", lambda _, has_kernel=has_kernel: has_kernel)
        sums = output_layer.weighted_loss(hidden, matrix, targets, counts, smoothing=0.1, dtype=kind)
        by_device.append([*(part.detach() for part in sums), *torch.autograd.grad(sums[0], (hidden, matrix))])
    for ours, theirs in zip(*by_device, strict=True):
        assert ours.dtype == theirs.dtype
        assert (ours - theirs).norm() <= (1e-6 if kind == torch.float32 else 8e-3) * theirs.norm()


def test_the_loss_of_learned_tokens_keeps_its_digits() -> None:
    logits = torch.zeros(1, 5000)
    logits[0, 4999] = 12.0
    _, nll = take_gradients(logits, torch.tensor([4999]), None, smoothing=0.0)
    assert nll.item() == pytest.approx(math.log1p(4999 * math.exp(-12.0)), rel=1e-4)


def test_other_inputs_are_refused() -> None:
    logits, targets = torch.ones(3, 16), torch.zeros(3, dtype=torch.int64)
    for wrong in (
        (logits.double(), targets, None),
        (logits[0], targets, None),
        (logits.T.contiguous().T, targets, None),
        (logits, targets.int(), None),
        (logits, targets[:2], None),
        (logits, targets, torch.ones(3, dtype=torch.float64)),
        (logits, targets, torch.ones(2)),
    ):
        with pytest.raises(ValueError, match="the fused loss cannot read"):
            take_gradients(*wrong, smoothing=0.1)
    for part in take_gradients(logits[:0], targets[:0], None, smoothing=0.1):
        assert part.shape == (0,)
