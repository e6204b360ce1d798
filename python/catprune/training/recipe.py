"""Options of a training: learning rates, checkpoints and pruning, checked without torch."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from catprune.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MOST = 10**12  # upper bound of counts: a larger number is a typing mistake
#: Methods to prune while training, with the defaults of their options; `catprune.dynamic` uses the same.
PRUNING: dict[str, dict[str, Any]] = {
    "infobatch": {"ratio": 0.5, "anneal": 0.875},
    "ddp": {"ratio": 0.3, "cycle": 1, "span": None},
}


#: Share of the planned updates that the warm-up of a preset takes at most: see `docs/reference/presets.md`.
WARMUP_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Recipe:
    """The options of an update; see `train`.

    Attributes:
        batch_tokens: most tokens of an update on either side; with padding, if at most 4,096.
        learning_rate: peak, reached after `warmup_steps` updates.
        label_smoothing: share of the target distribution that is spread over the vocabulary.
        dropout: after embeddings and sub-layers.
        betas: of Adam, with epsilon 1e-9.
        weight_decay: decoupled (AdamW), of the matrices of the layers; not of embeddings, LayerNorm and biases.
        clip: largest norm of the gradient; None: no limit.
        warmup_share: share of the planned updates that the warm-up takes at most; None: no limit.
    """

    batch_tokens: int
    learning_rate: float
    warmup_steps: int
    label_smoothing: float = 0.1
    dropout: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    clip: float | None = None
    warmup_share: float | None = WARMUP_SHARE

    def within(self, updates: int) -> Recipe:
        """Return the recipe of a training of so many updates: its warm-up takes at most `warmup_share` of them."""
        longest = self.warmup_steps if self.warmup_share is None else math.ceil(self.warmup_share * updates)
        return replace(self, warmup_steps=min(self.warmup_steps, longest))

    def rate(self, step: int) -> float:
        """Return the learning rate of update `step` (from 1): linear warm-up, then inverse square-root decay."""
        return self.learning_rate * min(step / self.warmup_steps, math.sqrt(self.warmup_steps / step))


def _published(width: int, batch_tokens: int, dropout: float = 0.1) -> Recipe:
    """Return the recipe of Vaswani et al. 2017 (section 5): the rate peaks at (width x warm-up steps) ** -0.5."""
    return Recipe(batch_tokens, (width * 4000) ** -0.5, 4000, dropout=dropout)


#: The recipe of each preset.
RECIPES = {
    "tiny": Recipe(4096, 0.005, 400, dropout=0.2, weight_decay=0.01, clip=1.0),
    "small": _published(256, 4096),
    "base": _published(512, 25_000),
    "big": _published(1024, 25_000, dropout=0.3),
}
#: Options that replace a part of the preset's recipe.
_REPLACED = ("batch_tokens", "learning_rate", "warmup_steps", "label_smoothing", "dropout")
#: Where the recipes come from.
SOURCES = {
    "tiny": "this project, on multi30k",
    "small": "transformer_small of Tensor2Tensor (Vaswani et al. 2018, arXiv 1803.07416); one GPU's batch of base",
    "base": "Vaswani et al. 2017, arXiv 1706.03762, sections 5.1 to 5.4",
    "big": "Vaswani et al. 2017; the dropout is that of English-German (English-French: 0.1)",
}


def choose_recipe(preset: str, options: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a preset, with the options of `train` that replace parts of it.

    A warm-up that is given is as long as it is given.
    """
    given = {name: options[name] for name in _REPLACED if options.get(name) is not None}
    recipe = replace(RECIPES[preset], **given)
    return replace(recipe, warmup_share=None) if "warmup_steps" in given else recipe


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of the training at which a checkpoint is written: after `amount` epochs or steps."""

    unit: str
    amount: float

    @property
    def name(self) -> str:
        """The checkpoint's folder: `epoch-1`, `epoch-0.5`, `step-2000`."""
        return f"{self.unit}-{self.amount:g}" if self.amount != int(self.amount) else f"{self.unit}-{self.amount:.0f}"

    def reached(self, *, step: int, pairs: float, per_epoch: int) -> bool:
        """Whether the mark is reached after `step` updates on `pairs` pairs, counted over all epochs."""
        return step >= self.amount if self.unit == "step" else pairs >= self.amount * per_epoch - 1e-6


def read_marks(checkpoints: object) -> set[Mark]:
    """Parse points of a training, like "1,0.5" (epochs) or "500steps"; the type is checked, too.

    Raises:
        UsageError: they are invalid.
    """
    if not isinstance(checkpoints, str):
        raise UsageError(f"checkpoints is {checkpoints!r}: give a string like '1,3,5'")
    marks: set[Mark] = set()
    for item in checkpoints.split(","):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(steps?)?", item.strip())
        if match is None or not 0 < float(match[1]) < _MOST or (match[2] and "." in match[1]):
            raise UsageError(f"checkpoint {item.strip()!r} is invalid: give epochs (1,0.5) or 500steps")
        marks.add(Mark("step" if match[2] else "epoch", float(match[1])))
    _check_names(marks)
    return marks


def _check_names(marks: Iterable[Mark]) -> None:
    for mark, following in itertools.pairwise(sorted(marks, key=lambda mark: mark.name)):
        if mark.name == following.name:
            raise UsageError(f"two checkpoints would be named {mark.name}: give them with fewer digits")


def plan_marks(epochs: float | None, steps: int | None, checkpoints: object) -> list[Mark]:
    """Parse where checkpoints are written; the last mark is the end of the training.

    Args:
        epochs, steps: the end; None for both: the last checkpoint, or 5 epochs.
        checkpoints: like "1,0.5" (epochs) or "500steps"; the type is checked, since run files may give anything.

    Raises:
        UsageError: the options are invalid.
    """
    if epochs is not None and steps is not None:
        raise UsageError("both epochs and steps are given: give one of them")
    planned = read_marks(checkpoints) if checkpoints is not None else set[Mark]()
    latest = max(planned, key=lambda mark: mark.amount, default=Mark("epoch", 5))
    if epochs is None and steps is None:
        if len({mark.unit for mark in planned}) > 1:
            raise UsageError("checkpoints are given in epochs and in steps: say where to end (epochs or steps)")
        end = latest
    else:
        end = Mark("epoch", float(epochs)) if epochs is not None else Mark("step", float(steps or 0))
    for mark in planned:
        if mark.unit == end.unit and mark.amount > end.amount:
            raise UsageError(f"checkpoint {mark.name} is after the end of the training ({end.name}): train longer")
    marks = [*sorted(planned - {end}, key=lambda mark: (mark.unit, mark.amount)), end]
    _check_names(marks)
    return marks


def read_pruning(method: str | None, **values: float | None) -> dict[str, Any] | None:
    """Parse the options of pruning for a plan: the method and its options; None without a method.

    Raises:
        UsageError: the method is unknown, it does not have an option, or a value is invalid.
    """
    named = {name: number for name, number in values.items() if number is not None}
    if method is None:
        if named:
            raise UsageError(f"prune_{next(iter(named))} is given without a method: give prune_while_training too")
        return None
    if method not in PRUNING:
        raise UsageError(f"unknown method to prune while training {method}: give one of {', '.join(PRUNING)}")
    for name in named:
        if name not in PRUNING[method]:
            raise UsageError(f"prune_{name} is no option of {method}: leave it out")
    check_numbers(**{f"prune_{name}": number for name, number in named.items()})
    return {"method": method, **PRUNING[method], **named}


def check_numbers(**values: Any) -> None:
    """Refuse invalid numbers of pruning while training, each given by its option's name.

    `train` gives its names of these options, which have the prefix `prune_`. None means the default.

    Raises:
        UsageError: a number is infinite, NaN, a fraction instead of a whole number, or out of range.
    """
    for name, number in values.items():
        is_number = isinstance(number, int | float)
        option = name.removeprefix("prune_")
        if option in ("cycle", "span"):
            is_valid = isinstance(number, int) and 1 <= number < _MOST
            wanted = f"a whole number, at least 1 and below {_MOST:g}"
        elif option == "ratio":
            is_valid, wanted = is_number and 0 <= number < 1, "0 to below 1"
        elif option == "anneal":
            is_valid, wanted = is_number and 0 < number <= 1, "more than 0, at most 1"
        else:
            is_valid, wanted = is_number and 0 < number < _MOST, f"more than 0, below {_MOST:g}"
        if number is not None and not is_valid:
            raise UsageError(f"{name} = {number}: give {wanted}")
