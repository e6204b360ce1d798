"""Write: the kept pairs as text, in corpus order."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.errors import CatpruneError, UsageError
from catprune.folder import (
    FORMAT,
    describe_folder,
    digest_manifest,
    read_json,
    read_manifest,
    to_json,
    trace,
    verify_shards,
    write_whole,
)
from catprune.inputs import check_unchanged, cleaned_files, resolve
from catprune.progress import Progress, bytes_progress

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence


_TSV = (".tsv", ".tsv.gz", ".tsv.zst")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        paths: the files.
        pairs: pairs in them.
        unwritable: kept pairs that the format cannot hold (a tab inside a side, written as TSV).
        manifest: everything that the record beside the first file says.
    """

    paths: tuple[Path, ...]
    pairs: int
    unwritable: int
    manifest: Mapping[str, Any]


def write(
    clean: str | Path,
    outputs: Sequence[str | Path],
    *,
    selection: str | Path | None = None,
    threads: int | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Written:
    """Write the pairs of a selection, or all that cleaning kept.

    Args:
        clean: the clean folder of the corpus.
        outputs: two files, or one that ends in `.tsv`; names ending in `.gz` or `.zst` are compressed.
        selection: a selection folder; None writes what cleaning kept.
        threads: worker threads; the result does not depend on it.
        force: replace files that are there.
        quiet: show no progress bar.

    A record of what was written stands beside the first file, as `<file>.catprune.json`; equal work whose files
    are as they were left is not done again.

    Raises:
        UsageError: the outputs cannot be meant.
        CatpruneError: an input changed, a file is in the way, or the selection is of another corpus.
    """
    clean = Path(clean)
    paths = tuple(Path(path) for path in outputs)
    output = describe_output(paths)
    cleaned = read_manifest(clean, step="clean")
    record = record_of(paths)
    base = paths[0].parent
    files = cleaned_files(clean, cleaned)
    inputs = [Path(file["path"]) for file in files]
    if cleaned["tags"]:
        inputs.append(clean / cleaned["tags"]["path"])
    plan = to_json(
        {
            "format": FORMAT,
            "step": "write",
            "version": _core.__version__,
            "reads": {
                "clean": describe_folder(clean, relative_to=base),
                "selection": describe_folder(Path(selection), relative_to=base) if selection else None,
            },
            "outputs": [os.path.relpath(path, base) for path in paths],
        }
    )
    base.mkdir(parents=True, exist_ok=True)
    with _lock(base):
        refuse_outputs(paths, inputs, force=force)
        if (done := _finished(record, plan, paths, force=force)) is not None:
            return Written(paths, done["counts"]["pairs"], done["counts"]["unwritable"], done)
        check_unchanged(files, cache=clean / "log" / "digests.json")
        kept, expected = _kept(clean, cleaned, Path(selection) if selection else None)
        request = {
            "corpus": resolve(clean, cleaned),
            "files": files,
            "kept": kept,
            "expected": expected,
            "output": output,
            "threads": threads or os.cpu_count() or 1,
        }
        write_whole(record, plan)  # a record without files: what stands there is ours, and unfinished
        try:
            with Progress("write", total=sum(file["bytes"] for file in files), unit="B", quiet=quiet) as bar:
                found: dict[str, Any] = _core.write(request, bytes_progress(bar))
        except BaseException:
            if not any(path.exists() for path in paths):
                record.unlink(missing_ok=True)  # nothing came of it: whatever gets these names is not ours
            raise
        manifest = _publish_record(record, plan, found)
    return Written(paths, found["pairs"], found["unwritable"], manifest)


@contextmanager
def _lock(folder: Path) -> Generator[None]:
    """Waits for its turn: of two processes that write the same two files, each must write both."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


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
        if name.is_symlink() or (name.exists() and not name.is_file()):
            raise UsageError(f"{name} is a link, a folder or a device: give the names of plain files")
        if any(name.exists() and one.exists() and name.samefile(one) for one in inputs):
            raise UsageError(f"{name} is an input, and would be written: give other names to the outputs")
    for path in paths if not (force or record.exists()) else ():
        for name in (path, path.with_name(path.name + ".tmp")):
            if name.exists():
                raise CatpruneError(f"{name} exists: give another name, or --force to replace it")


def record_of(paths: Sequence[Path]) -> Path:
    """The record of what was written, beside the first file."""
    return paths[0].with_name(paths[0].name + ".catprune.json")


def describe_output(paths: Sequence[Path]) -> dict[str, str]:
    """The outputs as the pass takes them.

    Raises:
        UsageError: not two files, nor one TSV; or a compression that is not written.
    """
    for path in paths:
        if not path.name:
            raise UsageError(f"{path} is a folder: give the name of a file")
        if path.suffix in (".bz2", ".xz", ".zip", ".lz4"):
            raise UsageError(f"{path}: {path.suffix} is not written: give .gz, .zst or none of them")
    if len(paths) == 2 and all(path.name.endswith(_TSV) for path in paths):
        raise UsageError("a .tsv file holds both sides: give one, or two files of other names")
    if len(paths) == 2 and os.path.realpath(paths[0]) != os.path.realpath(paths[1]):
        return {"format": "moses", "source": str(paths[0]), "target": str(paths[1])}
    if len(paths) == 1 and paths[0].name.endswith(_TSV):
        return {"format": "tsv", "path": str(paths[0])}
    raise UsageError("give two different output files, or one whose name ends in .tsv, .tsv.gz or .tsv.zst")


def _kept(clean: Path, cleaned: dict[str, Any], selection: Path | None) -> tuple[dict[str, Any], int]:
    """Which rows are written, as the pass takes it, and how many they are; checked to be what was made."""
    verify_shards(clean, cleaned)
    if selection is None:
        shards = [str(clean / shard["file"]) for shard in cleaned["shards"]]
        return {"clean": shards}, cleaned["counts"]["kept"]
    selected = read_manifest(selection, step="select")
    if selected["options"].get("rows"):
        raise CatpruneError(f"{selection} holds row numbers alone: select without --rows")
    origin = trace(selection, selected, "clean")
    if origin is not None and digest_manifest(origin) != digest_manifest(clean):
        raise CatpruneError(f"{selection} was made from {origin}, not from {clean}: give the folder it was made from")
    verify_shards(selection, selected)
    shards = {
        "selection": [str(selection / shard["file"]) for shard in selected["shards"]],
        "clean": [str(clean / shard["file"]) for shard in cleaned["shards"]],
    }
    return {"selection": shards}, selected["counts"]["kept"]


def _finished(record: Path, plan: bytes, paths: tuple[Path, ...], *, force: bool) -> dict[str, Any] | None:
    """The record of equal work whose files are as it says; None if there is work to do and nothing in its way."""
    old = read_json(record) if record.is_file() else {}
    equal = bool(old) and all(old.get(key) == value for key, value in json.loads(plan).items())
    if equal and "files" not in old:
        return None
    if equal and all(path.is_file() for path in paths):
        digests = [_core.digest_file(str(path)) for path in paths]
        if digests == [file["digest"] for file in old["files"]]:
            return old
    for path in paths:
        if path.exists() and not force:
            raise CatpruneError(
                f"{path} holds another selection, or was changed since it was written: give another name, "
                "or --force to replace it"
            )
    return None


def _publish_record(record: Path, plan: bytes, found: dict[str, Any]) -> dict[str, Any]:
    """Write the record beside the files; it names their digests, so it comes last."""
    files = [{**file, "path": os.path.relpath(file["path"], record.parent)} for file in found["files"]]
    counts = {name: found[name] for name in ("pairs", "unwritable", "unwritable_rows")}
    manifest: dict[str, Any] = {**json.loads(plan), "counts": counts, "files": files}
    write_whole(record, to_json(manifest))
    return manifest
