"""A run's columns side by side: its steps, and windows of rows over everything that was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catprune.selection.sources import SCORER_STEP
from catprune.workspace.files import read_json
from catprune.workspace.manifest import read_manifest, verify_shards

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

WINDOW = 65_536  # rows joined at a time: what bounds the memory


@dataclass(frozen=True, slots=True)
class Part:
    """A finished step: its folder and its manifest."""

    folder: Path
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Steps:
    """The finished steps of a run; None or empty where a step is missing.

    `scores` are in the order of training, `selections` in the order of their names.
    """

    clean: Part | None
    tokens: Part | None
    warmup: Part | None
    evaluate: Part | None
    scores: dict[str, Part]
    selections: dict[str, Part]

    def named(self) -> dict[str, Part]:
        """All that are there, by the path a reader knows them by."""
        single = {name: getattr(self, name) for name in ("clean", "tokens", "warmup", "evaluate")}
        return (
            {name: part for name, part in single.items() if part is not None}
            | {f"scores/{name}": part for name, part in self.scores.items()}
            | {f"selection/{name}": part for name, part in self.selections.items()}
        )


def find_steps(run: Path) -> Steps:
    """The finished steps in a run: clean, tokens, warmup, evaluate, every checkpoint in scores and folder in selection.

    A selection folder that is itself a step's folder counts as one selection.
    """

    def one(name: str, step: str) -> Part | None:
        folder = run / name
        found = (folder / "manifest.json").is_file()
        return Part(folder, read_manifest(folder, step=step)) if found else None

    def several(name: str, step: str) -> dict[str, Part]:
        manifests = sorted((run / name).glob("*/manifest.json"))
        folders = [path.parent for path in manifests if read_json(path).get("step") != SCORER_STEP]
        return {folder.name: Part(folder, read_manifest(folder, step=step)) for folder in folders}

    def training_order(item: tuple[str, Part]) -> tuple[float, str]:
        return item[1].manifest["checkpoint"]["step"] or 0, item[0]

    alone = one("selection", "select")
    return Steps(
        clean=one("clean", "clean"),
        tokens=one("tokens", "tokenize"),
        warmup=one("warmup", "train"),
        evaluate=one("evaluate", "evaluate"),
        scores=dict(sorted(several("scores", "score").items(), key=training_order)),
        selections=several("selection", "select") if alone is None else {"selection": alone},
    )


class Columns:
    """Some columns of a folder's shards, read once, in row order."""

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
        """The next records whose row is below `end`, as a pyarrow table; None if there are none."""
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
    """Everything measured on n contiguous rows; what is missing is NaN or False.

    rows: int64 [n]; reasons: uint32 [n], 0 for pairs that survived cleaning; words: int64 [n], of the target;
    group: int64 [n], an index into the reader's groups; nll: float64 [checkpoints, n], nats a token;
    seen: float64 [checkpoints, n], how often a row had been trained on, where it is known;
    kept: bool [selections, n]; score: float64 [selections, n].
    """

    rows: NDArray[np.int64]
    reasons: NDArray[np.uint32]
    words: NDArray[np.int64]
    group: NDArray[np.int64]
    nll: NDArray[np.float64]
    seen: NDArray[np.float64]
    kept: NDArray[np.bool_]
    score: NDArray[np.float64]


class Reader:
    """Windows over a cleaned run.

    Attributes:
        groups: names of the tags if the corpus has tags, else of the inputs; complete after a pass.
        tagged: whether the groups are tags.

    Raises:
        CatpruneError: a file of the columns is gone, or holds other bytes than when it was made.
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
        self.groups: list[str] = [] if self.tagged else [_input_name(entry) for entry in inputs]
        self._starts = [int(entry["first"]) for entry in inputs]
        self._codes: dict[str, int] = {}

    def windows(self) -> Iterator[Window]:
        """One pass over all rows."""
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
            words=table.column("target_words").to_numpy().astype(np.int64),
            group=self._groups(table),
            nll=nll,
            seen=seen,
            kept=kept,
            score=score,
        )

    def _groups(self, table: Any) -> NDArray[np.int64]:
        """The group of each row; a tag that was not met before gets the next number."""
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


def _input_name(entry: Mapping[str, Any]) -> str:
    """An input as readers know it: the name of its (source) file, without its folder."""
    return str(entry.get("source") or entry.get("path")).rpartition("/")[2]


def _numbers(table: Any, column: str) -> NDArray[np.float64]:
    """A column as float64 with NaN for null."""
    import numpy as np
    import pyarrow

    return table.column(column).cast(pyarrow.float64()).to_numpy().astype(np.float64)
