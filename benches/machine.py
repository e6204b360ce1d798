"""The environment of a measurement: the machine, the disk of the scratch folder, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def first_line(*command: str | Path) -> str | None:
    """Return the first line that a command prints; None if it is missing or fails."""
    try:
        done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter((done.stdout or done.stderr).splitlines()), "").strip()


def gpu() -> str | None:
    """Return the name, memory and driver of the first GPU; None if there is none."""
    return first_line("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")


#: Processor features for matrix products, with Linux's names.
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def describe(scratch: Path, homes: Mapping[str, Path | str], *, packages: Sequence[str] = ()) -> dict[str, Any]:
    """Describe the machine and the versions behind the numbers.

    Args:
        scratch: the folder for files.
        homes: the interpreters of the contenders, this one first.
        packages: packages of this environment whose versions are recorded.
    """
    information = Path("/proc/cpuinfo").read_text()
    processor = [line for line in information.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    device, kind, options = _mount(scratch)
    return {
        "processor": processor[0].partition(":")[2].strip() if processor else platform.machine(),
        "features": [feature for feature in FEATURES if feature in information.split()],
        "gpu": gpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "load_at_start": os.getloadavg()[0],
        "scratch": {"filesystem": kind, "device": device, "mount_options": options, "disk": _disk(scratch)},
        "commit": first_line("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "versions": {
            "python": platform.python_version(),
            "rustc": first_line("rustc", "--version"),
            "catprune": metadata.version("catprune"),
            **{package: metadata.version(package) for package in packages},
            "coreutils": first_line("cp", "--version"),
            "awk": first_line("gawk", "--version") or first_line("awk", "-W", "version"),
            **_packages([home for home in homes.values() if isinstance(home, Path)]),
        },
    }


def _mount(folder: Path) -> tuple[str, str, str]:
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if left.split()[2] == number:
            kind, source, _ = right.split(maxsplit=2)
            return source, kind, left.split()[5]
    return "unknown", "unknown", ""


def _disk(folder: Path) -> str:
    device = folder.stat().st_dev
    queue = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    for place in (queue, queue.parent):
        if (place / "queue" / "rotational").exists():
            return "rotating" if (place / "queue" / "rotational").read_text().strip() == "1" else "not rotating"
    return "unknown"


def _packages(interpreters: list[Path]) -> dict[str, str]:
    """Return the versions of the peers in their environments."""
    code = "from importlib.metadata import distributions as d; [print(x.name.lower(), x.version) for x in d()]"
    names = {"numpy", "polars", "duckdb", "xxhash", "tokenizers", "rensa", "gaoya", "opusfilter"}
    versions: dict[str, str] = {}
    for interpreter in interpreters[1:]:  # the first is our own
        done = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=False)
        lines = (line.split() for line in done.stdout.splitlines())
        versions = {line[0]: line[1] for line in lines if len(line) == 2 and line[0] in names} | versions
    return versions
