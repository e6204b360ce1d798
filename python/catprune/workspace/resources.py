"""Resources of the machine that a pass may use: threads and memory, parsed from options; hashing on several threads."""

from __future__ import annotations

import contextlib
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from catprune._core import digest_files
from catprune.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
#: Most threads that can be asked for.
MOST_THREADS = 2**16
#: Threads that hash files.
MOST_HASHING_THREADS = 8
#: Where Linux shows the control groups of this process, and their limits.
_GROUPS, _LIMITS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def choose_threads(threads: int | None) -> int:
    """Check a number of threads; None: all processors that this process may use.

    Raises:
        UsageError: `threads` is not a whole number, is below 1, or is too large.
    """
    if threads is None:
        return available_processors()
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MOST_THREADS:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"threads = {threads!r}: give a whole number, at least 1 and at most {MOST_THREADS}")
    return threads


def digest_all(paths: Sequence[Path | str]) -> list[str]:
    """Return the digests of files, in their order: on all processors, but on at most 8 threads, as disks need no more.

    Raises:
        OSError: a file cannot be read.
    """
    return digest_files(paths, threads=min(MOST_HASHING_THREADS, available_processors()))


def available_processors() -> int:
    """Count the processors that this process may use: by its affinity, and by the quota of its control groups."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _control_groups("cpu") if (quota := _quota(folder)) is not None]
    return max(1, min([allowed, *(math.ceil(quota) for quota in quotas)]))


def available_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or the limit of its control groups."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    limits = [_number(folder / name) for folder in _control_groups("memory") for name in names]
    return min([machine, *(int(limit) for limit in limits if limit)])


def choose_memory(memory: int | str | None, *, least: int = 1) -> int:
    """Parse a memory budget into bytes; None: half of the memory that this process may use, but at least `least`.

    Args:
        memory: a number of bytes, or text like `512M` or `4G` (powers of 1024).
        least: bytes that the pass needs.

    Raises:
        UsageError: `memory` cannot be parsed, or is less than `least`.
    """
    if memory is None:
        return max(least, available_memory() // 2)
    match = re.fullmatch(r"([0-9]+)([KMGT]?)", str(memory), re.ASCII | re.IGNORECASE)
    budget = int(match[1]) * _UNITS[match[2].upper()] if match else 0
    if not least <= budget < 2**63:
        minimum = f", at least {least >> 20}M" if least >= 2**20 else ""
        raise UsageError(f"memory = {memory}: give bytes, or a number with K, M, G or T, like 4G{minimum}")
    return budget


def _control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control group and of those above it, in version 2 and 1.

    In a container the group's own path may be that of the host; the folder at the root is then the container's.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in _GROUPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            root = _LIMITS / controllers if controllers else _LIMITS
            path = root / group.lstrip("/")
            yield from (folder for folder in (path, *path.parents) if folder.is_relative_to(root))


def _quota(folder: Path) -> float | None:
    """Processors that a control group may use; None if it has no quota."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def _number(path: Path) -> int | None:
    """The number in a file; None if there is none."""
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text(encoding="ascii"))
    return None
