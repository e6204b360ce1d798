"""Locks of folders, which hold between processes."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from catprune.errors import CatpruneError


def lock_folder(path: Path, *, shared: bool = False, name: str = "lock", wait: bool = False) -> IO[bytes]:
    """Lock a folder until the returned stream is closed.

    Args:
        path: the folder; it is made if it does not exist.
        shared: share the lock with other processes that share it, instead of locking the folder exclusively.
        name: of the lock file in the folder `log`.
        wait: wait for the lock instead of failing.

    Raises:
        CatpruneError: another process holds the lock.
    """
    (path / "log").mkdir(parents=True, exist_ok=True)
    lock = (path / "log" / name).open("wb")
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        lock.close()
        raise CatpruneError(f"another process is at work in {path}: wait for it or end it") from None
    return lock
