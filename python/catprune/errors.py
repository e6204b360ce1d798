"""The errors that catprune raises on purpose; each message names the file, the line and the remedy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: How an extra is installed.
EXTRA = "catprune with its extra {0} (in a clone: uv sync --extra {0})"


class CatpruneError(Exception):
    """Something in the input, the options or a folder that the user can mend. The command line exits with 1."""


class UsageError(CatpruneError):
    """An option or argument that cannot be meant. The command line exits with 2."""


class OtherPlan(CatpruneError):
    """Work by another plan is in the way of a step.

    Attributes:
        base: the folder that holds it, which paths in plans are relative to.
        old: the plan of that work.
        new: the plan that was wanted.
    """

    def __init__(self, message: str, *, base: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.base, self.old, self.new = base, old, new


class MissingExtra(CatpruneError):
    """A package of an optional extra is not installed."""

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(f"this step needs the package {package}: install {EXTRA.format(extra)}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether the machine or the GPU ran out: torch tells it by a class of its own, or only in words."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(told in str(error) for told in ("allocate memory", "not enough memory"))
    )


def require(extra: str, *packages: str) -> None:
    """Import the packages of an optional extra.

    Raises:
        MissingExtra: the first that is not installed.
    """
    for package in packages:
        try:
            import_module(package)
        except ModuleNotFoundError:
            raise MissingExtra(extra, package) from None
