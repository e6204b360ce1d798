"""Parquet: columns with dots and maps, damaged files, memory, and copies whose columns keep their types."""

from __future__ import annotations

import datetime
import decimal
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from random import Random
from typing import Any

import catprune
import pyarrow as pa
import pytest
from catprune import CatpruneError
from catprune.corpus.inputs import parse_inputs
from pyarrow import parquet
from support.fields import read_records

OPTIONS: dict[str, Any] = {"rules": False, "duplicates": "none", "quiet": True}
ENGLISH, GERMAN = ["a b", "c d", "e f"], ["1 2", "3 4", "5 6"]


def copied(tmp_path: Path, table: pa.Table, **options: Any) -> parquet.ParquetFile:
    parquet.write_table(table, tmp_path / "a.parquet", **options)
    catprune.clean([tmp_path / "a.parquet"], out=tmp_path / "clean", fields=("en", "de"), **OPTIONS)
    assert catprune.write(tmp_path / "clean", [tmp_path / "b.parquet"], quiet=True).whole
    return parquet.ParquetFile(tmp_path / "b.parquet")


def test_a_column_whose_name_has_dots_is_found(tmp_path: Path) -> None:
    table = pa.table({"translation.en": ENGLISH, "translation.de": GERMAN, "score": [1, 2, 3]})
    parquet.write_table(table, tmp_path / "a.parquet")
    fields = ("translation.en", "translation.de")
    inputs = parse_inputs([tmp_path / "a.parquet"], fields=fields)
    assert read_records(inputs[0], 3) == list(zip(ENGLISH, GERMAN, strict=True))
    catprune.clean([tmp_path / "a.parquet"], out=tmp_path / "clean", fields=fields, **OPTIONS)
    catprune.write(tmp_path / "clean", [tmp_path / "b.parquet"], quiet=True)
    assert parquet.read_table(tmp_path / "b.parquet").equals(table)


def test_a_map_has_its_keys_as_fields(tmp_path: Path) -> None:
    rows = [
        [("en", "a b"), ("de", "1 2")],
        [("de", "3 4"), ("en", "no"), ("en", "c d")],  # the last of two keys counts
        [("en", "e f")],
        None,
        [("en", None), ("de", "5 6")],
    ]
    table = pa.table({"text": pa.array(rows, pa.map_(pa.string(), pa.string()))})
    parquet.write_table(table, tmp_path / "a.parquet")
    done = catprune.clean([tmp_path / "a.parquet"], out=tmp_path / "clean", fields=("text.en", "text.de"), **OPTIONS)
    assert (done.rows, done.kept, done.reasons["malformed_record"]) == (5, 2, 3)
    inputs = parse_inputs([tmp_path / "a.parquet"], fields=("text.en", "text.de"))
    assert read_records(inputs[0], 5)[:2] == [("a b", "1 2"), ("c d", "3 4")]
    catprune.write(tmp_path / "clean", [tmp_path / "b.parquet"], quiet=True)
    assert parquet.read_table(tmp_path / "b.parquet").equals(table.slice(0, 2))
    numbers = pa.array([[("en", 1)]], pa.map_(pa.string(), pa.int64()))
    parquet.write_table(pa.table({"text": numbers}), tmp_path / "c.parquet")
    with pytest.raises(CatpruneError, match=r"c\.parquet: column text\.en is Map.*not text"):
        catprune.clean([tmp_path / "c.parquet"], out=tmp_path / "other", fields=("text.en", "text.de"), **OPTIONS)


def test_brotli_and_files_without_rows(tmp_path: Path) -> None:
    table = pa.table({"en": ENGLISH, "de": GERMAN})
    for name, rows in {"a": table, "b": table.slice(0, 0), "c": table}.items():
        parquet.write_table(rows, tmp_path / f"{name}.parquet", compression="brotli")
    files = [tmp_path / f"{name}.parquet" for name in "abc"]
    assert catprune.clean(files, out=tmp_path / "clean", fields=("en", "de"), **OPTIONS).rows == 6
    with pytest.raises(CatpruneError, match=r"b\.parquet is empty"):
        catprune.clean(files[1:2], out=tmp_path / "none", fields=("en", "de"), **OPTIONS)


def test_a_page_with_a_wrong_checksum_is_damaged(tmp_path: Path) -> None:
    table = pa.table(
        {"en": [f"hello number {row}" for row in range(200)], "de": [f"hallo {row}" for row in range(200)]}
    )
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
    assert catprune.clean([path], out=tmp_path / "good", fields=("en", "de"), **OPTIONS).kept == 200
    path.write_bytes(path.read_bytes().replace(b"number 77", b"dumber 77"))
    with pytest.raises(CatpruneError, match=r"a\.parquet is damaged.*checksum"):
        catprune.clean([path], out=tmp_path / "clean", fields=("en", "de"), **OPTIONS)


#: Columns that Arrow and Parquet hold in different types, or that the writers of other tools store in another way.
KEPT = {
    "date64": pa.array([0, 86_400_000, None], pa.date64()),
    "zone": pa.array([0, 1, None], pa.timestamp("us", "Europe/Berlin")),
    "local": pa.array([0, 1, None], pa.timestamp("ms")),
    "nanoseconds": pa.array([0, 1, None], pa.timestamp("ns", "UTC")),
    "decimal": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-3.00")], pa.decimal128(7, 2)),
    "large": pa.array(["x", None, "y"], pa.large_string()),
    "categories": pa.array(["x", None, "x"]).dictionary_encode(),
    "lists": pa.array([["x", "y"], None, []], pa.list_(pa.string())),
    "structs": pa.array([{"a": "x", "b": [1]}, None, {"a": None, "b": None}]),
    "bytes": pa.array([b"\xff", None, b""], pa.binary()),
    "half": pa.array([1.5, None, 2.5], pa.float16()),
    "small": pa.array([1, None, 255], pa.uint8()),
    "time": pa.array([1, None, 2], pa.time64("us")),
    "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "duration": pa.array([1, None, 2], pa.duration("us")),
}


@pytest.mark.parametrize("name", KEPT)
def test_copied_columns_keep_type_and_values(tmp_path: Path, name: str) -> None:
    table = pa.table({"en": ENGLISH, "de": GERMAN, name: KEPT[name]})
    copy = copied(tmp_path, table)
    original = parquet.ParquetFile(tmp_path / "a.parquet")
    assert copy.read().equals(original.read())
    before, after = original.schema, copy.schema
    for number in range(len(before)):
        old, new = before.column(number), after.column(number)
        assert (new.path, str(new.logical_type)) == (old.path, str(old.logical_type))
        if name != "decimal":
            assert (new.physical_type, new.converted_type) == (old.physical_type, old.converted_type)


def test_types_that_arrow_lacks_stay_in_copies(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "a.parquet"
    duckdb.sql(
        "copy (select 'a b' as en, '1 2' as de, uuid() as id, '{\"a\": 1}'::json as js, date '2020-01-01' as day, "
        f"current_timestamp as at, 1::utinyint as small) to '{path}' (format parquet)"
    )
    catprune.clean([path], out=tmp_path / "clean", fields=("en", "de"), **OPTIONS)
    catprune.write(tmp_path / "clean", [tmp_path / "b.parquet"], quiet=True)
    describe = "describe select * from '{}'"
    files = [path, tmp_path / "b.parquet"]
    types, others = (duckdb.sql(describe.format(file)).fetchall() for file in files)
    assert types == others
    rows, other_rows = (duckdb.sql(f"select * from '{file}'").fetchall() for file in files)
    assert rows == other_rows


def test_columns_that_a_copy_would_change_are_refused(tmp_path: Path) -> None:
    times = [datetime.datetime(2020, 1, 1), datetime.datetime(2021, 1, 1), None]
    table = pa.table({"en": ENGLISH, "de": GERMAN, "at": pa.array(times, pa.timestamp("us"))})
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path, use_deprecated_int96_timestamps=True)
    catprune.clean([path], out=tmp_path / "clean", fields=("en", "de"), **OPTIONS)
    with pytest.raises(CatpruneError, match=r"a\.parquet: column at is INT96 .*convert the column, or write TSV"):
        catprune.write(tmp_path / "clean", [tmp_path / "b.parquet"], quiet=True)
    assert not (tmp_path / "b.parquet").exists()
    assert catprune.write(tmp_path / "clean", [tmp_path / "b.jsonl"], quiet=True).pairs == 3


def test_files_that_differ_only_in_the_width_of_text_are_copied(tmp_path: Path) -> None:
    first = pa.table({"en": ENGLISH, "de": GERMAN, "url": ["x", "y", "z"]})
    second = first.cast(pa.schema([("en", pa.large_string()), ("de", pa.string()), ("url", pa.large_string())]))
    parquet.write_table(first, tmp_path / "a.parquet")
    parquet.write_table(second, tmp_path / "b.parquet")
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    catprune.clean(files, out=tmp_path / "clean", fields=("en", "de"), **OPTIONS)
    catprune.write(tmp_path / "clean", [tmp_path / "c.parquet"], quiet=True)
    assert parquet.read_table(tmp_path / "c.parquet").equals(pa.concat_tables([first, first]))


def test_a_dictionary_of_large_values_is_not_unpacked(tmp_path: Path) -> None:
    """A few KB of Parquet with long values in many rows: 3.2 GB of text, of which nothing is held."""
    rows = 100_000
    index = pa.array([0] * rows, pa.int32())
    values = {name: pa.DictionaryArray.from_arrays(index, pa.array([name * 16_000])) for name in ("e", "d")}
    parquet.write_table(pa.table({"en": values["e"], "de": values["d"]}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 100_000
    code = f"""
        import resource, sys
        import catprune
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before = peak()
        done = catprune.clean([{str(tmp_path / "a.parquet")!r}], out={str(tmp_path / "clean")!r}, fields=("en", "de"),
                              rules=False, memory="128M", threads=2, quiet=True)
        print(done.rows, done.kept, (peak() - before) // 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    counted, kept, grown = map(int, output.split())
    assert (counted, kept) == (rows, 1)
    assert grown < 200, f"{grown} MiB"


#: Reads a file under 128 MiB and prints by how many MiB memory grew, then the error or the rows.
READS = """
import resource, sys
import catprune
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    text = catprune.clean([sys.argv[1]], out=sys.argv[2], fields=("en", "de"), rules=False, duplicates="none",
                          memory="128M", threads=1, quiet=True).rows
except catprune.CatpruneError as error:
    text = error
print((peak() - before) // 1024, text)
"""


def read_in_128_mib(path: Path, out: Path) -> tuple[int, str]:
    command = [sys.executable, "-c", READS, str(path), str(out)]
    grown, text = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split(maxsplit=1)
    return int(grown), text


def write_large_page(path: Path, *, dictionary: bool, codec: str) -> None:
    """Write a few KB of Parquet with a page of 140 MiB."""
    table = pa.table({"en": ["a" * (140 << 20)], "de": ["b"]})
    parquet.write_table(table, path, compression=codec, use_dictionary=dictionary, write_statistics=False)
    assert path.stat().st_size < 200_000


def set_page_size(path: Path, size: int) -> None:
    """Store another size in the header of the first page, which holds it in five bytes."""
    content = bytearray(path.read_bytes())
    content[4:5], content[6:7] = b"\x15", b"\x15"
    assert all(byte >= 128 for byte in content[7:11])
    number = 2 * size
    content[7:12] = bytes(number >> 7 * at & 127 | 128 * (at < 4) for at in range(5))
    path.write_bytes(content)


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize(("codec", "size"), [("zstd", 140 << 20), ("zstd", 1 << 30), ("gzip", 1 << 30)])
def test_pages_over_the_memory_are_refused(tmp_path: Path, codec: str, size: int, dictionary: bool) -> None:
    path = tmp_path / "a.parquet"
    write_large_page(path, dictionary=dictionary, codec=codec)
    set_page_size(path, size)
    grown, text = read_in_128_mib(path, tmp_path / "clean")
    assert re.search(r"a\.parquet: pages of row group 0 .* need \d+ MiB.* column en,.*give memory of \d+ MiB", text)
    assert grown < 50, grown


@pytest.mark.parametrize("codec", ["gzip", "brotli", "lz4"])
def test_a_page_that_inflates_to_more_than_its_header_says_is_damaged(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"en": ["a" * (140 << 20)], "de": ["b"]})
    parquet.write_table(table, path, compression=codec, use_dictionary=False, write_statistics=False)
    set_page_size(path, 1000)
    grown, text = read_in_128_mib(path, tmp_path / "clean")
    assert re.search(r"a\.parquet is damaged", text), text
    assert grown < 60, grown


def test_long_rows_among_many_short_ones_fit_into_memory(tmp_path: Path) -> None:
    """The mean length says nothing of a batch: 300 rows have a MiB each, and a million have a few bytes."""
    long, short = 300, 1_000_000
    table = pa.table({"en": ["a" * (1 << 20)] * long + ["b"] * short, "de": ["c"] * (long + short)})
    options = {"compression": "zstd", "use_dictionary": False, "write_batch_size": 8}
    parquet.write_table(table, tmp_path / "a.parquet", **options)
    del table
    grown, text = read_in_128_mib(tmp_path / "a.parquet", tmp_path / "clean")
    assert int(text) == long + short
    assert grown < 250, grown


def test_damaged_page_headers_are_errors_or_no_matter(tmp_path: Path) -> None:
    rows = 3000
    english, german = [f"hello {row % 50}" for row in range(rows)], [f"hallo {row}" for row in range(rows)]
    table = pa.table({"en": english, "de": german})
    path, random = tmp_path / "a.parquet", Random(1)
    for codec, version in (("snappy", "1.0"), ("gzip", "2.0"), ("zstd", "1.0"), ("none", "2.0")):
        parquet.write_table(
            table, path, compression=codec, data_page_version=version, data_page_size=4096, row_group_size=1500
        )
        inputs = parse_inputs([path], fields=("en", "de"))
        content = path.read_bytes()
        metadata = parquet.ParquetFile(path).metadata
        chunks = [metadata.row_group(group).column(column) for group in range(2) for column in range(2)]
        starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks]
        starts += [chunk.data_page_offset for chunk in chunks]
        refused = 0
        for _ in range(150):
            damaged = bytearray(content)
            at = random.choice(starts) + random.randrange(24)
            damaged[at] = random.choice([damaged[at] ^ 1 << random.randrange(8), 0x80, 0xFF, 0])
            path.write_bytes(damaged)
            try:
                read_records(inputs[0], rows)
            except CatpruneError as error:
                assert "a.parquet" in str(error)
                refused += 1
        assert refused > 50


def test_text_that_is_not_utf_8_costs_its_record(tmp_path: Path) -> None:
    """Other tools write such text; it must neither stop the whole file nor get into a copy."""
    bad = pa.array([b"x", b"\xff", b"y", None]).view(pa.string())
    lists = pa.ListArray.from_arrays(
        pa.array([0, 1, 2, 3, 3], pa.int32()), pa.array([b"a", b"b", b"\xfe"]).view(pa.string())
    )
    table = pa.table({"en": [*ENGLISH, "g h"], "de": [*GERMAN, "7 8"], "url": bad, "tags": lists})
    parquet.write_table(table, tmp_path / "a.parquet")
    catprune.clean([tmp_path / "a.parquet"], out=tmp_path / "clean", fields=("en", "de"), **OPTIONS)
    done = catprune.write(tmp_path / "clean", [tmp_path / "b.parquet"], quiet=True)
    assert (done.pairs, done.unwritable, done.whole) == (2, 2, True)
    copy = parquet.read_table(tmp_path / "b.parquet")
    assert copy.equals(table.take([0, 3]))
    done = catprune.clean([tmp_path / "a.parquet"], out=tmp_path / "sides", fields=("en", "url"), duplicates="none")
    assert done.reasons["invalid_utf8"] == 1
