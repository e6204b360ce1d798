"""A killed cleaning goes on after its last published shard, and ends with the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import catprune
import numpy as np
import pytest

SHARD = 2**20
SIZES = [300_000, 700_000, 300_000, SHARD, 200_000]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five inputs of more than two shards, with tags, a test set and duplicates, and their cleaning without a kill."""
    folder = tmp_path_factory.mktemp("resume")
    numbers = np.random.default_rng(2).integers(0, 4_000_000, sum(SIZES)).tolist()
    for number, (size, first) in enumerate(zip(SIZES, np.cumsum([0, *SIZES[:-1]]).tolist(), strict=True)):
        here = numbers[first : first + size]
        (folder / f"{number}.en").write_text("".join(f"house number {n}\n" if n % 9 else "\n" for n in here))
        (folder / f"{number}.de").write_text("".join(f"haus{'  ' if n % 7 else ' '}nummer {n}\n" for n in here))
    (folder / "tags").write_text("".join(f"{'ab'[n % 2]}\n" for n in numbers))
    (folder / "test.en").write_text("".join(f"house number {n}\n" for n in range(2_000_000, 2_000_100)))
    catprune.clean(**call(folder, "whole"))
    return folder


def call(folder: Path, out: str, **options: Any) -> dict[str, Any]:
    inputs = [str(folder / f"{number}.{{en,de}}") for number in range(len(SIZES))]
    return {
        "inputs": inputs,
        "out": str(folder / out),
        "tags": str(folder / "tags"),
        "exclude": [str(folder / "test.en")],
        "duplicates": "pair",
        "repair": "spaces",
        "quiet": True,
        **options,
    }


def contents(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name != "log")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def kill_after_a_shard(corpus: Path, out: str, shards: int, **options: Any) -> Path:
    """Kill a cleaning when it has published so many shards and kept its state."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"import catprune; catprune.clean(**{call(corpus, out, **options)!r}, threads=1)"]
    )
    state = corpus / out / "log" / "cleaning"
    while not (state.is_file() and state.read_bytes().count(b"columns/part-") >= shards):
        assert process.poll() is None, "the cleaning ended before it was killed"
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (corpus / out / "manifest.json").exists()
    return state


def clean_again(corpus: Path, out: str, **options: Any) -> int:
    """Clean in another process; returns the bytes that it read."""
    script = (
        "import catprune, pathlib\n"
        "before = pathlib.Path('/proc/self/io').read_text()\n"
        f"catprune.clean(**{call(corpus, out, **options)!r})\n"
        "after = pathlib.Path('/proc/self/io').read_text()\n"
        "print(int(after.split()[1]) - int(before.split()[1]))\n"
    )
    return int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("shards", [1, 2])
def test_a_killed_cleaning_goes_on_after_its_last_shard(corpus: Path, shards: int) -> None:
    out = f"killed-{shards}"
    state = kill_after_a_shard(corpus, out, shards)
    first = json.loads(state.read_bytes().split(b"\n", 1)[1])
    before = {path: path.stat().st_ino for path in (corpus / out).rglob("part-*.parquet")}
    clean_again(corpus, out)
    assert contents(corpus / out) == contents(corpus / "whole")
    assert not state.exists()
    assert all(path.stat().st_ino == inode for path, inode in before.items()), "published shards stay"
    assert len(first["ended"]) == {1: 2, 2: 3}[shards]


def test_inputs_that_were_read_to_their_end_are_not_read_again(corpus: Path) -> None:
    bare = {"rules": False, "duplicates": "none"}  # little is written and read but the text
    state = kill_after_a_shard(corpus, "bare", 2, **bare)
    ended = json.loads(state.read_bytes().split(b"\n", 1)[1])["ended"]
    read, whole = (clean_again(corpus, out, **bare) for out in ("bare", "bare-whole"))
    assert contents(corpus / "bare") == contents(corpus / "bare-whole")
    saved = sum(file["bytes"] for entry in ended for file in entry["files"])
    assert len(ended) == 3
    assert read < whole - 0.9 * saved


def test_a_cleaning_starts_again_if_an_input_or_a_shard_changed(corpus: Path) -> None:
    for name in ("input", "shard", "state"):
        state = kill_after_a_shard(corpus, name, 1)
        shard = next((corpus / name / "columns").glob("part-*.parquet"))
        if name == "input":
            (corpus / "0.en").touch()
        else:
            path = {"shard": shard, "state": state}[name]
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        inode = shard.stat().st_ino
        clean_again(corpus, name)
        assert contents(corpus / name) == contents(corpus / "whole")
        assert shard.stat().st_ino != inode


def test_decisions_that_wait_start_again(corpus: Path) -> None:
    options = call(corpus, "either", duplicates="either")
    script = f"import catprune; catprune.clean(**{options!r}, threads=1)"
    process = subprocess.Popen([sys.executable, "-c", script])
    while not list((corpus / "either").glob("columns/part-*.parquet")):
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (corpus / "either" / "log" / "cleaning").exists()
    subprocess.run([sys.executable, "-c", script], check=True)
    catprune.clean(**{**options, "out": str(corpus / "either-whole")})
    assert contents(corpus / "either") == contents(corpus / "either-whole")
