"""External files of scores: Parquet files with a column `row`, and .npy arrays: their columns, rows and digests."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from catprune import _core
from catprune.errors import CatpruneError, UsageError
from catprune.workspace.files import relative_place
from catprune.workspace.sealed import read_sealed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catprune.boundary import ShardFile

_PART = re.compile(r"part-(\d{12})-(\d{12})\.parquet")


def sole_column(sources: Sequence[Path]) -> str | None:
    """Return the column name of a .npy array; None for other sources."""
    if not any(source.suffix == ".npy" for source in sources):
        return None
    if len(sources) > 1:
        raise UsageError(f"{', '.join(map(str, sources))}: give one .npy array, or Parquet files with row")
    return sources[0].stem


def describe_files(files: Sequence[Path], out: Path) -> list[dict[str, str]]:
    """Describe files for a plan, sorted by path because their order has no meaning."""
    described = [{"path": relative_place(file, out), "digest": _core.digest_file(str(file))} for file in files]
    return sorted(described, key=lambda file: file["path"])


def parquet_files(source: Path) -> list[Path]:
    """Return a file, or the Parquet files of a folder; for a finished step, the files of its manifest."""
    if source.is_file():
        require_parquet(source)
        return [source]
    if not source.is_dir():
        raise CatpruneError(f"{source} does not exist: give a Parquet file with row, or a folder of them")
    if (source / "manifest.json").is_file():
        return [Path(shard["path"]) for shard in shards_of(source)]
    if not (files := sorted(source.glob("*.parquet"))):
        raise UsageError(f"{source} holds no Parquet file: give a file with row, or a folder of them")
    return files


def require_parquet(file: Path) -> None:
    """Refuse a file of scores in another format.

    Raises:
        CatpruneError: the file does not begin like Parquet.
    """
    with file.open("rb") as stream:
        if stream.read(4) == b"PAR1":
            return
    raise CatpruneError(
        f"{file} is no Parquet file: give scores as Parquet with a column row (pyarrow.csv and pyarrow.json read other "
        "formats), or as a .npy array with one score for each row"
    )


def count_rows(file: Path) -> int:
    """Return the number of rows of a Parquet file, from its footer."""
    from pyarrow import ArrowInvalid, parquet

    try:
        return parquet.read_metadata(file).num_rows
    except ArrowInvalid as error:
        raise CatpruneError(f"{file} cannot be read as Parquet ({error})") from None


def external_columns(path: Path) -> list[str]:
    """Return the column names of a file, or of a folder of files."""
    return column_names(parquet_files(path)[0])


def type_of(file: Path, column: str) -> str:
    """Return the type of a column, or an empty text if there is no such column."""
    from pyarrow import parquet

    schema = parquet.read_schema(file)
    return str(schema.field(column).type) if column in schema.names else ""


def column_names(file: Path) -> list[str]:
    """Return the column names of a Parquet file, from its footer."""
    from pyarrow import ArrowInvalid, parquet

    try:
        return parquet.read_schema(file).names
    except ArrowInvalid as error:
        raise CatpruneError(f"{file} cannot be read as Parquet ({error})") from None


def check_parts(files: Sequence[Path]) -> None:
    """Check that files named by row ranges neither skip nor repeat rows."""
    matches = [_PART.fullmatch(file.name) for file in files]
    ranges = sorted((int(match[1]), int(match[2]), file) for match, file in zip(matches, files, strict=True) if match)
    if len(ranges) < len(files):
        return
    for (_, end, before), (first, _, file) in itertools.pairwise(ranges):
        if first > end:
            raise CatpruneError(f"rows {end}..{first} are missing between {before} and {file}: give all shards")
        if first < end:
            raise CatpruneError(f"{before} and {file} both have rows {first}..{end}: give only one of them")


def shards_of(folder: Path) -> list[ShardFile]:
    """Return the shards of a finished step."""
    shards = read_sealed(folder / "manifest.json")["shards"]
    return [{"path": str(folder / shard["file"]), "first": shard["first"], "end": shard["end"]} for shard in shards]
