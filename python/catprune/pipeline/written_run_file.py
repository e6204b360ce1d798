"""The run file that `prune` writes: its sections as TOML, beside what a user added, and how two of them differ."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from catprune.errors import CatpruneError
from catprune.pipeline.run_file import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

#: The keys that `prune` decides, in the order of a new file. Other keys are the user's, and so are other selections
#: and scorers. Selections are last, so that those that a user appends follow them.
_OWN = ("out", "seed", "report", "clean", "tokenize", "train", "scorer", "write", "select")
_HEAD = f"#:schema {SCHEMA}\n# Written by `catprune prune`; `catprune run` with this file repeats the run.\n"
#: Characters of a value that a difference shows.
_LONGEST = 300
#: The name of the selection that `prune` makes.
SELECTION = "pruned"


@dataclass(frozen=True, slots=True)
class WrittenRunFile:
    """A run file before `prune` writes it.

    Attributes:
        text: its text; None if there is no file.
        values: its keys and values; empty if there is no file.
    """

    text: str | None
    values: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> WrittenRunFile:
        """Read a run file, if there is one.

        Raises:
            CatpruneError: it is not TOML in UTF-8.
        """
        if not path.is_file():
            return cls(None, {})
        try:
            text = path.read_text(encoding="utf-8-sig")
            return cls(text, tomlkit.parse(text).unwrap())
        except (ValueError, RecursionError, TOMLKitError) as error:
            raise CatpruneError(f"{path} is not TOML: {error}: repair or remove it") from None

    def differences(self, sections: Mapping[str, Any]) -> list[str]:
        """Return the keys that `prune` decides and whose values differ from these sections, with both values."""
        return list(_differences(_decided(self.values), _decided(_plain(sections)), ""))

    def with_sections(self, sections: Mapping[str, Any]) -> str:
        """Return the text with these sections: what `prune` does not decide stays, with its comments.

        Raises:
            CatpruneError: a name cannot be written in UTF-8.
        """
        document = tomlkit.parse(_HEAD if self.text is None else self.text)
        was, own = _decided(self.values), _plain(sections)
        for name in _OWN:
            table, present = own.get(name), document.get(name)
            if name in ("scorer", "select") and present:
                _replace_tables(document, name, was[name], table or [])
            elif table is None:
                document.pop(name, None)
            elif isinstance(present, dict):
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


def _replace_tables(document: Any, name: str, was: Sequence[Any], own: Sequence[Any]) -> None:
    """Replace `prune`'s tables of an array by others; the first changes in place, and the user's tables stay."""
    tables = document[name]
    places = [place for place, table in enumerate(tables) if table in was]
    for place, values in zip(places, own, strict=False):
        _update(tables[place], values)
    for place in reversed(places[len(own) :]):
        del tables[place]
    for values in own[len(places) :]:
        tables.append(values)
    if not tables:
        del document[name]


def _update(table: Any, values: Mapping[str, Any]) -> None:
    """Give a table these values; what is equal stays as it is written."""
    for key in [key for key in table if key not in values]:
        del table[key]
    for key, value in values.items():
        if table.get(key) != value:
            table[key] = value


def _plain(value: Any) -> Any:
    """A value as TOML has it: lists, and whole numbers without a fraction."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _decided(sections: Mapping[str, Any]) -> dict[str, Any]:
    """The sections that `prune` decides; of selections and scorers its own, the scorer of its method."""
    selections = [section for section in sections.get("select", []) if section.get("name") == SELECTION]
    method = selections[0].get("method") if selections else None
    scorers = [section for section in sections.get("scorer", []) if section == {"scorer": method}]
    own = {name: value for name, value in sections.items() if name in _OWN}
    return {**own, "scorer": scorers[:1], "select": selections[:1]}


def _differences(before: Any, now: Any, name: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):  # pyright: ignore[reportUnknownArgumentType]
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))  # pyright: ignore
    elif name == "select" and before and now:
        yield from _differences(before[0], now[0], name)
    elif before != now:
        yield f"{name}: {_shown(before)} before, {_shown(now)} now"


def _shown(value: Any) -> str:
    text = "the default" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
