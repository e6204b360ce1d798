"""Test sets that a corpus must not hold: how they are named, and what a plan says of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from catprune._core import digest_file
from catprune.corpus.templates import expand, expand_pairs, find_sides
from catprune.corpus.test_sets import describe_test_set
from catprune.errors import CatpruneError, UsageError
from catprune.workspace.files import relative_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catprune.boundary import Excluded, TestSet


def parse_test_sets(names: Sequence[str | Path]) -> list[TestSet]:
    """Parse names of test sets: files, templates like `newstest.{en,de}`, or wildcards.

    Returns:
        For each test set `{"format", "source", "target"}` with absolute paths; the target of a single file is None.

    Raises:
        UsageError: a name is given instead of a list, or twice, or a file is of a format that is not read.
        OSError: a file cannot be read.
    """
    if isinstance(names, str | Path):
        raise UsageError(f"exclude = {names} is one name: give a list of test sets")
    sets: list[TestSet] = []
    for name in map(str, names):
        sides = find_sides(name)
        for source, target in expand_pairs(name, list(sides)) if sides else [(file, None) for file in expand(name)]:
            test_set = describe_test_set(source, target)
            if test_set in sets:
                raise UsageError(f"{source} is excluded twice: name it once")
            sets.append(test_set)
    return sets


def test_set_paths(test_set: TestSet) -> list[str]:
    """Return the files of a test set, source first."""
    return [path for path in (test_set["source"], test_set.get("target")) if path is not None]


def digest_test_sets(sets: Sequence[TestSet], folder: Path) -> list[list[dict[str, str]]]:
    """Describe the files of each test set for a plan in `folder`: relative path and xxh3-128.

    Raises:
        OSError: a file cannot be read.
    """
    return [
        [{"path": relative_place(path, folder), "digest": digest_file(path)} for path in test_set_paths(test_set)]
        for test_set in sets
    ]


def check_test_sets(excluded: Sequence[Excluded], planned: Sequence[list[dict[str, str]]]) -> None:
    """Compare the files that a pass read with the plan.

    Raises:
        CatpruneError: a file changed since the plan.
    """
    for test_set, files in zip(excluded, planned, strict=True):
        for read, file in zip(test_set["files"], files, strict=True):
            if read["digest"] != file["digest"]:
                raise CatpruneError(f"{read['path']} changed while it was read: clean again")
