"""The options of `report` and `explore`."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated

from catprune.workspace.common_options import Force, Quiet
from catprune.workspace.options import INPUT, OUTPUT, AnyPath, option, options

RunFolder = Annotated[AnyPath, option("Folder of the run.", INPUT, metavar="RUN", path=True)]


@options
class ReportOptions:
    """Show a run in one HTML file that opens offline."""

    run: RunFolder
    _: KW_ONLY
    out: Annotated[
        AnyPath | None,
        option("HTML file to write.", OUTPUT, short="-o", metavar="FILE", path=True, default="RUN/report.html"),
    ] = None
    seed: Annotated[int, option("Random seed of the pairs that are shown.", OUTPUT, metavar="N", least=0)] = 1
    force: Force = False
    quiet: Quiet = False


@options
class ExploreOptions:
    """Look at a sample of a run's pairs in one HTML file, and try thresholds; it opens offline."""

    run: RunFolder
    _: KW_ONLY
    out: Annotated[
        AnyPath | None,
        option("HTML file to write.", OUTPUT, short="-o", metavar="FILE", path=True, default="RUN/explore.html"),
    ] = None
    seed: Annotated[int, option("Random seed of the sample.", OUTPUT, metavar="N", least=0)] = 1
    force: Force = False
    quiet: Quiet = False
