"""Event files: what TensorBoard reads is what metrics.jsonl says, also after a kill; a missing library is named."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
from catprune.errors import MissingExtra
from catprune.training import loop
from catprune.training.train import train
from support.synthetic import contents, write_tokens

if TYPE_CHECKING:
    from pathlib import Path

FAST: dict[str, Any] = {"steps": 30, "batch_tokens": 512, "threads": 1, "precision": "float32", "quiet": True}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("tensorboard") / "tokens")


@pytest.mark.parametrize("step", [8, 19])
def test_the_events_are_the_metrics_even_after_a_kill(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Also before the first saved state, which comes after update 10."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setattr(loop, "METRICS_EVERY", 3)
    plain = train(tokens, out=tmp_path / "plain", **FAST)
    with monkeypatch.context() as patched:
        update = loop.Training._update

        def dying(training: loop.Training, made: Any) -> None:
            if training.at.step == step:
                raise OSError("gone")
            update(training, made)

        patched.setattr(loop.Training, "_update", dying)
        with pytest.raises(OSError, match="gone"):
            train(tokens, out=tmp_path / "w", log="tensorboard", **FAST | {"save_every": 10})
    train(tokens, out=tmp_path / "w", log="tensorboard", **FAST | {"save_every": 10})
    assert contents(tmp_path / "w") == contents(plain.folder), "the option is not in the plan"
    (folder,) = (tmp_path / "w/log/tensorboard").iterdir()
    assert re.fullmatch("w-[0-9a-f]{8}", folder.name), "how TensorBoard names the run"
    assert len(list(folder.iterdir())) == 2
    events = reader.EventAccumulator(str(folder))
    events.Reload()
    lines = [json.loads(line) for line in (tmp_path / "w/metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 10
    for name in ("epoch", "loss", "nll", "learning_rate"):
        scalars = events.Scalars(f"train/{name}")
        assert [event.step for event in scalars] == [1, *(line["step"] for line in lines)]
        assert [event.value for event in scalars[1:]] == pytest.approx([line[name] for line in lines], rel=1e-6)


def test_another_training_in_the_folder_is_another_run(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first event is that of the first update, with its loss."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for steps in (2, 3):
        monkeypatch.chdir(tmp_path)
        train(tokens, out="here", log="tensorboard", force=True, **FAST | {"steps": steps})
    folders = sorted((tmp_path / "here/log/tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(folders) == 2 and all(re.fullmatch("here-[0-9a-f]{8}", folder.name) for folder in folders)
    plain = train(tokens, out=tmp_path / "one", **FAST | {"steps": 1})
    first = json.loads((plain.folder / "metrics.jsonl").read_text())
    for folder in folders:
        events = reader.EventAccumulator(str(folder))
        events.Reload()
        assert events.Scalars("train/loss")[0].value == pytest.approx(first["loss"], rel=1e-6)


def test_a_missing_library_is_named(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtra, match=r"the package tensorboard: install catprune with its extra tensorboard"):
        train(tokens, out=tmp_path / "w", log="tensorboard", **FAST)
    assert not (tmp_path / "w").exists()
