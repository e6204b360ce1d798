"""Lines of held-out sets that are in the training text."""

from __future__ import annotations

from pathlib import Path

import catprune
import pytest
from catprune.corpus.bitexts import Bitext
from catprune.evaluation.contained import count_contained


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    pairs = [(f"this is the sentence number {n}", f"dies ist der Satz mit der Nummer {n}") for n in range(50)]
    pairs += [("Yes.", "Ja, das ist so."), ("a b c d e f g h i j k l m n", "zu kurz")]  # the last one is dropped
    for place, language in enumerate(("en", "de")):
        (tmp_path / f"a.{language}").write_text("".join(f"{pair[place]}\n" for pair in pairs))
    return catprune.clean([tmp_path / "a.en", tmp_path / "a.de"], out=tmp_path / "clean", quiet=True).folder or tmp_path


def test_a_line_counts_once_by_either_side(clean: Path) -> None:
    source = (
        "this is the sentence number 3",
        "new",
        " this is the sentence number 4\t",
        "Yes.",
        "a b c d e f g h i j k l m n",
    )
    target = ("dies ist der Satz mit der Nummer 3", "dies ist der Satz mit der Nummer 9", "neu", "Nein.", "neu")
    test = Bitext("test", source, target, {})
    assert count_contained(clean, [test, Bitext("dev", ("x",), ("y",), {})]) == {"test": 3, "dev": 0}


def test_a_long_line_of_letters_of_another_script_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("the cat sits on the mat\n")
    (tmp_path / "a.zh").write_text("这只猫正坐在那个垫子上面睡觉\n")
    done = catprune.clean(
        [tmp_path / "a.en", tmp_path / "a.zh"], out=tmp_path / "clean", source_lang="en", target_lang="zh", quiet=True
    )
    assert done.kept == 1
    assert count_contained(tmp_path / "clean", [Bitext("t", ("other",), ("这只猫正坐在那个垫子上面睡觉",), {})]) == {
        "t": 1
    }
