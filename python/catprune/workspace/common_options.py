"""Options that several steps share, each declared once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from catprune.workspace.options import INPUT, OUTPUT, RESOURCES, AnyPath, option
from catprune.workspace.resources import MOST_THREADS


def several(value: Any) -> Any:
    """A single name is a list of one; a tuple is a list."""
    return [value] if isinstance(value, str | Path) else list(value) if isinstance(value, tuple) else value


def names(value: Any) -> Any:
    """A list of names, also from text like "epoch-1,epoch-5", which may be repeated."""
    parts = several(value)
    if not isinstance(parts, list):
        return parts
    return [
        name.strip() if isinstance(name, str) else name
        for part in parts
        for name in (part.split(",") if isinstance(part, str) else [part])
    ]


def two_names(value: Any) -> Any:
    """Two names from "en,de" or a list; a single name stays."""
    if isinstance(value, str) and "," in value:
        value = [name.strip() for name in value.split(",")]
    return tuple(value) if isinstance(value, list) else value


def two_numbers(value: Any) -> Any:
    """Two numbers from "1,2" or a list; a single number stays."""
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
            raise ValueError(f"columns = {value}: give two column numbers, like 1,2; one for a monolingual corpus")
        value = [int(part) for part in parts]
        value = value[0] if len(value) == 1 else value
    return tuple(value) if isinstance(value, list) else value


#: One path or several; the model holds a list, see `several`.
Paths = Annotated[AnyPath | Sequence[AnyPath], BeforeValidator(several, json_schema_input_type=str | Sequence[str])]
#: One text or several; the model holds a list.
Texts = Annotated[str | Sequence[str], BeforeValidator(several, json_schema_input_type=str | Sequence[str])]
#: One name or several, also separated by commas; the model holds a list.
Names = Annotated[str | Sequence[str], BeforeValidator(names, json_schema_input_type=str | Sequence[str])]

OutFolder = Annotated[AnyPath, option("Folder to write.", OUTPUT, short="-o", metavar="DIR", path=True, run_file=False)]
Threads = Annotated[
    int | None,
    option(
        "Number of threads; results do not depend on it.",
        RESOURCES,
        metavar="N",
        least=1,
        most=MOST_THREADS,
        default="all available cores",
        run_file=False,
    ),
]
RunThreads = Annotated[
    int | None,
    option(
        "Number of threads; the last digits of training and scoring depend on it, nothing else.",
        RESOURCES,
        metavar="N",
        least=1,
        most=MOST_THREADS,
        default="all available cores",
        run_file=False,
    ),
]
TorchThreads = Annotated[
    int | None,
    option(
        "Number of processor threads.",
        RESOURCES,
        metavar="N",
        least=1,
        most=MOST_THREADS,
        default="chosen by torch",
        run_file=False,
    ),
]
Seed = Annotated[int, option("Random seed.", RESOURCES, metavar="N", least=0, most=2**64 - 1)]
Memory = Annotated[
    int | str | None,
    option(
        "Memory limit in bytes, or like 4G.",
        RESOURCES,
        metavar="BYTES",
        default="half of the available memory",
        run_file=False,
    ),
]
TemporaryFolder = Annotated[
    AnyPath | None,
    option(
        "Folder for temporary files.",
        RESOURCES,
        metavar="DIR",
        default="the output folder",
        path=True,
        run_file=False,
    ),
]
Force = Annotated[
    bool,
    option(
        "Replace other work in the output folder; finished equal work stays.",
        OUTPUT,
        run_file=False,
    ),
]
Quiet = Annotated[bool, option("Show no progress and no summary.", OUTPUT, short="-q", run_file=False)]
VerifyInputs = Annotated[
    bool, option("Hash the input files again, even if they look unchanged.", INPUT, run_file=False)
]
