"""Score columns that come as an Arrow stream: spooled to a file, then read like any other file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from catprune import _core
from catprune.errors import CatpruneError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

    from catprune.selection.options import SelectOptions

#: Rows of a row group. The bytes of the file depend on the values alone, not on the batches of the stream.
_GROUP = 1 << 20


class ArrowStream(Protocol):
    """A table or reader with the Arrow PyCapsule interface, as Polars, DuckDB, PyArrow and others give it."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


@contextlib.contextmanager
def spooled_source(options: SelectOptions) -> Generator[list[Path]]:
    """The sources of a selection as paths; a table is written to a file for as long as the context lasts.

    Raises:
        UsageError: a source is neither a path nor a table, or a table comes without a column name.
    """
    source = options.source
    if isinstance(source, str | Path):
        yield [Path(source)]
    elif isinstance(source, Sequence):
        if other := [part for part in source if not isinstance(part, str | Path)]:
            raise UsageError(f"source holds a {type(other[0]).__name__}: give paths, or one table")
        yield [Path(part) for part in source]
    elif not hasattr(source, "__arrow_c_stream__"):
        raise UsageError(f"source is a {type(source).__name__}: give paths, or a table with an Arrow stream")
    elif options.column is None:
        raise UsageError("column is missing: give the name of the table's score column")
    else:
        with _spilled(source, options.column, Path(options.out) / "log") as path:
            yield [path]


@contextlib.contextmanager
def _spilled(source: ArrowStream, column: str, folder: Path) -> Generator[Path]:
    """Write `row` and `column` of a stream to a Parquet file named by its digest; it is removed at the end."""
    made = [path for path in (folder, folder.parent) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"column-{os.getpid()}.tmp"
    path = draft
    try:
        _write(source, column, draft)
        path = folder / f"column-{_core.digest_file(str(draft))}.parquet"
        draft.rename(path)
        yield path
    finally:
        draft.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        for empty in made:
            with contextlib.suppress(OSError):
                empty.rmdir()


def _write(source: ArrowStream, column: str, path: Path) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    with arrow.RecordBatchReader.from_stream(source) as reader:
        for name in ("row", column):
            if name not in reader.schema.names:
                raise CatpruneError(f"the table has no column {name}: give one of {', '.join(reader.schema.names)}")
        schema = arrow.schema([reader.schema.field(name).with_metadata({}) for name in ("row", column)])
        held = arrow.Table.from_batches([], schema=schema)
        with parquet.ParquetWriter(
            path, schema, use_dictionary=False, compression="none", store_schema=False
        ) as writer:
            for batch in reader:
                part = arrow.Table.from_batches([batch]).select(["row", column]).cast(schema)
                held = arrow.concat_tables([held, part])
                while held.num_rows >= _GROUP:
                    writer.write_table(held.slice(0, _GROUP).combine_chunks(), row_group_size=_GROUP)
                    held = held.slice(_GROUP)
            writer.write_table(held.combine_chunks(), row_group_size=_GROUP)
