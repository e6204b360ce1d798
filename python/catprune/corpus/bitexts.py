"""Dev and test sets: two files of equal length, or one with both sides; read whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from catprune._core import digest_file, read_test_set
from catprune.corpus.test_sets import describe_test_set
from catprune.errors import CatpruneError


@dataclass(frozen=True, slots=True)
class TestSet:
    """A held-out bitext: two files of lines or SGML, or one file with both sides (TSV, XML); its name in the tables."""

    __test__: ClassVar[bool] = False  # its name is no invitation to pytest
    name: str
    source: Path
    target: Path | None = None

    def read(self) -> Bitext:
        """Read both sides; of several references the first.

        Raises:
            CatpruneError: a file that is missing, empty or not UTF-8, or sides of unequal length.
        """
        files = {"source": self.source} | ({} if self.target is None else {"target": self.target})
        try:
            text = read_test_set(describe_test_set(self.source, self.target))
            digests = {side: digest_file(str(path)) for side, path in files.items()}
        except FileNotFoundError as error:
            raise CatpruneError(f"{error.filename} does not exist: give the files of a held-out set") from None
        source, target = text["source"], text["target"]
        if len(source) != len(target):
            raise CatpruneError(
                f"{self.source} has {len(source)} lines, {self.target or 'its target'} has {len(target)}: a held-out "
                "set needs pairs"
            )
        return Bitext(self.name, tuple(source), tuple(target), digests)


@dataclass(frozen=True, slots=True)
class Bitext:
    """The lines of a held-out set, and the digests of its files by side."""

    name: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    digests: dict[str, str]
