"""Progress on standard error: a bar on a terminal, elsewhere a plain line every 30 seconds."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from catprune.workspace.terminal import print_line, printable

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two plain lines.
LINE_SECONDS = 30.0


def say(text: str, *, quiet: bool) -> None:
    """Write a line to standard error, unless `quiet`."""
    if not quiet:
        print_line(text, error=True)


class Progress:
    """The progress of one step, with its rate and the time left; use it as a context manager.

    Rate and time left follow what is measured from the start of this process on: `done` does not count.

    Args:
        label: the step's name.
        total: how much there is to do in all, in `unit`; None if unknown.
        unit: what is counted, in the plural ("B" is shown in powers of 1000).
        quiet: show nothing.
        done: how much of `total` was done before.
    """

    def __init__(self, label: str, *, total: float | None, unit: str, quiet: bool, done: float = 0) -> None:
        self._bar: Any = None
        self._lines: _Lines | None = None
        self._done = done
        if quiet or sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed
            return
        if not sys.stderr.isatty():
            self._lines = _Lines(label, total=total, unit=unit, done=done)
            return
        from tqdm import tqdm

        self._bar = tqdm(
            desc=printable(label),
            total=total,
            initial=done,  # pyright: ignore[reportArgumentType]
            unit=unit if unit == "B" else f" {unit}",
            unit_scale=True,
            file=sys.stderr,
            dynamic_ncols=True,
            mininterval=0.2,
        )

    def __enter__(self) -> Progress:
        if self._lines is not None:
            self._lines.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lines is not None:
            self._lines.stop()
        if self._bar is not None:
            self._bar.close()

    def to(self, done: float, **values: object) -> None:
        """Move to `done` of the total; `values` are shown too (loss=3.21)."""
        if self._bar is not None:
            if values:
                self._bar.set_postfix(values, refresh=False)
            self._bar.update(done - self._done)
        if self._lines is not None:
            self._lines.to(done, values)
        self._done = done


class _Lines:
    """Plain lines, from a thread: one call of a library may take minutes, and the lines come meanwhile."""

    def __init__(self, label: str, *, total: float | None, unit: str, done: float) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._values: dict[str, object] = {}
        self._done = done
        self._start = self._last = (time.monotonic(), done)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._print, name="catprune progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def to(self, done: float, values: dict[str, object]) -> None:
        self._done = done
        if values:
            self._values = values

    def _print(self) -> None:
        while not self._stopped.wait(LINE_SECONDS):
            now = time.monotonic(), self._done
            # The latest rate; over the whole run if nothing was counted since the last line.
            before = self._last if now[1] > self._last[1] else self._start
            rate = (now[1] - before[1]) / max(now[0] - before[0], 1e-9)
            self._last = now
            line = progress_line(self._label, done=now[1], total=self._total, unit=self._unit, rate=rate)
            say(line + "".join(f", {name} {value}" for name, value in self._values.items()), quiet=False)


def progress_line(label: str, *, done: float, total: float | None, unit: str, rate: float) -> str:
    """Put progress into a line: "train: 527 of 2,635 updates (20.0%), 3.1 updates/s, 11:20 left".

    Args:
        label: the step's name.
        done, total: in `unit`; `total` is None if unknown.
        unit: see `Progress`.
        rate: in units per second; 0 if nothing was measured yet.
    """
    amount = _amount(done, unit) if total is None else f"{_amount(done, unit, alone=False)} of {_amount(total, unit)}"
    parts = [f"{label}: {amount}" + (f" ({min(done / total, 1):.1%})" if total else "")]
    if rate > 0:
        parts.append(f"{_amount(rate, unit)}/s")
        if total is not None:
            parts.append(f"{_clock(max(total - done, 0) / rate)} left")
    return ", ".join(parts)


def _amount(number: float, unit: str, *, alone: bool = True) -> str:
    """A number with its unit; without it where the same unit follows (never without that of bytes)."""
    if unit == "B":
        for prefix in ("", "k", "M", "G"):
            if number < 1000:
                return f"{number:.1f} {prefix}B" if prefix else f"{number:.0f} B"
            number /= 1000
        return f"{number:.1f} TB"
    text = f"{number:,.1f}" if number < 100 and number != int(number) else f"{number:,.0f}"
    return f"{text} {unit}" if alone else text


def _clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: 2:05, 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def bytes_progress(bar: Progress) -> Callable[[int, int], None]:
    """Make the callback (bytes, rows) that a Rust pass calls."""
    return lambda done, rows: bar.to(done, rows=f"{rows:,}")
