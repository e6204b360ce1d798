"""Formats in and out: every reader finds what its oracle finds, in any compression and on any number of threads; what
is written is what was kept, and whole where it can be."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import catprune
import pyarrow
import pytest
from catprune import CatpruneError, UsageError
from catprune.corpus.inputs import parse_inputs
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from support import oracles, oracles_formats
from support.cleaned import read, reasons
from support.fields import SIDE, VALUE, read_records, shown

FIELDS = ("translation.en", "translation.de")


def zstd(data: bytes) -> bytes:
    return pyarrow.compress(data, codec="zstd", asbytes=True)


def zstd_with_checksum(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout


SKIPPABLE = b"\x5a\x2a\x4d\x18\x03\x00\x00\x00abc"
PACK: dict[str, Any] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}


def members(suffix: str, data: bytes, cuts: list[int]) -> bytes:
    """The data as several members, with bytes that may be between them."""
    pieces = [data[first:end] for first, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    packed = [PACK[suffix](piece) for piece in pieces]
    between = {"zst": SKIPPABLE, "xz": b"\x00" * 4}.get(suffix, b"")
    return between.join(packed) + (b"\x00" * 8 if suffix == "xz" else b"")


@pytest.mark.parametrize("suffix", PACK)
@given(
    lines=st.lists(st.binary(max_size=9), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 400), max_size=4).map(sorted),
)
@settings(max_examples=25)
def test_members_are_one_text(tmp_path: Path, suffix: str, lines: list[bytes], cuts: list[int]) -> None:
    lines = [b"." + line.translate(None, b"\n\t") for line in lines]
    data = b"".join(line + b"\tx\n" for line in lines)
    path = tmp_path / f"a.tsv.{suffix}"
    path.write_bytes(members(suffix, data, [min(cut, len(data)) for cut in cuts]))
    corpus = {"format": "tsv", "path": str(path), "source_column": 1, "target_column": 2}
    assert read_records(corpus, len(lines)) == [(line.decode(errors="replace"), "x") for line in lines]


def large(count: int = 20_000) -> bytes:
    return b"".join(b"a line of %d\tZeile mit %d\n" % (row, row) for row in range(count))


def test_files_of_other_tools_are_read(tmp_path: Path) -> None:
    """Blocks of xz that are decoded in parallel, streams of the tools that run on many threads, and their checks."""
    data = large()
    plain = tmp_path / "a.tsv"
    plain.write_bytes(data)
    catprune.clean([plain], out=tmp_path / "plain")
    commands = {
        "xz": ["xz", "-T2", "--block-size=100000", "--check=sha256", "-k", "-c", str(plain)],
        "zst": ["zstd", "-q", "--adapt", "-c", str(plain)],
        "bz2": ["bzip2", "-k", "-c", str(plain)],
    }
    for suffix, command in commands.items():
        packed = tmp_path / f"b.tsv.{suffix}"
        packed.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout * 2)
        done = catprune.clean([packed], out=tmp_path / suffix, duplicates="none")
        assert (done.rows, done.kept) == (40_000, 40_000)
        assert read(tmp_path / suffix)["source_characters"] == read(tmp_path / "plain")["source_characters"] * 2


@pytest.mark.parametrize("suffix", PACK)
def test_damaged_members_name_file_and_line(tmp_path: Path, suffix: str) -> None:
    data = large()
    pack = zstd_with_checksum if suffix == "zst" else PACK[suffix]
    packed = pack(data[: len(data) // 2]) + pack(data[len(data) // 2 :])
    middle = bytearray(packed)
    for place in range(len(packed) // 4, len(packed) // 4 + 40):
        middle[place] ^= 0xFF
    path = tmp_path / f"a.tsv.{suffix}"
    for broken in (packed[: -len(packed) // 4], bytes(middle)):
        path.write_bytes(broken)
        with pytest.raises(CatpruneError, match=rf"a\.tsv\.{suffix} is truncated or damaged after line \d+"):
            catprune.clean([path], out=tmp_path / "clean")
        assert not list((tmp_path / "clean").rglob("*.parquet"))
    path.write_bytes(b"no such magic")
    with pytest.raises(CatpruneError, match="first bytes are not those of"):
        catprune.clean([path], out=tmp_path / "clean")


def test_padding_of_xz_comes_in_fours(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv.xz"
    path.write_bytes(lzma.compress(b"a b\tc d\n") + b"\x00" * 3)
    with pytest.raises(CatpruneError, match="padding"):
        catprune.clean([path], out=tmp_path / "clean")


RECORD = st.fixed_dictionaries(
    {},
    optional={"translation": st.one_of(st.dictionaries(st.sampled_from(["en", "de", "x"]), VALUE), VALUE), "id": VALUE},
)
LINE = st.one_of(
    RECORD.map(lambda record: json.dumps(record, ensure_ascii=False).encode()),
    RECORD.map(lambda record: json.dumps(record, indent=1).replace("\n", "\r").encode()),
    st.binary(max_size=9),
    st.sampled_from(
        [
            b"",
            b"[]",
            b'{"translation": {"en": "\\ud800", "de": "a"}}',
            b'{"translation": {"en": "\xff", "de": "a"}}',
            b'{"translation": {"en": "a", "de": "b"}, "translation": {"de": "c"}}',
            b'{"translation": {"en": "a", "en": "c", "de": "b"}}',
            b'{"translation": {"en": "a", "de": "b"}, "score": NaN}',
            b'{"translation": {"en": "a", "de": "b"}, "score": 1e999} ',
            b'{"translation": {"en": "a", "de": "b"}} {}',
            b'{"translation.en": "a", "translation.de": "b"}',
        ]
    ),
).map(lambda line: line.replace(b"\n", b""))


@given(lines=st.lists(LINE, min_size=1, max_size=12), limit=st.sampled_from([20, 16_384]))
@example(lines=[b'{"translation": {"en": "a\\nb", "de": "\\u00e9\\u2028"}}'] * 2, limit=16_384)
@settings(max_examples=30)
def test_jsonl_is_the_oracles(tmp_path: Path, lines: list[bytes], limit: int) -> None:
    path = tmp_path / "a.jsonl"
    lines = [b"{}", *lines]  # a file that begins like another format is refused
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    expected = oracles_formats.jsonl(path.read_bytes(), FIELDS, limit=limit)
    for threads in (1, 3):
        shutil.rmtree(tmp_path / "clean", ignore_errors=True)
        catprune.clean(
            [path], out=tmp_path / "clean", fields=FIELDS, duplicates="none", max_line_bytes=limit, threads=threads
        )
        assert reasons(tmp_path / "clean") == oracles_formats.clean(expected)
    if limit == 16_384:
        corpus = parse_inputs([path], fields=FIELDS)[0]
        good = [record for record in expected if oracles_formats.clean([record]) != [{"invalid_utf8"}]]
        pairs = read_records(corpus, len(lines))
        assert [pair for pair, record in zip(pairs, expected, strict=True) if record in good] == [
            shown(record) for record in good
        ]


STRUCT = st.one_of(
    st.none(), st.fixed_dictionaries({"de": st.one_of(st.none(), SIDE), "en": st.one_of(st.none(), SIDE)})
)
ROWS = st.lists(st.fixed_dictionaries({"id": st.integers(0, 9), "translation": STRUCT}), min_size=1, max_size=12)
TEXT_TYPES = [
    pyarrow.string(),
    pyarrow.large_string(),
    pyarrow.string_view(),
    pyarrow.binary(),
    pyarrow.large_binary(),
    pyarrow.binary_view(),
    pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
]


def struct_table(rows: list[dict[str, Any]], kind: pyarrow.DataType) -> pyarrow.Table:
    schema = pyarrow.schema([("id", pyarrow.int64()), ("translation", pyarrow.struct([("de", kind), ("en", kind)]))])
    return pyarrow.Table.from_pylist(rows, schema=schema)


@given(rows=ROWS, group=st.integers(1, 5), limit=st.sampled_from([3, 16_384]))
@settings(max_examples=30)
def test_parquet_is_the_oracles(tmp_path: Path, rows: list[dict[str, Any]], group: int, limit: int) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(struct_table(rows, pyarrow.string()), path, row_group_size=group)
    expected = oracles_formats.table(rows, FIELDS, limit=limit)
    for threads in (1, 3):
        shutil.rmtree(tmp_path / "clean", ignore_errors=True)
        catprune.clean(
            [path], out=tmp_path / "clean", fields=FIELDS, duplicates="none", max_line_bytes=limit, threads=threads
        )
        assert reasons(tmp_path / "clean") == oracles_formats.clean(expected)
    if limit == 16_384:
        assert read_records(parse_inputs([path], fields=FIELDS)[0], len(rows)) == [shown(record) for record in expected]


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_text_of_any_arrow_type_is_read(tmp_path: Path, kind: pyarrow.DataType) -> None:
    texts = ["a b", None, "a\nb", "", "z" * 50]
    column = pyarrow.array(texts).cast(pyarrow.string())
    column = column.dictionary_encode() if pyarrow.types.is_dictionary(kind) else column.cast(kind)
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"en": column, "de": pyarrow.array(["x"] * 5)}), path)
    expected = [("", "") if text is None else (text, "x") for text in texts]
    assert read_records(parse_inputs([path], fields=("en", "de"))[0], 5) == expected


def test_rows_of_parquet_come_in_order_over_groups_and_pages(tmp_path: Path) -> None:
    sides = [(f"line number {row}", f"Zeile Nummer {row}") for row in range(20_000)]
    table = pyarrow.table({"en": [side[0] for side in sides], "de": [side[1] for side in sides]})
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path, row_group_size=3_001, data_page_size=700, compression="zstd")
    assert read_records(parse_inputs([path], fields=("en", "de"))[0], 20_000) == sides
    catprune.clean([path], out=tmp_path / "clean", source_lang="en", target_lang="de")
    catprune.tokenize(tmp_path / "clean", out=tmp_path / "tokens", vocab_size=300, sample=1000)
    assert catprune.write(tmp_path / "clean", [tmp_path / "p.en", tmp_path / "p.de"]).pairs == 20_000


def test_unreadable_parquet_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"en": ["a b"] * 100, "de": ["c d"] * 100, "n": range(100)}), path)
    for fields, message in (
        (("en", "fr"), "no column fr, only en, de, n: give fields"),
        (("en", "n"), "column n is Int64, not text: give fields"),
    ):
        with pytest.raises(CatpruneError, match=rf"a\.parquet.*{message}"):
            catprune.clean([path], out=tmp_path / "clean", fields=fields)
    whole = path.read_bytes()
    for broken in (whole[:-20], whole[:100] + bytes(40) + whole[140:], b"not Parquet"):
        path.write_bytes(broken)
        with pytest.raises(CatpruneError, match=r"a\.parquet"):
            catprune.clean([path], out=tmp_path / "clean", fields=("en", "de"))
    parquet.write_table(pyarrow.table({"en": pyarrow.array([], "string"), "de": pyarrow.array([], "string")}), path)
    with pytest.raises(CatpruneError, match=r"a\.parquet is empty"):
        catprune.clean([path], out=tmp_path / "clean", fields=("en", "de"))


def test_inputs_of_every_format_are_one_corpus(tmp_path: Path) -> None:
    (tmp_path / "part-1.en").write_text("moses\n")
    (tmp_path / "part-1.de").write_text("Moses eins\n")
    (tmp_path / "part-2.en").write_text("two moses\n")
    (tmp_path / "part-2.de").write_text("Moses zwei\n")
    (tmp_path / "a.tsv").write_text("table\tTabelle\n")
    (tmp_path / "b.jsonl.zst").write_bytes(zstd(b'{"en": "object", "de": "Objekt"}\n'))
    parquet.write_table(pyarrow.table({"de": ["Spalte"], "en": ["column"]}), tmp_path / "c.parquet")
    (tmp_path / "d.tmx.xz").write_bytes(
        lzma.compress(
            b'<tmx version="1.4"><header/><body><tu><tuv lang="en"><seg>unit</seg></tuv>'
            b'<tuv lang="de"><seg>Einheit</seg></tuv></tu></body></tmx>'
        )
    )
    names = ["part-*.{en,de}", "a.tsv", "[b].jsonl.*", "c.parquet", "d.tmx.xz"]
    done = catprune.clean(
        [tmp_path / name for name in names], out=tmp_path / "clean", source_lang="en", target_lang="de"
    )
    assert done.rows == done.kept == 6
    assert [(item["format"], item["first"]) for item in done.manifest["inputs"]] == [
        ("moses", 0),
        ("moses", 1),
        ("tsv", 2),
        ("jsonl", 3),
        ("parquet", 4),
        ("tmx", 5),
    ]
    outputs = {
        "p.en": b"moses\ntwo moses\ntable\nobject\ncolumn\nunit\n",
        "p.tsv": None,
        "p.jsonl": None,
        "p.parquet": None,
    }
    catprune.write(tmp_path / "clean", [tmp_path / "p.en", tmp_path / "p.de"])
    assert (tmp_path / "p.en").read_bytes() == outputs["p.en"]
    pairs = list(
        zip(
            (tmp_path / "p.en").read_text().split("\n")[:-1],
            (tmp_path / "p.de").read_text().split("\n")[:-1],
            strict=True,
        )
    )
    for name in ("p.tsv", "p.jsonl", "p.parquet", "p.tmx", "p.tmx.bz2"):
        assert not catprune.write(tmp_path / "clean", [tmp_path / name]).whole
        again = parse_inputs([tmp_path / name], languages=("en", "de"))[0]
        assert read_records(again, 6) == pairs
    assert json.loads((tmp_path / "p.jsonl").read_text().split("\n")[3]) == {"en": "object", "de": "Objekt"}


def test_templates_match_one_to_one(tmp_path: Path) -> None:
    for name in ("p-1.en", "p-1.de", "p-2.en", "q-10.en", "q-10.de", "q-9.en", "q-9.de"):
        (tmp_path / name).write_text("x\n")
    with pytest.raises(UsageError, match=r"p-2\.en has no counterpart that matches .*p-\*\.de"):
        parse_inputs([tmp_path / "p-*.{en,de}"])
    with pytest.raises(UsageError, match="no such file"):
        parse_inputs([tmp_path / "none-*.{en,de}"])
    parsed = parse_inputs([tmp_path / "q-*.{en,de}"])
    assert [Path(item["source"]).name for item in parsed] == ["q-9.en", "q-10.en"]
    assert [Path(item["target"]).name for item in parsed] == ["q-9.de", "q-10.de"]


def test_invalid_options_are_refused() -> None:
    for options, message in (
        ({"names": ["a.jsonl"]}, "give the fields"),
        ({"names": ["a.jsonl"], "fields": ("a", "a.b")}, "one field is inside the other"),
        ({"names": ["a.parquet"], "fields": ("a", "")}, "a name is empty"),
        ({"names": ["a.tmx"], "languages": ("en", None)}, "needs two languages: give source_lang and target_lang"),
        ({"names": ["a.tmx"], "languages": ("en", "en-GB")}, "match the same variants"),
        ({"names": ["a.tmx"], "languages": ("en", 'd"')}, "is not a language code"),
        ({"names": ["a.xyz"], "format": "csv"}, "format csv"),
        ({"names": ["a.parquet.gz"]}, "Parquet compresses its columns"),
        ({"names": ["a.xyz"]}, "give format for a file"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_inputs(**options)
    assert parse_inputs(["a.txt"], format="jsonl", fields=("x", "y"))[0]["format"] == "jsonl"


def test_whole_records_that_a_line_end_would_swallow_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"a\tb\r\r\nc\td\r\ne\tf\r")
    catprune.clean([tmp_path / "a.tsv"], out=tmp_path / "clean", rules=False)
    done = catprune.write(tmp_path / "clean", [tmp_path / "b.tsv"])
    assert (done.pairs, done.unwritable, done.whole) == (1, 2, True)
    assert (tmp_path / "b.tsv").read_bytes() == b"c\td\n"


ALL = "run/p.tsv", "run/p.jsonl", "run/p.parquet"


@given(rows=st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=20))
@settings(max_examples=15)
def test_written_pairs_are_the_kept_ones_in_every_format(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"en": source, "x": {"de": target}}) + "\n" for source, target in rows))
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    options: dict[str, Any] = {"rules": {"keep_control_characters": True}}
    catprune.clean([path], out=tmp_path / "run/clean", fields=("en", "x.de"), duplicates="none", **options)
    reasons_of_rows = reasons(tmp_path / "run/clean")
    kept = [pair for pair, why in zip(rows, reasons_of_rows, strict=True) if not why]
    rest = [pair for pair, why in zip(rows, reasons_of_rows, strict=True) if why]
    for suffix, bad in (("tsv", "\t\n"), ("parquet", ""), ("jsonl", "")):
        output, dropped = tmp_path / f"run/p.{suffix}", tmp_path / f"run/d.{suffix}"
        done = catprune.write(tmp_path / "run/clean", [output], fields=("s.a", "s.b"), dropped=[dropped])
        for name, pairs, count, lost in (
            (output, kept, done.pairs, done.unwritable),
            (dropped, rest, done.dropped, done.dropped_unwritable),
        ):
            good = [pair for pair in pairs if not any(fragment in side for side in pair for fragment in bad)]
            if suffix == "tsv":  # read back, it would be a part of the line's end
                good = [pair for pair in good if not pair[1].endswith("\r")]
            assert (count, lost) == (len(good), len(pairs) - len(good))
            if suffix == "tsv":
                assert name.read_bytes() == "".join(f"{source}\t{target}\n" for source, target in good).encode()
            elif suffix == "parquet":
                assert parquet.read_table(name).to_pylist() == [
                    {"s": {"a": source, "b": other}} for source, other in good
                ]
            else:
                assert done.whole
                expected = "".join(json.dumps({"en": source, "x": {"de": target}}) + "\n" for source, target in good)
                assert name.read_text() == expected
    done = catprune.write(tmp_path / "run/clean", [tmp_path / "run/p.en", tmp_path / "run/p.de"])
    # A carriage return before the line end would be read as a part of it.
    good = [pair for pair in kept if not any("\n" in side or side.endswith("\r") for side in pair)]
    assert (done.pairs, done.unwritable) == (len(good), len(kept) - len(good))
    assert (tmp_path / "run/p.en").read_bytes() == "".join(source + "\n" for source, _ in good).encode()


def test_whole_rows_survive_from_parquet_to_parquet(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "id": pyarrow.array(range(10_000), "uint16"),
            "translation": [{"de": f"Zeile Nummer {row}", "en": f"line number {row // 2}"} for row in range(10_000)],
            "scores": [[row / 7, None] for row in range(10_000)],
            "domain": pyarrow.array(["news", "web"] * 5000).dictionary_encode(),
            "when": pyarrow.array(range(10_000), pyarrow.timestamp("ms", "Europe/Berlin")),
        }
    )
    for part, (first, count) in enumerate(((0, 6000), (6000, 4000))):
        parquet.write_table(table.slice(first, count), tmp_path / f"a-{part}.parquet", row_group_size=1500)
    catprune.clean([tmp_path / "a-*.parquet"], out=tmp_path / "clean", fields=FIELDS, duplicates="source")
    done = catprune.write(tmp_path / "clean", [tmp_path / "p.parquet"], dropped=[tmp_path / "d.parquet"], threads=1)
    assert (done.whole, done.pairs, done.dropped) == (True, 5000, 5000)
    even = pyarrow.array([row % 2 == 0 for row in range(10_000)])
    for name, rows in (("p", even), ("d", pyarrow.compute.invert(even))):
        written = parquet.read_table(tmp_path / f"{name}.parquet")
        assert written.schema == parquet.read_schema(tmp_path / "a-0.parquet")
        assert written.to_pylist() == table.filter(rows).to_pylist()
    catprune.write(tmp_path / "clean", [tmp_path / "q.parquet"], dropped=[tmp_path / "e.parquet"], threads=4)
    assert (tmp_path / "p.parquet").read_bytes() == (tmp_path / "q.parquet").read_bytes()
    assert (tmp_path / "d.parquet").read_bytes() == (tmp_path / "e.parquet").read_bytes()
    catprune.write(tmp_path / "clean", [tmp_path / "r.jsonl"])
    assert json.loads((tmp_path / "r.jsonl").read_text().split("\n")[1]) == {
        "source": "line number 1",
        "target": "Zeile Nummer 2",
    }


@pytest.mark.parametrize("suffix", PACK)
def test_compressed_outputs_are_the_same_on_any_threads(tmp_path: Path, suffix: str) -> None:
    data = large(10_000)
    (tmp_path / "a.tsv").write_bytes(data)
    catprune.clean([tmp_path / "a.tsv"], out=tmp_path / "clean")
    for threads in (1, 4):
        catprune.write(tmp_path / "clean", [tmp_path / f"{threads}.tsv.{suffix}"], threads=threads)
    packed = (tmp_path / f"1.tsv.{suffix}").read_bytes()
    assert packed == (tmp_path / f"4.tsv.{suffix}").read_bytes()
    unpack = {"gz": gzip.decompress, "bz2": bz2.decompress, "xz": lzma.decompress}
    if suffix in unpack:
        assert unpack[suffix](packed) == data
    else:
        assert subprocess.run(["zstd", "-dc"], input=packed, capture_output=True, check=True).stdout == data


def test_tags_and_dropped_pairs_are_written_with_the_text(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"a b\nc d\na b\n\ne f\n", b"x y\nz w\nx y\nq\nu v\n")
    (tmp_path / "tags").write_text("news\nweb\nweb\nnews\nbook\n")
    catprune.clean(paths, out=tmp_path / "clean", tags=tmp_path / "tags")
    outputs = [tmp_path / "p.en", tmp_path / "p.de"]
    dropped = [tmp_path / "d.en", tmp_path / "d.de"]
    done = catprune.write(tmp_path / "clean", outputs, tags=tmp_path / "p.tags", dropped=dropped)
    assert (done.pairs, done.dropped, done.paths) == (3, 2, tuple(outputs))
    assert [path.read_bytes() for path in outputs] == [b"a b\nc d\ne f\n", b"x y\nz w\nu v\n"]
    assert (tmp_path / "p.tags").read_bytes() == b"news\nweb\nbook\n"
    assert [path.read_bytes() for path in dropped] == [b"a b\n\n", b"x y\nq\n"]
    record = json.loads((tmp_path / "p.en.catprune.json").read_text())
    assert [file["path"] for file in record["files"]] == ["p.en", "p.de", "d.en", "d.de", "p.tags"]
    before = (tmp_path / "p.tags").stat().st_mtime_ns
    catprune.write(tmp_path / "clean", outputs, tags=tmp_path / "p.tags", dropped=dropped)
    assert (tmp_path / "p.tags").stat().st_mtime_ns == before
    dropped[1].unlink()
    catprune.write(tmp_path / "clean", outputs, tags=tmp_path / "p.tags", dropped=dropped, force=True)
    assert dropped[1].read_bytes() == b"x y\nq\n"
    (tmp_path / "tags").write_text("news\nweb\nweb\nnews\nnews\n")
    with pytest.raises(CatpruneError, match="tags changed since it was cleaned"):
        catprune.write(tmp_path / "clean", [tmp_path / "q.en", tmp_path / "q.de"], tags=tmp_path / "q.tags")
    assert not list(tmp_path.glob("q.*"))
    with pytest.raises(UsageError, match="different output files"):
        catprune.write(tmp_path / "clean", outputs, tags=tmp_path / "p.en")
    catprune.clean(paths, out=tmp_path / "bare")
    with pytest.raises(UsageError, match="cleaned without tags"):
        catprune.write(tmp_path / "bare", [tmp_path / "r.tsv"], tags=tmp_path / "r.tags")


def test_a_run_and_a_pruning_pass_the_options_on(tmp_path: Path) -> None:
    lines = [
        json.dumps({"id": row, "translation": {"en": f"line number {row}", "de": f"Zeile {row}"}}) for row in range(9)
    ]
    (tmp_path / "a.txt").write_text("".join(line + "\n" for line in lines))
    (tmp_path / "tags").write_text("".join(f"tag-{row}\n" for row in range(9)))
    (tmp_path / "run.toml").write_text(
        'out = "run"\nreport = ""\n[clean]\ninputs = ["a.txt"]\nformat = "jsonl"\ntags = "tags"\n'
        'fields = ["translation.en", "translation.de"]\n[[select]]\nname = "some"\nmethod = "random"\nkeep = 4\n'
        '[write]\nselection = "some"\noutputs = ["p.jsonl"]\ndropped = ["d.jsonl.xz"]\ntags = "p.tags"\n'
    )
    catprune.run(tmp_path / "run.toml", quiet=True)
    kept = (tmp_path / "p.jsonl").read_text().splitlines()
    dropped = lzma.decompress((tmp_path / "d.jsonl.xz").read_bytes()).decode().splitlines()
    assert len(kept) == 4 and sorted([*kept, *dropped]) == sorted(lines)
    assert (tmp_path / "p.tags").read_text().splitlines() == [f"tag-{json.loads(line)['id']}" for line in kept]
    (tmp_path / "a.txt").rename(tmp_path / "a.jsonl")
    options: dict[str, Any] = {"fields": FIELDS, "method": "random", "keep": 4, "quiet": True}
    catprune.prune([tmp_path / "a.jsonl"], [tmp_path / "q.jsonl"], out=tmp_path / "pruned", **options)
    assert len((tmp_path / "q.jsonl").read_text().splitlines()) == 4


def test_invalid_outputs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a b\tc d\n")
    catprune.clean([tmp_path / "a.tsv"], out=tmp_path / "clean")
    for name, message in (
        ("p.tmx", "give source_lang and target_lang to clean"),
        ("p.parquet.gz", "Parquet compresses its columns"),
        ("p.zip", "is not supported"),
    ):
        with pytest.raises(UsageError, match=message):
            catprune.write(tmp_path / "clean", [tmp_path / name])


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress], ids=["plain", "gz", "xz"])
def test_a_byte_order_mark_at_the_start_of_a_file_is_no_text(tmp_path: Path, pack: Any) -> None:
    sides = [b"ein Haus\nein Baum\n", b"a house\na tree\n"]
    texts = {
        "a.de": sides[0],
        "a.en": sides[1],
        "a.tsv": b"ein Hund\ta dog\n",
        "a.jsonl": b'{"de": "ein Mond", "en": "a moon", "id": 1}\n',
        "tags": b"x\nx\nx\nx\nx\n",
        "test": b"ein Mond am Himmel\n",
    }
    for name, text in texts.items():
        # The mark of the second member is inside the file, so it is text.
        tail = pack(MARK + b"ein Tag\ta day\n") if name == "a.tsv" else b""
        (tmp_path / name).write_bytes(pack(MARK + text) + tail)
    inputs = [tmp_path / name for name in ("a.{de,en}", "a.tsv", "a.jsonl")]
    options: dict[str, Any] = {"source_lang": "de", "target_lang": "en", "tags": tmp_path / "tags"}
    done = catprune.clean(inputs, out=tmp_path / "clean", exclude=[tmp_path / "test"], **options)
    assert (done.rows, done.kept) == (5, 5), done.reasons
    assert done.manifest["counts"]["tags"] == {"x": {"rows": 5, "kept": 5}}
    assert done.manifest["excluded"][0]["too_short"] == 0
    batches = list(catprune.open_corpus(tmp_path / "clean"))
    sources = [text for batch in batches for text in batch["source"].to_pylist()]
    assert sources == ["ein Haus", "ein Baum", "ein Hund", "\ufeffein Tag", "ein Mond"]
    for name in ("a.tsv", "a.jsonl"):
        path = tmp_path / f"one-{name}"
        catprune.clean([tmp_path / name], out=path, source_lang="de", target_lang="en")
        assert catprune.write(path, [tmp_path / f"out-{name}"]).whole
        assert (tmp_path / f"out-{name}").read_bytes().startswith(texts[name])


def test_utf16_is_reported(tmp_path: Path) -> None:
    for codec in ("utf-16-le", "utf-16-be"):
        (tmp_path / "a.tsv").write_bytes("\ufeffein Haus\ta house\n".encode(codec))
        with pytest.raises(CatpruneError, match=r"a\.tsv is UTF-16 .*: convert it to UTF-8 \(iconv"):
            catprune.clean([tmp_path / "a.tsv"], out=tmp_path / codec)
    (tmp_path / "a.tsv").write_bytes(MARK)
    with pytest.raises(CatpruneError, match=r"a\.tsv is empty"):
        catprune.clean([tmp_path / "a.tsv"], out=tmp_path / "none")


def test_standard_input_is_spooled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = tmp_path / "spool.tsv"

    def clean(data: bytes, **options: Any) -> int:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        return catprune.clean(["-"], out=tmp_path / "clean", spool=spool, **options).rows

    with pytest.raises(CatpruneError, match="standard input is empty"):
        clean(b"")
    assert not list(tmp_path.glob("spool*"))
    assert clean(b"a b\tc d\n") == 1
    assert clean(b"x\ty\nz\tw\n") == 1  # the copy exists: standard input is not read
    assert "spool.tsv exists: standard input is not read" in capsys.readouterr().err
    assert spool.read_bytes() == b"a b\tc d\n"
    assert clean(b"e f\tg h\ni j\tk l\n", force=True) == 2
    assert catprune.write(tmp_path / "clean", [tmp_path / "p.tsv"]).pairs == 2
    with pytest.raises(UsageError, match="spool = FILE"):
        catprune.clean(["-"], out=tmp_path / "other")
    with pytest.raises(UsageError, match="give format"):
        catprune.clean(["-"], out=tmp_path / "other", spool=tmp_path / "x")
    with pytest.raises(UsageError, match="give -"):
        catprune.clean(["a.tsv"], out=tmp_path / "other", spool=tmp_path / "x.tsv")
    done = subprocess.run(
        [
            "catprune",
            "clean",
            "-",
            "--spool",
            "data",
            "--format",
            "jsonl",
            "--fields",
            "a,b",
            "--out",
            "json",
            "--json",
        ],
        cwd=tmp_path,
        input=b'{"a": "x y", "b": "z w"}\n',
        capture_output=True,
    )
    assert json.loads(done.stdout)["kept"] == 1


def test_the_oracle_of_lines_is_used() -> None:
    assert oracles_formats.jsonl(b'{"a": "x", "b": "y"}\r\n\n', ("a", "b")) == [(b"x", b"y"), "malformed_record"]
    assert oracles.lines(b"a\r\n\nb") == [b"a", b"", b"b"]


def test_a_copied_json_line_is_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": "x y", "b": "z", "c": "\xff"}\n{"a": "u v", "b": "w", "c": "\xc3\xbc"}\n')
    catprune.clean([path], out=tmp_path / "clean", fields=("a", "b"), rules=False)
    done = catprune.write(tmp_path / "clean", [tmp_path / "b.jsonl"])
    assert (done.pairs, done.unwritable, done.whole) == (1, 1, True)
    assert (tmp_path / "b.jsonl").read_bytes() == path.read_bytes().splitlines(keepends=True)[1]


def test_an_xz_dictionary_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    packed = bytearray(lzma.compress(b"a b\n"))
    size = (packed[12] + 1) * 4
    assert packed[14:16] == b"\x21\x01"  # LZMA2, of which one byte says the size of the dictionary
    packed[16] = 40  # 4 GiB
    packed[12 + size - 4 : 12 + size] = zlib.crc32(packed[12 : 12 + size - 4]).to_bytes(4, "little")
    path = tmp_path / "a.xz"
    path.write_bytes(packed)
    with pytest.raises(CatpruneError, match=r"(?i)a\.xz.*memory"):
        catprune.clean([path], out=tmp_path / "clean", monolingual=True)


@pytest.mark.parametrize("name", ["a.zst", "a.xz"])
def test_a_window_beyond_the_memory_is_refused(tmp_path: Path, name: str) -> None:
    text, path = b"a b\n", tmp_path / name
    if name == "a.xz":
        packed = lzma.compress(text, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 27}])
    else:  # a frame with a window of 2^27 bytes and one block that is not compressed
        packed = b"\x28\xb5\x2f\xfd\x00\x88" + (len(text) << 3 | 1).to_bytes(3, "little") + text
    path.write_bytes(packed)
    for memory in ("1G", None):
        catprune.clean([path], out=tmp_path / f"clean-{memory}", monolingual=True, memory=memory)
        assert catprune.stats([path], monolingual=True, memory=memory).total["all"]["rows"] == 1
    message = rf"{name} needs more memory for decompression than there is, after line 0 .*: give more memory"
    with pytest.raises(CatpruneError, match=message):
        catprune.clean([path], out=tmp_path / "clean", monolingual=True, memory="256M")
    with pytest.raises(CatpruneError, match=message):
        catprune.stats([path], monolingual=True, memory="256M")
