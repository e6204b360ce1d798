"""catprune as a contender: its passes as Python functions or as commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from job import Job, Timed, outputs, sync


def clean_options(job: Job) -> dict[str, Any]:
    """Return the options of `clean` for a row's mode: "open" (no rules, raw key) or "default"."""
    options: dict[str, Any] = {"threads": job.get("threads"), "memory": job.get("memory")}
    if job["mode"] == "open":
        options |= {"rules": False, "duplicates_form": "raw"}
    return options


def ours(job: Job) -> Timed:
    """Run `clean` and `write`; with `clean_only` just `clean`."""
    import catprune

    options, folder = clean_options(job), Path(job["out"]) / "clean"

    def run() -> dict[str, Any]:
        cleaned = catprune.clean(job["inputs"], out=folder, quiet=True, **options)
        after_clean = perf_counter()
        if not job.get("clean_only"):
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
    """Run both as commands, including the start of Python and imports."""
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
    """Run `catprune.select` from .npy or Parquet, to row numbers or to a selection with scores."""
    import catprune

    options: dict[str, Any] = {} if job["read"] == "npy" else {"column": "score"}
    if job["rows_only"]:
        options["rows_only"] = True
    out = Path(job["out"]) / "selection"

    def run() -> dict[str, Any]:
        return {"kept": catprune.select(job[job["read"]], out=out, keep="50%", quiet=True, **options).kept}

    return run


def near(job: Job) -> Timed:
    """Find near duplicates of the sources, without rules, on one core."""
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
    """Tokenize clean text into blocks on one core."""
    import catprune

    def run() -> dict[str, Any]:
        out = f"{job['out']}/tokens"
        done = catprune.tokenize(job["clean"], out=out, tokenizer=job["tokenizer"], threads=1, quiet=True)
        return {"tokens": done.source_tokens + done.target_tokens}

    return run
