"""The options of `clean` and `stats`: inputs, filters, duplicates, test sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from catprune.workspace.common_options import (
    Force,
    Memory,
    Paths,
    Quiet,
    TemporaryFolder,
    Texts,
    Threads,
    VerifyInputs,
    two_names,
    two_numbers,
)
from catprune.workspace.options import (
    DUPLICATES,
    FILTERS,
    INPUT,
    NEAR_DUPLICATES,
    OUTPUT,
    TEST_SETS,
    AnyPath,
    make,
    option,
    options,
)


@options
class Filters:
    """The thresholds of the filters; a pair on a threshold is kept."""

    _: KW_ONLY
    min_words: Annotated[int, option("Fewest words of a side.", FILTERS, metavar="N", least=0, most=2**32 - 1)] = 1
    max_words: Annotated[int, option("Most words of a side.", FILTERS, metavar="N", least=1, most=2**32 - 1)] = 150
    max_characters: Annotated[
        int, option("Most characters of a side.", FILTERS, metavar="N", least=1, most=2**32 - 1)
    ] = 1024
    max_word_ratio: Annotated[
        float | None,
        option(
            "Most words of the longer side per word of the shorter.",
            FILTERS,
            metavar="RATIO",
            least=1,
            default="2, more for languages of unlike lengths",
        ),
    ] = None
    max_character_ratio: Annotated[
        float | None,
        option(
            "Most characters of the longer side per character of the shorter.",
            FILTERS,
            metavar="RATIO",
            least=1,
            default="2, more for languages of unlike lengths",
        ),
    ] = None
    min_letter_word_share: Annotated[
        float, option("Least share of words that have a letter.", FILTERS, metavar="SHARE", least=0, most=1)
    ] = 0.4
    min_letter_share: Annotated[
        float, option("Least share of letters among visible characters.", FILTERS, metavar="SHARE", least=0, most=1)
    ] = 0.5
    max_word_characters: Annotated[
        int, option("Most characters of a word.", FILTERS, metavar="N", least=1, most=2**32 - 1)
    ] = 40
    max_repeated_share: Annotated[
        float, option("Largest share of repeated word 3-grams in a side.", FILTERS, metavar="SHARE", least=0, most=1)
    ] = 0.5
    max_common_word_share: Annotated[
        float, option("Largest share of words that both sides have.", FILTERS, metavar="SHARE", least=0, most=1)
    ] = 0.9
    min_script_share: Annotated[
        float,
        option("Least share of letters in the scripts of the language.", FILTERS, metavar="SHARE", least=0, most=1),
    ] = 0.3
    max_markup_share: Annotated[
        float,
        option(
            "Largest share of characters in tags, entities and placeholders; 1 is off.",
            FILTERS,
            metavar="SHARE",
            least=0,
            most=1,
        ),
    ] = 1.0
    max_number_mismatch: Annotated[
        float,
        option(
            "Largest share of numbers that the other side lacks; 1 is off.", FILTERS, metavar="SHARE", least=0, most=1
        ),
    ] = 1.0
    max_url_mismatch: Annotated[
        float,
        option("Largest share of URLs that the other side lacks; 1 is off.", FILTERS, metavar="SHARE", least=0, most=1),
    ] = 1.0
    same_terminal_punctuation: Annotated[
        bool, option("Drop pairs in which only one side ends a sentence.", FILTERS)
    ] = False
    keep_identical: Annotated[bool, option("Keep pairs with identical sides.", FILTERS)] = False
    keep_control_characters: Annotated[bool, option("Keep sides with control characters.", FILTERS)] = False


@options
class NearDuplicates:
    """How near duplicates are found: MinHash signatures and locality-sensitive hashing by bands."""

    _: KW_ONLY
    threshold: Annotated[
        float,
        option("Jaccard similarity from which on pairs are near duplicates.", NEAR_DUPLICATES, metavar="SHARE"),
    ] = 0.8
    permutations: Annotated[
        int, option("Values of a MinHash signature.", NEAR_DUPLICATES, metavar="N", least=16, most=4096)
    ] = 128
    bands: Annotated[
        int | None,
        option(
            "Bands of a signature.", NEAR_DUPLICATES, metavar="N", least=1, most=4096, default="chosen by the threshold"
        ),
    ] = None
    shingles: Annotated[Literal["characters", "words"], option("Unit of a shingle.", NEAR_DUPLICATES)] = "characters"
    shingle_size: Annotated[
        int | None,
        option("Units per shingle.", NEAR_DUPLICATES, metavar="N", least=1, most=100, default="5 characters, 2 words"),
    ] = None


def _filters(value: Any) -> Any:
    return make(Filters, value, of="rules") if isinstance(value, Mapping) else value


def _near(value: Any) -> Any:
    return make(NearDuplicates, value, of="near") if isinstance(value, Mapping) else value


Rules = Annotated[
    Filters | Mapping[str, Any] | Literal[False] | None,
    BeforeValidator(_filters, json_schema_input_type=Filters | Literal[False] | None),
    option(
        "Thresholds of the filters; false switches all filters off.",
        FILTERS,
        off="--no-rules",
        prefix="",
        default="see the filters",
        details="Without filters only duplicates and invalid records are dropped, and nothing is measured.",
    ),
]
#: Where the sides of a corpus are, and what they are.
SourceLanguage = Annotated[
    str | None,
    option(
        "Language code of the source.",
        INPUT,
        metavar="LANG",
        details="Codes choose the defaults of the ratio filters, the scripts of the letters, and the sides of TMX.",
    ),
]
TargetLanguage = Annotated[str | None, option("Language code of the target.", INPUT, metavar="LANG")]


def _tags(value: Any) -> Any:
    if (
        value is None
        or isinstance(value, str | Path)
        or (hasattr(value, "__iter__") and not isinstance(value, Mapping))
    ):
        return value
    raise ValueError(f"tags = {value}: give a file with one tag per record, or a list of tags")


Tags = Annotated[
    AnyPath | Any | None,
    BeforeValidator(_tags, json_schema_input_type=str | None),
    option(
        "File with one tag per record, for example its origin.",
        INPUT,
        metavar="FILE",
        path=True,
        python="The tags themselves are accepted, too: a list, array or column of text.",
    ),
]
Columns = Annotated[
    tuple[int, int] | int | None,
    BeforeValidator(two_numbers, json_schema_input_type=tuple[int, int] | int | str | None),
    option("Source and target column of TSV files, from 1.", INPUT, metavar="N,N", default="1,2"),
]
FieldNames = Annotated[
    tuple[str, str] | str | None,
    BeforeValidator(two_names, json_schema_input_type=tuple[str, str] | str | None),
    option(
        "Source and target field of JSONL and Parquet files, like translation.en,translation.de.",
        INPUT,
        metavar="NAME,NAME",
        default="the language codes",
    ),
]
Format = Annotated[
    Literal["moses", "tsv", "jsonl", "parquet", "tmx"] | None,
    option(
        "Format of input files, if their names do not show it.",
        INPUT,
        default="by the file name",
        details="`moses` reads the lines of any file as text, whatever its name and content.",
    ),
]
Header = Annotated[bool, option("The first line of TSV files holds the names of columns.", INPUT)]
Monolingual = Annotated[
    bool,
    option(
        "Read one text per record, the target; there is no source.",
        INPUT,
        details="Filters that compare two sides do not apply. Duplicates of a pair are duplicates of the target.",
    ),
]
Repair = Annotated[
    str,
    option(
        "Repair text where it is read: all, none, or some of entities,mojibake,controls,spaces,punctuation,nfc.",
        INPUT,
        metavar="NAMES",
        details="Filters, duplicates, models and outputs see the repaired text; the inputs stay as they are.",
    ),
]
DuplicatesForm = Annotated[
    str,
    option(
        "How text is normalised before it is compared: raw, or some of nfkc,case,white-space,punctuation,digits.",
        DUPLICATES,
        metavar="FORM",
        details="`normalised` stands for all but digits. `digits` makes every digit a 0.",
    ),
]
IdentifyLanguage = Annotated[
    bool,
    option(
        "Drop sides that are in another language than the one named.",
        FILTERS,
        details="Only sides of at least 40 letters are tested, as a whole and each half of them.",
    ),
]
MaxLineBytes = Annotated[
    int,
    option("Longest line in bytes; longer lines are dropped unread.", INPUT, metavar="BYTES", least=1, most=2**20 - 1),
]
Prefer = Annotated[
    Texts,
    option(
        "Of exact duplicates keep the one from this input, or the one with the highest value in FILE.parquet:COLUMN.",
        DUPLICATES,
        metavar="INPUT",
        default="the first",
        path=True,
        details="Several inputs are given in order of preference. Of near duplicates the first is always kept.",
    ),
]

Exclude = Annotated[
    Paths,
    option(
        "Test set, like 'newstest*.{en,de}' or a text file; pairs that share a sentence with it are dropped.",
        TEST_SETS,
        metavar="FILE",
        path=True,
        details="Text is normalised as for duplicates. Segments of fewer than 10 characters are not matched.",
    ),
]


@options
class CleanOptions:
    """Filter pairs, mark duplicates and test-set sentences; the text stays where it is."""

    inputs: Annotated[
        Any,
        option(
            "Two text files, or .tsv, .jsonl, .parquet or .tmx files, or templates like 'part-*.{en,de}.zst'; "
            "- is standard input.",
            INPUT,
            metavar="FILE",
            path=True,
            details="Files may be compressed by gzip, zstd, xz or bzip2.",
            python="Data is accepted, too: a list of two-element tuples or lists of str, or an iterator of them, is "
            "pairs (of a monolingual corpus: an iterator of str). Arrow tables and streams, pandas and Polars frames "
            "and a datasets.Dataset are tables. A list of str is file names; it may hold tables, too.",
        ),
    ]
    _: KW_ONLY
    out: Annotated[
        AnyPath | None, option("Folder to write.", OUTPUT, short="-o", metavar="DIR", path=True, run_file=False)
    ] = None
    source_lang: SourceLanguage = None
    target_lang: TargetLanguage = None
    tags: Tags = None
    columns: Columns = None
    fields: FieldNames = None
    format: Format = None
    header: Header = False
    monolingual: Monolingual = False
    spool: Annotated[
        AnyPath | None,
        option(
            "Copy standard input to this file, which later steps read again.",
            INPUT,
            metavar="FILE",
            path=True,
            run_file=False,
            details="If the file exists, standard input is not read; `force` reads it again.",
        ),
    ] = None
    max_line_bytes: MaxLineBytes = 16_384
    repair: Repair = "none"
    verify_inputs: VerifyInputs = False
    rules: Rules = None
    input_rules: Annotated[
        Sequence[Mapping[str, Any]] | AnyPath,
        option(
            "TOML file with tables [[input_rules]]: an input and its own thresholds.",
            FILTERS,
            metavar="FILE",
            path=True,
            details="In Python and run files: a list of such tables.",
        ),
    ] = ()
    identify_language: IdentifyLanguage = False
    duplicates: Annotated[
        Literal["pair", "source", "target", "either", "none"],
        option("What two records share to be exact duplicates.", DUPLICATES),
    ] = "pair"
    duplicates_form: DuplicatesForm = "normalised"
    prefer: Prefer = ()
    against: Annotated[
        Paths,
        option("Clean folder of another corpus; drop the pairs that it keeps.", DUPLICATES, metavar="DIR", path=True),
    ] = ()
    verify: Annotated[bool, option("Compare exact duplicates byte by byte, not by 88 bits of a hash.", DUPLICATES)] = (
        False
    )
    near_duplicates: Annotated[
        Literal["pair", "source", "target", "none"],
        option("What is compared to find near duplicates.", NEAR_DUPLICATES),
    ] = "none"
    near: Annotated[
        NearDuplicates | Mapping[str, Any] | None,
        BeforeValidator(_near, json_schema_input_type=NearDuplicates | None),
        option("How near duplicates are found.", NEAR_DUPLICATES, prefix="near_", default="see the options"),
    ] = None
    exclude: Exclude = ()
    memory: Memory = None
    tmp_dir: TemporaryFolder = None
    threads: Threads = None
    dry_run: Annotated[bool, option("Show what each filter would drop; write nothing.", OUTPUT, run_file=False)] = False
    force: Force = False
    quiet: Quiet = False


@options
class StatsOptions:
    """Count what a corpus is made of: lengths, ratios, words, duplicates, scripts, compressibility."""

    inputs: Annotated[
        Any,
        option(
            "Inputs as `clean` takes them, or one clean folder.",
            INPUT,
            metavar="FILE",
            path=True,
            details="For a clean folder, the clean pairs are counted in addition to all pairs.",
        ),
    ]
    _: KW_ONLY
    tags: Tags = None
    columns: Columns = None
    fields: FieldNames = None
    format: Format = None
    header: Header = False
    monolingual: Monolingual = False
    source_lang: SourceLanguage = None
    target_lang: TargetLanguage = None
    max_line_bytes: MaxLineBytes = 16_384
    duplicates_form: DuplicatesForm = "normalised"
    identify_language: Annotated[
        bool, option("Also count the languages of the sides.", INPUT, details="Counting takes half as long again.")
    ] = False
    memory: Memory = None
    threads: Threads = None
    quiet: Quiet = False
