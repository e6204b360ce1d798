"""Exact top half of many float32 scores, beside NumPy: `select_bench.py [--rows N] [--repeat R] [--folder DIR]`.

The ways take turns, R times; printed are medians and ratios. `numpy` is a whole script: load, partition, fill the ties
from the lower rows, write uint32 row numbers. `whole` is a Python process that calls `catprune.select`, `pass` what its
Rust pass takes of it. Every way's rows are compared with NumPy's. The page cache is warm; catprune syncs what it
writes, so NumPy's script is also timed with a sync. Processor seconds (of all threads) stand beside the others: they
tell more on a busy machine. Private memory of the pass is its peak above that of the process before it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NUMPY = """
import os, sys
import numpy as np
scores = np.load(sys.argv[1])
k = len(scores) // 2
cut = np.partition(scores, len(scores) - k)[len(scores) - k]
kept = scores > cut
ties = np.flatnonzero(scores == cut)
kept[ties[: k - np.count_nonzero(kept)]] = True
rows = np.flatnonzero(kept).astype(np.uint32)
with open(sys.argv[2], "wb") as stream:
    np.save(stream, rows)
    if "sync" in sys.argv:
        stream.flush()
        os.fsync(stream.fileno())
"""

#: Times the pass inside the process, and its peak of private memory.
OURS = """
import json, re, sys, threading, time
from catprune import _core
from catprune.select import select

def private():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1])

inner, found = _core.select, {}
def timed(request, progress):
    before, peak, done = private(), [0], threading.Event()
    def watch():
        while not done.wait(0.005):
            peak[0] = max(peak[0], private())
    watcher = threading.Thread(target=watch)
    watcher.start()
    started, used = time.perf_counter(), time.process_time()
    result = inner(request, progress)
    found["busy"] = time.process_time() - used
    found["pass"] = time.perf_counter() - started
    done.set()
    watcher.join()
    found["memory"] = max(0, peak[0] - before) / 1024
    return result
_core.select = timed
started = time.perf_counter()
options = json.loads(sys.argv[1])
select(options.pop("source"), quiet=True, force=True, **options)
found["function"] = time.perf_counter() - started
print(json.dumps(found))
"""


def put_parquet(scores: np.ndarray, folder: Path) -> None:
    """Shards as catprune writes columns."""
    from catprune import _core

    folder.mkdir()
    for first in range(0, len(scores), 1 << 20):
        end = min(first + (1 << 20), len(scores))
        columns = {"row": np.arange(first, end), "score": scores[first:end]}
        _core.write_columns(str(folder / f"part-{first:012}-{end:012}.parquet"), columns, metadata={})


def timed(command: list[str]) -> tuple[float, float, str]:
    """Run a command; its seconds, its processor seconds and what it printed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, done.stdout


def main() -> None:
    """Read the options, and clean up behind the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rows-only", action="store_true", help="leave out what writes selection/")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        compare(folder, options)
    finally:
        shutil.rmtree(folder)


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Make the scores, run every way in turn, and print the medians."""
    draw = np.random.default_rng(1)
    scores = draw.standard_normal(options.rows, dtype=np.float32)
    np.save(folder / "scores.npy", scores)
    put_parquet(scores, folder / "parquet")
    del scores
    array, column = str(folder / "scores.npy"), {"source": str(folder / "parquet"), "column": "score"}
    ways = {
        "npy to rows": {"source": array, "rows": True},
        "parquet to rows": {**column, "rows": True},
        "npy to selection/": {"source": array},
        "parquet to selection/": column,
    }
    if options.rows_only:
        ways = {name: given for name, given in ways.items() if given.get("rows")}
    times: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    for _ in range(options.repeat):
        for name, more in (("numpy", []), ("numpy, synced", ["sync"])):
            script = [sys.executable, "-c", NUMPY, array, str(folder / "numpy.npy"), *more]
            whole, busy, _ = timed(script)
            times.setdefault(name, []).append(whole)
            processor.setdefault(name, []).append(busy)
        for name, given in ways.items():
            out = folder / "out"
            given = {**given, "keep": 0.5, "out": str(out), "threads": options.threads}
            whole, busy, printed = timed([sys.executable, "-c", OURS, json.dumps(given)])
            found = json.loads(printed)
            processor.setdefault(f"{name}, whole", []).append(busy)
            processor.setdefault(f"{name}, pass", []).append(found["busy"])
            times.setdefault(f"{name}, whole", []).append(whole)
            times.setdefault(f"{name}, pass", []).append(found["pass"])
            memory[name] = max(memory.get(name, 0), found["memory"])
            if given.get("rows"):
                same = np.array_equal(np.load(out / "rows.npy"), np.load(folder / "numpy.npy"))
                print(f"{name}: {'the same rows' if same else 'OTHER ROWS'}", file=sys.stderr)
            shutil.rmtree(out)
    print(f"{options.rows:,} rows, {options.threads} threads, median of {options.repeat}")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}")
    print(f"{'':30} {'seconds':>9}  {'x numpy':>7}  {'processor':>9}  {'x numpy':>7}")
    for name, seconds in times.items():
        wall, busy = statistics.median(seconds), statistics.median(processor[name])
        ratios = [statistics.median(found[name]) / statistics.median(found["numpy"]) for found in (times, processor)]
        print(f"{name:30} {wall:9.3f}  {ratios[0]:7.2f}  {busy:9.3f}  {ratios[1]:7.2f}")
    for name, peak in memory.items():
        print(f"{name:30} {peak:9.1f} MiB private memory of the pass")


if __name__ == "__main__":
    main()
