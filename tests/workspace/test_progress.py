"""Progress on standard error: plain lines without a terminal, a bar in a terminal."""

from __future__ import annotations

import re
import time
from importlib import import_module

import pytest
from catprune.workspace.progress import Progress, progress_line

progress = import_module("catprune.workspace.progress")


@pytest.mark.parametrize(
    ("done", "total", "unit", "rate", "line"),
    [
        (527, 2635, "updates", 3.1, "x: 527 of 2,635 updates (20.0%), 3.1 updates/s, 11:20 left"),
        (1.2e9, 5.6e9, "B", 35e6, "x: 1.2 GB of 5.6 GB (21.4%), 35.0 MB/s, 2:06 left"),
        (0, 10, "pairs", 0, "x: 0 of 10 pairs (0.0%)"),
        (12_345, None, "rows", 1234.5, "x: 12,345 rows, 1,234 rows/s"),
        (11, 10, "pairs", 1, "x: 11 of 10 pairs (100.0%), 1 pairs/s, 0:00 left"),
        (0, 7200, "pairs", 1.9, "x: 0 of 7,200 pairs (0.0%), 1.9 pairs/s, 1:03:09 left"),
    ],
)
def test_a_line_has_amount_percent_rate_and_time_left(
    done: float, total: float | None, unit: str, rate: float, line: str
) -> None:
    assert progress_line("x", done=done, total=total, unit=unit, rate=rate) == line


def test_lines_come_at_intervals_also_within_one_call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    with Progress("score e5", total=100, unit="pairs", quiet=False, done=40) as bar:
        bar.to(50, loss="3.21")
        time.sleep(0.3)  # the library does not call back meanwhile
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    match = re.fullmatch(r"score e5: 50 of 100 pairs \(50\.0%\), ([\d.]+) pairs/s, \d+:\d\d left, loss 3\.21", lines[0])
    # 10 pairs in about 0.05 s: work before the start does not count.
    assert match and 50 < float(match[1]) <= 210
    assert all(line.startswith("score e5: 50 of 100 pairs (50.0%)") for line in lines)


def test_no_line_before_the_first_interval_and_none_when_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("train", total=10, unit="updates", quiet=False) as bar:
        bar.to(10)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    with Progress("train", total=10, unit="updates", quiet=True) as bar:
        bar.to(5)
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar_that_starts_at_the_finished_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("train", total=10, unit="updates", quiet=False, done=4) as bar:
        bar.to(5, loss="3.21")
    shown = capsys.readouterr().err
    assert "train:  40%" in shown
    assert "\n" in shown
