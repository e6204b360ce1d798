"""Scorers: columns from text and from stored statistics, their blocks, selections by them, and refusals."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
from catprune.cleaning.clean import clean
from catprune.cli import app
from catprune.errors import CatpruneError, UsageError
from catprune.scoring.column_shards import Block, blocks_of
from catprune.scoring.score_columns import score_columns
from catprune.scoring.score_pairs import score_pairs
from catprune.scoring.scorers import describe_function, embeddings, margin
from catprune.scoring.scorers.embeddings import cosine
from catprune.scoring.scorers.margin import Neighbours, draw_pairs
from catprune.selection.select import select
from catprune.workspace.sealed import read_sealed, seal
from support.scores import kept, put_corpus, put_scores
from typer.testing import CliRunner

QUIET: dict[str, Any] = {"quiet": True}
SIDES = ("en", "de")


def write_input(folder: Path, name: str, count: int) -> list[tuple[str, str]]:
    """A Moses pair; the third line is too short to be kept."""
    pairs = [(f"{name} words of line {i}", f"{name} Wörter der Zeile {i}" + " !" * (i % 3)) for i in range(count)]
    pairs[2] = ("", "")
    for language, side in zip(SIDES, zip(*pairs, strict=True), strict=True):
        (folder / f"{name}.{language}").write_text("".join(f"{text}\n" for text in side))
    return pairs


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[tuple[str, str]]]:
    """Two inputs of 25 and 12 rows, in blocks of 10."""
    monkeypatch.setattr(import_module("catprune.scoring.column_shards"), "BLOCK_ROWS", 10)
    pairs = write_input(tmp_path, "a", 25) + write_input(tmp_path, "b", 12)
    clean([f"{tmp_path}/{name}.{{en,de}}" for name in "ab"], out=tmp_path / "clean", **QUIET)
    return tmp_path, pairs


def lengths(sources: list[str], targets: list[str]) -> list[int]:
    return [len(target) - len(source) for source, target in zip(sources, targets, strict=True)]


def read(folder: Path) -> dict[int, float | None]:
    table = parquet.read_table(folder / "columns")
    assert table.column_names == ["row", folder.name]
    return dict(zip(*table.to_pydict().values(), strict=True))


def test_a_function_scores_clean_pairs(corpus: tuple[Path, list[tuple[str, str]]]) -> None:
    base, pairs = corpus
    blocks: list[int] = []

    def counted(sources: list[str], targets: list[str]) -> list[int]:
        blocks.append(len(sources))
        return lengths(sources, targets)

    done = score_pairs(base / "clean", scorer=counted, out=base / "scores", **QUIET)
    expected = {row: len(target) - len(source) for row, (source, target) in enumerate(pairs) if row not in (2, 27)}
    assert read(base / "scores/counted") == expected
    assert (done.pairs, done.new, done.left) == (35, 35, 0)
    assert blocks == [9, 10, 9, 7]
    names = [path.name for path in sorted(done.folder.glob("columns/*"))]
    assert [name[5:-8] for name in names] == [
        f"{first:012}-{end:012}" for first, end in ((0, 10), (10, 20), (20, 30), (30, 37))
    ]
    again = score_pairs(base / "clean", scorer=counted, out=base / "scores", **QUIET)
    assert (again.pairs, again.new, len(blocks)) == (35, 0, 4)
    assert again.manifest == done.manifest


def test_a_column_is_ranked_guards_and_is_merged(corpus: tuple[Path, list[tuple[str, str]]]) -> None:
    base, _ = corpus
    scored = score_pairs(base / "clean", scorer=lengths, out=base / "scores", name="labse", **QUIET)
    values = read(scored.folder)
    best = sorted(values, key=lambda row: (-values[row], row))
    selection = select(base / "scores", method="labse", keep=8, out=base / "s", **QUIET)
    assert kept(base / "s") == set(best[:8])
    assert (selection.scored, selection.manifest["options"]["column"]) == (35, "labse")
    select(base / "scores", column="labse", keep=8, direction="bottom", out=base / "t", **QUIET)
    assert kept(base / "t") == set(sorted(values, key=lambda row: (values[row], row))[:8])
    score_pairs(base / "clean", scorer=lengths, out=base / "scores", name="twin", **QUIET)
    select(base / "clean", merge="random + 0.5*labse", join=[base / "scores/labse"], keep=8, out=base / "m", **QUIET)
    select(base / "clean", method="random", where="labse>4", join=[base / "scores/labse"], out=base / "g", **QUIET)
    assert kept(base / "g")
    assert kept(base / "g") <= {row for row, value in values.items() if value > 4}
    # Without checkpoints, the scores folder is a source for methods that need no checkpoint.
    twins = {row: 2 * value for row, value in values.items()}
    select(base / "scores", merge="labse + twin", merge_by="z", keep=8, out=base / "h", **QUIET)
    assert kept(base / "h") == set(sorted(twins, key=lambda row: (-twins[row], row))[:8])
    select(base / "scores", method="random", where="labse>4", out=base / "i", **QUIET)
    assert kept(base / "i") == kept(base / "g")
    shutil.copytree(base / "scores/twin", base / "scores/begun")
    (base / "scores/begun/manifest.json").unlink()
    for options in ({"column": "begun"}, {"merge": "labse + begun"}, {"column": "labse", "where": "begun>0"}):
        with pytest.raises(CatpruneError, match=r"begun is unfinished: run `catprune score --scorer` into it first"):
            select(base / "scores", out=base / "j", **options, **QUIET)
    for options in ({"method": "e5"}, {"merge": "labse + e5"}):
        with pytest.raises(
            UsageError, match=r"holds no column e5: score the clean folder with scorer = e5 and out = .*scores"
        ):
            select(base / "scores", out=base / "j", **options, **QUIET)
    clean([base / "a.en", base / "a.de"], out=base / "other", rules={"min_words": 4}, **QUIET)
    score_pairs(base / "other", scorer=lengths, out=base / "scores", name="external", **QUIET)
    with pytest.raises(CatpruneError, match=r"was made from .*: rows of different corpora do not match"):
        select(base / "scores", merge="labse + external", out=base / "j", **QUIET)
    with pytest.raises(CatpruneError, match="cat-diff needs scores of 2 checkpoints"):
        select(base / "scores", method="cat-diff", where="labse>4", out=base / "j", **QUIET)
    manifest = read_sealed(base / "clean/manifest.json")
    (base / "clean/manifest.json").write_bytes(seal({**manifest, "notes": ["another"]}))
    with pytest.raises(CatpruneError, match="which changed since"):
        select(base / "scores", method="labse", keep=8, out=base / "u", **QUIET)


def test_new_inputs_are_scored_alone(corpus: tuple[Path, list[tuple[str, str]]]) -> None:
    base, _ = corpus
    scored: list[str] = []

    def noted(sources: list[str], targets: list[str]) -> list[int]:
        scored.extend(sources)
        return lengths(sources, targets)

    before = score_pairs(base / "clean", scorer=noted, out=base / "scores", **QUIET)
    scored.clear()
    shards = {path: path.read_bytes() for path in sorted(before.folder.glob("columns/*"))}
    write_input(base, "c", 11)
    clean([f"{base}/{name}.{{en,de}}" for name in "abc"], out=base / "clean", **QUIET)
    done = score_pairs(base / "clean", scorer=noted, out=base / "scores", **QUIET)
    assert (done.pairs, done.new, len(scored)) == (45, 10, 10)
    assert all(source.startswith("c") for source in scored)
    last = list(shards)[-1]
    assert not last.exists(), "a new shard continues the last one"
    assert all(path.read_bytes() == shard for path, shard in shards.items() if path != last)
    fresh = score_pairs(base / "clean", scorer=noted, out=base / "fresh", **QUIET)
    assert read(fresh.folder) == read(done.folder)


def test_several_processes_share_blocks(
    corpus: tuple[Path, list[tuple[str, str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    base, _ = corpus
    options: dict[str, Any] = {"scorer": lengths, "out": base / "scores", **QUIET}
    first = score_pairs(base / "clean", shard="1/2", **options)
    assert (first.new, first.left) == (19, 2)
    second = score_pairs(base / "clean", shard="2/2", **options)
    assert (second.new, second.left, second.pairs) == (16, 0, 35)
    capsys.readouterr()
    idle = score_pairs(base / "clean", scorer=lengths, out=base / "idle", shard="1/9", threads=1)
    assert (idle.new, idle.left) == (0, 4)
    assert capsys.readouterr().err == "score: shard 1/9 has no work: the corpus has 4 blocks for 9 processes\n"
    alone = score_pairs(base / "clean", scorer=lengths, out=base / "alone", **QUIET)
    assert alone.manifest["shards"] == second.manifest["shards"]


def test_only_the_inputs_of_the_blocks_are_read(corpus: tuple[Path, list[tuple[str, str]]]) -> None:
    base, _ = corpus
    write_input(base, "c", 11)
    clean([f"{base}/{name}.{{en,de}}" for name in "abc"], out=base / "clean", **QUIET)
    options: dict[str, Any] = {"scorer": lengths, "out": base / "scores", **QUIET}
    away = [base / f"{name}.{side}" for name in "bc" for side in SIDES]
    for path in away:
        path.rename(path.with_name(f"away-{path.name}"))
    assert score_pairs(base / "clean", shard="1/2", **options).left == 3, "rows 0..20 are of the first input"
    for path in away:
        path.with_name(f"away-{path.name}").rename(path)
    done = score_pairs(base / "clean", shard="2/2", **options)
    assert (done.pairs, done.left) == (45, 0)
    (base / "a.en").unlink()
    with pytest.raises(CatpruneError, match=r"a\.en is missing since cleaning"):
        score_pairs(base / "clean", scorer=lengths, out=base / "other", **QUIET)


SLOW = """
import os, signal
def slow(sources, targets):
    if sources[-1].startswith("b words of line 11") and not os.environ.get("ON"):
        os.kill(os.getpid(), signal.SIGKILL)
    return [len(target) for target in targets]
"""


@pytest.mark.parametrize("changed", [0, 1])
def test_a_killed_run_continues_but_for_shards_that_were_changed(
    corpus: tuple[Path, list[tuple[str, str]]], changed: int
) -> None:
    base, _ = corpus
    (base / "mine.py").write_text(SLOW)
    script = textwrap.dedent(f"""
        from importlib import import_module
        import_module("catprune.scoring.column_shards").BLOCK_ROWS = 10
        from catprune.scoring.score_pairs import score_pairs
        done = score_pairs("{base}/clean", scorer="{base}/mine.py:slow", out="{base}/scores")
        print(done.new, done.is_new)
    """)
    killed = subprocess.run([sys.executable, "-c", script], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((base / "scores/slow").glob("columns/part-*.parquet"))) == 3
    for shard in sorted((base / "scores/slow/columns").iterdir())[:changed]:
        data = bytearray(shard.read_bytes())
        data[data.index(b"PAR1", 4) - 200] ^= 1
        shard.write_bytes(data)
    ended = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env=os.environ | {"ON": "1"}
    )
    assert ended.stdout == f"{7 + 9 * changed} True\n"
    assert ended.stderr == f"score slow: continuing: {3 - changed} of 4 blocks are done\n"
    manifest = (base / "scores/slow/manifest.json").read_bytes()
    again = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert (again.stdout, again.stderr) == ("0 False\n", "")
    shutil.rmtree(base / "scores")
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, env=os.environ | {"ON": "1"})
    assert (base / "scores/slow/manifest.json").read_bytes() == manifest


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda sources, _: [1.0] * (len(sources) - 1), r"shape \(8,\) for 9 pairs"),
        (lambda sources, _: [float("nan")] * len(sources), "returns the score nan for row 0: return finite numbers"),
        (lambda sources, _: ["good"] * len(sources), "does not return numbers"),
    ],
)
def test_invalid_scores_are_refused(corpus: tuple[Path, Any], function: Any, message: str) -> None:
    base, _ = corpus
    with pytest.raises(CatpruneError, match=message):
        score_pairs(base / "clean", scorer=function, out=base / "scores", name="mine", **QUIET)
    assert not list((base / "scores/mine").rglob("part-*"))


def scaled(sources: list[str], targets: list[str], by: float = 1) -> list[float]:
    if by == 0:
        raise ZeroDivisionError("by nothing")
    return [by * (len(source) + len(target)) for source, target in zip(sources, targets, strict=True)]


def test_functions_are_distinguished_and_force_scores_again(corpus: tuple[Path, Any]) -> None:
    base, _ = corpus
    options: dict[str, Any] = {"out": base / "scores", "name": "scaled", **QUIET}
    assert score_pairs(base / "clean", scorer=partial(scaled, by=2), **options).new == 35
    with pytest.raises(CatpruneError, match=r"holds work with other options \(scorer.*source changed since"):
        score_pairs(base / "clean", scorer=partial(scaled, by=3), **options)
    assert score_pairs(base / "clean", scorer=partial(scaled, by=2), force=True, **options).new == 35
    with pytest.raises(
        CatpruneError, match=r"scaled fails on a block of rows 0 to 9: ZeroDivisionError: by nothing \(.*py:\d+\)"
    ):
        score_pairs(base / "clean", scorer=partial(scaled, by=0), force=True, **options)
    weights = np.zeros(5000)
    score_pairs(base / "clean", scorer=partial(scaled, by=weights.sum() + 1), **{**options, "name": "w"})
    descriptions = [describe_function(partial(scaled, weights + (np.arange(5000) == place))) for place in (7, 2500)]
    assert descriptions[0] != descriptions[1]
    with pytest.raises(UsageError, match="cannot be pickled"):
        describe_function(partial(scaled, by=lambda: 1))
    (base / "lam.py").write_text("longer = lambda s, t: [2.0] * len(s)\nshorter = lambda s, t: [1.0] * len(s)\n")
    for name, value in (("longer", 2.0), ("shorter", 1.0)):
        done = score_pairs(base / "clean", scorer=f"{base}/lam.py:{name}", out=base / "scores", **QUIET)
        assert (done.folder.name, set(read(done.folder).values())) == (name, {value})
    with pytest.raises(CatpruneError, match=r"other options \(scorer\.function was longer, is now shorter\)"):
        score_pairs(base / "clean", scorer=f"{base}/lam.py:shorter", name="longer", out=base / "scores", **QUIET)
    # A file is run like by Python: it may import modules next to it, and define dataclasses.
    (base / "helper.py").write_text("def one(): return 1.0\n")
    (base / "mine.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom helper import one\n"
        "@dataclass\nclass Held:\n    value: float\n"
        "def score(sources, targets): return [Held(one()).value for _ in sources]\n"
    )
    done = score_pairs(base / "clean", scorer=f"{base}/mine.py:score", out=base / "scores", **QUIET)
    assert set(read(done.folder).values()) == {1.0}


def test_invalid_scorers_are_refused(corpus: tuple[Path, Any]) -> None:
    base, _ = corpus
    (base / "broken.py").write_text("1 / 0\n")
    (base / "empty.py").write_text("")
    for scorer, message in (
        ("lapse", "unknown scorer lapse: give one of labse, e5, laser, comet-qe, or FILE.py:FUNCTION"),
        ("none.py:score", "none.py is not a Python file"),
        (f"{base}/empty.py:score", "empty.py has no function score"),
    ):
        with pytest.raises(UsageError, match=message):
            score_pairs(base / "clean", scorer=scorer, out=base / "scores", **QUIET)
    with pytest.raises(CatpruneError, match=r"broken.py cannot be run: ZeroDivisionError"):
        score_pairs(base / "clean", scorer=f"{base}/broken.py:score", out=base / "scores", **QUIET)
    for name in ("length", "progress", "row", "a b", "a.b", ""):
        with pytest.raises(UsageError, match="name = "):
            score_pairs(base / "clean", scorer=lengths, out=base / "scores", name=name or "-", **QUIET)
    with pytest.raises(UsageError, match="the source of made cannot be read"):
        names: dict[str, Any] = {}
        exec("def made(sources, targets): return [1.0] * len(sources)", names)
        score_pairs(base / "clean", scorer=names["made"], out=base / "scores", **QUIET)
    with pytest.raises(UsageError, match="not options of a function"):
        score_pairs(base / "clean", scorer=lengths, margin=True, out=base / "scores", **QUIET)
    with pytest.raises(UsageError, match="neighbours = 3: only margin uses neighbours"):
        score_pairs(base / "clean", scorer="e5", neighbours=3, out=base / "scores", **QUIET)
    with pytest.raises(UsageError, match="comet-qe has no embeddings"):
        score_pairs(base / "clean", scorer="comet-qe", margin=True, out=base / "scores", **QUIET)
    monolingual = base / "mono"
    clean([base / "a.en"], out=monolingual, monolingual=True, **QUIET)
    with pytest.raises(UsageError, match="is monolingual, but scorers need pairs"):
        score_pairs(monolingual, scorer=lengths, out=base / "scores", **QUIET)


def test_blocks_are_ranges_of_all_rows() -> None:
    assert list(blocks_of({"counts": {"rows": 65_540}})) == [Block(0, 65_536), Block(65_536, 65_540)]
    assert list(blocks_of({"counts": {"rows": 65_536}})) == [Block(0, 65_536)]


def test_margin_equals_values_computed_by_hand() -> None:
    sources = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], np.float32)
    targets = np.array([[0.8, 0.6], [0.0, 1.0], [1.0, 0.0]], np.float32)
    similar = sources @ targets.T
    assert cosine(sources, targets) == pytest.approx(similar.diagonal())
    rows = np.array([2, 5, 9])
    for neighbours in (1, 2, 3, 9):
        nearest = min(neighbours, 3)
        ours = np.sort(similar, axis=1)[:, -nearest:].mean(axis=1)
        of_targets = np.sort(similar, axis=0)[-nearest:].mean(axis=0)
        expected = similar.diagonal() / ((ours + of_targets) / 2)
        margins = Neighbours(rows, sources, targets, neighbours, threads=1).ratio_margin(rows, sources, targets)
        assert margins == pytest.approx(expected, rel=1e-5)
        # One by one, and for a pair outside of the sample (row 7), compared with the sample and itself.
        some = Neighbours(rows[1:], sources[1:], targets[1:], neighbours)
        alone = [some.ratio_margin(np.array([row]), sources[[i]], targets[[i]])[0] for i, row in enumerate((7, 5, 9))]
        ours[1:] = np.sort(similar[1:, 1:], axis=1)[:, -min(neighbours, 2) :].mean(axis=1)
        of_targets[1:] = np.sort(similar[1:, 1:], axis=0)[-min(neighbours, 2) :].mean(axis=0)
        assert alone == pytest.approx(similar.diagonal() / ((ours + of_targets) / 2), rel=1e-5)


def test_pairs_are_drawn_evenly(corpus: tuple[Path, list[tuple[str, str]]]) -> None:
    base, pairs = corpus
    kept_rows = [row for row in range(len(pairs)) if row not in (2, 27)]
    for count in (1, 7, 35, 99):
        rows, sources, targets = draw_pairs(base / "clean", count)
        drawn = min(count, len(kept_rows))
        assert rows.tolist() == [kept_rows[i * len(kept_rows) // drawn] for i in range(drawn)]
        assert list(zip(sources, targets, strict=True)) == [pairs[row] for row in rows]


def test_margins_of_all_blocks_compare(corpus: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    base, _ = corpus

    def embed(_: Any, texts: list[str], side: str) -> Any:
        vectors = np.array([np.random.default_rng(len(text) * 7 + len(side)).random(5) for text in texts], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    monkeypatch.setattr(embeddings.E5, "embed", embed)
    options: dict[str, Any] = {"scorer": "e5", "margin": True, **QUIET}
    monkeypatch.setattr(margin, "POOL_PAIRS", 12)
    blocks = score_pairs(base / "clean", out=base / "scores", **options)
    (base / "whole").mkdir()
    monkeypatch.setattr(import_module("catprune.scoring.column_shards"), "BLOCK_ROWS", 100)
    whole = score_pairs(base / "clean", out=base / "whole", **options)
    assert read(blocks.folder) == read(whole.folder), "the size of a block changes no score"
    with pytest.raises(UsageError, match="holds no column e5, but e5-margin: give column = e5-margin"):
        select(base / "scores", method="e5", out=base / "by-method", **QUIET)
    assert (
        select(base / "scores", column="e5-margin", out=base / "by-column", **QUIET).kept
        == len(read(blocks.folder)) // 2
    )
    write_input(base, "c", 11)
    clean([f"{base}/{name}.{{en,de}}" for name in "abc"], out=base / "clean", **QUIET)
    before = read(blocks.folder)
    monkeypatch.setattr(import_module("catprune.scoring.column_shards"), "BLOCK_ROWS", 10)
    done = score_pairs(base / "clean", out=base / "scores", **options)
    assert done.new == 10
    assert {row: score for row, score in read(done.folder).items() if row in before} == before
    # If no pair was kept at first, neighbours are drawn later.
    (base / "n.en").write_text("\n")
    (base / "n.de").write_text("\n")
    for inputs, pairs in (("n", 0), ("nc", 10)):
        clean([f"{base}/{name}.{{en,de}}" for name in inputs], out=base / "late", **QUIET)
        assert score_pairs(base / "late", out=base / "late-scores", **options).pairs == pairs
    (done.folder / "neighbours.npy").unlink()
    (done.folder / "manifest.json").unlink()
    next(done.folder.glob("columns/part-*.parquet")).unlink()
    with pytest.raises(CatpruneError, match=r"neighbours.npy, from which scores were computed, is missing"):
        score_pairs(base / "clean", out=base / "scores", **options)


def test_e5_knows_translations_from_other_sentences(tmp_path: Path) -> None:
    pairs = [
        ("The house stands by the river.", "Das Haus steht am Fluss."),
        ("She bought three apples.", "Sie hat drei Äpfel gekauft."),
        ("The printer is out of paper.", "Der Drucker hat kein Papier mehr."),
        ("Tomorrow it will rain.", "Morgen wird es regnen."),
    ]
    wrong = [(source, pairs[i - 1][1]) for i, (source, _) in enumerate(pairs)]
    for place, language in enumerate(SIDES):
        (tmp_path / f"text.{language}").write_text("".join(f"{pair[place]}\n" for pair in pairs + wrong))
    clean([tmp_path / "text.en", tmp_path / "text.de"], out=tmp_path / "clean", **QUIET)
    scores = tmp_path / "scores"
    for options, name in (([], "e5"), (["--margin", "--neighbours", "2"], "e5-margin")):
        command = ["score", str(tmp_path / "clean"), "--scorer", "e5", "--out", str(scores), *options]
        answer = CliRunner().invoke(app, command)
        assert answer.exit_code == 0, answer.output
        assert "8 pairs have a score, 8 of them new" in answer.output
        values = read(scores / name)
        assert all(values[row] > values[row + 4] for row in range(4))
    select(scores, method="e5", keep=4, out=tmp_path / "s", **QUIET)
    assert kept(tmp_path / "s") == {0, 1, 2, 3}


def test_a_function_of_columns(tmp_path: Path) -> None:
    rows = list(range(12))
    put_corpus(tmp_path, 12, rows, bounds=[0, 12], tags=None, inputs=[0, 12])
    nll = [[float(row) for row in rows], [row / 2 for row in rows]]
    nll[0][5] = nll[1][5] = None  # type: ignore[call-overload]
    more = {name: [1.0] * 12 for name in ("correct", "el2n_sum", "grad_norm_sum", "ign_sum")}
    for name, step, values in (("early", 1, nll[0]), ("late", 2, nll[1])):
        put_scores(tmp_path, name, step, rows, [2] * 12, values, [0, 4, 12], more=more)

    def learned(columns: Any) -> Any:
        assert list(columns) == ["early", "late"]
        return (columns["early"]["nll_sum"] - columns["late"]["nll_sum"]) / columns["late"]["tokens"]

    done = score_columns(tmp_path / "scores", learned, **QUIET)
    assert (done.pairs, done.new) == (12, 12)
    assert read(tmp_path / "scores/learned") == {row: None if row == 5 else row / 2 for row in rows}
    assert score_columns(tmp_path / "scores", learned, **QUIET).new == 0
    with pytest.raises(CatpruneError, match=r"function was learned, is now lambda; source changed since"):
        score_columns(tmp_path / "scores", lambda columns: columns["early"]["tokens"], name="learned", **QUIET)
    select(tmp_path / "scores", column="learned", keep=3, out=tmp_path / "s", **QUIET)
    assert kept(tmp_path / "s") == {9, 10, 11}
    same = select(tmp_path / "scores", method="cat-diff", on="nll", keep=3, out=tmp_path / "t", **QUIET)
    assert kept(tmp_path / "t") == {9, 10, 11}
    assert same.unscored == 1
    # Scores of checkpoints guard and count tokens, while the column ranks.
    guarded = select(tmp_path / "scores", column="learned", where="ppl<10", keep=3, out=tmp_path / "u", **QUIET)
    assert (kept(tmp_path / "u"), guarded.guarded) == ({2, 3, 4}, 7)  # ppl is exp(row / 2), row 5 has none
    select(tmp_path / "scores", column="target_characters", keep=3, out=tmp_path / "x", **QUIET)
    assert kept(tmp_path / "x") == {2, 4, 7}  # row * 7 modulo 5 characters: 4, 3 and 4
    budget = select(tmp_path / "scores", column="learned", keep="6tokens", out=tmp_path / "v", **QUIET)
    assert (kept(tmp_path / "v"), budget.tokens_kept, budget.tokens) == ({9, 10, 11}, 6, 22)
    # Backward models are left out with their tokens, and another function does not continue unfinished work.
    put_scores(tmp_path, "back", 9, rows, [99] * 12, nll[0], [0, 4, 12], more=more, reverse=True)
    value = 1.0

    def broken(columns: Any) -> Any:
        assert list(columns) == ["early", "late"]
        if value == 1.0 and len(columns["early"]["tokens"]) > 4:
            raise KeyboardInterrupt
        return value * columns["early"]["tokens"]

    with pytest.raises(KeyboardInterrupt):
        score_columns(tmp_path / "scores", broken, **QUIET)
    value = 3.0
    score_columns(tmp_path / "scores", broken, force=True, **QUIET)
    assert read(tmp_path / "scores/broken") == {row: None if row == 5 else 6.0 for row in rows}
    assert select(tmp_path / "scores", column="broken", keep="50%tokens", out=tmp_path / "w", **QUIET).tokens == 22
    with pytest.raises(CatpruneError, match="learned returns scores of shape"):
        score_columns(tmp_path / "scores", lambda _: [0.0], name="learned", force=True, **QUIET)
