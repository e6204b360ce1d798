"""The options of a step as parameters of a command: names, types, defaults and help come from the model."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from catprune.errors import UsageError
from catprune.workspace.options import PANELS, Field, alternatives, defaults_of, fields_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def parameters(*models: Any) -> list[inspect.Parameter]:
    """The parameters of a command that takes the options of these models; shared options come once.

    Nested models are flattened, with their prefix before the names.
    """
    merged: dict[str, inspect.Parameter] = {}
    for model in models:
        for field in fields_of(model):
            for parameter in _parameters(field, optional=len(models) > 1):
                merged.setdefault(parameter.name, parameter)
    return sorted(merged.values(), key=_panel_of)


def _panel_of(parameter: inspect.Parameter) -> int:
    """The place of an option's panel."""
    panel = getattr(parameter.annotation.__metadata__[0], "rich_help_panel", None)
    return PANELS.index(panel) if panel in PANELS else 0


def values_of(model: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a model among the parameters of a command, nested again; parameters left out are left out."""
    values: dict[str, Any] = {}
    for field in fields_of(model):
        if not field.declared.command:
            continue
        if field.model is not None:
            nested = {
                name: arguments[f"{field.declared.prefix}{name}"]
                for name in defaults_of(field.model)
                if arguments.get(f"{field.declared.prefix}{name}") is not None
            }
            is_off = field.declared.off is not None and arguments.get(field.name) is False
            if is_off and nested:
                raise UsageError(f"{field.declared.off} goes without --{next(iter(nested)).replace('_', '-')}")
            if is_off or nested:
                values[field.name] = False if is_off else nested
        elif (value := arguments.get(field.name)) is not None:
            values[field.name] = value
    return values


def spelling(*models: Any) -> Callable[[str], str]:
    """A function that writes the options of models in a message as the command line spells them.

    `force = true` becomes `--force`, and `keep = 0` becomes `--keep 0`. A name that is also a word, like `keep`, is
    replaced only before a value.
    """
    flags = {"force": ("--force", "")}  # messages of all commands name it
    for field in (field for model in models for field in fields_of(model)):
        if not field.declared.command or field.positional:
            continue
        flags[field.key] = (field.flag, field.declared.off or field.flag)
        for nested in fields_of(field.model) if field.model is not None else ():
            flag = f"--{field.declared.prefix}{nested.key}".replace("_", "-")
            flags.setdefault(nested.key, (flag, flag))
    names = "|".join(sorted(flags, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w./-])({names})( = true\b| = false\b| = |(?![\w./-]))")

    def replace(found: re.Match[str]) -> str:
        flag, off = flags[found[1]]
        bare = flag if "_" in found[1] else found[1]
        return {" = true": flag, " = false": off, " = ": f"{flag} ", "": bare}[found[2]]

    return lambda message: pattern.sub(replace, message)


def with_signature(
    function: Callable[..., None], name: str, parameters: Sequence[inspect.Parameter]
) -> Callable[..., None]:
    """The function with a signature that typer reads."""
    function.__name__ = name
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


def _parameters(field: Field, *, optional: bool) -> Iterator[inspect.Parameter]:
    if not field.declared.command:
        return
    if field.model is None:
        yield _argument(field) if field.positional else _option(field, optional=optional)
        return
    if field.declared.off is not None:
        off = typer.Option(
            f" /{field.declared.off}", help="Switch all filters off.", metavar="", rich_help_panel=field.declared.panel
        )
        yield _parameter(field.name, bool | None, off)
    for nested in fields_of(field.model):
        yield _option(nested, name=f"{field.declared.prefix}{nested.name}", optional=True)


def _argument(field: Field) -> inspect.Parameter:
    many = _is_many(field)
    metavar = f"<{field.declared.metavar}>{'...' if many else ''}"
    argument = typer.Argument(metavar=metavar, help=_help(field), show_default=False)
    kind = list[str] if many else Path
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, argument])


def _option(field: Field, *, name: str = "", optional: bool) -> inspect.Parameter:
    """An option; one that is left out is None, so that the model fills in its default."""
    flags = [f"--{name.replace('_', '-')}" if name else field.flag]
    name = name or field.name
    if field.declared.off is not None:
        flags = [f"{flags[0]}/{field.declared.off}"]
    if field.declared.short is not None:
        flags.append(field.declared.short)
    kind = _kind(field)
    is_required = field.default is MISSING and not optional
    settings: dict[str, Any] = {
        "help": _help(field),
        "rich_help_panel": field.declared.panel,
        "show_default": False,
        "metavar": f"<{field.declared.metavar}>" if field.declared.metavar else None,
    }
    if kind is bool:
        settings["metavar"] = ""
        return _parameter(name, bool | None, typer.Option(*flags, **settings))
    if _is_many(field):
        return _parameter(name, list[str] | None, typer.Option(*flags, **settings))
    if is_required:
        return _parameter(name, kind, typer.Option(*flags, **settings), inspect.Parameter.empty)
    return _parameter(name, kind | None, typer.Option(*flags, **settings))


def _parameter(name: str, kind: Any, declared: Any, default: Any = None) -> inspect.Parameter:
    annotation = Annotated[kind, declared]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _is_many(field: Field) -> bool:
    """Whether an option may be repeated; a list of tables that may be a file instead comes from the file."""
    kinds = alternatives(field.type)
    items = [alternatives(get_args(kind)[0]) for kind in kinds if get_origin(kind) in (Sequence, list)]
    return (field.positional and kinds == (Any,)) or any(str in item or str not in kinds for item in items)


def _kind(field: Field) -> Any:
    """The type of a value on the command line."""
    kinds = alternatives(field.type)
    if field.choices:
        return Literal[field.choices]
    if bool in kinds:
        return bool
    if any(get_origin(kind) is tuple for kind in kinds):
        return str  # two values, separated by a comma
    for kind in (Path, int, float):
        if kind in kinds and (kind is Path or str not in kinds):
            return float if kind is int and float in kinds else kind
    return str


def _default_text(field: Field) -> str:
    """The default, in one notation for all options."""
    text = field.declared.default
    if text is None:
        if field.default in (MISSING, None, False, ()) or field.default == []:
            return ""
        values = field.default if isinstance(field.default, list | tuple) else [field.default]
        text = ", ".join("on" if value is True else str(value) for value in values)
    return f" [default: {text}]"


def _help(field: Field) -> str:
    """The help of an option, with its default."""
    return f"{field.help}{_default_text(field)}".replace("`", "")
