"""The cost of choosing and training, from manifests and logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from catprune.evaluation.cost import (
    choosing_flops,
    choosing_seconds,
    external_checkpoints,
    scorers_of,
    training_seconds,
)
from catprune.selection.methods import MERGE
from catprune.selection.sources import SCORER_STEP
from catprune.workspace.sealed import digest_work, read_sealed
from catprune.workspace.step_folder import StepFolder


def finish(
    folder: Path,
    step: str,
    *,
    reads: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    **results: Any,
) -> Path:
    """A finished step's folder with the given manifest."""
    with StepFolder(folder, step=step, reads=reads or {}, options=options or {}) as step_folder:
        step_folder.publish(**results)
    return folder


def speed(folder: Path, measured: float, seconds: float = 1.0, *, unit: str = "tokens_per_second", **more: str) -> None:
    with (folder / "log" / "events.jsonl").open("a") as stream:
        event = {"event": "t", "seconds": seconds, unit: measured, **more}
        stream.write(json.dumps(event) + "\n")


def trained(folder: Path, *, flops: float, tokens: int, steps: int = 100) -> Path:
    pairs = 10 if folder.name == "full" else 5
    step = finish(
        folder,
        "train",
        counts={"pairs": pairs, "target_tokens": 9 * pairs},
        flops=flops,
        target_tokens=tokens,
        steps=steps,
        epochs=2.0,
        checkpoints=[{"name": "step-100"}],
    )
    speed(step, 50.0)
    return step


def scored(run: Path, name: str, *, step: int, flops: float) -> Path:
    step_folder = finish(
        run / "scores" / name,
        "score",
        reads={"checkpoint": {"path": f"../../warmup/{name}"}},
        checkpoint={"step": step, "epoch": 1.0, "flops": 10.0 * step, "target_tokens": 5 * step},
        counts={"pairs": 7, "too_long": 0, "target_tokens": 400},
        flops=flops,
        shards=[],
    )
    speed(step_folder, 200.0)
    return step_folder


def selected(run: Path, name: str, scores: list[str]) -> Path:
    reads = {"scores": [{"path": f"../../scores/{score}"} for score in scores]}
    return finish(run / "selection" / name, "select", reads=reads, options={"method": name}, shards=[])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    trained(tmp_path / "warmup", flops=9000.0, tokens=4500)
    for step, name in ((100, "epoch-1"), (300, "epoch-3"), (500, "epoch-5")):
        scored(tmp_path, name, step=step, flops=70.0)
    selected(tmp_path, "cat-diff", ["epoch-1", "epoch-3"])
    selected(tmp_path, "random", ["epoch-5"])  # only to know which rows there are
    return tmp_path


def test_cost_counts_the_warmup_once_up_to_the_last_scored_checkpoint(run: Path) -> None:
    assert choosing_flops(run / "selection/cat-diff") == (3000.0, 140.0)
    assert choosing_flops(run / "selection/random") == choosing_flops(None) == (0.0, 0.0)
    assert choosing_seconds(run / "selection/cat-diff") == (1500 / 50, 2 * 400 / 200)
    assert training_seconds(trained(run / "model", flops=5000.0, tokens=2500)) == 2500 / 50


def test_cost_counts_what_conditions_and_merges_need(run: Path) -> None:
    reads = {"scores": [{"path": f"../../scores/{name}"} for name in ("epoch-1", "epoch-3")]}
    for name, options, needs in (
        ("guarded", {"method": "random", "where": ["ppl<500"]}, True),
        ("of-cleaning", {"method": "column", "column": "target_words"}, False),
        ("of-cleaning-guarded", {"method": "column", "column": "target_words", "where": ["progress>=0"]}, True),
        ("merged", {"method": MERGE, "merge": "0.5*progress + 0.5*target_words"}, True),
        ("merged-columns", {"method": MERGE, "merge": "1*target_words + 1*source_words"}, False),
    ):
        finish(run / "selection" / name, "select", reads=reads, options=options, shards=[])
        assert choosing_flops(run / "selection" / name) == ((3000.0, 140.0) if needs else (0.0, 0.0)), name


def test_cost_counts_what_columns_were_made_from(run: Path) -> None:
    """A function of stored statistics costs what its checkpoints do; of a scorer the seconds are known."""
    scores = [{"path": f"../{name}"} for name in ("epoch-1", "epoch-3")]
    finish(run / "scores/learned", SCORER_STEP, reads={"scores": scores}, counts={"pairs": 7})
    step = finish(run / "scores/labse", SCORER_STEP, reads={"clean": {}}, counts={"pairs": 600})
    speed(step, 30.0, unit="pairs_per_second")
    files = [{"path": f"../../scores/{name}/columns/part-0-9.parquet"} for name in ("learned", "labse")]
    merged = finish(run / "selection/merged", "select", reads={"external": files}, options={"method": MERGE})
    assert choosing_flops(merged) == (3000.0, 140.0)
    assert [column.name for column in scorers_of(merged)] == ["labse"]
    assert choosing_seconds(merged) == (1500 / 50, 2 * 400 / 200 + 600 / 30)


def test_the_training_of_external_checkpoints_is_unknown_and_their_scoring_counts(run: Path) -> None:
    """For them neither the operations nor the tokens of the training are recorded."""
    folder = finish(
        run / "scores/marian",
        "score",
        reads={"checkpoint": {"path": "../../marian/model.npz"}},
        checkpoint={"step": 1, "epoch": None, "flops": None, "target_tokens": None},
        counts={"pairs": 7, "too_long": 0, "target_tokens": 400},
        flops=90.0,
        shards=[],
    )
    speed(folder, 100.0)
    reads = {"scores": [{"path": f"../../scores/{name}"} for name in ("epoch-3", "marian")]}
    finish(run / "selection/both", "select", reads=reads, options={"method": "cat-diff"}, shards=[])
    assert choosing_flops(run / "selection/both") == (3000.0, 160.0)
    assert choosing_seconds(run / "selection/both") == (1500 / 50, 400 / 200 + 400 / 100)
    assert external_checkpoints(run / "selection/both") == ["marian"]
    assert external_checkpoints(run / "selection/cat-diff") == external_checkpoints(None) == []


def test_seconds_come_from_the_longest_run_and_may_be_missing(run: Path) -> None:
    model = trained(run / "model", flops=1.0, tokens=1000)
    speed(model, 100.0, seconds=60.0)
    assert training_seconds(model) == 10.0
    (run / "scores/epoch-1/log/events.jsonl").unlink()
    assert choosing_seconds(run / "selection/cat-diff") is None


def test_seconds_of_a_plan_that_was_replaced_do_not_count(run: Path) -> None:
    model = trained(run / "model", flops=1.0, tokens=1000)
    speed(model, 100.0, seconds=60.0, plan=digest_work(read_sealed(model / "plan.json")))
    speed(model, 5.0, seconds=600.0, plan="0" * 32)
    with (model / "log/events.jsonl").open("a") as stream:
        stream.write('{"event": "cut o\n')
    assert training_seconds(model) == 10.0


def test_a_training_reached_by_a_link_is_found_where_the_manifest_says(run: Path) -> None:
    checkpoint = run / "elsewhere/epoch-1"
    checkpoint.mkdir(parents=True)
    (run / "warmup/epoch-1").symlink_to(checkpoint)
    assert choosing_seconds(run / "selection/cat-diff") == (1500 / 50, 2 * 400 / 200)


def test_damaged_lines_of_a_log_are_skipped(tmp_path: Path) -> None:
    folder = trained(tmp_path / "full", flops=1.0, tokens=100)
    expected = training_seconds(folder)
    with (folder / "log" / "events.jsonl").open("ab") as stream:
        stream.write(b'\xff\n7\nnull\n[]\n{"tokens_per_second": 9}\n{"tokens_per_second": "x", "seconds": 99}\n')
        stream.write(b"[" * 100_000 + b'\n{"tokens_per_second": 1, "seco')
    assert training_seconds(folder) == expected == 2.0
