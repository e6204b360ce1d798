"""The processes of one training under torchrun, and how they communicate."""

from __future__ import annotations

import contextlib
import datetime
import inspect
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from catprune.errors import CatpruneError, UsageError, is_out_of_memory
from catprune.workspace.shards import Shard, is_launched

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import Tensor
    from torch.distributed import ProcessGroup
    from torch.nn import Module

_GONE = ("gloo", "nccl", "connection", "remote worker")
#: How long a process waits for another: rank 0 reads whole corpora before the others may start.
PATIENCE = datetime.timedelta(days=7)
#: How long a process waits for another within an update. Rank 0 also writes checkpoints in that time.
HUNG = datetime.timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Processes:
    """One of the processes that train one model; rank 0 writes all files.

    Attributes:
        number: the rank, from 0.
        count: the number of processes.
        local: the local rank, from 0; None for a single process.
        group: the process group of the updates, which does not wait for a process that hangs.
    """

    number: int = 0
    count: int = 1
    local: int | None = None
    group: ProcessGroup | None = None

    @classmethod
    @contextlib.contextmanager
    def join(cls) -> Generator[Processes]:
        """Join the processes that torchrun started; without torchrun, yield a single process.

        Raises:
            UsageError: the launcher's variables are incomplete.
            CatpruneError: another process ended, or hangs.
        """
        import torch
        from torch import distributed

        if not is_launched():
            yield cls()
            return
        if "LOCAL_RANK" not in os.environ:
            raise UsageError("RANK is set, but LOCAL_RANK is not: start the processes with torchrun")
        launched = Shard.parse("auto")
        if launched.is_whole:
            yield cls()
            return
        # GPU tensors go over NCCL. Flags between two updates go over gloo, so that no GPU has to wait for them.
        kind = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(kind, timeout=PATIENCE)
        try:
            group = cast("ProcessGroup", distributed.new_group(timeout=HUNG))
            yield cls(launched.number, launched.count, launched.local, group)
        except RuntimeError as error:
            # torch has no class for errors from processes that ended: its messages name one of these words.
            if is_out_of_memory(error) or not any(word in str(error).lower() for word in _GONE):
                raise
            raise CatpruneError(
                f"another process of this training ended or hangs ({error}): see the output of that process"
            ) from error
        finally:
            distributed.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this process is rank 0, which writes the files."""
        return self.number == 0

    def hear(self, *, stop: bool = False) -> bool:
        """Return the flag `stop` of rank 0; all processes wait here."""
        return self._reduce(stop and self.leads, None)

    def any(self, *, flag: bool) -> bool:
        """Return whether any process passed True; all processes wait here."""
        return self._reduce(flag, self.group)

    def _reduce(self, value: bool, group: ProcessGroup | None) -> bool:  # noqa: FBT001
        import torch
        from torch import distributed

        if self.count == 1:
            return value
        flag = torch.tensor([float(value)])
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX, group=group)
        return bool(flag.item())

    def add(self, values: Tensor) -> None:
        """Replace values by their sums over all processes."""
        from torch import distributed

        if self.count > 1:
            distributed.all_reduce(values, group=self.group)

    def apart(self, wrapped: Module) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the gradients of a wrapped module are added up, but not yet averaged."""
        return wrapped.no_sync() if self.count > 1 else contextlib.nullcontext()  # pyright: ignore

    def wrap(self, module: Module) -> Module:
        """Wrap a module in DDP, which averages gradients; buffers are not synchronized, since they are equal."""
        from torch.nn.parallel import DistributedDataParallel

        known = inspect.signature(DistributedDataParallel).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # torch < 2.15
        buffers: dict[str, Any] = {name: False}
        return DistributedDataParallel(module, process_group=self.group, gradient_as_bucket_view=True, **buffers)
