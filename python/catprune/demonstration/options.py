"""The options of `demo`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Annotated

from catprune.workspace.common_options import Force, Quiet, RunThreads, Seed
from catprune.workspace.options import INPUT, MODEL, OUTPUT, AnyPath, option, options


@options
class DemoOptions:
    """Run every step on a small generated corpus with planted faults, in a few minutes."""

    _: KW_ONLY
    out: Annotated[AnyPath, option("Folder to write.", OUTPUT, short="-o", metavar="DIR", path=True)] = "catprune-demo"
    pairs: Annotated[int, option("Pairs of the generated corpus.", INPUT, metavar="N", least=200, most=10**9)] = 6000
    steps: Annotated[
        int | None,
        option("Updates of every model.", MODEL, metavar="N", least=2, default="suited to the number of pairs"),
    ] = None
    seed: Seed = 1
    threads: RunThreads = None
    force: Force = False
    quiet: Quiet = False
    say: Annotated[
        Callable[[str], None] | None,
        option("Function that is called with each line of progress.", OUTPUT, command=False),
    ] = None
