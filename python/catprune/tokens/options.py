"""The options of `tokenize`."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated

from catprune.workspace.common_options import Force, OutFolder, Quiet, Seed, Threads
from catprune.workspace.options import INPUT, TOKENIZER, AnyPath, option, options


@options
class TokenizeOptions:
    """Write the clean pairs as blocks of token ids."""

    clean: Annotated[AnyPath, option("Clean folder of the corpus.", INPUT, metavar="CLEAN", path=True, run_file=False)]
    _: KW_ONLY
    out: OutFolder
    vocab_size: Annotated[
        int | None,
        option(
            "Vocabulary size of the byte-level BPE that is trained on both sides.",
            TOKENIZER,
            metavar="N",
            least=300,
            most=2**20,
            default="16000",
        ),
    ] = None
    tokenizer: Annotated[
        AnyPath | None,
        option(
            "Use this tokenizer.json instead of training one.",
            TOKENIZER,
            metavar="FILE",
            path=True,
            details="Its post-processor must end every sequence with end-of-sentence.",
        ),
    ] = None
    sample: Annotated[
        int | None,
        option("Number of pairs that the tokenizer is trained on.", TOKENIZER, metavar="N", least=1, default="1000000"),
    ] = None
    max_tokens: Annotated[
        int,
        option(
            "Most tokens of a side; longer pairs get no tokens and no scores.",
            TOKENIZER,
            metavar="N",
            least=2,
            most=2**31,
            details="End-of-sentence counts. Longer pairs are counted, never truncated.",
        ),
    ] = 512
    seed: Seed = 1
    threads: Threads = None
    force: Force = False
    quiet: Quiet = False
