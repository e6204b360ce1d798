"""What the parts of the GPU benchmark share: sizes and data, times and memory, lines of results."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import corpus
import torch
from job import Skipped
from model_data import Data

#: Rates of dense bfloat16 products of the vendor's data sheets, without sparsity, in FLOP/s.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}


@dataclass(frozen=True)
class Bench:
    """Sizes and data.

    Attributes:
        scratch: the folder of files.
        quick: whether this only checks that everything runs, on the processor.
    """

    scratch: Path
    quick: bool

    @property
    def device(self) -> str:
        """The device."""
        return "cpu" if self.quick else "cuda"

    @property
    def presets(self) -> list[str]:
        """The presets that are measured."""
        return ["tiny"] if self.quick else ["tiny", "base", "big"]

    @property
    def preset(self) -> str:
        """The preset of the parts that measure one."""
        return "tiny" if self.quick else "base"

    @cached_property
    def data(self) -> Data:
        """Generated text, and models of random weights."""
        source, target = corpus.make(self.scratch, 700 if self.quick else 150_000)
        return Data(self.scratch, source, target, 500 if self.quick else 32_000)

    @property
    def some(self) -> Path:
        """Tokens of few pairs: to warm up, and for slow contenders."""
        return self.data.corpus(60 if self.quick else 10_000)

    @property
    def whole(self) -> Path:
        """Tokens of all pairs."""
        return self.some if self.quick else self.data.tokens

    @cached_property
    def peak(self) -> float | None:
        """The rate of the data sheet, in FLOP/s; None if the GPU is unknown."""
        name = "" if self.quick else torch.cuda.get_device_name()
        return next((rate for known, rate in PEAKS.items() if known in name), None)

    def time(self, run: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
        """Run something; return its result, the seconds until the GPU is done, and the peak of memory."""
        if not self.quick:
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
        before = time.perf_counter()
        result = run()
        if not self.quick:
            torch.cuda.synchronize()
        numbers = {"seconds": round(time.perf_counter() - before, 4)}
        if not self.quick:
            numbers["gpu_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
        return result, numbers

    def speed(self, seconds: float, tokens: int, flops: float) -> dict[str, float | None]:
        """Return target tokens per second, and the share of the peak (MFU)."""
        rate = flops / seconds
        mfu = None if self.peak is None else round(rate / self.peak, 4)
        return {"tokens_per_second": round(tokens / seconds), "tflops": round(rate / 1e12, 3), "mfu": mfu}


def emit(label: str, **numbers: Any) -> None:
    """Print a line."""
    print(json.dumps({"label": label, **numbers}), flush=True)


def attempt(label: str, measure: Callable[[], dict[str, Any]]) -> None:
    """Print what a contender measures, or why it does not run here. An error of the GPU ends the process."""
    try:
        emit(label, **measure())
    except (Skipped, ImportError) as reason:
        emit(label, skipped=str(reason))
    except Exception as error:
        emit(label, failed=f"{type(error).__name__}: {error}"[:500])
        if isinstance(error, torch.AcceleratorError):
            sys.exit(1)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
