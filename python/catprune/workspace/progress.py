"""The one progress bar: standard error, only where somebody may be looking."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress:
    """A bar with speed and time left; silent when `quiet` or when standard error is not a terminal.

    Args:
        what: the step's name.
        total: how much there is to do, in `unit`; None if unknown.
        unit: what is counted ("B" is shown in powers of 1000).
        quiet: show nothing.
    """

    def __init__(self, what: str, *, total: float | None, unit: str, quiet: bool) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(
            desc=what,
            total=total,
            unit=unit,
            unit_scale=True,
            file=sys.stderr,
            disable=quiet or not sys.stderr.isatty(),
            dynamic_ncols=True,
            mininterval=0.2,
        )
        self._done = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def to(self, done: float, **shown: object) -> None:
        """Move the bar to `done`; `shown` stands beside it (loss=3.21)."""
        if shown:
            self._bar.set_postfix(shown, refresh=False)
        self._bar.update(done - self._done)
        self._done = done


def bytes_progress(bar: Progress) -> Callable[[int, int], None]:
    """The callback (bytes, rows) that a Rust pass calls."""
    return lambda done, rows: bar.to(done, rows=rows)
