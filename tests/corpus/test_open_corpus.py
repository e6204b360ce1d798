"""A corpus as an Arrow stream: rows, sides and reasons equal the files, in every library that reads Arrow streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catprune
import duckdb
import polars
import pyarrow
import pytest
from catprune import CatpruneError, UsageError
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from support import oracles

SIDE = st.one_of(st.text(max_size=8).map(str.encode), st.binary(max_size=8), st.just(b"y" * 41)).map(
    lambda data: data.replace(b"\n", b"")
)


def decoded(data: bytes | None) -> str | None:
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return None


@given(pairs=st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=20), threads=st.sampled_from([1, 3]))
def test_rows_are_those_of_the_files(pair: Any, pairs: list[tuple[bytes, bytes]], threads: int) -> None:
    paths = pair(*(b"".join(sides[place] + b"\n" for sides in pairs) for place in (0, 1)))
    lines = [tuple(side.removesuffix(b"\r") for side in sides) for sides in pairs]
    short = [sides if max(map(len, sides)) <= 40 else (None, None) for sides in lines]
    for text in ("bytes", "utf8"):
        corpus = catprune.open_corpus(paths, text=text, max_line_bytes=40, threads=threads)
        for _ in range(2):  # from the beginning each time
            table = pyarrow.Table.from_batches(list(corpus))
            expected = [(row, *sides) for row, sides in enumerate(short)]
            if text == "utf8":
                expected = [(row, *map(decoded, sides)) for row, sides in enumerate(short)]
            assert list(zip(*(column.to_pylist() for column in table.columns), strict=True)) == expected


@pytest.fixture
def cleaned(tmp_path: Path, pair: Any) -> Path:
    source = b"".join(b"ein Satz %d\n" % (row % 7_000) for row in range(10_000))
    target = b"".join(b"one \xff\n" if row % 100 == 5 else b"a sentence %d\n" % (row % 7_000) for row in range(10_000))
    (tmp_path / "tags").write_text("".join(f"tag {row % 2}\n" for row in range(10_000)))
    catprune.clean(pair(source, target), out=tmp_path / "clean", tags=tmp_path / "tags")
    return tmp_path / "clean"


def test_every_library_reads_it(cleaned: Path) -> None:
    corpus = catprune.open_corpus(cleaned)
    table = pyarrow.table(corpus)
    table.validate(full=True)
    columns = parquet.read_table(next(cleaned.glob("columns/part-*")))
    kept = [row for row, reasons in enumerate(columns["reasons"].to_pylist()) if reasons == 0]
    assert table["row"].to_pylist() == kept and 0 < len(kept) < 7_000
    assert table["source"].to_pylist() == [f"ein Satz {row}" for row in kept]
    assert table["tag"].to_pylist() == [f"tag {row % 2}" for row in kept]
    assert polars.DataFrame(corpus).equals(polars.DataFrame(table))
    rows = duckdb.sql("select count(*), sum(row), min(target) from corpus").fetchall()
    assert rows == [(len(kept), sum(kept), min(f"a sentence {row}" for row in kept))]


def test_all_rows_with_their_reasons(cleaned: Path, tmp_path: Path) -> None:
    columns = parquet.read_table(next(cleaned.glob("columns/part-*")))
    table = pyarrow.table(catprune.open_corpus(cleaned, rows="all", threads=2))
    assert table["reasons"].to_pylist() == columns["reasons"].to_pylist()
    assert table["reason"].to_pylist() == columns["reason"].to_pylist()
    assert table["reason"].type == columns["reason"].type
    assert table["kept"].to_pylist() == [reasons == 0 for reasons in columns["reasons"].to_pylist()]
    assert table["target"].null_count == 100
    catprune.select(cleaned, out=tmp_path / "selection", method="random", keep=1000)
    chosen = catprune.open_corpus(cleaned, selection=tmp_path / "selection")
    catprune.write(cleaned, [tmp_path / "w.en", tmp_path / "w.de"], selection=tmp_path / "selection")
    lines = [line.decode() for line in oracles.lines((tmp_path / "w.de").read_bytes())]
    assert [side for batch in chosen for side in batch["target"].to_pylist()] == lines and len(lines) == 1000
    everything = pyarrow.table(catprune.open_corpus(cleaned, selection=tmp_path / "selection", rows="all"))
    assert everything.num_rows == 10_000 and sum(everything["kept"].to_pylist()) == 1000


def test_a_stream_that_is_left_ends_its_threads(pair: Any) -> None:
    paths = pair(b"ein Satz\n" * 400_000, b"a sentence\n" * 400_000)
    before = len(list(Path("/proc/self/task").iterdir()))
    for _ in range(5):
        batches = iter(catprune.open_corpus(paths, threads=2))
        assert next(batches).num_rows == 4096
        batches.close()  # type: ignore[attr-defined]
        catprune.open_corpus(paths).__arrow_c_stream__()
    assert len(list(Path("/proc/self/task").iterdir())) <= before + 2


def test_errors(cleaned: Path, tmp_path: Path, pair: Any) -> None:
    short = pair(b"a\nb\n", b"c\n", name="short")
    with pytest.raises(CatpruneError, match="ends after line 1"):
        list(catprune.open_corpus(short))
    with pytest.raises(UsageError, match="rows"):
        catprune.open_corpus(short, rows="some")
    with pytest.raises(UsageError, match="selection needs the clean folder"):
        catprune.open_corpus(short, selection=cleaned)
    with pytest.raises(FileNotFoundError):
        catprune.open_corpus([tmp_path / "no.en", tmp_path / "no.de"])
    corpus = catprune.open_corpus(cleaned)
    path = tmp_path / "text.de"
    path.write_bytes(path.read_bytes().replace(b"one", b"two"))
    with pytest.raises(CatpruneError, match=r"text\.de changed since it was cleaned"):
        list(corpus)
    with pytest.raises(CatpruneError, match=r"text\.de changed since it was cleaned"):
        catprune.open_corpus(cleaned)


def scores(rows: int) -> list[float | None]:
    return [None if row % 50 == 7 else (row * 7919 % 1000) / 8 for row in range(rows)]


def test_a_selection_from_a_stream_is_that_from_a_file(cleaned: Path, tmp_path: Path) -> None:
    table = pyarrow.table(
        {"row": range(10_000), "quality": pyarrow.array(scores(10_000), "float32"), "more": ["x"] * 10_000}
    )
    parquet.write_table(table, tmp_path / "scores.parquet")
    catprune.select(tmp_path / "scores.parquet", column="quality", clean=cleaned, out=tmp_path / "file", keep="30%")
    expected = parquet.read_table(next((tmp_path / "file").glob("columns/part-*")))
    frame = polars.DataFrame(
        {"row": range(10_000), "quality": scores(10_000)}, schema_overrides={"quality": polars.Float32}
    )
    streams: dict[str, Any] = {
        "pyarrow": table,
        "reader": pyarrow.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=77)),
        "polars": frame,
        "duckdb": duckdb.sql("select row, quality from frame order by row"),
    }
    manifests = set()
    for name, stream in streams.items():
        out = tmp_path / name
        done = catprune.select(stream, column="quality", clean=cleaned, out=out, keep="30%")
        from_stream = parquet.read_table(next(out.glob("columns/part-*")))
        assert from_stream.equals(expected.replace_schema_metadata(from_stream.schema.metadata)), name
        assert done.kept > 0 and not list((out / "log").glob("column-*"))
        manifests.add((out / "manifest.json").read_text())
    assert len(manifests) == 1  # whatever it came from, and however it was cut into batches
    again = catprune.select(frame, column="quality", clean=cleaned, out=tmp_path / "polars", keep="30%")
    assert again.kept == done.kept
    with pytest.raises(CatpruneError, match="holds work with other inputs"):
        catprune.select(
            frame.reverse().with_columns(row=frame["row"]),
            column="quality",
            clean=cleaned,
            out=tmp_path / "polars",
            keep="30%",
        )


def test_invalid_streams_are_refused(tmp_path: Path) -> None:
    table = pyarrow.table({"row": [1, 0], "quality": [0.5, 1.5]})
    with pytest.raises(CatpruneError, match="no column comet: give one of row, quality"):
        catprune.select(table, column="comet", out=tmp_path / "out")
    with pytest.raises(CatpruneError, match="sort by row"):
        catprune.select(table, column="quality", out=tmp_path / "out")
    with pytest.raises(UsageError, match="column is missing: give the name of the table's score column"):
        catprune.select(table, out=tmp_path / "out")
    with pytest.raises(UsageError, match="source is or holds a float: give paths, an Arrow table"):
        catprune.select([1.0], column="quality", out=tmp_path / "out")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.parquet"))


def test_a_data_set_without_a_pair(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    for name in ("a.en", "a.de"):
        (tmp_path / name).write_text("the same\n")
    catprune.clean([tmp_path / "a.en", tmp_path / "a.de"], out=tmp_path / "clean", quiet=True)
    empty = catprune.open_corpus(tmp_path / "clean").to_dataset(tmp_path / "a.arrow")
    assert len(empty) == 0 and set(empty.column_names) >= {"row", "source", "target"}
