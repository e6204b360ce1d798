"""Runs the experiments of this folder, one training after the other, and records each trained model in runs/.

    docs/results/evidence/prepare.sh SOURCES WORK
    nice -n 19 python docs/results/evidence/experiments.py WORK a1 a2 a3

The same command continues. A model that has a record is not trained again, also on another machine.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import catprune

HERE = Path(__file__).parent
SOURCE = Path(catprune.__file__).parents[2]


def git(*words: str) -> str:
    """Return what git prints about the source of the installed catprune."""
    return subprocess.run(["git", "-C", SOURCE, *words], check=True, capture_output=True, text=True).stdout.strip()


def processor() -> str:
    """Return the model of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next(line.split() for line in lines if line.startswith("flags"))
    return f"{models[0]}{', AMX' if 'amx_bf16' in flags else ''}" if models else platform.machine()


def settings(name: str, seed: int, subsets: list[str]) -> list[str]:
    """Return the arguments of `catprune` that train the models of these subsets with this seed, and no others."""
    given = {"seeds": [seed], "subsets": subsets, "hypotheses": []}
    return ["run", f"{name}.toml", *(f"--set=evaluate.{key}={json.dumps(value)}" for key, value in given.items())]


def record(work: Path, name: str, seed: int, subset: str, runs: Path) -> None:
    """Record a model whose tests are done; nothing if it is not trained yet."""
    trial, path = work / name / "evaluate/trials" / subset / f"seed-{seed}", runs / name / f"{subset}-seed-{seed}.json"
    if path.exists() or not (trial / "result.json").exists():
        return
    selection = work / name / "evaluate/seeds" / f"seed-{seed}" / "selection" / subset / "manifest.json"
    if not selection.exists():
        selection = work / name / "selection" / subset / "manifest.json"
    content = {
        "commit": git("rev-parse", "HEAD"),
        "command": ["catprune", *settings(name, seed, [subset])],
        "processor": processor(),
        "torch": json.loads((trial / "model/manifest.json").read_text())["torch"],
        "seconds": json.loads((trial / "model/log/seconds.json").read_text())["training"],
        "selection": json.loads(selection.read_text())["counts"] if selection.exists() else None,
        **json.loads((trial / "result.json").read_text()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".tmp").write_text(json.dumps(content, indent=1) + "\n")
    path.with_suffix(".tmp").rename(path)
    print(f"{time.strftime('%H:%M')} {name}, seed {seed}, {subset}: {content['tests']}", flush=True)


def main() -> None:
    """Run what has no record, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder that prepare.sh made")
    parser.add_argument("experiments", nargs="+", help="names of run files in it, without .toml")
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="folder of the records")
    given = parser.parse_args()
    if git("status", "--porcelain", "--untracked-files=no"):
        sys.exit(f"{SOURCE} has changes: commit them, so that the records can name the commit")
    runs = given.runs.absolute()
    for name in given.experiments:
        evaluation = tomllib.loads((given.work / f"{name}.toml").read_text())["evaluate"]
        seeds = evaluation["seeds"]
        for seed in range(1, seeds + 1) if isinstance(seeds, int) else seeds:
            wanted = evaluation["subsets"]
            missing = [subset for subset in wanted if not (runs / name / f"{subset}-seed-{seed}.json").exists()]
            if not missing:
                continue
            command = [sys.executable, "-m", "catprune", *settings(name, seed, missing)]
            with subprocess.Popen(command, cwd=given.work) as running:
                while running.poll() is None:
                    time.sleep(5)
                    for subset in missing:
                        record(given.work, name, seed, subset, runs)
            if running.returncode:
                sys.exit(running.returncode)
            for subset in missing:
                record(given.work, name, seed, subset, runs)


if __name__ == "__main__":
    main()
