"""Write: the kept pairs, or texts of a monolingual corpus, in corpus order."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune import _core
from catprune.corpus.inputs import check_field, check_fields, check_languages, format_of, is_monolingual, resolve
from catprune.corpus.kept_rows import kept_rows
from catprune.corpus.unchanged import check_unchanged, cleaned_files, file_at
from catprune.errors import CatpruneError, OtherPlan, UsageError
from catprune.workspace.files import read_json, to_json, write_whole
from catprune.workspace.locks import lock_file
from catprune.workspace.manifest import COLUMN_SETS, FORMAT, describe_folder, read_manifest
from catprune.workspace.options import takes
from catprune.workspace.progress import Progress, bytes_progress
from catprune.workspace.resources import choose_threads
from catprune.writing.options import WriteOptions

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from catprune.boundary import FileRead, Output, OutputsRequest, WriteRequest, WriteResult


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        paths: the files of the kept pairs.
        pairs: pairs in them.
        unwritable: kept pairs that the format cannot hold (a line break, a tab where columns end at tabs, bytes that
            are not UTF-8 where text must be, a character that XML does not have).
        whole: whether records were copied with all their fields; in TMX units, where they give one pair each.
        dropped: pairs that were not kept and were written as such.
        dropped_unwritable: records that were not kept and cannot be written: without two sides, or as above.
        manifest: everything that the record beside the first file says.
        is_new: whether this call wrote; False if the files were finished before.
    """

    paths: tuple[Path, ...]
    pairs: int
    unwritable: int
    whole: bool
    dropped: int
    dropped_unwritable: int
    manifest: Mapping[str, Any] = field(repr=False)
    is_new: bool = field(default=True, compare=False)


@takes(WriteOptions)
def write(options: WriteOptions) -> Written:
    """Write the pairs of a selection, or all clean pairs.

    A record of what was written is next to the first file, as `<file>.catprune.json`. Equal work whose files are
    unchanged is not done again.

    Raises:
        UsageError: the outputs have no valid meaning.
        OtherPlan: the files exist, as another write left them.
        CatpruneError: an input changed, another file is in the way, or the selection is of another corpus.
    """
    clean, selection, tags, dropped = Path(options.clean), options.selection, options.tags, options.dropped
    force = options.force
    kept_paths = tuple(Path(path) for path in options.outputs)
    paths = output_paths(options.outputs, dropped=dropped, tags=tags)
    cleaned = read_manifest(clean, step="clean")
    if tags and not cleaned["tags"]:
        raise UsageError(f"{clean} was cleaned without tags: there are none to write")
    monolingual = is_monolingual(cleaned)
    names = name_sides(options.fields, cleaned["options"], monolingual=monolingual)
    request: OutputsRequest = {
        "output": describe_output(kept_paths, names),
        "dropped": describe_output([Path(path) for path in dropped], names) if dropped else None,
        "tags": str(tags) if tags else None,
    }
    workers = choose_threads(options.threads)
    record = record_of(paths)
    base = paths[0].parent
    files = cleaned_files(clean, cleaned)
    tag_files: list[FileRead] = (
        [file_at(cleaned["tags"], os.path.normpath(clean.absolute() / cleaned["tags"]["path"]))]
        if cleaned["tags"]
        else []
    )
    inputs = [Path(file["path"]) for file in [*files, *tag_files]]
    plan = to_json(
        {
            "format": FORMAT,
            "step": "write",
            "version": _core.__version__,
            "reads": {
                "clean": describe_folder(clean, relative_to=base),
                "selection": describe_folder(Path(selection), relative_to=base) if selection else None,
            },
            "outputs": [os.path.relpath(path, base) for path in kept_paths],
            "dropped": [os.path.relpath(path, base) for path in dropped or ()],
            "tags": os.path.relpath(tags, base) if tags else None,
            "fields": names if fields_matter(request) else None,
            **({"monolingual": True} if monolingual else {}),
        }
    )
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    with _locked({path.parent for path in paths}):
        refuse_outputs(paths, inputs, force=force)
        if (done := _finished(record, plan, paths, force=force)) is not None:
            return _written(kept_paths, done, is_new=False)
        check_unchanged(files, cache=clean / "log" / "digests.json")
        corpus = resolve(clean, cleaned)
        if tags:
            files += tag_files
            corpus["tags"] = tag_files[0]["path"]
        kept, expected = kept_rows(clean, cleaned, Path(selection) if selection else None)
        full: WriteRequest = {
            **request,
            "corpus": corpus,
            "files": files,
            "kept": kept,
            "expected": expected,
            "threads": workers,
        }
        write_whole(record, plan)  # a record without files: what stands there is ours, and unfinished
        try:
            with Progress("write", total=sum(file["bytes"] for file in files), unit="B", quiet=options.quiet) as bar:
                found = _core.write(full, bytes_progress(bar))
        except BaseException:
            if not any(path.exists() for path in paths):
                record.unlink(missing_ok=True)  # nothing came of it: whatever gets these names is not ours
            raise
        manifest = _publish_record(record, plan, found)
    return _written(kept_paths, manifest, is_new=True)


def _written(paths: tuple[Path, ...], manifest: dict[str, Any], *, is_new: bool) -> Written:
    counts = {
        name: manifest["counts"][name] for name in ("pairs", "unwritable", "whole", "dropped", "dropped_unwritable")
    }
    return Written(paths, **counts, manifest=manifest, is_new=is_new)


def summary(done: Written) -> list[str]:
    """What was written, in lines for a reader."""
    whole = ", whole records" if done.whole else ""
    what = "texts" if done.manifest.get("monolingual") else "pairs"
    lines = [f"{done.pairs:,} {what} to {' and '.join(str(path) for path in done.paths)}{whole}"]
    if done.unwritable:
        lines.append(
            f"{done.unwritable:,} kept {what} hold what the format cannot (a line break or tab, no UTF-8, no XML): "
            "see the record beside it"
        )
    if done.manifest["dropped"]:
        lines.append(f"{done.dropped:,} {what} that were not kept to {' and '.join(done.manifest['dropped'])}")
    if done.dropped_unwritable:
        lines.append(
            f"{done.dropped_unwritable:,} records that were not kept are no {what}, or the format cannot hold them"
        )
    return lines


def output_paths(
    outputs: Sequence[str | Path],
    *,
    dropped: Sequence[str | Path] | None = None,
    tags: str | Path | None = None,
) -> tuple[Path, ...]:
    """All files that a write makes, but for its record: the kept pairs, the dropped ones, the tags.

    Raises:
        UsageError: two of them are one file.
    """
    paths = tuple(Path(path) for path in (*outputs, *(dropped or ()), *([tags] if tags else ())))
    real = [os.path.realpath(path) for path in paths]
    if len({*real}) < len(real):
        raise UsageError(
            "give two different output files, or one that holds both sides; and others for dropped and tags"
        )
    return paths


def name_sides(
    fields: tuple[str, str] | str | None, options: Mapping[str, Any], *, monolingual: bool
) -> tuple[str, str] | str | None:
    """The names of the two sides: those given, or the language codes of cleaning; None where they are not known.

    Of a monolingual corpus the name of its one side.
    """
    if monolingual:
        return check_field(fields)
    if fields:
        return check_fields(fields)
    codes = options["source_lang"], options["target_lang"]
    return codes if all(codes) and codes[0] != codes[1] else None


def fields_matter(request: OutputsRequest) -> bool:
    """Whether an output names the two sides."""
    return any(
        one and one["format"] not in ("moses", "text", "tsv") for one in (request["output"], request.get("dropped"))
    )


@contextmanager
def _locked(folders: set[Path]) -> Generator[None]:
    """Wait for the folders of all outputs, always in one order: of two writes that share a file, one comes first."""
    places = {(stat.st_dev, stat.st_ino): folder for folder in folders for stat in [folder.stat()]}
    with ExitStack() as stack:
        for _, folder in sorted(places.items()):
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            lock_file(handle, folder)
        yield


def refuse_outputs(paths: Sequence[Path], inputs: Sequence[Path], *, force: bool) -> None:
    """Fails where a file that would be made, or its draft, is an input or belongs to somebody else.

    Raises:
        UsageError: an output, its draft or the record is an input, by whatever name or link, or is something other
            than a plain file.
        CatpruneError: a file is there and no record says that it is ours; `force` replaces it.
    """
    record = record_of(paths)
    names = [name for path in (*paths, record) for name in (path, path.with_name(path.name + ".tmp"))]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name} would be written twice, as an output and beside one: give other names")
        folder = name.absolute().parent
        step = folder.parent if folder.name in COLUMN_SETS.values() else folder
        if any((step / own).is_file() for own in ("plan.json", "manifest.json")):
            raise UsageError(f"{name} would stand among the files of a step: give another folder")
        if name.is_symlink() or (name.exists() and not name.is_file()):
            raise UsageError(f"{name} is a link, a folder or a device: give the names of plain files")
        if any(name.exists() and one.exists() and name.samefile(one) for one in inputs):
            raise UsageError(f"{name} is an input, and would be written: give other names to the outputs")
    for path in paths if not (force or record.exists()) else ():
        for name in (path, path.with_name(path.name + ".tmp")):
            if name.exists():
                raise CatpruneError(f"{name} exists: give another name, or force = true to replace it")


def record_of(paths: Sequence[Path]) -> Path:
    """The record of what was written, beside the first file."""
    return paths[0].with_name(paths[0].name + ".catprune.json")


def describe_output(paths: Sequence[Path], names: tuple[str, str] | str | None) -> Output:
    """The outputs as the pass takes them; `names` as of `name_sides`: one name is a monolingual corpus's.

    Raises:
        UsageError: not two files, nor one that holds both sides; of a monolingual corpus not one file; a format or
            compression that is not written; or TMX without languages.
    """
    for path in paths:
        if not path.name or path.is_dir():
            raise UsageError(f"{path} is a folder: give the name of a file")
        if path.suffix in (".zip", ".lz4", ".7z"):
            raise UsageError(f"{path}: {path.suffix} is not written: give .gz, .zst, .xz, .bz2 or none of them")
        if ".parquet." in path.name:
            raise UsageError(f"{path}: Parquet compresses by itself: give a name that ends in .parquet")
    formats = [format_of(path) for path in paths]
    if isinstance(names, str):
        if len(paths) != 1 or formats[0] == "tmx":
            raise UsageError("a monolingual corpus has one side: give one file, of text or .tsv, .jsonl or .parquet")
        text = {"format": formats[0] or "text", "path": str(paths[0])}
        return cast("Output", text | ({"target_field": names} if formats[0] in ("jsonl", "parquet") else {}))
    if len(paths) == 2 and all(formats):
        raise UsageError(f"a {paths[0].suffix} file holds both sides: give one, or two files of other names")
    if len(paths) == 2 and os.path.realpath(paths[0]) != os.path.realpath(paths[1]):
        return {"format": "moses", "source": str(paths[0]), "target": str(paths[1])}
    if len(paths) != 1 or formats[0] is None:
        raise UsageError("give two different output files, or one whose name ends in .tsv, .jsonl, .parquet or .tmx")
    path = str(paths[0])
    if formats[0] == "tsv":
        return {"format": "tsv", "path": path}
    if formats[0] == "tmx":
        if names is None:
            raise UsageError(
                f"{paths[0]}: TMX names the languages: give source_lang and target_lang to clean, "
                "or fields = en,de to write"
            )
        source, target = check_languages(str(paths[0]), names)
        return {"format": "tmx", "path": path, "source_language": source, "target_language": target}
    source, target = names or ("source", "target")
    output = {"format": formats[0], "path": path, "source_field": source, "target_field": target}
    return cast("Output", output)


def _finished(record: Path, plan: bytes, paths: tuple[Path, ...], *, force: bool) -> dict[str, Any] | None:
    """The record of equal work whose files are as it says; None if there is work to do and nothing in its way."""
    old = read_json(record) if record.is_file() else {}
    equal = bool(old) and all(old.get(key) == value for key, value in json.loads(plan).items())
    if equal and "files" not in old:
        return None
    if equal:
        states = [(path, _state(path, file["digest"])) for path, file in zip(paths, old["files"], strict=True)]
        wrong = next(((path, state) for path, state in states if state), None)
        if wrong is None:
            return old
        if not force and any(path.exists() for path in paths):
            path, state = wrong
            raise CatpruneError(f"{path} {state}: give other names, or force = true to write all of it again")
    for path in paths if not force else ():
        if path.exists():
            told = f"{path} holds something else: give another name, or force = true to replace it"
            if not _are_as_left(old, record.parent, paths):
                raise CatpruneError(told)
            before = {name: value for name, value in old.items() if name not in ("counts", "files")}
            raise OtherPlan(told, base=record.parent, old=before, new=json.loads(plan))
    return None


def _are_as_left(record: Mapping[str, Any], base: Path, paths: Sequence[Path]) -> bool:
    """Whether the files that are there are what the record says, or an unfinished write's of which it does not yet."""
    if "files" not in record:
        return bool(record)
    digests = {os.path.normpath(base / file["path"]): file["digest"] for file in record["files"]}
    return all(digests.get(os.path.normpath(path)) == _core.digest_file(str(path)) for path in paths if path.exists())


def _state(path: Path, digest: str) -> str | None:
    """What has happened to a file since it was written; None if it is as it was."""
    if not path.is_file():
        return "is gone"
    return None if _core.digest_file(str(path)) == digest else "was changed since it was written"


def _publish_record(record: Path, plan: bytes, found: WriteResult) -> dict[str, Any]:
    """Write the record beside the files; it names their digests, so it comes last."""
    files = [{**file, "path": os.path.relpath(file["path"], record.parent)} for file in found["files"]]
    counts = {name: value for name, value in found.items() if name != "files"}
    manifest: dict[str, Any] = {**json.loads(plan), "counts": counts, "files": files}
    write_whole(record, to_json(manifest))
    return manifest
