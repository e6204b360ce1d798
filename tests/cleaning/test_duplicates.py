"""Exact duplicates: the same bytes from the table and from partitions, whichever row is preferred."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import catprune
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from catprune import CatpruneError, UsageError, _core
from catprune.cleaning.rule_options import parse_form
from hypothesis import given, settings
from hypothesis import strategies as st
from support import oracles
from support.cleaned import FORMS, KEYS, duplicates_of, reasons

FORM_NAMES = {"normalised": "nfkc,case,white_space,punctuation"}
FORM = {"nfkc": False, "case": False, "white_space": False, "punctuation": False, "digits": False}
SIDES = st.text(st.sampled_from("ab. Ä"), max_size=3).map(str.encode)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "raw"])
def test_normal_forms_of_short_texts_are_the_oracles(tmp_path: Path, pair: Any, form: str) -> None:
    random = np.random.default_rng(3)
    alphabet = list("aB1. -–#%²½５，’\u00ad\u200be\u0301")
    texts = sorted({"".join(random.choice(alphabet, random.integers(1, 5))).strip() for _ in range(6000)} - {""})
    paths = pair("\n".join(texts).encode(), b"x\n" * len(texts))
    catprune.clean(paths, out=tmp_path / "clean", duplicates="source", duplicates_form=form, rules=False)
    first: dict[str, int] = {}
    expected = {
        row: first.setdefault(oracles.normalise(text, FORM_NAMES.get(form, form)), row)
        for row, text in enumerate(texts)
    }
    assert duplicates_of(tmp_path / "clean") == {row: kept for row, kept in expected.items() if kept != row}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Version 1.5", "Version 15"), ("-5 days", "5 days"), ("at 10:30", "at 1030"), ("10² metres", "102 metres"),
        ("pages 3-4", "pages 34"), ("in C#", "in C"), ("in C++", "in C"), ("5% of it", "5 of it"), ("(–5)", "(5)"),
        ("½ cup", "12 cup"), ("2,5", "25"), ("a.b", "ab"), ("Paris/London", "ParisLondon"),
    ],
)  # fmt: skip
def test_punctuation_that_changes_the_meaning_makes_a_difference(
    tmp_path: Path, pair: Any, one: str, other: str
) -> None:
    catprune.clean(pair(f"{one}\n{other}\n".encode(), b"x\nx\n"), out=tmp_path / "clean", rules=False)
    assert duplicates_of(tmp_path / "clean") == {}


@pytest.mark.parametrize(
    "copy", ["Soft\u00ad hyphen", "\ufeffSoft hyphen", "Soft\u200b hyphen", "Soft hyp\u200dhen\u200e", "Soft, hyphen!"]
)
def test_invisible_characters_make_no_difference(tmp_path: Path, pair: Any, copy: str) -> None:
    catprune.clean(pair(f"Soft hyphen\n{copy}\n".encode(), b"x\nx\n"), out=tmp_path / "clean", rules=False)
    assert duplicates_of(tmp_path / "clean") == {1: 0}


def cleaned(paths: Any, out: Path, **options: Any) -> dict[str, Any]:
    """The pass itself, with less memory than the command would take."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    request = {
        "corpus": {"inputs": [{"format": "moses", "source": str(paths[0]), "target": str(paths[1])}]},
        "rules": [],
        "duplicates": "pair",
        "duplicates_form": FORM,
        "verify": False,
        "prefer": "first",
        "against": [],
        "out": str(out),
        "tmp": str(out),
        "plan": "",
        "threads": 2,
        "memory": 2**30,
    }
    return _core.clean(request | options)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[tuple[bytes, bytes]]]:
    """Pairs of numbers, more than the smallest table holds; single sides repeat more often."""
    random = np.random.default_rng(1)
    draws = random.integers(0, 30_000, size=(70_000, 2))
    pairs = [(b"%d" % (source // 3), b"%d" % (source % 7 + target // 4000)) for source, target in draws]
    folder = tmp_path_factory.mktemp("numbers")
    paths = [folder / "text.en", folder / "text.de"]
    for place, path in enumerate(paths):
        path.write_bytes(b"\n".join(pair[place] for pair in pairs))
    return paths, pairs


@pytest.mark.parametrize("key", KEYS)
def test_any_memory_and_threads_give_the_same_bytes(numbers: Any, tmp_path: Path, key: str) -> None:
    paths, pairs = numbers
    counts = cleaned(paths, tmp_path / "table", duplicates=key)
    expected = oracles.clean(pairs, key=key, form="raw", rules=False)
    assert duplicates_of(tmp_path / "table") == expected.duplicate_of
    whole = files(tmp_path / "table")
    # Partitions from the first chunk on; a table that spills in the middle; files that are split again.
    for memory, threads in ((0, 1), (48_200_000, 3), (49_000_000, 2)):
        bytes_of_less = cleaned(paths, tmp_path / "less", duplicates=key, memory=memory, threads=threads)
        assert files(tmp_path / "less") == whole
        assert {**bytes_of_less, "read": None} == {**counts, "read": None}


def test_bytes_are_compared_on_request(numbers: Any, tmp_path: Path) -> None:
    paths, _ = numbers
    cleaned(paths, tmp_path / "trusted", duplicates="either")
    cleaned(paths, tmp_path / "verified", duplicates="either", verify=True)
    assert files(tmp_path / "verified") == files(tmp_path / "trusted")


@settings(max_examples=25)
@given(
    pairs=st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=12),
    key=st.sampled_from(KEYS[:4]),
    scores=st.lists(st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 2.5])), min_size=12, max_size=12),
)
def test_the_best_by_a_column_stays(
    tmp_path: Path, pair: Any, pairs: list[tuple[bytes, bytes]], key: str, scores: list[float | None]
) -> None:
    paths = pair(*(b"".join(pair[place] + b"\n" for pair in pairs) for place in (0, 1)))
    table = pa.table({"row": list(range(len(pairs))), "q": pa.array(scores[: len(pairs)], pa.float32())})
    parquet.write_table(table, tmp_path / "q.parquet")
    options = {"duplicates": key, "duplicates_form": "raw", "rules": False, "prefer": [f"{tmp_path}/q.parquet:q"]}
    shutil.rmtree(tmp_path / "clean", ignore_errors=True)
    catprune.clean(paths, out=tmp_path / "clean", **options)
    priority = [-score if score is not None else float("inf") for score in scores]
    expected = oracles.clean(pairs, key=key, form="raw", rules=False, priority=priority)
    assert reasons(tmp_path / "clean") == expected.reasons
    assert duplicates_of(tmp_path / "clean") == expected.duplicate_of


def test_a_preferred_input_keeps_its_rows(tmp_path: Path, pair: Any) -> None:
    for name, text in (("web", b"a\nb\nb\nc\n"), ("news", b"d\nb\na\n"), ("talks", b"c\na\nd\n")):
        pair(text, text.upper(), name=name)
    inputs = [str(tmp_path / f"{name}.{{en,de}}") for name in ("web", "news", "talks")]
    done = catprune.clean(inputs, out=tmp_path / "clean", prefer=[inputs[2], inputs[1]])
    assert [item["kept"] for item in done.manifest["inputs"]] == [0, 1, 3]
    assert duplicates_of(tmp_path / "clean") == {0: 8, 1: 5, 2: 5, 3: 7, 4: 9, 6: 8}
    examples = done.manifest["examples"]["duplicate"]
    assert {(example["row"], example["source"]) for example in examples} <= {
        (0, "a"),
        (1, "b"),
        (2, "b"),
        (3, "c"),
        (4, "d"),
        (6, "a"),
    }


def test_many_shards_that_wait_are_the_same_for_any_threads(tmp_path: Path, pair: Any) -> None:
    random = np.random.default_rng(5)
    sentences = [" ".join(random.choice(list("abcdefgh"), 6)).encode() for _ in range(900)]
    texts = [[sentences[i] for i in random.integers(0, len(sentences), 60)] for _ in range(20)]
    for number, lines in enumerate(texts):
        text = b"".join(line + b"\n" for line in lines)
        pair(text, text[::-1].strip() + b"\n", name=f"in-{number:02}")
    rows = [(number, line) for number, lines in enumerate(texts) for line in lines]
    (tmp_path / "tags").write_text("".join(f"{number % 3}\n" for number, _ in rows))
    inputs = [str(tmp_path / f"in-{number:02}.{{en,de}}") for number in range(20)]
    options: dict[str, Any] = {"tags": tmp_path / "tags", "prefer": [inputs[7]], "duplicates": "source", "rules": False}
    best: dict[bytes, int] = {}
    for row, (_, line) in sorted(enumerate(rows), key=lambda numbered: (numbered[1][0] != 7, numbered[0])):
        best.setdefault(line, row)
    expected = {row: best[line] for row, (_, line) in enumerate(rows) if best[line] != row}
    for near in ("none", "source"):
        folders: list[dict[str, bytes]] = []
        for threads in (1, 2, 5):
            out = tmp_path / f"{near}-{threads}"
            done = catprune.clean(inputs, out=out, near_duplicates=near, threads=threads, **options)
            files = [path for path in out.rglob("*") if path.is_file() and "log" not in path.parts]
            folders.append({str(path.relative_to(out)): path.read_bytes() for path in files})
        assert folders[0] == folders[1] == folders[2]
        duplicates = duplicates_of(tmp_path / f"{near}-5")
        assert duplicates == expected if near == "none" else expected.items() < duplicates.items()
        kept = Counter(number % 3 for row, (number, _) in enumerate(rows) if row not in duplicates)
        counted = done.manifest["counts"]["tags"]
        assert {tag: count["kept"] for tag, count in counted.items()} == {
            str(tag): count for tag, count in kept.items()
        }


def test_pairs_of_another_corpus_are_dropped(tmp_path: Path, pair: Any) -> None:
    old = pair(b"a b\nc d\na b\n\n", b"x x\ny y\nX X.\nz z\n", name="old")
    catprune.clean(old, out=tmp_path / "old")
    new = pair(b"A b.\ne f\ne f\n\nc d\n", b"x x\ny y\ny y\nz z\nz z\n", name="new")
    done = catprune.clean(new, out=tmp_path / "new", against=[tmp_path / "old"])
    assert reasons(tmp_path / "new") == [{"duplicate_elsewhere"}, set(), {"duplicate"}, {"empty"}, set()]
    assert duplicates_of(tmp_path / "new") == {0: None, 2: 1}
    assert done.manifest["counts"]["reasons"]["duplicate_elsewhere"] == 1
    both = catprune.clean(new, out=tmp_path / "both", against=[tmp_path / "old", tmp_path / "new"])
    assert both.kept == 0
    with pytest.raises(CatpruneError, match="fingerprints of another kind"):
        catprune.clean(new, out=tmp_path / "other", against=[tmp_path / "old"], duplicates="source")
    shard = next((tmp_path / "old" / "fingerprints").iterdir())
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(CatpruneError, match="was changed since it was written"):
        catprune.clean(new, out=tmp_path / "again", against=[tmp_path / "old"])


def test_the_table_and_partitions_agree_about_another_corpus(numbers: Any, tmp_path: Path, pair: Any) -> None:
    paths, pairs = numbers
    other = [(b"%d" % number, b"%d" % (number % 7)) for number in range(0, 9000, 5)]
    names = pair(*(b"".join(pair_of_other[place] + b"\n" for pair_of_other in other) for place in (0, 1)), name="other")
    for key in ("pair", "either"):
        cleaned(names, tmp_path / "other", duplicates=key)
        against = [str(path) for path in (tmp_path / "other" / "fingerprints").iterdir()]
        cleaned(paths, tmp_path / "table", duplicates=key, against=against)
        cleaned(paths, tmp_path / "files", duplicates=key, against=against, memory=0)
        assert files(tmp_path / "files") == files(tmp_path / "table")
        kept = oracles.clean(other, key=key, form="raw", rules=False).reasons
        texts = [(pair.decode(), two.decode()) for (pair, two), dropped in zip(other, kept, strict=True) if not dropped]
        expected = oracles.clean(pairs, key=key, form="raw", rules=False, against=texts)
        assert duplicates_of(tmp_path / "table") == expected.duplicate_of


def test_normalised_means_its_parts_in_a_list() -> None:
    assert parse_form("normalised, digits") == dict.fromkeys(FORM, True)
    assert parse_form("normalised") == {**dict.fromkeys(FORM, True), "digits": False}
    assert parse_form("raw") == FORM


def test_usage(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"a\n", b"b\n")
    for options, message in (
        ({"duplicates": "both"}, "duplicates = 'both': give one of pair, source"),
        ({"duplicates_form": "nfkc,space"}, "'space' is none of normalised, raw, nfkc"),
        ({"duplicates_form": ""}, "'' is none of .*raw for none"),
        ({"duplicates_form": "raw,case"}, "raw normalizes nothing"),
        ({"prefer": ["no.such"]}, "no.such is not one of the inputs"),
        ({"prefer": [str(paths[0])], "duplicates": "none"}, "duplicates = none finds none"),
        ({"verify": True, "against": [tmp_path / "old"]}, "give one of them"),
        ({"memory": 2**20}, "128M"),
        ({"rules": False, "input_rules": [{"input": str(paths[0]), "min_words": 2}]}, "leave input_rules and"),
        ({"rules": False, "identify_language": True}, "leave input_rules and identify_language out"),
        ({"rules": True}, "rules = True: give "),
    ):
        with pytest.raises(UsageError, match=message):
            catprune.clean(paths, out=tmp_path / "x", **options)
    with pytest.raises(CatpruneError, match="does not exist or is not a step's folder"):
        catprune.clean(paths, out=tmp_path / "x", against=[tmp_path / "nowhere"])
    assert not (tmp_path / "x").exists()
    catprune.clean(paths, out=tmp_path / "run/clean")
    with pytest.raises(CatpruneError, match=r"run is no step's folder: give .*run/clean"):
        catprune.clean(paths, out=tmp_path / "x", against=[tmp_path / "run"])
