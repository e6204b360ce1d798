"""Native checkpoints: a folder of model.safetensors, config.json and tokenizer.json, written whole or not at all."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from catprune._core import digest_file
from catprune.errors import CatpruneError
from catprune.tokens.blocks import Tokenizer, Tokens
from catprune.workspace.files import read_json, sync_folder, to_json, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from catprune.model.sizes import Size
    from catprune.model.transformer import Transformer
    from catprune.tokens.blocks import BlockEntry
    from catprune.tokens.external_blocks import Foreign

ARCHITECTURE = "catprune-transformer"
FORMAT = 2
_RECORDED = ("step", "epoch", "target_tokens", "flops", "reverse", "seen")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint's config.json says.

    Attributes:
        path: its folder.
        size: the model's shape, by the names of `recipe.Size`.
        tokenizer: digest, vocabulary size and special ids of the tokens it was trained on.
        step: updates made.
        epoch: passes over the training rows.
        target_tokens: target tokens trained on, repeats counted.
        flops: floating-point operations of the training up to here.
        reverse: whether it translates from the target into the source.
        seen: how often rows had been trained on: `times` lists the numbers of times that occur (where there are
            several, `seen.parquet` has those of each row); `tokens` is the digest of the manifest of the tokens folder
            whose rows these are, and `end` the row before which they end.
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

    @property
    def weights(self) -> Path:
        """The file of the weights."""
        return self.path / "model.safetensors"

    @property
    def seen_file(self) -> Path | None:
        """Where it stands how often each row had been trained on, if rows differ."""
        return self.path / "seen.parquet" if len(self.seen["times"]) > 1 else None

    def reads(self) -> dict[str, Any]:
        """Digests of what is read of it."""
        read = {"weights": verify_weights(self), "config": digest_file(str(self.path / "config.json"))}
        if self.seen_file is None:
            return read
        if not self.seen_file.is_file():
            raise CatpruneError(f"{self.seen_file} is gone: bring it back, it says which rows had been trained on")
        return {**read, "seen": digest_file(str(self.seen_file))}

    def recorded(self) -> dict[str, Any]:
        """What is known of its training, as the attributes are named."""
        return {name: getattr(self, name) for name in _RECORDED}

    def load(self, *, device: str) -> Transformer:
        """The model in eval mode, float32."""
        return load_model(self, device=device)


def read_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a checkpoint's config.json; the weights stay where they are.

    Raises:
        CatpruneError: it is not a native checkpoint's folder.
    """
    path = Path(folder)
    if not (path / "config.json").is_file() or not (path / "model.safetensors").is_file():
        raise CatpruneError(
            f"{path} is not a checkpoint: give a folder that `catprune train` wrote (run/epoch-1), one of transformers "
            "(config.json with its weights), or a model.npz of Marian's"
        )
    config = read_json(path / "config.json")
    if config.get("architecture") != ARCHITECTURE or config.get("format") != FORMAT:
        raise CatpruneError(
            f"{path / 'config.json'} describes {config.get('architecture')} (format {config.get('format')}), "
            f"this catprune reads {ARCHITECTURE} (format {FORMAT}): train again"
        )
    names = ("size", *_RECORDED)
    try:
        return Checkpoint(path, tokenizer=Tokenizer(**config["tokenizer"]), **{name: config[name] for name in names})
    except (KeyError, TypeError) as error:
        raise CatpruneError(f"{path / 'config.json'} is not complete ({error}): train again") from None


def require_tokenizer(checkpoint: Checkpoint | Foreign, tokens: Tokens) -> None:
    """Refuse a checkpoint that was trained on other tokens.

    Raises:
        CatpruneError: the tokenizers' digests differ.
    """
    if checkpoint.tokenizer != tokens.tokenizer:
        if not isinstance(checkpoint, Checkpoint):
            raise CatpruneError(f"{checkpoint.path} has another tokenizer than {tokens.path}: give the clean folder")
        raise CatpruneError(
            f"{checkpoint.path} was trained with tokenizer {checkpoint.tokenizer.digest}, "
            f"{tokens.path} was made with {tokens.tokenizer.digest}: tokenize with --tokenizer "
            f"{checkpoint.path / 'tokenizer.json'}, or give another checkpoint"
        )


def load_model(checkpoint: Checkpoint, *, device: str = "cpu") -> Transformer:
    """The model of a checkpoint in eval mode, float32.

    Raises:
        CatpruneError: the weights' file is damaged, or its tensors are not those that config.json describes.
    """
    from catprune.model.sizes import Size
    from catprune.model.transformer import Transformer

    model = Transformer(Size(**checkpoint.size), vocab_size=checkpoint.tokenizer.vocab_size)
    tensors = load_tensors(checkpoint.weights)[0]
    fit(model, tensors, name=checkpoint.weights)
    return model.to(device).eval()


def fit(model: Transformer, tensors: dict[str, Tensor], *, name: Path) -> None:
    """Copy `tensors` into the model; an error names the first that is missing, foreign or of another shape."""
    wanted = model.state_dict()
    for key in sorted({*wanted, *tensors}):
        found = list(tensors[key].shape) if key in tensors else "nothing"
        expected = list(wanted[key].shape) if key in wanted else "nothing"
        if found != expected:
            raise CatpruneError(f"{name}: tensor {key} has shape {found}, config.json needs {expected}: train again")
    model.load_state_dict(tensors)


def write_checkpoint(
    folder: Path,
    model: Transformer,
    tokens: Tokens,
    *,
    size: Size,
    training: dict[str, Any],
    seen: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]] | None = None,
) -> None:
    """Write a checkpoint under a temporary name and rename its folder; one of the same name is replaced.

    Args:
        folder: its final name.
        model: the weights, written as float32.
        tokens: whose tokenizer it carries.
        size: the model's shape.
        training: step, epoch, target_tokens, flops, reverse and seen, as in `Checkpoint`.
        seen: where rows differ: of each block the rows, and how often each had been trained on.
    """
    described = {"size": asdict(size), "tokenizer": asdict(tokens.tokenizer), **training}
    config = {"architecture": ARCHITECTURE, "format": FORMAT, **described}
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        save_tensors(temporary / "model.safetensors", model.state_dict())
        write_whole(temporary / "config.json", to_json(config))
        write_whole(temporary / "tokenizer.json", tokens.tokenizer_file.read_bytes())
        if seen is not None:
            _write_seen(temporary / "seen.parquet", seen)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def _write_seen(path: Path, seen: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> None:
    """Write `row` and `times`, a row group for each block, so that a block's can be read alone."""
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


class Seen:
    """How often the rows of each block had been trained on at a checkpoint; rows that were joined since: never.

    Args:
        checkpoint: trained on the tokens of `blocks`, or on those before more were joined.
        blocks: all that there are now.
    """

    def __init__(self, checkpoint: Checkpoint, blocks: Sequence[BlockEntry]) -> None:
        self._seen = checkpoint.seen
        self._places = {entry.first: place for place, entry in enumerate(blocks) if entry.end <= self._seen["end"]}
        self._is_grown = len(self._places) < len(blocks)
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
        """As in `Checkpoint`, of all blocks."""
        return {**self._seen, "times": sorted({*self._seen["times"], *([0] if self._is_grown else [])})}

    def times(self, entry: BlockEntry, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Of the ascending `rows` that carry tokens in a block, uint32 [rows]."""
        if entry.first not in self._places:
            return np.zeros(len(rows), np.uint32)
        if self._path is None:
            return np.full(len(rows), self._seen["times"][0], np.uint32)
        table = self._file.read_row_group(self._places[entry.first])
        if not np.array_equal(table["row"].to_numpy(), rows):
            raise CatpruneError(f"{self._path} has other rows than the tokens: train again")
        return table["times"].to_numpy()


def save_tensors(path: Path, tensors: dict[str, Tensor], *, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all; beside the tensors, memory holds its bytes once.

    Raises:
        OSError: the disk is full, or refuses otherwise.
    """
    from safetensors.torch import save

    # Not save_file: its errors are no OSError, and it leaves half a file behind.
    write_whole(path, save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises:
        CatpruneError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CatpruneError(f"{path} is damaged ({error}): remove it and train again") from None


def digest_weights(checkpoint: Checkpoint) -> str:
    """xxh3-128 of the weights' file."""
    return digest_file(str(checkpoint.weights))


def verify_weights(checkpoint: Checkpoint) -> str:
    """The digest of the weights' file, compared with the training's manifest where the checkpoint lies beside one.

    Raises:
        CatpruneError: the file is not the one that the training wrote.
    """
    digest, path = digest_weights(checkpoint), checkpoint.path.resolve()
    manifest = path.parent / "manifest.json"
    training = read_json(manifest) if manifest.is_file() else {}
    listed = training.get("checkpoints", []) if training.get("step") == "train" else []
    if any(entry["name"] == path.name and entry["digest"] != digest for entry in listed):
        raise CatpruneError(f"{checkpoint.weights} was changed since training: run `catprune train` again with --force")
    return digest
