"""The compiled passes. Requests and results are dictionaries of the Rust core's structures."""

from collections.abc import Callable
from os import PathLike
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "__version__",
    "clean",
    "default_rules",
    "digest_bytes",
    "digest_file",
    "open_corpus",
    "read_pairs",
    "sample",
    "select",
    "stats",
    "tokenize",
    "write",
    "write_columns",
]

__version__: Final[str]

def digest_bytes(data: bytes) -> str: ...
def digest_file(path: str | PathLike[str], progress: Callable[[int, int], None] | None = None) -> str: ...
def open_corpus(request: dict[str, Any]) -> Any: ...
def write_columns(
    path: str | PathLike[str],
    columns: dict[str, NDArray[Any]],
    *,
    valid: NDArray[np.bool_] | None = None,
    metadata: dict[str, str],
) -> str: ...
def clean(request: dict[str, Any], progress: Callable[[int, int], None] | None = None) -> dict[str, Any]: ...
def default_rules() -> dict[str, Any]: ...
def sample(request: dict[str, Any], progress: Callable[[int, int], None] | None = None) -> int: ...
def tokenize(request: dict[str, Any], progress: Callable[[int, int], None] | None = None) -> dict[str, Any]: ...
def select(request: dict[str, Any], progress: Callable[[int, int], None] | None = None) -> dict[str, Any]: ...
def stats(request: dict[str, Any], progress: Callable[[int, int], None] | None = None) -> dict[str, Any]: ...
def write(request: dict[str, Any], progress: Callable[[int, int], None] | None = None) -> dict[str, Any]: ...
def read_pairs(request: dict[str, Any]) -> list[tuple[str, str]]: ...
