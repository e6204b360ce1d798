"""catprune as a contender: its passes by the functions of the package, or by the commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from job import Job, Timed, outputs, sync


def clean_options(job: Job) -> dict[str, Any]:
    """What `clean` is told, by the row's mode: "open", no rules and the raw key, or all "default"."""
    options: dict[str, Any] = {"threads": job.get("threads"), "memory": job.get("memory")}
    if job["mode"] == "open":
        options |= {"rules": False, "duplicates_form": "raw"}
    return options


def ours(job: Job) -> Timed:
    """The passes of clean and write from the first call; `verdicts`: clean alone."""
    import catprune

    options, folder = clean_options(job), Path(job["out"]) / "clean"

    def run() -> dict[str, Any]:
        cleaned = catprune.clean(job["inputs"], out=folder, quiet=True, **options)
        after_clean = perf_counter()
        if not job.get("verdicts"):
            catprune.write(folder, outputs(job), threads=job.get("threads"), quiet=True)
        return {"kept": cleaned.kept, "write_seconds": perf_counter() - after_clean}

    if job.get("cold"):
        for path in job["inputs"]:
            sync(path)
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)
    return run


def ours_commands(job: Job) -> Timed:
    """The same by the two commands: starting Python and importing included."""
    catprune, folder = [sys.executable, "-m", "catprune"], f"{job['out']}/clean"
    arguments = ["--quiet"]
    if job["mode"] == "open":
        arguments += ["--duplicates-form", "raw", "--no-rules"]

    def run() -> dict[str, Any]:
        for command in (
            [*catprune, "clean", *job["inputs"], "--out", folder, *arguments],
            [*catprune, "write", folder, *outputs(job), "--quiet"],
        ):
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr.strip()[-500:])
        return {}

    return run


def ours_select(job: Job) -> Timed:
    """`catprune.select` from .npy or Parquet, to row numbers or to a selection with its scores."""
    import catprune

    options: dict[str, Any] = {} if job["read"] == "npy" else {"column": "score"}
    if job["rows"]:
        options["rows"] = True
    out = Path(job["out"]) / "selection"

    def run() -> dict[str, Any]:
        return {"kept": catprune.select(job[job["read"]], out=out, keep="50%", quiet=True, **options).kept}

    return run


def near(job: Job) -> Timed:
    """Near duplicates of the sources alone, no rules; on one core."""
    import catprune

    near = {
        "threshold": job["threshold"],
        "permutations": job["bands"] * job["band_size"],
        "bands": job["bands"],
        "shingles": "words",
        "shingle_size": 2,
    }
    options = {"rules": False, "duplicates": "none", "near_duplicates": "source", "near": near, "threads": 1}
    folder = Path(job["out"]) / "clean"

    def run() -> dict[str, Any]:
        cleaned = catprune.clean(job["inputs"], out=folder, quiet=True, **options)
        catprune.write(folder, outputs(job), threads=1, quiet=True)
        return {"kept": cleaned.kept}

    return run


def ours_tokenize(job: Job) -> Timed:
    """Kept text to token blocks on one core."""
    import catprune

    def run() -> dict[str, Any]:
        out = f"{job['out']}/tokens"
        done = catprune.tokenize(job["clean"], out=out, tokenizer=job["tokenizer"], threads=1, quiet=True)
        return {"tokens": done.source_tokens + done.target_tokens}

    return run
