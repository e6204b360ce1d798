"""The sections on the corpus: cleaning, lengths, scores, overlap of selections, and shares of tags or inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catprune.reporting.charts import Chart, make_axis, make_bars, make_line
from catprune.reporting.overview import mean_words
from catprune.reporting.wording import percent, selection_label, shorten, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from catprune.reporting.aggregates import Survey
    from catprune.reporting.run_columns import Part, Reader, Steps

LONGEST = 400  # characters of a side that a table shows
COLOURS = 7  # that the style sheet defines
_MOST_GROUPS = 25
_MOST_CUTS = 20


def cleaning(clean: Part) -> list[dict[str, Any]]:
    """Return the reasons to drop pairs, the commonest first, with example pairs."""
    counts, examples = clean.manifest["counts"], clean.manifest["examples"]
    order = sorted(counts["reasons"].items(), key=lambda item: (-item[1], item[0]))
    most = max(counts["reasons"].values(), default=0) or 1
    return [
        {
            "name": name.replace("_", " "),
            "count": f"{count:,}",
            "share": percent(count, counts["rows"]),
            "width": f"{100 * count / most:.1f}",
            "pairs": [_dropped(pair) for pair in examples.get(name, ())],
        }
        for name, count in order
        if count
    ]


def _dropped(pair: Mapping[str, Any]) -> dict[str, str]:
    sides = {side: shorten(pair.get(side, ""), longest=LONGEST) for side in ("source", "target")}
    return {"row": f"{pair['row']:,}", "why": "", **sides}


def colour(place: int) -> str:
    """Return the CSS class of the colour of a selection or group."""
    return f"c{place % COLOURS}"


def lengths(survey: Survey) -> Chart:
    """Return the chart of lengths: the share of pairs by words of the target."""
    last = max(int(counts.nonzero()[0].max(initial=0)) for counts in survey.lengths.values())
    shares = {name: 100 * counts / max(1, counts.sum()) for name, counts in survey.lengths.items()}
    highest = max(float(share.max()) for share in shares.values())
    capped = last == len(survey.lengths["input"]) - 1
    x = make_axis("words of the target" + (f" ({last}: {last} and more)" if capped else ""), 0, last)
    y = make_axis("% of pairs", 0, highest)
    styles = {"input": "input", "cleaned": "cleaned"}
    styles |= {name: colour(place) for place, name in enumerate(name for name in shares if name not in styles)}
    lines = [
        make_line(visible(name), styles[name], x, y, [(words, float(share[words])) for words in range(last + 1)])
        for name, share in shares.items()
    ]
    edges = [0, *(words + 0.5 for words in range(last)), last]
    full = [("hover", [y.high] * (last + 1))]
    bars = make_bars(x, y, edges, full, lambda words: _length_hover(words, shares))
    return Chart("Share of pairs by words of the target, for each selection", x, y, tuple(lines), bars)


def _length_hover(words: int, shares: Mapping[str, NDArray[np.float64]]) -> str:
    return f"{words} words\n" + "\n".join(f"{visible(name)} {share[words]:.2f}%" for name, share in shares.items())


def distributions(steps: Steps, survey: Survey) -> list[dict[str, Any]]:
    """Return the histogram of the scores of each selection, with its cuts."""
    shown: list[dict[str, Any]] = []
    for place, (name, part) in enumerate(steps.selections.items()):
        cuts = _cuts(part.manifest)
        label = selection_label(name, part.manifest["options"])
        shown.append(
            {
                "name": label,
                "cuts": _cut_text(cuts),
                "chart": _histogram(label, survey.edges[place], survey.histogram[place], cuts),
            }
        )
    return shown


def _cut_text(cuts: Sequence[float]) -> str:
    if len(cuts) <= 1:
        return f"cut at {cuts[0]:.4g}" if cuts else "no cut"
    return f"{len(cuts)} cuts, {cuts[0]:.4g} to {cuts[-1]:.4g}"


def _histogram(label: str, edges: NDArray[np.float64], counts: NDArray[np.int64], cuts: Sequence[float]) -> Chart:
    x = make_axis("score", float(edges[0]), float(edges[-1]))
    y = make_axis("pairs", 0, int(counts.sum(axis=0).max(initial=1)))
    stacks = [("kept", counts[1].tolist()), ("dropped", counts[0].tolist())]

    def hover(place: int) -> str:
        ends = f"score {edges[place]:.4g} to {edges[place + 1]:.4g}"
        return f"{ends}\n{counts[1][place]:,} kept, {counts[0][place]:,} dropped"

    bars = make_bars(x, y, edges.tolist(), stacks, hover)
    inside = [cut for cut in cuts if x.low <= cut <= x.high][:_MOST_CUTS]
    return Chart(f"Histogram of the score of {label}", x, y, bars=bars, cuts=tuple(x.positions(inside)))


def _cuts(manifest: Mapping[str, Any]) -> list[float]:
    """Return the scores at which a selection cuts: one, two around the middle, or those of every group."""
    ends = {"top": ("lowest",), "bottom": ("highest",), "middle": ("lowest", "highest")}
    wanted = ends[manifest["options"]["direction"]]
    groups = manifest["groups"] or [manifest["counts"]]
    return sorted({float(group[end]) for group in groups for end in wanted if group[end] is not None})


def length_table(steps: Steps, survey: Survey) -> list[list[str]]:
    """Return the cells of the table of mean lengths: a header, then input, clean pairs and selections."""
    tokens: dict[str, float] = {}
    if steps.tokens is not None:
        counts = steps.tokens.manifest["counts"]
        tokens["cleaned"] = counts["target_tokens"] / max(1, counts["pairs"])
    for name, part in steps.selections.items():
        counts = part.manifest["counts"]
        if counts["tokens_kept"] is not None:
            tokens[name] = counts["tokens_kept"] / max(1, counts["kept"])
    rows = [
        [
            visible(name),
            f"{int(counts.sum()):,}",
            f"{mean_words(survey, name):.1f}",
            f"{tokens[name]:.1f}" if name in tokens else "–",
        ]
        for name, counts in survey.lengths.items()
    ]
    return [["", "pairs", "mean words of a target", "mean target tokens"], *rows]


def overlap(survey: Survey, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the Jaccard index of every two selections; None if there is only one selection."""
    import numpy as np

    if len(names) < 2:
        return None
    sizes = np.diag(survey.overlap)
    either = sizes[:, None] + sizes[None] - survey.overlap
    share = survey.overlap / np.maximum(either, 1)
    rows = [
        {"name": visible(name), "cells": [_shaded(f"{value:.2f}", float(value)) for value in share[place]]}
        for place, name in enumerate(names)
    ]
    return {"head": ["", *(visible(name) for name in names)], "rows": rows}


def _shaded(text: str, share: float) -> dict[str, str]:
    return {"text": text, "shade": f"{0.45 * share:.2f}"}


def shares(reader: Reader, survey: Survey) -> dict[str, Any]:
    """Return the share of each tag or input that cleaning and every selection keep."""
    import numpy as np

    order = [int(code) for code in np.argsort(-survey.group_rows, kind="stable")]
    rows: list[dict[str, Any]] = []
    for code in order[:_MOST_GROUPS]:
        total, clean_pairs = int(survey.group_rows[code]), int(survey.group_survived[code])
        parts = [(clean_pairs, total), *((int(kept[code]), clean_pairs) for kept in survey.group_kept)]
        cells = [_shaded(percent(part, whole), part / whole if whole else 0) for part, whole in parts]
        rows.append({"name": visible(reader.groups[code]) or "(none)", "pairs": f"{total:,}", "cells": cells})
    more = len(order) - len(rows)
    kind = "tag" if reader.tagged else "input"
    return {
        "kind": kind,
        "head": [kind, "pairs read", "cleaning", *(visible(name) for name in reader.steps.selections)],
        "rows": rows,
        "more": f"{more:,} smaller ones are not shown." if more > 0 else "",
    }


def exposure(survey: Survey) -> list[list[str]]:
    """Return the cells of the table of mean loss by how often a checkpoint was trained on a pair."""
    rows: list[list[str]] = []
    for name, by_times in survey.seen.items():
        means = {times: total / max(1, pairs) for times, (pairs, total) in sorted(by_times.items())}
        if len(means) < 2:
            continue
        least = min(means)
        for times, mean in means.items():
            change = "–" if times == least else f"{mean - means[least]:+.3f}"
            rows.append([visible(name), f"{times:,}", f"{by_times[times][0]:,}", f"{mean:.3f}", change])
    return [["checkpoint", "times trained on", "pairs", "mean loss", "difference"], *rows] if rows else []
