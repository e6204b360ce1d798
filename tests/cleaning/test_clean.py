"""Cleaning: reasons equal the oracle's on hostile bytes, for any threads; bad files are reported, not skipped."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unicodedata import normalize

import catprune
import pytest
from catprune import CatpruneError, UsageError, _core
from catprune.cleaning.densities import max_ratios
from catprune.cleaning.languages import scripts_of
from catprune.cleaning.options import Filters
from catprune.cleaning.summary import summary
from catprune.corpus.inputs import parse_inputs
from catprune.workspace.options import defaults_of
from hypothesis import example, given
from hypothesis import strategies as st
from support import oracles
from support.cleaned import BYTES, FORMS, KEYS, SHARE, SIDE, TEXT, duplicates_of, read, reasons, stripped

PAIRS = st.lists(st.tuples(BYTES, BYTES), min_size=1, max_size=30)


@given(pairs=PAIRS, key=st.sampled_from(KEYS), form=st.sampled_from(FORMS), filtered=st.booleans())
@example(
    pairs=[(b"Ein Haus.", b"A house"), (b"ein  HAUS", b"a house!"), (b"...", b"..")],
    key="pair",
    form="normalised",
    filtered=True,
)
@example(
    pairs=[("ﬁn".encode(), b"a b"), (b"fin", b"a b"), ("İ".encode(), b"x"), ("i̇".encode(), b"x")],
    key="source",
    form="normalised",
    filtered=True,
)
def test_reasons_equal_the_oracles(
    tmp_path: Path, pair: Any, pairs: list[tuple[bytes, bytes]], key: str, form: str, filtered: bool
) -> None:
    paths = pair(*(b"".join(side[place] + b"\n" for side in pairs) for place in (0, 1)))
    shutil.rmtree(tmp_path / "clean", ignore_errors=True)
    done = catprune.clean(
        paths,
        out=tmp_path / "clean",
        duplicates=key,
        duplicates_form=form,
        rules=None if filtered else False,
        threads=2,
    )
    pairs = [(stripped(source), stripped(target)) for source, target in pairs]
    expected = oracles.clean(pairs, key=key, form=form, rules=filtered)
    assert reasons(tmp_path / "clean") == expected.reasons
    assert done.kept == sum(not names for names in expected.reasons)
    counted = Counter(name for names in expected.reasons for name in names)
    assert {name: count for name, count in done.reasons.items() if count} == counted
    assert duplicates_of(tmp_path / "clean") == expected.duplicate_of
    assert ("source_words" in read(tmp_path / "clean")) is filtered


SHARED = [name for name in defaults_of(Filters) if "share" in name or "mismatch" in name]
SHARES = st.fixed_dictionaries(dict.fromkeys(SHARED, SHARE) | {"same_terminal_punctuation": st.booleans()})


@given(
    sides=st.lists(st.tuples(TEXT, TEXT), min_size=10, max_size=30),
    shares=SHARES,
    languages=st.sampled_from([("en", "ru", ["Latn"], ["Cyrl"]), ("qqq", "ja", [], ["Han", "Hiragana", "Katakana"])]),
)
@example(
    sides=[
        ("a b c a b c a b c", "x y z"),
        ("Ein Haus am See!", "ein haus am see"),
        ("Haus 1,000 und 2", "a 1.000 2"),
        ("看 http://a.b/c。", "see <b>www.x.org</b>"),
        ("x" * 70 + " " + "é" * 63 + " a b", "x" * 62 + " é" * 4),
    ],
    shares=dict.fromkeys(SHARED, 0.3),
    languages=("en", "th", ["Latn"], ["Thai"]),
)
def test_the_rules_are_the_oracles(
    tmp_path: Path, pair: Any, sides: list[tuple[str, str]], shares: dict[str, float], languages: Any
) -> None:
    source_lang, target_lang, *scripts = languages
    pairs = [(source.encode(), target.encode()) for source, target in sides]
    paths = pair(*(b"".join(side[place] + b"\n" for side in pairs) for place in (0, 1)))
    shutil.rmtree(tmp_path / "clean", ignore_errors=True)
    rules = {**shares, "max_word_ratio": 2, "max_character_ratio": 2}
    options = {"source_lang": source_lang, "target_lang": target_lang, "rules": rules, "duplicates": "none"}
    catprune.clean(paths, out=tmp_path / "clean", **options)
    expected = [oracles.reasons(*pair, scripts=scripts, **shares) for pair in pairs]
    assert reasons(tmp_path / "clean") == expected
    columns = read(tmp_path / "clean")
    for place, name in enumerate(("source", "target")):
        own, other = ([side[which] for side in sides] for which in (place, 1 - place))
        assert columns[f"{name}_script_letters"] == [oracles.script_letters(side, scripts[place]) for side in own]
        assert columns[f"{name}_markup"] == [oracles.markup(side) for side in own]
        numbers = [(oracles.numbers(side), oracles.numbers(against)) for side, against in zip(own, other, strict=True)]
        assert columns[f"{name}_numbers"] == [of_side.total() for of_side, _ in numbers]
        assert columns[f"{name}_unmatched_numbers"] == [(of_side - others).total() for of_side, others in numbers]


@given(sides=st.lists(st.tuples(st.one_of(SIDE, TEXT.map(str.encode)), SIDE), min_size=1, max_size=10))
def test_measures_are_the_oracles(tmp_path: Path, pair: Any, sides: list[tuple[bytes, bytes]]) -> None:
    paths = pair(*(b"".join(side[place] + b"\n" for side in sides) for place in (0, 1)))
    shutil.rmtree(tmp_path / "clean", ignore_errors=True)
    catprune.clean(paths, out=tmp_path / "clean")
    columns = read(tmp_path / "clean")
    for place, name in enumerate(("source", "target")):
        measured = zip(
            *(
                columns[f"{name}_{measure}"]
                for measure in ("characters", "words", "letters", "visible", "words_with_letter", "longest_word")
            ),
            strict=True,
        )
        assert list(measured) == [oracles.measures(normalize("NFC", stripped(side[place]).decode())) for side in sides]


@given(
    data=st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\n\n", "\u2028".encode()]), min_size=1).map(b"".join)
)
def test_line_ends(tmp_path: Path, pair: Any, data: bytes) -> None:
    expected = oracles.lines(data)
    paths = pair(data, b"x\n" * len(expected))
    shutil.rmtree(tmp_path / "clean", ignore_errors=True)
    assert catprune.clean(paths, out=tmp_path / "clean").rows == len(expected)
    assert read(tmp_path / "clean")["source_characters"] == [len(line.decode()) for line in expected]


def test_words_of_scripts_without_spaces_are_counted() -> None:
    counted = {
        "人人生而自由，在尊严和权利上一律平等。": 9,  # all human beings are born free and equal in dignity and rights
        "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。": 19,
        "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ": 16,
        "iPhone 15を使う": 4,
        "한국어는 띄어 쓴다": 3,
    }
    assert {side: oracles.measures(side)[1] for side in counted} == counted


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"a b\na b\n1\nsame\na b c d e f g\n", b"x y\nx y\n2\nsame\nx\n")
    dry = catprune.clean(paths, dry_run=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.de", "text.en"]
    done = catprune.clean(paths, out=tmp_path / "clean")
    assert dry.folder is None and done.folder == tmp_path / "clean"
    assert (dry.rows, dry.kept, dry.reasons, dry.only) == (done.rows, done.kept, done.reasons, done.only)
    assert {name: count for name, count in dry.reasons.items() if count} == {
        "duplicate": 1,
        "few_words_with_letters": 1,
        "few_letters": 1,
        "identical_sides": 1,
        "word_ratio": 1,
        "character_ratio": 1,
    }
    assert {name for name, count in dry.only.items() if count} == {"duplicate", "identical_sides"}
    messages = summary(dry, examples=1)
    assert messages[0] == "5 pairs read, 1 (20.0%) would be kept"
    assert any("same ||| same" in line for line in messages)
    strict = catprune.clean(paths, dry_run=True, rules={"max_words": 1})
    assert any("change max_words (now 1)" in line for line in summary(strict))
    with pytest.raises(UsageError, match="give a folder"):
        catprune.clean(paths)


def test_languages_are_identified_on_request(tmp_path: Path, pair: Any) -> None:
    english = "When you start the program from the menu, the following window is displayed."
    german = "Wenn Sie das Programm aus dem Menü starten, wird das folgende Fenster angezeigt."
    swahili = "Unapoanzisha programu kutoka kwenye menyu, dirisha lifuatalo linaonyeshwa hapa."
    pairs = [(english, german), (english, english + " Please."), ("Ja, das ist so", german), (german, swahili)]
    paths = pair(*("".join(pair[place] + "\n" for pair in pairs).encode() for place in (0, 1)))
    options = {
        "duplicates": "none",
        "rules": {"max_common_word_share": 1.0, "max_word_ratio": 9, "max_character_ratio": 9},
    }
    languages = {"source_lang": "en", "target_lang": "de", "identify_language": True}
    catprune.clean(paths, out=tmp_path / "clean", **options, **languages)
    assert reasons(tmp_path / "clean") == [set(), {"wrong_language"}, set(), {"wrong_language"}]
    done = catprune.clean(paths, dry_run=True, **options, **(languages | {"target_lang": "sw"}))
    assert {name for name, count in done.reasons.items() if count} == {"wrong_language"}
    assert "sw cannot be identified: wrong_language is off for the target side" in summary(done, examples=0)
    done = catprune.clean(paths, dry_run=True, target_lang="qqq", **options)
    assert "the scripts of qqq are not known: wrong_script is off for the target side" in summary(done, examples=0)
    with pytest.raises(UsageError, match="identify_language knows"):
        catprune.clean(paths, dry_run=True, source_lang="sw", identify_language=True)


def test_an_input_may_have_its_own_rules(tmp_path: Path, pair: Any) -> None:
    sides = b"a b c\n", b"x y z\n"
    pair(*sides, name="one")
    pair(*sides, name="two")
    names = [str(tmp_path / f"{name}.{{en,de}}") for name in ("one", "two")]
    own = [{"input": names[1], "max_words": 2}]
    done = catprune.clean(names, out=tmp_path / "clean", duplicates="none", input_rules=own)
    assert reasons(tmp_path / "clean") == [set(), {"too_many_words"}]
    assert done.manifest["options"]["input_rules"] == {"1": {"max_words": 2}}
    back = [{"input": names[1], "max_words": 150}]  # the default, where the other input has less
    catprune.clean(names, out=tmp_path / "back", duplicates="none", rules={"max_words": 2}, input_rules=back)
    assert reasons(tmp_path / "back") == [{"too_many_words"}, set()]
    for wrong, message in {
        "is not one of the inputs": [{"input": "three"}],
        "each table needs `input`": [{"max_words": 2}],
        "twice": own * 2,
        "there is no option max_wrods; did you mean max_words": [{"input": names[0], "max_wrods": 1}],
    }.items():
        with pytest.raises(UsageError, match=wrong):
            catprune.clean(names, out=tmp_path / "wrong", input_rules=message)


def many(count: int) -> tuple[bytes, bytes]:
    """A corpus over several chunks with duplicates in all of them."""
    source = b"".join(b"line %d of many\n" % (number * number % 7001) for number in range(count))
    target = b"".join(b"Zeile %d von vielen\n" % (number * number % 7001) for number in range(count))
    return source, target


def test_threads_compression_and_inputs_do_not_change_a_byte(tmp_path: Path, pair: Any) -> None:
    source, target = many(20_000)
    plain = pair(source, target)
    catprune.clean(plain, out=tmp_path / "one", threads=1)
    catprune.clean(plain, out=tmp_path / "many", threads=5)
    packed = tmp_path / "packed.en.gz", tmp_path / "packed.de.zst"
    half = len(source) // 3
    packed[0].write_bytes(gzip.compress(source[:half]) + gzip.compress(source[half:]))
    zstd(packed[1], target[:half], target[half:])
    catprune.clean(packed, out=tmp_path / "packed", threads=2)
    for name in ("one", "many", "packed"):
        assert len(read(tmp_path / name)["row"]) == 20_000
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.parquet")]
    assert len(files) == 3
    for file in files:
        first = (tmp_path / "one" / file).read_bytes()
        assert first == (tmp_path / "many" / file).read_bytes()
        assert len(first) == len((tmp_path / "packed" / file).read_bytes())
    assert (tmp_path / "one" / "manifest.json").read_bytes() == (tmp_path / "many" / "manifest.json").read_bytes()
    assert read(tmp_path / "packed") == read(tmp_path / "one")


def zstd(path: Path, *frames: bytes) -> None:
    import pyarrow

    path.write_bytes(b"".join(pyarrow.compress(frame, codec="zstd", asbytes=True) for frame in frames))


def test_tsv_and_several_inputs(tmp_path: Path, pair: Any) -> None:
    table = tmp_path / "a.tsv"
    table.write_bytes(b"id1\tein Haus\ta house\nid2\tnur eins\nid3\tein Hund\ta dog\textra\n")
    pair(b"ein Haus\n", b"a house\n", name="b")
    done = catprune.clean([table, tmp_path / "b.{en,de}"], out=tmp_path / "clean", columns=(2, 3))
    assert reasons(tmp_path / "clean") == [set(), {"columns"}, {"columns"}, {"duplicate"}]
    assert [(item["first"], item["end"]) for item in done.manifest["inputs"]] == [(0, 3), (3, 4)]
    assert [path.name for path in (tmp_path / "clean").glob("columns/part-*")] == [
        "part-000000000000-000000000004.parquet"
    ]


def test_a_malformed_record_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"only one side\nein Haus\ta house\n")
    done = catprune.clean([tmp_path / "a.tsv"], out=tmp_path / "clean")
    assert done.manifest["examples"]["malformed_record"] == [{"row": 0, "source": "only one side", "target": ""}]
    assert any("row 0: only one side" in line for line in summary(done, examples=1))


def test_names_that_are_not_utf8_are_reported(tmp_path: Path) -> None:
    for name in (b"d\xe4.en", b"d\xe4.de"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"a b\n")
    with pytest.raises(CatpruneError, match=r"d\?\.en is not UTF-8: rename the file"):
        catprune.clean([tmp_path / os.fsdecode(b"d\xe4.{en,de}")], out=tmp_path / "clean")
    names = [tmp_path / os.fsdecode(b"d\xe4.en"), tmp_path / os.fsdecode(b"d\xe4.de")]
    with pytest.raises(CatpruneError, match=r"a name is not UTF-8 \('.*d\\udce4.en'\): rename it"):
        catprune.clean(names, dry_run=True)
    with pytest.raises(CatpruneError, match="a name is not UTF-8"):
        catprune.stats(names)
    with pytest.raises(CatpruneError, match="a name is not UTF-8"):
        list(catprune.open_corpus(names))


def test_memory_and_threads_are_parsed_the_same_way(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"a b\n", b"x y\n")
    assert catprune.clean(paths, out=tmp_path / "clean", memory="128M").kept == 1
    options: dict[str, Any]
    for options, message in (
        ({"memory": "lots"}, "memory = lots: give bytes, or a number with K, M, G or T"),
        ({"memory": 4e9}, "memory = 4000000000.0"),
        ({"memory": "4\N{KELVIN SIGN}"}, "memory = 4"),
        ({"memory": "99999999T"}, "memory = 99999999T"),
        ({"memory": "1G", "threads": "2"}, "threads = '2': give a whole number, at least 1"),
        ({"threads": 0}, "threads = 0"),
    ):
        with pytest.raises(UsageError, match=message):
            catprune.clean(paths, dry_run=True, **options)
        with pytest.raises(UsageError, match=message):
            catprune.stats(paths, **options)


def test_tags(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"a b\nc d\na b\n", b"x y\nz w\nx y\n")
    tags = tmp_path / "tags"
    tags.write_text("news\nweb\nweb\n")
    done = catprune.clean(paths, out=tmp_path / "clean", tags=tags)
    assert read(tmp_path / "clean")["tag"] == ["news", "web", "web"]
    assert done.manifest["counts"]["tags"] == {"news": {"rows": 1, "kept": 1}, "web": {"rows": 2, "kept": 1}}
    for text, message in (("news\n", "ends after line 1"), ("a\nb\nc\nd\n", "goes on after line 3")):
        tags.write_text(text)
        with pytest.raises(CatpruneError, match=message):
            catprune.clean(paths, out=tmp_path / "wrong", tags=tags)


def test_too_many_tags_are_refused_with_their_line(tmp_path: Path, pair: Any) -> None:
    rows = (1 << 16) + 1
    paths = pair(*(b"".join(b"%d\n" % row for row in range(rows)) for _ in range(2)))
    tags = tmp_path / "tags"
    for text in (
        "".join(f"{row}\n" for row in range(rows)),
        "".join(f"{row:016000d}\n" for row in range(1100)) + "x\n" * 64437,
    ):
        tags.write_text(text)
        with pytest.raises(CatpruneError, match=r"tags, line (65537|1049): more than 65536 different tags, or 16 MiB"):
            catprune.clean(paths, out=tmp_path / "clean", tags=tags, rules=False)
    tags.write_text("".join(f"{min(row, (1 << 16) - 1)}\n" for row in range(rows)))
    done = catprune.clean(paths, out=tmp_path / "clean", tags=tags, rules=False, duplicates="none")
    assert len(done.manifest["counts"]["tags"]) == 1 << 16


def test_long_lines_have_a_reason(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"x" * 101 + b"\n" + b"y" * 100 + b"\r\n", b"a\nb\n")
    catprune.clean(paths, out=tmp_path / "clean", max_line_bytes=100)
    names = reasons(tmp_path / "clean")
    assert names[0] == {"line_too_long"}
    assert "line_too_long" not in names[1]


def test_unequal_sides_name_both_files_and_publish_nothing(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"a\n" * 9000, b"b\n" * 41)
    with pytest.raises(CatpruneError, match=r"text\.de ends after line 41, .*text\.en goes on to line 9000"):
        catprune.clean(paths, out=tmp_path / "clean")
    assert not list((tmp_path / "clean").rglob("*.parquet"))
    assert not (tmp_path / "clean" / "manifest.json").exists()
    with pytest.raises(CatpruneError, match=r"text\.en ends after line 3, .*text\.de goes on to line 41"):
        catprune.clean(pair(b"a\n" * 3, b"b\n" * 41), out=tmp_path / "other")


LARGE = {"duplicates": "none", "threads": 2}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of more than two shards, cleaned, and a part of it tokenized, without a kill."""
    folder = tmp_path_factory.mktemp("large")
    for name, pairs in (("text", 2_200_000), ("part", 300_000)):
        (folder / f"{name}.en").write_bytes(b"ein Haus\n" * pairs)
        (folder / f"{name}.de").write_bytes(b"a house\n" * pairs)
    catprune.clean([folder / "text.en", folder / "text.de"], out=folder / "clean", **LARGE)
    catprune.clean([folder / "part.en", folder / "part.de"], out=folder / "part", **LARGE)
    catprune.tokenize(folder / "part", out=folder / "tokens", vocab_size=300, sample=1000)
    return folder


def files_of(folder: Path) -> dict[Path, Path]:
    """The files of a result, by their path in the folder."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in files.items() if name.parts[0] != "log"}


@pytest.mark.parametrize("step", ["clean", "tokens"])
def test_killed_inside_a_pass_it_ends_with_the_same_bytes(large: Path, step: str) -> None:
    again = large / f"{step}-again"
    files = {"clean": [str(large / "text.en"), str(large / "text.de")], "tokens": str(large / "part")}
    call = {
        "clean": f"clean({files['clean']!r}, out={str(again)!r}, **{LARGE!r})",
        "tokens": f"tokenize({files['tokens']!r}, out={str(again)!r}, vocab_size=300, sample=1000)",
    }
    process = subprocess.Popen([sys.executable, "-c", f"import catprune; catprune.{call[step]}"])
    while not [*again.glob("columns/part-*.parquet"), *again.glob("part-*.safetensors")]:
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (again / "manifest.json").exists()
    subprocess.run([sys.executable, "-c", f"import catprune; catprune.{call[step]}"], check=True)
    whole = files_of(large / step)
    assert sorted(files_of(again)) == sorted(whole)
    for name, path in whole.items():
        assert (again / name).read_bytes() == path.read_bytes(), name


def test_sides_that_part_after_a_shard_publish_nothing(large: Path) -> None:
    (large / "short.de").write_bytes(b"a house\n" * 1_500_000)
    with pytest.raises(CatpruneError, match=r"short\.de ends after line 1500000"):
        catprune.clean([large / "text.en", large / "short.de"], out=large / "unequal", **LARGE)
    assert not list((large / "unequal").rglob("part-*"))


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_truncated_streams(tmp_path: Path, suffix: str) -> None:
    source, target = many(20_000)
    paths = tmp_path / f"a.{suffix}", tmp_path / "b"
    paths[1].write_bytes(target)
    if suffix == "gz":
        paths[0].write_bytes(gzip.compress(source))
    else:
        zstd(paths[0], source)
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CatpruneError, match=rf"a\.{suffix} is truncated or damaged after line \d+"):
        catprune.clean(paths, out=tmp_path / "clean")
    paths[0].write_bytes(b"no such magic")
    with pytest.raises(CatpruneError, match="first bytes"):
        catprune.clean(paths, out=tmp_path / "clean")


def test_missing_and_empty_files(tmp_path: Path, pair: Any) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        catprune.clean([tmp_path / "nowhere.en", tmp_path / "nowhere.de"], out=tmp_path / "clean")
    assert not (tmp_path / "clean").exists()
    for sides in ((b"", b"a\n"), (b"a\n", b""), (b"", b"")):
        with pytest.raises(CatpruneError, match="is empty"):
            catprune.clean(pair(*sides), out=tmp_path / "clean")
    packed = tmp_path / "none.gz"
    packed.write_bytes(gzip.compress(b""))
    with pytest.raises(CatpruneError, match=r"none\.gz is empty"):
        catprune.clean([packed, pair(b"a\n", b"b\n")[0]], out=tmp_path / "clean")
    with pytest.raises(CatpruneError, match="is a folder"):
        catprune.clean([tmp_path, pair(b"a\n", b"b\n")[0]], out=tmp_path / "clean")


def test_usage() -> None:
    with pytest.raises(UsageError, match=r"give one template, not \{a,bb\} and \{en,de\}"):
        catprune.clean(["{a,bb}.{en,de}"], out="x")
    with pytest.raises(UsageError, match="max_word_ratio = inf"):
        catprune.clean(["a.en", "a.de"], out="x", rules={"max_word_ratio": float("inf")})
    with pytest.raises(UsageError, match="language english"):
        catprune.clean(["a.en", "a.de"], out="x", source_lang="english")
    with pytest.raises(UsageError, match="named twice"):
        catprune.clean(["a.en", "a.en"], out="x")
    with pytest.raises(UsageError, match="templates"):
        catprune.clean(["a", "b", "c"], out="x")
    with pytest.raises(UsageError, match=r"max_word_ratio = 0\.5: give a number, at least 1"):
        catprune.clean(["a", "b"], out="x", rules={"max_word_ratio": 0.5})
    with pytest.raises(UsageError, match="there is no option max_wrods; did you mean max_words"):
        catprune.clean(["a", "b"], out="x", rules={"max_wrods": 1})
    with pytest.raises(UsageError, match="two different numbers"):
        catprune.clean(["a.tsv"], out="x", columns=(1, 1))


def test_same_work_is_not_done_again_and_other_work_is_refused(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"a b\nc d\n", b"x y\nz w\n")
    catprune.clean(paths, out=tmp_path / "clean")
    shard = next((tmp_path / "clean").glob("columns/*.parquet"))
    before = shard.stat().st_mtime_ns
    catprune.clean(paths, out=tmp_path / "clean")
    assert shard.stat().st_mtime_ns == before
    with pytest.raises(CatpruneError, match=r"rules\.min_words was 1, is now 2"):
        catprune.clean(paths, out=tmp_path / "clean", rules={"min_words": 2})
    catprune.clean(paths, out=tmp_path / "clean", rules={"min_words": 2}, force=True)
    paths[0].write_bytes(b"a b\nc e\n")
    with pytest.raises(CatpruneError, match=r"text\.en changed since it was cleaned"):
        catprune.clean(paths, out=tmp_path / "clean", rules={"min_words": 2})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(CatpruneError, match="not catprune's"):
        catprune.clean(paths, out=tmp_path / "mine", force=True)


def test_inputs_are_hashed_again_on_request(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"ein Haus\n", b"a house\n")
    catprune.clean(paths, out=tmp_path / "clean")
    catprune.clean(paths, out=tmp_path / "clean")  # the first look
    before = paths[0].stat()
    paths[0].write_bytes(b"ein Hund\n")
    os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert catprune.clean(paths, out=tmp_path / "clean").kept == 1
    with pytest.raises(CatpruneError, match=r"text\.en changed since it was cleaned"):
        catprune.clean(paths, out=tmp_path / "clean", verify_inputs=True)


def test_read_pairs(pair: Any) -> None:
    source, target = many(9000)
    paths = pair(source, target)
    corpus = {"inputs": [{"format": "moses", "source": str(paths[0]), "target": str(paths[1])}]}
    rows = [0, 4095, 4096, 8999]
    read = _core.read_pairs({"corpus": corpus, "rows": rows})
    sides = source.decode().split("\n"), target.decode().split("\n")
    assert read == [(sides[0][row], sides[1][row]) for row in rows]
    with pytest.raises(CatpruneError, match="past the end"):
        _core.read_pairs({"corpus": corpus, "rows": [9000]})


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.de").write_text("ein Haus\n")
    (tmp_path / "plain.en").write_text("a house\n")
    os.mkfifo(tmp_path / "a.en")
    message = r"a\.en is a pipe or device, which later steps cannot read again: give a regular file"
    with pytest.raises(CatpruneError, match=message):
        catprune.clean([tmp_path / "a.en", tmp_path / "a.de"], out=tmp_path / "clean", quiet=True)
    inputs = [tmp_path / "plain.en", tmp_path / "a.de"]
    refused: list[dict[str, Any]] = [{"tags": tmp_path / "a.en"}, {"exclude": [tmp_path / "a.en"]}]
    for options in refused:
        with pytest.raises(CatpruneError, match=message):
            catprune.clean(inputs, out=tmp_path / "clean", quiet=True, **options)


def test_wildcards_in_brackets(tmp_path: Path) -> None:
    for name in ("x[1", "x21", "x!1", "x^1"):
        (tmp_path / f"{name}.en").write_text("a house\n")
        (tmp_path / f"{name}.de").write_text("ein Haus\n")
    for pattern, matching in (("x[[]1", {"x[1"}), ("x[!!]1", {"x[1", "x21", "x^1"}), ("x[0-9!]1", {"x21", "x!1"})):
        template = str(tmp_path / f"{pattern}.{{en,de}}")
        parsed = parse_inputs([template])
        assert {Path(item["source"]).stem for item in parsed} == matching


HONEST = {
    ("en", "zh"): ("Children learn new languages faster than their parents do.", "孩子学习新语言比父母快。"),
    ("en", "ja"): (
        "Children learn new languages faster than their parents do.",
        "子どもは親よりも速く新しい言語を覚える。",
    ),
    ("en", "ko"): ("The museum is closed on Mondays and public holidays.", "박물관은 월요일과 공휴일에 문을 닫는다."),
    ("en", "bo"): ("He went to the market today to buy meat and butter.", "ཁོ་དེ་རིང་ཤ་དང་མར་ཉོ་བར་ཁྲོམ་ལ་ཕྱིན་པ་རེད།"),
    ("en", "am"): ("All human beings are born free and equal in dignity.", "የሰው፡ልጅ፡ሁሉ፡ሲወለድ፡ነጻና፡በክብርም፡እኩልነት፡ያለው፡ነው፡፡"),
    ("en", "th"): ("He went to the market to buy meat and butter.", "เขาไปตลาดเพื่อซื้อเนื้อและเนย"),
}


@pytest.mark.parametrize("languages", HONEST)
@pytest.mark.parametrize("normal_form", ["NFC", "NFD"])
def test_honest_translations_are_kept_in_every_normal_form(
    tmp_path: Path, pair: Any, languages: tuple[str, str], normal_form: Any
) -> None:
    sides = [normalize(normal_form, text) for text in HONEST[languages]]
    done = catprune.clean(
        pair(*(f"{side}\n".encode() for side in sides)),
        out=tmp_path / "clean",
        source_lang=languages[0],
        target_lang=languages[1],
    )
    assert (done.kept, reasons(tmp_path / "clean")) == (1, [set()])


@pytest.mark.parametrize(
    ("languages", "characters", "words"),
    [
        (("en", "de"), 2, 2), (("eng_Latn", "deu"), 2, 2), ((None, None), 2, 2), (("en-GB", "sw"), 3, 3),
        (("en", "swh"), 3, 3), (("en", "zh-Hans"), 7, 3), (("cmn", "en"), 7, 3), (("yue", "zh"), 2, 2),
        (("en", "ko"), 4, 3), (("en", "iw"), 3, 3), (("en", "my"), 3, 5), (("en", "qqq"), 2, 2),
    ],
)  # fmt: skip
def test_ratios_follow_the_languages(languages: tuple[str | None, str | None], characters: int, words: int) -> None:
    assert max_ratios(*languages) == {"max_character_ratio": characters, "max_word_ratio": words}


@pytest.mark.parametrize(
    ("code", "scripts"),
    [
        ("eng", "Latn"), ("eng_Latn", "Latn"), ("sr", "Latn Cyrl"), ("sr-Latn", "Latn"), ("sh", "Latn Cyrl"),
        ("iw", "Hebr"), ("jw", "Latn"), ("cmn", "Hani Bopo"), ("zho_Hant", "Hani Bopo"), ("nob", "Latn"),
        ("tgl", "Latn"), ("in", "Latn"), ("EN-gb", "Latn"), ("chr", "Cher"), ("xx", ""), ("qqq", ""),
        ("ja-JP", "Hani Hira Kana"),
    ],
)  # fmt: skip
def test_scripts_of_every_spelling_of_a_language(code: str, scripts: str) -> None:
    assert " ".join(scripts_of(code)) == scripts


def test_a_filter_that_drops_much_is_the_first_thing_said(tmp_path: Path, pair: Any) -> None:
    done = catprune.clean(pair(b"a b c\nx y\nv w\n", b"abcdef\nx z\nw v u\n"), out=tmp_path / "clean")
    assert summary(done)[0] == "warning: word_ratio drops 1 (33.3%): if the text is good, change max_word_ratio (now 2)"
