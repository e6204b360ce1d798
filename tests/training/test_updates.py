"""Updates: made ahead, packed or padded, the same for any number of processes, without waiting for a GPU."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from catprune.checkpoints.native import load_tensors
from catprune.model import attention
from catprune.model.attention import Packed
from catprune.model.sizes import PRESETS
from catprune.model.transformer import Transformer
from catprune.tokens.blocks import Tokens
from catprune.training import loop, loss, updates
from catprune.training.data_order import Order
from catprune.training.processes import Processes
from catprune.training.train import train
from catprune.training.updates import Updates, fitting_tokens
from catprune.workspace.device import Device
from support.synthetic import contents, write_tokens
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAST: dict[str, Any] = {
    "steps": 9,
    "warmup_steps": 5,
    "precision": "float32",
    "batch_tokens": 512,
    "threads": 1,
    "quiet": True,
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("updates") / "tokens", longest=40)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize(
    "pruned", [{}, {"prune_while_training": "ddp", "prune_span": 3, "epochs": 3, "steps": None, "accumulate": 2}]
)
def test_packed_updates_are_the_padded_ones(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pruned: dict[str, Any]
) -> None:
    """In the layout of GPUs, on this processor: the same weights, for fewer operations."""
    forward, forms = loss.Loss.forward, set[type]()

    def noting(self: loss.Loss, *arguments: Any) -> Any:
        forms.add(type(arguments[4]))
        return forward(self, *arguments)

    monkeypatch.setattr(loss.Loss, "forward", noting)
    options = FAST | {"dropout": 0.0} | pruned
    padded = train(tokens, out=tmp_path / "padded", **options)
    forms.clear()
    monkeypatch.setattr(updates, "has_packed", lambda *_: True)
    packed = train(tokens, out=tmp_path / "packed", **options)
    assert forms == {Packed} and packed.target_tokens == padded.target_tokens
    assert packed.flops < padded.flops
    ours, theirs = (load_tensors(done.checkpoints[-1] / "model.safetensors")[0] for done in (packed, padded))
    for name, part in theirs.items():
        np.testing.assert_allclose(ours[name], part, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("accumulate", [None, 4])
def test_an_update_holds_the_same_pairs_for_any_number_of_processes(tokens: Path, accumulate: int | None) -> None:
    order = Order(Tokens.open(tokens), seed=3, batch_tokens=700)
    pairs, batches = order.batches(0, 0, order.windows(0)[0])
    for chosen in batches:
        whole: list[list[int]] | None = None
        for count in (1, 2, 3, 8):
            made = [
                Updates.of(
                    order,
                    size=PRESETS["tiny"],
                    device=Device("cpu", "float32"),
                    processes=Processes(number, count),
                    pruning=None,
                    accumulate=accumulate,
                ).make(pairs, chosen)
                for number in range(count)
            ]
            assert {(one.basis, one.kept_pairs, one.pairs, one.tokens) for one in made} == {
                (int(pairs.target.lengths[chosen].sum()), len(chosen), len(chosen), made[0].tokens)
            }
            assert len({one.flops for one in made}) == 1
            ids = [
                [*source.tolist(), -1, *target.tolist()]
                for one in made
                if one.has_own
                for part in one.parts
                for source, target in zip(part.source, part.targets, strict=True)
            ]
            trimmed = sorted([token for token in pair if token != order.tokens.tokenizer.pad_id] for pair in ids)
            assert sum(len(one.parts) for one in made) >= min(count * (accumulate or 1), len(chosen))
            assert sum(len(part.places) for one in made if one.has_own for part in one.parts) == made[0].tokens
            assert whole is None or trimmed == whole
            whole = trimmed


class _Waits(TorchDispatchMode):
    """Refuses operations whose result has to be on the host before the next one can start."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not any(name in str(function) for name in ("_local_scalar_dense", "nonzero", "masked_select", "equal"))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("pruned", [{}, {"prune_while_training": "infobatch", "epochs": 3, "steps": None}])
def test_no_update_waits_for_its_results(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pruned: dict[str, Any]
) -> None:
    update, unread = loop.Training._update, list[int]()

    def watched(training: loop.Training, made: updates.Update) -> None:
        def refusing(*_: Any, **__: Any) -> None:
            pytest.fail("the update reads a tensor")

        with monkeypatch.context() as patched, _Waits():
            for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__array__"):
                patched.setattr(torch.Tensor, name, refusing)
            update(training, made)
        unread.append(len(training._unread))

    monkeypatch.setattr(loop.Training, "_update", watched)
    trained = train(tokens, out=tmp_path / "w", **FAST | {"preset": "tiny"} | pruned)
    assert len(unread) == trained.steps > 8
    assert (max(unread) > 1) == bool(pruned), "losses are read after several updates"


def test_an_error_of_the_thread_ends_the_training_and_the_same_call_continues(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tokens, out=tmp_path / "whole", **FAST)
    make, calls = Updates.make, list[int]()

    def failing(self: Updates, *arguments: Any) -> updates.Update:
        calls.append(1)
        if len(calls) == 6:
            raise OSError("the disk is gone")
        return make(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Updates, "make", failing)
        with pytest.raises(OSError, match="the disk is gone"):
            train(tokens, out=tmp_path / "broken", **FAST | {"save_every": 2})
    assert len(calls) <= 8
    train(tokens, out=tmp_path / "broken", **FAST | {"save_every": 2})
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_an_interrupt_leaves_no_thread(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = loop.Training._update

    def interrupted(training: loop.Training, *arguments: Any) -> None:
        update(training, *arguments)
        if training.at.step == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop.Training, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tokens, out=tmp_path / "w", **FAST)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_memory_of_a_part_is_what_the_backward_pass_keeps(
    monkeypatch: pytest.MonkeyPatch, preset: str, dtype: torch.dtype
) -> None:
    """Measured here: the bytes that autograd keeps, with the attention of GPUs, which keeps no weights."""
    monkeypatch.setattr(
        attention,
        "attend",
        lambda *parts, mask, causal: torch.nn.functional.scaled_dot_product_attention(
            *parts, attn_mask=mask, is_causal=causal
        ),
    )
    size = replace(PRESETS[preset], encoder_layers=2, decoder_layers=2)
    model, kept = Transformer(size, vocab_size=64, dropout=0.1), dict[int, int]()
    weights = {part.untyped_storage().data_ptr() for part in model.parameters()}
    copies = {part.numel() * 2 for part in model.parameters() if part.dim() == 2}  # of autocast

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and not (tensor.dim() == 2 and storage.nbytes() in copies):
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    narrow = dtype == torch.bfloat16
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", enabled=narrow):
        hidden = model(*(torch.randint(3, 60, (10, 30)) for _ in range(2)))
    assert hidden.requires_grad
    estimated = 10**12 / 2 / fitting_tokens(size, dtype, memory=10**12)
    assert 0.85 * estimated < sum(kept.values()) / 300 < 1.05 * estimated


def test_the_parts_of_a_gpu_go_through_the_model(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On fake tensors: devices, dtypes and shapes are those that the kernels accept; copies are pinned."""
    copies: list[Any] = []
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: copies.append("pinned") or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *where, **how: copies.append(how) or to(self, *where, **how))
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", copies.append)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=4 << 30))
    order, device = Order(Tokens.open(tokens), seed=3, batch_tokens=700), Device("cuda", "bfloat16")
    pairs, (chosen, *_) = order.batches(0, 0, order.windows(0)[0])
    with FakeTensorMode(allow_non_fake_inputs=True):
        made = Updates.of(order, size=PRESETS["base"], device=device, processes=Processes(), pruning=None, accumulate=2)
        assert made.part_tokens == fitting_tokens(PRESETS["base"], torch.bfloat16, memory=4 << 30)
        update = made.make(pairs, chosen)
        assert copies[0] == 3 and copies[1:] == ["pinned", {"non_blocking": True}] * 2 * 8
        with torch.device("cuda"):
            model = Transformer(PRESETS["base"], vocab_size=order.tokens.tokenizer.vocab_size, dropout=0.1)
        for part in update.parts:
            assert isinstance(part.form, Packed)
            with torch.autocast("cuda", dtype=torch.bfloat16):
                hidden = model(part.source, part.inputs, part.form)
            assert (hidden.dtype, hidden.device.type) == (torch.float32, "cuda") and hidden.requires_grad
            assert hidden.index_select(0, part.places).shape == (len(part.targets), 512)
        assert sum(len(part.targets) for part in update.parts) == update.tokens == update.basis
