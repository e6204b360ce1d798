"""The processes of one training under torchrun, and how they communicate."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catprune.errors import CatpruneError, UsageError, is_out_of_memory
from catprune.training import rendezvous
from catprune.training.rendezvous import Rendezvous
from catprune.workspace.plan_differences import describe_differences
from catprune.workspace.shards import Shard, is_launched

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import Tensor
    from torch.nn import Module

_GONE = ("gloo", "nccl", "connection", "remote worker")


@dataclass(frozen=True, slots=True)
class Processes:
    """One of the processes that train one model; rank 0 writes all files.

    Attributes:
        number: the rank, from 0.
        count: the number of processes.
        local: the local rank, from 0; None for a single process.
        rendezvous: where the processes wait for rank 0, as long as it takes; None for a single process.
    """

    number: int = 0
    count: int = 1
    local: int | None = None
    rendezvous: Rendezvous | None = None

    @classmethod
    @contextlib.contextmanager
    def join(cls) -> Generator[Processes]:
        """Join the processes that torchrun started; without torchrun, yield a single process.

        Raises:
            UsageError: the launcher's variables are incomplete.
            CatpruneError: another process does not come, ended, or hangs.
        """
        import torch
        from torch import distributed

        if not is_launched():
            if os.environ.get("WORLD_SIZE", "") not in ("", "1"):
                raise UsageError(
                    f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but RANK or MASTER_ADDR is not set: start the "
                    "processes with torchrun, or unset WORLD_SIZE to train in one process"
                )
            yield cls()
            return
        launched = Shard.of_launcher("torchrun", os.environ)
        if launched.is_whole:
            yield cls()
            return
        # GPU tensors go over NCCL. Flags between two updates go over gloo, so that no GPU has to wait for them.
        kind = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        joined, is_done = Rendezvous.join(launched), False
        try:
            distributed.init_process_group(
                kind,
                store=joined.store,
                rank=launched.number,
                world_size=launched.count,
                timeout=rendezvous.HUNG,
            )
            yield cls(launched.number, launched.count, launched.local, joined)
            joined.leave()
            is_done = True
        except RuntimeError as error:
            # torch has no class for errors from processes that ended: its messages name one of these words.
            if is_out_of_memory(error) or not any(word in str(error).lower() for word in _GONE):
                raise
            raise CatpruneError(
                f"another process of this training ended or hangs ({error}): see the output of that process"
            ) from error
        finally:
            if not is_done:
                with contextlib.suppress(RuntimeError):  # the process that hosts the store ended first
                    joined.fail()
            if distributed.is_initialized():
                distributed.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this process is rank 0, which writes the files."""
        return self.number == 0

    def broadcast(self, *, stop: bool = False) -> bool:
        """Return the flag `stop` of rank 0; the others wait here until rank 0 calls this, as long as it takes."""
        return stop if self.rendezvous is None else self.rendezvous.broadcast(stop=stop)

    def check_plans(self, plan: dict[str, Any]) -> None:
        """Check that all processes were started for the same work.

        Raises:
            UsageError: the plan of a process is another one than that of rank 0.
        """
        if self.rendezvous is None:
            return
        own = json.dumps(plan)
        first, *others = map(json.loads, self.rendezvous.gather("plan", own))
        plans = dict(enumerate(others, start=1)) if self.leads else {self.number: json.loads(own)}
        for number, other in plans.items():
            if other != first:
                raise UsageError(
                    f"rank {number} has {describe_differences(first, other)}; the first values are those of rank 0: "
                    "start all ranks with the same options and inputs"
                )

    def any(self, *, flag: bool) -> bool:
        """Return whether any process passed True; all processes wait here."""
        import torch
        from torch import distributed

        if self.count == 1:
            return flag
        flags = torch.tensor([float(flag)])
        distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)
        return bool(flags.item())

    def add(self, values: Tensor) -> None:
        """Replace values by their sums over all processes."""
        from torch import distributed

        if self.count > 1:
            distributed.all_reduce(values)

    def apart(self, wrapped: Module) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the gradients of a wrapped module are added up, but not yet averaged."""
        return wrapped.no_sync() if self.count > 1 else contextlib.nullcontext()  # pyright: ignore

    def wrap(self, module: Module) -> Module:
        """Wrap a module in DDP, which averages gradients; buffers are not synchronized, since they are equal."""
        from torch.nn.parallel import DistributedDataParallel

        known = inspect.signature(DistributedDataParallel).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # torch < 2.15
        buffers: dict[str, Any] = {name: False}
        return DistributedDataParallel(module, gradient_as_bucket_view=True, **buffers)
