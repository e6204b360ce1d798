"""Early stopping: which checkpoint it ends at, resuming, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from catprune.errors import UsageError
from catprune.training.early_stopping import EarlyStopping
from catprune.training.train import summary, train
from support.synthetic import contents, sentences, write_tokens

FAST: dict[str, Any] = {
    "warmup_steps": 20,
    "batch_tokens": 256,
    "threads": 1,
    "precision": "float32",
    "quiet": True,
    "checkpoints": "2steps,4steps,6steps,8steps,10steps",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("early")
    write_tokens(path / "tokens", pairs=100, longest=4)
    for side, lines in zip(("source", "target"), sentences(12, seed=8, longest=4), strict=True):
        (path / f"dev.{side}").write_text("".join(line + "\n" for line in lines))
    return path


def dev(folder: Path) -> list[Path]:
    return [folder / "dev.source", folder / "dev.target"]


def plan_losses(monkeypatch: pytest.MonkeyPatch, losses: dict[str, float]) -> None:
    monkeypatch.setattr(EarlyStopping, "nll", lambda _, checkpoint: losses[checkpoint.name])


@pytest.mark.parametrize(
    ("losses", "end", "best"),
    [
        ([4, 3, 2, 1, 0], 10, 10),
        ([4, 3, 3, 3.5, 0], 8, 4),  # an equal loss is no lower loss
        ([1, 2, 0.5, 2, 2], 10, 6),
        ([1, 2, 3, 0, 0], 6, 2),
    ],
)
def test_training_stops_when_the_dev_loss_no_longer_falls(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: list[float], end: int, best: int
) -> None:
    plan_losses(monkeypatch, {f"step-{2 * place}": loss for place, loss in enumerate(losses, 1)})
    done = train(folder / "tokens", out=tmp_path / "w", dev=dev(folder), patience=2, **FAST)
    assert [path.name for path in done.checkpoints] == [f"step-{step}" for step in range(2, end + 1, 2)]
    assert done.steps == end and done.best == tmp_path / f"w/step-{best}"
    assert f"lowest dev loss {losses[best // 2 - 1]:.3f} at step-{best}" in summary(done)
    assert not (tmp_path / "w" / f"step-{end + 2}").exists()
    again = train(folder / "tokens", out=tmp_path / "w", dev=dev(folder), patience=2, **FAST)
    assert not again.is_new and again.best == done.best


def test_the_loss_is_that_of_the_dev_set_and_a_killed_training_stops_at_the_same_checkpoint(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"dev": dev(folder), "patience": 1, **FAST, "learning_rate": 1e-9}
    measure, measured = EarlyStopping.nll, list[str]()

    def stepwise(self: EarlyStopping, checkpoint: Path) -> float:
        """The real loss, rounded: at this learning rate it does not change."""
        measured.append(checkpoint.name)
        return round(measure(self, checkpoint), 3)

    monkeypatch.setattr(EarlyStopping, "nll", stepwise)
    done = train(folder / "tokens", out=tmp_path / "a", **options)
    assert [path.name for path in done.checkpoints] == ["step-2", "step-4"] and measured == ["step-2", "step-4"]
    (loss,) = {entry["dev_nll"] for entry in done.manifest["checkpoints"]}
    assert 4 < loss < 8, "near the logarithm of the vocabulary"

    def die(self: EarlyStopping, checkpoint: Path) -> float:
        if checkpoint.name == "step-4":
            raise KeyboardInterrupt
        return stepwise(self, checkpoint)

    monkeypatch.setattr(EarlyStopping, "nll", die)
    with pytest.raises(KeyboardInterrupt):
        train(folder / "tokens", out=tmp_path / "b", **options)
    monkeypatch.setattr(EarlyStopping, "nll", stepwise)
    train(folder / "tokens", out=tmp_path / "b", **options)
    assert contents(tmp_path / "b") == contents(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patience": 2}, "dev and patience belong together"),
        ({"dev": ["dev.source", "dev.target"]}, "dev and patience belong together"),
        ({"dev": "dev.source", "patience": 1}, "dev names 1 files: give two"),
    ],
)
def test_dev_and_patience_are_checked(folder: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train(folder / "tokens", out=tmp_path / "w", **FAST, **change)
