"""Requests and results of the compiled passes: the serde structures of the Rust core as TypedDicts.

Keys, types and values are those of the Rust structs and enums of the same meaning; a test compares them.
`NotRequired` marks keys that Rust fills in: None if the type allows None, otherwise the default in the comment.
Paths are absolute; a row is the 0-based number of a record over all inputs; ranges [first, end) are half-open; digests
are xxh3-128 in 32 hexadecimal digits.
"""

# Annotations are evaluated: __required_keys__ depends on them.

from collections.abc import Sequence
from typing import Generic, Literal, NotRequired, TypeAlias, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", int, float)

# Columns, the argument of `write_columns`.

#: One column of a shard, one-dimensional.
Column: TypeAlias = NDArray[np.int64] | NDArray[np.uint32] | NDArray[np.float32] | NDArray[np.bool_]

# The corpus, the input of every pass over text.


class MosesInput(TypedDict):
    """Two text files with the same number of lines."""

    format: Literal["moses"]
    source: str
    target: str


class TextInput(TypedDict):
    """One text file of a monolingual corpus, one record per line."""

    format: Literal["text"]
    path: str


class TsvInput(TypedDict):
    """One file of tab-separated columns, numbered from 1."""

    format: Literal["tsv"]
    path: str
    source_column: NotRequired[int | None]  # None: a monolingual corpus
    target_column: int
    header: NotRequired[bool]  # whether the first line holds names; False by default


class JsonlInput(TypedDict):
    """One file of JSON objects, one per line; a dot in a field name leads into an object."""

    format: Literal["jsonl"]
    path: str
    source_field: NotRequired[str | None]  # None: a monolingual corpus
    target_field: str


class ParquetInput(TypedDict):
    """One Parquet file; a dot in a field name leads into a struct."""

    format: Literal["parquet"]
    path: str
    source_field: NotRequired[str | None]  # None: a monolingual corpus
    target_field: str
    whole: NotRequired[bool]  # read all columns; False by default


class TmxInput(TypedDict):
    """One TMX file; a unit gives one record per pair of variants in the two languages."""

    format: Literal["tmx"]
    path: str
    source_language: str
    target_language: str
    whole: NotRequired[bool]  # copy units that give one record; False by default


#: One input of a corpus.
Input: TypeAlias = MosesInput | TextInput | TsvInput | JsonlInput | ParquetInput | TmxInput


Repair: TypeAlias = Literal["entities", "mojibake", "controls", "spaces", "punctuation", "nfc"]


class Corpus(TypedDict):
    """The records that a pass reads, in row order."""

    inputs: Sequence[Input]
    tags: NotRequired[str | None]  # a file with one tag per record over all inputs
    max_line_bytes: NotRequired[int]  # bytes; longer lines are not held; 16,384 by default
    repair: NotRequired[Sequence[Repair]]  # applied to the text where it is read
    scores: NotRequired[Sequence[str]]  # shards of a selection, whose scores are read too
    first_row: NotRequired[int]  # row of the first record; 0 by default


class FileRead(TypedDict):
    """A file with its size and digest when it was read."""

    path: str
    bytes: int
    digest: str


class InputRead(TypedDict):
    """The rows [first, end) of one input, and its files."""

    first: int
    end: int
    files: list[FileRead]


class CorpusRead(TypedDict):
    """The files of a corpus that were read; `tags` is the file of the tags."""

    inputs: list[InputRead]
    tags: FileRead | None


class KeptByCleaning(TypedDict):
    """The rows without a reason, from the shards of a clean folder."""

    clean: Sequence[str]


class SelectionShards(TypedDict):
    """The shards of a selection and of the clean folder behind it: a row must pass both."""

    selection: Sequence[str]
    clean: Sequence[str]


class KeptBySelection(TypedDict):
    """The rows that a selection keeps."""

    selection: SelectionShards


class KeptRows(TypedDict):
    """Row numbers, ascending."""

    rows: Sequence[int]


#: The rows that a pass reads; "all" for every row.
WantedRows: TypeAlias = Literal["all"] | KeptByCleaning | KeptBySelection | KeptRows


class KeptCorpus(TypedDict):
    """The common part of passes over kept text: the corpus, its kept rows, and the number of worker threads."""

    corpus: Corpus
    kept: WantedRows
    threads: int


class CheckedCorpus(KeptCorpus):
    """A corpus whose files must be the same as in cleaning; `files` is None without cleaning."""

    files: NotRequired[Sequence[FileRead] | None]


class PublishedShard(TypedDict):
    """A Parquet shard that a pass wrote: the rows [first, end); `rows` is the number of records in it."""

    file: str  # relative to the step's folder
    first: int
    end: int
    digest: str
    rows: int


# clean

#: The text that duplicates have in common.
Key: TypeAlias = Literal["none", "pair", "source", "target", "either"]
#: Unit of a shingle.
Unit: TypeAlias = Literal["characters", "words"]


class Rules(TypedDict):
    """The thresholds of the rules; a pair on a threshold is kept. Shares are between 0 and 1."""

    min_words: int
    max_words: int
    max_characters: int
    max_word_ratio: float  # longer side over shorter side
    max_character_ratio: float
    min_letter_word_share: float  # of the words
    min_letter_share: float  # of the visible characters
    max_word_characters: int
    max_repeated_share: float  # of the word 3-grams of a side; 1 is off, as in the next four
    max_number_mismatch: float  # of the numbers of the side with more of them
    max_url_mismatch: float
    max_markup_share: float  # of the visible characters
    max_common_word_share: float  # 2 |A ∩ B| / (|A| + |B|)
    min_script_share: float  # of the letters; 0 is off
    same_terminal_punctuation: bool
    keep_identical: bool
    keep_control_characters: bool
    source_scripts: Sequence[str]  # ISO 15924; empty: unknown
    target_scripts: Sequence[str]
    source_language: NotRequired[str | None]  # ISO 639-3; None is off
    target_language: NotRequired[str | None]


class Form(TypedDict):
    """The differences that are ignored when texts are compared."""

    nfkc: bool
    case: bool
    white_space: bool
    punctuation: bool
    digits: bool


class NearOptions(TypedDict):
    """The options of near duplicates by MinHash."""

    key: Key
    threshold: float  # least Jaccard similarity, 0 to 1
    permutations: int
    bands: int
    shingles: Unit
    shingle_size: int  # characters or words


#: How a test set is written.
TestFormat: TypeAlias = Literal["lines", "tsv", "markup"]


class TestSet(TypedDict):
    """A test set: two files of equal length, or one file: with both sides (TSV, XML), or of segments of either side."""

    format: NotRequired[TestFormat]  # lines by default
    source: str
    target: NotRequired[str | None]


class TestText(TypedDict):
    """The text of a test set, with its first reference only; segments of no named side are sources."""

    source: list[str]
    target: list[str]


class PreferredInputs(TypedDict):
    """Numbers of inputs, the most preferred first; other inputs come after them."""

    inputs: Sequence[int]


class ValueColumn(TypedDict):
    """A column of a Parquet file with `row`."""

    path: str
    column: str


class PreferredColumn(TypedDict):
    """The column whose highest value is preferred."""

    column: ValueColumn


#: Which of duplicate rows is kept; "first" for the lowest row.
Prefer: TypeAlias = Literal["first"] | PreferredInputs | PreferredColumn


class LastShard(TypedDict):
    """The files of a published shard [first, end) of cleaning; None where it has none."""

    first: int
    end: int
    decisions: str
    fingerprints: NotRequired[str | None]
    duplicates: NotRequired[str | None]


class CleanRequest(TypedDict):
    """The request of `clean`."""

    corpus: Corpus
    rules: Sequence[Rules]  # of each input; empty: no rules and no measures
    duplicates: Key
    duplicates_form: Form
    near_duplicates: NotRequired[NearOptions | None]
    exclude: NotRequired[Sequence[TestSet]]  # none by default
    verify: bool  # compare keys byte for byte
    prefer: Prefer
    against: Sequence[str]  # fingerprint shards of other corpora
    continued: NotRequired[LastShard | None]  # of the rows before; continued if it is not full
    out: str
    state: NotRequired[str | None]  # a file from which the same request goes on after a kill
    tmp: str
    plan: str
    threads: int
    memory: int  # bytes


class RowCounts(TypedDict):
    """Numbers of rows: all, and kept."""

    rows: int
    kept: int


class Example(TypedDict):
    """The text of one row."""

    row: int
    source: str
    target: str


class Excluded(TypedDict):
    """Counts of one test set: its lines, the sides in them, those that look like markup or are too short, and the
    excluded training pairs."""

    files: list[FileRead]
    lines: int
    segments: int
    markup: int
    too_short: int
    pairs: int


class RepairExample(Example):
    """A repaired record, and how it was stored."""

    stored_source: str
    stored_target: str


class RepairCounts(TypedDict):
    """The records that a repair changed; a record may be changed by several."""

    records: int
    examples: list[RepairExample]


class CleanResult(TypedDict):
    """The result of `clean`; `only` counts the rows that have this reason and no other."""

    read: CorpusRead
    total: RowCounts
    inputs: list[RowCounts]
    tags: dict[str, RowCounts]
    reasons: dict[str, int]  # rows by reason; a row may have several reasons
    only: dict[str, int]
    examples: dict[str, list[Example]]
    repairs: dict[Repair, RepairCounts]  # of the repairs that were asked for
    excluded: list[Excluded]
    shards: list[PublishedShard]
    fingerprints: list[PublishedShard]
    duplicates: list[PublishedShard]


# stats


class StatsRequest(CheckedCorpus):
    """The request of `stats`."""

    duplicates_form: Form
    identify_language: bool
    tags: NotRequired[Sequence[str] | None]  # tags that are counted separately; None: all
    memory: int  # bytes for the fingerprints of duplicates


class Count(TypedDict):
    """A number, and whether it is exact or an estimate."""

    count: int
    exact: bool


class Quantiles(TypedDict, Generic[Number]):
    """Nearest-rank quantiles, mean and range of `count` values."""

    count: int
    mean: float
    min: Number
    p1: Number
    p5: Number
    p25: Number
    p50: Number
    p75: Number
    p95: Number
    p99: Number
    max: Number


class Language(TypedDict):
    """How many sides were identified as one language (ISO 639-3), and their share of those identified."""

    language: str
    count: int
    share: float


class Languages(TypedDict):
    """The identified languages, the most frequent first; `too_short` counts the sides that were not identified."""

    too_short: int
    identified: list[Language]


class Compressed(TypedDict):
    """Bytes of text before and after zstd at level 3."""

    bytes: int
    compressed: int


class SideFigures(TypedDict):
    """The figures of one side; lengths are per record, None without records."""

    characters: Quantiles[int] | None
    words: Quantiles[int] | None
    bytes: Quantiles[int] | None
    tokens: int  # words in all
    types: Count  # different words
    scripts: dict[str, int]  # letters by script
    languages: Languages | None  # None unless identification was requested
    zstd: Compressed | None  # None for a tag


class Ratios(TypedDict):
    """Ratios of the lengths of the two sides."""

    target_over_source: Quantiles[float] | None
    longer_over_shorter: Quantiles[float] | None


class Duplicates(TypedDict):
    """Rows that repeat an earlier row; None if not counted."""

    pair: Count | None
    source: Count | None
    target: Count | None


class Figures(TypedDict):
    """The figures of a group of rows; source and ratios are None for a monolingual corpus."""

    rows: int
    malformed_record: int
    columns: int
    missing_side: int
    line_too_long: int
    invalid_utf8: int
    empty: int
    source: SideFigures | None
    target: SideFigures
    character_ratio: Ratios | None
    word_ratio: Ratios | None
    duplicates: Duplicates


class Part(TypedDict):
    """The figures of all rows, and of the kept rows (None unless a clean folder was read)."""

    all: Figures
    kept: Figures | None


class StatsResult(TypedDict):
    """The result of `stats`."""

    total: Part
    inputs: list[Part]
    tags: dict[str, Part]


# open_corpus

#: Arrow types of text: large_utf8, or large_binary.
Text: TypeAlias = Literal["utf8", "bytes"]


class OpenCorpusRequest(CheckedCorpus):
    """The request of `open_corpus`; with `reasons` (shards of a clean folder), all rows are read."""

    reasons: NotRequired[Sequence[str] | None]
    text: Text


# tokenize


class SampleRequest(KeptCorpus):
    """The request of `sample`, which returns the number of sampled pairs."""

    fraction: float  # of the kept pairs, 0 to 1
    seed: int
    out: str


class TokenizeRequest(KeptCorpus):
    """The request of `tokenize`."""

    files: Sequence[FileRead]
    tokenizer: str
    max_tokens: int  # tokens per side, end-of-sentence included
    frozen: bool  # keep the unigram counts as they are
    continued: NotRequired[str | None]  # the last block of the rows before, if it is not full
    out: str
    plan: str


class BlockShard(TypedDict):
    """A token block that was written: the rows [first, end), and numbers of pairs and tokens."""

    file: str  # relative to the step's folder
    first: int
    end: int
    digest: str
    pairs: int
    too_long: int
    source_tokens: int
    target_tokens: int


class TokenizeResult(TypedDict):
    """The result of `tokenize`; `unigrams` is a digest, empty if the counts are frozen."""

    shards: list[BlockShard]
    unigrams: str


# select

MethodName: TypeAlias = Literal[
    "cat-diff",
    "cat-var",
    "progress",
    "ppl",
    "ign",
    "token-grad-norm",
    "el2n",
    "confidence",
    "variability",
    "correctness",
    "closeness",
    "forgetting",
    "inactive",
    "s2l",
    "rho",
    "dual-xent",
    "length",
    "random",
]
#: The quantity that methods compare: perplexity, or nats per token.
On: TypeAlias = Literal["ppl", "nll"]
Sign: TypeAlias = Literal["signed", "abs"]
Direction: TypeAlias = Literal["top", "bottom", "middle"]
#: Which rows with the score at the cut are kept.
Ties: TypeAlias = Literal["row", "random"]
Within: TypeAlias = Literal["input", "tag", "length"]
#: How merged columns are made comparable: ranks, or z-scores.
MergeBy: TypeAlias = Literal["rank", "z"]
Operator: TypeAlias = Literal[">", ">=", "<", "<=", "==", "!="]


class KeepFraction(TypedDict):
    """[numerator, denominator] of the records that pass the guards."""

    fraction: Sequence[int]


class KeepRows(TypedDict):
    """A number of records."""

    rows: int


class KeepTokenFraction(TypedDict):
    """[numerator, denominator] of the target tokens of the scored records."""

    token_fraction: Sequence[int]


class KeepTokens(TypedDict):
    """A number of target tokens."""

    tokens: int


#: The budget.
Keep: TypeAlias = KeepFraction | KeepRows | KeepTokenFraction | KeepTokens


class ShardFile(TypedDict):
    """A Parquet shard that a pass reads: the rows [first, end)."""

    path: str
    first: int
    end: int


class ScoresSource(TypedDict):
    """The scores of checkpoints: per checkpoint its shards, checkpoints in training order."""

    kind: Literal["scores"]
    sets: Sequence[Sequence[ShardFile]]
    backward: NotRequired[Sequence[int]]  # checkpoints that predict the source; none by default


class CleanSource(TypedDict):
    """A clean folder: the records are the rows without a reason."""

    kind: Literal["clean"]
    shards: Sequence[ShardFile]


class FileSource(TypedDict):
    """Parquet files with `row` and a numeric column."""

    kind: Literal["file"]
    paths: Sequence[str]
    column: str


class NpySource(TypedDict):
    """A one-dimensional float array; the row is the index."""

    kind: Literal["npy"]
    path: str


#: The records of a selection and their first columns.
SelectSource: TypeAlias = ScoresSource | CleanSource | FileSource | NpySource


class Computed(TypedDict):
    """A column that a method computes from `sets`, numbers of checkpoints in training order."""

    method: MethodName
    sets: Sequence[int]


class ExternalFiles(TypedDict):
    """A column of Parquet files that is matched by row number."""

    paths: Sequence[str]
    column: str


class ColumnGuard(TypedDict):
    """A condition on a column (by number); a record without a value fails it."""

    column: int
    op: Operator
    value: float


class Merge(TypedDict):
    """Columns (by number) and weights that are merged into one score."""

    by: MergeBy
    terms: Sequence[tuple[int, float]]


class OfInput(TypedDict):
    """An input, by its number."""

    input: int


class OfTag(TypedDict):
    """A tag."""

    tag: str


#: The records of one input or tag.
Of: TypeAlias = OfInput | OfTag


class OwnShare(TypedDict):
    """An input or tag with its own share; None keeps all its records."""

    of: Of
    label: str  # as the user wrote it
    keep: NotRequired[Keep | None]


class Clusters(TypedDict):
    """Centres of loss trajectories, each with one value (nats per token) per checkpoint in `sets`."""

    sets: Sequence[int]
    centres: Sequence[Sequence[float]]


class Exposures(TypedDict):
    """A checkpoint (number and name) that was trained on some rows more often than on others."""

    set: int
    name: str
    times: Sequence[int]  # the different exposures, ascending


class SourceRequest(TypedDict):
    """The part of a `SelectRequest` that names the records."""

    source: SelectSource


class GroupsRequest(TypedDict):
    """The part of a `SelectRequest` that says which records are ranked separately."""

    within: NotRequired[Within | None]
    length: NotRequired[int | None]  # number of the column of lengths; None: target tokens
    clean: NotRequired[Sequence[ShardFile] | None]  # for the tags
    inputs: Sequence[tuple[int, int]]  # the rows [first, end) of every input
    own: Sequence[OwnShare]


class RankRequest(SourceRequest, GroupsRequest):
    """The part of a `SelectRequest` that says how records are scored, ranked and cut."""

    computed: Sequence[Computed]
    external: Sequence[ExternalFiles]
    on: On
    sign: Sign
    threshold: float  # token accuracy from which on a pair counts as learned, for `forgetting`
    bins: int
    seed: int
    score: int  # number of the column that ranks
    merge: NotRequired[Merge | None]
    guards: Sequence[ColumnGuard]
    draw: bool  # at random, with the score as the weight
    clusters: NotRequired[Clusters | None]
    direction: Direction
    ties: Ties
    keep: Keep


class SelectRequest(RankRequest):
    """The request of `select`. Columns are numbered: columns of the source, computed columns, then external columns."""

    exposures: Sequence[Exposures]
    out: str
    rows: bool  # write `rows.npy` instead of shards
    tmp: str
    plan: str
    threads: int


class SelectCounts(TypedDict):
    """Numbers of records and of target tokens; None if the source has no tokens, or nothing is kept."""

    scored: int
    unscored: int
    guarded: int  # dropped by a guard
    kept: int
    trusted: int  # kept records that were not ranked
    tokens: int | None
    tokens_kept: int | None
    decided_by_ties: int
    lowest: float | None  # score
    highest: float | None


class GroupCounts(SelectCounts):
    """The counts of one group that was ranked separately."""

    name: str


class SelectionShard(TypedDict):
    """A shard of a selection: the rows [first, end), and how many of them are kept."""

    file: str  # relative to the step's folder
    first: int
    end: int
    digest: str
    kept: int


class SelectResult(SelectCounts):
    """The result of `select`."""

    groups: list[GroupCounts]
    shards: list[SelectionShard]


# write


class MosesOutput(TypedDict):
    """Two text files."""

    format: Literal["moses"]
    source: str
    target: str


class TextOutput(TypedDict):
    """One text file of a monolingual corpus."""

    format: Literal["text"]
    path: str


class TsvOutput(TypedDict):
    """One file of tab-separated columns."""

    format: Literal["tsv"]
    path: str


class JsonlOutput(TypedDict):
    """One file of JSON objects, one per line."""

    format: Literal["jsonl"]
    path: str
    source_field: NotRequired[str | None]  # None: a monolingual corpus
    target_field: str


class ParquetOutput(TypedDict):
    """One Parquet file."""

    format: Literal["parquet"]
    path: str
    source_field: NotRequired[str | None]  # None: a monolingual corpus
    target_field: str


class TmxOutput(TypedDict):
    """One TMX file."""

    format: Literal["tmx"]
    path: str
    source_language: str
    target_language: str


#: Where text is written; lines are compressed if the name ends in .gz, .zst, .xz or .bz2.
Output: TypeAlias = MosesOutput | TextOutput | TsvOutput | JsonlOutput | ParquetOutput | TmxOutput


class OutputsRequest(TypedDict):
    """The part of a `WriteRequest` with the output files."""

    output: Output
    dropped: NotRequired[Output | None]  # for the pairs that are not kept
    tags: NotRequired[str | None]  # for the tags of the written pairs, one per line


#: A column that `write` adds beside the sides.
Added: TypeAlias = Literal["row", "score", "tag"]


class WriteRequest(OutputsRequest, KeptCorpus):
    """The request of `write`; `expected` is the number of kept rows."""

    files: Sequence[FileRead]  # the tags last, if they are written
    added: NotRequired[Sequence[Added]]  # the corpus has the tags and the scores that they need
    expected: int


class WriteResult(TypedDict):
    """The result of `write`: numbers of pairs; `unwritable` are kept pairs that the format cannot hold."""

    pairs: int
    unwritable: int
    unwritable_rows: list[int]  # the first rows
    whole: bool  # whether whole records were copied
    dropped: int
    dropped_unwritable: int
    files: list[FileRead]


class ReadPairsRequest(TypedDict):
    """The request of `read_pairs`; rows ascending."""

    corpus: Corpus
    rows: Sequence[int]


class RareWordsRequest(KeptCorpus):
    """The request of `rare_words`; a word of at most `rare` occurrences is rare."""

    selections: Sequence[WantedRows]
    rare: int


class RareWords(TypedDict):
    """The result of `rare_words`: all words, those that occur once, and rare ones, of the corpus and the selections."""

    halvings: int  # the sample holds one word in 2 ** halvings
    words: Sequence[int]
    selected: Sequence[Sequence[int]]
