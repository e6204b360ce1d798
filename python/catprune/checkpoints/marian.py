"""External checkpoints of Marian-NMT: an .npz with weights and configuration, and vocabularies."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import digest_bytes, digest_file
from catprune.checkpoints.marian_vocabulary import Vocabulary, open_vocabulary
from catprune.errors import CatpruneError, require
from catprune.tokens.blocks import Tokenizer
from catprune.workspace.files import to_json

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from catprune.checkpoints.marian_model import MarianModel

#: The array that holds the configuration.
CONFIGURATION = "special:model.yml"
LONGEST = 512
SIDES = ("source", "target")


@dataclass(frozen=True)
class Marian:
    """A model file of Marian-NMT.

    With exponential smoothing Marian writes smoothed weights to `model.npz` and to the files of iterations and of the
    best validation. Some versions also write the raw weights of the last update to `model.npz.orig.npz`. Training
    dynamics need the raw weights, so this file is read if it exists. The plan names the file.

    Attributes:
        path: the .npz that is read.
        options: the configuration of the model.
        smoothed: whether the weights are averages over updates, according to the .yml; None if unknown.
        step: updates, from model.npz.progress.yml or the name (model.iter10000.npz); else None.
        described: all that determines the ids: digests of the vocabularies, special ids.
        tokenizer: vocabulary size, special ids and the digest of `described`. The decoder starts with a zero vector,
            whose id follows the last one of the vocabulary.
        vocabularies: of sources and targets.
    """

    path: Path
    options: dict[str, Any]
    smoothed: bool | None
    step: int | None
    described: dict[str, Any]
    tokenizer: Tokenizer
    vocabularies: tuple[Vocabulary, Vocabulary] = field(repr=False, compare=False)

    is_decoder_only = False
    longest = LONGEST

    @classmethod
    def open(cls, named: Path) -> Marian:
        """Read the configuration and the vocabularies of a model; weights are not loaded.

        Raises:
            CatpruneError: the file is not a Marian model, or the model has unsupported parts.
            MissingExtra: sentencepiece or PyYAML is not installed.
        """
        require("marian", "sentencepiece", "yaml")
        original = named.with_name(f"{named.name}.orig.npz")
        path = original if original.is_file() else named
        model = named.with_name(named.name.removesuffix(".orig.npz"))
        options = _mapping(_configuration(path), of=path)
        if options.get("type") != "transformer":
            raise CatpruneError(f"{path} is a model of type {options.get('type')}: only type transformer is supported")
        configurations = [
            options,
            *(_mapping(file.read_bytes(), of=file) for file in _configuration_files(model) if file.is_file()),
        ]
        names = _vocabularies(model, configurations)
        smoothings = [
            configuration["exponential-smoothing"]
            for configuration in configurations
            if "exponential-smoothing" in configuration
        ]
        smoothed = bool(smoothings[0]) if smoothings else None
        if path.name.endswith(".orig.npz"):
            smoothed = False
        source, target = map(open_vocabulary, names)
        last = max(source.size, target.size)
        ids = {"vocab_size": last + 1, "bos_id": last, "eos_id": target.end, "pad_id": last}
        files = {f"{side} {name.name}": digest_file(str(name)) for side, name in zip(SIDES, names, strict=True)}
        described = {"files": files, "libraries": sorted({source.version, target.version}), **ids}
        tokenizer = Tokenizer(digest_bytes(to_json(described)), **ids)
        return cls(path, options, smoothed, _step(model), described, tokenizer, (source, target))

    def reads(self) -> dict[str, Any]:
        """Return the digest of the file that is read."""
        return {"weights": {self.path.name: digest_file(str(self.path))}}

    def recorded(self) -> dict[str, Any]:
        """Return the known facts about the training; its rows are unknown."""
        unknown = dict.fromkeys(("epoch", "target_tokens", "flops", "seen"))
        return {"step": self.step, **unknown, "reverse": False, "smoothed": self.smoothed}

    def encode(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Encode pairs, end-of-sentence included.

        Raises:
            CatpruneError: the text is not segmented as the vocabularies need it.
        """
        source, target = self.vocabularies
        return source.encode(sources), target.encode(targets)

    def load(self, *, device: str) -> MarianModel:
        """Load the model in eval mode, float32.

        Raises:
            CatpruneError: weights are missing, or belong to unsupported parts.
        """
        import numpy as np

        from catprune.checkpoints.marian_model import MarianModel

        with _arrays(self.path) as arrays:
            weights: dict[str, NDArray[np.float32]] = {
                name: arrays[name].astype(np.float32) for name in arrays.files if name != CONFIGURATION
            }
        for side, place in (("encoder", 0), ("decoder", 1)):
            matrix = weights.get(f"{side}_Wemb", weights.get("Wemb"))
            vocab_size = self.vocabularies[place].size
            if matrix is not None and len(matrix) < vocab_size:
                sizes = (
                    f"{len(matrix)} embeddings on the {SIDES[place]} side, but {vocab_size} entries in its vocabulary"
                )
                raise CatpruneError(f"{self.path} has {sizes}: give the model its own vocabularies")
        try:
            model = MarianModel(weights, self.options, start=self.tokenizer.bos_id)
        except KeyError as error:
            raise CatpruneError(f"{self.path}: the weights {error} are missing") from None
        except ValueError as error:
            raise CatpruneError(f"{self.path}: {error}") from None
        return model.to(device).eval()


def is_marian(path: Path) -> bool:
    """Whether a path is a Marian model, by its suffix."""
    return path.suffix == ".npz" and path.is_file()


def _configuration(path: Path) -> str:
    import numpy as np

    try:
        with _arrays(path) as arrays:
            return bytes(arrays[CONFIGURATION].astype(np.uint8)).rstrip(b"\0").decode()
    except (KeyError, UnicodeDecodeError):
        raise CatpruneError(f"{path} holds no {CONFIGURATION}: give a model.npz that Marian wrote") from None


@contextlib.contextmanager
def _arrays(path: Path) -> Generator[Any]:
    """Open the arrays of an .npz; nothing is unpickled."""
    import zipfile
    import zlib

    import numpy as np

    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            yield arrays
    except UnicodeDecodeError:
        raise
    except (ValueError, TypeError):  # NumPy's message advises to allow pickle
        raise CatpruneError(f"{path} holds pickled objects, which are not read: give a model.npz of Marian") from None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CatpruneError(
            f"{path} is damaged or not an .npz file ({error}): copy the file again, or give another file"
        ) from None


def _mapping(text: str | bytes, *, of: Path) -> dict[str, Any]:
    """Parse a mapping in YAML."""
    import yaml

    try:
        value: Any = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise CatpruneError(f"{of}: the configuration cannot be read ({str(error).splitlines()[0]})") from None
    if not isinstance(value, dict):
        raise CatpruneError(f"{of}: the configuration is no mapping")
    return value  # pyright: ignore[reportUnknownVariableType]


def _configuration_files(model: Path) -> list[Path]:
    """Return the possible configuration files of a model; models of single iterations share one."""
    stem = re.sub(r"\.iter[0-9]+\.npz$", ".npz", re.sub(r"\.best-[^.]+\.npz$", "", model.name))
    return [model.with_name(f"{name}{end}") for name in (model.name, stem) for end in (".yml", ".decoder.yml")]


def _vocabularies(model: Path, configurations: list[dict[str, Any]]) -> tuple[Path, Path]:
    """Find the vocabularies of both sides, from the first configuration that names them."""
    listed = [[Path(str(name)) for name in options.get("vocabs") or ()] for options in configurations]
    names = next((vocabs for vocabs in listed if len(vocabs) == 2), [])
    if not names:
        places = _configuration_files(model)
        raise CatpruneError(f"{places[0]} or {places[-1].name} must name two vocabularies (vocabs: […])")
    vocabularies: list[Path] = []
    for name in names:
        # Configurations name paths on the machine of the training.
        places = [name, model.parent / name, model.parent / name.name]
        place = next((file for file in places if file.is_file()), None)
        if place is None:
            raise CatpruneError(
                f"{model}: the vocabulary {name} does not exist, nor does {places[-1]}: copy it next to the model"
            )
        vocabularies.append(place)
    return vocabularies[0], vocabularies[1]


def _step(model: Path) -> int | None:
    progress = model.with_name(f"{model.name}.progress.yml")
    if progress.is_file():
        batches = _mapping(progress.read_bytes(), of=progress).get("batches")
        return int(batches) if batches is not None else None
    named = re.search(r"\.iter([0-9]+)\.npz$", model.name)
    return int(named[1]) if named else None
