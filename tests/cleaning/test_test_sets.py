"""Decontamination: pairs that are in a test set are dropped and counted; a changed test set changes the plan."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import catprune
import pytest
from catprune import CatpruneError, UsageError
from catprune.cleaning.summary import summary
from hypothesis import given
from hypothesis import strategies as st
from support import oracles
from support.cleaned import SPICE, reasons

pytestmark = pytest.mark.usefixtures("any_memory")

SIDE = st.lists(st.sampled_from(["ein", "Haus", "a house,", "steht", "42", *SPICE]), max_size=4).map(" ".join)
PAIRS = st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=20)


def long_enough(line: str) -> str | None:
    normal = oracles.normalise(line.removesuffix("\r"))
    return normal if len(normal) >= 10 else None


@given(pairs=PAIRS, two=PAIRS, source_lines=st.lists(SIDE, min_size=1, max_size=8), threads=st.sampled_from([1, 3]))
def test_pairs_are_the_oracles(
    tmp_path: Path, pair: Any, pairs: Any, two: Any, source_lines: list[str], threads: int
) -> None:
    paths = pair(*("".join(sides[side] + "\n" for sides in pairs).encode() for side in (0, 1)))
    pair(*("".join(sides[side] + "\n" for sides in two).encode() for side in (0, 1)), name="test")
    (tmp_path / "lone.txt").write_bytes("".join(line + "\n" for line in source_lines).encode())
    shutil.rmtree(tmp_path / "clean", ignore_errors=True)
    exclude = [tmp_path / "test.{en,de}", tmp_path / "lone.txt"]
    done = catprune.clean(paths, out=tmp_path / "clean", exclude=exclude, threads=threads)
    segments = [{long_enough(sides[side]) for sides in two} - {None} for side in (0, 1)]
    either = {long_enough(line) for line in source_lines} - {None}
    expected, counts = [], [0, 0]
    for pair_of_texts in pairs:
        sides = [long_enough(side) for side in pair_of_texts]
        stands = [
            any(side in of for side, of in zip(sides, segments, strict=True)),
            any(side in either for side in sides),
        ]
        expected.append(any(stands))
        counts = [count + stand for count, stand in zip(counts, stands, strict=True)]
    assert ["excluded" in names for names in reasons(tmp_path / "clean")] == expected
    assert [test_set["pairs"] for test_set in done.manifest["excluded"]] == counts
    assert [test_set["lines"] for test_set in done.manifest["excluded"]] == [2 * len(two), len(source_lines)]
    short = sum(long_enough(line) is None for sides in two for line in sides)
    assert done.manifest["excluded"][0]["too_short"] == short
    assert done.reasons["excluded"] == sum(expected)


def test_one_sided_test_sets_match_their_side_and_are_reported(tmp_path: Path, pair: Any) -> None:
    paths = pair(
        b"EIN haus am see!\nein Mann\na house by the lake\nein Hund im Garten\n",
        b"a villa by a lake\na man\nein Haus am See\na dog in a garden\n",
    )
    pair(b"Ein Haus am See.\nein Mann\n", b"A house by the lake.\na man\n", name="test")
    (tmp_path / "lone.gz").write_bytes(gzip.compress(b"A  Dog in a garden"))
    done = catprune.clean(paths, out=tmp_path / "clean", exclude=[str(tmp_path / "test.{en,de}"), tmp_path / "lone.gz"])
    assert reasons(tmp_path / "clean") == [{"excluded"}, set(), set(), {"excluded"}]
    lines = summary(done, examples=0)
    assert lines[-2].startswith("1 pairs are in ") and "test.en and " in lines[-2]
    assert lines[-2].endswith("test.de (4 lines, 2 of them too short to match)")
    assert lines[-1].endswith("lone.gz (1 lines)")


def test_a_changed_test_set_is_another_plan(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"ein Haus am See\n", b"a house by a lake\n")
    (tmp_path / "test").write_text("ein Haus am Fluss\n")
    assert catprune.clean(paths, out=tmp_path / "clean", exclude=[tmp_path / "test"]).kept == 1
    (tmp_path / "test").write_text("ein Haus am See\n")
    with pytest.raises(CatpruneError, match=r"other inputs \(exclude 1\.1 changed since"):
        catprune.clean(paths, out=tmp_path / "clean", exclude=[tmp_path / "test"])
    assert catprune.clean(paths, out=tmp_path / "clean", exclude=[tmp_path / "test"], force=True).kept == 0


def test_wildcards_name_test_sets_as_they_name_inputs(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"ein Haus am See\nein Baum im Wald\nein Hund im Hof\n", b"a house\na tree\na dog\n")
    for year, line in (("2013", b"ein Haus am See\n"), ("2014", b"ein Baum im Wald\n")):
        pair(line, b"another text\n", name=f"test{year}")
    done = catprune.clean(paths, out=tmp_path / "clean", exclude=[tmp_path / "test*.{en,de}"])
    assert done.reasons["excluded"] == 2
    assert [test_set["pairs"] for test_set in done.manifest["excluded"]] == [1, 1]
    lone = catprune.clean(paths, dry_run=True, exclude=[tmp_path / "test20??.en"])
    assert lone.reasons["excluded"] == 2
    with pytest.raises(UsageError, match="no such file"):
        catprune.clean(paths, dry_run=True, exclude=[tmp_path / "nowhere*.en"])


def test_invalid_test_sets_are_reported(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"ein Haus am See\n", b"a house by a lake\n")
    pair(b"one line\n", b"eine Zeile\nzwei Zeilen\n", name="test")
    (tmp_path / "latin").write_bytes(b"ein Haus\nein M\xe4dchen am See\n")
    (tmp_path / "long").write_bytes(b"x" * 20_000)
    (tmp_path / "many").write_bytes(b"".join(b"the segment number %d\n" % number for number in range(1000)))
    for exclude, message in (
        ([tmp_path / "test.{en,de}"], r"test\.en has 1 lines, .*test\.de has 2"),
        ([tmp_path / "latin"], r"latin, line 2: the segment is not valid UTF-8"),
        ([tmp_path / "long"], r"long, line 1: the segment is longer than max_line_bytes"),
        ([tmp_path / "many"], r"many: the test sets need more than half of memory"),
    ):
        with pytest.raises(CatpruneError, match=message):
            catprune.clean(paths, out=tmp_path / "clean", exclude=exclude, memory=100_000)
        assert not [*(tmp_path / "clean").rglob("part-*")]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        catprune.clean(paths, out=tmp_path / "other", exclude=[tmp_path / "nowhere"])
    assert not (tmp_path / "other").exists()
    with pytest.raises(UsageError, match="excluded twice"):
        catprune.clean(paths, out=tmp_path / "clean", exclude=[tmp_path / "latin", tmp_path / "latin"])
    with pytest.raises(CatpruneError, match=r"latin, line 2: the segment is not valid UTF-8"):
        catprune.clean(paths, out=tmp_path / "clean", exclude=str(tmp_path / "latin"))
