"""Write: the kept pairs (texts of a monolingual corpus) as files, in corpus order."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune import _core
from catprune.corpus.inputs import is_monolingual, resolve
from catprune.corpus.kept_rows import kept_rows
from catprune.corpus.names import format_of
from catprune.corpus.unchanged import check_unchanged, cleaned_files, file_at
from catprune.errors import CatpruneError, OtherPlan, UsageError
from catprune.workspace.common_options import several
from catprune.workspace.files import relative_place, resolve_place, to_json, write_whole
from catprune.workspace.locks import lock_file
from catprune.workspace.manifest import describe_folder, read_manifest
from catprune.workspace.options import takes
from catprune.workspace.progress import Progress, bytes_progress
from catprune.workspace.resources import choose_threads
from catprune.workspace.sealed import FORMAT, RESULTS, is_same_work, read_sealed, seal
from catprune.writing.options import WriteOptions
from catprune.writing.outputs import (
    WITH_COLUMNS,
    check_added,
    describe_output,
    fields_matter,
    name_sides,
    output_paths,
    record_of,
    refuse_outputs,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from catprune.boundary import Added, FileRead, OutputsRequest, WriteRequest, WriteResult


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
    writing = _Writing.read(options)
    with _locked({path.parent for path in writing.paths}):
        inputs = [Path(file["path"]) for file in [*writing.files, *writing.tag_files]]
        refuse_outputs(writing.paths, inputs, force=options.force)
        done = _finished(writing.record, writing.plan, writing.paths, force=options.force)
        if done is None:
            return writing.result(writing.work(), is_new=True)
        return writing.result(done, is_new=False)


@dataclass(frozen=True, slots=True)
class _Writing:
    """The checked options of a call.

    Attributes:
        options: as they were given.
        cleaned: the manifest of the clean folder.
        kept_paths: the files of the kept pairs.
        paths: all outputs.
        outputs: the outputs as the pass takes them.
        plan: what decides the bytes of the outputs.
        files, tag_files: the inputs and the tags of cleaning, with their digests.
    """

    options: WriteOptions
    cleaned: dict[str, Any]
    kept_paths: tuple[Path, ...]
    paths: tuple[Path, ...]
    outputs: OutputsRequest
    plan: dict[str, Any]
    files: list[FileRead]
    tag_files: list[FileRead]

    @classmethod
    def read(cls, options: WriteOptions) -> _Writing:
        """Check the options against each other and against the clean folder; make the folders of the outputs."""
        clean, tags, dropped = Path(options.clean), options.tags, several(options.dropped)
        kept_paths = tuple(Path(path) for path in several(options.outputs))
        paths = output_paths(kept_paths, dropped=dropped, tags=tags)
        cleaned = read_manifest(clean, step="clean")
        if (tags or "tag" in options.with_) and not cleaned["tags"]:
            raise UsageError(f"{clean} was cleaned without tags: leave tags out, or clean with tags")
        names = name_sides(options.fields, cleaned["options"], monolingual=is_monolingual(cleaned))
        outputs: OutputsRequest = {
            "output": describe_output(kept_paths, names),
            "dropped": describe_output([Path(path) for path in dropped], names) if dropped else None,
            "tags": str(tags) if tags else None,
        }
        check_added(options.with_, outputs, has_scores=options.selection is not None)
        choose_threads(options.threads)
        base, selection = paths[0].parent, options.selection
        plan = {
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
            "fields": names if fields_matter(outputs) else None,
            "with": list(options.with_),
            **({"monolingual": True} if is_monolingual(cleaned) else {}),
        }
        tagged = cleaned["tags"]
        tag_files = [file_at(tagged, resolve_place(clean, tagged["path"]))] if tagged else []
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        plan = json.loads(to_json(plan))
        return cls(options, cleaned, kept_paths, paths, outputs, plan, cleaned_files(clean, cleaned), tag_files)

    @property
    def record(self) -> Path:
        """The record next to the first output."""
        return record_of(self.paths)

    def work(self) -> dict[str, Any]:
        """Write the outputs and their record."""
        request = self._request()
        write_whole(self.record, seal(self.plan))  # a record without files marks unfinished outputs of ours
        total = sum(file["bytes"] for file in self.files)
        try:
            with Progress("write", total=total, unit="B", quiet=self.options.quiet) as bar:
                result = _core.write(request, bytes_progress(bar))
        except BaseException:
            if not any(path.exists() for path in self.paths):
                self.record.unlink(missing_ok=True)  # nothing was written: later files of these names are not ours
            raise
        return _publish_record(self.record, self.plan, result)

    def _request(self) -> WriteRequest:
        """Return the request of the pass.

        Raises:
            CatpruneError: an input changed since it was cleaned.
        """
        options, clean, added = self.options, Path(self.options.clean), self.options.with_
        check_unchanged(self.files, cache=clean / "log" / "digests.json")
        corpus, files = resolve(clean, self.cleaned), self.files
        if options.tags or "tag" in added:
            files = files + self.tag_files
            corpus["tags"] = self.tag_files[0]["path"]
        kept, expected = kept_rows(clean, self.cleaned, Path(options.selection) if options.selection else None)
        if "score" in added and kept != "all" and "selection" in kept:
            corpus["scores"] = kept["selection"]["selection"]
        return {
            **self.outputs,
            "added": cast("Sequence[Added]", added),
            "corpus": corpus,
            "files": files,
            "kept": kept,
            "expected": expected,
            "threads": choose_threads(options.threads),
        }

    def result(self, manifest: dict[str, Any], *, is_new: bool) -> Written:
        """Return the result that the record describes."""
        formats = {entry["format"] for entry in self.cleaned["inputs"]}
        counts = manifest["counts"]
        can_hold = format_of(self.paths[0]) in WITH_COLUMNS and len(self.kept_paths) == 1
        loses_fields = can_hold and not counts["whole"] and bool(formats & {*WITH_COLUMNS})
        names = ("pairs", "unwritable", "whole", "dropped", "dropped_unwritable")
        shown = {name: counts[name] for name in names}
        return Written(self.kept_paths, **shown, loses_fields=loses_fields, manifest=manifest, is_new=is_new)


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
