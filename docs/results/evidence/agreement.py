"""Runs d.toml with several seeds and presets, and compares the scores and halves that the warm-ups choose.

    docs/results/evidence/prepare.sh SOURCES WORK
    nice -n 19 python docs/results/evidence/agreement.py WORK --seeds 1 2 3 --presets tiny small

The same command continues. The comparison is runs/d.json: for each pair of selections, the share of pairs that both
halves keep (half of them by chance: 0.5) and the rank correlation of the scores, one value for each pair of runs.
"""

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
from experiments import HERE, git, processor
from numpy.typing import NDArray

#: The methods of two checkpoints.
METHODS = ("progress", "cat-ppl", "cat-nll")
#: The warm-ups of increasing length, in epochs, that the methods of two checkpoints are compared over.
LENGTHS = ("half", "1", "2", "5")
#: Methods that are compared by the half that they keep.
OTHERS = (
    "cat-var", "ppl", "ign", "token-grad-norm", "el2n", "confidence", "variability", "forgetting", "s2l", "length",
    "random",
)  # fmt: skip


def train(work: Path, preset: str, seed: int) -> Path:
    """Train a warm-up, score with it and select; return the folder of the selections."""
    out = f"d/{preset}-seed-{seed}"
    changes = {"out": out, "seed": seed, "train.preset": preset}
    arguments = [f"--set={key}={json.dumps(value)}" for key, value in changes.items()]
    subprocess.run([sys.executable, "-m", "catprune", "run", "d.toml", *arguments], cwd=work, check=True)
    return work / out / "selection"


def read(folder: Path, name: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Read which pairs a selection keeps, and their scores (NaN where there is none), in row order."""
    table = parquet.read_table(folder / name / "columns")
    return table["kept"].to_numpy(), table["score"].to_numpy().astype(np.float64)


def ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks of scores; equal scores share their mean rank."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def compare(one: tuple[NDArray[Any], NDArray[Any]], other: tuple[NDArray[Any], NDArray[Any]]) -> dict[str, float]:
    """Return the overlap of two halves, and Spearman's correlation of the scores that both have."""
    both = ~(np.isnan(one[1]) | np.isnan(other[1]))
    correlation = np.corrcoef(ranks(one[1][both]), ranks(other[1][both]))[0, 1]
    overlap = (one[0] & other[0]).sum() / min(one[0].sum(), other[0].sum())
    return {"overlap": round(float(overlap), 4), "spearman": round(float(correlation), 4)}


def main() -> None:
    """Train what is missing, and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder that prepare.sh made")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--presets", nargs="+", default=["tiny", "small"])
    given = parser.parse_args()
    names = [f"{method}-{length}" for method in METHODS for length in LENGTHS]
    runs: dict[str, list[dict[str, Any]]] = {}
    for preset in given.presets:
        folders = [train(given.work, preset, seed) for seed in given.seeds]
        runs[preset] = [{name: read(folder, name) for name in (*names, *OTHERS)} for folder in folders]
    tiny = runs["tiny"]
    content: dict[str, Any] = {
        "commit": git("rev-parse", "HEAD"),
        "processor": processor(),
        "seeds": given.seeds,
        "between_seeds": {
            preset: {
                name: [compare(one[name], other[name]) for one, other in itertools.combinations(several, 2)]
                for name in several[0]
            }
            for preset, several in runs.items()
        },
        "between_lengths": {
            f"{method}: {length} and 5": [
                compare(run[f"{method}-{length}"], run[f"{method}-5"]) for run in runs["tiny"]
            ]
            for method in METHODS
            for length in LENGTHS[:-1]
        },
        "between_sizes": {
            name: [compare(one[name], other[name]) for one, other in zip(tiny, runs["small"], strict=True)]
            for name in (names if "small" in runs else ())
        },
        "between_methods": {
            f"{method}, {other}": [compare(run[f"{method}-5"], run[other]) for run in tiny]
            for method in METHODS
            for other in (*(f"{name}-5" for name in METHODS), *OTHERS)
            if other != f"{method}-5"
        },
    }
    path = HERE / "runs" / "d.json"
    path.with_suffix(".tmp").write_text(json.dumps(content, indent=1) + "\n")
    path.with_suffix(".tmp").replace(path)
    print(path)


if __name__ == "__main__":
    main()
