"""Installs the wheel of a folder in a fresh environment, without extras or a compiler, and uses it as a newcomer does.

    python tests/try_wheel.py dist          # this Python
    python tests/try_wheel.py dist 3.12     # another one

Needs uv. The corpus steps must work, their tests must pass, and what needs torch must say what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent
#: Tests of the corpus steps, which need no extra, and the packages that they use as second opinions.
SUITES = ("cleaning", "corpus", "writing")
#: Tests in these suites that train, or look into modules that need torch.
TRAINED = ("corpus/test_appended.py", "corpus/test_many_inputs.py", "corpus/test_monolingual.py")
PACKAGES = ("pytest", "pytest-xdist", "hypothesis", "polars", "duckdb", "regex", "xxhash")


def run(*command: str | Path, path: str, folder: Path, fails: bool = False) -> str:
    """Run a command with nothing else on the path; return what it prints."""
    environment = {**os.environ, "PATH": path}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if (done.returncode != 0) != fails:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def main() -> None:
    """Try the wheel."""
    folder = Path(sys.argv[1]).resolve()
    version = sys.argv[2] if len(sys.argv) > 2 else sys.executable
    (wheel,) = sorted(folder.glob("*.whl"))
    uv = shutil.which("uv")
    assert uv is not None, "uv is missing"
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        binaries = scratch / "environment/bin"
        subprocess.run([uv, "venv", "-q", "--python", version, binaries.parent], check=True)
        install = [uv, "pip", "install", "-q", "--python", binaries / "python", "--only-binary", ":all:"]
        subprocess.run([*install, wheel], check=True)
        path = f"{binaries}:/usr/bin:/bin"
        assert shutil.which("cargo", path=path) is None, "a compiler is on the path"
        catprune = binaries / "catprune"
        print(run(catprune, "version", path=path, folder=scratch).strip(), wheel.name)
        print(run(catprune, "doctor", path=path, folder=scratch))
        for side in ("en", "de"):
            lines = (f"a short line number {row} in {side} with words\n" for row in range(2000))
            (scratch / f"a.{side}").write_text("".join(lines))
        for arguments in (
            "clean a.en a.de --out run/clean --quiet",
            "select run/clean --out run/selection --method random --quiet",
            "write run/clean kept.jsonl.zst --selection run/selection --quiet",
            "stats a.en a.de --json",
        ):
            run(catprune, *arguments.split(), path=path, folder=scratch)
        refused = run(catprune, "train", "run/clean", "--out", "model", path=path, folder=scratch, fails=True)
        assert "extra torch" in refused, refused
        subprocess.run([*install, *PACKAGES], check=True)
        pytest = (binaries / "pytest", "-q", "-n", "2", "-p", "no:cacheprovider")
        shutil.copytree(TESTS, scratch / "tests")
        suites = (*(f"tests/{suite}" for suite in SUITES), *(f"--ignore=tests/{name}" for name in TRAINED))
        print(run(*pytest, *suites, "-k", "not swapped_files", path=path, folder=scratch)[-200:])


if __name__ == "__main__":
    main()
