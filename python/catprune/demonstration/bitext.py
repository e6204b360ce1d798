"""The demo's English-German bitext: sentences of `grammar` with planted faults of known kinds."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from catprune.demonstration.grammar import pick, sentence
from catprune.errors import UsageError
from catprune.workspace.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Share of each planted fault; the other pairs are clean. Real web crawls have more faults.
SHARES = {"duplicate": 0.08, "untranslated": 0.08, "misaligned": 0.12, "truncated": 0.06}
KINDS = ("clean", *SHARES)
_MAX_PAIRS = 50_000  # the grammar cannot produce many more different sentences


@dataclass(frozen=True, slots=True)
class DemoBitext:
    """The files of a demo bitext, and the number of training pairs of each kind."""

    folder: Path
    source: Path
    target: Path
    kinds: Path
    test_source: Path
    test_target: Path
    test_pairs: int
    counts: Mapping[str, int] = field(hash=False)


class _Sentences:
    """A generator of sentence pairs that never repeats a side."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._used: set[str] = set()

    def draw(self) -> tuple[str, str]:
        while True:
            english, german = sentence(self._random)
            if english not in self._used and german not in self._used:
                self._used |= {english, german}
                return english, german


def _plan(random: Random, pairs: int) -> list[str]:
    """Return the kind of every row, shuffled; the first is clean, so that every duplicate can have an original."""
    faults = [kind for kind, share in SHARES.items() for _ in range(round(share * pairs))]
    kinds = ["clean"] * (pairs - len(faults)) + faults
    order = sorted(range(1, pairs), key=lambda _: random.random())
    return ["clean", *(kinds[place] for place in order)]


def _left_in_english(random: Random, english: str) -> str:
    """Return the source as its translation: half unchanged, half with a small change that hides the copy."""
    drawn = random.random()
    words = english.split()
    if drawn < 0.5 or len(words) < 4:
        return english
    place = 1 + int(random.random() * (len(words) - 2))
    if drawn < 0.67:
        del words[place]
    elif drawn < 0.84:
        words[place] = words[place].upper()
    else:
        words[0], words[place] = words[place].capitalize(), words[0].lower()
    return " ".join(words)


def _cut(random: Random, german: str) -> str:
    """Return the first 30% to 70% of the words, at least one but not all."""
    words = german.split()
    return " ".join(words[: max(1, int(len(words) * (0.3 + 0.4 * random.random())))])


def _other_target(fresh: _Sentences, german: str) -> str:
    """Return another target of nearly the same length, so that no rule on lengths finds the fault."""
    while True:
        _, other = fresh.draw()
        if abs(len(other.split()) - len(german.split())) <= 1:
            return other


def _train_pairs(random: Random, fresh: _Sentences, kinds: Sequence[str]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    clean: list[tuple[str, str]] = []
    for kind in kinds:
        if kind == "duplicate":
            pairs.append(pick(random, clean))
            continue
        english, german = fresh.draw()
        if kind == "clean":
            clean.append((english, german))
        elif kind == "untranslated":
            german = _left_in_english(random, english)
        elif kind == "misaligned":
            german = _other_target(fresh, german)
        else:
            german = _cut(random, german)
        pairs.append((english, german))
    return pairs


def write_demo_bitext(folder: Path, *, pairs: int = 6000, test_pairs: int = 300, seed: int = 1) -> DemoBitext:
    """Write train.en, train.de, train.kind (one of `KINDS` per line), test.en and test.de into `folder`.

    The test pairs are clean, and their sides do not occur in the training files; they depend only on the seed.
    The same arguments give the same bytes on every platform.

    Args:
        folder: created if missing; the five files are replaced.
        pairs: number of training pairs, including planted faults (20 to 50,000).
        test_pairs: number of held-out pairs.
        seed: random seed.

    Raises:
        UsageError: `pairs` or `test_pairs` is out of range.
    """
    if not (20 <= pairs <= _MAX_PAIRS and 1 <= test_pairs <= _MAX_PAIRS):
        raise UsageError(f"a demo bitext has 20 to {_MAX_PAIRS} pairs and at least one test pair")
    random = Random(seed)
    fresh = _Sentences(random)
    test = [fresh.draw() for _ in range(test_pairs)]
    kinds = _plan(random, pairs)
    train = _train_pairs(random, fresh, kinds)
    columns = {
        "train.en": [english for english, _ in train],
        "train.de": [german for _, german in train],
        "train.kind": kinds,
        "test.en": [english for english, _ in test],
        "test.de": [german for _, german in test],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in columns.items():
        write_whole(folder / name, "".join(line + "\n" for line in lines).encode())
    return DemoBitext(
        folder=folder,
        source=folder / "train.en",
        target=folder / "train.de",
        kinds=folder / "train.kind",
        test_source=folder / "test.en",
        test_target=folder / "test.de",
        test_pairs=test_pairs,
        counts={kind: kinds.count(kind) for kind in KINDS},
    )
