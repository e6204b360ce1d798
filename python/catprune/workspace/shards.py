"""Which part of a step's work this process does, where several share it: `--shard i/n`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catprune.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Where launchers tell a process its number (from 0), how many there are, and its number on its machine.
LAUNCHERS = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "srun": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
}
ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` processes.

    Attributes:
        number: from 0.
        count: how many share the work; together they do all of it, whenever each of them runs.
        local: the process's number among those of its machine, from 0; None if it has not been told.
    """

    number: int
    count: int
    local: int | None = None

    @classmethod
    def parse(cls, given: str | None) -> Shard:
        """From `i/n`, i from 1 to n, or from `auto`: as torchrun, srun or a Slurm array tell it. None: all the work.

        Raises:
            UsageError: neither, or no launcher has told anything.
        """
        if given is None:
            return cls(0, 1)
        if given == "auto":
            return cls._told(os.environ)
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", given, re.ASCII)
        number, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= count:
            raise UsageError(f"shard {given}: give i/n, i from 1 to n, or auto")
        return cls(number - 1, count)

    @classmethod
    def _told(cls, environment: Mapping[str, str]) -> Shard:
        try:
            for names in LAUNCHERS.values():
                if names[0] in environment and (names[0] != "SLURM_PROCID" or ARRAY[0] not in environment):
                    number, count, local = (int(environment[name]) for name in names)
                    return cls(number, count, local)._checked()
            if ARRAY[0] in environment:
                place, first, count = (int(environment[name]) for name in ARRAY)
                return cls(place - first, count)._checked()
        except (KeyError, ValueError) as error:
            raise UsageError(f"shard auto: the launcher's variables are not whole ({error}): give i/n") from None
        raise UsageError("shard auto: neither torchrun nor Slurm has started this process: give i/n")

    def _checked(self) -> Shard:
        if not 0 <= self.number < self.count:
            raise ValueError(f"number {self.number} of {self.count}")
        return self

    @property
    def name(self) -> str:
        """`2-of-4`: the second of four."""
        return f"{self.number + 1}-of-{self.count}"

    @property
    def is_whole(self) -> bool:
        """Whether this process does all the work."""
        return self.count == 1


def is_launched() -> bool:
    """Whether this process is one of several that train together."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))


def is_first_process() -> bool:
    """Whether a summary is this process's to print: of those that train together the first."""
    return not is_launched() or os.environ["RANK"] == "0"
