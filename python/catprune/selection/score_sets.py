"""The scores of checkpoints that a selection reads: found, put in order, and checked to be comparable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.errors import CatpruneError, UsageError
from catprune.workspace.files import resolve_place
from catprune.workspace.manifest import read_manifest
from catprune.workspace.sealed import read_sealed
from catprune.workspace.wording import some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catprune.selection.methods import Method


def find_scores(source: Path, checkpoints: Sequence[str] | None) -> list[Path]:
    """The finished score sets in a folder, or those of these names, in training order: by step, by name.

    Raises:
        CatpruneError: a name that is not there or is unfinished, or one given twice.
    """
    if not source.is_dir():
        raise CatpruneError(f"{source} does not exist: run `catprune score` into it first")
    if checkpoints is None:
        finished = [entry for entry in source.iterdir() if (entry / "manifest.json").is_file()]
        folders = [entry for entry in finished if read_sealed(entry / "manifest.json").get("step") == "score"]
    else:
        if len(set(checkpoints)) < len(checkpoints):
            raise UsageError(f"checkpoints {', '.join(checkpoints)}: give each name once")
        folders = [source / name for name in checkpoints]
    steps = {folder: read_manifest(folder, step="score")["checkpoint"]["step"] for folder in folders}
    unknown = [folder for folder, step in steps.items() if step is None]
    if unknown and len(folders) > 1:
        raise CatpruneError(
            f"{unknown[0]}: its checkpoint does not say after how many steps it was saved, so it cannot be put in "
            "order: name its folder checkpoint-STEP and score it again"
        )
    return sorted(folders, key=lambda folder: _in_training(steps[folder], folder.name))


def gather_scores(sources: Sequence[Path], checkpoints: Sequence[str] | None) -> dict[str, list[Path]]:
    """The folders of every checkpoint, in training order; workers may have scored one into several."""
    steps: dict[str, Any] = {}
    sets: dict[str, list[Path]] = {}
    for source in sources:
        here = checkpoints
        if checkpoints is not None and source is not sources[-1]:  # the last one says which name is nowhere
            here = [name for name in checkpoints if (source / name).is_dir()]
        elif checkpoints is not None:
            here = [name for name in checkpoints if (source / name).is_dir() or name not in sets]
        for folder in find_scores(source, here):
            step = read_manifest(folder, step="score")["checkpoint"]["step"]
            if steps.setdefault(folder.name, step) != step:
                raise CatpruneError(f"{sets[folder.name][0]} and {folder} are scores of different checkpoints")
            sets.setdefault(folder.name, []).append(folder)
    return {name: sets[name] for name in sorted(sets, key=lambda name: _in_training(steps[name], name))}


def _in_training(step: int | None, name: str) -> tuple[int, str]:
    """What checkpoints are sorted by; `find_scores` refuses several of which one does not say its step."""
    return step or 0, name


def needed_checkpoints(
    method: Method, sets: Mapping[str, Sequence[Path]], backward: Sequence[str], reference: str | None, *, where: str
) -> list[str]:
    """The checkpoints that a method reads, in the order in which it takes them."""
    others = [name for name in sets if name != reference]
    forward = [name for name in others if name not in backward]
    if method.reads == "directions":
        if not forward or not any(name in others for name in backward):
            lacking = "predicts the source (`train` with reverse = true)" if forward else "predicts the target"
            raise CatpruneError(
                f"{method.name} needs a forward and a backward model, {where} has none that {lacking}: score with one"
            )
        return [forward[-1], next(name for name in reversed(others) if name in backward)]
    usual = forward or others
    if len(usual) < method.needs:
        shown = some(usual) or "none"
        raise CatpruneError(
            f"{method.name} needs scores of {method.needs} checkpoint{'s'[: method.needs != 1]}, "
            f"{where} has {len(usual)} ({shown}): run `catprune score` for more"
        )
    if method.reads == "reference":
        if reference is None or reference not in sets:
            raise CatpruneError(f"{where} holds no scores of the reference {reference}: run `catprune score` for it")
        if (reference in backward) != (usual[0] in backward):
            raise CatpruneError(f"{reference} and {usual[0]} predict different sides: rho compares models of one")
        return [usual[0], reference]
    return {"ends": [*usual[:1], *usual[-1:]], "last": usual[-1:]}.get(method.reads, usual)


def check_one_training(folders: Sequence[Path]) -> None:
    """Fails if checkpoints that nobody named are of several trainings: no method compares these.

    Raises:
        UsageError: they are.
    """
    trainings: dict[Path, dict[str, None]] = {}
    for folder in folders:
        path = read_manifest(folder, step="score")["reads"].get("checkpoint", {}).get("path")
        if path is not None:
            training = Path(resolve_place(folder, path)).parent
            trainings.setdefault(training, {})[folder.name] = None
    if len(trainings) > 1:
        told = some([f"{some([*names])} of {training}" for training, names in trainings.items()], separator="; ")
        raise UsageError(
            f"there are scores of several trainings ({told}): name the checkpoints to use (checkpoints = NAME,NAME)"
        )


def check_common_tokens(folders: Sequence[Path]) -> None:
    """Fails unless all of these were scored over the same token blocks.

    Raises:
        CatpruneError: they were not.
    """
    reads = [read_manifest(folder, step="score")["reads"]["tokens"] for folder in folders]
    for folder, read in zip(folders, reads, strict=True):
        if read["manifest"] != reads[0]["manifest"]:
            raise CatpruneError(
                f"{folders[0]} and {folder} were scored over different tokens: their nll cannot be compared; if rows "
                "were joined since, score with both again"
            )


def check_common_weights(folders: Sequence[Path]) -> None:
    """Fails if some of these are of smoothed weights and others of raw ones.

    Raises:
        CatpruneError: they are.
    """
    known = {told["smoothed"]: one for one in folders if (told := _told(one)).get("smoothed") is not None}
    if len(known) > 1:
        raise CatpruneError(
            f"one of {' and '.join(sorted(map(str, known.values())))} has smoothed weights, the other raw: their nll "
            "cannot be compared, name checkpoints of one kind (checkpoints = NAME,NAME)"
        )


def is_backward(folder: Path) -> bool:
    """Whether scores are of a model that predicts the source."""
    return bool(_told(folder)["reverse"])


def _told(folder: Path) -> dict[str, Any]:
    """What the scores of a checkpoint say of it."""
    return read_manifest(folder, step="score")["checkpoint"]


def times_seen(folders: Sequence[Path]) -> list[int]:
    """How often rows had been trained on, the numbers that occur; empty where nothing is known of these rows."""
    seen = [read_manifest(folder, step="score")["checkpoint"]["seen"] for folder in folders]
    return sorted({times for one in seen if one is not None for times in one["times"]})
