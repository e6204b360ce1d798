"""The options of `select`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from catprune.workspace.common_options import (
    Force,
    Names,
    OutFolder,
    Quiet,
    Seed,
    TemporaryFolder,
    Texts,
    Threads,
    several,
)
from catprune.workspace.options import BUDGET, GROUPS, INPUT, OUTPUT, RANKING, AnyPath, option, options
from catprune.workspace.tables import TABLES, is_table

Method = Annotated[
    str | None,
    option(
        "Method that ranks the pairs; `catprune methods` lists them.",
        RANKING,
        metavar="METHOD",
        default="progress, if no column or merge ranks",
    ),
]
Keep = Annotated[
    str | int | float | Sequence[str | int | float],
    BeforeValidator(
        lambda value: [value] if isinstance(value, int | float) and not isinstance(value, bool) else several(value),
        json_schema_input_type=str | int | float | Sequence[str | int | float],
    ),
    option(
        "What to keep: 50% or 0.5 of the pairs, a number of pairs, or 50%tokens; tag=NAME:80% for one tag.",
        BUDGET,
        metavar="SHARE",
        details="A share has % or a decimal point; a whole number is a count. `50%tokens` keeps the best pairs "
        "whose target tokens fit. input=NAME:SHARE and tag=NAME:SHARE rank that input or tag separately.",
    ),
]
On = Annotated[
    Literal["ppl", "nll"] | None,
    option("Rank by perplexity or by negative log-likelihood (cat-diff, cat-var, ppl).", RANKING, default="ppl"),
]
Within = Annotated[
    Literal["input", "tag", "length"] | None,
    option(
        "Keep the same share of each input, tag or length bucket.",
        GROUPS,
        default="off",
        details="The length bucket of n target tokens is floor(2 log2 n).",
    ),
]


def _paths_or_tables(value: Any) -> Any:
    """Return a list of file names and tables from one of them or a list."""
    parts: Any = [value] if is_table(value) else several(value)
    for part in parts if isinstance(parts, list) else [parts]:
        if not (isinstance(part, str | Path) or is_table(part)):
            raise ValueError(f"join holds a {type(part).__name__}: give paths, {TABLES}")
    return parts


@options
class SelectOptions:
    """Rank the pairs by a method and keep the best."""

    source: Annotated[
        Any,
        option(
            "Score folder, clean folder, Parquet file or folder of them, or .npy array; may be repeated.",
            INPUT,
            metavar="SOURCE",
            path=True,
            run_file=False,
            python="Tables are accepted, too: Arrow tables and streams, pandas and Polars frames, with `row`, "
            "ascending, and `column`; and a one-dimensional NumPy array of floats, whose index is the row.",
        ),
    ]
    _: KW_ONLY
    out: OutFolder
    method: Method = None
    column: Annotated[str | None, option("Rank by this score column instead of a method.", RANKING, metavar="NAME")] = (
        None
    )
    merge: Annotated[
        str | None,
        option("Rank by several columns, like '0.7*cat-var + 0.3*labse'.", RANKING, metavar="FORMULA"),
    ] = None
    merge_by: Annotated[
        Literal["rank", "z"] | None,
        option("Merge columns by their ranks or by standard scores.", RANKING, default="rank"),
    ] = None
    direction: Annotated[Literal["top", "middle", "bottom"], option("End of the ranking to keep.", RANKING)] = "top"
    on: On = None
    sign: Annotated[
        Literal["signed", "abs"] | None,
        option("Use the difference or its absolute value (cat-diff).", RANKING, default="signed"),
    ] = None
    bins: Annotated[
        int | None,
        option(
            "Most quantile bins of the initial loss (progress); a bin has at least 200 pairs.",
            RANKING,
            metavar="N",
            least=1,
            most=1000,
            default="50",
        ),
    ] = None
    threshold: Annotated[
        float | None,
        option(
            "Token accuracy from which on a pair counts as learned (forgetting).",
            RANKING,
            metavar="SHARE",
            above=0,
            most=1,
            default="0.5",
        ),
    ] = None
    clusters: Annotated[
        int | None,
        option("Clusters of loss trajectories (s2l).", RANKING, metavar="N", least=1, most=10_000, default="100"),
    ] = None
    reference: Annotated[
        str | None, option("Scores of the reference model (rho).", RANKING, metavar="NAME", run_file=False)
    ] = None
    checkpoints: Annotated[
        Names | None,
        option("Use only the scores of these checkpoints.", RANKING, metavar="NAME", default="all"),
    ] = None
    where: Annotated[
        Texts,
        option(
            "Rank only pairs that meet a condition, like 'labse>0.6'; may be repeated.", RANKING, metavar="CONDITION"
        ),
    ] = ()
    draw: Annotated[bool, option("Draw pairs at random, with the scores as weights, instead of cutting.", RANKING)] = (
        False
    )
    ties: Annotated[
        Literal["row", "random"] | None,
        option(
            "Which of equal scores to keep at the cut: the first rows, or random ones.",
            RANKING,
            default="by the method",
        ),
    ] = None
    keep: Keep = ("50%",)
    always_keep: Annotated[
        Texts,
        option(
            "Keep all pairs of input=NAME or tag=NAME, in addition to `keep`; may be repeated.", BUDGET, metavar="GROUP"
        ),
    ] = ()
    within: Within = None
    by_exposure: Annotated[
        bool,
        option(
            "Rank pairs separately by how often the checkpoint was trained on them.",
            GROUPS,
            off="--ignore-exposure",
        ),
    ] = True
    condense: Annotated[
        AnyPath | None,
        option(
            "Keep only the best-ranked pair of each near-duplicate cluster found in this clean folder.",
            GROUPS,
            metavar="DIR",
            path=True,
        ),
    ] = None
    join: Annotated[
        Sequence[Any],
        BeforeValidator(_paths_or_tables, json_schema_input_type=str | Sequence[str]),
        option(
            "Parquet file or folder with `row` and more columns; may be repeated.",
            INPUT,
            metavar="FILE",
            path=True,
            python="Tables are accepted, too, as `source` takes them.",
        ),
    ] = ()
    clean: Annotated[
        AnyPath | None,
        option(
            "Clean folder that the rows of external columns belong to.", INPUT, metavar="DIR", path=True, run_file=False
        ),
    ] = None
    rows_only: Annotated[bool, option("Write only rows.npy, the numbers of the kept rows.", OUTPUT, run_file=False)] = (
        False
    )
    tmp_dir: TemporaryFolder = None
    seed: Seed = 1
    threads: Threads = None
    force: Force = False
    quiet: Quiet = False
