"""Scores in memory (tables, frames, arrays): copied to temporary files while a selection reads them."""

from __future__ import annotations

import dataclasses
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.errors import CatpruneError, UsageError
from catprune.workspace.tables import TABLES, is_table, open_table

if TYPE_CHECKING:
    from catprune.selection.options import SelectOptions
    from catprune.workspace.spool import Spool


def spool_scores(options: SelectOptions, spool: Spool) -> SelectOptions:
    """Write tables and arrays in `source` and `join` to files, and return the options with these files instead.

    Raises:
        UsageError: a source has another type, or a table is given without the name of the column that ranks.
    """
    source = options.source
    if _is_array(source):
        if options.column is not None:
            raise UsageError(f"column = {options.column}: an array has no named column, leave it out")
        return dataclasses.replace(options, source=[_spool_array(source, spool)], join=_spool_external(options, spool))
    parts = list(source) if isinstance(source, list | tuple) else [source]
    if len(parts) == 1 and isinstance(parts[0], str | Path) and Path(parts[0]).suffix == ".npy":
        path = Path(parts[0])
        if not path.is_file():
            raise CatpruneError(f"{path} does not exist: give a .npy file")
        array = open_array(path)
        stored = path if _is_plain(path, array) else _spool_array(array, spool)
        return dataclasses.replace(options, source=[stored], join=_spool_external(options, spool))
    if other := [part for part in parts if not (isinstance(part, str | Path) or is_table(part))]:
        raise UsageError(f"source is or holds a {type(other[0]).__name__}: give paths, {TABLES}, or a NumPy array")
    if any(is_table(part) for part in parts) and options.column is None and options.merge is None:
        raise UsageError("column is missing: give the name of the table's score column, or of several in merge")
    needed = ("row",) if options.column is None else ("row", options.column)
    spooled = [spool_columns(part, spool, needed=needed) if is_table(part) else part for part in parts]
    return dataclasses.replace(options, source=spooled, join=_spool_external(options, spool))


def _spool_external(options: SelectOptions, spool: Spool) -> list[str | Path]:
    return [spool_columns(part, spool, needed=("row",)) if is_table(part) else part for part in options.join]


def spool_columns(table: Any, spool: Spool, *, needed: tuple[str, ...]) -> Path:
    """Write the numeric columns of a table to a Parquet file.

    Args:
        table: a table with a column `row`, ascending; see `is_table`.
        spool: the folder for the file.
        needed: columns that the table must have.

    Raises:
        CatpruneError: a needed column is missing or not numeric.
    """
    import pyarrow as arrow
    from pyarrow import types

    schema, batches = open_table(table)
    for name in needed:
        if name not in schema.names:
            raise CatpruneError(f"the table has no column {name}: give one of {', '.join(schema.names)}")
        kind = schema.field(name).type
        if not (types.is_integer(kind) or (name != "row" and types.is_floating(kind))):
            expected = "row numbers as integers" if name == "row" else "numbers"
            raise CatpruneError(f"column {name} of the table has the type {kind}: give {expected}")
    fields = [field for field in schema if types.is_integer(field.type) or types.is_floating(field.type)]
    numbers = arrow.schema([(field.name, _stored(field.type)) for field in fields])
    parts = (batch.select(numbers.names).cast(numbers) for batch in batches)
    return spool.numbers(numbers, parts, name="column-")


def _stored(kind: Any) -> Any:
    """Return the type in which a numeric column is stored."""
    import pyarrow as arrow

    return arrow.float32() if arrow.types.is_float16(kind) else kind


def _is_array(value: object) -> bool:
    return type(value).__module__ == "numpy" and type(value).__name__ in ("ndarray", "memmap")


def open_array(path: Path) -> Any:
    """Map a .npy file.

    Raises:
        CatpruneError: NumPy does not read it.
    """
    import numpy as np

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers of Python 2
            return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise CatpruneError(f"{path} is no array that NumPy reads ({error}): write it with numpy.save") from None


def _is_plain(path: Path, array: Any) -> bool:
    """Whether a .npy file is what the pass reads: float32 or float64 of one dimension, as numpy.save writes it."""
    import numpy as np

    if array.ndim != 1 or array.dtype.str not in ("<f4", "<f8"):
        return False
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    with path.open("rb") as stream:
        return (
            stream.read(len(head.getvalue())) == head.getvalue() and path.stat().st_size == stream.tell() + array.nbytes
        )


def _spool_array(values: Any, spool: Spool) -> Path:
    """Write an array, whose index is the row, to a .npy file of floats; integers and booleans become float64."""
    if values.ndim != 1 or values.dtype.kind not in "fiub":
        shape = "x".join(map(str, values.shape))
        raise UsageError(f"source is an array of {values.dtype} and shape {shape}: give numbers of one dimension")
    narrow = values.dtype.kind == "f" and values.dtype.itemsize <= 4
    return spool.array(values, "float32" if narrow else "float64", name="column-")
