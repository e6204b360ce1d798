"""Atomic writes of files, JSON, and lines appended to logs."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tomllib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from catprune._core import digest_file
from catprune.errors import CatpruneError
from catprune.workspace.locks import lock_file

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping


@contextlib.contextmanager
def whole_file(path: Path, *, wait: bool = True) -> Generator[IO[bytes]]:
    """Write a file whole or not at all: write `<path>.tmp`, sync it, rename it to `path`, and sync the folder.

    Several writers of one file take turns; without `wait` the second one is refused.

    Raises:
        CatpruneError: another process writes the file.
        OSError: with the name of the file; the temporary file is removed.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with _open_alone(temporary, error_name=str(path), wait=wait) as stream:
        try:
            stream.truncate(0)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            temporary.rename(path)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(path)
            raise
    sync_folder(path.parent)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Generator[Path]:
    """Yield a temporary folder for files, sync it, and rename it to `folder`; a folder of that name is replaced.

    Raises:
        OSError: with the name of the file or folder; the temporary folder is removed.
    """
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in temporary.iterdir():
            sync_folder(path)  # files are synced in the same way
        sync_folder(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def write_digested(folder: Path, name: str, suffix: str, write: Callable[[IO[bytes]], None]) -> tuple[Path, bool]:
    """Write a file `<name><digest><suffix>` whole or not at all; its name follows from its content.

    A file of that name is replaced, in case that it was damaged; writers in one folder take turns.

    Returns:
        The path, and whether there was no such file before.

    Raises:
        OSError: with the name of the folder; nothing is left behind.
    """
    temporary = folder / "spool.tmp"
    with _open_alone(temporary, error_name=str(folder)) as stream:
        try:
            stream.truncate(0)
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
            path = folder / f"{name}{digest_file(str(temporary))}{suffix}"
            is_new = not path.exists()
            temporary.rename(path)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(folder)
            raise
    sync_folder(folder)
    return path, is_new


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to a file, whole or not at all; see `whole_file`."""
    with whole_file(path) as stream:
        stream.write(data)


def copy_whole(path: Path, copy: Path) -> None:
    """Copy a file, whole or not at all; see `whole_file`."""
    with path.open("rb") as source, whole_file(copy) as stream:
        shutil.copyfileobj(source, stream)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that the names in it survive a power cut; where a file system cannot, go on.

    Raises:
        OSError: with the name of the folder.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return  # a folder that may be written, but not read
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            error.filename = str(folder)
            raise
    finally:
        os.close(handle)


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append one line of JSON to a log.

    Raises:
        OSError: with the name of the file.
    """
    append_text(path, json.dumps(values) + "\n")


def append_text(path: Path, text: str) -> None:
    """Append text to a file at once, so that lines of several processes do not mix.

    Raises:
        OSError: with the name of the file.
    """
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        error.filename = str(path)
        raise


def _open_alone(temporary: Path, *, error_name: str, wait: bool = True) -> IO[bytes]:
    """Open and lock a temporary file. The file of a killed process is reused; that of a running process is waited for.

    The name is checked again under the lock: the writer before us has renamed the file that we waited for.
    """
    while True:
        try:
            stream = temporary.open("ab")
        except OSError as error:
            error.filename = error_name
            raise
        try:
            lock_file(stream, temporary, wait=wait)
        except BlockingIOError:
            stream.close()
            raise CatpruneError(f"another process writes {error_name}: wait for it or end it") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), temporary.stat()):
                return stream
        stream.close()


def relative_place(file: str | Path, folder: Path) -> str:
    """Return the place of a file or folder as plans and manifests in `folder` name it: a relative path.

    It leads through no links: a folder that is reached through links has the same places. The file itself may be a
    link: its name says its format.
    """
    path = Path(file)
    return os.path.relpath(Path(os.path.realpath(path.parent)) / path.name, os.path.realpath(folder))


class Places:
    """The places of many files, as `relative_place` (of a file, not of a folder) and `resolve_place` return them.

    Links are followed once for each folder of files, and names are joined as text: `Path` takes a hundred times as
    long.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.realpath(folder))
        self._parents: dict[str, str] = {}

    def relative(self, file: str | Path) -> str:
        """Return the place of a file, which is no folder."""
        parent, slash, name = str(file).rpartition("/")
        parent += slash
        if parent not in self._parents:
            place = os.path.relpath(os.path.realpath(parent), self._folder)
            self._parents[parent] = "" if place == "." else f"{place}/"
        return self._parents[parent] + name

    def resolve(self, place: str) -> str:
        """Return the absolute path of a place."""
        return os.path.normpath(f"{self._folder}/{place}")


def resolve_place(folder: Path, place: str) -> str:
    """Return the absolute path of a place that a plan or manifest in `folder` names; for many see `Places`."""
    return Places(folder).resolve(place)


def to_json(value: Mapping[str, Any]) -> bytes:
    """Write JSON so that equal values give equal bytes: sorted keys, a final newline, no NaN.

    The values of an object, and the values within these, have lines of their own: one for each shard or input.
    """
    parts = [f"  {_to_line(name)}: {_to_lines(value[name])}" for name in sorted(value)]
    text = "{\n" + ",\n".join(parts) + "\n}" if parts else "{}"
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError as error:
        # The name lies between quotation marks: JSON escapes those within names.
        name = text[text.rindex('"', 0, error.start) + 1 : text.index('"', error.end)]
        raise CatpruneError(
            f"the name {name.encode(errors='replace').decode()} is not UTF-8: rename the file"
        ) from None


def _to_line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _to_lines(value: Any) -> str:
    """Write an object or a list of objects or lists with a line for each, anything else on one line."""
    if isinstance(value, dict) and value:
        named: dict[str, Any] = value
        return "{\n" + ",\n".join(f"    {_to_line(name)}: {_to_line(named[name])}" for name in sorted(named)) + "\n  }"
    if isinstance(value, list | tuple) and value and all(isinstance(entry, dict | list | tuple) for entry in value):  # pyright: ignore[reportUnknownVariableType]
        return "[\n" + ",\n".join(f"    {_to_line(entry)}" for entry in value) + "\n  ]"  # pyright: ignore[reportUnknownVariableType]
    return _to_line(value)


def read_json(path: Path, *, remedy: str = "remove the file and run the step again") -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises:
        CatpruneError: the file is damaged; the message ends with `remedy`.
    """
    try:
        value: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CatpruneError(f"{path} is not JSON ({error}): {remedy}") from None
    if not isinstance(value, dict):
        raise CatpruneError(f"{path} holds no JSON object: {remedy}")
    return value  # pyright: ignore[reportUnknownVariableType]


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        CatpruneError: the file is not TOML, or nests too deeply or has longer numbers than Python reads.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CatpruneError(f"{path} is not TOML: {error}") from None


def holds_files(path: Path, *, but: frozenset[str]) -> bool:
    """Whether a folder holds files besides the entries named in `but` and temporary files of interrupted runs."""
    entries = [entry for entry in path.iterdir() if entry.name not in but]
    paths = [path for entry in entries for path in [entry, *entry.rglob("*")]]
    return any(path.is_file() and path.suffix != ".tmp" for path in paths)
