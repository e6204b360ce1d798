"""Report: one HTML page of what a run kept, what it cost and what quality it reached; it opens offline."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.corpus.inputs import is_monolingual
from catprune.errors import CatpruneError, require
from catprune.reporting import corpus, overview, pairs
from catprune.reporting.options import ReportOptions
from catprune.reporting.page import check_replaceable, is_page, render, write_page
from catprune.reporting.quality import quality
from catprune.reporting.rare_words import count_rare_words, rare_word_table
from catprune.workspace.files import to_json
from catprune.workspace.manifest import digest_manifest
from catprune.workspace.options import takes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catprune.reporting.run_columns import Part, Steps

# Value of the page that a section shows → its anchor and its name in the navigation.
_SECTIONS = (
    ("tests", "scores-by-test", "Scores"),
    ("curves", "curves", "Dev curves"),
    ("costs", "cost", "Cost"),
    ("choosing", "cost", "Cost"),
    ("map", "map", "Data map"),
    ("exposure", "exposure", "Exposure"),
    ("examples", "pairs", "Example pairs"),
    ("distributions", "scores", "Cuts"),
    ("lengths", "lengths", "Lengths"),
    ("rare_words", "rare-words", "Rare words"),
    ("shares", "shares", "Shares"),
    ("overlap", "overlap", "Overlap"),
    ("reasons", "cleaning", "Cleaning"),
    ("signatures", "signatures", "Signatures"),
)
# Values that need the columns of the run; without a clean/ folder they are empty.
_COLUMNS = (
    "map",
    "trend",
    "exposure",
    "examples",
    "no_text",
    "distributions",
    "lengths",
    "length_table",
    "rare_words",
    "shares",
    "overlap",
)


@takes(ReportOptions)
def report(options: ReportOptions) -> Path:
    """Write the report of a run into one HTML file; equal runs give equal bytes.

    The run's folder holds clean, tokens, warmup, scores, selection and evaluate; the page names what is missing.

    Returns:
        The file. A report of the same state is not written again, unless `force` is given.

    Raises:
        CatpruneError: the run has no finished step, or `out` is another file.
        MissingExtra: jinja2 is not installed.
    """
    run, seed, force = Path(options.run), options.seed, options.force
    out = run / "report.html" if options.out is None else Path(options.out)
    require("report", "jinja2")
    check_replaceable(out, "report", force=force)
    from catprune.reporting.run_columns import find_steps

    steps = find_steps(run)
    if not steps.named():
        if (run / "manifest.json").is_file():
            raise CatpruneError(f"{run} is the folder of one step: give the folder of the run, which holds it")
        raise CatpruneError(f"{run} holds no finished step: give the folder that holds clean/, scores/ and so on")
    costs = overview.measure_costs(steps)
    made_from = _made_from(run, steps, costs, seed=seed)
    if not force and is_page(out, "report", made_from=made_from):
        return out
    write_page(out, render("report.html.j2", _context(run, steps, costs, seed=seed, made_from=made_from)))
    return out


def _made_from(run: Path, steps: Steps, costs: Mapping[str, tuple[Any, Any]], *, seed: int) -> str:
    """Return a digest of everything the page depends on: version, seed, manifests and measured costs."""
    times = run / "evaluate" / "log" / "seconds.json"
    read: dict[str, Any] = {name: digest_manifest(part.folder) for name, part in steps.named().items()}
    read |= {"version": _core.__version__, "seed": seed, "title": run.resolve().name}
    read["times"] = _core.digest_file(str(times)) if times.is_file() else None
    read["run file"] = (run / "run.toml").is_file()
    read["costs"] = {name: [None if part is None else asdict(part) for part in parts] for name, parts in costs.items()}
    return _core.digest_bytes(to_json(read))


def _context(
    run: Path, steps: Steps, costs: Mapping[str, tuple[Any, Any]], *, seed: int, made_from: str
) -> dict[str, Any]:
    """Return everything the page shows."""
    page: dict[str, Any] = {
        "title": run.resolve().name,
        "generator": f"catprune {_core.__version__}",
        "made_from": made_from,
        "seed": seed,
        "inputs": "" if steps.clean is None else overview.input_names(steps.clean.manifest["inputs"]),
        "missing": overview.missing_steps(steps),
        "evaluated": steps.evaluate is not None,
        "evaluation": None if steps.evaluate else overview.how_to_evaluate(run, steps),
        "reasons": [] if steps.clean is None else corpus.cleaning(steps.clean),
        "signatures": _signatures(steps),
        "monolingual": steps.clean is not None and is_monolingual(steps.clean.manifest),
    }
    page |= quality(steps) | dict.fromkeys(_COLUMNS)
    survey = None
    if steps.clean is not None and steps.clean.manifest["counts"]["rows"]:
        survey, columns = _columns(steps, steps.clean, seed=seed)
        page |= columns
    if page["no_text"]:
        page["made_from"] = ""  # the text may come back: the next call writes the page again
    kept = overview.measure_kept(steps, survey, costs)
    page |= {"headline": overview.headline(steps, kept), "cards": overview.cards(steps, kept)}
    page |= {"kept": overview.kept_table(kept), "warnings": overview.warnings(kept)}
    page["choosing"] = [] if page["costs"] else overview.choosing_table(kept)
    page["sections"] = [(anchor, heading) for value, anchor, heading in _SECTIONS if page[value]]
    return page


def _columns(steps: Steps, clean: Part, *, seed: int) -> tuple[Any, dict[str, Any]]:
    """Return the counts over the columns, and the values of the page that are made from columns."""
    from catprune.reporting.aggregates import draw_sample, take_survey
    from catprune.reporting.loss_trend import measure_trend
    from catprune.reporting.run_columns import Reader

    reader = Reader(steps, clean)
    sample = draw_sample(reader, seed=seed)
    survey = take_survey(reader, sample, seed=seed)
    trend = measure_trend(sample.nll)
    points = sample.rows[pairs.map_rows(sample)].tolist()
    texts = pairs.read_texts(clean, [*points, *pairs.example_rows(survey)])
    known = {} if isinstance(texts, str) else texts
    words = None if isinstance(texts, str) else count_rare_words(steps, clean)
    grouped = bool(steps.selections) or reader.tagged
    return survey, {
        "map": pairs.data_map(reader, sample, trend, known) if trend is not None else None,
        "trend": trend is not None,
        "exposure": corpus.exposure(survey),
        "examples": pairs.examples(steps, survey, trend, known) if not isinstance(texts, str) else [],
        "no_text": texts if isinstance(texts, str) else "",
        "distributions": corpus.distributions(steps, survey),
        "lengths": corpus.lengths(survey) if survey.lengths else None,
        "length_table": corpus.length_table(steps, survey) if survey.lengths else [],
        "rare_words": [] if words is None else rare_word_table(steps, words),
        "shares": corpus.shares(reader, survey) if grouped else None,
        "overlap": corpus.overlap(survey, list(steps.selections)),
    }


def _signatures(steps: Steps) -> list[dict[str, str]]:
    return [
        {
            "folder": name,
            "step": part.manifest["step"],
            "version": part.manifest["catprune"],
            "options": json.dumps(part.manifest["options"], ensure_ascii=False, sort_keys=True)[1:-1],
            "digest": digest_manifest(part.folder),
        }
        for name, part in steps.named().items()
    ]


def summary(path: Path) -> list[str]:
    """Where the report is."""
    return [str(path)]
