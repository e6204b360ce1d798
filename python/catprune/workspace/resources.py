"""What a pass may take of the machine: threads and memory, read as they are given."""

from __future__ import annotations

import os
import re

from catprune.errors import UsageError

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def choose_threads(threads: int | None) -> int:
    """So many threads; the machine's by default.

    Raises:
        UsageError: no whole number from 1 on.
    """
    if threads is None:
        return os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"threads = {threads!r}: give at least 1, a whole number")
    return threads


def choose_memory(memory: int | str | None, *, least: int = 1) -> int:
    """Bytes from a number of them or from text like `512M` or `4G`; half of the machine's memory by default.

    Raises:
        UsageError: anything else, or less than `least`.
    """
    if memory is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    found = re.fullmatch(r"([0-9]+)([KMGT]?)", str(memory), re.ASCII | re.IGNORECASE)
    chosen = int(found[1]) * _UNITS[found[2].upper()] if found else 0
    if not least <= chosen < 2**63:
        told = f", {least >> 20}M at least" if least >= 2**20 else ""
        raise UsageError(f"memory = {memory}: give bytes, or a number with K, M, G or T, like 4G{told}")
    return chosen
