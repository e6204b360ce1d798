"""Data that Python holds, copied to files that steps can read again; each is named by the digest of its content."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from catprune.errors import CatpruneError, UsageError
from catprune.workspace.files import write_digested
from catprune.workspace.tables import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

#: Rows of a row group of text, and of one of numbers: the bytes of a file follow from the values alone, not from how
#: they were cut into batches.
TEXT_ROWS, NUMBER_ROWS = 1 << 16, 1 << 20


class Spool:
    """A folder of spooled files. It is made with the first of them; equal data makes an equal file.

    Args:
        folder: where the files are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._new: list[Path] = []
        self._made: list[Path] = []

    def text(self, schema: Any, batches: Iterable[Any], *, name: str = "") -> Path:
        """Write tables of text to a Parquet file, `<name><digest>.parquet`; see `open_table`."""
        settings: dict[str, Any] = {"compression": "zstd", "write_statistics": False}
        return self._table(schema, batches, name, TEXT_ROWS, settings)

    def numbers(self, schema: Any, batches: Iterable[Any], *, name: str = "") -> Path:
        """Write tables of numbers to a Parquet file that is scanned as fast as it is read."""
        return self._table(schema, batches, name, NUMBER_ROWS, {"compression": "none"})

    def array(self, values: Any, dtype: str | None = None, *, name: str = "") -> Path:
        """Write a NumPy array of one dimension to a .npy file, part by part; `dtype`: its type there."""
        import numpy as np

        stored = np.dtype(dtype or values.dtype).newbyteorder("<")

        def write(stream: IO[bytes]) -> None:
            header = {"descr": stored.str, "fortran_order": False, "shape": values.shape}
            np.lib.format.write_array_header_1_0(stream, header)
            for first in range(0, len(values), NUMBER_ROWS):
                stream.write(np.ascontiguousarray(values[first : first + NUMBER_ROWS], dtype=stored).tobytes())

        return self._write(name, ".npy", write)

    def lines(self, texts: Iterable[Any], *, item: str, name: str = "") -> Path:
        """Write texts to a file, one per line.

        Raises:
            UsageError: one of them is not text, or more than a line.
        """

        def write(stream: IO[bytes]) -> None:
            for first, part in _parts(texts):
                for place, text in enumerate(part, first):
                    if not isinstance(text, str):
                        raise UsageError(f"{item} {place} is {text!r}: give text")
                    if "\n" in text or text.endswith("\r"):
                        raise UsageError(f"{item} {place} has a line break: give one line")
                stream.write("".join(f"{text}\n" for text in part).encode())

        return self._write(name, ".txt", write)

    def discard(self) -> None:
        """Remove the files, and the folders, that were not there before."""
        while self._new:
            self._new.pop().unlink(missing_ok=True)
        while self._made:
            with contextlib.suppress(OSError):
                self._made.pop(0).rmdir()

    @contextlib.contextmanager
    def discarded(self, *, whenever: bool = False) -> Generator[None]:
        """Discard the files if the work that needs them is refused; `whenever`: also after it."""
        try:
            yield
        except BaseException as error:
            if whenever or isinstance(error, CatpruneError):
                self.discard()
            raise
        if whenever:
            self.discard()

    @contextlib.contextmanager
    def replaced(self, plan: Path, *, force: bool) -> Generator[None]:
        """With `force`, remove the files of the work that was replaced.

        These are files that `plan` named before, and that no plan or run file next to this folder names after it.

        Args:
            plan: the plan or run file of the work.
            force: whether the work may replace other work.
        """
        before = self._named_in([plan]) if force else set[Path]()
        yield
        beside = self.folder.parent
        for path in before - self._named_in([plan, *beside.glob("*/plan.json"), *beside.glob("*.toml")]):
            path.unlink(missing_ok=True)

    def _named_in(self, plans: Iterable[Path]) -> set[Path]:
        """Return the files of the folder whose names, which follow from their content, are in one of the plans."""
        texts = [plan.read_bytes() for plan in plans if plan.is_file()]
        return {path for path in self.folder.glob("*") if any(path.name.encode() in text for text in texts)}

    def _table(self, schema: Any, batches: Iterable[Any], name: str, rows: int, settings: dict[str, Any]) -> Path:
        import pyarrow as arrow
        from pyarrow import parquet

        def write(stream: IO[bytes]) -> None:
            plain: dict[str, Any] = {"use_dictionary": False, "store_schema": False, **settings}
            try:
                with parquet.ParquetWriter(stream, schema, **plain) as writer:
                    for group in _groups(schema, batches, rows):
                        writer.write_table(group, row_group_size=rows)
            except (arrow.ArrowNotImplementedError, arrow.ArrowInvalid) as error:
                raise UsageError(f"the table cannot be written to a Parquet file: {error}") from None

        return self._write(name, ".parquet", write)

    def _write(self, name: str, suffix: str, write: Callable[[IO[bytes]], None]) -> Path:
        folders = [self.folder, *self.folder.parents]
        self._made += [folder for folder in folders if not folder.exists() and folder not in self._made]
        self.folder.mkdir(parents=True, exist_ok=True)
        path, is_new = write_digested(self.folder, name, suffix, write)
        self._new += [path] if is_new else []
        return path


def _groups(schema: Any, batches: Iterable[Any], rows: int) -> Iterator[Any]:
    """Tables of so many rows each but the last, which is there even without a row."""
    import pyarrow as arrow

    tables, count = [schema.empty_table()], 0
    for batch in batches:
        tables.append(batch)
        count += batch.num_rows
        if count >= rows:
            whole = arrow.concat_tables(tables)
            for first in range(0, count - rows + 1, rows):
                yield whole.slice(first, rows).combine_chunks()
            rest = whole.slice(count - count % rows)
            tables, count = [rest], rest.num_rows
    yield arrow.concat_tables(tables).combine_chunks()


def _parts(values: Any) -> Iterator[tuple[int, list[Any]]]:
    """The values of a list, array, column or iterator in lists, each with the number of its first one."""
    if not hasattr(values, "__getitem__"):
        values = iter(values)
        for first in itertools.count(0, ROWS):
            if not (part := list(itertools.islice(values, ROWS))):
                return
            yield first, part
    places = getattr(values, "iloc", values)  # a pandas column counts by its index otherwise
    for first in range(0, len(values), ROWS):
        part = places[first : first + ROWS]
        to_list = next(
            (getattr(part, name) for name in ("to_pylist", "to_list", "tolist") if hasattr(part, name)), None
        )
        yield first, list(part) if to_list is None else to_list()
