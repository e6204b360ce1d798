"""What a file is, by its name and its first bytes: no file is taken for lines of text that is something else, and
unusual text is described."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import catprune
import pyarrow
import pytest
from catprune import CatpruneError, UsageError
from catprune.cleaning.summary import summary
from catprune.corpus.names import format_of
from support.cleaned import reasons

TEXT = "".join(f"a small house number {row}\tein kleines Haus Nummer {row}\n" for row in range(9))
LINES = [line.split("\t") for line in TEXT.splitlines()]


def pair_of(folder: Path, names: tuple[str, str], data: bytes) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.write_bytes(data)
    return paths


def clean(inputs: Any, out: Path, **options: Any) -> catprune.Cleaned:
    return catprune.clean(inputs, out=out / "clean", force=True, duplicates="none", rules=False, **options)


@pytest.mark.parametrize(
    "name",
    ["csv", "CSV", "csv.gz", "sgm", "SGML", "xml", "html", "xlsx", "arrow", "npy", "tsv.bak", "TMX.old", "parquet.gz"],
)
def test_two_files_of_another_format_are_no_pair(tmp_path: Path, name: str) -> None:
    paths = pair_of(tmp_path, (f"a.{name}", f"b.{name}"), b"a house\n")
    with pytest.raises(UsageError, match=r"is not read|is a copy of|holds both sides|decompress"):
        clean(paths, tmp_path)
    with pytest.raises(UsageError, match=r"is not read|is a copy of|decompress"):
        clean(paths[:1], tmp_path, monolingual=True)
    if not name.endswith("gz"):
        assert clean(paths, tmp_path, format="moses").rows == 1
        assert clean(paths[:1], tmp_path, format="moses", monolingual=True).rows == 1


def test_the_suffix_of_a_format_counts_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "A.TSV").write_text(TEXT)
    (tmp_path / "B.TSV.GZ").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "c.Tsv.zstd").write_bytes(pyarrow.compress(TEXT.encode(), codec="zstd", asbytes=True))
    assert clean([tmp_path / name for name in ("A.TSV", "B.TSV.GZ", "c.Tsv.zstd")], tmp_path).kept == 27
    assert [format_of(name) for name in ("a.JSONL", "a.json", "a.Parquet", "a.TMX.XZ", "a.parquet.gz", "a.en")] == [
        "jsonl", "jsonl", "parquet", "tmx", None, None,
    ]  # fmt: skip


def test_json_is_lines_of_json(tmp_path: Path) -> None:
    records = "".join(json.dumps({"en": en, "de": de}) + "\n" for en, de in LINES)
    paths = pair_of(tmp_path, ("train-0.json", "train-1.json"), records.encode())
    assert clean(paths, tmp_path, source_lang="en", target_lang="de").kept == 18


TMX = b'<?xml version="1.0"?>\n<tmx version="1.4"><header/><body></body></tmx>\n'
SGM = b'<srcset setid="x" srclang="any">\n<doc docid="a">\n<seg id="1">A house.</seg>\n</doc>\n</srcset>\n'
OTHER = {
    "TMX": TMX,
    "SGML": SGM,
    "WMT": b'<?xml version="1.0"?>\n<dataset id="x"><doc><src><p><seg id="1">A</seg></p></src></doc></dataset>',
    "XML": b"<?xml version='1.0'?>\n<corpus/>",
    "HTML": b"<!DOCTYPE html>\n<html></html>",
    "JSON": b'{"en": "a house", "de": "ein Haus"}\n',
    "document": b'[\n  {\n    "en": "a"\n  }\n]\n',
}


@pytest.mark.parametrize("data", OTHER.values(), ids=OTHER)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda data: b"\xef\xbb\xbf" + data], ids=["", "gz", "mark"])
def test_text_that_begins_like_another_format_is_refused(tmp_path: Path, data: bytes, pack: Any) -> None:
    paths = pair_of(tmp_path, ("a.en", "a.de"), pack(data))
    for inputs, options in ((paths, {}), (paths[:1], {"monolingual": True}), (paths[:1], {"format": "tsv"})):
        with pytest.raises(CatpruneError, match=r"a\.en is (a test set in SGML|TMX|XML|HTML|JSON|one JSON document)"):
            clean(inputs, tmp_path, **options)
    assert clean(paths, tmp_path, format="moses").rows == data.count(b"\n") + (not data.endswith(b"\n"))
    json_lines = {"format": "jsonl", "fields": ("en", "de")}
    if data == OTHER["JSON"]:
        assert clean(paths[:1], tmp_path, **json_lines).kept == 1
    else:
        with pytest.raises(CatpruneError, match="not lines of JSON"):
            clean(paths[:1], tmp_path, **json_lines)


def test_lines_that_begin_with_a_tag_or_a_brace_are_text(tmp_path: Path) -> None:
    paths = pair_of(tmp_path, ("a.en", "a.de"), b"<b>A house</b>\n{0} of {1} houses\n[1] A house\n")
    assert clean(paths, tmp_path).kept == 3
    paths = pair_of(tmp_path, ("b.en", "b.de"), b"{name}: a house\n")
    assert clean(paths, tmp_path).kept == 1


def zip_of(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.en", data)
    return file.getvalue()


def tar_of(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("a.en")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


FOREIGN: dict[str, tuple[bytes, str]] = {
    "zip": (zip_of(b"a house\n"), "a zip archive(: give source_lang|, which is not read: unpack)"),
    "tar": (tar_of(b"a house\n"), "a tar archive, which is not read: unpack"),
    "tar.gz": (gzip.compress(tar_of(b"a house\n")), "a tar archive, which is not read: unpack"),
    "zip.zst": (pyarrow.compress(zip_of(b"a"), codec="zstd", asbytes=True), "a zip archive, which is not read: unpack"),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7z archive, which is not read: unpack"),
    "lz4": (b"\x04\x22\x4d\x18\x64\x40\xa7", "LZ4, which is not read: decompress"),
    "Z": (b"\x1f\x9d\x90a", r"compress \(.Z\), which is not read: decompress"),
    "lz": (b"LZIP\x01\x0c\x00$", r"lzip \(.lz\), which is not read: decompress"),
    "lzma": (lzma.compress(b"a house\n", format=lzma.FORMAT_ALONE), r"LZMA \(.lzma\), which is not read: decompress"),
    "gz": (gzip.compress(gzip.compress(b"a house\n")), "gzip inside another compression: decompress the file once"),
    "xz": (lzma.compress(bz2.compress(b"a house\n")), "bzip2 inside another compression: decompress the file once"),
    "bz2": (bz2.compress(lzma.compress(b"a house\n")), "xz inside another compression: decompress the file once"),
    "pq": (b"PAR1\x15\x04", "Parquet, not text: give format = parquet"),
}


@pytest.mark.parametrize("suffix", FOREIGN)
@pytest.mark.parametrize("format", [None, "moses", "tsv"])
def test_archives_and_other_compressions_are_named(tmp_path: Path, suffix: str, format: str | None) -> None:
    data, message = FOREIGN[suffix]
    named = pair_of(tmp_path, (f"a.{suffix}", f"b.{suffix}"), data)
    others = pair_of(tmp_path, ("a.en", "a.de"), data)
    for paths in (named, others):
        with pytest.raises(CatpruneError, match=f" is {message}"):
            clean(paths if format != "tsv" else paths[:1], tmp_path, format=format)
        with pytest.raises(CatpruneError, match=f" is {message}"):
            clean(paths[:1], tmp_path)
    (tmp_path / "good.tsv").write_text(TEXT)
    with pytest.raises(CatpruneError, match=f" is {message}"):
        clean([tmp_path / "good.tsv"], tmp_path, tags=others[0])
    with pytest.raises(CatpruneError, match=f" is {message}"):
        clean([tmp_path / "good.tsv"], tmp_path, exclude=[others[0]])


@pytest.mark.parametrize("suffix", ["GZ", "zstd", "lz4", "Z", "lzma", "zip"])
def test_a_name_that_promises_a_compression_is_not_text(tmp_path: Path, suffix: str) -> None:
    paths = pair_of(tmp_path, (f"a.{suffix}", f"b.{suffix}"), b"a house\n")
    with pytest.raises(CatpruneError, match="its first bytes are not those of"):
        clean(paths, tmp_path)


def gzip_with(flags: int, fields: bytes, text: bytes) -> bytes:
    """A gzip member with fields in its header."""
    member = gzip.compress(text, mtime=0)
    return member[:3] + bytes([flags]) + member[4:10] + fields + member[10:]


def test_headers_and_padding_of_gzip_are_read_as_gzip_does(tmp_path: Path) -> None:
    text = TEXT.encode()
    extra = (60_000).to_bytes(2, "little") + b"x" * 60_000
    for data in (
        gzip_with(8, b"n" * 100_000 + b"\0", text),
        gzip_with(16, b"c" * 300_000 + b"\0", text),
        gzip_with(4 + 8 + 16, extra + b"name\0comment\0", text),
        gzip.compress(text) + b"\0" * 5000,
        gzip.compress(text[:100]) + b"\0" * 7 + gzip.compress(text[100:]) + b"\0",
        gzip.compress(b"") + gzip.compress(text),
    ):
        path = tmp_path / "a.tsv.gz"
        path.write_bytes(data)
        assert gzip.decompress(data) == text
        assert clean([path], tmp_path).kept == 9


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, pyarrow.compress], ids="gbxz")
def test_bytes_after_compressed_text_are_named(tmp_path: Path, pack: Any) -> None:
    packed = pack(TEXT.encode(), codec="zstd", asbytes=True) if pack is pyarrow.compress else pack(TEXT.encode())
    path = tmp_path / "a.tsv"
    path.write_bytes(packed + b"garbage after the end of the text")
    with pytest.raises(CatpruneError, match=r"\(trailing garbage\) follow its end after line 9: remove them"):
        clean([path], tmp_path)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["zstd", "-q", "-c", "-D", "dictionary"], r"with a dictionary: decompress .*zstd -d -D"),
        (["zstd", "-q", "-c", "--check"], r"truncated or damaged after line \d+ .*: fetch the file again"),
    ],
)
def test_only_damaged_files_are_to_be_fetched_again(tmp_path: Path, command: list[str], message: str) -> None:
    (tmp_path / "samples").write_text("".join(f"house {row * 7919 % 1013} and garden {row}\n" for row in range(9999)))
    train = ["zstd", "-q", "--train", "-B500", "samples", "-o", "dictionary"]
    subprocess.run(train, check=True, capture_output=True, cwd=tmp_path)
    packed = subprocess.run(command, input=TEXT.encode(), capture_output=True, check=True, cwd=tmp_path).stdout
    path = tmp_path / "a.tsv.zst"
    path.write_bytes(packed[:-3] if "--check" in command else packed)
    with pytest.raises(CatpruneError, match=message):
        clean([path], tmp_path)


def test_tsv_lines_have_as_many_columns_as_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b"a b\tc d\na\tb\tc d\n\na b\nx y\tz\n")
    done = clean([path], tmp_path)
    assert reasons(tmp_path / "clean") == [set(), {"columns"}, {"columns"}, {"columns"}, set()]
    assert any(line.startswith("columns: the first line") for line in summary(done))
    assert "a\tb\tc d" in [example["source"] for example in done.manifest["examples"]["columns"]]
    figures = catprune.stats([path]).total["all"]
    assert (figures["rows"], figures["columns"], figures["malformed_record"]) == (5, 3, 0)
    # The first line is over the limit: the next one decides.
    path.write_bytes(b"a b\tc d\te f\n" + b"a\tb\n" * 5000 + b"a\n")
    done = clean([path], tmp_path, max_line_bytes=8)
    assert {name: count for name, count in done.reasons.items() if count} == {"line_too_long": 1, "columns": 1}


def test_a_header_is_no_record_and_is_written_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.tsv").write_text("source\ttarget\tid\n" + TEXT.replace("\n", f"\t{name}\n"))
    paths = [tmp_path / "a.tsv", tmp_path / "b.tsv"]
    noted = clean(paths, tmp_path)
    assert (noted.rows, sum("looks like a header: give header = true" in note for note in noted.manifest["notes"])) == (
        20,
        2,
    )
    done = clean(paths, tmp_path, header=True)
    assert (done.rows, done.kept, done.manifest["notes"]) == (18, 18, [])
    written = catprune.write(tmp_path / "clean", [tmp_path / "o.tsv"], with_=("row",))
    assert written.whole
    lines = (tmp_path / "o.tsv").read_text().splitlines()
    assert lines[:2] == ["source\ttarget\tid\trow", "\t".join([*LINES[0], "a", "0"])]
    assert len(lines) == 19
    assert catprune.stats(paths, header=True).total["all"]["rows"] == 18
    assert sum(batch.num_rows for batch in catprune.open_corpus(paths, header=True)) == 18
    # Other headers: only the text is written, and the summary says so.
    (tmp_path / "b.tsv").write_text("en\tde\tid\n" + TEXT.replace("\n", "\tb\n"))
    clean(paths, tmp_path, header=True)
    written = catprune.write(tmp_path / "clean", [tmp_path / "o.tsv"], force=True)
    assert (written.whole, written.loses_fields) == (False, True)
    assert (tmp_path / "o.tsv").read_text() == TEXT * 2


def test_a_first_column_of_numbers_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"{1 + row / 100:.4f}\t{line}" for row, line in enumerate(TEXT.splitlines(keepends=True))))
    notes = clean([path], tmp_path).manifest["notes"]
    assert notes == [f"{path}: column 1 holds numbers: if the text is in other columns, give columns = 2,3"]
    assert clean([path], tmp_path, columns=(2, 3)).manifest["notes"] == []


def test_another_encoding_is_noted(tmp_path: Path) -> None:
    paths = pair_of(tmp_path, ("a.en", "a.de"), "a house\nein schöner Müller\n".encode("latin-1"))
    notes = clean(paths, tmp_path).manifest["notes"]
    assert [note.partition(":")[2] for note in notes] == [
        " 1 of the first 2 lines are not UTF-8: the file looks like Latin-1 or another encoding; convert it "
        "(iconv -f LATIN1 -t UTF-8)"
    ] * 2


@pytest.mark.parametrize("kind", ["tsv", "tsv.gz", "jsonl", "text", "pair", "header"])
def test_empty_files_among_those_of_a_wildcard_are_left_out(tmp_path: Path, kind: str) -> None:
    rows = [{"en": en, "de": de, "text": en} for en, de in LINES]
    contents = {
        "tsv": TEXT.encode(),
        "tsv.gz": gzip.compress(TEXT.encode()),
        "header": b"source\ttarget\n" + TEXT.encode(),
        "jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "text": TEXT.encode(),
        "pair": TEXT.encode(),
    }
    empty = {"tsv.gz": gzip.compress(b""), "header": b"source\ttarget\n"}
    suffix = {"text": "txt", "header": "tsv"}.get(kind, kind)
    names = ["part-0", "part-1", "part-2"]
    options: dict[str, Any] = {"monolingual": True} if kind == "text" else {}
    options |= {"fields": ("en", "de")} if kind == "jsonl" else {"header": True} if kind == "header" else {}
    for name in names:
        for ending in ("en", "de") if kind == "pair" else (suffix,):
            path = tmp_path / f"{name}.{ending}"
            path.write_bytes(empty.get(kind, b"") if name == "part-1" else contents[kind])
    pattern = str(tmp_path / ("part-*.{en,de}" if kind == "pair" else f"part-*.{suffix}"))
    done = clean([pattern], tmp_path, **options)
    assert (done.rows, done.kept, len(done.manifest["inputs"])) == (18, 18, 2)
    assert [note for note in done.manifest["notes"] if "is empty: left out" in note] == [
        f"{tmp_path / f'part-1.{ending}'} is empty: left out"
        for ending in (("en", "de") if kind == "pair" else (suffix,))
    ]
    for path in tmp_path.glob("part-[02].*"):
        shutil.copy(path.with_name(path.name.replace("-0", "-1").replace("-2", "-1")), path)
    with pytest.raises(CatpruneError, match="is empty"):
        clean([pattern], tmp_path, **options)


def test_line_breaks_in_text_do_not_cost_the_pair(tmp_path: Path) -> None:
    texts = ["one line\nand a second", "one line\r\nand a second", "a tab\tinside", "a lone\rreturn", "a bell\x07"]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"en": text, "de": f"{text} auf Deutsch"}) + "\n" for text in texts))
    catprune.clean([path], out=tmp_path / "clean", source_lang="en", target_lang="de", duplicates="none")
    found = ["control_characters" in names for names in reasons(tmp_path / "clean")]
    assert found == [False, False, False, True, True]
    written = catprune.write(tmp_path / "clean", [tmp_path / "o.en", tmp_path / "o.de"])
    assert written.pairs + written.unwritable == catprune.write(tmp_path / "clean", [tmp_path / "o.jsonl"]).pairs
    assert written.unwritable == 2
