"""Work that a thread does ahead, while its results are used in order."""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(make: Callable[[Item], Result], items: Iterable[Item], *, depth: int = 2) -> Generator[Result]:
    """Yield `make(item)` of each item in order; one thread makes up to `depth` results before they are needed.

    An error of `make` is raised here, in its place. Close the generator where the loop may end early
    (`contextlib.closing`): the thread ends before `close` returns.
    """
    left, waiting = iter(items), deque["Future[Result]"]()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        try:
            waiting.extend(pool.submit(make, item) for item in itertools.islice(left, depth))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(make, item) for item in itertools.islice(left, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
