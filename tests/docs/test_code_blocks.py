"""The code blocks of the documentation run: each page in order, in a folder with a small generated corpus.

What a page says about its blocks, in HTML comments that readers do not see:

- `<!-- setup: empty | corpus | run -->` once per page (default: corpus): what its folder holds at the start.
- `<!-- not run: REASON -->` on the line above a block: it is not run.
- `<!-- tested as: COMMAND -->` on the line above a bash block: this cheaper command runs instead.

`bash` and `python` blocks run, each Python block as a program of its own. A block with a title is the file of that
name. `text`, `toml` and `json` blocks are for reading. No other language is allowed, so that none escapes the test.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"bash", "python", "text", "toml", "json"}
SETUPS = ("empty", "corpus", "run")
PAIRS = 300
SECONDS = 120  # of one block
#: The folder `run` of a page: every step up to the scores, with a model that has hardly trained.
RUN = (
    "catprune clean wmt.en wmt.de --out run/clean --source-lang en --target-lang de --quiet",
    "catprune tokenize run/clean --out run/tokens --vocab-size 400 --quiet",
    "catprune train run/tokens --out run/warmup --steps 5 --checkpoints 1steps,5steps --batch-tokens 512 --quiet",
    "catprune score run/tokens --out run/scores --quiet "
    "--checkpoints epoch-1=run/warmup/step-1 --checkpoints epoch-5=run/warmup/step-5",
    "catprune select run/scores --method progress --keep 50% --out run/selection/progress --quiet",
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its place, its text, and the comment above it."""

    line: int
    language: str
    title: str | None
    text: str
    not_run: str | None
    tested_as: str | None


def read_blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    blocks: list[Block] = []
    start = None
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        if start is None:
            start = number
            continue
        head = lines[start].strip()[3:]
        above = lines[start - 1].strip() if start else ""
        title = re.search(r'title="([^"]+)"', head)
        blocks.append(
            Block(
                line=start + 1,
                language=head.split(" ")[0],
                title=title[1] if title else None,
                text="\n".join(lines[start + 1 : number]) + "\n",
                not_run=_comment("not run", above) or ("generated" if "notest" in head.split() else None),
                tested_as=_comment("tested as", above),
            )
        )
        start = None
    assert start is None, f"{page}: the block at line {start} does not end"
    return blocks


def _comment(name: str, line: str) -> str | None:
    match = re.fullmatch(rf"<!-- {name}: (.+) -->", line)
    return match[1] if match else None


def runnable(page: Path) -> list[Block]:
    """The blocks that run, and those that are written as files."""
    return [
        block
        for block in read_blocks(page)
        if block.title or (block.language in ("bash", "python") and not block.not_run)
    ]


def setup_of(page: Path) -> str:
    match = re.search(r"^<!-- setup: (.+) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return match[1] if match else "corpus"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models train faster on one thread, several times faster on busy CPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: 1)
        yield


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with the `catprune` and `python` of the tests."""
    programs = tmp_path_factory.mktemp("programs")
    for name, arguments in (("catprune", "-m catprune "), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        program.chmod(0o755)
    return {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONWARNINGS": "default"}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> dict[str, Path]:
    """For each setup a folder to copy."""
    pages = {name: tmp_path_factory.mktemp(name) for name in SETUPS}
    write_corpus(pages["corpus"])
    shutil.copytree(pages["corpus"], pages["run"], dirs_exist_ok=True)
    for command in RUN:
        execute(command, folder=pages["run"], environment=environment, where="setup run")
    return pages


def write_corpus(folder: Path) -> None:
    """The demo's bitext under the names that the pages use."""
    bitext = import_module("catprune.demonstration.bitext").write_demo_bitext(folder, pairs=PAIRS, test_pairs=10)
    names = {bitext.source: "wmt.en", bitext.target: "wmt.de", bitext.kinds: "wmt.tag"}
    names |= {bitext.test_source: "newstest.en", bitext.test_target: "newstest.de"}
    for path, name in names.items():
        path.rename(folder / name)


def execute(text: str, *, folder: Path, environment: dict[str, str], where: str, language: str = "bash") -> None:
    """Run one block; the test fails with its output if it does.

    A plain `catprune` command runs in this process, since importing torch takes seconds. All else goes to a shell.
    """
    environment = {**environment, "PYTHONPATH": os.pathsep.join([str(folder), environment.get("PYTHONPATH", "")])}
    if language == "python":
        program = folder / "block.py"  # a file, so that the source of its functions can be read
        program.write_text(text)
        run_program([sys.executable, str(program)], folder=folder, environment=environment, where=where)
        return
    for command in split_commands(text):
        words = shlex.split(command, comments=True)
        if words and words[0] == "catprune" and not re.search(r"[|<>$`;]", re.sub(r"'[^']*'", "", command)):
            run_here(words[1:], folder=folder, where=f"{where}: {command}")
        elif words:
            program = ["bash", "-euo", "pipefail", "-c", command]
            run_program(program, folder=folder, environment=environment, where=f"{where}: {command}")


def split_commands(text: str) -> list[str]:
    """The commands of a block: lines, continued by a backslash, and parts joined by `&&`."""
    lines = text.replace("\\\n", " ").splitlines()
    return [command.strip() for line in lines for command in line.split(" && ") if command.strip()]


def run_program(program: list[str], *, folder: Path, environment: dict[str, str], where: str) -> None:
    done = subprocess.run(
        program, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, f"{where}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


def run_here(arguments: list[str], *, folder: Path, where: str) -> None:
    app = import_module("catprune.cli.commands").app
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, f"{where}\n{done.output[-3000:]}\n{done.exception!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_has_a_language_and_is_run_or_explains_why_not(page: Path) -> None:
    assert setup_of(page) in SETUPS
    for block in read_blocks(page):
        where = f"{page.relative_to(ROOT)}:{block.line}"
        assert block.language in LANGUAGES, f"{where}: language {block.language!r}"
        assert not (block.not_run and block.tested_as), where


@pytest.mark.parametrize(
    "page", [page for page in PAGES if runnable(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_blocks_run_in_order(page: Path, tmp_path: Path, folders: dict[str, Path], environment: dict[str, str]) -> None:
    shutil.copytree(folders[setup_of(page)], tmp_path, dirs_exist_ok=True)
    for block in runnable(page):
        if block.title:
            (tmp_path / block.title).write_text(block.text)
            continue
        execute(
            block.tested_as or block.text,
            folder=tmp_path,
            environment=environment,
            where=f"{page.relative_to(ROOT)}:{block.line}",
            language=block.language,
        )
