"""The run file: one TOML file with the options of every step, checked before any step starts."""

from __future__ import annotations

import functools
import json
import os
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from catprune.cleaning.minhash_options import choose_near
from catprune.cleaning.options import CleanOptions
from catprune.cleaning.request import LEAST_MEMORY
from catprune.cleaning.rule_options import (
    choose_duplicates,
    choose_input_rules,
    choose_key,
    choose_rules,
    language_rules,
    parse_prefer,
)
from catprune.corpus.inputs import check_fields, parse_inputs
from catprune.errors import CatpruneError, UsageError
from catprune.evaluation.evaluate import NAME, check_evaluation, choose_seeds
from catprune.evaluation.options import EvaluateOptions
from catprune.evaluation.summary import MARGIN, Hypothesis
from catprune.scoring.options import ScoreOptions, ScorePairsOptions
from catprune.selection.options import SelectOptions
from catprune.selection.request import check_column, check_options
from catprune.tokens.options import TokenizeOptions
from catprune.tokens.tokenize import check_tokenizing
from catprune.training.options import TrainOptions
from catprune.training.recipe import plan_marks
from catprune.workspace.common_options import Memory, Names, Seed, TemporaryFolder, Threads
from catprune.workspace.files import read_toml
from catprune.workspace.options import (
    OUTPUT,
    Declared,
    describe_values,
    did_you_mean,
    fields_of,
    make,
    option,
    read_field,
)
from catprune.workspace.options import (
    Field as Option,
)
from catprune.workspace.resources import choose_memory
from catprune.writing.options import WriteOptions
from catprune.writing.write import check_added, describe_output, name_sides, output_paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from catprune.boundary import Input

Name = Annotated[str, Field(pattern=f"^{NAME}$")]
#: Name of the schema file in the folder of a run file.
SCHEMA = "run-file.schema.json"


class Section(BaseModel):
    """A section of a run file: the options of a step, without the options that the run sets.

    Attributes:
        options: the model of the step's options.
        required: options that the run sets, with placeholders of the right type for checking the other options.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    options: ClassVar[Any] = None
    required: ClassVar[dict[str, Any]] = {}

    def given(self, *but: str) -> dict[str, Any]:
        """Return the options that the file gives, as Python spells them, without the keys in `but`."""
        names = {field.key: field.name for field in fields_of(self.options)} if self.options else {}
        return {names.get(key, key): getattr(self, key) for key in self.model_fields_set if key not in but}

    def checked(self, *but: str, **more: Any) -> Any:
        """Return the step's options as its function receives them.

        Raises:
            UsageError: a value is invalid.
        """
        return make(self.options, {**self.required, **self.given(*but), **more})


def _section(title: str, options: Any, /, *, required: dict[str, Any], **more: Any) -> Any:
    """Build the section of a step: the options that a run file may contain, and additional keys."""
    declared = options.__pydantic_fields__
    keys: dict[str, Any] = {
        field.key: (declared[field.name].annotation, declared[field.name])
        for field in fields_of(options)
        if field.declared.run_file
    }
    doc = (options.__doc__ or "").strip()
    section: Any = create_model(title, __base__=Section, __doc__=doc, **{**keys, **more})
    section.options, section.required = options, required
    return section


class DevSection(Section):
    """The held-out dev set: it chooses the checkpoint that is tested, and gives the curves of equal budgets."""

    source: str = Field(description="File of the source sentences, one per line.")
    target: str = Field(description="File of the reference translations, one per line.")


class TestSection(DevSection):
    """A held-out test set."""

    name: Name = Field(description="Name of the test set.")


class HypothesisSection(Section):
    """A hypothesis, named before the results are known; p-values are corrected for the number of hypotheses."""

    subset: Name = Field(description="Subset that the hypothesis is about.")
    not_worse_than: Name | None = Field(None, description="It is not worse than this subset by more than `margin`.")
    better_than: Name | None = Field(None, description="It is better than this subset.")
    margin: float | None = Field(
        None, gt=0, description="Margin of `not_worse_than`, in the metric's unit. Default: 1.0 chrF."
    )
    metric: Literal["chrF", "BLEU", "nll", "COMET"] = Field(
        "chrF", description="Metric: chrF, BLEU, nll, or COMET with `comet`."
    )
    test: Name | None = Field(None, description="Test set. Default: the mean over all test sets.")

    def read(self) -> Hypothesis:
        """Return the hypothesis.

        Raises:
            ValueError: no relation, or two, or no margin.
        """
        baseline = self.not_worse_than or self.better_than
        if baseline is None or (self.not_worse_than and self.better_than):
            raise ValueError(f"hypothesis on {self.subset}: give not_worse_than or better_than")
        if self.better_than:
            if self.margin is not None:
                raise ValueError(f"hypothesis on {self.subset}: better_than has no margin")
            return Hypothesis(self.subset, baseline, 0.0, self.metric, self.test)
        if self.margin is None and self.metric != "chrF":
            raise ValueError(f"hypothesis on {self.subset}: give the margin in {self.metric}")
        return Hypothesis(self.subset, baseline, self.margin or MARGIN, self.metric, self.test)


class SweepSection(Section):
    """One selection for each method and share, named like `progress-30`."""

    methods: list[str] = Field(
        min_length=1,
        description="Methods, or names of selections: then their other options are taken, and by default they are "
        "compared at the shares of the sweep only.",
    )
    keep: list[str | int | float] = Field(min_length=1, description='Shares or counts, like ["30%", "50%", "70%"].')


if TYPE_CHECKING:
    # The models are built at run time, which type checkers cannot follow.
    CleanSection: TypeAlias = Any
    TokenizeSection: TypeAlias = Any
    TrainSection: TypeAlias = Any
    ScoreSection: TypeAlias = Any
    ScorerSection: TypeAlias = Any
    SelectSection: TypeAlias = Any
    WriteSection: TypeAlias = Any
    EvaluateSection: TypeAlias = Any
else:
    # The run sets the folders of the steps; placeholders serve to check the other options.
    _OUT = {"out": "out"}
    CleanSection = _section(
        "CleanSection",
        CleanOptions,
        required=_OUT,
        inputs=(list[str], CleanOptions.__pydantic_fields__["inputs"]),
        tags=(str | None, CleanOptions.__pydantic_fields__["tags"]),
    )
    TokenizeSection = _section("TokenizeSection", TokenizeOptions, required={"clean": "clean", **_OUT})
    TrainSection = _section("TrainSection", TrainOptions, required={"tokens": "tokens", **_OUT})
    ScoreSection = _section("ScoreSection", ScoreOptions, required={"tokens": "tokens", "checkpoints": [], **_OUT})
    ScorerSection = _section(
        "ScorerSection",
        ScorePairsOptions,
        required={"clean": "clean", **_OUT},
        scorer=(str, ScorePairsOptions.__pydantic_fields__["scorer"]),
    )
    SelectSection = _section(
        "SelectSection",
        SelectOptions,
        required={"source": "scores", **_OUT},
        name=(Name, Field(description="Name of the selection.")),
        tokens_of=(
            str | None,
            Field(
                None,
                description="Keep as many target tokens as this selection, defined above, instead of `keep`.",
            ),
        ),
    )
    WriteSection = _section(
        "WriteSection",
        WriteOptions,
        required={"clean": "clean"},
        selection=(str | None, Field(None, description="Name of the selection to write. Default: all clean pairs.")),
    )
    EvaluateSection = _section(
        "EvaluateSection",
        EvaluateOptions,
        required={"tokens": "tokens", "subsets": {}, "tests": [], **_OUT},
        tests=(list[TestSection], Field(description="Held-out test sets.")),
        against=(Names, EvaluateOptions.__pydantic_fields__["against"]),
        dev=(DevSection | None, Field(None, description="Held-out dev set.")),
        hypotheses=(
            list[HypothesisSection] | None,
            Field(
                None,
                description="Hypotheses. Default: the written selection is not worse than full by 1.0 chrF, and it is "
                "better than the random selection that keeps as much.",
            ),
        ),
        sweep=(list[SweepSection], Field([], description="Selections of several methods and shares.")),
        warmup_seeds=(
            bool,
            Field(
                default=False,
                description="Whether each seed trains its own warm-up model, and scores and selects with it. Random "
                "selections are drawn again with each seed in any case.",
            ),
        ),
        subsets=(
            list[str] | None,
            Field(None, description="Selections, and `full` for all clean pairs. Default: full and all selections."),
        ),
    )


#: Optional sections with defaults.
_EMPTY: dict[str, Any] = {"tokenize": TokenizeSection, "score": ScoreSection}


class RunFile(Section):
    """A whole run. Paths are relative to the file, `report` to `out`; an empty `report` disables the report."""

    out: Annotated[str, option("Folder of the run.", OUTPUT, path=True)]
    seed: Seed = 1
    threads: Threads = None
    memory: Memory = None
    tmp_dir: TemporaryFolder = None
    report: Annotated[str, option('Name of the report in the folder of the run; "" for none.', OUTPUT)] = "report.html"
    clean: CleanSection
    tokenize: TokenizeSection = Field(default_factory=lambda: _EMPTY["tokenize"]())
    train: TrainSection | None = None
    score: ScoreSection = Field(default_factory=lambda: _EMPTY["score"]())
    scorer: list[ScorerSection] = []
    select: list[SelectSection] = []
    write: WriteSection | None = None
    evaluate: EvaluateSection | None = None

    @model_validator(mode="after")
    def _check(self) -> RunFile:
        """Check everything that a later step would refuse, as far as it is known before the first step."""
        names, checkpoints = [section.name for section in self.selections], self._checkpoints()
        monolingual = self.clean.monolingual
        self._check_cleaning()
        choose_memory(self.memory, least=LEAST_MEMORY)
        check_tokenizing(self.tokenize.checked())
        self._check_scorers(checkpoints)
        for section in self.selections:
            if names.count(section.name) > 1 or section.name == "full":
                raise ValueError(
                    f"two selections are named {section.name}, or the name means the full corpus: give another name"
                )
            if section.tokens_of is not None and section.tokens_of not in names[: names.index(section.name)]:
                raise ValueError(f"{section.name}: tokens_of = {section.tokens_of} is not a selection above it")
            self._check_selection(section, checkpoints)
        if self.write:
            self._check_outputs(self.write)
            if self.write.selection is not None and self.write.selection not in names:
                raise ValueError(f"write: selection = {self.write.selection} is not among {', '.join(names)}")
        if self.evaluate:
            if monolingual:
                raise ValueError(
                    "evaluate: evaluation trains translation models, which need pairs; the corpus is monolingual"
                )
            self._check_evaluation(self.evaluate, names)
        return self

    def _check_scorers(self, checkpoints: list[str]) -> None:
        if self.scorer and self.clean.monolingual:
            raise ValueError("scorer: scorers need pairs, the corpus is monolingual")
        columns = [column_of(section) for section in self.scorer]
        for section in self.scorer:
            check_column(column_of(section))
            if columns.count(column_of(section)) > 1 or column_of(section) in checkpoints:
                raise ValueError(f"scorer: two columns are named {column_of(section)}: give one of them another name")

    def _check_outputs(self, section: Any) -> None:
        for outputs in filter(None, (section.outputs, section.dropped)):
            clean = self.clean
            languages = {"source_lang": clean.source_lang, "target_lang": clean.target_lang}
            names = name_sides(section.fields, languages, monolingual=clean.monolingual)
            output = describe_output([Path(path) for path in outputs], names)
            check_added(section.checked().with_, {"output": output}, has_scores=section.selection is not None)
        output_paths(section.outputs, dropped=section.dropped, tags=section.tags)
        if (section.tags is not None or "tag" in section.checked().with_) and self.clean.tags is None:
            raise ValueError("write: tags need the tags of [clean]")

    def _check_cleaning(self) -> None:
        options = self.clean.checked()
        if options.fields and not options.monolingual:
            check_fields(options.fields)
        inputs = parsed_inputs(self)
        parse_prefer(options.prefer, inputs)
        for own in ({}, *choose_input_rules(options.input_rules, inputs=inputs).values()):
            choose_rules(options, own)
        choose_duplicates(options)
        for key in (options.duplicates, options.near_duplicates):
            choose_key(key, monolingual=options.monolingual)
        choose_near(options.near_duplicates, options.near)
        language_rules(options)

    def _checkpoints(self) -> list[str]:
        """Return the names of the checkpoints that the warm-up training will save."""
        if self.train is None:
            return []
        return [mark.name for mark in plan_marks(self.train.epochs, self.train.steps, self.train.checkpoints)]

    def _check_selection(self, section: Any, checkpoints: list[str]) -> None:
        ranking, _ = check_options(section.checked("name", "tokens_of"))
        named = checkpoints if section.checkpoints is None else section.checkpoints
        if unknown := [name for name in named if name not in checkpoints or named.count(name) > 1]:
            raise ValueError(
                f"{section.name}: checkpoint {unknown[0]} is unknown or named twice: use {', '.join(checkpoints)}"
            )
        for method in ranking.methods:
            if method.reads in ("reference", "directions"):
                raise ValueError(
                    f"{section.name}: {method.name} needs a model that a run does not train: train it, score with "
                    "it and select with the commands of the steps"
                )
            if len(named) < method.needs:
                raise ValueError(
                    f"{section.name}: {method.name} needs {method.needs} checkpoints, there will be {len(named)}"
                )
        if self.train is None and (section.tokens_of or ranking.counts_tokens):
            raise ValueError(f"{section.name}: a token budget needs the scores of [train]")
        if self.clean.tags is None and (section.within == "tag" or any(own.of == "tag" for own in ranking.own)):
            option_text = "within = tag" if section.within == "tag" else ranking.own[0].label
            raise ValueError(f"{section.name}: {option_text} needs the tags of [clean]")

    @functools.cached_property
    def selections(self) -> list[Any]:
        """The selections of the file, and behind them those of its sweeps."""
        named = {section.name: section for section in self.select}
        swept = [
            _swept(named.get(method), method, keep)
            for sweep in (self.evaluate.sweep if self.evaluate else [])
            for method in sweep.methods
            for keep in sweep.keep
        ]
        return [*self.select, *swept]

    @property
    def subsets(self) -> list[str]:
        """The subsets that are compared."""
        section: Any = self.evaluate
        if section.subsets is not None:
            return section.subsets
        templates = {method for sweep in section.sweep for method in sweep.methods}
        return ["full", *(one.name for one in self.selections if one.name not in templates)]

    def baselines(self) -> dict[str, list[str]]:
        """Return the baselines of each subset."""
        section, subsets = self.evaluate, self.subsets
        assert section is not None
        if "against" in section.model_fields_set:
            return {name: [one for one in section.against if one != name] for name in subsets}
        usual = {name: ["full", self._random_like(name)] for name in subsets}
        return {name: [one for one in names if one in subsets and one != name] for name, names in usual.items()}

    def hypotheses(self) -> list[Hypothesis]:
        """Return the hypotheses of the evaluation."""
        section, subsets = self.evaluate, self.subsets
        assert section is not None
        if section.hypotheses is not None:
            return [one.read() for one in section.hypotheses]
        written = self.write.selection if self.write else None
        random = self._random_like(written)
        asked = [Hypothesis(str(written), "full", MARGIN), Hypothesis(str(written), str(random))]
        return [one for one in asked if {one.subset, one.baseline} <= {*subsets} and one.subset != one.baseline]

    def _random_like(self, name: str | None) -> str | None:
        """Return the random selection that keeps as much as a selection, or the only one that there is."""
        drawn = [one for one in self.selections if one.method == "random" and one.name in self.subsets]
        section = next((one for one in self.selections if one.name == name), None)
        if section is None or section in drawn:
            return None
        alike = [one for one in drawn if one.tokens_of == name] or [
            one for one in drawn if one.tokens_of is None and tuple(one.keep) == tuple(section.keep)
        ]
        return alike[0].name if alike else drawn[0].name if len(drawn) == 1 else None

    def _check_evaluation(self, section: Any, selections: list[str]) -> None:
        for name in [*(section.subsets or []), *section.given().get("against", [])]:
            if name != "full" and name not in selections:
                raise ValueError(f"evaluate: {name} is neither a selection nor full")
        if section.warmup_seeds and self.train is None:
            raise ValueError("evaluate: warmup_seeds needs [train], the warm-up model")
        choose_seeds(self.seed, section.seeds)
        check_evaluation(
            self.subsets,
            [test.name for test in section.tests],
            self.baselines(),
            self.hypotheses(),
            steps=section.steps,
            epochs=section.epochs,
            has_comet=section.comet is not None,
        )


def _swept(template: Any, method: str, keep: str | int | float) -> Any:
    """Return the selection of a sweep; a share is named by its percents."""
    label = f"{100 * keep:g}" if isinstance(keep, float) else str(keep)
    if isinstance(keep, str) and "%" not in keep and "." in keep:
        label = f"{100 * float(keep):g}" if re.fullmatch(r"\d*\.\d+", keep) else keep
    given = {"method": method} if template is None else template.given("keep", "tokens_of")
    name = f"{method}-{label.replace('%', '').replace('.', '_')}"
    section: Any = SelectSection
    return section(**{**given, "name": name, "keep": keep})


def parsed_inputs(file: RunFile) -> list[Input]:
    """Return the inputs of the corpus as `parse_inputs` returns them."""
    clean = file.clean
    return parse_inputs(
        clean.inputs,
        columns=clean.columns,
        fields=clean.fields,
        format=clean.format,
        monolingual=clean.monolingual,
        languages=(clean.source_lang, clean.target_lang),
    )


def column_of(section: Any) -> str:
    """Return the name of a scorer's column."""
    default = section.scorer.rpartition(":")[2]
    return section.name or (f"{default}-margin" if section.margin else default)


def find_run_file(path: str | Path) -> Path:
    """Return the path of the run file; for a folder, its `run.toml`.

    Raises:
        CatpruneError: the folder has no `run.toml`.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    if not (path / "run.toml").is_file():
        raise CatpruneError(f"{path} has no run.toml: give a run file, or the folder of a run")
    return path / "run.toml"


def read_run_file(path: str | Path, changes: Sequence[str] = ()) -> RunFile:
    """Read and check a run file; its paths become absolute.

    Args:
        path: the file, or the folder of a run.
        changes: keys to change, like "train.epochs=3".

    Raises:
        CatpruneError: the file is not TOML, a key is unknown, or a value is invalid.
    """
    path = find_run_file(path)
    values = read_toml(path)
    for change in changes:
        _change(values, change)
    try:
        return RunFile.model_validate(_resolve(values, RunFile, Path(os.path.realpath(path.parent))))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except ValidationError as error:
        # Unknown keys first: a misspelled key is often the reason for a missing key.
        mistakes = sorted(error.errors(include_url=False), key=lambda mistake: mistake["type"] != "extra_forbidden")
        raise UsageError(f"{path}: {'; '.join(dict.fromkeys(map(_describe, mistakes[:3])))}") from None


def json_schema() -> bytes:
    """Return the JSON Schema of run files; editors use it to complete and check keys."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **RunFile.model_json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False).encode() + b"\n"


def _change(values: dict[str, Any], change: str) -> None:
    """Change one key of the file's values in place.

    Raises:
        UsageError: `change` is not KEY=VALUE, or its table does not exist.
    """
    key, equals, text = change.partition("=")
    *tables, last = key.strip().split(".")
    if not equals or not last or not all(tables):
        raise UsageError(f"set {change}: give KEY=VALUE, like train.epochs=3")
    current: Any = values
    for name in tables:
        if isinstance(current, list):
            named: list[Any] = [
                table for number, table in enumerate(current) if name in (str(number), table.get("name"))
            ]  # pyright: ignore[reportUnknownVariableType]
            if not named:
                raise UsageError(f"set {change}: there is no table {name}")
            current = named[0]
        else:
            current = current.setdefault(name, {})
    if not isinstance(current, dict):
        raise UsageError(f"set {change}: {'.'.join(tables)} is not a table with keys")
    try:
        current[last] = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        current[last] = text


def _describe(mistake: Any) -> str:
    """Describe a mistake with its key in the file."""
    loc, declared = _find_option(mistake["loc"])
    place = ".".join(str(part) for part in loc if not _is_type(str(part)))
    if mistake["type"] == "extra_forbidden":
        return f"{place}: there is no such key{_similar_key(mistake['loc'])}"
    text: str = mistake["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if mistake["type"] == "missing":
        return f"{place} is missing: give it"
    if mistake["type"] == "value_error":
        return f"{place}: {text}" if place else text
    expected: dict[str, str] = {
        "string_pattern_mismatch": "letters, digits, '_' and '-', a letter or digit first",
        "model_type": "a table of options",
        "list_type": f"tables, each begun by [[{place}]]",
    }
    values = describe_values(declared) if declared else expected.get(mistake["type"], text)
    value = json.dumps(mistake["input"], default=str, ensure_ascii=False)
    return f"{place} = {value}: give {values}"


def _find_option(loc: Sequence[Any]) -> tuple[Sequence[Any], Option | None]:
    """Return the place of the option that holds a mistake, and the option's declaration."""
    section: Any = RunFile
    for number, part in enumerate(loc):
        info = section.model_fields.get(part)
        inner = next(_models(info.annotation), None) if info is not None else None
        if inner is not None:
            section = inner
        elif info is not None:
            is_declared = isinstance(info.json_schema_extra, Declared)
            return loc[: number + 1], read_field(str(part), info) if is_declared else None
    return loc, None


def _is_type(part: str) -> bool:
    """Whether a part of a place is a member of a union type, not a key of the file."""
    return part in ("str", "int", "float", "bool", "path") or "[" in part or part.startswith(("literal", "function-"))


@functools.cache
def _keys(section: str) -> tuple[str, ...]:
    fields = RunFile.model_fields
    if section not in fields:
        return tuple(fields)
    model = next((part for part in _models(fields[section].annotation)), None)
    return tuple(model.model_fields) if model is not None else ()


def _similar_key(loc: Sequence[Any]) -> str:
    return did_you_mean(str(loc[-1]), _keys(str(loc[0]) if len(loc) > 1 else ""))


def _models(annotation: Any) -> Iterator[Any]:
    """Yield the section models within a type."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)


def _resolve(values: Mapping[str, Any], section: Any, base: Path) -> dict[str, Any]:
    """Make the paths of a section absolute; relative paths start at the folder of the file."""

    def join(value: Any) -> Any:
        if isinstance(value, list):
            return [join(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        return os.path.normpath(base / value) if isinstance(value, str) else value

    resolved: dict[str, Any] = {}
    known: dict[str, Any] = getattr(section, "model_fields")  # noqa: B009
    for key, value in values.items():
        info: Any = known.get(key)
        inner = next(_models(info.annotation), None) if info is not None else None
        if inner is not None:
            tables: Any = value
            resolved[key] = (
                [_resolve(table, inner, base) if isinstance(table, dict) else table for table in tables]  # pyright: ignore
                if isinstance(tables, list)
                else _resolve(tables, inner, base)
                if isinstance(tables, dict)
                else tables
            )
        elif key == "input_rules" and isinstance(value, list):
            resolved[key] = [_join_input(table, join) for table in value]  # pyright: ignore[reportUnknownVariableType]
        elif section is ScorerSection:
            resolved[key] = _join_scorer(key, value, base)
        elif (section in (DevSection, TestSection) and key != "name") or (
            info is not None and isinstance(extra := info.json_schema_extra, Declared) and extra.path
        ):
            resolved[key] = join(value)
        else:
            resolved[key] = value
    return resolved


def _join_scorer(key: str, value: Any, base: Path) -> Any:
    """Resolve a function's file; resolve a model if the path exists, otherwise it is a name that its library knows."""
    is_file = isinstance(value, str) and (
        (key == "scorer" and ":" in value) or (key == "model" and (base / value).exists())
    )
    return os.path.normpath(base / value) if is_file else value


def _join_input(table: Any, join: Callable[[Any], Any]) -> Any:
    if not isinstance(table, dict):
        return table
    rules: dict[str, Any] = table
    return {key: join(value) if key == "input" else value for key, value in rules.items()}
