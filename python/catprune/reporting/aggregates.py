"""Counts of a report: two streaming passes over a run, in memory that does not grow with the corpus."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from catprune.reporting.run_columns import Reader, Window

SAMPLE = 20_000  # pairs drawn for the ranges of histograms and for the loss trend
LENGTHS = 101  # 0 to 99 words, and one count for 100 words and more
BINS = 60
# The tables of examples of a selection.
HEADINGS = (
    "highest scores",
    "just kept",
    "just dropped",
    "lowest scores",
    "kept, random sample",
    "dropped, random sample",
)


def hash_rows(rows: NDArray[np.int64], *, seed: int) -> NDArray[np.uint64]:
    """Return a pseudo-random number for each row, uint64: splitmix64 (Steele et al. 2014) of (seed, row).

    Samples are drawn by this number, so they depend neither on shards nor on the order of work.
    """
    import numpy as np

    from catprune.workspace.hashing import GOLDEN, mix

    start = np.uint64((seed * int(GOLDEN) + 0x632BE59BD9B4E019) % 2**64)
    return mix(rows.astype(np.uint64) * GOLDEN + start)


@dataclass(frozen=True, slots=True)
class Sample:
    """Clean pairs drawn by hash, in the order of their hashes; columns as in `Window`."""

    rows: NDArray[np.int64]
    group: NDArray[np.int64]
    nll: NDArray[np.float64]
    kept: NDArray[np.bool_]
    score: NDArray[np.float64]


def draw_sample(reader: Reader, *, seed: int, size: int = SAMPLE) -> Sample:
    """Draw about `size` clean pairs in a first pass; all of them if there are fewer."""
    import numpy as np

    clean_pairs = max(1, int(reader.clean.manifest["counts"]["kept"]))
    limit = np.uint64(min(2**64 - 1, 2**64 * size // clean_pairs))
    parts: list[tuple[NDArray[Any], ...]] = []
    for window in reader.windows():
        order = hash_rows(window.rows, seed=seed)
        drawn = np.flatnonzero((window.reasons == 0) & (order <= limit))
        columns = (order, window.rows, window.group, window.nll, window.kept, window.score)
        parts.append(tuple(column[..., drawn] for column in columns))
    sampled = [np.concatenate(column, axis=-1) for column in zip(*parts, strict=True)]
    by_hash = np.argsort(sampled[0], kind="stable")
    return Sample(*(column[..., by_hash] for column in sampled[1:]))


@dataclass(frozen=True, slots=True)
class Examples:
    """Example pairs in the order they are shown; all arrays are [k].

    Attributes:
        rows: int64, the rows of the pairs.
        score: float64, their scores.
        first, last: float64, their loss at the first and the last checkpoint, in nats per target token; NaN where
            it is unknown.
        key: float64, what the examples are ordered by.
    """

    rows: NDArray[np.int64]
    score: NDArray[np.float64]
    first: NDArray[np.float64]
    last: NDArray[np.float64]
    key: NDArray[np.float64]

    def take(self, places: NDArray[Any]) -> Examples:
        """Return the examples at `places`, an index array or a mask."""
        return Examples(*(getattr(self, column.name)[places] for column in fields(self)))

    def append(self, other: Examples) -> Examples:
        """Return these examples followed by the other ones."""
        import numpy as np

        names = [column.name for column in fields(self)]
        return Examples(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


@dataclass(frozen=True, slots=True)
class Survey:
    """Counts of the second pass over S selections and G groups.

    Attributes:
        lengths: "input", "cleaned" and the name of each selection → int64 [LENGTHS], pairs by words of the target;
            empty if cleaning measured no lengths.
        group_rows, group_survived: int64 [G], pairs read and clean pairs of each group.
        group_kept: int64 [S, G], pairs that each selection keeps.
        overlap: int64 [S, S], pairs that both selections keep.
        edges: for each selection float64 [bins + 1], the limits of its histogram; the outer bins hold what lies beyond.
        histogram: for each selection int64 [2, bins], pairs dropped and pairs kept.
        seen: checkpoint → how often a pair had been trained on → number of pairs and sum of their losses.
        examples: selection → heading → examples.
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
    """Count exactly, and collect `shown` examples under each heading, in a second pass.

    The sample must come from the same reader: only after a pass does the reader know all groups.
    """
    survey = _empty_survey(list(reader.steps.selections), len(reader.groups), sample, measured=reader.measured)
    for window in reader.windows():
        _count(survey, window, list(reader.steps.selections))
        _count_seen(survey.seen, window, list(reader.steps.scores))
        for place, (name, part) in enumerate(reader.steps.selections.items()):
            bottom = part.manifest["options"].get("direction") == "bottom"
            _collect(survey.examples[name], window, place, bottom=bottom, seed=seed, shown=shown)
    return survey


def _empty_survey(names: Sequence[str], groups: int, sample: Sample, *, measured: bool) -> Survey:
    import numpy as np

    edges = [_edges(score) for score in sample.score]
    return Survey(
        lengths={name: np.zeros(LENGTHS, dtype=np.int64) for name in ("input", "cleaned", *names) if measured},
        group_rows=np.zeros(groups, dtype=np.int64),
        group_survived=np.zeros(groups, dtype=np.int64),
        group_kept=np.zeros((len(names), groups), dtype=np.int64),
        overlap=np.zeros((len(names), len(names)), dtype=np.int64),
        edges=edges,
        histogram=[np.zeros((2, len(limits) - 1), dtype=np.int64) for limits in edges],
        examples={name: {} for name in names},
    )


def _edges(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the limits of a histogram, from the 0.5th to the 99.5th percentile: some scores have endless tails.

    A score with few values, all whole numbers (a length, a count), gets one bin for each value.
    """
    import numpy as np

    finite = score[np.isfinite(score)]
    low, high = np.quantile(finite, [0.005, 0.995]) if finite.size else (0.0, 1.0)
    if high - low < BINS and (finite == np.round(finite)).all():
        return np.arange(np.floor(low), np.ceil(high) + 2) - 0.5
    return np.linspace(low, high if high > low else low + 1.0, BINS + 1)


def _count(survey: Survey, window: Window, names: Sequence[str]) -> None:
    """Add a window to the counts."""
    import numpy as np

    clean_pairs, groups = window.reasons == 0, len(survey.group_rows)
    if window.words is not None:
        words = np.minimum(window.words, LENGTHS - 1)
        for name, mask in (("input", slice(None)), ("cleaned", clean_pairs), *zip(names, window.kept, strict=True)):
            survey.lengths[name][:] += np.bincount(words[mask], minlength=LENGTHS)
    survey.group_rows[:] += np.bincount(window.group, minlength=groups)
    survey.group_survived[:] += np.bincount(window.group[clean_pairs], minlength=groups)
    kept_as_numbers = window.kept.astype(np.float64)
    survey.overlap[:] += (kept_as_numbers @ kept_as_numbers.T).astype(np.int64)
    for place, (kept, score) in enumerate(zip(window.kept, window.score, strict=True)):
        survey.group_kept[place] += np.bincount(window.group[kept], minlength=groups)
        edges, scored = survey.edges[place], np.isfinite(score)
        inside = np.clip(score, edges[0], edges[-1])
        for row, mask in enumerate((scored & ~kept, scored & kept)):
            survey.histogram[place][row] += np.histogram(inside[mask], bins=edges)[0]


def _count_seen(seen: dict[str, dict[int, tuple[int, float]]], window: Window, checkpoints: Sequence[str]) -> None:
    """Add the losses of a window to those of the pairs that had been trained on equally often."""
    import numpy as np

    for name, exposure, nll in zip(checkpoints, window.seen, window.nll, strict=True):
        for times in np.unique(exposure[np.isfinite(exposure)]).astype(int).tolist():
            losses = nll[exposure == times]
            losses = losses[np.isfinite(losses)]
            pairs, total = seen.setdefault(name, {}).get(times, (0, 0.0))
            seen[name][times] = pairs + len(losses), total + float(losses.sum())


def _collect(examples: dict[str, Examples], window: Window, place: int, *, bottom: bool, seed: int, shown: int) -> None:
    """Merge the candidates of a window into the best examples so far under each heading."""
    import numpy as np

    score, kept = window.score[place], window.kept[place]
    unknown = np.full(len(score), np.nan)
    first, last = (window.nll[0], window.nll[-1]) if len(window.nll) else (unknown, unknown)
    scored = np.isfinite(score)
    chance = hash_rows(window.rows, seed=seed + 1).astype(np.float64)
    inward = -score if bottom else score  # a selection of low scores is cut at its highest score
    orders = (
        (scored, -score),
        (scored & kept, inward),
        (scored & ~kept, -inward),
        (scored, score),
        (scored & kept, chance),
        (scored & ~kept, chance),
    )
    for heading, (mask, key) in zip(HEADINGS, orders, strict=True):
        candidates = Examples(window.rows, score, first, last, key).take(mask)
        examples[heading] = _best(examples.get(heading), candidates, shown)


def _best(old: Examples | None, new: Examples, shown: int) -> Examples:
    """Return the `shown` examples with the smallest keys; equal keys in row order."""
    import numpy as np

    if len(new.key) > shown:
        new = new.take(new.key <= np.partition(new.key, shown - 1)[shown - 1])  # all that share the last key
    both = new if old is None else old.append(new)
    return both.take(np.argsort(both.key, kind="stable")[:shown])
