"""Token blocks for external checkpoints, made of clean pairs with the tokenizer of the checkpoint."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from catprune._core import BLOCK_ROWS, digest_bytes, digest_file
from catprune.corpus.inputs import is_monolingual
from catprune.corpus.open_corpus import open_rows
from catprune.errors import CatpruneError
from catprune.tokens.blocks import block_ranges
from catprune.workspace.files import to_json, write_whole
from catprune.workspace.manifest import describe_folder, digest_manifest, read_manifest, reads_appended
from catprune.workspace.progress import Progress
from catprune.workspace.step_folder import StepFolder, finish_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from catprune.tokens.blocks import Tokenizer


class ExternalCheckpoint(Protocol):
    """An external checkpoint, which brings its own tokenizer: `hugging_face.HuggingFace` or `marian.Marian`."""

    @property
    def path(self) -> Path:
        """The folder or file of the checkpoint."""
        ...

    @property
    def described(self) -> dict[str, Any]:
        """Everything that determines the ids, for the plan."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Vocabulary size, special ids, and the digest of `described`."""
        ...

    @property
    def is_decoder_only(self) -> bool:
        """Whether source and target are one sequence."""
        ...

    @property
    def longest(self) -> int:
        """The maximum tokens of a sequence."""
        ...

    def encode(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Encode pairs in the form that the model was trained on."""
        ...


#: Written instead of a tokenizer.json: the digests of the external tokenizer's files, and how it is used.
DESCRIBED = "tokenizer.json"


def write_external_tokens(
    clean: Path, checkpoint: ExternalCheckpoint, *, beside: Path, wait: bool, quiet: bool
) -> Path:
    """Write the token blocks of the clean pairs with the tokenizer of an external checkpoint.

    The folder is named after the tokenizer and shared by all checkpoints that have it. This takes one pass over the
    text, with one block in memory at a time. Appended rows are tokenized incrementally; the unigram counts stay.

    Args:
        clean: a finished clean folder.
        checkpoint: the external checkpoint.
        beside: the tokens folder is made next to this folder.
        wait: wait for another process that uses the folder, instead of raising an error.
        quiet: show no progress.

    Returns:
        The tokens folder.

    Raises:
        CatpruneError: the text changed since cleaning, or another process uses the folder.
    """
    cleaned = read_manifest(clean, step="clean")
    if not cleaned["counts"]["kept"]:
        raise CatpruneError(f"{clean}: cleaning kept no pair; see `reasons` in its manifest.json")
    # The name depends on everything that determines the ids: other text or another tokenizer gives another folder. Rows
    # appended to the clean folder extend the folder of the rows before.
    formers = [former["manifest"] for former in cleaned.get("extends", []) if "manifest" in former]
    first = formers[0] if formers else digest_manifest(clean)
    origin = {"clean": first, "tokenizer": checkpoint.tokenizer.digest, "longest": checkpoint.longest}
    folder = beside.absolute().parent / f"tokens-{digest_bytes(to_json(origin))[:12]}"
    reads = {
        "clean": describe_folder(clean, relative_to=folder),
        "tokenizer": checkpoint.described,
    }
    options = {"max_tokens": checkpoint.longest}
    extends = reads_appended("clean", clean)
    with StepFolder(folder, step="tokenize", reads=reads, options=options, extends=extends, wait=wait) as step:
        writer = _Writer(step, checkpoint)
        finish_once(step, lambda: writer.run(clean, cleaned, quiet=quiet))
    return folder


class _Writer:
    """The pass over the text."""

    def __init__(self, folder: StepFolder, checkpoint: ExternalCheckpoint) -> None:
        self.folder, self.checkpoint = folder, checkpoint
        self.tokenizer = checkpoint.tokenizer
        self.kind = np.uint16 if self.tokenizer.vocab_size < 1 << 16 else np.uint32
        self.unigrams = [np.zeros(self.tokenizer.vocab_size, np.uint64) for _ in range(2)]

    def run(self, clean: Path, cleaned: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
        """Write the blocks that are not finished, and describe all for the manifest."""
        before = self.folder.before
        write_whole(self.folder.path / DESCRIBED, to_json(self.checkpoint.described))
        rows = 0 if before is None else before["counts"]["rows"]
        # A last block that is not full is written again, with the appended rows.
        shards: list[dict[str, Any]] = [
            shard for shard in (before or {"shards": []})["shards"] if shard["end"] % BLOCK_ROWS == 0
        ]
        ranges = [block for block in block_ranges(cleaned["counts"]["rows"], BLOCK_ROWS) if block[1] > rows]
        done = sum(shard["pairs"] + shard["too_long"] for shard in shards)
        with Progress("tokenize", total=cleaned["counts"]["kept"], unit="pairs", quiet=quiet, done=done) as bar:
            for block in _blocks(clean, ranges):
                shards.append(self._write(*block))
                done += shards[-1]["pairs"] + shards[-1]["too_long"]
                bar.to(done)
        unigrams = self.folder.path / "unigrams.safetensors"
        if before is None:
            _save(unigrams, dict(zip(("source", "target"), self.unigrams, strict=True)), {})
        names = ("pairs", "too_long", "source_tokens", "target_tokens")
        counts = {name: sum(shard[name] for shard in shards) for name in names}
        return {
            **({"monolingual": True} if is_monolingual(cleaned) else {}),
            "tokenizer": asdict(self.tokenizer),
            "counts": {**counts, "rows": cleaned["counts"]["rows"], "kept": cleaned["counts"]["kept"]},
            "shards": shards,
            "unigrams": digest_file(str(unigrams)),
        }

    def _write(self, first: int, end: int, rows: NDArray[np.int64], texts: list[list[str]]) -> dict[str, Any]:
        """Write one block; rows ascend."""
        sides = self.checkpoint.encode(*texts) if len(rows) else ([], [])
        lengths = [np.fromiter(map(len, side), np.int64, len(side)) for side in sides]
        most = self.checkpoint.longest
        fits = (lengths[0] <= most) & (lengths[1] <= most)
        if self.checkpoint.is_decoder_only:
            fits &= lengths[0] + lengths[1] <= most
        fits &= (lengths[0] > 0) & (lengths[1] > 0)
        tensors: dict[str, NDArray[Any]] = {"rows": rows[fits], "too_long": rows[~fits]}
        for name, side, length, unigrams in zip(("source", "target"), sides, lengths, self.unigrams, strict=True):
            kept = itertools.chain.from_iterable(itertools.compress(side, fits))
            ids = np.fromiter(kept, np.uint32, int(length[fits].sum()))
            tensors[f"{name}_ids"] = ids.astype(self.kind)
            if ids.max(initial=0) >= len(unigrams):
                sizes = f"its tokenizer gave id {ids.max()}, but the vocabulary size in config.json is {len(unigrams)}"
                raise CatpruneError(f"{self.checkpoint.path}: {sizes}: give the model its own tokenizer")
            tensors[f"{name}_offsets"] = np.concatenate([[0], np.cumsum(length[fits])]).astype(np.int64)
            unigrams += np.bincount(ids, minlength=len(unigrams)).astype(np.uint64)
        file = f"part-{first:012d}-{end:012d}.safetensors"
        path = self.folder.path / file
        # Only one metadata entry: safetensors writes several in an order that differs between runs.
        _save(path, tensors, {"plan": self.folder.digest})
        counts = {"pairs": int(fits.sum()), "too_long": int((~fits).sum())}
        counts |= {f"{side}_tokens": len(tensors[f"{side}_ids"]) for side in ("source", "target")}
        return {"file": file, "first": first, "end": end, "digest": digest_file(str(path)), **counts}


def _blocks(
    clean: Path, ranges: list[tuple[int, int]]
) -> Iterator[tuple[int, int, NDArray[np.int64], list[list[str]]]]:
    """Yield for each block its row range, the clean rows, and the texts of both sides."""
    batches = iter(open_rows(clean, ranges[0][0], ranges[-1][1]))
    batch: Any = None
    for first, end in ranges:
        rows: list[NDArray[np.int64]] = []
        texts: list[list[str]] = [[], []]
        while True:
            if batch is None:
                batch = next(batches, None)
                if batch is None:
                    break
            numbers = batch["row"].to_numpy()
            start, stop = (int(place) for place in np.searchsorted(numbers, [first, end]))
            rows.append(numbers[start:stop])
            for text, side in zip(texts, ("source", "target"), strict=True):
                # A monolingual corpus has no sources.
                has_side, count = side in batch.schema.names, stop - start
                text += batch[side].slice(start, count).to_pylist() if has_side else [""] * count
            if stop < len(numbers):
                batch = batch.slice(stop)
                break
            batch = None
        yield first, end, np.concatenate([np.zeros(0, np.int64), *rows]), texts


def _save(path: Path, tensors: dict[str, NDArray[Any]], metadata: dict[str, str]) -> None:
    from safetensors.numpy import save

    write_whole(path, save(tensors, metadata))
