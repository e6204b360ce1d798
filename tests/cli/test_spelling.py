"""Messages of the command line name options by their flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from catprune.cleaning.options import CleanOptions
from catprune.cli import app
from catprune.cli.parameters import spelling
from catprune.pipeline.options import PruneOptions, RunOptions


@pytest.mark.parametrize(
    ("model", "message", "spelled"),
    [
        (
            PruneOptions,
            "a is finished: give another out, or force = true",
            "a is finished: give another out, or --force",
        ),
        (PruneOptions, "keep = 0%: keeps none", "--keep 0%: keeps none"),
        (PruneOptions, "run the same command without dry_run", "run the same command without --dry-run"),
        (PruneOptions, "keep 30% by progress", "keep 30% by progress"),
        (PruneOptions, "/data/source_lang/dry_run.en is missing", "/data/source_lang/dry_run.en is missing"),
        (PruneOptions, "there is no option dry_runs", "there is no option dry_runs"),
        (CleanOptions, "rules = false goes without max_words", "--no-rules goes without --max-words"),
        (CleanOptions, "give header = true if that line holds names", "give --header if that line holds names"),
        (RunOptions, "run.toml: train.epochs = -1: give a number", "run.toml: train.epochs = -1: give a number"),
        (RunOptions, "clean.max_words = 0, force = true", "clean.max_words = 0, --force"),
    ],
)
def test_options_have_their_flags(model: Any, message: str, spelled: str) -> None:
    assert spelling(model)(message) == spelled


def test_errors_and_notes_name_flags(tmp_path: Path, pair: Any, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(path) for path in pair(b"a line\nthe next\n", b"eine Zeile\ndie andere\n")]
    assert app(["clean", *files, "--out", str(tmp_path / "clean"), "--quiet"], standalone_mode=False) in (0, None)
    again = ["clean", *files, "--out", str(tmp_path / "clean"), "--max-words", "3"]
    assert app(again, standalone_mode=False) == 1
    assert "give another folder, or --force to replace it" in capsys.readouterr().err
