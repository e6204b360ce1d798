"""Paths of a run file: relative ones start at the folder of the file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from catprune.corpus.remote import is_address
from catprune.pipeline.sections import DevSection, ScorerSection, TestSection, models_within
from catprune.workspace.options import Declared

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def resolve_paths(values: Mapping[str, Any], section: Any, base: Path) -> dict[str, Any]:
    """Make the paths of a section absolute; relative paths start at the folder of the file."""

    def join(value: Any) -> Any:
        if isinstance(value, list):
            return [join(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        return os.path.normpath(base / value) if isinstance(value, str) and not is_address(value) else value

    resolved: dict[str, Any] = {}
    known: dict[str, Any] = getattr(section, "model_fields")  # noqa: B009
    for key, value in values.items():
        info: Any = known.get(key)
        inner = next(models_within(info.annotation), None) if info is not None else None
        if inner is not None:
            tables: Any = value
            resolved[key] = (
                [resolve_paths(table, inner, base) if isinstance(table, dict) else table for table in tables]  # pyright: ignore
                if isinstance(tables, list)
                else resolve_paths(tables, inner, base)
                if isinstance(tables, dict)
                else tables
            )
        elif key == "input_rules" and isinstance(value, list):
            resolved[key] = [_join_input(table, join) for table in value]  # pyright: ignore[reportUnknownVariableType]
        elif section is ScorerSection:
            resolved[key] = _join_scorer(key, value, base)
        elif (section in (DevSection, TestSection) and key != "name") or (
            info is not None and isinstance(extra := info.json_schema_extra, Declared) and extra.path
        ):
            resolved[key] = join(value)
        else:
            resolved[key] = value
    return resolved


def _join_scorer(key: str, value: Any, base: Path) -> Any:
    """Resolve a function's file; resolve a model if the path exists, otherwise it is a name that its library knows."""
    is_file = isinstance(value, str) and (
        (key == "scorer" and ":" in value) or (key == "model" and (base / value).exists())
    )
    return os.path.normpath(base / value) if is_file else value


def _join_input(table: Any, join: Callable[[Any], Any]) -> Any:
    if not isinstance(table, dict):
        return table
    rules: dict[str, Any] = table
    return {key: join(value) if key == "input" else value for key, value in rules.items()}
