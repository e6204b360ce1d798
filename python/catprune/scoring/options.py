"""The options of `score`: of checkpoints, and of scorers of text."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, Any

from catprune.training.options import MOST, Precision
from catprune.workspace.common_options import Force, OutFolder, Paths, Quiet, TorchThreads
from catprune.workspace.options import CHECKPOINTS, INPUT, RESOURCES, SCORER, AnyPath, option, options

Shard = Annotated[
    str | None,
    option(
        "Score one part: i/n, with i from 1 to n; or auto, as torchrun or Slurm specify it.",
        RESOURCES,
        metavar="I/N",
        run_file=False,
        details="All n processes write into the same folders, at once or one after the other.",
    ),
]


@options
class ScoreOptions:
    """Score every pair under one or more checkpoints."""

    tokens: Annotated[
        AnyPath,
        option(
            "Tokens folder; a clean folder for external checkpoints and for scorers.",
            INPUT,
            metavar="FOLDER",
            path=True,
            run_file=False,
        ),
    ]
    _: KW_ONLY
    checkpoints: Annotated[
        Paths,
        option(
            "Checkpoint folder, or NAME=FOLDER; may be repeated.",
            CHECKPOINTS,
            metavar="DIR",
            path=True,
            run_file=False,
            details="Native checkpoints; folders of the transformers library; .npz models of Marian-NMT; .pt files of "
            "fairseq. The name defaults to the folder's name.",
        ),
    ]
    out: OutFolder
    batch_tokens: Annotated[
        int | None,
        option(
            "Most tokens of a batch on either side, with padding; bounds the memory.",
            CHECKPOINTS,
            metavar="N",
            least=1,
            most=MOST,
            default="1024; on GPUs 16384, or 4096 if sequences are padded",
        ),
    ] = None
    source_lang: Annotated[
        str | None,
        option(
            "Language code of the source in the checkpoint's tokenizer, like eng_Latn.",
            CHECKPOINTS,
            metavar="CODE",
            run_file=False,
        ),
    ] = None
    target_lang: Annotated[
        str | None,
        option(
            "Language code of the target in the checkpoint's tokenizer.", CHECKPOINTS, metavar="CODE", run_file=False
        ),
    ] = None
    prompt: Annotated[
        str | None,
        option(
            "Prompt template with {source}, which a decoder-only model reads before the target.",
            CHECKPOINTS,
            metavar="TEXT",
            run_file=False,
            details="Prompt and target are tokenized as one text; a token that spans the boundary counts as target. "
            "For encoder-decoder models the prompt is the text around the source, like the task of T5.",
        ),
    ] = None
    shard: Shard = None
    precision: Precision = "auto"
    threads: TorchThreads = None
    force: Force = False
    quiet: Quiet = False


@options
class ScorePairsOptions:
    """Score every clean pair by its text: embeddings, quality estimation, or your own function."""

    clean: Annotated[AnyPath, option("Clean folder of the corpus.", INPUT, metavar="CLEAN", path=True, run_file=False)]
    _: KW_ONLY
    scorer: Annotated[
        Any,
        option(
            "Scorer instead of checkpoints: labse, e5, laser, comet-qe, or FILE.py:FUNCTION.",
            SCORER,
            metavar="SCORER",
            details="A function takes the sources and the targets of a block, two lists of strings of the same "
            "length, and returns one finite number per pair. In Python the function itself is accepted.",
        ),
    ]
    out: OutFolder
    name: Annotated[
        str | None,
        option("Name of the score column and its folder.", SCORER, metavar="NAME", default="the scorer's name"),
    ] = None
    model: Annotated[
        AnyPath | None,
        option(
            "Model of the scorer: a folder, or a name in its library.",
            SCORER,
            metavar="MODEL",
            default="by the scorer",
        ),
    ] = None
    margin: Annotated[
        bool,
        option(
            "Score by the ratio margin of the embeddings instead of their cosine.",
            SCORER,
            details="Artetxe & Schwenk 2019, arXiv 1811.01136. Neighbours are searched among 32,768 pairs that are "
            "drawn evenly from the corpus.",
        ),
    ] = False
    neighbours: Annotated[
        int | None,
        option("Nearest neighbours of the margin.", SCORER, metavar="N", least=1, most=1000, default="4"),
    ] = None
    install: Annotated[
        bool,
        option("Install the environment of laser or comet-qe if it is missing: several gigabytes.", SCORER),
    ] = False
    shard: Shard = None
    threads: TorchThreads = None
    force: Force = False
    quiet: Quiet = False
