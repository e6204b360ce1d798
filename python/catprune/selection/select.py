"""Select: rank the pairs by a method and keep exactly as many as the budget allows."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.errors import CatpruneError, UsageError
from catprune.selection.budget import list_shares
from catprune.selection.condense import COLUMN as CONDENSED
from catprune.selection.condense import Ranked, check_clusters
from catprune.selection.condense import condense as write_condensed
from catprune.selection.external_files import sole_column
from catprune.selection.groups import describe_groups
from catprune.selection.loss_clusters import find_clusters
from catprune.selection.methods import CLUSTERED
from catprune.selection.options import SelectOptions
from catprune.selection.request import METHOD_OPTIONS, Ranking, check_options
from catprune.selection.score_stream import spool_scores
from catprune.selection.sources import Source, open_source
from catprune.workspace.manifest import describe_folder, verify_shards
from catprune.workspace.options import takes
from catprune.workspace.progress import Progress
from catprune.workspace.resources import choose_threads
from catprune.workspace.sealed import read_sealed
from catprune.workspace.spool import Spool
from catprune.workspace.step_folder import StepFolder, finish_once

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from catprune.boundary import ColumnGuard, Keep, Merge, OwnShare, RankRequest, SelectRequest


@dataclass(frozen=True, slots=True)
class Selected:
    """A finished selection.

    Attributes:
        folder: the selection folder.
        method: the method, `methods.COLUMN` for a column, or `methods.MERGE` for several columns.
        scored: records with a score.
        unscored: records without a score (pairs that are too long); they are never kept.
        guarded: records dropped by conditions before the ranking; neither in `scored` nor in `unscored`.
        condensed: records in `guarded` that are near duplicates of a record that ranks better.
        kept: kept records, including `trusted`.
        trusted: records kept without being ranked, because their input or tag is always kept.
        tokens: target tokens of the scored records; None if the source does not count tokens.
        tokens_kept: target tokens of the kept records; None if the source does not count tokens.
        decided_by_ties: records with the score at the cut, if only some of them could be kept.
        groups: the same counts for each input, tag and exposure that was ranked separately.
        uneven_exposure: checkpoints that were trained on some rows more often than on others (saved within an epoch, or
            trained on a sample or a selection). The loss of these rows fell further, which biases the ranking unless
            they are ranked separately.
        manifest: the content of `manifest.json`.
        is_new: whether this call selected; False if the selection was finished before.
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
    uneven_exposure: tuple[str, ...] = field(repr=False)
    manifest: Mapping[str, Any] = field(repr=False)
    is_new: bool = field(default=True, compare=False)


@takes(SelectOptions)
def select(options: SelectOptions) -> Selected:
    """Select the best-ranked pairs; memory does not grow with the corpus, and no column is sorted.

    `catprune.selection.methods.METHODS` lists the formulas and sources of the methods. Perplexities and scores beyond
    the range of float32 count as the largest float32; -0.0 equals 0.0.

    Sources are:

    - a scores folder, or several if workers scored into different folders; checkpoints are in training order (by step,
      then by name),
    - a clean folder, for `random` and for `length` in characters,
    - Parquet files with `row`, or folders of them, in any order,
    - a one-dimensional .npy array of float32 or float64, whose index is the row.

    Tables, frames and arrays are copied to files in `log` while they are read. Repeated rows, and rows missing between
    shards, are an error.

    `cat-diff` and `progress` use the first and the last checkpoint; `ppl`, `length` and `random` the last; `rho` the
    first and the reference; `dual-xent` the last forward and the last backward model; other methods all. If there are
    forward and backward models, all methods except `dual-xent` use the forward models.

    Shares are rounded down; shares of groups are rounded by largest remainder. Of n ranks (best first), `middle` keeps
    the k ranks from floor((n - k) / 2) on. `draw` ranks by log(score) + Gumbel noise.

    In `merge`, `where` and `column`, a name is a method, a folder next to the checkpoints with one column
    (FOLDER.COLUMN for one of several), or a column of the source, of `join` or of the clean folder. Merged ranks are
    fractions of 1, and tied values share their mean rank. Standard scores use the population deviation, and are 0 if
    all values are equal. A pair that lacks one of the columns has no score. Conditions of `where` compare as float32,
    before pairs are ranked or counted; a pair without the value does not pass. With `condense`, all pairs are scored,
    but only the best-ranked pair of each cluster is ranked and counted.

    Raises:
        UsageError: an option is invalid, or the method does not use it.
        CatpruneError: a folder is unfinished, files were changed, checkpoints cannot be compared, there are fewer
            scored rows than `keep`, a NaN, a negative weight, too little disk space, or nothing is kept.
        OSError: a file cannot be read or written.
    """
    spool = Spool(Path(options.out) / "log")
    with spool.discarded(whenever=True):
        return _select(spool_scores(options, spool))


def _select(options: SelectOptions) -> Selected:
    """Select from sources that are all files or folders."""
    out, selecting = Path(options.out), _Selecting.read(options)
    reads, plan = selecting.source.reads, selecting.plan
    with StepFolder(out, step="select", reads=reads, options=plan, force=options.force) as step:
        manifest = finish_once(step, lambda: selecting.work(step))
    return _selected(out, manifest, is_new=not step.finished_before)


@dataclass(frozen=True, slots=True)
class _Selecting:
    """The checked options of a selection.

    Attributes:
        options: as they were given.
        plan: what decides the result.
        source: the opened columns.
        request: what is ranked, as the pass takes it.
        by_exposure: whether pairs are ranked separately by their exposure.
    """

    options: SelectOptions
    plan: dict[str, Any]
    source: Source
    request: RankRequest
    by_exposure: bool

    @classmethod
    def read(cls, options: SelectOptions) -> _Selecting:
        """Check the options together and open the sources.

        Raises:
            UsageError, CatpruneError: as `select`.
        """
        sources = [Path(part) for part in options.source]
        if not sources:
            raise UsageError("source is empty: give a scores folder, a clean folder, or files of scores")
        ranking, plan = check_options(options, column=sole_column(sources))
        join = [Path(path) for path in options.join]
        for files in (sources, join):
            if repeated := [file for place, file in enumerate(files) if file in files[:place]]:
                raise UsageError(f"{repeated[0]} is named twice: give it once")
        source = open_source(
            sources,
            Path(options.out),
            ranking,
            checkpoints=options.checkpoints,
            reference=options.reference,
            clean=Path(options.clean) if options.clean else None,
            join=join,
            within=options.within,
        )
        if options.condense is not None:
            near = Path(options.condense)
            _check_condensing(ranking, options.direction, source, near)
            source.reads["condense"] = describe_folder(near, relative_to=Path(options.out))
        by_exposure = options.by_exposure and not source.trajectory
        if source.exposures:
            plan["by_exposure"] = by_exposure
        if by_exposure and math.prod(len(checkpoint["times"]) for checkpoint in source.exposures) > _MOST_EXPOSURES:
            raise UsageError(
                "rows have too many different exposures to be ranked separately: name fewer checkpoints, or give "
                "by_exposure = false"
            )
        choose_threads(options.threads)
        return cls(options, plan, source, _to_request(ranking, plan, source, options), by_exposure)

    def work(self, step: StepFolder) -> dict[str, Any]:
        """Verify what is read, and select."""
        source = self.source
        clean = [source.clean] if source.clean and (self.request.get("clean") or source.external) else []
        for folder in dict.fromkeys([*source.folders, *clean, *source.column_folders()]):
            verify_shards(folder, read_sealed(folder / "manifest.json"))
        counts = self._count(step)
        if not counts["kept"]:
            step.start_over()  # the next call may have another plan
            raise CatpruneError(_nothing_kept(self.options.keep, counts))
        groups, shards = counts.pop("groups"), counts.pop("shards")
        return {
            "counts": counts,
            "groups": groups,
            "shards": shards,
            "uneven_exposure": [checkpoint["name"] for checkpoint in source.exposures],
        }

    def _count(self, step: StepFolder) -> dict[str, Any]:
        """Run the pass, or the passes of a condensed selection."""
        options, request = self.options, self.request
        with Progress("select", total=None, unit="rows", quiet=options.quiet) as bar:

            def show(_: int, rows: int) -> None:
                bar.to(rows)

            if self.source.trajectory and request["source"]["kind"] == "scores":
                sets, clusters = request["source"]["sets"], self.plan["clusters"]
                request["clusters"] = find_clusters(sets, self.source.trajectory, clusters, options.seed)
            final: SelectRequest = {
                **request,
                "exposures": self.source.exposures if self.by_exposure else (),
                "out": str(options.out),
                "rows": options.rows_only,
                "tmp": str(self._temporary("select", "tmp")),
                "plan": step.digest,
                "threads": choose_threads(options.threads),
            }
            if options.condense is None:
                return {**_core.select(final, show)}
            ranks = self._temporary("condense", "log/condense")
            return _select_condensed(final, self.source, Path(options.condense), ranks, show)

    def _temporary(self, name: str, within: str) -> Path:
        """A folder for temporary files: in `tmp_dir`, with a name that is unique to the output; or in the output."""
        out, tmp_dir = Path(self.options.out), self.options.tmp_dir
        if not tmp_dir:
            return out / within
        unique = _core.digest_bytes(os.fsencode(out.absolute()))[:16]
        return Path(tmp_dir) / f"catprune-{name}-{unique}"


def _to_request(ranking: Ranking, plan: Mapping[str, Any], source: Source, options: SelectOptions) -> RankRequest:
    """Build the request, without values that do not affect the result."""
    if ranking.counts_tokens and source.request["source"]["kind"] != "scores":
        raise UsageError("a token budget needs a scores folder: other sources do not count target tokens")
    groups = describe_groups(options.within, ranking, source)
    merge: Merge | None = None
    if ranking.merge_by:
        terms = [(source.columns[name], weight) for weight, name in ranking.terms]
        merge = {"by": ranking.merge_by, "terms": terms}
    guards: list[ColumnGuard] = [
        {"column": source.columns[guard.name], "op": guard.op, "value": guard.value} for guard in ranking.guards
    ]
    return {
        "source": source.request["source"],
        **groups,
        "computed": source.computed,
        "external": source.external,
        "on": plan.get("on", METHOD_OPTIONS["on"]),
        "sign": plan.get("sign", METHOD_OPTIONS["sign"]),
        "threshold": plan.get("threshold", METHOD_OPTIONS["threshold"]),
        "bins": plan.get("bins", METHOD_OPTIONS["bins"]),
        "seed": options.seed,
        "score": source.columns[ranking.terms[0][1]],
        "merge": merge,
        "guards": guards,
        "draw": options.draw,
        "clusters": None,
        "direction": options.direction,
        "ties": plan["ties"],
        "keep": ranking.share,
    }


def _check_condensing(ranking: Ranking, direction: str, source: Source, near: Path) -> None:
    """Check that near duplicates can be condensed.

    Raises:
        UsageError: the ranking has no scores or no best end, or the clean folder of the records is unknown.
        CatpruneError: the clusters belong to other records.
    """
    if ranking.kind == CLUSTERED:
        raise UsageError(f"{CLUSTERED} gives no scores: leave condense out, or use another method")
    if direction == "middle":
        raise UsageError(
            "direction = middle: condense keeps the highest or the lowest score of each cluster, give top or bottom"
        )
    if source.clean is None:
        raise UsageError("condense needs the clean folder of the records: give clean = FOLDER")
    check_clusters(near, source.clean)


def _select_condensed(
    request: SelectRequest, source: Source, near: Path, temporary: Path, show: Callable[[int, int], None]
) -> dict[str, Any]:
    """Rank all records, then only the best of each cluster; `temporary` is a folder for the first ranking."""
    # The first pass only computes scores; a tiny fraction works for any number of records.
    nothing: Keep = {"fraction": [1, 2**62]}
    own: list[OwnShare] = [
        share if share.get("keep") is None else {**share, "keep": nothing} for share in request["own"]
    ]
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed run
    try:
        (temporary / "ranked").mkdir(parents=True)
        whole: SelectRequest = {**request, "keep": nothing, "own": own, "draw": False, "rows": False}
        before = _core.select({**whole, "out": str(temporary / "ranked")}, show)
        ranked = [
            Ranked(temporary / "ranked" / shard["file"], shard["first"], shard["end"]) for shard in before["shards"]
        ]
        files = write_condensed(near, ranked, temporary, lowest=request["direction"] == "bottom")
        guard: ColumnGuard = {"column": source.join(f"{near}/{CONDENSED}", files, CONDENSED), "op": "==", "value": 1.0}
        counts = _core.select({**request, "external": source.external, "guards": [*request["guards"], guard]}, show)
        # Not the number of marked records: records that are always kept pass this guard.
        return {**counts, "condensed": counts["guarded"] - before["guarded"]}
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _nothing_kept(keep: str | float | Sequence[str | float], counts: Mapping[str, Any]) -> str:
    scored, tokens = counts["scored"], counts["tokens"]
    whole = f"{scored} scored pairs" if tokens is None else f"{scored} scored pairs with {tokens} target tokens"
    if not scored and counts["guarded"]:
        return f"none of {counts['guarded']} pairs meets the conditions: check where"
    return f"keep = {', '.join(map(str, list_shares(keep)))} keeps none of {whole}" + (": keep more" if scored else "")


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
        uneven_exposure=tuple(manifest["uneven_exposure"]),
        manifest=manifest,
        is_new=is_new,
        **{name: manifest["counts"].get(name, 0 if name == "condensed" else None) for name in fields},
    )


#: Largest number of combinations of exposures that are ranked separately.
_MOST_EXPOSURES = 4096
