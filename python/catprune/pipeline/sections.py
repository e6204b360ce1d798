"""The sections of a run file: the options of each step, built from the models of the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, create_model

from catprune.cleaning.options import CleanOptions
from catprune.evaluation.evaluate import NAME
from catprune.evaluation.options import EvaluateOptions
from catprune.evaluation.summary import MARGIN, Hypothesis
from catprune.scoring.options import ScoreOptions, ScorePairsOptions
from catprune.selection.options import SelectOptions
from catprune.tokens.options import TokenizeOptions
from catprune.training.options import TrainOptions
from catprune.workspace.common_options import Names
from catprune.workspace.options import fields_of, make
from catprune.writing.options import WriteOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

Name = Annotated[str, Field(pattern=f"^{NAME}$")]


class Section(BaseModel):
    """A section of a run file: the options of a step, without the options that the run sets.

    Attributes:
        options: the model of the step's options.
        required: options that the run sets, with placeholders of the right type for checking the other options.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    options: ClassVar[Any] = None
    required: ClassVar[dict[str, Any]] = {}

    def specified(self, *but: str) -> dict[str, Any]:
        """Return the options that the file gives, as Python spells them, without the keys in `but`."""
        names = {field.key: field.name for field in fields_of(self.options)} if self.options else {}
        return {names.get(key, key): getattr(self, key) for key in self.model_fields_set if key not in but}

    def checked(self, *but: str, **more: Any) -> Any:
        """Return the step's options as its function receives them.

        Raises:
            UsageError: a value is invalid.
        """
        return make(self.options, {**self.required, **self.specified(*but), **more})


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

    source: str = Field(description="File of the source sentences: lines or SGML; or of both sides: TSV or XML.")
    target: str | None = Field(None, description="File of the reference translations, unless `source` has both sides.")


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


def models_within(annotation: Any) -> Iterator[Any]:
    """Yield the section models within a type."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from models_within(part)
