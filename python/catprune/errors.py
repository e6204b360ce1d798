"""The errors that catprune raises; each message names the file, the line and what to do."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: How to install an extra.
EXTRA = "catprune with its extra {0} (in a clone: uv sync --extra {0})"


class CatpruneError(Exception):
    """A problem in the input, the options or a folder that the user can fix. The command line exits with 1."""


class UsageError(CatpruneError):
    """An invalid option or argument. The command line exits with 2."""


class OtherPlan(CatpruneError):
    """A step's folder holds work with other options or inputs.

    Attributes:
        base: the folder that holds the work; paths in plans are relative to it.
        old: the plan of that work.
        new: the plan of this call.
    """

    def __init__(self, message: str, *, base: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.base, self.old, self.new = base, old, new


class MissingExtra(CatpruneError):
    """A package of an optional extra is not installed."""

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(f"this step needs the package {package}: install {EXTRA.format(extra)}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the machine or the GPU ran out of memory.

    Torch raises `OutOfMemoryError`, or a `RuntimeError` that says so only in its message.
    """
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(phrase in str(error) for phrase in ("allocate memory", "not enough memory"))
    )


def require(extra: str, *packages: str) -> None:
    """Check that the packages of an optional extra are installed.

    Raises:
        MissingExtra: a package is not installed.
    """
    for package in packages:
        try:
            import_module(package)
        except ModuleNotFoundError:
            raise MissingExtra(extra, package) from None
