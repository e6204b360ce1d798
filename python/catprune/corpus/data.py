"""Text that Python holds - pairs, tables, frames - as inputs: spooled to Parquet files, then read like any others."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from catprune.corpus.inputs import TEXT
from catprune.corpus.remote import bring, is_address, is_archive
from catprune.errors import CatpruneError, UsageError
from catprune.workspace.spool import Spool
from catprune.workspace.tables import ROWS, TABLES, is_table, open_table
from catprune.workspace.wording import some

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

Options = TypeVar("Options")

#: What inputs can be, in words.
_INPUTS = f"file names, pairs (source, target) of str, or {TABLES}"
#: The columns that pairs are spooled to.
_SIDES = ("source", "target")
#: The folder for in-memory inputs, next to the folder of a step.
FOLDER = "inputs"


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """Where the text of tables is: the options of the inputs.

    Attributes:
        fields: the names of the columns, if they are given.
        languages: codes of the two languages, if they are given.
        monolingual: whether there is one text per row.
    """

    fields: tuple[str, str] | str | None
    languages: tuple[str | None, str | None]
    monolingual: bool


@contextlib.contextmanager
def temporary_spool(folder: str | Path | None = None) -> Generator[Spool]:
    """A spool that is removed at the end, in a folder, or where `scratch_parent` says."""
    with tempfile.TemporaryDirectory(prefix="catprune-", dir=folder or scratch_parent()) as scratch:
        yield Spool(Path(scratch))


def scratch_parent() -> Path | None:
    """The working folder, whose disk usually has room; None, the system's temporary folder, if it cannot be written."""
    folder = Path.cwd()
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


class TemporaryFiles:
    """A folder where `scratch_parent` says, that is removed with the last object that reads its files.

    The process that made it removes it.

    Args:
        folder: an existing folder that is already removed by another object, maybe of another process; None: a new one.
    """

    _known: ClassVar[weakref.WeakValueDictionary[str, TemporaryFiles]] = weakref.WeakValueDictionary()

    def __init__(self, folder: str | None = None) -> None:
        self.folder = tempfile.mkdtemp(prefix="catprune-", dir=scratch_parent()) if folder is None else folder
        if folder is None:
            self._known[self.folder] = self
            weakref.finalize(self, _remove, self.folder, os.getpid())

    def __reduce__(self) -> tuple[Any, ...]:
        return TemporaryFiles.of, (self.folder,)

    @classmethod
    def of(cls, folder: str) -> TemporaryFiles:
        """The object of a folder."""
        return cls._known.get(folder) or cls(folder)


def _remove(folder: str, process: int) -> None:
    if os.getpid() == process:  # not in a fork
        shutil.rmtree(folder, ignore_errors=True)


def spool_options(options: Options, spool: Spool) -> Options:
    """The options of a step with the data among its inputs, and its tags, spooled to files and named by them."""
    values: Any = options
    text = Text(values.fields, (values.source_lang, values.target_lang), values.monolingual)
    names, fields = spool_corpus(values.inputs, text, spool, quiet=values.quiet)
    changed: dict[str, Any] = {"inputs": names, "fields": fields}
    if hasattr(values, "tags"):
        changed["tags"] = spool_tags(values.tags, spool)
    return dataclasses.replace(values, **changed)


def spool_tags(tags: Any, spool: Spool) -> str | Path | None:
    """The file of tags; tags that Python holds are spooled to one.

    Raises:
        UsageError: they are no file name and no sequence of text.
    """
    if tags is None or isinstance(tags, str | Path):
        return tags
    return spool.lines(tags, item="tag", name="tags-")


def spool_corpus(
    inputs: Any, text: Text, spool: Spool, *, quiet: bool = True
) -> tuple[list[str | Path], tuple[str, str] | str | None]:
    """The inputs of a corpus as file names, and the fields of its files; data, URLs and archives are spooled.

    A name is one input, and so is a table. Of lists and tuples, those of names and tables are several inputs; those of
    two-element lists and tuples of str are pairs. Whatever else can be iterated gives pairs; texts if `monolingual`.

    Raises:
        UsageError: an input is none of these, or the columns with its text cannot be detected.
    """
    if isinstance(inputs, str | Path):
        return bring([inputs], text.languages, spool.folder, quiet=quiet), text.fields
    parts = _inputs(inputs)
    if parts is None:
        if text.fields is not None:
            raise UsageError(f"fields = {text.fields}: pairs have no fields, leave it out")
        rows = _texts(inputs) if text.monolingual else _pairs(inputs)
        path = spool.text(*_to_tables(rows, (TEXT,) if text.monolingual else _SIDES))
        return [path], TEXT if text.monolingual else _SIDES
    opened = {place: open_table(part) for place, part in enumerate(parts) if is_table(part)}
    fields = text.fields
    if opened and len(opened) == len(parts):
        sides = {find_fields(schema, text): None for schema, _ in opened.values()}
        if len(sides) > 1:
            raise UsageError(f"the tables have their text in other columns ({sides}): rename columns, or give fields")
        fields = next(iter(sides))
    names = [spool.text(*opened[place]) if place in opened else part for place, part in enumerate(parts)]
    return bring(names, text.languages, spool.folder, quiet=quiet), fields


def are_names(inputs: Any) -> bool:
    """Whether all inputs are names of files or folders of this machine, which are read where they are."""
    parts = inputs if isinstance(inputs, list | tuple) else [inputs]
    return all(isinstance(part, str | Path) and not (is_address(part) or is_archive(part)) for part in parts)


def find_fields(schema: Any, text: Text) -> tuple[str, str] | str:
    """The columns of a table's text: those given; those of the languages, also inside a column `translation`; those
    named source and target (monolingual: text); or the only ones of text.

    Raises:
        UsageError: none of these is there.
    """
    names = _text_columns(schema)
    wanted = () if text.fields is None else (text.fields,) if isinstance(text.fields, str) else text.fields
    if missing := [name for name in wanted if name not in names]:
        raise UsageError(f"fields = {','.join(wanted)}: the table has no column of text {missing[0]}; {_has(schema)}")
    if text.fields is not None:
        return text.fields
    top = [name for name in names if "." not in name]
    if text.monolingual:
        if TEXT in names or len(top) == 1:
            return TEXT if TEXT in names else top[0]
        raise UsageError(
            f'the table has several columns of text or none: give one, like fields = "text"; {_has(schema)}'
        )
    languages = tuple(code or "" for code in text.languages)
    candidates = [languages, tuple(f"translation.{code}" for code in languages), _SIDES, top if len(top) == 2 else []]
    for pair in candidates:
        if pair and all(name in names for name in pair):
            return pair[0], pair[1]
    raise UsageError(
        'the table does not tell which two columns are source and target: give them, like fields = "en,de" or '
        f'"translation.en,translation.de"; {_has(schema)}'
    )


def _has(schema: Any) -> str:
    columns = some([f"{field.name} ({field.type})" for field in schema], most=20)
    return f"it has {columns or 'no column'}"


def _text_columns(columns: Any, prefix: str = "") -> list[str]:
    """The names of the columns of text or bytes, a dot leading into a struct."""
    from pyarrow import types

    names: list[str] = []
    for field in columns:
        if types.is_struct(field.type):
            inner = [field.type.field(place) for place in range(field.type.num_fields)]
            names += _text_columns(inner, f"{prefix}{field.name}.")
        elif types.is_large_string(field.type) or types.is_large_binary(field.type):
            names.append(prefix + field.name)
    return names


def _inputs(inputs: Any) -> list[Any] | None:
    """The inputs if they are several, or one table; None if they are rows of text.

    Raises:
        UsageError: some of them are one, some the other.
    """
    if is_table(inputs):
        return [inputs]
    if isinstance(inputs, bytes | Mapping) or not isinstance(inputs, Iterable):
        raise UsageError(f"inputs is of type {type(inputs).__name__}: give {_INPUTS}")
    if not isinstance(inputs, list | tuple):
        return None
    kinds = [
        "input" if isinstance(part, str | Path) or is_table(part) else "pair" if _is_pair(part) else ""
        for part in inputs
    ]
    for place, kind in enumerate(kinds):
        if kind != kinds[0] or not kind:
            label = f"item {place} of inputs is {_shown(inputs[place])}"
            raise UsageError(f"{label}: give file names and tables, or pairs (source, target) of str alone")
    return None if "pair" in kinds else list(inputs)


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(side is None or isinstance(side, str) for side in value)
    )


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {', '.join(type(part).__name__ for part in value) or 'nothing'}"
    return f"of type {type(value).__name__}"


def _pairs(inputs: Iterable[Any]) -> Iterator[tuple[str | None, ...]]:
    for place, pair in enumerate(inputs):
        if not _is_pair(pair):
            raise UsageError(
                f"pair {place} is {_shown(pair)}: give pairs (source, target) of str; file names go in a list"
            )
        yield tuple(pair)


def _texts(inputs: Iterable[Any]) -> Iterator[tuple[str | None]]:
    for place, text in enumerate(inputs):
        if text is not None and not isinstance(text, str):
            raise UsageError(f"text {place} is {_shown(text)}: a monolingual corpus has one str per record")
        yield (text,)


def _to_tables(rows: Iterator[tuple[str | None, ...]], names: Sequence[str]) -> tuple[Any, Iterator[Any]]:
    """The schema and the tables of rows of text."""
    import pyarrow as arrow

    schema = arrow.schema([(name, arrow.large_string()) for name in names])

    def tables() -> Iterator[Any]:
        for first in itertools.count(0, ROWS):
            if not (part := list(itertools.islice(rows, ROWS))):
                return
            try:
                yield arrow.table([list(side) for side in zip(*part, strict=True)], schema=schema)
            except UnicodeEncodeError:
                place = next(place for place, row in enumerate(part) if not all(map(_is_unicode, row)))
                raise CatpruneError(f"record {first + place} has half of a surrogate pair: decode it again") from None

    return schema, tables()


def _is_unicode(text: str | None) -> bool:
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        return False
    return True
