"""What a training that prunes keeps of every row, in mapped files of its folder: its loss, how often it was seen.

Files are numbered by cycle, the epochs for which one look at the losses decides. `losses-2.npy` are the losses as they
stood when cycle 2 began, and never change while it lasts; what is observed in it is written into `losses-3.npy`, which
began as a copy. `times-2.npy` says how often each row had been trained on before cycle 2. So a run that was killed
decides again what it had decided, and writes again what it had written. Files that no saved state needs are removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from catprune.errors import CatpruneError
from catprune.training.dynamic import SLICE
from catprune.workspace.files import whole_file
from catprune.workspace.step_folder import STATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from catprune.training.dynamic import Pruning
    from catprune.training.processes import Processes

    Part = Callable[[int, int], NDArray[Any]]


class PrunedRows:
    """The rows of a corpus while a training prunes them.

    Args:
        folder: where the files are; made if it does not exist.
        pruning: what decides; its pairs are the rows.
        processes: those that train together. The first writes, and all see its files.
    """

    def __init__(self, folder: Path, pruning: Pruning, *, processes: Processes) -> None:
        self.folder, self.pruning, self.processes = folder, pruning, processes
        self._times: NDArray[np.uint32] | None = None

    def begin(self, epoch: int, *, resumed: bool) -> None:
        """Begin an epoch, or go on within it.

        Raises:
            CatpruneError: a file that is needed is gone or damaged.
        """
        cycle = epoch // self.pruning.cycle
        if self.processes.leads and not resumed and epoch % self.pruning.cycle == 0:
            self._turn(cycle)
        self.processes.hear()  # the files are there
        self._times = self._map("times", cycle)
        losses = self._map("losses", cycle + 1, mode="r+") if self.processes.leads else None
        self.pruning.resume(epoch, before=self._map("losses", cycle), losses=losses)

    def observe(self, rows: NDArray[np.int64], losses: NDArray[np.float64]) -> None:
        """Take down the mean nll of each row's tokens."""
        self.pruning.observe(rows, losses)

    def times(self, rows: NDArray[np.int64], again: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How often rows have been trained on; `again` says which this epoch has passed over."""
        assert self._times is not None
        epochs = self.pruning.epoch % self.pruning.cycle + again  # of this cycle, in which a choice stands
        return self._times[rows] + epochs * self.pruning.keeps(rows)

    def flush(self) -> None:
        """Bring what was observed to the disk: a state that is saved after this can be gone on from."""
        if isinstance(self.pruning.losses, np.memmap):
            self.pruning.losses.flush()

    def forget(self, epoch: int) -> None:
        """Remove the files that only states before this epoch need."""
        for path in self.folder.glob("*-*.npy"):
            if int(path.stem.partition("-")[2]) < epoch // self.pruning.cycle:
                path.unlink(missing_ok=True)

    def _turn(self, cycle: int) -> None:
        """Make the files of a cycle: what was observed decides, and is where the next begins."""
        self.folder.mkdir(exist_ok=True)
        if cycle == 0:
            self._write("times", 0, np.uint32, lambda first, end: np.zeros(end - first))
            self._write("losses", 0, np.float32, lambda first, end: np.full(end - first, np.nan))
        else:
            self.flush()
            self._write("times", cycle, np.uint32, self._after)
        before = self._map("losses", cycle)
        self._write("losses", cycle + 1, np.float32, lambda first, end: before[first:end])

    def _after(self, first: int, end: int) -> NDArray[np.int64]:
        """How often rows were trained on when the epoch, the last of its cycle, is over."""
        return self.times(np.arange(first, end), np.ones(end - first, np.bool_))

    def _path(self, name: str, cycle: int) -> Path:
        return self.folder / f"{name}-{cycle}.npy"

    def _write(self, name: str, cycle: int, kind: type[Any], part: Part) -> None:
        """Write a file slice by slice, whole or not at all; not through a map, where a full disk would be fatal."""
        path, count = self._path(name, cycle), self.pruning.pairs
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(kind)), "fortran_order": False, "shape": (count,)}
        with whole_file(path) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for first, end in _ranges(count):
                stream.write(part(first, end).astype(kind).tobytes())

    def _map(self, name: str, cycle: int, *, mode: Any = "r") -> NDArray[Any]:
        path = self._path(name, cycle)
        try:
            return np.load(path, mmap_mode=mode)
        except (OSError, ValueError, EOFError) as error:
            raise CatpruneError(
                f"{path} is gone or damaged ({error}): remove {self.folder.parent / STATE}: training starts anew"
            ) from None


def _ranges(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, SLICE):
        yield first, min(first + SLICE, count)
