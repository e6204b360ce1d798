"""A small disk: an ext4 file system on a loop device, or a tmpfs where there are none."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_MEBIBYTES = 64


@contextlib.contextmanager
def small_disk(folder: Path) -> Generator[tuple[Path, str] | None]:
    """Mount a small disk in `folder` while open.

    Yields:
        The mounted folder, and what it is; None if this user may mount nothing.
    """
    image, place = folder / "disk.image", folder / "disk"
    place.mkdir()
    kind = _mount(image, place)
    if kind is None:
        yield None
        return
    try:
        yield place, kind
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        image.unlink(missing_ok=True)


def _mount(image: Path, place: Path) -> str | None:
    if os.geteuid():
        return None
    with image.open("wb") as stream:
        stream.truncate(_MEBIBYTES << 20)
    format_it = ["mkfs.ext4", "-q", "-m", "0", image]
    if _succeeds(format_it) and _succeeds(["mount", "-o", "loop", image, place]):
        return "ext4 on a loop device"
    image.unlink()
    return "tmpfs" if _succeeds(["mount", "-t", "tmpfs", "-o", f"size={_MEBIBYTES}m", "tmpfs", place]) else None


def _succeeds(command: list[str | Path]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
