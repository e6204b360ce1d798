"""Repairs: equal the oracle's on hostile text; every pass sees repaired text; whole records keep all else."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import catprune
import pyarrow
import pyarrow.parquet as parquet
import pytest
from catprune import UsageError
from catprune.cleaning.summary import summary
from hypothesis import example, given
from hypothesis import strategies as st
from support.cleaned import SIDE

oracles_repair = pytest.importorskip("support.oracles_repair", reason="ftfy is not installed")

NAMES = ["entities", "mojibake", "controls", "spaces", "punctuation", "nfc"]
ALL: dict[str, Any] = {"rules": False, "duplicates": "none", "repair": "all", "quiet": True}
BROKEN = "The caf\u00c3\u00a9 &amp; the\u00a0\u201cbar\u201d \u2014 e\u0301te\u0301\u200b  &#8211; &lt;b&gt; \x07end"
WHOLE = 'The caf\u00e9 & the "bar" - \u00e9t\u00e9 - <b> end'


def repaired(texts: list[str], names: list[str], folder: Path, **more: Any) -> list[str]:
    """The texts of a corpus of targets, as later passes read them."""
    table = pyarrow.table({"text": texts})
    shutil.rmtree(folder, ignore_errors=True)
    options: dict[str, Any] = {**ALL, "repair": ",".join(names), **more}
    catprune.clean(table, out=folder / "clean", monolingual=True, **options)
    batches = pyarrow.table(catprune.open_corpus(folder / "clean"))
    return batches.column("target").to_pylist()


ENTITIES = ["&amp;", "&", "&amp;amp;", "&#150;", "&#x41;", "&#0;", "&#9;", "&nope;", "&Ccaron;", "&#xD800;", "<"]
MOJIBAKE = ["Ã©", "â\u20ac\u2122", "Ã\u0192Â©", "Ð¿Ñ\u20acÐ¸", "ð\u0178\u02dc\u20ac"]
CONTROLS = ["\x1b[31m", "\x1b[", "\x07", "\x85", "\ufeff", "\u200b", "\u00ad", "\u00a0", "\u3000", "\t", "\r"]
PUNCTUATION = ["\u201cx\u201d", "\u2014", "\u2015 ", "\u2212", "\u02bc", "\u201e"]
PIECES = st.sampled_from(
    [*ENTITIES, *MOJIBAKE, *CONTROLS, *PUNCTUATION, "e\u0301", "\u1100\u1161", "a", "B ", " ", "1"]
)
TEXT = st.one_of(st.lists(PIECES, max_size=10).map("".join), SIDE.map(bytes.decode))


@given(texts=st.lists(TEXT, min_size=1, max_size=40), names=st.sets(st.sampled_from(NAMES), min_size=1))
@example(texts=[BROKEN], names=set(NAMES))
def test_repairs_are_the_oracles(tmp_path: Path, texts: list[str], names: set[str]) -> None:
    chosen = [name for name in NAMES if name in names]
    found = repaired(texts, chosen, tmp_path)
    assert found == [oracles_repair.repair(text, chosen) for text in texts]


def test_signs_of_newer_rules_and_very_long_words(tmp_path: Path) -> None:
    """Letters that plsfix alone does not repair; a word on which its patterns give up; and text that is right."""
    letters = "\u00dc\u0102\u0104\u010b\u0111\u0113\u0121\u0129\u0130\u0142\u0144\u0151\u0153\u0161\u017e"
    right = [f"das {letter}bel {letter.upper()}B" for letter in letters]
    broken = [text.encode().decode("cp1252", "replace") for text in right]
    whole = [place for place, text in enumerate(broken) if "\ufffd" not in text]
    assert len(whole) > 8
    found = repaired([broken[place] for place in whole], ["mojibake"], tmp_path / "letters")
    assert found == [right[place] for place in whole]
    texts = ["Ã© \u2603 \u044f " + "a" * 250_000, "Ã©a " * 100_000, "\u00c5 \u201chos\u201d \u0130st \u00c4\u00e4"]
    found = repaired(texts, ["mojibake"], tmp_path / "long", max_line_bytes=2**20 - 1)
    assert found == ["\u00e9 \u2603 \u044f " + "a" * 250_000, "\u00e9a " * 100_000, texts[2]]


def test_no_random_text_stops_a_pass(tmp_path: Path) -> None:
    """Mojibake of mojibake, cut anywhere: the rules must not fail, and repairing twice changes nothing."""
    generator = random.Random(7)
    codecs = ["latin-1", "cp1252", "cp1251", "cp437", "mac-roman", "utf-8"]
    texts: list[str] = []
    for _ in range(3000):
        text = "".join(chr(generator.choice([65, 228, 8364, 1103, 9731, 0x1F600, 32, 0xA0])) for _ in range(12))
        for _ in range(generator.randrange(3)):
            data = text.encode("utf-8")
            start = generator.randrange(4)
            text = data[start:].decode(generator.choice(codecs), "replace")
        texts.append(text)
    once = repaired(texts, NAMES, tmp_path / "once")
    again = repaired(once, NAMES, tmp_path / "again")
    assert sum(a != b for a, b in zip(once, again, strict=True)) == 0
    manifest = json.loads((tmp_path / "again/clean/manifest.json").read_text())
    assert {name: counts["records"] for name, counts in manifest["repairs"].items()} == dict.fromkeys(NAMES, 0)


def write_inputs(folder: Path) -> dict[str, tuple[list[Path], dict[str, Any], str]]:
    """One corpus in each format: the second record is broken, and each has other fields where the format can."""
    folder.mkdir()
    pairs = [("good", "gut"), (BROKEN, BROKEN.upper().replace("&AMP;", "&amp;").replace("&LT;B&GT;", "")), ("x", "y")]
    files: dict[str, tuple[list[Path], dict[str, Any], str]] = {}
    for side, name in enumerate(("a.en", "a.de")):
        (folder / name).write_text("".join(pair[side] + "\n" for pair in pairs))
    files["moses"] = ([folder / "a.en", folder / "a.de"], {}, "k.en")
    (folder / "a.tsv").write_text("".join(f"id{row}\t{t}\tmore\t{s}\t  end \n" for row, (s, t) in enumerate(pairs)))
    files["tsv"] = ([folder / "a.tsv"], {"columns": (4, 2)}, "k.tsv")
    lines = [
        f'{{"id": {row}, "en": "no", "score": NaN, "translation": {{"de": {json.dumps(t)}, "note": "\u201c&amp;", '
        f'"en": {json.dumps(s, ensure_ascii=row % 2 == 0)} }} , "en":1 }}\n'
        for row, (s, t) in enumerate(pairs)
    ]
    (folder / "a.jsonl").write_text("".join(lines))
    files["jsonl"] = ([folder / "a.jsonl"], {"fields": ("translation.en", "translation.de")}, "k.jsonl")
    texts = [{"de": t, "en": s} for s, t in pairs]
    other = ["\u201c&amp;\u201d"] * 3
    nested = pyarrow.array(texts, pyarrow.struct({"de": pyarrow.large_string(), "en": pyarrow.string()}))
    parquet.write_table(pyarrow.table({"other": other, "translation": nested}), folder / "a.parquet")
    files["parquet"] = ([folder / "a.parquet"], {"fields": ("translation.en", "translation.de")}, "k.parquet")
    maps = pyarrow.array(
        [[("fr", "\u201cnon\u201d"), ("de", t), ("en", s)] for s, t in pairs],
        pyarrow.map_(pyarrow.string(), pyarrow.string()),
    )
    parquet.write_table(pyarrow.table({"other": other, "translation": maps}), folder / "m.parquet")
    files["map"] = ([folder / "m.parquet"], {"fields": ("translation.en", "translation.de")}, "k.parquet")
    escape = {ord("&"): "&amp;", ord("<"): "&lt;", ord("\x07"): ""}
    units = [
        f'<tu tuid="{row}"><note>\u201cnote\u201d</note><tuv xml:lang="de"><prop type="p">\u201c</prop>'
        f"<seg>{t.translate(escape)}</seg>"
        f'</tuv><tuv xml:lang="fr"><seg>\u201cnon\u201d</seg></tuv>'
        f'<tuv xml:lang="en"><seg >{s.translate(escape)}</seg ></tuv></tu>'
        for row, (s, t) in enumerate(pairs)
    ]
    body = '<?xml version="1.0"?><tmx version="1.4"><header/><body>\n' + "\n".join(units) + "\n</body></tmx>\n"
    (folder / "a.tmx").write_text(body)
    files["tmx"] = ([folder / "a.tmx"], {"source_lang": "en", "target_lang": "de"}, "k.tmx")
    return files


@pytest.mark.parametrize("format", ["moses", "tsv", "jsonl", "parquet", "map", "tmx"])
@pytest.mark.parametrize("threads", [1, 3])
def test_outputs_have_repaired_sides(tmp_path: Path, format: str, threads: int) -> None:
    """Whole records keep everything but the two sides; the other records stay byte for byte."""
    inputs, options, name = write_inputs(tmp_path / "in")[format]
    plain = {**ALL, "repair": "none"}
    catprune.clean(inputs, out=tmp_path / "clean", threads=threads, **ALL, **options)
    outputs = [tmp_path / "k.en", tmp_path / "k.de"] if format == "moses" else [tmp_path / name]
    fields: dict[str, Any] = (
        {} if format not in ("jsonl", "parquet", "map") else {"fields": ("translation.en", "translation.de")}
    )
    written = catprune.write(tmp_path / "clean", outputs, threads=threads, quiet=True, **fields)
    assert (written.pairs, written.unwritable) == (3, 0)
    read = pyarrow.table(catprune.open_corpus(tmp_path / "clean")).to_pylist()
    catprune.clean(outputs, out=tmp_path / "again", **plain, **options)
    again = pyarrow.table(catprune.open_corpus(tmp_path / "again")).to_pylist()
    sides = [(row["source"], row["target"]) for row in again]
    assert sides == [(row["source"], row["target"]) for row in read]
    assert sides[1][0] == WHOLE and sides[0] == ("good", "gut") and sides[2] == ("x", "y")
    text = outputs[0].read_bytes()
    if format == "tsv":
        before = inputs[0].read_bytes().splitlines()
        lines = text.splitlines()
        assert [lines[0], lines[2]] == [before[0], before[2]]
        assert lines[1].decode().split("\t") == ["id1", sides[1][1], "more", WHOLE, "  end "]
    elif format == "jsonl":
        before = inputs[0].read_bytes().splitlines()
        lines = text.splitlines()
        assert [lines[0], lines[2]] == [before[0], before[2]]
        stored = json.loads(before[1].decode())
        stored["translation"] |= {"en": WHOLE, "de": sides[1][1]}
        assert str(json.loads(lines[1].decode())) == str(stored)  # NaN is not equal to itself
        assert b' } , "en":1 }' in lines[1]
    elif format in ("parquet", "map"):
        stored, copied = parquet.read_table(inputs[0]), parquet.read_table(outputs[0])
        assert copied.schema.names == stored.schema.names
        assert copied["other"].to_pylist() == stored["other"].to_pylist()
        if format == "map":
            assert copied["translation"][1].as_py() == [("fr", "\u201cnon\u201d"), ("de", sides[1][1]), ("en", WHOLE)]
    elif format == "tmx":
        units = [unit for unit in text.decode().splitlines() if unit.startswith("<tu ")]
        before = [unit for unit in inputs[0].read_text().splitlines() if unit.startswith("<tu ")]
        assert [units[0], units[2]] == [before[0], before[2]]
        assert units[1].count("\u201c") == 3  # of the note, the property and the third language
        assert '<seg >The caf\u00e9 &amp; the "bar"' in units[1]


def test_a_side_that_was_right_stays_byte_for_byte(tmp_path: Path) -> None:
    """With the elements inside its segment, and with the escapes of its field."""
    unit = '<tu><tuv xml:lang="en"><seg>a <ph x="1">{{1}}</ph>b</seg></tuv><tuv xml:lang="de"><seg>{}</seg></tuv></tu>'
    body = '<?xml version="1.0"?><tmx version="1.4"><header/><body>\n{}\n</body></tmx>\n'
    (tmp_path / "a.tmx").write_text(body.format(unit.format("c <ph>x</ph>&amp;amp; d")))
    languages = {"source_lang": "en", "target_lang": "de"}
    catprune.clean([tmp_path / "a.tmx"], out=tmp_path / "tmx", **ALL, **languages)
    catprune.write(tmp_path / "tmx", [tmp_path / "k.tmx"], quiet=True)
    assert unit.format("c &amp; d") in (tmp_path / "k.tmx").read_text()
    (tmp_path / "a.jsonl").write_text('{"en": "\\u00e9\\/", "de": "a &amp; b", "x": 1}\n')
    catprune.clean([tmp_path / "a.jsonl"], out=tmp_path / "jsonl", fields=("en", "de"), **ALL)
    catprune.write(tmp_path / "jsonl", [tmp_path / "k.jsonl"], fields=("en", "de"), quiet=True)
    assert (tmp_path / "k.jsonl").read_text() == '{"en": "\\u00e9\\/", "de": "a & b", "x": 1}\n'


def test_every_pass_reads_repaired_text(tmp_path: Path) -> None:
    """Rules, test sets, duplicates, statistics and tokens see what is written."""
    inputs = [tmp_path / "a.en", tmp_path / "a.de"]
    broken = BROKEN.replace("&lt;b&gt;", "")
    for path in inputs:
        path.write_text(
            f"{broken} {path.suffix}\n"
            + f"{oracles_repair.repair(broken, NAMES)} {path.suffix}\n"
            + "ok then my friend\n"
        )
    (tmp_path / "test.txt").write_text("ok\u200b then  my friend\n")
    rules = {"keep_identical": True, "max_common_word_share": 1}
    before = catprune.clean(inputs, dry_run=True, rules=rules, quiet=True)
    assert before.reasons["control_characters"] == 1 and before.reasons["duplicate"] == 0
    done = catprune.clean(
        inputs, out=tmp_path / "clean", rules=rules, repair="all", exclude=[tmp_path / "test.txt"], quiet=True
    )
    assert (done.reasons["control_characters"], done.reasons["duplicate"], done.reasons["excluded"]) == (0, 1, 1)
    assert done.kept == 1
    counted = catprune.stats([tmp_path / "clean"], quiet=True)
    assert counted.signature["repair"] == NAMES
    counts = done.manifest["repairs"]
    assert done.repairs == dict.fromkeys(NAMES, 1)
    shown = [line.split()[0] for line in summary(done, examples=0) if line.startswith("  ")]
    assert shown[: len(NAMES)] == NAMES, "in the order in which they are applied"
    assert {name: value["records"] for name, value in counts.items()} == dict.fromkeys(NAMES, 1)
    shown = counts["mojibake"]["examples"][0]
    assert shown["row"] == 0 and shown["stored_source"].startswith("The caf\u00c3") and "caf\u00e9" in shown["source"]


def test_appended_inputs_are_counted_with_the_others(tmp_path: Path) -> None:
    first, second = tmp_path / "a.tsv", tmp_path / "b.tsv"
    first.write_text("a &amp; b\tc\nd\te\n")
    second.write_text("f &amp; g\th\n")
    both = catprune.clean([first, second], out=tmp_path / "both", **ALL)
    catprune.clean([first], out=tmp_path / "clean", **ALL)
    appended = catprune.clean([first, second], out=tmp_path / "clean", **ALL)
    counts = [{name: part["records"] for name, part in done.manifest["repairs"].items()} for done in (appended, both)]
    assert counts[0] == counts[1] == {**dict.fromkeys(NAMES, 0), "entities": 2}
    assert [shown["row"] for shown in appended.manifest["repairs"]["entities"]["examples"]] == [0, 2]


@pytest.mark.parametrize("repair", ["", "mojibake,typos", "all,nfc", ","])
def test_unknown_repairs(tmp_path: Path, repair: str) -> None:
    (tmp_path / "a.tsv").write_text("a\tb\n")
    with pytest.raises(UsageError, match="is unknown: give all, none, or some of entities, mojibake"):
        catprune.clean([tmp_path / "a.tsv"], out=tmp_path / "clean", repair=repair)
    assert not (tmp_path / "clean").exists()
