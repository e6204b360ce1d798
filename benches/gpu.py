"""Measures catprune on a GPU within eight minutes, and writes the results as a dated run.

    uv run python benches/gpu.py            # needs the environment, a GPU and nothing else
    uv run python benches/gpu.py --quick    # on the processor, with tiny sizes: checks that the script runs

The most important part comes first, and each line is printed and written when it is measured. A part that fails is
reported, and the others are measured all the same. benches/README.md describes the measurements.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from machine import ROOT, describe, gpu

#: The parts, most important first, and the seconds after which each is stopped. The limits are for parts that hang:
#: together they are longer than the whole may take, and the last parts are dropped then.
PARTS = {"agreement": 180, "scoring": 200, "kernels": 90, "training": 90, "resume": 60, "batches": 60}
SCRIPT = ROOT / "benches" / "gpu_parts.py"
PACKAGES = ("torch", "transformers", "ctranslate2", "numpy")


def read_options() -> argparse.Namespace:
    """Read the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="on the processor, with tiny sizes")
    parser.add_argument("--parts", default=",".join(PARTS), help="all by default")
    parser.add_argument(
        "--limit", type=float, default=480, help="seconds after which everything ends, also parts within their limits"
    )
    parser.add_argument("--scratch", type=Path, default=Path("/var/tmp/catprune-gpu"))
    parser.add_argument("--out", type=Path, help="benches/runs; with --quick, the scratch folder")
    options = parser.parse_args()
    options.out = options.out or (options.scratch if options.quick else ROOT / "benches" / "runs")
    options.parts = options.parts.split(",")
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]}: give some of {', '.join(PARTS)}")
    return options


def lines_of(command: list[str], environment: dict[str, str], deadline: float) -> Any:
    """Yield the lines that a process prints; after the deadline of the part it is in, the process is killed.

    The deadline is that of everything, or earlier by the limit of the part, which starts at a line `{"begins": …}`.
    """
    # A group of its own, so that its children end with it.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=lambda: [*map(lines.put, process.stdout or ()), lines.put(None)])
    reader.start()
    until = deadline
    try:
        while True:
            try:
                line = lines.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                yield {"failed": "stopped, because it took too long"}
                return
            if line is None:
                if process.wait():
                    yield {"failed": f"the process ended with status {process.returncode}"}
                return
            if line.startswith("{"):
                result = json.loads(line)
                if "begins" in result:
                    until = min(deadline, time.monotonic() + PARTS[result["begins"]])
                yield result
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        reader.join()
        process.communicate()  # waits, and closes the pipe


def main() -> int:
    """Measure part by part, and write after each line."""
    options = read_options()
    if not options.quick and gpu() is None:
        print("no GPU here: give --quick", file=sys.stderr)
        return 2
    scratch, started, before = options.scratch.absolute(), datetime.now(UTC), time.monotonic()
    scratch.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {
        "started": started.isoformat(timespec="seconds"),
        "quick": options.quick,
        "machine": describe(scratch, {}, packages=PACKAGES),
        "lines": [],
    }
    path = options.out / f"{started:%Y-%m-%d-%H%M}-gpu{'-quick' if options.quick else ''}.json"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    if options.quick:
        environment |= {"CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "1", "TOKENIZERS_PARALLELISM": "false"}
    left, failures = list(options.parts), 0

    def report(part: str, line: dict[str, Any]) -> None:
        result = {"part": part, **line, "at": round(time.monotonic() - before, 1)}
        record["lines"].append(result)
        path.write_text(json.dumps(record, indent=1) + "\n")
        print(json.dumps(result), flush=True)

    # A GPU error spoils its process, so a new one measures the parts after a failure.
    while left:
        command = [sys.executable, str(SCRIPT), str(scratch), "quick" if options.quick else "whole", *left]
        part = left[0]
        for line in lines_of(command, environment, before + options.limit):
            if "begins" in line:
                part = line["begins"]
                left.remove(part)
                continue
            failures += "failed" in line
            report(part, line)
        if part in left:  # the process failed before it began
            left.remove(part)
        if time.monotonic() - before >= options.limit:
            for name in left:
                report(name, {"failed": "not run: the time is over"})
            failures += len(left)
            break
    where = "on the processor, so nothing is measured" if options.quick else "on a GPU"
    print(f"{failures} failures {where}; {time.monotonic() - before:.0f} s; {path}", flush=True)
    return int(failures > 0)


def run() -> None:
    """Run `main` until it ends or is interrupted, and exit."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which would leave the parts running
    try:
        code = main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    run()
