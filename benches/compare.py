"""Runs catprune and its peers in turn on a generated corpus, and writes the results as a dated run.

    uv run python benches/compare.py --scratch /somewhere/large            # 8M pairs, 5 rounds, about 30 GB of disk
    uv run python benches/compare.py --pairs 800000 --rows dedup,clean     # a quick run

The first round warms up, measures memory and compares outputs. The other rounds are timed, every contender once per
round. benches/README.md describes the measurements.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Any

import xxhash
from job import private_bytes
from machine import ROOT, describe
from report import markdown
from rows import ROWS, Entry, Row, Setup, environments

CONTENDERS = ROOT / "benches" / "contenders.py"
Result = dict[str, Any]


def tree(process: int) -> list[int]:
    """Return a process and its descendants."""
    processes = [process]
    for parent in processes:
        for file in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                processes += map(int, file.read_text().split())
            except OSError:
                continue
    return processes


class Sampler(threading.Thread):
    """Samples private bytes, dirty private bytes and disk bytes of a running contender ten times a second."""

    def __init__(self, process: int, out: Path) -> None:
        super().__init__(daemon=True)
        self.process, self.out = process, out
        self.private = self.dirty = self.disk = 0
        self.running = True

    def run(self) -> None:
        """Sample until `running` is false."""
        while self.running:
            self.private = max(self.private, sum(map(private_bytes, tree(self.process))))
            self.dirty = max(self.dirty, sum(private_bytes(child, "Dirty") for child in tree(self.process)))
            self.disk = max(self.disk, _disk(self.out) + sum(map(_unnamed, tree(self.process))))
            sleep(0.1)


def _disk(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:
            continue
    return total


def _unnamed(process: int) -> int:
    """Count the bytes of open files of a process that have no name."""
    total = 0
    for file in Path(f"/proc/{process}/fd").glob("*"):
        try:
            stat = file.stat()
        except OSError:
            continue
        total += stat.st_blocks * 512 if not stat.st_nlink else 0
    return total


def run(entry: Entry, out: Path, interpreter: Path | str, *, sample: bool, limit: float) -> Result:
    """Run an entry in its own process, with an empty folder and synced disks; stop it after `limit` seconds."""
    if isinstance(interpreter, str):
        return {"skipped": interpreter}
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    os.sync()
    job = {**entry.job, "out": str(out)}
    one_thread = dict.fromkeys(("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    variables = {**one_thread, "TOKENIZERS_PARALLELISM": "false"} if entry.core else {}
    command = [interpreter, CONTENDERS, entry.function, json.dumps(job)]
    with (out / "stderr").open("w+") as complaints:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            env={**os.environ, **variables},
            start_new_session=True,
        )
        assert process.stdout is not None
        alarm = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        ready, sampler, last = (0, 0), None, ""
        for line in process.stdout:
            if line.startswith("ready "):
                private, dirty = line.split()[1:]
                ready = int(private), int(dirty)
                if sample:
                    sampler = Sampler(process.pid, out)
                    sampler.start()
            else:
                last = line
        _, status = os.waitpid(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        late = not alarm.is_alive()
        alarm.cancel()
        if sampler is not None:
            sampler.running = False
            sampler.join()
        if late:
            return {"failed": f"stopped after {limit:g} s"}
        if process.returncode or not last.startswith("{"):
            complaints.seek(0)
            messages = [line for line in complaints.read().splitlines() if "Error" in line or "Exception" in line]
            return {"failed": messages[-1][:300] if messages else f"exit status {process.returncode}"}
    result: Result = json.loads(last)
    if sampler is not None:
        above = {"private": sampler.private - ready[0], "dirty": sampler.dirty - ready[1]}
        result |= {name: max(0, count) for name, count in above.items()} | {"disk": sampler.disk}
    return result


def outcome(row: Row, entry: Entry, result: Result, out: Path) -> dict[str, Any]:
    """Return digests of an entry's output, for comparison with other entries."""
    if row.compare == "rows" and entry.job.get("rows_only", True):
        import numpy as np

        (file,) = out.rglob("rows.npy")
        return {"rows": xxhash.xxh3_128_hexdigest(np.ascontiguousarray(np.load(file)).tobytes())}
    if row.compare == "rows":
        import numpy as np
        import pyarrow.dataset as dataset

        kept = dataset.dataset([str(path) for path in sorted(out.rglob("part-*.parquet"))]).to_table()
        rows = kept["row"].to_numpy()[kept["kept"].to_numpy()].astype(np.uint32)
        return {"rows": xxhash.xxh3_128_hexdigest(rows.tobytes())}
    if row.compare == "tokens":
        return {"tokens": result["tokens"]}
    if row.compare != "files" or entry.function == "floor":
        return {}
    paths = [out / side for side in ("source", "target")]
    known: dict[str, Any] = {}
    if entry.label not in row.unordered:
        known["files"] = [_digest(path) for path in paths]
    if row.unordered and entry.label in ("catprune", *row.unordered):
        total = 0
        with paths[0].open("rb") as source, paths[1].open("rb") as target:
            for line, translation in zip(source, target, strict=True):
                total += xxhash.xxh3_64_intdigest(line + b"\t" + translation)
        known["pairs in any order"] = total % 2**64
    return known


def _digest(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def measure(row: Row, options: argparse.Namespace, scratch: Path, homes: dict[str, Path | str]) -> dict[str, Any]:
    """Run all rounds of a row; return the measurements of every entry, and whether outputs agree."""
    summaries: dict[str, Result] = {entry.label: {"rounds": []} for entry in row.entries}
    known: dict[str, dict[str, Any]] = {}
    for number in range(options.rounds + 1):
        for entry in row.entries:
            summary = summaries[entry.label]
            if {"skipped", "failed"} & summary.keys() or (number and entry.once):
                continue
            name = entry.label.split(",")[0] if entry.keep else "any"
            out = scratch / "out" / f"{row.name}-{name}"
            result = run(entry, out, homes[entry.home], sample=number == 0, limit=options.limit)
            text = result.get("skipped") or result.get("failed") or f"{result['seconds']:.2f} s"
            print(f"{row.name} round {number}: {entry.label}: {text}", file=sys.stderr, flush=True)
            if "seconds" not in result:
                summary |= result
            elif number == 0:
                names = ("private", "disk", "kept", "tokens")
                summary |= {name: result[name] for name in names if name in result}
                known[entry.label] = outcome(row, entry, result, out)
            if "seconds" in result and (number or entry.once):
                timed = {"seconds": result["seconds"], "processor_seconds": result["processor_seconds"]}
                summary["rounds"].append(timed)
            if not entry.keep:
                shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(scratch / "out", ignore_errors=True)
    return _summarize(row, summaries, known)


def _summarize(row: Row, summaries: dict[str, Result], known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Compute medians, ratios within rounds, agreement of outputs, and goals."""

    def ratio(label: str, other: str) -> float | None:
        both = zip(summaries[label]["rounds"], summaries[other]["rounds"], strict=False)
        ratios = [first["seconds"] / second["seconds"] for first, second in both]
        return statistics.median(ratios) if ratios else None

    for label, summary in summaries.items():
        if not summary["rounds"]:
            continue
        for name in ("seconds", "processor_seconds"):
            summary[name] = statistics.median(timed[name] for timed in summary["rounds"])
        summary["ratio"] = ratio(label, row.versus)
    differing = []
    for aspect in sorted({aspect for digests in known.values() for aspect in digests}):
        values = {label: digests[aspect] for label, digests in known.items() if aspect in digests}
        expected = next(iter(values.values()))
        differing += [label for label, value in values.items() if value != expected]
    compared = [label for label, digests in known.items() if digests]
    goals = [
        {"label": label, "versus": other, "at_most": factor, "ratio": ratio(label, other)}
        for label, other, factor in row.goals
    ]
    return {
        "name": row.name,
        "title": row.title,
        "versus": row.versus,
        "note": row.note,
        "entries": summaries,
        "outputs": {"compared": compared, "differing": differing},
        "goals": goals,
    }


def main() -> int:
    """Measure and write the run; the exit status is 1 if outputs differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8_000_000)
    parser.add_argument("--scores", type=int, help="scores to select from; 100M for 8M pairs, and in proportion")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", default=",".join(name for name in ROWS if name != "disk"), help=", ".join(ROWS))
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which a contender is stopped")
    parser.add_argument("--scratch", type=Path, default=Path("/var/tmp/catprune-benches"))
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "runs")
    options = parser.parse_args()
    names = options.rows.split(",")
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"there is no row {unknown[0]}: give some of {', '.join(ROWS)}")
    scratch = options.scratch.absolute()
    scratch.mkdir(parents=True, exist_ok=True)
    setup = Setup(scratch, options.pairs, options.scores or options.pairs * 25 // 2)
    homes = environments(scratch)
    started = datetime.now(UTC)
    record: dict[str, Any] = {
        "started": started.isoformat(timespec="seconds"),
        "options": {"pairs": setup.pairs, "scores": setup.scores, "rounds": options.rounds, "rows": names},
        "machine": describe(scratch, homes),
        "rows": [],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"{started:%Y-%m-%d-%H%M}-{setup.pairs}"
    for name in names:
        try:
            row = ROWS[name](setup)
        except (RuntimeError, OSError) as error:
            record["rows"].append({"name": name, "skipped": str(error)})
        else:
            record["rows"].append(measure(row, options, scratch, homes))
        # Write after every row, so that a failure does not lose earlier rows.
        stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
        stem.with_suffix(".md").write_text(markdown(record))
    print(markdown(record))
    return 1 if any(row.get("outputs", {}).get("differing") for row in record["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
