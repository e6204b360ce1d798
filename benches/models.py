"""Runs catprune's models beside transformers and CTranslate2 on real text, and writes what came out as a dated run.

    uv run python benches/models.py --source noisy.en.zst --target noisy.de.zst --scratch /somewhere/large
    uv run python benches/models.py --source noisy.en.zst --target noisy.de.zst --quick        # does it run?

Every contender runs in a process of its own, in interleaved rounds; see benches/README.md for what is measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compare import run
from machine import ROOT, describe
from model_checks import agreement, memory, output, training
from model_data import Data
from model_report import markdown
from model_rows import Bench, Row, read_nll, speed
from model_speed import batches, checkpoints, engines, parallel
from rows import Entry

ROWS: dict[str, Callable[[Bench], Row]] = {
    row.__name__: row for row in (engines, batches, parallel, checkpoints, agreement, memory, output, training)
}
PACKAGES = ("torch", "transformers", "ctranslate2", "numpy")
#: What --quick sets: for seeing whether everything runs.
QUICK = {"pairs": 240, "naive_pairs": 64, "rounds": 1, "trials": 1, "product_seconds": 0.1, "preset": "small"}
QUICK |= {"trained_steps": 30, "training_steps": 3, "training_preset": "tiny", "trained_preset": "tiny"}


def read_options() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="one line a segment, plain or compressed")
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=8000, help="of batches of the first block, drawn at random")
    parser.add_argument("--naive-pairs", type=int, default=1000, help="the first so many of them for transformers")
    parser.add_argument("--vocab-size", type=int, default=32_000)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--batch-tokens", type=int, default=1024, help="of catprune, outside the row of batches")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=2, help="rounds of what is tried beforehand, and of memory")
    parser.add_argument("--product-seconds", type=float, default=1.0, help="for each shape of matrix products")
    parser.add_argument("--trained", nargs=2, default=[], metavar="CHECKPOINT", help="early and late, native")
    parser.add_argument("--trained-preset", default="tiny", help="where no checkpoints are given")
    parser.add_argument("--trained-steps", type=int, default=1500)
    parser.add_argument("--training-preset", default="small")
    parser.add_argument("--training-steps", type=int, default=20)
    parser.add_argument("--rows", default=",".join(ROWS), help="all by default")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which a contender is stopped")
    parser.add_argument("--quick", action="store_true", help="small numbers in the place of all these")
    parser.add_argument("--scratch", type=Path, default=Path("/var/tmp/catprune-models"))
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "runs")
    options = parser.parse_args()
    if options.quick:
        for name, value in QUICK.items():
            setattr(options, name, value)
    options.naive_pairs = min(options.naive_pairs, options.pairs)
    options.rows = options.rows.split(",")
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f"{unknown[0]} is no row; they are {', '.join(ROWS)}")
    return options


def runner(options: argparse.Namespace, scratch: Path) -> Any:
    """What runs contenders in turn, round after round; one that fails is told of and not run again."""

    def rounds_of(
        name: str, entries: list[Entry], *, rounds: int | None = None, sample: bool = False, keep: bool = False
    ) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {entry.label: [] for entry in entries}
        failed: set[str] = set()
        for number in range(1, (rounds or options.rounds) + 1):
            for entry in entries:
                if entry.label in failed:
                    continue
                out = scratch / "out" / name
                result = run(entry, out, Path(sys.executable), sample=sample, limit=options.limit)
                if "seconds" not in result:
                    failed.add(entry.label)
                    print(f"{name} round {number}: {entry.label}: {result}", file=sys.stderr, flush=True)
                    continue
                told = f", {speed(result):,.0f} tokens/s" if "tokens" in result else ""
                print(
                    f"{name} round {number}: {entry.label}: {result['seconds']:.1f} s{told}",
                    file=sys.stderr,
                    flush=True,
                )
                if keep and number == 1:
                    result["nll"] = read_nll(out)
                found[entry.label].append(result)
                shutil.rmtree(out, ignore_errors=True)
        return found

    return rounds_of


def summary(row: Row) -> dict[str, Any]:
    """A row as it stands in the file: without the pairs' values, with medians."""
    entries: dict[str, Any] = {}
    for label, rounds in row.rounds.items():
        kept = [{name: value for name, value in one.items() if name != "nll"} for one in rounds]
        entries[label] = {"rounds": kept}
        if kept and "tokens" in kept[0]:
            entries[label] |= {
                "tokens": kept[0]["tokens"],
                "tokens_per_second": statistics.median(map(speed, kept)),
                "tokens_per_processor_second": statistics.median(
                    one["tokens"] / max(one["processor_seconds"], 1e-9) for one in kept
                ),
                "ratio": row.ratio(label, row.versus) if row.versus else None,
            }
    row.rounds = {}
    return {**row.record(), "entries": entries}


def main() -> int:
    """Measure row after row and write after each."""
    options = read_options()
    scratch = options.scratch.absolute()
    scratch.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(scratch / "out", ignore_errors=True)
    data = Data(scratch, options.source.absolute(), options.target.absolute(), options.vocab_size)
    bench = Bench(options, data, runner(options, scratch))
    started = datetime.now(UTC)
    told = {name: value for name, value in vars(options).items() if name not in ("scratch", "out", "trained")}
    told |= {
        "source": options.source.name,
        "target": options.target.name,
        "trained": [Path(p).name for p in options.trained],
    }
    record: dict[str, Any] = {
        "started": started.isoformat(timespec="seconds"),
        "options": told,
        "machine": describe(scratch, {}, packages=PACKAGES),
        "rows": [],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"{started:%Y-%m-%d-%H%M}-models-{options.pairs}"
    for name in options.rows:
        record["rows"].append({"name": name, **summary(ROWS[name](bench))})
        # After every row: an hour's work is not lost with the last.
        stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
        stem.with_suffix(".md").write_text(markdown(record))
    print(markdown(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
