"""A run that dies in the middle of writing a path."""

from __future__ import annotations

from pathlib import Path

#: Runs a file, and dies like in a power cut while it writes a path for the nth time.
DYING = """
import os, signal, sys
from catprune.workspace import files

write, left = files.write_whole, int(sys.argv[3])


def write_or_die(path, data):
    global left
    left -= str(path) == sys.argv[2]
    if not left:
        path.with_name(path.name + ".tmp").write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, data)


files.write_whole = write_or_die
import catprune

catprune.run(sys.argv[1], quiet=True)
"""

#: A scorer: pairs of unequal sides get a low score.
MINE = """
def lengths(sources, targets):
    return [-abs(len(source) - len(target)) for source, target in zip(sources, targets)]
"""


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a run but the logs, and the report, which shows how many seconds each training took."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "log" not in path.relative_to(folder).parts and path.name != "report.html"
    }
