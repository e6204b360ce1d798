"""The demo bitext: the grammar, the planted faults, and stable bytes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from catprune._core import digest_bytes
from catprune.demonstration.bitext import KINDS, SHARES, write_demo_bitext
from catprune.demonstration.grammar import (
    Clause,
    Phrase,
    fronted,
    noun_phrase,
    question,
    sentence,
    statement,
    subordinate,
)
from catprune.demonstration.lexicon import ADJECTIVES, NOUNS, VERBS, adjective, determiner
from catprune.errors import UsageError


def read(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_counts_and_kinds(tmp_path: Path) -> None:
    bitext = write_demo_bitext(tmp_path, pairs=500, test_pairs=20, seed=3)
    source, target, kinds = read(bitext.source), read(bitext.target), read(bitext.kinds)
    assert len(source) == len(target) == len(kinds) == 500
    assert dict(bitext.counts) == {kind: kinds.count(kind) for kind in KINDS}
    assert all(bitext.counts[kind] == round(500 * share) for kind, share in SHARES.items())
    assert len(read(bitext.test_source)) == len(read(bitext.test_target)) == bitext.test_pairs == 20


def test_faults_match_their_kinds(tmp_path: Path) -> None:
    bitext = write_demo_bitext(tmp_path, pairs=1000, seed=5)
    rows = list(zip(read(bitext.source), read(bitext.target), read(bitext.kinds), strict=True))
    seen: set[tuple[str, str]] = set()
    sides: set[str] = set()
    copies = 0
    for english, german, kind in rows:
        if kind == "duplicate":
            assert (english, german) in seen, "its original is before it"
            continue
        assert english not in sides, "only a duplicate repeats a source"
        if kind == "clean":
            seen.add((english, german))
        if kind == "truncated":
            assert german[-1] not in ".?" and len(german.split()) < len(english.split()) + 6
        if kind == "untranslated":
            copies += english == german
            assert set(german.lower().split()) <= set(english.lower().split())
        if kind == "misaligned":
            assert german[-1] in ".?"
        sides |= {english, german}
    assert 0 < copies < bitext.counts["untranslated"], "some copies are hidden by a small change"


def test_held_out_pairs_are_unseen_and_do_not_depend_on_the_size(tmp_path: Path) -> None:
    small = write_demo_bitext(tmp_path / "small", pairs=100)
    large = write_demo_bitext(tmp_path / "large", pairs=2000)
    assert small.test_source.read_bytes() == large.test_source.read_bytes()
    assert not set(read(large.source)) & set(read(large.test_source))
    assert not set(read(large.target)) & set(read(large.test_target))


def test_the_bytes_are_pinned(tmp_path: Path) -> None:
    bitext = write_demo_bitext(tmp_path, pairs=300, test_pairs=30, seed=1)
    content = b"".join(p.read_bytes() for p in (bitext.source, bitext.target, bitext.kinds, bitext.test_source))
    assert digest_bytes(content) == "31f61e713c7ac48f24f72ff4cd298105"
    other = write_demo_bitext(tmp_path, pairs=300, test_pairs=30, seed=2)
    assert other.source.read_bytes() not in content


def test_german_is_inflected() -> None:
    by_name = {noun.english: noun for noun in NOUNS}
    assert by_name["student"].in_german("accusative", plural=False) == "Studenten"
    assert by_name["house"].in_german("dative", plural=True) == "Häusern"
    assert by_name["car"].in_german("dative", plural=True) == "Autos"
    assert determiner("ein", "mein", "accusative", "m") + adjective("ein", " alt", "accusative", "m") == "meinen alten"
    assert determiner("ein", "kein", "nominative", "n") + adjective("ein", " neu", "nominative", "n") == "kein neues"
    assert determiner("the", "", "dative", "f") + adjective("the", " rot", "dative", "f") == "der roten"
    assert determiner("bare", "viele", "dative", "p") + adjective("bare", " klein", "dative", "p") == "vielen kleinen"


def test_word_order_of_a_separable_verb() -> None:
    call = next(verb for verb in VERBS if verb.base == "call")
    assert (call.infinitive, call.zu_infinitive, call.participle) == ("anrufen", "anzurufen", "angerufen")
    assert [call.present(person) for person in ("ich", "du", "er", "wir")] == [
        "rufe",
        "rufst",
        "ruft",
        "rufen",
    ]
    part = Clause(
        subject=Phrase("the man", "der Mann"),
        auxiliary="does",
        base="call",
        statement="calls",
        rest="her",
        time=("today", "heute"),
        finite="ruft",
        middle="sie {time}",
        tail="an",
        last="anruft",
    )
    assert statement(part) == ("the man calls her today", "der Mann ruft sie heute an")
    assert fronted(part) == ("today, the man calls her", "heute ruft der Mann sie an")
    assert question(part, ("why", "warum")) == (
        "why does the man call her today?",
        "warum ruft der Mann sie heute an?",
    )
    assert subordinate(part, ("because", "weil")) == (
        "because the man calls her today",
        "weil der Mann sie heute anruft",
    )


def test_negation_and_articles() -> None:
    random = Random(7)
    phrases = [noun_phrase(random, ("food",), "accusative", negated=True) for _ in range(200)]
    assert not any(phrase.german.startswith("ein") and not phrase.german.startswith("einig") for phrase in phrases)
    assert any(phrase.german.startswith("keinen Apfel") or phrase.german.startswith("kein Ei") for phrase in phrases)
    assert not any(phrase.english.startswith(("a apple", "a egg", "an cake")) for phrase in phrases)


def test_every_word_can_be_drawn() -> None:
    random = Random(11)
    text = " ".join(english for english, _ in (sentence(random) for _ in range(4000)))
    missing = [noun.english for noun in NOUNS if noun.english not in text]
    missing += [verb.base for verb in VERBS if verb.base not in text]
    missing += [entry[0] for entry in ADJECTIVES if entry[0] not in text]
    assert missing == []


@pytest.mark.parametrize("pairs", [0, 19, 50_001])
def test_sizes_out_of_range(tmp_path: Path, pairs: int) -> None:
    with pytest.raises(UsageError, match="20 to 50000 pairs"):
        write_demo_bitext(tmp_path, pairs=pairs)
