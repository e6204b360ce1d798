"""Select: rank the pairs by a method and decide, exactly, which are kept."""

from __future__ import annotations

import inspect
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.corpus.arrow_stream import takes_streams
from catprune.errors import CatpruneError, UsageError
from catprune.selection.condense import COLUMN as CONDENSED
from catprune.selection.condense import Ranked, check_clusters
from catprune.selection.condense import condense as write_condensed
from catprune.selection.loss_clusters import find_clusters
from catprune.selection.methods import CLUSTERED
from catprune.selection.request import Ranking, check_options
from catprune.selection.sources import Source, describe_groups, open_source, sole_column
from catprune.workspace.files import read_json
from catprune.workspace.manifest import describe_folder, verify_shards
from catprune.workspace.progress import Progress
from catprune.workspace.resources import choose_threads
from catprune.workspace.step_folder import StepFolder, finish_once
from catprune.workspace.wording import share_text

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
    groups: tuple[Mapping[str, Any], ...]
    partly_seen: tuple[str, ...]
    manifest: Mapping[str, Any]


@takes_streams
def select(
    source: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    method: str | None = None,
    keep: str | float | Sequence[str | float] = "50%",
    on: str = "ppl",
    direction: str = "top",
    sign: str = "signed",
    within: str | None = None,
    ties: str | None = None,
    bins: int = 50,
    threshold: float = 0.5,
    clusters: int = 100,
    reference: str | None = None,
    checkpoints: Sequence[str] | None = None,
    seed: int = 1,
    seen_apart: bool = True,
    column: str | None = None,
    merge: str | None = None,
    merge_by: str = "rank",
    where: str | Sequence[str] | None = None,
    always_keep: str | Sequence[str] | None = None,
    sample: bool = False,
    condense: str | Path | None = None,
    join: Sequence[str | Path] = (),
    clean: str | Path | None = None,
    rows: bool = False,
    tmp_dir: str | Path | None = None,
    threads: int | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Selected:
    """Select the best-ranked pairs; memory does not grow with the corpus, and no column is sorted.

    Formulas and sources of the methods stand in `catprune.selection.methods.METHODS`. Perplexities and scores beyond
    the range of float32 count as the largest float32; -0.0 equals 0.0.

    Args:
        source: a folder of scores (checkpoints in training order: by step, then by name), or several, where workers
            scored into folders of their own; or a clean folder, for `random` and for `length` in characters; or
            Parquet files with `row`, or folders of them, in any order; or a one-dimensional .npy array of float32
            or float64, whose index is the row; or a table or reader that gives an Arrow stream (Polars, DuckDB,
            PyArrow, …) with `row`, ascending, and `column`. Rows that come twice, or are missing between shards, are
            an error.
        out: the folder to write; equal work that is finished there is not done again.
        method: a name of `METHODS`; None: cat-diff where nothing else ranks. `cat-diff` and `progress` use
            the first and the last checkpoint, `ppl`, `length` and `random` the last, `rho` the first and the
            reference, `dual-xent` the last forward and the last backward one, the others all; where there are forward
            and backward models, all but `dual-xent` look at the forward ones. Methods of scorers use none.
        keep: "50%" or "0.5" of the records (rounded down), 1000 of them, or the best-ranked ones whose target
            tokens fit into "50%tokens" of the scored tokens or into "123456tokens". A list may hold shares of single
            inputs and tags besides ("tag=news:80%", "input=wmt.en:1000"): each is ranked apart and keeps its share of
            its own records; the others together keep the general one of theirs.
        on: rank by "ppl" or "nll".
        direction: "top", "bottom", or "middle": of n ranks (best first) the k from ⌊(n-k)/2⌋ on.
        sign: of cat-diff, "signed" or "abs".
        within: rank each "input", each "tag" or each bucket of "length" (⌊2·log₂ n⌋ of n target tokens, or characters
            where the source has no tokens) apart; each keeps its share (by largest remainder).
        ties: which of equal scores at the cut are kept: "row", the lower rows, or "random", by a hash of
            (seed, row); None: as the method has it.
        bins: of progress, per group.
        threshold: of forgetting: the share of its tokens from which on a pair counts as known.
        clusters: of s2l: how many k-means looks for among the courses of nll of a sample of 100,000 records. The
            clusters take the place of groups by how often rows had been seen.
        reference: of rho: the scores of the model that was trained on other pairs (`train --rows`).
        checkpoints: names of the checkpoints to use; None: all that the folder has.
        seed: of the method random, of random ties and of a sample.
        seen_apart: where the checkpoints that a method compares had been trained on some rows more often than on
            others, rank rows that had been seen equally often among themselves, each such group giving its share, as
            `within` does.
        column: the score column of Parquet files, or of a scorer's folder beside the checkpoints; a null has no score.
        merge: several columns as one, "0.7*cat-var + 0.3*labse": their weighted mean, a record that lacks one of them
            having no score. A name is a method; or a folder beside the checkpoints with one column (FOLDER.COLUMN
            for one of several); or a column of the source's files, of those to `join`, or of the clean folder.
        merge_by: "rank": by the ranks of the values as fractions of 1, tied ones sharing their mean rank; "z": by
            standard scores (population deviation; 0 where all values are equal).
        where: guards like "labse>0.6" (>, >=, <, <=, ==, !=; names as in `merge`), applied before anything is ranked
            or counted as a share; values are compared as float32, a record without one does not pass.
        always_keep: "input=NAME" or "tag=VALUE": all its records are kept, unranked and unguarded, scored or not, and
            on top of `keep`, which counts the others only.
        sample: draw without replacement, each record with the chances of its score as a weight (0 or more; a weight
            of 0 is drawn only when there is nothing else left). The score is then log(weight) + Gumbel noise.
        condense: a clean folder of the same inputs and options with near duplicates, whose clusters are those that it
            found: of each only the best-ranked record (of equal ones the lower row) is ranked with the others and
            counted as a share; the rest is as if a guard had dropped it. All records are scored for that.
        join: Parquet files or folders of them with `row` and further columns.
        clean: the clean folder behind Parquet files; its rows without a reason are then the records.
        rows: write `rows.npy` in place of shards: the kept rows ascending, uint32, or uint64 where there are rows from
            2^32 on. `write` takes shards.
        tmp_dir: where temporary files go (merging by rank: 12 bytes a record); None: into `out`.
        threads: None: as the machine has them. The result does not depend on them.
        force: replace other work in `out`.
        quiet: show no progress bar.

    Raises:
        UsageError: an option that cannot be meant.
        CatpruneError: unfinished folders, files that were changed, checkpoints that cannot be compared, fewer
            scored rows than asked, a NaN, a negative weight, too little disk, or nothing kept.
        OSError: a file cannot be read or written.
    """
    sources = [Path(source)] if isinstance(source, str | Path) else [Path(one) for one in source]
    if not sources:
        raise UsageError("no source: give a folder of scores, a clean folder, or files of scores")
    out = Path(out)
    given = {"method": method, "column": column, "merge": merge, "merge_by": merge_by, "where": where}
    given |= {"keep": keep, "always_keep": always_keep, "sample": sample, "rows": rows, "on": on, "sign": sign}
    given |= {"direction": direction, "within": within, "ties": ties, "bins": bins, "seed": seed, "threads": threads}
    given |= {"threshold": threshold, "clusters": clusters, "reference": reference}
    ranking, options = check_options(given, column=sole_column(sources))
    behind = Path(clean) if clean else None
    join = [Path(join)] if isinstance(join, str | Path) else [Path(one) for one in join]
    for files in (sources, join):
        if twice := [one for place, one in enumerate(files) if one in files[:place]]:
            raise UsageError(f"{twice[0]} is named twice: give it once")
    found = open_source(
        sources, out, ranking, checkpoints=checkpoints, reference=reference, clean=behind, join=join, within=within
    )
    seen_apart = seen_apart and not found.trajectory
    if condense is not None:
        _check_condensing(ranking, direction, found, Path(condense))
        found.reads["condense"] = describe_folder(Path(condense), relative_to=out)
    if found.seen:
        options["seen_apart"] = seen_apart
    if seen_apart and math.prod(len(one["times"]) for one in found.seen) > _MOST_COURSES:
        raise UsageError(
            "rows had been trained on in too many ways to be ranked apart: name fewer checkpoints, or rank them "
            "together (--seen-together)"
        )
    request = _to_request(ranking, options, found, given)
    workers = choose_threads(threads)

    def work() -> dict[str, Any]:
        behind = [found.clean] if found.clean and (request.get("clean") or found.joined) else []
        for folder in dict.fromkeys([*found.folders, *behind]):
            verify_shards(folder, read_json(folder / "manifest.json"))
        with Progress("select", total=None, unit="rows", quiet=quiet) as bar:

            def show(_: int, rows: int) -> None:
                bar.to(rows)

            if found.trajectory and request["source"]["kind"] == "scores":
                request["clusters"] = find_clusters(request["source"]["sets"], found.trajectory, clusters, seed)
            here = Path(tmp_dir) / f"catprune-select-{_own(out)}" if tmp_dir else out / "tmp"
            final: SelectRequest = {
                **request,
                "seen": found.seen if seen_apart else (),
                "out": str(out),
                "rows": rows,
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
            raise CatpruneError(_nothing_kept(keep, counts))
        groups, shards = counts.pop("groups"), counts.pop("shards")
        return {
            "counts": counts,
            "groups": groups,
            "shards": shards,
            "partly_seen": [one["name"] for one in found.seen],
        }

    with StepFolder(out, step="select", reads=found.reads, options=options, force=force) as step:
        manifest = finish_once(step, work)
    return _selected(out, manifest)


def _to_request(ranking: Ranking, options: Mapping[str, Any], found: Source, given: Mapping[str, Any]) -> RankRequest:
    """The request of the pass, but for what does not change the result."""
    if ranking.counts_tokens and found.request["source"]["kind"] != "scores":
        raise UsageError("a token budget needs a folder of scores: nothing else counts target tokens")
    groups = describe_groups(given["within"], ranking, found)
    merge: Merge | None = None
    if ranking.merge_by:
        terms = [(found.columns[name], weight) for weight, name in ranking.terms]
        merge = {"by": ranking.merge_by, "terms": terms}
    guards: list[ColumnGuard] = [
        {"column": found.columns[one.name], "op": one.op, "value": one.value} for one in ranking.guards
    ]
    return {
        "source": found.request["source"],
        **groups,
        "computed": found.computed,
        "joined": found.joined,
        "on": given["on"],
        "sign": given["sign"],
        "threshold": given["threshold"],
        "bins": given["bins"],
        "seed": given["seed"],
        "score": found.columns[ranking.terms[0][1]],
        "merge": merge,
        "guards": guards,
        "sample": given["sample"],
        "clusters": None,
        "direction": given["direction"],
        "ties": options["ties"],
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
        raise UsageError("condense needs the clean folder of the records: name it with --clean")
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


def _nothing_kept(keep: str | float | Sequence[str | float], counts: Mapping[str, Any]) -> str:
    scored, tokens = counts["scored"], counts["tokens"]
    of = f"{scored} scored pairs" if tokens is None else f"{scored} scored pairs with {tokens} target tokens"
    if not scored and counts["guarded"]:
        return f"the guards let none of {counts['guarded']} pairs through: check what `where` asks for"
    return f"keep = {keep} keeps none of {of}" + (": keep more" if scored else "")


def _selected(folder: Path, manifest: Mapping[str, Any]) -> Selected:
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
        **{name: manifest["counts"].get(name, 0 if name == "condensed" else None) for name in fields},
    )


#: What an option of `select` is where nobody gives it.
DEFAULTS: dict[str, Any] = {one.name: one.default for one in inspect.signature(select).parameters.values()}


#: Ways in which rows may have been seen, to be ranked apart.
_MOST_COURSES = 4096
#: Groups that the summary tells one by one.
_GROUPS_SHOWN = 20


def summary(done: Selected) -> list[str]:
    """What was kept, in lines for a reader: pairs, tokens, ties."""
    lines = [
        f"{share_text(done.kept, done.scored)} of {done.scored:,} scored pairs kept; {done.unscored:,} have no score"
    ]
    lines += _group_lines(done)
    if done.guarded > done.condensed:
        lines.append(f"{done.guarded - done.condensed:,} more pairs were dropped before by a guard")
    if done.condensed:
        lines.append(f"{done.condensed:,} more pairs are near duplicates of one that ranks better")
    if done.trusted:
        lines.append(f"{done.trusted:,} of those kept were trusted and not ranked")
    if done.tokens is not None and done.tokens_kept is not None:
        lines.append(f"{share_text(done.tokens_kept, done.tokens)} of {done.tokens:,} target tokens kept")
    if done.decided_by_ties:
        lines.append(f"{done.decided_by_ties:,} pairs have the score at the cut: ties decided which of them")
    return lines


def _group_lines(done: Selected) -> list[str]:
    """What each group gave; those that nobody asked for in one line."""
    options, count = done.manifest["options"], len(done.groups)
    if not count:
        return []
    if not (options["within"] or options.get("own")):
        sizes = [group["scored"] for group in done.groups]
        told = f"of {min(sizes):,} to {max(sizes):,} scored pairs"
        if options["method"] == CLUSTERED:
            whole = sum(group["kept"] == group["scored"] for group in done.groups)
            return [f"  drawn evenly from {count:,} clusters {told}; {whole:,} of them are kept whole"]
        return [f"  ranked apart by how often checkpoints had been trained on them: {count} groups {told}"]
    lines: list[str] = []
    for group in done.groups[:_GROUPS_SHOWN]:
        counts = f"{share_text(group['kept'], group['scored'])} of {group['scored']:,} kept"
        lines.append(f"  {group['name']}: {counts}; {group['unscored']:,} have no score")
    if count > _GROUPS_SHOWN:
        lines.append(f"  … and {count - _GROUPS_SHOWN} more groups (--json)")
    return lines


def caution(done: Selected) -> str | None:
    """A warning where rows that had been seen more and less often were ranked together, and need not have been."""
    options = done.manifest["options"]
    # Clusters of courses take the place of groups by how often rows had been seen.
    if not done.partly_seen or options["seen_apart"] or options["method"] == CLUSTERED:
        return None
    return (
        f"{', '.join(done.partly_seen)}: trained on some pairs more often than on others, which ranks them by that "
        "too; leave --seen-together out, or take checkpoints after whole epochs"
    )
