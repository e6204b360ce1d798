"""The options of `run` and `prune`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Annotated, Any, Literal, get_args

from catprune.cleaning.options import (
    Columns,
    Exclude,
    FieldNames,
    Format,
    Header,
    Monolingual,
    Repair,
    Rules,
    SourceLanguage,
    TargetLanguage,
)
from catprune.selection.options import Keep, Method, On, Within
from catprune.training.options import MOST, Checkpoints, Epochs, Preset, Sample
from catprune.workspace.common_options import (
    Force,
    Memory,
    Paths,
    Quiet,
    RunThreads,
    Seed,
    TemporaryFolder,
    Texts,
    VerifyInputs,
)
from catprune.workspace.options import CHECKPOINTS, DATA, INPUT, OUTPUT, STEPS, AnyPath, option, options

Step = Literal["clean", "tokenize", "train", "score", "select", "write", "evaluate", "report"]
#: The steps of a run, in order.
RUN_STEPS: tuple[str, ...] = get_args(Step)

Say = Annotated[
    Callable[[str], None] | None,
    option("Function that is called with each line of progress.", OUTPUT, command=False, run_file=False),
]
Changes = Annotated[
    Texts,
    option(
        "Change a key of the run file, like train.epochs=3 or select.cat.keep=30%; may be repeated.",
        STEPS,
        metavar="KEY=VALUE",
        details="The value is TOML; text needs no quotation marks. Tables of a list are chosen by name or number.",
    ),
]


@options
class RunOptions:
    """Run every step of a run file that is not finished."""

    file: Annotated[AnyPath, option("Run file, or the folder of a run.", INPUT, metavar="RUN", path=True)]
    _: KW_ONLY
    until: Annotated[Step, option("Last step to run.", STEPS)] = "report"
    set: Changes = ()
    plan: Annotated[
        bool,
        option(
            "Estimate what each step needs in time, disk and files, from the sizes of the inputs; do nothing.",
            OUTPUT,
        ),
    ] = False
    verify_inputs: VerifyInputs = False
    memory: Memory = None
    tmp_dir: TemporaryFolder = None
    threads: RunThreads = None
    force: Force = False
    quiet: Quiet = False
    say: Say = None


@options
class EvaluateFileOptions:
    """Train a model on each subset of a run file, translate the test sets, and compare."""

    file: Annotated[
        AnyPath, option("Run file with an [evaluate] section, or the folder of a run.", INPUT, metavar="RUN", path=True)
    ]
    _: KW_ONLY
    set: Changes = ()
    memory: Memory = None
    threads: RunThreads = None
    force: Force = False
    quiet: Quiet = False
    say: Say = None


@options
class PruneOptions:
    """Prune a corpus in one command: clean, tokenize, train, score, select, write."""

    inputs: Annotated[
        Any,
        option(
            "Inputs, then outputs: a.en a.de pruned.en pruned.de, or one file that holds both sides for each.",
            INPUT,
            metavar="FILE",
            path=True,
        ),
    ]
    outputs: Annotated[
        Paths, option("Two files, or one file that holds both sides; see `write`.", OUTPUT, path=True, command=False)
    ]
    _: KW_ONLY
    keep: Keep = ("50%",)
    out: Annotated[AnyPath, option("Folder of the run.", OUTPUT, short="-o", metavar="DIR", path=True)] = "run"
    source_lang: SourceLanguage = None
    target_lang: TargetLanguage = None
    columns: Columns = None
    fields: FieldNames = None
    format: Format = None
    header: Header = False
    monolingual: Monolingual = False
    exclude: Exclude = ()
    repair: Repair = "none"
    rules: Rules = None
    method: Method = None
    on: On = None
    within: Within = None
    preset: Annotated[Preset | None, option("Size of the warm-up model.", "Model", default="by the corpus")] = None
    epochs: Epochs = None
    checkpoints: Annotated[
        Checkpoints,
        option(
            "Where to save checkpoints: epochs or updates, like 1,3,5 or 500steps.",
            CHECKPOINTS,
            metavar="LIST",
            default="1,5, or with epochs an early one and the last; a method that compares three gets one between them",
        ),
    ] = None
    sample: Annotated[
        Sample,
        option(
            "Train the warm-up model on this number of pairs, drawn at random by the seed.",
            DATA,
            metavar="N",
            least=1,
            most=MOST,
            default="all pairs; 1,000,000 if there are more than 2,000,000",
        ),
    ] = None
    dry_run: Annotated[bool, option("Show the decisions and the expected times; write nothing.", OUTPUT)] = False
    memory: Memory = None
    tmp_dir: TemporaryFolder = None
    seed: Seed = 1
    threads: RunThreads = None
    force: Force = False
    quiet: Quiet = False
    say: Say = None
