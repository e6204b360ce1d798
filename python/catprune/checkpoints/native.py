"""Native checkpoints: folders of model.safetensors, config.json and tokenizer.json, written whole or not at all."""

from __future__ import annotations

import itertools
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from catprune._core import digest_bytes, digest_file
from catprune.errors import CatpruneError, UsageError
from catprune.tokens.blocks import Tokenizer, Tokens
from catprune.workspace.files import copy_whole, read_json, to_json, whole_folder, write_whole
from catprune.workspace.manifest import digest_manifest, formers
from catprune.workspace.sealed import read_sealed, seal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from catprune.model.sizes import Size
    from catprune.model.transformer import Transformer
    from catprune.tokens.blocks import BlockEntry
    from catprune.tokens.external_blocks import ExternalCheckpoint

ARCHITECTURE = "catprune-transformer"
FORMAT = 3
_RECORDED = ("step", "epoch", "target_tokens", "flops", "reverse", "seen")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A native checkpoint, as its config.json describes it.

    Attributes:
        path: the folder.
        size: the model's shape, with the fields of `sizes.Size`.
        tokenizer: digest, vocabulary size and special ids of the tokens that the model was trained on.
        step: updates.
        epoch: passes over the training rows.
        target_tokens: target tokens trained on, with repetitions.
        flops: floating-point operations of the training up to here.
        reverse: whether the model translates from the target into the source.
        seen: exposure, i.e. how often rows had been trained on. `times` lists the counts that occur (if there are
            several, `seen.parquet` holds the count of each row); `tokens` is the digest of the manifest of the tokens
            folder; `end` is the end (exclusive) of its rows.
        files: the digests of the other files, by name.
    """

    path: Path
    size: dict[str, int]
    tokenizer: Tokenizer
    step: int
    epoch: float
    target_tokens: int
    flops: float
    reverse: bool
    seen: dict[str, Any]
    files: dict[str, str]

    @property
    def weights(self) -> Path:
        """The file of the weights."""
        return self.path / "model.safetensors"

    @property
    def moments(self) -> Path:
        """The file of Adam's moments; few checkpoints have it."""
        return self.path / "moments.safetensors"

    @property
    def seen_file(self) -> Path | None:
        """The file of the exposure of each row; None if it is the same for all rows."""
        return self.path / "seen.parquet" if len(self.seen["times"]) > 1 else None

    def reads(self) -> dict[str, Any]:
        """Return the digests of the files that are read.

        Raises:
            CatpruneError: a file is missing or was changed.
        """
        verify_files(self)
        return {"weights": self.files[self.weights.name], "config": digest_file(str(self.path / "config.json"))}

    def recorded(self) -> dict[str, Any]:
        """Return the facts about the training, by the names of the attributes."""
        return {name: getattr(self, name) for name in _RECORDED}

    def describe(self, *, relative_to: Path) -> dict[str, str]:
        """Describe the checkpoint for a plan: its relative path and the digests of its files.

        Raises:
            CatpruneError: a file is missing or was changed.
        """
        return {"path": os.path.relpath(self.path.absolute(), relative_to.absolute()), **self.reads()}

    def load(self, *, device: str) -> Transformer:
        """Load the model in eval mode, float32."""
        return load_model(self, device=device)


def read_checkpoint(folder: str | Path) -> Checkpoint:
    """Read the config.json of a checkpoint; weights are not loaded.

    Raises:
        CatpruneError: the folder is not a native checkpoint, or config.json was changed.
    """
    path = Path(folder)
    if not (path / "config.json").is_file() or not (path / "model.safetensors").is_file():
        raise CatpruneError(
            f"{path} is not a checkpoint: give a folder that `catprune train` wrote (run/epoch-1), one of transformers "
            "(config.json with its weights), or a model.npz of Marian"
        )
    config = read_json(path / "config.json", remedy="train again")
    if config.get("architecture") != ARCHITECTURE or config.get("format") != FORMAT:
        raise CatpruneError(
            f"{path / 'config.json'} describes {config.get('architecture')} (format {config.get('format')}), "
            f"this catprune reads {ARCHITECTURE} (format {FORMAT}): train again"
        )
    config = read_sealed(path / "config.json", remedy="train again with force = true")
    names = ("size", "files", *_RECORDED)
    try:
        return Checkpoint(path, tokenizer=Tokenizer(**config["tokenizer"]), **{name: config[name] for name in names})
    except (KeyError, TypeError) as error:
        raise CatpruneError(f"{path / 'config.json'} is incomplete ({error}): train again") from None


def require_tokenizer(checkpoint: Checkpoint | ExternalCheckpoint, tokens: Tokens) -> None:
    """Refuse a checkpoint with another tokenizer than the tokens.

    Raises:
        CatpruneError: the tokenizers' digests differ.
    """
    if checkpoint.tokenizer != tokens.tokenizer:
        if not isinstance(checkpoint, Checkpoint):
            raise CatpruneError(f"{checkpoint.path} has another tokenizer than {tokens.path}: give the clean folder")
        raise CatpruneError(
            f"{checkpoint.path} was trained with tokenizer {checkpoint.tokenizer.digest}, "
            f"{tokens.path} was made with {tokens.tokenizer.digest}: tokenize with tokenizer = "
            f"{checkpoint.path / 'tokenizer.json'}, or give another checkpoint"
        )


def load_model(checkpoint: Checkpoint, *, device: str = "cpu") -> Transformer:
    """Load the model of a checkpoint in eval mode, float32.

    Raises:
        CatpruneError: the file of the weights is damaged, or its tensors do not match config.json.
    """
    from catprune.model.sizes import Size
    from catprune.model.transformer import Transformer

    model = Transformer(Size(**checkpoint.size), vocab_size=checkpoint.tokenizer.vocab_size)
    tensors = load_tensors(checkpoint.weights)[0]
    fit(model, tensors, name=checkpoint.weights)
    return model.to(device).eval()


def fit(model: Transformer, tensors: dict[str, Tensor], *, name: Path) -> None:
    """Copy `tensors` into the model.

    Raises:
        CatpruneError: a tensor is missing, unknown or has another shape.
    """
    parameters = model.state_dict()
    for key in sorted({*parameters, *tensors}):
        shape = list(tensors[key].shape) if key in tensors else "nothing"
        expected = list(parameters[key].shape) if key in parameters else "nothing"
        if shape != expected:
            raise CatpruneError(f"{name}: tensor {key} has shape {shape}, config.json needs {expected}: train again")
    model.load_state_dict(tensors)


def write_checkpoint(
    folder: Path,
    model: Transformer,
    tokens: Tokens,
    *,
    size: Size,
    training: dict[str, Any],
    seen: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]] | None = None,
    moments: dict[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint under a temporary name and rename its folder; a checkpoint of that name is replaced.

    Args:
        folder: the final name.
        model: the model; weights are written as float32.
        tokens: the tokens folder, whose tokenizer is copied.
        size: the model's shape.
        training: step, epoch, target_tokens, flops, reverse and seen, as in `Checkpoint`.
        seen: if exposure differs between rows: for each block the rows and their counts.
        moments: Adam's moments, if another training is to resume from this checkpoint.
    """
    described = {"size": asdict(size), "tokenizer": asdict(tokens.tokenizer), **training}
    config = {"architecture": ARCHITECTURE, "format": FORMAT, **described}
    with whole_folder(folder) as temporary:
        save_tensors(temporary / "model.safetensors", model.state_dict())
        if moments is not None:
            save_tensors(temporary / "moments.safetensors", moments)
        write_whole(temporary / "tokenizer.json", tokens.tokenizer_file.read_bytes())
        if seen is not None:
            _write_seen(temporary / "seen.parquet", seen)
        _write_config(temporary, config)


def _write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write config.json with the digests of the files that are there."""
    files = {path.name: digest_file(str(path)) for path in sorted(folder.iterdir())}
    write_whole(folder / "config.json", seal({**config, "files": files}))


def average_checkpoints(checkpoints: Sequence[str | Path], out: str | Path) -> Path:
    """Write a checkpoint whose weights are the means of those of several native checkpoints (Vaswani et al. 2017).

    Means are computed in float64. All other files are those of the checkpoint with the most updates.

    Args:
        checkpoints: folders, like the last five of a training.
        out: the new folder; a checkpoint of that name is replaced.

    Returns:
        `out`.

    Raises:
        UsageError: no checkpoint is given, or `out` holds one of them.
        CatpruneError: a folder is not a native checkpoint or was changed, or the checkpoints differ in shape,
            tokenizer or direction; or `out` is a folder of something else.
    """
    if not checkpoints:
        raise UsageError("there are no checkpoints to average: give at least one folder")
    read = [read_checkpoint(path) for path in checkpoints]
    last, target = max(read, key=lambda checkpoint: checkpoint.step), Path(out).absolute()
    if any(path.is_relative_to(target) for path in (checkpoint.path.absolute() for checkpoint in read)):
        raise UsageError(f"out = {out} holds checkpoints that are averaged: give another folder")
    if target.exists():
        read_checkpoint(target)  # nothing but a checkpoint is replaced
    for checkpoint, name in itertools.product(read, ("size", "tokenizer", "reverse")):
        if getattr(checkpoint, name) != getattr(last, name):
            raise CatpruneError(
                f"{checkpoint.path} has another {name} than {last.path}: average checkpoints of one training"
            )
    sums: dict[str, Tensor] = {}
    for checkpoint in read:
        verify_files(checkpoint)
        for name, tensor in load_tensors(checkpoint.weights)[0].items():
            sums[name] = tensor.double() + sums.get(name, 0)
    config = {**read_sealed(last.path / "config.json"), "averaged": sorted(checkpoint.step for checkpoint in read)}
    with whole_folder(target) as temporary:
        save_tensors(temporary / "model.safetensors", {name: (sums[name] / len(read)).float() for name in sums})
        for path in (last.path / "tokenizer.json", last.seen_file):
            if path is not None:
                copy_whole(path, temporary / path.name)
        _write_config(temporary, config)
    return Path(out)


def _write_seen(path: Path, seen: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> None:
    """Write `row` and `times` with one row group per block, so that single blocks can be read."""
    import pyarrow
    import pyarrow.parquet as parquet

    schema = pyarrow.schema([("row", pyarrow.int64()), ("times", pyarrow.uint32())])
    packed: Any = {"use_dictionary": ["times"], "column_encoding": {"row": "DELTA_BINARY_PACKED"}}
    with parquet.ParquetWriter(path, schema, compression="none", **packed) as writer:
        for rows, times in seen:
            columns = [pyarrow.array(rows), pyarrow.array(times.astype("uint32"))]
            writer.write_table(pyarrow.table(columns, schema=schema), row_group_size=max(1, len(rows)))
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def exposure_of(checkpoint: Checkpoint, tokens: Tokens) -> Exposure | None:
    """Return the exposure of the rows of a tokens folder; None if the checkpoint was trained on other tokens."""
    known = {digest_manifest(tokens.path), *formers(tokens.path)}
    return Exposure(checkpoint, tokens.blocks) if checkpoint.seen["tokens"] in known else None


class Exposure:
    """The exposure of the rows of each block at a checkpoint; 0 for rows appended since.

    Args:
        checkpoint: trained on the tokens of `blocks`, or on these before rows were appended.
        blocks: all current blocks.
    """

    def __init__(self, checkpoint: Checkpoint, blocks: Sequence[BlockEntry]) -> None:
        self._seen = checkpoint.seen
        self._places = {entry.first: place for place, entry in enumerate(blocks) if entry.first < self._seen["end"]}
        self._is_appended = blocks[-1].end > self._seen["end"]
        self._path = checkpoint.seen_file
        if self._path is None:
            return
        import pyarrow.parquet as parquet

        try:
            self._file = parquet.ParquetFile(self._path)
        except (OSError, ValueError) as error:
            raise CatpruneError(f"{self._path} is damaged ({error}): train again") from None
        if self._file.num_row_groups != len(self._places):
            raise CatpruneError(
                f"{self._path} has {self._file.num_row_groups} blocks, the tokens had {len(self._places)}: train again"
            )

    def describe(self) -> dict[str, Any]:
        """Return `seen` as in `Checkpoint`, for all blocks."""
        return {**self._seen, "times": sorted({*self._seen["times"], *([0] if self._is_appended else [])})}

    def times(self, entry: BlockEntry, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the exposure of the ascending `rows` of a block that carry tokens, uint32 [rows]."""
        times = np.zeros(len(rows), np.uint32)
        known = int(np.searchsorted(rows, self._seen["end"]))
        if not known:
            return times
        if self._path is None:
            times[:known] = self._seen["times"][0]
            return times
        table = self._file.read_row_group(self._places[entry.first])
        if not np.array_equal(table["row"].to_numpy(), rows[:known]):
            raise CatpruneError(f"{self._path} has other rows than the tokens: train again")
        times[:known] = table["times"].to_numpy()
        return times


def save_tensors(path: Path, tensors: dict[str, Tensor], *, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all; this needs memory for a copy of its bytes.

    Raises:
        OSError: the file cannot be written.
    """
    from safetensors.torch import save

    # Not save_file: its errors are not OSError, and it leaves partial files.
    plain = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    digest = _digest_tensors(plain, metadata or {})
    write_whole(path, save(plain, {**(metadata or {}), "digest": digest}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a file of `save_tensors`.

    Raises:
        CatpruneError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CatpruneError(f"{path} is damaged ({error}): remove the file and train again") from None
    digest = metadata.pop("digest", None)
    if digest != _digest_tensors(tensors, metadata):
        raise CatpruneError(f"{path} was changed since it was written: remove the file and train again")
    return tensors, metadata


def _digest_tensors(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """The digest of names, types, shapes and values of tensors, and of metadata."""
    import torch

    described = {
        name: [str(tensor.dtype), *tensor.shape, digest_bytes(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())]
        for name, tensor in tensors.items()
    }
    return digest_bytes(to_json({"tensors": described, "metadata": metadata}))


def verify_files(checkpoint: Checkpoint) -> None:
    """Compare the files of a checkpoint with the digests in its config.json.

    Raises:
        CatpruneError: a file is missing or was changed.
    """
    for name, digest in checkpoint.files.items():
        path = checkpoint.path / name
        if not path.is_file() or digest_file(str(path)) != digest:
            state = "was changed since training" if path.is_file() else "is missing"
            raise CatpruneError(f"{path} {state}: restore the file, or train again with force = true")
