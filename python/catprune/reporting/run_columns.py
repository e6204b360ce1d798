"""The finished steps of a run, and windows of rows over all their columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catprune.selection.sources import SCORER_STEP
from catprune.workspace.manifest import read_manifest, verify_shards
from catprune.workspace.sealed import read_sealed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

WINDOW = 65_536  # rows aligned at a time; this limits the memory


@dataclass(frozen=True, slots=True)
class Part:
    """A finished step: its folder and its manifest."""

    folder: Path
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Steps:
    """The finished steps of a run; None or empty if a step is missing.

    Attributes:
        clean, tokens, warmup, evaluate: the steps with one folder.
        scores: the scored checkpoints by name, in the order of training.
        selections: the selections by name, in alphabetical order.
    """

    clean: Part | None
    tokens: Part | None
    warmup: Part | None
    evaluate: Part | None
    scores: dict[str, Part]
    selections: dict[str, Part]

    def named(self) -> dict[str, Part]:
        """Return the steps by their path in the folder of the run."""
        single = {name: getattr(self, name) for name in ("clean", "tokens", "warmup", "evaluate")}
        return (
            {name: part for name, part in single.items() if part is not None}
            | {f"scores/{name}": part for name, part in self.scores.items()}
            | {f"selection/{name}": part for name, part in self.selections.items()}
        )


def find_steps(run: Path) -> Steps:
    """Find the finished steps of a run: clean, tokens, warmup, evaluate, all checkpoints and all selections.

    If selection/ is the folder of a step itself, it counts as one selection.
    """
    selection = _read_part(run / "selection", "select")
    return Steps(
        clean=_read_part(run / "clean", "clean"),
        tokens=_read_part(run / "tokens", "tokenize"),
        warmup=_read_part(run / "warmup", "train"),
        evaluate=_read_part(run / "evaluate", "evaluate"),
        scores=dict(sorted(_read_parts(run / "scores", "score").items(), key=_training_order)),
        selections=_read_parts(run / "selection", "select") if selection is None else {"selection": selection},
    )


def find_scorers(run: Path) -> dict[str, Part]:
    """Find the finished columns of scorers and functions in scores/, by the names of their folders."""
    manifests = [path for path in sorted(run.glob("scores/*/manifest.json")) if _is_of_scorer(path)]
    return {path.parent.name: Part(path.parent, read_manifest(path.parent, step=SCORER_STEP)) for path in manifests}


def _is_of_scorer(manifest: Path) -> bool:
    return read_sealed(manifest).get("step") == SCORER_STEP


def _read_part(folder: Path, step: str) -> Part | None:
    return Part(folder, read_manifest(folder, step=step)) if (folder / "manifest.json").is_file() else None


def _read_parts(parent: Path, step: str) -> dict[str, Part]:
    """Read the steps in the folders of `parent`, without the columns of scorers."""
    manifests = sorted(parent.glob("*/manifest.json"))
    folders = [path.parent for path in manifests if not _is_of_scorer(path)]
    return {folder.name: Part(folder, read_manifest(folder, step=step)) for folder in folders}


def _training_order(item: tuple[str, Part]) -> tuple[float, str]:
    return item[1].manifest["checkpoint"]["step"] or 0, item[0]


class Columns:
    """Some columns of the shards of a folder, read once, in row order."""

    def __init__(self, part: Part, columns: Sequence[str]) -> None:
        self._files = [part.folder / entry["file"] for entry in part.manifest["shards"]]
        self._columns = ["row", *columns]
        self._batches = self._read()
        self._rest: Any = None

    def _read(self) -> Iterator[Any]:
        import pyarrow.parquet as parquet

        for path in self._files:
            with parquet.ParquetFile(path) as file:
                present = [name for name in self._columns if name in file.schema_arrow.names]
                yield from file.iter_batches(batch_size=WINDOW, columns=present)

    def before(self, end: int) -> Any:
        """Return the next records whose row is below `end` as a pyarrow table; None if there are none."""
        import numpy as np
        import pyarrow

        taken: list[Any] = []
        while True:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            self._rest = None
            if batch is None:
                break
            count = int(np.searchsorted(batch.column("row").to_numpy(), end))
            taken.append(batch.slice(0, count))
            if count < batch.num_rows:
                self._rest = batch.slice(count)
                break
        whole = [batch for batch in taken if batch.num_rows]
        return pyarrow.Table.from_batches(whole).unify_dictionaries() if whole else None


@dataclass(frozen=True, slots=True)
class Window:
    """All columns of n contiguous rows; a missing value is NaN or False.

    Attributes:
        rows: int64 [n].
        reasons: uint32 [n], 0 for clean pairs.
        words: int64 [n], words of the target; None if cleaning measured no lengths.
        group: int64 [n], an index into the groups of the reader.
        nll: float64 [checkpoints, n], loss in nats per target token.
        seen: float64 [checkpoints, n], how often the checkpoint had been trained on the row.
        kept: bool [selections, n].
        score: float64 [selections, n].
    """

    rows: NDArray[np.int64]
    reasons: NDArray[np.uint32]
    words: NDArray[np.int64] | None
    group: NDArray[np.int64]
    nll: NDArray[np.float64]
    seen: NDArray[np.float64]
    kept: NDArray[np.bool_]
    score: NDArray[np.float64]


class Reader:
    """Windows over the rows of a cleaned run.

    Attributes:
        groups: names of the tags if the corpus has tags, otherwise of the inputs; complete after one pass.
        tagged: whether the groups are tags.
        measured: whether cleaning measured lengths: without filters it does not.

    Raises:
        CatpruneError: a file of a column is missing or was changed.
    """

    def __init__(self, steps: Steps, clean: Part) -> None:
        import pyarrow.parquet as parquet

        self.steps, self.clean = steps, clean
        for part in (clean, *steps.scores.values(), *steps.selections.values()):
            verify_shards(part.folder, part.manifest)
        self.rows = int(clean.manifest["counts"]["rows"])
        inputs: list[dict[str, Any]] = clean.manifest["inputs"]
        shards = clean.manifest["shards"]
        names = parquet.read_schema(clean.folder / shards[0]["file"]).names if shards else []
        self.tagged = "tag" in names
        self.measured = "target_words" in names
        self.groups: list[str] = [] if self.tagged else [input_name(entry) for entry in inputs]
        self._starts = [int(entry["first"]) for entry in inputs]
        self._codes: dict[str, int] = {}

    def windows(self) -> Iterator[Window]:
        """Read all rows once."""
        clean = Columns(self.clean, ["reasons", "target_words", *(["tag"] if self.tagged else [])])
        scores = [Columns(part, ["tokens", "nll_sum", "seen"]) for part in self.steps.scores.values()]
        selections = [Columns(part, ["kept", "score"]) for part in self.steps.selections.values()]
        for first in range(0, self.rows, WINDOW):
            yield self._window(first, min(first + WINDOW, self.rows), clean, scores, selections)

    def _window(self, first: int, end: int, clean: Columns, scores: list[Columns], selections: list[Columns]) -> Window:
        import numpy as np

        table = clean.before(end)
        nll, seen = (np.full((len(scores), end - first), np.nan) for _ in range(2))
        score = np.full((len(selections), end - first), np.nan)
        kept = np.zeros((len(selections), end - first), dtype=bool)
        for place, columns in enumerate(scores):
            if (part := columns.before(end)) is not None:
                rows = part.column("row").to_numpy() - first
                nll[place, rows] = _numbers(part, "nll_sum") / _numbers(part, "tokens")
                if "seen" in part.column_names:
                    seen[place, rows] = _numbers(part, "seen")
        for place, columns in enumerate(selections):
            if (part := columns.before(end)) is not None:
                rows = part.column("row").to_numpy() - first
                score[place, rows] = _numbers(part, "score")
                kept[place, rows] = part.column("kept").fill_null(False).to_numpy()  # noqa: FBT003
        return Window(
            rows=table.column("row").to_numpy(),
            reasons=table.column("reasons").to_numpy(),
            words=table.column("target_words").to_numpy().astype(np.int64) if self.measured else None,
            group=self._groups(table),
            nll=nll,
            seen=seen,
            kept=kept,
            score=score,
        )

    def _groups(self, table: Any) -> NDArray[np.int64]:
        """Return the group of each row; a new tag gets the next number."""
        import numpy as np

        if not self.tagged:
            return np.searchsorted(self._starts, table.column("row").to_numpy(), side="right") - 1
        tags = table.column("tag").combine_chunks().dictionary_encode()
        names = ["" if name is None else str(name) for name in tags.dictionary.to_pylist()]
        for name in names:
            if name not in self._codes:
                self._codes[name] = len(self.groups)
                self.groups.append(name)
        codes = np.array([self._codes[name] for name in names], dtype=np.int64)
        return codes[tags.indices.to_numpy(zero_copy_only=False).astype(np.int64)]


def input_name(entry: Mapping[str, Any]) -> str:
    """Return the name of the (source) file of an input, without its folder."""
    return str(entry.get("source") or entry.get("path")).rpartition("/")[2]


def _numbers(table: Any, column: str) -> NDArray[np.float64]:
    """Return a column as float64, with NaN for null."""
    import numpy as np
    import pyarrow

    return table.column(column).cast(pyarrow.float64()).to_numpy().astype(np.float64)
