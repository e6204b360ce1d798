"""The part of a step's work that this process does, if several processes share it: `--shard i/n`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catprune.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The variables in which launchers give a process its rank (from 0), the number of processes, and its local rank.
LAUNCHERS = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
}
#: The variables of a Slurm array: the task, the first and the number of tasks; the last task and the step, if given.
ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")
ARRAY_RANGE = ("SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP")


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` processes.

    Attributes:
        number: from 0.
        count: processes that share the work; together they do all of it, at once or one after the other.
        local: the local rank, from 0; None if the launcher does not give one.
    """

    number: int
    count: int
    local: int | None = None

    @classmethod
    def parse(cls, text: str | None) -> Shard:
        """Parse `i/n` (i from 1 to n), or `auto`: the rank that torchrun, srun or a Slurm array gives.

        In an array whose tasks run srun or torchrun, both count. None: all the work.

        Raises:
            UsageError: the text is neither, or no launcher started this process.
        """
        if text is None:
            return cls(0, 1)
        if text == "auto":
            return cls._from_launcher(os.environ)
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text, re.ASCII)
        number, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= number <= count:
            raise UsageError(f"shard {text}: give i/n, with i from 1 to n, or auto")
        return cls(number - 1, count)

    @classmethod
    def of_launcher(cls, launcher: str, environment: Mapping[str, str], *, otherwise: str = "") -> Shard:
        """Return the shard of a process that a launcher started, from its variables.

        Args:
            launcher: "torchrun" or "srun".
            environment: the variables.
            otherwise: what the user can do instead, for the error.

        Raises:
            UsageError: variables are missing, or not the numbers of a process.
        """
        names = LAUNCHERS[launcher]
        values = {name: environment.get(name, "") for name in names}
        given = ", ".join(f"{name}={value}" for name, value in values.items() if value)
        start = f"start the processes with {launcher}{otherwise}"
        if missing := [name for name, value in values.items() if not value]:
            verb = "is" if len(missing) == 1 else "are"
            raise UsageError(
                f"{given} {'is' if ',' not in given else 'are'} set, but {' and '.join(missing)} {verb} not: {start}"
            )
        if not all(value.isascii() and value.isdigit() for value in values.values()):
            raise UsageError(f"{given}: these must be numbers: {start}")
        shard = cls(*map(int, values.values()))
        if shard.number >= shard.count:
            raise UsageError(f"{given}: there is no process {shard.number} of {shard.count}, from 0: {start}")
        return shard

    @classmethod
    def _from_launcher(cls, environment: Mapping[str, str]) -> Shard:
        otherwise = ", or give shard i/n"
        task = cls(0, 1)
        if environment.get("RANK"):
            task = cls.of_launcher("torchrun", environment, otherwise=otherwise)
        elif "SLURM_STEP_NUM_TASKS" in environment:
            task = cls.of_launcher("srun", environment, otherwise=otherwise)
        elif (tasks := environment.get("SLURM_NTASKS", "1")) != "1":
            raise UsageError(
                f"shard auto: the Slurm job has {tasks} tasks, but srun did not start this process: start it with "
                "srun, or give i/n"
            )
        if ARRAY[0] in environment:
            array = cls._of_array(environment)
            return cls(array.number * task.count + task.number, array.count * task.count, task.local)
        if environment.get("RANK") or "SLURM_PROCID" in environment:
            return task
        raise UsageError("shard auto: neither torchrun nor Slurm started this process: give i/n")

    @classmethod
    def _of_array(cls, environment: Mapping[str, str]) -> Shard:
        try:
            place, first, count = (int(environment[name]) for name in ARRAY)
            last, step = (
                int(environment.get(name, default)) for name, default in zip(ARRAY_RANGE, (0, 1), strict=True)
            )
        except (KeyError, ValueError):
            raise UsageError("shard auto: the variables of the Slurm array are incomplete: give i/n") from None
        if last and last - first != (count - 1) * step:
            raise UsageError("shard auto: the numbers of the Slurm array have gaps: give a range, like 0-15")
        number = (place - first) // step
        if not 0 <= number < count:
            raise UsageError(f"shard auto: the Slurm array has no task {place}: give i/n")
        return cls(number, count)

    @property
    def name(self) -> str:
        """`2-of-4`: the second of four."""
        return f"{self.number + 1}-of-{self.count}"

    def idle_text(self, blocks: int) -> str:
        """Say that a process has nothing to do because there are more processes than blocks."""
        counted = "1 block" if blocks == 1 else f"{blocks:,} blocks"
        return f"shard {self.number + 1}/{self.count} has no work: the corpus has {counted} for {self.count} processes"

    @property
    def is_whole(self) -> bool:
        """Whether this process does all the work."""
        return self.count == 1


def is_launched() -> bool:
    """Whether this process is one of several that train together."""
    return all(os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))


def is_first_process() -> bool:
    """Whether this process prints the summary: of processes that train together, only the first does."""
    return not is_launched() or os.environ["RANK"] == "0"
