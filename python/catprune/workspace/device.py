"""The device and the precision of a step, decided once before its plan is written."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.errors import UsageError, require
from catprune.workspace.resources import available_processors, choose_threads

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch
    from numpy.typing import NDArray
    from torch import Tensor

PRECISIONS = ("auto", "float32", "bfloat16")
#: Environment variables that say how threads of OpenMP wait (GNU's library, LLVM's and Intel's).
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
#: Models at least this wide are trained in bfloat16 on processors that gain by it. Narrower ones gain nothing (128:
#: 160 updates of 2,048 tokens took 59 s in both precisions), and the library keeps code and memory for every shape of
#: a bfloat16 product: 2.3 instead of 0.9 GB.
_LEAST_WIDTH = 256
#: The compute capability of the first GPUs that multiply bfloat16 (A100).
_LEAST_CAPABILITY = (8, 0)


def check_precision(precision: str) -> None:
    """Refuse a precision that is not one of `PRECISIONS`.

    Raises:
        UsageError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision}: give one of {', '.join(PRECISIONS)}")


def require_torch() -> None:
    """Import torch, with threads that sleep while they wait, unless the environment says how they wait.

    By default threads of OpenMP spin. On a busy machine that takes the processor from the threads they wait for.

    Raises:
        MissingExtra: torch or safetensors is not installed.
    """
    if not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # read when torch loads its OpenMP library
    require("torch", "torch", "safetensors")


def processor_gains_by_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32.

    With AMX it does. With AVX-512 alone, AMD processors do. Intel processors reach half the rate of float32 (84 instead
    of 165 GFLOPS for 1024 x 128 by 128 x 512 on one core of an Emerald Rapids). Without either, torch takes about a
    hundred times as long.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return "amx_bf16" in flags or ("avx512_bf16" in flags and "AuthenticAMD" in flags)


@dataclass(frozen=True, slots=True)
class Device:
    """The device (`cpu` or `cuda`) and the precision of matrix products (`float32` or `bfloat16`)."""

    name: str
    precision: str

    @classmethod
    def choose(cls, precision: str, *, local: int | None = None, trained_width: int | None = None) -> Device:
        """Choose CUDA if available, else the CPU. `auto` becomes bfloat16 if that is faster there, else float32.

        Args:
            precision: one of `PRECISIONS`.
            local: the local rank of this process, from 0: each process takes its own GPU.
            trained_width: width of the model if it is trained; narrow models gain nothing on processors.

        Raises:
            UsageError: the precision is unknown.
        """
        import torch

        check_precision(precision)
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cuda" and local is not None:
            # A launcher may show each process all GPUs of the machine, or only its own.
            torch.cuda.set_device(local % torch.cuda.device_count())
        if precision == "auto":
            is_narrow = trained_width is not None and trained_width < _LEAST_WIDTH
            on_processor = not is_narrow and processor_gains_by_bfloat16()
            # Older GPUs compute bfloat16 by emulation, which torch counts as support.
            on_gpu = name == "cuda" and torch.cuda.get_device_capability() >= _LEAST_CAPABILITY
            gains = on_gpu if name == "cuda" else on_processor
            precision = "bfloat16" if gains else "float32"
        return cls(name, precision)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of matrix products."""
        import torch

        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the autocast context in which models run."""
        import torch

        return torch.autocast(self.name, dtype=self.dtype, enabled=self.precision == "bfloat16")


def send(array: NDArray[Any], device: str | torch.device) -> Tensor:
    """Copy an array to the device; no code waits until a GPU has it."""
    import torch

    tensor = torch.from_numpy(array)
    # torch keeps the pinned memory until the copy is done.
    return tensor if torch.device(device).type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


@contextlib.contextmanager
def own_state(threads: int | None) -> Generator[None]:
    """Run with `threads` threads, and restore torch's threads and random state.

    None: torch's own number, but at most the processors that this process may use.
    """
    import torch

    before = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.set_num_threads(choose_threads(threads) if threads is not None else min(before, available_processors()))
        try:
            yield
        finally:
            torch.set_num_threads(before)


def use_threads(threads: int | None) -> None:
    """Let torch use so many threads, within `own_state`; None: as many as before."""
    import torch

    if threads is not None and threads != torch.get_num_threads():
        torch.set_num_threads(threads)
