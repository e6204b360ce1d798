"""The compiled passes. Requests and results are the TypedDicts of `catprune.boundary`.

`progress` is called as `progress(bytes, rows)`, the numbers done so far.
"""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Final

import numpy as np
from numpy.typing import NDArray

from catprune.boundary import (
    CleanRequest,
    CleanResult,
    Column,
    OpenCorpusRequest,
    RareWords,
    RareWordsRequest,
    ReadPairsRequest,
    Rules,
    SampleRequest,
    SelectRequest,
    SelectResult,
    StatsRequest,
    StatsResult,
    TestSet,
    TestText,
    TokenizeRequest,
    TokenizeResult,
    WriteRequest,
    WriteResult,
)

__all__ = [
    "BLOCK_ROWS",
    "__version__",
    "clean",
    "default_rules",
    "digest_bytes",
    "digest_file",
    "digest_files",
    "encode",
    "open_corpus",
    "rare_words",
    "read_pairs",
    "read_start",
    "read_test_set",
    "sample",
    "select",
    "stats",
    "tokenize",
    "unicode_version",
    "write",
    "write_columns",
]

BLOCK_ROWS: Final[int]  # of a token block and a block of scores; blocks restart at every input
__version__: Final[str]

def digest_bytes(data: bytes) -> str: ...
def digest_file(path: str | PathLike[str], progress: Callable[[int, int], None] | None = None) -> str: ...
def digest_files(paths: Sequence[str | PathLike[str]], *, threads: int) -> list[str]: ...
def open_corpus(request: OpenCorpusRequest) -> object: ...  # a PyCapsule: an Arrow C stream
def write_columns(
    path: str | PathLike[str],
    columns: dict[str, Column],
    *,
    valid: NDArray[np.bool_] | None = None,
    metadata: dict[str, str],
) -> str: ...
def clean(request: CleanRequest, progress: Callable[[int, int], None] | None = None) -> CleanResult: ...
def default_rules() -> Rules: ...
def encode(tokenizer: str | PathLike[str], texts: list[str]) -> list[list[int]]: ...
def sample(request: SampleRequest, progress: Callable[[int, int], None] | None = None) -> int: ...
def tokenize(request: TokenizeRequest, progress: Callable[[int, int], None] | None = None) -> TokenizeResult: ...
def select(request: SelectRequest, progress: Callable[[int, int], None] | None = None) -> SelectResult: ...
def stats(request: StatsRequest, progress: Callable[[int, int], None] | None = None) -> StatsResult: ...
def write(request: WriteRequest, progress: Callable[[int, int], None] | None = None) -> WriteResult: ...
def rare_words(request: RareWordsRequest, progress: Callable[[int, int], None] | None = None) -> RareWords: ...
def read_pairs(request: ReadPairsRequest) -> list[tuple[str, str]]: ...
def read_test_set(request: TestSet) -> TestText: ...
def read_start(path: str | PathLike[str], most: int) -> bytes: ...
def unicode_version() -> str: ...
