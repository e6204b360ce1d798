"""The thresholds that a run file can express: filters, conditions of `where`, and shares of selections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tomlkit

from catprune.cleaning.densities import max_ratios
from catprune.cleaning.options import Filters
from catprune.cleaning.rule_options import OPTION_OF_REASON
from catprune.errors import CatpruneError
from catprune.selection.budget import is_token_budget
from catprune.selection.methods import CLUSTERED, COLUMN, MERGE, find_method
from catprune.selection.request import METHOD_OPTIONS, parse_guard
from catprune.selection.score_sets import check_one_training, is_backward, needed_checkpoints
from catprune.workspace.files import resolve_place
from catprune.workspace.options import defaults_of, fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from catprune.reporting.pair_sample import PairSample
    from catprune.reporting.run_columns import Part, Steps

Kind = Literal["each", "product", "ratio", "most"]
# Filters that compare measures of cleaning with a threshold: what is measured, and how. As in rust/core, `product`
# compares `top` with the threshold times `bottom`, so that rounding decides alike.
#   each, product: a side breaks the rule;  ratio: the longer side over the shorter;  most: the larger values of both.
_MEASURED: dict[str, tuple[Kind, str, str]] = {
    "min_words": ("each", "words", ""),
    "max_words": ("each", "words", ""),
    "max_characters": ("each", "characters", ""),
    "max_word_ratio": ("ratio", "words", ""),
    "max_character_ratio": ("ratio", "characters", ""),
    "min_letter_word_share": ("each", "words_with_letter", "words"),
    "min_letter_share": ("each", "letters", "visible"),
    "max_word_characters": ("each", "longest_word", ""),
    "min_script_share": ("product", "script_letters", "letters"),
    "max_markup_share": ("each", "markup", "visible"),
    "max_number_mismatch": ("most", "unmatched_numbers", "numbers"),
}
# Other filters can be switched off: reason → section, key, and the value that does it.
_SWITCHES: dict[str, tuple[str, str, Any]] = {
    "control_characters": ("clean.rules", "keep_control_characters", True),
    "identical_sides": ("clean.rules", "keep_identical", True),
    "repeated_ngrams": ("clean.rules", "max_repeated_share", 1.0),
    "near_copy": ("clean.rules", "max_common_word_share", 1.0),
    "url_mismatch": ("clean.rules", "max_url_mismatch", 1.0),
    "terminal_punctuation": ("clean.rules", "same_terminal_punctuation", False),
    "wrong_language": ("clean", "identify_language", False),
    "duplicate": ("clean", "duplicates", "none"),
    "near_duplicate": ("clean", "near_duplicates", "none"),
}
# Records with these reasons have no two sides that were measured.
UNMEASURED = ("malformed_record", "line_too_long", "invalid_utf8", "missing_side", "columns", "empty")
_NAME = re.compile(r"[A-Za-z_][\w./-]*")  # of a column that `where` can read


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter with a threshold.

    Attributes:
        name: the option.
        help: what it means.
        reason: the reason to drop.
        kind, top, bottom: how a pair is measured.
        bound: "max" or "min".
        value: the threshold of the run.
        default: the default of the run's languages.
        least, most: bounds of the option.
        whole: whether it is a whole number.
        own: number of an input → its own threshold.
    """

    name: str
    help: str
    reason: str
    kind: Kind
    top: str
    bottom: str
    bound: str
    value: float
    default: float
    least: float
    most: float | None
    whole: bool
    own: dict[str, float]


@dataclass(frozen=True, slots=True)
class Switch:
    """A filter that can only be switched off, because its measure is not stored.

    Attributes:
        reason: the reason to drop.
        section, key: where the run file switches it off.
        off: the value that does it, in TOML.
    """

    reason: str
    section: str
    key: str
    off: str


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
        where: its conditions.
        conditions: names of the columns that its `where` can compare, as they are here.
        groups: int64 [n], number of the group in which a pair is ranked.
        values: name of its scores in `Thresholds.values`.
    """

    name: str
    toml: list[str]
    direction: str
    keep: float
    where: list[dict[str, Any]]
    conditions: list[str]
    groups: NDArray[np.int64]
    values: str


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
    values |= {**sample.columns, **{_score_of(name): scores for name, scores in sample.scores.items()}}
    conditions = _conditions(steps, sample, values)
    selections: list[Ranked] = []
    left_out: dict[str, str] = {}
    for name, part in steps.selections.items():
        reason = _why_fixed(part, folders)
        if reason:
            left_out[name] = reason
        else:
            selections.append(_ranked(name, part, steps, sample, conditions))
    return Thresholds(
        filters=_filters(rules, options["input_rules"], defaults) if sample.measures else [],
        switches=_switches(clean.manifest, rules),
        conditions=conditions if selections else [],
        selections=selections,
        rules={name: (to_toml(value), to_toml(defaults[name])) for name, value in rules.items()},
        left_out=left_out,
        values=values,
    )


def _score_of(selection: str) -> str:
    return f"score of {selection}"


def to_toml(value: Any) -> str:
    """Return a value as a run file spells it."""
    return tomlkit.item(value).as_string()


def _filters(
    rules: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Any]
) -> list[Filter]:
    reasons = {option: reason for reason, option in OPTION_OF_REASON.items()}
    fields = {field.name: field for field in fields_of(Filters)}
    return [
        Filter(
            name=name,
            help=fields[name].help,
            reason=reasons[name],
            kind=kind,
            top=top,
            bottom=bottom,
            bound=name[:3],
            value=rules[name],
            default=defaults[name],
            least=1 if "ratio" in name else 0,
            most=1 if "share" in name or "mismatch" in name else None,
            whole=isinstance(defaults[name], int),
            own={number: values[name] for number, values in own.items() if values.get(name) is not None},
        )
        for name, (kind, top, bottom) in _MEASURED.items()
        if name in rules
    ]


def _switches(manifest: Mapping[str, Any], rules: Mapping[str, Any]) -> list[Switch]:
    """Return the switches of the filters that are on."""
    options = manifest["options"]
    reads = manifest["reads"]
    values = {**options, "near_duplicates": options["near_duplicates"] or "none"}
    needed = options["verify"] or options["prefer"] or reads["against"]  # these need exact duplicates
    return [
        Switch(reason, section, key, to_toml(off))
        for reason, (section, key, off) in _SWITCHES.items()
        if (rules.get(key, off) if section == "clean.rules" else values[key]) != off
        if not (key == "duplicates" and needed)
    ]


def _conditions(steps: Steps, sample: PairSample, values: dict[str, NDArray[np.float32]]) -> list[Condition]:
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
            found.append(Condition(kind, f"method {kind}, from the selection {name}", used, _score_of(name)))
    return [entry for entry in found if _NAME.fullmatch(entry.name)]


def _is_one_training(steps: Steps, names: Sequence[str]) -> bool:
    try:
        check_one_training([steps.scores[name].folder for name in names])
    except CatpruneError:
        return False
    return True


def _why_fixed(part: Part, folders: Sequence[Path]) -> str:
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


def _ranked(name: str, part: Part, steps: Steps, sample: PairSample, conditions: Sequence[Condition]) -> Ranked:
    options, counts = part.manifest["options"], part.manifest["counts"]
    kept, of = options["keep"].get("fraction") or (counts["kept"], counts["scored"])
    guards = [parse_guard(text) for text in options.get("where", ())]
    return Ranked(
        name=name,
        toml=_lines(name, part, steps),
        direction=options["direction"],
        keep=round(100 * kept / max(1, of), 4),
        where=[{"name": guard.name, "op": guard.op, "value": guard.value} for guard in guards],
        conditions=[
            entry.name
            for entry in conditions
            if all(options.get(key, METHOD_OPTIONS.get(key)) == value for key, value in entry.options.items())
        ],
        groups=_groups(part, sample),
        values=_score_of(name),
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
