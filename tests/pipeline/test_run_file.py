"""Run files: changed keys, folders instead of files, the JSON Schema."""

from __future__ import annotations

import json
import tomllib
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import catprune
import pytest
from catprune import CatpruneError, UsageError
from catprune.cleaning.rule_options import read_input_rules
from catprune.pipeline.run_file import RunFile, find_run_file, json_schema, read_run_file
from catprune.workspace.options import fields_of

ROOT = Path(__file__).parent.parent.parent
SCHEMA: dict[str, Any] = json.loads(json_schema())
RUN_FILE = """
out = "run"
report = ""
threads = 1
[clean]
inputs = ["a.en", "a.de"]
[[select]]
name = "few"
method = "random"
keep = 2
[[select]]
name = "many"
method = "random"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for side, word in (("en", "house"), ("de", "Haus")):
        (tmp_path / f"a.{side}").write_text("".join(f"the {word} {number}\n" for number in range(9)))
    (tmp_path / "run.toml").write_text(RUN_FILE)
    return tmp_path / "run.toml"


def test_keys_are_changed_for_one_call(file: Path) -> None:
    changes = (
        "seed = 7",
        "select.few.keep=30%",
        "select.1.keep=[3]",
        "clean.rules.min_words=2",
        'clean.inputs=["b.en", "b.de"]',
        "tokenize.vocab_size=300",
        "report=mine.html",
        "train.checkpoints=1,3",
        "train.epochs=3.5",
    )
    before = file.read_bytes()
    read = read_run_file(file, changes)
    assert (read.seed, read.report, read.tokenize.vocab_size) == (7, "mine.html", 300)
    assert [section.keep for section in read.select] == [["30%"], [3]]
    assert read.clean.rules.min_words == 2
    assert read.clean.inputs == [str(file.parent / "b.en"), str(file.parent / "b.de")]
    assert (read.train.checkpoints, read.train.epochs) == ("1,3", 3.5)
    assert file.read_bytes() == before
    assert read_run_file(file).seed == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", r"^set seed: give KEY=VALUE, like train\.epochs=3$"),
        ("=3", r"^set =3: give KEY=VALUE"),
        ("a..b=3", r"^set a\.\.b=3: give KEY=VALUE"),
        ("select.some.keep=3", r"^set select\.some\.keep=3: there is no table some$"),
        ("select.2.keep=3", r"there is no table 2$"),
        ("threads.a=3", r"^set threads\.a=3: threads is not a table with keys$"),
        ("select.few.keap=3", r"run\.toml: select\.0\.keap: there is no such key; did you mean keep\?$"),
        ("sede=3", r"run\.toml: sede: there is no such key; did you mean seed\?$"),
        ("seed=a", r"run\.toml: seed = \"a\": give a whole number, at least 0 and at most 18446744073709551615$"),
        ("select.few.draw=yes", r"run\.toml: select\.0\.draw = \"yes\": give true or false$"),
        ("select.few.bins=7", r"run\.toml: bins = 7: random does not use bins, only progress: leave it out$"),
    ],
)
def test_invalid_changes_are_refused(file: Path, change: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_run_file(file, [change])
    with pytest.raises(UsageError, match=message):
        catprune.run(file, set=change, quiet=True)
    assert not (file.parent / "run").exists()


def test_a_run_with_changes(file: Path) -> None:
    done = catprune.run(file, set=["select.few.keep=3", "select.many.keep=7"], quiet=True)
    for name, count in (("few", 3), ("many", 7)):
        assert (
            sum(len(batch) for batch in catprune.open_corpus(done.folder / "clean", selection=done.selections[name]))
            == count
        )
    with pytest.raises(CatpruneError, match=r"few holds work with other options \(keep was 3, is now 2\)"):
        catprune.run(file, quiet=True)


def test_the_folder_of_a_run_means_its_file(file: Path) -> None:
    with pytest.raises(CatpruneError, match=r"^.* has no run\.toml: give a run file, or the folder of a run$"):
        find_run_file(file.parent / "..")
    assert find_run_file(file) == file == find_run_file(file.parent) == find_run_file(str(file.parent))
    done = catprune.run(file.parent, quiet=True)
    assert done.folder == file.parent / "run" and done.selections.keys() == {"few", "many"}
    (file.parent / "run.toml").rename(file.parent / "run" / "run.toml")
    (file.parent / "run" / "run.toml").write_text(RUN_FILE.replace('"run"', '"."').replace('"a.', '"../a.'))
    messages: list[str] = []
    assert (
        catprune.run(file.parent / "run", until="clean", quiet=True, say=messages.append).folder == file.parent / "run"
    )
    assert len([line for line in messages if not line.startswith(" ")]) == 1


def test_the_default_of_a_selection_is_that_of_select_and_prune(file: Path) -> None:
    file.write_text(RUN_FILE.replace('method = "random"\n', "") + "[train]\ncheckpoints = '1,2'\n")
    for section in read_run_file(file).select:
        options = section.checked("name", "tokens_of")
        assert (options.method, options.direction, options.on) == (None, "top", None)
    file.write_text(RUN_FILE.replace('method = "random"\n', ""))
    with pytest.raises(UsageError, match="few: progress needs 2 checkpoints, there will be 0"):
        read_run_file(file)


def sections(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The top level and the sections by the names of their models."""
    return {
        "RunFile": schema,
        **{name: definition for name, definition in schema["$defs"].items() if name.endswith("Section")},
    }


def test_the_schema_is_the_file_of_the_documentation() -> None:
    assert (ROOT / "docs/run-file.schema.json").read_bytes() == json_schema()


def test_the_schema_describes_every_key() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    described = sections(SCHEMA)
    assert len(described) == 13
    for name, section in described.items():
        assert section["additionalProperties"] is False, name
        for key, value in section["properties"].items():
            is_table = "Section" in json.dumps(value)
            assert is_table or value["description"].rstrip().endswith("."), f"{name}.{key}"
    referred = {word for word in json.dumps(SCHEMA).split('"') if word.startswith("#/$defs/")}
    assert {word.removeprefix("#/$defs/") for word in referred} == SCHEMA["$defs"].keys()


def test_the_schema_has_the_keys_defaults_and_bounds_of_the_options() -> None:
    described = sections(SCHEMA)
    assert described["RunFile"]["properties"].keys() == RunFile.model_fields.keys()
    assert described["RunFile"]["required"] == ["out", "clean"]
    for info in RunFile.model_fields.values():
        for part in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if getattr(part, "options", None) is None:
                continue
            section, options = described[part.__name__], fields_of(part.options)
            own = {field.key: field for field in options if field.declared.run_file}
            assert section["properties"].keys() >= own.keys()
            for name, field in own.items():
                shown = section["properties"][name]
                assert shown["description"].startswith(field.help)
                assert field.default is MISSING or shown["default"] == plain(field.default)
                if field.choices and field.model is None:
                    assert set(field.choices) <= {*words(shown)}
                if name == "seeds":  # its bound is that of a number, and not of a list
                    continue
                assert len({*words(shown)} & BOUNDS) == len(field.bounds.split(" and ")) * bool(field.bounds), name


BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}


def words(value: Any) -> list[Any]:
    """All keys and values within."""
    if isinstance(value, dict):
        return [*value, *(word for item in value.values() for word in words(item))]
    return [word for item in value for word in words(item)] if isinstance(value, list) else [value]


def plain(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else value


def test_the_schema_accepts_the_same_values_as_the_file() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert not [*validator.iter_errors(tomllib.loads(RUN_FILE))]
    for old, new in (
        ('"random"\nkeep = 2', '"random"\nkeep = true'),
        ('out = "run"', ""),
        ("threads = 1", "threads = 0"),
        ("[clean]", "[claen]"),
    ):
        assert [*validator.iter_errors(tomllib.loads(RUN_FILE.replace(old, new)))], new


#: TOML that the parser of Python cannot read, but for which it raises no error of its own.
UNREADABLE = ("seed = " + "9" * 5000, "seed = " + "[" * 100_000, "\xff")


@pytest.mark.parametrize("text", UNREADABLE, ids=["digits", "depth", "not UTF-8"])
def test_a_file_that_toml_cannot_hold_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(text.encode("latin-1"))
    for read in (read_run_file, read_input_rules):
        with pytest.raises(CatpruneError, match=r"x\.toml is not TOML"):
            read(path)


def test_a_changed_key_that_toml_cannot_hold_is_text(file: Path) -> None:
    for text in ("9" * 5000, "[" * 100_000):
        with pytest.raises(UsageError, match="seed = "):
            read_run_file(file, [f"seed={text}"])


def test_trainings_that_continue_full_are_compared_and_may_be_named(file: Path) -> None:
    evaluate = """
[evaluate]
after_full = {after_full}
{more}
[[evaluate.tests]]
name = "toy"
source = "a.en"
target = "a.de"
[[evaluate.hypotheses]]
subset = "full-then-few"
better_than = "full"
"""

    def read(after_full: str, more: str = "") -> RunFile:
        text = RUN_FILE.replace('"many"', '"drawn"') + evaluate.format(after_full=after_full, more=more)
        file.write_text(text.replace('name = "few"\nmethod = "random"', 'name = "few"\nmethod = "length"'))
        return read_run_file(file)

    both = read('["few", "drawn"]')
    assert both.compared == ["full", "few", "drawn", "full-then-few", "full-then-drawn"]
    assert both.baselines() == {
        "full": [],
        "few": ["full", "drawn"],
        "drawn": ["full"],
        "full-then-few": ["full", "full-then-drawn"],
        "full-then-drawn": ["full"],
    }
    assert read('"few"').baselines()["full-then-few"] == ["full", "drawn"]
    assert read('["few"]', 'against = ["full-then-few"]').baselines()["few"] == ["full-then-few"]
    for wrong, message in (('["full"]', "itself is the control"), ('["lost"]', "after_full names lost"), ("[]", "no")):
        with pytest.raises(UsageError, match=message):
            read(wrong)
    with pytest.raises(UsageError, match="lost is neither a selection nor full"):
        read('["few"]', 'subsets = ["full", "few", "lost"]')
