"""Test sets that a corpus must not hold: how they are named, and what a plan says of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from catprune._core import digest_file
from catprune.corpus.inputs import format_of
from catprune.corpus.templates import expand, expand_pairs, find_sides
from catprune.errors import CatpruneError, UsageError
from catprune.workspace.files import relative_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catprune.boundary import Excluded, TestSet


def parse_test_sets(names: Sequence[str | Path]) -> list[TestSet]:
    """Each name is a text file of one segment a line, or a template like `newstest.{en,de}`; or has wildcards.

    Returns:
        For each test set `{"source", "target"}`, paths absolute; the target of a lone file is None.

    Raises:
        UsageError: one name instead of a list, a name twice, or a file that is not one of lines.
    """
    if isinstance(names, str | Path):
        raise UsageError(f"exclude = {names} is one name: give a list of test sets")
    sets: list[TestSet] = []
    for name in map(str, names):
        sides = find_sides(name)
        for source, target in expand_pairs(name, list(sides)) if sides else [(one, None) for one in expand(name)]:
            if found := format_of(source):
                raise UsageError(
                    f"{name}: a test set is text, one segment a line, and not {found}: write its sides as text"
                )
            one: TestSet = {"source": str(Path(source).absolute()), "target": target and str(Path(target).absolute())}
            if one in sets:
                raise UsageError(f"{source} is excluded twice")
            sets.append(one)
    return sets


def test_set_paths(one: TestSet) -> list[str]:
    """The files of a test set, source first."""
    return [path for path in (one["source"], one.get("target")) if path is not None]


def digest_test_sets(sets: Sequence[TestSet], folder: Path) -> list[list[dict[str, str]]]:
    """What a plan in `folder` says of the files of each test set: relative path and xxh3-128.

    Raises:
        OSError: a file cannot be read.
    """
    return [
        [{"path": relative_place(path, folder), "digest": digest_file(path)} for path in test_set_paths(one)]
        for one in sets
    ]


def check_test_sets(found: Sequence[Excluded], planned: Sequence[list[dict[str, str]]]) -> None:
    """Compare what a pass read with the plan.

    Raises:
        CatpruneError: a file changed between the two.
    """
    for one, files in zip(found, planned, strict=True):
        for read, file in zip(one["files"], files, strict=True):
            if read["digest"] != file["digest"]:
                raise CatpruneError(f"{read['path']} changed while it was read: clean again")
