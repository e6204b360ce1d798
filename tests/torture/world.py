"""The undisturbed results of every step, and the folders of cases, which start from them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from torture.corpus import write_corpus
from torture.processes import Command, Ended
from torture.steps import BY_NAME, STEPS, Step

if TYPE_CHECKING:
    from collections.abc import Callable

#: The name of every case's folder: a report shows it.
CASE = "case"
#: Files whose bytes are no result: they show how many seconds a training took.
TIMED = ("run/report.html",)


class Fault(Exception):
    """Something that catprune promises did not hold."""


@dataclass
class World:
    """The results of all steps, made once without a disturbance.

    Attributes:
        folder: everything is in it: `inputs`, and `made/<step>` with the files of each step.
        seconds: how long each step took.
    """

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def make(self) -> None:
        """Write the inputs, and run every step once.

        Raises:
            Fault: a step failed.
        """
        (self.folder / "inputs").mkdir(parents=True)
        write_corpus(self.folder / "inputs")
        for step in STEPS:
            case = Case(self, self.folder / "undisturbed" / CASE, Random(0))
            case.stage(step)
            ended = case.run(step)
            if ended.code:
                raise Fault(f"{step.name} failed undisturbed: {ended.errors}")
            self.seconds[step.name] = ended.seconds
            for name in step.makes:
                copy(case.folder / name, self.folder / "made" / step.name / name)
            case.remove()


@dataclass
class Case:
    """One disturbance: its folder, its random numbers, and whether it is alone on a small disk."""

    world: World
    folder: Path
    random: Random
    on_small_disk: bool = False

    def stage(self, step: Step, *, finished: bool = False) -> None:
        """Fill the folder with the inputs and what the step needs; with `finished`, with its results too."""
        copy(self.world.folder / "inputs", self.folder)
        for name in (*step.needs, *([step.name] if finished else [])):
            copy(self.world.folder / "made" / name, self.folder)

    def start(self, step: Step, *more: str, before: Callable[[], None] | None = None) -> Command:
        """Start the step's command; threads and memory change no byte where torch does not work."""
        threads = () if step.torch or step.name == "scorer" else (f"--threads={self.random.randint(1, 4)}",)
        # Near duplicates need more.
        memory = ("--memory=200K",) if step.name in ("first", "append") and self.random.random() < 0.5 else ()
        return Command((*step.arguments, *threads, *memory, "--quiet", *more), self.folder, before=before)

    def run(self, step: Step, *more: str, before: Callable[[], None] | None = None) -> Ended:
        """Run the step's command to its end."""
        return finish(self.start(step, *more, before=before), step)

    def moment(self, step: Step) -> float:
        """Return a random number of seconds within the time that the step takes."""
        return self.random.uniform(0, 1.1) * self.world.seconds[step.name]

    def repeat(self, step: Step, *more: str) -> None:
        """Run the same command again: it must succeed and leave the bytes of an undisturbed run.

        Raises:
            Fault: it does not.
        """
        ended = self.run(step, *more)
        if ended.code:
            raise Fault(f"the same command again failed ({ended.code}): {ended.errors}")
        self.compare(step)

    def compare(self, step: Step) -> None:
        """Compare all files but logs with those of an undisturbed run.

        Raises:
            Fault: a file is missing, left over or different.
        """
        expected = self._expected(step)
        found = {name: path for name, path in files(self.folder).items() if name not in TIMED}
        for name in sorted(expected.keys() | found.keys()):
            if name not in found:
                raise Fault(f"{name} is missing")
            if name not in expected:
                raise Fault(f"{name} is left over")
            if expected[name].read_bytes() != found[name].read_bytes():
                raise Fault(f"{name} has other bytes")

    def _expected(self, step: Step) -> dict[str, Path]:
        whole: dict[str, Path] = files(self.world.folder / "inputs")
        for name in (*step.needs, step.name):
            # What a step makes replaces the folders of the same name whole.
            made = BY_NAME[name].makes
            whole = {path: file for path, file in whole.items() if not _is_within(path, made)}
            whole |= files(self.world.folder / "made" / name)
        return {name: path for name, path in whole.items() if name not in TIMED}

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def finish(command: Command, step: Step) -> Ended:
    """Wait for the end of a command, which must not crash.

    Raises:
        Fault: the command hangs, crashed, or left processes behind.
    """
    ended = command.wait()
    if ended is None:
        command.kill()
        raise Fault(f"{step.name} hangs")
    if ended.crashed:
        raise Fault(f"{step.name} crashed ({ended.code}): {ended.errors[-2000:]}")
    if command.orphans():
        raise Fault(f"{step.name} left processes behind")
    return ended


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


def copy(source: Path, target: Path) -> None:
    """Copy a file, or a folder into another one; modification times are kept."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def files(folder: Path) -> dict[str, Path]:
    """Every file of a folder by its relative path, but no log."""
    return {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "log" not in path.relative_to(folder).parts
    }


def _is_within(path: str, names: tuple[str, ...]) -> bool:
    return any(path == name or path.startswith(f"{name}/") for name in names)
