"""The run file that `prune` writes: its sections as TOML, beside what a user added, and how two of them differ."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from catprune.errors import CatpruneError
from catprune.pipeline.run_file import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The keys that `prune` decides; other keys, and other selections, are the user's.
_OWN = ("out", "seed", "report", "clean", "tokenize", "train", "scorer", "select", "write")
_HEAD = f"#:schema {SCHEMA}\n# Written by `catprune prune`; `catprune run` with this file repeats the run.\n"
#: Characters of a value that a difference shows.
_LONGEST = 300
#: The name of the selection that `prune` makes.
SELECTION = "pruned"


def to_toml(sections: Mapping[str, Any], before: str | None = None) -> str:
    """Return the text of a run file.

    Args:
        sections: the sections that `prune` decides.
        before: the text of the run file that this one replaces: what `prune` does not decide stays, with its comments.

    Raises:
        CatpruneError: a name cannot be written in UTF-8, or `before` is no TOML.
    """
    document = _parse(_HEAD if before is None else before)
    for name in _OWN:
        table = _plain(sections.get(name))
        present: Any = document.get(name)
        if name == "select" and present:
            if own := [entry for entry in present if entry.get("name") == SELECTION]:
                _update(own[0], table[0])
            else:
                present.append(table[0])
        elif table is None:
            document.pop(name, None)
        elif isinstance(present, dict) and isinstance(table, dict):
            _update(present, table)
        elif present != table:
            document[name] = table
    text = tomlkit.dumps(document)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        name = text[: error.start].rpartition('"')[2] + text[error.start :].partition('"')[0]
        raise CatpruneError(f"the name {json.dumps(name)} is not UTF-8: rename the file") from None
    return text


def _update(table: Any, values: Mapping[str, Any]) -> None:
    """Give a table these values; what is equal stays as it is written."""
    for key in [key for key in table if key not in values]:
        del table[key]
    for key, value in values.items():
        if table.get(key) != value:
            table[key] = value


def _parse(text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise CatpruneError(f"the run file cannot be read ({error}): repair or remove it") from None


def _plain(value: Any) -> Any:
    """A value as TOML has it: lists, and whole numbers without a fraction."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the keys that `prune` decides and whose values differ, with both values."""
    return list(_differences(_decided(before), _decided(_plain(now)), ""))


def _decided(sections: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in sections.items() if name in _OWN}
    selections = [section for section in own.get("select", []) if section.get("name") == SELECTION]
    return {**own, "select": selections[0] if selections else {}}


def _differences(before: Any, now: Any, name: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):  # pyright: ignore[reportUnknownArgumentType]
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))  # pyright: ignore
    elif before != now:
        yield f"{name}: {_shown(before)} before, {_shown(now)} now"


def _shown(value: Any) -> str:
    text = "the default" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
