"""The top of the report: what each selection keeps, what it cost, warnings, and what the run lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catprune.corpus.inputs import is_monolingual
from catprune.evaluation.cost import Cost, choosing_flops, choosing_seconds, external_checkpoints
from catprune.evaluation.results import number_text
from catprune.reporting.wording import percent, selection_label, visible
from catprune.workspace.wording import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from catprune.reporting.aggregates import Survey
    from catprune.reporting.run_columns import Part, Steps

# A selection is warned about if its pairs have less than this share of the mean length of clean pairs.
_SHORT = 0.9


@dataclass(frozen=True, slots=True)
class Kept:
    """What a selection keeps, compared with the clean pairs.

    Attributes:
        label: name and method.
        pairs, clean_pairs: numbers of pairs.
        tokens, clean_tokens: target tokens; None if they were not counted.
        length, clean_length: mean length of a target, in `unit`; None if unknown.
        unit: "tokens" or "words".
        flops, seconds: cost of the warm-up model and of scoring; None if unknown.
        external: the external checkpoints that were scored; `flops` and `seconds` lack their training.
    """

    label: str
    pairs: int
    clean_pairs: int
    tokens: int | None
    clean_tokens: int | None
    length: float | None
    clean_length: float | None
    unit: str
    flops: Cost | None
    seconds: Cost | None
    external: tuple[str, ...]

    @property
    def is_short(self) -> bool:
        """Whether the kept pairs are much shorter than the clean pairs."""
        return bool(self.length and self.clean_length and self.length < _SHORT * self.clean_length)


def measure_costs(steps: Steps) -> dict[str, tuple[Cost | None, Cost | None]]:
    """Return FLOPs and seconds of choosing each selection, with nothing for training; None if they are unknown."""
    costs: dict[str, tuple[Cost | None, Cost | None]] = dict.fromkeys(steps.selections, (None, None))
    is_external = any(part.manifest["checkpoint"]["flops"] is None for part in steps.scores.values())
    if steps.warmup is not None or is_external:
        for name, part in steps.selections.items():
            seconds = choosing_seconds(part.folder)
            flops = Cost(*choosing_flops(part.folder), 0.0)
            costs[name] = flops, None if seconds is None else Cost(*seconds, 0.0)
    return costs


def measure_kept(
    steps: Steps, survey: Survey | None, costs: Mapping[str, tuple[Cost | None, Cost | None]]
) -> list[Kept]:
    """Measure what each selection keeps."""
    return [_measure(name, part, steps, survey, *costs[name]) for name, part in steps.selections.items()]


def _measure(
    name: str, part: Part, steps: Steps, survey: Survey | None, flops: Cost | None, seconds: Cost | None
) -> Kept:
    counts = part.manifest["counts"]
    clean_pairs = int(counts["scored"] + counts["unscored"])
    if steps.clean is not None:
        clean_pairs = int(steps.clean.manifest["counts"]["kept"])
    tokens, clean_tokens = counts["tokens_kept"], counts["tokens"]
    length, clean_length = None, None
    if tokens is not None and clean_tokens is not None:
        unit = "tokens"
        length, clean_length = tokens / max(1, counts["kept"]), clean_tokens / max(1, counts["scored"])
    else:
        unit = "words"
        if survey is not None and survey.lengths:
            length, clean_length = mean_words(survey, name), mean_words(survey, "cleaned")
    label = selection_label(name, part.manifest["options"])
    kept = int(counts["kept"])
    external = tuple(external_checkpoints(part.folder)) if flops is not None else ()
    return Kept(label, kept, clean_pairs, tokens, clean_tokens, length, clean_length, unit, flops, seconds, external)


def mean_words(survey: Survey, name: str) -> float:
    """Return the mean number of words of a target; targets of more than 100 words count as 100."""
    import numpy as np

    counts = survey.lengths[name]
    return float((np.arange(len(counts)) * counts).sum() / max(1, counts.sum()))


def headline(steps: Steps, kept: Sequence[Kept]) -> str:
    """Return the title of the page: its most important number."""
    unit = "texts" if steps.clean is not None and is_monolingual(steps.clean.manifest) else "pairs"
    if len(kept) == 1:
        return f"{kept[0].label} keeps {kept[0].pairs:,} of {kept[0].clean_pairs:,} clean {unit}"
    if kept:
        return f"What {len(kept)} selections keep of {kept[0].clean_pairs:,} clean {unit}"
    if steps.clean is not None:
        counts = steps.clean.manifest["counts"]
        return f"Cleaning keeps {counts['kept']:,} of {counts['rows']:,} {unit}"
    return "Report of an unfinished run"


def cards(steps: Steps, kept: Sequence[Kept]) -> list[dict[str, str]]:
    """Return the cards on top: pairs read, clean pairs, pairs and tokens kept, mean length, cost."""
    shown = [] if steps.clean is None else _cleaning_cards(steps.clean)
    if not kept:
        return shown
    return [*shown, _pairs_card(kept), *_token_cards(kept), *_length_cards(kept), *_cost_cards(kept)]


def _pairs_card(kept: Sequence[Kept]) -> dict[str, str]:
    pairs = sorted(row.pairs for row in kept)
    label = "pairs kept" if len(kept) == 1 else f"pairs kept by each of {len(kept)} selections"
    shares = _range([percent(count, kept[0].clean_pairs) for count in pairs])
    return _card(_range([f"{count:,}" for count in pairs]), label, f"{shares} of the clean pairs")


def _token_cards(kept: Sequence[Kept]) -> list[dict[str, str]]:
    counted = sorted((row.tokens, row.clean_tokens) for row in kept if row.tokens and row.clean_tokens)
    if not counted:
        return []
    shares = _range([percent(tokens, clean_tokens) for tokens, clean_tokens in counted])
    return [_card(shares, "of the target tokens kept", _range([f"{tokens:,}" for tokens, _ in counted]))]


def _length_cards(kept: Sequence[Kept]) -> list[dict[str, str]]:
    lengths = sorted(row.length for row in kept if row.length is not None)
    if not lengths:
        return []
    label = f"{kept[0].unit} in a kept target, on average"
    return [
        _card(_range([f"{length:.1f}" for length in lengths]), label, f"all clean pairs: {kept[0].clean_length:.1f}")
    ]


def _card(number: str, label: str, more: str) -> dict[str, str]:
    return {"number": number, "label": label, "more": more}


def _cleaning_cards(clean: Part) -> list[dict[str, str]]:
    counts, inputs = clean.manifest["counts"], len(clean.manifest["inputs"])
    common = sorted(counts["reasons"].items(), key=lambda item: (-item[1], item[0]))[:2]
    reasons = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in common if count)
    share = percent(counts["kept"], counts["rows"])
    return [
        _card(f"{counts['rows']:,}", "pairs read", "one input" if inputs == 1 else f"{inputs} inputs"),
        _card(f"{counts['kept']:,}", "clean pairs", f"{share}; main reasons to drop: {reasons or 'none'}"),
    ]


def _range(texts: Sequence[str]) -> str:
    """Return the first and the last text, once if they are equal."""
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} – {texts[-1]}"


def _choosing(cost: Cost) -> float:
    return cost.warmup + cost.scoring


def _cost_cards(kept: Sequence[Kept]) -> list[dict[str, str]]:
    """Return the card of the most expensive selection, in seconds if they were measured."""
    known = [row for row in kept if row.flops is not None and _choosing(row.flops) > 0]
    if not known:
        return []
    row = max(known, key=lambda row: _choosing(row.flops or Cost(0, 0, 0)))
    flops = f"{number_text(_choosing(row.flops or Cost(0, 0, 0)))} FLOPs"
    unknown = f"; the training of {', '.join(row.external)} is unknown" if row.external else ""
    if row.seconds is None:
        return [_card(flops, "to choose the pairs", f"warm-up model and scoring{unknown}")]
    warmup = f"warm-up {duration(row.seconds.warmup)}, " if row.seconds.warmup or not row.external else ""
    parts = f"{warmup}scoring {duration(row.seconds.scoring)}; {flops}{unknown}"
    return [_card(duration(_choosing(row.seconds)), "to choose the pairs", parts)]


def kept_table(kept: Sequence[Kept]) -> list[list[str]]:
    """Return the cells of the table of selections: a header, then one row for each."""
    if not kept:
        return []
    unit = kept[0].unit
    head = ["selection", "pairs", "of the clean pairs", "target tokens", "of the clean tokens", f"mean {unit}"]
    rows = [
        [
            row.label,
            f"{row.pairs:,}",
            percent(row.pairs, row.clean_pairs),
            "–" if row.tokens is None else f"{row.tokens:,}",
            "–" if row.tokens is None or row.clean_tokens is None else percent(row.tokens, row.clean_tokens),
            "–" if row.length is None else f"{row.length:.1f}",
        ]
        for row in kept
    ]
    first = kept[0]
    tokens = "–" if first.clean_tokens is None else f"{first.clean_tokens:,}"
    length = "–" if first.clean_length is None else f"{first.clean_length:.1f}"
    return [head, ["all clean pairs", f"{first.clean_pairs:,}", "100%", tokens, "100%", length], *rows]


def choosing_table(kept: Sequence[Kept]) -> list[list[str]]:
    """Return the cells of the table of what choosing cost; empty if nothing is known."""
    rows: list[list[str]] = []
    for row in kept:
        if row.flops is not None:
            flops = [number_text(part) for part in (row.flops.warmup, row.flops.scoring)]
            seconds = ["–", "–"]
            if row.seconds is not None:
                seconds = [duration(part) for part in (row.seconds.warmup, row.seconds.scoring)]
            if row.external:
                known = bool(row.flops.warmup)
                flops[0], seconds[0] = (f"{part} + unknown" if known else "unknown" for part in (flops[0], seconds[0]))
            rows.append([row.label, *flops, *seconds])
    head = ["selection", "warm-up, FLOPs", "scoring, FLOPs", "warm-up, time", "scoring, time"]
    return [head, *rows] if rows else []


def warnings(kept: Sequence[Kept]) -> list[str]:
    """Return a warning for each selection whose pairs are much shorter than the clean pairs."""
    return [_short_warning(row) for row in kept if row.is_short]


def _short_warning(row: Kept) -> str:
    shares = f"{percent(row.pairs, row.clean_pairs)} of the clean pairs"
    if row.tokens is not None and row.clean_tokens is not None:
        shares += f", but only {percent(row.tokens, row.clean_tokens)} of their target tokens"
    return (
        f"{row.label} prefers short pairs. It keeps {shares}: a kept target has {row.length:.1f} {row.unit} on "
        f"average, a clean one {row.clean_length:.1f}. To keep the same share of every length, select with "
        "within = length. To compare methods fairly, keep equal numbers of tokens."
    )


def missing_steps(steps: Steps) -> list[str]:
    """Return what the run lacks, with the command that adds it."""
    wanted = [
        (steps.clean is None, "No clean/ folder: the corpus is not shown. Run `catprune clean`."),
        (not steps.scores, "No losses of checkpoints: there is no data map. Run `catprune score`."),
        (not steps.selections, "No selection. Run `catprune select`."),
    ]
    return [text for missing, text in wanted if missing]


def how_to_evaluate(run: Path, steps: Steps) -> dict[str, str] | None:
    """Return what to add to the run file, where it is and the command; None if nothing can be evaluated."""
    if not steps.selections or (steps.clean is not None and is_monolingual(steps.clean.manifest)):
        return None
    lines: list[str] = []
    if not any(part.manifest["options"].get("method") == "random" for part in steps.selections.values()):
        kept = max(int(part.manifest["counts"]["kept"]) for part in steps.selections.values())
        lines += ["[[select]]", 'name = "random"', 'method = "random"', f"keep = {kept}", ""]
    lines += ["[evaluate]", "", "[[evaluate.tests]]", 'name = "test"']
    lines += ["# held-out text, one sentence per line", 'source = "test.source"', 'target = "test.target"']
    has_file = (run / "run.toml").is_file()
    file = f"{run.resolve().name}/run.toml" if has_file else "run.toml"
    return {
        "where": f"Add these lines to {file}" if has_file else "Add these lines to the run file",
        "lines": "\n".join(lines),
        "command": f"catprune run {file}",
    }


def input_names(inputs: Sequence[Mapping[str, Any]]) -> str:
    """Return the names of the first input files, without their folders."""
    paths = [str(entry[key]) for entry in inputs for key in ("source", "target", "path") if key in entry]
    names = [visible(path.rpartition("/")[2]) for path in paths]
    return ", ".join(names if len(names) <= 6 else [*names[:5], f"{len(names) - 5:,} more files"])
