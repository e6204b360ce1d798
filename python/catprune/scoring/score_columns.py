"""Score columns: a user's function of the stored statistics, as a column beside them that `select` ranks by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from catprune._core import write_columns
from catprune.errors import CatpruneError, UsageError
from catprune.scoring.column_shards import (
    COLUMNS,
    Block,
    ScoredPairs,
    check_scores,
    count_pairs,
    describe_shards,
    finished,
)
from catprune.scoring.scorers import describe_function
from catprune.selection.request import check_column
from catprune.selection.score_sets import (
    check_common_tokens,
    check_common_weights,
    check_one_training,
    find_scores,
    is_backward,
)
from catprune.selection.sources import SCORER_STEP
from catprune.workspace.manifest import describe_folder, read_manifest, verify_shards
from catprune.workspace.progress import Progress, say
from catprune.workspace.step_folder import StepFolder
from catprune.workspace.wording import continuing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Columns = dict[str, dict[str, NDArray[np.float64]]]


def score_columns(
    scores: str | Path,
    function: Callable[[Columns], Any],
    *,
    name: str | None = None,
    checkpoints: Sequence[str] | None = None,
    force: bool = False,
    quiet: bool = False,
) -> ScoredPairs:
    """Compute a method of one's own from what `score` stored, block by block; the result is a column of its name.

    Args:
        scores: the folder of scores, in which the column gets a folder of its own.
        function: it is given the scored pairs of a block as `{checkpoint: {column: values}}`, in training order, all
            float64 [pairs]: `tokens`, `nll_sum`, `correct`, `el2n_sum`, `grad_norm_sum` and `ign_sum`. It returns one
            finite number for each pair, higher ones kept first.
        name: of the column; None: the function's. What another function wrote there, or this one before its source was
            changed, is only replaced by `force`.
        checkpoints: names of those to use; None: all that the folder has but for those that predict the source.
        force: compute anew.
        quiet: no progress bar.

    Raises:
        UsageError: no checkpoints, those of several trainings if none are named, or a name that cannot be meant.
        CatpruneError: unfinished or changed scores, or a function that gives no finite numbers.
    """
    import pyarrow.parquet as parquet

    folders = find_scores(Path(scores), checkpoints)
    if checkpoints is None:
        folders = [folder for folder in folders if not is_backward(folder)]
        check_one_training(folders)
    if not folders:
        raise UsageError(f"{scores} holds no scores of checkpoints")
    check_common_tokens(folders)
    check_common_weights(folders)
    told = describe_function(function)
    name = check_column(name or told["function"])
    path = Path(scores) / name
    reads = {"scores": [describe_folder(folder, relative_to=path) for folder in folders]}
    with StepFolder(path, step=SCORER_STEP, reads=reads, options=told, force=force) as folder:
        if force:
            folder.start_over()  # what else the function depends on is not known
        if folder.manifest is not None:
            return ScoredPairs(path, folder.manifest["counts"]["pairs"], 0, 0, folder.manifest, is_new=False)
        manifests = [read_manifest(one, step="score") for one in folders]
        for one, manifest in zip(folders, manifests, strict=True):
            verify_shards(one, manifest)
        blocks = [Block(shard["first"], shard["end"]) for shard in manifests[0]["shards"]]
        todo = [block for block in blocks if not finished(folder, block)]
        total = sum(count_pairs(block.path(folders[0])) for block in blocks)
        done, new = sum(count_pairs(block.path(path)) for block in blocks if block not in todo), 0
        if 0 < len(todo) < len(blocks):
            say(f"score {name}: {continuing(len(blocks) - len(todo), len(blocks))}", quiet=quiet)
        with Progress(f"score {name}", total=total, unit="pairs", quiet=quiet, done=done) as bar:
            for block in todo:
                tables = [parquet.read_table(block.path(one), columns=["row", *COLUMNS]) for one in folders]
                if any(not table["row"].equals(tables[0]["row"]) for table in tables):
                    raise CatpruneError(f"{folders[0]} and the others have different rows: score all over one corpus")
                rows: NDArray[np.int64] = tables[0]["row"].to_numpy()
                valid = tables[0]["tokens"].is_valid().to_numpy()
                told = {
                    one.name: {column: table[column].to_numpy().astype(np.float64)[valid] for column in COLUMNS}
                    for one, table in zip(folders, tables, strict=True)
                }
                values = np.zeros(len(rows), np.float32)
                values[valid] = check_scores(function(told) if valid.any() else [], rows[valid], by=name)
                columns: dict[str, NDArray[Any]] = {"row": rows, "score": values}
                write_columns(str(block.path(path)), columns, valid=valid, metadata={"plan": folder.digest})
                new += len(rows)
                bar.to(done + new)
        manifest = folder.publish(**describe_shards(folder, blocks))
        return ScoredPairs(path, manifest["counts"]["pairs"], new, 0, manifest)
