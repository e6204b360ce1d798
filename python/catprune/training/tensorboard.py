"""Event files for TensorBoard: the metrics of a training as scalars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class EventFiles:
    """Event files in a folder, open while it is used as a context manager.

    Args:
        folder: where the files go; a resumed training adds one.
        step: updates before; TensorBoard hides what a killed training wrote after them.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1, flush_secs=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers after `step` updates."""
        for name, number in numbers.items():
            self._writer.add_scalar(f"train/{name}", number, step)
