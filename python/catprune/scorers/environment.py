"""Scorers whose libraries need an environment of their own: a process that uv starts, to which blocks go as Parquet."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from catprune._core import digest_bytes, digest_file
from catprune.errors import CatpruneError

if TYPE_CHECKING:
    from collections.abc import Sequence


def digest_model(model: str) -> dict[str, str]:
    """How a plan names a model: a file or a folder by its bytes, what a library downloads by its name."""
    path = Path(model)
    if path.is_file():
        return {"digest": digest_file(str(path))}
    if not path.is_dir():
        return {"name": model}
    files = sorted(one for one in path.rglob("*") if one.is_file())
    told = "".join(f"{one.relative_to(path)}\0{digest_file(str(one))}\n" for one in files)
    return {"digest": digest_bytes(os.fsencode(told))}


class Worker:
    """A script beside this file that says what it needs (PEP 723), run by uv, which makes and keeps its environment.

    The script is started with `arguments`. It reads names of Parquet files line by line, each with columns of text, and
    answers each by a line "done" when it has written its columns to the same name with `.out` behind it. What it says
    on the standard error is shown where it fails.

    Raises:
        CatpruneError: uv is missing, or the script ended.
    """

    def __init__(self, script: str, arguments: Sequence[str], *, threads: int | None) -> None:
        self.script, self.arguments, self.threads = Path(__file__).parent / script, list(arguments), threads
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        uv = shutil.which("uv")
        if uv is None:
            raise CatpruneError(f"{self.script.stem} runs in an environment of its own, which uv makes: install uv")
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="catprune-")))
        said = self._stack.enter_context((self._folder / "said").open("w"))
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        if self.threads is not None:
            environment["OMP_NUM_THREADS"] = str(self.threads)
        self._process = subprocess.Popen(
            [uv, "run", "--quiet", "--script", str(self.script), *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=environment,
        )
        return self

    def __exit__(self, *error: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()
        self._stack.close()

    def ask(self, columns: dict[str, Sequence[str]]) -> Any:
        """The table that the script makes of these columns."""
        import pyarrow
        import pyarrow.parquet as parquet

        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        path = self._folder / "block.parquet"
        parquet.write_table(pyarrow.table({name: list(texts) for name, texts in columns.items()}), path)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{path}\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if answer.strip() != "done":
            self._process.wait()
            lines = (self._folder / "said").read_text(errors="replace").strip().splitlines()
            raise CatpruneError(f"{self.script.name} ended: {' / '.join(lines[-3:]) or 'it said nothing'}")
        return parquet.read_table(f"{path}.out")
