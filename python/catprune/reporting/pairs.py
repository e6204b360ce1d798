"""The sections on single pairs: the data map, and example pairs with the reason for their score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catprune.errors import CatpruneError
from catprune.reporting.charts import Axis, Chart, Point, make_axis, make_line
from catprune.reporting.corpus import COLOURS, LONGEST, colour
from catprune.reporting.wording import selection_label, shorten, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from catprune.reporting.aggregates import Examples, Sample, Survey
    from catprune.reporting.loss_trend import LossTrend
    from catprune.reporting.run_columns import Part, Reader, Steps

POINTS = 1_000  # of the data map: enough to see its shape, and a small page
_HOVER = 80  # characters of a side that a point shows on hover

Texts = dict[int, tuple[str, str]]


def map_rows(sample: Sample) -> NDArray[np.int64]:
    """Return the places in the sample of the pairs on the data map: the first that have both losses."""
    import numpy as np

    if len(sample.nll) < 2:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(np.isfinite(sample.nll[0]) & np.isfinite(sample.nll[-1]))[:POINTS]


def read_texts(clean: Part, rows: Sequence[int]) -> Texts | str:
    """Read the text of rows; return a message instead if the corpus was moved or changed."""
    from catprune.corpus.inputs import read_rows

    ascending = sorted(set(rows))
    try:
        return dict(zip(ascending, read_rows(clean.folder, clean.manifest, ascending), strict=True))
    except CatpruneError as error:
        return f"The text of the pairs cannot be shown: {error}"


def example_rows(survey: Survey) -> list[int]:
    """Return the rows of all examples."""
    return [int(row) for tables in survey.examples.values() for table in tables.values() for row in table.rows]


def data_map(reader: Reader, sample: Sample, trend: LossTrend, texts: Texts) -> dict[str, Any]:
    """Return the data map, the last loss against the first, with one view for each selection and one of groups."""
    places = map_rows(sample)
    first, last = sample.nll[0, places], sample.nll[-1, places]
    checkpoints = [visible(name) for name in reader.steps.scores]
    unit = "nats per target token"
    x = make_axis(f"loss at {checkpoints[0]} ({unit})", float(first.min()), float(first.max()))
    y = make_axis(f"loss at {checkpoints[-1]} ({unit})", float(last.min()), float(last.max()))
    views, colours = _views(reader, sample)
    points = _points(reader, sample, places, (x, y), colours, texts)
    inside = (trend.first >= x.low) & (trend.first <= x.high)
    medians = list(zip(trend.first[inside].tolist(), trend.last[inside].tolist(), strict=True))
    ends = [max(x.low, y.low), min(x.high, y.high)]
    lines = [make_line("median of pairs of similar initial loss", "median", x, y, medians)]
    if ends[0] < ends[1]:
        lines.append(make_line("no change", "unchanged", x, y, [(end, end) for end in ends]))
    summary = f"Loss of {len(points):,} sampled pairs at the last checkpoint against the first"
    return {
        "chart": Chart(summary, x, y, tuple(lines), points=tuple(points)),
        "views": views,
        "pairs": f"{len(points):,}",
    }


def _points(
    reader: Reader,
    sample: Sample,
    places: NDArray[np.int64],
    axes: tuple[Axis, Axis],
    colours: Mapping[int, int],
    texts: Texts,
) -> list[Point]:
    lefts = axes[0].positions(sample.nll[0, places].tolist())
    tops = axes[1].positions(sample.nll[-1, places].tolist())
    points: list[Point] = []
    for place, left, top in zip(places.tolist(), lefts, tops, strict=True):
        kept = [number for number in range(len(sample.kept)) if sample.kept[number, place]]
        styles = [f"k{number}" for number in kept]
        group = colours.get(int(sample.group[place]))
        if group is not None:
            styles.append(f"g{group}")
        hover = _hover(reader, sample, place, kept, texts)
        points.append(Point(left, round(100 - top, 2), " ".join(styles), hover))
    return points


def _hover(reader: Reader, sample: Sample, place: int, kept: Sequence[int], texts: Texts) -> str:
    """Return the text of a point: its row, losses, group, selections and both sides of the pair."""
    row, names = int(sample.rows[place]), list(reader.steps.selections)
    lines = [f"row {row:,}: loss {sample.nll[0, place]:.2f} → {sample.nll[-1, place]:.2f}"]
    if len(reader.groups) > 1:
        lines[0] += f", {shorten(reader.groups[int(sample.group[place])], longest=40)}"
    if names:
        lines[0] += f", kept by {', '.join(names[number] for number in kept)}" if kept else ", dropped"
    return "\n".join([visible(lines[0]), *(shorten(side, longest=_HOVER) for side in texts.get(row, ()) if side)])


def _views(reader: Reader, sample: Sample) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """Return the views of the data map, and the colours of the largest groups, which have a view of their own."""
    import numpy as np

    views: list[dict[str, Any]] = []
    for number, (name, part) in enumerate(reader.steps.selections.items()):
        classes = [{"style": f"k{number}", "colour": "kept", "name": "kept"}]
        label = f"kept by {selection_label(name, part.manifest['options'])}"
        views.append({"name": label, "classes": classes, "others": "dropped"})
    counts = np.bincount(sample.group, minlength=len(reader.groups))
    largest = [int(code) for code in np.argsort(-counts, kind="stable")[:COLOURS] if counts[code]]
    if len(largest) < 2:
        return views, {}
    classes = [
        {"style": f"g{number}", "colour": colour(number), "name": shorten(reader.groups[code], longest=40) or "(none)"}
        for number, code in enumerate(largest)
    ]
    others = "others" if np.count_nonzero(counts) > len(largest) else ""
    views.append({"name": "tag" if reader.tagged else "input", "classes": classes, "others": others})
    return views, {code: number for number, code in enumerate(largest)}


def examples(steps: Steps, survey: Survey, trend: LossTrend | None, texts: Texts) -> list[dict[str, Any]]:
    """Return the tables of example pairs of each selection."""
    shown: list[dict[str, Any]] = []
    for name, part in steps.selections.items():
        options = part.manifest["options"]
        tables = [
            {"heading": heading, "pairs": _example_pairs(table, trend, texts)}
            for heading, table in survey.examples[name].items()
            if len(table.rows) and _is_meaningful(heading, part)
        ]
        keys = ("method", "column", "merge", "on", "within", "direction")
        described = ", ".join(f"{key} {options[key]}" for key in keys if options.get(key))
        shown.append({"name": visible(name), "options": visible(described), "tables": tables, "first": not shown})
    return shown


def _is_meaningful(heading: str, part: Part) -> bool:
    """Return whether a heading says something about a selection.

    With several cuts no single pair is just kept or dropped. Random scores mean nothing: only samples are shown.
    """
    options = part.manifest["options"]
    if options.get("method") == "random":
        return "random" in heading
    several = options.get("direction") == "middle" or options.get("within") or part.manifest["groups"]
    return not (heading.startswith("just") and several)


def _example_pairs(table: Examples, trend: LossTrend | None, texts: Texts) -> list[dict[str, str]]:
    columns = zip(table.rows.tolist(), table.score.tolist(), table.first.tolist(), table.last.tolist(), strict=True)
    pairs: list[dict[str, str]] = []
    for row, score, first, last in columns:
        source, target = (shorten(side, longest=LONGEST) for side in texts[row])
        pair = {"row": f"{row:,}", "score": f"{score:.4g}", "source": source, "target": target}
        pairs.append({**pair, "why": _why(first, last, trend)})
    return pairs


def _why(first: float, last: float, trend: LossTrend | None) -> str:
    """Return the losses of a pair, and the last loss of pairs of similar initial loss."""
    if trend is None or first != first or last != last:
        return ""
    return f"loss {first:.2f} → {last:.2f}; pairs of similar initial loss: → {trend.at(first):.2f}"
