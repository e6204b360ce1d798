"""Scoring on a GPU never waits for it inside a block: on fake tensors, which no GPU is needed for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from catprune.checkpoints import native
from catprune.model import fused_output
from catprune.model.sizes import PRESETS
from catprune.model.transformer import Transformer
from catprune.scoring.score import _Scoring
from catprune.tokens.blocks import Tokens
from catprune.training.train import train
from catprune.workspace.device import Device
from support.synthetic import write_tokens
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

#: Operations whose results the processor reads. Fake tensors raise an error for most of them, too.
READS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive")


class Waits(TorchDispatchMode):
    """Collects the operations that make the processor wait for the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.pinned: list[torch.Tensor] = []

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """Note a tensor as pinned; fake tensors cannot be."""
        self.pinned.append(tensor)
        return tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        is_mask = name == "index" and any(place is not None and place.dtype == torch.bool for place in args[1])
        if name in READS or is_mask:
            self.names.append(name)
        if name in ("_to_copy", "copy_"):
            source = args[0] if name == "_to_copy" else args[1]
            to = kwargs.get("device", source.device) if name == "_to_copy" else args[0].device
            is_pinned = any(source is tensor for tensor in self.pinned)
            is_queued = kwargs.get("non_blocking", False) and is_pinned
            if source.device != to and source.numel() > 1 and not is_queued:
                self.names.append(f"copy from {source.device.type} to {to.type}")
        return func(*args, **kwargs)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("queue")
    tokens = write_tokens(folder / "tokens")
    train(tokens, out=folder / "warmup", steps=1, threads=1, precision="float32", quiet=True)
    return folder


class Kernel:
    """Stands in for the fused kernel, which Triton launches only on real memory."""

    def __getitem__(self, grid: tuple[int, int]) -> Any:
        return lambda *_, **__: None


def scoring_of(folder: Path, device: Device, *, packed: bool) -> _Scoring:
    """Return a scoring pass without a folder to write to."""
    tokens, checkpoint = Tokens.open(folder / "tokens"), native.read_checkpoint(folder / "warmup/step-1")
    batches = "packed" if packed else "equal source lengths"
    plan: Any = SimpleNamespace(plan={"options": {"batches": batches}})
    return _Scoring(plan, tokens, checkpoint, device, batch_tokens=200)


def score_block(scoring: _Scoring) -> None:
    """Score the first block."""
    block, bar = scoring.tokens.read(scoring.tokens.blocks[0]), cast("Any", SimpleNamespace(to=lambda _: None))
    scoring._score_block(block, np.ones(scoring.tokens.tokenizer.vocab_size), bar, 0)


@contextmanager
def on_fake_gpu(folder: Path, *, packed: bool) -> Iterator[tuple[_Scoring, Waits]]:
    """Yield a scoring pass with its model on a GPU of fake tensors."""
    scoring = scoring_of(folder, Device("cuda", "bfloat16"), packed=packed)
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(), Waits() as waits:
        patch.setattr(fused_output, "partial_values", Kernel())
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: waits.pin(tensor))
        patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        with torch.device("cuda"):
            scoring.model = Transformer(PRESETS["tiny"], vocab_size=scoring.tokens.tokenizer.vocab_size).eval()
        assert scoring._products.device.type == "cuda"
        waits.names.clear()
        yield scoring, waits


@pytest.mark.parametrize("packed", [True, False])
def test_a_block_is_queued_without_waiting(trained: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    collected: list[int] = []
    monkeypatch.setattr(_Scoring, "_collect", lambda *arguments: collected.append(len(arguments[2])))
    with on_fake_gpu(trained, packed=packed) as (scoring, waits):
        score_block(scoring)
        assert waits.names == []
        assert len(waits.pinned) > 3 * collected[0]
    assert len(collected) == 1 and collected[0] > 3, "statistics are fetched once, after all batches"


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: bool((x > 0).all()),
        lambda x: x + torch.ones(len(x)).to(x.device),
        lambda x: x + torch.ones(len(x)).to(x.device, non_blocking=True),
    ],
)
def test_every_kind_of_wait_is_counted(wait: Any) -> None:
    with FakeTensorMode(), Waits() as waits:
        x = torch.ones(3, device="cuda")
        with contextlib.suppress(DataDependentOutputException, DynamicOutputShapeException):
            wait(x)
        assert len(waits.names) == 1


def test_scores_on_processors_read_no_single_values(trained: Path) -> None:
    """The same code runs on processors, where the output layer is another."""
    scoring = scoring_of(trained, Device("cpu", "float32"), packed=False)
    with Waits() as waits:
        score_block(scoring)
    assert waits.names == []
