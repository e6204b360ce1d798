"""Every method on values computed by hand, and the checkpoints that each method reads."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catprune.errors import CatpruneError, UsageError
from catprune.selection.loss_clusters import k_means, sample_trajectories
from catprune.selection.methods import METHODS
from catprune.selection.select import select
from catprune.selection.summary import caution
from catprune.workspace.sealed import seal
from support.oracles_select import even_parts, row_hash
from support.scores import kept, put_corpus, put_scores, read

ROWS = [0, 1, 2]
TOKENS = [2, 4, 5]
#: Values per token of three checkpoints; the third row has no scores.
NLL = [[1.0, 2.0, None], [0.5, 2.5, None], [0.25, 1.5, None]]
#: Sums over the tokens of a row, for each checkpoint.
MORE = {
    "correct": [[1, 1, 0], [0, 2, 0], [2, 1, 0]],
    "el2n_sum": [[1.0, 4.0, 0.0], [0.5, 3.0, 0.0], [1.5, 2.0, 0.0]],
    "grad_norm_sum": [[4.0, 8.0, 0.0], [2.0, 8.0, 0.0], [0.0, 2.0, 0.0]],
    "ign_sum": [[2.0, 1.0, 0.0], [4.0, 1.0, 0.0], [6.0, 4.0, 0.0]],
}
E = math.exp
P = [[E(-1.0), E(-0.5), E(-0.25)], [E(-2.0), E(-2.5), E(-1.5)]]
CONFIDENCE = [(E(-1.0) + E(-0.5) + E(-0.25)) / 3, (E(-2.0) + E(-2.5) + E(-1.5)) / 3]
BY_HAND: list[tuple[str, dict[str, Any], list[float]]] = [
    ("cat-diff", {}, [E(1.0) - E(0.25), E(2.0) - E(1.5)]),
    ("cat-diff", {"on": "nll"}, [0.75, 0.5]),
    ("cat-diff", {"on": "nll", "checkpoints": ["two", "one"]}, [0.5, -0.5]),
    ("cat-diff", {"on": "nll", "sign": "abs", "checkpoints": ["two", "one"]}, [0.5, 0.5]),
    # The means are 7/12 and 2.
    ("cat-var", {"on": "nll"}, [(25 / 144 + 1 / 144 + 16 / 144) / 3, (0 + 0.25 + 0.25) / 3]),
    # Both rows share the only bin, in which the lower median of the last nll is 0.25.
    ("progress", {"bins": 1}, [0.0, -1.25]),
    ("ppl", {}, [E(0.25), E(1.5)]),
    ("ppl", {"on": "nll"}, [0.25, 1.5]),
    ("ign", {}, [(1 + 2 + 3) / 3, (0.25 + 0.25 + 1) / 3]),
    ("token-grad-norm", {}, [(2 + 1 + 0) / 3, (2 + 2 + 0.5) / 3]),
    ("el2n", {}, [(0.5 + 0.25 + 0.75) / 3, (1 + 0.75 + 0.5) / 3]),
    ("confidence", {}, CONFIDENCE),
    ("variability", {}, [np.std(P[0]), np.std(P[1])]),
    ("correctness", {}, [(0.5 + 0 + 1) / 3, (0.25 + 0.5 + 0.25) / 3]),
    ("closeness", {}, [c * (1 - c) for c in CONFIDENCE]),
    # The first row falls once below a half; the second once below it, and never has three quarters right.
    ("forgetting", {}, [1.0, 1.0]),
    ("forgetting", {"threshold": 0.75}, [0.0, 3.0]),
    ("inactive", {}, [-c for c in CONFIDENCE]),
    ("rho", {"reference": "three"}, [0.75, 0.5]),
    ("length", {}, [2.0, 4.0]),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    put_corpus(tmp_path, 3, ROWS, bounds=[0, 3], tags=None, inputs=[0, 3])
    for place, name in enumerate(("one", "two", "three")):
        more = {column: sums[place] for column, sums in MORE.items()}
        put_scores(tmp_path, name, place + 1, ROWS, TOKENS, NLL[place], [0, 3], more=more)
    return tmp_path


@pytest.mark.parametrize(("method", "options", "expected"), BY_HAND)
def test_methods_by_hand(run: Path, method: str, options: dict[str, Any], expected: list[float]) -> None:
    select(run / "scores", out=run / "s", method=method, keep=1, quiet=True, **options)
    scores = read(run / "s")["score"].to_pylist()
    assert scores[:2] == pytest.approx(expected, rel=1e-6)
    assert scores[2] is None


def test_every_computed_method_is_in_the_list_above() -> None:
    elsewhere = {"random", "s2l", "dual-xent"}
    by_hand = {method for method, _, _ in BY_HAND}
    assert {method.name for method in METHODS if method.reads != "scorer"} == by_hand | elsewhere


def test_dual_cross_entropy_reads_both_directions(run: Path) -> None:
    # A backward model counts the tokens of the source.
    put_scores(run, "back", 9, ROWS, [8, 3, 1], [1.25, 1.0, None], [0, 3], reverse=True)
    select(run / "scores", out=run / "s", method="dual-xent", keep=1, quiet=True)
    scores = read(run / "s")["score"].to_pylist()
    assert scores == [pytest.approx(-(1.0 + 0.75)), pytest.approx(-(0.5 + 1.25)), None]
    selection = select(run / "scores", out=run / "t", method="dual-xent", keep="100%tokens", quiet=True)
    assert selection.tokens == 6
    # Other methods only use the forward models.
    select(run / "scores", out=run / "ppl", method="ppl", on="nll", keep=1, quiet=True)
    assert read(run / "ppl")["score"].to_pylist()[:2] == [0.25, 1.5]
    select(run / "scores", out=run / "both", merge="2*dual-xent + ppl", merge_by="z", keep=1, quiet=True)
    named = ["one", "two"]
    with pytest.raises(CatpruneError, match=r"has no model that predicts the source \(`train` with reverse = true\)"):
        select(run / "scores", out=run / "u", method="dual-xent", checkpoints=named, keep=1, quiet=True)
    with pytest.raises(CatpruneError, match=r"has no model that predicts the target"):
        select(run / "scores", out=run / "u", method="dual-xent", checkpoints=["back"], keep=1, quiet=True)


def test_a_backward_model_that_scored_other_rows_is_refused(run: Path) -> None:
    put_scores(run, "back", 9, ROWS, [8, 3, 1], [1.25, None, None], [0, 3], reverse=True)
    with pytest.raises(CatpruneError, match="have different tokens"):
        select(run / "scores", out=run / "s", method="dual-xent", keep=1, quiet=True)


def test_checkpoints_of_several_trainings_are_not_mixed(tmp_path: Path) -> None:
    put_corpus(tmp_path, 3, ROWS, bounds=[0, 3], tags=None, inputs=[0, 3])
    for step, (name, training) in enumerate((("one", "warmup"), ("trusted", "reference"), ("two", "warmup"))):
        put_scores(tmp_path, name, step, ROWS, [2, 4, 1], [1.0 + step, 2.0, 0.5], [0, 3], training=training)
    options: dict[str, Any] = {"method": "cat-diff", "on": "nll", "keep": 1, "quiet": True}
    with pytest.raises(UsageError, match=r"several trainings \(one, two of .*warmup; trusted of .*reference\): name"):
        select(tmp_path / "scores", out=tmp_path / "s", **options)
    assert select(tmp_path / "scores", out=tmp_path / "r", method="random", keep=1, quiet=True).kept == 1
    select(tmp_path / "scores", out=tmp_path / "s", checkpoints=["one", "two"], **options)
    assert read(tmp_path / "s")["score"].to_pylist()[0] == -2.0
    select(tmp_path / "scores", out=tmp_path / "t", method="rho", reference="trusted", keep=1, quiet=True)
    assert read(tmp_path / "t")["score"].to_pylist()[0] == -1.0
    # The reference may be in a separate folder.
    (tmp_path / "other").mkdir()
    (tmp_path / "scores/trusted").rename(tmp_path / "other/trusted")
    both = [tmp_path / "scores", tmp_path / "other"]
    for place, named in enumerate((None, ["one", "two"])):
        out = tmp_path / f"u{place}"
        select(both, out=out, method="rho", reference="trusted", checkpoints=named, keep=1, quiet=True)
        assert read(out)["score"].to_pylist()[0] == -1.0


def test_a_reference_model_is_named(run: Path) -> None:
    with pytest.raises(UsageError, match="reference is missing: rho needs the scores"):
        select(run / "scores", out=run / "s", method="rho", quiet=True)
    with pytest.raises(CatpruneError, match="holds no scores of the reference four"):
        select(run / "scores", out=run / "s", method="rho", reference="four", quiet=True)
    with pytest.raises(UsageError, match="reference = three: ppl does not use reference, only rho: leave it out"):
        select(run / "scores", out=run / "s", method="ppl", reference="three", quiet=True)
    put_scores(run, "back", 9, ROWS, [8, 3, 1], [1.25, 1.0, None], [0, 3], reverse=True)
    with pytest.raises(CatpruneError, match="back and one predict different sides: rho needs models that"):
        select(run / "scores", out=run / "s", method="rho", reference="back", quiet=True)
    options: dict[str, Any] = {"reference": "one", "checkpoints": ["three"], "keep": 1, "quiet": True}
    select(run / "scores", out=run / "s", method="rho", **options)
    assert read(run / "s")["score"].to_pylist()[:2] == [-0.75, -0.5]


def test_statistics_that_are_no_numbers_are_refused(run: Path) -> None:
    more = {column: [math.inf, 1.0, 0.0] if column == "el2n_sum" else sums[0] for column, sums in MORE.items()}
    put_scores(run, "one", 1, ROWS, TOKENS, NLL[0], [0, 3], more=more)
    select(run / "scores", out=run / "s", method="token-grad-norm", keep=1, quiet=True)
    with pytest.raises(CatpruneError, match=r"one.*el2n_sum of row 0 \(rows count from 0\) is no number"):
        select(run / "scores", out=run / "t", method="el2n", keep=1, quiet=True)


TRAJECTORIES = 60


@pytest.fixture
def trajectories(tmp_path: Path) -> Path:
    """Three kinds of loss trajectories, of 40, 15 and 5 pairs, mixed; the last row has no scores."""
    count = TRAJECTORIES + 1
    kinds = np.random.default_rng(1).permutation([0] * 40 + [1] * 15 + [2] * 5)
    centres = np.array([[4.0, 3.0, 2.0], [4.0, 1.0, 0.5], [1.0, 1.0, 1.0]])
    nll = centres[kinds] + np.random.default_rng(2).normal(0, 0.05, (TRAJECTORIES, 3))
    put_corpus(tmp_path, count, list(range(count)), bounds=[0, 20, count], tags=None, inputs=[0, 30, count])
    for place, name in enumerate(("one", "two", "three")):
        values = [*nll[:, place].tolist(), None]
        put_scores(tmp_path, name, place + 1, list(range(count)), [1] * count, values, [0, 20, count])
    np.save(tmp_path / "kinds.npy", kinds)
    return tmp_path


def test_s2l_draws_evenly_from_clusters(trajectories: Path) -> None:
    kinds = np.load(trajectories / "kinds.npy")
    options: dict[str, Any] = {"method": "s2l", "clusters": 3, "keep": 30, "seed": 5, "quiet": True}
    selection = select(trajectories / "scores", out=trajectories / "s", **options)
    expected: set[int] = set()
    for kind, part in zip(range(3), even_parts(30, [40, 15, 5]), strict=True):
        rows = np.flatnonzero(kinds == kind).tolist()
        expected |= set(sorted(rows, key=lambda row: -row_hash(row, 5))[:part])
    assert kept(trajectories / "s") == expected
    assert sorted((group["scored"], group["kept"]) for group in selection.groups) == [(5, 5), (15, 12), (40, 13)]
    assert (selection.scored, selection.unscored) == (60, 1)
    again = select(trajectories / "scores", out=trajectories / "again", threads=1, **options)
    assert again.manifest == selection.manifest
    other = select(trajectories / "scores", out=trajectories / "other", **{**options, "seed": 6})
    assert kept(trajectories / "other") != kept(trajectories / "s")
    assert other.kept == 30


def test_invalid_options_of_s2l_are_refused(trajectories: Path) -> None:
    def ask(**options: Any) -> None:
        select(trajectories / "scores", out=trajectories / "s", quiet=True, **options)

    for options, message in (
        ({"merge": "s2l + ppl"}, "s2l draws from clusters and gives no scores: use it alone"),
        ({"method": "ppl", "where": "s2l>0.5"}, "s2l draws from clusters and gives no scores: use it alone"),
        ({"method": "s2l", "within": "input"}, "s2l draws at random from each cluster: leave within and draw out"),
        ({"method": "s2l", "clusters": 0}, "clusters = 0: give a whole number, at least 1 and at most 10000"),
        ({"method": "s2l", "clusters": 61}, "clusters = 61: only 60 pairs have a score, give fewer"),
        ({"method": "forgetting", "threshold": 0.0}, "threshold = 0.0: give a number, above 0 and at most 1"),
    ):
        with pytest.raises(UsageError, match=message):
            ask(**options)


def test_trajectories_are_sampled_evenly_and_repeatably(trajectories: Path) -> None:
    def shards(name: str) -> list[dict[str, Any]]:
        files = sorted((trajectories / "scores" / name).glob("columns/part-*.parquet"))
        return [{"path": str(file), "first": int(file.name[5:17]), "end": int(file.name[18:30])} for file in files]

    sets = [shards(name) for name in ("one", "two", "three")]
    everything = sample_trajectories(sets, most=100, seed=1)
    assert everything.shape == (60, 3)
    some = sample_trajectories(sets, most=20, seed=1)
    assert 10 <= len(some) <= 30
    assert (some == sample_trajectories(sets, most=20, seed=1)).all()
    assert {tuple(trajectory) for trajectory in some.tolist()} <= {
        tuple(trajectory) for trajectory in everything.tolist()
    }


def test_s2l_that_ranks_nothing_apart_is_not_warned_of(trajectories: Path) -> None:
    """Clusters replace groups by exposure, so there is no caution."""
    count = TRAJECTORIES + 1
    nll: list[float | None] = [*np.linspace(4, 1, TRAJECTORIES).tolist(), None]
    put_scores(trajectories, "one", 1, list(range(count)), [1] * count, nll, [0, 20, count], [1, 2] * 30 + [1])
    selection = select(trajectories / "scores", out=trajectories / "s", method="s2l", clusters=3, keep=30, quiet=True)
    assert selection.uneven_exposure == ("one",) and caution(selection) is None


@pytest.fixture
def workers(trajectories: Path) -> list[Path]:
    """Two scores folders that split the shards of each checkpoint differently; rows are as in `trajectories`."""
    folders = [trajectories / "w0", trajectories / "w1"]
    for name, owner in (("one", [0, 1]), ("two", [1, 0]), ("three", [0, 0])):
        source = trajectories / "scores" / name
        manifest = json.loads((source / "manifest.json").read_text())
        for number in set(owner):
            shards = [shard for shard, its in zip(manifest["shards"], owner, strict=True) if its == number]
            (folders[number] / name / "columns").mkdir(parents=True)
            (folders[number] / name / "manifest.json").write_bytes(seal({**manifest, "shards": shards}))
            for shard in shards:
                (folders[number] / name / shard["file"]).write_bytes((source / shard["file"]).read_bytes())
    return folders


def test_the_order_of_sources_changes_no_cluster(trajectories: Path, workers: list[Path]) -> None:
    options: dict[str, Any] = {"method": "s2l", "clusters": 7, "keep": 30, "seed": 5, "quiet": True}
    whole = select(trajectories / "scores", out=trajectories / "whole", **options)
    for number, sources in enumerate(itertools.permutations(workers)):
        selection = select(list(sources), out=trajectories / f"s{number}", **options)
        assert read(trajectories / f"s{number}").equals(read(trajectories / "whole"))
        assert selection.groups == whole.groups


@pytest.mark.parametrize("bounds", [[0, 30, TRAJECTORIES + 1], [0, 20, 40, TRAJECTORIES + 1], [0, TRAJECTORIES + 1]])
def test_courses_through_other_ranges_are_refused(trajectories: Path, bounds: list[int]) -> None:
    count = TRAJECTORIES + 1
    put_scores(trajectories, "two", 2, list(range(count)), [1] * count, [1.0] * count, bounds)
    with pytest.raises(CatpruneError, match=r"one.* and .*two.* have different ranges: score both checkpoints over"):
        select(trajectories / "scores", out=trajectories / "s", method="s2l", clusters=3, quiet=True)


def test_trajectories_that_end_early_are_refused() -> None:
    ranges = [[(0, 20), (20, 61)], [(0, 20)]]
    sets = [[{"path": f"{a}-{b}", "first": a, "end": b} for a, b in ranges] for ranges in ranges]
    with pytest.raises(CatpruneError, match="end with 20-61, another's with 0-20"):
        sample_trajectories(sets, most=20, seed=1)


def test_k_means_finds_separate_clusters() -> None:
    points = np.repeat(np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 7.0]], np.float32), [50, 5, 20], axis=0)
    points += np.random.default_rng(3).normal(0, 0.1, points.shape).astype(np.float32)
    centres = k_means(points, 3, seed=4)
    assert centres == pytest.approx(np.array([[0, 0], [0, 7], [10, 0]]), abs=0.2)
    assert (centres == k_means(points, 3, seed=4)).all()


def test_k_means_leaves_the_threads_of_faiss_as_they_were() -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(3)
        k_means(np.arange(20, dtype=np.float32).reshape(10, 2), 2, seed=1)
        assert faiss.omp_get_max_threads() == 3
        with pytest.raises(RuntimeError, match="NaN"):
            k_means(np.full((10, 2), np.nan, np.float32), 2, seed=1)
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)
