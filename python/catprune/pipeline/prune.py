"""Prune a corpus in one command: choose defaults, write a run file, and run it."""

from __future__ import annotations

import importlib.util
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.cleaning.clean import clean
from catprune.cleaning.languages import describe_swapped
from catprune.cleaning.request import LEAST_MEMORY
from catprune.cleaning.summary import summary as clean_summary
from catprune.corpus.appended import has_appended_rows, has_new_inputs, replacing, require_trained
from catprune.corpus.data import FOLDER, spool_options, temporary_spool
from catprune.corpus.inputs import input_paths, inputs_of, relative_inputs
from catprune.corpus.moved import has_bytes_of
from catprune.errors import CatpruneError, UsageError, require
from catprune.pipeline.doctor import EXTRAS
from catprune.pipeline.estimate import (
    expected,
    guess_training,
    measure_training,
    target_tokens,
)
from catprune.pipeline.options import PruneOptions
from catprune.pipeline.plan import CorpusSize, clean_cost, measure_corpus, tokenize_cost
from catprune.pipeline.run import Ran, run, silent
from catprune.pipeline.run_file import SCHEMA, check_values, json_schema, read_run_file
from catprune.pipeline.written_run_file import SELECTION, WrittenRunFile
from catprune.scoring.scorers import open_scorer
from catprune.selection.budget import list_shares, require_some
from catprune.selection.methods import CLUSTERED, METHODS
from catprune.selection.options import SelectOptions
from catprune.selection.request import DEFAULT_METHOD, Ranking, check_options
from catprune.tokens.tokenizer import estimate_target_tokens
from catprune.training.recipe import plan_marks
from catprune.workspace.common_options import several
from catprune.workspace.device import require_torch
from catprune.workspace.files import relative_place, write_whole
from catprune.workspace.locks import check_folder, lock_folder
from catprune.workspace.manifest import read_manifest
from catprune.workspace.options import changed_values, make, takes
from catprune.workspace.resources import choose_memory, choose_threads
from catprune.workspace.spool import Spool
from catprune.workspace.wording import duration, share_text
from catprune.writing.outputs import describe_output, name_sides, refuse_outputs, refuse_outputs_of_others

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from catprune.boundary import Input
    from catprune.cleaning.clean import Cleaned
    from catprune.pipeline.run_file import RunFile

#: The keys of [train] whose defaults depend on the corpus.
_MODEL = ("preset", "epochs", "checkpoints")
#: Further keys of [train] that are given for some corpora.
_OPTIONAL = ("batch_tokens", "sample")
#: With more than twice as many clean pairs, the warm-up model is trained on so many, drawn at random. A small model
#: learns little from more, and its cost is part of the cost of pruning: 5 epochs are about 30,000 updates of `small`.
_SAMPLE = 1_000_000
#: `summary` warns if the mean length of kept pairs is below this share of the mean length of clean pairs.
_SHORT = 0.9
#: With fewer clean pairs, the warm-up model is trained in small batches.
_FEW_PAIRS = 10_000
#: A number of pairs to keep that may be meant as percents.
_LIKE_PERCENT = 100
#: The smallest number of clean pairs that can train a warm-up model.
_LEAST_PAIRS = 100


@takes(PruneOptions)
def prune(options: PruneOptions) -> Ran:
    """Prune a corpus by how the loss of a small model changes on each pair during early training.

    The folder `out` gets a `run.toml`; `run` repeats the run from it. If `out` holds a run of the first of these
    inputs with the same options, the other inputs are appended to the run and to its run file. In-memory inputs are
    copied to Parquet files in `out`/inputs. `force` repeats the steps that changed options affect; rows appended
    earlier are not processed again.

    Raises:
        UsageError, CatpruneError: as the steps do.
    """
    if options.dry_run:
        with temporary_spool(options.tmp_dir) as spool:
            return _Pruning.read(options, spool).dry_run(spool.folder)
    spool = Spool(Path(options.out) / FOLDER)
    with spool.discarded(), spool.replaced(Path(options.out) / "run.toml", force=options.force):
        pruning = _Pruning.read(options, spool)
        with lock_folder(pruning.folder):
            is_new, model = pruning.clean_and_decide()
    if pruning.needs_model and not (pruning.folder / "scores").is_dir():
        is_new |= pruning.tokenize_and_estimate(model)
    done = run(pruning.file, **pruning.resources, say=pruning.say)
    return replace(done, is_new=is_new or done.is_new)


@dataclass(frozen=True, slots=True)
class _Pruning:
    """A call of `prune` with checked options.

    Attributes:
        options: the caller's options; in-memory inputs are replaced by their files.
        folder, file: folder and run file of the run.
        inputs: the inputs as `parse_inputs` returns them.
        ranking: the methods that rank, and the budget.
        scorers: names of the scorers that the method needs.
        before: the run file that is in the folder.
        say: called with each line of progress.
    """

    options: PruneOptions
    folder: Path
    file: Path
    inputs: list[Input]
    ranking: Ranking
    scorers: list[str]
    before: WrittenRunFile
    say: Callable[[str], None]

    @classmethod
    def read(cls, options: PruneOptions, spool: Spool) -> _Pruning:
        """Check all that can be checked before the corpus is read; write in-memory inputs to the spool."""
        ranking, _ = check_options(make(SelectOptions, {"source": "scores", "out": "out", **_selection(options)}))
        scorers = [method.name for method in METHODS if method.name == options.method and method.reads == "scorer"]
        folder = Path(options.out)
        check_folder(folder)
        choose_memory(options.memory, least=LEAST_MEMORY)
        file, say = folder / "run.toml", options.say or silent
        pruning = cls(options, folder, file, [], ranking, scorers, WrittenRunFile.read(file), say)
        if pruning.needs_model:
            require_torch()
            pruning._check_checkpoints()
        elif unused := [name for name in (*_MODEL, "sample") if getattr(options, name) is not None]:
            raise UsageError(f"{unused[0]} is given, but {pruning.method} needs no warm-up model: leave it out")
        if pruning.method == CLUSTERED:
            require("faiss", "faiss")
        for scorer in scorers:
            open_scorer(scorer)
        outputs = [Path(path) for path in several(options.outputs)]
        languages = {"source_lang": options.source_lang, "target_lang": options.target_lang}
        describe_output(outputs, name_sides(None, languages, monolingual=options.monolingual))
        if len(outputs) == 2:
            sides = str(outputs[0]), str(outputs[1])
            if swapped := describe_swapped(*sides, (options.source_lang, options.target_lang)):
                raise UsageError(swapped)
        if not options.force:
            refuse_outputs_of_others(outputs, folder, SELECTION)
        refuse_outputs(outputs, [], force=options.force)
        options = spool_options(options, spool)
        pruning = replace(pruning, options=options, inputs=inputs_of(options))
        files = [Path(path) for entry in pruning.inputs for path in input_paths(entry)]
        for path in files:
            path.stat()  # report a missing file before a folder is made
        refuse_outputs(outputs, files, force=options.force)
        pruning._check_run_file()
        return pruning

    def _check_run_file(self) -> None:
        """Check the run file that will be written, as far as it is known before cleaning.

        Raises:
            UsageError: an option has no meaning, or does not fit what a user added to the run file.
        """
        sections = self._sections(self._decide(0), self._relative(_names(self.options.inputs)))
        try:
            check_values(sections, self.folder)
        except UsageError as error:  # the selection has no other name on the command line
            raise UsageError(str(error).removeprefix(f"{SELECTION}: ")) from None
        if self.before.text is not None and self.options.force:
            try:
                check_values(tomllib.loads(self.before.with_sections(sections)), self.folder)
            except UsageError as error:
                raise UsageError(f"{self.file} does not fit these options: {error}; change it, or remove it") from None

    def _check_checkpoints(self) -> None:
        """Refuse fewer checkpoints than the method compares.

        Raises:
            UsageError: there are too few, or the options of the training contradict each other.
        """
        options = self.options
        plan_marks(options.epochs, None, options.checkpoints)
        model = self._decide(0)
        marks = plan_marks(model["epochs"], None, model["checkpoints"])
        for method in self.ranking.methods:
            if len(marks) < method.needs:
                raise UsageError(
                    f"{method.name} needs {method.needs} checkpoints, checkpoints = {model['checkpoints']} gives "
                    f"{len(marks)}: give more"
                )

    @property
    def method(self) -> str:
        """Name of the method that ranks."""
        return self.options.method or DEFAULT_METHOD

    @property
    def needs_model(self) -> bool:
        """Whether a warm-up model is needed."""
        return any(method.needs for method in self.ranking.methods) or self.ranking.counts_tokens

    @property
    def unit(self) -> str:
        """Plural of a record: "pairs" or "texts"."""
        return "texts" if self.options.monolingual else "pairs"

    @property
    def resources(self) -> dict[str, Any]:
        """The options that every call of `run` gets."""
        names = ("memory", "tmp_dir", "threads", "force", "quiet")
        return {name: getattr(self.options, name) for name in names}

    def clean_and_decide(self) -> tuple[bool, dict[str, Any]]:
        """Clean, choose the warm-up model, and write the run file.

        Returns:
            Whether anything was cleaned, and the choices.
        """
        options = self.options
        appends = has_new_inputs(self.folder, self.inputs)
        keeps_rows = appends or has_appended_rows(self.folder)  # `force` does not process the earlier rows again
        run_file = read_run_file(self.file) if self.file.is_file() and (keeps_rows or not options.force) else None
        new = self.inputs
        if run_file is not None and not options.force:
            # Check before cleaning starts.
            new = self._new_inputs(run_file)
            if appends:
                require_trained(self.folder)
        cleaned = self._clean(new, force=options.force and not keeps_rows)
        self._require_pairs(cleaned)
        model = (_decided(run_file) if run_file is not None else None) or self._decide(cleaned.kept)
        self.folder.mkdir(parents=True, exist_ok=True)
        schema = self.folder / SCHEMA
        if not schema.is_file() or schema.read_bytes() != json_schema():
            write_whole(schema, json_schema())
        self._write_run_file(self._sections(model, self._relative(_names(options.inputs))))
        self._say_decision(model)
        return cleaned.is_new, model

    def _write_run_file(self, sections: dict[str, Any]) -> None:
        """Write the run file; what a user added to an earlier one stays, and what `force` changes is said."""
        changed = self.before.differences(sections)
        if self.before.text is not None and not changed:
            return
        text = self.before.with_sections(sections)
        if self.before.text is not None:
            self.say(f"note: {self.file} is changed: {'; '.join(changed)}")
        write_whole(self.file, text.encode())

    def _clean(self, new: list[Input], *, force: bool) -> Cleaned:
        self._say_size(new)
        cleaned = replacing(lambda _: self.options.force, clean)(
            self.options.inputs, out=self.folder / "clean", **{**self._cleaning(), "force": force}
        )
        self.say(f"          {clean_summary(cleaned, examples=0)[0]}")  # `run` prints the reasons later
        return cleaned

    def _say_size(self, inputs: list[Input]) -> None:
        size = measure_corpus(inputs)
        cost = clean_cost(size, memory=choose_memory(self.options.memory))
        seconds = cost.seconds(choose_threads(self.options.threads))
        self.say(f"clean     {size.stored / 1e6:,.1f} MB, about {duration(max(1, seconds))}")

    def _cleaning(self) -> dict[str, Any]:
        options = self.options
        names = (
            "source_lang",
            "target_lang",
            "columns",
            "fields",
            "format",
            "header",
            "monolingual",
            "exclude",
            "repair",
            "rules",
            "memory",
        )
        return {name: getattr(options, name) for name in (*names, "tmp_dir", "threads", "quiet")}

    def _require_pairs(self, cleaned: Cleaned) -> None:
        """Check that the corpus is large enough.

        Raises:
            CatpruneError: fewer clean pairs than are to be kept, or than a warm-up model needs.
        """
        budget, least = self.ranking.share.get("rows", 0), _LEAST_PAIRS if self.needs_model else 1
        if cleaned.kept < max(least, budget):
            needed = f"{budget:,} are to be kept" if budget > cleaned.kept else f"{self.method} needs {least:,}"
            frequent = sorted(cleaned.reasons.items(), key=lambda item: (-item[1], item[0]))[:3]
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in frequent if count)
            dropped = f" (most frequent reasons to drop: {reasons})" if reasons else ""
            raise CatpruneError(
                f"{cleaned.kept:,} of {cleaned.rows:,} {self.unit} are clean, too few: {needed}; give more text, or "
                f"keep less{dropped}"
            )
        require_some(self.options.keep, (), cleaned.kept)

    def _decide(self, pairs: int) -> dict[str, Any]:
        """Choose vocabulary and warm-up model: given options first, the rest by the number of clean pairs."""
        if not self.needs_model:
            return {}
        options = {name: value for name in _MODEL if (value := getattr(self.options, name)) is not None}
        several = any(method.needs > 2 for method in self.ranking.methods)
        model = {**decide(pairs, several=several), **_fit(options, several=several)}
        sample = self.options.sample or (_SAMPLE if pairs > 2 * _SAMPLE else None)
        if model["preset"] != "tiny":
            model.pop("batch_tokens", None)
        return model if sample is None else {**model, "sample": sample}

    def _say_decision(self, model: Mapping[str, Any]) -> None:
        keep = ", ".join(map(str, list_shares(self.options.keep)))
        unit = f" {self.unit}" if self.ranking.share.keys() <= {"rows"} else ""
        plain = {name: f"{value:g}" if isinstance(value, float) else value for name, value in model.items()}
        described = ", ".join(f"{name} {value}" for name, value in plain.items())
        place = "" if self.options.dry_run else f"; see {self.file}"
        self.say(f"decided   keep {keep}{unit} by {self.method}; {described or 'no warm-up model needed'}{place}")
        rows = self.ranking.share.get("rows", 0)
        if 0 < rows <= _LIKE_PERCENT:
            self.say(f"note: keep = {rows} is a number of {self.unit}; for a share give keep = {rows}%")

    def _say_tokenizing(self, pairs: int) -> None:
        size = measure_corpus(self.inputs)
        kept = CorpusSize(pairs, pairs * size.text / max(1, size.records))
        seconds = tokenize_cost(kept).seconds(choose_threads(self.options.threads))
        self.say(f"tokenize  {pairs:,} {self.unit}, about {duration(max(1, seconds))}")

    def tokenize_and_estimate(self, model: dict[str, Any]) -> bool:
        """Tokenize, and report how long training and scoring will take; return whether anything was done."""
        options = self.options
        self._say_tokenizing(read_manifest(self.folder / "clean", step="clean")["counts"]["kept"])
        done = run(self.file, until="tokenize", **self.resources)
        tokens, pairs, rows = target_tokens(self.folder / "tokens")
        speed = measure_training(
            self.folder / "tokens", preset=model["preset"], seed=options.seed, threads=options.threads
        )
        self.say(f"expected  {expected(tokens, pairs, rows, model=model, speed=speed)}")
        return done.is_new

    def dry_run(self, scratch: Path) -> Ran:
        """Clean into a folder that is removed later, and report the decisions and the expected times."""
        options = self.options
        if self.before.text is not None and not options.force:
            self._new_inputs(read_run_file(self.file))
        self._say_size(self.inputs)
        cleaned = clean(options.inputs, out=scratch / "clean", **self._cleaning())
        for line in clean_summary(cleaned, examples=0):
            self.say(f"          {line}")
        self._require_pairs(cleaned)
        model = self._decide(cleaned.kept)
        self._say_decision(model)
        if model:
            self._say_tokenizing(cleaned.kept)
            size: Any = {"vocab_size": model["vocab_size"], "threads": options.threads}
            tokens = estimate_target_tokens(scratch / "clean", **size)
            speed = guess_training(preset=model["preset"], **size)
            self.say(f"expected  roughly {expected(tokens, cleaned.kept, cleaned.rows, model=model, speed=speed)}")
        self.say("dry run   nothing was written; run the same command without dry_run to start")
        return Ran(self.folder, {}, (), None)

    def _new_inputs(self, run_file: RunFile) -> list[Input]:
        """Return the inputs that the run in the folder does not have yet.

        Raises:
            CatpruneError: the run has other options, or its inputs are not the first of these inputs.
        """
        now = self._sections(self._decide_like(run_file), self._relative(run_file.clean.inputs))
        if changed := self.before.differences(now):
            raise CatpruneError(
                f"{self.file} has other options ({'; '.join(changed[:5])}): give another folder as out, or force "
                "= true to repeat the steps that they affect"
            )
        old = inputs_of(run_file.clean)
        first, clean = self.inputs[: len(old)], self.folder / "clean"
        if first != old and not has_bytes_of(clean, relative_inputs(first, clean), None):
            raise CatpruneError(
                f"{self.file} has other inputs: give its inputs first and the new inputs after them, give another "
                "folder as out, or force = true to prune all inputs again"
            )
        return self.inputs[len(old) :]

    def _decide_like(self, run_file: RunFile) -> dict[str, Any]:
        """Return the choices of the run in the folder, overridden by the options given now."""
        names = (*_MODEL, "sample")
        options = {name: value for name in names if (value := getattr(self.options, name)) is not None}
        decided = _decided(run_file)
        return {**decided, **options} if decided else {}

    def _sections(self, model: Mapping[str, Any], inputs: Sequence[str]) -> dict[str, Any]:
        """Return the sections of the run file."""
        options = self.options
        cleaning = {
            name: value
            for name in ("source_lang", "target_lang", "columns", "fields", "format", "header", "monolingual")
            if (value := getattr(options, name)) not in (None, False)
        }
        if options.rules is not None:
            cleaning["rules"] = options.rules and changed_values(options.rules)
        if options.repair != "none":
            cleaning["repair"] = options.repair
        if options.exclude:
            cleaning["exclude"] = self._relative(several(options.exclude))
        sections: dict[str, Any] = {
            "out": ".",
            "seed": options.seed,
            "report": "report.html" if _can_report() else "",
            "clean": {"inputs": list(inputs), **cleaning},
        }
        if model:
            sections["tokenize"] = {"vocab_size": model["vocab_size"]}
            sections["train"] = {name: model[name] for name in (*_MODEL, *_OPTIONAL) if name in model}
        if self.scorers:
            sections["scorer"] = [{"scorer": name} for name in self.scorers]
        sections["select"] = [{"name": SELECTION, **_selection(options)}]
        sections["write"] = {"selection": SELECTION, "outputs": self._relative(several(options.outputs))}
        return sections

    def _relative(self, names: Sequence[str | Path]) -> list[str]:
        return [relative_place(name, self.folder) for name in names]


def _fit(options: dict[str, Any], *, several: bool) -> dict[str, Any]:
    """Complete given epochs with checkpoints from early to the end, or given checkpoints with epochs."""
    if "epochs" in options and "checkpoints" not in options:
        last = options["epochs"]
        first = 1 if last > 1 else last / 2
        points = [first, (first + last) / 2, last] if several else [first, last]
        return {**options, "checkpoints": ",".join(f"{point:g}" for point in points)}
    if "checkpoints" in options and "epochs" not in options:
        marks = plan_marks(None, None, options["checkpoints"])
        return {**options, **({"epochs": marks[-1].amount} if marks[-1].unit == "epoch" else {})}
    return options


def _names(inputs: Any) -> list[str | Path]:
    return [inputs] if isinstance(inputs, str | Path) else list(inputs)


def _selection(options: PruneOptions) -> dict[str, Any]:
    """Return the options of the selection."""
    shares = list_shares(options.keep)
    keep = shares[0] if len(shares) == 1 else shares
    optional = {"on": options.on, "within": options.within}
    values = {name: value for name, value in optional.items() if value is not None}
    return {"method": options.method or DEFAULT_METHOD, "keep": keep, **values}


def _decided(run_file: RunFile) -> dict[str, Any]:
    """Return the choices made when the run was new; appended rows do not change them."""
    if run_file.train is None:
        return {}
    model = {"vocab_size": run_file.tokenize.vocab_size, **{name: getattr(run_file.train, name) for name in _MODEL}}
    optional = {name: value for name in _OPTIONAL if (value := getattr(run_file.train, name)) is not None}
    return {} if None in model.values() else {**model, **optional}


def _can_report() -> bool:
    """Whether the report's packages are installed; pruning itself does not need them."""
    return all(importlib.util.find_spec(package) is not None for package in EXTRAS["report"])


def decide(pairs: int, *, several: bool = False) -> dict[str, Any]:
    """Choose vocabulary size and warm-up model by the number of clean pairs.

    The model is small because its training is part of the cost of pruning.

    Args:
        pairs: number of clean pairs.
        several: whether the method compares more than two checkpoints.
    """
    vocab_size = 1_000 if pairs < 5_000 else 4_000 if pairs < 50_000 else 8_000 if pairs < 1_000_000 else 16_000
    # A few thousand pairs are too few updates in large batches: see docs/reference/presets.md.
    batch = {"batch_tokens": 1024} if pairs < _FEW_PAIRS else {}
    return {
        "vocab_size": vocab_size,
        "preset": "tiny" if pairs < 5_000_000 else "small",
        "epochs": 5.0,
        "checkpoints": "1,3,5" if several else "1,5",
        **batch,
    }


def summary(done: Ran) -> list[str]:
    """Return the kept pairs and tokens, a warning if the kept pairs are short, and how to evaluate."""
    if not done.selections:
        return []
    folder = next(iter(done.selections.values()))
    counts = read_manifest(folder, step="select")["counts"]
    lines = [f"kept {share_text(counts['kept'], counts['scored'])} of {counts['scored']:,} scored pairs"]
    if counts["tokens"]:
        lines[0] += f" and {share_text(counts['tokens_kept'], counts['tokens'])} of {counts['tokens']:,} target tokens"
        pairs, tokens = counts["kept"] / counts["scored"], counts["tokens_kept"] / counts["tokens"]
        if tokens < _SHORT * pairs:
            mean, whole = counts["tokens_kept"] / counts["kept"], counts["tokens"] / counts["scored"]
            lines.append(
                f"warning: the kept pairs are short, {mean:.1f} target tokens on average, {whole:.1f} in the clean "
                "corpus; within = length keeps the same share of each length"
            )
    lines.append(
        f"to evaluate the selection, add an [evaluate] section with test sets to {done.folder / 'run.toml'} and run:"
    )
    lines.append(f"  catprune run {done.folder}")
    return lines
