"""All thresholds of a run that a run file can express."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catprune.cleaning.densities import max_ratios
from catprune.cleaning.options import Filters
from catprune.reporting.exploration.filters import Filter, Switch, find_filters, find_switches, to_toml
from catprune.reporting.exploration.selections import (
    Condition,
    Ranked,
    find_conditions,
    read_ranked,
    score_of,
    why_fixed,
)
from catprune.workspace.options import defaults_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from catprune.reporting.exploration.pair_sample import PairSample
    from catprune.reporting.run_columns import Part, Steps


@dataclass(frozen=True, slots=True)
class Thresholds:
    """All thresholds of a run, in the order of the page.

    Attributes:
        filters, switches, conditions, selections: see there.
        rules: option → its value in the run, and its default, in TOML.
        left_out: selection → why its share cannot be changed here.
        values: name → float32 [n], everything that scores or ranks the pairs.
    """

    filters: list[Filter]
    switches: list[Switch]
    conditions: list[Condition]
    selections: list[Ranked]
    rules: dict[str, tuple[str, str]]
    left_out: dict[str, str]
    values: dict[str, NDArray[np.float32]]


def find_thresholds(steps: Steps, clean: Part, scorers: Mapping[str, Part], sample: PairSample) -> Thresholds:
    """Find the thresholds of a run."""
    folders = [part.folder for part in (clean, *steps.scores.values(), *scorers.values())]
    options: dict[str, Any] = clean.manifest["options"]
    rules: dict[str, Any] = options["rules"] or {}
    defaults = defaults_of(Filters) | max_ratios(options["source_lang"], options["target_lang"])
    values = {f"loss at {name}": nll for name, nll in sample.nll.items()}
    values |= {**sample.columns, **{score_of(name): scores for name, scores in sample.scores.items()}}
    conditions = find_conditions(steps, sample, values)
    selections: list[Ranked] = []
    left_out: dict[str, str] = {}
    for name, part in steps.selections.items():
        reason = why_fixed(part, folders)
        if reason:
            left_out[name] = reason
        else:
            selections.append(read_ranked(name, part, steps, sample, conditions))
    return Thresholds(
        filters=find_filters(rules, options["input_rules"], defaults) if sample.measures else [],
        switches=find_switches(clean.manifest, rules),
        conditions=conditions if selections else [],
        selections=selections,
        rules={name: (to_toml(value), to_toml(defaults[name])) for name, value in rules.items()},
        left_out=left_out,
        values=values,
    )
