"""The model's attention, masks and operation counts, and the chunked output layer against torch's plain one."""

import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from catprune.model import attention, output_layer
from catprune.model.attention import Packed, Padded, Spans, attend
from catprune.model.processor_layout import LaidOutEntries, has_layout, lay_out
from catprune.model.sizes import PRESETS, Size, forward_flops
from catprune.model.transformer import Transformer, count_parameters
from catprune.training.recipe import Recipe
from catprune.workspace import device
from torch._subclasses.fake_tensor import FakeTensorMode
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
    torch.testing.assert_close(model(source, inputs, Padded(mask))[1:, :4], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_laying_out_changes_nothing(model, dtype, near):
    if not has_layout(dtype):
        pytest.skip("no kernels here")
    source, inputs = torch.randint(3, 50, (3, 9)), torch.randint(3, 50, (3, 6))
    with torch.inference_mode(), torch.autocast("cpu", dtype=dtype, enabled=dtype == torch.bfloat16):
        before = model(source, inputs)
        lay_out(model, dtype)
        after = model(source, inputs)
    assert after.dtype == before.dtype == torch.float32
    torch.testing.assert_close(after, before, atol=near, rtol=near)
    assert [name for name, _ in model.named_parameters() if "norm" not in name] == ["embedding.weight"]


def test_narrow_layers_stay_close(model):
    source, inputs = torch.randint(3, 50, (30, 9)), torch.randint(3, 50, (30, 6))
    fine, dtypes = model(source, inputs), set()
    model.narrow(torch.bfloat16)
    for layer in (*model.encoder, *model.decoder, model.decoder_norm):
        layer.register_forward_hook(lambda _, __, output: dtypes.add(output.dtype))
    coarse = model(source, inputs)
    assert dtypes == {torch.bfloat16}
    assert model.output_matrix.dtype == torch.float32
    assert 0 < (coarse.float() - fine).norm() < 0.01 * fine.norm()


def test_packing_changes_nothing(model):
    lengths = [(1, 1), (9, 2), (4, 11), (1, 6), (30, 1), (2, 2)]
    pairs = [(torch.randint(3, 50, (source,)), torch.randint(3, 50, (target,))) for source, target in lengths]
    alone = [model(source[None], inputs[None])[0] for source, inputs in pairs]
    form = Packed(*(Spans.of(np.array(side)) for side in zip(*lengths, strict=True)))
    packed = model(*(torch.cat(side) for side in zip(*pairs, strict=True)), form)
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_spans_must_agree():
    spans = Spans.of(np.array([3, 1, 2]))
    assert spans.ends == (0, 3, 4, 6)
    assert spans.places.tolist() == [0, 1, 2, 0, 0, 1]
    for wrong in ({"longest": 2}, {"ends": (0, 3, 6)}, {"ends": (0, 3, 3, 6)}):
        with pytest.raises(ValueError, match="spans of lengths"):
            replace(spans, **wrong)


def fake_spans(lengths):
    """Stand in for a GPU."""
    spans = Spans.of(np.array(lengths))
    return replace(spans, offsets=spans.offsets.cuda(), places=spans.places.cuda())


def flash(*, heads=2, width=16, dtype=torch.bfloat16, sides=((3, 2), (3, 2)), causal=True, tokens=None, change=None):
    """The adapter's output for fake tensors, as if on a GPU."""
    with FakeTensorMode():
        queries = fake_spans(sides[0])
        keys = queries if sides[0] == sides[1] else fake_spans(sides[1])
        if change is not None:
            queries = change(queries)
            keys = queries if causal else keys
        query = torch.empty(tokens or queries.ends[-1], heads, width, dtype=dtype, device="cuda")
        key, value = (torch.empty(keys.ends[-1], heads, width, dtype=dtype, device="cuda") for _ in range(2))
        return attention.attend_packed(query, key, value, queries=queries, keys=keys, causal=causal)


def test_the_kernels_call_has_its_shapes():
    for sides, causal in ((((3, 2), (3, 2)), True), (((3, 2), (1, 7)), False)):
        output = flash(sides=sides, causal=causal)
        assert (output.shape, output.dtype, output.device.type) == ((5, 2, 16), torch.bfloat16, "cuda")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": torch.float32}, "not one of float16 and bfloat16"),
        ({"width": 12}, "a head has 12 numbers"),
        ({"width": 264}, "a head has 264 numbers"),
        ({"tokens": 6}, "offsets do not cover the tokens"),
        ({"sides": ((3, 2), (5,)), "causal": False}, "2 sequences attend to 1"),
        ({"sides": ((3, 2), (2, 3))}, "causal attention is between different sequences"),
        ({"change": lambda spans: replace(spans, offsets=spans.offsets.long())}, "offsets are not int32"),
        ({"change": lambda spans: replace(spans, offsets=spans.offsets.cpu())}, "on different devices"),
    ],
)
def test_the_kernels_call_is_checked(wrong, message):
    with pytest.raises(ValueError, match=message):
        flash(**wrong)


def test_processors_and_wide_numbers_take_padded_batches():
    assert not attention.has_packed("cpu", torch.bfloat16)
    assert not attention.has_packed("cuda", torch.float32)


def test_gpus_and_kernels_too_old_take_padded_batches(monkeypatch):
    def old(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, window_size=(-1, -1)): ...

    capability = (8, 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert attention.has_packed("cuda", torch.bfloat16)
    for kernel in (old, None):
        with monkeypatch.context() as patch:
            patch.setattr(attention, "varlen_attn", kernel)
            assert not attention.has_packed("cuda", torch.bfloat16)
    capability = (7, 5)
    assert not attention.has_packed("cuda", torch.bfloat16)


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
    lengths = {"source": np.full(3, 9), "target": np.full(3, 6)}
    counted = forward_flops(SMALL, vocab_size=50, **lengths, outputs=18)
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
    monkeypatch.setitem(output_layer._CHUNK, "cpu", 50 * 4)  # four rows at once
    torch.manual_seed(1)
    hidden, matrix = torch.randn(11, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(50, (11,))
    loss, nll = output_layer.smoothed_loss(hidden, matrix, targets, smoothing=smoothing, dtype=torch.float32)
    gradients = torch.autograd.grad(loss / 11, (hidden, matrix))
    logits = hidden @ matrix.T
    plain = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    torch.testing.assert_close(loss.float() / 11, plain)
    torch.testing.assert_close(nll.float(), F.cross_entropy(logits, targets, reduction="sum"))
    for ours, gradient in zip(gradients, torch.autograd.grad(plain, (hidden, matrix)), strict=True):
        torch.testing.assert_close(ours, gradient)


def test_bfloat16_products_stay_close(monkeypatch):
    monkeypatch.setitem(output_layer._CHUNK, "cpu", 50 * 4)
    torch.manual_seed(1)
    hidden, matrix = torch.randn(64, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    targets, by_type = torch.randint(50, (64,)), {}
    for dtype in (torch.float32, torch.bfloat16):
        loss, nll = output_layer.smoothed_loss(hidden, matrix, targets, smoothing=0.1, dtype=dtype)
        by_type[dtype] = (loss.detach(), nll, *torch.autograd.grad(loss, (hidden, matrix)))
    for fine, coarse in zip(*by_type.values(), strict=True):
        assert coarse.dtype == fine.dtype, "sums and gradients are never bfloat16"
        assert 0 < (coarse - fine).norm() < 0.02 * fine.norm()


def test_the_learning_rate_warms_up_and_falls_with_the_root():
    recipe = Recipe(batch_tokens=2048, learning_rate=0.004, warmup_steps=100)
    assert [recipe.rate(step) for step in (1, 50, 100, 400, 10_000)] == pytest.approx([4e-5, 2e-3, 4e-3, 2e-3, 4e-4])


@pytest.mark.parametrize("laid_out", [False, True])
def test_norms_are_autograds_on_an_untied_matrix(monkeypatch, laid_out):
    monkeypatch.setattr(output_layer, "_TILE", (4, 4 * 7))  # four tokens and seven entries at once
    monkeypatch.setattr(output_layer, "LAID_OUT_TILE", 4)
    torch.manual_seed(1)
    hidden, matrix = torch.randn(6, 16), torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(50, (6,))
    products = None
    if laid_out:
        if not has_layout(torch.float32):
            pytest.skip("this processor has no layout of its own")
        products = LaidOutEntries(matrix, torch.float32, entries=7)
    norms = output_layer.token_statistics(hidden, matrix.detach(), targets, products=products)
    for j in range(6):
        logits = matrix @ hidden[j]
        loss = F.cross_entropy(logits, targets[j])
        error, gradient = torch.autograd.grad(loss, (logits, matrix))
        torch.testing.assert_close(norms.nll[j], loss)
        torch.testing.assert_close(norms.el2n[j], error.norm())
        torch.testing.assert_close(norms.grad_norm[j], gradient.norm())
        assert norms.correct[j] == (logits.argmax() == targets[j])


@pytest.mark.parametrize("gap", [1e-3, 5.0, 20.0, 40.0, -20.0, -90.0, -300.0])
def test_learned_and_hopeless_tokens_keep_their_precision(gap):
    matrix = torch.tensor([[gap], [0.0], [-1.0]])
    statistics = output_layer.token_statistics(torch.ones(1, 1), matrix, torch.tensor([0]))
    rest = 1 + math.exp(-1)
    nll = math.log1p(rest * math.exp(-gap)) if gap > -200 else -gap + math.log(rest)
    wrong, total = -math.expm1(-nll), rest + math.exp(gap)
    el2n = math.sqrt(wrong**2 + (1 + math.exp(-2)) / total**2)
    assert float(statistics.nll[0]) == pytest.approx(nll, rel=1e-5)
    assert float(statistics.el2n[0]) == pytest.approx(el2n, rel=1e-5, abs=1e-37)
    assert bool(statistics.correct[0]) == (gap > 0)


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("vendor_id : AuthenticAMD flags : avx2 avx512f avx512_bf16", "bfloat16"),
        ("vendor_id : AuthenticAMD flags : avx2 avx512f", "float32"),
        ("vendor_id : GenuineIntel flags : avx512f avx512_bf16", "float32"),
        ("vendor_id : GenuineIntel flags : avx512f avx512_bf16 amx_bf16 amx_tile", "bfloat16"),
    ],
)
def test_auto_is_bfloat16_on_cpus_that_gain_from_it(cpuinfo: str, expected: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device.Path, "read_text", lambda *_, **__: cpuinfo)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.Device.choose("auto").precision == expected
    assert device.Device.choose("bfloat16").precision == "bfloat16"


@pytest.mark.parametrize("has_triton", [True, False])
def test_gpus_without_triton_score_in_tiles(monkeypatch, has_triton):
    class FusedError(Exception):
        pass

    def fused(*_, **__):
        raise FusedError

    monkeypatch.setattr(output_layer, "find_spec", lambda _: object() if has_triton else None)
    monkeypatch.setattr(output_layer, "fused_statistics", fused)
    output_layer._has_kernel.cache_clear()
    try:
        with FakeTensorMode(), torch.device("cuda"):
            hidden, matrix, targets = torch.ones(3, 8), torch.ones(20, 8), torch.zeros(3, dtype=torch.int64)
            with pytest.raises(FusedError) if has_triton else nullcontext():
                nll = output_layer.token_statistics(hidden, matrix, targets).nll
                assert (nll.shape, nll.device.type) == ((3,), "cuda")
    finally:
        output_layer._has_kernel.cache_clear()
