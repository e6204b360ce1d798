"""Scores in memory: tables, frames and arrays rank like files with the same content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import catprune
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catprune import CatpruneError, UsageError
from catprune.selection.select import select
from catprune.training.data_order import spool_rows
from catprune.workspace.files import read_json
from catprune.workspace.spool import Spool
from support.scores import kept, read

ROWS = np.arange(1000) * 3
SCORES = np.random.default_rng(5).standard_normal(1000).astype(np.float32)
OTHER = np.random.default_rng(6).standard_normal(1000)
TABLE = pa.table({"row": ROWS, "score": SCORES, "other": OTHER, "note": ["x"] * 1000})
QUIET: dict[str, Any] = {"quiet": True}


def pandas_frame() -> Any:
    return pytest.importorskip("pandas").DataFrame(
        {"row": ROWS, "score": SCORES, "other": OTHER, "note": "x"}, index=ROWS
    )


SAME: dict[str, Callable[[], Any]] = {
    "table": lambda: TABLE,
    "reader": lambda: TABLE.to_reader(max_chunksize=7),
    "polars": lambda: polars.DataFrame(TABLE),
    "pandas": pandas_frame,
    "list": lambda: [TABLE],
    "datasets": lambda: pytest.importorskip("datasets").Dataset(TABLE),
}


@pytest.mark.parametrize("kind", SAME)
def test_equal_tables_are_an_equal_plan(tmp_path: Path, kind: str) -> None:
    first = select(TABLE, column="score", keep=100, out=tmp_path / "s", **QUIET)
    again = select(SAME[kind](), column="score", keep="10%", out=tmp_path / "s2", **QUIET)
    assert kept(tmp_path / "s") == kept(tmp_path / "s2") == set(ROWS[np.argsort(-SCORES)[:100]].tolist())
    assert first.manifest["reads"] == again.manifest["reads"]
    assert select(SAME[kind](), column="score", keep=100, out=tmp_path / "s", **QUIET).manifest == first.manifest
    assert not list((tmp_path / "s" / "log").glob("column-*"))


def test_as_files_do(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "f.parquet")
    more = pa.table({"row": ROWS, "more": OTHER[::-1].astype(np.float16), "less": np.arange(1000)})
    pq.write_table(more.set_column(1, "more", more["more"].cast(pa.float32())), tmp_path / "more.parquet")
    options: dict[str, Any] = {"merge": "0.5*score + 0.2*more - 0.3*less", "where": "other>-1", "keep": "20%"}
    for number, (source, join) in enumerate(
        [
            (tmp_path / "f.parquet", [tmp_path / "more.parquet"]),
            (TABLE, [more]),
            (TABLE, more),
            (polars.DataFrame(TABLE), polars.DataFrame(more.set_column(1, "more", more["more"].cast(pa.float32())))),
            (tmp_path / "f.parquet", more),
        ]
    ):
        select(source, join=join, out=tmp_path / str(number), **options, **QUIET)
        assert read(tmp_path / str(number)) == read(tmp_path / "0")
    reads = [read_json(tmp_path / str(number) / "manifest.json")["reads"] for number in (1, 2)]
    assert reads[0] == reads[1]


def test_parts_of_a_table(tmp_path: Path) -> None:
    select([TABLE.slice(0, 400), TABLE.slice(400)], column="score", keep=100, out=tmp_path / "a", **QUIET)
    select(TABLE, column="score", keep=100, out=tmp_path / "b", **QUIET)
    assert read(tmp_path / "a") == read(tmp_path / "b")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.dtype(">f8")])
def test_arrays(tmp_path: Path, kind: Any) -> None:
    values = SCORES.astype(kind)
    np.save(tmp_path / "f.npy", values.astype("<f4"))
    first = select(values, keep=100, out=tmp_path / "s", **QUIET)
    select(tmp_path / "f.npy", keep=100, out=tmp_path / "f", **QUIET)
    assert read(tmp_path / "s") == read(tmp_path / "f")
    assert select(values.copy(), keep=100, out=tmp_path / "s", **QUIET).manifest == first.manifest
    with pytest.raises(CatpruneError, match="holds work with other"):
        select(values[::-1], keep=100, out=tmp_path / "s", **QUIET)
    assert sorted(path.name for path in (tmp_path / "s" / "log").iterdir()) == ["events.jsonl", "lock"]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (TABLE, {}, "column is missing: give the name of the table's score column"),
        (TABLE, {"column": "nowhere"}, "the table has no column nowhere: give one of row, score, other, note"),
        (TABLE, {"column": "note"}, "column note of the table has the type large_string: give numbers"),
        (TABLE.drop_columns(["row"]), {"column": "score"}, "the table has no column row: give one of score"),
        (pa.table({"row": [0.0], "x": [1.0]}), {"column": "x"}, "column row of the table has the type double"),
        (TABLE, {"column": "score", "join": 3}, "join holds a int: give paths"),
        (TABLE, {"column": "score", "join": [pa.table({"x": [1.0]})]}, "the table has no column row: give one of x"),
        (SCORES, {"column": "x"}, "an array has no named column"),
        (SCORES.reshape(2, 500), {}, "source is an array of float32 and shape 2x500"),
        ({"row": [1]}, {"column": "x"}, "source is or holds a dict"),
        ([1.0], {}, "source is or holds a float"),
    ],
)
def test_invalid_scores_are_refused(tmp_path: Path, source: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CatpruneError, match=message):
        select(source, out=tmp_path / "s", **options, **QUIET)
    assert not (tmp_path / "s").exists()


def test_rows_to_train_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "log")
    path = spool_rows([5, 3, 3, 1], spool, name="rows")
    assert np.load(path).tolist() == [1, 3, 5]
    for same in (np.array([1, 3, 5]), pa.array([5, 3, 1]), polars.Series([1, 3, 5, 5]), (1, 3, 5)):
        assert spool_rows(same, spool, name="rows") == path
    assert np.load(spool_rows([], spool, name="exclude_rows")).tolist() == []
    assert spool_rows("f.npy", spool, name="rows") == Path("f.npy")
    for wrong in ([0.5], [True], [[1]], ["a"], {1}, [[1], [1, 2]]):
        with pytest.raises(UsageError, match=r"rows is a .* give integers of one dimension"):
            spool_rows(wrong, spool, name="rows")


def test_training_on_rows(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pairs = [(f"Das ist Satz {row} von vielen.", f"This is sentence {row} of many.") for row in range(200)]
    catprune.clean(pairs, out=tmp_path / "clean", **QUIET)
    catprune.tokenize(tmp_path / "clean", out=tmp_path / "tokens", vocab_size=300, **QUIET)
    options: dict[str, Any] = {"steps": 2, "out": tmp_path / "model", **QUIET}
    with pytest.raises(CatpruneError, match="names row 200, but the tokens end before row 200"):
        catprune.train(tmp_path / "tokens", rows=np.arange(201), **options)
    assert not (tmp_path / "model").exists()
    first = catprune.train(tmp_path / "tokens", rows=np.arange(100), exclude_rows=[7, 5], **options)
    again = catprune.train(tmp_path / "tokens", rows=list(range(100)), exclude_rows=np.array([5, 7]), **options)
    assert again.manifest == first.manifest
    for name, rows in (("rows", [*range(100)]), ("exclude_rows", [5, 7])):
        assert np.load(tmp_path / "model" / first.manifest["reads"][name]["path"]).tolist() == rows
    catprune.train(tmp_path / "tokens", rows=[1, 2], exclude_rows=[7, 5], force=True, **options)
    assert len([*(tmp_path / "model/log").glob("*.npy")]) == 2, "the rows of the first training are gone"
