"""The options of `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY
from typing import Annotated, Any, Literal

from pydantic import Field

from catprune.training.options import (
    MOST,
    Accumulate,
    BatchTokens,
    Dropout,
    LabelSmoothing,
    LearningRate,
    Precision,
    Preset,
    SaveEvery,
    WarmupSteps,
)
from catprune.workspace.common_options import Force, Names, OutFolder, Quiet, Seed, TorchThreads
from catprune.workspace.options import (
    CHECKPOINTS,
    EVALUATION,
    INPUT,
    OPTIMIZATION,
    AnyPath,
    option,
    options,
)

Tokenizer = Literal["13a", "zh", "ja-mecab", "ko-mecab", "char", "intl", "flores200"]


@options
class EvaluateOptions:
    """Train models on subsets, alike in all but the data, under several seeds, and compare them on held-out text."""

    tokens: Annotated[AnyPath, option("Tokens folder.", INPUT, metavar="TOKENS", path=True, run_file=False)]
    _: KW_ONLY
    subsets: Annotated[
        Mapping[str, AnyPath | Mapping[int, AnyPath] | None],
        option(
            "Name of each subset and its selection folder, or one such folder for each seed; None is all clean pairs.",
            EVALUATION,
            run_file=False,
        ),
    ]
    tests: Annotated[Sequence[Any], option("Held-out test sets.", EVALUATION, run_file=False)]
    dev: Annotated[
        Any,
        option(
            "Held-out dev set: chooses checkpoints and gives the curves.", EVALUATION, default="none", run_file=False
        ),
    ] = None
    out: OutFolder
    against: Annotated[
        Names | Mapping[str, Sequence[str]],
        option(
            "Baselines: subsets that all others are compared with.",
            EVALUATION,
            default="full and the random selections that keep as much",
            python="A mapping gives each subset its own baselines.",
        ),
    ] = ("full", "random")
    after_full: Annotated[
        Names,
        option(
            "Subsets on which trainings on full are continued after 80% of the updates, as `full-then-NAME`.",
            EVALUATION,
            default="none",
            details="They start from the weights and moments of full, keep its schedule and end after the same "
            "updates, so that full is their control. They are compared like all other subsets.",
        ),
    ] = ()
    hypotheses: Annotated[
        Sequence[Any], option("Hypotheses that are decided; all else is an interval.", EVALUATION, run_file=False)
    ] = ()
    seeds: Annotated[
        Annotated[int, Field(ge=1)] | Annotated[Sequence[int], Field(min_length=1)],
        option(
            "Number of training seeds, counted up from `seed`, or a list of them.",
            EVALUATION,
            details="Every subset is trained with each seed. One seed cannot tell luck from an effect.",
        ),
    ] = 1
    steps: Annotated[
        int | None,
        option(
            "Updates of every model.",
            OPTIMIZATION,
            metavar="N",
            least=1,
            most=MOST,
            default="as many as `epochs` of all clean pairs take",
        ),
    ] = None
    epochs: Annotated[
        float | None,
        option(
            "Passes over all clean pairs; every model gets that number of updates.",
            OPTIMIZATION,
            metavar="N",
            above=0,
            most=MOST,
            default="10, if steps is not given",
        ),
    ] = None
    evaluate_every: Annotated[
        int | None,
        option(
            "Updates between two checkpoints that are evaluated on the dev set.",
            CHECKPOINTS,
            metavar="N",
            least=1,
            most=MOST,
            default="a twentieth of the updates",
        ),
    ] = None
    translate_every: Annotated[
        int,
        option(
            "Translate the dev set greedily, for chrF, at every Nth of these checkpoints.",
            CHECKPOINTS,
            metavar="N",
            least=1,
            most=MOST,
        ),
    ] = 5
    average: Annotated[
        int | None,
        option(
            "Test the average of the last N of these checkpoints.",
            CHECKPOINTS,
            metavar="N",
            least=1,
            most=MOST,
            default="the one of lowest dev loss",
        ),
    ] = None
    beam: Annotated[int, option("Beam size of the test translations.", EVALUATION, metavar="N", least=1, most=MOST)] = 4
    bleu_tokenizer: Annotated[
        Tokenizer | None,
        option("Tokenizer of sacrebleu for BLEU.", EVALUATION, default="by the target language: zh, ja, ko, else 13a"),
    ] = None
    comet: Annotated[
        AnyPath | None,
        option(
            "COMET model with references that also scores the tests: a name, a checkpoint file, or a folder.",
            EVALUATION,
            metavar="MODEL",
            details="It runs in the environment of the scorer comet-qe.",
            default="no COMET",
        ),
    ] = None
    resamples: Annotated[
        int,
        option(
            "Random swaps of approximate randomisation, which compares two models if there is one seed.",
            EVALUATION,
            metavar="N",
            least=1,
            most=MOST,
        ),
    ] = 10_000
    preset: Preset = "tiny"
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
