"""The sections of a report: what the page's template is filled with, from manifests and from the survey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catprune.errors import CatpruneError
from catprune.evaluation.results import SIGNIFICANT, against
from catprune.reporting.figures import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catprune.evaluation.results import Evaluated
    from catprune.reporting.aggregates import Sample, Survey
    from catprune.reporting.run_columns import Part, Reader, Steps

_LONGEST = 400  # characters of a side that the page shows
_MOST_GROUPS = 25


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "–"


def _shown(text: str) -> str:
    more = len(text) - _LONGEST
    return visible(text) if more <= 0 else f"{visible(text[:_LONGEST])} … ({more:,} more characters)"


def _evaluated(steps: Steps) -> Evaluated | None:
    from catprune.evaluation.results import open_evaluation

    return None if steps.evaluate is None else open_evaluation(steps.evaluate.folder)


def _input_names(inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The files of the inputs without their folders, a few of them."""
    paths = [str(one[key]) for one in inputs for key in ("source", "target", "path") if key in one]
    names = [visible(path.rpartition("/")[2]) for path in paths]
    return names if len(names) <= 6 else [*names[:5], f"{len(names) - 5:,} more files"]


def summary(steps: Steps) -> dict[str, Any]:
    """The cards on top and the verdict on quality."""
    cards: list[dict[str, str]] = []
    survived: int | None = None
    if steps.clean is not None:
        counts, inputs = steps.clean.manifest["counts"], len(steps.clean.manifest["inputs"])
        survived = int(counts["kept"])
        common = sorted(counts["reasons"].items(), key=lambda item: (-item[1], item[0]))[:2]
        most = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in common if count)
        files = "one input" if inputs == 1 else f"{inputs} inputs"
        cards.append({"number": f"{counts['rows']:,}", "what": "pairs read", "more": files})
        share = f"{_percent(survived, counts['rows'])}; most dropped for: {most or 'nothing'}"
        cards.append({"number": f"{survived:,}", "what": "kept by cleaning", "more": share})
    kept = [int(part.manifest["counts"]["kept"]) for part in steps.selections.values()]
    if kept:
        least, most_kept = min(kept), max(kept)
        number = f"{least:,}" if least == most_kept else f"{least:,} – {most_kept:,}"
        share = "" if survived is None else f"{_percent(least, survived)} of what cleaning kept"
        if survived is not None and least != most_kept:
            share = f"{_percent(least, survived)} to {_percent(most_kept, survived)} of what cleaning kept"
        what = "kept by the selection" if len(kept) == 1 else f"kept by each of {len(kept)} selections"
        cards.append({"number": number, "what": what, "more": share})
    found = _evaluated(steps)
    subtitle = "Pairs read, pairs kept, and how models trained on them translate."
    if steps.clean is not None:
        subtitle = f"{', '.join(_input_names(steps.clean.manifest['inputs']))}: {subtitle[0].lower()}{subtitle[1:]}"
    told = None if found is None else verdict(found)
    if told is not None and (before := evaluated_before(steps)):
        told["caution"] = f"{before} {told['caution']}".strip()
    return {"cards": cards, "verdict": told, "subtitle": subtitle}


def evaluated_before(steps: Steps) -> str | None:
    """What is to be known where the models were trained before rows were joined to the corpus."""
    from catprune.corpus.appended import is_grown

    if steps.evaluate is None or steps.tokens is None:
        return None
    if not is_grown(steps.tokens.folder, steps.evaluate.manifest["reads"]["tokens"]["manifest"]):
        return None
    return (
        "These models were trained before rows were joined to the corpus, on what was selected then: all else on this "
        "page is of the corpus as it is now. For models of that, move the folder evaluate away and run again."
    )


def _difference(value: float) -> str:
    """A signed difference in one decimal, zero without a sign."""
    return f"{value:+.1f}" if abs(value) >= 0.05 else "0.0"


def verdict(found: Evaluated) -> dict[str, Any] | None:
    """A table of what every subset won and lost against each baseline, over all test sets and metrics."""
    by_name = {subset.name: subset for subset in found.subsets}
    rows: list[list[dict[str, str]]] = []
    for subset in found.subsets:
        if subset.name in found.against:
            continue
        share = _percent(subset.pairs, by_name["full"].pairs) if "full" in by_name else f"{subset.pairs:,}"
        row = [{"text": subset.name, "kind": ""}, {"text": share, "kind": ""}]
        for baseline in found.against:
            other = by_name[baseline].scores
            kinds = [
                against(score, other[test][metric], baseline)
                for test, metrics in subset.scores.items()
                for metric, score in metrics.items()
            ]
            row.append(_counted(kinds))
        rows.append(row)
    if not rows or not found.against:
        return None
    held = "number of updates" if found.held_fixed == "updates" else "number of epochs"
    which = f"{', '.join(found.signatures)} on {', '.join(found.tests)}"
    return {
        "head": ["subset", "of the pairs", *(f"against {baseline}" for baseline in found.against)],
        "rows": rows,
        "caution": _caution(found),
        "note": f"{len(found.tests) * len(found.signatures)} scores: {which}; every model trained for the same "
        f"{held}; paired bootstrap, sacrebleu's p < {SIGNIFICANT}, one training seed. Numbers below.",
    }


def _caution(found: Evaluated) -> str:
    """A warning where no model has learnt to translate: differences between such models mean nothing."""
    best = max((metrics["BLEU"].score for subset in found.subsets for metrics in subset.scores.values()), default=0.0)
    return (
        f"No model reaches 5 BLEU (the best has {best:.1f}): they were trained too briefly to judge the data by."
        if best < 5
        else ""
    )


def _counted(kinds: Sequence[str]) -> dict[str, str]:
    """What was found on how many scores, coloured where it points one way."""
    words = (("better", "better"), ("worse", "worse"), ("same", "no significant difference"))
    counts = {kind: kinds.count(kind) for kind, _ in words}
    text = ", ".join(f"{said} on {counts[kind]} of {len(kinds)}" for kind, said in words if counts[kind])
    one_way = bool(counts["better"]) != bool(counts["worse"])
    return {"text": text, "kind": ("better" if counts["better"] else "worse") if one_way else "same"}


def quality(steps: Steps, figures: dict[str, Any]) -> dict[str, Any]:
    """Tables and figures of scores, and of costs."""
    from catprune.evaluation.results import cost_table, notes
    from catprune.reporting import figures as draw

    found = _evaluated(steps)
    if found is None:
        return {"quality": [], "quality_notes": [], "costs": []}
    tests: list[dict[str, Any]] = []
    for number, (test, lines) in enumerate(found.tests.items()):
        names: list[str] = []
        for metric in found.signatures:
            names.append(f"figure-quality-{number}-{metric}")
            figures[names[-1]] = draw.quality(found, test, metric)
        tests.append({"name": test, "lines": f"{lines:,}", "figures": names, **_quality_table(found, test)})
    figures["figure-cost"] = draw.cost(found)
    return {"quality": tests, "quality_notes": notes(found), "costs": cost_table(found)}


def _quality_table(found: Evaluated, test: str) -> dict[str, Any]:
    from catprune.evaluation.results import p_text

    by_name = {subset.name: subset for subset in found.subsets}
    head = ["subset", "pairs", "target tokens"]
    for metric in found.signatures:
        head += [metric, *(f"against {baseline}" for baseline in found.against)]
    rows: list[list[dict[str, str]]] = []
    for subset in found.subsets:
        texts = (subset.name, f"{subset.pairs:,}", f"{subset.target_tokens:,}")
        row = [{"text": text, "kind": ""} for text in texts]
        for metric in found.signatures:
            score = subset.scores[test][metric]
            row.append({"text": f"{score.score:.1f} ± {score.interval:.1f}", "kind": ""})
            for baseline in found.against:
                other = by_name[baseline].scores[test][metric]
                kind = against(score, other, baseline)
                text = "–"
                if kind:
                    p = p_text(score.p[baseline], found.resamples)
                    text = f"{_difference(score.score - other.score)} (p {p})"
                row.append({"text": text, "kind": kind})
        rows.append(row)
    return {"head": head, "rows": rows}


def cleaning(steps: Steps, figures: dict[str, Any]) -> dict[str, Any]:
    """Counts and examples by reason."""
    from catprune.reporting import figures as draw

    if steps.clean is None:
        return {"reasons": []}
    counts, examples = steps.clean.manifest["counts"], steps.clean.manifest["examples"]
    figures["figure-reasons"] = draw.reasons(counts["reasons"], rows=counts["rows"])
    order = sorted(counts["reasons"].items(), key=lambda item: (-item[1], item[0]))
    return {
        "reasons": [
            {
                "name": name.replace("_", " "),
                "count": f"{count:,}",
                "pairs": [
                    {
                        "row": f"{one['row']:,}",
                        "source": _shown(one.get("source", "")),
                        "target": _shown(one["target"]),
                    }
                    for one in examples.get(name, ())
                ],
            }
            for name, count in order
            if count
        ]
    }


def columns(steps: Steps, figures: dict[str, Any], notes: dict[str, str], *, seed: int) -> dict[str, Any]:
    """Everything that is counted over the columns: lengths, scores, data map, overlap, shares, examples."""
    page: dict[str, Any] = {
        "means": [],
        "distributions": [],
        "map_caption": "",
        "seen": [],
        "shares": None,
        "examples": [],
    }
    if steps.clean is None or not steps.clean.manifest["counts"]["rows"]:
        return page
    from catprune.reporting import figures as draw
    from catprune.reporting.aggregates import draw_sample, take_survey
    from catprune.reporting.run_columns import Reader

    reader = Reader(steps, steps.clean)
    sample = draw_sample(reader, seed=seed)
    survey = take_survey(reader, sample, seed=seed)
    names = list(steps.selections)
    colours = {name: draw.COLOURS[place % len(draw.COLOURS)] for place, name in enumerate(names)}
    figures["figure-lengths"] = draw.lengths(survey.lengths, colours=colours)
    for place, (name, part) in enumerate(steps.selections.items()):
        page["distributions"].append(f"figure-score-{place}")
        figures[f"figure-score-{place}"] = draw.scores(name, survey, place, cuts=_cuts(part.manifest))
    if len(names) > 1:
        figures["figure-overlap"] = draw.jaccard(survey, names)
    page["means"] = _means(steps, survey)
    page["map_caption"] = _map(reader, sample, figures, colours)
    page["seen"] = _seen(survey)
    page["shares"] = _shares(reader, survey) if names or reader.tagged else None
    page["examples"] = _examples(steps.clean, steps.selections, survey, notes)
    return page


def _cuts(manifest: Mapping[str, Any]) -> list[float]:
    """The scores at which a selection cuts: one, in the middle of a ranking two, or those of every group."""
    ends = {"top": ("lowest",), "bottom": ("highest",), "middle": ("lowest", "highest")}
    wanted = ends[manifest["options"]["direction"]]
    parts = manifest["groups"] or [manifest["counts"]]
    return sorted({float(part[end]) for part in parts for end in wanted if part[end] is not None})


def _means(steps: Steps, survey: Survey) -> list[dict[str, str]]:
    """Mean lengths; words are counted up to 100 a pair, as the figure shows them."""
    import numpy as np

    tokens: dict[str, float] = {}
    if steps.tokens is not None:
        counts = steps.tokens.manifest["counts"]
        tokens["cleaned"] = counts["target_tokens"] / max(1, counts["pairs"])
    for name, part in steps.selections.items():
        counts = part.manifest["counts"]
        if counts["tokens_kept"] is not None:
            tokens[name] = counts["tokens_kept"] / max(1, counts["kept"])
    words = np.arange(len(survey.lengths["input"]))
    return [
        {
            "name": name,
            "pairs": f"{int(counts.sum()):,}",
            "words": f"{float((words * counts).sum() / max(1, counts.sum())):.1f}",
            "tokens": f"{tokens[name]:.1f}" if name in tokens else "–",
        }
        for name, counts in survey.lengths.items()
    ]


def _map(reader: Reader, sample: Sample, figures: dict[str, Any], colours: Mapping[str, str]) -> str:
    """The data map, and its caption."""
    from catprune.reporting import figures as draw

    checkpoints = list(reader.steps.scores)
    if not checkpoints:
        return ""
    figures["figure-map"] = draw.data_map(
        sample,
        groups=reader.groups,
        selections=list(reader.steps.selections),
        colours=colours,
        grouped_by="by tag" if reader.tagged else "by input",
    )
    drawn = min(draw.POINTS, len(sample.rows))
    return (
        f"Each point is one of {drawn:,} pairs drawn by hash from those that survived cleaning. Confidence "
        "is the mean, and variability the standard deviation, over checkpoints of exp(-nll), nll in nats a "
        f"target token (Swayamdipta et al. 2020, token form). Checkpoints: {', '.join(checkpoints)}. High "
        "and left: easy from the start; right: learnt on the way; low and left: never learnt."
    )


def _seen(survey: Survey) -> list[list[str]]:
    """What rows have from being trained on: mean nll by how often a row had been seen, of each checkpoint."""
    rows: list[list[str]] = []
    for name, by_times in survey.seen.items():
        means = {times: total / pairs for times, (pairs, total) in sorted(by_times.items())}
        if len(means) < 2:
            continue
        least = min(means)
        for times, mean in means.items():
            told = f"{mean:.3f}", "–" if times == least else f"{mean - means[least]:+.3f}"
            rows.append([visible(name), f"{times:,}", f"{by_times[times][0]:,}", *told])
    return [["checkpoint", "times seen", "pairs", "mean nll", "against the least seen"], *rows] if rows else []


def _shares(reader: Reader, survey: Survey) -> dict[str, Any]:
    """Which share of each tag, or input, survives cleaning and every selection."""
    import numpy as np

    names = list(reader.steps.selections)
    order = [int(code) for code in np.argsort(-survey.group_rows, kind="stable")]
    rows: list[dict[str, Any]] = []
    for code in order[:_MOST_GROUPS]:
        total, survived = int(survey.group_rows[code]), int(survey.group_survived[code])
        parts = [(survived, total), *((int(kept[code]), survived) for kept in survey.group_kept)]
        cells = [
            {"text": _percent(part, whole), "shade": f"{0.45 * part / whole if whole else 0:.2f}"}
            for part, whole in parts
        ]
        rows.append({"name": visible(reader.groups[code]) or "(none)", "pairs": f"{total:,}", "cells": cells})
    more = len(order) - len(rows)
    return {
        "what": "tag" if reader.tagged else "input",
        "head": ["tag" if reader.tagged else "input", "pairs read", "cleaning", *names],
        "rows": rows,
        "more": f"{more:,} smaller ones are not shown." if more > 0 else "",
    }


def _examples(
    clean: Part, selections: Mapping[str, Part], survey: Survey, notes: dict[str, str]
) -> list[dict[str, Any]]:
    """Tables of pairs of every selection; of a random one, whose scores mean nothing, chance draws only."""
    found = [some.rows for one in survey.examples.values() for some in one.values()]
    texts = _texts(clean, sorted({int(row) for rows in found for row in rows}), notes)
    if texts is None:
        return []
    shown: list[dict[str, Any]] = []
    for name, part in selections.items():
        options = part.manifest["options"]
        tables: list[dict[str, Any]] = []
        for heading, some in survey.examples[name].items():
            columns = zip(some.rows.tolist(), some.score.tolist(), strict=True)
            pairs = [_example(row, score, texts) for row, score in columns]
            several = (
                options.get("direction") == "middle" or options.get("within") or part.manifest["groups"]
            )  # cuts, so none is the cut
            edge = heading.startswith("just") and several
            by_chance = options.get("method") == "random" and "random" not in heading
            if pairs and not edge and not by_chance:
                tables.append({"heading": heading, "pairs": pairs})
        told = ", ".join(f"{key} {options[key]}" for key in ("method", "merge", "on", "within") if options.get(key))
        told += f", {options['direction']}"
        shown.append({"name": name, "options": told, "tables": tables, "first": not shown})
    return shown


def _example(row: int, score: float, texts: Mapping[int, tuple[str, str]]) -> dict[str, str]:
    source, target = texts[row]
    return {"row": f"{row:,}", "score": f"{score:.4g}", "source": _shown(source), "target": _shown(target)}


def _texts(clean: Part, rows: Sequence[int], notes: dict[str, str]) -> dict[int, tuple[str, str]] | None:
    """The text of rows; None, and a note, if the corpus is not where it was or not what it was."""
    from catprune.corpus.inputs import read_rows

    try:
        return dict(zip(rows, read_rows(clean.folder, clean.manifest, rows), strict=True))
    except CatpruneError as error:
        notes["pairs"] = f"The text cannot be shown: {error}"
        return None
