"""Columns that `write` adds beside the sides: row, score and tag, in every format that can hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import catprune
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catprune import CatpruneError, UsageError

ROWS = 9_000  # more than one chunk
QUIET: dict[str, Any] = {"quiet": True}
ALL = ["row", "score", "tag"]
#: The tags of rows 0, 1, 2, and again; the last one cannot stand in TSV.
TAGS = ["news", 'a "web" page', "tab\there"]


def texts(row: int) -> tuple[str, str]:
    return f"line {row}", f"Zeile {row // 2}"


def cleaned(folder: Path, suffix: str, **more: Any) -> Path:
    """A corpus in the given format with one field besides the text; every second row is a duplicate."""
    rows, extra = range(ROWS), more or {"id": "x"}
    if suffix == "parquet":
        sides = {name: [texts(row)[place] for row in rows] for place, name in enumerate(("en", "de"))}
        pq.write_table(pa.table(sides | {name: [value] * ROWS for name, value in extra.items()}), folder / "in.parquet")
    elif suffix == "jsonl":
        records = [{"en": texts(row)[0], "de": texts(row)[1], **extra} for row in rows]
        (folder / "in.jsonl").write_text("".join(json.dumps(record) + " \n" for record in records))
    elif suffix == "tsv":
        (folder / "in.tsv").write_text("".join("\t".join([*texts(row), "x"]) + "\n" for row in rows))
    else:
        for place, name in enumerate(("en", "de")):
            (folder / f"in.{name}").write_text("".join(texts(row)[place] + "\n" for row in rows))
    (folder / "tags").write_text("".join(TAGS[row % 3] + "\n" for row in rows))
    inputs = ["in.en", "in.de"] if suffix == "moses" else [f"in.{suffix}"]
    options = {"duplicates": "target", "fields": ("en", "de") if suffix in ("jsonl", "parquet") else None}
    options |= {"source_lang": "en", "target_lang": "de", "tags": folder / "tags"}
    catprune.clean([folder / name for name in inputs], out=folder / "clean", **options, **QUIET)
    return folder / "clean"


def selected(clean: Path) -> dict[int, float | None]:
    """Keeps half of the rows; the scores of all, by row. Some rows have none."""
    values = np.random.default_rng(3).standard_normal(ROWS).astype(np.float32)
    scores = pa.array(values, mask=np.arange(ROWS) % 50 == 0)
    table = pa.table({"row": np.arange(ROWS), "quality": scores})
    folder = clean.parent / "selection"
    catprune.select(table, column="quality", clean=clean, keep="50%", out=folder, **QUIET)
    columns = pq.read_table(folder / "columns").to_pydict()
    return dict(zip(columns["row"], columns["score"], strict=True))


def read(path: Path, sides: int) -> list[tuple[Any, ...]]:
    """The sides and what is beside them, as text, null as None."""
    if path.suffix == ".parquet":
        return [tuple(row.values()) for row in pq.read_table(path).to_pylist()]
    lines = path.read_text().splitlines()
    if path.suffix == ".jsonl":
        return [tuple(json.loads(line).values()) for line in lines]
    fields = [line.split("\t") for line in lines]
    return [
        (*field[:sides], int(field[sides]), float(field[sides + 1]) if field[sides + 1] else None, field[sides + 2])
        for field in fields
    ]


@pytest.mark.parametrize("output", ["tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("whole", [True, False])
def test_kept_and_dropped_pairs_carry_row_score_and_tag(tmp_path: Path, output: str, whole: bool) -> None:
    clean = cleaned(tmp_path, output if whole else "moses")
    scores = selected(clean)
    columns = pq.read_table(tmp_path / "selection/columns").to_pydict()
    kept = {row for row, is_kept in zip(columns["row"], columns["kept"], strict=True) if is_kept}
    options = {"selection": tmp_path / "selection", "with_": ALL, **QUIET}
    paths = {"one": 1, "many": 3}
    for name, threads in paths.items():
        files = tmp_path / f"{name}.{output}", tmp_path / f"{name}-dropped.{output}"
        done = catprune.write(clean, [files[0]], dropped=[files[1]], threads=threads, **options)
        assert done.whole is whole
    rest = ("x",) if whole else ()
    for name, rows in (("", kept), ("-dropped", set(range(ROWS)) - kept)):
        first, second = (tmp_path / f"{thread}{name}.{output}" for thread in paths)
        assert first.read_bytes() == second.read_bytes()
        holds = sorted(row for row in rows if output != "tsv" or row % 3 != 2)
        expected = [(*texts(row), *rest, row, scores.get(row), TAGS[row % 3]) for row in holds]
        assert [
            (*record[:-2], None if record[-2] is None else np.float32(record[-2]), record[-1])
            for record in read(first, 2 + len(rest))
        ] == expected
    assert done.unwritable == sum(row % 3 == 2 for row in kept) * (output == "tsv")
    if output == "parquet":
        schema = pq.read_schema(tmp_path / "one.parquet")
        assert [schema.field(name).type for name in ALL] == [pa.int64(), pa.float32(), pa.string()]


def test_the_order_is_the_one_asked_for_and_part_of_the_work(tmp_path: Path) -> None:
    clean = cleaned(tmp_path, "moses")
    assert catprune.write(clean, [tmp_path / "p.jsonl"], with_="tag,row", **QUIET).is_new
    assert (tmp_path / "p.jsonl").read_text().splitlines()[0] == '{"en":"line 0","de":"Zeile 0","tag":"news","row":0}'
    assert not catprune.write(clean, [tmp_path / "p.jsonl"], with_=["tag", "row"], **QUIET).is_new
    for other in ((), ["row", "tag"]):
        with pytest.raises(CatpruneError, match="holds something else"):
            catprune.write(clean, [tmp_path / "p.jsonl"], with_=other, **QUIET)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_field_of_the_same_name_is_an_error(tmp_path: Path, suffix: str) -> None:
    clean = cleaned(tmp_path, suffix, tag="theirs")
    place = r"jsonl, line 1" if suffix == "jsonl" else "the output"
    with pytest.raises(CatpruneError, match=f"{place} has a field tag already: leave tag out of with, or rename"):
        catprune.write(clean, [tmp_path / f"p.{suffix}"], with_=["row", "tag"], **QUIET)
    assert not list(tmp_path.glob("p.*"))
    done = catprune.write(clean, [tmp_path / f"p.{suffix}"], with_=["row"], **QUIET)
    assert done.whole and read(tmp_path / f"p.{suffix}", 2)[1] == (*texts(2), "theirs", 2)
    with pytest.raises(CatpruneError, match="the output has a field row already"):
        other = "jsonl" if suffix == "parquet" else "parquet"
        catprune.write(clean, [tmp_path / f"q.{other}"], fields=("row", "de"), with_="row", **QUIET)


def test_columns_that_cannot_be_written(tmp_path: Path) -> None:
    clean = cleaned(tmp_path, "moses")
    cases: list[tuple[list[str], Any, str]] = [
        (["p.en", "p.de"], "row", "with = row: two text files hold nothing but the text: write .tsv, .jsonl or .parq"),
        (["p.tmx"], "row", "TMX holds nothing but the text: write .tsv, .jsonl or .parquet"),
        (["p.tsv"], "score", "without a selection there are no scores"),
        (["p.tsv"], "row,row", "give each column once"),
        (["p.tsv"], "rows", "there is no column rows: give some of row, score, tag"),
    ]
    for outputs, added, message in cases:
        with pytest.raises(UsageError, match=message):
            catprune.write(clean, [tmp_path / name for name in outputs], with_=added, **QUIET)
    with pytest.raises(UsageError, match="nothing but the text"):
        catprune.write(
            clean, [tmp_path / "p.tsv"], dropped=[tmp_path / "d.en", tmp_path / "d.de"], with_="row", **QUIET
        )
    catprune.clean([tmp_path / "in.en", tmp_path / "in.de"], out=tmp_path / "plain", **QUIET)
    with pytest.raises(UsageError, match="was cleaned without tags"):
        catprune.write(tmp_path / "plain", [tmp_path / "p.tsv"], with_="tag", **QUIET)


def test_a_run_file_has_them_as_with(tmp_path: Path) -> None:
    cleaned(tmp_path, "moses")
    text = 'out = "run"\nreport = ""\n[clean]\ninputs = ["in.en", "in.de"]\n[write]\noutputs = ["p.tsv"]\nwith = {}\n'
    (tmp_path / "run.toml").write_text(text.format('["row"]'))
    catprune.run(tmp_path / "run.toml", **QUIET)
    assert (tmp_path / "p.tsv").read_text().splitlines()[0] == "line 0\tZeile 0\t0"
    for value, message in (
        ('"score"', "without a selection there are no scores"),
        ('["tag"]', "tags need the tags of"),
    ):
        (tmp_path / "run.toml").write_text(text.format(value))
        with pytest.raises(UsageError, match=message):
            catprune.run(tmp_path / "run.toml", **QUIET)
