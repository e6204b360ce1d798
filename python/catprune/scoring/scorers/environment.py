"""Scorers in their own environment: a child process that runs a uv script and receives blocks as Parquet."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from catprune._core import digest_bytes, digest_file
from catprune.errors import CatpruneError
from catprune.workspace.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence


def digest_model(model: str) -> dict[str, str]:
    """Describe a model for a plan: a file or folder by its digest, a model that a library downloads by its name."""
    path = Path(model)
    if path.is_file():
        return {"digest": digest_file(str(path))}
    if not path.is_dir():
        return {"name": model}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listing = "".join(f"{file.relative_to(path)}\0{digest_file(str(file))}\n" for file in files)
    return {"digest": digest_bytes(os.fsencode(listing))}


#: Variables of this Python environment, and of launchers: the child must not act as one of several ranks.
_NOT_INHERITED = re.compile(
    "VIRTUAL_ENV|PYTHON(PATH|HOME|SAFEPATH)|((LOCAL_|GROUP_|NODE_)?RANK|(LOCAL_)?WORLD_SIZE|MASTER_(ADDR|PORT))|(SLURM|TORCHELASTIC)_.*"
)


#: A file in an environment: the digest of the script that the environment was made for.
MARK = "catprune-script"


class Worker:
    """A script of the folder `workers` with its requirements (PEP 723), run in an environment that uv makes.

    The script starts with the name of a model, and more arguments. It writes the line "ready", or why the model cannot
    be loaded. Then it reads names of Parquet files line by line. For each it writes its columns to the same name with
    the suffix `.out`, and then the line "done". Its standard error is shown if it fails.

    Raises:
        CatpruneError: uv is missing, the model cannot be loaded, or the script ended.
    """

    def __init__(
        self,
        scorer: str,
        model: str,
        *,
        name: str | None = None,
        arguments: Sequence[str] = (),
        threads: int | None,
        local: int | None,
        install: bool = False,
    ) -> None:
        script = f"{scorer.partition('-')[0]}_worker.py"
        self.scorer, self.script, self.model = scorer, Path(__file__).parent / "workers" / script, model
        self.install, self.arguments = install, arguments
        self.threads, self.local = threads, local
        self.name = name or model
        self._uv = shutil.which("uv")
        if self._uv is None:
            raise CatpruneError(f"{self.name} runs in an environment that uv creates: install uv")
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[str] | None = None

    def requirements(self) -> dict[str, Any]:
        """Return the packages of the environment, and the cutoff date of their versions."""
        lines = re.findall(r"^#(?: (.*))?$", self.script.read_text(encoding="utf-8"), re.MULTILINE)
        block = lines[lines.index("/// script") + 1 : lines.index("///")]
        metadata = tomllib.loads("\n".join(block))
        return {"packages": metadata["dependencies"], "exclude-newer": metadata["tool"]["uv"]["exclude-newer"]}

    def __enter__(self) -> Self:
        python = self.python()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="catprune-")))
        errors = self._stack.enter_context((self._folder / "errors").open("w"))
        self._process = subprocess.Popen(
            [python, str(self.script), self.model, *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=self.environment(),
        )
        try:
            if (answer := self._answer()) != "ready":
                raise CatpruneError(
                    f"{self.name} cannot be loaded ({answer}): give a file or folder as model, or a name that can "
                    "be downloaded"
                )
        except BaseException:
            self.__exit__()
            raise
        return self

    def python(self) -> str:
        """Return the interpreter of the script's environment; with `install`, create the environment if it is missing.

        Later calls do not use the package index, which a compute node may not reach.

        Raises:
            CatpruneError: there is no environment, and `install` is not set; or uv cannot create it.
        """
        assert self._uv is not None
        script, environment = str(self.script), self.environment()
        find = [self._uv, "python", "find", "--offline", "--script", script]

        def python_and_mark() -> tuple[str, Path]:
            # Without an environment, uv prints another Python, which has no mark.
            python = subprocess.run(find, capture_output=True, text=True, check=False, env=environment).stdout.strip()
            return python, Path(python or "/nowhere").parent.parent / MARK

        python, mark = python_and_mark()
        if not mark.is_file() or mark.read_text(encoding="utf-8") != digest_file(script):
            if not self.install:
                packages = ", ".join(self.requirements()["packages"])
                raise CatpruneError(
                    f"{self.name} needs an environment of several gigabytes ({packages}), which uv would download and "
                    f"install: run `catprune score CLEAN --scorer {self.scorer} --install --out DIR` once"
                )
            # uv shows its progress on standard error.
            if subprocess.run([self._uv, "sync", "--script", script], check=False, env=environment).returncode:
                raise CatpruneError(
                    f"uv could not create the environment of {self.name} (see above): it needs network access once"
                )
            python, mark = python_and_mark()
            write_whole(mark, digest_file(script).encode())
        return python

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the script."""
        environment = {name: value for name, value in os.environ.items() if not _NOT_INHERITED.fullmatch(name)}
        if self.local is not None:
            environment["CATPRUNE_LOCAL"] = str(self.local)
        if self.threads is not None:
            environment["OMP_NUM_THREADS"] = environment["RAYON_NUM_THREADS"] = str(self.threads)
        return environment

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
        """Send columns to the script, and return the table of its answer."""
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
        self._answer()
        return parquet.read_table(f"{path}.out")

    def _answer(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        answer = self._process.stdout.readline().strip()
        if not answer:
            raise CatpruneError(self._describe_exit(self._process.wait()))
        return answer

    def _describe_exit(self, status: int) -> str:
        if status < 0:
            cause = "memory may be exhausted; " if -status == signal.SIGKILL else ""
            return f"{self.script.name} ({self.name}) was ended by {signal.Signals(-status).name}: {cause}run it again"
        lines = (self._folder / "errors").read_text(errors="replace").strip().splitlines()
        return f"{self.script.name} ({self.name}) ended: {' / '.join(lines[-3:]) or 'without a message'}"
