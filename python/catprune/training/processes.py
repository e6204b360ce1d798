"""The processes of one training, as torchrun starts them, and what they tell each other."""

from __future__ import annotations

import contextlib
import datetime
import inspect
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catprune.errors import CatpruneError, UsageError, is_out_of_memory
from catprune.workspace.shards import Shard, is_launched

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import Tensor
    from torch.nn import Module

_GONE = ("gloo", "nccl", "connection", "remote worker")
#: How long a process waits for another: the first one reads whole corpora before the others may begin.
PATIENCE = datetime.timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Processes:
    """One of `count` processes that train one model, `number` from 0; the first writes all files.

    Attributes:
        number: from 0.
        count: how many train.
        local: the number among those of the machine, None where there is one process.
    """

    number: int = 0
    count: int = 1
    local: int | None = None

    @classmethod
    @contextlib.contextmanager
    def join(cls) -> Generator[Processes]:
        """All processes that torchrun has started with this one; alone where it has not.

        Raises:
            UsageError: the launcher's variables are not whole.
            CatpruneError: another process has ended.
        """
        import torch
        from torch import distributed

        if not is_launched():
            yield cls()
            return
        if "LOCAL_RANK" not in os.environ:
            raise UsageError("RANK is set and LOCAL_RANK is not: start the processes with torchrun")
        told = Shard.parse("auto")
        if told.is_whole:
            yield cls()
            return
        # Numbers of a GPU go by NCCL; what is asked between two updates goes by the processor, so that nobody waits.
        kind = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(kind, timeout=PATIENCE)
        try:
            yield cls(told.number, told.count, told.local)
        except RuntimeError as error:
            # torch has no class for it: what is heard of others when they are gone.
            if is_out_of_memory(error) or not any(word in str(error).lower() for word in _GONE):
                raise
            raise CatpruneError(f"another process of this training has ended, see what it says ({error})") from error
        finally:
            distributed.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.number == 0

    def hear(self, *, said: bool = False) -> bool:
        """What the first process has `said`; all meet here."""
        return self._reduce(said and self.leads)

    def any(self, *, said: bool) -> bool:
        """Whether one of them has said so; all meet here."""
        return self._reduce(said)

    def _reduce(self, value: bool) -> bool:  # noqa: FBT001
        import torch
        from torch import distributed

        if self.count == 1:
            return value
        said = torch.tensor([float(value)])
        distributed.all_reduce(said, op=distributed.ReduceOp.MAX)
        return bool(said.item())

    def add(self, values: Tensor) -> None:
        """Replace values by their sums over all processes."""
        from torch import distributed

        if self.count > 1:
            distributed.all_reduce(values)

    def wrap(self, module: Module) -> Module:
        """The module with the mean of all processes' gradients; its buffers are the same everywhere as they are."""
        from torch.nn.parallel import DistributedDataParallel

        known = inspect.signature(DistributedDataParallel).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # torch < 2.15
        buffers: dict[str, Any] = {name: False}
        return DistributedDataParallel(module, gradient_as_bucket_view=True, **buffers)
