"""Inputs of a clean folder that are now elsewhere: the same bytes at another place are the same input."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import digest_file
from catprune.corpus.inputs import input_paths
from catprune.errors import CatpruneError
from catprune.workspace.files import resolve_place
from catprune.workspace.sealed import digest_work, read_sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def find_moved(clean: Path) -> Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[Any, Any] | None]:
    """Return the `moved` of the `StepFolder` of a clean folder."""

    def moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        before = old["reads"]["inputs"]
        now, tags = new["reads"]["inputs"][: len(before)], new["reads"]["tags"]
        if (before, old["reads"]["tags"]) == (now, tags):
            return None
        try:
            if not has_bytes_of(clean, now, tags):
                return None
        except CatpruneError:
            return None  # a changed manifest is the folder's matter
        manifest = read_sealed(clean / "manifest.json")
        inputs = [_at(entry, place) for entry, place in zip(manifest["inputs"], now, strict=True)]
        places = {"inputs": inputs, "tags": None if tags is None else {**manifest["tags"], **tags}}
        return {**old, "reads": {**old["reads"], "inputs": now, "tags": tags}}, places

    return moved


def has_bytes_of(clean: Path, inputs: Sequence[Mapping[str, Any]], tags: Mapping[str, str] | None) -> bool:
    """Whether inputs are those of a finished clean folder by their bytes; all files are hashed.

    Args:
        clean: the folder.
        inputs: as plans of the folder name them.
        tags: the file of tags, likewise.
    """
    if not (clean / "manifest.json").is_file():
        return False
    manifest = read_sealed(clean / "manifest.json")
    planned = {"inputs": manifest["reads"]["inputs"], "tags": manifest["reads"]["tags"]}
    if digest_work(planned) != digest_work({"inputs": list(inputs), "tags": tags}):
        return False
    files = [file for entry in manifest["inputs"] for file in entry["files"]] + ([manifest["tags"]] if tags else [])
    places = [place for entry in inputs for place in input_paths(entry)] + ([tags["path"]] if tags else [])
    return all(_is(Path(resolve_place(clean, place)), file) for place, file in zip(places, files, strict=True))


def _is(path: Path, file: Mapping[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == file["bytes"] and digest_file(str(path)) == file["digest"]


def _at(entry: dict[str, Any], place: Mapping[str, Any]) -> dict[str, Any]:
    """An input of a manifest with the places of another one."""
    files = [{**file, "path": path} for file, path in zip(entry["files"], input_paths(place), strict=True)]
    return {**entry, **place, "files": files}
