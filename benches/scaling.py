"""How far more cores can speed up the passes over text: the processor time of each thread, and Amdahl's bound.

    uv run python benches/scaling.py --scratch FOLDER

Each pass runs in its own process, whose threads are looked at every few milliseconds. The thread with the most
processor time bounds the speed-up: a pass cannot end before it. Processor time counts, not seconds, so that other work
on the machine shows little.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import corpus
from machine import ROOT, describe

#: The passes, in a folder with the corpus `a.en`, `a.de`; each reads what those before it wrote.
PASSES = {
    "clean": "clean(['a.en', 'a.de'], out='clean', source_lang='en', target_lang='de', {options})",
    "clean, near duplicates": "clean(['a.en', 'a.de'], out='near', near_duplicates='pair', {options})",
    "stats": "stats(['a.en', 'a.de'], {options})",
    "tokenize": "tokenize('clean', out='tokens', tokenizer='tokenizer.json', {options})",
    "select": "select('clean', out='selection', method='length', {options})",
    "write": "write('clean', ['kept.en', 'kept.de'], selection='selection', {options})",
    "write, zstd": "write('clean', ['kept.en.zst', 'kept.de.zst'], selection='selection', {options})",
}
#: What a pass makes; it is removed before the next number of threads.
MADE = ("clean", "near", "tokens", "selection", "kept.en", "kept.de", "kept.en.zst", "kept.de.zst")
SCRIPT = "import sys, catprune; catprune.{name}; print('ready', flush=True); sys.stdin.readline(); catprune.{call}"


def measure(folder: Path, call: str, threads: int) -> dict[str, float]:
    """Run a pass; return the processor seconds of all threads and of the largest, its share, and the bound."""
    call = call.format(options=f"threads={threads}, quiet=True")
    script = SCRIPT.format(name=call.partition("(")[0], call=call)
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdout.readline()
    before = thread_seconds(process.pid)
    process.stdin.write(b"\n")
    process.stdin.close()
    seconds = dict(before)
    while process.poll() is None:
        seconds |= thread_seconds(process.pid)
        time.sleep(0.002)
    if process.returncode:
        raise SystemExit(f"{call} failed")
    used = [total - before.get(thread, 0.0) for thread, total in seconds.items()]
    largest, total = max(used), sum(used)
    return {"seconds": total, "largest": largest, "share": largest / total, "bound": total / largest}


def thread_seconds(process: int) -> dict[str, float]:
    """Return the processor seconds of each thread of a process."""
    seconds: dict[str, float] = {}
    for task in Path(f"/proc/{process}/task").glob("*/schedstat"):
        try:
            seconds[task.parent.name] = int(task.read_text().split()[0]) / 1e9
        except (OSError, IndexError):
            continue  # the thread has ended
    return seconds


def main() -> None:
    """Measure, and write a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2_000_000)
    parser.add_argument("--source", type=Path, help="plain text to measure instead of generated pairs")
    parser.add_argument("--target", type=Path, help="its translations")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 8, 64])
    parser.add_argument("--scratch", type=Path, default=Path("/var/tmp/catprune-scaling"))
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "runs")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    generated = None if options.source else corpus.make(options.scratch, options.pairs)
    sides = generated or (options.source, options.target)
    for side, name in zip(sides, ("a.en", "a.de"), strict=True):
        (options.scratch / name).unlink(missing_ok=True)
        (options.scratch / name).symlink_to(side.resolve())
    with sides[0].open("rb") as lines:
        pairs = sum(1 for _ in lines)
    train_tokenizer(options.scratch)
    rows: list[dict[str, Any]] = []
    for threads in options.threads:
        clear(options.scratch)
        for name, call in PASSES.items():
            rows.append({"pass": name, "threads": threads, **measure(options.scratch, call, threads)})
            shown = "{pass:24} {threads:3} threads: {seconds:7.2f} s, largest {share:5.1%}, at most {bound:5.1f} times"
            print(shown.format(**rows[-1]), flush=True)
    clear(options.scratch)
    started = datetime.now(UTC)
    record: dict[str, Any] = {
        "started": started.isoformat(timespec="seconds"),
        "text": "generated" if generated else sides[0].name,
    }
    record |= {"pairs": pairs, "bytes": sum(side.stat().st_size for side in sides), "rows": rows}
    record["machine"] = describe(options.scratch, {})
    (options.out / f"{started:%Y-%m-%d-%H%M}-scaling.json").write_text(json.dumps(record, indent=1) + "\n")


def train_tokenizer(folder: Path) -> None:
    """Train the tokenizer once: the library's training is not a pass of catprune."""
    if not (folder / "tokenizer.json").exists():
        import catprune

        clear(folder)
        catprune.clean([folder / "a.en", folder / "a.de"], out=folder / "clean", quiet=True)
        catprune.tokenize(folder / "clean", out=folder / "tokens", vocab_size=8_000, sample=50_000, quiet=True)
        shutil.copy(folder / "tokens/tokenizer.json", folder)


def clear(folder: Path) -> None:
    """Remove what passes made."""
    for name in MADE:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
            path.with_name(f"{name}.catprune.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
