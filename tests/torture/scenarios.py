"""The kinds of disturbance. Each case ends with equal bytes or a clear refusal; anything else is a fault."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torture.processes import Command, Ended
from torture.steps import BY_NAME, Step
from torture.world import Case, Fault, files, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Longest time in seconds between a signal and the end of the command, on a busy machine.
LONGEST_STOP = 60
SIGNALS = (signal.SIGKILL,) * 4 + (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def kills(case: Case, step: Step) -> str:
    """Up to three signals at random moments, then the same command again."""
    case.stage(step)
    killed = 0
    for _ in range(case.random.choice((1, 1, 2, 3))):
        number = case.random.choice(SIGNALS)
        command = case.start(step)
        ended = command.wait(case.moment(step))
        if ended is None:
            killed += 1
            command.signal(number, group=case.random.random() < 0.3)
            ended = command.wait(LONGEST_STOP)
            if ended is None:
                command.kill()
                raise Fault(f"{step.name} goes on after signal {number}")
        if ended.code not in (0, -number, 128 + number) or (ended.code > 0 and ended.crashed):
            raise Fault(f"signal {number}: {step.name} ended with {ended.code}: {ended.errors[-2000:]}")
        if command.orphans():
            raise Fault(f"signal {number}: {step.name} left processes behind")
    case.repeat(step)
    return "same bytes" if killed else "ended before the signal"


def pipes(case: Case, step: Step) -> str:
    """Standard output or error is a pipe whose reader ends at a random moment, then the same command again."""
    case.stage(step)
    reader, writer = os.pipe()
    stream = case.random.choice((1, 2))

    def connect() -> None:
        os.dup2(writer, stream)
        os.close(reader)
        os.close(writer)

    arguments = (*step.arguments, *(("--json",) if stream == 1 and step.name != "report" else ()))
    program = (sys.executable, "-m", "catprune", *arguments) if case.random.random() < 0.3 else None
    command = Command(arguments, case.folder, before=connect, program=program)
    os.close(writer)
    ended = command.wait(case.moment(step) if case.random.random() < 0.7 else 0)
    os.close(reader)
    ended = ended or command.wait()
    if ended is None:
        command.kill()
        raise Fault(f"{step.name} hangs after its pipe was closed")
    if ended.code not in (0, 1, 120) or "Traceback" in ended.errors:
        raise Fault(f"closed pipe: {step.name} ended with {ended.code}: {ended.errors[-2000:]}")
    if command.orphans():
        raise Fault(f"closed pipe: {step.name} left processes behind")
    case.repeat(step)
    return "same bytes"


def refused(ended: Ended, *names: str) -> bool:
    """Whether a command succeeded (False) or was refused with a message that has one of these texts (True).

    Raises:
        Fault: it failed otherwise.
    """
    if ended.code == 0:
        return False
    if ended.code not in (1, 2) or not any(name in ended.errors for name in names):
        raise Fault(f"expected a refusal that names one of {names}, not {ended.code}: {ended.errors[-2000:]}")
    return True


def full_disk(case: Case, step: Step) -> str:
    """The disk has room for a random part of the results; when there is room, the same command again.

    Without a small disk, files have room for a random part of the largest one.
    """
    case.stage(step)
    made = case.world.folder / "made" / step.name
    sizes = [path.stat().st_size for path in made.rglob("*") if path.is_file()]
    room = case.random.uniform(0, 1.5)
    if case.on_small_disk:
        ballast = case.folder.with_name("ballast")
        fill(ballast, int(room * sum(sizes)))
        ended = case.run(step)
        ballast.unlink()
    else:
        limit = 4096 + int(room * max(sizes))  # messages have room
        ended = case.run(step, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    was_refused = refused(ended, "No space left", "disk", "File too large")
    case.repeat(step)
    return "refused, then same bytes" if was_refused else "same bytes"


def fill(ballast: Path, room: int) -> None:
    """Write a file that leaves about `room` bytes of its disk free."""
    with ballast.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            status = os.statvfs(ballast.parent)
            rest = status.f_bavail * status.f_frsize - room
            if rest <= 0 or stream.write(bytes(min(rest, 1 << 20))) == 0:
                break


def operations(case: Case, step: Step) -> str:
    """The command is killed in its nth operation on files, or that operation fails; then the same command again."""
    case.stage(step)
    calls = "rename,renameat,renameat2,unlink,unlinkat,rmdir,fsync,fdatasync,ftruncate,mkdir,flock,link,linkat"
    action = case.random.choice(("signal=SIGKILL", "signal=SIGKILL", "error=EIO", "error=ENOSPC"))
    if action.startswith("error"):
        calls = case.random.choice(("rename,renameat,renameat2", "fsync,fdatasync", "ftruncate", "mkdir", "write"))
    number = int(case.random.uniform(1, 1 + case.random.choice((4, 16, 64))))
    program = (
        *("strace", "-f", "-qqq", "-o", os.devnull, "--seccomp-bpf", f"--trace={calls}"),
        *(f"--inject={calls}:{action}:when={number}", sys.executable, "-m", "catprune", *step.arguments, "--quiet"),
    )
    command = Command((), case.folder, program=program)
    ended = command.wait()
    if ended is None:
        command.kill()
        raise Fault(f"{step.name} hangs after {action} of {calls} number {number}")
    command.orphans()
    is_killed = ended.code in (-signal.SIGKILL, 128 + signal.SIGKILL)
    if not is_killed and (ended.code not in (0, 1) or ended.crashed):
        raise Fault(f"{action} of {calls} number {number}: {step.name} ended with {ended.code}: {ended.errors}")
    case.repeat(step)
    return "same bytes" if ended.code == 0 else "killed, then same bytes" if is_killed else "refused, then same bytes"


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
    flip_bit(path, case.random.randrange(path.stat().st_size), case.random.randrange(8))
    if refused(case.run(step), path.name):
        case.repeat(step, "--force")
        return "refused, then made again by force"
    try:
        case.compare(step)
    except Fault:
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


def two_processes(case: Case, step: Step) -> str:
    """The same command twice at once, one of them perhaps killed; then the same command again."""
    case.stage(step)
    commands = [case.start(step)]
    time.sleep(case.random.choice((0, 0, 0.02, case.moment(step))))
    commands.append(case.start(step))
    if case.random.random() < 0.3:
        time.sleep(case.moment(step))
        commands[case.random.randrange(2)].signal(signal.SIGKILL)
    codes = []
    for command in commands:
        ended = command.wait()
        if ended is None:
            for each in commands:
                each.kill()
            raise Fault(f"two processes of {step.name} hang")
        if command.orphans():
            raise Fault(f"two processes of {step.name} left processes behind")
        if ended.code != -signal.SIGKILL:
            if ended.code and ended.crashed:
                raise Fault(f"one of two processes crashed: {ended.errors}")
            refused(ended, "another process", "exists: give another name", "is unfinished")
        codes.append(ended.code)
    if all(code > 0 for code in codes):
        raise Fault("both of two processes were refused")
    case.repeat(step)
    return "one refused" if max(codes) > 0 else "one killed" if min(codes) < 0 else "both done"


def remade_needs(case: Case, step: Step) -> str:
    """A step while another process makes again, by force, a folder that it reads; then both again."""
    case.stage(step)
    other = BY_NAME[case.random.choice(step.needs)]
    made = [name for name in files(case.world.folder / "made" / other.name) if not name.endswith("plan.json")]
    (case.folder / case.random.choice(made)).unlink()
    commands = [(step, case.start(step)), (other, case.start(other, "--force"))]
    if case.random.random() < 0.5:
        commands.reverse()
    ended = [finish(command, which) for which, command in commands]
    for which, end in zip((which for which, _ in commands), ended, strict=True):
        if end.code not in (0, 1):
            raise Fault(f"{which.name} ended with {end.code}: {end.errors}")
    again = case.run(other, "--force")
    if again.code:
        raise Fault(f"{other.name} failed again: {again.errors}")
    case.repeat(step)
    return "same bytes" if not any(end.code for end in ended) else "refused, then same bytes"


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


@dataclass(frozen=True)
class Scenario:
    """A kind of disturbance.

    Attributes:
        disturb: runs one case, and returns how it ended.
        fits: whether a step can be disturbed in this way.
        on_small_disk: whether its cases are on a small disk.
    """

    disturb: Callable[[Case, Step], str]
    fits: Callable[[Step], bool] = lambda _: True
    on_small_disk: bool = False


SCENARIOS = {
    "kills": Scenario(kills),
    "operations": Scenario(operations),
    "pipes": Scenario(pipes),
    "full disk": Scenario(full_disk, on_small_disk=True),
    "flipped bits": Scenario(flipped_bits),
    "flipped after kill": Scenario(flipped_after_kill),
    "changed inputs": Scenario(changed_inputs, lambda step: bool(step.texts)),
    "two processes": Scenario(two_processes),
    "remade needs": Scenario(remade_needs, lambda step: bool(step.needs)),
    "unprivileged": Scenario(unprivileged),
}
