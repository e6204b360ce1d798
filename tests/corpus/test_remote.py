"""Inputs by URL and zip archives: copied whole, once, without credentials in any file or message."""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.server
import json
import socket
import struct
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import catprune
import pytest
from catprune import CatpruneError, UsageError
from catprune.corpus import remote
from catprune.corpus.remote import fetch, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The size of a file whose server ends the connection after the first range that it is asked for.
RESET_BYTES = 30_000_000
LINES = {language: "".join(f"line {row} in {language}\n" for row in range(300)) for language in ("en", "de")}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; some paths misbehave. `asked` counts the requests for content."""

    asked: list[str]

    def do_HEAD(self) -> None:
        if self.path == "/reset/a.en":
            self.send_response(200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(RESET_BYTES))
            self.end_headers()
        else:
            super().do_HEAD()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        name = self.path.partition("?")[0]
        if name == "/moved/a.en":
            self.send_response(302)
            self.send_header("Location", "/a.en")
            self.end_headers()
        elif name == "/out/a.en":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
        elif name == "/short/a.en":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"half of it\n")
            self.close_connection = True
        elif name == "/reset/a.en":
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            if first > 0:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{RESET_BYTES}")
            self.send_header("Content-Length", str(last + 1 - first))
            self.end_headers()
            self.wfile.write(b"x" * (last + 1 - first))
        elif name in ("/403/a.en", "/500/a.en"):
            self.send_error(int(name[1:4]))
        elif name == "/secret/a.en":
            self.send_error(403, "no", "token=SECRET")
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A server of the two sides, and the paths that it was asked for."""
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    served = tmp_path / "served"
    served.mkdir()
    for language, text in LINES.items():
        (served / f"a.{language}").write_text(text)
        (served / f"b.{language}.gz").write_bytes(gzip.compress(text.encode()))
    asked: list[str] = []
    handler = type("Own", (Handler,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=served)) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


def files(folder: Path) -> bytes:
    """The bytes of all files below a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_corpus_is_read_from_urls(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    """Copies are kept: the same command does not ask the server again, and gives what local files give."""
    address, asked = server
    urls = [f"{address}/b.en.gz?signature=SECRET", f"{address}/b.de.gz?signature=SECRET"]
    done = catprune.clean(urls, out=tmp_path / "run/clean", quiet=True)
    assert done.rows == 300
    before = len(asked)
    assert not catprune.clean(urls, out=tmp_path / "run/clean", quiet=True).is_new
    assert len(asked) == before
    local = catprune.clean(
        [tmp_path / "served/b.en.gz", tmp_path / "served/b.de.gz"], out=tmp_path / "local/clean", quiet=True
    )
    assert (done.kept, done.reasons) == (local.kept, local.reasons)
    copies = sorted(path.name for path in (tmp_path / "run/inputs").iterdir())
    assert sorted(name.partition("-")[2] for name in copies if name.endswith(".gz")) == ["b.de.gz", "b.en.gz"]
    about = json.loads(next((tmp_path / "run/inputs").glob("*b.en.gz.json")).read_text())
    assert about["url"] == f"{address}/b.en.gz" and about["bytes"] == (tmp_path / "served/b.en.gz").stat().st_size
    assert b"SECRET" not in files(tmp_path / "run")


def test_prune_and_open_corpus_read_urls(
    tmp_path: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prune` writes the copies into its run file; `open_corpus` and `stats` remove them afterwards."""
    address, _ = server
    urls = [f"{address}/a.en", f"{address}/a.de"]
    outputs = [tmp_path / "kept.en", tmp_path / "kept.de"]
    catprune.prune(urls, outputs, out=tmp_path / "run", method="random", source_lang="en", target_lang="de", quiet=True)
    assert outputs[0].read_text().startswith("line")
    assert "inputs/" in (tmp_path / "run/run.toml").read_text()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert catprune.stats(urls, quiet=True).total["all"]["rows"] == 300
    opened = catprune.open_corpus(urls)
    assert list(tmp_path.glob("catprune-*/*a.en")), "the disk of the working folder has room"
    assert sum(batch.num_rows for batch in opened) == 300
    del opened
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_file_names_urls(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    """The run keeps the copies; the second run does not ask for them."""
    address, asked = server
    file = tmp_path / "run.toml"
    file.write_text(
        f'out = "run"\nreport = ""\n[clean]\ninputs = ["{address}/a.en?sig=SECRET", "{address}/a.de?sig=SECRET"]\n'
        '[[select]]\nname = "half"\nmethod = "random"\n[write]\nselection = "half"\noutputs = ["k.en", "k.de"]\n'
    )
    with pytest.raises(UsageError, match="plan reads the sizes of local, unpacked files") as caught:
        catprune.run(file, plan=True)
    assert not asked and "SECRET" not in str(caught.value)
    assert catprune.run(file, quiet=True).is_new
    assert asked == ["/a.en?sig=SECRET", "/a.de?sig=SECRET"]
    assert not catprune.run(file, quiet=True).is_new
    assert asked == ["/a.en?sig=SECRET", "/a.de?sig=SECRET"]
    assert b"SECRET" not in files(tmp_path / "run")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing/a.en", "cannot be read"),
        ("403/a.en", "the server answered 403"),
        ("500/a.en", "the server answered 500"),
        ("served/", "no name of a file"),
        ("short/a.en", r"short/a\.en cannot be read"),
        ("reset/a.en", r"reset/a\.en cannot be read .*: check the URL"),
        ("out/a.en", "cannot be read"),
        ("secret/a.en?token=SECRET", "cannot be read"),
        ("", "no name of a file"),
        ("a.{en,de}", "wildcard"),
    ],
)
def test_what_cannot_be_copied_leaves_nothing(
    tmp_path: Path, server: tuple[str, list[str]], path: str, message: str
) -> None:
    """The message has the URL, never its query."""
    with pytest.raises(CatpruneError, match=message) as caught:
        fetch(f"{server[0]}/{path}", tmp_path / "inputs")
    assert "SECRET" not in str(caught.value)
    assert not (tmp_path / "inputs").exists()


def test_two_processes_copy_a_url_once(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    """The second waits, and finds the copy of the first."""
    address, asked = server
    with ThreadPoolExecutor(4) as pool:
        copies = set(pool.map(lambda _: fetch(f"{address}/a.en", tmp_path / "inputs"), range(4)))
    assert len(copies) == 1 and copies.pop().read_text() == LINES["en"]
    assert asked == ["/a.en"]


def test_rules_and_preferences_name_urls_and_archives(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    """Like the inputs, in a call and in a run file."""
    archive = write_archive(tmp_path / "b.zip", **{"b.en": LINES["en"], "b.de": LINES["de"]})
    urls = [f"{server[0]}/c.tsv", str(archive)]
    (tmp_path / "served/c.tsv").write_text(
        "line 1 in en\tline 1 in de\nthe longest of all the lines\tdie lange Zeile\n"
    )
    options: dict[str, Any] = {
        "source_lang": "en",
        "target_lang": "de",
        "input_rules": [{"input": urls[0], "max_words": 5}, {"input": urls[1], "max_words": 4}],
        "prefer": [urls[1]],
        "keep_identical": True,
    }
    options["rules"] = {"keep_identical": options.pop("keep_identical"), "max_common_word_share": 1}
    done = catprune.clean(urls, out=tmp_path / "clean", quiet=True, **options)
    assert (done.rows, done.reasons["too_many_words"], done.reasons["duplicate"]) == (302, 1, 1)
    assert done.manifest["inputs"][0]["kept"] == 0
    file = tmp_path / "run.toml"
    tables = "".join(
        f'[[clean.input_rules]]\ninput = "{url}"\nmax_words = {most}\n' for url, most in zip(urls, (5, 4), strict=True)
    )
    file.write_text(
        f'out = "run"\nreport = ""\n[clean]\ninputs = {json.dumps(urls)}\nsource_lang = "en"\ntarget_lang = "de"\n'
        f"prefer = {json.dumps(urls[1:])}\nrules = {{keep_identical = true, max_common_word_share = 1}}\n{tables}"
    )
    catprune.run(file, until="clean", quiet=True)
    again = json.loads((tmp_path / "run/clean/manifest.json").read_text())
    assert again["counts"] == done.manifest["counts"]


def test_what_needs_no_input_is_checked_before_a_url_is_copied(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    """Outputs that exist, for example."""
    address, asked = server
    urls = [f"{address}/a.en", f"{address}/a.de"]
    outputs = [tmp_path / "k.en", tmp_path / "k.de"]
    for path in outputs:
        path.write_text("mine\n")
    with pytest.raises(CatpruneError, match=r"k\.en"):
        catprune.prune(urls, outputs, out=tmp_path / "run", method="random", quiet=True)
    file = tmp_path / "run.toml"
    file.write_text(
        f'out = "run"\n[clean]\ninputs = {json.dumps(urls)}\n[[select]]\nname = "half"\nmethod = "random"\n'
        '[write]\nselection = "half"\noutputs = ["k.en", "k.de"]\n'
    )
    with pytest.raises(CatpruneError, match=r"k\.en"):
        catprune.run(file, quiet=True)
    assert not asked and not (tmp_path / "run").exists()


def test_redirects_are_followed(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    assert fetch(f"{server[0]}/moved/a.en", tmp_path / "inputs").read_text() == LINES["en"]


def test_a_copy_that_was_removed_is_made_again(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    """The file beside it is that of the new copy."""
    address, _ = server
    copy = fetch(f"{address}/a.en", tmp_path / "inputs")
    (tmp_path / "served/a.en").write_text("another text\n")
    copy.unlink()
    assert fetch(f"{address}/a.en".replace("http", "HTTP"), tmp_path / "other").read_text() == "another text\n"
    assert fetch(f"{address}/a.en", tmp_path / "inputs").read_text() == "another text\n"
    assert json.loads(copy.with_name(f"{copy.name}.json").read_text())["bytes"] == 13


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("https://user:PASSWORD@host/a.en", "user name or password"),
        ("ftp://host/a.en", "ftp:// is not supported"),
        ("zip://a.en::https://host/a.zip", "zip:// is not supported"),
        ("https://host/x::https://host/a.zip", "not supported"),
        ("opus://Tatoeba", "opus://CORPUS/VERSION/PAIR"),
    ],
)
def test_refused_urls(tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        fetch(address, tmp_path)
    assert "PASSWORD" not in str(caught.value)


def test_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local server stands for S3; the keys come from the environment."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    import boto3

    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        host, port = server.get_host_and_port()
        values = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "KEY"}
        values |= {"AWS_SECRET_ACCESS_KEY": "SECRET", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="bitext")
        for language, text in LINES.items():
            client.put_object(Bucket="bitext", Key=f"corpora/a.{language}", Body=text.encode())
        urls = [f"s3://bitext/corpora/a.{language}" for language in LINES]
        assert catprune.clean(urls, out=tmp_path / "run/clean", quiet=True).rows == 300
        assert b"SECRET" not in files(tmp_path / "run")


def write_archive(path: Path, **members: str) -> Path:
    """Write a zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_a_zip_archive_of_opus(tmp_path: Path) -> None:
    """The two files of the languages are taken; other files are left where they are."""
    members = {f"Corpus.de-en.{language}": text for language, text in LINES.items()}
    archive = write_archive(tmp_path / "de-en.txt.zip", README="text", LICENSE="text", **members)
    options: dict[str, Any] = {"source_lang": "en", "target_lang": "de", "quiet": True}
    done = catprune.clean(archive, out=tmp_path / "run/clean", **options)
    assert done.rows == 300
    assert not catprune.clean(archive, out=tmp_path / "run/clean", **options).is_new
    assert sorted(path.suffix for path in (tmp_path / "run/inputs").iterdir()) == [".de", ".en"]
    with pytest.raises(UsageError, match="give source_lang and target_lang, which name its two files, or unpack it"):
        catprune.clean(archive, out=tmp_path / "other/clean", quiet=True)


def test_archives_cannot_leave_the_folder(tmp_path: Path) -> None:
    """Members are unpacked under names of our own."""
    archive = write_archive(tmp_path / "a.zip", **{"../../evil.en": "x\n", "../../evil.de": "y\n"})
    template = unpack(archive, ("en", "de"), tmp_path / "inputs")
    assert Path(template).parent == tmp_path / "inputs"
    assert {path.parent for path in tmp_path.rglob("*evil*")} == {tmp_path / "inputs"}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.en": "x\n"}, "no files that end in .de"),
        ({"a.en": "x\n", "b.en": "x\n", "a.de": "y\n"}, "2 files that end in .en"),
        ({"a.en": "x\n", "b.de": "y\n"}, "not a pair"),
        ({}, r"no files that end in \.en: check"),
    ],
)
def test_archives_that_hold_no_pair(tmp_path: Path, members: dict[str, str], message: str) -> None:
    archive = write_archive(tmp_path / "a.zip", **members)
    with pytest.raises(CatpruneError, match=message):
        unpack(archive, ("en", "de"), tmp_path / "inputs")


def test_an_archive_with_other_text_of_the_same_size(tmp_path: Path) -> None:
    """It is not taken for the one before."""
    options: dict[str, Any] = {"source_lang": "en", "target_lang": "de", "quiet": True, "rules": False}
    for text in ("old", "new"):
        write_archive(tmp_path / "a.zip", **{"a.en": f"{text} cat\n", "a.de": f"{text} Tier\n"})
        catprune.clean(tmp_path / "a.zip", out=tmp_path / f"{text}/clean", **options)
        template = unpack(tmp_path / "a.zip", ("en", "de"), tmp_path / "inputs")
        assert Path(template.replace("{en,de}", "en")).read_text() == f"{text} cat\n"
    catprune.clean(tmp_path / "a.zip", out=tmp_path / "old/clean", force=True, **options)
    corpus = catprune.open_corpus(tmp_path / "old/clean")
    assert [text for batch in corpus for text in batch["source"].to_pylist()] == ["new cat"]


def test_a_run_file_names_an_archive(tmp_path: Path) -> None:
    members = {f"Corpus.{language}": text for language, text in LINES.items()}
    write_archive(tmp_path / "a.zip", **members, **{"__MACOSX/._Corpus.en": "x", "__MACOSX/._Corpus.de": "x"})
    (tmp_path / "run.toml").write_text(
        'out = "run"\nreport = ""\n[clean]\ninputs = ["a.zip"]\nsource_lang = "en"\ntarget_lang = "de"\n'
    )
    assert catprune.run(tmp_path / "run.toml", quiet=True).is_new
    assert not catprune.run(tmp_path / "run.toml", quiet=True).is_new


def test_damaged_archives(tmp_path: Path) -> None:
    """A flipped byte, a cut and another format are errors, and nothing has a final name."""
    archive = write_archive(tmp_path / "a.zip", **{f"a.{language}": text for language, text in LINES.items()})
    data = archive.read_bytes()
    flipped = [data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :] for place in range(34, 400, 7)]
    central = data.index(b"PK\x01\x02") + 8  # the flags of the first member
    encrypted = data[:central] + b"\x01" + data[central + 1 :]
    for damaged in (*flipped, encrypted, data[: len(data) // 2], b"not a zip"):
        archive.write_bytes(damaged)
        with pytest.raises(CatpruneError, match=r"a\.zip"):
            unpack(archive, ("en", "de"), tmp_path / "inputs")
        assert not list(tmp_path.glob("inputs/*.de")) or not list(tmp_path.glob("inputs/*.en"))


def test_the_disk_is_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive(tmp_path / "a.zip", **{f"a.{language}": text for language, text in LINES.items()})
    monkeypatch.setattr(remote, "_FREE", 1 << 60)
    with pytest.raises(CatpruneError, match="no room"):
        unpack(archive, ("en", "de"), tmp_path / "inputs")
