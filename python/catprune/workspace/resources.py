"""Resources of the machine that a pass may use: threads and memory, parsed from options."""

from __future__ import annotations

import os
import re

from catprune.errors import UsageError

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def choose_threads(threads: int | None) -> int:
    """Check a number of threads; None: all cores.

    Raises:
        UsageError: `threads` is not a whole number, or is below 1.
    """
    if threads is None:
        return os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"threads = {threads!r}: give a whole number, at least 1")
    return threads


def choose_memory(memory: int | str | None, *, least: int = 1) -> int:
    """Parse a memory budget into bytes; None: half of the memory.

    Args:
        memory: a number of bytes, or text like `512M` or `4G` (powers of 1024).
        least: bytes that the pass needs.

    Raises:
        UsageError: `memory` cannot be parsed, or is less than `least`.
    """
    if memory is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    match = re.fullmatch(r"([0-9]+)([KMGT]?)", str(memory), re.ASCII | re.IGNORECASE)
    budget = int(match[1]) * _UNITS[match[2].upper()] if match else 0
    if not least <= budget < 2**63:
        minimum = f", at least {least >> 20}M" if least >= 2**20 else ""
        raise UsageError(f"memory = {memory}: give bytes, or a number with K, M, G or T, like 4G{minimum}")
    return budget
