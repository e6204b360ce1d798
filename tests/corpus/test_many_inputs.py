"""Many inputs: shards and token blocks are ranges of rows of the whole corpus, whatever the inputs are."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import catprune
import numpy as np
import pyarrow.parquet as parquet
import pytest
from catprune.errors import CatpruneError
from catprune.workspace.files import Places, relative_place, resolve_place
from catprune.workspace.step_folder import StepFolder
from safetensors.numpy import load_file

QUIET: dict[str, Any] = {"quiet": True}
BLOCK, SHARD = 65_536, 2**20


def texts(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Pairs of short sentences, some of which occur several times, and some that a rule drops."""
    random = np.random.default_rng(seed)
    numbers = random.integers(0, 4 * count, count).tolist()
    return [(f"house {number}", f"haus {number}" if number % 7 else "") for number in numbers]


def write_inputs(folder: Path, pairs: list[tuple[str, str]], sizes: list[int]) -> list[str]:
    """Write the pairs as inputs of these sizes; return their templates."""
    first, names = 0, []
    for number, size in enumerate(sizes):
        for language, side in zip(("en", "de"), zip(*pairs[first : first + size], strict=True), strict=True):
            (folder / f"{number:05}.{language}").write_text("".join(f"{text}\n" for text in side))
        names.append(str(folder / f"{number:05}.{{en,de}}"))
        first += size
    return names


def columns(folder: Path, name: str = "columns") -> dict[str, Any]:
    """The columns of a clean folder, by the names of their files."""
    return {path.name: parquet.read_table(path) for path in sorted((folder / name).glob("part-*"))}


def blocks(folder: Path) -> dict[str, dict[str, list[int]]]:
    """The tensors of a tokens folder, by the names of their files."""
    files = sorted(folder.glob("part-*"))
    return {path.name: {name: array.tolist() for name, array in load_file(path).items()} for path in files}


@pytest.mark.parametrize("near", ["none", "pair"])
def test_many_small_inputs_give_the_columns_and_blocks_of_one(tmp_path: Path, near: str) -> None:
    pairs = texts(3_000)
    sizes = [7, 1, 1_000, 1, 991, *[20] * 50]
    made = {}
    for name, parts in (("one", [3_000]), ("many", sizes)):
        (tmp_path / name).mkdir()
        inputs = write_inputs(tmp_path / name, pairs, parts)
        made[name] = catprune.clean(inputs, out=tmp_path / name / "clean", near_duplicates=near, **QUIET)
        catprune.tokenize(tmp_path / name / "clean", out=tmp_path / name / "tokens", vocab_size=300, **QUIET)
    one, many = (tmp_path / name for name in ("one", "many"))
    for folder in ("columns", "duplicates", "fingerprints"):
        assert columns(one / "clean", folder) == columns(many / "clean", folder) != {}
    assert list(columns(many / "clean")) == ["part-000000000000-000000003000.parquet"]
    assert blocks(one / "tokens") == blocks(many / "tokens")
    assert (made["one"].kept, made["one"].reasons) == (made["many"].kept, made["many"].reasons)
    kept = columns(one / "clean")["part-000000000000-000000003000.parquet"]["reasons"].to_numpy() == 0
    ends = np.cumsum(sizes)
    assert [read["kept"] for read in made["many"].manifest["inputs"]] == [
        int(kept[end - size : end].sum()) for end, size in zip(ends, sizes, strict=True)
    ]


def test_shards_and_blocks_end_at_fixed_rows(tmp_path: Path) -> None:
    pairs = texts(SHARD + 5_000)
    sizes = [BLOCK - 1, 3, SHARD - BLOCK - 1_000, 5_998]
    inputs = write_inputs(tmp_path, pairs, sizes)
    whole = catprune.clean(inputs, out=tmp_path / "clean", **QUIET)
    ranges = [(0, SHARD), (SHARD, SHARD + 5_000)]
    for listed in ("shards", "fingerprints", "duplicates"):
        assert [(shard["first"], shard["end"]) for shard in whole.manifest[listed]] == ranges
    rows = np.concatenate([table["row"].to_numpy() for table in columns(tmp_path / "clean").values()])
    assert np.array_equal(rows, np.arange(len(pairs)))
    spilled = catprune.clean(inputs, out=tmp_path / "spilled", memory="128M", **QUIET)
    assert spilled.kept == whole.kept

    catprune.tokenize(tmp_path / "clean", out=tmp_path / "tokens", vocab_size=300, sample=1_000, **QUIET)
    firsts = range(0, len(pairs), BLOCK)
    shards = json.loads((tmp_path / "tokens" / "manifest.json").read_bytes())["shards"]
    assert [shard["first"] for shard in shards] == list(firsts)
    kept = [reasons == 0 for table in columns(tmp_path / "clean").values() for reasons in table["reasons"].to_pylist()]
    assert [shard["pairs"] for shard in shards] == [sum(kept[first : first + BLOCK]) for first in firsts]


@pytest.mark.parametrize("near", ["none", "pair"])
def test_appended_rows_continue_the_last_shard_and_block(tmp_path: Path, near: str) -> None:
    pairs = texts(BLOCK + 4_000)
    sizes = [100, BLOCK - 200, 90, 10, 3_000, 1_000]
    inputs = write_inputs(tmp_path, pairs, sizes)
    clean, tokens = tmp_path / "clean", tmp_path / "tokens"
    full = tokens / f"part-{0:012}-{BLOCK:012}.safetensors"
    for count in range(1, len(sizes) + 1):
        before = full.stat().st_ino if full.is_file() else None
        done = catprune.clean(inputs[:count], out=clean, near_duplicates=near, **QUIET)
        tokenized = catprune.tokenize(clean, out=tokens, vocab_size=300, **QUIET)
        rows = sum(sizes[:count])
        assert list(columns(clean)) == [f"part-{0:012}-{rows:012}.parquet"], "one shard, however often rows came"
        assert len(blocks(tokens)) == -(-rows // BLOCK)
        assert before is None or before == full.stat().st_ino, "a full block stays as it is"
        table = next(iter(columns(clean).values()))
        assert table["row"].to_pylist() == list(range(rows))
        assert sum(reasons == 0 for reasons in table["reasons"].to_pylist()) == done.kept == tokenized.pairs
    whole = catprune.clean(inputs, out=tmp_path / "whole", near_duplicates=near, **QUIET)
    if near == "none":  # near duplicates are searched among the new rows alone
        assert done.kept == whole.kept
        names = [name for name in table.column_names if name not in ("reasons", "reason")]
        assert table.select(names) == next(iter(columns(tmp_path / "whole").values())).select(names)
        assert columns(clean, "fingerprints") == columns(tmp_path / "whole", "fingerprints")
        dropped = [next(iter(columns(folder, "duplicates").values())) for folder in (clean, tmp_path / "whole")]
        assert dropped[0]["row"] == dropped[1]["row"]
    fresh = tmp_path / "fresh"
    catprune.clean(inputs, out=tmp_path / "again", near_duplicates=near, **QUIET)
    if near == "none":
        catprune.tokenize(tmp_path / "again", out=fresh, tokenizer=tokens / "tokenizer.json", **QUIET)
        assert blocks(fresh) == blocks(tokens)


def test_a_kill_before_replaced_shards_are_removed_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = write_inputs(tmp_path, texts(100), [60, 40])
    catprune.clean(inputs[:1], out=tmp_path / "clean", **QUIET)
    remove = StepFolder._remove_strays
    calls = []

    def die_at_the_second(self: StepFolder, *manifests: Any) -> None:
        calls.append(len(manifests))
        if len(calls) == 2:
            raise KeyboardInterrupt
        remove(self, *manifests)

    with monkeypatch.context() as patched:
        patched.setattr(StepFolder, "_remove_strays", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            catprune.clean(inputs, out=tmp_path / "clean", **QUIET)
    assert len(columns(tmp_path / "clean")) == 2, "the old shard and the one that continues it"
    assert not catprune.clean(inputs, out=tmp_path / "clean", **QUIET).is_new
    assert list(columns(tmp_path / "clean")) == [f"part-{0:012}-{100:012}.parquet"]


def test_appending_again_after_a_failure_finds_the_old_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = write_inputs(tmp_path, texts(100), [60, 40])
    catprune.clean(inputs[:1], out=tmp_path / "clean", **QUIET)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StepFolder, "_remove_strays", die)
        with pytest.raises(KeyboardInterrupt):
            catprune.clean(inputs, out=tmp_path / "clean", **QUIET)
    assert catprune.clean(inputs, out=tmp_path / "clean", **QUIET).new == 40
    whole = catprune.clean(inputs, out=tmp_path / "whole", **QUIET)
    assert columns(tmp_path / "clean").keys() == columns(tmp_path / "whole").keys()
    assert whole.kept == json.loads((tmp_path / "clean" / "manifest.json").read_bytes())["counts"]["kept"]


@pytest.mark.parametrize("count", [3, 30_000])
@pytest.mark.parametrize("missing", ["en", "de"])
def test_sides_of_unequal_length_are_named_whether_they_are_small_or_large(
    tmp_path: Path, count: int, missing: str
) -> None:
    [template] = write_inputs(tmp_path, texts(count), [count])
    short = tmp_path / f"00000.{missing}"
    other = tmp_path / f"00000.{'de' if missing == 'en' else 'en'}"
    short.write_bytes(b"".join(short.read_bytes().splitlines(keepends=True)[:-1]))
    message = rf"{short} ends after line {count - 1}, {other} goes on to line {count}"
    with pytest.raises(CatpruneError, match=message):
        catprune.clean([template], out=tmp_path / "clean", **QUIET)
    assert not list((tmp_path / "clean").glob("columns/*"))


@pytest.mark.parametrize("count", [3, 60_000])
def test_a_damaged_side_is_named_whether_it_is_small_or_large(tmp_path: Path, count: int) -> None:
    write_inputs(tmp_path, texts(count), [count])
    source = tmp_path / "00000.en"
    packed = gzip.compress(source.read_bytes())
    damaged = tmp_path / "00000.en.gz"
    damaged.write_bytes(packed[:-9])
    with pytest.raises(CatpruneError, match=rf"{damaged}.*fetch"):
        catprune.clean([damaged, tmp_path / "00000.de"], out=tmp_path / "clean", **QUIET)


def test_places_of_many_files_are_those_of_single_files(tmp_path: Path) -> None:
    folder, link = tmp_path / "a" / "run", tmp_path / "link"
    folder.mkdir(parents=True)
    link.symlink_to(tmp_path / "a")
    places = Places(folder)
    for name in ("x.en", "run/x.en", "../b/y.en", "run/../z.en"):
        for base in (tmp_path / "a", link):
            file = f"{base}/{name}"
            assert places.relative(file) == relative_place(file, folder)
            assert places.resolve(places.relative(file)) == resolve_place(folder, relative_place(file, folder))
