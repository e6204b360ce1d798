"""Signals that ask a step to stop: Ctrl-C, SIGTERM (batch systems, containers) and SIGHUP (a closed terminal)."""

from __future__ import annotations

import signal
import threading
from typing import Any, Self

#: Windows has no SIGHUP.
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def raise_interrupt(number: int, _frame: object = None) -> None:
    """Raise `KeyboardInterrupt` with the number of the signal, as a handler of signals."""
    raise KeyboardInterrupt(number)


def handle_stopping() -> None:
    """Let SIGTERM and SIGHUP interrupt this process like Ctrl-C, unless it ignores them (nohup) or handles them."""
    for number in STOPPING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, raise_interrupt)


def stop_handling() -> None:
    """While the process exits, ignore SIGTERM and SIGHUP, which launchers send twice; Ctrl-C ends it at once."""
    for number in STOPPING:
        if signal.getsignal(number) in (raise_interrupt, signal.default_int_handler):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGINT else signal.SIG_IGN)


def exit_code(error: KeyboardInterrupt) -> int:
    """Return the exit code of an interrupted process, as shells have it: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (error.args[0] if error.args else int(signal.SIGINT))


class Interrupts:
    """While open, the first of these signals is only noted, so that the work can stop at a good place.

    A Ctrl-C after it ends the work at once; launchers send SIGTERM twice, so a second SIGTERM does not. Nothing changes
    outside the main thread, or for signals that the process ignores or for which it has its own handler.

    Attributes:
        noted: the number of the signal; 0 if there was none.
    """

    def __init__(self) -> None:
        self.noted = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            usual = {signal.SIGINT: {signal.default_int_handler}}
            handlers = {number: signal.getsignal(number) for number in STOPPING}
            self._before = {
                number: handler
                for number, handler in handlers.items()
                if handler in usual.get(number, {signal.SIG_DFL, raise_interrupt})
            }
        for number in self._before:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        if self.noted and number == signal.SIGINT:
            raise KeyboardInterrupt(number)
        self.noted = number
