"""Which rows of a clean corpus are kept, by cleaning alone or by a selection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catprune.errors import CatpruneError
from catprune.workspace.manifest import digest_manifest, read_manifest, trace, verify_shards

if TYPE_CHECKING:
    from pathlib import Path

    from catprune.boundary import SelectionShards, WantedRows


def kept_rows(clean: Path, cleaned: dict[str, Any], selection: Path | None) -> tuple[WantedRows, int]:
    """Which rows are written, as the pass takes it, and how many they are; checked to be what was made."""
    verify_shards(clean, cleaned)
    if selection is None:
        shards = [str(clean / shard["file"]) for shard in cleaned["shards"]]
        return {"clean": shards}, cleaned["counts"]["kept"]
    selected = read_manifest(selection, step="select")
    if selected["options"].get("rows"):
        raise CatpruneError(f"{selection} holds row numbers alone: select without --rows")
    origin = trace(selection, selected, "clean")
    if origin is not None and digest_manifest(origin) != digest_manifest(clean):
        raise CatpruneError(f"{selection} was made from {origin}, not from {clean}: give the folder it was made from")
    verify_shards(selection, selected)
    both: SelectionShards = {
        "selection": [str(selection / shard["file"]) for shard in selected["shards"]],
        "clean": [str(clean / shard["file"]) for shard in cleaned["shards"]],
    }
    return {"selection": both}, selected["counts"]["kept"]
