"""The text of a corpus as Arrow record batches, for pipelines in Python."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.corpus.data import TemporaryFiles, Text, are_names, spool_corpus, spool_tags
from catprune.corpus.inputs import input_paths, parse_inputs, resolve
from catprune.corpus.kept_rows import kept_rows
from catprune.corpus.unchanged import check_unchanged, cleaned_files, file_at
from catprune.errors import CatpruneError, UsageError, require
from catprune.workspace.common_options import two_names, two_numbers
from catprune.workspace.files import resolve_place, whole_file
from catprune.workspace.manifest import read_manifest, verify_shards
from catprune.workspace.resources import choose_threads
from catprune.workspace.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catprune.boundary import CheckedCorpus, Corpus, OpenCorpusRequest


@dataclass(frozen=True, slots=True)
class OpenCorpus:
    """A corpus that can be read several times, each time from the start.

    Iteration yields `pyarrow.RecordBatch`es of up to 4,096 rows. Polars (`pl.DataFrame`), DuckDB (`from corpus`),
    PyArrow (`pyarrow.RecordBatchReader.from_stream`) and other libraries with the Arrow PyCapsule interface read it
    without copying batches. Memory is bounded by a few batches, and the GIL is released while reading.

    Columns:

    - `row`: int64.
    - `source`, `target`: large_string, or large_binary with `text="bytes"`. A monolingual corpus has only `target`.
    - `tag`: large_string, if there are tags.
    - `kept` (bool), `reasons` (uint32, the bits that `clean` sets) and `reason` (dictionary of strings, their names):
      with `rows="all"` of a clean folder.

    A side is null if its line is too long, if its record is malformed, or, as text, if it is not valid UTF-8. Kept rows
    have no nulls.
    """

    _request: OpenCorpusRequest
    _files: TemporaryFiles | None = None

    def __repr__(self) -> str:
        paths = [path for entry in self._request["corpus"]["inputs"] for path in input_paths(entry)]
        more = ", ..." if len(paths) > 2 else ""
        return f"{type(self).__name__}({', '.join(paths[:2])}{more})"

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return a new stream from the first row; a requested schema is ignored, as the interface allows."""
        del requested_schema
        return _core.open_corpus(self._request)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches in row order, each a `pyarrow.RecordBatch`.

        Raises:
            CatpruneError: the text changed since cleaning, the sides have unequal length, or a file is damaged. Earlier
                batches have been yielded by then.
        """
        import pyarrow as arrow

        with arrow.RecordBatchReader.from_stream(self) as reader:
            yield from _batches(reader)

    def to_dataset(self, path: str | Path) -> Any:
        """Write the corpus to an Arrow file and return it as a `datasets.Dataset`, which maps the file into memory.

        The data set has the columns of the batches; `reason` becomes a string. The file is written whole or not at all,
        batch by batch, and must stay as long as the data set is used. A file of that name is replaced.

        Raises:
            MissingExtra: datasets is not installed.
            UsageError: the file is an input of the corpus.
            CatpruneError: as in iteration.
            OSError: the file cannot be written.
        """
        require("datasets", "datasets")
        import pyarrow as arrow

        file = Path(path)
        inputs = [part for entry in self._request["corpus"]["inputs"] for part in input_paths(entry)]
        if file.exists() and any(file.samefile(part) for part in inputs):
            raise UsageError(f"{file} is an input of the corpus: give another file")
        with arrow.RecordBatchReader.from_stream(self) as reader, whole_file(file) as stream:
            schema = arrow.schema(
                [field.with_type(getattr(field.type, "value_type", field.type)) for field in reader.schema]
            )
            with arrow.ipc.new_stream(stream, schema) as writer:
                # `datasets` cannot read a file without a batch.
                writer.write_batch(arrow.RecordBatch.from_pylist([], schema=schema))
                for batch in _batches(reader):
                    writer.write_batch(batch.cast(schema))
        return import_module("datasets").Dataset.from_file(str(file))


def _batches(reader: Any) -> Iterator[Any]:
    """Yield the batches of a stream of the core, whose errors are those of this package."""
    import pyarrow as arrow

    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (arrow.ArrowException, OSError) as error:
            raise CatpruneError(str(error).removeprefix("External error: ")) from None
        yield batch


def open_corpus(
    inputs: Any,
    *,
    selection: str | Path | None = None,
    rows: str = "kept",
    text: str = "utf8",
    tags: Any = None,
    columns: tuple[int, int] | int | str | None = None,
    fields: tuple[str, str] | str | None = None,
    format: str | None = None,
    header: bool = False,
    monolingual: bool = False,
    source_lang: str | None = None,
    target_lang: str | None = None,
    max_line_bytes: int = 16_384,
    threads: int | None = None,
) -> OpenCorpus:
    """Open a corpus for reading in batches.

    Args:
        inputs: one clean folder; or inputs as `clean` takes them, of which all rows are read. Data is copied to a
            temporary file, which is removed with the last object that reads it.
        selection: a selection made from the clean folder.
        rows: for a clean folder "kept", the rows that cleaning (and the selection) kept; or "all", with the columns
            `kept`, `reasons` and `reason`.
        text: "utf8", or "bytes" for undecoded text.
        tags: a file with one tag for each record, or the tags; a clean folder has its own tags.
        columns, fields, format, header, monolingual, source_lang, target_lang: where the sides are, as for `clean`; a
            clean folder knows them.
        max_line_bytes: longer lines are null and never in memory as a whole; a clean folder has its own limit.
        threads: worker threads; default: all available cores.

    Raises:
        UsageError: an option is invalid.
        CatpruneError: a clean folder or selection is unfinished, or its files changed.
        OSError: a file cannot be read.
    """
    if rows not in ("kept", "all") or text not in ("utf8", "bytes"):
        raise UsageError(f'rows = {rows}, text = {text}: give rows "kept" or "all", and text "utf8" or "bytes"')
    for name, path in (("selection", selection), ("tags", tags if isinstance(tags, bytes) else None)):
        if path is not None and not isinstance(path, str | Path):
            raise UsageError(f"{name} = {path!r}: give text or a path")
    behind = Path(selection) if selection else None
    try:
        numbers, fields = two_numbers(columns), two_names(fields)
    except ValueError as error:
        raise UsageError(str(error)) from None
    files = None if are_names(inputs) and (tags is None or isinstance(tags, str | Path)) else TemporaryFiles()
    spool = Spool(Path(files.folder if files else ""))
    names, fields = spool_corpus(inputs, Text(fields, (source_lang, target_lang), monolingual), spool)
    request = read_corpus(
        names,
        selection=behind,
        tags=spool_tags(tags, spool),
        columns=numbers,
        fields=fields,
        format=format,
        header=header,
        monolingual=monolingual,
        languages=(source_lang, target_lang),
        max_line_bytes=max_line_bytes,
        threads=threads,
    )
    cleaned = request.get("files") is not None
    kept: Any = request["kept"]
    shards: Any = kept["selection"]["clean"] if behind else kept["clean"] if cleaned else None
    return OpenCorpus({**request, "text": text, "reasons": shards if rows == "all" else None}, files)


def open_rows(clean: Path, first: int, end: int) -> OpenCorpus:
    """Open the clean pairs of a clean folder whose rows are in [first, end), and some before and after them.

    Only the inputs that have such rows are read.

    Raises:
        CatpruneError: the folder is unfinished, or a file that is read changed.
    """
    manifest = read_manifest(clean, step="clean")
    here = {
        name: [entry for entry in manifest[name] if entry["first"] < end and first < entry["end"]]
        for name in ("inputs", "shards")
    }
    part = {**manifest, **here, "fingerprints": [], "duplicates": [], "files": {}}
    verify_shards(clean, part)
    files = cleaned_files(clean, part)
    check_unchanged(files, cache=clean / "log" / "digests.json")
    return OpenCorpus(
        {
            "corpus": {**resolve(clean, part), "first_row": here["inputs"][0]["first"]},
            "files": files,
            "kept": {"clean": [str(clean / shard["file"]) for shard in here["shards"]]},
            "threads": choose_threads(None),
            "text": "utf8",
            "reasons": None,
        }
    )


def read_corpus(
    inputs: str | Path | Sequence[str | Path],
    *,
    selection: Path | None = None,
    tags: str | Path | None,
    columns: tuple[int, int] | int | None,
    fields: tuple[str, str] | str | None,
    format: str | None,
    header: bool,
    monolingual: bool,
    languages: tuple[str | None, str | None],
    max_line_bytes: int,
    threads: int | None,
) -> CheckedCorpus:
    """Build the request of a pass over the text of inputs, or of a clean folder whose files are verified."""
    names = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    if "-" in map(str, names):
        raise UsageError(
            "- is standard input, which only `clean` with spool = FILE reads: give files, or a clean folder"
        )
    if not isinstance(max_line_bytes, int) or not 1 <= max_line_bytes < 2**20:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"max_line_bytes = {max_line_bytes}: give 1 to {2**20 - 1}")
    workers = choose_threads(threads)
    if len(names) == 1 and Path(names[0]).is_dir():
        if tags is not None:
            raise UsageError(f"{names[0]} is a clean folder and has its own tags: leave `tags` out")
        return _of_clean(Path(names[0]), selection, workers)
    if selection is not None:
        raise UsageError("a selection needs the clean folder that it was made from: give that folder instead of inputs")
    parsed = parse_inputs(
        names,
        columns=columns,
        fields=fields,
        languages=languages,
        format=format,
        header=header,
        monolingual=monolingual,
    )
    corpus: Corpus = {"inputs": parsed, "max_line_bytes": max_line_bytes}
    for path in [path for item in corpus["inputs"] for path in input_paths(item)] + ([str(tags)] if tags else []):
        Path(path).stat()  # a missing file is reported before anything is read
    corpus["tags"] = str(Path(tags).absolute()) if tags else None
    return {"corpus": corpus, "files": None, "kept": "all", "threads": workers}


def _of_clean(folder: Path, selection: Path | None, workers: int) -> CheckedCorpus:
    manifest = read_manifest(folder, step="clean")
    kept, _ = kept_rows(folder, manifest, selection)
    files = cleaned_files(folder, manifest)
    corpus = resolve(folder, manifest)
    checked = list(files)
    if manifest["tags"]:
        corpus["tags"] = resolve_place(folder, manifest["tags"]["path"])
        checked.append(file_at(manifest["tags"], corpus["tags"]))
    check_unchanged(checked, cache=folder / "log" / "digests.json")
    return {"corpus": corpus, "files": checked, "kept": kept, "threads": workers}
