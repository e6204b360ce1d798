"""A step's folder: errors about other work, and whether the work was finished before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from catprune.errors import OtherPlan
from catprune.workspace.manifest import FORMAT
from catprune.workspace.plan_differences import describe_differences
from catprune.workspace.step_folder import StepFolder, finish_once


def plan(options: dict[str, Any] | None = None, reads: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"format": FORMAT, "step": "x", "version": "0.1.0", "reads": reads or {}, "options": options or {}, **more}


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ({"seed": 1}, {"seed": 2}, "seed was 1, is now 2"),
        (
            {"reverse": False, "sample": None},
            {"reverse": True, "sample": 9},
            "reverse was no, is now yes; sample was not given, is now 9",
        ),
        ({"keep": {"fraction": [1, 2]}}, {"keep": {"rows": 1000}}, "keep was 50%, is now 1000"),
        ({"keep": {"token_fraction": [1, 3]}}, {"keep": {"tokens": 9}}, "keep was 33.33333333%tokens, is now 9tokens"),
        (
            {"rules": {"max_words": 150, "a": 1}},
            {"rules": {"max_words": 80, "a": 1}},
            "rules.max_words was 150, is now 80",
        ),
        ({"checkpoints": ["step-1", "step-2"]}, {"checkpoints": []}, "checkpoints was step-1, step-2, is now nothing"),
        (
            {"prune_while_training": {"method": "ddp", "ratio": 0.3}},
            {"prune_while_training": {"method": "ddp", "ratio": 0.4}},
            "prune_ratio was 0.3, is now 0.4",
        ),
        ({"where": ["a>1"]}, {}, "where was a>1, is now not given"),
        ({"within": "x" * 100}, {"within": None}, f"within was {'x' * 79}…, is now not given"),
    ],
)
def test_each_option_that_differs_is_named_with_both_values(old: Any, new: Any, text: str) -> None:
    assert describe_differences(plan(old), plan(new)) == f"other options ({text})"


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            {"tokens": {"path": "../t", "manifest": "a" * 32}},
            {"tokens": {"path": "../t", "manifest": "b" * 32}},
            "tokens changed since, or rows were appended to it",
        ),
        (
            {"tokens": {"path": "../t", "manifest": "a" * 32}},
            {"tokens": {"path": "../u", "manifest": "b" * 32}},
            "tokens was ../t, is now ../u",
        ),
        (
            {"inputs": [{"format": "tsv", "path": "a.tsv"}] * 2},
            {"inputs": [{"format": "tsv", "path": "a.tsv"}, {"format": "tsv", "path": "b.tsv"}]},
            "inputs 2 was a.tsv, is now b.tsv",
        ),
        ({"inputs": [1, 2]}, {"inputs": [1]}, "the number of inputs was 2, is now 1"),
        ({"tokenizer": "a" * 32}, {"tokenizer": "b" * 32}, "tokenizer changed since"),
        ({"selection": None}, {"selection": {"path": "s", "manifest": "a" * 32}}, "selection was not given, is now s"),
    ],
)
def test_each_input_that_differs_is_named(old: Any, new: Any, text: str) -> None:
    assert describe_differences(plan(reads=old), plan(reads=new)) == f"other inputs ({text})"


def test_options_come_before_inputs_and_versions() -> None:
    old, new = plan({"a": 1}, {"b": 1}), plan({"a": 2}, {"b": 2}, version="0.2.0")
    assert describe_differences(old, new) == (
        "other options and inputs (a was 1, is now 2; b was 1, is now 2; version was 0.1.0, is now 0.2.0)"
    )
    assert describe_differences(plan(), plan(version="0.2.0")) == "other versions (version was 0.1.0, is now 0.2.0)"


def test_a_folder_knows_whether_its_work_was_finished_before(tmp_path: Path) -> None:
    def opened(seed: int, *, force: bool = False) -> StepFolder:
        return StepFolder(tmp_path / "out", step="x", reads={}, options={"seed": seed}, force=force)

    def work() -> dict[str, Any]:
        (tmp_path / "out/rows.npy").write_bytes(b"1")
        return {}

    for finished_before in (False, True):
        with opened(1) as folder:
            finish_once(folder, work)
            assert folder.finished_before is finished_before
    with pytest.raises(OtherPlan, match=r"out holds work with other options \(seed was 1, is now 2\): give another"):
        opened(2).__enter__()
    with opened(1, force=True) as folder:
        assert folder.finished_before
    (tmp_path / "out/rows.npy").write_bytes(b"2")
    with opened(1, force=True) as folder:  # damaged work is done again
        assert not folder.finished_before
        finish_once(folder, work)
        assert not folder.finished_before
