"""Near duplicates: clusters equal the oracle's on hostile text, for any threads and memory; recall is as documented."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import catprune
import pytest
from catprune import UsageError
from catprune.cleaning.minhash_options import choose_bands, choose_near, compared
from catprune.cleaning.options import NearDuplicates
from hypothesis import given
from hypothesis import strategies as st
from support import oracles, oracles_near
from support.cleaned import read, reasons
from support.near import LOOSE, SENTENCE, near_of

pytestmark = pytest.mark.usefixtures("any_memory")

LOOSE |= {"keep_identical": True, "keep_control_characters": True}


def survivors(folder: Path, paths: Any) -> dict[int, tuple[str, str]]:
    """The pairs that pass rules and exact duplicates."""
    sides = [oracles.lines(path.read_bytes()) for path in paths]
    left = [row for row, names in enumerate(reasons(folder)) if names <= {"near_duplicate"}]
    return {row: (sides[0][row].decode(), sides[1][row].decode()) for row in left}


@given(
    pairs=st.lists(st.tuples(SENTENCE, SENTENCE), min_size=1, max_size=30),
    key=st.sampled_from(["pair", "source", "target"]),
    near=st.sampled_from(
        [
            {"threshold": 0.5, "permutations": 64},
            {"threshold": 0.7, "permutations": 48, "shingles": "words", "shingle_size": 1},
            {"threshold": 0.3, "permutations": 150, "bands": 40, "shingle_size": 3},
        ]
    ),
    duplicates=st.sampled_from(["pair", "none"]),
)
def test_clusters_are_the_oracles(
    tmp_path: Path, pair: Any, pairs: list[tuple[str, str]], key: str, near: dict[str, Any], duplicates: str
) -> None:
    paths = pair(*("".join(pair[side] + "\n" for pair in pairs).encode() for side in (0, 1)))
    options = choose_near(key, NearDuplicates(**near))
    assert options is not None
    common: dict[str, Any] = {"duplicates": duplicates, "near_duplicates": key, "near": near, "rules": LOOSE}
    shutil.rmtree(tmp_path / "clean", ignore_errors=True)
    # So little memory that the rows fall into ranges of eight and the buckets into parts.
    done = catprune.clean(paths, out=tmp_path / "clean", memory=47_936_000, threads=2, **common)
    expected = oracles_near.clusters(survivors(tmp_path / "clean", paths), options)
    assert near_of(tmp_path / "clean") == expected
    assert done.reasons["near_duplicate"] == len(expected)
    assert done.kept == sum(not names for names in reasons(tmp_path / "clean")) == done.manifest["inputs"][0]["kept"]


def mutated(pairs: int, *, seed: int) -> list[tuple[str, str]]:
    """Sentences of random words; two of three repeat an earlier sentence with some words replaced."""
    draw = random.Random(seed)
    vocabulary = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyzäöß", k=draw.randint(2, 9))) for _ in range(3000)]
    changed: list[tuple[list[str], list[str]]] = []
    for _ in range(pairs):
        sides = tuple(draw.choices(vocabulary, k=draw.randint(8, 20)) for _ in range(2))
        if changed and draw.random() < 0.67:
            sides = tuple(list(side) for side in draw.choice(changed[-200:]))
            for side in sides:
                for place in draw.sample(range(len(side)), k=min(len(side), draw.randint(0, 3))):
                    side[place] = draw.choice(vocabulary)
        changed.append((sides[0], sides[1]))
    return [(" ".join(source), " ".join(other)) for source, other in changed]


def write(folder: Path, pairs: list[tuple[str, str]]) -> list[Path]:
    paths = [folder / "text.en", folder / "text.de"]
    for side, path in enumerate(paths):
        path.write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
    return paths


def test_threads_and_memory_do_not_show(tmp_path: Path) -> None:
    pairs = mutated(9000, seed=1)
    paths = write(tmp_path, pairs)
    tags = tmp_path / "tags"
    tags.write_text("".join(f"{row % 3}\n" for row in range(9000)))
    near = {"threshold": 0.6}
    for name, threads, memory in (("one", 1, 2**30), ("two", 2, 2**30), ("eight", 8, 2**30), ("tight", 3, 48_200_000)):
        out = tmp_path / name
        options = {"tags": tags, "near_duplicates": "pair", "near": near, "duplicates": "none"}
        done = catprune.clean(paths, out=out, threads=threads, memory=memory, **options)
        assert 1000 < done.reasons["near_duplicate"] < 8000
        tallies = done.manifest["counts"]["tags"].values()
        assert sum(tally["kept"] for tally in tallies) == done.kept == read(out)["reasons"].count(0)
        for example in done.manifest["examples"]["near_duplicate"]:
            assert (example["source"], example["target"]) == tuple(side[:200] for side in pairs[example["row"]])
        for path in sorted((tmp_path / "one").rglob("*")):
            if path.is_file() and "log" not in path.parts:
                assert (out / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes(), path
        assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "one").iterdir())


def test_recall_and_precision(tmp_path: Path) -> None:
    """Nearly all pairs clearly above the threshold are found, and nearly none clearly below."""
    pairs = mutated(6000, seed=2)
    paths = write(tmp_path, pairs)
    catprune.clean(paths, out=tmp_path / "clean", near_duplicates="pair", duplicates="none", rules=LOOSE)
    clusters = near_of(tmp_path / "clean")
    label = {row: clusters.get(row, row) for row in range(len(pairs))}
    shingles_of = {"unit": "characters", "size": 5}
    draw, above, below = random.Random(3), [], []
    for row in draw.sample(range(200, len(pairs)), 800):
        other = max(range(row - 200, row), key=lambda other: len({*pairs[row][0].split()} & {*pairs[other][0].split()}))
        alike = oracles_near.similarity(pairs[row], pairs[other], key="pair", shingles_of=shingles_of)
        if alike >= 0.92:
            above.append(label[row] == label[other])
        elif alike <= 0.5:
            below.append(label[row] == label[other])
    assert len(above) > 40 and len(below) > 150
    assert sum(above) >= 0.97 * len(above)
    # Rows with different text may be in one cluster through rows between them.
    assert sum(below) <= 0.05 * len(below)


BANDS = ["0xe58044b62f70adbb", "0xabea150d25d2f55e", "0xf65a144d40148bab"]
SKETCH = "0x9c64345f39"


def test_signatures_equal_recorded_values() -> None:
    """The Rust tests have the same values."""
    options = choose_near("pair", NearDuplicates(permutations=40, bands=3))
    assert options is not None
    bands, sketch = oracles_near.signature(("Ein Haus am See.", "a House"), options) or ([], 0)
    assert [*map(hex, bands)] == BANDS
    assert hex(sketch) == SKETCH


def test_killed_in_the_middle_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    paths = write(tmp_path, mutated(1000, seed=4) * 60)
    options = {"near_duplicates": "pair", "duplicates": "none", "threads": 2, "quiet": True}
    call = f"import catprune; catprune.clean({[*map(str, paths)]!r}, out={str(tmp_path / 'again')!r}, **{options!r})"
    process = subprocess.Popen([sys.executable, "-c", call])
    while not [*(tmp_path / "again").glob("columns/part-*.parquet")]:
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (tmp_path / "again" / "manifest.json").exists()
    subprocess.run([sys.executable, "-c", call], check=True)
    catprune.clean(paths, out=tmp_path / "whole", **options)
    whole = [path for path in (tmp_path / "whole").rglob("*") if path.is_file() and "log" not in path.parts]
    for path in whole:
        assert (tmp_path / "again" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes(), path
    assert len([*(tmp_path / "again").rglob("part-*")]) == len([path for path in whole if path.name[:5] == "part-"])


def test_bands_follow_from_the_threshold() -> None:
    chosen = {threshold: choose_bands(threshold, permutations=128) for threshold in (0.5, 0.7, 0.8, 0.9)}
    assert chosen == {0.5: 42, 0.7: 21, 0.8: 16, 0.9: 9}
    for threshold, bands in chosen.items():
        assert compared(threshold, bands=bands, rows=128 // bands) >= 0.9
        assert compared(threshold, bands=128 // (128 // bands + 1), rows=128 // bands + 1) < 0.9


def test_usage(tmp_path: Path) -> None:
    for key, near, message in (
        ("both", {}, "near_duplicates = 'both'"),
        ("pair", {"threshold": 1.0}, "near threshold = 1.0"),
        ("pair", {"permutations": 8}, "permutations = 8: give a whole number, at least 16"),
        ("pair", {"bands": 129}, "near bands = 129: give a whole number from 1 to 128"),
        ("pair", {"shingles": "letters"}, "shingles = 'letters': give one of characters, words"),
        ("pair", {"shingle_size": 0}, "shingle_size = 0"),
        ("pair", {"treshold": 0.5}, "near: there is no option treshold; did you mean threshold"),
        ("none", {"threshold": 0.5}, "near threshold is given without near_duplicates"),
    ):
        with pytest.raises(UsageError, match=message):
            catprune.clean(["a", "b"], out=tmp_path / "clean", near_duplicates=key, near=near)
    assert choose_near("none", NearDuplicates()) is None and choose_near("none", None) is None
