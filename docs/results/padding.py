"""Prints how much of the training batches of tokens folders is padding, in the layouts that could be computed.

    python docs/results/padding.py run/tokens ... > docs/results/padding.tsv

padding.tsv has the corpora of the evaluations, with a vocabulary of 32,000 each (first epoch, seed 1).
"""

import argparse
from pathlib import Path

import numpy as np
from catprune.model.batches import PART_TOKENS, cut
from catprune.model.sizes import PRESETS
from catprune.tokens.blocks import Tokens
from catprune.training.data_order import Order
from catprune.training.processes import Processes
from catprune.training.updates import Updates
from catprune.workspace.device import Device

STEP = 8  # lengths in multiples of this give few shapes
COLUMNS = ("tokens folder", "tokens of an update", "computed", "updates", "target tokens of an update")


def shares(order: Order, *, whole: bool) -> tuple[float, float]:
    """Return the shares of padding in the positions of an epoch, and with lengths in multiples of `STEP`."""
    maker = Updates.of(
        order,
        size=PRESETS["base"],
        device=Device("cpu", "float32"),
        processes=Processes(),
        pruning=None,
        accumulate=1 if whole else None,
    )
    tokens, positions = 0, np.zeros(2)
    for window, entries in enumerate(order.windows(0)):
        pairs, batches = order.batches(0, window, entries)
        for chosen in batches:
            for part in maker._split(pairs, chosen, 0):
                for side in (pairs.source, pairs.target):
                    lengths = side.lengths[chosen[part]]
                    longest = int(lengths.max())
                    tokens += int(lengths.sum())
                    positions += len(part) * np.array([longest, -(-longest // STEP) * STEP])
    plain, stepped = 1 - tokens / positions
    return float(plain), float(stepped)


def padded_updates(order: Order) -> int:
    """Count the updates of an epoch if padding counted in batches of any size."""
    count = 0
    for window, entries in enumerate(order.windows(0)):
        pairs, _ = order.batches(0, window, entries)
        by_length = np.lexsort((pairs.source.lengths, pairs.target.lengths))
        count += len(cut(pairs, by_length, batch_tokens=order.batch_tokens))
    return count


def main() -> None:
    """Print a line for each folder, size of an update and layout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens", nargs="+", type=Path)
    print(*COLUMNS, "the same if padding counted", "padding", f"padding in multiples of {STEP}", sep="\t")
    for path in parser.parse_args().tokens:
        for size in (PART_TOKENS, 25_000):
            order = Order(Tokens.open(path), 1, size)
            updates, target_tokens = order.updates(), order.counts[1]
            counts = (updates, round(target_tokens / updates), round(target_tokens / padded_updates(order)))
            for whole in (False, True)[: 1 + (size > PART_TOKENS)]:
                layout = "whole" if whole else f"parts of {PART_TOKENS}"
                values = (f"{share:.3f}" for share in shares(order, whole=whole))
                print(path.name, size, layout, *counts, *values, sep="\t", flush=True)


if __name__ == "__main__":
    main()
