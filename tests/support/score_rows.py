"""The rows of a score folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet


def rows_of(folder: Path) -> list[dict[str, Any]]:
    shards = json.loads((folder / "manifest.json").read_bytes())["shards"]
    return [row for shard in shards for row in parquet.read_table(folder / shard["file"]).to_pylist()]
