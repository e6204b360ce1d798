"""The options of `train`, and those that every training of a run shares."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, Any, Literal

from catprune.training.recipe import WARMUP_SHARE
from catprune.workspace.common_options import Force, OutFolder, Paths, Quiet, Seed, TorchThreads
from catprune.workspace.options import (
    CHECKPOINTS,
    DATA,
    DYNAMIC,
    INPUT,
    MODEL,
    OPTIMIZATION,
    OUTPUT,
    RESOURCES,
    AnyPath,
    option,
    options,
)

MOST = 10**12
#: The default of options whose values are in `recipe.RECIPES`.
BY_PRESET = "by the preset"

Preset = Annotated[Literal["tiny", "small", "base", "big"], option("Size of the model.", MODEL)]
Epochs = Annotated[
    float | None,
    option(
        "Passes over the training pairs; fractions are allowed.",
        OPTIMIZATION,
        metavar="N",
        above=0,
        most=MOST,
        default="the last checkpoint's epoch, or 5",
    ),
]
Steps = Annotated[
    int | None, option("Number of updates, instead of epochs.", OPTIMIZATION, metavar="N", least=1, most=MOST)
]
Checkpoints = Annotated[
    str | None,
    option(
        "Where to save checkpoints besides the end: epochs or updates, like 1,3,5 or 500steps.",
        CHECKPOINTS,
        metavar="LIST",
        default="the end",
    ),
]
Sample = Annotated[
    int | None,
    option(
        "Train on this number of pairs, drawn evenly from the whole corpus.",
        DATA,
        metavar="N",
        least=1,
        most=MOST,
        default="all pairs",
        details="An epoch is then a pass over the sample. `select` ranks pairs by exposure: those that were trained "
        "on and those that were not are ranked separately.",
    ),
]
BatchTokens = Annotated[
    int | None,
    option(
        "Most tokens of an update on either side; with padding, if at most 4,096.",
        OPTIMIZATION,
        metavar="N",
        least=1,
        most=MOST,
        default=BY_PRESET,
    ),
]
Accumulate = Annotated[
    int | None,
    option(
        "Number of parts that a batch is computed in, one after the other, to save memory.",
        RESOURCES,
        metavar="N",
        least=1,
        most=MOST,
        default="parts of at most 4,096 tokens; on a GPU, as many as fit in half of its memory",
        details="Gradients of the parts are added up, so the update is that of the whole batch, except for rounding "
        "and dropout.",
    ),
]
LearningRate = Annotated[
    float | None,
    option("Peak learning rate, reached after the warm-up.", OPTIMIZATION, metavar="RATE", above=0, default=BY_PRESET),
]
WarmupSteps = Annotated[
    int | None,
    option(
        "Updates of linear learning-rate warm-up.",
        OPTIMIZATION,
        metavar="N",
        least=1,
        most=MOST,
        default=f"by the preset, at most {WARMUP_SHARE:.0%} of the updates",
    ),
]
LabelSmoothing = Annotated[
    float | None,
    option(
        "Share of the target distribution that is spread over the vocabulary.",
        OPTIMIZATION,
        metavar="SHARE",
        least=0,
        below=1,
        default="0.1",
    ),
]
Dropout = Annotated[
    float | None,
    option(
        "Dropout after embeddings and sub-layers.",
        OPTIMIZATION,
        metavar="SHARE",
        least=0,
        below=1,
        default=BY_PRESET,
    ),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"],
    option(
        "Precision of matrix products.",
        RESOURCES,
        details="`auto` takes bfloat16 where the processor gains by it; `tiny` is too narrow to gain.",
    ),
]
SaveEvery = Annotated[
    int,
    option(
        "Most updates between two saved states, from which a killed run continues.",
        CHECKPOINTS,
        metavar="N",
        least=1,
        most=MOST,
        details="A state is also saved every three minutes.",
    ),
]


@options
class TrainOptions:
    """Train a translation model and keep its early checkpoints. Under torchrun, all processes train one model."""

    tokens: Annotated[AnyPath, option("Tokens folder.", INPUT, metavar="TOKENS", path=True, run_file=False)]
    _: KW_ONLY
    out: OutFolder
    preset: Preset = "tiny"
    epochs: Epochs = None
    steps: Steps = None
    checkpoints: Checkpoints = None
    selection: Annotated[
        AnyPath | None,
        option("Train only on the pairs of this selection.", DATA, metavar="DIR", path=True, run_file=False),
    ] = None
    rows: Annotated[
        AnyPath | Any | None,
        option(
            "Train only on the rows in this .npy file of ascending integers.",
            DATA,
            metavar="FILE",
            path=True,
            run_file=False,
            python="An array or list of row numbers in any order is accepted, too.",
        ),
    ] = None
    exclude_rows: Annotated[
        AnyPath | Any | None,
        option(
            "Do not train on the rows in this .npy file.",
            DATA,
            metavar="FILE",
            path=True,
            run_file=False,
            python="An array or list of row numbers in any order is accepted, too.",
        ),
    ] = None
    sample: Sample = None
    dev: Annotated[
        Paths,
        option(
            "Two line-aligned files of a dev set, for patience.",
            DATA,
            metavar="FILE",
            path=True,
            run_file=False,
            default="none",
        ),
    ] = ()
    patience: Annotated[
        int | None,
        option(
            "Stop when the dev loss of this number of checkpoints in a row is not lower than before.",
            CHECKPOINTS,
            metavar="N",
            least=1,
            most=MOST,
            default="off",
            run_file=False,
            details="The loss is measured at each of `checkpoints`. Without a stop, the training ends as usual.",
        ),
    ] = None
    init: Annotated[
        AnyPath | None,
        option(
            "Start from the weights of this native checkpoint, of the same preset and tokenizer.",
            MODEL,
            metavar="CHECKPOINT",
            path=True,
            run_file=False,
            default="random weights",
            details="Learning rate, moments and counts of updates start again; its exposure counts if it was trained "
            "on the same tokens.",
        ),
    ] = None
    resume_from: Annotated[
        AnyPath | None,
        option(
            "Start from this checkpoint of `keep_moments`, with its moments, its count of updates and its costs.",
            MODEL,
            default="none",
            path=True,
            run_file=False,
            command=False,
        ),
    ] = None
    keep_moments: Annotated[
        int | None,
        option(
            "Number of updates whose checkpoint also holds the moments of Adam, for `resume_from`.",
            CHECKPOINTS,
            default="none",
            least=1,
            most=MOST,
            run_file=False,
            command=False,
        ),
    ] = None
    reverse: Annotated[bool, option("Train the backward model, from target to source.", MODEL, run_file=False)] = False
    prune_while_training: Annotated[
        Literal["infobatch", "ddp"] | None,
        option(
            "Skip pairs in each epoch by their last known loss.",
            DYNAMIC,
            default="off",
            run_file=False,
            details="Batches are those of the full training with fewer pairs, so that schedules keep their meaning.",
        ),
    ] = None
    prune_ratio: Annotated[
        float | None,
        option(
            "infobatch: chance to drop a pair whose loss is below the mean; ddp: share of pairs that is dropped.",
            DYNAMIC,
            metavar="SHARE",
            least=0,
            below=1,
            default="0.5; ddp 0.3",
            run_file=False,
        ),
    ] = None
    prune_anneal: Annotated[
        float | None,
        option(
            "infobatch: share of the training after which nothing is dropped.",
            DYNAMIC,
            metavar="SHARE",
            above=0,
            most=1,
            default="0.875",
            run_file=False,
        ),
    ] = None
    prune_cycle: Annotated[
        int | None,
        option(
            "ddp: epochs between two choices of pairs.",
            DYNAMIC,
            metavar="N",
            least=1,
            most=MOST,
            default="1",
            run_file=False,
        ),
    ] = None
    prune_span: Annotated[
        int | None,
        option(
            "ddp: keep or drop spans of this number of target tokens instead of whole pairs.",
            DYNAMIC,
            metavar="N",
            least=1,
            most=MOST,
            default="whole pairs",
            run_file=False,
            details="A longer target has several spans, each with a loss of its own.",
        ),
    ] = None
    batch_tokens: BatchTokens = None
    accumulate: Accumulate = None
    learning_rate: LearningRate = None
    warmup_steps: WarmupSteps = None
    label_smoothing: LabelSmoothing = None
    dropout: Dropout = None
    save_every: SaveEvery = 500
    log: Annotated[
        Literal["tensorboard"] | None,
        option(
            "Also write the metrics as event files, in log/tensorboard of the output folder.",
            OUTPUT,
            default="none",
            details="Needs the extra `tensorboard`. View them with `tensorboard --logdir`.",
        ),
    ] = None
    precision: Precision = "auto"
    seed: Seed = 1
    threads: TorchThreads = None
    force: Force = False
    quiet: Quiet = False
