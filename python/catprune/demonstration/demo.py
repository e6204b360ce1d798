"""Demo: all steps on a generated corpus with known faults, and a table of the faults that each method keeps."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from catprune.demonstration.options import DemoOptions
from catprune.errors import CatpruneError
from catprune.workspace.files import write_whole
from catprune.workspace.options import takes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catprune.evaluation.results import Evaluated

#: Selections of the demo, and their names in the table.
NAMES = {
    "random": "random half",
    "cat-diff": "CAT, perplexity",
    "cat-diff-nll": "CAT, log-likelihood",
    "progress": "progress",
}

_RUN_FILE = """\
# The demo: {pairs} generated pairs, small models, float32, every step. `catprune run` with this file repeats the demo.
out = "."
seed = {seed}

[clean]
inputs = ["bitext/train.en", "bitext/train.de"]
tags = "bitext/train.kind"
source_lang = "en"
target_lang = "de"

[tokenize]
vocab_size = {vocab_size}

[train]
preset = "{preset}"
precision = "float32"
checkpoints = "{checkpoints}"
batch_tokens = {batch_tokens}
learning_rate = 0.005
warmup_steps = {warmup_steps}
dropout = 0.1

[score]
precision = "float32"

[[select]]
name = "random"
method = "random"

[[select]]
name = "cat-diff"
method = "cat-diff"
on = "ppl"

[[select]]
name = "cat-diff-nll"
method = "cat-diff"
on = "nll"

[[select]]
name = "progress"
method = "progress"

[write]
selection = "progress"
outputs = ["pruned.en", "pruned.de"]

[evaluate]
preset = "{preset}"
precision = "float32"
subsets = ["random", "progress"]
seeds = 3
steps = {evaluated_steps}
batch_tokens = {batch_tokens}
learning_rate = 0.005
warmup_steps = {warmup_steps}
dropout = 0.1

[[evaluate.tests]]
name = "held-out"
source = "bitext/test.en"
target = "bitext/test.de"
"""


@dataclass(frozen=True, slots=True)
class Demonstrated:
    """Results of the demo.

    Attributes:
        folder: the folder of the demo.
        planted: kind of pair → pairs in the corpus.
        kept: "cleaning" or a selection → kind → kept pairs.
        nll: subset → loss of its models on held-out pairs, nats per target token, a mean over three seeds.
        report: the HTML file.
        is_new: whether this call did anything; False if the demo was finished before.
    """

    folder: Path
    planted: Mapping[str, int] = field(hash=False)
    kept: Mapping[str, Mapping[str, int]] = field(hash=False)
    nll: Mapping[str, float] = field(hash=False)
    report: Path
    is_new: bool = field(default=True, compare=False)


@takes(DemoOptions)
def demo(options: DemoOptions) -> Demonstrated:
    """Generate a corpus with planted faults and run every step on it.

    Called again on the same folder, the demo continues, or returns the finished result.

    Raises:
        CatpruneError: as the steps do.
    """
    from catprune.demonstration.bitext import write_demo_bitext
    from catprune.evaluation.results import open_evaluation
    from catprune.pipeline.run import run

    folder, pairs, seed, force = Path(options.out), options.pairs, options.seed, options.force
    file = folder / "run.toml"
    text = _run_file(pairs=pairs, steps=options.steps, seed=seed).encode()
    folder.mkdir(parents=True, exist_ok=True)
    others = [path for path in folder.iterdir() if path.name != f"{file.name}.tmp"]
    if not force and others and not (file.is_file() and file.read_bytes() == text):
        raise CatpruneError(
            f"{folder} holds other files, or a demo with other options: give another out, or force = true to "
            "replace the demo"
        )
    write_whole(file, text)  # first, because it marks the folder as a demo's
    (folder / "bitext").mkdir(exist_ok=True)
    bitext = write_demo_bitext(folder / "bitext", pairs=pairs, seed=seed)
    done = run(file, threads=options.threads, force=force, quiet=options.quiet, say=options.say)
    evaluated = open_evaluation(folder / "evaluate")
    return Demonstrated(
        folder,
        dict(bitext.counts),
        _count_kept(folder, list(done.selections)),
        _held_out_loss(evaluated),
        done.report or folder / "report.html",
        done.is_new,
    )


def _run_file(*, pairs: int, steps: int | None, seed: int) -> str:
    """Return the run file; the warm-up model gets more updates than the compared models, which have three seeds."""
    updates = steps or max(60, pairs * 7 // 120)
    first = max(1, updates // 5)
    return _RUN_FILE.format(
        pairs=pairs,
        seed=seed,
        vocab_size=500 if pairs < 2000 else 1000,
        preset="tiny",
        checkpoints=f"{first}steps,{updates}steps",
        evaluated_steps=max(2, updates * 3 // 7),
        batch_tokens=512,
        warmup_steps=max(1, updates // 5),
    )


def _held_out_loss(evaluated: Evaluated) -> dict[str, float]:
    test = next(iter(evaluated.tests))
    return {name: measured.mean.value for name, measured in evaluated.scores[test]["nll"].items()}


def _count_kept(folder: Path, selections: list[str]) -> dict[str, dict[str, int]]:
    """Count the pairs of each kind that cleaning and each selection kept; a demo's columns fit into memory."""
    import numpy as np
    import pyarrow.parquet as parquet

    from catprune.workspace.manifest import COLUMNS

    def read(path: Path, columns: list[str]) -> dict[str, np.ndarray]:
        table = parquet.read_table(path / COLUMNS, columns=columns)
        return {name: table[name].to_numpy(zero_copy_only=False) for name in columns}

    cleaned = read(folder / "clean", ["reasons", "tag"])
    masks = {"cleaning": cleaned["reasons"] == 0}
    for name in selections:
        selected = read(folder / "selection" / name, ["row", "kept"])
        mask = np.zeros(len(cleaned["tag"]), bool)
        mask[selected["row"][selected["kept"].astype(bool)]] = True
        masks[name] = mask
    kinds = sorted(set(cleaned["tag"].tolist()))
    return {
        name: {kind: int((mask & (cleaned["tag"] == kind)).sum()) for kind in kinds} for name, mask in masks.items()
    }


def to_text(done: Demonstrated) -> str:
    """Return the table of the demo, with explanations."""
    from catprune.evaluation.results import align

    kinds = [kind for kind in done.planted if done.planted[kind]]
    names = [name for name in NAMES if name in done.kept]
    rows = [["", "planted", "cleaning", *(NAMES[name] for name in names)]]
    for kind in kinds:
        survived = done.kept["cleaning"].get(kind, 0)
        cells = [f"{done.kept[name].get(kind, 0) / survived:.0%}" if survived else "-" for name in names]
        rows.append([kind, f"{done.planted[kind]:,}", f"{survived:,}", *cells])
    rows.append(["pairs", f"{sum(done.planted.values()):,}", f"{sum(done.kept['cleaning'].values()):,}"])
    rows[-1] += [f"{sum(done.kept[name].values()):,}" for name in names]
    rows.append(["held-out loss", "", "", *(f"{done.nll[name]:.2f}" if name in done.nll else "-" for name in names)])
    return "\n".join(
        [
            "",
            *align(rows),
            "",
            "planted: pairs of each kind in the corpus. cleaning: pairs of each kind that pass the cleaning rules.",
            "Other columns: the share of these that each selection keeps; a good selection keeps clean pairs.",
            "held-out loss: nats per target token of models trained on the kept pairs with equal updates, mean of",
            "three seeds; lower is better. Toy language: docs/results has real text.",
            "progress, the default of `catprune prune`, compares pairs of similar initial loss.",
            "",
            f"report   {os.path.relpath(done.report)}",
            f"pruned   {os.path.relpath(done.folder / 'pruned.en')} and {os.path.relpath(done.folder / 'pruned.de')}: "
            "pairs kept by progress",
            f"repeat   catprune run {json.dumps(os.path.relpath(done.folder / 'run.toml'))[1:-1]}",
        ]
    )


def summary(done: Demonstrated) -> list[str]:
    """The tables of the demo."""
    return [to_text(done)]
