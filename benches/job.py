"""What contenders have in common: what a job is, where output goes, and how memory is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Inputs, the output folder `out`, and options.
Job = dict[str, Any]
#: What is timed: it ends with synced files, and reports numbers.
Timed = Callable[[], dict[str, Any]]


class Skipped(Exception):
    """The contender cannot run here; says why."""


def sync(*paths: str | Path) -> None:
    """Bring files to the disk."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.close(file)


def outputs(job: Job) -> list[Path]:
    """The two text files that a contender writes."""
    return [Path(job["out"]) / f"{side}{job.get('ending', '')}" for side in ("source", "target")]


def private_bytes(process: int, kind: str = "") -> int:
    """Memory that only this process has; 0 where it is gone.

    Of the kind "Dirty" it is without unchanged pages of files, a library's, say, which count as private or not by
    whether another process has them just now.
    """
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(f"Private_{kind}"))
