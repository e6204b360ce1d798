"""The options of `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY
from typing import Annotated, Any

from catprune.training.options import (
    MOST,
    Accumulate,
    BatchTokens,
    Dropout,
    Epochs,
    LabelSmoothing,
    LearningRate,
    Precision,
    Preset,
    SaveEvery,
    Steps,
    WarmupSteps,
)
from catprune.workspace.common_options import Force, Names, OutFolder, Quiet, Seed, TorchThreads
from catprune.workspace.options import EVALUATION, INPUT, AnyPath, option, options


@options
class EvaluateOptions:
    """Train one model per subset with the same recipe, and compare the translations of held-out text."""

    tokens: Annotated[AnyPath, option("Tokens folder.", INPUT, metavar="TOKENS", path=True, run_file=False)]
    _: KW_ONLY
    subsets: Annotated[
        Mapping[str, AnyPath | None],
        option("Name of each subset and its selection folder; None is all clean pairs.", EVALUATION, run_file=False),
    ]
    tests: Annotated[Sequence[Any], option("Held-out test sets.", EVALUATION, run_file=False)]
    out: OutFolder
    against: Annotated[
        Names,
        option("Subsets that all others are compared with.", EVALUATION, default="full and random, if present"),
    ] = ("full", "random")
    beam: Annotated[int, option("Beam size of the translation.", EVALUATION, metavar="N", least=1, most=MOST)] = 4
    resamples: Annotated[
        int, option("Resamples of the paired bootstrap.", EVALUATION, metavar="N", least=1, most=MOST)
    ] = 1000
    preset: Preset = "tiny"
    epochs: Epochs = None
    steps: Steps = None
    batch_tokens: BatchTokens = None
    accumulate: Accumulate = None
    learning_rate: LearningRate = None
    warmup_steps: WarmupSteps = None
    label_smoothing: LabelSmoothing = None
    dropout: Dropout = None
    save_every: SaveEvery = 500
    precision: Precision = "auto"
    seed: Seed = 1
    threads: TorchThreads = None
    force: Force = False
    quiet: Quiet = False
