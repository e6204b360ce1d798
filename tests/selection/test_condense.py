"""Condensing: only the best record of each near-duplicate cluster is ranked, compared with an oracle."""

from __future__ import annotations

import random
from importlib import import_module
from pathlib import Path
from typing import Any

import catprune
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from catprune import CatpruneError, UsageError
from catprune.selection.summary import summary
from catprune.workspace.manifest import read_manifest

WORDS = ["house", "tree", "river", "stone", "cloud", "bird", "mountain", "window", "garden", "letter", "bridge"]
QUIET: dict[str, Any] = {"threads": 1, "quiet": True}


def write_pairs(folder: Path, name: str, *, families: int, seed: int) -> list[Path]:
    """Pairs in clusters of near duplicates, with one or more members, in any order; some pairs occur twice."""
    chance = random.Random(seed)
    pairs: list[tuple[str, str]] = []
    for _ in range(families):
        sides = [" ".join(chance.choices(WORDS, k=14)) for _ in range(2)]
        members = "abcde"[: chance.choice([1, 1, 2, 5])]
        pairs += [(f"{sides[0]} {member}", f"{sides[1]} x") for member in members]
    pairs += pairs[:5]
    chance.shuffle(pairs)
    paths = [folder / f"{name}.en", folder / f"{name}.de"]
    for path, side in zip(paths, zip(*pairs, strict=True), strict=True):
        path.write_text("".join(f"{text}\n" for text in side))
    return paths


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two inputs, cleaned, and cleaned for near duplicates; `quality.parquet` has values for most rows, some equal."""
    folder = tmp_path_factory.mktemp("condense")
    write_pairs(folder, "a", families=60, seed=1)
    write_pairs(folder, "b", families=30, seed=2)
    inputs = [f"{folder}/{name}.{{en,de}}" for name in "ab"]
    catprune.clean(inputs, out=folder / "clean", **QUIET)
    catprune.clean(inputs, out=folder / "near", near_duplicates="pair", near={"threshold": 0.7}, **QUIET)
    rows = read_manifest(folder / "clean", step="clean")["counts"]["rows"]
    chance = random.Random(3)
    quality = [None if chance.random() < 0.1 else float(chance.randrange(20)) for _ in range(rows)]
    table = pa.table({"row": pa.array(range(rows), pa.int64()), "quality": pa.array(quality, pa.float32())})
    parquet.write_table(table, folder / "quality.parquet")
    return folder


def read(folder: Path, *columns: str) -> list[tuple[Any, ...]]:
    table = parquet.read_table(folder / "columns" if (folder / "columns").is_dir() else folder, columns=list(columns))
    return [*zip(*(column.to_pylist() for column in table), strict=True)]


def best(corpus: Path, score: dict[int, float], *, lowest: bool) -> set[int]:
    """The scored rows that are the best of their cluster."""
    of = dict(read(corpus / "near/duplicates", "row", "duplicate_of"))
    clusters: dict[int, list[tuple[float, int]]] = {}
    for row, value in score.items():
        clusters.setdefault(of.get(row, row), []).append((value if lowest else -value, row))
    assert any(len(cluster) > 2 for cluster in clusters.values())
    return {min(cluster)[1] for cluster in clusters.values()}


@pytest.mark.parametrize("members", [1_000_000, 7])
@pytest.mark.parametrize("direction", ["top", "bottom"])
@pytest.mark.parametrize("where", [None, "quality<15"])
def test_the_best_of_each_cluster_is_ranked(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: int, direction: str, where: str | None
) -> None:
    monkeypatch.setattr(import_module("catprune.selection.condense"), "MEMBERS", members)
    options: dict[str, Any] = {"column": "quality", "clean": corpus / "clean", "direction": direction, **QUIET}
    options |= {"keep": 0.5, "out": tmp_path / "selection", "condense": corpus / "near"}
    options |= {"where": where} if where is not None else {}
    done = catprune.select(corpus / "quality.parquet", **options)
    kept = {row for row, reasons in read(corpus / "clean", "row", "reasons") if not reasons}
    known = {row: value for row, value in read_file(corpus / "quality.parquet") if row in kept}
    score = {row: value for row, value in known.items() if value is not None and (where is None or value < 15)}
    lowest = direction == "bottom"
    left = sorted(best(corpus, score, lowest=lowest), key=lambda row: (score[row] if lowest else -score[row], row))
    unscored = sum(value is None for value in known.values()) if where is None else 0
    assert (done.scored, done.unscored) == (len(left), unscored)
    assert done.kept == (len(left) + unscored) // 2, "a share counts the records without a score, too"
    assert done.condensed == len(score) - len(left) > 20
    assert f"{done.condensed} more pairs are near duplicates of a pair that ranks better" in summary(done)
    rows = read(tmp_path / "selection", "row", "kept")
    assert {row for row, is_kept in rows if is_kept} == {*left[: done.kept]}
    assert {row for row, _ in rows} == kept
    assert not (tmp_path / "selection/log/condense").exists()
    before = (tmp_path / "selection/manifest.json").read_bytes()
    catprune.select(corpus / "quality.parquet", **options)
    assert (tmp_path / "selection/manifest.json").read_bytes() == before
    spilled = {**options, "out": tmp_path / "other" / "selection", "tmp_dir": tmp_path}
    catprune.select(corpus / "quality.parquet", **spilled)
    assert read(tmp_path / "other/selection", "row", "kept", "score") == read(
        tmp_path / "selection", "row", "kept", "score"
    )
    assert not list(tmp_path.glob("catprune-*"))


def read_file(path: Path) -> list[tuple[int, float | None]]:
    return list(zip(*(column.to_pylist() for column in parquet.read_table(path)), strict=True))


def test_merged_ranks_shares_and_written_text(corpus: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"merge": "0.8*length + 0.2*quality", "join": [corpus / "quality.parquet"], **QUIET}
    options |= {"out": tmp_path / "selection", "condense": corpus / "near", "keep": ["40%", "input=b.en:60%"]}
    done = catprune.select(corpus / "clean", **options)
    merged = dict(read(tmp_path / "selection", "row", "score"))
    of = dict(read(corpus / "near/duplicates", "row", "duplicate_of"))
    ranked = [row for row, score in merged.items() if score is not None]
    assert len({of.get(row, row) for row in ranked}) == len(ranked) == done.scored
    outputs = [tmp_path / "p.en", tmp_path / "p.de"]
    assert catprune.write(corpus / "clean", outputs, selection=tmp_path / "selection", **QUIET).pairs == done.kept
    assert len({line[:-2] for line in outputs[0].read_text().splitlines()}) == done.kept
    own, general = done.groups
    assert any(line.startswith("  input=b.en: ") for line in summary(done))
    assert any(line.startswith("  all others: ") for line in summary(done))
    assert own["name"] == "input=b.en" and own["kept"] == (own["scored"] + own["unscored"]) * 6 // 10
    assert general["kept"] == (general["scored"] + general["unscored"]) * 4 // 10


def test_always_kept_records_stay(corpus: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"condense": corpus / "near", "always_keep": "input=b.en", "method": "length", **QUIET}
    done = catprune.select(corpus / "clean", out=tmp_path / "selection", **options)
    first = read_manifest(corpus / "clean", step="clean")["inputs"][1]["first"]
    rows = read(tmp_path / "selection", "row", "kept")
    assert all(kept for row, kept in rows if row >= first)
    assert done.trusted == sum(row >= first for row, _ in rows)
    catprune.select(corpus / "clean", out=tmp_path / "plain", method="length", **QUIET)
    score = dict(read(tmp_path / "plain", "row", "score"))
    lost = score.keys() - best(corpus, score, lowest=False)
    assert done.condensed == done.guarded == sum(row < first for row in lost) < len(lost)
    assert done.scored + done.condensed == len(score)
    assert f"{done.condensed} more pairs are near duplicates of a pair that ranks better" in summary(done)


def test_a_middle_has_no_best(corpus: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"condense": corpus / "near", "method": "length", "out": tmp_path / "selection", **QUIET}
    with pytest.raises(UsageError, match="direction = middle: condense keeps the highest or"):
        catprune.select(corpus / "clean", direction="middle", **options)
    assert catprune.select(corpus / "clean", direction="bottom", **options).condensed > 0


def test_clusters_of_other_records_are_refused(corpus: Path, tmp_path: Path) -> None:
    def condensed(near: Path, source: Path = corpus / "clean", **options: Any) -> None:
        catprune.select(source, out=tmp_path / "selection", **{"method": "length", **options}, condense=near, **QUIET)

    with pytest.raises(CatpruneError, match="was cleaned without near_duplicates"):
        condensed(corpus / "clean")
    catprune.clean([f"{corpus}/a.{{en,de}}"], out=tmp_path / "fewer", near_duplicates="pair", **QUIET)
    with pytest.raises(CatpruneError, match="was cleaned from other inputs"):
        condensed(tmp_path / "fewer")
    inputs = [f"{corpus}/{name}.{{en,de}}" for name in "ab"]
    catprune.clean(inputs, out=tmp_path / "other", near_duplicates="pair", duplicates="source", **QUIET)
    with pytest.raises(CatpruneError, match=r"cleaned with other options than .* \(duplicates\)"):
        condensed(tmp_path / "other")
    with pytest.raises(UsageError, match="condense needs the clean folder"):
        condensed(corpus / "near", corpus / "quality.parquet", method=None, column="quality")
    with pytest.raises(CatpruneError, match="does not exist or is not a step's folder"):
        condensed(tmp_path / "nothing")
    assert not (tmp_path / "selection").exists()
    shard = next((corpus / "near/duplicates").glob("part-*"))
    content = shard.read_bytes()
    try:
        shard.write_bytes(content[:-9] + bytes(9))
        with pytest.raises(CatpruneError, match="was changed since it was written"):
            condensed(corpus / "near")
    finally:
        shard.write_bytes(content)
