"""TMX: reading against an oracle, writing against other readers, hostile units and headers."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import catprune
import pytest
from catprune import CatpruneError
from catprune.corpus.inputs import parse_inputs
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import oracles_formats
from support.cleaned import reasons
from support.fields import found, shown

XML = st.text(st.sampled_from('ab de1.\t\r\n\u2028\u0085\\"<&é漢]>'), max_size=10)
INLINE = st.one_of(
    XML.map(escape),
    XML.map(lambda text: "".join(f"&#{ord(character)};" for character in text)),
    st.sampled_from(
        [
            "<ph/>",
            '<bpt i="1">&lt;b&gt;</bpt>',
            "<hi>x</hi>",
            "<hi>x<it>code</it>y</hi>",
            "<![CDATA[a<b]]>",
            "<!-- no -->",
            "<ph>a title=<sub>s<ut>code</ut><hi>t</hi></sub>&gt;</ph>",
        ]
    ),
)
VARIANT = st.tuples(
    st.sampled_from(["en", "EN-us", "en_GB", "de", "DE", "de-AT", "den", "fr", ""]),
    st.sampled_from(["xml:lang", "lang"]),
    st.lists(INLINE, max_size=4).map("".join),
)
UNITS = st.lists(st.lists(VARIANT, max_size=4), min_size=1, max_size=6)


def document(units: list[list[tuple[str, str, str]]]) -> str:
    body = "".join(
        "<tu><note>n</note>"
        + "".join(f'<tuv {name}="{code}"><prop>p</prop><seg>{text}</seg></tuv>' for code, name, text in unit)
        + "</tu>\n"
        for unit in units
    )
    head = '<?xml version="1.0"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx version="1.4"><header/>'
    return f"{head}<body>{body}</body></tmx>"


@given(units=UNITS, limit=st.sampled_from([5, 16_384]), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
@settings(max_examples=30)
def test_tmx_is_the_oracles(tmp_path: Path, units: list[list[tuple[str, str, str]]], limit: int, encoding: str) -> None:
    path = tmp_path / "a.tmx"
    path.write_bytes(document(units).encode(encoding))
    expected = oracles_formats.tmx(document(units).encode(), ("en", "de"), limit=limit)
    for threads in (1, 3):
        shutil.rmtree(tmp_path / "clean", ignore_errors=True)
        catprune.clean(
            [path],
            out=tmp_path / "clean",
            source_lang="en",
            target_lang="de",
            duplicates="none",
            rules={"min_script_share": 0.0},  # the oracle knows no scripts
            max_line_bytes=limit,
            threads=threads,
        )
        assert reasons(tmp_path / "clean") == oracles_formats.clean(expected)
    if limit == 16_384:
        assert found(parse_inputs([path], languages=("en", "de"))[0], len(expected)) == [shown(one) for one in expected]


def test_tmx_with_bytes_that_are_no_text_and_many_variants(tmp_path: Path) -> None:
    unit = [("en", "xml:lang", f"line {number}") for number in range(100)] + [
        ("de", "xml:lang", f"Zeile {number}") for number in range(90)
    ]
    path = tmp_path / "a.tmx.gz"
    text = document(
        [[("en", "lang", "a @ b"), ("de", "lang", "c d")], unit, [("en", "lang", "&nbsp;"), ("de", "lang", "x")]]
    )
    path.write_bytes(gzip.compress(text.encode().replace(b"@", b"\xff")))
    done = catprune.clean([path], out=tmp_path / "clean", source_lang="en", target_lang="de", duplicates="none")
    assert done.rows == 9002
    assert {name: count for name, count in done.reasons.items() if count} == {"invalid_utf8": 1, "malformed_record": 1}
    pairs = found(parse_inputs([path], languages=("en", "de"))[0], 9001)[1:]
    assert pairs == [(f"line {one}", f"Zeile {other}") for one in range(100) for other in range(90)]


def test_tmx_in_a_declared_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.tmx"
    text = document([[("de", "lang", "Straße"), ("en", "lang", "street")]])
    path.write_bytes(text.replace('"1.0"', '"1.0" encoding="ISO-8859-1"').encode("latin-1"))
    assert found(parse_inputs([path], languages=("en", "de"))[0], 1) == [("street", "Straße")]


def test_damaged_tmx_names_file_and_line(tmp_path: Path) -> None:
    whole = document([[("en", "lang", "a"), ("de", "lang", "b")]] * 30)
    path = tmp_path / "a.tmx"
    cases = {
        whole[: len(whole) // 2].rsplit("\n", 1)[0] + "\n": "truncated",
        whole.replace("</tu>\n", "</tuv>\n", 1): "damaged",
        "<html></html>": "is not TMX: its first element is <html>",
        document([]): "has no translation unit",
    }
    for text, message in cases.items():
        path.write_text(text)
        with pytest.raises(CatpruneError, match=rf"a\.tmx.*{message}"):
            catprune.clean([path], out=tmp_path / "clean", source_lang="en", target_lang="de")
    deep = whole.replace("<seg>a", f"<seg>{'<hi>' * 300}a{'</hi>' * 300}", 1)
    path.write_text(deep)
    with pytest.raises(CatpruneError, match=r"a\.tmx, line 3.*nested too deeply"):
        catprune.clean([path], out=tmp_path / "clean", source_lang="en", target_lang="de")
    path.write_text(whole.replace("</tu>\n", "</tuv>\n", 1))
    with pytest.raises(CatpruneError, match=r"a\.tmx, line 3"):
        catprune.clean([path], out=tmp_path / "clean", source_lang="en", target_lang="de")


CODES = {
    "codes": (
        'Press <bpt i="1">&lt;cf bold="on"></bpt>green<ept i="1">&lt;/cf></ept> now<ph>{\\f1 \\tab}</ph>.',
        "Press green now.",
    ),
    "unpaired": ('a<it pos="begin">&lt;i></it> b<ut>{\\cs6}</ut>c', "a bc"),
    "highlighted": ("a <hi>b <ph>&lt;br/></ph>c</hi> d", "a b c d"),
    "text in codes": (
        'See <bpt i="1">&lt;a title="<sub>our <ph>x</ph><hi>old</hi> bridge</sub>"></bpt>!',
        "See our old bridge!",
    ),
    "an entity in a code": ("a <ph>&nbsp;&x;& y</ph>b", "a b"),
}


@pytest.mark.parametrize(("segment", "text"), CODES.values(), ids=CODES)
def test_inline_codes_are_no_text_and_stay_in_whole_units(tmp_path: Path, segment: str, text: str) -> None:
    unit = f'<tu><tuv lang="en"><seg>{segment}</seg></tuv><tuv lang="de"><seg>c d</seg></tuv></tu>'
    path = tmp_path / "a.tmx"
    path.write_text(f"<tmx><header/><body>{unit}</body></tmx>")
    catprune.clean([path], out=tmp_path / "clean", source_lang="en", target_lang="de", rules=False)
    assert found(parse_inputs([path], languages=("en", "de"))[0], 1) == [(text, "c d")]
    catprune.write(tmp_path / "clean", [tmp_path / "b.tmx"])
    assert (unit in (tmp_path / "b.tmx").read_text()) == ("&nbsp;" not in unit)
    assert oracles_formats.tmx((tmp_path / "b.tmx").read_bytes(), ("en", "de")) == [(text.encode(), b"c d")]


def test_an_ampersand_that_is_not_escaped_costs_its_unit_alone(tmp_path: Path) -> None:
    units = [[("en", "lang", text), ("de", "lang", "x y")] for text in ("a b", "AT&T; c", "R & D", "M&", "d e")]
    path = tmp_path / "a.tmx"
    path.write_text(document(units))
    done = catprune.clean([path], out=tmp_path / "clean", source_lang="en", target_lang="de", rules=False)
    assert (done.rows, done.kept, done.reasons["malformed_record"]) == (5, 2, 3)


def test_what_stands_before_a_document_is_not_copied(tmp_path: Path) -> None:
    unit = '<tu><tuv lang="en"><seg>a b</seg></tuv><tuv lang="de"><seg>c d</seg></tuv></tu>'
    for before in ("<![CDATA[ ]]>", "&#32;", "text", "<![CDATA[]]>"):
        path = tmp_path / "a.tmx"
        path.write_text(f"{before}<tmx><header/><body>{unit}</body></tmx>")
        catprune.clean([path], out=tmp_path / "clean", source_lang="en", target_lang="de", rules=False, force=True)
        catprune.write(tmp_path / "clean", [tmp_path / "b.tmx"], force=True)
        assert oracles_formats.tmx((tmp_path / "b.tmx").read_bytes(), ("en", "de")) == [(b"a b", b"c d")]


def test_a_unit_too_large_for_memory_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.tmx"
    good = '<tu><tuv lang="en"><seg>a b</seg></tuv><tuv lang="de"><seg>c d</seg></tuv></tu>\n'
    variant = '<tuv lang="en"><seg>a</seg></tuv>'
    path.write_text(f"<tmx><header/><body>{good}<tu>{variant * 300_000}</tu></body></tmx>")
    with pytest.raises(CatpruneError, match=r"a\.tmx, line 2.*a translation unit of more than 16 MiB"):
        catprune.clean([path], out=tmp_path / "clean", source_lang="en", target_lang="de")
    # Variants in other languages are not held.
    other = '<tuv lang="fr"><seg>a</seg></tuv>'
    path.write_text(f"<tmx><header/><body><tu>{good[4:-6]}{other * 300_000}</tu></body></tmx>")
    done = catprune.clean([path], out=tmp_path / "clean", source_lang="en", target_lang="de", rules=False)
    assert done.kept == 1


TMX_SIDE = st.text(
    st.sampled_from('ab de1.\t\r\n\u2028\u0085\x00\x1b\x7f\\"<&>]é漢\ufdd0\ufffe\uffff\U0001f600'), max_size=10
)


@given(rows=st.lists(st.tuples(TMX_SIDE, TMX_SIDE), min_size=1, max_size=20))
@example(rows=[("]]>", "\r\n \r"), ("&lt;", "<!--"), (" a\ufffe", "b"), ("\ufdd0", "")])
@settings(max_examples=30)
def test_pairs_come_back_from_generated_tmx(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"en": source, "de": target}) + "\n" for source, target in rows))
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    options: dict[str, Any] = {"rules": {"keep_control_characters": True}, "duplicates": "none"}
    catprune.clean([path], out=tmp_path / "run/clean", fields=("en", "de"), **options)
    reasons_of_rows = reasons(tmp_path / "run/clean")
    outputs = [tmp_path / f"run/{name}.tmx" for name in "kd"]
    done = catprune.write(tmp_path / "run/clean", outputs[:1], dropped=outputs[1:], fields=("en", "de-AT"))
    counts = ((done.pairs, done.unwritable), (done.dropped, done.dropped_unwritable))
    for output, dropped, count in zip(outputs, (False, True), counts, strict=True):
        pairs = [pair for pair, why in zip(rows, reasons_of_rows, strict=True) if bool(why) == dropped]
        good = [pair for pair in pairs if oracles_formats.is_xml("".join(pair))]
        assert count == (len(good), len(pairs) - len(good))
        expected = [(source.encode(), target.encode()) for source, target in good]
        assert oracles_formats.tmx(output.read_bytes(), ("en", "de")) == expected
        if good:
            assert found(parse_inputs([output], languages=("en", "de"))[0], len(good)) == good


@given(units=UNITS, encoding=st.sampled_from(["utf-8-sig", "utf-16"]))
@settings(max_examples=30)
def test_whole_units_survive_from_tmx_to_tmx(
    tmp_path: Path, units: list[list[tuple[str, str, str]]], encoding: str
) -> None:
    units = [*units, [("en", "lang", "one"), ("de", "lang", "eins"), ("fr", "lang", "un")]]
    (tmp_path / "a.tmx").write_bytes(document(units).encode(encoding))
    (tmp_path / "b.tmx").write_bytes(document(units[-1:]).encode())
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    options: dict[str, Any] = {"source_lang": "en", "target_lang": "de", "duplicates": "source"}
    catprune.clean([tmp_path / "a.tmx", tmp_path / "b.tmx"], out=tmp_path / "run/clean", **options)
    reasons_of_rows = reasons(tmp_path / "run/clean")
    outputs = [tmp_path / f"run/{name}.tmx" for name in "kd"]
    done = catprune.write(tmp_path / "run/clean", outputs[:1], dropped=outputs[1:])
    assert done.whole
    parts = [oracles_formats.tmx(document(part).encode(), ("en", "de")) for part in (units, units[-1:])]
    records = [record for part in parts for record in part]
    for output, dropped in zip(outputs, (False, True), strict=True):
        written = [
            record
            for record, why in zip(records, reasons_of_rows, strict=True)
            if bool(why) == dropped and not isinstance(record, str)
        ]
        data = output.read_text()
        assert oracles_formats.tmx(data.encode(), ("en", "de")) == written
        assert data.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4"><header/><body>\n')
        lines = data.split("<body>\n")[1].replace("\r\n", "\n").replace("\r", "\n")
        for part in (units, units[-1:]):
            for unit in part:
                single = oracles_formats.tmx(document([unit]).encode(), ("en", "de"))
                whole = document([unit]).split("<body>")[1].removesuffix("</body></tmx>")
                whole = whole.replace("\r\n", "\n").replace("\r", "\n")
                if len(single) == 1 and single[0] in written and written.count(single[0]) == records.count(single[0]):
                    assert whole in lines


HOSTILE = {
    "sound": ("<prop type='x'>&#233;&quot;</prop><!-- a - b --><![CDATA[<]]>", True),
    "entity": ("<note>&nbsp;</note>", False),
    "reference": ("<note>&#1;</note>", False),
    "control": ("<note>\x01</note>", False),
    "end of cdata": ("<note>]]></note>", False),
    "comment": ("<!-- a -- b -->", False),
    "prefix": ("<x:note>n</x:note>", False),
    "attribute": ("<note a=1>n</note>", False),
    "attributes": ("<note a='1'b='2'>n</note>", False),
    "twice": ("<note a='1' a='2'>n</note>", False),
    "value": ("<note a='&x;'>n</note>", False),
    "less": ("<note a='<'>n</note>", False),
    "name": ("<1>n</1>", False),
    "instruction": ("<?xml version='1.0'?>", False),
}


@pytest.mark.parametrize(("inside", "copied"), HOSTILE.values(), ids=HOSTILE)
def test_units_that_other_readers_refuse_are_not_copied(tmp_path: Path, inside: str, copied: bool) -> None:
    """Our reader only reads the text; other content must not break the written document."""
    unit = f"<tu>{inside}<tuv lang='en-US'><seg>a <ph/>b</seg></tuv>\r\n<tuv lang='de'><seg>c d</seg></tuv></tu>"
    for place, text in {
        "unit": f"<tmx><header/><body>{unit}</body></tmx>",
        "header": f"<!DOCTYPE tmx [<!ENTITY nbsp ' '>]>\n<tmx><header>{inside}</header><body>{unit}</body></tmx>",
    }.items():
        (tmp_path / "a.tmx").write_bytes(text.encode())
        catprune.clean([tmp_path / "a.tmx"], out=tmp_path / place, source_lang="en", target_lang="de")
        output = tmp_path / f"{place}.tmx"
        assert catprune.write(tmp_path / place, [output]).pairs == 1
        written = output.read_bytes()
        assert oracles_formats.tmx(written, ("en", "de")) == [(b"a b", b"c d")]
        assert (unit.encode() in written) == copied
        assert (b"<tmx><header>" in written) == (copied and place == "header")
    (tmp_path / "b.tmx").write_bytes(written)
    for output, options in ((tmp_path / "c.tmx", {}), (tmp_path / "d.tmx", {"fields": ("fr", "it")})):
        whole = catprune.write(tmp_path / "header", [output], **options).whole
        assert whole == (not options) and (written == output.read_bytes()) == whole


def test_tmx_is_the_same_on_any_threads_and_each_pair_is_there_once(tmp_path: Path) -> None:
    many = [("en", "lang", f"line {number}") for number in range(80)] + [
        ("de", "lang", f"Zeile {number}") for number in range(70)
    ]
    long = [("en", "lang", "long"), ("fr", "lang", "x" * 3_000_000), ("de", "lang", "lang")]
    singles = [[("en", "lang", f"row {number}"), ("de", "lang", f"Reihe {number}")] for number in range(6_000)]
    (tmp_path / "a.tmx.gz").write_bytes(gzip.compress(document([*singles, many, *([long] * 50), *singles]).encode()))
    options: dict[str, Any] = {"source_lang": "en", "target_lang": "de", "duplicates": "none", "rules": False}
    done = catprune.clean([tmp_path / "a.tmx.gz"], out=tmp_path / "clean", **options)
    assert done.rows == done.kept == 12_000 + 80 * 70 + 50
    outputs = [tmp_path / f"{threads}.tmx.zst" for threads in (1, 4)]
    for threads, output in zip((1, 4), outputs, strict=True):
        assert catprune.write(tmp_path / "clean", [output], threads=threads).pairs == done.rows
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    inputs = [parse_inputs([path], languages=("en", "de"))[0] for path in (tmp_path / "a.tmx.gz", outputs[0])]
    assert found(inputs[0], done.rows) == found(inputs[1], done.rows)
