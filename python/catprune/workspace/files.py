"""Files that are written whole or not at all, their JSON, and appended lines of logs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from catprune.errors import CatpruneError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping


@contextlib.contextmanager
def whole_file(path: Path) -> Generator[IO[bytes]]:
    """Write `<path>.tmp`, sync it, rename it to `path`, and sync the folder; writers of one file take turns.

    Raises:
        OSError: with the name of the file; nothing is left behind.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with _open_alone(temporary, error_name=str(path)) as stream:
        try:
            stream.truncate(0)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            temporary.rename(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            error.filename = str(path)
            raise
    sync_folder(path.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to a file that has its name when it is whole; see `whole_file`."""
    with whole_file(path) as stream:
        stream.write(data)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append a line of JSON to a log.

    Raises:
        OSError: with the name of the file.
    """
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")
    except OSError as error:
        error.filename = str(path)
        raise


def _open_alone(temporary: Path, *, error_name: str) -> IO[bytes]:
    """Open and lock the file of this name: what a killed process left is taken over, what a living one writes is not.

    The name is looked at again under the lock, because the writer before us has renamed the file that we waited for.
    """
    while True:
        try:
            stream = temporary.open("ab")
        except OSError as error:
            error.filename = error_name
            raise
        fcntl.flock(stream, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), temporary.stat()):
                return stream
        stream.close()


def to_json(value: Mapping[str, Any]) -> bytes:
    """One way to write JSON: sorted keys, two spaces, a final newline; NaN is refused."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError as error:
        # No name holds a quotation mark that JSON has not escaped.
        name = text[text.rindex('"', 0, error.start) + 1 : text.index('"', error.end)]
        raise CatpruneError(f"{name.encode(errors='replace').decode()} is not UTF-8: rename it") from None


def read_json(path: Path, *, remedy: str = "remove it and run the step again") -> dict[str, Any]:
    """Read a JSON object: one that catprune wrote, unless another `remedy` is told where it is damaged."""
    try:
        value: Any = json.loads(path.read_bytes())
    except ValueError as error:
        raise CatpruneError(f"{path} is not JSON ({error}): {remedy}") from None
    if not isinstance(value, dict):
        raise CatpruneError(f"{path} holds no JSON object: {remedy}")
    return value  # pyright: ignore[reportUnknownVariableType]


def holds_files(path: Path, *, but: frozenset[str]) -> bool:
    """Whether there is anything in a folder but entries of these names and what an interrupted run did not finish."""
    entries = [entry for entry in path.iterdir() if entry.name not in but]
    return any(one.is_file() and one.suffix != ".tmp" for entry in entries for one in [entry, *entry.rglob("*")])
