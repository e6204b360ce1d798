"""The rows of a clean corpus that cleaning or a selection keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catprune.errors import CatpruneError
from catprune.workspace.manifest import digest_manifest, read_manifest, trace, verify_shards

if TYPE_CHECKING:
    from pathlib import Path

    from catprune.boundary import SelectionShards, WantedRows


def kept_rows(clean: Path, cleaned: dict[str, Any], selection: Path | None) -> tuple[WantedRows, int]:
    """Describe the kept rows for a pass, and count them; shards are verified.

    Args:
        clean: a finished clean folder.
        cleaned: its manifest.
        selection: a selection from this folder; None: all clean pairs.

    Raises:
        CatpruneError: a shard was changed, or the selection was made from another folder.
    """
    verify_shards(clean, cleaned)
    if selection is None:
        shards = [str(clean / shard["file"]) for shard in cleaned["shards"]]
        return {"clean": shards}, cleaned["counts"]["kept"]
    selected = read_manifest(selection, step="select")
    if selected["options"].get("rows_only"):
        raise CatpruneError(f"{selection} holds only row numbers: select again without rows_only")
    origin = trace(selection, selected, "clean")
    if origin is not None and digest_manifest(origin) != digest_manifest(clean):
        raise CatpruneError(
            f"{selection} was made from {origin}, not from {clean}: give the clean folder of the selection"
        )
    check_length(selection, selected, cleaned["counts"]["rows"], clean)
    verify_shards(selection, selected)
    both: SelectionShards = {
        "selection": [str(selection / shard["file"]) for shard in selected["shards"]],
        "clean": [str(clean / shard["file"]) for shard in cleaned["shards"]],
    }
    return {"selection": both}, selected["counts"]["kept"]


def check_length(selection: Path, selected: dict[str, Any], rows: int, folder: Path) -> None:
    """Check that a selection by an array, whose index is the row, was made for a corpus of so many rows.

    Args:
        selection: the folder of the selection.
        selected: its manifest.
        rows: the rows of the corpus: pairs read, not only the clean ones.
        folder: the folder of the corpus.

    Raises:
        CatpruneError: the array has another length, so its scores belong to other pairs.
    """
    for file in selected["reads"].get("files", []):
        if file.get("rows", rows) != rows:
            raise CatpruneError(
                f"{selection} was made from {file['path']} with {file['rows']} scores, {folder} has {rows} rows: give "
                "one score for each row that was read, also for rows that cleaning dropped"
            )
