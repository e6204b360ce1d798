"""Scoring on a GPU never waits for it inside a block: on fake tensors, which no GPU is needed for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from catprune.checkpoints import native
from catprune.model import fused_output
from catprune.model.sizes import PRESETS
from catprune.model.transformer import Transformer
from catprune.scoring.block_scoring import Scoring
from catprune.scoring.score import score
from catprune.tokens.blocks import Tokens
from catprune.training.train import train
from catprune.workspace.device import Device
from support.synthetic import contents, write_tokens
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

step = import_module("catprune.scoring.block_scoring")


class Waits(TorchDispatchMode):
    """Collects copies that make the processor wait for the GPU; reads of values are errors of fake tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.pinned: list[torch.Tensor] = []
        self.fetched: list[torch.Tensor] = []

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """Note a tensor as pinned; fake tensors cannot be."""
        self.pinned.append(tensor)
        return tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        result = func(*args, **kwargs)
        source = args[1] if name == "copy_" else args[0] if args else None
        if isinstance(source, torch.Tensor) and isinstance(result, torch.Tensor) and source.device != result.device:
            given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
            is_pinned = any(source is tensor for tensor in self.pinned)
            if given.get("non_blocking") and result.device.type == "cpu":
                self.fetched.append(source)
            elif source.numel() > 1 and not (given.get("non_blocking") and is_pinned):
                self.names.append(f"copy from {source.device.type} to {result.device.type}")
        return result


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


def scoring_of(folder: Path, device: Device, *, packed: bool) -> Scoring:
    """Return a scoring pass without a folder to write to."""
    tokens, checkpoint = Tokens.open(folder / "tokens"), native.read_checkpoint(folder / "warmup/step-1")
    batches = "packed" if packed else "equal source lengths"
    plan: Any = SimpleNamespace(plan={"options": {"batches": batches, "batch_tokens": 200}})
    return Scoring(plan, tokens, checkpoint, device)


@contextmanager
def on_fake_gpu(folder: Path, *, packed: bool) -> Iterator[tuple[Scoring, Waits]]:
    """Yield a scoring pass with its model on a GPU of fake tensors."""
    scoring = scoring_of(folder, Device("cuda", "bfloat16"), packed=packed)
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(), Waits() as waits:
        patch.setattr(fused_output, "partial_values", Kernel())
        patch.setattr(torch.cuda, "device_of", lambda _: nullcontext())
        stream = SimpleNamespace(record_event=lambda: "recorded")
        patch.setattr(torch.cuda, "current_stream", lambda _: stream)
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: waits.pin(tensor))
        size, vocab_size = PRESETS["tiny"], scoring.tokens.tokenizer.vocab_size
        with torch.device("cuda"):
            # As after `narrow`, which fake tensors cannot do.
            torch.set_default_dtype(torch.bfloat16)
            try:
                scoring.model = Transformer(size, vocab_size=vocab_size).eval()
            finally:
                torch.set_default_dtype(torch.float32)
            scoring.model.embedding = torch.nn.Embedding(vocab_size, size.d_model)
        assert scoring._products.device.type == "cuda"
        waits.names.clear()
        yield scoring, waits


@pytest.mark.parametrize("packed", [True, False])
def test_a_block_is_queued_without_waiting(trained: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    bar: Any = SimpleNamespace(to=lambda _: None)
    with on_fake_gpu(trained, packed=packed) as (scoring, waits):
        fetch, counts = step._fetch, []

        def fetch_once(batches: list[Any]) -> Any:
            counts.append((len(batches), len(waits.fetched)))
            return fetch(batches)

        monkeypatch.setattr(step, "_fetch", fetch_once)
        weights = np.ones(scoring.tokens.tokenizer.vocab_size)
        queued = scoring._queue_block(scoring.tokens.blocks[0], weights, bar, 0)
        assert queued.arrival == "recorded" and not queued.sums.any()
        assert waits.names == []
        assert len(waits.pinned) > 3 * len(queued.batches)
    assert counts == [(len(queued.batches), 0)], "statistics are fetched once, after all batches"
    assert len(waits.fetched) == len(queued.batches) > 3


def test_blocks_that_run_ahead_give_the_same_bytes(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"threads": 1, "precision": "float32", "quiet": True}
    for name, ahead in (("alone", 0), ("ahead", 1), ("far", 9)):
        monkeypatch.setitem(step.AHEAD, "cpu", ahead)
        run = Path(shutil.copytree(trained, tmp_path / name))
        score(run / "tokens", checkpoints=run / "warmup/step-1", out=run / "scores", **options)
    first = contents(tmp_path / "alone/scores")
    assert len([name for name in first if "part-" in str(name)]) == 3
    assert contents(tmp_path / "ahead/scores") == contents(tmp_path / "far/scores") == first


@pytest.mark.parametrize("inference", [True, False])
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
def test_every_kind_of_wait_is_counted(wait: Any, inference: bool) -> None:
    with FakeTensorMode(), Waits() as waits, torch.inference_mode(inference):
        x = torch.ones(3, device="cuda")
        try:
            wait(x)
        except (DataDependentOutputException, DynamicOutputShapeException):
            return  # fake tensors have no values that code could wait for
        assert len(waits.names) == 1
