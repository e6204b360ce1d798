"""What a report counts: two streaming passes over a run, in memory that does not grow with the corpus."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from catprune.reporting.run_columns import Reader, Window

SAMPLE = 20_000  # rows that are drawn to choose the ranges of histograms; the data map shows the first of them
LENGTHS = 101  # words 0 to 99, and 100 for all longer ones
BINS = 60
# The tables of examples.
HEADINGS = (
    "highest scores",
    "just kept",
    "just dropped",
    "lowest scores",
    "kept, drawn at random",
    "dropped, drawn at random",
)


def hash_rows(rows: NDArray[np.int64], *, seed: int) -> NDArray[np.uint64]:
    """A pseudo-random number for each row, uint64: splitmix64 (Steele et al. 2014) of (seed, row).

    What samples are drawn by: it depends on neither shards nor the order of work.
    """
    import numpy as np

    start = np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
    z = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows that survived cleaning, drawn by hash and in hash order; columns as in `Window`."""

    rows: NDArray[np.int64]
    group: NDArray[np.int64]
    nll: NDArray[np.float64]
    kept: NDArray[np.bool_]
    score: NDArray[np.float64]


def draw_sample(reader: Reader, *, seed: int, size: int = SAMPLE) -> Sample:
    """The first pass: about `size` of the rows that survived cleaning, all of them if there are fewer."""
    import numpy as np

    survived = max(1, int(reader.clean.manifest["counts"]["kept"]))
    limit = np.uint64(min(2**64 - 1, 2**64 * size // survived))
    parts: list[tuple[NDArray[Any], ...]] = []
    for window in reader.windows():
        order = hash_rows(window.rows, seed=seed)
        drawn = np.flatnonzero((window.reasons == 0) & (order <= limit))
        columns = (order, window.rows, window.group, window.nll, window.kept, window.score)
        parts.append(tuple(column[..., drawn] for column in columns))
    joined = [np.concatenate(column, axis=-1) for column in zip(*parts, strict=True)]
    by_hash = np.argsort(joined[0], kind="stable")
    return Sample(*(column[..., by_hash] for column in joined[1:]))


@dataclass(frozen=True, slots=True)
class Examples:
    """A few rows, the first ranked first: `rows` int64 [k], their `score`, and the `key` of the ranking."""

    rows: NDArray[np.int64]
    score: NDArray[np.float64]
    key: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Survey:
    """What the second pass counted; S selections, G groups.

    Attributes:
        lengths: "input", "cleaned" and each selection's name → int64 [LENGTHS]: pairs by words of the target.
        group_rows, group_survived: int64 [G]; group_kept: int64 [S, G].
        seen: checkpoint → how often rows had been trained on → their number and the sum of their nll; of checkpoints
            of which it is known.
        overlap: int64 [S, S]: pairs that both keep.
        edges: for each selection float64 [bins + 1], of its histogram; what lies beyond is in the outer bins.
        histogram: for each selection int64 [2, bins]: pairs dropped, pairs kept.
        examples: selection → heading → rows.
    """

    lengths: dict[str, NDArray[np.int64]]
    group_rows: NDArray[np.int64]
    group_survived: NDArray[np.int64]
    group_kept: NDArray[np.int64]
    overlap: NDArray[np.int64]
    edges: list[NDArray[np.float64]]
    histogram: list[NDArray[np.int64]]
    seen: dict[str, dict[int, tuple[int, float]]] = field(default_factory=dict)
    examples: dict[str, dict[str, Examples]] = field(default_factory=dict)


def take_survey(reader: Reader, sample: Sample, *, seed: int, shown: int = 5) -> Survey:
    """The second pass: exact counts, and `shown` rows under every heading.

    `sample` was drawn from the same reader, which therefore knows every group.
    """
    import numpy as np

    names, groups = list(reader.steps.selections), len(reader.groups)
    edges = [_edges(score) for score in sample.score]
    found = Survey(
        lengths={name: np.zeros(LENGTHS, dtype=np.int64) for name in ("input", "cleaned", *names)},
        group_rows=np.zeros(groups, dtype=np.int64),
        group_survived=np.zeros(groups, dtype=np.int64),
        group_kept=np.zeros((len(names), groups), dtype=np.int64),
        overlap=np.zeros((len(names), len(names)), dtype=np.int64),
        edges=edges,
        histogram=[np.zeros((2, len(one) - 1), dtype=np.int64) for one in edges],
        examples={name: {} for name in names},
    )
    for window in reader.windows():
        _count(found, window, names)
        _compare(found.seen, window, list(reader.steps.scores))
        for place, (name, part) in enumerate(reader.steps.selections.items()):
            bottom = part.manifest["options"].get("direction") == "bottom"
            _collect(found.examples[name], window, place, bottom=bottom, seed=seed, shown=shown)
    return found


def _edges(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Between the 0.5th and the 99.5th percentile of a sample, for some scores have endless tails.

    A score of few whole numbers (a length, a count) gets a bin for each.
    """
    import numpy as np

    finite = score[np.isfinite(score)]
    low, high = np.quantile(finite, [0.005, 0.995]) if finite.size else (0.0, 1.0)
    if high - low < BINS and (finite == np.round(finite)).all():
        return np.arange(np.floor(low), np.ceil(high) + 2) - 0.5
    return np.linspace(low, high if high > low else low + 1.0, BINS + 1)


def _count(found: Survey, window: Window, names: Sequence[str]) -> None:
    """Add a window to the counts."""
    import numpy as np

    survived, groups = window.reasons == 0, len(found.group_rows)
    words = np.minimum(window.words, LENGTHS - 1)
    for name, mask in (("input", slice(None)), ("cleaned", survived), *zip(names, window.kept, strict=True)):
        found.lengths[name][:] += np.bincount(words[mask], minlength=LENGTHS)
    found.group_rows[:] += np.bincount(window.group, minlength=groups)
    found.group_survived[:] += np.bincount(window.group[survived], minlength=groups)
    together = window.kept.astype(np.float64)
    found.overlap[:] += (together @ together.T).astype(np.int64)
    for place, (kept, score) in enumerate(zip(window.kept, window.score, strict=True)):
        found.group_kept[place] += np.bincount(window.group[kept], minlength=groups)
        edges, scored = found.edges[place], np.isfinite(score)
        inside = np.clip(score, edges[0], edges[-1])
        for row, mask in enumerate((scored & ~kept, scored & kept)):
            found.histogram[place][row] += np.histogram(inside[mask], bins=edges)[0]


def _compare(into: dict[str, dict[int, tuple[int, float]]], window: Window, checkpoints: Sequence[str]) -> None:
    """Add a window's rows to those that had been seen equally often."""
    import numpy as np

    for name, seen, nll in zip(checkpoints, window.seen, window.nll, strict=True):
        for times in np.unique(seen[np.isfinite(seen)]).astype(int).tolist():
            some = nll[seen == times]
            pairs, total = into.setdefault(name, {}).get(times, (0, 0.0))
            into[name][times] = pairs + len(some), total + float(some.sum())


def _collect(into: dict[str, Examples], window: Window, place: int, *, bottom: bool, seed: int, shown: int) -> None:
    """Merge a window's candidates into the best found so far under each heading."""
    import numpy as np

    score, kept = window.score[place], window.kept[place]
    scored = np.isfinite(score)
    chance = hash_rows(window.rows, seed=seed + 1).astype(np.float64)
    inward = -score if bottom else score  # the last kept of a selection of low scores is its highest
    wanted = (
        (scored, -score),
        (scored & kept, inward),
        (scored & ~kept, -inward),
        (scored, score),
        (scored & kept, chance),
        (scored & ~kept, chance),
    )
    for heading, (mask, key) in zip(HEADINGS, wanted, strict=True):
        candidates = Examples(window.rows[mask], score[mask], key[mask])
        into[heading] = _best(into.get(heading), candidates, shown)


def _best(old: Examples | None, new: Examples, shown: int) -> Examples:
    """The `shown` rows of the smallest keys; equal keys in row order."""
    import numpy as np

    if len(new.key) > shown:
        few = np.flatnonzero(new.key <= np.partition(new.key, shown - 1)[shown - 1])  # all that share the last key
        new = Examples(new.rows[few], new.score[few], new.key[few])
    if old is not None:
        rows = np.concatenate([old.rows, new.rows])
        score = np.concatenate([old.score, new.score])
        new = Examples(rows, score, np.concatenate([old.key, new.key]))
    best = np.argsort(new.key, kind="stable")[:shown]
    return Examples(new.rows[best], new.score[best], new.key[best])
