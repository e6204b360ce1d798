"""The kernel of the fused output layer: in Triton's interpreter, and compiled for GPUs that need not be here."""

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
    file = HERE / "fused_output_interpreted.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize("kind", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize(("capability", "name", "shared"), [(80, "sm_80", 99 << 10), (90, "sm_90a", 99 << 10)])
def test_the_kernel_compiles_without_spills(tmp_path: Path, kind: str, capability: int, name: str, shared: int) -> None:
    from catprune.model.fused_output import SPLIT, TILES, partial_values
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    # Triton may have one for old and one for new versions of PTX; the last reads both.
    compilers = sorted((Path(triton.__file__).parent / "backends" / "nvidia" / "bin").glob("ptxas*"))
    if not compilers:
        pytest.skip("this build of triton has no ptxas")
    tile_tokens, tile_entries, depth, warps, stages = TILES[4 if kind == "fp32" else 2]
    constants = {"width": 512, "split": SPLIT, "has_bias": True, "widens": False}
    constants |= {"tile_tokens": tile_tokens, "tile_entries": tile_entries, "depth": depth}
    pointers = {"hidden": f"*{kind}", "matrix": f"*{kind}", "bias": "*fp32", "targets": "*i64", "out": "*fp32"}
    signature = {**pointers, "tokens": "i32", "entries": "i32", **dict.fromkeys(constants, "constexpr")}
    aligned: dict[Any, Any] = {(place,): [["tt.divisibility", 16]] for place in range(len(pointers))}
    source = ASTSource(partial_values, signature, constants, aligned)
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
    compiled: Any = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert compiled.metadata.shared <= shared
    (tmp_path / "kernel.ptx").write_text(compiled.asm["ptx"])
    command = [str(compilers[-1]), "-v", f"--gpu-name={name}", "kernel.ptx", "-o", "kernel.cubin"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {int(count) for count in re.findall(r"(\d+) bytes spill", done.stderr)} == {0}
    if kind != "fp32":  # the matrix units are used
        assert ("wgmma" if capability == 90 else "mma.sync") in compiled.asm["ptx"]
