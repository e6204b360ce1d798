"""The ranking of a selection: what ranks, which conditions pairs must meet, and how many are kept."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from catprune.errors import UsageError
from catprune.selection.budget import Own, is_token_budget, parse_keeps
from catprune.selection.methods import CLUSTERED, COLUMN, MERGE, METHODS, Method, find_method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catprune.boundary import Keep, MergeBy, Operator
    from catprune.selection.options import SelectOptions

_NAME = r"[A-Za-z_][\w./-]*"
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_TERM = re.compile(rf"\s*(?P<sign>[+-])?\s*(?:(?P<weight>{_NUMBER})\s*\*\s*)?(?P<name>{_NAME})\s*")
_GUARD = re.compile(rf"\s*(?P<name>{_NAME})\s*(?P<op>>=|<=|==|!=|>|<)\s*(?P<value>[+-]?(?:{_NUMBER}|inf))\s*")
#: The method that ranks by default.
DEFAULT_METHOD = "progress"
#: Options that change the scores of some methods, with their defaults.
METHOD_OPTIONS: dict[str, Any] = {
    name: default for method in METHODS for name, default in method.options if name != "seed"
}


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that pairs must meet to be ranked: `name op value`."""

    name: str
    op: Operator
    value: float

    def __str__(self) -> str:
        return f"{self.name}{self.op}{self.value:.17g}"


@dataclass(frozen=True, slots=True)
class Ranking:
    """The ranking, conditions and budget of a selection.

    Attributes:
        kind: the name of a method, `methods.COLUMN` or `methods.MERGE`.
        terms: weights and names of merged columns; otherwise one term of weight 1.
        merge_by: "rank" or "z"; None without a merge.
        guards: conditions of `where`.
        share: the general share, in the form of a request.
        own: inputs and tags with their own shares.
    """

    kind: str
    terms: tuple[tuple[float, str], ...]
    merge_by: MergeBy | None
    guards: tuple[Guard, ...]
    share: Keep
    own: tuple[Own, ...]

    @property
    def names(self) -> list[str]:
        """Names of the columns and methods that rank, then of those in conditions, without repetitions."""
        return list(dict.fromkeys([*(name for _, name in self.terms), *(guard.name for guard in self.guards)]))

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods that rank or are used in conditions."""
        names = [guard.name for guard in self.guards] if self.kind == COLUMN else self.names
        return tuple(method for method in METHODS if method.name in names)

    @property
    def counts_tokens(self) -> bool:
        """Whether a share counts target tokens."""
        return any(is_token_budget(share) for share in (self.share, *(own.keep for own in self.own)) if share)


def methods_of(plan: Mapping[str, Any]) -> tuple[Method, ...]:
    """Return the methods that a selection ranked by, or used in conditions, from the options in its plan."""
    merged = parse_merge(plan["merge"]) if "merge" in plan else ()
    conditions = [parse_guard(text) for text in plan.get("where", ())]
    names = {plan["method"], *(name for _, name in merged), *(guard.name for guard in conditions)}
    return tuple(method for method in METHODS if method.name in names)


def parse_merge(text: str) -> tuple[tuple[float, str], ...]:
    """Parse "0.7*cat-var + 0.3*labse" into weights and names; a minus needs spaces around it and negates the weight.

    Raises:
        UsageError: the formula cannot be read, a weight is 0, or a name occurs twice.
    """
    terms: list[tuple[float, str]] = []
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None or (terms and not match["sign"]):
            rest = text[position:]
            raise UsageError(f"merge = {text!r} cannot be read from {rest!r} on: write 0.7*cat-var + 0.3*labse")
        weight = float(match["weight"] or 1) * (-1 if match["sign"] == "-" else 1)
        if not weight or not math.isfinite(weight):
            raise UsageError(f"merge = {text!r}: the weight of {match['name']} is {weight}, leave the column out")
        if match["name"] in [name for _, name in terms]:
            raise UsageError(f"merge = {text!r}: {match['name']} occurs twice, add up its weights")
        terms.append((weight, match["name"]))
        position = match.end()
    if len(terms) < 2:
        raise UsageError(f"merge = {text!r}: give two columns or more, like 0.7*cat-var + 0.3*labse")
    return tuple(terms)


def parse_guard(text: str) -> Guard:
    """Parse "COLUMN>VALUE", with one of > >= < <= == !=.

    Raises:
        UsageError: the condition cannot be read.
    """
    match = _GUARD.fullmatch(text)
    if match is None:
        raise UsageError(f"where = {text!r} cannot be read: write COLUMN>VALUE, with > >= < <= == or !=")
    return Guard(match["name"], cast("Operator", match["op"]), float(match["value"]))


def check_column(name: str) -> str:
    """Check and return the name of a new score column.

    Raises:
        UsageError: `where` and `merge` could not parse the name, or it is `row` or the name of a method.
    """
    if re.fullmatch(r"[A-Za-z_][\w-]*", name) is None:
        raise UsageError(f"name = {name}: give letters, digits, '_' and '-', a letter first")
    if name == "row":
        raise UsageError("name = row is the column of row numbers: give another name")
    if any(method.name == name and method.reads != "scorer" for method in METHODS):
        raise UsageError(f"name = {name} is the name of a method: give another name")
    return name


def read_ranking(options: SelectOptions, *, column: str | None = None) -> Ranking:
    """Read ranking, conditions and budget from the options of `select`.

    Args:
        options: the options.
        column: the only column of the source; None if it has several.

    Raises:
        UsageError: an option is invalid, or options contradict each other.
    """
    share, own = parse_keeps(options.keep, options.always_keep)
    guards = tuple(parse_guard(text) for text in options.where)
    rankers = {"method": options.method, "merge": options.merge, "column": options.column}
    shown = [f"{name} = {value}" for name, value in rankers.items() if value is not None]
    if len(shown) > 1:
        raise UsageError(f"{shown[0]} and {shown[1]}: give only one of them to rank the pairs")
    merge_by: MergeBy | None = None
    terms: tuple[tuple[float, str], ...]
    if options.merge is not None:
        kind, terms, merge_by = MERGE, parse_merge(options.merge), options.merge_by or "rank"
    elif column := options.column or column:
        if options.method is not None:
            raise UsageError(f"method = {options.method}: the source has one column, {column}, which ranks")
        kind, terms = COLUMN, ((1.0, column),)
    else:
        method = find_method(options.method or DEFAULT_METHOD)
        kind, terms = COLUMN if method.reads == "scorer" else method.name, ((1.0, method.name),)
    if any(guard.name == "progress" for guard in guards):
        raise UsageError("where: progress depends on the pairs that pass the conditions: use another column")
    if CLUSTERED in [guard.name for guard in guards] or (CLUSTERED in [name for _, name in terms] and merge_by):
        raise UsageError(f"{CLUSTERED} draws from clusters and gives no scores: use it alone, as the method")
    return Ranking(kind, terms, merge_by, guards, share, own)


def check_options(options: SelectOptions, *, column: str | None = None) -> tuple[Ranking, dict[str, Any]]:
    """Return the ranking, and the options that affect the result for the plan.

    Raises:
        UsageError: an option is invalid or not used by the method, or options contradict each other.
    """
    ranking = read_ranking(options, column=column)
    if ranking.counts_tokens and options.direction == "middle":
        raise UsageError("direction = middle: a token budget has no middle, give a share or a number of pairs")
    if options.draw and options.direction != "top":
        raise UsageError(f"direction = {options.direction}: draw draws from all pairs, leave direction out")
    if ranking.kind == CLUSTERED and (options.within or options.draw):
        raise UsageError(f"{CLUSTERED} draws at random from each cluster: leave within and draw out")
    used = _method_options(ranking, options)
    if "reference" in used and used["reference"] is None:
        raise UsageError("reference is missing: rho needs the scores of a model trained on other pairs")
    plan = {**used, "method": ranking.kind, "direction": options.direction, "keep": ranking.share}
    plan["within"] = options.within
    default = find_method(ranking.kind).ties if ranking.merge_by is None and ranking.kind != COLUMN else "row"
    plan["ties"] = options.ties or ("random" if options.draw else default)
    if plan["ties"] == "random" or options.draw or any("seed" in dict(method.options) for method in ranking.methods):
        plan["seed"] = options.seed
    return ranking, plan | _optional_plan(ranking, options)


def _method_options(ranking: Ranking, options: SelectOptions) -> dict[str, Any]:
    """Return the options of all methods that rank or are in conditions, with their defaults.

    Raises:
        UsageError: no method uses a given option.
    """
    used: dict[str, Any] = {}
    for name, default in METHOD_OPTIONS.items():
        value = getattr(options, name)
        if any(name in dict(method.options) for method in ranking.methods):
            used[name] = default if value is None else value
        elif value is not None:
            users = ", ".join(method.name for method in METHODS if name in dict(method.options))
            ranker = "a column" if ranking.kind == COLUMN else "a merge" if ranking.kind == MERGE else ranking.kind
            raise UsageError(f"{name} = {value}: {ranker} does not use {name}, only {users}: leave it out")
    if options.merge_by is not None and ranking.merge_by is None:
        raise UsageError(f"merge_by = {options.merge_by}: no columns are merged, leave it out")
    return used


def _optional_plan(ranking: Ranking, options: SelectOptions) -> dict[str, Any]:
    """Return the options that a plan contains only if they are given."""
    plan: dict[str, Any] = {}
    if ranking.merge_by:
        plan["merge"] = " + ".join(f"{weight:.17g}*{name}" for weight, name in ranking.terms)
        plan["merge_by"] = ranking.merge_by
    elif ranking.kind == COLUMN:
        plan["column"] = ranking.terms[0][1]
    if ranking.guards:
        plan["where"] = [str(guard) for guard in ranking.guards]
    if ranking.own:
        plan["own"] = [[own.label, own.keep] for own in ranking.own]
    if options.draw:
        plan["draw"] = True
    if options.rows_only:
        plan["rows_only"] = True
    return plan
