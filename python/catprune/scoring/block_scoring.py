"""Scoring of token blocks under one checkpoint: batches for the device, and columns of what it returns."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from catprune._core import digest_file, write_columns
from catprune.errors import CatpruneError, is_out_of_memory
from catprune.scoring.column_shards import STATISTICS, metadata_of, unfinished
from catprune.scoring.column_shards import Block as ScoredBlock
from catprune.workspace.device import send
from catprune.workspace.progress import Progress, say
from catprune.workspace.wording import continuing

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from catprune.checkpoints.external_model import ExternalModel
    from catprune.checkpoints.marian_model import MarianModel
    from catprune.checkpoints.native import Exposure
    from catprune.model.batches import Pairs
    from catprune.model.output_layer import Types
    from catprune.model.transformer import Transformer
    from catprune.scoring.checkpoints import AnyCheckpoint
    from catprune.tokens.blocks import Block, BlockEntry, Tokens
    from catprune.workspace.device import Device
    from catprune.workspace.shards import Shard
    from catprune.workspace.step_folder import StepFolder

_COUNTS = ("tokens", "correct")
#: Blocks that are given to the device before the results of the block before them are written.
AHEAD = {"cpu": 0, "cuda": 1}
#: Kind of batches if a kernel for attention over packed sequences is available.
PACKED = "packed"


def _block_of(entry: BlockEntry) -> ScoredBlock:
    return ScoredBlock(entry.first, entry.end)


class Scoring:
    """Scoring of all blocks under one checkpoint."""

    def __init__(
        self,
        folder: StepFolder,
        tokens: Tokens,
        checkpoint: AnyCheckpoint,
        device: Device,
    ) -> None:
        self.folder, self.tokens, self.checkpoint, self.device = folder, tokens, checkpoint, device
        options = folder.plan["options"]
        self.batch_tokens, self.packed = options["batch_tokens"], options["batches"] == PACKED
        self.reverse = bool(checkpoint.recorded()["reverse"])
        self.halved = 0

    @cached_property
    def model(self) -> Transformer | ExternalModel | MarianModel:
        """The model in eval mode, on the device.

        The layers of a native model are in the layout of the kernels on a CPU, and in the dtype of products on a GPU.
        """
        from catprune.checkpoints.hugging_face import HuggingFace
        from catprune.model.processor_layout import has_layout, lay_out
        from catprune.model.transformer import Transformer

        if isinstance(self.checkpoint, HuggingFace):
            own_dtype = self.device.name == "cuda" and self.device.dtype.itemsize < 4
            return self.checkpoint.load(device=self.device.name, own_dtype=own_dtype)
        model = self.checkpoint.load(device=self.device.name)
        if isinstance(model, Transformer):
            if self.device.name == "cuda":
                model.narrow(self.device.dtype)
            elif has_layout(self.device.dtype):
                lay_out(model, self.device.dtype)
        return model

    def _autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the model runs; layers that are narrow already need no conversions."""
        from catprune.model.transformer import Transformer

        is_narrow = isinstance(self.model, Transformer) and self.device.name == "cuda"
        return nullcontext() if is_narrow else self.device.autocast()

    @cached_property
    def _products(self) -> Tensor | Types:
        """The output matrix in the dtype of products; for a native model on a CPU in the layout of the kernels."""
        from catprune.model.output_layer import LAID_OUT_TILE
        from catprune.model.processor_layout import LaidOutEntries, has_layout
        from catprune.model.transformer import Transformer

        matrix, dtype = self.model.output_matrix, self.device.dtype
        if isinstance(self.model, Transformer) and self.device.name == "cpu" and has_layout(dtype):
            return LaidOutEntries(matrix, dtype, entries=LAID_OUT_TILE)
        return matrix.to(dtype)

    def run(self, name: str, share: Shard, *, quiet: bool) -> None:
        """Score the blocks of this process that have no shard yet."""
        blocks = self.tokens.blocks[share.number :: share.count]
        left = {block.first for block in unfinished(self.folder, map(_block_of, blocks))}
        todo = [entry for entry in blocks if entry.first in left]
        if not todo:
            return
        started = time.monotonic()
        weights = importance_weights(self.tokens.unigrams()[0 if self.reverse else 1])
        total = sum(self._predicted(entry) for entry in blocks)
        done = total - sum(self._predicted(entry) for entry in todo)
        if len(todo) < len(blocks):
            say(f"score {name}: {continuing(len(blocks) - len(todo), len(blocks))}", quiet=quiet)
        with Progress(f"score {name}", total=total, unit="tokens", quiet=quiet, done=done) as bar:
            queued: list[_QueuedBlock] = []
            for entry in todo:
                queued.append(self._queue_block(entry, weights, bar, done))
                done += self._predicted(entry)
                bar.to(done)
                while len(queued) > AHEAD[self.device.name]:
                    self._finish(queued.pop(0), weights)
            for block in queued:
                self._finish(block, weights)
        seconds = max(time.monotonic() - started, 1e-9)
        tokens = sum(self._predicted(entry) for entry in todo)
        self.folder.log("scored", seconds=round(seconds, 3), tokens_per_second=round(tokens / seconds, 1))

    def _predicted(self, entry: BlockEntry) -> int:
        """Count the tokens of a block that the model predicts; a backward model predicts the source."""
        return entry.source_tokens if self.reverse else entry.target_tokens

    def _require_types(self, block: Block) -> None:
        """Refuse ids outside the vocabulary of the model."""
        sides = block.source_ids, block.target_ids
        for side, vocab_size, ids in zip(("source", "target"), self.model.vocab_sizes, sides, strict=True):
            highest = int(ids.max(initial=0))
            if highest >= vocab_size:
                sizes = f"a vocabulary size of {vocab_size} on the {side} side, but the tokenizer returned id {highest}"
                raise CatpruneError(f"{self.checkpoint.path} has {sizes}: give the model its own tokenizer")

    def blocks_left(self) -> int:
        """Count the blocks that have no shard yet."""
        return len(unfinished(self.folder, map(_block_of, self.tokens.blocks)))

    def describe(self) -> dict[str, Any]:
        """Return the results for the manifest."""
        import torch

        counts = self.tokens.manifest["counts"]
        counts = {**counts, "target_tokens": sum(self._predicted(entry) for entry in self.tokens.blocks)}
        metadata = [metadata_of(self._path(entry)) for entry in self.tokens.blocks]
        return {
            "checkpoint": {**self.checkpoint.recorded(), "seen": self._exposure and self._exposure.describe()},
            "tokenizer": asdict(self.tokens.tokenizer),
            "counts": {key: counts[key] for key in ("pairs", "too_long", "target_tokens")},
            "flops": sum((float(shard[b"flops"]) for shard in metadata), 0.0),
            "shards": list(map(self._listed, self.tokens.blocks, metadata)),
            "torch": torch.__version__,
        }

    @cached_property
    def _exposure(self) -> Exposure | None:
        """How often the checkpoint was trained on each row; None if unknown."""
        from catprune.checkpoints.native import Checkpoint, exposure_of

        return exposure_of(self.checkpoint, self.tokens) if isinstance(self.checkpoint, Checkpoint) else None

    def _path(self, entry: BlockEntry) -> Path:
        return _block_of(entry).path(self.folder.path)

    def _listed(self, entry: BlockEntry, metadata: dict[bytes, bytes]) -> dict[str, Any]:
        block = _block_of(entry)
        digest = digest_file(str(block.path(self.folder.path)))
        listed = {"file": block.file, "first": entry.first, "end": entry.end, "digest": digest}
        counts = {"pairs": entry.pairs, "too_long": entry.too_long}
        return {**listed, **counts, "halved": int(metadata.get(b"halved", 0))}

    def _batches(self, pairs: Pairs) -> list[NDArray[np.int64]]:
        from catprune.model.batches import plan_packed, plan_scoring

        return (plan_packed if self.packed else plan_scoring)(pairs, batch_tokens=self.batch_tokens)

    def _flops(self, pairs: Pairs, chosen: NDArray[np.int64]) -> float:
        """Count the operations of a batch, as it was planned."""
        import numpy as np

        source, target = pairs.source.lengths[chosen], pairs.target.lengths[chosen]
        outputs = int(target.sum())
        if not self.packed:
            target = np.full_like(target, target.max())
        return self.model.flops(source=source, target=target, outputs=outputs)

    def _queue_block(self, entry: BlockEntry, weights: NDArray[np.float64], bar: Progress, done: int) -> _QueuedBlock:
        """Read a block, and give its batches to the device."""
        import numpy as np

        from catprune.model.batches import pairs_of

        block, self.halved = self.tokens.read(entry), 0
        self._require_types(block)
        pairs = pairs_of(block, reverse=self.reverse)
        sums = np.zeros((len(STATISTICS), len(pairs.rows)))
        batches: list[_Queued] = []
        flops = 0.0
        for chosen in self._batches(pairs):
            flops += self._flops(pairs, chosen)
            batches += self._queue_in_memory(pairs, chosen)
            if not AHEAD[self.device.name]:  # so the statistics need not wait in memory
                self._collect(pairs, batches, weights, sums)
                batches.clear()
            done += int(pairs.target.lengths[chosen].sum())
            bar.to(done)
        fetched, arrival = _fetch(batches)
        return _QueuedBlock(entry, block, pairs, fetched, sums, arrival, self.halved, flops)

    def _finish(self, queued: _QueuedBlock, weights: NDArray[np.float64]) -> None:
        """Wait for the statistics of a block, and write its columns."""
        entry, block = queued.entry, queued.block
        if queued.arrival is not None:
            queued.arrival.synchronize()
        self._collect(queued.pairs, queued.batches, weights, queued.sums)
        columns, valid = self._columns(block, queued.pairs, queued.sums)
        if self._exposure is not None:
            columns["seen"] = _exposure_of(block, self._exposure.times(entry, block.rows))
        metadata = {"plan": self.folder.digest, "halved": str(queued.halved), "flops": repr(queued.flops)}
        digest = write_columns(str(self._path(entry)), columns, valid=valid, metadata=metadata)
        self.folder.note_file(_block_of(entry).file, digest)
        if queued.halved:
            self.folder.log("halved", shard=self._path(entry).name, batches=queued.halved)

    def _columns(
        self, block: Block, pairs: Pairs, sums: NDArray[np.float64]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
        """Return the columns of a block in row order, and a mask of valid records; pairs that are too long are null."""
        import numpy as np

        if not np.isfinite(sums).all():
            row = int(pairs.rows[~np.isfinite(sums).all(axis=0)][0])
            raise CatpruneError(f"{self.checkpoint.path}: the loss of row {row} is not finite: give another checkpoint")
        rows = np.concatenate([block.rows, block.too_long])
        order = np.argsort(rows, kind="stable")
        columns: dict[str, NDArray[Any]] = {"row": rows[order]}
        zeros = np.zeros(len(block.too_long))
        for name, values in zip(STATISTICS, sums, strict=True):
            kind = np.uint32 if name in _COUNTS else np.float32
            columns[name] = np.concatenate([values, zeros])[order].astype(kind)
        return columns, order < len(pairs.rows)

    def _queue_in_memory(self, pairs: Pairs, chosen: NDArray[np.int64]) -> list[_Queued]:
        """Call `_queue`; split the batch in halves if memory runs out."""
        import numpy as np

        try:
            return [_Queued(chosen, self._queue(pairs, chosen))]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(chosen) == 1:
                row, lengths = int(pairs.rows[chosen[0]]), (pairs.source.lengths, pairs.target.lengths)
                tokens = " and ".join(str(int(side[chosen[0]])) for side in lengths)
                raise CatpruneError(
                    f"row {row} alone ({tokens} tokens) does not fit into memory ({error}): tokenize with a lower "
                    "max_tokens, or free memory"
                ) from None
        # Outside the handler, where the error no longer holds the tensors of the failed batch.
        self.halved += 1
        return [queued for half in np.array_split(chosen, 2) for queued in self._queue_in_memory(pairs, half)]

    def _queue(self, pairs: Pairs, chosen: NDArray[np.int64]) -> Tensor:
        """Return the statistics of the target tokens of a batch, float32 [4, tokens], on the device.

        A GPU only gets work here: nothing waits for its results, so what follows is prepared while it computes.
        """
        import torch

        from catprune.model.attention import Packed, Spans
        from catprune.model.batches import token_places
        from catprune.model.output_layer import token_statistics
        from catprune.model.transformer import UNMASKED

        batch = (pairs.pack if self.packed else pairs.batch)(chosen, self.tokens.tokenizer)
        device, form = self.device.name, UNMASKED
        with torch.inference_mode():
            source, inputs = send(batch.source, device), send(batch.inputs, device)
            if self.packed:
                form = Packed(
                    Spans.of(batch.source_lengths, device=device), Spans.of(batch.target_lengths, device=device)
                )
            with self._autocast():
                hidden = self.model(source, inputs, form)
            matrix, bias = self.model.output_matrix, self.model.output_bias
            hidden = hidden.to(matrix.device)  # the last one, if the model is spread over several GPUs
            if not self.packed:
                hidden = hidden.flatten(0, 1)[send(token_places(batch), matrix.device)]
            targets = send(pairs.target.pack(chosen).astype("int64"), matrix.device)
            return torch.stack(token_statistics(hidden.float(), matrix, targets, bias, products=self._products))

    def _collect(
        self, pairs: Pairs, batches: list[_Queued], weights: NDArray[np.float64], sums: NDArray[np.float64]
    ) -> None:
        """Write the sums of the statistics of batches, float64 [columns, pairs]."""
        import numpy as np

        for chosen, statistics in batches:
            values, lengths = statistics.numpy().astype(np.float64), pairs.target.lengths[chosen]
            per_token = np.concatenate([values, values[-1:] * weights[pairs.target.pack(chosen)]])
            sums[0, chosen] = lengths
            sums[1:, chosen] = np.add.reduceat(per_token, np.cumsum(lengths) - lengths, axis=1)


class _Queued(NamedTuple):
    """The pairs of a batch, and its statistics, which the device may not have computed yet."""

    chosen: NDArray[np.int64]
    statistics: Tensor


class _QueuedBlock(NamedTuple):
    """A block that was given to the device.

    Attributes:
        entry, block, pairs: the block.
        batches: batches whose sums are not in `sums` yet; their statistics arrive in the memory of the processor.
        sums: see `Scoring._collect`.
        arrival: the event after which the statistics are there; None: now.
        halved: number of batches that were halved.
        flops: floating-point operations, counted from shapes.
    """

    entry: BlockEntry
    block: Block
    pairs: Pairs
    batches: list[_Queued]
    sums: NDArray[np.float64]
    arrival: torch.Event | None
    halved: int
    flops: float


def _fetch(batches: list[_Queued]) -> tuple[list[_Queued], torch.Event | None]:
    """Let the GPU copy the statistics to the processor when it has computed them; return also the event of their end.

    The copies come before the work of the next block, so nothing waits for that.
    """
    import torch

    if not batches or batches[0].statistics.device.type == "cpu":
        return batches, None
    fetched = [queued._replace(statistics=queued.statistics.to("cpu", non_blocking=True)) for queued in batches]
    return fetched, torch.cuda.current_stream(batches[0].statistics.device).record_event()


def _exposure_of(block: Block, times: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the exposure of each record in row order, uint32 [records]; 0 for pairs that are too long."""
    import numpy as np

    rows = np.concatenate([block.rows, block.too_long])
    return np.concatenate([times, np.zeros(len(block.too_long), np.uint32)])[np.argsort(rows, kind="stable")]


def importance_weights(counts: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return the self-information of each id under the unigrams, scaled to mean 1 over the tokens of the corpus.

    Args:
        counts: unigram counts, uint64 [vocabulary]; ids that never occur get weight 0.
    """
    import numpy as np

    shares = counts / max(int(counts.sum()), 1)
    information = -np.log(shares, out=np.zeros(len(counts)), where=counts > 0)
    mean = float((shares * information).sum())
    return information / mean if mean > 0 else np.ones(len(counts))
