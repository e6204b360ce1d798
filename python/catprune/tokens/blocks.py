"""Token blocks: the tokens folder, its tokenizer, and single blocks as NumPy arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from catprune._core import digest_file
from catprune.errors import CatpruneError
from catprune.workspace.manifest import plan_digests, read_manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TYPES = {"I64": "<i8", "U64": "<u8", "U32": "<u4", "U16": "<u2"}
_BLOCK_TENSORS = ("rows", "source_ids", "source_offsets", "target_ids", "target_offsets", "too_long")


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """The tokenizer of a tokens folder: the xxh3-128 digest of its file, the vocabulary size and the special ids."""

    digest: str
    vocab_size: int
    bos_id: int
    eos_id: int
    pad_id: int


@dataclass(frozen=True, slots=True)
class BlockEntry:
    """A block as the manifest lists it: rows `first` to `end` (half-open), of which `pairs` carry tokens."""

    file: str
    first: int
    end: int
    digest: str
    pairs: int
    too_long: int
    source_tokens: int
    target_tokens: int


class Block(NamedTuple):
    """The arrays of one block (docs/reference/file-formats.md, "Token blocks"), mapped from its file.

    rows: int64 [n]; source_ids, target_ids: uint16 or uint32; source_offsets, target_offsets: int64 [n+1];
    too_long: int64 [m].
    """

    rows: NDArray[np.int64]
    source_ids: NDArray[Any]
    source_offsets: NDArray[np.int64]
    target_ids: NDArray[Any]
    target_offsets: NDArray[np.int64]
    too_long: NDArray[np.int64]


def map_safetensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Map the tensors of a safetensors file without copying them, and read its metadata.

    Raises:
        CatpruneError: the file is not safetensors, is truncated, or holds a dtype that token blocks do not use.
    """
    import numpy as np

    try:
        data = np.memmap(path, dtype=np.uint8, mode="r")
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header: dict[str, Any] = json.loads(data[8:start].tobytes())
        metadata: dict[str, str] = header.pop("__metadata__", {})
        tensors: dict[str, NDArray[Any]] = {}
        for name, entry in header.items():
            first, end = entry["data_offsets"]
            tensors[name] = np.frombuffer(data[start + first : start + end], dtype=_TYPES[entry["dtype"]])
            tensors[name] = tensors[name].reshape(entry["shape"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CatpruneError(f"{path} is not a complete safetensors file ({error}): make its folder again") from None
    return tensors, metadata


def block_ranges(rows: int, size: int) -> list[tuple[int, int]]:
    """Return the rows [first, end) of the blocks of a corpus: each but the last has `size` rows."""
    return [(first, min(first + size, rows)) for first in range(0, rows, size)]


class Tokens:
    """A finished tokens folder.

    Attributes:
        path: the folder.
        manifest: the content of `manifest.json`.
        tokenizer: digest, vocabulary size and special ids.
        blocks: the blocks in row order.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.tokenizer = Tokenizer(**manifest["tokenizer"])
        self.blocks = tuple(BlockEntry(**entry) for entry in manifest["shards"])
        self._plans = plan_digests(manifest)
        self._checked: set[str] = set()

    @classmethod
    def open(cls, folder: str | Path) -> Tokens:
        """Open a folder that `tokenize` finished.

        Raises:
            CatpruneError: the folder is missing, unfinished or belongs to another step, or its tokenizer was changed.
        """
        path = Path(folder)
        tokens = cls(path, read_manifest(path, step="tokenize"))
        digest = digest_file(str(tokens.tokenizer_file))
        if digest != tokens.tokenizer.digest:
            raise CatpruneError(
                f"{tokens.tokenizer_file} has digest {digest}, but the manifest says {tokens.tokenizer.digest}: "
                "tokenize again with force = true"
            )
        return tokens

    @property
    def tokenizer_file(self) -> Path:
        """The Hugging Face `tokenizer.json`."""
        return self.path / "tokenizer.json"

    def unigrams(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Read the unigram counts of source and target ids, uint64 [vocabulary] each.

        Raises:
            CatpruneError: the file was changed or is incomplete.
        """
        path = self.path / "unigrams.safetensors"
        if digest_file(str(path)) != self.manifest["unigrams"]:
            raise CatpruneError(f"{path} was changed after tokenizing: tokenize again with force = true")
        tensors, _ = map_safetensors(path)
        size = (self.tokenizer.vocab_size,)
        if any(side not in tensors or tensors[side].shape != size for side in ("source", "target")):
            raise CatpruneError(f"{path} lacks counts of all {size[0]} ids: tokenize again with force = true")
        return tensors["source"], tensors["target"]

    def read(self, entry: BlockEntry) -> Block:
        """Map one block; its digest is verified the first time.

        Raises:
            CatpruneError: the file is missing or truncated, was changed, or belongs to other work.
        """
        path = self.path / entry.file
        tensors, metadata = map_safetensors(path)
        if metadata.get("plan") not in self._plans or any(name not in tensors for name in _BLOCK_TENSORS):
            raise CatpruneError(f"{path} does not belong to this folder's work: tokenize again with force = true")
        if entry.file not in self._checked:
            if digest_file(str(path)) != entry.digest:
                raise CatpruneError(f"{path} was changed after tokenizing: tokenize again with force = true")
            self._checked.add(entry.file)
        return Block(**{name: tensors[name] for name in _BLOCK_TENSORS})
