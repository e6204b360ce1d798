"""Explore: one HTML page with a sample of a run's pairs, on which thresholds can be tried; it opens offline."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.corpus.inputs import is_monolingual
from catprune.errors import CatpruneError, require
from catprune.reporting.options import ExploreOptions
from catprune.reporting.overview import input_names
from catprune.reporting.page import check_replaceable, is_page, render, write_page
from catprune.reporting.pairs import read_texts
from catprune.reporting.wording import shorten, visible
from catprune.workspace.files import to_json
from catprune.workspace.manifest import digest_manifest
from catprune.workspace.options import takes
from catprune.workspace.progress import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from catprune.reporting.exploration.pair_sample import PairSample
    from catprune.reporting.exploration.thresholds import Thresholds
    from catprune.reporting.run_columns import Part, Steps

_LONGEST = 1_000  # characters of a side that the page holds
_LONGEST_TAG = 80


@takes(ExploreOptions)
def explore(options: ExploreOptions) -> Path:
    """Write a page for trying thresholds on a sample of a run; equal runs give equal bytes.

    The page holds 5,000 pairs, drawn by row from all pairs that cleaning read, with the measures of cleaning, the
    losses at checkpoints, the scores of selections and the columns of scorers. Counts and shares on it are those of
    the sample.

    Returns:
        The file. A page of the same state is not written again, unless `force` is given.

    Raises:
        CatpruneError: the run has no finished clean folder with pairs, or `out` is another file.
        MissingExtra: jinja2 or plotly is not installed.
    """
    run, seed, force = Path(options.run), options.seed, options.force
    out = run / "explore.html" if options.out is None else Path(options.out)
    require("explore", "jinja2", "plotly")
    check_replaceable(out, "explore", force=force)
    from catprune.reporting.run_columns import find_scorers, find_steps

    steps, scorers = find_steps(run), find_scorers(run)
    if steps.clean is None or not steps.clean.manifest["counts"]["rows"]:
        raise CatpruneError(f"{run} holds no clean folder with pairs: give the folder that holds clean/")
    made_from = _made_from(run, steps, scorers, seed=seed)
    if not force and is_page(out, "explore", made_from=made_from):
        return out
    context = _context(run, steps, steps.clean, scorers, seed=seed)
    if context["no_text"]:
        say(f"explore: {context['no_text']}", quiet=options.quiet)
    # Without text the page is written again by the next call: the text may come back.
    write_page(
        out, render("exploration/page.html.j2", context | {"made_from": "" if context["no_text"] else made_from})
    )
    return out


def _made_from(run: Path, steps: Steps, scorers: Mapping[str, Part], *, seed: int) -> str:
    """Return a digest of everything the page depends on: versions, seed and manifests."""
    read: dict[str, Any] = {name: digest_manifest(part.folder) for name, part in steps.named().items()}
    read |= {f"scorer {name}": digest_manifest(part.folder) for name, part in scorers.items()}
    read |= {"version": _core.__version__, "plotly": version("plotly"), "seed": seed, "title": run.resolve().name}
    return _core.digest_bytes(to_json(read))


def _context(run: Path, steps: Steps, clean: Part, scorers: Mapping[str, Part], *, seed: int) -> dict[str, Any]:
    """Return everything the page shows."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    from catprune.reporting.exploration.pair_sample import sample_pairs
    from catprune.reporting.exploration.repaired_pairs import find_repaired
    from catprune.reporting.exploration.thresholds import find_thresholds

    sample = sample_pairs(steps, clean, scorers, seed=seed)
    thresholds = find_thresholds(steps, clean, scorers, sample)
    texts = read_texts(clean, sample.rows.tolist())
    monolingual = is_monolingual(clean.manifest)
    title = run.resolve().name
    header = (
        f"# catprune {_core.__version__}, explore, {len(sample.rows)} sampled pairs of {visible(title)}, seed {seed}"
    )
    data = {
        **_sample_data(sample, clean.manifest["inputs"], monolingual=monolingual),
        **_threshold_data(thresholds),
        **_text_data(sample, {} if isinstance(texts, str) else texts, monolingual=monolingual),
        "total": int(clean.manifest["counts"]["rows"]),
        "header": header,
    }
    folder = Path(__file__).parent / "exploration"
    script = "\n".join((folder / f"{name}.js").read_text() for name in ("decisions", "charts", "page"))
    scripts = {"script": Markup(script), "plotly": Markup(get_plotlyjs())}
    return {
        "title": title,
        "generator": f"catprune {_core.__version__}",
        "inputs": input_names(clean.manifest["inputs"]),
        "repaired": find_repaired(clean, sample.rows.tolist(), {} if isinstance(texts, str) else texts),
        "no_text": texts if isinstance(texts, str) else "",
        "monolingual": monolingual,
        "seed": seed,
        "pairs_drawn": f"{len(sample.rows):,}",
        "total": f"{clean.manifest['counts']['rows']:,}",
        "thresholds": thresholds,
        "always": _always_dropped(thresholds, sample),
        "data": _to_script_json(data),
        "hashes": Markup(" ".join(f"'sha256-{_hash(text)}'" for text in scripts.values())),
        **scripts,
    }


def _always_dropped(thresholds: Thresholds, sample: PairSample) -> list[dict[str, str]]:
    """Return the reasons of sampled pairs that no threshold of the page changes, with their counts."""
    changed = {entry.reason for entry in (*thresholds.filters, *thresholds.switches)}
    counts = {name: int((sample.reasons >> bit & 1).sum()) for bit, name in enumerate(sample.names)}
    return [
        {"name": name.replace("_", " "), "count": f"{count:,}"}
        for name, count in counts.items()
        if count and name not in changed
    ]


def _sample_data(sample: PairSample, inputs: Sequence[Mapping[str, Any]], *, monolingual: bool) -> dict[str, Any]:
    from catprune.reporting.run_columns import input_name

    return {
        "sides": ["target"] if monolingual else ["source", "target"],
        "rows": sample.rows.tolist(),
        "reasons": sample.reasons.tolist(),
        "reasonNames": [name.replace("_", " ") for name in sample.names],
        "inputs": sample.inputs.tolist(),
        "inputNames": [visible(input_name(entry)) for entry in inputs],
        "tags": [shorten(tag, longest=_LONGEST_TAG) for tag in sample.tags],
        "measures": {name: _numbers(values) for name, values in sample.measures.items()},
    }


def _threshold_data(thresholds: Thresholds) -> dict[str, Any]:
    """Return the thresholds as the script reads them."""
    from catprune.reporting.exploration.filters import UNMEASURED

    return {
        "filters": [asdict(entry) for entry in thresholds.filters],
        "switches": [asdict(entry) for entry in thresholds.switches],
        "conditions": [asdict(entry) for entry in thresholds.conditions],
        "selections": [asdict(entry) | {"groups": entry.groups.tolist()} for entry in thresholds.selections],
        "values": {name: _numbers(values) for name, values in thresholds.values.items()},
        "rules": thresholds.rules,
        "unmeasured": [name.replace("_", " ") for name in UNMEASURED],
    }


def _text_data(sample: PairSample, texts: Mapping[int, tuple[str, str]], *, monolingual: bool) -> dict[str, Any]:
    sides = {"target": 1} if monolingual else {"source": 0, "target": 1}
    rows = sample.rows.tolist() if texts else []
    return {
        "texts": {side: [shorten(texts[row][place], longest=_LONGEST) for row in rows] for side, place in sides.items()}
    }


def _numbers(values: NDArray[Any]) -> list[float | None]:
    """Return numbers for JSON in as few digits as tell them apart, with null for NaN."""
    import numpy as np

    exact = values.astype(np.str_).astype(np.float64)
    return [None if number != number else int(number) if number.is_integer() else number for number in exact.tolist()]


def _to_script_json(data: Mapping[str, Any]) -> Any:
    """Return JSON that nothing in it can end early when it stands inside a script element."""
    from markupsafe import Markup

    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _hash(script: str) -> str:
    """Return the hash by which the page's policy allows a script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def summary(path: Path) -> list[str]:
    """Where the page is."""
    return [str(path)]
