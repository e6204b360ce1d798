"""Locks of folders, which hold between processes."""

from __future__ import annotations

import errno
import fcntl
import os
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
        CatpruneError: another process holds the lock, or `path` is a file.
    """
    check_folder(path)
    (path / "log").mkdir(parents=True, exist_ok=True)
    file = path / "log" / name
    # For reading and writing: NFS locks bytes of the file, which takes the one or the other.
    lock = open(os.open(file, os.O_RDWR | os.O_CREAT, 0o666), "r+b")  # noqa: PTH123, SIM115
    try:
        lock_file(lock, file, shared=shared, wait=wait)
    except BlockingIOError:
        lock.close()
        raise CatpruneError(f"another process is at work in {path}: wait for it or end it") from None
    except BaseException:
        lock.close()
        raise
    return lock


def check_folder(path: Path) -> None:
    """Check that a path can be a folder.

    Raises:
        CatpruneError: it is a file.
    """
    if path.exists() and not path.is_dir():
        raise CatpruneError(f"{path} is a file: give a folder")


def lock_file(file: IO[bytes] | int, path: Path, *, shared: bool = False, wait: bool = True) -> None:
    """Lock an open file or folder.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is not set.
        CatpruneError: the file system has no locks.
        OSError: with the name of the file.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise CatpruneError(
                f"{path} cannot be locked ({error.strerror}): mount the file system with locks, or give a folder on "
                "another one"
            ) from None
        error.filename = str(path)
        raise
