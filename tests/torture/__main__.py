"""The torture program: disturbs every step of catprune at random, and checks what is left.

`PYTHONPATH=tests python -m torture --seed 1 --minutes 45 --json result.json`, from the root of the repository. Every
case starts a command, disturbs it (`scenarios.py`), and runs the same command again. It must leave the bytes of an
undisturbed run, or refuse the work with a message that names the file. The exit code is 1 if there was a fault; its
folder is then kept. `--scenario NAME --case N` repeats one case.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from torture.disks import small_disk
from torture.processes import adopt_orphans
from torture.scenarios import SCENARIOS
from torture.steps import STEPS
from torture.world import CASE, Case, Fault, World


def main() -> None:
    """Run cases until the time or their number is reached, and print the counts."""
    options = _parse()
    _load_catprune()
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="catprune-torture-", dir=options.folder))
    world = World(folder / "world")
    world.make()
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(small_disk(folder))
        result = _torture(options, world, disk)
    print(json.dumps(result, indent=2, ensure_ascii=False))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    if result["faults"]:
        print(f"the folders of the faults are in {folder / 'faults'}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    sys.exit(bool(result["faults"]))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="Random seed of the cases.")
    parser.add_argument("--minutes", type=float, default=45, help="Start no case after this time.")
    parser.add_argument("--rounds", type=int, default=10**9, help="Most cases of each scenario.")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="Only these; may be repeated.")
    parser.add_argument("--step", choices=[step.name for step in STEPS], action="append", help="Only these steps.")
    parser.add_argument("--case", type=int, default=0, help="Number of the first case of each scenario.")
    parser.add_argument("--json", type=Path, help="File for the result, which is also printed.")
    parser.add_argument("--folder", type=Path, help="Folder for temporary files.")
    return parser.parse_args()


def _load_catprune() -> None:
    """Import what the commands need, once for all of them; and let little text exceed the memory of `clean`."""
    import catprune.cli
    import torch
    from catprune.cleaning import request
    from catprune.evaluation import evaluate
    from catprune.training import train

    assert torch and catprune.cli and evaluate and train
    request.LEAST_MEMORY = 1


def _torture(options: argparse.Namespace, world: World, disk: tuple[Path, str] | None) -> dict[str, Any]:
    start = time.monotonic()
    # Without strace no operation can be made to fail.
    names = [name for name in options.scenario or SCENARIOS if name != "operations" or shutil.which("strace")]
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    by_step: Counter[str] = Counter()
    faults: list[dict[str, Any]] = []
    for number in range(options.case, options.case + options.rounds):
        for name in names:
            if time.monotonic() - start > options.minutes * 60:
                break
            random = Random(f"{options.seed} {name} {number}")
            steps = [step for step in STEPS if SCENARIOS[name].fits(step) and step.name in (options.step or step.name)]
            # A step of torch takes longer.
            step = random.choices(steps, [1 if step.torch else 4 for step in steps])[0]
            small = disk[0] if disk and SCENARIOS[name].on_small_disk else None
            place, label = small or world.folder.parent, f"{name}-{number}".replace(" ", "-")
            case = Case(world, place / label / CASE, random, on_small_disk=small is not None)
            try:
                outcome = SCENARIOS[name].disturb(case, step)
            except Exception as error:
                outcome = "fault"
                # Any other exception is a fault of this program, which must not end a long run.
                message = str(error) if isinstance(error, Fault) else traceback.format_exc()
                faults.append({"scenario": name, "case": number, "step": step.name, "fault": message})
                print(f"{name} {number} ({step.name}): {message}", file=sys.stderr)
                shutil.copytree(case.folder, world.folder.parent / "faults" / label, symlinks=True)
            counts[name][outcome] += 1
            by_step[step.name] += 1
            shutil.rmtree(place / label, ignore_errors=True)
        else:
            continue
        break
    return {
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seed": options.seed,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "disk": disk[1] if disk else "limit of file sizes",
        "cases": sum(map(Counter.total, counts.values())),
        "scenarios": {name: dict(sorted(count.items())) for name, count in counts.items()},
        "steps": dict(by_step),
        "faults": faults,
    }


def _commit() -> str | None:
    command = ["git", "-C", os.fspath(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


if __name__ == "__main__":
    main()
