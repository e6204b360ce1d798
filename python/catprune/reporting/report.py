"""Report: one HTML page of a run's evidence, which opens offline."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.corpus.inputs import is_monolingual
from catprune.errors import CatpruneError, require
from catprune.reporting.options import ReportOptions
from catprune.workspace.files import to_json, write_whole
from catprune.workspace.manifest import digest_manifest
from catprune.workspace.options import takes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catprune.reporting.run_columns import Steps

_FIRST_LINE = b"<!doctype html>"
SECTIONS = (
    ("quality", "Quality"),
    ("cost", "Cost"),
    ("cleaning", "Cleaning"),
    ("lengths", "Lengths"),
    ("scores", "Scores"),
    ("map", "Data map"),
    ("kept", "What is kept"),
    ("pairs", "Pairs"),
    ("signatures", "Signatures"),
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure as it stands in the page: its JSON, and its height in pixels before it is drawn."""

    json: Any
    height: int


@takes(ReportOptions)
def report(options: ReportOptions) -> Path:
    """Write the evidence of a run into one HTML file; equal runs give equal bytes.

    The run's folder holds clean, tokens, warmup, scores, selection and evaluate; the page names what is missing.

    Returns:
        The file. A report of the same state is not written again, unless `force` is given.

    Raises:
        CatpruneError: the run has no finished step, or `out` is another file.
        MissingExtra: a package of the extra `report` is not installed.
    """
    run, seed, force = Path(options.run), options.seed, options.force
    out = run / "report.html" if options.out is None else Path(options.out)
    require("report", "jinja2", "plotly")
    if out.is_dir() or (out.exists() and not force and not _is_report(out)):
        raise CatpruneError(f"{out} is there and is not a report: give another name, or --force to replace a file")
    from catprune.reporting.run_columns import find_steps

    steps = find_steps(run)
    if not steps.named():
        raise CatpruneError(f"{run} holds no finished step: give the folder that holds clean/, scores/ and so on")
    made_from = _made_from(run, steps, seed=seed)
    if out.exists() and not force and _is_report(out, made_from=made_from):
        return out
    page = _render(_context(run, steps, seed=seed, made_from=made_from))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page.encode())
    return out


def _is_report(path: Path, *, made_from: str = "") -> bool:
    """Whether a file is a report, and one that was made from just this."""
    with path.open("rb") as stream:
        start = stream.read(400)
    return start.startswith(_FIRST_LINE) and b'content="catprune' in start and made_from.encode() in start


def _made_from(run: Path, steps: Steps, *, seed: int) -> str:
    """A digest of everything that the page depends on: version, seed, manifests, and the logged seconds."""
    times = run / "evaluate" / "log" / "seconds.json"
    read: dict[str, Any] = {name: digest_manifest(part.folder) for name, part in steps.named().items()}
    read |= {"version": _core.__version__, "seed": seed, "title": run.resolve().name}
    read["times"] = _core.digest_file(str(times)) if times.is_file() else None
    return _core.digest_bytes(to_json(read))


def _render(context: Mapping[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html.j2").render(context) + "\n"


def _draw(figure: Any) -> Drawn:
    """A figure as JSON that cannot end its script element; by the encoder that is there everywhere."""
    import markupsafe
    import plotly.io

    text = str(plotly.io.to_json(figure, engine="json", validate=False)).replace("<", "\\u003c")
    return Drawn(markupsafe.Markup(text), int(figure.layout.height))


def _context(run: Path, steps: Steps, *, seed: int, made_from: str) -> dict[str, Any]:
    """Everything the page shows; what needs the columns is there if the run was cleaned."""
    import markupsafe
    import plotly.offline

    from catprune.reporting import sections

    notes = _notes(steps)
    page: dict[str, Any] = {
        "title": run.resolve().name,
        "generator": f"catprune {_core.__version__}",
        "made_from": made_from,
        "seed": seed,
        "plotly": markupsafe.Markup(plotly.offline.get_plotlyjs()),
        "sections": SECTIONS,
        "notes": notes,
        "signatures": _signatures(steps),
        "monolingual": steps.clean is not None and is_monolingual(steps.clean.manifest),
    }
    figures: dict[str, Any] = {}
    page |= sections.summary(steps)
    page |= sections.quality(steps, figures)
    page |= sections.cleaning(steps, figures)
    shown = "pairs" not in notes
    page |= sections.columns(steps, figures, notes, seed=seed)
    if shown and "pairs" in notes:
        page["made_from"] = ""  # the text may come back: the next call makes the page anew
    page["figures"] = {name: _draw(figure) for name, figure in figures.items()}
    return page


def _notes(steps: Steps) -> dict[str, str]:
    """Section → what it lacks, or what is to be known of it, and what brings it."""
    clean, scores = steps.clean is not None, bool(steps.scores)
    from catprune.reporting.sections import evaluated_before

    evaluated = (
        evaluated_before(steps)
        if steps.evaluate
        else "Nothing was evaluated yet: give the run file an [evaluate] section, and run it again."
    )
    found = {
        "missing": None if clean else "This folder holds no clean/: the sections on the corpus are empty.",
        "quality": evaluated,
        "cost": evaluated,
        "cleaning": None if clean else "There is no clean/ in the run: run catprune clean.",
        "lengths": None if clean else "There is no clean/ in the run: run catprune clean.",
        "scores": None if clean and steps.selections else "No selection was made yet: run catprune select.",
        "map": None if clean and scores else "There are no scores yet: run catprune score.",
        "kept": None if clean and steps.selections else "No selection was made yet: run catprune select.",
        "pairs": None if clean and steps.selections else "No selection was made yet: run catprune select.",
    }
    return {section: text for section, text in found.items() if text is not None}


def _signatures(steps: Steps) -> list[dict[str, str]]:
    return [
        {
            "folder": name,
            "step": part.manifest["step"],
            "version": part.manifest["version"],
            "options": json.dumps(part.manifest["options"], ensure_ascii=False, sort_keys=True)[1:-1],
            "digest": digest_manifest(part.folder),
        }
        for name, part in steps.named().items()
    ]


def summary(path: Path) -> list[str]:
    """Where the report is."""
    return [str(path)]
