"""Select: rank the pairs by a method and decide, exactly, which are kept."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.errors import CatpruneError, UsageError
from catprune.selection.condense import COLUMN as CONDENSED
from catprune.selection.condense import Ranked, check_clusters
from catprune.selection.condense import condense as write_condensed
from catprune.selection.loss_clusters import find_clusters
from catprune.selection.methods import CLUSTERED
from catprune.selection.options import SelectOptions
from catprune.selection.request import METHOD_OPTIONS, Ranking, check_options
from catprune.selection.score_stream import spool_scores
from catprune.selection.sources import Source, describe_groups, open_source, sole_column
from catprune.workspace.files import read_json
from catprune.workspace.manifest import describe_folder, verify_shards
from catprune.workspace.options import takes
from catprune.workspace.progress import Progress
from catprune.workspace.resources import choose_threads
from catprune.workspace.spool import Spool
from catprune.workspace.step_folder import StepFolder, finish_once

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from catprune.boundary import ColumnGuard, Keep, Merge, OwnShare, RankRequest, SelectRequest


@dataclass(frozen=True, slots=True)
class Selected:
    """What was selected.

    Attributes:
        folder: the selection.
        method: the method, `methods.COLUMN` for a score made elsewhere, or `methods.MERGE` for several columns.
        scored: records with a score.
        unscored: records without one (pairs too long to be scored); they are never kept.
        guarded: records that a guard dropped before the ranking; they count neither as scored nor as unscored.
        condensed: of these the near duplicates of a record that ranks better.
        kept: records kept, `trusted` included.
        trusted: records kept without being ranked, because their input or tag is kept always.
        tokens: target tokens of the scored records; None where the source does not count them.
        tokens_kept: target tokens of what is kept, likewise.
        decided_by_ties: records that have the score at the cut, where only a part of them could be kept.
        groups: the same counts of every input, tag and number of times seen, where they were ranked apart.
        partly_seen: checkpoints that had been trained on some of the rows more often than on others (taken inside an
            epoch, or trained on a sample or a selection): those rows have fallen further. Unless they were ranked
            apart, the ranking favours or punishes them for it.
        manifest: everything that the folder's `manifest.json` says.
        is_new: whether this call selected; False if the work was finished before.
    """

    folder: Path
    method: str
    scored: int
    unscored: int
    guarded: int
    condensed: int
    kept: int
    trusted: int
    tokens: int | None
    tokens_kept: int | None
    decided_by_ties: int
    groups: tuple[Mapping[str, Any], ...] = field(repr=False)
    partly_seen: tuple[str, ...] = field(repr=False)
    manifest: Mapping[str, Any] = field(repr=False)
    is_new: bool = field(default=True, compare=False)


@takes(SelectOptions)
def select(options: SelectOptions) -> Selected:
    """Select the best-ranked pairs; memory does not grow with the corpus, and no column is sorted.

    `catprune.selection.methods.METHODS` has the formulas and sources of the methods. Perplexities and scores beyond the
    range of float32 count as the largest float32; -0.0 equals 0.0.

    Sources are a folder of scores (checkpoints are in training order: by step, then by name), or several, where workers
    scored into folders of their own; a clean folder, for `random` and for `length` in characters; Parquet files with
    `row`, or folders of them, in any order; or a one-dimensional .npy array of float32 or float64, whose index is the
    row. Tables, frames and arrays are copied to files in `log` while they are read. Repeated rows, and rows missing
    between shards, are an error.

    `cat-diff` and `progress` use the first and the last checkpoint, `ppl`, `length` and `random` the last, `rho` the
    first and the reference, `dual-xent` the last forward and the last backward one, the others all. If there are
    forward and backward models, all methods but `dual-xent` use the forward ones.

    A share is rounded down. Of n ranks (best first), `middle` keeps the k from floor((n - k) / 2) on. Shares of groups
    are rounded by largest remainder. In `merge`, `where` and `column`, a name is a method; a folder next to the
    checkpoints that holds one column (FOLDER.COLUMN for one of several); or a column of the source, of `join` or of the
    clean folder. Merged ranks are fractions of 1, tied values share their mean rank; standard scores use the population
    deviation, and are 0 where all values are equal. A pair that lacks one of the columns has no score. Conditions of
    `where` compare as float32, before anything is ranked or counted; a pair without the value does not pass.
    `draw` ranks by log(score) + Gumbel noise. With `condense`, all pairs are scored, and only the best-ranked pair of
    each cluster is ranked with the others and counted.

    Raises:
        UsageError: an option has no valid meaning, or does not belong to the method.
        CatpruneError: unfinished folders, files that were changed, checkpoints that cannot be compared, fewer
            scored rows than asked, a NaN, a negative weight, too little disk, or nothing kept.
        OSError: a file cannot be read or written.
    """
    spool = Spool(Path(options.out) / "log")
    with spool.discarded(whenever=True):
        return _select(spool_scores(options, spool))


def _select(options: SelectOptions) -> Selected:
    """Select from sources that are all files or folders."""
    sources = [Path(part) for part in options.source]
    if not sources:
        raise UsageError("source is empty: give a folder of scores, a clean folder, or files of scores")
    out, tmp_dir = Path(options.out), options.tmp_dir
    ranking, plan = check_options(options, column=sole_column(sources))
    behind = Path(options.clean) if options.clean else None
    join = [Path(path) for path in options.join]
    condense = options.condense
    for files in (sources, join):
        if twice := [one for place, one in enumerate(files) if one in files[:place]]:
            raise UsageError(f"{twice[0]} is named twice: give it once")
    found = open_source(
        sources,
        out,
        ranking,
        checkpoints=options.checkpoints,
        reference=options.reference,
        clean=behind,
        join=join,
        within=options.within,
    )
    by_exposure = options.by_exposure and not found.trajectory
    if condense is not None:
        _check_condensing(ranking, options.direction, found, Path(condense))
        found.reads["condense"] = describe_folder(Path(condense), relative_to=out)
    if found.seen:
        plan["by_exposure"] = by_exposure
    if by_exposure and math.prod(len(one["times"]) for one in found.seen) > _MOST_EXPOSURES:
        raise UsageError(
            "the exposures of rows differ in too many ways to be ranked separately: name fewer checkpoints, or give "
            "by_exposure = false"
        )
    request = _to_request(ranking, plan, found, options)
    workers = choose_threads(options.threads)

    def work() -> dict[str, Any]:
        behind = [found.clean] if found.clean and (request.get("clean") or found.joined) else []
        for folder in dict.fromkeys([*found.folders, *behind]):
            verify_shards(folder, read_json(folder / "manifest.json"))
        with Progress("select", total=None, unit="rows", quiet=options.quiet) as bar:

            def show(_: int, rows: int) -> None:
                bar.to(rows)

            if found.trajectory and request["source"]["kind"] == "scores":
                request["clusters"] = find_clusters(
                    request["source"]["sets"], found.trajectory, plan["clusters"], options.seed
                )
            here = Path(tmp_dir) / f"catprune-select-{_own(out)}" if tmp_dir else out / "tmp"
            final: SelectRequest = {
                **request,
                "seen": found.seen if by_exposure else (),
                "out": str(out),
                "rows": options.rows_only,
                "tmp": str(here),
                "plan": step.digest,
                "threads": workers,
            }
            if condense is None:
                counts: dict[str, Any] = {**_core.select(final, show)}
            else:
                beside = Path(tmp_dir) / f"catprune-condense-{_own(out)}" if tmp_dir else out / "log" / "condense"
                counts = _select_condensed(final, found, Path(condense), beside, show)
        if not counts["kept"]:
            step.start_over()  # so that the next try may have another plan
            raise CatpruneError(_nothing_kept(options.keep, counts))
        groups, shards = counts.pop("groups"), counts.pop("shards")
        return {
            "counts": counts,
            "groups": groups,
            "shards": shards,
            "partly_seen": [one["name"] for one in found.seen],
        }

    with StepFolder(out, step="select", reads=found.reads, options=plan, force=options.force) as step:
        manifest = finish_once(step, work)
    return _selected(out, manifest, is_new=not step.finished_before)


def _to_request(ranking: Ranking, plan: Mapping[str, Any], found: Source, options: SelectOptions) -> RankRequest:
    """The request of the pass, but for what does not change the result."""
    if ranking.counts_tokens and found.request["source"]["kind"] != "scores":
        raise UsageError("a token budget needs a folder of scores: nothing else counts target tokens")
    groups = describe_groups(options.within, ranking, found)
    merge: Merge | None = None
    if ranking.merge_by:
        terms = [(found.columns[name], weight) for weight, name in ranking.terms]
        merge = {"by": ranking.merge_by, "terms": terms}
    guards: list[ColumnGuard] = [
        {"column": found.columns[guard.name], "op": guard.op, "value": guard.value} for guard in ranking.guards
    ]
    return {
        "source": found.request["source"],
        **groups,
        "computed": found.computed,
        "joined": found.joined,
        "on": plan.get("on", METHOD_OPTIONS["on"]),
        "sign": plan.get("sign", METHOD_OPTIONS["sign"]),
        "threshold": plan.get("threshold", METHOD_OPTIONS["threshold"]),
        "bins": plan.get("bins", METHOD_OPTIONS["bins"]),
        "seed": options.seed,
        "score": found.columns[ranking.terms[0][1]],
        "merge": merge,
        "guards": guards,
        "sample": options.draw,
        "clusters": None,
        "direction": options.direction,
        "ties": plan["ties"],
        "keep": ranking.share,
    }


def _check_condensing(ranking: Ranking, direction: str, found: Source, near: Path) -> None:
    """Refuse what cannot be condensed.

    Raises:
        UsageError: a ranking without scores or without a best end, or records of which it is not known where they were
            cleaned.
        CatpruneError: clusters of other records.
    """
    if ranking.kind == CLUSTERED:
        raise UsageError(f"{CLUSTERED} gives no pair a score: near duplicates cannot be condensed by it")
    if direction == "middle":
        raise UsageError(
            "direction = middle: near duplicates are condensed to the highest or the lowest of each cluster, give top "
            "or bottom"
        )
    if found.clean is None:
        raise UsageError("condense needs the clean folder of the records: give clean = FOLDER")
    check_clusters(near, found.clean)


def _select_condensed(
    request: SelectRequest, found: Source, near: Path, beside: Path, show: Callable[[int, int], None]
) -> dict[str, Any]:
    """Rank all records, and then those alone that are the best of their clusters; `beside` is for what is between."""
    nothing: Keep = {
        "fraction": [1, 2**62]
    }  # only the scores are wanted, and how many records have one is not known yet
    own: list[OwnShare] = [one if one.get("keep") is None else {**one, "keep": nothing} for one in request["own"]]
    shutil.rmtree(beside, ignore_errors=True)  # what a killed run left
    try:
        (beside / "ranked").mkdir(parents=True)
        whole: SelectRequest = {**request, "keep": nothing, "own": own, "sample": False, "rows": False}
        before = _core.select({**whole, "out": str(beside / "ranked")}, show)
        ranked = [Ranked(beside / "ranked" / one["file"], one["first"], one["end"]) for one in before["shards"]]
        files = write_condensed(near, ranked, beside, lowest=request["direction"] == "bottom")
        guard: ColumnGuard = {"column": found.join(f"{near}/{CONDENSED}", files, CONDENSED), "op": "==", "value": 1.0}
        counts = _core.select({**request, "joined": found.joined, "guards": [*request["guards"], guard]}, show)
        # Not what the column marks: records that are kept always pass this guard, too.
        return {**counts, "condensed": counts["guarded"] - before["guarded"]}
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _own(out: Path) -> str:
    """A name that no other output folder gives."""
    return _core.digest_bytes(os.fsencode(out.absolute()))[:16]


def _nothing_kept(keep: Sequence[str | float], counts: Mapping[str, Any]) -> str:
    scored, tokens = counts["scored"], counts["tokens"]
    of = f"{scored} scored pairs" if tokens is None else f"{scored} scored pairs with {tokens} target tokens"
    if not scored and counts["guarded"]:
        return f"the guards let none of {counts['guarded']} pairs through: check what `where` asks for"
    return f"keep = {', '.join(map(str, keep))} keeps none of {of}" + (": keep more" if scored else "")


def _selected(folder: Path, manifest: Mapping[str, Any], *, is_new: bool) -> Selected:
    fields = (
        "scored",
        "unscored",
        "guarded",
        "condensed",
        "kept",
        "trusted",
        "tokens",
        "tokens_kept",
        "decided_by_ties",
    )
    return Selected(
        folder=folder,
        method=manifest["options"]["method"],
        groups=tuple(manifest["groups"]),
        partly_seen=tuple(manifest["partly_seen"]),
        manifest=manifest,
        is_new=is_new,
        **{name: manifest["counts"].get(name, 0 if name == "condensed" else None) for name in fields},
    )


#: Most combinations of exposures that are ranked separately.
_MOST_EXPOSURES = 4096
