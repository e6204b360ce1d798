"""Declarations of options: each is complete, and the Python signatures, defaults, bounds and errors follow them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import KW_ONLY, FrozenInstanceError
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import catprune
import pytest
from catprune import UsageError, _core
from catprune.cleaning.densities import RATIO
from catprune.cleaning.options import CleanOptions, Filters, NearDuplicates, StatsOptions
from catprune.demonstration.options import DemoOptions
from catprune.evaluation.options import EvaluateOptions
from catprune.pipeline.options import EvaluateFileOptions, PruneOptions, RunOptions
from catprune.reporting.options import ExploreOptions, ReportOptions
from catprune.scoring.options import ScoreOptions, ScorePairsOptions
from catprune.selection.options import SelectOptions
from catprune.selection.request import DEFAULT_METHOD
from catprune.tokens.options import TokenizeOptions
from catprune.training.options import TrainOptions
from catprune.workspace.options import (
    OUTPUT,
    PANELS,
    Field,
    alternatives,
    changed_values,
    defaults_of,
    describe_values,
    did_you_mean,
    fields_of,
    make,
    option,
    options,
    takes,
)
from catprune.writing.options import WriteOptions
from pydantic import TypeAdapter

STEPS: dict[str, Any] = {
    "clean": CleanOptions,
    "stats": StatsOptions,
    "tokenize": TokenizeOptions,
    "train": TrainOptions,
    "score": ScoreOptions,
    "score_pairs": ScorePairsOptions,
    "select": SelectOptions,
    "write": WriteOptions,
    "evaluate": EvaluateOptions,
    "report": ReportOptions,
    "explore": ExploreOptions,
    "run": RunOptions,
    "prune": PruneOptions,
    "demo": DemoOptions,
}
MODELS = [*STEPS.values(), EvaluateFileOptions, Filters, NearDuplicates]
FIELDS = [
    pytest.param(model, field, id=f"{model.__name__}.{field.name}") for model in MODELS for field in fields_of(model)
]
NUMBERS = [
    pytest.param(model, field, id=f"{model.__name__}.{field.name}")
    for model in MODELS
    for field in fields_of(model)
    if {int, float} & {*alternatives(field.type)} and str not in alternatives(field.type)
    if field.name != "keep"  # a share, a count or a budget: tests/selection
]
#: Values of required options.
GIVEN: dict[str, Any] = {
    "out": "out",
    "inputs": ["a.tsv"],
    "outputs": ["b.tsv"],
    "clean": "clean",
    "tokens": "tokens",
    "checkpoints": ["epoch-1"],
    "scorer": "e5",
    "source": "scores",
    "subsets": {},
    "tests": [],
    "run": "run",
    "file": "run.toml",
}


def field_of(model: Any, name: str) -> Field:
    """The option of this name."""
    return next(field for field in fields_of(model) if field.name == name)


def build(model: Any, **values: Any) -> Any:
    """A model with this value, and its required options."""
    needed = {field.name: GIVEN[field.name] for field in fields_of(model) if field.name not in defaults_of(model)}
    return make(model, {**needed, **values}, of="step")


@pytest.mark.parametrize(("model", "field"), FIELDS)
def test_every_option_is_declared_in_full(model: Any, field: Field) -> None:
    declared = field.declared
    assert field.help.endswith(".")
    assert field.help[0].isupper() or field.help.startswith(("infobatch:", "ddp:"))
    assert not declared.details or declared.details.endswith(".")
    assert declared.panel in PANELS
    assert len(field.help) < 130, "one sentence or two"
    is_flag = bool in alternatives(field.type)
    if declared.command and declared.prefix is None and model is not EvaluateOptions:  # no command takes these
        assert bool(declared.metavar) + bool(field.choices) + is_flag == 1, "one of metavar, choices, flag"
    assert declared.metavar is None or declared.metavar == declared.metavar.upper()
    if field.default is None and field.name not in UNSET:
        assert declared.default, "the help says what happens without it"
    if field.model is None and declared.command:
        assert describe_values(field) or Any in alternatives(field.type)


#: Options that have no effect by default.
UNSET = {
    *("out", "source_lang", "target_lang", "tags", "spool", "selection", "rows", "exclude_rows", "prompt"),
    *("steps", "tokenizer", "shard", "column", "merge", "reference", "condense", "clean", "say", "method", "init"),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_signature_of_a_step_is_its_model(name: str) -> None:
    step, model = getattr(catprune, name), STEPS[name]
    assert step.__options__ is model
    parameters = inspect.signature(step).parameters
    assert [*parameters] == [field.name for field in fields_of(model)]
    for field in fields_of(model):
        parameter = parameters[field.name]
        expected = defaults_of(model).get(field.name, inspect.Parameter.empty)
        assert parameter.default == expected and type(parameter.default) is type(expected)
        assert (parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD) == field.positional
        assert f"    {field.name}: {field.help}" in step.__doc__
    assert [field.name for field in fields_of(model) if field.positional] == [
        name for name in parameters if parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY
    ]


@pytest.mark.parametrize(("model", "field"), FIELDS)
def test_the_annotation_names_a_single_value_where_one_is_taken(model: Any, field: Field) -> None:
    kinds = alternatives(field.type)
    lists = [kind for kind in kinds if get_origin(kind) is Sequence]
    for item in {item for kind in lists for item in alternatives(get_args(kind)[0])} & {str, Path}:
        try:
            value = getattr(build(model, **{field.name: item("x")}), field.name)
        except UsageError:
            assert item not in kinds
        else:
            assert item in kinds and list(value) == [item("x")]


@pytest.mark.parametrize("name", STEPS)
def test_a_misspelt_option_gets_a_guess(name: str) -> None:
    step = getattr(catprune, name)
    wanted = [field.name for field in fields_of(STEPS[name]) if len(field.name) > 3]
    for option_name in wanted:
        with pytest.raises(UsageError) as message:
            step(**{f"{option_name}x": 1})
        assert f"{name}: there is no option {option_name}x; did you mean {option_name}?" == str(message.value)
    with pytest.raises(UsageError, match=rf"^{name}: there is no option zzzzzz$"):
        step(zzzzzz=1)


def test_arguments_without_names() -> None:
    with pytest.raises(TypeError, match=r"tokenize\(\) takes 1 positional arguments, 2 given"):
        catprune.tokenize("clean", "out")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"tokenize\(\) got clean twice"):
        catprune.tokenize("clean", clean="clean", out="out")  # type: ignore[misc]
    with pytest.raises(UsageError, match=r"^out is missing: give it$"):
        catprune.tokenize("clean")  # type: ignore[call-arg]


@pytest.mark.parametrize(("model", "field"), NUMBERS)
def test_numbers_are_numbers_within_their_bounds(model: Any, field: Field) -> None:
    kinds = alternatives(field.type)
    wrong: list[Any] = [True, False, "3", [], {}, *([1.5] if float not in kinds else [])]
    wrong += [float("nan"), float("inf"), -float("inf")]
    bounds = {
        bound: getattr(item, bound)
        for item in model.__pydantic_fields__[field.name].metadata
        for bound in ("ge", "gt", "le", "lt")
        if hasattr(item, bound)
    }
    assert bounds or field.name in ("columns", "seeds", "threshold"), "it has bounds, or a check of its own"
    step = 1 if int in kinds else 1e-9
    right = [bounds[bound] for bound in ("ge", "le") if bound in bounds]
    wrong += [bounds[bound] + sign * step for bound, sign in (("ge", -1), ("le", 1)) if bound in bounds and step == 1]
    wrong += [bounds[bound] for bound in ("gt", "lt") if bound in bounds]
    wrong += [-1 if bound == "ge" else 1e13 for bound in ("ge", "le") if bound in bounds and step != 1]
    for value in right:
        kind = float if int not in kinds else int
        assert getattr(build(model, **{field.name: kind(value)}), field.name) == value
    for value in wrong:
        if (tuple in map(_origin, kinds)) and isinstance(value, str | list):
            continue
        with pytest.raises(UsageError) as message:
            build(model, **{field.name: value})
        shown = repr(value) if isinstance(value, str) else str(value)
        assert str(message.value) == f"{field.name} = {shown}: give {describe_values(field)}"
    assert all(word in describe_values(field) for word in field.bounds.split(" and "))


def _origin(kind: Any) -> Any:
    return getattr(kind, "__origin__", kind)


BOUNDS = {
    (TrainOptions, "epochs"): "above 0 and at most 1000000000000",
    (TrainOptions, "steps"): "at least 1 and at most 1000000000000",
    (TrainOptions, "learning_rate"): "above 0",
    (TrainOptions, "label_smoothing"): "at least 0 and below 1",
    (TrainOptions, "dropout"): "at least 0 and below 1",
    (TrainOptions, "prune_ratio"): "at least 0 and below 1",
    (TrainOptions, "prune_anneal"): "above 0 and at most 1",
    (SelectOptions, "bins"): "at least 1 and at most 1000",
    (SelectOptions, "clusters"): "at least 1 and at most 10000",
    (SelectOptions, "threshold"): "above 0 and at most 1",
    (SelectOptions, "seed"): "at least 0 and at most 18446744073709551615",
    (TokenizeOptions, "vocab_size"): "at least 300 and at most 1048576",
    (TokenizeOptions, "max_tokens"): "at least 2 and at most 2147483648",
    (CleanOptions, "max_line_bytes"): "at least 1 and at most 1048575",
    (Filters, "max_word_ratio"): "at least 1",
    (Filters, "min_letter_share"): "at least 0 and at most 1",
    (NearDuplicates, "permutations"): "at least 16 and at most 4096",
    (DemoOptions, "pairs"): "at least 200 and at most 1000000000",
}


@pytest.mark.parametrize(("model", "name"), BOUNDS)
def test_bounds_in_words(model: Any, name: str) -> None:
    assert field_of(model, name).bounds == BOUNDS[model, name]


@pytest.mark.parametrize(
    ("step", "values", "message"),
    [
        (SelectOptions, {"on": "loss"}, "on = 'loss': give one of ppl, nll"),
        (SelectOptions, {"direction": "up"}, "direction = 'up': give one of top, middle, bottom"),
        (SelectOptions, {"draw": 1}, "draw = 1: give true or false"),
        (SelectOptions, {"draw": "yes"}, "draw = 'yes': give true or false"),
        (SelectOptions, {"by_exposure": None}, "by_exposure = None: give true or false"),
        (SelectOptions, {"where": 3}, "where = 3: give text, or a list of these"),
        (SelectOptions, {"keep": True}, "keep = True: give text or a whole number or a number, or a list of these"),
        (SelectOptions, {"out": 3}, "out = 3: give text or a path"),
        (SelectOptions, {"merge": 3}, "merge = 3: give text"),
        (ScorePairsOptions, {"margin": "yes"}, "margin = 'yes': give true or false"),
        (TrainOptions, {"checkpoints": 3}, "checkpoints = 3: give text"),
        (CleanOptions, {"columns": 1.5}, "columns = 1.5: give 2 values or a whole number"),
        (CleanOptions, {"columns": "a,b"}, "columns = a,b: give two column numbers, like 1,2; one for a monolingual"),
        (CleanOptions, {"rules": True}, "rules = True: give a table of options or false"),
        (CleanOptions, {"rules": {"min_word": 3}}, "rules: there is no option min_word; did you mean min_words?"),
        (CleanOptions, {"rules": {"min_words": -1}}, "min_words = -1: give a whole number, at least 0 and at most"),
        (CleanOptions, {"rules": {"keep_identical": 1}}, "keep_identical = 1: give true or false"),
        (CleanOptions, {"near": {"shingle": "words"}}, "near: there is no option shingle; did you mean shingles?"),
        (CleanOptions, {"near": {"shingles": "bytes"}}, "shingles = 'bytes': give one of characters, words"),
        (CleanOptions, {"judge": False}, "step: there is no option judge"),
        (SelectOptions, {"seen_apart": False}, "step: there is no option seen_apart"),
        (SelectOptions, {"sample": True}, "step: there is no option sample"),
        (SelectOptions, {"rows": True}, "step: there is no option rows"),
        (EvaluateOptions, {"training": {}}, "step: there is no option training"),
    ],
)
def test_values_that_an_option_cannot_have(step: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(step, **values)
    assert str(caught.value).startswith(message)


def test_values_that_stand_for_others() -> None:
    read = build(SelectOptions, keep=0.5, where="a>1", checkpoints="one, two", join="more.parquet")
    assert (read.keep, read.where, read.checkpoints, read.join) == ([0.5], ["a>1"], ["one", "two"], ["more.parquet"])
    assert build(SelectOptions, keep=("50%", "tag=a:1")).keep == ["50%", "tag=a:1"]
    assert build(CleanOptions, columns="2,1").columns == build(CleanOptions, columns=[2, 1]).columns == (2, 1)
    assert build(CleanOptions, columns="3").columns == 3
    assert build(CleanOptions, fields="en,de").fields == ("en", "de")
    assert build(CleanOptions, rules={"min_words": 2}).rules == Filters(min_words=2)
    assert build(CleanOptions, rules=False).rules is False
    assert build(CleanOptions, near={"bands": 4}).near == NearDuplicates(bands=4)
    assert changed_values(build(TokenizeOptions, seed=1, sample=9)) == {"clean": "clean", "out": "out", "sample": 9}


def test_defaults_of_the_filters_are_those_of_the_pass() -> None:
    made_by_pass = _core.default_rules()
    of_languages = {"source_language", "target_language", "source_scripts", "target_scripts"}
    assert made_by_pass.keys() - defaults_of(Filters).keys() == of_languages
    # The ratios depend on the languages, which the Rust pass does not know.
    by_language = {"max_word_ratio", "max_character_ratio"}
    fixed = {name: value for name, value in defaults_of(Filters).items() if name not in by_language}
    assert fixed == {name: made_by_pass[name] for name in fixed}  # type: ignore[literal-required]
    assert all(type(value) is type(made_by_pass[name]) for name, value in fixed.items())  # type: ignore[literal-required]
    for name in by_language:
        assert defaults_of(Filters)[name] is None
        assert made_by_pass[name] == RATIO  # type: ignore[literal-required]
        assert str(field_of(Filters, name).declared.default).startswith(f"{RATIO:g}, more")


def test_defaults_of_select_and_prune_are_the_same() -> None:
    # `checkpoints` of `prune` is the option of `train` (which checkpoints to save), not of `select`.
    shared = {*defaults_of(SelectOptions)} & {*defaults_of(PruneOptions)} - {"checkpoints"}
    assert shared >= {"method", "keep", "on", "within", "seed"}
    for name in shared:
        assert defaults_of(SelectOptions)[name] == defaults_of(PruneOptions)[name], name
        if name not in ("out", "threads"):  # `prune` also trains, with the threads of torch
            assert field_of(SelectOptions, name).help == field_of(PruneOptions, name).help
    assert DEFAULT_METHOD == "progress"
    assert str(field_of(PruneOptions, "method").declared.default).startswith("progress")


def test_options_of_the_same_training_are_declared_once() -> None:
    for name in import_module("catprune.evaluation.evaluate").TRAINING:
        declared, other = field_of(TrainOptions, name), field_of(EvaluateOptions, name)
        assert (declared.help, declared.bounds, declared.declared, declared.default) == (
            other.help,
            other.bounds,
            other.declared,
            other.default,
        )


def test_a_model_of_ones_own() -> None:
    @options
    class Own:
        """One."""

        what: Annotated[str, option("What.", OUTPUT, metavar="WHAT")]
        _: KW_ONLY
        kind: Annotated[Literal["a", "b"], option("Which.", OUTPUT, details="More.", default="the first")] = "a"
        share: Annotated[float, option("How much.", OUTPUT, metavar="SHARE", above=0, below=1)] = 0.5

    @takes(Own)
    def step(own: Own) -> tuple[Any, ...]:
        """Do it."""
        return own.what, own.kind, own.share

    assert step("x", share=0.25) == ("x", "a", 0.25)
    assert step(what="y", kind="b") == ("y", "b", 0.5)
    assert step.__doc__ == (
        "Do it.\n\nArgs:\n    what: What.\n    kind: Which. Default: the first. More.\n    share: How much."
    )
    for share in (0, 1, 0.0, 1.0):
        with pytest.raises(UsageError, match=r"^share = .*: give a number, above 0 and below 1$"):
            step("x", share=share)
    with pytest.raises(FrozenInstanceError):
        Own("x").kind = "b"  # type: ignore[misc]
    schema = TypeAdapter(Own).json_schema()
    assert schema["properties"]["kind"] == {
        "default": "a",
        "description": "Which. Default: the first.",
        "enum": ["a", "b"],
        "title": "Kind",
        "type": "string",
    }
    assert schema["properties"]["share"].items() >= {"exclusiveMinimum": 0, "exclusiveMaximum": 1}.items()
    assert schema["required"] == ["what"] and schema["additionalProperties"] is False


def test_guesses_are_of_similar_names_alone() -> None:
    assert did_you_mean("epohs", ["epochs", "steps"]) == "; did you mean epochs?"
    assert did_you_mean("rate", ["epochs", "steps"]) == ""
