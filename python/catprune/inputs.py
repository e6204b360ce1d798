"""Inputs as users name them, and as steps pass them on."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import digest_file
from catprune.errors import CatpruneError, UsageError
from catprune.folder import read_json, to_json, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEMPLATE = re.compile(r"\{([^{},]+),([^{},]+)\}")
_ONE_FILE = (".tsv", ".tsv.gz", ".tsv.zst")


def parse_inputs(names: Sequence[str | Path], *, columns: tuple[int, int] = (1, 2)) -> list[dict[str, Any]]:
    """Two plain files are a Moses pair; otherwise each name is a `.tsv` file or a template like `wmt.{en,de}`.

    Args:
        names: as given on the command line.
        columns: numbers of the source and target column of TSV files, from 1.

    Returns:
        For each input `{"format": "moses", "source", "target"}` or
        `{"format": "tsv", "path", "source_column", "target_column"}`, paths absolute.

    Raises:
        UsageError: the names cannot be meant, or a file is named twice.
    """
    texts = [str(name) for name in names]
    if not texts:
        raise UsageError("no input: give two files, or TSV files, or templates like 'wmt.{en,de}'")
    if len(texts) == 2 and not any(_is_one_file(text) or _TEMPLATE.search(text) for text in texts):
        inputs = [_moses(*texts)]
    else:
        inputs = [_parse_one(text, columns) for text in texts]
    paths = [path for one in inputs for path in input_paths(one)]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"{path} is named twice")
    return inputs


def _is_one_file(text: str) -> bool:
    return text.endswith(_ONE_FILE)


def _moses(source: str, target: str) -> dict[str, Any]:
    return {"format": "moses", "source": str(Path(source).absolute()), "target": str(Path(target).absolute())}


def find_sides(text: str) -> tuple[str, str] | None:
    """The two names that a template like `wmt.{en,de}` stands for; None if it is no template.

    Raises:
        UsageError: two different templates in one name.
    """
    templates = {found[0]: found for found in _TEMPLATE.finditer(text)}
    if len(templates) > 1:
        raise UsageError(f"{text}: give the two sides in one way, not as {' and '.join(templates)}")
    for whole, found in templates.items():
        return text.replace(whole, found[1]), text.replace(whole, found[2])
    return None


def _parse_one(text: str, columns: tuple[int, int]) -> dict[str, Any]:
    if sides := find_sides(text):
        return _moses(*sides)
    if _is_one_file(text):
        source_column, target_column = columns
        if min(columns) < 1 or source_column == target_column:
            raise UsageError(f"columns {source_column},{target_column}: give two different numbers from 1")
        return {
            "format": "tsv",
            "path": str(Path(text).absolute()),
            "source_column": source_column,
            "target_column": target_column,
        }
    raise UsageError(f"{text}: give two files, or names that end in .tsv, or templates in quotes like 'wmt.{{en,de}}'")


def input_paths(one: dict[str, Any]) -> list[str]:
    """The files of an input, source first."""
    return [one["source"], one["target"]] if one["format"] == "moses" else [one["path"]]


def with_paths(one: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """The input with other paths, and only the keys that a pass reads."""
    if one["format"] == "moses":
        return {"format": "moses", "source": paths[0], "target": paths[1]}
    return {**{key: one[key] for key in ("format", "source_column", "target_column")}, "path": paths[0]}


def relative_input(one: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The input as it stands in a manifest in `folder`."""
    return with_paths(one, [os.path.relpath(path, folder.absolute()) for path in input_paths(one)])


def resolve(clean: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """The corpus that a finished clean folder describes, as every pass over text takes it."""
    base = clean.absolute()
    inputs = [
        with_paths(one, [os.path.normpath(base / path) for path in input_paths(one)]) for one in manifest["inputs"]
    ]
    return {"inputs": inputs, "max_line_bytes": manifest["options"]["max_line_bytes"]}


def cleaned_files(clean: Path, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Path, size and digest of every file that cleaning read, in order."""
    base = clean.absolute()
    files = [file for one in manifest["inputs"] for file in one["files"]]
    return [{**file, "path": os.path.normpath(base / file["path"])} for file in files]


def check_unchanged(files: Sequence[dict[str, Any]], *, cache: Path, verify: bool = False) -> None:
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
        path = str(file["path"])
        try:
            stat = Path(path).stat()
        except FileNotFoundError:
            raise CatpruneError(
                f"{path} is gone since it was cleaned: restore it, or clean again with --force"
            ) from None
        look = [stat.st_size, stat.st_mtime_ns, stat.st_ino, file["digest"]]
        if known.get(path) != look and digest_file(path) != file["digest"]:
            raise CatpruneError(
                f"{path} changed since it was cleaned ({file['bytes']} bytes then, {stat.st_size} now): "
                "restore it, or clean again with --force"
            )
        looks[path] = look
    if looks != known:
        write_whole(cache, to_json(looks))
