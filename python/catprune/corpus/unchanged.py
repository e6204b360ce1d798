"""Whether the files that a corpus was read from are as they were: size, time and inode, or their digests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import digest_file
from catprune.errors import CatpruneError
from catprune.workspace.files import read_json, to_json, write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catprune.boundary import FileRead


def cleaned_files(clean: Path, manifest: dict[str, Any]) -> list[FileRead]:
    """Path, size and digest of every file that cleaning read, in order."""
    base = clean.absolute()
    files = [file for one in manifest["inputs"] for file in one["files"]]
    return [file_at(file, os.path.normpath(base / file["path"])) for file in files]


def file_at(file: Mapping[str, Any], path: str) -> FileRead:
    """A file of a manifest, with another path."""
    return {"path": path, "bytes": file["bytes"], "digest": file["digest"]}


def look(path: str) -> list[int]:
    """What tells without reading that a file is as it was: size, modification time and inode."""
    stat = Path(path).stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def remember(files: Sequence[FileRead], before: Sequence[list[int]], *, cache: Path) -> None:
    """Note how the files looked that a pass has just read; one that has changed meanwhile is not noted."""
    looks = {
        file["path"]: [*first, file["digest"]]
        for file, first in zip(files, before, strict=True)
        if look(file["path"]) == first
    }
    write_whole(cache, to_json(looks))


def check_unchanged(files: Sequence[FileRead], *, cache: Path, verify: bool = False) -> None:
    """Fails if a file is not the one that was cleaned.

    A file whose size, time and inode are those of the last look is trusted; any other is hashed again.

    Args:
        files: path, size and digest of each.
        cache: the JSON file that remembers the last look.
        verify: hash every file, whatever the last look said.

    Raises:
        CatpruneError: a file is missing or holds other bytes.
    """
    known = read_json(cache) if cache.is_file() and not verify else {}
    looks: dict[str, Any] = {}
    for file in files:
        path = file["path"]
        try:
            now = [*look(path), file["digest"]]
        except FileNotFoundError:
            raise CatpruneError(
                f"{path} is gone since it was cleaned: restore it, or clean again with --force"
            ) from None
        if known.get(path) != now and digest_file(path) != file["digest"]:
            raise CatpruneError(
                f"{path} changed since it was cleaned ({file['bytes']} bytes then, {now[0]} now): "
                "restore it, or clean again with --force"
            )
        looks[path] = now
    if looks != known:
        write_whole(cache, to_json(looks))
