"""Options, declared once: a typed model per step gives the Python signature, the command, the run file and the docs.

A model is a pydantic dataclass whose fields are annotated by `option(...)`. Whatever builds it - a keyword argument, a
key of a run file, a word of the command line - is checked by the same types and bounds.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, dataclass_transform, get_args, get_origin

from pydantic import ConfigDict, ValidationError
from pydantic import Field as PydanticField
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.fields import FieldInfo

from catprune.errors import UsageError

P = ParamSpec("P")
Model = TypeVar("Model")
Result = TypeVar("Result")

#: A path in the file system.
AnyPath = str | Path

# Panels of the command line, and groups of the reference.
INPUT = "Input"
FILTERS = "Filters"
DUPLICATES = "Duplicates"
NEAR_DUPLICATES = "Near duplicates"
TEST_SETS = "Test sets"
TOKENIZER = "Tokenizer"
MODEL = "Model"
OPTIMIZATION = "Optimization"
DATA = "Training data"
DYNAMIC = "Pruning while training"
CHECKPOINTS = "Checkpoints"
SCORER = "Scorer"
RANKING = "Ranking"
BUDGET = "Budget"
GROUPS = "Groups"
STEPS = "Steps"
EVALUATION = "Evaluation"
OUTPUT = "Output"
RESOURCES = "Resources"
#: The panels in the order of the help.
PANELS = (
    INPUT, CHECKPOINTS, SCORER, FILTERS, DUPLICATES, NEAR_DUPLICATES, TEST_SETS, RANKING, BUDGET, GROUPS, TOKENIZER,
    DATA, MODEL, OPTIMIZATION, DYNAMIC, EVALUATION, STEPS, OUTPUT, RESOURCES,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Declared:
    """What an option's declaration says besides its type, default and bounds.

    Attributes:
        panel: the panel of the command line's help, and the group of the reference.
        metavar: what stands for the value in help, like `N`; None: nothing (a flag, or a choice).
        details: more sentences, for the reference and the docstring.
        python: what only Python takes, for the docstring.
        default: how a default is shown that is not a plain value, like "all cores".
        short: a one-letter flag, like "-o".
        off: a flag that stands for False, like "--no-rules".
        path: whether the value names files: relative ones in a run file are relative to that file.
        run_file: whether a run file may have it in the step's section.
        command: whether the command line has it.
        prefix: of a nested model: what the flags of its options begin with; None: this is no nested model.
    """

    panel: str
    metavar: str | None = None
    details: str = ""
    python: str = ""
    default: str | None = None
    short: str | None = None
    off: str | None = None
    path: bool = False
    run_file: bool = True
    command: bool = True
    prefix: str | None = None

    def __call__(self, schema: dict[str, Any]) -> None:
        """Show a default that is no plain value in the JSON Schema, too."""
        if self.default is not None and "description" in schema:
            schema["description"] = f"{schema['description']} Default: {self.default}."


def option(
    help: str,
    panel: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    **declared: Any,
) -> Any:
    """Declare an option: goes into `Annotated[type, option(...)]`.

    Args:
        help: one sentence or two: what it does, its unit.
        panel: see `Declared`.
        least, most: inclusive bounds of a number.
        above, below: exclusive bounds of a number.
        **declared: the other attributes of `Declared`.
    """
    return PydanticField(
        description=help, ge=least, le=most, gt=above, lt=below, json_schema_extra=Declared(panel, **declared)
    )


@dataclass_transform(kw_only_default=False, frozen_default=True)
def options(model: type[Model]) -> type[Model]:
    """Make a class of annotated fields a model of options: frozen, checked when it is made, no value converted."""
    config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    decorated: Any = pydantic_dataclass(model, frozen=True, config=config)
    return decorated


@dataclass(frozen=True, slots=True)
class Field:
    """One option of a model.

    Attributes:
        name: as Python spells it.
        type: its type, without the declaration.
        default: its default; `MISSING` where it must be given.
        help: its first sentences.
        least, most: the inclusive bounds of a number; None where there is none.
        bounds: all bounds of a number in words, like "at least 1".
        declared: the rest of its declaration.
        positional: whether it may be given without its name.
    """

    name: str
    type: Any
    default: Any
    help: str
    least: float | None
    most: float | None
    bounds: str
    declared: Declared
    positional: bool

    @property
    def key(self) -> str:
        """As run files spell it: `with_` is a keyword of Python without the underscore."""
        return self.name.rstrip("_")

    @property
    def flag(self) -> str:
        """As the command line spells it."""
        return "--" + self.key.replace("_", "-")

    @property
    def choices(self) -> tuple[Any, ...]:
        """The allowed values, where they are enumerated."""
        return tuple(value for part in alternatives(self.type) for value in literals(part))

    @property
    def model(self) -> Any:
        """The nested model, where this is one."""
        return next((part for part in alternatives(self.type) if is_model(part)), None)


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union but None, without their annotations; of another type the type itself."""
    if get_origin(kind) is Annotated:
        return alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(part for member in get_args(kind) if member is not type(None) for part in alternatives(member))
    return (kind,)


def literals(kind: Any) -> tuple[Any, ...]:
    """The values of a Literal, also of a sequence of them."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    if get_origin(kind) in (Sequence, list, tuple):
        return tuple(value for member in get_args(kind) for part in alternatives(member) for value in literals(part))
    return ()


def is_model(kind: Any) -> bool:
    """Whether a type is a model of options."""
    return hasattr(kind, "__pydantic_fields__")


@functools.cache
def fields_of(model: Any) -> tuple[Field, ...]:
    """The options of a model, in the order of their declaration."""
    keyword_only = {field.name: field.kw_only for field in fields(model)}
    return tuple(
        read_field(name, info, positional=keyword_only[name] is not True)
        for name, info in model.__pydantic_fields__.items()
    )


def read_field(name: str, info: FieldInfo, *, positional: bool = False) -> Field:
    """The option that a declared field is."""
    extra: Any = info.json_schema_extra
    default = MISSING if info.is_required() else info.get_default(call_default_factory=False)
    return Field(
        name,
        info.annotation,
        default,
        info.description or "",
        next((item.ge for item in info.metadata if hasattr(item, "ge")), None),
        next((item.le for item in info.metadata if hasattr(item, "le")), None),
        _describe_bounds(info.metadata),
        extra,
        positional,
    )


def defaults_of(model: Any) -> dict[str, Any]:
    """The defaults of a model's options that need not be given."""
    return {field.name: field.default for field in fields_of(model) if field.default is not MISSING}


def changed_values(values: Any) -> dict[str, Any]:
    """The values of a model that are not the defaults."""
    present = {field.name: (getattr(values, field.name), field.default) for field in fields_of(type(values))}
    return {name: value for name, (value, default) in present.items() if value != default}


def make(model: Callable[..., Model], arguments: Mapping[str, Any], *, of: str = "") -> Model:
    """A model from values by name.

    Args:
        model: the class.
        arguments: the values.
        of: what errors call the values of, like `train`.

    Raises:
        UsageError: an option that there is not, or a value that it cannot have.
    """
    known = [field.name for field in fields_of(model)]
    for name in arguments:
        if name not in known:
            raise UsageError(f"{of or 'these options'}: there is no option {name}{did_you_mean(name, known)}")
    try:
        return model(**{name: plain(value) for name, value in arguments.items()})
    except ValidationError as error:
        raise UsageError(describe_error(error, model)) from None


def plain(value: Any) -> Any:
    """A NumPy scalar as a plain number; other values as they are."""
    numpy = sys.modules.get("numpy")
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The most similar name, as the end of a message; empty if there is none."""
    similar = get_close_matches(name, known, n=1, cutoff=0.7)
    return f"; did you mean {similar[0]}?" if similar else ""


def describe_error(error: ValidationError, model: Any) -> str:
    """The first mistake in values of a model: which option, its value, and what it takes."""
    first = error.errors(include_url=False)[0]
    name = next((str(part) for part in first["loc"] if isinstance(part, str)), "")
    if first["type"] == "missing":
        return f"{name} is missing: give it"
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    field = next((field for field in fields_of(model) if field.name == name), None)
    if field is None:
        return f"{name}: {first['msg']}"
    value = first["input"]  # an item of it where that alone is wrong
    shown = repr(value) if isinstance(value, str) else str(value)
    return f"{name} = {shown}: give {describe_values(field)}"


def describe_values(field: Field) -> str:
    """The values that an option takes, in words."""
    if field.choices and field.model is None:
        many = any(get_origin(part) in (Sequence, list, tuple) for part in alternatives(field.type))
        return f"{'some' if many else 'one'} of {', '.join(map(str, field.choices))}"
    kinds = alternatives(field.type)
    items = {part for kind in kinds if get_origin(kind) is Sequence for part in alternatives(get_args(kind)[0])}
    words = dict.fromkeys(_describe_type(part) for part in kinds if part not in items)
    text = " or ".join(filter(None, words))
    return f"{text}, {field.bounds}" if field.bounds else text


def _describe_bounds(metadata: Sequence[Any]) -> str:
    """The bounds of a number in words."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    bounds = {bound: getattr(item, bound) for item in metadata for bound in words if hasattr(item, bound)}
    exact = {bound: f"{value:g}" if abs(value) < 1e6 else str(value) for bound, value in bounds.items()}
    return " and ".join(f"{words[bound]} {value}" for bound, value in exact.items())


def _describe_type(kind: Any) -> str:
    plain = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    if kind in plain:
        return plain[kind]
    if get_origin(kind) in (Sequence, list):
        items = " or ".join(dict.fromkeys(_describe_type(part) for part in alternatives(get_args(kind)[0])))
        if get_origin(kind) is list or items in ("", "a table of options"):
            return f"a list of {items}" if items == "text" else "a list"
        return f"{items}, or a list of these"  # see `several`
    if literals(kind):
        return " or ".join(str(value).lower() for value in literals(kind))
    if get_origin(kind) is tuple:
        return f"{len(get_args(kind))} values"
    if get_origin(kind) in (Mapping, dict) or is_model(kind):
        return "a table of options"
    return ""


def takes(model: Callable[P, Model]) -> Callable[[Callable[[Model], Result]], Callable[P, Result]]:
    """Give a function of a model the signature of the model: its options become keyword arguments."""

    def decorate(step: Callable[[Model], Result]) -> Callable[P, Result]:
        @functools.wraps(step)
        def call(*positional: P.args, **keywords: P.kwargs) -> Result:
            names = [field.name for field in fields_of(model) if field.positional]
            if len(positional) > len(names):
                raise TypeError(f"{step.__name__}() takes {len(names)} positional arguments, {len(positional)} given")
            arguments = dict(zip(names, positional, strict=False))
            if twice := arguments.keys() & keywords.keys():
                raise TypeError(f"{step.__name__}() got {min(twice)} twice")
            return step(make(model, {**arguments, **keywords}, of=step.__name__))

        call.__signature__ = _signature(model, step)  # type: ignore[attr-defined]
        call.__doc__ = f"{inspect.getdoc(step)}\n\n{arguments_text(model)}"
        call.__options__ = model  # type: ignore[attr-defined]
        return call

    return decorate


def _signature(model: Any, step: Callable[..., Any]) -> inspect.Signature:
    def parameter(field: Field) -> inspect.Parameter:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if field.positional else inspect.Parameter.KEYWORD_ONLY
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        return inspect.Parameter(field.name, kind, default=default, annotation=field.type)

    result = inspect.signature(step).return_annotation
    return inspect.Signature([parameter(field) for field in fields_of(model)], return_annotation=result)


def arguments_text(model: Any) -> str:
    """The `Args:` section of a docstring."""
    lines = ["Args:"]
    for field in fields_of(model):
        declared = field.declared
        shown = f"Default: {declared.default}." if declared.default else ""
        lines.append(
            f"    {field.name}: {' '.join(filter(None, (field.help, shown, declared.details, declared.python)))}"
        )
    return "\n".join(lines)
