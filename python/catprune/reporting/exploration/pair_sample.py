"""A sample of the pairs of a run with all their columns: drawn by row, read in one streaming pass over each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catprune.errors import CatpruneError
from catprune.reporting.aggregates import hash_rows
from catprune.reporting.run_columns import WINDOW, Columns, Part
from catprune.workspace.manifest import trace, verify_shards

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from catprune.reporting.run_columns import Steps

PAIRS = 5_000  # enough for shares to 1.4 percentage points (95% interval), and a page of a few megabytes


@dataclass(frozen=True, slots=True)
class PairSample:
    """n sampled pairs, clean or not; a missing value is NaN.

    Attributes:
        rows: int64 [n], ascending.
        reasons: uint32 [n], bits of the reasons to drop; 0 for clean pairs.
        names: the names of the bits, bit 0 first.
        inputs: int64 [n], number of the input.
        tags: the tag of each pair; empty if the corpus has no tags.
        measures: name of a column of cleaning → float64 [n], whole numbers; empty if cleaning measured nothing.
        nll: checkpoint → float32 [n], loss in nats per target token.
        tokens: float64 [n], target tokens.
        seen: checkpoint → float64 [n], how often it had been trained on the pair.
        scores: selection → float32 [n].
        columns: name of a score column of a scorer or function, as `where` spells it → float32 [n].
    """

    rows: NDArray[np.int64]
    reasons: NDArray[np.uint32]
    names: tuple[str, ...]
    inputs: NDArray[np.int64]
    tags: tuple[str, ...]
    measures: dict[str, NDArray[np.float64]]
    nll: dict[str, NDArray[np.float32]]
    tokens: NDArray[np.float64]
    seen: dict[str, NDArray[np.float64]]
    scores: dict[str, NDArray[np.float32]]
    columns: dict[str, NDArray[np.float32]]


def draw_rows(rows: int, *, seed: int, size: int = PAIRS) -> NDArray[np.int64]:
    """Draw `size` of the rows 0 to `rows` - 1, ascending; all of them if there are fewer."""
    import numpy as np

    # Some more than needed pass the limit, and those of the lowest hashes are taken.
    limit = np.uint64(min(2**64 - 1, 2**64 * (size + 10 * int(size**0.5)) // max(1, rows)))
    drawn: list[NDArray[np.int64]] = []
    for first in range(0, rows, WINDOW):
        window = np.arange(first, min(first + WINDOW, rows), dtype=np.int64)
        drawn.append(window[hash_rows(window, seed=seed) <= limit])
    candidates = np.concatenate([np.zeros(0, dtype=np.int64), *drawn])
    best = np.argsort(hash_rows(candidates, seed=seed), kind="stable")[:size]
    return np.sort(candidates[best])


def sample_pairs(steps: Steps, clean: Part, scorers: Mapping[str, Part], *, seed: int) -> PairSample:
    """Sample pairs of a run.

    Raises:
        CatpruneError: a file of a column is missing or was changed.
    """
    import numpy as np

    parts = (clean, *steps.scores.values(), *steps.selections.values(), *scorers.values())
    for part in parts:
        verify_shards(part.folder, part.manifest)
    rows = draw_rows(int(clean.manifest["counts"]["rows"]), seed=seed)
    present, names = _schema(clean)
    measures = [name for name in present if name.startswith(("source_", "target_"))]
    cleaned = take(clean, ["reasons", *measures], rows)
    tags = take_tags(clean, rows) if "tag" in present else ()
    scored = {name: take(part, ["tokens", "nll_sum", "seen"], rows) for name, part in steps.scores.items()}
    selected = {name: take(part, ["score"], rows) for name, part in steps.selections.items()}
    starts = [int(entry["first"]) for entry in clean.manifest["inputs"]]
    missing = np.full(len(rows), np.nan)
    return PairSample(
        rows=rows,
        reasons=cleaned["reasons"].astype(np.uint32),
        names=names,
        inputs=np.searchsorted(starts, rows, side="right") - 1,
        tags=tags,
        measures={name: cleaned[name] for name in measures},
        nll={name: (part["nll_sum"] / part["tokens"]).astype(np.float32) for name, part in scored.items()},
        tokens=next((part["tokens"] for part in scored.values()), missing),
        seen={name: part["seen"] for name, part in scored.items()},
        scores={name: part["score"].astype(np.float32) for name, part in selected.items()},
        columns=dict(_scorer_columns(clean, scorers, rows)),
    )


def _scorer_columns(
    clean: Part, scorers: Mapping[str, Part], rows: NDArray[np.int64]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the score columns of scorers of this corpus, by the names that `where` knows."""
    import numpy as np

    for folder, part in scorers.items():
        if not _is_made_from(part, clean.folder):
            continue
        names = [name for name in _schema(part)[0] if name != "row"]
        for name, values in take(part, names, rows).items():
            yield folder if len(names) == 1 else f"{folder}.{name}", values.astype(np.float32)


def _is_made_from(part: Part, clean: Path) -> bool:
    """Return whether the column is one of this clean folder: rows of another corpus mean other pairs."""
    try:
        origin = trace(part.folder, part.manifest, "clean")
    except CatpruneError:
        return False
    return origin is not None and origin.resolve() == clean.resolve()


def _schema(part: Part) -> tuple[list[str], tuple[str, ...]]:
    """Return the columns of a step, and the names of the bits of `reasons`."""
    import pyarrow.parquet as parquet

    shards = part.manifest["shards"]
    if not shards:
        return [], ()
    metadata = parquet.read_metadata(part.folder / shards[0]["file"])
    bits = (metadata.metadata or {}).get(b"reasons", b"").decode()
    return metadata.schema.to_arrow_schema().names, tuple(bits.split(","))


def take(part: Part, columns: Sequence[str], rows: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return columns at ascending rows, as float64 with NaN for null, for a missing record and for a missing column."""
    import numpy as np
    import pyarrow

    taken = {name: np.full(len(rows), np.nan) for name in columns}
    for places, table in _records(part, columns, rows):
        for name in set(columns) & set(table.column_names):
            taken[name][places] = table.column(name).cast(pyarrow.float64()).to_numpy()
    return taken


def take_tags(part: Part, rows: NDArray[np.int64]) -> tuple[str, ...]:
    """Return the tags of ascending rows; "" for null."""
    tags = [""] * len(rows)
    for places, table in _records(part, ["tag"], rows):
        for place, tag in zip(places.tolist(), table.column("tag").to_pylist(), strict=True):
            tags[place] = tag or ""
    return tuple(tags)


def _records(part: Part, columns: Sequence[str], rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """Yield the places in `rows` that have a record, and these records as a table, window by window."""
    import numpy as np

    reader = Columns(part, columns)
    for first in range(0, int(rows[-1]) + 1 if len(rows) else 0, WINDOW):
        table = reader.before(first + WINDOW)
        start, end = np.searchsorted(rows, [first, first + WINDOW])
        if table is None or start == end:
            continue
        present = table.column("row").to_numpy()
        at = np.minimum(np.searchsorted(present, rows[start:end]), len(present) - 1)
        found = present[at] == rows[start:end]
        yield np.flatnonzero(found) + start, table.take(at[found])
