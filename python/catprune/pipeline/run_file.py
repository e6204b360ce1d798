"""The run file: one TOML file with the options of every step, checked before any step starts."""

from __future__ import annotations

import functools
import json
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from catprune.cleaning.request import LEAST_MEMORY
from catprune.errors import CatpruneError, UsageError
from catprune.evaluation.after_full import baselines_of, name_continued
from catprune.evaluation.evaluate import check_evaluation, choose_seeds
from catprune.evaluation.summary import MARGIN, Hypothesis
from catprune.pipeline.run_file_mistakes import describe_mistakes
from catprune.pipeline.run_file_paths import resolve_paths
from catprune.pipeline.section_checks import check_cleaning, check_outputs, check_scorers, check_selection
from catprune.pipeline.sections import (
    CleanSection,
    EvaluateSection,
    ScorerSection,
    ScoreSection,
    Section,
    SelectSection,
    TokenizeSection,
    TrainSection,
    WriteSection,
)
from catprune.tokens.tokenize import check_tokenizing
from catprune.training.recipe import plan_marks
from catprune.workspace.common_options import Memory, RunThreads, Seed, TemporaryFolder
from catprune.workspace.files import read_toml
from catprune.workspace.options import OUTPUT, option
from catprune.workspace.resources import choose_memory

#: Name of the schema file in the folder of a run file.
SCHEMA = "run-file.schema.json"


#: Optional sections with defaults.
_EMPTY: dict[str, Any] = {"tokenize": TokenizeSection, "score": ScoreSection}


class RunFile(Section):
    """A whole run. Paths are relative to the file, `report` to `out`; an empty `report` disables the report."""

    out: Annotated[str, option("Folder of the run.", OUTPUT, path=True)]
    seed: Seed = 1
    threads: RunThreads = None
    memory: Memory = None
    tmp_dir: TemporaryFolder = None
    report: Annotated[str, option('Name of the report in the folder of the run; "" for none.', OUTPUT)] = "report.html"
    clean: CleanSection
    tokenize: TokenizeSection = Field(default_factory=lambda: _EMPTY["tokenize"]())
    train: TrainSection | None = None
    score: ScoreSection = Field(default_factory=lambda: _EMPTY["score"]())
    scorer: list[ScorerSection] = Field(default=[])
    select: list[SelectSection] = Field(default=[])
    write: WriteSection | None = None
    evaluate: EvaluateSection | None = None

    @model_validator(mode="after")
    def _check(self) -> RunFile:
        """Check everything that a later step would refuse, as far as it is known before the first step."""
        names, checkpoints = [section.name for section in self.selections], self._checkpoints()
        monolingual = self.clean.monolingual
        check_cleaning(self.clean)
        choose_memory(self.memory, least=LEAST_MEMORY)
        check_tokenizing(self.tokenize.checked())
        check_scorers(self.scorer, self.clean, checkpoints)
        for section in self.selections:
            if names.count(section.name) > 1 or section.name == "full":
                raise ValueError(
                    f"two selections are named {section.name}, or the name means the full corpus: give another name"
                )
            if section.tokens_of is not None and section.tokens_of not in names[: names.index(section.name)]:
                raise ValueError(f"{section.name}: tokens_of = {section.tokens_of} is not a selection above it")
            check_selection(section, self.clean, checkpoints)
        if self.write:
            check_outputs(self.write, self.clean)
            if self.write.selection is not None and self.write.selection not in names:
                raise ValueError(f"write: selection = {self.write.selection} is not among {', '.join(names)}")
        if self.evaluate:
            if monolingual:
                raise ValueError(
                    "evaluate: evaluation trains translation models, which need pairs; the corpus is monolingual"
                )
            self._check_evaluation(self.evaluate, names)
        return self

    def _checkpoints(self) -> list[str]:
        """Return the names of the checkpoints that the warm-up training will save."""
        if self.train is None:
            return []
        return [mark.name for mark in plan_marks(self.train.epochs, self.train.steps, self.train.checkpoints)]

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
        return ["full", *(section.name for section in self.selections if section.name not in templates)]

    @property
    def continued(self) -> dict[str, str]:
        """The trainings that continue `full`, and the subsets that they continue on."""
        return name_continued(self.evaluate.after_full, self.subsets) if self.evaluate else {}

    @property
    def compared(self) -> list[str]:
        """The subsets, and behind them the trainings that continue `full`."""
        return [*self.subsets, *self.continued]

    def baselines(self) -> dict[str, list[str]]:
        """Return the baselines of each subset."""
        section, subsets, continued = self.evaluate, self.compared, self.continued
        assert section is not None
        if "against" in section.model_fields_set:
            return {name: [baseline for baseline in section.against if baseline != name] for name in subsets}
        usual = {name: ["full", *filter(None, [self._random_like(name)])] for name in self.subsets}
        usual |= {name: baselines_of(usual[part], continued) for name, part in continued.items()}
        return {
            name: [baseline for baseline in names if baseline in subsets and baseline != name]
            for name, names in usual.items()
        }

    def hypotheses(self) -> list[Hypothesis]:
        """Return the hypotheses of the evaluation."""
        section, subsets = self.evaluate, self.compared
        assert section is not None
        if section.hypotheses is not None:
            return [hypothesis.read() for hypothesis in section.hypotheses]
        written = self.write.selection if self.write else None
        random = self._random_like(written)
        defaults = [Hypothesis(str(written), "full", MARGIN), Hypothesis(str(written), str(random))]
        return [
            hypothesis
            for hypothesis in defaults
            if {hypothesis.subset, hypothesis.baseline} <= {*subsets} and hypothesis.subset != hypothesis.baseline
        ]

    def _random_like(self, name: str | None) -> str | None:
        """Return the random selection that keeps as much as a selection, or the only one that there is."""
        drawn = [section for section in self.selections if section.method == "random" and section.name in self.subsets]
        section = next((section for section in self.selections if section.name == name), None)
        if section is None or section in drawn:
            return None
        alike = [other for other in drawn if other.tokens_of == name] or [
            other for other in drawn if other.tokens_of is None and tuple(other.keep) == tuple(section.keep)
        ]
        return alike[0].name if alike else drawn[0].name if len(drawn) == 1 else None

    def _check_evaluation(self, section: Any, selections: list[str]) -> None:
        for name in [*(section.subsets or []), *section.specified().get("against", [])]:
            if name != "full" and name not in selections and name not in self.continued:
                raise ValueError(f"evaluate: {name} is neither a selection nor full")
        if section.warmup_seeds and self.train is None:
            raise ValueError("evaluate: warmup_seeds needs [train], the warm-up model")
        choose_seeds(self.seed, section.seeds)
        check_evaluation(
            self.compared,
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
    values = {"method": method} if template is None else template.specified("keep", "tokens_of")
    name = f"{method}-{label.replace('%', '').replace('.', '_')}"
    section: Any = SelectSection
    return section(**{**values, "name": name, "keep": keep})


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
        return check_values(values, path.parent)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def check_values(values: dict[str, Any], folder: Path) -> RunFile:
    """Check the values of a run file in a folder; its paths become absolute.

    Raises:
        UsageError: a key is unknown, or a value is invalid.
    """
    try:
        return RunFile.model_validate(resolve_paths(values, RunFile, Path(os.path.realpath(folder))))
    except ValidationError as error:
        raise UsageError(describe_mistakes(error, RunFile)) from None


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
