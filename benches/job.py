"""Common parts of contenders: jobs, output files, and memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Inputs, the output folder `out`, and options.
Job = dict[str, Any]
#: The timed function: it ends with synced files, and returns numbers to report.
Timed = Callable[[], dict[str, Any]]


class Skipped(Exception):
    """The contender cannot run here; the message gives the reason."""


def sync(*paths: str | Path) -> None:
    """Sync files to disk."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.close(file)


def outputs(job: Job) -> list[Path]:
    """Return the two text files that a contender writes."""
    return [Path(job["out"]) / f"{side}{job.get('ending', '')}" for side in ("source", "target")]


def private_bytes(process: int, kind: str = "") -> int:
    """Return the private memory of a process in bytes; 0 if it has ended.

    The kind "Dirty" leaves out unchanged pages of files such as libraries, which count as private only while no other
    process maps them.
    """
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(f"Private_{kind}"))
