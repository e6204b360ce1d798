"""Plans, manifests and records: JSON that carries its own digest, and the digest of the work that it describes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from catprune._core import __version__, digest_bytes
from catprune.errors import CatpruneError
from catprune.workspace.files import read_json, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: The version of plans and manifests; it rises when their content changes its meaning.
FORMAT = 4
#: The version of each step's results; it rises when a step gives other results for the same inputs and options.
RESULTS = {
    "clean": 2,
    "tokenize": 2,
    "train": 2,
    "score": 2,
    "score --scorer": 1,
    "select": 1,
    "write": 1,
    "evaluate": 2,
}
#: Keys that say who did the work and how: equal work may differ in them.
ABOUT = frozenset({"catprune", "digest", "threads"})
_DIGEST = re.compile("[0-9a-f]{32}")
#: Keys of a file's or folder's place, which is not what it holds.
_PLACES = frozenset({"path", "folder"})


def seal(values: Mapping[str, Any]) -> bytes:
    """Return JSON of values with the version of catprune, if they have none, and with the digest of it all."""
    content = {"catprune": __version__, **{key: value for key, value in values.items() if key != "digest"}}
    return to_json({**content, "digest": digest_bytes(to_json(content))})


def read_sealed(path: Path, *, remedy: str = "run its step again with force = true") -> dict[str, Any]:
    """Read what `seal` wrote, without the digest.

    Raises:
        CatpruneError: the file was changed since, or is of another format.
    """
    data = path.read_bytes()
    values = read_json(path, remedy=remedy)
    digest = values.pop("digest", None)
    try:
        is_whole = data == to_json({**values, "digest": digest}) and digest == digest_bytes(to_json(values))
    except (CatpruneError, ValueError):
        is_whole = False
    if is_whole:
        return values
    if "format" in values and values["format"] != FORMAT:
        raise CatpruneError(f"{path} has format {values['format']}, this catprune reads format {FORMAT}: {remedy}")
    raise CatpruneError(f"{path} was changed since it was written: {remedy}")


def digest_work(values: Mapping[str, Any]) -> str:
    """Return the xxh3-128 digest of a plan or manifest: equal for equal work, wherever and by whatever it was done."""
    return digest_bytes(to_json(_without_places({key: value for key, value in values.items() if key not in ABOUT})))


def is_same_work(old: Any, new: Any) -> bool:
    """Whether two plans differ at most in the places of folders and files of which they name the content."""
    if isinstance(old, dict) and isinstance(new, dict):
        before: dict[str, Any] = old
        now: dict[str, Any] = new
        is_pinned = any(isinstance(value, str) and _DIGEST.fullmatch(value) for value in now.values())
        return before.keys() == now.keys() and all(
            (is_pinned and key in _PLACES) or is_same_work(before[key], now[key]) for key in now
        )
    if isinstance(old, list) and isinstance(new, list):
        entries: list[Any] = old
        others: list[Any] = new
        return len(entries) == len(others) and all(map(is_same_work, entries, others))
    return old == new


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        entries: dict[str, Any] = value
        places = {*_PLACES, *(("source", "target") if entries.get("format") == "moses" else ())}
        return {key: _without_places(entry) for key, entry in entries.items() if key not in places}
    if isinstance(value, list):
        items: list[Any] = value
        return [_without_places(item) for item in items]
    return value
