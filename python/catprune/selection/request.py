"""What a selection is asked for: what ranks the pairs, which guards they must pass, and how much of them is kept."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from catprune.errors import UsageError
from catprune.selection.budget import Own, is_token_budget, parse_keeps
from catprune.selection.methods import CLUSTERED, COLUMN, MERGE, METHODS, Method, find_method

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catprune.boundary import Keep, MergeBy, Operator

_NAME = r"[A-Za-z_][\w./-]*"
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_TERM = re.compile(rf"\s*(?P<sign>[+-])?\s*(?:(?P<weight>{_NUMBER})\s*\*\s*)?(?P<name>{_NAME})\s*")
_GUARD = re.compile(rf"\s*(?P<name>{_NAME})\s*(?P<op>>=|<=|==|!=|>|<)\s*(?P<value>[+-]?(?:{_NUMBER}|inf))\s*")
#: What ranks where nothing else is said.
USUAL = "cat-diff"

CHOICES: dict[str, tuple[str | None, ...]] = {
    "on": ("ppl", "nll"),
    "sign": ("signed", "abs"),
    "direction": ("top", "bottom", "middle"),
    "within": (None, "input", "tag", "length"),
    "ties": (None, "row", "random"),
    "merge_by": ("rank", "z"),
}


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that a pair must meet before it is ranked: `name op value`."""

    name: str
    op: Operator
    value: float

    def __str__(self) -> str:
        return f"{self.name}{self.op}{self.value:.17g}"


@dataclass(frozen=True, slots=True)
class Ranking:
    """What ranks, guards and is kept.

    Attributes:
        kind: the name of a method, `methods.COLUMN` or `methods.MERGE`.
        terms: weights and names of what is merged; one term of weight 1 otherwise.
        merge_by: "rank" or "z"; None where one column ranks.
        guards: what comes before the ranking.
        share: the general share, as the pass wants it.
        own: inputs and tags with shares of their own.
    """

    kind: str
    terms: tuple[tuple[float, str], ...]
    merge_by: MergeBy | None
    guards: tuple[Guard, ...]
    share: Keep
    own: tuple[Own, ...]

    @property
    def names(self) -> list[str]:
        """The names of what ranks and guards, each once, what ranks first."""
        return list(dict.fromkeys([*(name for _, name in self.terms), *(guard.name for guard in self.guards)]))

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods among what ranks and guards."""
        names = [guard.name for guard in self.guards] if self.kind == COLUMN else self.names
        return tuple(method for method in METHODS if method.name in names)

    @property
    def counts_tokens(self) -> bool:
        """Whether a share is one of target tokens."""
        return any(is_token_budget(share) for share in (self.share, *(own.keep for own in self.own)) if share)


def parse_merge(text: str) -> tuple[tuple[float, str], ...]:
    """Read "0.7*cat-var + 0.3*labse" into weights and names; a minus stands between spaces, and turns a column round.

    Raises:
        UsageError: it cannot be read, a weight is 0, or a name comes twice.
    """
    terms: list[tuple[float, str]] = []
    at = 0
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None or (terms and not match["sign"]):
            raise UsageError(f"merge = {text!r} cannot be read from {text[at:]!r} on: write 0.7*cat-var + 0.3*labse")
        weight = float(match["weight"] or 1) * (-1 if match["sign"] == "-" else 1)
        if not weight or not math.isfinite(weight):
            raise UsageError(f"merge = {text!r}: the weight of {match['name']} is {weight}, leave it out")
        if match["name"] in [name for _, name in terms]:
            raise UsageError(f"merge = {text!r}: {match['name']} comes twice, add up its weights")
        terms.append((weight, match["name"]))
        at = match.end()
    if len(terms) < 2:
        raise UsageError(f"merge = {text!r}: give two columns or more, like 0.7*cat-var + 0.3*labse")
    return tuple(terms)


def parse_guard(text: str) -> Guard:
    """Read "COLUMN>VALUE", with one of > >= < <= == !=.

    Raises:
        UsageError: it cannot be read.
    """
    match = _GUARD.fullmatch(text)
    if match is None:
        raise UsageError(f"where = {text!r} cannot be read: write COLUMN>VALUE, with > >= < <= == or !=")
    return Guard(match["name"], cast("Operator", match["op"]), float(match["value"]))


def check_column(name: str) -> str:
    """A name for a column that ranks, guards and is merged.

    Raises:
        UsageError: it could not be written in `where` and `merge`, or is that of a method that computes its scores.
    """
    if re.fullmatch(r"[A-Za-z_][\w-]*", name) is None:
        raise UsageError(f"name = {name}: give letters, digits, '_' and '-', a letter first")
    if any(method.name == name and method.reads != "scorer" for method in METHODS):
        raise UsageError(f"name = {name} is that of a method: give another")
    return name


def _several(values: str | Sequence[str] | None) -> list[str]:
    return [values] if isinstance(values, str) else list(values or ())


def read_ranking(given: Mapping[str, Any], *, column: str | None = None) -> Ranking:
    """What the options of `select` ask for; `column` is the only one that the source has, if it has only one.

    Raises:
        UsageError: options that cannot be meant, alone or together.
    """
    share, own = parse_keeps(given["keep"], _several(given["always_keep"]))
    guards = tuple(parse_guard(text) for text in _several(given["where"]))
    asked = [name for name in ("method", "merge", "column") if given[name] is not None]
    if len(asked) > 1:
        raise UsageError(
            f"{asked[0]} = {given[asked[0]]} and {asked[1]} = {given[asked[1]]}: give one of them, it is what ranks"
        )
    merge_by: MergeBy | None = None
    terms: tuple[tuple[float, str], ...]
    if given["merge"] is not None:
        kind, terms, merge_by = MERGE, parse_merge(given["merge"]), given["merge_by"]
    elif column := given["column"] or column:
        if given["method"] is not None:
            raise UsageError(f"method = {given['method']}: the source holds one column, which is what ranks")
        kind, terms = COLUMN, ((1.0, column),)
    else:
        method = find_method(given["method"] or USUAL)
        kind, terms = COLUMN if method.reads == "scorer" else method.name, ((1.0, method.name),)
    if any(guard.name == "progress" for guard in guards):
        raise UsageError("where: progress compares the pairs that guards let through: guard by another column")
    if CLUSTERED in [guard.name for guard in guards] or (CLUSTERED in [name for _, name in terms] and merge_by):
        raise UsageError(f"{CLUSTERED} draws from clusters and gives no pair a score: name it alone, as the method")
    return Ranking(kind, terms, merge_by, guards, share, own)


def check_options(given: Mapping[str, Any], *, column: str | None = None) -> tuple[Ranking, dict[str, Any]]:
    """What is asked for, and the options that matter to it, checked: only these stand in the plan.

    Raises:
        UsageError: an option that cannot be meant.
    """
    for name, values in CHOICES.items():
        if given[name] not in values:
            raise UsageError(f"{name} = {given[name]}: give one of {', '.join(filter(None, values))}")
    if not isinstance(given["bins"], int) or not 1 <= given["bins"] <= 1000:
        raise UsageError(f"bins = {given['bins']}: give 1 to 1000")
    if not 0 <= given["seed"] < 2**64:
        raise UsageError(f"seed = {given['seed']}: give 0 to 2^64 - 1")
    if given["threads"] is not None and given["threads"] < 1:
        raise UsageError(f"threads = {given['threads']}: give at least 1")
    if not 0 < given["threshold"] <= 1:
        raise UsageError(f"threshold = {given['threshold']}: give a share of the tokens, above 0 and at most 1")
    if not isinstance(given["clusters"], int) or not 1 <= given["clusters"] <= 10_000:
        raise UsageError(f"clusters = {given['clusters']}: give 1 to 10000")
    ranking = read_ranking(given, column=column)
    if ranking.counts_tokens and given["direction"] == "middle":
        raise UsageError("a token budget has no middle: give a fraction or a count of rows")
    if given["sample"] and given["direction"] != "top":
        raise UsageError(f"direction = {given['direction']}: a sample is drawn from all, leave it out")
    if ranking.kind == CLUSTERED and (given["within"] or given["sample"]):
        raise UsageError(f"{CLUSTERED} draws at random from each cluster: leave --within and --sample out")
    is_rho = any(method.reads == "reference" for method in ranking.methods)
    if is_rho and given["reference"] is None:
        raise UsageError("rho compares with a model that was trained on other pairs: name its scores by --reference")
    if given["reference"] is not None and not is_rho:
        raise UsageError(f"reference = {given['reference']}: only rho compares with a reference model, leave it out")
    options = {name: given[name] for method in ranking.methods for name, _ in method.options}
    options |= {"method": ranking.kind, "direction": given["direction"], "keep": ranking.share}
    options["within"] = given["within"]
    usual = find_method(ranking.kind).ties if ranking.merge_by is None and ranking.kind != COLUMN else "row"
    options["ties"] = given["ties"] or ("random" if given["sample"] else usual)
    if options["ties"] == "random" or given["sample"]:
        options["seed"] = given["seed"]
    return ranking, options | _rarer(ranking, given)


def _rarer(ranking: Ranking, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that stand in a plan only where they are given."""
    options: dict[str, Any] = {}
    if ranking.merge_by:
        options["merge"] = " + ".join(f"{weight:.17g}*{name}" for weight, name in ranking.terms)
        options["merge_by"] = ranking.merge_by
    elif ranking.kind == COLUMN:
        options["column"] = ranking.terms[0][1]
    if ranking.guards:
        options["where"] = [str(guard) for guard in ranking.guards]
    if ranking.own:
        options["own"] = [[own.label, own.keep] for own in ranking.own]
    if given["sample"]:
        options["sample"] = True
    if given["rows"]:
        options["rows"] = True
    return options
