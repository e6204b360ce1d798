"""Tokenizing: ids equal the tokenizers package's, blocks are as documented, resumed runs end with the same bytes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import catprune
import numpy as np
import pyarrow.parquet as parquet
import pytest
from catprune import CatpruneError, UsageError, _core
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from support import oracles
from support.folders import files
from tokenizers import Tokenizer

WORDS = ["haus", "hund", "der", "die", "läuft", "schläft", "größer", "…", "😀", "naïve", "x" * 30]


def corpus(count: int) -> tuple[bytes, bytes]:
    """Distinct pairs of made-up words."""
    rng = np.random.default_rng(1)
    sides = []
    for _ in range(2):
        picked = rng.integers(0, len(WORDS), (count, 6))
        sides.append(
            "".join(f"{row} " + " ".join(WORDS[word] for word in words) + "\n" for row, words in enumerate(picked))
        )
    return sides[0].encode(), sides[1].encode()


@pytest.fixture
def cleaned(tmp_path: Path, pair: Any) -> Path:
    catprune.clean(pair(*corpus(3000)), out=tmp_path / "clean")
    return tmp_path / "clean"


def test_ids_are_those_of_the_tokenizers_package(tmp_path: Path, cleaned: Path) -> None:
    done = catprune.tokenize(cleaned, out=tmp_path / "tokens", vocab_size=400)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokens" / "tokenizer.json"))
    block = load_file(tmp_path / "tokens" / "part-000000000000-000000003000.safetensors")
    texts = [(tmp_path / f"text.{side}").read_text().splitlines() for side in ("en", "de")]
    counts = {}
    for side, lines in zip(("source", "target"), texts, strict=True):
        expected = [tokenizer.encode(lines[row]).ids for row in block["rows"]]
        ids, offsets = block[f"{side}_ids"], block[f"{side}_offsets"]
        assert ids.dtype == np.uint16
        assert [ids[a:b].tolist() for a, b in pairwise(offsets)] == expected
        assert all(sequence[-1] == done.manifest["tokenizer"]["eos_id"] for sequence in expected)
        counts[side] = np.bincount(ids, minlength=done.vocab_size)
    unigrams = load_file(tmp_path / "tokens" / "unigrams.safetensors")
    for side in ("source", "target"):
        assert (unigrams[side] == counts[side]).all()
    assert done.target_tokens == len(block["target_ids"])
    assert done.pairs == len(block["rows"]) == done.manifest["counts"]["kept"]


LENIENT = {
    "min_words": 0,
    "max_word_ratio": 1e9,
    "max_character_ratio": 1e9,
    "min_letter_word_share": 0.0,
    "min_letter_share": 0.0,
    "keep_identical": True,
    "keep_control_characters": True,
}


@given(
    pairs=st.lists(
        st.tuples(*[st.text(min_size=1).map(lambda text: text.replace("\n", "")) | st.sampled_from(WORDS)] * 2),
        min_size=1,
    )
)
def test_ids_of_any_text(tmp_path: Path, cleaned: Path, pair: Any, pairs: list[tuple[str, str]]) -> None:
    if not (tmp_path / "first").exists():
        catprune.tokenize(cleaned, out=tmp_path / "first", vocab_size=400)
    own = tmp_path / "first" / "tokenizer.json"
    paths = pair(*("".join(sides[place] + "\n" for sides in pairs).encode() for place in (0, 1)), name="any")
    for folder in ("any", "tokens"):
        shutil.rmtree(tmp_path / folder, ignore_errors=True)
    done = catprune.clean(paths, out=tmp_path / "any", duplicates="none", rules=LENIENT)
    if not done.kept:
        return
    catprune.tokenize(tmp_path / "any", out=tmp_path / "tokens", tokenizer=own, max_tokens=10_000)
    block = load_file(next((tmp_path / "tokens").glob("part-*")))
    tokenizer = Tokenizer.from_file(str(own))
    for place, side in enumerate(("source", "target")):
        lines = [pairs[row][place].removesuffix("\r") for row in block["rows"]]
        ids, offsets = block[f"{side}_ids"], block[f"{side}_offsets"]
        assert [ids[a:b].tolist() for a, b in pairwise(offsets)] == [tokenizer.encode(line).ids for line in lines]


def test_same_bytes_for_any_threads(tmp_path: Path, cleaned: Path) -> None:
    catprune.tokenize(cleaned, out=tmp_path / "one", vocab_size=400, threads=1)
    catprune.tokenize(cleaned, out=tmp_path / "many", vocab_size=400, threads=5)
    assert files(tmp_path / "one") == files(tmp_path / "many")


def test_long_pairs_carry_no_tokens_and_are_listed(tmp_path: Path, cleaned: Path) -> None:
    done = catprune.tokenize(cleaned, out=tmp_path / "tokens", vocab_size=400, max_tokens=9)
    block = load_file(tmp_path / "tokens" / "part-000000000000-000000003000.safetensors")
    lengths = [np.diff(block[f"{side}_offsets"]) for side in ("source", "target")]
    assert max(map(max, lengths)) <= 9
    assert 0 < done.too_long == len(block["too_long"]) < done.manifest["counts"]["kept"]
    table = parquet.read_table(next(cleaned.glob("columns/part-*")))
    kept = [
        row
        for row, reasons in zip(*(table[name].to_pylist() for name in ("row", "reasons")), strict=True)
        if not reasons
    ]
    assert sorted([*block["rows"], *block["too_long"]]) == kept


def test_blocks_are_ranges_of_all_rows_and_rows_follow_the_reasons(tmp_path: Path, pair: Any) -> None:
    source, target = corpus(70_000)
    pair(source, target, name="big")
    pair(b"ein haus\nein haus\n", b"a house\na house\n", name="small")
    catprune.clean([str(tmp_path / "big.{en,de}"), str(tmp_path / "small.{en,de}")], out=tmp_path / "clean")
    done = catprune.tokenize(tmp_path / "clean", out=tmp_path / "tokens", vocab_size=400, sample=1000)
    shards = done.manifest["shards"]
    assert [(shard["first"], shard["end"]) for shard in shards] == [(0, 65_536), (65_536, 70_002)]
    assert load_file(tmp_path / "tokens" / shards[1]["file"])["rows"].tolist()[-1] == 70_000
    assert all(_core.digest_file(str(tmp_path / "tokens" / shard["file"])) == shard["digest"] for shard in shards)
    whole = files(tmp_path / "tokens")
    # As after a crash: the last block and everything after it is missing.
    for name in ("manifest.json", "unigrams.safetensors", shards[1]["file"]):
        (tmp_path / "tokens" / name).unlink()
    (tmp_path / "tokens" / (shards[1]["file"] + ".tmp")).write_bytes(b"half")
    before = (tmp_path / "tokens" / shards[0]["file"]).stat().st_mtime_ns
    catprune.tokenize(tmp_path / "clean", out=tmp_path / "tokens", vocab_size=400, sample=1000)
    assert files(tmp_path / "tokens") == whole
    assert (tmp_path / "tokens" / shards[0]["file"]).stat().st_mtime_ns == before
    # A finished block of unfinished work with another byte is written again.
    (tmp_path / "tokens/manifest.json").unlink()
    block = tmp_path / "tokens" / shards[0]["file"]
    data = bytearray(block.read_bytes())
    data[len(data) // 2] ^= 1
    block.write_bytes(data)
    catprune.tokenize(tmp_path / "clean", out=tmp_path / "tokens", vocab_size=400, sample=1000)
    assert files(tmp_path / "tokens") == whole


@given(seed=st.integers(0, 2**64 - 1), fraction=st.sampled_from([0.0, 0.01, 0.5, 1.0]))
def test_the_sample_is_the_oracles(tmp_path: Path, seed: int, fraction: float) -> None:
    text = tmp_path / "t"
    text.write_text("".join(f"{row}\n" for row in range(5000)))
    other = tmp_path / "u"
    other.write_text("".join(f"-{row}\n" for row in range(5000)))
    request = {
        "corpus": {"inputs": [{"format": "moses", "source": str(text), "target": str(other)}]},
        "kept": "all",
        "fraction": fraction,
        "seed": seed,
        "out": str(tmp_path / "sample"),
        "threads": 2,
    }
    taken = [row for row in range(5000) if oracles.sampled(row, seed=seed, fraction=fraction)]
    assert _core.sample(request) == len(taken)
    assert (tmp_path / "sample").read_text() == "".join(f"{row}\n-{row}\n" for row in taken)


def test_a_changed_text_is_noticed(tmp_path: Path, cleaned: Path) -> None:
    path = tmp_path / "text.de"
    path.write_bytes(path.read_bytes().replace(b"hund", b"hand"))
    with pytest.raises(CatpruneError, match=r"text\.de changed since it was cleaned"):
        catprune.tokenize(cleaned, out=tmp_path / "tokens", vocab_size=400)
    shutil.rmtree(tmp_path / "tokens")
    path.unlink()
    with pytest.raises(CatpruneError, match=r"text\.de is missing"):
        catprune.tokenize(cleaned, out=tmp_path / "tokens", vocab_size=400)


def test_a_given_tokenizer(tmp_path: Path, cleaned: Path) -> None:
    catprune.tokenize(cleaned, out=tmp_path / "first", vocab_size=400)
    own = tmp_path / "first" / "tokenizer.json"
    done = catprune.tokenize(cleaned, out=tmp_path / "second", tokenizer=own)
    name = "part-000000000000-000000003000.safetensors"
    first, second = (load_file(tmp_path / folder / name) for folder in ("first", "second"))
    assert all((first[key] == second[key]).all() for key in first)
    assert done.manifest["tokenizer"]["digest"] == _core.digest_file(str(own))
    bare = Tokenizer.from_file(str(own))
    bare.enable_truncation(4)
    bare.save(str(tmp_path / "cuts.json"))
    catprune.tokenize(cleaned, out=tmp_path / "third", tokenizer=tmp_path / "cuts.json")
    assert (load_file(tmp_path / "third" / name)["source_ids"] == first["source_ids"]).all()
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(CatpruneError, match=r"no\.json cannot be read"):
        catprune.tokenize(cleaned, out=tmp_path / "fourth", tokenizer=tmp_path / "no.json")


def test_a_tokenizer_that_was_changed_before_a_resume_is_trained_again(
    tmp_path: Path, cleaned: Path, monkeypatch: Any
) -> None:
    catprune.tokenize(cleaned, out=tmp_path / "whole", vocab_size=400)
    with monkeypatch.context() as patch:
        patch.setattr(catprune._core, "tokenize", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            catprune.tokenize(cleaned, out=tmp_path / "tokens", vocab_size=400)
    path = tmp_path / "tokens/tokenizer.json"
    path.write_text(path.read_text().replace('"h"', '"H"', 1))
    catprune.tokenize(cleaned, out=tmp_path / "tokens", vocab_size=400)
    assert files(tmp_path / "tokens") == files(tmp_path / "whole")


def test_a_killed_step_takes_its_child_along(tmp_path: Path, pair: Any) -> None:
    """The tokenizer is trained in a child process, which must not outlive its parent: here it would run for an hour."""
    catprune.clean(pair(*corpus(10)), out=tmp_path / "clean")
    code = f"""
        import catprune
        from importlib import import_module
        step = import_module("catprune.tokens.tokenizer")
        step._TRAIN = step._TRAIN.split("vocab_size, ")[0] + "import time; time.sleep(3600)"
        catprune.tokenize({str(tmp_path / "clean")!r}, out={str(tmp_path / "tokens")!r})
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    children: list[int] = []
    while not children:
        assert process.poll() is None
        children = [
            int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ]
        time.sleep(0.001)
    process.kill()
    process.wait()

    def runs() -> bool:
        try:
            return Path(f"/proc/{children[0]}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    deadline = time.monotonic() + 60
    while runs() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not runs()


def test_a_tokenizer_without_end_of_sentence_is_refused(tmp_path: Path, cleaned: Path) -> None:
    from tokenizers import models, pre_tokenizers, trainers

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False)
    bare.train_from_iterator(["ein haus"], trainer)
    bare.save(str(tmp_path / "bare.json"))
    with pytest.raises(CatpruneError, match="does not end sequences"):
        catprune.tokenize(cleaned, out=tmp_path / "tokens", tokenizer=tmp_path / "bare.json")


def test_usage(tmp_path: Path, cleaned: Path, pair: Any) -> None:
    with pytest.raises(UsageError, match="vocab_size = 10"):
        catprune.tokenize(cleaned, out=tmp_path / "tokens", vocab_size=10)
    with pytest.raises(UsageError, match="are options of training a tokenizer"):
        catprune.tokenize(cleaned, out=tmp_path / "tokens", vocab_size=400, tokenizer=tmp_path / "own.json")
    with pytest.raises(CatpruneError, match="run `catprune clean` into it first"):
        catprune.tokenize(tmp_path / "nowhere", out=tmp_path / "tokens")
    catprune.clean(pair(b"1\n", b"2\n", name="no"), out=tmp_path / "none")
    with pytest.raises(CatpruneError, match="kept no pair"):
        catprune.tokenize(tmp_path / "none", out=tmp_path / "tokens")
