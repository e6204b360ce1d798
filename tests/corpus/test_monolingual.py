"""Monolingual corpora: every step on texts without a source; results equal the oracles', no line is lost."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import catprune
import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from catprune import CatpruneError, UsageError, _core
from catprune.cleaning.minhash_options import choose_near
from catprune.cleaning.options import Filters, NearDuplicates
from catprune.cleaning.rule_options import PAIR_RULES
from catprune.cleaning.stats import summary as figures
from catprune.cleaning.summary import summary
from catprune.cli import app
from catprune.workspace.options import defaults_of
from hypothesis import assume, example, given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from support import oracles, oracles_formats, oracles_near, oracles_stats
from support.cleaned import BYTES, FORMS, SHARE, TEXT, duplicates_of, read, reasons, stripped
from support.fields import SIDE, VALUE
from support.folders import files
from support.near import LOOSE, SENTENCE, near_of
from tokenizers import Tokenizer
from typer.testing import CliRunner

OWN_RULES = [name for name in defaults_of(Filters) if name not in PAIR_RULES]
SHARED = [name for name in OWN_RULES if "share" in name]
WORDS = ["haus", "hund", "der", "die", "läuft", "größer", "…", "naïve", "大きい", "дом", "maus", "katze", "baum"]


def lines_of(texts: list[bytes]) -> bytes:
    return b"".join(text + b"\n" for text in texts)


def corpus(count: int, *, seed: int = 1) -> bytes:
    """Texts of made-up words; more texts have more repetitions."""
    picked = np.random.default_rng(seed).integers(0, len(WORDS), (count, 5))
    return "".join(" ".join(WORDS[word] for word in words) + "\n" for words in picked).encode()


def fresh(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    return path


@given(
    texts=st.lists(BYTES, min_size=1, max_size=30),
    key=st.sampled_from(["pair", "target", "none"]),
    form=st.sampled_from(FORMS),
    filtered=st.booleans(),
    cut=st.integers(0, 30),
)
@example(texts=[b"Ein Haus.", b"ein  HAUS", b"", b"\xff", b"..."], key="pair", form="normalised", filtered=True, cut=1)
def test_reasons_equal_the_oracles(
    tmp_path: Path, texts: list[bytes], key: str, form: str, filtered: bool, cut: int
) -> None:
    parts = [part for part in (texts[:cut], texts[cut:]) if part]
    paths = [tmp_path / f"part{number}.de" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(lines_of(part))
    options: dict[str, Any] = {
        "duplicates": key,
        "duplicates_form": form,
        "rules": None if filtered else False,
        "monolingual": True,
    }
    done = catprune.clean(paths, out=fresh(tmp_path / "clean"), threads=2, **options)
    bare: list[tuple[None, bytes]] = [(None, stripped(text)) for text in texts]
    expected = oracles.clean(bare, key="target" if key == "pair" else key, form=form, rules=filtered)
    assert reasons(tmp_path / "clean") == expected.reasons
    assert (done.rows, done.kept) == (len(texts), sum(not names for names in expected.reasons))
    counted = Counter(name for names in expected.reasons for name in names)
    assert {name: count for name, count in done.reasons.items() if count} == counted
    assert duplicates_of(tmp_path / "clean") == expected.duplicate_of
    columns = read(tmp_path / "clean")
    assert not any(name.startswith("source") for name in columns)
    assert ("target_words" in columns) is filtered


@given(
    texts=st.lists(TEXT, min_size=5, max_size=30),
    shares=st.fixed_dictionaries(dict.fromkeys(SHARED, SHARE)),
    language=st.sampled_from([("en", ["Latn"]), ("ru", ["Cyrl"]), ("qqq", []), ("th", ["Thai"])]),
)
def test_the_rules_are_the_oracles(
    tmp_path: Path, texts: list[str], shares: dict[str, float], language: tuple[str, list[str]]
) -> None:
    code, scripts = language
    (tmp_path / "text").write_bytes(lines_of([text.encode() for text in texts]))
    options: dict[str, Any] = {"target_lang": code, "rules": shares, "duplicates": "none", "monolingual": True}
    done = catprune.clean([tmp_path / "text"], out=fresh(tmp_path / "clean"), **options)
    expected = [oracles.reasons(None, text.encode(), scripts=([], scripts), **shares) for text in texts]
    assert reasons(tmp_path / "clean") == expected
    columns = read(tmp_path / "clean")
    measured = [columns[f"target_{name}"] for name in ("characters", "words", "letters", "visible")]
    measured += [columns[f"target_{name}"] for name in ("words_with_letter", "longest_word")]
    assert list(zip(*measured, strict=True)) == [oracles.measures(text) for text in texts]
    assert columns["target_script_letters"] == [oracles.script_letters(text, scripts) for text in texts]
    assert columns["target_markup"] == [oracles.markup(text) for text in texts]
    assert columns["target_numbers"] == [oracles.numbers(text).total() for text in texts]
    assert "target_unmatched_numbers" not in columns
    assert {*done.manifest["options"]["rules"]} == {*OWN_RULES}
    assert not {"word_ratio", "identical_sides", "missing_side", "near_copy"} & {*done.reasons}


def check_records(folder: Path, path: Path, expected: list[bytes | str], **options: Any) -> None:
    """Compare the records of a file with the expected texts or reasons."""
    pairs: list[Any] = [record if isinstance(record, str) else (None, record) for record in expected]
    for threads in (1, 3):
        out = fresh(folder / "clean")
        catprune.clean([path], out=out, duplicates="none", monolingual=True, threads=threads, **options)
        assert reasons(out) == oracles_formats.clean(pairs)
    texts = [
        text for batch in catprune.open_corpus(out, rows="all", text="bytes") for text in batch["target"].to_pylist()
    ]
    assert texts == [None if isinstance(record, str) else record for record in expected]


@given(
    lines=st.lists(
        st.one_of(
            st.builds(lambda text, more: json.dumps({"a": {"text": text, "b": more}, "id": 1}), VALUE, VALUE),
            st.builds(lambda text: json.dumps({"text": text}), VALUE),
            st.sampled_from(['{"a":{"text":"x"},"a":{}}', "[]", '{"a":{"text":"\\ud800"}}', '{"a": {"text": "ß"}}x']),
        ).map(str.encode)
        | st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"")),
        min_size=1,
        max_size=12,
    ),
)
def test_json_records_are_the_oracles(tmp_path: Path, lines: list[bytes]) -> None:
    lines = [b"{}", *lines]  # a file that begins like XML is refused
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines_of(lines))
    expected = [
        record if isinstance(record, str) else record[0]
        for record in oracles_formats.jsonl(path.read_bytes(), ("a.text",) * 2)
    ]
    check_records(tmp_path, path, expected, fields="a.text")


@given(rows=st.lists(st.one_of(SIDE, st.none()), min_size=1, max_size=12), nested=st.booleans())
def test_parquet_records_are_the_oracles(tmp_path: Path, rows: list[str | None], nested: bool) -> None:
    values = [None if row is None else {"x": row} if nested else row for row in rows]
    kind = pyarrow.struct({"x": pyarrow.string()}) if nested else pyarrow.string()
    column = pyarrow.array(values, kind)
    parquet.write_table(pyarrow.table({"id": pyarrow.array(range(len(rows))), "text": column}), tmp_path / "a.parquet")
    expected = ["malformed_record" if row is None else row.encode() for row in rows]
    check_records(tmp_path, tmp_path / "a.parquet", expected, **({"fields": "text.x"} if nested else {}))


@given(rows=st.lists(st.lists(BYTES.map(lambda text: text.replace(b"\t", b"")), max_size=3), min_size=1, max_size=12))
def test_columns_of_tables_are_the_oracles(tmp_path: Path, rows: list[list[bytes]]) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(lines_of([b"\t".join(row) for row in rows]))
    cells = [line.split(b"\t") for line in oracles.lines(path.read_bytes())]
    expected = [
        "columns" if len(row) != len(cells[0]) else row[1] if len(row) > 1 else "malformed_record" for row in cells
    ]
    check_records(tmp_path, path, expected, columns=2)


@pytest.mark.parametrize("pack", [("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress)])
def test_compressed_text_and_wildcards(tmp_path: Path, pack: tuple[str, Any]) -> None:
    suffix, compress = pack
    for number in range(3):
        (tmp_path / f"part-{number}.de.{suffix}").write_bytes(compress(b"ein haus %d\nein hund %d" % (number, number)))
    done = catprune.clean([tmp_path / f"part-?.de.{suffix}"], out=tmp_path / "clean", monolingual=True)
    assert (done.rows, done.kept, len(done.manifest["inputs"])) == (6, 6, 3)
    catprune.write(tmp_path / "clean", [tmp_path / f"out.de.{suffix}"])
    again = catprune.open_corpus([tmp_path / f"out.de.{suffix}"], monolingual=True)
    texts = [text for batch in again for text in batch["target"].to_pylist()]
    assert texts == [f"ein {noun} {number}" for number in range(3) for noun in ("haus", "hund")]


@pytest.mark.usefixtures("any_memory")
def test_same_bytes_for_any_threads_and_memory(tmp_path: Path) -> None:
    (tmp_path / "a.de").write_bytes(corpus(12_000))
    (tmp_path / "b.de").write_bytes(corpus(9000, seed=2))
    inputs = [tmp_path / "a.de", tmp_path / "b.de"]
    options: dict[str, Any] = {"monolingual": True, "near_duplicates": "pair", "prefer": [str(inputs[1])]}
    runs: list[dict[str, bytes]] = []
    for number, (threads, memory) in enumerate([(1, "1G"), (4, "1G"), (3, 48_200_000)]):
        out = tmp_path / f"clean{number}"
        catprune.clean(inputs, out=out, threads=threads, memory=memory, **options)
        catprune.tokenize(out, out=tmp_path / f"tokens{number}", vocab_size=320, threads=threads)
        catprune.write(out, [tmp_path / f"w{number}" / "p.jsonl"], dropped=[tmp_path / f"w{number}" / "d.de"])
        runs.append({**files(out)})
        for name in ("p.jsonl", "d.de"):
            runs[-1][name] = (tmp_path / f"w{number}" / name).read_bytes()
        tokens = files(tmp_path / f"tokens{number}")
        runs[-1] |= {
            f"tokens/{name}": data for name, data in tokens.items() if not name.endswith((".json", ".safetensors"))
        }
        blocks = sorted((tmp_path / f"tokens{number}").glob("part-*"))
        runs[-1]["ids"] = b"".join(load_file(block)["target_ids"].tobytes() for block in blocks)
    assert runs[0] == runs[1] == runs[2]
    manifest = json.loads(runs[0]["manifest.json"])
    assert manifest["counts"]["reasons"]["near_duplicate"] > 0 < manifest["counts"]["reasons"]["duplicate"]
    lines = runs[0]["p.jsonl"].count(b"\n") + runs[0]["d.de"].count(b"\n")
    assert lines == manifest["counts"]["rows"] == 21_000, "every line is on one side"


@given(
    texts=st.lists(SENTENCE, min_size=1, max_size=30),
    near=st.sampled_from([{"threshold": 0.5, "permutations": 64}, {"threshold": 0.7, "shingles": "words"}]),
)
@pytest.mark.usefixtures("any_memory")
def test_near_duplicates_are_the_oracles(tmp_path: Path, texts: list[str], near: dict[str, Any]) -> None:
    (tmp_path / "text").write_bytes(lines_of([text.encode() for text in texts]))
    rules = {name: value for name, value in LOOSE.items() if name not in PAIR_RULES}
    options: dict[str, Any] = {"near_duplicates": "pair", "near": near, "rules": rules, "monolingual": True}
    catprune.clean([tmp_path / "text"], out=fresh(tmp_path / "clean"), **options)
    clusters, chosen = reasons(tmp_path / "clean"), choose_near("target", NearDuplicates(**near))
    assert chosen is not None
    bare = [stripped(text.encode()).decode() for text in texts]
    left = {row: ("", bare[row]) for row, names in enumerate(clusters) if names <= {"near_duplicate"}}
    assert near_of(tmp_path / "clean") == oracles_near.clusters(left, chosen)


def test_texts_are_compared_with_the_targets_of_other_corpora(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"a house\na dog\n", b"ein Haus\nein Hund\n")
    catprune.clean(paths, out=tmp_path / "bitext", duplicates="target")
    (tmp_path / "mono").write_bytes(b"Ein Haus!\neine Katze\nein Test, der wiederkehrt\n")
    (tmp_path / "test").write_bytes(b"Ein Test der wiederkehrt.\n")
    options: dict[str, Any] = {"monolingual": True, "against": [tmp_path / "bitext"], "exclude": [tmp_path / "test"]}
    done = catprune.clean([tmp_path / "mono"], out=tmp_path / "clean", tags=None, **options)
    assert reasons(tmp_path / "clean") == [{"duplicate_elsewhere"}, set(), {"excluded"}]
    text = "\n".join(summary(done, examples=3))
    assert "3 texts read, 1 (33.3%) kept" in text and "1 texts are in" in text and "|||" not in text


def test_another_language_is_reported(tmp_path: Path) -> None:
    german = "Der Ausschuss hat gestern über den neuen Haushalt beraten und ihn danach angenommen"
    english = "The committee discussed the new budget yesterday and adopted it after a long debate"
    (tmp_path / "text").write_text(f"{german}\n{english}\nkurz\n")
    done = catprune.clean(
        [tmp_path / "text"], out=tmp_path / "clean", monolingual=True, target_lang="de", identify_language=True
    )
    assert reasons(tmp_path / "clean") == [set(), {"wrong_language"}, set()]
    assert done.manifest["notes"] == []


@given(texts=st.lists(BYTES, min_size=1, max_size=20), filtered=st.booleans())
def test_exactly_the_kept_texts_are_written(tmp_path: Path, texts: list[bytes], filtered: bool) -> None:
    # A byte order mark at the start of a file is not text.
    assume(not any(text.startswith(b"\xef\xbb\xbf") for text in texts))
    run = fresh(tmp_path / "run")
    (tmp_path / "text").write_bytes(lines_of(texts))
    catprune.clean([tmp_path / "text"], out=run / "clean", monolingual=True, rules=None if filtered else False)
    bare = [stripped(text) for text in texts]
    reasons_of_rows = oracles.clean([(None, text) for text in bare], key="target", rules=filtered).reasons
    kept = [text for text, names in zip(bare, reasons_of_rows, strict=True) if not names]
    dropped = [text for text, names in zip(bare, reasons_of_rows, strict=True) if names]
    done = catprune.write(run / "clean", [run / "p.de"], dropped=[run / "d.de"])
    assert (done.pairs, done.dropped, done.unwritable) == (len(kept), len(dropped), 0)
    # A carriage return before the end of a line would be read as part of the line end.
    assert oracles.lines((run / "p.de").read_bytes()) == kept
    assert oracles.lines((run / "d.de").read_bytes()) == dropped
    table = catprune.write(run / "clean", [run / "p.tsv"])
    plain = [text for text in kept if b"\t" not in text]
    assert (table.pairs, table.unwritable) == (len(plain), len(kept) - len(plain))
    assert (run / "p.tsv").read_bytes() == lines_of(plain)
    catprune.write(run / "clean", [run / "p.jsonl"], fields="a.b")
    lines = [json.loads(line) for line in (run / "p.jsonl").read_bytes().splitlines()]
    assert lines == [{"a": {"b": text.decode()}} for text in kept]
    catprune.write(run / "clean", [run / "p.parquet"])
    assert parquet.read_table(run / "p.parquet").to_pydict() == {"text": [text.decode() for text in kept]}


def test_whole_records_keep_their_other_fields(tmp_path: Path) -> None:
    rows = [{"id": 7, "text": "ein Haus", "url": "a"}, {"id": 8, "text": "Ein Haus!"}, {"id": 9, "text": "ein Hund"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.tsv").write_text("".join(f"{row['id']}\t{row['text']}\n" for row in rows))
    for name, columns in (("a.jsonl", None), ("a.parquet", None), ("a.tsv", 2)):
        out = tmp_path / f"clean-{name}"
        catprune.clean([tmp_path / name], out=out, monolingual=True, columns=columns)
        done = catprune.write(out, [tmp_path / name.replace("a", "b", 1)])
        assert done.whole and done.pairs == 2
    assert [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()] == [rows[0], rows[2]]
    assert parquet.read_table(tmp_path / "b.parquet").to_pylist() == [rows[0], {**rows[2], "url": None}]
    assert (tmp_path / "b.tsv").read_text() == "7\tein Haus\n9\tein Hund\n"
    catprune.write(tmp_path / "clean-a.tsv", [tmp_path / "c.de.gz"])
    assert gzip.decompress((tmp_path / "c.de.gz").read_bytes()) == b"ein Haus\nein Hund\n"


@given(texts=st.lists(BYTES, min_size=1, max_size=30), form=st.sampled_from(["raw", "normalised"]))
def test_figures_are_the_oracles(tmp_path: Path, texts: list[bytes], form: str) -> None:
    (tmp_path / "text").write_bytes(lines_of(texts))
    options: dict[str, Any] = {"duplicates_form": form, "max_line_bytes": 40, "monolingual": True}
    statistics = [catprune.stats([tmp_path / "text"], threads=threads, **options) for threads in (1, 4)]
    assert asdict(statistics[0]) == asdict(statistics[1])
    bare = [stripped(text) for text in texts]
    expected = oracles_stats.figures([(text, text) for text in bare], form=form, max_line_bytes=40)
    counted = statistics[0].total["all"]
    for name in ("rows", "malformed_record", "line_too_long", "invalid_utf8", "empty"):
        assert counted[name] == expected[name], name
    for name in ("characters", "words", "bytes", "tokens"):
        assert counted["target"][name] == expected["target"][name]
    assert counted["source"] is counted["character_ratio"] is counted["word_ratio"] is None
    assert counted["duplicates"] == {
        "pair": None,
        "source": None,
        "target": {"count": expected["duplicates"]["target"], "exact": True},
    }
    assert not any("source" in line or "ratio" in line or "pair" in line for line in figures(statistics[0]))


def test_the_figures_of_a_clean_folder_and_of_tags(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(corpus(300) * 2)
    (tmp_path / "b").write_bytes(corpus(50, seed=3))
    (tmp_path / "tags").write_text("x\ny\n" * 325)
    options: dict[str, Any] = {"tags": tmp_path / "tags", "monolingual": True}
    cleaned = catprune.clean([tmp_path / "a", tmp_path / "b"], out=tmp_path / "clean", **options)
    statistics = catprune.stats(tmp_path / "clean")
    assert statistics.total["all"] == catprune.stats([tmp_path / "a", tmp_path / "b"], **options).total["all"]
    assert (
        statistics.total["kept"]["rows"] == cleaned.kept
        and statistics.total["kept"]["duplicates"]["target"]["count"] == 0
    )
    assert statistics.tags.keys() == {"x", "y"}
    shown = figures(statistics)
    assert any(line.startswith("texts") for line in shown) and any("repeat a text" in line for line in shown)
    assert catprune.stats([tmp_path / "a"], memory=1 << 10, monolingual=True).total["all"]["source"] is None


def test_a_corpus_opens_without_a_source(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"ein Haus\n\xff\nein Hund\n")
    (tmp_path / "tags").write_bytes(b"a\nb\nc\n")
    catprune.clean([tmp_path / "text"], out=tmp_path / "clean", tags=tmp_path / "tags", monolingual=True)
    table = pyarrow.table(catprune.open_corpus(tmp_path / "clean"))
    assert table.to_pydict() == {"row": [0, 2], "target": ["ein Haus", "ein Hund"], "tag": ["a", "c"]}
    raw = pyarrow.table(catprune.open_corpus([tmp_path / "text"], monolingual=True))
    assert raw.to_pydict() == {"row": [0, 1, 2], "target": ["ein Haus", None, "ein Hund"]}


def test_sources_of_no_text_and_a_tokenizer_of_the_text_alone(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(corpus(500))
    cleaned = catprune.clean([tmp_path / "text"], out=tmp_path / "clean", monolingual=True)
    done = catprune.tokenize(tmp_path / "clean", out=tmp_path / "tokens", vocab_size=300, max_tokens=20)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokens/tokenizer.json"))
    block = load_file(next((tmp_path / "tokens").glob("part-*")))
    end = done.manifest["tokenizer"]["eos_id"]
    assert tokenizer.encode("").ids == [end] and (block["source_ids"] == end).all()
    assert (np.diff(block["source_offsets"]) == 1).all() and done.source_tokens == done.pairs
    assert done.pairs + done.too_long == cleaned.kept and done.too_long > 0
    lines = (tmp_path / "text").read_text().splitlines()
    offsets = block["target_offsets"]
    for place, row in enumerate(block["rows"]):
        assert block["target_ids"][offsets[place] : offsets[place + 1]].tolist() == tokenizer.encode(lines[row]).ids
    request = {
        "corpus": {"inputs": [{"format": "text", "path": str(tmp_path / "text")}]},
        "kept": "all",
        "fraction": 1.0,
        "seed": 1,
        "out": str(tmp_path / "sample"),
        "threads": 2,
    }
    assert _core.sample(request) == 500
    assert (tmp_path / "sample").read_bytes() == (tmp_path / "text").read_bytes()


RUN_FILE = """
out = "run"
seed = 3
threads = 1

[clean]
inputs = ["text.de"]
target_lang = "de"
monolingual = true

[tokenize]
vocab_size = 300

[train]
checkpoints = "4steps,12steps"
precision = "float32"
batch_tokens = 512

[[select]]
name = "cat"
method = "cat-diff"
on = "nll"
keep = "50%"

[[select]]
name = "short"
method = "length"
direction = "bottom"

[write]
selection = "cat"
outputs = ["pruned.de"]
"""


def run_files(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in files(folder).items() if name != "report.html"}


def test_a_whole_run(tmp_path: Path) -> None:
    (tmp_path / "text.de").write_bytes(corpus(600))
    (tmp_path / "run.toml").write_text(RUN_FILE)
    messages: list[str] = []
    done = catprune.run(tmp_path / "run.toml", quiet=True, say=messages.append)
    text = (tmp_path / "text.de").read_text().splitlines()
    table = parquet.read_table(next((tmp_path / "run/selection/cat").glob("columns/part-*")))
    kept = [
        text[row]
        for row, is_kept in zip(*(table[name].to_pylist() for name in ("row", "kept")), strict=True)
        if is_kept
    ]
    assert (tmp_path / "pruned.de").read_text().splitlines() == kept and 290 < len(kept) <= 300
    assert done.report is not None and "<th>source</th>" not in done.report.read_text()
    assert '<th scope="col">text</th>' in done.report.read_text()
    before = (tmp_path / "pruned.de").stat().st_mtime_ns
    catprune.run(tmp_path / "run.toml", quiet=True)
    assert (tmp_path / "pruned.de").stat().st_mtime_ns == before
    whole = run_files(tmp_path / "run")
    for manifest in (tmp_path / "run").rglob("manifest.json"):
        manifest.unlink()  # as if each step had been killed at its end
    next((tmp_path / "run/scores/step-4").glob("columns/part-*")).unlink()
    catprune.run(tmp_path / "run.toml", quiet=True)
    assert run_files(tmp_path / "run") == whole
    for name in ("score", "select", "write", "report"):
        assert any(line.startswith(name) for line in messages)
    tests = '[evaluate]\nsteps = 4\n[[evaluate.tests]]\nname = "t"\nsource = "a"\ntarget = "b"\n'
    (tmp_path / "run.toml").write_text(RUN_FILE + tests)
    with pytest.raises(UsageError, match="which need pairs; the corpus is monolingual"):
        catprune.run(tmp_path / "run.toml", quiet=True)
    with pytest.raises(UsageError, match="holds a monolingual corpus"):
        subsets = {"full": None}
        test_sets = [catprune.TestSet("t", tmp_path / "a", tmp_path / "b")]
        catprune.evaluate(
            tmp_path / "run/tokens", subsets=subsets, tests=test_sets, out=tmp_path / "e", steps=4, against=[]
        )


def test_prune_and_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.de").write_bytes(corpus(300))
    runner = CliRunner()

    def call(line: str) -> str:
        result = runner.invoke(app, line.split())
        assert result.exit_code == 0, result.output
        return result.output

    call("prune text.de pruned.de --monolingual --target-lang de --method random --keep 100 --out run -q")
    assert len((tmp_path / "pruned.de").read_text().splitlines()) == 100
    assert "monolingual = true" in (tmp_path / "run/run.toml").read_text()
    call("run run/run.toml -q")
    assert "would be kept" in call("clean text.de --monolingual --dry-run")
    assert "300 texts read" in call("clean text.de --monolingual --out clean -q --force") + call(
        "clean text.de --monolingual --out clean"
    )
    assert "texts, " in call("tokenize clean --out tokens --vocab-size 300")
    assert "texts to" in call("write clean a.jsonl --fields x")
    assert call("stats a.jsonl --monolingual --fields x -q").startswith(" ")
    call("clean a.jsonl --monolingual --fields x --out again -q")
    call("prune a.jsonl b.jsonl --monolingual --fields x --method random --keep 10 --out run2 -q")
    assert len((tmp_path / "b.jsonl").read_text().splitlines()) == 10


def test_standard_input_holds_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_bytes(b"ein Haus\nein Hund\n")
    with (tmp_path / "text").open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        done = catprune.clean(["-"], out=tmp_path / "clean", spool=tmp_path / "spooled", monolingual=True)
    assert done.kept == 2 and (tmp_path / "spooled").read_bytes() == b"ein Haus\nein Hund\n"


def test_a_text_that_changed_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"ein Haus\nein Hund\n")
    catprune.clean([tmp_path / "text"], out=tmp_path / "clean", monolingual=True)
    (tmp_path / "text").write_bytes(b"ein Haus\nein Hunt\n")
    for step in (
        lambda: catprune.write(tmp_path / "clean", [tmp_path / "p"]),
        lambda: catprune.tokenize(tmp_path / "clean", out=tmp_path / "tokens", vocab_size=300),
        lambda: catprune.stats(tmp_path / "clean"),
    ):
        with pytest.raises(CatpruneError, match="changed since it was cleaned"):
            step()


def test_invalid_values_are_refused(tmp_path: Path, pair: Any) -> None:
    paths = [str(path) for path in pair(b"a\nb\n", b"c\nd\n")]
    (tmp_path / "a.tmx").write_bytes(b"<tmx/>")
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n')
    (tmp_path / "a.tsv").write_bytes(b"a\tb\n")
    wrong: list[tuple[str, list[str], dict[str, Any]]] = [
        ("a monolingual corpus has no source", paths[:1], {"source_lang": "en"}),
        ("max_word_ratio compares two sides", paths[:1], {"rules": {"max_word_ratio": 2.0}}),
        (
            "keep_identical compares two sides",
            paths[:1],
            {"input_rules": [{"input": paths[0], "keep_identical": True}]},
        ),
        ("duplicates by source", paths[:1], {"duplicates": "source"}),
        ("duplicates by either", paths[:1], {"duplicates": "either"}),
        ("duplicates by source", paths[:1], {"near_duplicates": "source"}),
        ("a template has two sides", [str(tmp_path / "text.{en,de}")], {}),
        ("TMX holds pairs", [str(tmp_path / "a.tmx")], {}),
        ("a monolingual corpus has one field: give its name", [str(tmp_path / "a.jsonl")], {"fields": ("a", "b")}),
        ("a monolingual corpus has one field: give its name", [str(tmp_path / "a.jsonl")], {"fields": "a..b"}),
        ("a monolingual corpus has one column: give one number", [str(tmp_path / "a.tsv")], {"columns": (1, 2)}),
        ("is named twice", paths[:1] * 2, {}),
    ]
    for match, inputs, options in wrong:
        with pytest.raises(UsageError, match=match):
            catprune.clean(inputs, out=tmp_path / "clean", monolingual=True, **options)
    with pytest.raises(UsageError, match="monolingual = true if there is one side"):
        catprune.clean(paths[:1], out=tmp_path / "clean")
    with pytest.raises(UsageError, match="give two fields, like en,de"):
        catprune.clean([tmp_path / "a.jsonl"], out=tmp_path / "clean", fields="text")
    with pytest.raises(UsageError, match="two different numbers"):
        catprune.clean([tmp_path / "a.tsv"], out=tmp_path / "clean", columns=1)
    assert not (tmp_path / "clean").exists()
    catprune.clean(paths, out=tmp_path / "bitext")
    catprune.clean(paths, out=tmp_path / "clean", monolingual=True)
    for outputs in (["p.en", "p.de"], ["p.tmx"], []):
        with pytest.raises(UsageError, match="give one file"):
            catprune.write(tmp_path / "clean", [tmp_path / name for name in outputs])
    with pytest.raises(UsageError, match="two different output files"):
        catprune.write(tmp_path / "bitext", [tmp_path / "p.en"])
    with pytest.raises(UsageError, match="a monolingual corpus has one field"):
        catprune.write(tmp_path / "clean", [tmp_path / "p.jsonl"], fields=("en", "de"))
    with pytest.raises(CatpruneError, match=r"fingerprints of another kind|duplicates"):
        catprune.clean(paths[:1], out=tmp_path / "c", monolingual=True, against=[tmp_path / "bitext"])
