"""Selection from several columns, files and shards: merges, conditions, draws, arrays, refusals."""

from __future__ import annotations

import base64
import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catprune.cleaning.clean import clean
from catprune.errors import CatpruneError, UsageError
from catprune.selection.request import parse_guard, parse_merge
from catprune.selection.select import select
from catprune.selection.summary import summary
from catprune.tokens.tokenize import tokenize
from catprune.training.train import train
from catprune.workspace.sealed import seal
from catprune.writing.write import write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.oracles_select import bucket, draw, kept_rows, merged
from support.scores import FEW, kept, put_corpus, put_scores, read

QUIET: dict[str, Any] = {"quiet": True}
WIDE = st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)


def put_column(path: Path, rows: list[int], values: list[float | None], name: str, group: int = 1 << 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"row": pa.array(rows, pa.int64()), name: pa.array(values, pa.float32())})
    pq.write_table(table, path, row_group_size=group)
    return path


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.sets(st.integers(0, 60), min_size=1, max_size=40).map(sorted),
    data=st.data(),
    by=st.sampled_from(["rank", "z"]),
    values=st.sampled_from([FEW, WIDE]),
    threads=st.integers(1, 3),
    split=st.integers(0, 60),
)
def test_merges_as_the_oracle_does(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[int],
    data: st.DataObject,
    by: str,
    values: st.SearchStrategy[float],
    threads: int,
    split: int,
) -> None:
    folder = tmp_path_factory.mktemp("run")
    some = st.lists(st.none() | values, min_size=len(rows), max_size=len(rows))
    x, y, guard = data.draw(some), data.draw(some), data.draw(some)
    # The first column in two files and row groups of seven, the others over other rows, too.
    at = int(np.searchsorted(rows, split))
    parts = [(rows[:at], x[:at]), (rows[at:], x[at:])]
    files = [put_column(folder / f"x{i}.parquet", *part, "x", group=7) for i, part in enumerate(parts) if part[0]]
    table = pa.table({"row": [*rows, 61], "y": pa.array([*y, 1.0], pa.float64()), "g": pa.array([*guard, 0.5])})
    pq.write_table(table, folder / "y.parquet", row_group_size=5)
    weights = [0.7, -0.25]
    passed = [value is not None and value >= 0 for value in guard]
    expected = merged([x, y], weights, by, passed)
    options: dict[str, Any] = {"merge": "0.7*x - 0.25*y", "merge_by": by, "where": "g>=0", "keep": 1}
    options |= {"join": [folder / "y.parquet"], "threads": threads, "quiet": True}
    scored = sum(value is not None for value in expected)
    if not scored:
        with pytest.raises(CatpruneError, match="cannot keep 1 rows, only 0 are scored"):
            select(files, out=folder / "s", **options)
        return
    selection = select(files[::-1], out=folder / "s", **options)
    assert read(folder / "s")["score"].to_pylist() == expected
    assert (selection.scored, selection.guarded) == (scored, passed.count(False))
    best = max(value for value in expected if value is not None)
    assert kept(folder / "s") == {rows[expected.index(best)]}
    assert not (folder / "s" / "tmp").exists()


def test_ranks_of_many_values_in_many_spills(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    # About 1,600 leading digits, and ties among values of few of them.
    values = generator.standard_normal(60_000, dtype=np.float32)
    values[:20_000] = np.round(generator.standard_normal(20_000) * 4)
    rows = list(range(len(values)))
    put_column(tmp_path / "x.parquet", rows, values.tolist(), "x", group=9_000)
    put_column(tmp_path / "y.parquet", rows, values[::-1].tolist(), "y")
    select(
        tmp_path / "x.parquet", merge="x + 3*y", join=[tmp_path / "y.parquet"], out=tmp_path / "s",
        tmp_dir=tmp_path / "scratch", **QUIET,
    )  # fmt: skip

    def ranks(column: np.ndarray) -> np.ndarray:
        ordered = np.sort(column)
        low, high = np.searchsorted(ordered, column, "left"), np.searchsorted(ordered, column, "right")
        return (low + high) / (2 * len(column))

    expected = ((0.0 + 1.0 * ranks(values)) + 3.0 * ranks(values[::-1])) / 4.0
    assert read(tmp_path / "s")["score"].to_pylist() == expected.astype(np.float32).tolist()
    assert not list((tmp_path / "scratch").iterdir())


@st.composite
def corpora(draw: st.DrawFn) -> dict[str, Any]:
    end = draw(st.integers(1, 40))
    rows = sorted(draw(st.sets(st.integers(0, end - 1), min_size=1)))
    return {
        "end": end,
        "rows": rows,
        "nll": draw(st.lists(st.none() | FEW, min_size=len(rows), max_size=len(rows))),
        "tokens": draw(st.lists(st.sampled_from([1, 2, 4, 8]), min_size=len(rows), max_size=len(rows))),
        "tags": draw(st.lists(st.sampled_from(["b", "a", "c:d"]), min_size=end, max_size=end)),
        "inputs": sorted({0, draw(st.integers(0, end)), end}),
    }


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    corpus=corpora(),
    own=st.lists(
        st.sampled_from(["tag=a:70%", "tag=c:d:2", "tag=a!", "input=0:50%", "input=0!", "tag=b:40%"]), max_size=3
    ),
    within=st.sampled_from([None, "input", "tag", "length"]),
    general=st.sampled_from(["50%", "100%", 1]),
    floor=st.sampled_from([None, -1.0, 0.5]),
    threads=st.integers(1, 3),
)
def test_shares_of_single_inputs_and_tags(
    tmp_path_factory: pytest.TempPathFactory,
    corpus: dict[str, Any],
    own: list[str],
    within: str | None,
    general: Any,
    floor: float | None,
    threads: int,
) -> None:
    run = tmp_path_factory.mktemp("run")
    rows, nll, tokens, tags, inputs = (corpus[name] for name in ("rows", "nll", "tokens", "tags", "inputs"))
    put_corpus(run, corpus["end"], rows, bounds=[0, corpus["end"]], tags=tags, inputs=inputs)
    put_scores(run, "one", 1, rows, tokens, nll, [0, corpus["end"]])
    keeps, always = [rule for rule in own if "!" not in rule], [rule[:-1] for rule in own if "!" in rule]
    options: dict[str, Any] = {"method": "ppl", "on": "nll", "within": within, "threads": threads, "quiet": True}
    options |= {"keep": [*keeps, general], "always_keep": always, "out": run / "s"}
    options |= {"where": f"ppl>={floor}"} if floor is not None else {}
    rules = [(rule.rpartition(":")[0], rule.rpartition(":")[2]) for rule in keeps] + [(rule, None) for rule in always]
    if len({label for label, _ in rules}) < len(rules):
        with pytest.raises(UsageError, match="named twice"):
            select(run / "scores", **options)
        return

    def is_of(row: int, label: str) -> bool:
        kind, _, name = label.partition("=")
        return tags[row] == name if kind == "tag" else int(np.searchsorted(inputs, row, "right")) == int(name) + 1

    owner = [next((i for i, (label, _) in enumerate(rules) if is_of(row, label)), len(rules)) for row in rows]
    trusted = [i < len(rules) and rules[i][1] is None for i in owner]
    passes = [
        free or floor is None or (value is not None and value >= floor)
        for value, free in zip(nll, trusted, strict=True)
    ]
    names = {"input": lambda i: int(np.searchsorted(inputs, rows[i], "right")), "tag": lambda i: tags[rows[i]]}
    names["length"] = lambda i: bucket(tokens[i] if nll[i] is not None else 0)
    labels = [names[within](i) if within else 0 for i in range(len(rows))]
    numbers = sorted(set(labels), key=lambda name: name.encode() if isinstance(name, str) else name)
    expected: set[int] = set()
    error = None
    for number, share in [*((i, share) for i, (_, share) in enumerate(rules)), (len(rules), general)]:
        chosen = [i for i in range(len(rows)) if owner[i] == number and passes[i]]
        if number < len(rules) and number not in owner:
            error = "no record is of it"
            break
        if share is None:
            expected |= {rows[i] for i in chosen}
            continue
        text = str(share)
        amount = ("fraction", Fraction(text[:-1]) / 100) if "%" in text else ("rows", Fraction(text))
        try:
            expected |= kept_rows(
                [rows[i] for i in chosen], [nll[i] for i in chosen], [tokens[i] for i in chosen],
                [numbers.index(labels[i]) if number == len(rules) else 0 for i in chosen],
                keep=amount, direction="top", ties="row", seed=1,
            )  # fmt: skip
        except ValueError:
            error = "cannot keep"
            break
    if error or not expected:
        with pytest.raises(CatpruneError, match=error or "keeps none of|none of"):
            select(run / "scores", **options)
        return
    selection = select(run / "scores", **options)
    assert kept(run / "s") == expected
    assert selection.guarded == passes.count(False)
    assert selection.trusted == sum(trusted)
    assert selection.scored == sum(value is not None and passed for value, passed in zip(nll, passes, strict=True))
    if rules or within:
        assert sum(group["kept"] for group in selection.groups) == selection.kept
        assert [group["name"] for group in selection.groups[: len(rules)]] == [label for label, _ in rules]


def test_inputs_are_named_by_their_files(tmp_path: Path) -> None:
    put_corpus(tmp_path, 30, list(range(30)), bounds=[0, 30], tags=None, inputs=[0, 10, 20, 30])
    manifest = tmp_path / "clean" / "manifest.json"
    settings = json.loads(manifest.read_text())
    for item, name in zip(settings["inputs"], ("a", "b", "b"), strict=True):
        item |= {"source": f"../in/{name}.en", "target": f"../in/{name}.{item['first']}"}
    manifest.write_bytes(seal(settings))
    options: dict[str, Any] = {"method": "random", "keep": "10%", "quiet": True}
    select(tmp_path / "clean", out=tmp_path / "s", always_keep="input=a.en", **options)
    assert set(range(10)) < kept(tmp_path / "s") and len(kept(tmp_path / "s")) == 12
    for number, name in enumerate(("in/a.en", "'../in/b.{en,10}'", "in/b.{en,20}")):
        select(tmp_path / "clean", out=tmp_path / f"s{number}", always_keep=f"input={name.strip(chr(39))}", **options)
        assert set(range(number * 10, number * 10 + 10)) < kept(tmp_path / f"s{number}")
    for name, message in (("c.en", r"is not an input: give .* 0 \(.*a\.0, .*a\.en\), 1"), ("b.en", "several inputs")):
        with pytest.raises(UsageError, match=message):
            select(tmp_path / "clean", out=tmp_path / "t", always_keep=f"input={name}", **options)
    with pytest.raises(UsageError, match="no tags"):
        select(tmp_path / "clean", out=tmp_path / "t", always_keep="tag=a", **options)


def test_lengths_in_characters(tmp_path: Path) -> None:
    put_corpus(tmp_path, 50, list(range(50)), bounds=[0, 20, 50], tags=None, inputs=[0, 50])
    put_column(tmp_path / "x.parquet", list(range(50)), [float(i) for i in range(50)], "x", group=20)
    sources: dict[str, dict[str, Any]] = {
        "clean": {"method": "random"},
        "x.parquet": {"column": "x", "clean": tmp_path / "clean"},
    }
    for source, more in sources.items():
        options: dict[str, Any] = {"within": "length", "keep": "20%", "out": tmp_path / f"{source}-s", "quiet": True}
        selection = select(tmp_path / source, **options, **more)
        # Lengths are 7·row mod 5: ten each of 0 to 4.
        assert [(group["name"], group["scored"], group["kept"]) for group in selection.groups] == [
            (name, 10, 2) for name in ("0", "1", "2", "3", "4-5")
        ]
    with pytest.raises(UsageError, match="within length needs the clean folder"):
        select(tmp_path / "x.parquet", column="x", within="length", out=tmp_path / "t", **QUIET)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "length"},
        {"method": "random", "within": "length"},
        {"method": "random", "where": "target_words>3"},
        {"merge": "target_characters + random"},
    ],
)
def test_without_filters_no_lengths_are_known(tmp_path: Path, options: dict[str, Any]) -> None:
    for name in ("a.en", "a.de"):
        (tmp_path / name).write_text("one\ntwo words\nthree words here\n")
    clean([tmp_path / "a.en", tmp_path / "a.de"], out=tmp_path / "clean", rules=False, quiet=True)
    with pytest.raises(CatpruneError, match="cleaned with rules = false, which measures nothing"):
        select(tmp_path / "clean", out=tmp_path / "out", **options)
    assert select(tmp_path / "clean", out=tmp_path / "out", method="random").kept == 1


def test_samples_are_the_highest_draws(tmp_path: Path) -> None:
    rows = list(range(0, 4000, 2))
    weights = [[1.0, 3.0, 0.0, None][i % 4] for i in range(len(rows))]
    put_column(tmp_path / "w.parquet", rows, weights, "w", group=300)
    options: dict[str, Any] = {"column": "w", "draw": True, "seed": 9, "quiet": True}
    select(tmp_path / "w.parquet", keep=100, out=tmp_path / "s", **options)
    draws = {row: draw(weight, row, 9) for row, weight in zip(rows, weights, strict=True) if weight is not None}
    assert kept(tmp_path / "s") == set(sorted(draws, key=draws.__getitem__)[-100:])
    heavy = sum(row % 8 == 2 for row in kept(tmp_path / "s"))
    assert 65 <= heavy <= 85  # three quarters, of a sample of few in many
    selection = select(tmp_path / "w.parquet", keep=1001, out=tmp_path / "all", **options)
    assert {row for row in rows if row % 8 in (0, 2)} < kept(tmp_path / "all") and selection.decided_by_ties == 500
    put_column(tmp_path / "n.parquet", [1, 7], [0.5, -0.25], "w")
    with pytest.raises(CatpruneError, match=r"the weight of row 7 \(rows count from 0\) is -0\.25: draw takes weights"):
        select(tmp_path / "n.parquet", keep=1, out=tmp_path / "n", **options)


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(FEW | st.sampled_from([float("inf"), float("-inf")]), min_size=1, max_size=60),
    kind=st.sampled_from(["<f4", "<f8"]),
    direction=st.sampled_from(["top", "bottom", "middle"]),
    ties=st.sampled_from(["row", "random"]),
    share=st.integers(1, 100),
    threads=st.integers(1, 3),
)
def test_arrays_and_row_numbers(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[float],
    kind: str,
    direction: str,
    ties: str,
    share: int,
    threads: int,
) -> None:
    folder = tmp_path_factory.mktemp("run")
    np.save(folder / "scores.npy", np.array(values, kind))
    rows = list(range(len(values)))
    expected = kept_rows(rows, values, [0] * len(rows), [0] * len(rows), direction=direction, ties=ties, seed=1,
                         keep=("fraction", Fraction(share, 100)))  # fmt: skip
    options: dict[str, Any] = {"keep": f"{share}%", "direction": direction, "ties": ties, "threads": threads}
    options |= {"rows_only": True, "quiet": True}
    if not expected:
        with pytest.raises(CatpruneError, match="keeps none of"):
            select(folder / "scores.npy", out=folder / "s", **options)
        return
    selection = select(folder / "scores.npy", out=folder / "s", **options)
    array = np.load(folder / "s" / "rows.npy")
    assert array.dtype == np.uint32 and array.tolist() == sorted(expected)
    assert (selection.kept, selection.manifest["shards"]) == (len(expected), [])
    put_column(folder / "f.parquet", rows, values, "scores", group=7)
    column = select(folder / "f.parquet", column="scores", out=folder / "p", **options)
    assert np.load(folder / "p" / "rows.npy").tolist() == sorted(expected)
    fields = ("scored", "kept", "decided_by_ties")
    assert [getattr(selection, name) for name in fields] == [getattr(column, name) for name in fields]
    shards = select(folder / "scores.npy", out=folder / "t", **options | {"rows_only": False})
    assert kept(folder / "t") == expected and shards.manifest["counts"] == selection.manifest["counts"]


def test_rows_of_large_sources(tmp_path: Path) -> None:
    values = np.random.default_rng(5).integers(0, 1000, 2_500_000).astype(np.float32)
    np.save(tmp_path / "scores.npy", values)
    order = np.lexsort((np.arange(len(values)), -values))[: len(values) // 3]
    for threads in (1, 2, 3):
        select(
            tmp_path / "scores.npy",
            keep=len(order),
            out=tmp_path / f"s{threads}",
            rows_only=True,
            threads=threads,
            **QUIET,
        )
        assert np.array_equal(np.load(tmp_path / f"s{threads}" / "rows.npy"), np.sort(order))
    put_column(tmp_path / "far.parquet", [1, 2**32, 2**40], [1.0, 2.0, 3.0], "x")
    select(tmp_path / "far.parquet", column="x", keep=2, out=tmp_path / "far", rows_only=True, **QUIET)
    array = np.load(tmp_path / "far" / "rows.npy")
    assert array.dtype == np.uint64 and array.tolist() == [2**32, 2**40]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([0.5, np.nan], np.float32), r"value of row 1 \(rows count from 0\) is NaN"),
        (np.zeros((2, 2), np.float32), "an array of float32 and shape 2x2: give numbers of one dimension"),
        (np.array(["a"]), "an array of <U1 and shape 1: give numbers"),
    ],
)
def test_bad_arrays(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(CatpruneError, match=message):
        select(tmp_path / "a.npy", keep=1, out=tmp_path / "s", **QUIET)
    data = (tmp_path / "a.npy").read_bytes()
    for part in (data[:-1], data[:40], b"x", b""):
        (tmp_path / "b.npy").write_bytes(part)
        with pytest.raises(CatpruneError, match=r"b\.npy is no array that NumPy reads .*: write it with numpy\.save"):
            select(tmp_path / "b.npy", keep=1, out=tmp_path / "s", **QUIET)


@pytest.mark.parametrize("kind", ["<f2", ">f4", ">f8", "<i8", "<u4", "i1", "?"])
def test_arrays_of_other_types_rank_like_float64(tmp_path: Path, kind: str) -> None:
    values = np.random.default_rng(4).integers(0, 100, 300).astype(kind)
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "b.npy", values.astype("<f8"))
    for name in ("a", "b"):
        select(tmp_path / f"{name}.npy", keep="30%", out=tmp_path / name / "s", **QUIET)
    assert kept(tmp_path / "a" / "s") == kept(tmp_path / "b" / "s")


def test_headers_that_numpy_reads(tmp_path: Path) -> None:
    values = np.arange(9, dtype="<f4")
    for header in (
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (9L,), }",
        b'{"descr": "<f4", "fortran_order": False, "shape": ( 9 ,)}',
        b"{'descr': 'f4', 'fortran_order': True, 'shape': (9,)}",
    ):
        text = header.ljust(117) + b"\n"
        data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + values.tobytes()
        for rest in (b"", b"more"):
            (tmp_path / "a.npy").write_bytes(data + rest)
            select(tmp_path / "a.npy", keep=2, out=tmp_path / "s", force=True, **QUIET)
            assert kept(tmp_path / "s") == {7, 8}
    (tmp_path / "a.npy").write_bytes(data.replace(b"'fortran_order': True, ", b""))
    with pytest.raises(CatpruneError, match="is no array that NumPy reads"):
        select(tmp_path / "a.npy", keep=2, out=tmp_path / "s", force=True, **QUIET)


@pytest.mark.parametrize(
    ("name", "data"),
    [("s.npz", b"PK\x03\x04"), ("s.jsonl", b'{"comet": 0.5}\n'), ("s.csv", b"comet\n0.5\n"), ("s", b"")],
)
def test_scores_in_another_format(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CatpruneError, match=rf"{name} is no Parquet file: give scores as Parquet with a column row"):
        select(tmp_path / name, column="comet", keep=1, out=tmp_path / "s", **QUIET)


def test_scores_without_rows(tmp_path: Path) -> None:
    put_column(tmp_path / "f.parquet", [], [], "x")
    with pytest.raises(CatpruneError, match=r"f\.parquet has no rows"):
        select(tmp_path / "f.parquet", column="x", keep=1, out=tmp_path / "s", **QUIET)


def test_rounding_that_decides_is_reported(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(2**24, 2**24 + 9))
    selected = select(tmp_path / "a.npy", keep=4, out=tmp_path / "s", **QUIET)
    assert "scores are compared as float32: float64 values that are closer than that are ties" in summary(selected)


def test_an_array_of_another_corpus_is_refused(tmp_path: Path) -> None:
    # One score for each clean pair: its index is no row of the corpus.
    for name in ("en", "de"):
        lines = ("" if number % 4 == 0 else f"{name} line number {number}" for number in range(12))
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    cleaned = clean([tmp_path / "en", tmp_path / "de"], out=tmp_path / "clean", duplicates="none", quiet=True)
    outputs = [tmp_path / "a", tmp_path / "b"]
    np.save(tmp_path / "few.npy", np.arange(cleaned.kept, dtype=np.float32))
    np.save(tmp_path / "all.npy", np.arange(cleaned.rows, dtype=np.float32))
    for name in ("few", "all"):
        select(tmp_path / f"{name}.npy", keep=3, out=tmp_path / name, **QUIET)
        select(tmp_path / f"{name}.npy", keep=3, out=tmp_path / f"{name}-rows", rows_only=True, **QUIET)
    message = r"few was made from .*few\.npy with 9 scores, .*clean has 12 rows: give one score for each row"
    with pytest.raises(CatpruneError, match=message):
        write(tmp_path / "clean", outputs, selection=tmp_path / "few", quiet=True)
    assert not outputs[0].exists()
    assert write(tmp_path / "clean", outputs, selection=tmp_path / "all", quiet=True).pairs == 3
    tokenize(tmp_path / "clean", out=tmp_path / "tokens", vocab_size=300, quiet=True)
    options: dict[str, Any] = {"preset": "tiny", "epochs": 1, "quiet": True}
    for chosen in ({"selection": tmp_path / "few"}, {"rows": tmp_path / "few-rows" / "rows.npy"}):
        with pytest.raises(CatpruneError, match=r"with 9 scores, .* has 12 rows: give one score for each row"):
            train(tmp_path / "tokens", out=tmp_path / "model", **chosen, **options)
    # Rows that were selected from another corpus.
    (tmp_path / "de").write_text("".join(f"de other line {number}\n" for number in range(12)))
    clean([tmp_path / "en", tmp_path / "de"], out=tmp_path / "other", duplicates="none", quiet=True)
    select(tmp_path / "other", method="random", out=tmp_path / "from-other", rows_only=True, **QUIET)
    with pytest.raises(CatpruneError, match="rows do not mean the same pairs"):
        rows = tmp_path / "from-other" / "rows.npy"
        train(tmp_path / "tokens", out=tmp_path / "model", exclude_rows=rows, **options)


def test_row_numbers_are_no_selection_for_write(tmp_path: Path) -> None:
    for name in ("en", "de"):
        (tmp_path / name).write_text("".join(f"{name} line number {number}\n" for number in range(9)))
    clean([tmp_path / "en", tmp_path / "de"], out=tmp_path / "clean", duplicates="none", quiet=True)
    select(tmp_path / "clean", method="random", out=tmp_path / "s", rows_only=True, **QUIET)
    with pytest.raises(CatpruneError, match="holds only row numbers: select again without rows_only"):
        write(tmp_path / "clean", [tmp_path / "a", tmp_path / "b"], selection=tmp_path / "s", quiet=True)


def test_files_in_any_order_are_one_column(tmp_path: Path) -> None:
    values = [float(value) for value in np.random.default_rng(2).permutation(40)]
    folders = [tmp_path / "one", tmp_path / "two"]
    for number, (first, end) in enumerate(itertools.pairwise([0, 7, 20, 21, 40])):
        name = f"part-{first:012}-{end:012}.parquet"
        put_column(folders[number % 2] / name, list(range(first, end)), values[first:end], "x")
    single = select(folders, column="x", keep=11, out=tmp_path / "a", **QUIET)
    two = select(folders[::-1], column="x", keep=11, out=tmp_path / "b", **QUIET)
    assert single.manifest == two.manifest
    assert kept(tmp_path / "a") == {row for row, value in enumerate(values) if value >= 29}
    part = folders[1] / f"part-{7:012}-{20:012}.parquet"
    moved = part.rename(tmp_path / "gone.parquet")
    with pytest.raises(CatpruneError, match=r"rows 7\.\.20 are missing between .*000007\.parquet and .*020-"):
        select(folders, column="x", out=tmp_path / "c", **QUIET)
    moved.rename(folders[1] / f"part-{6:012}-{20:012}.parquet")
    with pytest.raises(CatpruneError, match=r"both have rows 6\.\.7: give only one of them"):
        select(folders, column="x", out=tmp_path / "c", **QUIET)
    put_column(tmp_path / "f.parquet", [1, 5], [0.5, 0.5], "x")
    put_column(tmp_path / "g.parquet", [3, 9], [0.5, 0.5], "x")
    with pytest.raises(CatpruneError, match=r"f\.parquet goes to row 5, .*g\.parquet begins at row 3"):
        select([tmp_path / "g.parquet", tmp_path / "f.parquet"], column="x", out=tmp_path / "c", **QUIET)


@pytest.mark.parametrize("ties", ["row", "random"])
def test_guards_on_the_ranked_column_itself(tmp_path: Path, ties: str) -> None:
    values = [float(row % 7) for row in range(100)]
    put_column(tmp_path / "x.parquet", list(range(100)), values, "x", group=9)
    options: dict[str, Any] = {"where": ["x<5", "x!=3"], "keep": "50%", "rows_only": True, "ties": ties, "quiet": True}
    selection = select(tmp_path / "x.parquet", column="x", out=tmp_path / "s", **options)
    passed = [row for row, value in enumerate(values) if value < 5 and value != 3]
    expected = kept_rows(
        passed, [values[row] for row in passed], [0] * len(passed), [0] * len(passed),
        keep=("fraction", Fraction(1, 2)), direction="top", ties=ties, seed=1,
    )  # fmt: skip
    assert set(np.load(tmp_path / "s" / "rows.npy").tolist()) == expected
    assert (selection.scored, selection.guarded) == (len(passed), 100 - len(passed))
    np.save(tmp_path / "x.npy", np.array(values, np.float32))
    select(tmp_path / "x.npy", out=tmp_path / "t", **options)
    assert set(np.load(tmp_path / "t" / "rows.npy").tolist()) == expected


def test_files_without_statistics(tmp_path: Path) -> None:
    for name, rows in (("b", [5, 6, 9]), ("a", [0, 3])):
        table = pa.table({"row": rows, "x": [float(row) for row in rows]})
        pq.write_table(table, tmp_path / f"{name}.parquet", write_statistics=False, row_group_size=2)
    selection = select(
        [tmp_path / "b.parquet", tmp_path / "a.parquet"], column="x", keep=3, out=tmp_path / "s", **QUIET
    )
    assert kept(tmp_path / "s") == {5, 6, 9} and selection.scored == 5


def test_scores_of_several_workers(tmp_path: Path) -> None:
    end, rows = 90, [row for row in range(90) if row % 4]
    nll = [float(value) for value in np.random.default_rng(1).random(len(rows)).astype(np.float32)]
    put_corpus(tmp_path, end, rows, bounds=[0, end], tags=None, inputs=[0, end])
    put_scores(tmp_path, "e1", 1, rows, [1] * len(rows), nll, [0, 30, 60, 90])
    whole = select(tmp_path / "scores", method="ppl", on="nll", out=tmp_path / "whole", **QUIET)
    shards = json.loads((tmp_path / "scores" / "e1" / "manifest.json").read_text())["shards"]
    for worker, shards_of_worker in (("w1", [shards[1]]), ("w2", [shards[2], shards[0]])):
        folder = tmp_path / worker / "e1"
        (folder / "columns").mkdir(parents=True)
        manifest = json.loads((tmp_path / "scores" / "e1" / "manifest.json").read_text())
        (folder / "manifest.json").write_bytes(seal({**manifest, "shards": shards_of_worker}))
        for shard in shards_of_worker:
            (folder / shard["file"]).write_bytes((tmp_path / "scores" / "e1" / shard["file"]).read_bytes())
    options: dict[str, Any] = {"method": "ppl", "on": "nll", "quiet": True}
    parts = select([tmp_path / "w2", tmp_path / "w1"], out=tmp_path / "parts", **options)
    assert parts.manifest["counts"] == whole.manifest["counts"]
    assert read(tmp_path / "parts").equals(read(tmp_path / "whole"))
    with pytest.raises(CatpruneError, match=r"rows 30\.\.60 are missing before .*part-000000000060"):
        select(tmp_path / "w2", out=tmp_path / "t", **options)
    with pytest.raises(CatpruneError, match=r"rows 60\.\.90 are missing"):
        select(tmp_path / "w1", out=tmp_path / "t", **options)
    with pytest.raises(CatpruneError, match="which another shard has"):
        select([tmp_path / "scores", tmp_path / "w1"], out=tmp_path / "t", **options)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two checkpoints and a scorer's column over 60 rows."""
    generator, rows = np.random.default_rng(4), list(range(60))
    put_corpus(tmp_path, 60, rows, bounds=[0, 60], tags=None, inputs=[0, 60])
    for name, step in (("e1", 1), ("e5", 5)):
        nll = [None if row == 7 else float(value) for row, value in enumerate(generator.random(60))]
        put_scores(tmp_path, name, step, rows, [2] * 60, nll, [0, 32, 60])
    labse = [None if row == 9 else float(value) for row, value in enumerate(generator.random(60))]
    put_column(tmp_path / "scores" / "labse" / "part-000000000000-000000000060.parquet", rows, labse, "score")
    put_column(tmp_path / "more.parquet", rows, [float(row) for row in rows], "extra")
    return tmp_path


def test_names_of_columns(run: Path) -> None:
    rows = list(range(60))

    def nll(name: str) -> list[float | None]:
        table = read(run / "scores" / name)
        return [None if s is None else s / 2 for s in table["nll_sum"].to_pylist()]

    e1, e5 = nll("e1"), nll("e5")
    labse = pq.read_table(run / "scores" / "labse")["score"].to_pylist()
    plain: dict[str, Any] = {"join": run / "more.parquet", "keep": "20%", "quiet": True}
    options = {"on": "nll", **plain}
    selection = select(run / "scores", merge="0.7*ppl + 0.3*labse", out=run / "a", **options)
    assert read(run / "a")["score"].to_pylist() == merged([e5, labse], [0.7, 0.3], "rank")
    assert (selection.method, selection.unscored) == ("merge", 2)
    # A method that reads all checkpoints with one that reads the last; then every kind of name.
    select(run / "scores", merge="progress + 2*ppl", merge_by="z", out=run / "b", bins=3, **options)
    select(run / "scores", method="progress", out=run / "p", bins=3, quiet=True)
    progress = read(run / "p")["score"].to_pylist()
    assert read(run / "b")["score"].to_pylist() == merged([progress, e5], [1, 2], "z")
    guards = ["labse>0.1", "extra<50", "e1.nll_sum>=0.25", "target_characters!=3", "e1.tokens==2"]
    selection = select(run / "scores", method="ppl", where=guards, out=run / "c", **options)
    passed = [
        row
        for row in rows
        if labse[row] is not None and labse[row] > np.float32(0.1) and row < 50
        and e1[row] is not None and e1[row] * 2 >= 0.25 and row * 7 % 5 != 3
    ]  # fmt: skip
    assert selection.guarded == 60 - len(passed)
    best = sorted((row for row in passed if e5[row] is not None), key=lambda row: -e5[row])  # type: ignore[operator]
    assert kept(run / "c") == set(best[: len(passed) // 5])
    assert any("more pairs do not meet a condition of where" in line for line in summary(selection))
    with pytest.raises(UsageError, match="no column nowhere: name a method"):
        select(run / "scores", merge="ppl + nowhere", out=run / "d", **options)
    put_column(run / "again.parquet", rows, [0.0] * 60, "extra")
    with pytest.raises(UsageError, match=r"extra is a column of .*more\.parquet and of .*again\.parquet"):
        select(
            run / "scores",
            where="extra>1",
            out=run / "d",
            **plain | {"join": [run / "more.parquet", run / "again.parquet"]},
        )


def test_merges_are_equal_for_any_threads_and_after_a_crash(run: Path) -> None:
    options: dict[str, Any] = {"merge": "cat-diff + labse", "quiet": True}
    single = select(run / "scores", out=run / "one", threads=1, **options)
    two = select(run / "scores", out=run / "two", threads=3, **options)
    assert single.manifest == two.manifest
    # Leftovers of a killed run: a plan, temporary files, no manifest.
    (run / "one" / "manifest.json").unlink()
    (run / "one" / "tmp").mkdir()
    (run / "one" / "tmp" / "ranks-9.tmp").write_bytes(b"half")
    (run / "one" / "rows.npy.tmp").write_bytes(b"half")
    again = select(run / "scores", out=run / "one", **options)
    assert again.manifest == single.manifest
    assert {path.name for path in (run / "one").iterdir()} == {"log", "manifest.json", "plan.json", "columns"}
    shards = {run / "one" / shard["file"] for shard in single.manifest["shards"]}
    assert set((run / "one/columns").iterdir()) == shards
    (run / "one" / "tmp").mkdir()
    (run / "one" / "tmp" / "sums.tmp").write_bytes(b"half")
    select(run / "scores", out=run / "one", force=True, **options | {"merge_by": "z"})
    assert not (run / "one" / "tmp").exists()


def test_the_plan_names_every_source(run: Path) -> None:
    options: dict[str, Any] = {"merge": "ppl + labse", "where": "extra>3", "join": run / "more.parquet", "quiet": True}
    selection = select(run / "scores", out=run / "s", **options)
    assert len(selection.manifest["reads"]["external"]) == 2
    put_column(run / "more.parquet", list(range(60)), [9.0] * 60, "extra")
    with pytest.raises(CatpruneError, match="holds work with other"):
        select(run / "scores", out=run / "s", **options)


def test_expressions() -> None:
    assert parse_merge("0.7*cat-var + .3 * labse") == ((0.7, "cat-var"), (0.3, "labse"))
    assert parse_merge("-ppl+2e-1*scores/x.y - z") == ((-1.0, "ppl"), (0.2, "scores/x.y"), (-1.0, "z"))
    assert str(parse_guard(" labse >= -1.5e3 ")) == "labse>=-1500"


@pytest.mark.parametrize(
    "options",
    [
        *(
            {"merge": text}
            for text in ("", "ppl", "ppl labse", "ppl +", "2*", "ppl + ppl", "0*ppl + labse", "ppl * 2 + labse")
        ),
        *({"where": text} for text in ("labse", "labse=1", "labse>x", ">1", "progress>0")),
        *({"keep": keep} for keep in (["50%", "40%"], ["tag=a"], ["tag=a:2%", "tag=a:3%"], ["tag=a:x"])),
        {"always_keep": "a"},
        {"method": "ppl", "merge": "ppl + labse"},
        {"merge_by": "mean", "merge": "ppl + labse"},
        {"draw": True, "direction": "bottom"},
        {"within": "words"},
    ],
)
def test_usage_errors(run: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        select(run / "scores", out=run / "s", quiet=True, **options)
    assert not (run / "s").exists()


def test_a_method_with_a_column_is_refused(run: Path) -> None:
    with pytest.raises(UsageError, match=r"method = random and column = extra: give only one of them"):
        select(run / "more.parquet", method="random", column="extra", out=run / "s", **QUIET)
    np.save(run / "a.npy", np.zeros(3, np.float32))
    with pytest.raises(UsageError, match="method = random: the source has one column, a, which ranks"):
        select(run / "a.npy", method="random", out=run / "s", **QUIET)


#: A column file whose damaged page header made the library read the end of the file for hours; found by fuzzing.
ENDLESS = (
    "UEFSMRUAFRwVICwVBBUAFQYVBhw2ACgEAwAAABgEAAAAABERAAAADjQCAAAABAEAAAAAAwAAABUAFRwVICwVBBUAFQYVBhwYCAAAAAAAAOA/GA"
    "gAAAAAAAAewOn91/f//wAAAADgPxgIAAAAAAAA4D8REQAAAA40AgAAAAMBAAAAAAAA4D8VABUcFSAsFQQVABUGFQYcNgAoBAYAAAAYBAUAAAAR"
    "EQAAAA40AgAAAAQABQAAAAYAAAAVABUsFTAsFQQVABUGFQYAAAgYHAAAAAAAQBgIAAAAAAAA8L8WACgIAAAAAAAAAEAYCAAlABwWAAAAAADwvx"
    "ERAAAAFlQCAAAABAEA/v////////8AAAAAAPC/FQQZPDUAGAZzY2hlbWEVBAAVAiUCGANyb3clGkysEyASAAAAFQolAhgFc2NvcmUAFggZLBks"
    "JgAcFQIZJQYAGRgDcm93FQIWBBZiFmYmCDw2ACgEAwAAABgEAAAAABERABkcFQAVABUCADwpBhkmAAQAAAAmABwVChklBgAZGAVzY29yZRUCFg"
    "QWmgEWngEmbjwYCAAAAAAAAOA/GAgAAAAAAADgPxYCKAgAAAAAAADgPxgIAAAAAAAA4D8REQAZHBUAFQAVAgA8KQYZJgICAAAAFvwBFgQmCBaE"
    "AgAZLCYAHBUCGSUGABkYA3JvdxUCFgQWYhZmJo0CPDYAKAQGAAAAGAQFAAAAEREAGRwVABUAFQIAPCkGGSYABAAAACYAHBUKGSUGABkYBXNjb3"
    "JlFQIWBBaqARauASbyAjwYCAAAAAAAAABAGAgAAAAAAADwvxYAKAgAAAAAAAAAQBgIAAAAAAAA8L8REQAZHBUAFQAVAgA8KQYZJgAEAAAAFowC"
    "FgQmjAIWlAIAGRwYDEFSUk9XOnNjaGVtYRjsAS8vLy8vNmdBQUFBUUFBQUFBQUFLQUF3QUJnQUZBQWdBQ2dBQUFBQUJCQUFNQUFBQUNBQUlBQU"
    "FBQkFBSUFBQUFCQUFBQUFJQUFBQklBQUFBQkFBQUFORC8vLzhBQUFFREVBQUFBQndBQUFBRUFBQUFBQUFBQUFVQUFBQnpZMjl5WlFBR0FBZ0FC"
    "Z0FHQUFBQUFBQUNBQkFBRkFBSUFBWUFCd0FNQUFBQUVBQVFBQUFBQUFBQkFoQUFBQUFjQUFBQUJBQUFBQUFBQUFBREFBQUFjbTkzQUFBQUJnQU"
    "lBQVFBQmdBQUFDQUFBQUE9ABggcGFycXVldC1jcHAtYXJyb3cgdmVyc2lvbiAyNi4wLjEZLBwAABwAAAC0AgAAUEFSMQ=="
)


def test_a_damaged_page_header_is_an_error_within_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "endless.parquet"
    path.write_bytes(base64.b64decode(ENDLESS))
    with pytest.raises(CatpruneError, match=r"endless\.parquet is damaged"):
        select(path, column="score", out=tmp_path / "out", quiet=True)


def test_many_threads_do_not_read_a_joined_column_many_times(tmp_path: Path) -> None:
    count = 24 * 65_536
    draw = np.random.default_rng(5).random
    rows = np.delete(np.arange(count), np.arange(100, count, 1_000))  # with gaps
    scores = pa.table({"row": np.arange(count), "score": draw(count).astype(np.float32)})
    pq.write_table(scores, tmp_path / "scores.parquet", row_group_size=65_536)
    joined = pa.table({"row": rows, "other": draw(len(rows)).astype(np.float32)})
    pq.write_table(joined, tmp_path / "joined.parquet", row_group_size=count)

    def read_bytes() -> int:
        return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])

    read: list[int] = []
    shards: list[list[bytes]] = []
    for threads in (1, 12):
        out, before = tmp_path / f"out-{threads}", read_bytes()
        select(
            tmp_path / "scores.parquet", merge="score + other", merge_by="z", join=[tmp_path / "joined.parquet"],
            keep="50%", out=out, threads=threads, quiet=True,
        )  # fmt: skip
        read.append(read_bytes() - before)
        shards.append([path.read_bytes() for path in sorted(out.glob("columns/*"))])
    assert shards[0] == shards[1]
    assert read[1] < 2 * read[0], "each thread skips what others read"
