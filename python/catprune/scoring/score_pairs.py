"""Score pairs by their text: a scorer's number for every pair that cleaning kept, beside the scores of checkpoints.

A scorer is a function from the sources and targets of some pairs to one number for each; a higher one is kept first.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from catprune._core import write_columns
from catprune.corpus.inputs import is_monolingual
from catprune.corpus.open_corpus import open_corpus
from catprune.errors import UsageError
from catprune.scoring.column_shards import Block, ScoredPairs, blocks_of, check_scores, describe_shards, finished
from catprune.scoring.options import ScorePairsOptions
from catprune.scoring.scorers import FunctionScorer, Scorer, open_scorer
from catprune.selection.request import check_column
from catprune.selection.sources import SCORER_STEP
from catprune.workspace.manifest import describe_folder, read_manifest, reads_grown
from catprune.workspace.options import takes
from catprune.workspace.progress import Progress
from catprune.workspace.shards import Shard
from catprune.workspace.step_folder import StepFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Function = Callable[[Sequence[str], Sequence[str]], Any]


@takes(ScorePairsOptions)
def score_pairs(options: ScorePairsOptions) -> ScoredPairs:
    """Score every clean pair by its text, block by block; finished blocks are not done again.

    A block is a block of `tokenize`: 65,536 rows, restarting at every input. If rows were appended to the corpus since
    it was scored, only their blocks are scored. `select` takes the column by its name, as a method, as a column, in
    `merge` and in `where`, if it is next to the scores of checkpoints.

    Raises:
        UsageError: an unknown scorer, options that it does not have, or a name that a selection could not use.
        CatpruneError: an unfinished clean folder, text that was changed, or a scorer that gives no finite numbers.
        MissingExtra: the scorer's library is not installed.
    """
    source, share, force = Path(options.clean), Shard.parse(options.shard), options.force
    if force and not share.is_whole:
        raise UsageError("force would remove the work of the other shards: remove the folder yourself")
    manifest = read_manifest(source, step="clean")
    if is_monolingual(manifest):
        raise UsageError(f"{source} has no sources: a scorer takes pairs")
    opened = open_scorer(
        options.scorer,
        model=options.model,
        margin=options.margin,
        neighbours=options.neighbours,
        threads=options.threads,
        local=share.local,
    )
    name = check_column(options.name or opened.name)
    path = Path(options.out) / name
    reads, grown = {"clean": describe_folder(source, relative_to=path)}, reads_grown("clean", source)
    plan = {"scorer": opened.describe()}
    with StepFolder(
        path, step=SCORER_STEP, reads=reads, options=plan, force=force, extends=grown, shard=share
    ) as folder:
        if force and isinstance(opened, FunctionScorer):
            folder.start_over()  # what else it depends on is not known
        if folder.manifest is not None:
            return _scored(folder, new=0, left=0)
        blocks = list(blocks_of(manifest))
        mine = [block for block in blocks[share.number :: share.count] if not finished(folder, block)]
        new = _score_blocks(folder, source, mine, opened, quiet=options.quiet)
        left = sum(not finished(folder, block) for block in blocks)
        if not left:
            folder.publish(**describe_shards(folder, blocks))
        return _scored(folder, new=new, left=left)


def _scored(folder: StepFolder, *, new: int, left: int) -> ScoredPairs:
    manifest = folder.manifest or {}
    pairs = manifest["counts"]["pairs"] if manifest else 0
    return ScoredPairs(folder.path, pairs, new, left, manifest)


def _score_blocks(folder: StepFolder, clean: Path, todo: Sequence[Block], scorer: Scorer, *, quiet: bool) -> int:
    """Score blocks and write their shards; how many pairs they have."""
    if not todo:
        return 0
    started, new = time.monotonic(), 0
    with scorer, Progress(f"score {folder.path.name}", total=None, unit="pairs", quiet=quiet) as bar:
        if read_manifest(clean, step="clean")["counts"]["kept"]:
            scorer.begin(clean, folder.path)
        for block, rows, sources, targets in _read_blocks(clean, todo):
            scores = check_scores(scorer.score(rows, sources, targets), rows, by=folder.path.name) if len(rows) else []
            columns: dict[str, NDArray[Any]] = {"row": rows, "score": np.asarray(scores, np.float32)}
            write_columns(str(block.path(folder.path)), columns, metadata={"plan": folder.digest})
            new += len(rows)
            bar.to(new)
    seconds = time.monotonic() - started
    folder.log("scored", seconds=round(seconds, 3), pairs=new, pairs_per_second=round(new / seconds, 3))
    return new


def _read_blocks(clean: Path, todo: Sequence[Block]) -> Iterator[tuple[Block, NDArray[np.int64], list[str], list[str]]]:
    """Rows, sources and targets of the kept pairs of each block, in order; what lies between is read and dropped."""
    waiting = list(todo)
    rows: list[NDArray[np.int64]] = []
    sources: list[str] = []
    targets: list[str] = []

    def take() -> tuple[Block, NDArray[np.int64], list[str], list[str]]:
        nonlocal rows, sources, targets
        found = np.concatenate([np.zeros(0, np.int64), *rows])
        taken = waiting.pop(0), found, sources, targets
        rows, sources, targets = [], [], []
        return taken

    for batch in open_corpus(clean):
        numbers = cast("NDArray[np.int64]", batch.column("row").to_numpy())
        while waiting and len(numbers):
            first, end = np.searchsorted(numbers, [waiting[0].first, waiting[0].end]).tolist()
            if end > first:
                part = batch.slice(first, end - first)
                rows.append(numbers[first:end])
                sources += part.column("source").to_pylist()
                targets += part.column("target").to_pylist()
            if end == len(numbers) and numbers[-1] < waiting[0].end - 1:
                break
            batch, numbers = batch.slice(end), numbers[end:]
            yield take()
        if not waiting:
            return
    while waiting:
        yield take()


def summary(done: ScoredPairs) -> list[str]:
    """What was scored, in lines for a reader."""
    if done.left:
        blocks = "block is" if done.left == 1 else "blocks are"
        return [f"{done.new:,} pairs scored; {done.left:,} {blocks} left to other shards"]
    return [f"{done.pairs:,} pairs have a score, {done.new:,} of them new; in {done.folder}"]
