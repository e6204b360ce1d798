"""The cost of pruning: warm-up training up to the last scored checkpoint, scoring, and training on the subset."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.selection.request import methods_of
from catprune.selection.sources import SCORER_STEP
from catprune.workspace.files import resolve_place
from catprune.workspace.manifest import read_manifest
from catprune.workspace.sealed import digest_work, read_sealed

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Cost:
    """The three parts of a cost, in FLOPs or in seconds; the first two are 0 if no checkpoint was needed."""

    warmup: float
    scoring: float
    training: float

    @property
    def total(self) -> float:
        """The sum of the parts."""
        return self.warmup + self.scoring + self.training


def _score_folders(selection: Path | None) -> Iterator[Path]:
    """Yield the scores folders that a selection was made from; none if its method needs no model."""
    if selection is None:
        return
    manifest = read_manifest(selection, step="select")
    needs_model = any(method.needs for method in methods_of(manifest["options"]))
    folders = [
        Path(resolve_place(selection, entry["path"])) for entry in manifest["reads"].get("scores", ()) if needs_model
    ]
    for column in _columns_of(selection):
        folders += [
            Path(resolve_place(column, entry["path"]))
            for entry in read_sealed(column / "manifest.json")["reads"].get("scores", ())
        ]
    yield from dict.fromkeys(folders)


def _columns_of(selection: Path) -> list[Path]:
    """Return the folders of the scorer columns and statistics columns that a selection was made from."""
    reads = read_manifest(selection, step="select")["reads"]
    files = [
        Path(resolve_place(selection, entry["path"])) for kind in ("external", "files") for entry in reads.get(kind, ())
    ]
    folders = dict.fromkeys(file.parent.parent for file in files)
    return [
        folder
        for folder in folders
        if (folder / "manifest.json").is_file() and read_sealed(folder / "manifest.json").get("step") == SCORER_STEP
    ]


def scorers_of(selection: Path | None) -> list[Path]:
    """Return the columns that a selection was made from and that a scorer of text wrote."""
    columns = [] if selection is None else _columns_of(selection)
    return [column for column in columns if "clean" in read_sealed(column / "manifest.json")["reads"]]


def _checkpoint_of(scores: Path) -> tuple[Path, dict[str, Any]]:
    """Return the folder of the training whose checkpoint was scored, and the recorded facts about the checkpoint."""
    manifest = read_manifest(scores, step="score")
    checkpoint = Path(resolve_place(scores, manifest["reads"]["checkpoint"]["path"]))
    return checkpoint.parent, manifest["checkpoint"]


def external_checkpoints(selection: Path | None) -> list[str]:
    """Return the names of the scored checkpoints whose training was not recorded: those of other libraries."""
    return [
        scores.name
        for scores in _score_folders(selection)
        if read_manifest(scores, step="score")["checkpoint"]["flops"] is None
    ]


def choosing_flops(selection: Path | None) -> tuple[float, float]:
    """Floating-point operations, from shapes, of the warm-up models and of the scoring that a selection needed.

    Warm-up runs count once each, up to their last scored checkpoint, however many checkpoints were scored. What the
    models of scorers do, and what external checkpoints were trained with, is not known.
    """
    warmup: dict[Path, float] = {}
    scoring = 0.0
    for scores in _score_folders(selection):
        scoring += float(read_manifest(scores, step="score")["flops"])
        folder, checkpoint = _checkpoint_of(scores)
        warmup[folder] = max(warmup.get(folder, 0.0), float(checkpoint["flops"] or 0.0))
    return float(sum(warmup.values())), scoring


def _speed(folder: Path, key: str = "tokens_per_second") -> float | None:
    """Return the speed logged for the longest run of the step's plan; None if the log is missing.

    The log is kept when `force` replaces a step; each event names its plan.
    """
    log = folder / "log" / "events.jsonl"
    if not log.is_file():
        return None
    plan = digest_work(read_sealed(folder / "plan.json"))
    measured = [event for event in _events(log, key, "seconds") if event[key] and event.get("plan", plan) == plan]
    longest = max(measured, key=lambda event: event["seconds"], default=None)
    return None if longest is None else float(longest[key])


def _events(log: Path, *names: str) -> Iterator[dict[str, Any]]:
    """Yield the events of a log with numbers of these names; damaged lines are skipped."""
    for line in log.read_bytes().splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict) and all(isinstance(event.get(name), int | float) for name in names):  # pyright: ignore
                yield event


def training_seconds(training: Path) -> float | None:
    """Seconds of a training: tokens by the measured speed, so that an interrupted run counts in full.

    None where the log is missing. Seconds of different machines do not compare.
    """
    speed = _speed(training)
    return None if speed is None else read_manifest(training, step="train")["target_tokens"] / speed


def choosing_seconds(selection: Path | None) -> tuple[float, float] | None:
    """Seconds of the warm-up models and of the scoring that a selection needed; None where a log is missing.

    The training of external checkpoints is not known and not counted.
    """
    warmup: dict[Path, float] = {}
    scoring = 0.0
    for scores in _score_folders(selection):
        folder, checkpoint = _checkpoint_of(scores)
        speed = _speed(scores)
        if speed is None:
            return None
        scoring += read_manifest(scores, step="score")["counts"]["target_tokens"] / speed
        if checkpoint["flops"] is None:
            continue
        training_speed = _speed(folder)
        if training_speed is None:
            return None
        warmup[folder] = max(warmup.get(folder, 0.0), (checkpoint["target_tokens"] or 0) / training_speed)
    for column in scorers_of(selection):
        pairs = _speed(column, "pairs_per_second")
        if pairs is None:
            return None
        scoring += read_manifest(column, step=SCORER_STEP)["counts"]["pairs"] / pairs
    return float(sum(warmup.values())), scoring
