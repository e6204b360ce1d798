"""Score sets of checkpoints: finding them, their order in training, and whether they are comparable."""

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
    """Return the finished score sets of a folder, or those named, in training order (by step, then by name).

    Raises:
        UsageError: a name is given twice.
        CatpruneError: a named score set does not exist or is unfinished.
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
            f"{unknown[0]}: the training step of the checkpoint is unknown, so checkpoints cannot be sorted: "
            "name the checkpoint folder checkpoint-STEP and score again"
        )
    return sorted(folders, key=lambda folder: _in_training(steps[folder], folder.name))


def gather_scores(sources: Sequence[Path], checkpoints: Sequence[str] | None) -> dict[str, list[Path]]:
    """Return the score folders of each checkpoint, in training order; several workers may have written them."""
    steps: dict[str, Any] = {}
    sets: dict[str, list[Path]] = {}
    for source in sources:
        names = checkpoints
        if checkpoints is not None and source is not sources[-1]:
            names = [name for name in checkpoints if (source / name).is_dir()]
        elif checkpoints is not None:  # the last source reports names that no source has
            names = [name for name in checkpoints if (source / name).is_dir() or name not in sets]
        for folder in find_scores(source, names):
            step = read_manifest(folder, step="score")["checkpoint"]["step"]
            if steps.setdefault(folder.name, step) != step:
                raise CatpruneError(f"{sets[folder.name][0]} and {folder} are scores of different checkpoints")
            sets.setdefault(folder.name, []).append(folder)
    return {name: sets[name] for name in sorted(sets, key=lambda name: _in_training(steps[name], name))}


def _in_training(step: int | None, name: str) -> tuple[int, str]:
    """Return the sort key of a checkpoint; `find_scores` refuses several checkpoints if a step is unknown."""
    return step or 0, name


def needed_checkpoints(
    method: Method,
    sets: Mapping[str, Sequence[Path]],
    backward: Sequence[str],
    reference: str | None,
    *,
    where: str,
    remedy: str,
) -> list[str]:
    """Return the checkpoints that a method reads, in the order of its formula.

    Args:
        method: the method.
        sets: the finished scores by checkpoint, in training order.
        backward: the checkpoints that predict the source.
        reference: the checkpoint of the reference model.
        where: the folders, for messages.
        remedy: how to get more scores, for messages.

    Raises:
        CatpruneError: scores are missing.
    """
    others = [name for name in sets if name != reference]
    forward = [name for name in others if name not in backward]
    if method.reads == "directions":
        if not forward or not any(name in others for name in backward):
            lacking = "predicts the source (`train` with reverse = true)" if forward else "predicts the target"
            raise CatpruneError(
                f"{method.name} needs a forward and a backward model, {where} has no model that {lacking}: score one"
            )
        return [forward[-1], next(name for name in reversed(others) if name in backward)]
    usable = forward or others
    if len(usable) < method.needs:
        finished = f"has {len(usable)} ({some(usable)})" if usable else "has no finished ones"
        raise CatpruneError(
            f"{method.name} needs scores of {method.needs} checkpoint{'s'[: method.needs != 1]}, {where} {finished}: "
            f"{remedy}"
        )
    if method.reads == "reference":
        if reference is None or reference not in sets:
            raise CatpruneError(f"{where} holds no scores of the reference {reference}: {remedy}")
        if (reference in backward) != (usable[0] in backward):
            raise CatpruneError(
                f"{reference} and {usable[0]} predict different sides: rho needs models that predict the same side"
            )
        return [usable[0], reference]
    return {"ends": [*usable[:1], *usable[-1:]], "last": usable[-1:]}.get(method.reads, usable)


def how_to_score(sources: Sequence[Path]) -> str:
    """Say how to get the scores that are missing: by finishing those that `score` started, if there are any."""
    plans = [plan for source in sources for plan in sorted(source.glob("*/plan.json"))]
    started = [plan.parent for plan in plans if not (plan.parent / "manifest.json").is_file()]
    unfinished = [folder for folder in started if read_sealed(folder / "plan.json").get("step") == "score"]
    if not unfinished:
        return "run `catprune score` for more"
    places = dict.fromkeys(str(folder.parent) for folder in unfinished)
    commands = some([f"`catprune score` with --out {place}" for place in places], separator=" and ")
    names = some([folder.name for folder in unfinished])
    return f"scores of {names} are unfinished: repeat {commands} (all shards) to finish them"


def check_one_training(folders: Sequence[Path]) -> None:
    """Check that unnamed checkpoints belong to one training: methods do not compare several trainings.

    Raises:
        UsageError: the checkpoints belong to several trainings.
    """
    trainings: dict[Path, dict[str, None]] = {}
    for folder in folders:
        path = read_manifest(folder, step="score")["reads"].get("checkpoint", {}).get("path")
        if path is not None:
            training = Path(resolve_place(folder, path)).parent
            trainings.setdefault(training, {})[folder.name] = None
    if len(trainings) > 1:
        listed = some([f"{some([*names])} of {training}" for training, names in trainings.items()], separator="; ")
        raise UsageError(
            f"there are scores of several trainings ({listed}): name the checkpoints to use (checkpoints = NAME,NAME)"
        )


def check_common_tokens(folders: Sequence[Path]) -> None:
    """Check that all checkpoints were scored over the same token blocks.

    Raises:
        CatpruneError: the token blocks differ.
    """
    reads = [read_manifest(folder, step="score")["reads"]["tokens"] for folder in folders]
    for folder, read in zip(folders, reads, strict=True):
        if read["manifest"] != reads[0]["manifest"]:
            raise CatpruneError(
                f"{folders[0]} and {folder} were scored over different tokens: their nll cannot be compared; if rows "
                "were appended, score both checkpoints again"
            )


def check_common_weights(folders: Sequence[Path]) -> None:
    """Check that smoothed and raw weights are not mixed.

    Raises:
        CatpruneError: some checkpoints have smoothed weights, others raw weights.
    """
    kinds = {smoothed: folder for folder in folders if (smoothed := _checkpoint(folder).get("smoothed")) is not None}
    if len(kinds) > 1:
        raise CatpruneError(
            f"one of {' and '.join(sorted(map(str, kinds.values())))} has smoothed weights, the other raw weights: "
            "their nll cannot be compared, name checkpoints of one kind (checkpoints = NAME,NAME)"
        )


def is_backward(folder: Path) -> bool:
    """Whether the scored model predicts the source."""
    return bool(_checkpoint(folder)["reverse"])


def _checkpoint(folder: Path) -> dict[str, Any]:
    """Return the facts about the checkpoint that a score set records."""
    return read_manifest(folder, step="score")["checkpoint"]


def times_seen(folders: Sequence[Path]) -> list[int]:
    """Return the different exposures of rows (how often they were trained on), ascending; empty if unknown."""
    exposures = [_checkpoint(folder)["seen"] for folder in folders]
    return sorted({times for seen in exposures if seen is not None for times in seen["times"]})
