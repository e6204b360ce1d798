"""Dev and test sets: two line-aligned files each, read whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from catprune._core import digest_file
from catprune.errors import CatpruneError


@dataclass(frozen=True, slots=True)
class TestSet:
    """A held-out bitext: two line-aligned files, plain, gzip or zstd, and a name for the tables."""

    __test__: ClassVar[bool] = False  # its name is no invitation to pytest
    name: str
    source: Path
    target: Path

    def read(self) -> Bitext:
        """Read both files.

        Raises:
            CatpruneError: a file that is missing, empty or not UTF-8, or sides of unequal length.
        """
        source, target = read_lines(self.source), read_lines(self.target)
        if len(source) != len(target):
            raise CatpruneError(
                f"{self.source} has {len(source)} lines, {self.target} has {len(target)}: a held-out set needs pairs"
            )
        if not source:
            raise CatpruneError(f"{self.source} is empty: a held-out set needs lines")
        digests = {"source": digest_file(str(self.source)), "target": digest_file(str(self.target))}
        return Bitext(self.name, tuple(source), tuple(target), digests)


@dataclass(frozen=True, slots=True)
class Bitext:
    """The lines of a held-out set, and the digests of its files by side."""

    name: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    digests: dict[str, str]


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, plain or compressed; only line feeds end a line.

    The core's reader would drop lines that it cannot read. Here every line must stay, or an error name the line, since
    systems are compared line by line. A held-out set fits into memory.
    """
    import pyarrow

    try:
        with pyarrow.input_stream(str(path), compression="detect") as stream:
            text = stream.read().decode("utf-8-sig")
    except FileNotFoundError:
        raise CatpruneError(f"{path} does not exist: give the two files of a held-out set") from None
    except UnicodeDecodeError as error:
        raise CatpruneError(f"{path} is not UTF-8 (byte {error.start}): convert the held-out set") from None
    except OSError as error:
        raise CatpruneError(f"{path} cannot be read ({error}): is it cut off?") from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
