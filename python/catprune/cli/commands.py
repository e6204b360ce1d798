"""The command line: one command per step, built from the options of the step."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from catprune.cleaning.options import CleanOptions, StatsOptions
from catprune.cli.help import Commands, StepCommand
from catprune.cli.output import guarded, print_json, saying, show
from catprune.cli.parameters import parameters, spelling, values_of, with_signature
from catprune.demonstration.options import DemoOptions
from catprune.errors import UsageError
from catprune.pipeline.options import EvaluateFileOptions, PruneOptions, RunOptions
from catprune.reporting.options import ExploreOptions, ReportOptions
from catprune.scoring.options import ScoreOptions, ScorePairsOptions
from catprune.selection.options import SelectOptions
from catprune.tokens.options import TokenizeOptions
from catprune.training.options import TrainOptions
from catprune.workspace.options import did_you_mean, fields_of
from catprune.workspace.terminal import print_line
from catprune.writing.options import WriteOptions

if TYPE_CHECKING:
    from collections.abc import Callable

START, STEPS, INSPECT = "Start", "Steps", "Inspect"

Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on standard output.", rich_help_panel="Output")
]


#: Help in the full width of the terminal.
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 1000}

app = typer.Typer(
    name="catprune",
    cls=Commands,
    help="Prune machine-translation bitext by what a model's own early training says about each pair.",
    epilog="catprune help COMMAND shows the options of a command.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=_CONTEXT,
)


@dataclass(frozen=True, slots=True)
class Command:
    """A command that calls the function of its name with the options of a model.

    Attributes:
        name: the command.
        module: the module of the function, and of `summary`, which describes its result.
        model: the options.
        panel: its group in the list of commands.
        examples: commands to show at the end of the help.
        says: whether the function takes `say`.
        function: the name of the function, if it is another.
        read: changes the options before they go to the function.
        summary: the module of `summary`, if it is another.
    """

    name: str
    module: str
    model: Any
    panel: str
    examples: tuple[str, ...]
    says: bool = False
    function: str = ""
    read: Callable[[dict[str, Any]], dict[str, Any]] = dict
    summary: str = ""

    def add(self) -> None:
        """Add it to the app."""

        def command(**arguments: Any) -> None:
            as_json = arguments.pop("as_json")
            options = self.read(values_of(self.model, arguments))
            if self.says:
                options["say"] = saying(silent=bool(options.get("quiet")) or as_json, spell=spelling(self.model))
            module = import_module(self.module)
            self.show(getattr(module, self.function or self.name)(**options), options, as_json=as_json)

        _add(self.name, command, (self.model,), parameters(self.model), self.model.__doc__, self.panel, self.examples)

    def show(self, result: Any, options: dict[str, Any], *, as_json: bool) -> None:
        """Print the result."""
        quiet = bool(options.get("quiet")) and self.name != "stats"
        lines = [] if as_json else import_module(self.summary or self.module).summary(result)
        spell = spelling(self.model)
        show(result, [spell(line) for line in lines], as_json=as_json, quiet=quiet)


def _add(
    name: str,
    command: Callable[..., None],
    models: tuple[Any, ...],
    command_parameters: list[inspect.Parameter],
    help: str | None,
    panel: str,
    examples: tuple[str, ...],
) -> None:
    json_parameter = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json)
    function = with_signature(guarded(command, spell=spelling(*models)), name, [*command_parameters, json_parameter])
    epilog = "\n".join(examples)
    app.command(name, cls=StepCommand, help=(help or "").replace("`", ""), rich_help_panel=panel, epilog=epilog)(
        function
    )


def _split_outputs(options: dict[str, Any]) -> dict[str, Any]:
    """Split the files of `prune`: the last one or two are the outputs."""
    from catprune.corpus.names import format_of

    files = options["inputs"]
    count = 1 if options.get("monolingual") or format_of(files[-1]) else 2
    is_one = count == 2 and len(files) == 3 and format_of(files[0]) is None and "{" not in files[0]
    if len(files) <= count or is_one:
        raise UsageError("outputs are missing: give the inputs, then two output files, or one that holds both sides")
    return {**options, "inputs": files[:-count], "outputs": files[-count:]}


PRUNE = Command(
    "prune",
    "catprune.pipeline.prune",
    PruneOptions,
    START,
    (
        "catprune prune wmt.en wmt.de pruned.en pruned.de --source-lang en --target-lang de",
        "catprune prune 'part-*.{en,de}.zst' pruned.jsonl --keep 30% --exclude 'newstest*.{en,de}'",
        "catprune prune wmt.en wmt.de pruned.en pruned.de --dry-run",
    ),
    says=True,
    read=_split_outputs,
)
COMMANDS = (
    Command("demo", "catprune.demonstration.demo", DemoOptions, START, ("catprune demo --out my-demo",), says=True),
    Command(
        "run",
        "catprune.pipeline.run",
        RunOptions,
        START,
        ("catprune run run.toml", "catprune run run --set train.epochs=3 --force", "catprune run run --until score"),
        says=True,
    ),
    Command(
        "clean",
        "catprune.cleaning.clean",
        CleanOptions,
        STEPS,
        (
            "catprune clean wmt.en wmt.de --out run/clean --source-lang en --target-lang de",
            "catprune clean wmt.en wmt.de --dry-run --max-words 100 --near-duplicates pair",
            "zcat all.tsv.gz | catprune clean - --spool all.tsv --out run/clean",
        ),
        summary="catprune.cleaning.summary",
    ),
    Command(
        "tokenize",
        "catprune.tokens.tokenize",
        TokenizeOptions,
        STEPS,
        (
            "catprune tokenize run/clean --out run/tokens --vocab-size 16000",
            "catprune tokenize run/clean --out run/tokens --tokenizer tokenizer.json",
        ),
    ),
    Command(
        "train",
        "catprune.training.train",
        TrainOptions,
        STEPS,
        (
            "catprune train run/tokens --out run/warmup --epochs 5 --checkpoints 1,3,5",
            "catprune train run/tokens --out model --selection run/selection --preset small --steps 20000",
            "catprune train run/tokens --out tuned --init model/epoch-5 --selection run/selection --learning-rate 5e-4",
            "torchrun --nproc-per-node 8 --no-python -- catprune train run/tokens --out run/warmup",
        ),
    ),
)
LATER = (
    Command(
        "select",
        "catprune.selection.select",
        SelectOptions,
        STEPS,
        (
            "catprune select run/scores --out run/selection --keep 50%",
            "catprune select run/scores --out half --method cat-diff --within tag",
            "catprune select run/scores --out best --merge '0.7*progress + 0.3*labse' --where 'labse>0.6'",
        ),
        summary="catprune.selection.summary",
    ),
    Command(
        "write",
        "catprune.writing.write",
        WriteOptions,
        STEPS,
        (
            "catprune write run/clean pruned.en pruned.de --selection run/selection",
            "catprune write run/clean clean.jsonl.zst",
        ),
    ),
    Command(
        "evaluate",
        "catprune.pipeline.run",
        EvaluateFileOptions,
        STEPS,
        ("catprune evaluate run.toml",),
        says=True,
        function="evaluate_file",
        summary="catprune.evaluation.results",
    ),
    Command(
        "report",
        "catprune.reporting.report",
        ReportOptions,
        INSPECT,
        ("catprune report run", "catprune report run --out evidence.html"),
    ),
    Command(
        "explore",
        "catprune.reporting.explore",
        ExploreOptions,
        INSPECT,
        ("catprune explore run", "catprune explore run --out thresholds.html --seed 2"),
    ),
    Command(
        "stats",
        "catprune.cleaning.stats",
        StatsOptions,
        INSPECT,
        ("catprune stats wmt.en wmt.de", "catprune stats run/clean --json"),
    ),
)


def _score(**arguments: Any) -> None:
    """Score pairs under checkpoints, or by a scorer of their text."""
    as_json, spell = arguments.pop("as_json"), spelling(ScoreOptions, ScorePairsOptions)
    by_scorer = arguments.get("scorer") is not None
    own = {field.name for field in fields_of(ScorePairsOptions if by_scorer else ScoreOptions)}
    both = own & {field.name for field in fields_of(ScoreOptions if by_scorer else ScorePairsOptions)}
    clean = {"clean"} if by_scorer else set[str]()
    for name, value in arguments.items():
        if value is not None and name not in own | both | clean | {"tokens"}:
            raise UsageError(
                f"--{name.replace('_', '-')} is an option of {'checkpoints' if by_scorer else 'a scorer'}: leave it "
                f"out, or {'--scorer' if by_scorer else 'give --scorer'}"
            )
    if by_scorer:
        from catprune.scoring.score_pairs import score_pairs, summary

        options = values_of(ScorePairsOptions, {**arguments, "clean": arguments["tokens"]})
        result: Any = score_pairs(**options)
        show(result, [spell(line) for line in summary(result)], as_json=as_json, quiet=bool(arguments["quiet"]))
        return
    if not arguments["checkpoints"]:
        raise UsageError("give --checkpoints, or a --scorer")
    from catprune.scoring.score import score, summary

    done = score(**values_of(ScoreOptions, arguments))
    show(done, [spell(line) for line in summary(done)], as_json=as_json, quiet=bool(arguments["quiet"]))


def _score_parameters() -> list[inspect.Parameter]:
    """The options of checkpoints, then those of scorers; the folder is one argument."""
    every = parameters(ScoreOptions, ScorePairsOptions)
    return [parameter for parameter in every if parameter.name != "clean"]


PRUNE.add()
for _command in COMMANDS:
    _command.add()
_add(
    "score",
    _score,
    (ScoreOptions, ScorePairsOptions),
    _score_parameters(),
    "Score every pair under one or more checkpoints, or by a scorer of its text.",
    STEPS,
    (
        "catprune score run/tokens --checkpoints run/warmup/epoch-1 --checkpoints run/warmup/epoch-5 --out run/scores",
        "catprune score run/clean --checkpoints early=their-model/checkpoint-500 --out run/scores",
        "catprune score run/clean --scorer labse --out run/scores",
    ),
)
for _command in LATER:
    _command.add()


@app.command(cls=StepCommand, rich_help_panel=INSPECT, epilog="catprune methods\ncatprune methods --json")
@guarded
def methods(*, as_json: Json = False) -> None:
    """List the methods of select, with their sources."""
    from catprune.selection.methods import METHODS, describe_method

    if as_json:
        print_json(METHODS)
        return
    for method in METHODS:
        print_line("\n".join(describe_method(method)))


@app.command(cls=StepCommand, rich_help_panel=INSPECT)
@guarded
def doctor(*, as_json: Json = False) -> None:
    """Show what this installation can do, and what is missing for the rest."""
    from catprune.pipeline.doctor import examine

    findings = examine()
    if as_json:
        print_json(findings)
        return
    for name, text in findings.items():
        print_line(f"{name:13} {text}")


@app.command("help", cls=StepCommand, rich_help_panel=INSPECT)
def show_help(
    ctx: typer.Context,
    command: Annotated[str | None, typer.Argument(metavar="<COMMAND>", help="The command to explain.")] = None,
) -> None:
    """Show the commands, or the options of one command."""
    group = ctx.find_root()
    entry = None if command is None else app_group().commands.get(command)
    if command is not None and entry is None:
        ctx.fail(f"there is no command {command}{did_you_mean(command, list(app_group().commands))}")
    if entry is None:
        print_line(group.get_help())
        return
    with typer.Context(entry, info_name=entry.name, parent=group) as inner:
        print_line(entry.get_help(inner))


@app.command("version", cls=StepCommand, rich_help_panel=INSPECT)
def show_version() -> None:
    """Show the version."""
    from importlib.metadata import version

    print_line(version("catprune"))


def app_group() -> Any:
    """The group of all commands, as click knows it."""
    return typer.main.get_command(app)


@app.callback(invoke_without_command=True)
def _callback(
    *,
    version: Annotated[bool, typer.Option("--version", "-V", help="Show the version and exit.")] = False,
) -> None:
    if version:
        show_version()
        raise typer.Exit
