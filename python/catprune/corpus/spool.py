"""Standard input, copied to a file that later steps can read again."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from catprune.corpus.names import NAMED, format_of
from catprune.errors import CatpruneError, UsageError
from catprune.workspace.files import whole_file
from catprune.workspace.progress import say

if TYPE_CHECKING:
    from collections.abc import Sequence


def spool_inputs(
    names: Sequence[str | Path],
    spool: str | Path | None,
    *,
    format: str | None,
    monolingual: bool,
    force: bool,
    quiet: bool,
) -> Sequence[str | Path]:
    """Copy standard input (the name "-") to the file `spool`, and return the inputs with the name of that file.

    The copy is written whole or not at all. If the file exists, standard input is not read unless `force` is set; a
    line on standard error says so unless `quiet`.

    Raises:
        UsageError: standard input is given without `spool` or with other inputs, or its format is unknown.
        CatpruneError: standard input is empty.
        OSError: the file cannot be written.
    """
    if "-" not in map(str, names):
        if spool is not None:
            raise UsageError("spool is only for standard input: give - as the only input")
        return names
    if spool is None or len(names) > 1:
        raise UsageError(
            "- is standard input: give it as the only input, with spool = FILE for a copy that later steps read"
        )
    path = Path(spool)
    if not (format or monolingual or format_of(path)):
        raise UsageError(f"{path}: give format, or a name that ends in {', '.join(NAMED)}")
    if force or not path.exists():
        _copy_standard_input(path)
    elif not quiet:
        say(f"{path} exists: standard input is not read", quiet=False)
    return [path]


def _copy_standard_input(path: Path) -> None:
    with whole_file(path, wait=False) as stream:
        shutil.copyfileobj(sys.stdin.buffer, stream, 1 << 20)
        if stream.tell() == 0:
            raise CatpruneError(f"standard input is empty: pipe text into it ({path} is not written)")
