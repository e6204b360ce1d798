"""Commands without root's rights: read-only folders and unreadable inputs."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from torture.steps import BY_NAME, Step
from torture.world import Case, Fault, refused


def unprivileged(case: Case, step: Step) -> str:
    """Without root's rights: what a step reads is read-only, or its folder is, or an input cannot be read."""
    case.stage(step)
    kind = case.random.choice(("read-only needs", "read-only folder", "unreadable input"))
    closed: list[Path] = []
    if kind == "read-only needs":
        made = {name for need in step.needs for name in BY_NAME[need].makes} - set(step.makes)
        for name in sorted(made):
            paths = [case.folder / name, *(case.folder / name).rglob("*")]
            closed += [path for path in paths if path.exists()]
    elif kind == "read-only folder":
        closed = [case.folder]
    elif step.texts:
        closed = [case.folder / case.random.choice(step.texts)]
    modes = {path: path.stat().st_mode for path in closed}
    for path, mode in modes.items():
        path.chmod(0 if kind == "unreadable input" else mode & 0o555)
    try:
        ended = case.run(step, before=drop_rights)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    was_refused = refused(ended, *(path.name for path in closed), *step.makes, "Permission denied")
    if was_refused and kind == "read-only needs":
        raise Fault(f"{step.name} was refused, with what it reads read-only: {ended.errors}")
    case.repeat(step)
    return f"{kind}: {'refused, then ' if was_refused else ''}same bytes"


#: Capabilities by which root may read and write everything.
_DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER = 1, 2, 3
_PR_CAPBSET_DROP = 24


def drop_rights() -> None:
    """Take from this process and its children what root may do against the modes of files."""
    if os.geteuid():
        return
    system = ctypes.CDLL(None, use_errno=True)
    rights = 0
    for number in (_DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER):
        system.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
        rights |= 1 << number
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    if system.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for place in range(3):
        sets[place] &= ~rights
    if system.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")
