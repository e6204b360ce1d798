"""Write: the kept pairs (texts of a monolingual corpus) as files, in corpus order."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune import _core
from catprune.corpus.inputs import check_field, check_fields, check_languages, is_monolingual, resolve
from catprune.corpus.kept_rows import kept_rows
from catprune.corpus.names import COMPRESSED, format_of, refuse_other_formats
from catprune.corpus.unchanged import check_unchanged, cleaned_files, file_at
from catprune.errors import CatpruneError, OtherPlan, UsageError
from catprune.workspace.common_options import several
from catprune.workspace.files import relative_place, resolve_place, to_json, write_whole
from catprune.workspace.locks import lock_file
from catprune.workspace.manifest import COLUMN_SETS, describe_folder, read_manifest
from catprune.workspace.options import takes
from catprune.workspace.progress import Progress, bytes_progress
from catprune.workspace.resources import choose_threads
from catprune.workspace.sealed import FORMAT, RESULTS, is_same_work, read_sealed, seal
from catprune.writing.options import WriteOptions

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from catprune.boundary import Added, FileRead, Output, OutputsRequest, WriteRequest, WriteResult

#: The columns that can be beside the sides.
ADDED: tuple[Added, ...] = ("row", "score", "tag")
#: The formats that can hold them.
WITH_COLUMNS = ("tsv", "jsonl", "parquet")
#: Compressions and archives that are not written.
_UNSUPPORTED = (".zip", ".lz4", ".7z", ".z", ".lz", ".lzma", ".tar", ".tgz")


@dataclass(frozen=True, slots=True)
class Written:
    """The result of `write`.

    Attributes:
        paths: the files of the kept pairs.
        pairs: number of written pairs.
        unwritable: kept pairs that the format cannot hold (a line break; a tab in TSV; bytes that are not UTF-8 in a
            text format; a character that is invalid in XML).
        whole: whether records were copied with all their fields; in TMX, units with one pair each.
        loses_fields: whether the output could hold other fields, which inputs may have, but holds only the text.
        dropped: number of pairs written to the files of dropped pairs.
        dropped_unwritable: dropped records that cannot be written, because a side is missing or as in `unwritable`.
        manifest: the content of the record next to the first file.
        is_new: whether this call wrote; False if the files were finished before.
    """

    paths: tuple[Path, ...]
    pairs: int
    unwritable: int
    whole: bool
    loses_fields: bool
    dropped: int
    dropped_unwritable: int
    manifest: Mapping[str, Any] = field(repr=False)
    is_new: bool = field(default=True, compare=False)


@takes(WriteOptions)
def write(options: WriteOptions) -> Written:
    """Write the pairs of a selection, or all clean pairs.

    The record `<file>.catprune.json` next to the first file describes the outputs. If the outputs are finished and
    unchanged, nothing is written again.

    Raises:
        UsageError: the outputs are invalid.
        OtherPlan: the files exist and were written with other options or inputs.
        CatpruneError: an input changed, another file has the name of an output, or the selection belongs to another
            corpus.
    """
    clean, selection, tags, dropped = Path(options.clean), options.selection, options.tags, several(options.dropped)
    force = options.force
    kept_paths = tuple(Path(path) for path in several(options.outputs))
    paths = output_paths(kept_paths, dropped=dropped, tags=tags)
    cleaned = read_manifest(clean, step="clean")
    added = options.with_
    if (tags or "tag" in added) and not cleaned["tags"]:
        raise UsageError(f"{clean} was cleaned without tags: leave tags out, or clean with tags")
    monolingual = is_monolingual(cleaned)
    names = name_sides(options.fields, cleaned["options"], monolingual=monolingual)
    request: OutputsRequest = {
        "output": describe_output(kept_paths, names),
        "dropped": describe_output([Path(path) for path in dropped], names) if dropped else None,
        "tags": str(tags) if tags else None,
    }
    check_added(added, request, has_scores=selection is not None)
    formats = {entry["format"] for entry in cleaned["inputs"]}
    workers = choose_threads(options.threads)
    record = record_of(paths)
    base = paths[0].parent
    files = cleaned_files(clean, cleaned)
    tag_files: list[FileRead] = (
        [file_at(cleaned["tags"], resolve_place(clean, cleaned["tags"]["path"]))] if cleaned["tags"] else []
    )
    inputs = [Path(file["path"]) for file in [*files, *tag_files]]
    content = to_json(
        {
            "format": FORMAT,
            "step": "write",
            "results": RESULTS["write"],
            "reads": {
                "clean": describe_folder(clean, relative_to=base),
                "selection": describe_folder(Path(selection), relative_to=base) if selection else None,
            },
            "outputs": [relative_place(path, base) for path in kept_paths],
            "dropped": [relative_place(path, base) for path in dropped or ()],
            "tags": relative_place(tags, base) if tags else None,
            "fields": names if fields_matter(request) else None,
            "with": list(added),
            **({"monolingual": True} if monolingual else {}),
        }
    )
    plan: dict[str, Any] = json.loads(content)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    with _locked({path.parent for path in paths}):
        refuse_outputs(paths, inputs, force=force)
        if (done := _finished(record, plan, paths, force=force)) is not None:
            return _written(kept_paths, formats, done, is_new=False)
        check_unchanged(files, cache=clean / "log" / "digests.json")
        corpus = resolve(clean, cleaned)
        if tags or "tag" in added:
            files += tag_files
            corpus["tags"] = tag_files[0]["path"]
        kept, expected = kept_rows(clean, cleaned, Path(selection) if selection else None)
        if "score" in added and kept != "all" and "selection" in kept:
            corpus["scores"] = kept["selection"]["selection"]
        full: WriteRequest = {
            **request,
            "added": cast("Sequence[Added]", added),
            "corpus": corpus,
            "files": files,
            "kept": kept,
            "expected": expected,
            "threads": workers,
        }
        write_whole(record, seal(plan))  # a record without files marks unfinished outputs of ours
        try:
            with Progress("write", total=sum(file["bytes"] for file in files), unit="B", quiet=options.quiet) as bar:
                result = _core.write(full, bytes_progress(bar))
        except BaseException:
            if not any(path.exists() for path in paths):
                record.unlink(missing_ok=True)  # nothing was written: later files of these names are not ours
            raise
        manifest = _publish_record(record, plan, result)
    return _written(kept_paths, formats, manifest, is_new=True)


def _written(paths: tuple[Path, ...], formats: set[str], manifest: dict[str, Any], *, is_new: bool) -> Written:
    """Build the result; `formats` are those of the inputs."""
    can_hold = format_of(paths[0]) in WITH_COLUMNS and len(paths) == 1
    loses_fields = can_hold and not manifest["counts"]["whole"] and bool(formats & {*WITH_COLUMNS})
    counts = {
        name: manifest["counts"][name] for name in ("pairs", "unwritable", "whole", "dropped", "dropped_unwritable")
    }
    return Written(paths, **counts, loses_fields=loses_fields, manifest=manifest, is_new=is_new)


def summary(done: Written) -> list[str]:
    """Summarize the outputs in lines."""
    whole = ", whole records" if done.whole else ""
    unit = "texts" if done.manifest.get("monolingual") else "pairs"
    lines = [f"{done.pairs:,} {unit} to {' and '.join(str(path) for path in done.paths)}{whole}"]
    if done.loses_fields:
        lines.append(
            "only the text is written; other fields, if there are any, are left out: whole records are copied if all "
            "inputs have the format of the output (TSV: and the same header and number of columns; Parquet: and the "
            "same columns)"
        )
    if done.unwritable:
        lines.append(
            f"{done.unwritable:,} kept {unit} do not fit the format (line break, tab, not UTF-8, not XML): "
            "see the record next to the file, or write .jsonl or .parquet"
        )
    if done.manifest["dropped"]:
        lines.append(f"{done.dropped:,} dropped {unit} to {' and '.join(done.manifest['dropped'])}")
    if done.dropped_unwritable:
        lines.append(f"{done.dropped_unwritable:,} dropped records lack a side, or do not fit the format")
    return lines


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


@contextmanager
def _locked(folders: set[Path]) -> Generator[None]:
    """Lock the folders of all outputs, always in the same order, so that two writes cannot block each other."""
    places = {(stat.st_dev, stat.st_ino): folder for folder in folders for stat in [folder.stat()]}
    with ExitStack() as stack:
        for _, folder in sorted(places.items()):
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            lock_file(handle, folder)
        yield


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
        place = folder if read is None else resolve_place(record.parent, read["path"])
        if os.path.realpath(place) != os.path.realpath(folder):
            raise CatpruneError(
                f"{paths[0]} was written from {place}: give another name, or force = true to replace it"
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


def _finished(record: Path, plan: dict[str, Any], paths: tuple[Path, ...], *, force: bool) -> dict[str, Any] | None:
    """Return the record of finished, unchanged outputs; None if there is work to do."""
    old = _read_record(record, force=force)
    equal = bool(old) and is_same_work({key: old.get(key) for key in plan}, plan)
    if equal and "files" not in old:
        return None
    if equal:
        states = [(path, _state(path, file["digest"])) for path, file in zip(paths, old["files"], strict=True)]
        changed = next(((path, state) for path, state in states if state), None)
        if changed is None:
            return old
        if not force and any(path.exists() for path in paths):
            path, state = changed
            raise CatpruneError(f"{path} {state}: give other names, or force = true to write all files again")
    for path in paths if not force else ():
        if path.exists():
            message = f"{path} holds something else: give another name, or force = true to replace the file"
            if not _are_ours(old, record.parent, paths):
                raise CatpruneError(message)
            before = {name: value for name, value in old.items() if name in plan}
            raise OtherPlan(message, base=record.parent, old=before, new=plan)
    return None


def _read_record(record: Path, *, force: bool) -> dict[str, Any]:
    """Return the record of an earlier write; nothing if there is none, or if it was changed and is to be replaced."""
    try:
        return read_sealed(record) if record.is_file() else {}
    except CatpruneError:
        if force:
            return {}
        raise


def _are_ours(record: Mapping[str, Any], base: Path, paths: Sequence[Path]) -> bool:
    """Whether the existing files are those of the record, or of an unfinished write."""
    if "files" not in record:
        return bool(record)
    digests = {file["path"]: file["digest"] for file in record["files"]}
    return all(
        digests.get(relative_place(path, base)) == _core.digest_file(str(path)) for path in paths if path.exists()
    )


def _state(path: Path, digest: str) -> str | None:
    """Describe how a file changed since it was written; None if it is unchanged."""
    if not path.is_file():
        return "is missing"
    return None if _core.digest_file(str(path)) == digest else "was changed since it was written"


def _publish_record(record: Path, plan: dict[str, Any], result: WriteResult) -> dict[str, Any]:
    """Write the record next to the files; it is written last because it holds their digests."""
    files = [{**file, "path": relative_place(file["path"], record.parent)} for file in result["files"]]
    counts = {name: value for name, value in result.items() if name != "files"}
    manifest: dict[str, Any] = {**plan, "counts": counts, "files": files}
    write_whole(record, seal(manifest))
    return manifest
