"""The output files of `write`: their names, formats and columns, and which files they must not replace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune.corpus.inputs import check_field, check_fields, check_languages
from catprune.corpus.names import COMPRESSED, format_of, refuse_other_formats
from catprune.errors import CatpruneError, UsageError
from catprune.workspace.files import resolve_place
from catprune.workspace.manifest import COLUMN_SETS
from catprune.workspace.sealed import read_sealed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catprune.boundary import Added, Output, OutputsRequest

#: The columns that can be beside the sides.
ADDED: tuple[Added, ...] = ("row", "score", "tag")
#: The formats that can hold them.
WITH_COLUMNS = ("tsv", "jsonl", "parquet")
#: Compressions and archives that are not written.
_UNSUPPORTED = (".zip", ".lz4", ".7z", ".z", ".lz", ".lzma", ".tar", ".tgz")


def output_paths(
    outputs: Sequence[str | Path],
    *,
    dropped: Sequence[str | Path] | None = None,
    tags: str | Path | None = None,
) -> tuple[Path, ...]:
    """Return all output files except the record: kept pairs, dropped pairs, tags.

    Raises:
        UsageError: two outputs are the same file.
    """
    paths = tuple(Path(path) for path in (*outputs, *(dropped or ()), *([tags] if tags else ())))
    real = [os.path.realpath(path) for path in paths]
    if len({*real}) < len(real):
        raise UsageError(
            "give two different output files, or one file with both sides, and other files for dropped and tags"
        )
    return paths


def name_sides(
    fields: tuple[str, str] | str | None, options: Mapping[str, Any], *, monolingual: bool
) -> tuple[str, str] | str | None:
    """Return the names of the two sides: `fields`, or the language codes of cleaning; None if unknown.

    For a monolingual corpus, return the name of its one side.
    """
    if monolingual:
        return check_field(fields)
    if fields:
        return check_fields(fields)
    codes = options["source_lang"], options["target_lang"]
    return codes if all(codes) and codes[0] != codes[1] else None


def check_added(added: Sequence[str], request: OutputsRequest, *, has_scores: bool) -> None:
    """Refuse columns beside the sides that do not exist, or that an output cannot hold.

    Raises:
        UsageError: it does not.
    """
    shown = f"with = {','.join(added)}"
    if unknown := [name for name in added if name not in ADDED]:
        raise UsageError(f"{shown}: there is no column {unknown[0]}: give some of {', '.join(ADDED)}")
    if len({*added}) < len(added):
        raise UsageError(f"{shown}: give each column once")
    for output in filter(None, (request["output"], request.get("dropped"))):
        if added and output["format"] not in WITH_COLUMNS:
            limit = {"moses": "two text files hold", "text": "a text file holds", "tmx": "TMX holds"}[output["format"]]
            raise UsageError(f"{shown}: {limit} nothing but the text: write .tsv, .jsonl or .parquet")
    if "score" in added and not has_scores:
        raise UsageError(f"{shown}: without a selection there are no scores: give selection, or leave score out")


def fields_matter(request: OutputsRequest) -> bool:
    """Whether an output names the two sides."""
    return any(
        output and output["format"] not in ("moses", "text", "tsv")
        for output in (request["output"], request.get("dropped"))
    )


def refuse_outputs(paths: Sequence[Path], inputs: Sequence[Path], *, force: bool) -> None:
    """Refuse outputs that would overwrite an input or an unknown file, also by their temporary files.

    Raises:
        UsageError: an output, its temporary file or the record is an input (under any name or link), is in the folder
            of a step, or is not a plain file.
        CatpruneError: a file exists that no record names; `force` replaces it.
    """
    record = record_of(paths)
    names = [name for path in (*paths, record) for name in (path, path.with_name(path.name + ".tmp"))]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name} would be written twice: give other names")
        folder = name.absolute().parent
        step = folder.parent if folder.name in COLUMN_SETS.values() else folder
        if any((step / file).is_file() for file in ("plan.json", "manifest.json")):
            raise UsageError(f"{name} would be in the folder of a step: give another folder")
        if name.is_symlink() or (name.exists() and not name.is_file()):
            raise UsageError(f"{name} is a link, a folder or a device: give the names of plain files")
        if any(name.exists() and file.exists() and name.samefile(file) for file in inputs):
            raise UsageError(f"{name} is an input: give other names to the outputs")
    for path in paths if not (force or record.exists()) else ():
        for name in (path, path.with_name(path.name + ".tmp")):
            if name.exists():
                raise CatpruneError(f"{name} exists: give another name, or force = true to replace the file")


def refuse_outputs_of_others(paths: Sequence[Path], run: Path, selection: str | None) -> None:
    """Refuse outputs that were written from the folders of another run.

    Args:
        paths: the outputs, as `output_paths` gives them.
        run: the folder of this run.
        selection: the selection that is written; None: the clean pairs.

    Raises:
        CatpruneError: an output belongs to another run; `force` replaces it.
    """
    record = record_of(paths)
    if not record.is_file() or not any(path.exists() for path in paths):
        return
    reads = read_sealed(record).get("reads", {})
    for name, folder in {"clean": run / "clean", "selection": run / "selection" / (selection or "")}.items():
        read = reads.get(name)
        if read is None:
            continue
        if os.path.realpath(resolve_place(record.parent, read["path"])) != os.path.realpath(folder):
            raise CatpruneError(
                f"{paths[0]} was written from {read['path']}: give another name, or force = true to replace it"
            )


def record_of(paths: Sequence[Path]) -> Path:
    """Return the path of the record, next to the first file."""
    return paths[0].with_name(paths[0].name + ".catprune.json")


def describe_output(paths: Sequence[Path], names: tuple[str, str] | str | None) -> Output:
    """Describe outputs for a request; `names` is from `name_sides` (one name for a monolingual corpus).

    Raises:
        UsageError: the number of files does not fit the corpus, a format or compression is not supported, or TMX has
            no languages.
    """
    for path in paths:
        if not path.name or path.is_dir():
            raise UsageError(f"{path} is a folder: give the name of a file")
        suffix = path.suffix.lower()
        if suffix in _UNSUPPORTED:
            raise UsageError(f"{path}: {suffix} is not supported: give .gz, .zst, .xz or .bz2, or no compression")
        if ".parquet." in path.name.lower():
            raise UsageError(f"{path}: Parquet compresses its columns: give a name that ends in .parquet")
        if suffix == ".json" or (path.with_suffix("").suffix.lower() == ".json" and suffix in COMPRESSED):
            raise UsageError(f"{path}: one object per line is written as .jsonl: give that suffix")
        refuse_other_formats(path, remedy="give .tsv, .jsonl, .parquet or .tmx, or two text files of other names")
    formats = [format_of(path) for path in paths]
    if isinstance(names, str):
        if len(paths) != 1 or formats[0] == "tmx":
            raise UsageError("a monolingual corpus has one side: give one file, of text or .tsv, .jsonl or .parquet")
        text = {"format": formats[0] or "text", "path": str(paths[0])}
        return cast("Output", text | ({"target_field": names} if formats[0] in ("jsonl", "parquet") else {}))
    if len(paths) == 2 and all(formats):
        raise UsageError(f"a {paths[0].suffix} file holds both sides: give one file, or two text files")
    if len(paths) == 2 and os.path.realpath(paths[0]) != os.path.realpath(paths[1]):
        return {"format": "moses", "source": str(paths[0]), "target": str(paths[1])}
    if len(paths) != 1 or formats[0] is None:
        raise UsageError(
            "give two different output files, or one file whose name ends in .tsv, .jsonl, .parquet or .tmx"
        )
    path = str(paths[0])
    if formats[0] == "tsv":
        return {"format": "tsv", "path": path}
    if formats[0] == "tmx":
        if names is None:
            raise UsageError(
                f"{paths[0]}: TMX needs languages: give source_lang and target_lang to clean, "
                "or fields = en,de to write"
            )
        source, target = check_languages(str(paths[0]), names)
        return {"format": "tmx", "path": path, "source_language": source, "target_language": target}
    source, target = names or ("source", "target")
    output = {"format": formats[0], "path": path, "source_field": source, "target_field": target}
    return cast("Output", output)
