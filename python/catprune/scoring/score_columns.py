"""Score columns computed from stored statistics by a user's function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from catprune._core import write_columns
from catprune.errors import CatpruneError, UsageError
from catprune.scoring.column_shards import (
    STATISTICS,
    Block,
    ScoredPairs,
    check_scores,
    count_pairs,
    describe_shards,
    unfinished,
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
    """Compute a score column from the columns that `score` wrote, block by block, with a user's function.

    Args:
        scores: the scores folder; the column becomes a folder in it.
        function: called with the scored pairs of a block as `{checkpoint: {column: values}}`, in training order, all
            float64 [pairs]: `tokens`, `nll_sum`, `correct`, `el2n_sum`, `grad_norm_sum` and `ign_sum`. It returns one
            finite number for each pair; pairs with higher numbers are kept first.
        name: name of the column; None: the function's name. A column of another function, or of other source code, is
            replaced only with `force`.
        checkpoints: names of the checkpoints to use; None: all except backward models.
        force: compute the column again.
        quiet: show no progress.

    Raises:
        UsageError: there are no checkpoints, the checkpoints belong to several trainings and `checkpoints` is None,
            or the name is invalid.
        CatpruneError: the scores are unfinished or changed, or the function returns numbers that are not finite.
    """
    import pyarrow.parquet as parquet

    folders = find_scores(Path(scores), checkpoints)
    if checkpoints is None:
        folders = [folder for folder in folders if not is_backward(folder)]
        check_one_training(folders)
    if not folders:
        raise UsageError(f"{scores} holds no scores of checkpoints: run `catprune score` first")
    check_common_tokens(folders)
    check_common_weights(folders)
    description = describe_function(function)
    name = check_column(name or description["function"])
    path = Path(scores) / name
    reads = {"scores": [describe_folder(folder, relative_to=path) for folder in folders]}
    with StepFolder(path, step=SCORER_STEP, reads=reads, options=description, force=force) as folder:
        if force:
            folder.start_over()  # the function may depend on more than the plan records
        if folder.manifest is not None:
            return ScoredPairs(path, folder.manifest["counts"]["pairs"], 0, 0, folder.manifest, is_new=False)
        manifests = [read_manifest(scored, step="score") for scored in folders]
        for scored, manifest in zip(folders, manifests, strict=True):
            verify_shards(scored, manifest)
        blocks = [Block(shard["first"], shard["end"]) for shard in manifests[0]["shards"]]
        todo = unfinished(folder, blocks)
        total = sum(count_pairs(block.path(folders[0])) for block in blocks)
        done, new = sum(count_pairs(block.path(path)) for block in blocks if block not in todo), 0
        if 0 < len(todo) < len(blocks):
            say(f"score {name}: {continuing(len(blocks) - len(todo), len(blocks))}", quiet=quiet)
        with Progress(f"score {name}", total=total, unit="pairs", quiet=quiet, done=done) as bar:
            for block in todo:
                tables = [parquet.read_table(block.path(scored), columns=["row", *STATISTICS]) for scored in folders]
                if any(not table["row"].equals(tables[0]["row"]) for table in tables):
                    raise CatpruneError(
                        f"{folders[0]} and the other folders have different rows: score all checkpoints over one corpus"
                    )
                rows: NDArray[np.int64] = tables[0]["row"].to_numpy()
                valid = tables[0]["tokens"].is_valid().to_numpy()
                statistics = {
                    scored.name: {column: table[column].to_numpy().astype(np.float64)[valid] for column in STATISTICS}
                    for scored, table in zip(folders, tables, strict=True)
                }
                values = np.zeros(len(rows), np.float32)
                values[valid] = check_scores(function(statistics) if valid.any() else [], rows[valid], by=name)
                columns: dict[str, NDArray[Any]] = {"row": rows, name: values}
                digest = write_columns(str(block.path(path)), columns, valid=valid, metadata={"plan": folder.digest})
                folder.note_file(block.file, digest)
                new += len(rows)
                bar.to(done + new)
        manifest = folder.publish(**describe_shards(folder, blocks))
        return ScoredPairs(path, manifest["counts"]["pairs"], new, 0, manifest)
