"""The pass `rare_words` against a few lines of Python."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from catprune import _core
from catprune.errors import CatpruneError

if TYPE_CHECKING:
    from pathlib import Path


def request(folder: Path, targets: list[str], kept: list[int], selections: list[list[int]], threads: int) -> Any:
    paths = [folder / "text.en", folder / "text.de"]
    for path, lines in zip(paths, (["one source"] * len(targets), targets), strict=True):
        path.write_text("".join(line + "\n" for line in lines))
    return {
        "corpus": {"inputs": [{"format": "moses", "source": str(paths[0]), "target": str(paths[1])}]},
        "kept": {"rows": kept},
        "selections": [{"rows": rows} for rows in selections],
        "rare": 3,
        "threads": threads,
    }


@pytest.mark.parametrize("seed", range(5))
def test_counts_equal_the_oracles(tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed)
    names = [f"wort{number}" for number in range(400)]
    weights = [1 / (place + 1) for place in range(len(names))]
    targets = [" ".join(chosen.choices(names, weights, k=chosen.randint(0, 9))) for _ in range(300)]
    kept = sorted(chosen.sample(range(300), 200))
    selections = [sorted(chosen.sample(kept, size)) for size in (100, 7, 0)]
    counts = Counter(word for row in kept for word in targets[row].split())
    groups = [
        set(counts),
        {word for word in counts if counts[word] == 1},
        {word for word in counts if counts[word] <= 3},
    ]
    selected = [{word for row in rows for word in targets[row].split()} for rows in selections]
    expected = {
        "halvings": 0,
        "words": [len(group) for group in groups],
        "selected": [[len(group & words) for group in groups] for words in selected],
    }
    for threads in (1, 3):
        assert _core.rare_words(request(tmp_path, targets, kept, selections, threads)) == expected


def test_many_words_are_sampled_alike_with_any_threads(tmp_path: Path) -> None:
    targets = [" ".join(f"w{row * 20 + place}" for place in range(20)) for row in range(20_000)]
    targets += targets[:5_000]  # these words occur twice
    rows = list(range(len(targets)))
    asked = request(tmp_path, targets, rows, [rows[::2]], 1)
    found = _core.rare_words(asked)
    assert found["halvings"] >= 2
    scale = 2 ** found["halvings"]
    assert found["words"][0] * scale == pytest.approx(400_000, rel=0.02)
    assert found["words"][1] * scale == pytest.approx(300_000, rel=0.02)
    # Of words that occur once, half are in every other row; copies of even rows are even, too.
    assert found["selected"][0][1] / found["words"][1] == pytest.approx(0.5, abs=0.02)
    assert _core.rare_words({**asked, "threads": 4}) == found


def test_too_many_selections_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CatpruneError, match="at most 64 selections"):
        _core.rare_words(request(tmp_path, ["a"], [0], [[0]] * 65, 1))
