"""Locks of folders, which other processes see."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from catprune.errors import CatpruneError


def lock_folder(path: Path, *, shared: bool = False, name: str = "lock", wait: bool = False) -> IO[bytes]:
    """Make a folder this process's own, or one that it shares, until the stream that comes back is closed.

    Raises:
        CatpruneError: another process has it, or shares it where this one would have it alone.
    """
    (path / "log").mkdir(parents=True, exist_ok=True)
    lock = (path / "log" / name).open("wb")
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        lock.close()
        raise CatpruneError(f"another process is at work in {path}: wait for it or end it") from None
    return lock
