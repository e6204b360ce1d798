"""The plan of a run: sizes are estimated from any format, costs grow with the corpus, and nothing is done."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import catprune
import pyarrow
import pytest
from catprune import CatpruneError
from catprune.corpus.inputs import parse_inputs
from catprune.pipeline.plan import CorpusSize, bytes_text, measure_corpus, plan_costs, round_text
from catprune.pipeline.run_file import RunFile
from pyarrow import parquet

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = 40_000
SOURCES = [f"sentence {number} of {number % 97} about {'many ' * (number % 11)}things" for number in range(RECORDS)]
TARGETS = [f"Satz {number} von {number % 89} über {'viele ' * (number % 7)}Dinge" for number in range(RECORDS)]
TEXT = sum(len(text.encode()) + 1 for text in (*SOURCES, *TARGETS))


def write_corpus(folder: Path, form: str) -> list[str]:
    """Write the corpus in a format; return the names of its files."""
    lines = {"a.en": "".join(f"{text}\n" for text in SOURCES), "a.de": "".join(f"{text}\n" for text in TARGETS)}
    pairs = list(zip(SOURCES, TARGETS, strict=True))
    if form == "moses":
        for name, text in lines.items():
            (folder / name).write_text(text, encoding="utf-8")
        return list(lines)
    if form == "gzip":
        for name, text in lines.items():
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        return [f"{name}.gz" for name in lines]
    if form in ("parquet", "struct", "map"):
        other = [bytes([number % 251]) * 999 for number in range(RECORDS)]
        pairs = [{"en": source, "de": target} for source, target in zip(SOURCES, TARGETS, strict=True)]
        kind = pyarrow.map_(pyarrow.string(), pyarrow.string()) if form == "map" else None
        text = {"pair": pyarrow.array([list(pair.items()) for pair in pairs] if kind else pairs, kind)}
        table = {"en": SOURCES, "de": TARGETS} if form == "parquet" else text
        parquet.write_table(pyarrow.table({**table, "other": other}), folder / "a.parquet", use_dictionary=False)
        return ["a.parquet"]
    unit = "<tu><tuv xml:lang='en'><seg>{}</seg></tuv><tuv xml:lang='de'><seg>{}</seg></tuv></tu>\n"
    text = {
        "tsv": lambda: "".join(f"{source}\t{target}\n" for source, target in pairs),
        "jsonl": lambda: "".join(json.dumps({"en": source, "de": target}) + "\n" for source, target in pairs),
        "tmx": lambda: f"<tmx><body>{''.join(unit.format(*pair) for pair in pairs)}</body></tmx>",
    }[form]()
    (folder / f"a.{form}").write_text(text, encoding="utf-8")
    return [f"a.{form}"]


@pytest.mark.parametrize("form", ["moses", "gzip", "tsv", "jsonl", "tmx", "parquet", "struct", "map"])
def test_records_are_estimated_from_sizes(tmp_path: Path, form: str) -> None:
    """The first megabyte stands for the whole file."""
    names = [tmp_path / name for name in write_corpus(tmp_path, form)]
    fields = ("pair.en", "pair.de") if form in ("struct", "map") else None
    size = measure_corpus(parse_inputs(names, languages=("en", "de"), fields=fields))
    assert size.stored == sum(path.stat().st_size for path in names)
    assert abs(size.records / RECORDS - 1) < 0.1
    # Markup and names of fields count as text; of Parquet, which has no line ends, only the two columns do.
    assert 0.8 * TEXT <= size.text <= {"tmx": 3, "jsonl": 1.5}.get(form, 1.2) * TEXT


def settings(folder: Path, **sections: object) -> RunFile:
    """A run file of the corpus in a folder."""
    values = {"out": str(folder / "run"), "clean": {"inputs": [str(folder / "a.en"), str(folder / "a.de")]}, **sections}
    return RunFile.model_validate(values)


WHOLE = {
    "train": {"preset": "tiny", "checkpoints": "1,5"},
    "select": [{"name": "half", "keep": "25%"}],
    "write": {"selection": "half", "outputs": ["k.en", "k.de"]},
}


def test_costs_grow_with_the_corpus(tmp_path: Path) -> None:
    """Ten times the text costs ten times as much, except for the model's own files."""
    small, large = (
        {cost.step: cost for cost in plan_costs(settings(tmp_path, **WHOLE), CorpusSize(n, 200 * n), memory=1 << 40)}
        for n in (1e7, 1e8)
    )
    assert list(small) == ["clean", "tokenize", "train", "score", "select", "write"]
    for step, cost in small.items():
        assert large[step].core_seconds == pytest.approx(10 * cost.core_seconds)
        assert large[step].flops == pytest.approx(10 * cost.flops)
        assert cost.seconds(64) <= cost.seconds(2)
    assert small["train"].flops == pytest.approx(3 * 5 / 2 * small["score"].flops)
    assert small["write"].disk == 0.25 * 200 * 1e7
    assert small["score"].seconds(2, machines=16) * 16 == small["score"].seconds(2)
    assert small["clean"].seconds(2, machines=16) == small["clean"].seconds(2)


def test_a_sample_and_a_number_of_updates_bound_the_training(tmp_path: Path) -> None:
    """The training does not grow with the corpus then."""
    for bounded in ({"sample": 1_000_000, "epochs": 2}, {"steps": 1_000}):
        run = settings(tmp_path, train={"preset": "tiny", **bounded})
        costs = [
            {cost.step: cost for cost in plan_costs(run, CorpusSize(n, 200 * n), memory=1 << 40)}["train"]
            for n in (1e7, 1e8)
        ]
        assert costs[0].flops == pytest.approx(costs[1].flops)


def test_every_model_of_an_evaluation_counts(tmp_path: Path) -> None:
    """Two selections, two of a sweep and `full`, three seeds; a number of updates does not grow with the corpus."""
    for name in ("t.en", "t.de"):
        (tmp_path / name).write_text("one line\n")
    evaluate = {
        "preset": "small",
        "seeds": 3,
        "warmup_seeds": False,
        "tests": [{"name": "t", "source": str(tmp_path / "t.en"), "target": str(tmp_path / "t.de")}],
        "sweep": [{"methods": ["half"], "keep": ["30%", "70%"]}],
    }
    select = [{"name": "half"}, {"name": "random", "method": "random", "tokens_of": "half"}]
    flops = {}
    for name, length in (("steps", 2_000), ("epochs", 2.0)):
        run = settings(
            tmp_path, train={"preset": "tiny", "checkpoints": "1,2"}, select=select, evaluate={**evaluate, name: length}
        )
        models = 3 * len(run.compared)
        flops[name] = [
            {cost.step: cost for cost in plan_costs(run, CorpusSize(n, 200 * n), memory=1 << 40)}["evaluate"]
            for n in (1e6, 1e7)
        ]
        assert all(cost.files == 4 * models for cost in flops[name])
    assert flops["steps"][0].flops == pytest.approx(flops["steps"][1].flops)
    assert flops["epochs"][1].flops == pytest.approx(10 * flops["epochs"][0].flops)
    run = settings(
        tmp_path,
        train={"preset": "tiny", "checkpoints": "1,2"},
        select=select,
        evaluate={**evaluate, "steps": 2_000, "warmup_seeds": True},
    )
    costs = {cost.step: cost for cost in plan_costs(run, CorpusSize(1e6, 2e8), memory=1 << 40)}
    warmups = 2 * (costs["train"].flops + costs["score"].flops)  # the first seed has the run's own
    assert costs["evaluate"].flops == pytest.approx(flops["steps"][0].flops + warmups)


def test_a_selection_of_as_many_tokens_is_written_in_its_share(tmp_path: Path) -> None:
    """It has no share of its own."""
    half = {"name": "half", "method": "length", "keep": "10%"}
    select = [half, {"name": "random", "method": "random", "tokens_of": "half"}]
    write = {"selection": "random", "outputs": ["k.en", "k.de"]}
    run = settings(tmp_path, train={"preset": "tiny", "checkpoints": "1,2"}, select=select, write=write)
    costs = {cost.step: cost for cost in plan_costs(run, CorpusSize(1e6, 2e8), memory=1 << 40)}
    assert costs["write"].disk == pytest.approx(0.1 * 2e8)


def test_a_plan_ends_with_the_last_step_and_names_what_it_does_not_count(tmp_path: Path) -> None:
    """Nothing was measured for models of others."""
    write_corpus(tmp_path, "moses")
    file = tmp_path / "run.toml"
    clean = 'inputs = ["a.en", "a.de"]\nidentify_language = true\nsource_lang = "en"\ntarget_lang = "de"\n'
    file.write_text(
        f'out = "run"\n[clean]\n{clean}[[select]]\nname = "half"\nmethod = "random"\n'
        '[evaluate]\npreset = "tiny"\nsteps = 5\n[[evaluate.tests]]\nname = "t"\nsource = "a.en"\ntarget = "a.de"\n'
    )
    for until, steps, uncounted in (
        ("select", ["clean", "tokenize", "select"], "identify_language"),
        ("report", ["clean", "tokenize", "select", "evaluate"], "identify_language, translation of the test sets"),
    ):
        planned = catprune.run(file, plan=True, until=until)
        assert planned.plan is not None and not planned.is_new
        assert [cost.step for cost in planned.plan.costs] == steps
        assert planned.plan.lines()[-1] == f"Not counted, because it was not measured: {uncounted}."


def test_fingerprints_beyond_memory_need_disk(tmp_path: Path) -> None:
    """So do near duplicates, always."""
    size, run = CorpusSize(1e8, 2e10), settings(tmp_path)
    near = {"inputs": [str(tmp_path / "a.en"), str(tmp_path / "a.de")], "near_duplicates": "pair"}
    assert [next(plan_costs(run, size, memory=memory)).temporary for memory in (1 << 40, 1 << 30)] == [0, 16e8]
    assert next(plan_costs(settings(tmp_path, clean=near), size, memory=1 << 40)).temporary > 0
    none = {**near, "near_duplicates": "none", "duplicates": "none"}
    assert next(plan_costs(settings(tmp_path, clean=none), size, memory=1 << 30)).temporary == 0


def test_the_plan_of_a_run_does_nothing(tmp_path: Path) -> None:
    """Its files are those that the run then writes."""
    write_corpus(tmp_path, "moses")
    file = tmp_path / "run.toml"
    file.write_text(
        'out = "run"\n[clean]\ninputs = ["a.en", "a.de"]\nrules = false\nduplicates = "none"\n'
        '[[select]]\nname = "half"\nmethod = "random"\n[write]\nselection = "half"\noutputs = ["k.en", "k.de"]\n'
    )
    before = sorted(tmp_path.iterdir())
    planned = catprune.run(file, plan=True)
    assert sorted(tmp_path.iterdir()) == before
    assert planned.plan is not None
    done = catprune.run(file, quiet=True)
    parts = {
        "clean": list((done.folder / "clean").rglob("*.parquet")),
        "select": list((done.folder / "selection").rglob("*.parquet")),
        "write": list(done.outputs),
    }
    for cost in planned.plan.costs:
        # Without duplicates to find there are no fingerprints and no duplicates: less than planned.
        assert len(parts[cost.step]) <= cost.files
        written = sum(path.stat().st_size for path in parts[cost.step])
        assert written <= 1.3 * cost.disk
    assert "40,000 records" in planned.plan.lines()[0]
    (tmp_path / "a.de").unlink()
    with pytest.raises(CatpruneError, match=r"a\.de"):
        catprune.run(file, plan=True)


def test_numbers_in_words() -> None:
    """Bytes and counts have the digits that an estimate supports."""
    assert [bytes_text(number) for number in (0, 999, 1_500, 22e6, 3.4e12, 4e16)] == [
        "0 bytes",
        "999 bytes",
        "1.5 kB",
        "22 MB",
        "3.4 TB",
        "40000 TB",
    ]
    assert [round_text(number) for number in (0, 7, 1_234, 629_849)] == ["0", "7", "1,200", "630,000"]
