"""The share of padding in scoring's batches of equal source lengths, on real text.

    uv run python benches/padding.py --source noisy.en.zst --target noisy.de.zst --scratch FOLDER

Native models on GPUs score packed sequences, which have none.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from catprune.model.batches import plan_scoring
from machine import ROOT, describe
from model_data import Data
from model_rows import pairs_in
from model_speed import padding

BATCH_TOKENS = (1024, 2048, 4096, 8192, 16_384)


def main() -> None:
    """Measure, and write a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="one segment per line, plain or compressed")
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--vocab-size", type=int, nargs="+", default=[8000, 32_000], help="as for tiny, and for base")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--scratch", type=Path, default=Path("/var/tmp/catprune-models"))
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "runs")
    options = parser.parse_args()
    rows: list[dict[str, float]] = []
    for vocab_size in options.vocab_size:
        tokens = Data(options.scratch, options.source, options.target, vocab_size).tokens
        blocks = pairs_in(tokens)[: options.blocks]
        for batch_tokens in BATCH_TOKENS:
            batches = [len(plan_scoring(pairs, batch_tokens=batch_tokens)) for pairs in blocks]
            total = sum(int(pairs.source.lengths.sum() + pairs.target.lengths.sum()) for pairs in blocks)
            row = {"vocab_size": vocab_size, "batch_tokens": batch_tokens, "padding": padding(blocks, batch_tokens)}
            rows.append({**row, "tokens_of_a_side_per_batch": total / 2 / float(np.sum(batches))})
            print(rows[-1], flush=True)
    started = datetime.now(UTC)
    names = {"source": options.source.name, "target": options.target.name, "blocks": options.blocks}
    record = {"started": started.isoformat(timespec="seconds"), **names, "rows": rows}
    record["machine"] = describe(options.scratch, {}, packages=("numpy",))
    (options.out / f"{started:%Y-%m-%d-%H%M}-padding.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
