"""How a model is trained: sizes, rates and checkpoints as options name them, checked without torch."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from typing import Any

from catprune.errors import UsageError

_MOST = 10**12  # of what is counted: more is a slip of the hand
# Options that take whole numbers: the least, and what is too much.
_WHOLE = dict.fromkeys(
    ("steps", "warmup_steps", "batch_tokens", "save_every", "beam", "resamples", "sample", "cycle"), (1, _MOST)
) | {"seed": (0, 2**64)}
_SHARES = ("label_smoothing", "dropout", "ratio")
#: Ways to prune while training, and what their numbers are where nobody gives them: in `catprune.dynamic`, too.
PRUNING: dict[str, dict[str, Any]] = {
    "infobatch": {"ratio": 0.5, "anneal": 0.875},
    "ddp": {"ratio": 0.3, "cycle": 1},
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """The options of an update; see `train`."""

    seed: int
    learning_rate: float
    warmup_steps: int
    label_smoothing: float
    dropout: float

    def rate(self, step: int) -> float:
        """The learning rate of update `step` (from 1): linear warm-up, then the inverse square root."""
        return self.learning_rate * min(step / self.warmup_steps, math.sqrt(self.warmup_steps / step))


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of the training at which a checkpoint is written: after so many epochs, or after so many steps."""

    unit: str
    amount: float

    @property
    def name(self) -> str:
        """The checkpoint's folder: `epoch-1`, `epoch-0.5`, `step-2000`."""
        return f"{self.unit}-{self.amount:g}" if self.amount != int(self.amount) else f"{self.unit}-{self.amount:.0f}"

    def reached(self, *, step: int, pairs: int, per_epoch: int) -> bool:
        """Whether it has been reached after `step` updates on `pairs` pairs, all epochs together."""
        return step >= self.amount if self.unit == "step" else pairs >= self.amount * per_epoch - 1e-6


def plan_marks(epochs: float | None, steps: int | None, checkpoints: object) -> list[Mark]:
    """Where checkpoints are written; the last one is the end of the training.

    Raises:
        UsageError: what cannot be meant.
    """
    if epochs is not None and steps is not None:
        raise UsageError("both epochs and steps are given: give one of them")
    if not isinstance(checkpoints, str | None):
        raise UsageError(f"checkpoints is {checkpoints!r}: give a string like '1,3,5'")
    asked: set[Mark] = set()
    for item in checkpoints.split(",") if checkpoints is not None else ():
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(steps?)?", item.strip())
        if match is None or not 0 < float(match[1]) < _MOST or (match[2] and "." in match[1]):
            raise UsageError(f"checkpoint {item.strip()!r} is not understood: give epochs (1,0.5) or 500steps")
        asked.add(Mark("step" if match[2] else "epoch", float(match[1])))
    latest = max(asked, key=lambda mark: mark.amount, default=Mark("epoch", 5))
    if epochs is None and steps is None:
        if len({mark.unit for mark in asked}) > 1:
            raise UsageError("checkpoints are given in epochs and in steps: say where to end (epochs or steps)")
        end = latest
    else:
        end = Mark("epoch", float(epochs)) if epochs is not None else Mark("step", float(steps or 0))
    for mark in asked:
        if mark.unit == end.unit and mark.amount > end.amount:
            raise UsageError(f"checkpoint {mark.name} lies behind the end of the training ({end.name})")
    marks = [*sorted(asked - {end}, key=lambda mark: (mark.unit, mark.amount)), end]
    for mark, following in itertools.pairwise(sorted(marks, key=lambda mark: mark.name)):
        if mark.name == following.name:
            raise UsageError(f"two checkpoints would be named {mark.name}: give them with fewer digits")
    return marks


def read_pruning(method: str | None, **given: float | None) -> dict[str, Any] | None:
    """How a training prunes, as its plan has it: the method and its numbers; None: it does not.

    Raises:
        UsageError: an unknown method, or numbers that it does not have or that cannot be meant.
    """
    named = {name: number for name, number in given.items() if number is not None}
    if method is None:
        if named:
            raise UsageError(f"prune-{next(iter(named))} is given without a method: give prune-while-training, too")
        return None
    if method not in PRUNING:
        raise UsageError(f"unknown way to prune while training {method}: give one of {', '.join(PRUNING)}")
    for name in named:
        if name not in PRUNING[method]:
            raise UsageError(f"prune-{name} is no option of {method}: leave it out")
    check_numbers(**{f"prune_{name}": number for name, number in named.items()})
    return {"method": method, **PRUNING[method], **named}


def check_numbers(**given: Any) -> None:
    """Refuse numbers that cannot be meant, each given by its option's name; None stands for its default.

    Options that begin with `prune_` are those of `catprune.dynamic`, which have no such beginning.

    Raises:
        UsageError: infinite, not a number, a fraction where whole ones count, or out of range.
    """
    for name, number in given.items():
        is_number = isinstance(number, int | float)
        meant = name.removeprefix("prune_")
        if meant in _WHOLE:
            least, most = _WHOLE[meant]
            fits = isinstance(number, int) and least <= number < most
            wanted = f"a whole number, at least {least} and below {most:g}"
        elif meant in _SHARES:
            fits, wanted = is_number and 0 <= number < 1, "0 to below 1"
        elif meant == "anneal":
            fits, wanted = is_number and 0 < number <= 1, "more than 0, at most 1"
        else:
            most = _MOST if name == "epochs" else math.inf
            fits = is_number and 0 < number < most
            wanted = "more than 0" + (f", below {most:g}" if name == "epochs" else ", a finite number")
        if number is not None and not fits:
            raise UsageError(f"{name.replace('_', '-')} is {number}: give {wanted}")
