"""Tables and frames that Python holds, read as Arrow batches of plain types."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.errors import CatpruneError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What counts as a table, in words.
TABLES = "an Arrow table, a pandas or Polars frame, or a datasets.Dataset"
#: Rows that are converted at once.
ROWS = 1 << 14


def is_table(value: object) -> bool:
    """Whether a value has rows of columns: an Arrow stream or batch, a frame, or a data set of Hugging Face."""
    if isinstance(value, str | Path):
        return False
    arrow = hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__")
    return arrow or _is_frame(value) or _is_dataset(value)


def open_table(table: Any) -> tuple[Any, Iterator[Any]]:
    """The schema of a table in plain types, and its rows as `pyarrow.Table`s of this schema.

    Equal values have one type, whatever library holds them: text is large_string, bytes are large_binary, values of
    dictionaries stand for themselves. The index of a pandas frame is no column. A stream is read once, batch by batch.

    Raises:
        UsageError: the value is no table, or has a column that Arrow cannot hold or whose name it has twice.
        CatpruneError: a stream fails.
    """
    import pyarrow as arrow

    try:
        schema, batches = _open(table)
    except (arrow.ArrowException, TypeError) as error:
        raise UsageError(f"the {type(table).__name__} cannot be read as a table ({error}): give {TABLES}") from None
    names = schema.names
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"the table has two columns {twice[0]}: rename one")
    plain = arrow.schema([arrow.field(field.name, plain_type(field.type)) for field in schema])
    return plain, _read(batches, plain)


def plain_type(kind: Any) -> Any:
    """The one type of text, bytes and lists that Arrow types stand for, which differ only in their layout."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return plain_type(kind.value_type)
    return _plain_leaf(kind) or _plain_nested(kind) or kind


def _plain_leaf(kind: Any) -> Any:
    import pyarrow as arrow

    names = {"string": arrow.large_string, "string_view": arrow.large_string}
    names |= {"binary": arrow.large_binary, "binary_view": arrow.large_binary}
    make = names.get(str(kind))
    return None if make is None else make()


def _plain_nested(kind: Any) -> Any:
    import pyarrow as arrow
    from pyarrow import types

    if types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return arrow.struct([arrow.field(field.name, plain_type(field.type)) for field in fields])
    if types.is_list(kind) or types.is_large_list(kind):
        return arrow.large_list(plain_type(kind.value_type))
    return None


def _open(table: Any) -> tuple[Any, Iterator[Any]]:
    import pyarrow as arrow

    if _is_of(table, "pandas", "DataFrame"):
        return _open_pandas(table)
    if _is_dataset(table):
        return _open_dataset(table)
    if hasattr(table, "__arrow_c_stream__"):
        reader = arrow.RecordBatchReader.from_stream(table)
        return reader.schema, _batches(reader)
    if hasattr(table, "__arrow_c_array__"):
        batch = arrow.record_batch(table)
        return batch.schema, iter([batch])
    converted = table.to_arrow()  # a Polars frame from before the interface
    return converted.schema, iter(converted.to_batches())


def _batches(reader: Any) -> Iterator[Any]:
    with reader:
        yield from reader


def _open_pandas(frame: Any) -> tuple[Any, Iterator[Any]]:
    """A pandas frame without its index, converted piece by piece; types follow from all of a column's values."""
    import pyarrow as arrow

    if not all(isinstance(name, str) for name in frame.columns):
        frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    schema = arrow.Schema.from_pandas(frame, preserve_index=False)
    pieces = (frame.iloc[first : first + ROWS] for first in range(0, len(frame), ROWS))
    return schema, (arrow.Table.from_pandas(piece, schema=schema, preserve_index=False) for piece in pieces)


def _open_dataset(dataset: Any) -> tuple[Any, Iterator[Any]]:
    """A data set of Hugging Face, in the order of its rows: one that was shuffled or filtered knows it."""
    import pyarrow as arrow

    batches = iter(dataset.with_format("arrow").iter(ROWS))
    data = getattr(dataset, "data", None)
    if data is not None:
        return data.schema, batches
    first = next(batches, arrow.table({}))  # a data set that is streamed does not always know its columns
    return first.schema, _chain(first, batches)


def _chain(first: Any, others: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from others


def _read(batches: Iterator[Any], schema: Any) -> Iterator[Any]:
    """Tables of a schema from batches of any size, at most `ROWS` rows each."""
    import pyarrow as arrow

    try:
        for batch in batches:
            part = batch if isinstance(batch, arrow.Table) else arrow.Table.from_batches([batch])
            for first in range(0, part.num_rows, ROWS):
                yield part.slice(first, ROWS).cast(schema)
    except (arrow.ArrowException, OSError) as error:
        raise CatpruneError(f"the table cannot be read: {str(error).removeprefix('External error: ')}") from None


def _is_frame(value: object) -> bool:
    return _is_of(value, "pandas", "DataFrame") or _is_of(value, "polars", "DataFrame")


def _is_dataset(value: object) -> bool:
    return _is_of(value, "datasets", "Dataset") or _is_of(value, "datasets", "IterableDataset")


def _is_of(value: object, package: str, name: str) -> bool:
    """Whether a value is of a package's class of this name, or of one that is made from it; imports nothing."""
    return any(base.__name__ == name and base.__module__.partition(".")[0] == package for base in type(value).__mro__)
