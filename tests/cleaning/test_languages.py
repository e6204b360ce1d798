"""Languages of the two sides: the same twice, and files in the wrong order."""

from __future__ import annotations

import gzip
from pathlib import Path

import catprune
import pytest
from catprune import UsageError


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
def test_swapped_files_are_refused(tmp_path: Path, names: tuple[str, str], languages: tuple[str, str]) -> None:
    files = write(tmp_path, *names)
    source, target = languages
    with pytest.raises(UsageError, match="end in the languages of the other side"):
        catprune.clean(files, dry_run=True, source_lang=source, target_lang=target)
    with pytest.raises(UsageError, match="end in the languages of the other side"):
        catprune.prune(files, [tmp_path / "p.en", tmp_path / "p.de"], source_lang=source, target_lang=target)
    catprune.clean(files, dry_run=True, source_lang=target, target_lang=source)
    catprune.clean(files, dry_run=True)


@pytest.mark.parametrize("names", [("a.de", "b.txt"), ("a.1", "a.2"), ("en", "de"), ("a.de", "b.fr")])
def test_other_names_say_nothing(tmp_path: Path, names: tuple[str, str]) -> None:
    catprune.clean(write(tmp_path, *names), dry_run=True, source_lang="en", target_lang="de")


@pytest.mark.parametrize(("source", "target", "alike"), [("de", "deu", True), ("en-GB", "en-US", False)])
def test_the_same_language_twice_is_a_warning(tmp_path: Path, source: str, target: str, *, alike: bool) -> None:
    done = catprune.clean(write(tmp_path, "a.1", "a.2"), dry_run=True, source_lang=source, target_lang=target)
    warning = f"warning: source_lang and target_lang are both {source}: give the language of each side"
    assert (warning in done.manifest["notes"]) is alike
