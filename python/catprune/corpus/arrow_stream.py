"""Score columns given as Arrow streams: written to a file first, then used like any other file."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar

from catprune import _core
from catprune.errors import CatpruneError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

#: Rows of a row group. The bytes of the file depend on the values alone, not on the batches of the stream.
_GROUP = 1 << 20

P = ParamSpec("P")
R = TypeVar("R")


class ArrowStream(Protocol):
    """A table or reader with the Arrow PyCapsule interface: Polars, DuckDB, PyArrow and others."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Files: TypeAlias = "str | Path | Sequence[str | Path]"


def takes_streams(
    step: Callable[Concatenate[Files, P], R],
) -> Callable[Concatenate[Files | ArrowStream, P], R]:
    """Let the first argument of a step also be an `ArrowStream`; the step has the options `out` and `column`."""

    @functools.wraps(step)
    def taking(source: Files | ArrowStream, *args: P.args, **options: P.kwargs) -> R:
        if isinstance(source, str | Path):
            return step(source, *args, **options)
        if isinstance(source, Sequence):
            names = [one for one in source if isinstance(one, str | Path)]  # pyright: ignore[reportUnnecessaryIsInstance]
            if len(names) < len(source):
                raise UsageError(f"{type(source).__name__} is not a path or a list of paths: give paths")
            return step(names, *args, **options)
        column, out = options.get("column"), options.get("out")
        if not hasattr(source, "__arrow_c_stream__"):
            raise UsageError(f"{type(source).__name__} is not a path or a table with an Arrow stream: give one of them")
        if not isinstance(column, str) or not isinstance(out, str | Path):
            raise UsageError("a table needs two options: give `column`, the name of its score column, and `out`")
        with _spilled(source, column, Path(out) / "log") as path:
            return step(path, *args, **options)

    return taking


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
