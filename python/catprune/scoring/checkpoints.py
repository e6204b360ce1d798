"""Opening of the checkpoints to score, native and external, and of the token blocks that each of them reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from catprune.corpus.inputs import is_monolingual
from catprune.errors import CatpruneError, UsageError
from catprune.tokens.blocks import Tokens
from catprune.workspace.sealed import read_sealed
from catprune.workspace.wording import some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catprune.checkpoints.fairseq import Fairseq
    from catprune.checkpoints.hugging_face import HuggingFace
    from catprune.checkpoints.marian import Marian
    from catprune.checkpoints.native import Checkpoint

    AnyCheckpoint: TypeAlias = Checkpoint | Fairseq | HuggingFace | Marian


def name_checkpoints(checkpoints: str | Path | Sequence[str | Path]) -> dict[str, Path]:
    """Return the checkpoints by name; a path that contains "=" must be given as `name=path`."""
    named: dict[str, Path] = {}
    for text in [checkpoints] if isinstance(checkpoints, str | Path) else checkpoints:
        name, separator, path = str(text).partition("=")
        if not separator:
            name, path = Path(text).resolve().name, str(text)
        if not name or "/" in name or name.startswith("."):
            raise UsageError(f"checkpoint {text} has no valid name: give name=path, with a name without '/'")
        if name in named:
            raise UsageError(f"two checkpoints are named {name}: give them as name=path")
        named[name] = Path(path)
    if not named:
        raise UsageError("no checkpoint: give at least one")
    return named


def holds_texts(folder: Path) -> bool:
    """Whether a clean folder or tokens folder is monolingual; other folders are refused later."""
    manifest = folder / "manifest.json"
    return manifest.is_file() and is_monolingual(read_sealed(manifest))


def open_checkpoint(
    path: Path, *, languages: tuple[str | None, str | None], prompt: str | None, monolingual: bool
) -> AnyCheckpoint:
    """Open a native or an external checkpoint."""
    from catprune.checkpoints.fairseq import Fairseq, is_fairseq
    from catprune.checkpoints.hugging_face import HuggingFace, is_hugging_face
    from catprune.checkpoints.marian import Marian, is_marian
    from catprune.checkpoints.native import read_checkpoint

    if is_hugging_face(path):
        return HuggingFace.open(path, languages=languages, prompt=prompt, monolingual=monolingual)
    patterns = ("checkpoint-*", "epoch-*", "step-*", "*.npz", "checkpoint*.pt")
    inside = sorted((entry for pattern in patterns for entry in path.glob(pattern)), key=_in_training)
    if inside and not (path / "config.json").is_file():
        raise UsageError(f"{path} holds checkpoints: give those to score: {some(list(map(str, inside)))}")
    if prompt is not None or (any(languages) and not is_fairseq(path)):
        raise UsageError(
            f"{path}: prompts are only for checkpoints of transformers, languages also for those of fairseq: leave "
            "them out"
        )
    if not is_marian(path) and not is_fairseq(path):
        return read_checkpoint(path)
    if monolingual:
        raise UsageError(f"{path} translates, and a monolingual corpus has no source: give a decoder-only model")
    return Fairseq.open(path, languages=languages) if is_fairseq(path) else Marian.open(path)


def _in_training(checkpoint: Path) -> tuple[str, float, str]:
    """Return the sort key of a checkpoint in a folder: by unit, then by number."""
    unit, _, number = checkpoint.name.rpartition("-")
    try:
        return unit, float(number), ""
    except ValueError:
        return checkpoint.name, 0, number


def note_weights(named: dict[str, AnyCheckpoint]) -> dict[str, str]:
    """Report which weights of Marian checkpoints are read; raw and smoothed weights must not be mixed."""
    from catprune.checkpoints.marian import Marian

    smoothed = {name: checkpoint.smoothed for name, checkpoint in named.items() if isinstance(checkpoint, Marian)}
    if {True, False} <= set(smoothed.values()):
        first, second = (next(name for name, kind in smoothed.items() if kind is value) for value in (True, False))
        raise UsageError(
            f"{named[first].path} has smoothed weights, {named[second].path} has raw weights: give checkpoints of one "
            "kind (raw weights are read from model.npz.orig.npz if that file is next to model.npz)"
        )
    notes: dict[str, str] = {}
    for name, kind in smoothed.items():
        path = named[name].path
        if kind is None:
            notes[name] = f"{path}: no .yml says whether its weights are smoothed (exponential-smoothing)"
        elif kind:
            notes[name] = f"{path}: smoothed weights; no file of raw weights (.orig.npz) is next to the file"
        elif path.name.endswith(".orig.npz"):
            notes[name] = f"{path}: raw weights instead of smoothed weights"
    return notes


def open_tokens(folder: Path, checkpoint: AnyCheckpoint, *, out: Path, wait: bool, quiet: bool) -> Tokens:
    """Open the token blocks for a checkpoint; for an external checkpoint, write them from the clean folder first."""
    from catprune.checkpoints.native import Checkpoint
    from catprune.tokens.external_blocks import write_external_tokens

    manifest = folder / "manifest.json"
    if not manifest.is_file() and not isinstance(checkpoint, Checkpoint):
        raise CatpruneError(f"{folder} is not a clean folder: run `catprune clean` into the folder first")
    if not manifest.is_file() or read_sealed(manifest).get("step") != "clean":
        return Tokens.open(folder)
    if isinstance(checkpoint, Checkpoint):
        raise UsageError(
            f"{checkpoint.path} is a native checkpoint, but {folder} is a clean folder: give the tokens folder"
        )
    return Tokens.open(write_external_tokens(folder, checkpoint, beside=out, wait=wait, quiet=quiet))
