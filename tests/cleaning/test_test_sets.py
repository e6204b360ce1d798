"""Decontamination: pairs that are in a test set are dropped and counted; a changed test set changes the plan."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import catprune
import pytest
from catprune import CatpruneError, UsageError
from catprune.cleaning.summary import summary
from hypothesis import given
from hypothesis import strategies as st
from support import oracles
from support.cleaned import SPICE, reasons

pytestmark = pytest.mark.usefixtures("any_memory")

SIDE = st.lists(st.sampled_from(["ein", "Haus", "a house,", "steht", "42", *SPICE]), max_size=4).map(" ".join)
PAIRS = st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=20)


def long_enough(line: str) -> str | None:
    normal = oracles.normalise(line.removesuffix("\r"))
    return normal if len(normal) >= 10 else None


@given(pairs=PAIRS, two=PAIRS, source_lines=st.lists(SIDE, min_size=1, max_size=8), threads=st.sampled_from([1, 3]))
def test_pairs_are_the_oracles(
    tmp_path: Path, pair: Any, pairs: Any, two: Any, source_lines: list[str], threads: int
) -> None:
    paths = pair(*("".join(sides[side] + "\n" for sides in pairs).encode() for side in (0, 1)))
    pair(*("".join(sides[side] + "\n" for sides in two).encode() for side in (0, 1)), name="test")
    (tmp_path / "lone.txt").write_bytes("".join(line + "\n" for line in source_lines).encode())
    shutil.rmtree(tmp_path / "clean", ignore_errors=True)
    exclude = [tmp_path / "test.{en,de}", tmp_path / "lone.txt"]
    done = catprune.clean(paths, out=tmp_path / "clean", exclude=exclude, threads=threads)
    segments = [{long_enough(sides[side]) for sides in two} - {None} for side in (0, 1)]
    either = {long_enough(line) for line in source_lines} - {None}
    expected, counts = [], [0, 0]
    for pair_of_texts in pairs:
        sides = [long_enough(side) for side in pair_of_texts]
        stands = [
            any(side in of for side, of in zip(sides, segments, strict=True)),
            any(side in either for side in sides),
        ]
        expected.append(any(stands))
        counts = [count + stand for count, stand in zip(counts, stands, strict=True)]
    assert ["excluded" in names for names in reasons(tmp_path / "clean")] == expected
    assert [test_set["pairs"] for test_set in done.manifest["excluded"]] == counts
    assert [test_set["lines"] for test_set in done.manifest["excluded"]] == [2 * len(two), len(source_lines)]
    short = sum(long_enough(line) is None for sides in two for line in sides)
    assert done.manifest["excluded"][0]["too_short"] == short
    assert done.reasons["excluded"] == sum(expected)


def test_one_sided_test_sets_match_their_side_and_are_reported(tmp_path: Path, pair: Any) -> None:
    paths = pair(
        b"EIN haus am see!\nein Mann\na house by the lake\nein Hund im Garten\n",
        b"a villa by a lake\na man\nein Haus am See\na dog in a garden\n",
    )
    pair(b"Ein Haus am See.\nein Mann\n", b"A house by the lake.\na man\n", name="test")
    (tmp_path / "lone.gz").write_bytes(gzip.compress(b"A  Dog in a garden"))
    done = catprune.clean(paths, out=tmp_path / "clean", exclude=[str(tmp_path / "test.{en,de}"), tmp_path / "lone.gz"])
    assert reasons(tmp_path / "clean") == [{"excluded"}, set(), set(), {"excluded"}]
    lines = summary(done, examples=0)
    assert lines[-2].startswith("1 pairs are in ") and "test.en and " in lines[-2]
    assert lines[-2].endswith("test.de (4 lines, 2 of them too short to match)")
    assert lines[-1].endswith("lone.gz (1 lines)")


def test_a_changed_test_set_is_another_plan(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"ein Haus am See\n", b"a house by a lake\n")
    (tmp_path / "test").write_text("ein Haus am Fluss\n")
    assert catprune.clean(paths, out=tmp_path / "clean", exclude=[tmp_path / "test"]).kept == 1
    (tmp_path / "test").write_text("ein Haus am See\n")
    with pytest.raises(CatpruneError, match=r"other inputs \(exclude 1\.1 \(.*\) changed since"):
        catprune.clean(paths, out=tmp_path / "clean", exclude=[tmp_path / "test"])
    assert catprune.clean(paths, out=tmp_path / "clean", exclude=[tmp_path / "test"], force=True).kept == 0


def test_wildcards_name_test_sets_as_they_name_inputs(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"ein Haus am See\nein Baum im Wald\nein Hund im Hof\n", b"a house\na tree\na dog\n")
    for year, line in (("2013", b"ein Haus am See\n"), ("2014", b"ein Baum im Wald\n")):
        pair(line, b"another text\n", name=f"test{year}")
    done = catprune.clean(paths, out=tmp_path / "clean", exclude=[tmp_path / "test*.{en,de}"])
    assert done.reasons["excluded"] == 2
    assert [test_set["pairs"] for test_set in done.manifest["excluded"]] == [1, 1]
    lone = catprune.clean(paths, dry_run=True, exclude=[tmp_path / "test20??.en"])
    assert lone.reasons["excluded"] == 2
    with pytest.raises(UsageError, match="no such file"):
        catprune.clean(paths, dry_run=True, exclude=[tmp_path / "nowhere*.en"])


def test_invalid_test_sets_are_reported(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"ein Haus am See\n", b"a house by a lake\n")
    pair(b"one line\n", b"eine Zeile\nzwei Zeilen\n", name="test")
    (tmp_path / "latin").write_bytes(b"ein Haus\nein M\xe4dchen am See\n")
    (tmp_path / "long").write_bytes(b"x" * 20_000)
    (tmp_path / "many").write_bytes(b"".join(b"the segment number %d\n" % number for number in range(1000)))
    for exclude, message in (
        ([tmp_path / "test.{en,de}"], r"test\.en has 1 lines, .*test\.de has 2"),
        ([tmp_path / "latin"], r"latin, line 2: the segment is not valid UTF-8"),
        ([tmp_path / "long"], r"long, line 1: the segment is longer than max_line_bytes"),
        ([tmp_path / "many"], r"many: the test sets need more than half of memory"),
    ):
        with pytest.raises(CatpruneError, match=message):
            catprune.clean(paths, out=tmp_path / "clean", exclude=exclude, memory=100_000)
        assert not [*(tmp_path / "clean").rglob("part-*")]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        catprune.clean(paths, out=tmp_path / "other", exclude=[tmp_path / "nowhere"])
    assert not (tmp_path / "other").exists()
    with pytest.raises(UsageError, match="excluded twice"):
        catprune.clean(paths, out=tmp_path / "clean", exclude=[tmp_path / "latin", tmp_path / "latin"])
    with pytest.raises(CatpruneError, match=r"latin, line 2: the segment is not valid UTF-8"):
        catprune.clean(paths, out=tmp_path / "clean", exclude=str(tmp_path / "latin"))


SOURCES = ["A small house & a garden.", "Is 3 < 4 in the garden?", "The \u201cbig\u201d house is old."]
TARGETS = ["Ein kleines Haus & ein Garten.", "Ist 3 < 4 im Garten?", "Das \u201egroße\u201c Haus ist alt."]
ESCAPED = [
    ["A small house &amp; a garden.", "Is 3 &lt; 4 in the garden?", "The &#8220;big&#x201D; house is old."],
    ["Ein kleines Haus & ein Garten.", "Ist 3 &lt; 4 im Garten?", "Das „große&#8220; Haus ist alt."],
]


def sgm(root: str, segments: list[str]) -> str:
    """A side as WMT published it until 2020: upper and lower case mixed, spaces around the text, a bare &."""
    names = [("seg", "SEG")[number % 2] for number in range(len(segments))]
    lines = "".join(f"<{name} id=1> {text}\n</{name}>\n" for name, text in zip(names, segments, strict=True))
    return f'<{root} setid="newstest">\n<doc docid="a" genre="news">\n<p>\n{lines}</p>\n</doc>\n</{root}>\n'


OTHERS = ["Erste andere Fassung.", "Zweite andere Fassung.", "Dritte andere Fassung."]


def wmt_xml() -> str:
    """A test set as WMT publishes it since 2021: three documents, two references, a system's translation."""
    documents: list[str] = []
    for source, target, other in zip(*ESCAPED, OTHERS, strict=True):
        parts = [
            ('src lang="en"', source),
            ('ref lang="de" translator="A"', target),
            ('ref lang="de" translator="B"', other),
            ('hyp lang="de" system="X"', "Was ein System sagte, eins."),
        ]
        inner = "".join(f'<{tag}><p>\n<seg id="1">{text}</seg>\n</p></{tag[:3]}>\n' for tag, text in parts)
        documents.append(f'<doc origlang="en" id="a">\n{inner}</doc>\n')
    start = '<?xml version="1.0" encoding="utf-8"?>\n<!-- <seg>no segment</seg> -->\n<dataset id="wmt">'
    return f"{start}<collection>\n{''.join(documents)}</collection></dataset>\n"


def write_test_set(folder: Path, form: str) -> tuple[list[Path], str]:
    """The files of a test set in a form, and its name for `exclude`."""
    if form in ("sgm", "sgm.gz", "no suffix"):
        ending = "" if form == "no suffix" else f".{form}"
        paths = [folder / f"test-{side}{ending}" for side in ("en", "de")]
        for path, root, segments in zip(paths, ("srcset", "refset"), ESCAPED, strict=True):
            data = sgm(root, segments).encode()
            path.write_bytes(gzip.compress(data) if form.endswith("gz") else data)
        return paths, str(folder / f"test-{{en,de}}{ending}")
    text = wmt_xml() if form == "xml" else "".join(f"{en}\t{de}\n" for en, de in zip(SOURCES, TARGETS, strict=True))
    path = folder / f"test.{form}"
    path.write_text(text)
    return [path], str(path)


@pytest.mark.parametrize("form", ["sgm", "sgm.gz", "no suffix", "xml", "tsv", "txt"])
def test_every_form_of_a_test_set_excludes_and_evaluates_the_same(tmp_path: Path, pair: Any, form: str) -> None:
    files, name = write_test_set(tmp_path, form)
    swapped = ("Der Hund bellt laut im Park.", SOURCES[0])  # a source of the test set on the target side
    pairs = [
        (SOURCES[0], "Etwas ganz anderes steht hier."), ("Something else stands here.", TARGETS[1]),
        ("The dog barks in the park.", "Der Hund bellt im Park."), swapped,
        ("Another version of it.", OTHERS[1]), ("What a system said, one.", "Was ein System sagte, eins."),
    ]  # fmt: skip
    paths = pair(*("".join(sides[side] + "\n" for sides in pairs).encode() for side in (0, 1)))
    done = catprune.clean(paths, out=tmp_path / "clean", exclude=[name])
    found = ["excluded" in names for names in reasons(tmp_path / "clean")]
    assert found == [True, True, False, False, form == "xml", False]
    assert not any(line.startswith("warning: no ") for line in summary(done))
    bitext = catprune.TestSet("t", *files).read()
    assert (list(bitext.source), list(bitext.target)) == (SOURCES, TARGETS)
    assert set(bitext.digests) == ({"source", "target"} if len(files) == 2 else {"source"})


def test_a_test_set_that_cannot_match_is_a_warning_and_comes_first(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"a small house\n", b"ein kleines Haus\n")
    (tmp_path / "short.txt").write_text("Yes.\nNo.\n")
    (tmp_path / "markup.txt").write_text("A title of the file\n<s>a small house</s>\n<s>a big house</s>\n")
    done = catprune.clean(paths, out=tmp_path / "clean", exclude=[tmp_path / "short.txt", tmp_path / "markup.txt"])
    lines = summary(done)
    assert lines[0].startswith("warning: no line of ")
    assert "short.txt can match" in lines[0]
    assert lines[1].startswith("warning: no pair is in ")
    assert "markup.txt, whose lines look like markup" in lines[1]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", "en,de\n", r"a \.csv table is not read"),
        ("a.html", "<html></html>\n", "not html"),
        ("a.jsonl", '{"en": "a"}\n', "not jsonl"),
        ("a.txt", '{"en": "a"}\n', "not json"),
        ("a.txt", "<tmx></tmx>\n", "not tmx"),
        ("a.sgm", "<srcset></srcset>\n", "there is no <seg>"),
        ("a.sgm", "a line of text\n", "there is no <seg>"),
        ("a.tsv", "a\tb\nno tab\n", "line 2: there are no two columns"),
    ],
)
def test_other_formats_of_test_sets_are_refused(tmp_path: Path, pair: Any, name: str, data: str, message: str) -> None:
    paths = pair(b"a small house\n", b"ein kleines Haus\n")
    (tmp_path / name).write_text(data)
    with pytest.raises((UsageError, CatpruneError), match=message):
        catprune.clean(paths, out=tmp_path / "clean", exclude=[tmp_path / name])
    with pytest.raises((UsageError, CatpruneError), match=message):
        catprune.TestSet("t", tmp_path / name).read()
