"""The run file: one TOML that says what every step does, validated before any step starts."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catprune.errors import CatpruneError, UsageError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


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
    columns: tuple[int, int] | None = None
    duplicates: str | None = None
    duplicates_form: str | None = None
    rules: dict[str, float | int | bool] | None = None
    max_line_bytes: int | None = None


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


class ScoreSection(_Section):
    """See `catprune.score`."""

    precision: str | None = None
    batch_tokens: int | None = None


class SelectSection(_Section):
    """One selection; see `catprune.select`. `tokens_of` keeps as many target tokens as another selection does."""

    name: Name
    method: str | None = None
    keep: str | int | float | None = None
    tokens_of: str | None = None
    on: str | None = None
    direction: str | None = None
    sign: str | None = None
    within: str | None = None
    ties: str | None = None
    bins: int | None = None
    checkpoints: list[str] | None = None
    seed: int | None = None


class WriteSection(_Section):
    """See `catprune.write`."""

    outputs: list[str]
    selection: str | None = None


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


class RunFile(_Section):
    """A whole run. Paths are relative to the file, `report` to `out`; an empty `report` asks for none."""

    out: str
    seed: int = 1
    threads: int | None = None
    memory: int | None = None
    clean: CleanSection
    tokenize: TokenizeSection = TokenizeSection()
    train: TrainSection | None = None
    score: ScoreSection = ScoreSection()
    select: list[SelectSection] = []
    write: WriteSection | None = None
    evaluate: EvaluateSection | None = None
    report: str = "report.html"

    @model_validator(mode="after")
    def _check_names(self) -> RunFile:
        from catprune.keep import parse_keep
        from catprune.methods import METHODS, find_method
        from catprune.write import describe_output

        for section in self.select:
            if section.keep is not None:
                parse_keep(section.keep)
            if section.method is not None and find_method(section.method) is None:
                raise UsageError(f"there is no method {section.method}: {', '.join(one.name for one in METHODS)}")
        if self.write:
            describe_output([Path(path) for path in self.write.outputs])
        names = [section.name for section in self.select]
        for name in names:
            if names.count(name) > 1 or name == "full":
                raise ValueError(f"a selection is named {name} twice, or like the full corpus")
        for section in self.select:
            if section.tokens_of is not None and section.tokens_of not in names[: names.index(section.name)]:
                raise ValueError(f"{section.name}: tokens_of = {section.tokens_of} is not a selection above it")
        if self.write and self.write.selection is not None and self.write.selection not in names:
            raise ValueError(f"write: selection = {self.write.selection} is not among {', '.join(names)}")
        if self.evaluate:
            for name in [*(self.evaluate.subsets or []), *(self.evaluate.against or [])]:
                if name != "full" and name not in names:
                    raise ValueError(f"evaluate: {name} is neither a selection nor full")
        return self


def read_run_file(path: str | Path) -> RunFile:
    """Read and validate a run file; its paths come back absolute.

    Raises:
        CatpruneError: it is not TOML, a key is unknown, or a value cannot be meant; each with its place.
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatpruneError(f"{path} is not TOML: {error}") from None
    try:
        return RunFile.model_validate(_resolve(values, path.absolute().parent))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(f"{path}: {place}: {first['msg'].removeprefix('Value error, ')}") from None


def _resolve(values: dict[str, Any], base: Path) -> dict[str, Any]:
    """Join every path of the file with the folder that holds it."""

    def join(text: Any) -> Any:
        return os.path.normpath(base / text) if isinstance(text, str) else text

    resolved = {**values}
    if "out" in values:
        resolved["out"] = join(values["out"])
    for section, keys in {
        "clean": ["inputs", "tags"],
        "tokenize": ["tokenizer"],
        "write": ["outputs"],
    }.items():
        if isinstance(given := values.get(section), dict):
            joined: dict[str, Any] = {**given}
            for key in keys:
                value: Any = joined.get(key)
                if value is not None:
                    joined[key] = [join(one) for one in value] if isinstance(value, list) else join(value)  # pyright: ignore[reportUnknownVariableType]
            resolved[section] = joined
    if isinstance(given := values.get("evaluate"), dict) and isinstance(given.get("tests"), list):  # pyright: ignore[reportUnknownMemberType]
        tests: list[Any] = given["tests"]
        joined_tests = [
            {**test, **{side: join(test[side]) for side in ("source", "target") if side in test}}
            if isinstance(test, dict)
            else test
            for test in tests
        ]
        resolved["evaluate"] = {**given, "tests": joined_tests}
    return resolved
