"""Whether the input files of a corpus are unchanged, by size, time and inode, or by digest."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.errors import CatpruneError
from catprune.workspace.files import Places, read_json, to_json, write_whole
from catprune.workspace.resources import digest_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catprune.boundary import FileRead


def cleaned_files(clean: Path, manifest: dict[str, Any]) -> list[FileRead]:
    """Return path, size and digest of every file that cleaning read, in order."""
    files = [file for read in manifest["inputs"] for file in read["files"]]
    places = Places(clean)
    return [file_at(file, places.resolve(file["path"])) for file in files]


def file_at(file: Mapping[str, Any], path: str) -> FileRead:
    """A file of a manifest, with another path."""
    return {"path": path, "bytes": file["bytes"], "digest": file["digest"]}


def look(path: str) -> list[int]:
    """Return size, modification time and inode: equal values mean an unchanged file."""
    stat = os.stat(path)  # noqa: PTH116  # `Path` takes as long as the call, and there may be many files
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def remember(files: Sequence[FileRead], before: Sequence[list[int]], *, cache: Path) -> None:
    """Cache the state of files that a pass has just read; a file that changed meanwhile is not cached.

    Without a cache the files are hashed again: a folder that cannot be written goes without.
    """
    looks = {
        file["path"]: [*first, file["digest"]]
        for file, first in zip(files, before, strict=True)
        if look(file["path"]) == first
    }
    _write_cache(cache, looks)


def check_unchanged(files: Sequence[FileRead], *, cache: Path, verify: bool = False) -> None:
    """Refuse files that changed since cleaning.

    A file with the cached size, time and inode is trusted; any other is hashed again.

    Args:
        files: path, size and digest of each.
        cache: the JSON file that holds the cached states.
        verify: hash every file, regardless of the cache.

    Raises:
        CatpruneError: a file is missing or was changed.
    """
    known = {} if verify else _read_cache(cache)
    looks: dict[str, Any] = {}
    for file in files:
        path = file["path"]
        try:
            now = [*look(path), file["digest"]]
        except FileNotFoundError:
            raise CatpruneError(
                f"{path} is missing since cleaning: restore the file; if it was moved, give its new path to "
                "`catprune clean`, or change it in the run file: equal files are not cleaned again"
            ) from None
        looks[path] = now
    unknown = [file for file in files if known.get(file["path"]) != looks[file["path"]]]
    for file, digest in zip(unknown, digest_all([file["path"] for file in unknown]), strict=True):
        path = file["path"]
        if digest != file["digest"]:
            raise CatpruneError(
                f"{path} changed since it was cleaned ({file['bytes']} bytes then, {looks[path][0]} now): "
                "restore the file, or clean again with force = true"
            )
    if known | looks != known:
        _write_cache(cache, known | looks)


def _read_cache(cache: Path) -> dict[str, Any]:
    """The cached states; none if the cache is missing, damaged or not readable."""
    with contextlib.suppress(OSError, CatpruneError):
        return read_json(cache)
    return {}


def _write_cache(cache: Path, looks: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        write_whole(cache, to_json(looks))
