"""Selection against its oracle, and refusals."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catprune._core import digest_file
from catprune.errors import CatpruneError, UsageError
from catprune.selection.budget import parse_keep
from catprune.selection.methods import METHODS
from catprune.selection.select import select
from catprune.selection.summary import caution, summary
from catprune.workspace.sealed import seal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.oracles_select import kept_rows, progress, progress_within, random_score, row_hash
from support.scores import FEW, kept, put_corpus, put_scores, read


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    end = draw(st.integers(1, 40))
    rows = sorted(draw(st.sets(st.integers(0, end - 1))))
    cut = st.lists(st.integers(0, end), max_size=3).map(lambda cuts: sorted({0, end, *cuts}))
    return {
        "end": end,
        "rows": rows,
        "nll": draw(st.lists(st.none() | FEW, min_size=len(rows), max_size=len(rows))),
        # Powers of two, so that nll_sum / tokens is exact.
        "tokens": draw(st.lists(st.sampled_from([1, 2, 4]), min_size=len(rows), max_size=len(rows))),
        "tags": draw(st.lists(st.sampled_from(["b", "a", "ß", ""]), min_size=end, max_size=end)),
        "bounds": draw(cut),
        "clean_bounds": draw(cut),
        "inputs": draw(cut),
        "seen": draw(st.none() | st.lists(st.sampled_from([0, 1, 3]), min_size=len(rows), max_size=len(rows))),
    }


KEEPS = st.one_of(
    st.integers(1, 30).map(lambda k: (k, ("rows", Fraction(k)))),
    st.integers(1, 100).map(lambda k: (f"{k}%", ("fraction", Fraction(k, 100)))),
    st.integers(1, 80).map(lambda k: (f"{k}tokens", ("tokens", Fraction(k)))),
    st.integers(1, 100).map(lambda k: (f"0.{k:03}tokens", ("token_fraction", Fraction(k, 1000)))),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    layout=layouts(),
    keep=KEEPS,
    direction=st.sampled_from(["top", "bottom", "middle"]),
    within=st.sampled_from([None, "input", "tag"]),
    ties=st.sampled_from(["row", "random"]),
    seed=st.integers(0, 2**64 - 1),
    threads=st.integers(1, 3),
    apart=st.booleans(),
)
def test_selections_equal_the_oracles(
    tmp_path_factory: pytest.TempPathFactory,
    layout: dict[str, Any],
    keep: Any,
    direction: str,
    within: str | None,
    ties: str,
    seed: int,
    threads: int,
    apart: bool,
) -> None:
    run = tmp_path_factory.mktemp("run")
    rows, nll, tokens, seen = layout["rows"], layout["nll"], layout["tokens"], layout["seen"]
    inputs, tags = layout["inputs"], layout["tags"]
    put_corpus(run, layout["end"], rows, bounds=layout["clean_bounds"], tags=tags, inputs=inputs)
    put_scores(run, "one", 1, rows, tokens, nll, layout["bounds"], seen)
    names = sorted(tags, key=str.encode)
    groups = {
        None: [0] * len(rows),
        "input": [int(np.searchsorted(inputs, row, side="right")) for row in rows],
        "tag": [names.index(tags[row]) for row in rows],
    }[within]
    given_keep, oracle_keep = keep
    arguments: dict[str, Any] = {
        "out": run / "selection",
        "method": "ppl",
        "on": "nll",
        "keep": given_keep,
        "direction": direction,
        "within": within,
        "ties": ties,
        "seed": seed,
        "threads": threads,
        "by_exposure": apart,
        "quiet": True,
    }
    groups = [4 * group + (0 if seen is None or not apart else seen[i]) for i, group in enumerate(groups)]
    if direction == "middle" and "tokens" in str(given_keep):
        with pytest.raises(UsageError, match="middle"):
            select(run / "scores", **arguments)
        return
    ranking: dict[str, Any] = {"keep": oracle_keep, "direction": direction, "ties": ties, "seed": seed}
    try:
        expected = kept_rows(rows, nll, tokens, groups, **ranking)
    except ValueError:
        with pytest.raises(CatpruneError, match="cannot keep"):
            select(run / "scores", **arguments)
        return
    if not expected:
        with pytest.raises(CatpruneError, match="keeps none of"):
            select(run / "scores", **arguments)
        assert not list((run / "selection").rglob("part-*"))
        return
    selection = select(run / "scores", **arguments)
    assert kept(run / "selection") == expected

    table, scored = read(run / "selection"), [i for i, value in enumerate(nll) if value is not None]
    assert table["row"].to_pylist() == rows
    assert table["score"].to_pylist() == nll
    assert (selection.scored, selection.unscored) == (len(scored), len(rows) - len(scored))
    assert selection.kept == len(expected) == sum(shard["kept"] for shard in selection.manifest["shards"])
    assert selection.tokens == sum(tokens[i] for i in scored)
    assert selection.tokens_kept == sum(n for row, n in zip(rows, tokens, strict=True) if row in expected)
    assert [shard["first"] for shard in selection.manifest["shards"]] == layout["bounds"][:-1]
    assert selection.decided_by_ties == tied(rows, nll, groups, expected)
    partly = seen is not None and len(set(seen)) > 1
    if within or (partly and apart):
        assert sum(group["kept"] for group in selection.groups) == selection.kept
    assert selection.uneven_exposure == (("one",) if partly else ())
    assert (caution(selection) is None) == (apart or not partly)


def tied(rows: list[int], nll: list[float | None], groups: list[int], chosen: set[int]) -> int:
    """Rows whose score is shared, within their group, by rows that are kept and rows that are not."""
    classes: dict[tuple[int, float], list[bool]] = {}
    for row, value, group in zip(rows, nll, groups, strict=True):
        if value is not None:
            classes.setdefault((group, value + 0.0), []).append(row in chosen)
    return sum(len(members) for members in classes.values() if any(members) and not all(members))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 700), min_size=1, max_size=4).filter(any),
    bins=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_progress_is_that_of_the_oracle(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], bins: int, seed: int
) -> None:
    run, end, random = tmp_path_factory.mktemp("run"), sum(sizes), np.random.default_rng(seed)
    first = (random.integers(0, 40, end) / 2).astype(np.float32)
    last = (random.integers(0, 400, end) / 8).astype(np.float32)
    inputs = [0, *itertools.accumulate(sizes)]
    put_corpus(run, end, list(range(end)), bounds=[0, end], tags=None, inputs=inputs)
    for name, step, nll in (("late", 9, last), ("early", 3, first)):
        put_scores(run, name, step, list(range(end)), [2] * end, nll.tolist(), inputs)
    options: dict[str, Any] = {"method": "progress", "keep": 1, "bins": bins, "quiet": True}
    select(run / "scores", out=run / "all", **options)
    assert read(run / "all")["score"].to_pylist() == progress(first, last, bins).tolist()
    select(run / "scores", out=run / "within", within="input", **options)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    assert read(run / "within")["score"].to_pylist() == progress_within(first, last, bins, groups).tolist()


def test_progress_does_not_score_most_pairs_of_small_groups_0(tmp_path: Path) -> None:
    # 40 groups of 50 rows: with 50 bins in each, every row would be its own median, and the cut would go by row.
    end, random = 2000, np.random.default_rng(1)
    first, last = random.normal(5, 1, end).astype(np.float32), random.normal(4, 1, end).astype(np.float32)
    tags = [f"group {row % 40}" for row in range(end)]
    put_corpus(tmp_path, end, list(range(end)), bounds=[0, end], tags=tags, inputs=[0, end])
    for name, step, nll in (("late", 9, last), ("early", 3, first)):
        put_scores(tmp_path, name, step, list(range(end)), [2] * end, nll.tolist(), [0, end])
    selected = select(tmp_path / "scores", out=tmp_path / "s", method="progress", within="tag", keep="50%", quiet=True)
    scores = read(tmp_path / "s")["score"].to_numpy()
    assert (scores == 0).mean() < 0.01
    assert selected.decided_by_ties < 10


@pytest.mark.parametrize(("ties", "words"), [("row", "the first of them are kept"), ("random", "drawn at random")])
def test_a_cut_that_ties_decide_is_a_warning(tmp_path: Path, ties: str, words: str) -> None:
    scores = np.arange(1000, dtype=np.float32)
    scores[495:506] = 500
    selected = select(scores, out=tmp_path / "s", ties=ties, keep="50%", quiet=True)
    assert any(
        f"warning: 11 pairs share the score at the cut (2.2% of the kept pairs): {words}" in line
        for line in summary(selected)
    )
    scores[:] = np.arange(1000)
    scores[499:501] = 500
    selected = select(scores, out=tmp_path / "t", ties=ties, keep="50%", quiet=True)
    assert not any("warning" in line for line in summary(selected))


def statistics(run: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, tokens, and nll [checkpoint, row] of the scored rows, in training order."""
    tables = [read(run / "scores" / name) for name in ("z-early", "middle", "a-late")]
    valid = tables[0]["tokens"].is_valid().to_numpy()
    rows, tokens = (tables[0][name].to_numpy()[valid] for name in ("row", "tokens"))
    sums = np.stack([table["nll_sum"].to_numpy()[valid].astype(np.float64) for table in tables])
    return rows, tokens, sums / tokens


FORMULAS = {
    ("cat-diff", "ppl"): lambda nll: np.exp(nll[0]) - np.exp(nll[2]),
    ("cat-diff", "nll"): lambda nll: nll[0] - nll[2],
    ("cat-var", "ppl"): lambda nll: np.exp(nll).var(axis=0),
    ("cat-var", "nll"): lambda nll: nll.var(axis=0),
    ("ppl", "ppl"): lambda nll: np.exp(nll[2]),
    ("ppl", "nll"): lambda nll: nll[2],
    ("variability", "ppl"): lambda nll: np.exp(-nll).std(axis=0),
    ("confidence", "ppl"): lambda nll: np.exp(-nll).mean(axis=0),
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three checkpoints over 200 rows, some dropped, some too long; steps 5, 10, 20."""
    draw = np.random.default_rng(7)
    rows = [row for row in range(200) if row % 9]
    put_corpus(tmp_path, 200, rows, bounds=[0, 150, 200], tags=None, inputs=[0, 120, 200])
    tokens = draw.integers(1, 40, len(rows)).tolist()
    for name, step in (("z-early", 5), ("middle", 10), ("a-late", 20)):
        nll = [None if row % 50 == 1 else float(value) for row, value in zip(rows, draw.random(len(rows)), strict=True)]
        put_scores(tmp_path, name, step, rows, tokens, nll, [0, 64, 128, 200])
    return tmp_path


@pytest.mark.parametrize(("method", "on"), FORMULAS)
def test_scores_follow_the_formulas(run: Path, method: str, on: str) -> None:
    options = {"on": on} if method in ("cat-diff", "cat-var", "ppl") else {}
    select(run / "scores", out=run / "s", method=method, quiet=True, **options)
    table = read(run / "s")
    _, _, nll = statistics(run)
    scores = table["score"].drop_null().to_numpy()
    np.testing.assert_allclose(scores, FORMULAS[method, on](nll), rtol=2e-7, atol=1e-9)


def test_absolute_differences(run: Path) -> None:
    select(run / "scores", out=run / "s", method="cat-diff", sign="abs", on="nll", quiet=True)
    _, _, nll = statistics(run)
    np.testing.assert_allclose(
        read(run / "s")["score"].drop_null().to_numpy(), abs(nll[0] - nll[2]), rtol=2e-7, atol=1e-9
    )


def test_random_and_length(run: Path) -> None:
    rows, tokens, _ = statistics(run)
    select(run / "scores", out=run / "random", method="random", seed=5, keep=60, quiet=True)
    assert read(run / "random")["score"].drop_null().to_pylist() == [random_score(row, 5) for row in rows]
    assert kept(run / "random") == set(sorted(rows, key=lambda row: row_hash(row, 5))[-60:])
    selection = select(run / "scores", out=run / "length", method="length", keep=60, quiet=True)
    assert read(run / "length")["score"].drop_null().to_pylist() == tokens.tolist()
    assert selection.manifest["options"]["ties"] == "random"


def test_a_clean_folder_serves_random_and_length(run: Path) -> None:
    survivors = [row for row in range(200) if row % 9]
    select(run / "clean", out=run / "random", method="random", keep="10%", quiet=True)
    assert kept(run / "random") == set(sorted(survivors, key=lambda row: row_hash(row, 1))[-17:])
    select(run / "clean", out=run / "length", method="length", keep=10, ties="row", quiet=True)
    longest = sorted(survivors, key=lambda row: (-(row * 7 % 5), row))[:10]
    assert kept(run / "length") == set(longest)
    with pytest.raises(UsageError, match="needs scores"):
        select(run / "clean", out=run / "diff", quiet=True)
    with pytest.raises(UsageError, match="token budget"):
        select(run / "clean", out=run / "t", method="random", keep="50%tokens", quiet=True)


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.int16(), pa.uint64()])
def test_an_external_column(tmp_path: Path, kind: pa.DataType) -> None:
    rows = [3, 5, 1_048_578, 1_048_579, 4_000_000]
    table = pa.table({"score": pa.array([2, None, 7, 7, 1], kind), "row": pa.array(rows, pa.int32())})
    pq.write_table(table, tmp_path / "scores.parquet")
    selection = select(tmp_path / "scores.parquet", column="score", keep=2, out=tmp_path / "s", quiet=True)
    assert kept(tmp_path / "s") == {1_048_578, 1_048_579}
    assert (selection.scored, selection.unscored, selection.tokens, selection.method) == (4, 1, None, "column")
    ranges = [(shard["first"], shard["end"]) for shard in selection.manifest["shards"]]
    assert ranges == [(3, 1_048_579), (1_048_579, 2_097_155), (3_145_731, 4_000_001)]
    assert read(tmp_path / "s")["score"].to_pylist() == [2, None, 7, 7, 1]


def test_an_external_column_over_a_cleaned_corpus(run: Path) -> None:
    rows = list(range(0, 200, 2))
    table = pa.table({"row": rows, "score": [float(row) for row in rows]})
    pq.write_table(table, run / "f.parquet")
    selection = select(run / "f.parquet", column="score", clean=run / "clean", keep="10%", out=run / "s", quiet=True)
    survivors = [row for row in range(200) if row % 9]
    assert read(run / "s")["row"].to_pylist() == survivors
    assert (selection.scored, selection.unscored) == (88, 89) and selection.kept == 17
    assert kept(run / "s") == set([row for row in survivors if row % 2 == 0][-17:])
    pq.write_table(pa.table({"row": [200], "score": [1.0]}), run / "g.parquet")
    with pytest.raises(CatpruneError, match="row 200"):
        select(run / "g.parquet", column="score", clean=run / "clean", out=run / "t", quiet=True)


@pytest.mark.parametrize(
    ("rows", "scores", "message"),
    [
        ([1, 2], [0.5, float("nan")], r"f\.parquet: score of row 2 \(rows count from 0\) is NaN"),
        ([2, 1], [0.5, 0.5], r"f\.parquet: row 1 "),
        ([1, 1], [0.5, 0.5], r"f\.parquet: row 1 "),
        ([-1, 1], [0.5, 0.5], "negative"),
        ([1, 2], ["a", "b"], "column score is Utf8"),
    ],
)
def test_bad_external_columns(tmp_path: Path, rows: list[int], scores: list[Any], message: str) -> None:
    pq.write_table(pa.table({"row": rows, "score": scores}), tmp_path / "f.parquet")
    with pytest.raises(CatpruneError, match=message):
        select(tmp_path / "f.parquet", column="score", out=tmp_path / "s", quiet=True)
    assert not (tmp_path / "s" / "manifest.json").exists()


def test_infinite_scores_count_as_the_largest(tmp_path: Path) -> None:
    table = pa.table({"row": [0, 1, 2], "score": [float("-inf"), float("inf"), 1e300]})
    pq.write_table(table, tmp_path / "f.parquet")
    selection = select(tmp_path / "f.parquet", column="score", keep=1, out=tmp_path / "s", quiet=True)
    assert kept(tmp_path / "s") == {1} and selection.decided_by_ties == 2


def test_checkpoints_by_name_and_in_training_order(run: Path) -> None:
    options: dict[str, Any] = {"method": "cat-diff", "on": "nll", "quiet": True}
    selection = select(run / "scores", out=run / "a", checkpoints=["a-late", "middle"], **options)
    assert [read["path"] for read in selection.manifest["reads"]["scores"]] == [
        "../scores/middle",
        "../scores/a-late",
    ]
    selection = select(run / "scores", out=run / "b", **{**options, "method": "ppl"})
    assert [read["path"] for read in selection.manifest["reads"]["scores"]] == ["../scores/a-late"]
    with pytest.raises(CatpruneError, match=r"2 checkpoints.*has 1"):
        select(run / "scores", out=run / "c", checkpoints=["middle"], **options)
    with pytest.raises(CatpruneError, match="none"):
        select(run / "scores", out=run / "c", checkpoints=["none"], **options)


def test_rows_are_ranked_separately_by_exposure(tmp_path: Path) -> None:
    """Two checkpoints within epochs: four exposures. Only the checkpoints that a method compares matter."""
    rows, random = list(range(200)), np.random.default_rng(4)
    early, late = (random.choice([1, 2], 200).tolist() for _ in range(2))
    nll = {name: np.round(random.random(200), 3).tolist() for name in ("a", "b", "c")}
    put_corpus(tmp_path, 200, rows, bounds=[0, 200], tags=None, inputs=[0, 90, 200])
    put_scores(tmp_path, "a", 1, rows, [1] * 200, nll["a"], [0, 64, 200], early)
    put_scores(tmp_path, "b", 2, rows, [1] * 200, nll["b"], [0, 64, 200], [3] * 200)
    put_scores(tmp_path, "c", 3, rows, [1] * 200, nll["c"], [0, 64, 200], late)
    options: dict[str, Any] = {"method": "cat-diff", "on": "nll", "keep": "30%", "quiet": True}
    score = np.array(nll["a"], np.float32).astype(np.float64) - np.array(nll["c"], np.float32)
    score = score.astype(np.float32).tolist()
    groups = [10 * (row >= 90) + 3 * (early[row] - 1) + late[row] for row in rows]
    ranked: dict[str, Any] = {"keep": ("fraction", Fraction(3, 10)), "direction": "top", "ties": "row", "seed": 1}
    expected = kept_rows(rows, score, [1] * 200, groups, **ranked)
    selection = select(tmp_path / "scores", out=tmp_path / "apart", within="input", **options)
    assert kept(tmp_path / "apart") == expected and selection.uneven_exposure == ("a", "c")
    assert len(selection.groups) == 8 and selection.groups[1]["name"] == "0, seen 1 time by a, 2 times by c"
    together = select(tmp_path / "scores", out=tmp_path / "together", within="input", by_exposure=False, **options)
    assert "a, c: trained on some pairs more often" in str(caution(together)) and len(together.groups) == 2
    assert kept(tmp_path / "together") != expected
    whole = select(tmp_path / "scores", out=tmp_path / "whole", checkpoints=["b"], method="ppl", keep="30%", quiet=True)
    assert (whole.uneven_exposure, whole.groups, caution(whole)) == ((), (), None)
    assert select(tmp_path / "scores", out=tmp_path / "r", method="random", quiet=True).uneven_exposure == ()


def test_exposures_must_agree_with_the_manifest(tmp_path: Path) -> None:
    put_corpus(tmp_path, 9, list(range(9)), bounds=[0, 9], tags=None, inputs=[0, 9])
    put_scores(tmp_path, "a", 1, list(range(9)), [1] * 9, [0.5] * 9, [0, 9], [0, 1, 2] * 3)
    manifest = tmp_path / "scores" / "a" / "manifest.json"
    settings = json.loads(manifest.read_text())
    settings["checkpoint"]["seen"]["times"] = [0, 1]
    manifest.write_bytes(seal(settings))
    with pytest.raises(CatpruneError, match=r"row 2 \(rows count from 0\) was trained on 2 times, which"):
        select(tmp_path / "scores", out=tmp_path / "s", method="ppl", quiet=True)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("reverse", r"progress needs scores of 2 checkpoints, .*scores has 1 \(one\)"),
        ("smoothed", r"one of .*one and .*two has smoothed weights"),
    ],
)
def test_models_of_two_kinds_are_not_compared(tmp_path: Path, kind: str, message: str) -> None:
    put_corpus(tmp_path, 9, list(range(9)), bounds=[0, 9], tags=None, inputs=[0, 9])
    for name, step in (("one", 1), ("two", 2)):
        put_scores(tmp_path, name, step, list(range(9)), [1] * 9, [0.5] * 9, [0, 9], **{kind: name == "two"})
    with pytest.raises(CatpruneError, match=message):
        select(tmp_path / "scores", out=tmp_path / "s", quiet=True)
    assert select(tmp_path / "scores", out=tmp_path / "t", checkpoints=["two"], method="ppl", quiet=True).kept == 4


def test_scores_that_do_not_fit_together(run: Path) -> None:
    late = run / "scores" / "a-late"
    shard = late / "columns/part-000000000064-000000000128.parquet"
    table = pq.read_table(shard)
    for column, message in (("tokens", "different tokens"), ("row", "different rows")):
        values = table[column].to_pylist()
        values[-1] = values[-1] + 1 if column == "tokens" else 127
        place = table.column_names.index(column)
        changed = table.set_column(place, column, pa.array(values, table[column].type))
        pq.write_table(changed.slice(0, len(values) - (column == "row")), shard)
        with pytest.raises(
            CatpruneError, match=rf"{shard.name} was changed since it was written: run `catprune score`"
        ):
            select(run / "scores", out=run / "s", force=True, quiet=True)
        manifest = json.loads((late / "manifest.json").read_text())
        manifest["shards"][1]["digest"] = digest_file(str(shard))
        (late / "manifest.json").write_bytes(seal(manifest))
        with pytest.raises(CatpruneError, match=rf"z-early.*a-late.*{message}"):
            select(run / "scores", out=run / "s", force=True, quiet=True)
    manifest = json.loads((late / "manifest.json").read_text())
    manifest["reads"]["tokens"]["manifest"] = "0" * 32
    (late / "manifest.json").write_bytes(seal(manifest))
    with pytest.raises(CatpruneError, match=r"z-early and .*a-late were scored over different tokens"):
        select(run / "scores", out=run / "s", force=True, quiet=True)


def test_equal_bytes_for_any_threads(run: Path) -> None:
    arguments: dict[str, Any] = {"method": "progress", "within": "input", "quiet": True}
    single = select(run / "scores", out=run / "one", threads=1, **arguments)
    two = select(run / "scores", out=run / "two", threads=3, **arguments)
    assert single.manifest == two.manifest
    before = (run / "one" / "columns/part-000000000064-000000000128.parquet").read_bytes()
    (run / "one" / "manifest.json").unlink()
    (run / "one" / "columns/part-000000000064-000000000128.parquet").unlink()
    again = select(run / "scores", out=run / "one", **arguments)
    assert again.manifest == single.manifest
    assert (run / "one" / "columns/part-000000000064-000000000128.parquet").read_bytes() == before
    with pytest.raises(CatpruneError, match="holds work with other"):
        select(run / "scores", out=run / "one", keep="40%", quiet=True)


def test_more_than_there_is(run: Path) -> None:
    with pytest.raises(CatpruneError, match="cannot keep 174 rows, only 173 are scored"):
        select(run / "scores", out=run / "s", keep=174, quiet=True)
    with pytest.raises(CatpruneError, match="cannot keep 1000000 target tokens, only "):
        select(run / "scores", out=run / "t", keep="1000000tokens", quiet=True)


def test_nothing_kept_is_refused_and_the_next_try_needs_no_force(run: Path) -> None:
    with pytest.raises(CatpruneError, match=r"keep = 0\.1% keeps none of 173 scored pairs with \d+ target tokens"):
        select(run / "scores", out=run / "s", keep="0.1%", quiet=True)
    assert select(run / "scores", out=run / "s", keep="10%", quiet=True).kept == 17
    with pytest.raises(CatpruneError, match=r"keep = 0\.001 keeps none of 177 scored pairs: keep more"):
        select(run / "clean", out=run / "c", method="random", keep=0.001, quiet=True)
    with pytest.raises(UsageError, match=r"give a count below 2\^63"):
        select(run / "scores", out=run / "t", keep=2**63, quiet=True)


def test_sources_of_other_steps(run: Path) -> None:
    with pytest.raises(UsageError, match="tokens is a tokens folder: run `catprune score` first"):
        select(run / "tokens", out=run / "s")
    with pytest.raises(
        UsageError, match=r"middle holds the scores of one checkpoint: give .*scores and checkpoints = middle"
    ):
        select(run / "scores" / "middle", out=run / "s")
    with pytest.raises(UsageError, match="scores is named twice: give it once"):
        select([run / "scores", run / "scores"], out=run / "s")
    with pytest.raises(UsageError, match="clean is a clean folder: give only this folder"):
        select([run / "scores", run / "clean"], out=run / "s")
    select(run / "scores", out=run / "made", quiet=True)
    with pytest.raises(UsageError, match="made is a folder of `select`"):
        select(run / "made", out=run / "s")


def test_options_that_do_not_matter_are_not_in_the_plan(run: Path) -> None:
    first = select(run / "scores", out=run / "s", method="cat-diff", seed=1, quiet=True)
    assert select(run / "scores", out=run / "s", method="cat-diff", seed=2, threads=1, quiet=True) == first
    assert first.manifest["options"].keys() >= {"on", "sign"}
    assert first.manifest["options"].keys().isdisjoint({"seed", "bins", "threshold", "clusters", "reference"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "cat-diff", "bins": 7}, "bins = 7: cat-diff does not use bins, only progress: leave it out"),
        ({"threshold": 0.2}, "threshold = 0.2: progress does not use threshold, only forgetting: leave it out"),
        ({"clusters": 9}, "clusters = 9: progress does not use clusters, only s2l: leave it out"),
        ({"on": "nll"}, "on = nll: progress does not use on, only cat-diff, cat-var, ppl: leave it out"),
        ({"on": "ppl"}, "on = ppl: progress does not use on, only cat-diff, cat-var, ppl: leave it out"),
        ({"sign": "abs"}, "sign = abs: progress does not use sign, only cat-diff: leave it out"),
        ({"reference": "middle"}, "reference = middle: progress does not use reference, only rho: leave it out"),
        ({"column": "labse", "bins": 7}, "bins = 7: a column does not use bins, only progress: leave it out"),
        ({"merge": "ppl + labse", "bins": 7}, "bins = 7: a merge does not use bins, only progress: leave it out"),
        ({"merge_by": "z"}, "merge_by = z: no columns are merged, leave it out"),
    ],
)
def test_options_of_other_methods_are_refused(run: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}$"):
        select(run / "scores", out=run / "s", quiet=True, **options)
    assert not (run / "s").exists()


def test_options_of_any_method_that_ranks_or_guards_are_taken(run: Path) -> None:
    selection = select(run / "scores", out=run / "s", where="ppl>0", on="nll", bins=7, keep=9, quiet=True)
    assert (selection.manifest["options"]["on"], selection.manifest["options"]["bins"]) == ("nll", 7)
    merged = select(run / "scores", out=run / "m", merge="progress + cat-diff", sign="abs", keep=9, quiet=True)
    assert merged.manifest["options"].keys() >= {"bins", "on", "sign", "merge_by"}


@pytest.mark.parametrize(
    "options",
    [
        {"method": "cat"},
        {"on": "loss"},
        {"direction": "up"},
        {"within": "tag"},
        {"ties": "low"},
        {"bins": 0},
        {"seed": -1},
        {"threads": 0},
        {"column": "score"},
        *({"keep": keep} for keep in ("", "half", "0", 0, "0%", "101%", "1.5", "-3", True, "5 tokens", "nan")),
    ],
)
def test_usage_errors(run: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        select(run / "scores", out=run / "s", quiet=True, **options)
    assert not (run / "s").exists()


def test_keep_is_exact() -> None:
    assert parse_keep("29%") == parse_keep(0.29) == {"fraction": [29, 100]}
    assert parse_keep("12.5%tokens") == {"token_fraction": [1, 8]}
    assert parse_keep("1_000") == parse_keep(1000) == {"rows": 1000}
    assert parse_keep("7tokens") == {"tokens": 7} and parse_keep(1.0) == {"fraction": [1, 1]}


def test_the_table_of_methods_agrees_with_the_core(run: Path) -> None:
    # Methods that read more than nll and tokens are tested in test_methods.
    computed = {"cat-diff", "cat-var", "progress", "ppl", "confidence", "variability", "closeness", "inactive"}
    for method in [method for method in METHODS if method.name in {*computed, "length", "random"}]:
        selection = select(run / "scores", out=run / method.name, method=method.name, keep=3, quiet=True)
        assert selection.kept == 3 and dict(method.options).items() <= selection.manifest["options"].items()
