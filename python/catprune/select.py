"""Select: rank the pairs by a method and decide, exactly, which are kept."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.errors import CatpruneError, UsageError
from catprune.folder import StepFolder, finish_once, read_json, verify_shards
from catprune.keep import is_token_budget, parse_keep, share_text
from catprune.methods import COLUMN, Method, find_method
from catprune.progress import Progress
from catprune.sources import Source, describe_groups, open_source
from catprune.streams import takes_streams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Selected:
    """What was selected.

    Attributes:
        folder: the selection.
        method: the method, or `methods.COLUMN` for a score made elsewhere.
        scored: records with a score.
        unscored: records without one (pairs too long to be scored); they are never kept.
        kept: records kept.
        tokens: target tokens of the scored records; None where the source does not count them.
        tokens_kept: target tokens of what is kept, likewise.
        decided_by_ties: records that have the score at the cut, where only a part of them could be kept.
        groups: the same counts of every input or tag, where they were ranked apart.
        partly_seen: checkpoints that had been trained on some of the rows more often than on others (taken inside an
            epoch, or trained on a selection): those rows have fallen further, and the ranking favours or punishes
            them for it.
        manifest: everything that the folder's `manifest.json` says.
    """

    folder: Path
    method: str
    scored: int
    unscored: int
    kept: int
    tokens: int | None
    tokens_kept: int | None
    decided_by_ties: int
    groups: tuple[Mapping[str, Any], ...]
    partly_seen: tuple[str, ...]
    manifest: Mapping[str, Any]


@takes_streams
def select(
    source: str | Path,
    *,
    out: str | Path,
    method: str = "cat-diff",
    keep: str | float = "50%",
    on: str = "ppl",
    direction: str = "top",
    sign: str = "signed",
    within: str | None = None,
    ties: str | None = None,
    bins: int = 50,
    checkpoints: Sequence[str] | None = None,
    seed: int = 1,
    column: str | None = None,
    clean: str | Path | None = None,
    threads: int | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Selected:
    """Select the best-ranked pairs; memory does not grow with the corpus, and nothing is sorted.

    Formulas and sources of the methods stand in `catprune.methods.METHODS`. Perplexities and scores beyond
    the range of float32 count as the largest float32; -0.0 equals 0.0.

    Args:
        source: a folder of scores (checkpoints in training order: by step, then by name); or a clean folder,
            for `random` and for `length` in characters; or a Parquet file with `row` and a numeric `column`, or a
            table or reader with both that gives an Arrow stream (Polars, DuckDB, PyArrow, …), sorted by row.
        out: the folder to write; equal work that is finished there is not done again.
        method: a name of `METHODS`; without meaning where `column` is given. `cat-diff` and `progress` use
            the first and the last checkpoint, `ppl`, `length` and `random` the last, the others all.
        keep: "50%" or "0.5" of the records (rounded down), 1000 of them, or the best-ranked ones whose target
            tokens fit into "50%tokens" of the scored tokens or into "123456tokens".
        on: rank by "ppl" or "nll".
        direction: "top", "bottom", or "middle": of n ranks (best first) the k from ⌊(n-k)/2⌋ on.
        sign: of cat-diff, "signed" or "abs".
        within: rank each "input" or each "tag" apart; each keeps its share (by largest remainder).
        ties: which of equal scores at the cut are kept: "row", the lower rows, or "random", by a hash of
            (seed, row); None: as the method has it.
        bins: of progress, per group.
        checkpoints: names of the checkpoints to use; None: all that the folder has.
        seed: of the method random and of random ties.
        column: the score column of a Parquet file; a null has no score.
        clean: the clean folder behind a Parquet file; its rows without a reason are then the records.
        threads: None: as the machine has them. The result does not depend on them.
        force: replace other work in `out`.
        quiet: show no progress bar.

    Raises:
        UsageError: an option that cannot be meant.
        CatpruneError: unfinished folders, files that were changed, checkpoints that cannot be compared, fewer
            scored rows than asked, or nothing kept.
        OSError: a file cannot be read or written.
    """
    source, out = Path(source), Path(out)
    chosen = _method(method, source, column)
    share = parse_keep(keep)
    given = {"on": on, "sign": sign, "direction": direction, "within": within, "ties": ties}
    given |= {"bins": bins, "seed": seed, "threads": threads, "column": column}
    options = check_options(chosen, share, given)
    behind = Path(clean) if clean else None
    found = open_source(source, out, chosen, checkpoints=checkpoints, column=column, clean=behind)
    _check_tokens(share, found, direction)
    request = {
        **found.request,
        **describe_groups(within, found.clean),
        "method": chosen.name,
        "on": on,
        "sign": sign,
        "direction": direction,
        "ties": options["ties"],
        "bins": bins,
        "seed": seed,
        "keep": share,
        "out": str(out),
        "threads": threads or os.cpu_count() or 1,
    }

    def work() -> dict[str, Any]:
        behind = [found.clean] if found.clean and "clean" in request else []
        for folder in dict.fromkeys([*found.folders, *behind]):
            verify_shards(folder, read_json(folder / "manifest.json"))
        with Progress("select", total=None, unit="rows", quiet=quiet) as bar:

            def show(_: int, rows: int) -> None:
                bar.to(rows)

            counts: dict[str, Any] = _core.select({**request, "plan": step.digest}, show)
        if not counts["kept"]:
            step.start_over()  # so that the next try may have another plan
            raise CatpruneError(_nothing_kept(keep, counts))
        groups, shards = counts.pop("groups"), counts.pop("shards")
        return {"counts": counts, "groups": groups, "shards": shards, "partly_seen": list(found.partly_seen)}

    with StepFolder(out, step="select", reads=found.reads, options=options, force=force) as step:
        manifest = finish_once(step, work)
    return _selected(out, manifest)


def _nothing_kept(keep: str | float, counts: Mapping[str, Any]) -> str:
    scored, tokens = counts["scored"], counts["tokens"]
    of = f"{scored} scored pairs" if tokens is None else f"{scored} scored pairs with {tokens} target tokens"
    return f"keep = {keep} keeps none of {of}" + (": keep more" if scored else "")


def _selected(folder: Path, manifest: Mapping[str, Any]) -> Selected:
    fields = ("scored", "unscored", "kept", "tokens", "tokens_kept", "decided_by_ties")
    return Selected(
        folder=folder,
        method=manifest["options"]["method"],
        groups=tuple(manifest["groups"]),
        partly_seen=tuple(manifest["partly_seen"]),
        manifest=manifest,
        **{name: manifest["counts"][name] for name in fields},
    )


def _method(name: str, source: Path, column: str | None) -> Method:
    if column is not None:
        return Method(COLUMN, f"the column {column}", str(source), needs=0, reads="last")
    return find_method(name)


def check_options(method: Method, share: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that matter to the method, checked: only these stand in the plan.

    Raises:
        UsageError: an option that cannot be meant.
    """
    choices = {
        "on": ("ppl", "nll"),
        "sign": ("signed", "abs"),
        "direction": ("top", "bottom", "middle"),
        "within": (None, "input", "tag"),
        "ties": (None, "row", "random"),
    }
    for name, values in choices.items():
        if given[name] not in values:
            raise UsageError(f"{name} = {given[name]}: give one of {', '.join(filter(None, values))}")
    if not isinstance(given["bins"], int) or not 1 <= given["bins"] <= 1000:
        raise UsageError(f"bins = {given['bins']}: give 1 to 1000")
    if not 0 <= given["seed"] < 2**64:
        raise UsageError(f"seed = {given['seed']}: give 0 to 2^64 - 1")
    if given["threads"] is not None and given["threads"] < 1:
        raise UsageError(f"threads = {given['threads']}: give at least 1")
    options = {name: given[name] for name, _ in method.options}
    options |= {
        "method": method.name,
        "direction": given["direction"],
        "keep": share,
        "within": given["within"],
    }
    options["ties"] = given["ties"] or method.ties
    if options["ties"] == "random":
        options["seed"] = given["seed"]
    if given["column"] is not None:
        options["column"] = given["column"]
    return options


#: What an option of `select` is where nobody gives it.
DEFAULTS: dict[str, Any] = {one.name: one.default for one in inspect.signature(select).parameters.values()}


def summary(done: Selected) -> list[str]:
    """What was kept, in lines for a reader: pairs, tokens, ties, and last the caution of `partly_seen`, if any."""
    lines = [
        f"{share_text(done.kept, done.scored)} of {done.scored:,} scored pairs kept; {done.unscored:,} have no score"
    ]
    if done.tokens is not None and done.tokens_kept is not None:
        lines.append(f"{share_text(done.tokens_kept, done.tokens)} of {done.tokens:,} target tokens kept")
    if done.decided_by_ties:
        lines.append(f"{done.decided_by_ties:,} pairs have the score at the cut: ties decided which of them")
    if done.partly_seen:
        lines.append(
            f"{', '.join(done.partly_seen)}: trained on some pairs more often than on others, which ranks them by that "
            "too; checkpoints after whole epochs compare better"
        )
    return lines


def _check_tokens(share: dict[str, Any], source: Source, direction: str) -> None:
    if not is_token_budget(share):
        return
    if source.request["source"]["kind"] != "scores":
        raise UsageError("a token budget needs a folder of scores: nothing else counts target tokens")
    if direction == "middle":
        raise UsageError("a token budget has no middle: give a fraction or a count of rows")
