"""Score clean pairs by their text with a scorer: one column next to the scores of checkpoints.

A scorer maps the sources and targets of pairs to one number per pair; pairs with higher numbers are kept first.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from catprune._core import write_columns
from catprune.corpus.inputs import is_monolingual
from catprune.corpus.open_corpus import open_rows
from catprune.errors import UsageError
from catprune.scoring.column_shards import (
    Block,
    ScoredPairs,
    blocks_of,
    check_scores,
    count_pairs,
    describe_shards,
    unfinished,
)
from catprune.scoring.options import ScorePairsOptions
from catprune.scoring.scorers import FunctionScorer, Scorer, open_scorer
from catprune.selection.request import check_column
from catprune.selection.sources import SCORER_STEP
from catprune.workspace.manifest import describe_folder, read_manifest, reads_appended, verify_file
from catprune.workspace.options import takes
from catprune.workspace.progress import Progress, say
from catprune.workspace.shards import Shard
from catprune.workspace.step_folder import StepFolder
from catprune.workspace.wording import continuing, left_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Function = Callable[[Sequence[str], Sequence[str]], Any]


@takes(ScorePairsOptions)
def score_pairs(options: ScorePairsOptions) -> ScoredPairs:
    """Score every clean pair by its text, block by block; finished blocks are skipped.

    Blocks are the same as in `tokenize`: 65,536 rows. If rows were appended to the corpus, only they are scored. If the
    column is in the scores folder, `select` finds it by name: as method, as column, in `merge` and in `where`.

    Raises:
        UsageError: the scorer is unknown or does not have these options, or the name of the column is invalid.
        CatpruneError: the clean folder is unfinished, text was changed, or the scorer returns numbers that are not
            finite.
        MissingExtra: the scorer's library is not installed.
    """
    source, share, force = Path(options.clean), Shard.parse(options.shard), options.force
    if force and not share.is_whole:
        raise UsageError("force would remove the work of the other shards: remove the folder yourself")
    manifest = read_manifest(source, step="clean")
    if is_monolingual(manifest):
        raise UsageError(f"{source} is monolingual, but scorers need pairs: give a clean folder of pairs")
    opened = open_scorer(
        options.scorer,
        model=options.model,
        margin=options.margin,
        neighbours=options.neighbours,
        threads=options.threads,
        local=share.local,
        install=options.install,
    )
    name = check_column(options.name or opened.name)
    path = Path(options.out) / name
    reads, extends = {"clean": describe_folder(source, relative_to=path)}, reads_appended("clean", source)
    plan = {"scorer": opened.describe()}
    with StepFolder(
        path, step=SCORER_STEP, reads=reads, options=plan, force=force, extends=extends, shard=share
    ) as folder:
        if force and isinstance(opened, FunctionScorer):
            folder.start_over()  # the function may depend on more than the plan records
        if folder.manifest is not None:
            return _scored(folder, new=0, left=0)
        blocks = list(blocks_of(manifest))
        own_blocks = _blocks_of_process(folder, blocks, share)
        if not own_blocks and share.count > len(blocks):
            say(f"score: {share.idle_text(len(blocks))}", quiet=options.quiet)
        new = _score_blocks(
            folder, source, own_blocks, opened, total=_expected_pairs(manifest, own_blocks), quiet=options.quiet
        )
        left = len(unfinished(folder, blocks))
        if not left:
            folder.publish(**describe_shards(folder, blocks))
        return _scored(folder, new=new, left=left)


def _scored(folder: StepFolder, *, new: int, left: int) -> ScoredPairs:
    manifest = folder.manifest or {}
    pairs = manifest["counts"]["pairs"] if manifest else 0
    return ScoredPairs(folder.path, pairs, new, left, manifest, is_new=not folder.finished_before)


def _blocks_of_process(folder: StepFolder, blocks: Sequence[Block], share: Shard) -> Sequence[Block]:
    """Return consecutive blocks: a process reads only the inputs that they belong to."""
    finished = {shard["file"] for shard in (folder.before or {"shards": []})["shards"]}
    new = [block for block in blocks if block.file not in finished]
    first, end = (len(new) * number // share.count for number in (share.number, share.number + 1))
    return new[first:end]


def _expected_pairs(cleaned: Mapping[str, Any], blocks: Sequence[Block]) -> int:
    """Estimate the clean pairs of blocks from their share of the rows; exact for all blocks."""
    rows = sum(block.end - block.first for block in blocks)
    return round(cleaned["counts"]["kept"] * rows / max(cleaned["counts"]["rows"], 1))


def _score_blocks(
    folder: StepFolder, clean: Path, blocks: Sequence[Block], scorer: Scorer, *, total: int, quiet: bool
) -> int:
    """Score the blocks that have no shard yet, and return their number of pairs."""
    todo = unfinished(folder, blocks)
    if not todo:
        return 0
    title = f"score {folder.path.name}"
    done = sum(count_pairs(block.path(folder.path)) for block in blocks if block not in todo)
    if len(todo) < len(blocks):
        say(f"{title}: {continuing(len(blocks) - len(todo), len(blocks))}", quiet=quiet)
    started, new = time.monotonic(), 0
    with scorer, Progress(title, total=total, unit="pairs", quiet=quiet, done=done) as bar:
        if read_manifest(clean, step="clean")["counts"]["kept"]:
            scorer.begin(clean, folder.path)
        for block, rows, sources, targets in _read_blocks(clean, todo):
            scores = _scores_before(folder, block)
            known = len(scores)
            if len(rows) > known:
                left = rows[known:], sources[known:], targets[known:]
                scores = np.concatenate([scores, check_scores(scorer.score(*left), left[0], by=folder.path.name)])
            columns: dict[str, NDArray[Any]] = {"row": rows, folder.path.name: scores}
            digest = write_columns(str(block.path(folder.path)), columns, metadata={"plan": folder.digest})
            folder.note_file(block.file, digest)
            new += len(rows) - known
            done += known
            bar.to(done + new)
    seconds = time.monotonic() - started
    folder.log("scored", seconds=round(seconds, 3), pairs=new, pairs_per_second=round(new / seconds, 3))
    return new


def _scores_before(folder: StepFolder, block: Block) -> NDArray[np.float32]:
    """Return the scores that a block had before rows were appended to it, float32 [pairs of the block then].

    Raises:
        CatpruneError: their shard was changed.
    """
    import pyarrow.parquet as parquet

    for shard in (folder.before or {"shards": []})["shards"]:
        if shard["first"] == block.first and shard["end"] < block.end:
            verify_file(folder.path, folder.before or {}, shard["file"])
            table = parquet.read_table(folder.path / shard["file"], columns=[folder.path.name])
            return table[folder.path.name].to_numpy()
    return np.zeros(0, np.float32)


def _read_blocks(clean: Path, todo: Sequence[Block]) -> Iterator[tuple[Block, NDArray[np.int64], list[str], list[str]]]:
    """Yield rows, sources and targets of the clean pairs of each block, in order; other pairs are skipped."""
    waiting = list(todo)
    rows: list[NDArray[np.int64]] = []
    sources: list[str] = []
    targets: list[str] = []

    def take() -> tuple[Block, NDArray[np.int64], list[str], list[str]]:
        nonlocal rows, sources, targets
        block_rows = np.concatenate([np.zeros(0, np.int64), *rows])
        pairs = waiting.pop(0), block_rows, sources, targets
        rows, sources, targets = [], [], []
        return pairs

    for batch in open_rows(clean, todo[0].first, todo[-1].end):
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
    """Summarize what was scored, in lines."""
    if done.left:
        return [f"{done.new:,} pairs scored; {left_text(done.left)}"]
    return [f"{done.pairs:,} pairs have a score, {done.new:,} of them new; in {done.folder}"]
