"""The kernel of the training loss: in Triton's interpreter, and compiled for GPUs that need not be here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton")

HERE = Path(__file__).parent


def test_the_kernel_in_the_interpreter() -> None:
    """In a process of its own: Triton interprets either all kernels of a process or none."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "fused_loss_interpreted.py")]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize("has_weights", [False, True])
@pytest.mark.parametrize("kind", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize(("capability", "name"), [(75, "sm_75"), (80, "sm_80"), (90, "sm_90a")])
def test_the_kernel_compiles_without_spills(
    tmp_path: Path, kind: str, capability: int, name: str, *, has_weights: bool
) -> None:
    from catprune.model.fused_loss import BLOCK, WARPS, rows_of_gradients
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    # Triton may have one for old and one for new versions of PTX; the last reads both.
    compilers = sorted((Path(triton.__file__).parent / "backends" / "nvidia" / "bin").glob("ptxas*"))
    if not compilers:
        pytest.skip("this build of triton has no ptxas")
    if capability < 80 and kind == "bf16":
        pytest.skip("no bfloat16")
    constants = {"has_weights": has_weights, "block": BLOCK}
    pointers = {"logits": f"*{kind}", "targets": "*i64", "weights": "*fp32", "out": "*fp32"}
    numbers = {"tokens": "i32", "entries": "i32", "smoothing": "fp32"}
    signature = {**pointers, **numbers, **dict.fromkeys(constants, "constexpr")}
    aligned: dict[Any, Any] = {(place,): [["tt.divisibility", 16]] for place in range(len(pointers))}
    source = ASTSource(rows_of_gradients, signature, constants, aligned)
    options = {"num_warps": WARPS, "enable_fp_fusion": True}
    compiled: Any = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    (tmp_path / "kernel.ptx").write_text(compiled.asm["ptx"])
    command = [str(compilers[-1]), "-v", f"--gpu-name={name}", "kernel.ptx", "-o", "kernel.cubin"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {int(count) for count in re.findall(r"(\d+) bytes spill", done.stderr)} == {0}
