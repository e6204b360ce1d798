"""Commands in forked processes, which need not import torch again, and signals to them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Longest time of a command in seconds; the whole run takes about ten.
PATIENCE = 300
_PR_SET_CHILD_SUBREAPER = 36
#: Crashes: no command may end with one of these on its standard error.
CRASHES = ("Traceback (most recent call last)", "panicked at", "Fatal Python error")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code; negative for the number of a signal.
        errors: what it wrote to standard error.
        seconds: how long it took.
    """

    code: int
    errors: str
    seconds: float

    @property
    def crashed(self) -> bool:
        """Whether it ended without a message for its user; a signal needs none."""
        is_silent = 0 < self.code < 128 and not self.errors.strip()
        return is_silent or any(mark in self.errors for mark in CRASHES)


class Command:
    """A running `catprune` command, in a process group of its own.

    Args:
        arguments: of `catprune`.
        folder: the working folder.
        before: called in the new process before the command starts.
        program: another program with its arguments, instead of a fork of this process.
    """

    def __init__(
        self,
        arguments: tuple[str, ...],
        folder: Path,
        *,
        before: Callable[[], None] | None = None,
        program: tuple[str, ...] | None = None,
    ) -> None:
        number, name = tempfile.mkstemp(prefix="catprune-torture-output-")
        os.close(number)
        self._output = Path(name)
        self._started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.number = os.fork()
        if not self.number:
            _become(arguments, folder, self._output, before, program)

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to all processes of its group like a terminal."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.number, number)

    def kill(self) -> None:
        """Kill all processes of the group, and wait for their end."""
        self.signal(signal.SIGKILL, group=True)
        self.wait()
        self.orphans()

    def wait(self, seconds: float = PATIENCE) -> Ended | None:
        """Wait for the end of the command, at most so long; None if it still runs."""
        end = time.monotonic() + seconds
        while True:
            process, status = os.waitpid(self.number, os.WNOHANG)
            if process:
                break
            if time.monotonic() >= end:
                return None
            time.sleep(0.002)
        errors = self._output.read_text(errors="replace")
        self._output.unlink()
        return Ended(os.waitstatus_to_exitcode(status), errors, time.monotonic() - self._started)

    def orphans(self) -> bool:
        """Whether processes of the command are left two seconds after its end; they are killed."""
        end = time.monotonic() + 2
        while _reap_group(self.number):
            if time.monotonic() >= end:
                self.signal(signal.SIGKILL, group=True)
                return True
            time.sleep(0.01)
        return False


def adopt_orphans() -> None:
    """Let processes whose parents were killed become children of this one, so that their end can be seen."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap_group(number: int) -> bool:
    """Collect ended processes of a group, and return whether others still run."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-number, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def _become(
    arguments: tuple[str, ...],
    folder: Path,
    output: Path,
    before: Callable[[], None] | None,
    program: tuple[str, ...] | None,
) -> None:
    """Turn a forked process into the command; never returns."""
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        errors = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        os.close(errors)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if before is not None:
            before()
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        if program is not None:
            os.execvp(program[0], program)
        from catprune.__main__ import main

        sys.argv = ["catprune", *arguments]
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
