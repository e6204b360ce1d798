"""What a run file needs before anything is done: processor time, disk and files of each step."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune._core import BLOCK_ROWS, read_start
from catprune.corpus.inputs import input_paths, inputs_of
from catprune.corpus.names import COMPRESSED
from catprune.errors import CatpruneError
from catprune.evaluation.evaluate import EPOCHS
from catprune.model.sizes import PRESETS, Size, forward_flops
from catprune.pipeline import rates
from catprune.pipeline.options import RUN_STEPS
from catprune.pipeline.section_checks import column_of
from catprune.selection.budget import parse_keeps
from catprune.tokens.tokenize import VOCAB_SIZE
from catprune.training.recipe import RECIPES, plan_marks
from catprune.workspace.resources import choose_threads
from catprune.workspace.wording import duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from catprune.pipeline.run_file import RunFile

#: Bytes of text that are read of an input, and how many inputs are looked into at most.
_START, _SAMPLED = 1 << 20, 20
#: Rows of a shard of cleaning or of a selection (`SHARD_ROWS` of the core), and files that cleaning writes for each.
_SHARD_ROWS, _CLEAN_FILES = 1 << 20, 3
#: What ends a record, in text of each format.
_ENDS = {"moses": b"\n", "text": b"\n", "tsv": b"\n", "jsonl": b"\n", "tmx": b"</tu>"}
#: Bytes for each parameter: of a checkpoint, of a training's saved state (weights and two moments, and as much again
#: while it is replaced), and of a model that is compared, as measured for `tiny`.
_CHECKPOINT, _STATE, _TRIAL = 4, 24, 10


@dataclass(frozen=True, slots=True)
class CorpusSize:
    """The size of a corpus.

    Attributes:
        records: number of records.
        text: bytes of text of both sides, without compression.
        stored: bytes of the input files.
    """

    records: float
    text: float
    stored: float = 0


@dataclass(frozen=True, slots=True)
class StepCost:
    """What a step needs, estimated.

    Attributes:
        step: name of the step.
        core_seconds: processor time, if all of it runs on CPU cores.
        most_cores: how many times faster than on one core the step becomes on one machine; None: not limited.
        is_shared: whether several machines can share the step (`--shard`).
        flops: floating-point operations of models; 0 for a pass over text.
        disk: bytes that it writes.
        temporary: bytes that it writes and removes.
        files: files that it writes.
    """

    step: str
    core_seconds: float
    most_cores: float | None = None
    is_shared: bool = False
    flops: float = 0
    disk: float = 0
    temporary: float = 0
    files: int = 0

    def seconds(self, cores: int, *, machines: int = 1) -> float:
        """Return the time on CPU cores."""
        return self.core_seconds / min(cores, self.most_cores or cores) / (machines if self.is_shared else 1)

    def gpu_seconds(self, gpus: int = 1) -> float:
        """Return the time of the models on GPUs like an H100, at the assumed share of its peak."""
        return self.flops / (rates.GPU_FLOPS * rates.GPU_SHARE * gpus)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will need, estimated.

    Attributes:
        inputs: number of inputs.
        size: estimated size of the corpus.
        cores: number of cores that times are given for.
        costs: what each step needs.
        uncounted: what is not in `costs`, because its speed depends on a model of others.
    """

    inputs: int
    size: CorpusSize
    cores: int
    costs: tuple[StepCost, ...]
    uncounted: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the plan as lines."""
        lines = [
            f"{self.inputs:,} input{'s' if self.inputs != 1 else ''}, {bytes_text(self.size.stored)}: about "
            f"{round_text(self.size.records)} records, {bytes_text(self.size.text)} of text",
            *plan_table(self.costs, self.cores),
            "These are estimates, as if cleaning dropped nothing, without logs and the start of each step. Rates were "
            f"measured on another machine; for an H100, {rates.GPU_SHARE:.0%} of its peak are assumed.",
        ]
        if self.uncounted:
            lines.append(f"Not counted, because it was not measured: {', '.join(self.uncounted)}.")
        return lines


def measure_corpus(inputs: Sequence[Mapping[str, Any]]) -> CorpusSize:
    """Estimate the size of a corpus from the sizes of its files and the first megabyte of some.

    Raises:
        CatpruneError: a file is missing.
    """
    sizes = [[_size_of(Path(path)) for path in input_paths(entry)] for entry in inputs]
    stored = sum(map(sum, sizes))
    chosen = range(0, len(inputs), max(1, math.ceil(len(inputs) / _SAMPLED)))
    looked = [_look(inputs[index], sizes[index]) for index in chosen]
    share = stored / max(1, sum(size.stored for size in looked))
    return CorpusSize(sum(size.records for size in looked) * share, sum(size.text for size in looked) * share, stored)


def _size_of(path: Path) -> int:
    if not path.is_file():
        raise CatpruneError(f"{path} does not exist: give the input files of the run")
    return path.stat().st_size


def _look(entry: Mapping[str, Any], sizes: Sequence[int]) -> CorpusSize:
    """Estimate the size of one input."""
    paths = input_paths(entry)
    if entry["format"] == "parquet":
        import pyarrow.parquet as parquet

        footer = parquet.read_metadata(paths[0])
        fields = [entry[name] for name in ("source_field", "target_field") if entry.get(name)]
        text = 0
        for group in map(footer.row_group, range(footer.num_row_groups)):
            columns = map(group.column, range(group.num_columns))
            text += sum(column.total_uncompressed_size for column in columns if _is_text(column.path_in_schema, fields))
        return CorpusSize(footer.num_rows, text, sizes[0])
    records = text = 0.0
    for path, size in zip(paths, sizes, strict=True):
        start = read_start(path, _START)
        if not start:
            continue
        # What the codec reaches on this text; gzip's own method stands for all codecs.
        packed = len(start) / len(zlib.compress(start)) if Path(path).suffix.lower() in COMPRESSED else 1.0
        whole = size * packed
        text += whole
        records = max(records, whole * max(1, start.count(_ENDS[entry["format"]])) / len(start))
    return CorpusSize(records, text, sum(sizes))


def _is_text(column: str, fields: Sequence[str]) -> bool:
    """Whether a column of Parquet has the text of a field: the field itself, or the values of a map with it as key."""
    return any(column == field or column == f"{field.rpartition('.')[0]}.key_value.value" for field in fields)


def clean_cost(size: CorpusSize, *, memory: int, near: bool = False, exact: bool = True) -> StepCost:
    """Return what cleaning needs, with near duplicates and with exact ones."""
    temporary = rates.NEAR_DISK * size.records if near else 0
    if exact and rates.TABLE_MEMORY * size.records > memory:
        temporary += rates.FINGERPRINT_DISK * size.records
    return StepCost(
        "clean",
        size.text * (rates.CLEAN_NEAR if near else rates.CLEAN),
        rates.MOST_CORES["clean, near" if near else "clean"],
        disk=rates.CLEAN_DISK * size.records,
        temporary=temporary,
        files=_CLEAN_FILES * math.ceil(size.records / _SHARD_ROWS),
    )


def tokenize_cost(size: CorpusSize) -> StepCost:
    """Return what tokenizing clean pairs needs."""
    return StepCost(
        "tokenize",
        rates.TOKENIZE * size.text,
        rates.MOST_CORES["tokenize"],
        is_shared=True,
        disk=rates.TOKENIZE_DISK * size.records + rates.TOKEN_DISK * size.text / rates.BYTES_PER_TOKEN,
        files=math.ceil(size.records / BLOCK_ROWS),
    )


def plan_costs(settings: RunFile, size: CorpusSize, *, memory: int) -> Iterator[StepCost]:
    """Yield what each step of a run needs, as if cleaning dropped no pair, within bytes of `memory`."""
    clean = settings.clean.checked()
    shards, blocks = (math.ceil(size.records / rows) for rows in (_SHARD_ROWS, BLOCK_ROWS))
    yield clean_cost(size, memory=memory, near=clean.near_duplicates != "none", exact=clean.duplicates != "none")
    tokens = size.text / rates.BYTES_PER_TOKEN
    if settings.train is not None or settings.evaluate is not None:
        yield tokenize_cost(size)
    if settings.train is not None:
        yield from _warmup(settings, size, tokens, blocks)
    if settings.selections:
        seconds = rates.SELECT * size.records * len(settings.selections)
        disk = rates.SELECT_DISK * size.records * len(settings.selections)
        files = shards * len(settings.selections)
        yield StepCost("select", seconds, rates.MOST_CORES["select"], disk=disk, files=files)
    if settings.write is not None:
        share = _kept_share(settings, size)
        packed = any(Path(path).suffix.lower() in COMPRESSED for path in settings.write.outputs)
        rate = rates.WRITE_COMPRESSED if packed else rates.WRITE
        most = rates.MOST_CORES["write, compressed" if packed else "write"]
        files = len(settings.write.outputs)
        yield StepCost("write", rate * size.text, most, disk=size.text * share, files=files)
    if settings.evaluate is not None:
        yield _evaluation(settings, size, tokens, blocks)


def _evaluation(settings: RunFile, size: CorpusSize, tokens: float, blocks: int) -> StepCost:
    """Return the cost of training the models that are compared, and of a warm-up model for each further seed."""
    section = cast("Any", settings.evaluate)
    seeds = section.seeds if isinstance(section.seeds, int) else len(section.seeds)
    models, vocabulary, shape = len(settings.compared) * seeds, _vocabulary(settings), PRESETS[section.preset]
    trained = _tokens_trained(section.steps, section.epochs or EPOCHS, section, tokens)
    flops = 3 * _flops_per_token(shape, vocabulary, size, tokens) * trained * models
    disk, files = _TRIAL * _parameters(shape, vocabulary) * models, 4 * models
    if section.warmup_seeds and settings.train is not None:
        warmup = list(_warmup(settings, size, tokens, blocks))
        flops += (seeds - 1) * sum(cost.flops for cost in warmup)
        disk += (seeds - 1) * sum(cost.disk for cost in warmup)
        files += (seeds - 1) * sum(cost.files for cost in warmup)
    return StepCost("evaluate", flops / rates.CORE_FLOPS, flops=flops, disk=disk, files=files)


def _warmup(settings: RunFile, size: CorpusSize, tokens: float, blocks: int) -> Iterator[StepCost]:
    """Yield the costs of the warm-up training and of scoring its checkpoints."""
    section = cast("Any", settings.train).checked()
    marks = plan_marks(section.epochs, section.steps, section.checkpoints)
    vocabulary, shape = _vocabulary(settings), PRESETS[section.preset]
    per_token = _flops_per_token(shape, vocabulary, size, tokens)
    share = min(1.0, section.sample / max(1, size.records)) if section.sample else 1.0
    end = marks[-1]
    steps, epochs = (int(end.amount), 0.0) if end.unit == "step" else (None, end.amount)
    flops = 3 * per_token * _tokens_trained(steps, epochs, section, tokens * share)
    parameters = _parameters(shape, vocabulary)
    disk, temporary = _CHECKPOINT * parameters * len(marks), _STATE * parameters
    seconds, files = flops / rates.CORE_FLOPS, 2 * len(marks)
    yield StepCost("train", seconds, flops=flops, disk=disk, temporary=temporary, files=files)
    flops = per_token * tokens * len(marks)
    disk = rates.SCORE_DISK * size.records * len(marks)
    files = blocks * len(marks)
    yield StepCost("score", flops / rates.CORE_FLOPS, is_shared=True, flops=flops, disk=disk, files=files)


def _tokens_trained(steps: int | None, epochs: float, section: Any, tokens: float) -> float:
    """Return the tokens of both sides in a training, from its updates or its passes over so many tokens."""
    if steps is None:
        return epochs * tokens
    return 2.0 * steps * (section.batch_tokens or RECIPES[section.preset].batch_tokens)


def _vocabulary(settings: RunFile) -> int:
    """Return the vocabulary size; that of an external tokenizer is not looked up."""
    return settings.tokenize.checked().vocab_size or VOCAB_SIZE


def _flops_per_token(size: Size, vocab_size: int, corpus: CorpusSize, tokens: float) -> float:
    """Return the FLOPs of a forward pass per token of either side, for pairs of the mean length."""
    import numpy as np

    side = np.array([max(1, round(tokens / max(1.0, corpus.records) / 2))])
    return forward_flops(size, vocab_size=vocab_size, source=side, target=side, outputs=int(side[0])) / (2 * side[0])


def _parameters(size: Size, vocab_size: int) -> float:
    """Return about how many parameters a model has; biases and norms do not matter."""
    d, ffn = size.d_model, size.ffn
    layer = 4 * d * d + 2 * d * ffn
    return vocab_size * d + size.encoder_layers * layer + size.decoder_layers * (layer + 4 * d * d)


def _kept_share(settings: RunFile, size: CorpusSize) -> float:
    """Return the share of the pairs that is written; shares of inputs and tags do not count."""
    named = {section.name: section for section in settings.selections}
    section = named.get(cast("Any", settings.write).selection)
    while section is not None and section.tokens_of is not None:
        section = named.get(section.tokens_of)
    if section is None:
        return 1.0
    budget = parse_keeps(section.keep)[0]
    if "rows" in budget:
        return min(1.0, budget["rows"] / max(1.0, size.records))
    if "tokens" in budget:
        return min(1.0, budget["tokens"] * rates.BYTES_PER_TOKEN * 2 / max(1.0, size.text))
    numerator, denominator = cast("list[int]", next(iter(budget.values())))
    return numerator / denominator


def plan_run(settings: RunFile, *, until: str, memory: int, threads: int | None) -> Plan:
    """Return the plan of a run.

    Args:
        settings: the run file.
        until: the last step.
        memory: bytes of the memory budget.
        threads: number of threads; None: all cores.

    Raises:
        CatpruneError: an input is missing.
    """
    inputs = inputs_of(settings.clean)
    size = measure_corpus(inputs)
    steps = RUN_STEPS[: RUN_STEPS.index(until) + 1]
    costs = tuple(cost for cost in plan_costs(settings, size, memory=memory) if cost.step in steps)
    return Plan(len(inputs), size, choose_threads(threads), costs, tuple(_uncounted(settings, steps)))


def _uncounted(settings: RunFile, steps: Sequence[str]) -> Iterator[str]:
    """Name what a run does that is not in its costs."""
    if settings.clean.checked().identify_language:
        yield "identify_language"
    if "score" in steps:
        yield from map(column_of, settings.scorer)
    if settings.evaluate is not None and "evaluate" in steps:
        yield "translation of the test sets"
        if settings.evaluate.comet:
            yield "comet"


def plan_table(costs: Sequence[StepCost], cores: int) -> list[str]:
    """Return the costs of the steps as a table, with the time on so many cores and on one GPU."""
    rows = [("", f"{cores} core{'s' if cores > 1 else ''}", "one H100", "disk", "temporary", "files")]
    for cost in costs:
        gpu = duration(cost.gpu_seconds()) if cost.flops else ""
        temporary = bytes_text(cost.temporary) if cost.temporary else ""
        row = (cost.step, duration(cost.seconds(cores)), gpu, bytes_text(cost.disk), temporary, f"{cost.files:,}")
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]


def bytes_text(number: float) -> str:
    """Write a number of bytes: "12 MB", "3.4 TB"."""
    power = max(0, min(4, (len(str(round(number))) - 1) // 3))
    scaled = number / 1000**power
    return f"{scaled:.{1 if power and scaled < 10 else 0}f} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"


def round_text(number: float) -> str:
    """Write a number with two digits that count: "630,000"."""
    digits = max(0, len(str(round(number))) - 2)
    return f"{round(number / 10**digits) * 10**digits:,}"
