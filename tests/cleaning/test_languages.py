"""Languages of the two sides: the same twice, and files in the wrong order."""

from __future__ import annotations

import gzip
from pathlib import Path

import catprune
import pytest
from catprune import UsageError
from catprune.cleaning.summary import summary

SWAPPED = "end in the languages of the other side"


def first_line(done: catprune.Cleaned) -> str:
    return summary(done)[0]


def write(folder: Path, *names: str) -> list[Path]:
    for name in names:
        data = b"a line of text\n"
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return [folder / name for name in names]


@pytest.mark.parametrize(
    ("names", "languages"),
    [
        (("a.de", "a.en"), ("en", "de")),
        (("a.DE.gz", "a.en.gz"), ("en-GB", "deu")),
        (("a.deu_Latn", "a.eng_Latn"), ("en", "de")),
    ],
)
def test_swapped_files_are_a_warning_and_swapped_outputs_are_refused(
    tmp_path: Path, names: tuple[str, str], languages: tuple[str, str]
) -> None:
    files = write(tmp_path, *names)
    source, target = languages
    assert SWAPPED in first_line(catprune.clean(files, dry_run=True, source_lang=source, target_lang=target))
    assert SWAPPED not in first_line(catprune.clean(files, dry_run=True, source_lang=target, target_lang=source))
    assert SWAPPED not in first_line(catprune.clean(files, dry_run=True))
    swapped = [tmp_path / f"p.{name.partition('.')[2].removesuffix('.gz')}" for name in names]
    with pytest.raises(UsageError, match=SWAPPED):
        catprune.prune(files, swapped, out=tmp_path / "run", source_lang=source, target_lang=target)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("names", [("a.de", "b.txt"), ("a.1", "a.2"), ("en", "de"), ("a.de", "b.fr")])
def test_other_names_say_nothing(tmp_path: Path, names: tuple[str, str]) -> None:
    catprune.clean(write(tmp_path, *names), dry_run=True, source_lang="en", target_lang="de")


@pytest.mark.parametrize(("source", "target", "alike"), [("de", "deu", True), ("en-GB", "en-US", False)])
def test_the_same_language_twice_is_a_warning(tmp_path: Path, source: str, target: str, *, alike: bool) -> None:
    done = catprune.clean(write(tmp_path, "a.1", "a.2"), dry_run=True, source_lang=source, target_lang=target)
    warning = f"warning: source_lang and target_lang are both {source}: give the language of each side"
    assert (warning in done.manifest["notes"]) is alike
