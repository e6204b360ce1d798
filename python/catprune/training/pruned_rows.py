"""Loss and exposure of every row during a training that prunes, in mapped files of its folder.

Losses are those of units: rows, or spans of long targets, whose numbers `spans.npy` holds.
Files are numbered by cycle, the epochs for which the same losses decide. `losses-2.npy` holds the losses at the start
of cycle 2 and does not change. `times-2.npy` says how often each row had been trained on before cycle 2.
`observed.npy` holds the last observed losses and changes with every update: a saved state keeps a copy of it, like
`observed-500.npy` after update 500, and the digests of all files that it needs. Other files are removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from catprune._core import digest_file
from catprune.errors import CatpruneError
from catprune.training.dynamic import SLICE
from catprune.training.spans import Units
from catprune.workspace.files import whole_file
from catprune.workspace.step_folder import STATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from catprune.training.dynamic import Pruning
    from catprune.training.processes import Processes
    from catprune.training.spans import Spans

    Part = Callable[[int, int], NDArray[Any]]

#: The file of the last observed losses.
OBSERVED = "observed"


class PrunedRows:
    """The rows of a corpus during a training that prunes.

    Args:
        folder: the folder of the files; it is made if it does not exist.
        pruning: the decisions; its pairs are the units.
        rows: number of rows.
        spans: the units; None: rows.
        processes: the processes that train together. Rank 0 writes, and all read its files.
    """

    def __init__(self, folder: Path, pruning: Pruning, *, rows: int, spans: Spans | None, processes: Processes) -> None:
        self.folder, self.pruning, self.processes = folder, pruning, processes
        self.rows, self.spans = rows, spans
        self._times: NDArray[np.uint32] | None = None
        self._restored: str | None = None  # the copy of a saved state with which this process continues
        self._digests: dict[str, str] = {}  # of files that do not change

    def begin(self, epoch: int, *, resumed: bool) -> None:
        """Start an epoch, or continue within it.

        Raises:
            CatpruneError: a file is missing or damaged.
        """
        cycle = epoch // self.pruning.cycle
        if self.processes.leads and not resumed and epoch % self.pruning.cycle == 0:
            self._start_cycle(cycle)
        elif self.processes.leads and self._restored is not None:
            self._write(OBSERVED, np.float32, self.pruning.pairs, self._copied(self._restored))
        self._restored = None
        self.processes.broadcast()  # wait for the files
        self._times = self._map(f"times-{cycle}")
        if self.spans is not None:
            self.spans.firsts = self._map("spans")
        losses = self._map(OBSERVED, mode="r+") if self.processes.leads else None
        self.pruning.resume(epoch, before=self._map(f"losses-{cycle}"), losses=losses)

    def units(self, rows: NDArray[np.int64], lengths: NDArray[np.int64]) -> Units:
        """Return the units of rows whose targets have `lengths` tokens."""
        if self.spans is None:
            return Units(rows, np.arange(len(rows)), lengths)
        return self.spans.units(rows, lengths)

    def observe(self, units: NDArray[np.int64], losses: NDArray[np.float64]) -> None:
        """Record the mean nll of the tokens of each unit, float64 [units]."""
        self.pruning.observe(units, losses)

    def times(self, rows: NDArray[np.int64], again: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Count how often rows have been trained on, int64 [rows]; `again`: which rows this epoch has reached."""
        assert self._times is not None
        epochs = (
            self.pruning.epoch % self.pruning.cycle + again
        )  # of this cycle, whose decisions are the same in all epochs
        return self._times[rows] + epochs * self._keeps(rows)

    def _keeps(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which rows have a unit that this epoch trains on, bool [rows]."""
        if self.spans is None:
            return self.pruning.keeps(rows)
        kept = np.zeros(len(rows), np.bool_)
        numbers, owners, _ = self.spans.numbers(rows)
        kept[owners[self.pruning.keeps(numbers)]] = True
        return kept

    def save(self, step: int) -> dict[str, str]:
        """Write what a state after `step` updates needs, besides what is there; return the digests of all its files."""
        copy = f"{OBSERVED}-{step}"
        self._write(copy, np.float32, self.pruning.pairs, self._copied(OBSERVED))
        cycle = self.pruning.epoch // self.pruning.cycle
        names = [f"times-{cycle}", f"losses-{cycle}", *(["spans"] if self.spans is not None else [])]
        self._digests = {name: self._digests.get(name) or self._digest(name) for name in names}
        files = {**self._digests, copy: self._digest(copy)}
        return {f"{name}.npy": digest for name, digest in files.items()}

    def restore(self, files: Mapping[str, str]) -> None:
        """Continue with the files of a saved state, as `save` returned them."""
        self._restored = next(name.removesuffix(".npy") for name in files if name.startswith(OBSERVED))

    def forget(self, epoch: int, files: Mapping[str, str]) -> None:
        """Remove what only states before this epoch, or other ones of it than that of `files`, need."""
        for path in self.folder.glob("*-*.npy"):
            kind, _, number = path.stem.rpartition("-")
            is_old = path.name not in files if kind == OBSERVED else int(number) < epoch // self.pruning.cycle
            if is_old:
                path.unlink(missing_ok=True)

    def _start_cycle(self, cycle: int) -> None:
        """Write the files of a cycle, in which the losses that were observed before decide."""
        self.folder.mkdir(exist_ok=True)
        units = self.pruning.pairs
        if cycle == 0:
            if self.spans is not None:
                self._write("spans", np.int64, self.rows + 1, self.spans.parts())
            self._write("times-0", np.uint32, self.rows, _parts(self.rows, lambda first, end: np.zeros(end - first)))
            unknown = _parts(units, lambda first, end: np.full(end - first, np.nan))
            self._write(OBSERVED, np.float32, units, unknown)
        else:
            self._write(f"times-{cycle}", np.uint32, self.rows, _parts(self.rows, self._after))
        self._write(f"losses-{cycle}", np.float32, units, self._copied(OBSERVED))

    def _copied(self, name: str) -> Iterator[NDArray[np.float32]]:
        losses = self._map(name)
        return _parts(len(losses), lambda first, end: losses[first:end])

    def _digest(self, name: str) -> str:
        return digest_file(str(self.folder / f"{name}.npy"))

    def _after(self, first: int, end: int) -> NDArray[np.int64]:
        """Count how often rows `first` to `end` were trained on at the end of the last epoch of a cycle."""
        return self.times(np.arange(first, end), np.ones(end - first, np.bool_))

    def _write(self, name: str, kind: type[Any], count: int, parts: Iterable[NDArray[Any]]) -> None:
        """Write a file part by part, whole or not at all; not through a map, where a full disk kills the process."""
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(kind)), "fortran_order": False, "shape": (count,)}
        with whole_file(self.folder / f"{name}.npy") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for part in parts:
                stream.write(part.astype(kind).tobytes())

    def _map(self, name: str, *, mode: Any = "r") -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        try:
            return np.load(path, mmap_mode=mode)
        except (OSError, ValueError, EOFError) as error:
            state = self.folder.parent / STATE
            raise CatpruneError(
                f"{path} is missing or damaged ({error}): remove {state} to start the training again"
            ) from None


def _parts(count: int, part: Part) -> Iterator[NDArray[Any]]:
    """Yield the parts of an array of `count` numbers, each made from its range."""
    for first in range(0, count, SLICE):
        yield part(first, min(first + SLICE, count))
