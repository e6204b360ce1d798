"""Damage: flipped bits in published files and in those of killed commands, and changed inputs."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from torture.steps import Step
from torture.world import Case, Fault, files, finish, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def flipped_bits(case: Case, step: Step) -> str:
    """One bit of a file that the step reads, or made, is flipped, then the step is run.

    Finished work is not read again: then `force` must repair it.
    """
    own = case.random.random() < 0.5 or not step.needs
    case.stage(step, finished=own)
    path = _flip_any(case, [step.name] if own else step.needs)
    if not refused(case.run(step), path.name):
        # The step does not read this file, or finished work is not read again.
        if not own or step.name == "append":
            shutil.copyfile(case.world.folder / "made" / _maker(case, path, step), path)
            case.compare(step)
            return "not read, same bytes"
        case.repeat(step, "--force")
        return "not read, then made again by force"
    if own and step.name not in ("append", "run", "evaluate"):  # force makes all rows of an appended corpus again
        case.repeat(step, "--force")
        return "refused, then made again by force"
    return "refused"


def _flip_any(case: Case, makers: Sequence[str]) -> Path:
    """Flip one bit of a file of these steps; every kind of file is as likely, however many there are."""
    kinds: dict[str, list[Path]] = {}
    for name in makers:
        for file in files(case.world.folder / "made" / name):
            kind = "".join("#" if letter.isdigit() else letter for letter in file)
            kinds.setdefault(kind, []).append(case.folder / file)
    path = case.random.choice(kinds[case.random.choice(sorted(kinds))])
    flip_bit(path, case.random.randrange(path.stat().st_size), case.random.randrange(8))
    return path


def flipped_after_kill(case: Case, step: Step) -> str:
    """The command is killed, one bit of what it left is flipped, and the same command is run again."""
    case.stage(step)
    command = case.start(step)
    if command.wait(case.moment(step)) is None:
        command.signal(signal.SIGKILL)
        command.wait()
    command.orphans()
    made = [path for path in files(case.folder).values() if _is_new(case, step, path) and path.stat().st_size]
    if not made:
        case.repeat(step)
        return "killed too early"
    path = case.random.choice(made)
    place, bit = case.random.randrange(path.stat().st_size), case.random.randrange(8)
    flip_bit(path, place, bit)
    was_refused = refused(case.run(step), path.name)
    if was_refused and step.name != "append":
        case.repeat(step, "--force")
        return "refused, then made again by force"
    try:
        case.compare(step)
    except Fault:
        if step.name == "append":  # force makes all rows of an appended corpus again
            flip_bit(path, place, bit)
            case.repeat(step)
            return "refused" if was_refused else "not read, same bytes"
        # Finished work is not read again.
        case.repeat(step, "--force")
        return "not read, then made again by force"
    return "same bytes"


def _is_new(case: Case, step: Step, path: Path) -> bool:
    """Whether a file is none of the inputs and none of the step's needs."""
    relative = path.relative_to(case.folder)
    places = [case.world.folder / "inputs", *(case.world.folder / "made" / name for name in step.needs)]
    return not any((place / relative).is_file() for place in places)


def _maker(case: Case, path: Path, step: Step) -> Path:
    """Return the place of the undisturbed file, relative to the folder of all results."""
    relative = path.relative_to(case.folder)
    return next(
        Path(name) / relative
        for name in reversed((*step.needs, step.name))
        if (case.world.folder / "made" / name / relative).is_file()
    )


def flip_bit(path: Path, place: int, bit: int) -> None:
    """Flip a bit of a file; its times stay."""
    data = bytearray(path.read_bytes())
    status = path.stat()
    data[place] ^= 1 << bit
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _change(path: Path, data: bytes) -> None:
    place = len(data) // 2
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def _replace(path: Path, data: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(data[: len(data) // 2] + data[: len(data) // 2])
    other.rename(path)


def _remove(path: Path, _: bytes) -> None:
    path.unlink()


def _make_folder(path: Path, _: bytes) -> None:
    path.unlink()
    path.mkdir()


#: What happens to an input.
CHANGES: dict[str, Callable[[Path, bytes], object]] = {
    "changed": _change,
    "replaced": _replace,
    "truncated": lambda path, data: os.truncate(path, len(data) // 3),
    "emptied": lambda path, _: os.truncate(path, 0),
    "longer": lambda path, data: path.write_bytes(data + data),
    "removed": _remove,
    "a folder": _make_folder,
}


def changed_inputs(case: Case, step: Step) -> str:
    """An input is changed before the step or during it, and put back; then the same command again."""
    case.stage(step, finished=case.random.random() < 0.2)
    name = case.random.choice(step.texts)
    path, change = case.folder / name, case.random.choice(sorted(CHANGES))
    data = path.read_bytes()
    is_before = case.random.random() < 0.5
    command = None if is_before else case.start(step)
    if command is not None:
        time.sleep(case.moment(step))
    CHANGES[change](path, data)
    command = command or case.start(step)
    ended = finish(command, step)
    # Changed text may read as a broken file, a broken record, or two sides of unlike length.
    refused(ended, name, name.replace(".en.", ".de."))
    if path.is_dir():
        path.rmdir()
    path.write_bytes(data)
    ended = case.run(step)
    if refused(ended, name, "holds work with other", "changed since"):
        case.repeat(step, "--force")
        return "refused, then same bytes by force"
    case.compare(step)
    return "same bytes"
