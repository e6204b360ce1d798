"""Mistakes in a run file, described with their key and what it takes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from catprune.pipeline.sections import models_within
from catprune.workspace.options import Field, describe_values, did_you_mean, read_field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import ValidationError


def describe_mistakes(error: ValidationError, model: Any) -> str:
    """Describe the first mistakes in a run file.

    Args:
        error: what pydantic found.
        model: the model of the whole file.
    """
    # Unknown keys first: a misspelled key is often the reason for a missing key.
    mistakes = sorted(error.errors(include_url=False), key=lambda mistake: mistake["type"] != "extra_forbidden")
    return "; ".join(dict.fromkeys(_describe(mistake, model) for mistake in mistakes[:3]))


def _describe(mistake: Any, model: Any) -> str:
    """Describe a mistake with its key in the file."""
    loc, declared = _find_option(mistake["loc"], model)
    place = ".".join(str(part) for part in loc if not _is_type(str(part)))
    if mistake["type"] == "extra_forbidden":
        return f"{place}: there is no such key{_similar_key(mistake['loc'], model)}"
    text: str = mistake["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if mistake["type"] == "missing":
        return f"{place} is missing: give it"
    if mistake["type"] == "value_error":
        return f"{place}: {text}" if place else text
    expected: dict[str, str] = {
        "string_pattern_mismatch": "letters, digits, '_' and '-', a letter or digit first",
        "model_type": "a table of options",
        "list_type": f"tables, each begun by [[{place}]]",
    }
    values = expected.get(mistake["type"]) or (describe_values(declared) if declared else "") or text
    value = json.dumps(mistake["input"], default=str, ensure_ascii=False)
    return f"{place} = {value}: give {values}"


def _find_option(loc: Sequence[Any], model: Any) -> tuple[Sequence[Any], Field | None]:
    """Return the place of the option that holds a mistake, and the option's declaration."""
    section = model
    for number, part in enumerate(loc):
        info = section.model_fields.get(part)
        inner = next(models_within(info.annotation), None) if info is not None else None
        if inner is not None:
            section = inner
        elif info is not None:
            return loc[: number + 1], read_field(str(part), info)
    return loc, None


def _is_type(part: str) -> bool:
    """Whether a part of a place is a member of a union type, not a key of the file."""
    return part in ("str", "int", "float", "bool", "path") or "[" in part or part.startswith(("literal", "function-"))


def _keys(model: Any, section: str) -> tuple[str, ...]:
    fields = model.model_fields
    if section not in fields:
        return tuple(fields)
    inner = next(models_within(fields[section].annotation), None)
    return tuple(inner.model_fields) if inner is not None else ()


def _similar_key(loc: Sequence[Any], model: Any) -> str:
    return did_you_mean(str(loc[-1]), _keys(model, str(loc[0]) if len(loc) > 1 else ""))
