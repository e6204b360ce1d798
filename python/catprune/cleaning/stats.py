"""Stats: counts of a corpus in one pass over the text; nothing is written."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.boundary import Part
from catprune.cleaning.options import StatsOptions
from catprune.cleaning.rule_options import parse_form
from catprune.corpus.data import spool_options, temporary_spool
from catprune.corpus.inputs import input_paths
from catprune.corpus.open_corpus import read_corpus
from catprune.workspace.manifest import read_manifest
from catprune.workspace.options import takes
from catprune.workspace.progress import Progress, bytes_progress
from catprune.workspace.resources import choose_memory
from catprune.workspace.wording import share_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catprune.boundary import Compressed, Count, Figures, Languages, Quantiles, SideFigures, StatsRequest

#: Tags that are counted separately, and those that are shown: each has its own counts in memory, and a line.
MOST_TAGS, SHOWN_TAGS = 1000, 20


class InputPart(Part):
    """The figures of one input, and its files."""

    files: list[str]


@dataclass(frozen=True, slots=True)
class Stats:
    """The figures of a corpus, of its inputs and of its tags.

    Each of them is `{"all": figures, "kept": figures}`; `kept` is None without a clean folder. The keys of figures:

    - `rows`: records.
    - `malformed_record`, `columns` (another number of columns than the first record of a TSV file), `missing_side`,
      `line_too_long`, `invalid_utf8`: records of which nothing more is counted.
    - `empty`: records with a side that has no word.
    - `source`, `target`: figures of a side; see below.
    - `character_ratio`, `word_ratio`: quantiles of `target_over_source` and `longer_over_shorter`, of records whose
      sides are both longer than 0; in thousandths, rounded down, at most 1,000.
    - `duplicates` by `pair`, `source` and `target`: rows that have the key of an earlier row.

    The keys of a side:

    - `characters`, `words`, `bytes`: quantiles of the lengths.
    - `tokens`: all words. `types`: different words, by HyperLogLog with a standard error of 0.8%.
    - `scripts`: letters by Unicode script.
    - `languages`: None if no languages were identified. Otherwise `too_short` (sides of fewer than 40 letters) and
      `identified`, the most frequent first: `language`, `count`, and `share` of the sides that were long enough.
    - `zstd`: `bytes` of the text, and `compressed` bytes at level 3 of blocks of 4,096 records; None for tags.

    Quantiles are None or `count`, `mean`, `min`, `p1`, `p5`, `p25`, `p50`, `p75`, `p95`, `p99` and `max`. They are
    exact: p50 is the value at rank ⌈count/2⌉. Duplicates and types are `{"count", "exact"}`. Duplicates that need more
    than `memory` are estimated for the corpus, and None for inputs and tags. In a monolingual corpus `source`, the
    ratios, and all duplicates except those by `target` are None.

    Attributes:
        total: of the whole corpus.
        inputs: of every input, in order, each also with its `files`.
        tags: by tag; of a clean folder the 1,000 most frequent.
        tags_left_out: tags that are only counted in their inputs.
        signature: version and options.
    """

    total: Part
    inputs: tuple[InputPart, ...]
    tags: Mapping[str, Part]
    tags_left_out: int
    signature: Mapping[str, Any]

    def __repr__(self) -> str:
        kept = self.total["kept"]
        counts = f"rows={self.total['all']['rows']}" + (f", kept={kept['rows']}" if kept else "")
        return f"{type(self).__name__}({counts}, inputs={len(self.inputs)}, tags={len(self.tags)})"


@takes(StatsOptions)
def stats(options: StatsOptions) -> Stats:
    """Count lengths, ratios, words, duplicates, scripts and more; the numbers do not depend on the threads.

    The 1,000 most frequent tags are counted separately (clean first if there are more). Counting duplicates takes 10 to
    27 bytes per different pair, source and target; beyond `memory` the counts are estimates and are marked.

    Raises:
        UsageError: an option is invalid.
        CatpruneError: sides of unequal length, an empty or damaged file, a clean folder whose text changed.
        OSError: a file cannot be read.
    """
    form = parse_form(options.duplicates_form)
    with temporary_spool() as spool:
        return _stats(spool_options(options, spool), form)


def _stats(options: StatsOptions, form: Any) -> Stats:
    """Count inputs that are all files."""
    names = options.inputs
    corpus = read_corpus(
        names,
        tags=options.tags,
        columns=options.columns,
        fields=options.fields,
        format=options.format,
        header=options.header,
        monolingual=options.monolingual,
        languages=(options.source_lang, options.target_lang),
        max_line_bytes=options.max_line_bytes,
        threads=options.threads,
    )
    paths = [input_paths(entry) for entry in corpus["corpus"]["inputs"]]
    cleaned = corpus.get("files") is not None
    counts = read_manifest(Path(names[0]), step="clean")["counts"]["tags"] if cleaned else {}
    shown = _most_frequent({tag: count["rows"] for tag, count in counts.items()}, MOST_TAGS)
    request: StatsRequest = {
        **corpus,
        "tags": shown if cleaned else None,
        "duplicates_form": form,
        "identify_language": options.identify_language,
        "memory": choose_memory(options.memory),
    }
    total = sum(Path(path).stat().st_size for files in paths for path in files)
    with Progress("stats", total=total, unit="B", quiet=options.quiet) as bar:
        result = _core.stats(request, bytes_progress(bar))
    return Stats(
        total=result["total"],
        inputs=tuple({"files": files, **part} for files, part in zip(paths, result["inputs"], strict=True)),
        tags=result["tags"],
        tags_left_out=len(counts) - len(shown),
        signature={
            "version": _core.__version__,
            "duplicates_form": options.duplicates_form,
            "identify_language": options.identify_language,
            "max_line_bytes": request["corpus"].get("max_line_bytes"),
            **({"repair": list(repair)} if (repair := request["corpus"].get("repair")) else {}),
        },
    )


def summary(counted: Stats) -> list[str]:
    """Summarize the figures: the whole corpus, then a line for every input and tag."""
    columns = [name for name in ("all", "kept") if counted.total[name]]
    lines = [_row("", columns), *_block([counted.total[name] for name in columns])]
    if len(counted.inputs) > 1:
        lines += ["", *_overview("input", {" ".join(part["files"]): part for part in counted.inputs})]
    if counted.tags:
        shown = _most_frequent({tag: part["all"]["rows"] for tag, part in counted.tags.items()}, SHOWN_TAGS)
        lines += ["", *_overview("tag", {tag: counted.tags[tag] for tag in shown})]
        if more := len(counted.tags) - len(shown) + counted.tags_left_out:
            lines.append(f"and {more:,} rarer tags (--json has the first {len(counted.tags):,})")
    values = {
        name: str(value).lower() if isinstance(value, bool) else value for name, value in counted.signature.items()
    }
    signature = ", ".join(f"{name} = {value}" for name, value in values.items())
    return [*lines, "", f"≈ estimated; quantiles are exact; {signature}"]


def _most_frequent(rows: Mapping[str, int], most: int) -> list[str]:
    """Return the tags with the most rows; ties by name."""
    return heapq.nsmallest(most, rows, key=lambda tag: (-rows[tag], tag))


def _row(name: str, values: Sequence[str]) -> str:
    return f"{name:26}" + "".join(f"{value:>36}" for value in values)


_QUANTILES = ("p1", "p25", "p50", "p75", "p99", "max")


def _block(figures: Sequence[Figures]) -> list[str]:
    monolingual = figures[0]["source"] is None
    lines = [_row("texts" if monolingual else "pairs", [f"{part['rows']:,}" for part in figures])]
    for name in ("malformed_record", "columns", "missing_side", "line_too_long", "invalid_utf8", "empty"):
        if any(part[name] for part in figures):
            lines += [_row(f"  {name}", [share_text(part[name], part["rows"]) for part in figures])]
    keys = {"target": "text"} if monolingual else {key: key for key in ("pair", "source", "target")}
    lines += [_row(f"  repeat a {name}", [_repeats(part, key) for part in figures]) for key, name in keys.items()]
    heading = " ".join(name.removeprefix("p") + ("%" if name != "max" else "") for name in _QUANTILES)
    if monolingual:
        return [*lines, "", _row("", [heading] * len(figures)), *_side("text", [part["target"] for part in figures])]
    lines += ["", _row("longer over shorter", [heading] * len(figures))]
    for name in ("character_ratio", "word_ratio"):
        values = [_quantiles(ratios["longer_over_shorter"]) for part in figures if (ratios := part[name])]
        lines.append(_row(f"  in {name.removesuffix('_ratio')}s", values))
    lines.append("target over source")
    for name in ("character_ratio", "word_ratio"):
        values = [_quantiles(ratios["target_over_source"]) for part in figures if (ratios := part[name])]
        lines.append(_row(f"  in {name.removesuffix('_ratio')}s", values))
    for side in ("source", "target"):
        lines += ["", *_side(side, [of_side for part in figures if (of_side := part[side])])]
    return lines


def _side(name: str, sides: Sequence[SideFigures]) -> list[str]:
    units = ("characters", "words", "bytes")
    lines = [name, *(_row(f"  {unit}", [_quantiles(side[unit]) for side in sides]) for unit in units)]
    lines.append(_row("  tokens", [f"{side['tokens']:,}" for side in sides]))
    lines.append(_row("  types", [_count(side["types"]) for side in sides]))
    lines.append(_row("  compressed to", [_compressed(side["zstd"]) for side in sides]))
    scripts = {script: letters for side in sides for script, letters in side["scripts"].items()}
    for script in sorted(scripts, key=lambda script: (-scripts[script], script))[:5]:
        shares = [_share(side["scripts"].get(script, 0), sum(side["scripts"].values())) for side in sides]
        lines.append(_row(f"  {script}", shares))
    identified = [languages for side in sides if (languages := side["languages"])]
    if len(identified) == len(sides):
        lines += _languages(identified)
    return lines


def _languages(sides: Sequence[Languages]) -> list[str]:
    """Return the most frequent languages, the sum of the others, and the number of sides that were not identified."""
    counts = [{language["language"]: language["count"] for language in side["identified"]} for side in sides]
    top = [*counts[0]][:5]
    rows = {f"identified as {code}": [count.get(code, 0) for count in counts] for code in top}
    if any(len(count) > len(top) for count in counts):
        rows["identified as others"] = [
            sum(count.values()) - sum(count.get(code, 0) for code in top) for count in counts
        ]
    wholes = [sum(count.values()) for count in counts]
    lines = [
        _row(f"  {name}", [share_text(part, whole) if whole else "" for part, whole in zip(parts, wholes, strict=True)])
        for name, parts in rows.items()
    ]
    short = [side["too_short"] for side in sides]
    shown = [share_text(part, part + whole) if part else "0" for part, whole in zip(short, wholes, strict=True)]
    return [*lines, _row("  too short to identify", shown)]


def _overview(unit: str, parts: Mapping[str, Part]) -> list[str]:
    """Return a line for each input or tag; the full figures are in the JSON."""
    width = min(60, max(len(unit), *map(len, parts)))
    monolingual = any(part["all"]["source"] is None for part in parts.values())
    names = ("pairs", "kept", "repeat a pair", "source words", "target words", "ratio")
    legend = "words and ratio: medians"
    if monolingual:
        names, legend = ("texts", "kept", "repeat a text", "words"), "words: medians"
    lines = [f"{unit:{width}}" + "".join(f"{name:>16}" for name in names) + f"   ({legend})"]
    for name, part in parts.items():
        figures, kept = part["all"], part["kept"]
        words = [of_side["words"] for side in ("source", "target") if (of_side := figures[side])]
        ratios = figures["character_ratio"]
        ratio = ratios and ratios["target_over_source"]
        values = [
            f"{figures['rows']:,}",
            f"{kept['rows']:,}" if kept else "",
            _count(figures["duplicates"]["target" if monolingual else "pair"]),
            *(str(lengths["p50"]) if lengths else "" for lengths in words),
            *([] if monolingual else [f"{ratio['p50']:.2f}" if ratio else ""]),
        ]
        shown = name if len(name) <= width else "…" + name[1 - width :]
        lines.append(f"{shown:{width}}" + "".join(f"{value:>16}" for value in values))
    return lines


def _repeats(figures: Figures, key: str) -> str:
    repeats = figures["duplicates"][key]
    return f"{_count(repeats)} ({_share(repeats['count'], figures['rows'])})"


def _count(count: Count | None) -> str:
    return "" if count is None else f"{'' if count['exact'] else '≈ '}{count['count']:,}"


def _quantiles(quantiles: Quantiles[int] | Quantiles[float] | None) -> str:
    if quantiles is None:
        return ""
    values = [quantiles[name] for name in _QUANTILES]
    return " ".join(f"{value:,}" if isinstance(value, int) else f"{value:.2f}" for value in values)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _compressed(sizes: Compressed | None) -> str:
    return "" if sizes is None else _share(sizes["compressed"], sizes["bytes"])
