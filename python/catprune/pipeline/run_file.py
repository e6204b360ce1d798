"""The run file: one TOML that says what every step does, validated before any step starts."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from catprune.cleaning.clean import LEAST_MEMORY
from catprune.cleaning.minhash_options import choose_near
from catprune.cleaning.rule_options import choose_duplicates, choose_input_rules, choose_key, choose_rules, parse_prefer
from catprune.corpus.inputs import FORMATS, check_fields, parse_inputs
from catprune.errors import CatpruneError, UsageError
from catprune.evaluation.evaluate import NAME, TRAINING, check_evaluation
from catprune.model.sizes import find_size
from catprune.selection.request import check_column, check_options
from catprune.selection.select import DEFAULTS
from catprune.tokens.tokenize import check_tokenizing
from catprune.training.recipe import check_numbers, plan_marks
from catprune.workspace.device import check_precision
from catprune.workspace.resources import choose_memory
from catprune.writing.write import describe_output, name_sides, output_paths

if TYPE_CHECKING:
    from collections.abc import Callable

    from catprune.boundary import Input

Name = Annotated[str, Field(pattern=f"^{NAME}$")]


class _Section(BaseModel):
    # None is "not said": the defaults stand in one place, the functions' signatures.
    model_config = ConfigDict(extra="forbid", frozen=True)

    def given(self, *but: str) -> dict[str, Any]:
        """The options that the file gives, without the keys named."""
        return {key: getattr(self, key) for key in self.model_fields_set if key not in but}


class CleanSection(_Section):
    """See `catprune.clean`."""

    inputs: list[str]
    source_lang: str | None = None
    target_lang: str | None = None
    tags: str | None = None
    columns: tuple[int, int] | int | None = None
    fields: tuple[str, str] | str | None = None
    format: str | None = None
    monolingual: bool | None = None
    duplicates: str | None = None
    duplicates_form: str | None = None
    prefer: list[str] | None = None
    against: list[str] | None = None
    verify: bool | None = None
    judge: bool | None = None
    near_duplicates: str | None = None
    near: dict[str, float | int | str] | None = None
    exclude: list[str] | None = None
    identify_language: bool | None = None
    rules: dict[str, float | int | bool] | None = None
    input_rules: list[dict[str, str | float | int | bool]] | None = None
    max_line_bytes: int | None = None

    def parsed(self) -> list[Input]:
        """The inputs, as `parse_inputs` gives them."""
        return parse_inputs(
            self.inputs,
            columns=self.columns,
            fields=self.fields,
            format=self.format,
            monolingual=bool(self.monolingual),
            languages=(self.source_lang, self.target_lang),
        )


class TokenizeSection(_Section):
    """See `catprune.tokenize`."""

    vocab_size: int | None = None
    tokenizer: str | None = None
    sample: int | None = None
    max_tokens: int | None = None


class Recipe(_Section):
    """How a model is trained; see `catprune.train`."""

    preset: str | None = None
    epochs: float | None = None
    steps: int | None = None
    batch_tokens: int | None = None
    learning_rate: float | None = None
    warmup_steps: int | None = None
    label_smoothing: float | None = None
    dropout: float | None = None
    precision: str | None = None
    save_every: int | None = None


class TrainSection(Recipe):
    """The warm-up model."""

    checkpoints: str | None = None
    sample: int | None = None


class ScoreSection(_Section):
    """See `catprune.score`."""

    precision: str | None = None
    batch_tokens: int | None = None


class ScorerSection(_Section):
    """A scorer, whose column selections take by its name; see `catprune.score_pairs`."""

    scorer: str
    name: Name | None = None
    model: str | None = None
    margin: bool | None = None
    neighbours: int | None = None

    @property
    def column(self) -> str:
        """The name of its column."""
        usual = self.scorer.rpartition(":")[2]
        return self.name or (f"{usual}-margin" if self.margin else usual)


class SelectSection(_Section):
    """One selection; see `catprune.select`. `tokens_of` keeps as many target tokens as another selection does."""

    name: Name
    method: str | None = None
    column: str | None = None
    keep: StrictStr | StrictInt | StrictFloat | list[StrictStr | StrictInt | StrictFloat] | None = None
    tokens_of: str | None = None
    on: str | None = None
    direction: str | None = None
    sign: str | None = None
    within: str | None = None
    ties: str | None = None
    bins: int | None = None
    threshold: float | None = None
    clusters: int | None = None
    checkpoints: list[str] | None = None
    seed: int | None = None
    seen_apart: bool | None = None
    merge: str | None = None
    merge_by: str | None = None
    where: str | list[str] | None = None
    always_keep: str | list[str] | None = None
    sample: bool | None = None
    condense: str | None = None
    join: list[str] | None = None


class WriteSection(_Section):
    """See `catprune.write`."""

    outputs: list[str]
    selection: str | None = None
    fields: tuple[str, str] | str | None = None
    tags: str | None = None
    dropped: list[str] | None = None


class TestSection(_Section):
    """A test set."""

    name: Name
    source: str
    target: str


class EvaluateSection(Recipe):
    """See `catprune.evaluate`. Subsets are names of selections, and `full`."""

    tests: list[TestSection]
    subsets: list[str] | None = None
    against: list[str] | None = None
    beam: int | None = None
    resamples: int | None = None

    def training(self) -> dict[str, Any]:
        """The given options that go on to every training."""
        return {key: value for key, value in self.given().items() if key in TRAINING}


class RunFile(_Section):
    """A whole run. Paths are relative to the file, `report` to `out`; an empty `report` asks for none."""

    out: str
    seed: int = Field(default=1, ge=0, lt=2**64)
    threads: int | None = Field(default=None, ge=1)
    memory: int | str | None = None
    tmp_dir: str | None = None
    clean: CleanSection
    tokenize: TokenizeSection = TokenizeSection()
    train: TrainSection | None = None
    score: ScoreSection = ScoreSection()
    scorer: list[ScorerSection] = []
    select: list[SelectSection] = []
    write: WriteSection | None = None
    evaluate: EvaluateSection | None = None
    report: str = "report.html"

    @model_validator(mode="after")
    def _check(self) -> RunFile:
        """Whatever a step would refuse later on, as far as it can be known before the first."""
        names, checkpoints = [section.name for section in self.select], self._checkpoints()
        monolingual = bool(self.clean.monolingual)
        if self.clean.fields and not monolingual:
            check_fields(self.clean.fields)
        if self.clean.format not in (None, *FORMATS):
            raise ValueError(f"clean.format = {self.clean.format}: give {', '.join(FORMATS)}")
        self._check_rules(self.clean)
        duplicates = {"duplicates", "duplicates_form", "prefer", "against", "verify"}
        choose_duplicates(**{key: value for key, value in self.clean.given().items() if key in duplicates})
        for key in filter(None, (self.clean.duplicates, self.clean.near_duplicates)):
            choose_key(key, monolingual=monolingual)
        choose_memory(self.memory, least=LEAST_MEMORY)
        choose_near(self.clean.near_duplicates or "none", self.clean.near or {})
        check_tokenizing(**self.tokenize.given())
        check_numbers(batch_tokens=self.score.batch_tokens)
        self._check_scorers(checkpoints)
        for section in self.select:
            if names.count(section.name) > 1 or section.name == "full":
                raise ValueError(f"a selection is named {section.name} twice, or like the full corpus")
            if section.tokens_of is not None and section.tokens_of not in names[: names.index(section.name)]:
                raise ValueError(f"{section.name}: tokens_of = {section.tokens_of} is not a selection above it")
            self._check_selection(section, checkpoints)
        if self.write:
            self._check_outputs(self.write)
            if self.write.selection is not None and self.write.selection not in names:
                raise ValueError(f"write: selection = {self.write.selection} is not among {', '.join(names)}")
        for preset in filter(None, (one.preset for one in (self.train, self.evaluate) if one)):
            find_size(preset)
        for precision in filter(None, (one.precision for one in (self.train, self.score, self.evaluate) if one)):
            check_precision(precision)
        if self.evaluate:
            if monolingual:
                raise ValueError(
                    "evaluate: models that translate are trained and compared: a monolingual corpus has no pairs"
                )
            self._check_evaluation(self.evaluate, names)
        return self

    def _check_scorers(self, checkpoints: list[str]) -> None:
        if self.scorer and self.clean.monolingual:
            raise ValueError("scorer: a scorer takes pairs, a monolingual corpus has none")
        columns = [section.column for section in self.scorer]
        for section in self.scorer:
            check_column(section.column)
            if columns.count(section.column) > 1 or section.column in checkpoints:
                raise ValueError(f"scorer: two columns are named {section.column}: give one of them another name")

    def _check_outputs(self, section: WriteSection) -> None:
        for outputs in filter(None, (section.outputs, section.dropped)):
            clean = self.clean
            names = name_sides(section.fields, clean.model_dump(), monolingual=bool(clean.monolingual))
            describe_output([Path(path) for path in outputs], names)
        output_paths(section.outputs, **section.given("outputs", "selection", "fields"))
        if section.tags is not None and self.clean.tags is None:
            raise ValueError("write: tags need the tags of [clean]")

    def _check_rules(self, section: CleanSection) -> None:
        languages = section.source_lang, section.target_lang
        inputs = section.parsed()
        parse_prefer(section.prefer or [], inputs)
        others = choose_input_rules(section.input_rules or [], inputs=inputs)
        for one in ({}, *others.values()):
            rules = {**(section.rules or {}), **one}
            choose_rules(
                rules, source_lang=languages[0], target_lang=languages[1], monolingual=bool(section.monolingual)
            )

    def _checkpoints(self) -> list[str]:
        """The names of the checkpoints that the warm-up model will leave."""
        if self.train is None:
            return []
        check_numbers(**self.train.given("preset", "precision", "checkpoints"))
        return [mark.name for mark in plan_marks(self.train.epochs, self.train.steps, self.train.checkpoints)]

    def _check_selection(self, section: SelectSection, checkpoints: list[str]) -> None:
        options = DEFAULTS | section.given("name", "tokens_of")
        ranking, _ = check_options(options)
        named = checkpoints if section.checkpoints is None else section.checkpoints
        if unknown := [name for name in named if name not in checkpoints or named.count(name) > 1]:
            raise ValueError(f"{section.name}: checkpoint {unknown[0]} is not one of {', '.join(checkpoints)}, once")
        for method in ranking.methods:
            if method.reads in ("reference", "directions"):
                raise ValueError(
                    f"{section.name}: {method.name} needs a model that a run does not train: train and score it with "
                    "the commands, and select with `catprune select`"
                )
            if len(named) < method.needs:
                raise ValueError(
                    f"{section.name}: {method.name} needs {method.needs} checkpoints, there will be {len(named)}"
                )
        if self.train is None and (section.tokens_of or ranking.counts_tokens):
            raise ValueError(f"{section.name}: a token budget needs the scores of [train]")
        if self.clean.tags is None and (section.within == "tag" or any(own.of == "tag" for own in ranking.own)):
            asked = "within = tag" if section.within == "tag" else ranking.own[0].label
            raise ValueError(f"{section.name}: {asked} needs the tags of [clean]")

    def _check_evaluation(self, section: EvaluateSection, selections: list[str]) -> None:
        for name in [*(section.subsets or []), *(section.against or [])]:
            if name != "full" and name not in selections:
                raise ValueError(f"evaluate: {name} is neither a selection nor full")
        subsets = section.subsets if section.subsets is not None else ["full", *selections]
        check_evaluation(
            subsets,
            [test.name for test in section.tests],
            section.against or [],
            section.training(),
            steps=section.steps,
            epochs=section.epochs,
            beam=section.beam,
            resamples=section.resamples,
        )


def read_run_file(path: str | Path) -> RunFile:
    """Read and validate a run file; its paths come back absolute.

    Raises:
        CatpruneError: it is not TOML, a key is unknown, or a value cannot be meant; each with its place.
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatpruneError(f"{path} is not TOML: {error}") from None
    try:
        return RunFile.model_validate(_resolve(values, path.absolute().parent))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except ValidationError as error:
        # A misspelt key first: what it was meant to be is missing, too.
        found = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        raise UsageError(f"{path}: {'; '.join(dict.fromkeys(_describe(one) for one in found[:3]))}") from None


def _describe(error: Any) -> str:
    """A mistake by its place in the file."""
    place = ".".join(str(part) for part in error["loc"])
    told = "there is no such key" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
    return f"{place}: {told}" if place else told


def _resolve(values: dict[str, Any], base: Path) -> dict[str, Any]:
    """Join every path of the file with the folder that holds it."""

    def join(text: Any) -> Any:
        return os.path.normpath(base / text) if isinstance(text, str) else text

    resolved = {**values}
    if "out" in values:
        resolved["out"] = join(values["out"])
    if values.get("tmp_dir") is not None:
        resolved["tmp_dir"] = join(values["tmp_dir"])
    for section, keys in {
        "clean": ["inputs", "tags", "prefer", "against", "exclude"],
        "tokenize": ["tokenizer"],
        "write": ["outputs", "tags", "dropped"],
    }.items():
        if isinstance(given := values.get(section), dict):
            joined: dict[str, Any] = {**given}
            for key in keys:
                value: Any = joined.get(key)
                if value is not None:
                    joined[key] = [join(one) for one in value] if isinstance(value, list) else join(value)  # pyright: ignore[reportUnknownVariableType]
            resolved[section] = joined
    if isinstance(given := values.get("select"), list):
        given = [_join_table(one, ["condense"], join) for one in given]  # pyright: ignore[reportUnknownVariableType]
        resolved["select"] = [
            {**one, "join": [join(path) for path in one["join"]]}  # pyright: ignore
            if isinstance(one, dict) and isinstance(one.get("join"), list)  # pyright: ignore
            else one
            for one in given  # pyright: ignore
        ]
    if isinstance(given := values.get("scorer"), list):
        resolved["scorer"] = [_join_scorer(one, base) for one in given]  # pyright: ignore[reportUnknownVariableType]
    for section, key, names in (("clean", "input_rules", ["input"]), ("evaluate", "tests", ["source", "target"])):
        given: Any = resolved.get(section)
        if isinstance(given, dict) and isinstance(tables := given.get(key), list):
            resolved[section] = {**given, key: [_join_table(table, names, join) for table in tables]}
    return resolved


def _join_scorer(table: Any, base: Path) -> Any:
    """A function's file is a path; a model is one if it is there, else a name that its library knows."""
    if not isinstance(table, dict):
        return table
    given: dict[str, Any] = table
    scorer, model = given.get("scorer"), given.get("model")
    names = ["scorer"] if isinstance(scorer, str) and ":" in scorer else []
    names += ["model"] if isinstance(model, str) and (base / model).exists() else []
    return {key: os.path.normpath(base / value) if key in names else value for key, value in given.items()}


def _join_table(table: Any, names: list[str], join: Callable[[Any], Any]) -> Any:
    if not isinstance(table, dict):
        return table
    given: dict[str, Any] = table
    return {key: join(value) if key in names else value for key, value in given.items()}
