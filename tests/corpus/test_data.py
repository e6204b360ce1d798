"""In-memory inputs: pairs, tables and frames are written to files once, named by content, and read like other files."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import catprune
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catprune import CatpruneError, MissingExtra, UsageError
from catprune.selection.options import SelectOptions
from catprune.workspace import spool as spools
from support.cleaned import read

PAIRS = [(f"Das ist Satz {row} von vielen.", f"This is sentence {row} of many.") for row in range(300)]
SOURCES, TARGETS = ([pair[side] for pair in PAIRS] for side in (0, 1))
TABLE = pa.table({"source": SOURCES, "target": TARGETS})
QUIET: dict[str, Any] = {"quiet": True}


def pandas_frame() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"source": SOURCES, "target": TARGETS}, index=range(7, 307))


def data_set() -> Any:
    return pytest.importorskip("datasets").Dataset(TABLE)


#: The same pairs in every form of Python data.
SAME: dict[str, Callable[[], Any]] = {
    "list": lambda: PAIRS,
    "lists": lambda: tuple(map(list, PAIRS)),
    "generator": lambda: (pair for pair in PAIRS),
    "zip": lambda: zip(SOURCES, TARGETS, strict=True),
    "table": lambda: TABLE,
    "chunks": lambda: pa.concat_tables([TABLE.slice(0, 100), TABLE.slice(100)]),
    "dictionaries": lambda: pa.table({"source": TABLE["source"].dictionary_encode(), "target": TABLE["target"]}),
    "batch": lambda: TABLE.combine_chunks().to_batches()[0],
    "reader": lambda: TABLE.to_reader(max_chunksize=7),
    "polars": lambda: polars.DataFrame({"source": SOURCES, "target": TARGETS}),
    "pandas": pandas_frame,
    "datasets": data_set,
}


def spooled(folder: Path) -> list[Path]:
    return sorted(folder.glob("inputs/*"))


@pytest.mark.parametrize("kind", SAME)
def test_equal_data_is_equal_work(tmp_path: Path, kind: str) -> None:
    first = catprune.clean(PAIRS, out=tmp_path / "clean", **QUIET)
    assert (first.rows, first.kept) == (300, 300)
    files = spooled(tmp_path)
    again = catprune.clean(SAME[kind](), out=tmp_path / "clean", **QUIET)  # other data would be refused
    assert again.manifest == first.manifest
    assert spooled(tmp_path) == files and len(files) == 1
    assert files[0].stem == catprune._core.digest_file(str(files[0]))
    assert {path.name for path in (tmp_path / "clean").iterdir()} >= {"manifest.json", "plan.json"}
    assert not list((tmp_path / "clean").rglob("inputs"))


def test_later_steps_read_the_spool(tmp_path: Path) -> None:
    table = TABLE.append_column("origin", pa.array([f"web {row % 3}" for row in range(300)]))
    table = table.append_column("quality", pa.array(range(300)))
    catprune.clean(table, out=tmp_path / "clean", **QUIET)
    catprune.write(tmp_path / "clean", tmp_path / "pruned.parquet", **QUIET)
    written = pq.read_table(tmp_path / "pruned.parquet")
    assert written.to_pydict() == table.to_pydict()
    batches = catprune.open_corpus(tmp_path / "clean")
    assert pa.table(batches)["target"].to_pylist() == TARGETS


def test_bytes_do_not_follow_from_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spools, "TEXT_ROWS", 64)
    for size in (1, 63, 64, 65, 200, 1000):
        catprune.clean(TABLE.to_reader(max_chunksize=size), out=tmp_path / "clean", **QUIET)
    (file,) = spooled(tmp_path)
    groups = pq.ParquetFile(file).metadata
    assert [groups.row_group(place).num_rows for place in range(groups.num_row_groups)] == [64, 64, 64, 64, 44]


def test_generators_are_not_held_whole(tmp_path: Path) -> None:
    alive = [0, 0]

    class Text(str):
        def __init__(self, _: str) -> None:
            alive[0] += 1
            alive[1] = max(alive)

        def __del__(self) -> None:
            alive[0] -= 1

    count = 100_000
    rows = ((Text(f"Satz {row}"), Text(f"sentence {row}")) for row in range(count))
    assert catprune.clean(rows, out=tmp_path / "clean", duplicates="none", **QUIET).rows == count
    assert alive[1] < count


def test_columns_of_tables(tmp_path: Path) -> None:
    translations = pa.table({"id": range(300), "translation": [{"en": a, "de": b} for a, b in PAIRS]})
    other = TABLE.rename_columns(["de", "en"]).append_column("note", pa.array(["x"] * 300))
    two = TABLE.rename_columns(["left", "right"]).append_column("row", pa.array(range(300)))
    cases: list[tuple[Any, dict[str, Any]]] = [
        (translations, {"fields": "translation.en,translation.de"}),
        (translations, {"source_lang": "en", "target_lang": "de"}),
        (other, {"fields": ("de", "en")}),
        (other, {"fields": "de,en"}),
        (other, {"source_lang": "de", "target_lang": "en"}),
        (two, {}),
    ]
    for number, (table, options) in enumerate(cases):
        corpus = pa.table(catprune.open_corpus(table, **options))
        assert list(zip(corpus["source"].to_pylist(), corpus["target"].to_pylist(), strict=True)) == PAIRS
        assert catprune.clean(table, out=tmp_path / str(number) / "clean", rules=False, **options, **QUIET).rows == 300
    with pytest.raises(UsageError, match=r'two columns.*fields = "en,de".*it has de \(large_string\), en .*note'):
        catprune.clean(other, out=tmp_path / "a" / "clean", **QUIET)
    with pytest.raises(UsageError, match=r"fields = de,fr: the table has no column of text fr; it has de"):
        catprune.clean(other, out=tmp_path / "a" / "clean", fields="de,fr", **QUIET)
    with pytest.raises(UsageError, match="pairs have no fields"):
        catprune.clean(PAIRS, out=tmp_path / "a" / "clean", fields="de,fr", **QUIET)
    assert not (tmp_path / "a").exists()  # refused inputs leave no files


def test_names_and_data_are_distinguished(tmp_path: Path, pair: Any) -> None:
    source, target = pair("\n".join([*SOURCES, ""]).encode(), "\n".join([*TARGETS, ""]).encode())
    pq.write_table(TABLE, tmp_path / "f.parquet")
    options: dict[str, Any] = {"fields": "source,target", "duplicates": "none", **QUIET}
    assert catprune.clean([str(source), str(target)], out=tmp_path / "a/clean", **QUIET).rows == 300
    assert catprune.clean((source, target), out=tmp_path / "b/clean", **QUIET).rows == 300
    assert catprune.clean(str(tmp_path / "f.parquet"), out=tmp_path / "c/clean", **options).rows == 300
    assert catprune.clean([(str(source), str(target))], out=tmp_path / "d/clean", rules=False, **QUIET).rows == 1
    half = TABLE.slice(0, 150)
    first = catprune.clean([half], out=tmp_path / "e/clean", **options)
    both = catprune.clean([half, tmp_path / "f.parquet"], out=tmp_path / "e/clean", **options)
    assert (first.rows, both.rows, both.new) == (150, 450, 300)
    assert not any((tmp_path / name / "inputs").exists() for name in "abc")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([("a", "b"), "c"], "item 1 of inputs is of type str: give file names and tables, or pairs"),
        ([("a", 3)], "item 0 of inputs is a tuple of str, int"),
        ([("a", "b", "c")], "item 0 of inputs is a tuple of str, str, str"),
        ([b"a"], "item 0 of inputs is of type bytes"),
        ({"source": ["a"]}, "inputs is of type dict: give file names, pairs"),
        (3, "inputs is of type int"),
        (iter(["a"]), "pair 0 is of type str: give pairs"),
        (iter([("a", "b"), ("a",)]), "pair 1 is a tuple of str"),
        (iter([("a", "b"), ("a", "\ud800")]), "record 1 has half of a surrogate pair"),
        (pa.chunked_array([["a"]]), "cannot be read as a table"),
        (polars.DataFrame({"a": ["b"]}).lazy(), "inputs is of type LazyFrame"),
        (pa.table([["a"], ["b"]], names=["a", "a"]), "two columns a"),
    ],
)
def test_invalid_inputs_are_refused(tmp_path: Path, inputs: Any, message: str) -> None:
    with pytest.raises(CatpruneError, match=message):
        catprune.clean(inputs, out=tmp_path / "run" / "clean", **QUIET)
    assert not (tmp_path / "run").exists()


def test_errors_of_a_generator_are_raised_unchanged(tmp_path: Path) -> None:
    def fail() -> Iterator[tuple[str, str]]:
        yield "a", "b"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        catprune.clean(fail(), out=tmp_path / "run" / "clean", **QUIET)
    assert not list(tmp_path.rglob("*.parquet")) and not list(tmp_path.rglob("*.tmp"))


def test_records_without_a_side_are_counted(tmp_path: Path) -> None:
    pairs = [*PAIRS, ("Ein Satz ohne den anderen", None)]
    done = catprune.clean(pairs, out=tmp_path / "clean", **QUIET)
    assert (done.rows, done.reasons["malformed_record"]) == (301, 1)
    table = pa.table({"source": [one for one, _ in pairs], "target": [one for _, one in pairs]})
    assert catprune.clean(table, out=tmp_path / "clean", **QUIET).manifest == done.manifest


def test_monolingual_texts(tmp_path: Path) -> None:
    options: dict[str, Any] = {"monolingual": True, **QUIET}
    first = catprune.clean(iter(TARGETS), out=tmp_path / "clean", **options)
    assert first.kept == 300
    for table in (pa.table({"text": TARGETS}), polars.DataFrame({"text": TARGETS})):
        assert catprune.clean(table, out=tmp_path / "clean", **options).manifest == first.manifest
    assert catprune.stats(pa.table({"only": TARGETS}), **options).total["all"]["rows"] == 300
    assert catprune.stats(TABLE, fields="target", **options).total["all"]["rows"] == 300
    with pytest.raises(UsageError, match="several columns of text or none"):
        catprune.stats(TABLE, **options)
    with pytest.raises(UsageError, match="text 0 is a tuple of str, str"):
        catprune.clean(PAIRS, out=tmp_path / "clean", **options)
    with pytest.raises(FileNotFoundError):
        catprune.clean(TARGETS, out=tmp_path / "clean", **options)  # a list of str is file names


def test_tags(tmp_path: Path) -> None:
    tags = [f"tag {row % 2}" for row in range(300)]
    first = catprune.clean(PAIRS, out=tmp_path / "clean", tags=tags, **QUIET)
    assert read(tmp_path / "clean")["tag"] == tags
    same = [tuple(tags), iter(tags), pa.array(tags), pa.chunked_array([tags[:9], tags[9:]]), polars.Series(tags)]
    for data in [*same, pytest.importorskip("numpy").array(tags)]:
        again = catprune.clean(PAIRS, out=tmp_path / "clean", tags=data, **QUIET)
        assert again.manifest == first.manifest
    assert len(spooled(tmp_path)) == 2
    assert set(catprune.stats(PAIRS, tags=tags, **QUIET).tags) == {"tag 0", "tag 1"}
    assert pa.table(catprune.open_corpus(PAIRS, tags=tags))["tag"].to_pylist() == tags
    for wrong, message in ((["a\nb"], "tag 0 has a line break"), ([3], "tag 0 is 3: give text"), (3, "tags = 3: give")):
        with pytest.raises(UsageError, match=message):
            catprune.clean(PAIRS, out=tmp_path / "t" / "clean", tags=wrong, **QUIET)
    with pytest.raises(CatpruneError, match="299"):
        catprune.clean(PAIRS, out=tmp_path / "t" / "clean", tags=tags[1:], **QUIET)
    assert not spooled(tmp_path / "t")


def test_a_damaged_spool_is_written_again(tmp_path: Path) -> None:
    first = catprune.clean(PAIRS, out=tmp_path / "clean", **QUIET)
    spooled(tmp_path)[0].write_bytes(b"PAR1")
    assert catprune.clean(PAIRS, out=tmp_path / "clean", **QUIET).manifest == first.manifest
    assert pa.table(catprune.open_corpus(tmp_path / "clean")).num_rows == 300


def test_other_data_is_other_work(tmp_path: Path) -> None:
    catprune.clean(PAIRS, out=tmp_path / "clean", **QUIET)
    files = spooled(tmp_path)
    with pytest.raises(CatpruneError, match="holds work with other"):
        catprune.clean(PAIRS[1:], out=tmp_path / "clean", **QUIET)
    assert spooled(tmp_path) == files
    assert catprune.clean(PAIRS[1:], out=tmp_path / "clean", force=True, **QUIET).rows == 299


def test_nothing_stays_behind_a_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert catprune.clean(iter(PAIRS), dry_run=True, **QUIET).kept == 300
    assert catprune.prune(PAIRS, ["a.de", "a.en"], method="random", dry_run=True, **QUIET).folder == Path("run")
    assert not list(tmp_path.iterdir())


def test_prune(tmp_path: Path) -> None:
    table = TABLE.append_column("origin", pa.array(["web"] * 300))
    options: dict[str, Any] = {"method": "random", "keep": "50%", "out": tmp_path / "run", **QUIET}
    catprune.prune(table, tmp_path / "pruned.parquet", **options)
    written = pq.read_table(tmp_path / "pruned.parquet")
    assert (written.num_rows, written.column_names) == (150, ["source", "target", "origin"])
    (file,) = spooled(tmp_path / "run")
    assert f'inputs = ["inputs/{file.name}"]' in (tmp_path / "run" / "run.toml").read_text()
    catprune.prune(table, tmp_path / "pruned.parquet", **options)
    catprune.run(tmp_path / "run", quiet=True)
    catprune.prune([table, table.slice(0, 9)], tmp_path / "pruned.parquet", **{**options, "force": True})
    assert len(spooled(tmp_path / "run")) == 2


def test_force_removes_the_spool_that_was_replaced(tmp_path: Path) -> None:
    other = [(f"Ein anderer Satz {row}.", f"Another sentence {row}.") for row in range(20)]
    catprune.clean(PAIRS, out=tmp_path / "a", **QUIET)
    catprune.clean(PAIRS, out=tmp_path / "b", **QUIET)
    with pytest.raises(CatpruneError, match="force = true"):
        catprune.clean(other, out=tmp_path / "a", **QUIET)
    (first,) = spooled(tmp_path)
    catprune.clean(other, out=tmp_path / "a", force=True, **QUIET)
    assert first in spooled(tmp_path) and len(spooled(tmp_path)) == 2, "b is made from it"
    catprune.clean(other, out=tmp_path / "b", force=True, **QUIET)
    (second,) = spooled(tmp_path)
    assert second != first and catprune.clean(other, out=tmp_path / "b", **QUIET).kept == 20
    options: dict[str, Any] = {"method": "random", "keep": "50%", "out": tmp_path / "run", **QUIET}
    catprune.prune(PAIRS, tmp_path / "pruned.tsv", **options)
    catprune.prune(other, tmp_path / "pruned.tsv", **options, force=True)
    assert [path.name for path in spooled(tmp_path / "run")] == [second.name]


def test_open_corpus_can_be_pickled(tmp_path: Path) -> None:
    catprune.clean(PAIRS, out=tmp_path / "clean", **QUIET)
    for inputs in (tmp_path / "clean", PAIRS):
        corpus = catprune.open_corpus(inputs)
        copy = pickle.loads(pickle.dumps(corpus))
        expected = pa.table(corpus).to_pydict()
        del corpus
        for _ in range(2):
            assert pa.Table.from_batches(list(copy)).to_pydict() == expected
    folder = copy._files.folder
    assert Path(folder).is_dir()
    del copy
    assert not Path(folder).exists()


def test_data_sets_are_made_from_it(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    catprune.clean(
        [*PAIRS, ("", "nothing")], out=tmp_path / "clean", tags=[str(row % 3) for row in range(301)], **QUIET
    )
    for rows in ("kept", "all"):
        corpus = catprune.open_corpus(tmp_path / "clean", rows=rows)
        expected = pa.table(corpus).to_pydict()
        dataset = corpus.to_dataset(tmp_path / "rows.arrow")
        assert dataset.column_names == list(expected)
        assert {name: dataset[name][:] for name in expected} == expected
        assert dataset.cache_files == [{"filename": str(tmp_path / "rows.arrow")}]
        shuffled = dataset.shuffle(seed=1, keep_in_memory=True)
        assert catprune.stats(shuffled, fields="source,target", **QUIET).total["all"]["rows"] == len(expected["row"])
    assert dataset[300]["reason"] and not dataset[300]["kept"]
    bare = catprune.open_corpus([("a", "b")], text="bytes").to_dataset(tmp_path / "bytes.arrow")
    assert bare[0] == {"row": 0, "source": b"a", "target": b"b"}


def test_a_data_set_replaces_no_input_and_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "datasets", None)
        with pytest.raises(MissingExtra, match="needs the package datasets: install catprune with its extra datasets"):
            catprune.open_corpus(PAIRS).to_dataset(tmp_path / "a.arrow")
    pytest.importorskip("datasets")
    (tmp_path / "a.tsv").write_text("a\tb\n")
    with pytest.raises(UsageError, match=r"a\.tsv is an input of the corpus: give another file"):
        catprune.open_corpus(tmp_path / "a.tsv").to_dataset(tmp_path / "a.tsv")
    assert (tmp_path / "a.tsv").read_text() == "a\tb\n"
    (tmp_path / "a.arrow").write_text("before")
    corpus = catprune.open_corpus(tmp_path / "a.tsv")
    (tmp_path / "a.tsv").unlink()
    (tmp_path / "a.tsv").mkdir()
    with pytest.raises((CatpruneError, OSError)):
        corpus.to_dataset(tmp_path / "a.arrow")
    assert (tmp_path / "a.arrow").read_text() == "before" and not list(tmp_path.glob("*.tmp"))


def test_results_are_shown_in_short(tmp_path: Path) -> None:
    run = tmp_path / "run"
    ran = catprune.prune(PAIRS, tmp_path / "pruned.parquet", method="random", keep=100, out=run, **QUIET)
    cleaned = catprune.clean(PAIRS, out=run / "clean", **QUIET)
    selected = catprune.select(run / "clean", method="random", keep=100, out=run / "more", **QUIET)
    written = catprune.write(run / "clean", tmp_path / "a.jsonl", fields="a,b", **QUIET)
    stats = catprune.stats(run / "clean", **QUIET)
    for shown, counts in (
        (cleaned, "rows=300, kept=300"),
        (selected, "scored=300"),
        (written, "pairs=300"),
        (stats, "Stats(rows=300, kept=300, inputs=1, tags=0)"),
        (ran, "selections="),
        (catprune.open_corpus(PAIRS), "OpenCorpus("),
    ):
        assert counts in repr(shown) and len(repr(shown).replace(str(tmp_path), "")) < 300
        assert "manifest" not in repr(shown)


def test_options_are_read_as_the_command_line_spells_them(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("".join(f"x\t{target}\t{source}\n" for source, target in PAIRS))
    options: dict[str, Any] = {"columns": "3,2", "duplicates_form": "nfkc,white-space", **QUIET}
    done = catprune.clean(tmp_path / "t.tsv", out=tmp_path / "clean", **options)
    assert pa.table(catprune.open_corpus(tmp_path / "clean"))["target"].to_pylist() == TARGETS
    assert pa.table(catprune.open_corpus(tmp_path / "t.tsv", columns="3,2"))["target"].to_pylist() == TARGETS
    again = catprune.clean(tmp_path / "t.tsv", out=tmp_path / "clean", **{**options, "columns": (3, 2)})
    assert again.manifest == done.manifest
    for keep in ("50%", 0.5, 150, ["50%"], ("50%",)):
        chosen = catprune.select(
            tmp_path / "clean", method="random", keep=keep, out=tmp_path / "s", force=True, **QUIET
        )
        assert chosen.kept == 150
    assert SelectOptions("scores", out="s", checkpoints="epoch-1,epoch-5").checkpoints == ["epoch-1", "epoch-5"]
    with pytest.raises(UsageError, match="columns = 1;2: give two column numbers, like 1,2"):
        catprune.open_corpus(tmp_path / "t.tsv", columns="1;2")
