"""Where torch computes and in which precision: decided once, before a plan is written."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from catprune.errors import UsageError, require
from catprune.workspace.resources import choose_threads

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch

PRECISIONS = ("auto", "float32", "bfloat16")


def check_precision(precision: str) -> None:
    """Refuse an unknown precision.

    Raises:
        UsageError: it is not one of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision}: give one of {', '.join(PRECISIONS)}")


def require_torch() -> None:
    """Raise `MissingExtra` where torch or safetensors is not installed."""
    require("torch", "torch", "safetensors")


def processor_gains_by_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32.

    By AMX it does. By AVX-512 it does on AMD's processors; Intel's have half the rate of float32 (84 against 165 GFLOPS
    in products of 1024 x 128 by 128 x 512 on one core of an Emerald Rapids). Without either, torch needs a hundred
    times as long.
    """
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return "amx_bf16" in told or ("avx512_bf16" in told and "AuthenticAMD" in told)


@dataclass(frozen=True, slots=True)
class Device:
    """The device (`cpu` or `cuda`) and the precision of matrix products (`float32` or `bfloat16`)."""

    name: str
    precision: str

    @classmethod
    def choose(cls, precision: str, *, local: int | None = None) -> Device:
        """CUDA where there is one; `auto` becomes bfloat16 where the hardware gains by it, else float32.

        Args:
            precision: one of `PRECISIONS`.
            local: this process's number among those of the machine: each takes a GPU of its own.

        Raises:
            UsageError: an unknown precision.
        """
        import torch

        check_precision(precision)
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cuda" and local is not None:
            # A launcher may show each process all GPUs of the machine, or its own alone.
            torch.cuda.set_device(local % torch.cuda.device_count())
        if precision == "auto":
            gains = torch.cuda.is_bf16_supported() if name == "cuda" else processor_gains_by_bfloat16()
            precision = "bfloat16" if gains else "float32"
        return cls(name, precision)

    @property
    def dtype(self) -> torch.dtype:
        """The type of matrix products."""
        import torch

        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context in which models run."""
        import torch

        return torch.autocast(self.name, dtype=self.dtype, enabled=self.precision == "bfloat16")


@contextlib.contextmanager
def own_state(threads: int | None) -> Generator[None]:
    """Run with `threads` threads (None: as torch has it), and leave torch's threads and random state as they were."""
    import torch

    choose_threads(threads)
    before = torch.get_num_threads()
    with torch.random.fork_rng():
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
