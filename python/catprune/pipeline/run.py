"""Run: every step of a run file, in order; finished steps are skipped, interrupted steps continue."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from catprune.cleaning.test_sets import parse_test_sets, test_set_paths
from catprune.corpus.appended import (
    has_appended_rows,
    has_new_inputs,
    is_before_appending,
    is_selected_before,
    replacing,
    require_trained,
    was_appended_to,
)
from catprune.corpus.data import FOLDER, are_names
from catprune.corpus.inputs import input_paths, inputs_of
from catprune.corpus.remote import bring
from catprune.errors import CatpruneError, OtherPlan, UsageError, require
from catprune.evaluation.results import Evaluated, TestSet, open_evaluation, render
from catprune.pipeline.options import RUN_STEPS, EvaluateFileOptions, RunOptions
from catprune.pipeline.plan import Plan, plan_run
from catprune.pipeline.run_file import RunFile, read_run_file
from catprune.pipeline.section_checks import column_of
from catprune.pipeline.sections import DevSection
from catprune.selection.budget import parse_keeps, require_some
from catprune.selection.external_files import external_columns
from catprune.selection.methods import CLUSTERED, METHODS
from catprune.selection.request import check_options, read_ranking
from catprune.selection.sources import is_of_cleaning
from catprune.workspace.device import require_torch
from catprune.workspace.locks import lock_folder
from catprune.workspace.manifest import read_manifest
from catprune.workspace.options import takes
from catprune.workspace.resources import choose_memory
from catprune.workspace.sealed import read_sealed
from catprune.workspace.wording import new_text
from catprune.writing.outputs import output_paths, refuse_outputs, refuse_outputs_of_others

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished run.

    Attributes:
        folder: the run's folder.
        selections: name → selection folder.
        outputs: the pruned text, if the run file asks for it.
        report: the HTML file, if the run file asks for it.
        is_new: whether this call did anything; False if all steps were finished before.
        plan: what the run will need, if that was asked for; then nothing was done.
    """

    folder: Path
    selections: dict[str, Path]
    outputs: tuple[Path, ...]
    report: Path | None
    is_new: bool = field(default=True, compare=False)
    plan: Plan | None = None


@takes(RunOptions)
def run(options: RunOptions) -> Ran:
    """Run every step of a run file that is not finished.

    If the file lists more inputs after those of an earlier run, these are appended: only their rows are cleaned,
    tokenized and scored, with the model trained before. Selections and outputs are recomputed over all rows. A finished
    evaluation stays as it was, and the summary says so.

    Raises:
        UsageError: the file has a mistake.
        CatpruneError: a step failed; running the file again continues there.
    """
    settings, until = read_run_file(options.file, options.set), options.until
    memory = choose_memory(settings.memory if options.memory is None else options.memory)
    if options.plan:
        if not are_names(settings.clean.inputs):
            raise UsageError("plan reads the sizes of local, unpacked files: copy URLs and unpack archives first")
        plan = plan_run(settings, until=until, memory=memory, threads=options.threads or settings.threads)
        return Ran(Path(settings.out), {}, (), None, is_new=False, plan=plan)
    settings = _with_local_inputs(settings, quiet=options.quiet)
    _check_files(settings, until=until, force=options.force)
    running = _Running(settings, options)
    with lock_folder(running.folder):
        running.keep_appended_rows()
        for step in RUN_STEPS[: RUN_STEPS.index(until) + 1]:
            running.do(step)
    return running.result()


def _with_local_inputs(settings: RunFile, *, quiet: bool) -> RunFile:
    """Return the settings with inputs that are files: URLs are copied and archives unpacked into the run's folder."""
    clean = settings.clean
    languages = clean.checked().source_lang, clean.checked().target_lang
    names = bring(clean.inputs, languages, Path(settings.out) / FOLDER, quiet=quiet)
    return settings.model_copy(update={"clean": clean.model_copy(update={"inputs": list(map(str, names))})})


def _check_files(settings: RunFile, *, until: str, force: bool) -> None:
    """Check for mistakes that would only show after hours of training: outputs in use, missing test sets."""
    done = RUN_STEPS[: RUN_STEPS.index(until) + 1]
    if (settings.train and "train" in done) or (settings.evaluate and "evaluate" in done):
        require_torch()
    if settings.report and "report" in done:
        require("report", "jinja2")
    if "select" in done and any(section.method == CLUSTERED for section in settings.selections):
        require("faiss", "faiss")
    if settings.scorer and "score" in done:
        from catprune.scoring.scorers import open_scorer

        trained = (Path(settings.out) / "warmup/manifest.json").is_file()
        for section in settings.scorer:
            scorer = open_scorer(**section.specified("name"))
            if not trained and not (Path(settings.out) / "scores" / column_of(section) / "manifest.json").is_file():
                with scorer:
                    pass  # a model that cannot be loaded fails before training starts
    if "select" in done:
        _check_columns(settings)
    if settings.write and "write" in done:
        write = settings.write
        outputs = output_paths(write.outputs, dropped=write.dropped, tags=write.tags)
        if not force:
            refuse_outputs_of_others(outputs, Path(settings.out), write.selection)
        refuse_outputs(outputs, [Path(path) for path in _files_read(settings)], force=force)
    if settings.evaluate and "evaluate" in done:
        require("evaluate", "sacrebleu", "ctranslate2", "scipy")
        from catprune.evaluation.evaluate import choose_seeds
        from catprune.scoring.scorers.comet import CometMetric

        choose_seeds(settings.seed, settings.evaluate.seeds)
        if settings.evaluate.comet is not None:
            CometMetric(settings.evaluate.comet, threads=None).check()
        for held_out in filter(None, (*settings.evaluate.tests, settings.evaluate.dev)):
            _held_out("", held_out).read()


def _check_columns(settings: RunFile) -> None:
    """Check the columns that selections name, as far as columns are known before the run.

    Raises:
        UsageError: a name is no method, scorer, cleaning column, existing column, or column of a file in `join`.
    """
    scores, scorers = Path(settings.out) / "scores", ", ".join(column_of(section) for section in settings.scorer)
    computed = {method.name for method in METHODS if method.reads != "scorer"}
    scorer_columns = {column_of(section) for section in settings.scorer}
    for section in settings.selections:
        external = {name for path in section.join for name in external_columns(Path(path))}
        for name in read_ranking(section.checked("name", "tokens_of")).names:
            folder = name.partition(".")[0]
            known = (
                name in computed | external
                or folder in scorer_columns
                or is_of_cleaning(name)
                or (scores / folder).is_dir()
            )
            if not known:
                raise UsageError(f"{section.name}: there is no column {name}: [[scorer]] makes {scorers or 'none'}")


def _files_read(settings: RunFile) -> list[str]:
    """Return the files that the run reads but does not write."""
    tests = [*settings.evaluate.tests, settings.evaluate.dev] if settings.evaluate else []
    return [
        *(path for entry in inputs_of(settings.clean) for path in input_paths(entry)),
        *filter(None, (settings.clean.tags, settings.tokenize.tokenizer)),
        *(name.rpartition(":")[0] for name in settings.clean.prefer if ".parquet:" in name),
        *(path for section in settings.selections for path in section.join),
        *(path for entry in parse_test_sets(settings.clean.exclude) for path in test_set_paths(entry)),
        *(path for test in filter(None, tests) for path in (test.source, test.target) if path),
    ]


class _Result(Protocol):
    """What a step returns."""

    @property
    def is_new(self) -> bool: ...


Result = TypeVar("Result", bound=_Result)


def silent(_: str) -> None:
    """Say nothing."""


class _Running:
    """A run in progress: the folder and options of each step."""

    def __init__(
        self,
        settings: RunFile,
        options: RunOptions,
    ) -> None:
        self.settings = settings
        self.folder = Path(settings.out)
        self.clean, self.tokens = self.folder / "clean", self.folder / "tokens"
        self.warmup, self.scores = self.folder / "warmup", self.folder / "scores"
        self.selections = {section.name: self.folder / "selection" / section.name for section in settings.selections}
        self.spilling: dict[str, Any] = {"tmp_dir": options.tmp_dir or settings.tmp_dir}
        memory = settings.memory if options.memory is None else options.memory
        self.cleaning: dict[str, Any] = {"memory": memory, "verify_inputs": options.verify_inputs, **self.spilling}
        self.say: Callable[[str], None] = options.say or silent
        self.force = options.force
        threads = options.threads or settings.threads
        self.options: dict[str, Any] = {"threads": threads, "force": options.force, "quiet": options.quiet}
        #: Options of the steps that process appended rows only; see `keep_appended_rows`.
        self.appending = {**self.options}
        #: Whether a step did anything.
        self.is_new = False

    def keep_appended_rows(self) -> None:
        """If rows were or will be appended, let `force` replace only work with other options.

        Raises:
            CatpruneError: rows would be appended while a training is unfinished.
        """
        appends = has_new_inputs(self.folder, inputs_of(self.settings.clean))
        if appends and not self.force:
            require_trained(self.folder)
        if appends or has_appended_rows(self.folder):
            self.appending["force"] = False

    def result(self) -> Ran:
        outputs = tuple(Path(path) for path in self.settings.write.outputs) if self.settings.write else ()
        report = self.folder / self.settings.report if self.settings.report else None
        return Ran(self.folder, self.selections, outputs, report, self.is_new)

    def _noted(self, result: Result) -> Result:
        """Note whether a step did anything, and return its result."""
        self.is_new |= result.is_new
        return result

    def do(self, step: str) -> None:
        """Do one step and report its result and time."""
        started = time.monotonic()
        first, *more = getattr(self, f"_{step}")() or [""]
        if first:
            self.say(f"{step:9} {first} ({time.monotonic() - started:.1f} s)")
        for line in more:
            self.say(f"{'':9} {line}")

    def _is_forced(self, work: OtherPlan) -> bool:
        """Whether `force` may replace this work."""
        return self.force and not self._is_frozen(work)

    def _is_frozen(self, work: OtherPlan) -> bool:
        """Whether finished models predate appended rows: retraining them is too expensive to be automatic."""
        return (
            work.new["step"] in ("train", "evaluate")
            and is_before_appending(work)
            and (work.base / "manifest.json").is_file()
        )

    def _clean(self) -> list[str]:
        from catprune.cleaning.clean import clean
        from catprune.cleaning.summary import summary

        section = self.settings.clean
        options = {**section.specified("inputs"), **self.cleaning, **self.appending}
        done = self._noted(replacing(self._is_forced, clean)(section.inputs, out=self.clean, **options))
        for selection in self.settings.selections:
            budget = parse_keeps(selection.keep)[0].get("rows", 0)
            if budget > done.kept:
                raise CatpruneError(f"{selection.name}: cannot keep {budget} pairs, cleaning kept {done.kept}")
            require_some(selection.keep, selection.always_keep, done.kept)
        return summary(done, examples=1)

    def _tokenize(self) -> list[str]:
        from catprune.tokens.tokenize import summary, tokenize

        if self.settings.train is None and self.settings.evaluate is None:
            return []  # nothing reads tokens
        options = {"seed": self.settings.seed, **self.settings.tokenize.specified()}
        options |= self.appending
        return summary(self._noted(replacing(self._is_forced, tokenize)(self.clean, out=self.tokens, **options)))

    def _train(self) -> list[str]:
        from catprune.training.train import train

        if self.settings.train is None:
            return []
        options = {"seed": self.settings.seed, **self.settings.train.specified()}
        frozen = ""
        try:
            self._noted(replacing(self._is_forced, train)(self.tokens, out=self.warmup, **options, **self.appending))
        except OtherPlan as other:
            if not self._is_frozen(other):
                raise
            frozen = "; trained before rows were appended"
        done = read_manifest(self.warmup, step="train")
        names = ", ".join(self._checkpoints())
        return [f"{done['steps']:,} updates in {done['precision']}, checkpoints {names}{frozen}"]

    def _score(self) -> list[str]:
        from catprune.scoring.score import score
        from catprune.scoring.score_pairs import score_pairs

        messages: list[str] = []
        if self.settings.train is not None:
            paths = [self.warmup / name for name in self._checkpoints()]
            options = {**self.settings.score.specified(), **self.appending}
            options |= {"checkpoints": paths, "out": self.scores}
            done = self._noted(replacing(self._is_forced, score)(self.tokens, **options))
            unit = "texts" if self.settings.clean.monolingual else "pairs"
            messages.append(f"{len(paths)} checkpoints over {done.pairs:,} {unit}{new_text(done.new, done.pairs)}")
        for section in self.settings.scorer:
            options = {**section.specified(), "name": column_of(section), **self.appending}
            scored = self._noted(replacing(self._is_forced, score_pairs)(self.clean, out=self.scores, **options))
            messages.append(f"{column_of(section)} over {scored.pairs:,} pairs{new_text(scored.new, scored.pairs)}")
        return messages

    def _checkpoints(self) -> list[str]:
        return [entry["name"] for entry in read_manifest(self.warmup, step="train")["checkpoints"]]

    def _select(self) -> list[str]:
        from catprune.selection.summary import advice, caution, counts_text

        messages: list[str] = []
        cautions: dict[str, None] = {}  # print a caution of several selections once
        for section in self.settings.selections:
            before = _end(self.selections[section.name])
            done = self._select_one(section, self.selections)
            first, *more = counts_text(done)
            cautions |= dict.fromkeys(filter(None, (caution(done), advice(done))))
            messages += [f"{section.name}: {first}", *more, *_new_kept(done.folder, done.manifest, before)]
        return ["what each selection keeps", *messages, *cautions] if messages else []

    def _select_one(
        self, section: Any, folders: Mapping[str, Path], *, scores: Path | None = None, **replacements: Any
    ) -> Any:
        """Select into the section's folder among `folders`.

        Args:
            section: the selection.
            folders: selection → folder; `tokens_of` is looked up here, too.
            scores: scores of other checkpoints than the run's own.
            replacements: options that replace those of the section.
        """
        from catprune.selection.select import select

        replacements = {"seed": self.settings.seed, **section.specified("name", "tokens_of"), **replacements}
        if section.tokens_of is not None:
            tokens = read_manifest(folders[section.tokens_of], step="select")["counts"]["tokens_kept"]
            replacements["keep"] = f"{tokens}tokens"
        names = {name.partition(".")[0] for name in read_ranking(section.checked("name", "tokens_of")).names}
        columns = [self.scores / column_of(section) for section in self.settings.scorer]
        if scores is not None:
            replacements["join"] = [*section.join, *(column for column in columns if column.name in names)]
        has_scores = self.settings.train or any((self.scores / name).is_dir() for name in names)
        source = scores or (self.scores if has_scores else self.clean)
        if self.settings.train is not None:
            # The folder may also hold score sets of other runs.
            replacements.setdefault("checkpoints", self._checkpoints())
        replaces = partial(is_selected_before, but=["keep"] if section.tokens_of else [])
        options = {**replacements, **self.spilling, **self.options}
        return self._noted(replacing(replaces, select)(source, out=folders[section.name], **options))

    def _write(self) -> list[str]:
        from catprune.writing.write import summary, write

        section = self.settings.write
        if section is None:
            return []
        selection = self.selections[section.selection] if section.selection else None
        options_of_write = section.specified("outputs", "selection")
        options = {"selection": selection, **options_of_write, **self.options}
        return summary(self._noted(replacing(is_before_appending, write)(self.clean, section.outputs, **options)))

    def _evaluate(self) -> list[str]:
        from catprune.evaluation.evaluate import choose_seeds, evaluate

        section = self.settings.evaluate
        if section is None:
            return []
        names, folder = self.settings.subsets, self.folder / "evaluate"
        tests = [_held_out(test.name, test) for test in section.tests]
        dev = None if section.dev is None else _held_out("dev", section.dev)
        options = section.specified("tests", "subsets", "dev", "hypotheses", "sweep", "warmup_seeds", "against")
        seeds = choose_seeds(section.seed if "seed" in options else self.settings.seed, section.seeds)
        manifest = folder / "manifest.json"
        is_stale = manifest.is_file() and was_appended_to(
            self.tokens, read_manifest(folder, step="evaluate")["reads"]["tokens"]["manifest"]
        )
        drawn = {seed: self._folders_of(seed) for seed in seeds}
        if not is_stale or self.force:
            for seed in seeds:
                self._draw(seed, drawn[seed])
        stale: list[str] = []
        try:
            done = evaluate(
                self.tokens,
                subsets={
                    name: None if name == "full" else {seed: drawn[seed][name] for seed in seeds} for name in names
                },
                tests=tests,
                dev=dev,
                out=folder,
                against=self.settings.baselines(),
                hypotheses=self.settings.hypotheses(),
                **{**options, "seeds": seeds},
                **self.options,
            )
            self._noted(done)
        except OtherPlan as other:
            if not (other.base == folder and self._is_frozen(other)):
                raise
            stale = [f"evaluated before rows were appended: move {folder} away to evaluate the current corpus"]
        counted = f"{len(self.settings.compared) * len(seeds)} models, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
        return [f"{counted}, test sets {', '.join(test.name for test in tests)}", *stale]

    def _depends(self, section: Any, seed: int) -> tuple[bool, bool]:
        """Return whether a selection needs the warm-up model of a seed, and whether it is drawn again with the seed."""
        assert self.settings.evaluate is not None
        ranking, _ = check_options(section.checked("name", "tokens_of"))
        draws = section.draw or any("seed" in dict(method.options) for method in ranking.methods)
        own = section.seed if "seed" in section.model_fields_set else self.settings.seed
        warmup = self.settings.train
        trained = warmup.seed if warmup is not None and "seed" in warmup.model_fields_set else self.settings.seed
        needs = self.settings.evaluate.warmup_seeds and any(method.needs for method in ranking.methods)
        return needs and trained != seed, draws and own != seed

    def _folders_of(self, seed: int) -> dict[str, Path]:
        """Return where each selection of a seed is: in the run, or in a folder of its own if it depends on the seed."""
        folder, folders = self.folder / "evaluate" / "seeds" / f"seed-{seed}", dict(self.selections)
        for section in self.settings.selections:
            base = section.tokens_of is not None and folders[section.tokens_of] != self.selections[section.tokens_of]
            if any(self._depends(section, seed)) or base:
                folders[section.name] = folder / "selection" / section.name
        return folders

    def _draw(self, seed: int, folders: Mapping[str, Path]) -> None:
        """Train and score the warm-up model of a seed, where one is wanted, and select what depends on the seed."""
        from catprune.scoring.score import score
        from catprune.training.train import train

        own = [
            section for section in self.settings.selections if folders[section.name] != self.selections[section.name]
        ]
        own = [section for section in own if section.name in self._wanted()]
        folder = self.folder / "evaluate" / "seeds" / f"seed-{seed}"
        if any(self._depends(section, seed)[0] for section in own):
            assert self.settings.train is not None
            options = {**self.settings.train.specified(), "seed": seed}
            self._noted(train(self.tokens, out=folder / "warmup", **options, **self.options))
            options = {**self.settings.score.specified(), **self.options}
            options["checkpoints"] = [folder / "warmup" / name for name in self._checkpoints()]
            self._noted(score(self.tokens, out=folder / "scores", **options))
        for section in own:
            scores = folder / "scores" if self._depends(section, seed)[0] else None
            self._select_one(section, folders, scores=scores, seed=seed)

    def _wanted(self) -> set[str]:
        """Return the selections that are compared, and those whose tokens these keep as many of."""
        wanted = set(self.settings.subsets)
        for section in reversed(self.settings.selections):
            if section.name in wanted and section.tokens_of is not None:
                wanted.add(section.tokens_of)
        return wanted

    def _report(self) -> list[str]:
        from catprune.reporting.report import report

        if not self.settings.report:
            return []
        path = self.folder / self.settings.report
        before = path.stat().st_ino if path.exists() else None
        report(self.folder, out=path, force=self.options["force"])
        self.is_new |= path.stat().st_ino != before  # a report that is written is a new file
        return [str(path)]


def _held_out(name: str, section: DevSection) -> TestSet:
    return TestSet(name, Path(section.source), None if section.target is None else Path(section.target))


def _end(selection: Path) -> int:
    """Return the end (exclusive) of the rows of a finished selection; 0 without a selection."""
    manifest = selection / "manifest.json"
    shards = read_sealed(manifest).get("shards", []) if manifest.is_file() else []
    return max((shard["end"] for shard in shards), default=0)


def _new_kept(selection: Path, selected: Mapping[str, Any], before: int) -> list[str]:
    """Count the kept pairs from row `before` on, the rows that were appended; empty without appended rows."""
    import pyarrow.parquet as parquet

    if not 0 < before < _end(selection):
        return []
    new = 0
    for shard in selected["shards"]:
        if shard["first"] >= before:
            new += shard["kept"]
        elif shard["end"] > before:  # it begins with old rows
            table = parquet.read_table(selection / shard["file"], columns=["row", "kept"])
            new += int(table["kept"].to_numpy()[table["row"].to_numpy() >= before].sum())
    return [f"  {new:,} of the kept pairs are new"]


@takes(EvaluateFileOptions)
def evaluate_file(options: EvaluateFileOptions) -> Evaluated:
    """Run the steps of a run file up to its evaluation.

    Raises:
        CatpruneError: the file has no [evaluate] section, or a step failed.
    """
    if read_run_file(options.file, options.set).evaluate is None:
        raise CatpruneError(f"{options.file} has no [evaluate] section: add one with test sets")
    shared = {name: getattr(options, name) for name in ("file", "set", "memory", "threads", "force", "quiet", "say")}
    done = run(until="evaluate", **shared)
    return open_evaluation(done.folder / "evaluate", is_new=done.is_new)


def summary(done: Ran) -> list[str]:
    """Return the plan, if it was asked for; otherwise the tables of the evaluation, if the run has one."""
    if done.plan is not None:
        return done.plan.lines()
    folder = done.folder / "evaluate"
    return [render(open_evaluation(folder))] if (folder / "manifest.json").is_file() else []
