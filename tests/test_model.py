"""The model's attention, masks and operation counts, and the chunked output layer against torch's plain one."""

import math

import pytest
import torch
import torch.nn.functional as F
from catprune import output
from catprune.model import Transformer, attend, count_parameters, forward_flops
from catprune.recipe import PRESETS, Recipe, Size
from torch.utils.flop_counter import FlopCounterMode

SMALL = Size(d_model=16, heads=2, ffn=32, encoder_layers=2, decoder_layers=2)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small matrices are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model():
    torch.manual_seed(1)
    return Transformer(SMALL, vocab_size=50).eval()


@pytest.mark.parametrize(("masked", "causal"), [(False, False), (True, False), (False, True)])
def test_attention_by_hand_is_torchs(masked, causal):
    torch.manual_seed(1)
    query, key, value = (torch.randn(3, 2, 7, 8) for _ in range(3))
    mask = (torch.arange(7) < torch.tensor([7, 3, 5])[:, None])[:, None, None] if masked else None
    plain = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
    rough = attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), mask=mask, causal=causal)
    torch.testing.assert_close(rough.float(), plain, atol=0.03, rtol=0.03)


def test_padding_changes_nothing(model):
    source, inputs = torch.randint(3, 50, (2, 9)), torch.randint(3, 50, (2, 6))
    alone = model(source[1:, :5], inputs[1:, :4])
    source[1, 5:] = inputs[1, 4:] = 0
    mask = torch.arange(9) < torch.tensor([9, 5])[:, None]
    torch.testing.assert_close(model(source, inputs, mask)[1:, :4], alone, atol=1e-5, rtol=1e-4)


def test_no_position_sees_later_ones(model):
    source, inputs = torch.randint(3, 50, (1, 9)), torch.randint(3, 50, (1, 6))
    before = model(source, inputs)
    inputs[0, 4] = 7 + (inputs[0, 4] == 7)
    after = model(source, inputs)
    torch.testing.assert_close(after[:, :4], before[:, :4])
    assert not torch.allclose(after[:, 4:], before[:, 4:])


def test_sequences_longer_than_the_table(model):
    inputs = torch.randint(3, 50, (1, 600))
    long, short = model.embed(inputs), model.embed(inputs[:, :40])
    torch.testing.assert_close(long[:, :40], short)


def test_flops_are_torchs_count(model):
    source, inputs = torch.randint(3, 50, (3, 9)), torch.randint(3, 50, (3, 6))
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(source, inputs) @ model.embedding.weight.T
    counted = forward_flops(SMALL, vocab_size=50, pairs=3, source=9, target=6)
    assert counted == counter.get_total_flops()


def test_presets_count():
    with torch.device("meta"):
        sizes = {name: count_parameters(Transformer(size, vocab_size=8000)) for name, size in PRESETS.items()}
    d, ffn = 128, 512
    layers = 2 * (4 * d * d + 2 * d * ffn + 4 * d) + 2 * (8 * d * d + 2 * d * ffn + 6 * d)
    assert sizes["tiny"] == 8000 * d + layers + 4 * d
    assert sizes["tiny"] < sizes["small"] < sizes["base"] < sizes["big"]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_smoothed_loss_and_its_gradients_are_torchs(monkeypatch, smoothing):
    monkeypatch.setitem(output._CHUNK, "cpu", 50 * 4)  # four rows at once
    torch.manual_seed(1)
    hidden, matrix = torch.randn(11, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(50, (11,))
    loss, nll = output.smoothed_loss(hidden, matrix, targets, smoothing=smoothing, dtype=torch.float32)
    gradients = torch.autograd.grad(loss / 11, (hidden, matrix))
    logits = hidden @ matrix.T
    plain = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    torch.testing.assert_close(loss.float() / 11, plain)
    torch.testing.assert_close(nll.float(), F.cross_entropy(logits, targets, reduction="sum"))
    for ours, theirs in zip(gradients, torch.autograd.grad(plain, (hidden, matrix)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_bfloat16_products_stay_close(monkeypatch):
    monkeypatch.setitem(output._CHUNK, "cpu", 50 * 4)
    torch.manual_seed(1)
    hidden, matrix = torch.randn(64, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    targets, found = torch.randint(50, (64,)), {}
    for dtype in (torch.float32, torch.bfloat16):
        loss, nll = output.smoothed_loss(hidden, matrix, targets, smoothing=0.1, dtype=dtype)
        found[dtype] = (loss.detach(), nll, *torch.autograd.grad(loss, (hidden, matrix)))
    for fine, coarse in zip(*found.values(), strict=True):
        assert coarse.dtype == fine.dtype, "sums and gradients are never bfloat16"
        assert 0 < (coarse - fine).norm() < 0.02 * fine.norm()


def test_the_learning_rate_warms_up_and_falls_with_the_root():
    recipe = Recipe(seed=1, learning_rate=0.004, warmup_steps=100, label_smoothing=0.1, dropout=0.1)
    assert [recipe.rate(step) for step in (1, 50, 100, 400, 10_000)] == pytest.approx([4e-5, 2e-3, 4e-3, 2e-3, 4e-4])


def test_norms_are_autograds_on_an_untied_matrix(monkeypatch):
    monkeypatch.setitem(output._CHUNK, "cpu", 50 * 4)
    torch.manual_seed(1)
    hidden, matrix = torch.randn(6, 16), torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(50, (6,))
    found = output.token_statistics(hidden, matrix.detach(), targets)
    for j in range(6):
        logits = matrix @ hidden[j]
        loss = F.cross_entropy(logits, targets[j])
        error, gradient = torch.autograd.grad(loss, (logits, matrix))
        torch.testing.assert_close(found.nll[j], loss)
        torch.testing.assert_close(found.el2n[j], error.norm())
        torch.testing.assert_close(found.grad_norm[j], gradient.norm())
        assert found.correct[j] == (logits.argmax() == targets[j])


@pytest.mark.parametrize("gap", [1e-3, 5.0, 20.0, 40.0, -20.0, -90.0, -300.0])
def test_learnt_and_hopeless_tokens_keep_their_digits(gap):
    matrix = torch.tensor([[gap], [0.0], [-1.0]])
    found = output.token_statistics(torch.ones(1, 1), matrix, torch.tensor([0]))
    rest = 1 + math.exp(-1)
    nll = math.log1p(rest * math.exp(-gap)) if gap > -200 else -gap + math.log(rest)
    wrong, total = -math.expm1(-nll), rest + math.exp(gap)
    el2n = math.sqrt(wrong**2 + (1 + math.exp(-2)) / total**2)
    assert float(found.nll[0]) == pytest.approx(nll, rel=1e-5)
    assert float(found.el2n[0]) == pytest.approx(el2n, rel=1e-5, abs=1e-37)
    assert bool(found.correct[0]) == (gap > 0)
