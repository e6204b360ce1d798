"""Commands and their options: help, names, values, guesses."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import MISSING
from importlib import import_module
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
from catprune import _core
from catprune.cleaning.options import CleanOptions, StatsOptions
from catprune.cli.commands import app, app_group
from catprune.cli.parameters import parameters, values_of
from catprune.demonstration.options import DemoOptions
from catprune.errors import UsageError
from catprune.pipeline.options import EvaluateFileOptions, PruneOptions, RunOptions
from catprune.reporting.options import ExploreOptions, ReportOptions
from catprune.scoring.options import ScoreOptions, ScorePairsOptions
from catprune.selection.options import SelectOptions
from catprune.tokens.options import TokenizeOptions
from catprune.training.options import TrainOptions
from catprune.workspace.options import Field, alternatives, fields_of, make
from catprune.writing.options import WriteOptions

MODELS: dict[str, tuple[Any, ...]] = {
    "prune": (PruneOptions,),
    "demo": (DemoOptions,),
    "run": (RunOptions,),
    "clean": (CleanOptions,),
    "tokenize": (TokenizeOptions,),
    "train": (TrainOptions,),
    "score": (ScoreOptions, ScorePairsOptions),
    "select": (SelectOptions,),
    "write": (WriteOptions,),
    "evaluate": (EvaluateFileOptions,),
    "report": (ReportOptions,),
    "explore": (ExploreOptions,),
    "stats": (StatsOptions,),
}
OTHERS = ("methods", "doctor", "help", "version")
#: Required words of a command.
NEEDED = {
    "prune": "a b c d",
    "run": "run.toml",
    "clean": "a.en a.de",
    "tokenize": "clean --out tokens",
    "train": "tokens --out warmup",
    "score": "tokens --out scores --checkpoints epoch-1",
    "select": "scores --out selection",
    "write": "clean a.en a.de",
    "evaluate": "run.toml",
    "report": "run",
    "explore": "run",
    "stats": "a.en a.de",
}
#: Words for options with a special syntax.
WORDS = {"columns": "3,4", "fields": "de,en", "keep": "30%"}
VALUES = {"columns": (3, 4), "fields": ("de", "en"), "keep": ["30%"]}


def command(name: str) -> Any:
    return app_group().commands[name]


def help_of(name: str, width: int) -> str:
    entry = command(name)
    with typer.Context(entry, info_name=name, terminal_width=width, max_content_width=width) as context:
        return entry.get_help(context)


class Given(Exception):
    """Replace a step: record the values from the command line."""


def parse(name: str, words: list[str]) -> dict[str, Any]:
    """Return the values that a command receives; nothing is run."""

    def give(_: Any, values: dict[str, Any]) -> None:
        raise Given(values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("catprune.cli.commands"), "values_of", give)
        with pytest.raises(Given) as caught:
            app([name, *words], standalone_mode=False)
    return caught.value.args[0]


def is_flag(field: Field) -> bool:
    return bool in alternatives(field.type)


def expected_flags(model: Any) -> set[str]:
    """The flags that a model's options have on the command line."""
    flags: set[str] = set()
    for field in fields_of(model):
        if not field.declared.command or field.positional:
            continue
        if field.model is not None:
            prefix = f"--{field.declared.prefix}".replace("_", "-")
            flags |= {prefix + nested.name.replace("_", "-") for nested in fields_of(field.model)}
        else:
            flags |= {field.flag}
        flags |= {field.declared.off} if field.declared.off else set()
        flags |= {field.declared.short} if field.declared.short else set()
    return flags


def test_every_command_is_known_here() -> None:
    assert {*app_group().commands} == {*MODELS, *OTHERS}


@pytest.mark.parametrize("name", MODELS)
def test_flags_are_the_options_of_the_model(name: str) -> None:
    wanted = set[str]().union(*(expected_flags(model) for model in MODELS[name]))
    options = [parameter for parameter in command(name).params if parameter.param_type_name == "option"]
    flags = {flag.strip() for option in options for flag in (*option.opts, *option.secondary_opts)}
    assert flags - {""} == wanted | {"--json"}
    arguments = [parameter.name for parameter in command(name).params if parameter.param_type_name == "argument"]
    positional = [field.name for field in fields_of(MODELS[name][0]) if field.positional and field.declared.command]
    assert arguments == positional
    near = {flag for flag in flags if flag.startswith("--near-")}
    assert len(near) == (6 if name == "clean" else 0)


@pytest.mark.parametrize("name", [*MODELS, *OTHERS])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_help_shows_all_options_in_full(name: str, width: int) -> None:
    text = help_of(name, width)
    assert "…" not in text and "..." not in text.replace("<FILE>...", "").replace("<SOURCE>...", "")
    written = re.sub(r"\s+", "", text)
    for model in MODELS.get(name, ()):
        flags = expected_flags(model)
        assert [flag for flag in flags if not re.search(rf"(?<![\w-]){flag}(?![\w-])", text)] == []
        for field in fields_of(model):
            if not field.declared.command or (name == "score" and field.name == "clean"):
                continue
            shown = fields_of(field.model) if field.model is not None else (field,)
            for parameter in shown:
                if name == "score" and parameter.name in {own.name for own in fields_of(ScoreOptions)}:
                    parameter = next(own for own in fields_of(ScoreOptions) if own.name == parameter.name)
                assert re.sub(r"\s+", "", parameter.help.replace("`", "")) in written, parameter.name
                if parameter.declared.metavar and not parameter.positional:
                    assert f"<{parameter.declared.metavar}>" in text
                if parameter.declared.default:
                    assert re.sub(r"\s+", "", f"[default: {parameter.declared.default}]") in written
                elif parameter.default not in (MISSING, None, False, (), []):
                    assert "[default:" in text
            if field.model is None and field.choices:
                assert f"<{'|'.join(field.choices)}>" in text
            if field.model is None:
                assert f"{field.declared.panel}:" in text or field.positional
    if width == 80:
        lines = [line for line in text.partition("\nExamples:")[0].splitlines() if "|" not in line]
        assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", [*MODELS, "methods"])
def test_help_ends_with_examples_that_can_be_parsed(name: str) -> None:
    text = help_of(name, 80)
    examples = text.partition("\nExamples:\n")[2].splitlines()
    assert examples and [line.strip() for line in examples] == command(name).epilog.splitlines()
    for line in examples:
        words = shlex.split(line)
        at = words.index("catprune")
        assert words[at + 1] == name
        command(name).make_context(name, words[at + 2 :])


def cases() -> list[Any]:
    rows: list[Any] = []
    for name, models in MODELS.items():
        for model in models:
            for field in fields_of(model):
                if not field.declared.command or field.positional or field.default is MISSING:
                    continue
                if field.model is None:
                    rows.append((name, model, field, field.name, None))
                nested = fields_of(field.model) if field.model else ()
                prefix = field.declared.prefix
                rows.extend((name, model, part, f"{prefix}{part.name}", field.name) for part in nested)
    return [pytest.param(*case, id=f"{case[0]}-{case[3]}") for case in rows]


def value_of(field: Field) -> tuple[list[str], Any]:
    """Words of a value that is not the default, and the value."""
    if field.name in WORDS:
        return [WORDS[field.name]], VALUES[field.name]
    if is_flag(field):
        return [], not field.default
    if field.choices:
        value = next(choice for choice in field.choices if choice != field.default)
        return [value], value
    kinds = alternatives(field.type)
    if str not in kinds and int in kinds:
        value = 333 if field.name in ("vocab_size", "pairs") else 77
        return [str(value)], value
    if float in kinds:
        value = 1.25 if field.bounds == "at least 1" else 0.75
        return [str(value)], value
    items = [alternatives(get_args(kind)[0]) for kind in kinds if get_origin(kind) is Sequence]
    is_many = any(str in item or str not in kinds for item in items)
    return ["x"], ["x"] if is_many else "x"


def plain(value: Any) -> Any:
    """A value with paths as text."""
    return [plain(item) for item in value] if isinstance(value, list | tuple) else str(value)


@pytest.mark.parametrize(("name", "model", "field", "spelling", "within"), cases())
def test_values_from_words_are_those_of_python(
    name: str, model: Any, field: Field, spelling: str, within: str | None
) -> None:
    words, value = value_of(field)
    flag = f"--{spelling.rstrip('_').replace('_', '-')}"
    if is_flag(field) and field.default is True:
        assert field.declared.off is not None
        flag = field.declared.off
    needed = "clean --out scores --scorer e5" if model is ScorePairsOptions else NEEDED.get(name, "")
    values = values_of(model, parse(name, [*shlex.split(needed), flag, *words]))
    if model is PruneOptions:
        values = {**values, "outputs": ["c", "d"]}
    read = make(model, values)
    value_read = getattr(read, within) if within else read
    value_read = getattr(value_read, field.name)
    assert plain(value_read) == plain(value)
    # The same in Python.
    python = {**values, within: {field.name: value}} if within else {**values, field.name: value}
    again = getattr(make(model, python), within or field.name)
    assert plain(again) == plain(getattr(read, within or field.name))


@pytest.mark.parametrize("name", MODELS)
def test_options_that_are_left_out_keep_their_defaults(name: str) -> None:
    values = parse(name, shlex.split(NEEDED.get(name, "")))
    required = {parameter.name for parameter in command(name).params if parameter.required}
    required |= {"checkpoints", "out"} if name == "score" else set()
    assert {key for key, value in values.items() if value is not None} == required - {"as_json"}


def test_shared_options_come_once() -> None:
    names = [parameter.name for parameter in parameters(ScoreOptions, ScorePairsOptions)]
    assert len(names) == len(set(names))


def test_filters_cannot_be_off_and_set() -> None:
    values = parse("clean", ["a.en", "a.de", "--no-rules"])
    assert values_of(CleanOptions, values)["rules"] is False
    values = parse("clean", ["a.en", "a.de", "--no-rules", "--min-words", "3"])
    with pytest.raises(UsageError, match=r"^--no-rules goes without --min-words$"):
        values_of(CleanOptions, values)


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs a command in this process: exit code, standard output, standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        try:
            code = app([*words], prog_name="catprune", standalone_mode=True)
        except SystemExit as ended:
            code = ended.code
        out = capsys.readouterr()
        return int(code or 0), out.out, out.err

    return run


@pytest.mark.parametrize("words", [["version"], ["--version"], ["-V"]])
def test_version(run_command: Any, words: list[str]) -> None:
    assert run_command(*words) == (0, f"{_core.__version__}\n", "")


@pytest.mark.parametrize(("first", "second"), [("help", "--help"), ("help", "-h")])
def test_help_of_everything(run_command: Any, first: str, second: str) -> None:
    code, text, error = run_command(first)
    assert (code, error) == (0, "")
    assert run_command(second)[:2] == (0, text)
    for name, entry in app_group().commands.items():
        assert re.search(rf"^  {name} +{re.escape(entry.help.split()[0])}", text, re.MULTILINE)
    for group in ("Start", "Steps", "Inspect"):
        assert f"\n{group}:\n" in text
    assert "…" not in text
    assert "catprune help COMMAND shows the options of a command." in text


@pytest.mark.parametrize("name", [*MODELS, *OTHERS])
def test_help_of_a_command(run_command: Any, name: str) -> None:
    code, text, error = run_command("help", name)
    assert (code, error) == (0, "")
    assert text.startswith(f"Usage: catprune {name} ")
    assert run_command(name, "--help") == run_command(name, "-h") == (0, text, "")


@pytest.mark.parametrize("words", [["trian"], ["help", "trian"], ["trian", "tokens", "--out", "warmup"]])
def test_an_unknown_command_gets_one_guess(run_command: Any, words: list[str]) -> None:
    code, text, error = run_command(*words)
    assert (code, text) == (2, "")
    assert error.splitlines()[-1] == "Error: there is no command trian; did you mean train?"
    assert error.lower().count("did you mean") == 1


@pytest.mark.parametrize("words", [["zzzz"], ["help", "zzzz"]])
def test_a_command_that_is_like_none_gets_no_guess(run_command: Any, words: list[str]) -> None:
    code, _, error = run_command(*words)
    assert code == 2 and error.splitlines()[-1] == "Error: there is no command zzzz"


@pytest.mark.parametrize("name", NEEDED)
def test_messages_of_libraries_do_not_show(run_command: Any, name: str) -> None:
    """A wrong value of every option that takes a number or has choices."""
    for parameter in command(name).params:
        kind = parameter.type_descriptor.annotation
        if kind in (int, float) or get_origin(kind) is Literal:
            _, text, error = run_command(name, *NEEDED[name].split(), parameter.opts[0], "x,")
            assert "Invalid value for" in error
            assert not re.search(r"[Vv]alue error|pydantic|type=|Input should|Traceback", text + error), error


@pytest.mark.parametrize(
    ("words", "end"),
    [
        ("score tokens --checkpoint a --out b", "No such option: --checkpoint (Possible options: --checkpoints)"),
        ("clean a.en a.de --no-judge", "No such option: --no-judge (Possible options: --no-rules)"),
        ("select scores --out a --seen-apart", "No such option: --seen-apart"),
        ("select scores --out a --on loss", "--on': 'loss' is not one of 'ppl', 'nll'."),
        ("select scores", "Missing option '--out' / '-o'."),
        ("select --out a", "Missing argument '<SOURCE>...'."),
        ("select scores --out a --bins 0", "--bins 0: give a whole number, at least 1 and at most 1000"),
        ("select scores --out a --merge-by z", "--merge-by z: no columns are merged, leave it out"),
        ("select scores --out a --bins 7 --method ppl", "--bins 7: ppl does not use bins, only progress: leave it out"),
        (
            "clean a.en a.de --columns 1;2",
            "--columns 1;2: give two column numbers, like 1,2; one for a monolingual corpus",
        ),
        ("score tokens --checkpoints a", "out is missing: give it"),
        ("score tokens --out a", "give --checkpoints, or a --scorer"),
        (
            "score tokens --out a --checkpoints b --margin",
            "--margin is an option of a scorer: leave it out, or give --scorer",
        ),
        (
            "score tokens --out a --scorer e5 --checkpoints b",
            "--checkpoints is an option of checkpoints: leave it out, or --scorer",
        ),
        (
            "score tokens --out a --scorer e5 --batch-tokens 9",
            "--batch-tokens is an option of checkpoints: leave it out, or --scorer",
        ),
        ("prune a b", "outputs are missing: give the inputs, then two output files, or one that holds both sides"),
        ("prune a.tsv", "outputs are missing: give the inputs, then two output files, or one that holds both sides"),
    ],
)
def test_wrong_usage_is_reported_in_one_line(run_command: Any, words: str, end: str) -> None:
    code, text, error = run_command(*words.split())
    assert (code, text) == (2, "")
    assert error.splitlines()[-1].endswith(end)
    assert "Traceback" not in error
