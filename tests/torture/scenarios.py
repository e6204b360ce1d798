"""The kinds of disturbance. Each case ends with equal bytes or a clear refusal; anything else is a fault."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torture.damage import changed_inputs, flipped_after_kill, flipped_bits
from torture.processes import Command
from torture.rights import unprivileged
from torture.steps import BY_NAME, Step
from torture.world import Case, Fault, files, finish, refused

if TYPE_CHECKING:
    from collections.abc import Callable

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

    arguments = (*step.arguments, *(("--json",) if stream == 1 and step.name not in ("report", "explore") else ()))
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
    # strace counts the writes of every thread: the message may be a write that failed.
    is_unsaid = calls == "write" and ended.code == 1 and not ended.errors.strip()
    if not is_killed and not is_unsaid and (ended.code not in (0, 1) or ended.crashed):
        raise Fault(f"{action} of {calls} number {number}: {step.name} ended with {ended.code}: {ended.errors}")
    case.repeat(step)
    return "same bytes" if ended.code == 0 else "killed, then same bytes" if is_killed else "refused, then same bytes"


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
