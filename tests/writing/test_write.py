"""Writing: the kept pairs in corpus order, always both sides, in every format."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import catprune
import numpy as np
import pyarrow
import pytest
from catprune import CatpruneError, UsageError, _core
from catprune.workspace.sealed import seal
from catprune.writing.write import summary
from hypothesis import given
from hypothesis import strategies as st
from support import oracles
from support.cleaned import as_text

LINE = st.one_of(
    st.text(st.sampled_from("abc de1.\t\r\u2028"), max_size=10).map(lambda text: text.encode()),
    st.binary(max_size=6).map(as_text),
)


def lines_of(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


@given(pairs=st.lists(st.tuples(LINE, LINE), min_size=1, max_size=20))
def test_written_pairs_are_the_kept_ones(tmp_path: Path, pair: Any, pairs: list[tuple[bytes, bytes]]) -> None:
    paths = pair(*(lines_of([side[place] for side in pairs]) for place in (0, 1)))
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    catprune.clean(paths, out=tmp_path / "run/clean")
    bare = [tuple(side.removesuffix(b"\r") for side in sides) for sides in pairs]
    reasons_of_rows = oracles.clean(bare).reasons
    kept = [sides for sides, names in zip(bare, reasons_of_rows, strict=True) if not names]
    done = catprune.write(tmp_path / "run/clean", [tmp_path / "run/p.en", tmp_path / "run/p.de"])
    assert done.pairs == len(kept)
    for place, name in enumerate(("en", "de")):
        assert (tmp_path / f"run/p.{name}").read_bytes() == lines_of([sides[place] for sides in kept])
    table = catprune.write(tmp_path / "run/clean", [tmp_path / "run/p.tsv"])
    plain = [sides for sides in kept if not any(b"\t" in side for side in sides)]
    assert (table.pairs, table.unwritable) == (len(plain), len(kept) - len(plain))
    assert (tmp_path / "run/p.tsv").read_bytes() == lines_of([b"\t".join(sides) for sides in plain])


@pytest.fixture
def cleaned(tmp_path: Path, pair: Any) -> Path:
    source = lines_of([b"line %d" % number for number in range(10_000)])
    target = lines_of([b"Zeile %d" % (number // 2) for number in range(10_000)])
    catprune.clean(pair(source, target), out=tmp_path / "clean", duplicates="target")
    return tmp_path / "clean"


def test_compressed_files_hold_the_same_text_for_any_threads(tmp_path: Path, cleaned: Path) -> None:
    catprune.write(cleaned, [tmp_path / "p.en", tmp_path / "p.de"])
    catprune.write(cleaned, [tmp_path / "p.en.gz", tmp_path / "p.de.zst"], threads=1)
    catprune.write(cleaned, [tmp_path / "q.en.gz", tmp_path / "q.de.zst"], threads=4)
    assert gzip.decompress((tmp_path / "p.en.gz").read_bytes()) == (tmp_path / "p.en").read_bytes()
    with pyarrow.CompressedInputStream(str(tmp_path / "p.de.zst"), "zstd") as stream:
        assert stream.read() == (tmp_path / "p.de").read_bytes()
    for name in ("en.gz", "de.zst"):
        assert (tmp_path / f"p.{name}").read_bytes() == (tmp_path / f"q.{name}").read_bytes()
    # Written files can be cleaned again, with all frames and members.
    again = catprune.clean([tmp_path / "p.en.gz", tmp_path / "p.de.zst"], out=tmp_path / "again")
    assert again.rows == again.kept == 5000


def test_whole_records_survive_from_tsv_to_tsv(tmp_path: Path) -> None:
    table = tmp_path / "a.tsv"
    table.write_bytes(b"id1\tein Haus\ta house\t0.5\nid2\tnur\nid3\tein Hund\ta dog\t\n")
    catprune.clean([table], out=tmp_path / "clean", columns=(2, 3))
    catprune.write(tmp_path / "clean", [tmp_path / "b.tsv"])
    assert (tmp_path / "b.tsv").read_bytes() == b"id1\tein Haus\ta house\t0.5\nid3\tein Hund\ta dog\t\n"
    catprune.write(tmp_path / "clean", [tmp_path / "b.de", tmp_path / "b.en"])
    assert (tmp_path / "b.de").read_bytes() == b"ein Haus\nein Hund\n"


def test_a_finished_write_is_not_done_again_and_strange_files_are_safe(tmp_path: Path, cleaned: Path) -> None:
    paths = [tmp_path / "p.en", tmp_path / "p.de"]
    catprune.write(cleaned, paths)
    before = [path.stat().st_mtime_ns for path in paths]
    catprune.write(cleaned, paths)
    assert [path.stat().st_mtime_ns for path in paths] == before
    paths[1].unlink()
    paths[0].write_bytes(b"mine\n")
    with pytest.raises(CatpruneError, match=r"p\.en .*changed since it was written"):
        catprune.write(cleaned, paths)
    catprune.write(cleaned, paths, force=True)
    assert all(path.read_bytes().count(b"\n") == 5000 for path in paths)
    other = [tmp_path / "o.en", tmp_path / "o.de"]
    other[0].write_bytes(b"mine\n")
    with pytest.raises(CatpruneError, match=r"o\.en exists"):
        catprune.write(cleaned, other)
    assert other[0].read_bytes() == b"mine\n"


@pytest.mark.parametrize("state", ["drafts", "one renamed", "both renamed"])
def test_a_killed_write_continues(tmp_path: Path, cleaned: Path, state: str) -> None:
    """Leftovers of a kill, made by hand: a record without files, temporary files, and zero to two outputs."""
    paths = [tmp_path / "p.en", tmp_path / "p.de"]
    record = tmp_path / "p.en.catprune.json"
    catprune.write(cleaned, paths)
    whole = {path: path.read_bytes() for path in [*paths, record]}
    begun = json.loads(whole[record])
    record.write_bytes(seal({key: begun[key] for key in begun if key not in ("files", "counts")}))
    for number, path in enumerate(paths):
        if state == "drafts" or (state == "one renamed" and number):
            path.rename(path.with_name(path.name + ".tmp")).write_bytes(
                whole[path][: 1000 if state == "drafts" else None]
            )
    catprune.write(cleaned, paths)
    assert {path: path.read_bytes() for path in [*paths, record]} == whole
    assert not list(tmp_path.glob("*.tmp"))


def test_a_write_that_failed_before_its_files_owns_nothing(
    tmp_path: Path, cleaned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "p.en", tmp_path / "p.de"]

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", str(paths[1]))

    with monkeypatch.context() as patch:
        patch.setattr(_core, "write", fail)
        with pytest.raises(OSError, match=r"p\.de"):
            catprune.write(cleaned, paths)
    for path in paths:
        path.write_bytes(b"mine\n")
    with pytest.raises(CatpruneError, match=r"p\.en exists"):
        catprune.write(cleaned, paths)
    assert [path.read_bytes() for path in paths] == [b"mine\n"] * 2


def test_invalid_outputs_are_refused(tmp_path: Path, cleaned: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        catprune.write(cleaned, [".", tmp_path / "p.de"])
    with pytest.raises(UsageError, match="holds both sides"):
        catprune.write(cleaned, [tmp_path / "a.tsv", tmp_path / "b.tsv"])
    with pytest.raises(CatpruneError, match="nowhere is not the folder of a finished step"):
        catprune.write(cleaned, [tmp_path / "p.en", tmp_path / "p.de"], selection=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is an input"):
        catprune.write(cleaned, [tmp_path / "text.en", tmp_path / "p.de"])
    for inside in ("", "columns", "duplicates"):
        with pytest.raises(UsageError, match="would be in the folder of a step"):
            catprune.write(cleaned, [cleaned / inside / "p.parquet"])
    with pytest.raises(UsageError, match="two different output files"):
        catprune.write(cleaned, [tmp_path / "p", tmp_path / "p"])
    with pytest.raises(UsageError, match="two different output files"):
        catprune.write(cleaned, [tmp_path / "p"])
    with pytest.raises(CatpruneError, match="run `catprune clean`"):
        catprune.write(tmp_path / "nowhere", [tmp_path / "p.tsv"])


def test_a_text_that_changed_meanwhile_is_not_published(tmp_path: Path, cleaned: Path) -> None:
    text = (tmp_path / "text.en").read_bytes()
    (tmp_path / "text.en").write_bytes(text.replace(b"line 77\n", b"lime 77\n"))
    with pytest.raises(CatpruneError, match="changed since it was cleaned"):
        catprune.write(cleaned, [tmp_path / "p.en", tmp_path / "p.de"])
    # The pass itself compares digests, for a file that changes while it runs.
    manifest = catprune.clean([tmp_path / "text.en", tmp_path / "text.de"], out=tmp_path / "new").manifest
    files = [{**file, "path": str(tmp_path / "text.en"), "digest": "0" * 32} for file in manifest["inputs"][0]["files"]]
    request = {
        "corpus": {
            "inputs": [{"format": "moses", "source": str(tmp_path / "text.en"), "target": str(tmp_path / "text.de")}]
        },
        "files": files,
        "kept": "all",
        "expected": 10_000,
        "output": {"format": "tsv", "path": str(tmp_path / "p.tsv")},
        "threads": 2,
    }
    with pytest.raises(CatpruneError, match="changed since it was cleaned"):
        _core.write(request)
    assert not list(tmp_path.glob("p.*"))


def test_columns_of_another_corpus_are_noticed(tmp_path: Path, cleaned: Path) -> None:
    rows = np.array([3, 9_999_999], np.int64)
    shard = tmp_path / "part.parquet"
    _core.write_columns(str(shard), {"row": rows, "kept": np.ones(2, bool)}, metadata={})
    request = {
        "corpus": {
            "inputs": [{"format": "moses", "source": str(tmp_path / "text.en"), "target": str(tmp_path / "text.de")}]
        },
        "files": [
            {"path": str(path), "bytes": 0, "digest": _core.digest_file(str(path))}
            for path in (tmp_path / "text.en", tmp_path / "text.de")
        ],
        "kept": {
            "selection": {"selection": [str(shard)], "clean": [str(part) for part in cleaned.glob("columns/part-*")]}
        },
        "expected": 2,
        "output": {"format": "tsv", "path": str(tmp_path / "p.tsv")},
        "threads": 2,
    }
    with pytest.raises(CatpruneError, match="0 of 2 selected pairs are in the corpus and passed cleaning"):
        _core.write(request)
    assert not (tmp_path / "p.tsv").exists()
    assert cleaned.is_dir()


@pytest.mark.parametrize("suffix", ["", ".gz", ".ZST", ".zstd", ".XZ"])
def test_a_mark_at_the_start_of_a_text_survives(tmp_path: Path, suffix: str) -> None:
    """The first text of a file begins with U+FEFF, which readers take for a byte order mark."""
    records = [("\ufeffa small house", "\ufeffein kleines Haus"), ("\ufeffa dog", "ein Hund")]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"en": en, "de": de}) + "\n" for en, de in records))
    options: dict[str, Any] = {"source_lang": "en", "target_lang": "de", "rules": False}
    catprune.clean([path], out=tmp_path / "clean", **options)
    for outputs in (["o.en" + suffix, "o.de" + suffix], ["o.tsv" + suffix]):
        paths = [tmp_path / name for name in outputs]
        catprune.write(tmp_path / "clean", paths)
        catprune.clean(paths, out=tmp_path / "again", force=True, **options)
        batches = [*catprune.open_corpus(tmp_path / "again")]
        assert [(row["source"], row["target"]) for batch in batches for row in batch.to_pylist()] == records


def test_outputs_are_compressed_as_their_names_say_in_any_case(tmp_path: Path, cleaned: Path) -> None:
    magic = {".GZ": b"\x1f\x8b", ".zstd": b"\x28\xb5\x2f\xfd", ".XZ": b"\xfd7zXZ\0", ".Bz2": b"BZh"}
    for suffix, start in magic.items():
        for path in (tmp_path / f"o.en{suffix}", tmp_path / f"o.TSV{suffix}"):
            second = [tmp_path / f"o.de{suffix}"] if "en" in path.name else []
            catprune.write(cleaned, [path, *second])
            assert path.read_bytes().startswith(start)


def test_records_with_other_fields_that_are_not_utf8_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"en": "a house", "de": "ein Haus", "x": "\xe9"}\n{"en": "a dog", "de": "ein Hund", "x": "e"}\n')
    catprune.clean([path], out=tmp_path / "clean", source_lang="en", target_lang="de", rules=False)
    written = catprune.write(tmp_path / "clean", [tmp_path / "o.jsonl"])
    assert (written.pairs, written.unwritable, written.whole) == (1, 1, True)
    assert json.loads((tmp_path / "o.jsonl").read_bytes()) == {"en": "a dog", "de": "ein Hund", "x": "e"}


def test_lost_fields_are_said(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"en": "a house", "de": "ein Haus", "score": 1}\n')
    (tmp_path / "b.tsv").write_text("a dog\tein Hund\turl\n")
    (tmp_path / "c.tsv").write_text("a cat\teine Katze\n")

    def lost(names: list[str], output: list[str]) -> bool:
        clean = tmp_path / "clean"
        paths = [tmp_path / name for name in names]
        catprune.clean(paths, out=clean, source_lang="en", target_lang="de", rules=False, force=True)
        done = catprune.write(clean, [tmp_path / name for name in output], force=True)
        said = any("other fields, if there are any, are left out" in line for line in summary(done))
        assert said == done.loses_fields
        return said

    assert lost(["a.jsonl", "b.tsv"], ["o.jsonl"])
    assert lost(["a.jsonl"], ["o.tsv"])
    assert lost(["b.tsv", "c.tsv"], ["o.tsv"])  # other numbers of columns
    assert (tmp_path / "o.tsv").read_text() == "a dog\tein Hund\na cat\teine Katze\n"
    assert not lost(["a.jsonl"], ["o.jsonl"])
    assert not lost(["b.tsv"], ["o.tsv"])
    assert not lost(["b.tsv"], ["o.en", "o.de"])


@pytest.mark.parametrize("name", ["o.json", "o.JSON.gz", "o.csv", "o.xml", "o.tar", "o.LZ4", "o.Z"])
def test_outputs_of_other_formats_are_refused(tmp_path: Path, cleaned: Path, name: str) -> None:
    for outputs in ([name], [name, name.replace("o", "p")]):
        with pytest.raises(UsageError, match=r"is not read|is not supported|\.jsonl"):
            catprune.write(cleaned, [tmp_path / output for output in outputs])
