"""Inputs that are not plain files of this machine: URLs are copied, zip archives of a Moses pair unpacked, once."""

from __future__ import annotations

import contextlib
import lzma
import re
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from catprune._core import digest_bytes, digest_file
from catprune.errors import CatpruneError, UsageError, require
from catprune.workspace.files import to_json, whole_file, write_whole
from catprune.workspace.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

#: The protocols that are read, and the package that reads each through fsspec.
PROTOCOLS = {"https": "aiohttp", "http": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub"}
#: The Moses archives of OPUS (https://opus.nlpl.eu): opus://CORPUS/VERSION/en-de.
_OPUS = "https://object.pouta.csc.fi/OPUS-{corpus}/{version}/moses/{pair}.txt.zip"
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://.+", re.DOTALL)
#: Bytes that are copied at a time, and bytes of the disk that stay free.
_PIECE, _FREE = 1 << 22, 1 << 28


def is_address(name: object) -> bool:
    """Whether a name is a URL, not a file of this machine."""
    return isinstance(name, str) and _ADDRESS.fullmatch(name) is not None


def is_archive(name: object) -> bool:
    """Whether a name is that of a zip archive."""
    return isinstance(name, str | Path) and str(name).lower().endswith(".zip")


def fetch(address: str, folder: Path, *, quiet: bool = True) -> Path:
    """Copy what is at a URL to a folder, whole or not at all; a copy that is there is not made again.

    Credentials come from the environment, as the packages of fsspec read them. Next to the copy, a JSON file has the
    URL without its query, the size and the digest.

    Raises:
        UsageError: the protocol is unknown, or the URL has a password, a wildcard or no name of a file.
        MissingExtra: the package of the protocol is not installed.
        CatpruneError: the server refuses, the copy is not of the size announced, or the disk is too small.
    """
    shown = _shown(address)
    copy = folder / copy_name(address)
    about = copy.with_name(f"{copy.name}.json")
    if not copy.is_file():
        about.unlink(missing_ok=True)  # of an earlier copy
        try:
            _fetch(_url_of(address), copy, shown=shown, quiet=quiet)
        except BaseException:
            with contextlib.suppress(OSError):
                folder.rmdir()  # nothing else is in it
            raise
    if not about.is_file():
        values = {"url": shown, "bytes": copy.stat().st_size, "xxh3_128": digest_file(copy)}
        write_whole(about, to_json(values))
    return copy


def _fetch(url: str, copy: Path, *, shown: str, quiet: bool) -> None:
    """Copy what is at a URL to a file."""
    require("remote", "fsspec", PROTOCOLS[url.partition("://")[0]])
    import fsspec

    copy.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError), whole_file(copy) as file:
        if copy.is_file():
            raise FileExistsError(copy)  # another process copied it, while this one waited
        with _reading(shown):
            opened: Any = fsspec.open(url, mode="rb", compression=None)
            stream = opened.open()
        size = getattr(stream, "size", None)
        with contextlib.closing(stream), Progress(f"copy {shown}", total=size, unit="B", quiet=quiet) as bar:
            _copy(stream, file, size=size, shown=shown, folder=copy.parent, bar=bar)


@contextlib.contextmanager
def _reading(shown: str) -> Generator[None]:
    """Explain errors of a server; the packages raise many types, and some have the whole URL in their text."""
    try:
        yield
    except Exception as error:
        raise CatpruneError(f"{shown} cannot be read ({_reason(error)}): check the URL and the credentials") from None


def _copy(stream: Any, file: Any, *, size: int | None, shown: str, folder: Path, bar: Progress) -> None:
    """Copy a stream, as long as it has the size announced and the disk has room."""
    done = 0
    if size is not None and size > shutil.disk_usage(folder).free - _FREE:
        raise CatpruneError(f"{shown} has {size:,} bytes, and the disk of {folder} has no room: use another folder")
    while True:
        with _reading(shown):
            piece = stream.read(_PIECE)
        if not piece:
            break
        done += len(piece)
        if size is not None and done > size:
            raise CatpruneError(f"{shown} has more than the {size:,} bytes announced: run the same command again")
        if shutil.disk_usage(folder).free < _FREE:
            raise CatpruneError(f"the disk of {folder} is full after {done:,} bytes of {shown}: use another folder")
        file.write(piece)
        bar.to(done)
    if size is not None and done < size:
        raise CatpruneError(f"{shown} ended after {done:,} of {size:,} bytes: run the same command again")


def _shown(address: str) -> str:
    """Return a URL as it may be shown and written: without query, which may be a signature.

    Raises:
        UsageError: it cannot be read.
    """
    protocol = address.partition("://")[0].lower()
    if protocol not in (*PROTOCOLS, "opus") or "::" in address:
        raise UsageError(
            f"{protocol}:// is not supported: give a file, or a URL with {', '.join((*PROTOCOLS, 'opus'))}"
        )
    try:
        parts = urlsplit(address)
    except ValueError:
        raise UsageError("a URL among the inputs cannot be read: check it") from None
    if "@" in parts.netloc and protocol != "hf":
        raise UsageError(
            f"a {protocol} URL has a user name or password: leave it out, and give credentials in the environment"
        )
    shown = f"{protocol}://{parts.netloc}{parts.path}"
    if any(wildcard in parts.path for wildcard in "*[{"):
        raise UsageError(f"{shown} has a wildcard: give each URL")
    return shown


def copy_name(address: str) -> str:
    """Return the name of a copy: a digest of the URL, then the name of the file, which has its language and format."""
    url = _url_of(address)
    path = urlsplit(url).path
    name = PurePosixPath(path).name
    if path.endswith("/") or not name or name in (".", ".."):
        raise UsageError(f"{_shown(address)} has no name of a file: give the URL of a file")
    return f"{digest_bytes(url.encode())[:16]}-{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"


def _url_of(address: str) -> str:
    """Return the URL that is read: with the protocol in lower case, and of an archive for a corpus of OPUS."""
    protocol, _, place = address.partition("://")
    url = f"{protocol.lower()}://{place}"
    return _opus(url) if url.startswith("opus://") else url


def _opus(address: str) -> str:
    """Return the URL of the Moses archive of an OPUS corpus."""
    match = re.fullmatch(r"opus://([\w.-]+)/([\w.-]+)/([a-zA-Z_]+-[a-zA-Z_]+)", address)
    if match is None:
        raise UsageError(
            f"{address} cannot be read: give opus://CORPUS/VERSION/PAIR, like opus://Tatoeba/v2023-04-12/de-en"
        )
    return _OPUS.format(corpus=match[1], version=match[2], pair=match[3])


def _reason(error: Exception) -> str:
    """Return why a URL cannot be read, without the text of the error, which may have a signature in it."""
    causes = [error, *filter(None, (error.__cause__, error.__context__))]  # fsspec hides the causes of some
    status = next((code for cause in causes if isinstance(code := getattr(cause, "status", None), int)), None)
    if status is not None:
        return f"the server answered {status}"
    if isinstance(error, FileNotFoundError):
        return "not found, or the server cannot be reached"
    return f"{type(error).__name__}{f' {error.errno}' if isinstance(error, OSError) and error.errno else ''}"


def unpack(archive: Path, languages: tuple[str | None, str | None], folder: Path) -> str:
    """Unpack the Moses pair of a zip archive to a folder; a pair that is there is not unpacked again.

    Returns:
        The template of the pair, like `folder/NAME.{en,de}`.

    Raises:
        UsageError: the languages are not given.
        CatpruneError: the archive is damaged, or does not hold one file of each language.
    """
    source, target = languages
    if not source or not target:
        raise UsageError(
            f"{archive} is a zip archive: give source_lang and target_lang, which name its two files, or unpack it"
        )
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [_member(opened, language, archive) for language in (source, target)]
            if members[0].filename.rpartition(".")[0] != members[1].filename.rpartition(".")[0]:
                names = " and ".join(member.filename for member in members)
                raise CatpruneError(f"{archive}: {names} are not a pair: unpack it, and give the two files")
            # Other text makes other names: files that are there are those of this text.
            content = [(member.CRC, member.file_size) for member in members]
            stem = f"{digest_bytes(str(content).encode())[:16]}-{_base(members[0])}"
            folder.mkdir(parents=True, exist_ok=True)
            for member, language in zip(members, (source, target), strict=True):
                _unpack_member(opened, member, folder / f"{stem}.{language}")
    # zipfile raises NotImplementedError for compressions that it does not know.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        raise CatpruneError(
            f"{archive} cannot be unpacked ({error}): fetch it again; if it is a copy of a URL, remove it and run the "
            "same command again"
        ) from None
    return str(folder / f"{stem}.{{{source},{target}}}")


def _member(opened: zipfile.ZipFile, language: str, archive: Path) -> zipfile.ZipInfo:
    # macOS adds files of its own to archives.
    files = [member for member in opened.infolist() if not (member.is_dir() or member.filename.startswith("__MACOSX/"))]
    found = [member for member in files if member.filename.endswith(f".{language}")]
    if len(found) != 1:
        names = f" ({', '.join(member.filename for member in files[:6])})" if files else ""
        raise CatpruneError(
            f"{archive} has {len(found) or 'no'} files that end in .{language}{names}: check the languages"
        )
    if found[0].flag_bits & 1:
        raise CatpruneError(f"{archive} is encrypted: unpack it, and give the two files")
    return found[0]


def _base(member: zipfile.ZipInfo) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", PurePosixPath(member.filename).name.rpartition(".")[0]) or "text"


def _unpack_member(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Unpack a member to a path of our choice; zipfile compares its size and checksum."""
    if path.is_file() and path.stat().st_size == member.file_size:
        return
    if member.file_size > shutil.disk_usage(path.parent).free - _FREE:
        raise CatpruneError(
            f"{member.filename} has {member.file_size:,} bytes, and the disk of {path.parent} has no room: use another "
            "folder"
        )
    with opened.open(member) as stream, whole_file(path) as file:
        shutil.copyfileobj(stream, file, _PIECE)


def bring(
    names: Iterable[str | Path],
    languages: tuple[str | None, str | None],
    folder: Path,
    *,
    quiet: bool,
) -> list[str | Path]:
    """Return the names of inputs with URLs replaced by their copies, and zip archives by templates of their pairs."""
    local = [fetch(str(name), folder, quiet=quiet) if is_address(name) else name for name in names]
    return [unpack(Path(name), languages, folder) if _begins_like_zip(name) else name for name in local]


def stand_in(name: str | Path, languages: tuple[str | None, str | None]) -> str | Path:
    """Return a name of the form that `bring` will return for a URL or an archive; other names stay."""
    local = copy_name(str(name)) if is_address(name) else name
    if is_archive(local) and all(languages):
        return f"{local}.{{{languages[0]},{languages[1]}}}"
    return local


def _begins_like_zip(name: str | Path) -> bool:
    """Whether a name and the first bytes are those of a zip archive; other files are refused where they are read."""
    if not is_archive(name) or not Path(name).is_file():
        return False
    with Path(name).open("rb") as file:
        return file.read(2) == b"PK"
