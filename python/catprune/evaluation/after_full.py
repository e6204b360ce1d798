"""Trainings on all clean pairs that end on a part: `full-then-NAME` continues `full` on the pairs of subset NAME."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catprune.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

FULL = "full"
_PREFIX = "full-then-"


def name_continued(after_full: Sequence[str], subsets: Collection[str]) -> dict[str, str]:
    """Return the name of each training that continues `full`, and the subset that it continues on.

    Raises:
        UsageError: a subset that is missing, given twice, or `full` itself; or a name that is taken.
    """
    for name in after_full:
        if name == FULL:
            raise UsageError("after_full names full: full itself is the control, as its last updates are on all pairs")
        if name not in subsets:
            raise UsageError(f"after_full names {name}, but no subset has that name")
        if _PREFIX + name in subsets:
            raise UsageError(f"a subset has the name {_PREFIX}{name}, which after_full gives: give it another name")
    if after_full and FULL not in subsets:
        raise UsageError("after_full needs the subset full, whose trainings are continued")
    if len(set(after_full)) < len(after_full):
        raise UsageError(f"after_full = {list(after_full)}: give each subset once")
    return {_PREFIX + name: name for name in after_full}


def baselines_of(baselines: Sequence[str], continued: Collection[str]) -> list[str]:
    """Return what a continued training is compared with: `full`, and what continues on its subset's baselines."""
    return [_PREFIX + name if _PREFIX + name in continued else name for name in baselines]


def full_steps(steps: int) -> int:
    """Return the number of updates on all clean pairs: 80% of `steps`, rounded down.

    Raises:
        UsageError: there is only one update.
    """
    if steps < 2:
        raise UsageError(f"after_full needs at least 2 updates, but every model has {steps}: give more steps or epochs")
    return steps * 4 // 5


def check_average(steps: int, every: int, average: int | None) -> None:
    """Refuse to average more checkpoints than a continued training has.

    Args:
        steps: updates of every model.
        every: updates between two evaluated checkpoints.
        average: how many of the last checkpoints are averaged; None: one is tested.

    Raises:
        UsageError: a continued training has fewer checkpoints of its own.
    """
    own = sum(point > full_steps(steps) for point in {*range(every, steps, every), steps})
    if average is not None and average > own:
        raise UsageError(
            f"average = {average}, but a training that continues full has {own} of its own checkpoints: give a smaller "
            "average or evaluate_every"
        )
