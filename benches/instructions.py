"""Counts the instructions of every pass under valgrind and compares them with the committed baseline.

    python3 benches/instructions.py check      # make bench-check
    python3 benches/instructions.py baseline   # make bench-baseline: writes benches/instructions.json

Counts are reproducible on a shared machine; times are not. They depend on the compiler and on the processor features by
which libraries choose their code. If these differ from the baseline, nothing is compared.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "benches" / "instructions.json"
FUNCTION = "instructions::measured_pass"
#: A pass may take this much more than the baseline.
MARGIN = 0.10


def run(*command: str | Path, **options: Any) -> str:
    """Run a command and return its standard output; if it fails, exit with its errors."""
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed ({done.returncode}):\n{done.stderr.strip()}")
    return done.stdout


def build() -> Path:
    """Compile the program, never incrementally, because another code layout changes the counts."""
    arguments = ("--release", "--package", "catprune-core", "--example", "instructions", "--message-format", "json")
    environment = {**os.environ, "CARGO_INCREMENTAL": "0"}
    messages = run("cargo", "build", "--quiet", *arguments, env=environment).splitlines()
    artifacts = [json.loads(line) for line in messages]
    return next(Path(artifact["executable"]) for artifact in artifacts if artifact.get("executable"))


def describe(program: Path) -> dict[str, Any]:
    """Return everything that the counts depend on; processor features as valgrind emulates them."""
    version = run("rustc", "--version").strip()
    return {"rustc": version, **json.loads(run("valgrind", "--tool=none", "-q", program, "describe"))}


def count(program: Path, folder: Path, name: str, records: int) -> float:
    """Count the instructions per record of one pass, over all threads."""
    out = folder / f"callgrind.{name}"
    marks = (f"--zero-before={FUNCTION}", f"--dump-after={FUNCTION}")
    # Otherwise malloc adapts its threshold, and timing decides whether a growing buffer is copied or remapped.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    valgrind = ("valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", *marks)
    run(*valgrind, program, "run", folder, name, env=environment)
    dump = Path(f"{out}.1")  # another dump holds the counts after the function
    text = dump.read_text() if dump.exists() else ""
    if f"desc: Trigger: --dump-after={FUNCTION}" not in text:
        sys.exit(f"valgrind has not seen the function {FUNCTION}: is it still there, and not inlined?")
    total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
    assert total is not None
    return round(int(total[1]) / records, 1)


def measure() -> dict[str, Any]:
    """Return the record for the baseline file."""
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed: `apt-get install valgrind`, or as your system has it")
    program = build()
    with tempfile.TemporaryDirectory(prefix="catprune-instructions-") as folder:
        records = json.loads(run(program, "prepare", folder))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            counted = pool.map(lambda name: count(program, Path(folder), name, records[name]), records)
            counts = dict(zip(records, counted, strict=True))
    return {**describe(program), "instructions_per_record": counts}


def check(baseline: dict[str, Any], current: dict[str, Any]) -> int:
    """Print the comparison and return the exit status."""
    names = ("rustc", "target", "compiled_features", "detected_features")
    differing = [name for name in names if baseline[name] != current[name]]
    for name in differing:
        print(f"{name} is {current[name]}, in the baseline {baseline[name]}")
    old, new = baseline["instructions_per_record"], current["instructions_per_record"]
    print(f"{'pass':20}{'baseline':>12}{'now':>12}{'change':>9}")
    slower, faster = [], []
    for name in sorted({*old, *new}):
        if name not in old or name not in new:
            print(f"{name:20}{old.get(name, '-'):>12}{new.get(name, '-'):>12}")
            differing.append(name)
            continue
        change = new[name] / old[name] - 1
        print(f"{name:20}{old[name]:>12,.1f}{new[name]:>12,.1f}{change:>+9.1%}")
        if abs(change) > MARGIN:
            (slower if change > 0 else faster).append(name)
    if differing:
        print("These counts cannot be compared. Make a new baseline (`make bench-baseline`) and commit it.")
        return 2
    if slower:
        print(f"More than {MARGIN:.0%} slower: {', '.join(slower)}. If this is intended, run `make bench-baseline`.")
        return 1
    if faster:
        print(f"More than {MARGIN:.0%} faster: {', '.join(faster)}. Run `make bench-baseline` to record it.")
    return 0


def main() -> int:
    """Run the command in the first argument."""
    match sys.argv[1:]:
        case ["check"]:
            if not BASELINE.exists():
                print(f"{BASELINE.relative_to(ROOT)} is missing: run `make bench-baseline`")
                return 2
            return check(json.loads(BASELINE.read_text()), measure())
        case ["baseline"]:
            BASELINE.write_text(json.dumps(measure(), indent=2) + "\n")
            print(BASELINE.read_text(), end="")
            return 0
        case _:
            print("give check or baseline")
            return 2


if __name__ == "__main__":
    sys.exit(main())
