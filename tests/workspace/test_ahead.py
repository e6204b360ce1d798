"""Work ahead: order, bounded depth, errors in their place, no thread left behind."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest
from catprune.workspace.ahead import ahead

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def test_results_come_in_order_and_few_are_made_before_they_are_needed() -> None:
    made: list[int] = []

    def make(item: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        made.append(item)
        return item * item

    for place, result in enumerate(ahead(make, range(20), depth=2)):
        assert result == place * place and len(made) <= place + 3
        if place == 0:
            deadline = time.monotonic() + 10
            while len(made) < 3 and time.monotonic() < deadline:
                time.sleep(0.001)
            assert made == [0, 1, 2], "made while result 0 is in use"
    assert made == list(range(20)) and list(ahead(make, [])) == []


def test_an_error_is_raised_in_its_place() -> None:
    def make(item: int) -> int:
        if item == 3:
            raise ValueError("item 3")
        return item

    got: list[int] = []
    with pytest.raises(ValueError, match="item 3"):
        got.extend(ahead(make, range(9)))
    assert got == [0, 1, 2]


def test_the_thread_ends_with_a_loop_that_ends_early() -> None:
    made: list[int] = []
    with contextlib.closing(ahead(lambda item: made.append(item), range(1000))) as results:
        next(results)
    assert len(made) <= 4


def test_an_interrupt_while_the_loop_waits_is_raised_there() -> None:
    def make(item: int) -> int:
        time.sleep(0.3)  # until the main thread waits: an interrupt while it starts this thread is another case
        signal.raise_signal(signal.SIGINT)  # Python runs the handler in the main thread
        time.sleep(0.2)
        return item

    with pytest.raises(KeyboardInterrupt), contextlib.closing(ahead(make, range(3))) as results:
        for _ in results:
            pytest.fail("the interrupt comes before the first result")
