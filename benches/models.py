"""Runs catprune's models, transformers and CTranslate2 on real text, and writes the results as a dated run.

    uv run python benches/models.py --source noisy.en.zst --target noisy.de.zst --scratch /somewhere/large
    uv run python benches/models.py --source noisy.en.zst --target noisy.de.zst --quick        # a quick check

Every contender runs in its own process, in interleaved rounds. benches/README.md describes the measurements.
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
#: Options of --quick, which checks that everything runs.
QUICK = {"pairs": 240, "naive_pairs": 64, "rounds": 1, "trials": 1, "product_seconds": 0.1, "preset": "small"}
QUICK |= {"trained_steps": 30, "training_steps": 3, "training_preset": "tiny", "trained_preset": "tiny"}


def read_options() -> argparse.Namespace:
    """Read the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="one segment per line, plain or compressed")
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=8000, help="pairs in batches of the first block, drawn at random")
    parser.add_argument("--naive-pairs", type=int, default=1000, help="number of these pairs for transformers")
    parser.add_argument("--vocab-size", type=int, default=32_000)
    parser.add_argument("--preset", default="base")
    parser.add_argument(
        "--batch-tokens", type=int, default=1024, help="batch size of catprune, except in the row batches"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=2, help="rounds of trials, and of memory")
    parser.add_argument("--product-seconds", type=float, default=1.0, help="for each shape of matrix products")
    parser.add_argument("--trained", nargs=2, default=[], metavar="CHECKPOINT", help="early and late, native")
    parser.add_argument("--trained-preset", default="tiny", help="preset if no checkpoints are given")
    parser.add_argument("--trained-steps", type=int, default=1500)
    parser.add_argument("--training-preset", default="small")
    parser.add_argument("--training-steps", type=int, default=20)
    parser.add_argument("--rows", default=",".join(ROWS), help="all by default")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which a contender is stopped")
    parser.add_argument("--quick", action="store_true", help="small numbers instead of all these")
    parser.add_argument("--scratch", type=Path, default=Path("/var/tmp/catprune-models"))
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "runs")
    options = parser.parse_args()
    if options.quick:
        for name, value in QUICK.items():
            setattr(options, name, value)
    options.naive_pairs = min(options.naive_pairs, options.pairs)
    options.rows = options.rows.split(",")
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f"there is no row {unknown[0]}: give some of {', '.join(ROWS)}")
    return options


def runner(options: argparse.Namespace, scratch: Path) -> Any:
    """Return a function that runs contenders in turn, round by round, without contenders that failed."""

    def rounds_of(
        name: str, entries: list[Entry], *, rounds: int | None = None, sample: bool = False, keep: bool = False
    ) -> dict[str, list[dict[str, Any]]]:
        results: dict[str, list[dict[str, Any]]] = {entry.label: [] for entry in entries}
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
                rate = f", {speed(result):,.0f} tokens/s" if "tokens" in result else ""
                print(
                    f"{name} round {number}: {entry.label}: {result['seconds']:.1f} s{rate}",
                    file=sys.stderr,
                    flush=True,
                )
                if keep and number == 1:
                    result["nll"] = read_nll(out)
                results[entry.label].append(result)
                shutil.rmtree(out, ignore_errors=True)
        return results

    return rounds_of


def summary(row: Row) -> dict[str, Any]:
    """Return a row for the JSON file: without values of pairs, with medians."""
    entries: dict[str, Any] = {}
    for label, rounds in row.rounds.items():
        kept = [{name: value for name, value in result.items() if name != "nll"} for result in rounds]
        entries[label] = {"rounds": kept}
        if kept and "tokens" in kept[0]:
            entries[label] |= {
                "tokens": kept[0]["tokens"],
                "tokens_per_second": statistics.median(map(speed, kept)),
                "tokens_per_processor_second": statistics.median(
                    result["tokens"] / max(result["processor_seconds"], 1e-9) for result in kept
                ),
                "ratio": row.ratio(label, row.versus) if row.versus else None,
            }
    row.rounds = {}
    return {**row.record(), "entries": entries}


def main() -> int:
    """Measure row by row, and write after each."""
    options = read_options()
    scratch = options.scratch.absolute()
    scratch.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(scratch / "out", ignore_errors=True)
    data = Data(scratch, options.source.absolute(), options.target.absolute(), options.vocab_size)
    bench = Bench(options, data, runner(options, scratch))
    started = datetime.now(UTC)
    recorded = {name: value for name, value in vars(options).items() if name not in ("scratch", "out", "trained")}
    recorded |= {
        "source": options.source.name,
        "target": options.target.name,
        "trained": [Path(p).name for p in options.trained],
    }
    record: dict[str, Any] = {
        "started": started.isoformat(timespec="seconds"),
        "options": recorded,
        "machine": describe(scratch, {}, packages=PACKAGES),
        "rows": [],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"{started:%Y-%m-%d-%H%M}-models-{options.pairs}"
    for name in options.rows:
        record["rows"].append({"name": name, **summary(ROWS[name](bench))})
        # Write after every row, so that a failure does not lose earlier rows.
        stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
        stem.with_suffix(".md").write_text(markdown(record))
    print(markdown(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
