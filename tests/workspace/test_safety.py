"""Safety: inputs, other people's files, rows of another corpus and column orders are never lost or mixed up."""

from __future__ import annotations

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import catprune
import pytest
from catprune import CatpruneError, UsageError
from catprune.workspace.files import write_whole


@pytest.fixture
def cleaned(tmp_path: Path, pair: Any) -> Path:
    paths = pair(b"ein Haus\nein Hund\neine Maus\n", b"a house\na dog\na mouse\n")
    catprune.clean(paths, out=tmp_path / "clean")
    catprune.select(tmp_path / "clean", out=tmp_path / "half", method="random", keep=2, quiet=True)
    return tmp_path / "clean"


def test_an_output_is_never_an_input_under_any_name(tmp_path: Path, cleaned: Path) -> None:
    text = (tmp_path / "text.en").read_bytes()
    (tmp_path / "sub").mkdir()
    (tmp_path / "hard").hardlink_to(tmp_path / "text.en")
    for name in ("sub/../text.en", "hard"):
        with pytest.raises(UsageError, match="is an input"):
            catprune.write(cleaned, [tmp_path / name, tmp_path / "p.de"], force=True)
    assert (tmp_path / "text.en").read_bytes() == text


def test_drafts_and_records_take_nothing_of_anybody(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"ein Haus\nein Hund\n", b"a house\na dog\n", name="q")
    inputs = [path.rename(path.with_name(f"{path.name}.tmp")) for path in paths]
    catprune.clean(inputs, out=tmp_path / "clean")
    outputs = [tmp_path / "q.en", tmp_path / "q.de"]
    for force in (False, True):
        with pytest.raises(UsageError, match=r"q\.en\.tmp is an input"):
            catprune.write(tmp_path / "clean", outputs, force=force)
    assert inputs[0].read_bytes() == b"ein Haus\nein Hund\n"
    (tmp_path / "p.de.tmp").write_text("mine")
    with pytest.raises(CatpruneError, match=r"p\.de\.tmp exists"):
        catprune.write(tmp_path / "clean", [tmp_path / "p.en", tmp_path / "p.de"])
    assert (tmp_path / "p.de.tmp").read_text() == "mine"
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "s.en.tmp").symlink_to(tmp_path / "victim")
    for names in (["s.en", "s.de"], ["z.en", "z.en.catprune.json"], ["z.en", "z.en.tmp"]):
        with pytest.raises(UsageError, match=r"is a link|written twice|give that suffix"):
            catprune.write(tmp_path / "clean", [tmp_path / name for name in names], force=True)
    assert (tmp_path / "victim").read_text() == "mine"
    (tmp_path / "r.en.catprune.json").symlink_to(inputs[0])
    with pytest.raises(UsageError, match="is a link"):
        catprune.write(tmp_path / "clean", [tmp_path / "r.en", tmp_path / "r.de"])


def test_tags_are_an_input_too(tmp_path: Path, pair: Any) -> None:
    (tmp_path / "tags").write_text("a\nb\n")
    catprune.clean(pair(b"ein Haus\nein Hund\n", b"a house\na dog\n"), out=tmp_path / "clean", tags=tmp_path / "tags")
    with pytest.raises(UsageError, match="tags is an input"):
        catprune.write(tmp_path / "clean", [tmp_path / "tags", tmp_path / "p.de"], force=True)


def test_a_selection_of_a_corpus_that_was_cleaned_again_is_refused(tmp_path: Path, cleaned: Path, pair: Any) -> None:
    paths = pair(b"neu\nein Haus\nein Hund\neine Maus\n", b"new\na house\na dog\na mouse\n")
    catprune.clean(paths, out=cleaned, force=True)
    with pytest.raises(CatpruneError, match="which changed since"):
        catprune.write(cleaned, [tmp_path / "p.en", tmp_path / "p.de"], selection=tmp_path / "half")
    assert not (tmp_path / "p.en").exists()


def test_force_removes_only_files_of_the_step(tmp_path: Path, cleaned: Path) -> None:
    paths = [tmp_path / "text.en", tmp_path / "text.de"]
    (cleaned / "notes.txt").write_text("mine")
    with pytest.raises(CatpruneError, match=r"`clean` did not make .*notes\.txt"):
        catprune.clean(paths, out=cleaned, rules={"max_words": 9}, force=True)
    assert (cleaned / "notes.txt").read_text() == "mine"
    with pytest.raises(CatpruneError, match="holds the work of `clean`"):
        catprune.tokenize(cleaned, out=cleaned, force=True)
    assert list(cleaned.glob("columns/part-*"))


def test_damaged_columns_are_noticed_and_redone_by_force(tmp_path: Path, cleaned: Path) -> None:
    shard = next((tmp_path / "half").glob("columns/part-*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:70] + bytes([whole[70] ^ 0x55]) + whole[71:])
    outputs = [tmp_path / "p.en", tmp_path / "p.de"]
    with pytest.raises(CatpruneError, match="was changed since it was written"):
        catprune.write(cleaned, outputs, selection=tmp_path / "half")
    catprune.select(cleaned, out=tmp_path / "half", method="random", keep=2, force=True, quiet=True)
    assert shard.read_bytes() == whole
    assert catprune.write(cleaned, outputs, selection=tmp_path / "half").pairs == 2


def test_a_mixed_corpus_has_one_order_of_columns(tmp_path: Path, pair: Any) -> None:
    pair(b"vier fuenf\n", b"four five\n", name="m")
    (tmp_path / "t.tsv").write_bytes(b"one two\tein zwei\tmore\n")
    catprune.clean([tmp_path / "m.{de,en}", tmp_path / "t.tsv"], out=tmp_path / "mixed", columns=(2, 1))
    catprune.write(tmp_path / "mixed", [tmp_path / "all.tsv"])
    lines = (tmp_path / "all.tsv").read_text().splitlines()
    assert lines == ["four five\tvier fuenf", "ein zwei\tone two"]


def test_writers_of_one_file_take_turns_and_replace_leftovers_of_a_killed_writer(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    (tmp_path / "manifest.json.tmp").write_bytes(b"half of a much longer text" * 100_000)
    texts = [bytes([65 + writer]) * 1000 * (writer + 1) for writer in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda turn: write_whole(path, texts[turn % 8]), range(200)):
            assert path.read_bytes() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_waits_for_the_folders_of_all_its_outputs(tmp_path: Path, cleaned: Path) -> None:
    outputs = [tmp_path / "x/p.en", tmp_path / "y/p.de"]
    for number in range(2):
        for path in outputs:
            path.parent.mkdir(exist_ok=True)
        with ThreadPoolExecutor(1) as pool:
            handle = os.open(outputs[number].parent, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                waiting = pool.submit(catprune.write, cleaned, outputs, quiet=True)
                with pytest.raises(TimeoutError):
                    waiting.result(timeout=0.5)
                assert not any(path.exists() for path in outputs)
            finally:
                os.close(handle)
            assert waiting.result(timeout=60).pairs == 3
        for path in (*outputs, tmp_path / "x/p.en.catprune.json"):
            path.unlink()


def test_writes_that_share_one_output_never_lose_it(tmp_path: Path, cleaned: Path) -> None:
    shared = tmp_path / "y/p.de"
    shared.parent.mkdir()
    (tmp_path / "x").mkdir()

    def write(outputs: list[Path]) -> bool:
        try:
            catprune.write(cleaned, outputs, quiet=True)
        except CatpruneError as error:
            assert "exists: give another name" in str(error)
            return False
        return True

    for _ in range(5):
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(write, [[tmp_path / "x/p.en", shared], [shared, tmp_path / "y/q.en"]]))
        assert done.count(True) == 1
        assert shared.read_bytes().count(b"\n") == 3
        for path in [*(tmp_path / "x").iterdir(), *(tmp_path / "y").iterdir()]:
            path.unlink()
