"""Where the processes of one training meet and wait for each other; a waiting process listens to signals."""

from __future__ import annotations

import datetime
import functools
import itertools
import os
import socket
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from catprune.errors import CatpruneError, UsageError
from catprune.workspace.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

    from catprune.workspace.shards import Shard

#: How long a process waits for another at the start, and within an update. Rank 0 also writes checkpoints in that time.
HUNG = datetime.timedelta(minutes=10)
#: Seconds after which a process says whom it waits for.
NOTICE = 5.0
#: The longest pause between two looks at the store, in seconds.
_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """Small values that all processes of a training see.

    Attributes:
        store: the values.
        number: the rank, from 0.
        count: the number of processes.
    """

    store: Store
    number: int
    count: int
    _messages: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def join(cls, launched: Shard) -> Rendezvous:
        """Wait until all processes of a training are here.

        Raises:
            UsageError: the launcher's variables are incomplete.
            CatpruneError: a process did not come in time, or the port of rank 0 is taken.
        """
        from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]

        is_server = launched.number == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        store = PrefixStore("catprune", _open_store(os.environ["MASTER_ADDR"], _port(), is_server=is_server))
        # A store outlives a training: its launcher may start the processes again, and a script may train twice. So
        # rank 0 gives each training a name, and confirms the mark of each process that has found it.
        mark = uuid.uuid4().hex
        if launched.number == 0:
            joined = cls(PrefixStore(mark, store), 0, launched.count)
            store.set("training", mark)
            others = [_here(number) for number in range(1, joined.count)]
            _wait(lambda: joined.store.check(others), joined._missing_ranks)
            joined.store.set("confirmed", " ".join(joined.store.get(name).decode() for name in others))
            return joined
        found: list[Rendezvous] = []

        def is_confirmed() -> bool:
            if not store.check(["training"]):
                return False
            joined = cls(PrefixStore(store.get("training").decode(), store), launched.number, launched.count)
            joined.store.set(_here(joined.number), mark)
            if joined.store.check(["confirmed"]) and mark in joined.store.get("confirmed").decode().split():
                found.append(joined)
            return bool(found)

        _wait(is_confirmed, lambda: "rank 0 and the other ranks")
        return found[0]

    def broadcast(self, *, stop: bool) -> bool:
        """Return the flag of rank 0, as soon as it has called this, too; rank 0 does not wait.

        Raises:
            CatpruneError: another process ended with an error.
        """
        name = f"message/{next(self._messages)}"
        if self.number == 0:
            self.store.set(name, "1" if stop else "0")
            return stop
        for _ in _poll():
            if self._are_there([name]):
                break
        return self.store.get(name) == b"1"

    def gather(self, name: str, value: str) -> list[str]:
        """Give rank 0 the values of all processes, by rank, and the others the value of rank 0.

        Raises:
            CatpruneError: another process ended with an error, or hangs.
        """
        self.store.set(f"{name}/{self.number}", value)
        names = [f"{name}/{number}" for number in range(self.count if self.number == 0 else 1)]
        _wait(lambda: self._are_there(names), lambda: "")
        return [self.store.get(name).decode() for name in names]

    def _are_there(self, names: list[str]) -> bool:
        has_failed = self.store.check(["failed"])  # first: the values may come right before an error
        are_there = self.store.check(names)
        if has_failed and not are_there:
            raise CatpruneError("another process of this training ended with an error: see its output")
        return are_there

    def leave(self) -> None:
        """Say that this process is done; rank 0, which may host the store, waits until the others are."""
        self.store.set(f"left/{self.number}", "")
        if self.number == 0:
            everyone = [f"left/{number}" for number in range(self.count)]
            end = time.monotonic() + HUNG.total_seconds()
            for _ in _poll():
                if self.store.check(everyone) or self.store.check(["failed"]) or time.monotonic() > end:
                    return

    def fail(self) -> None:
        """Say that this process ends with an error."""
        self.store.set("failed", "")

    def _missing_ranks(self) -> str:
        missing = [number for number in range(1, self.count) if not self.store.check([_here(number)])]
        names = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
        here = self.count - len(missing)
        verb = "is" if here == 1 else "are"
        return f"the other processes ({here} of {self.count} {verb} here; missing: rank {names})"


def _here(number: int) -> str:
    return f"here/{number}"


@functools.cache
def _open_store(host: str, port: int, *, is_server: bool) -> Store:
    """Return the store, which this process hosts or finds at the address; it lives as long as this process."""
    from torch.distributed import DistNetworkError, TCPStore  # pyright: ignore[reportPrivateImportUsage]

    if not is_server:
        _wait(lambda: _answers(host, port), lambda: f"rank 0, at {host}:{port}{_unknown(host)}")
    # The host reaches its store on its own machine: torch would try another address without hearing signals.
    host = "127.0.0.1" if is_server else host
    try:
        return TCPStore(host, port, is_master=is_server, timeout=HUNG, wait_for_workers=False, multi_tenant=True)
    except DistNetworkError as error:
        if not is_server:
            raise
        reason = str(error).split("message: ")[-1]
        raise CatpruneError(f"port {port} (MASTER_PORT): {reason}: give the launcher another port") from error


def _unknown(host: str) -> str:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return ", whose address is unknown here"
    return ""


def _port() -> int:
    text = os.environ.get("MASTER_PORT", "")
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**16):
        raise UsageError("MASTER_PORT is not set to a number from 1 to 65535: start the processes with torchrun")
    return int(text)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _wait(is_done: Callable[[], bool], whom: Callable[[], str]) -> None:
    """Wait at most HUNG; say whom this process waits for, if it takes long.

    Raises:
        CatpruneError: the time is over.
    """
    start, limit, said = time.monotonic(), HUNG.total_seconds(), False
    within = f"{limit / 60:g} minutes" if limit >= 60 else f"{limit:g} seconds"
    for _ in _poll():
        if is_done():
            return
        waited = time.monotonic() - start
        if waited >= limit:
            text = whom() or "the other processes"
            raise CatpruneError(
                f"waited {within} for {text}: see the output of the processes that are missing, and start all of them "
                "with one torchrun command per machine, with the same --nnodes and --rdzv-endpoint"
            )
        if waited >= NOTICE and not said:
            said = True
            if text := whom():
                say(f"train: waiting for {text}, for at most {within}", quiet=False)


def _poll() -> Generator[None]:
    """Yield without end, after pauses that grow."""
    pause = 0.001
    while True:
        yield
        time.sleep(pause)
        pause = min(2 * pause, _PAUSE)
