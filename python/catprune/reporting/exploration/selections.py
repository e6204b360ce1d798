"""The selections of a run: the shares they keep, the conditions of `where`, and their keys in a run file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.errors import CatpruneError
from catprune.reporting.exploration.filters import to_toml
from catprune.selection.budget import is_token_budget
from catprune.selection.methods import CLUSTERED, COLUMN, MERGE, find_method
from catprune.selection.request import METHOD_OPTIONS, parse_guard
from catprune.selection.score_sets import check_one_training, is_backward, needed_checkpoints
from catprune.workspace.files import resolve_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from catprune.reporting.exploration.pair_sample import PairSample
    from catprune.reporting.run_columns import Part, Steps

_NAME = re.compile(r"[A-Za-z_][\w./-]*")  # of a column that `where` can read


@dataclass(frozen=True, slots=True)
class Condition:
    """A column that `where` can compare.

    Attributes:
        name: its name in `where`.
        help: what it holds.
        options: options of its method, with their values: selections with other values compute another column.
        values: its name in `Thresholds.values`.
    """

    name: str
    help: str
    options: dict[str, Any]
    values: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """A selection whose share can be changed.

    Attributes:
        name: its name.
        toml: its lines in a run file, without `keep` and `where`.
        direction: the end that is kept.
        keep: the share that the run keeps, in percent.
        share: the same as the run file has it: a percentage or a number of pairs.
        where: its conditions.
        conditions: names of the columns that its `where` can compare, as they are here.
        groups: int64 [n], number of the group in which a pair is ranked.
        values: name of its scores in `Thresholds.values`.
    """

    name: str
    toml: list[str]
    direction: str
    keep: float
    share: str
    where: list[dict[str, Any]]
    conditions: list[str]
    groups: NDArray[np.int64]
    values: str


def score_of(selection: str) -> str:
    """Return the name of the scores of a selection in `Thresholds.values`."""
    return f"score of {selection}"


def find_conditions(steps: Steps, sample: PairSample, values: dict[str, NDArray[np.float32]]) -> list[Condition]:
    """Return the columns of scorers, the perplexity of the last checkpoint, and the scores of methods.

    The perplexity is added to `values`.
    """
    import numpy as np

    found = [Condition(name, "score column", {}, name) for name in sample.columns]
    forward = [name for name, part in steps.scores.items() if not is_backward(part.folder)]
    if forward and _is_one_training(steps, forward):
        with np.errstate(over="ignore"):
            perplexity = np.exp(sample.nll[forward[-1]].astype(np.float64)).clip(max=np.finfo(np.float32).max)
        help = f"perplexity at {forward[-1]}"
        found.append(Condition("ppl", help, {"on": "ppl"}, "ppl"))
        values["ppl"] = perplexity.astype(np.float32)
    for name, part in steps.selections.items():
        options = part.manifest["options"]
        kind = options["method"]
        if kind in (COLUMN, MERGE, CLUSTERED, "progress", "random") or kind in [entry.name for entry in found]:
            continue
        used = {key: options[key] for key, _ in find_method(kind).options if key in options}
        if "condense" not in part.manifest["reads"]:
            found.append(Condition(kind, f"method {kind}, from the selection {name}", used, score_of(name)))
    return [entry for entry in found if _NAME.fullmatch(entry.name)]


def _is_one_training(steps: Steps, names: Sequence[str]) -> bool:
    try:
        check_one_training([steps.scores[name].folder for name in names])
    except CatpruneError:
        return False
    return True


def why_fixed(part: Part, folders: Sequence[Path]) -> str:
    """Return why the share of a selection cannot be changed here; "" if it can."""
    options, reads = part.manifest["options"], part.manifest["reads"]
    files = [Path(resolve_place(part.folder, entry["path"])).resolve() for entry in reads.get("external", ())]
    own = {folder.resolve() / "columns" for folder in folders}
    reasons = {
        "draws at random": options.get("draw") or options["method"] == CLUSTERED,
        "has a budget of tokens": is_token_budget(options["keep"]),
        "has shares of its own for some groups": "own" in options,
        "condenses near duplicates": "condense" in reads,
        "ranks by a file": "files" in reads or any(file.parent not in own for file in files),
        "has no scores": "rows_only" in options,
    }
    return next((text for text, holds in reasons.items() if holds), "")


def read_ranked(name: str, part: Part, steps: Steps, sample: PairSample, conditions: Sequence[Condition]) -> Ranked:
    """Return a selection as its options and the sample have it."""
    options, counts = part.manifest["options"], part.manifest["counts"]
    kept, of = options["keep"].get("fraction") or (counts["kept"], counts["scored"])
    guards = [parse_guard(text) for text in options.get("where", ())]
    return Ranked(
        name=name,
        toml=_lines(name, part, steps),
        direction=options["direction"],
        keep=100 * kept / max(1, of),
        share=str(options["keep"]["rows"]) if "rows" in options["keep"] else f"{100 * kept / max(1, of):.10g}%",
        where=[{"name": guard.name, "op": guard.op, "value": guard.value} for guard in guards],
        conditions=[
            entry.name
            for entry in conditions
            if all(options.get(key, METHOD_OPTIONS.get(key)) == value for key, value in entry.options.items())
        ],
        groups=_groups(part, sample),
        values=score_of(name),
    )


def _lines(name: str, part: Part, steps: Steps) -> list[str]:
    """Return the keys of a selection in a run file, without `keep` and `where`."""
    options = part.manifest["options"]
    kind = options["method"]
    values: dict[str, Any] = {"name": name}
    if kind not in (COLUMN, MERGE):
        values["method"] = kind
    values |= {key: options[key] for key in ("column", "merge") if key in options}
    usual = {**METHOD_OPTIONS, "merge_by": "rank", "direction": "top", "within": None, "by_exposure": True}
    usual["ties"] = find_method(kind).ties if "method" in values else "row"
    values |= {key: options[key] for key, value in usual.items() if options.get(key, value) != value}
    if options.get("seed", 1) != 1:
        values["seed"] = options["seed"]
    if names := _named_checkpoints(kind, part, steps):
        values["checkpoints"] = names
    return [f"{key} = {to_toml(value)}" for key, value in values.items()]


def _named_checkpoints(kind: str, part: Part, steps: Steps) -> list[str]:
    """Return the checkpoints that a selection reads, if it would read others by default."""
    read = [entry["path"].rpartition("/")[2] for entry in part.manifest["reads"].get("scores", ())]
    if not read or kind in (COLUMN, MERGE):
        return []
    backward = [name for name, scores in steps.scores.items() if is_backward(scores.folder)]
    sets = {name: [scores.folder] for name, scores in steps.scores.items()}
    try:
        usual = needed_checkpoints(find_method(kind), sets, backward, None, where="", remedy="")
    except CatpruneError:
        return read
    return [] if set(usual) == set(read) else read


def _groups(part: Part, sample: PairSample) -> NDArray[np.int64]:
    """Return the group in which each pair is ranked: by exposure, and by input, tag or length."""
    import numpy as np

    options = part.manifest["options"]
    keys: list[NDArray[Any]] = [np.zeros(len(sample.rows))]
    if options.get("by_exposure"):
        read = {entry["path"].rpartition("/")[2] for entry in part.manifest["reads"].get("scores", ())}
        keys += [np.nan_to_num(seen, nan=-1) for name, seen in sample.seen.items() if name in read]
    if options["within"] == "input":
        keys.append(sample.inputs)
    elif options["within"] == "tag":
        keys.append(np.unique(np.array(sample.tags, dtype=np.str_), return_inverse=True)[1])
    elif options["within"] == "length":
        lengths = sample.tokens if np.isfinite(sample.tokens).any() else sample.measures["target_characters"]
        keys.append(np.floor(2 * np.log2(np.maximum(np.nan_to_num(lengths, nan=1), 1))))
    return np.unique(np.stack(keys), axis=1, return_inverse=True)[1].reshape(-1)
