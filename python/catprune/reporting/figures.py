"""The figures of a report: what was counted, drawn by plotly."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from catprune.evaluation.results import against

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from catprune.evaluation.results import Evaluated
    from catprune.reporting.aggregates import Sample, Survey

# Okabe and Ito's colours, which people of every colour vision can tell apart; grey is what was dropped.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#444444")
KEPT, DROPPED = COLOURS[0], "#C9CDD3"
POINTS = 3_000  # of the data map
MOST_CUTS = 20  # lines in one figure
GROUPS = 7  # groups with a colour of their own in the data map


def visible(text: str) -> str:
    """Control characters as the pictures Unicode has for them: a NUL or a tab in a corpus is to be seen."""
    return text.translate({code: 0x2400 + code for code in range(32)} | {0x7F: 0x2421})


def label(text: str, *, longest: int = 40) -> str:
    """Text that plotly shows as it is: it reads some HTML in labels, and labels come from the corpus."""
    shown = visible(text)
    return html.escape(shown if len(shown) <= longest else shown[: longest - 1] + "…")


def _figure(traces: Sequence[Any], *, height: int, x: str = "", y: str = "", **layout: Any) -> Any:
    import plotly.graph_objects as go

    axis: dict[str, Any] = {
        "gridcolor": "#ECEEF1",
        "zeroline": False,
        "linecolor": "#9AA1AB",
        "automargin": True,
    }
    figure: Any = go.Figure(data=list(traces))
    settings: dict[str, Any] = {
        "template": "none",
        "height": height,
        "margin": {"l": 60, "r": 16, "t": 28, "b": 48},
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#24292F"},
        "xaxis": {**axis, "title": {"text": x}},
        "yaxis": {**axis, "title": {"text": y}},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        "hoverlabel": {"align": "left"},
    }
    for name, value in layout.items():
        settings[name] = {**settings[name], **value} if isinstance(settings.get(name), dict) else value
    figure.update_layout(**settings)
    return figure


def reasons(counts: Mapping[str, int], *, rows: int) -> Any:
    """How many pairs have each reason, the commonest on top."""
    import plotly.graph_objects as go

    order = sorted((name for name in counts if counts[name]), key=lambda name: (counts[name], name))
    shares = [f"{counts[name]:,} ({100 * counts[name] / max(rows, 1):.1f}%)" for name in order]
    bars = go.Bar(
        x=[counts[name] for name in order],
        y=[label(name.replace("_", " ")) for name in order],
        orientation="h",
        text=shares,
        textposition="auto",
        cliponaxis=False,
        marker={"color": KEPT},
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    return _figure([bars], height=90 + 26 * len(order), x="pairs that have the reason", margin={"r": 90})


def lengths(counted: Mapping[str, NDArray[np.int64]], *, colours: Mapping[str, str]) -> Any:
    """The share of pairs by words of the target, in the input, after cleaning and in every selection."""
    import plotly.graph_objects as go

    traces: list[Any] = []
    last = max((int(counts.nonzero()[0].max(initial=0)) for counts in counted.values()), default=0) + 1
    for name, counts in counted.items():
        dash = {"input": "dot", "cleaned": "dash"}.get(name, "solid")
        traces.append(
            go.Scatter(
                x=list(range(last)),
                y=[round(float(share), 5) for share in 100 * counts[:last] / max(1, counts.sum())],
                name=label(name),
                mode="lines",
                line={"shape": "hvh", "width": 2, "dash": dash, "color": colours.get(name, "#6B7280")},
                hovertemplate="%{x} words: %{y:.2f}%",
            )
        )
    return _figure(
        traces,
        height=380,
        x="words of the target (100: all longer ones)",
        y="% of its pairs",
        hovermode="x unified",
    )


def scores(name: str, survey: Survey, place: int, *, cuts: Sequence[float]) -> Any:
    """How the score of one selection is distributed, kept and dropped, with its cuts."""
    import plotly.graph_objects as go

    edges, histogram = survey.edges[place], survey.histogram[place]
    centres = [float(f"{centre:.6g}") for centre in (edges[:-1] + edges[1:]) / 2]
    width = float(edges[1] - edges[0])
    traces = [
        go.Bar(x=centres, y=histogram[row].tolist(), width=width, name=kind, marker={"color": colour})
        for row, kind, colour in ((1, "kept", KEPT), (0, "dropped", DROPPED))
    ]
    title = f"score of {label(name)}"
    if len(cuts) == 1:
        title += f" (cut at {cuts[0]:.4g})"
    elif cuts:
        title += f" ({len(cuts)} cuts, {cuts[0]:.4g} to {cuts[-1]:.4g})"
    figure = _figure(traces, height=270, x=title, y="pairs", barmode="stack", bargap=0)
    for cut in cuts[:MOST_CUTS]:
        figure.add_vline(x=cut, line={"color": "#24292F", "width": 1.5, "dash": "dash"})
    return figure


def data_map(
    sample: Sample,
    *,
    groups: Sequence[str],
    selections: Sequence[str],
    colours: Mapping[str, str],
    grouped_by: str,
) -> Any:
    """Confidence against variability of sampled pairs, coloured by group or by what a selection keeps.

    Mean and standard deviation over checkpoints of exp(-nll) (Swayamdipta et al. 2020, arXiv 2009.10795).
    """
    import numpy as np
    import plotly.graph_objects as go

    probability = np.exp(-sample.nll[:, :POINTS])
    there = np.isfinite(probability).all(axis=0)
    x, y = probability[:, there].std(axis=0).round(4), probability[:, there].mean(axis=0).round(4)
    group, kept = sample.group[:POINTS][there], sample.kept[:, :POINTS][:, there]
    counts = np.bincount(group, minlength=len(groups))
    shown = [int(code) for code in np.argsort(-counts, kind="stable")[:GROUPS] if counts[code]]
    views: list[tuple[str, list[tuple[str, str, Any]]]] = []
    if len(groups) > 1:
        classes = [(groups[code], COLOURS[place], group == code) for place, code in enumerate(shown)]
        rest = ~np.isin(group, shown)
        others = [("others", DROPPED, rest)] if rest.any() else []
        views.append((grouped_by, others + classes))
    for place, name in enumerate(selections):
        both = [("dropped", DROPPED, ~kept[place]), ("kept", colours[name], kept[place])]
        views.append((f"kept by {name}", both))
    if not views:
        views.append(("all pairs", [("pairs", KEPT, np.ones(len(x), dtype=bool))]))
    traces = [
        go.Scatter(
            x=x[mask].tolist(),
            y=y[mask].tolist(),
            name=label(name),
            mode="markers",
            visible=view == 0,
            marker={"size": 5, "opacity": 0.6, "color": colour},
            hovertemplate="variability %{x}, confidence %{y}",
        )
        for view, (_, classes) in enumerate(views)
        for name, colour, mask in classes
    ]
    return _with_views(traces, [(name, len(classes)) for name, classes in views])


def _with_views(traces: list[Any], views: list[tuple[str, int]]) -> Any:
    """The data map with a menu that shows one view's traces at a time."""
    owner = [view for view, (_, count) in enumerate(views) for _ in range(count)]
    buttons = [
        {"label": label(name), "method": "update", "args": [{"visible": [own == view for own in owner]}]}
        for view, (name, _) in enumerate(views)
    ]
    menu = {
        "buttons": buttons,
        "x": 1,
        "xanchor": "right",
        "y": 1.19,
        "yanchor": "bottom",
        "bgcolor": "#FFFFFF",
    }
    return _figure(
        traces,
        height=520,
        x="variability over checkpoints",
        y="confidence",
        margin={"t": 130},
        updatemenus=[menu] if len(views) > 1 else [],
    )


def jaccard(survey: Survey, names: Sequence[str]) -> Any:
    """How alike two selections are: pairs that both keep, out of pairs that either keeps."""
    import numpy as np
    import plotly.graph_objects as go

    sizes = np.diag(survey.overlap)
    either = sizes[:, None] + sizes[None] - survey.overlap
    share = survey.overlap / np.maximum(either, 1)
    labels = [label(name) for name in names]
    heat = go.Heatmap(
        z=share.round(4).tolist(),
        x=labels,
        y=labels,
        zmin=0,
        zmax=1,
        colorscale=[[0, "#FFFFFF"], [1, KEPT]],
        texttemplate="%{z:.2f}",
        showscale=False,
        hovertemplate="%{y} and %{x}: %{z:.3f}<extra></extra>",
    )
    return _figure(
        [heat],
        height=120 + 44 * len(names),
        yaxis={"autorange": "reversed", "showgrid": False},
        margin={"l": 120},
    )


def quality(found: Evaluated, test: str, metric: str) -> Any:
    """One metric on one test set: score and 95% interval of each subset, coloured by its test."""
    import plotly.graph_objects as go

    first = found.against[0] if found.against else None
    base = next((subset for subset in found.subsets if subset.name == first), None)
    traces: list[Any] = []
    baseline = None if base is None else base.scores[test][metric]
    kinds = {"worse": ("worse than", "#D55E00"), "same": ("no significant difference to", "#444444")}
    kinds |= {"better": ("better than", "#009E73")}
    # A baseline, which no test compares with itself, stands among those without a difference.
    found_kinds = [against(subset.scores[test][metric], baseline, first or "") or "same" for subset in found.subsets]
    for kind, (words, colour) in kinds.items():
        chosen = [subset for subset, of in zip(found.subsets, found_kinds, strict=True) if of == kind]
        if chosen:
            values = [subset.scores[test][metric] for subset in chosen]
            traces.append(
                go.Scatter(
                    x=[round(value.score, 3) for value in values],
                    y=[label(subset.name) for subset in chosen],
                    error_x={"array": [round(value.interval, 3) for value in values], "thickness": 1.5},
                    mode="markers",
                    marker={"size": 10, "color": colour},
                    name=f"{words} {first}",
                    hovertemplate="%{y}: %{x:.2f} ± %{error_x.array:.2f}<extra></extra>",
                )
            )
    order = [label(subset.name) for subset in reversed(found.subsets)]
    figure = _figure(traces, height=130 + 28 * len(order), x=f"{metric} on {label(test)}", showlegend=bool(first))
    figure.update_yaxes(categoryorder="array", categoryarray=order)
    if base is not None:
        figure.add_vline(x=base.scores[test][metric].score, line={"color": "#9AA1AB", "width": 1, "dash": "dot"})
    return figure


def cost(found: Evaluated) -> Any:
    """FLOPs of each subset by part."""
    import plotly.graph_objects as go

    names = [label(subset.name) for subset in reversed(found.subsets)]
    parts = (
        ("warmup", "warm-up", COLOURS[4]),
        ("scoring", "scoring", COLOURS[5]),
        ("training", "training", KEPT),
    )
    traces = [
        go.Bar(
            x=[float(f"{getattr(subset.flops, part):.6g}") for subset in reversed(found.subsets)],
            y=names,
            orientation="h",
            name=name,
            marker={"color": colour},
            hovertemplate="%{y}, " + name + ": %{x:.3s} FLOPs<extra></extra>",
        )
        for part, name, colour in parts
    ]
    return _figure(traces, height=130 + 28 * len(names), x="FLOPs", barmode="stack", legend={"traceorder": "normal"})
