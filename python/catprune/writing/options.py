"""The options of `write`."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated

from pydantic import BeforeValidator

from catprune.workspace.common_options import Force, Names, Paths, Quiet, Threads, two_names
from catprune.workspace.options import INPUT, OUTPUT, AnyPath, option, options


@options
class WriteOptions:
    """Write the kept pairs as text, in corpus order."""

    clean: Annotated[AnyPath, option("Clean folder of the corpus.", INPUT, metavar="CLEAN", path=True, run_file=False)]
    outputs: Annotated[
        Paths,
        option(
            "Two text files, or one .tsv, .jsonl, .parquet or .tmx file; text may end in .gz, .zst, .xz or .bz2.",
            OUTPUT,
            metavar="FILE",
            path=True,
            details="A monolingual corpus is written to one file. Whole records are copied where all inputs have "
            "the format of the output.",
        ),
    ]
    _: KW_ONLY
    selection: Annotated[
        AnyPath | None,
        option(
            "Selection folder; without it all clean pairs are written.", INPUT, metavar="DIR", path=True, run_file=False
        ),
    ] = None
    fields: Annotated[
        tuple[str, str] | str | None,
        BeforeValidator(two_names, json_schema_input_type=tuple[str, str] | str | None),
        option(
            "Field names of JSONL and Parquet, or languages of TMX.",
            OUTPUT,
            metavar="NAME,NAME",
            default="the language codes",
        ),
    ] = None
    with_: Annotated[
        Names,
        option(
            "Columns beside the sides, in this order: row (row number), score (of the selection), tag.",
            OUTPUT,
            metavar="NAME,NAME",
            details="In TSV they follow the record; in JSONL and Parquet they are fields of these names.",
        ),
    ] = ()
    tags: Annotated[
        AnyPath | None, option("File for the tags of the written pairs.", OUTPUT, metavar="FILE", path=True)
    ] = None
    dropped: Annotated[
        Paths, option("File for the pairs that are not kept; twice for two files.", OUTPUT, metavar="FILE", path=True)
    ] = ()
    threads: Threads = None
    force: Force = False
    quiet: Quiet = False
