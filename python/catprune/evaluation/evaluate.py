"""Evaluate subsets: train models on each under several seeds, translate test sets, compare, count the cost."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import digest_bytes
from catprune.corpus.bitexts import TestSet
from catprune.corpus.inputs import is_monolingual
from catprune.errors import CatpruneError, UsageError, require
from catprune.evaluation.after_full import FULL, baselines_of, check_average, full_steps, name_continued
from catprune.evaluation.contained import count_contained
from catprune.evaluation.metrics import choose_tokenizer, random_seed, randomise, signatures
from catprune.evaluation.options import EvaluateOptions
from catprune.evaluation.results import Evaluated, open_evaluation
from catprune.evaluation.summary import TEST_METRICS, Hypothesis, summarise
from catprune.evaluation.trial import Design, Trial
from catprune.model.sizes import find_size
from catprune.scoring.scorers.comet import CometMetric
from catprune.tokens.blocks import Tokens
from catprune.training.data_order import Order
from catprune.training.held_out import HeldOut
from catprune.training.recipe import RECIPES, choose_recipe
from catprune.training.request import require_origin
from catprune.workspace.device import Device, require_torch
from catprune.workspace.files import read_json, to_json, write_whole
from catprune.workspace.manifest import describe_folder, read_manifest, trace, verify_shards
from catprune.workspace.options import takes
from catprune.workspace.step_folder import StepFolder

if TYPE_CHECKING:
    #: Subset → seed → its selection; None: all clean pairs.
    Selections = Mapping[str, Mapping[int, Path | None]]

__all__ = ["Evaluated", "Hypothesis", "TestSet", "evaluate"]

# Options of `train` that `evaluate` passes on to every subset alike.
TRAINING = (
    *("preset", "batch_tokens", "learning_rate", "warmup_steps", "label_smoothing", "dropout"),
    *("precision", "accumulate", "save_every"),
)
# What may name a selection, a subset or a test set: it names files, too.
NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
#: Passes over all clean pairs, unless updates or passes are given.
EPOCHS = 10
#: Parts of a plan that change which trials are compared and how, but no trial.
_COMPARED = ("seeds", "comet", "order", "against", "hypotheses", "resamples", "random_seed", "bleu_tokenizer", "beam")


class _EvaluationFolder(StepFolder):
    """Its trials are steps with plans of their own: a new comparison keeps them."""

    keeps = StepFolder.keeps | {"trials", "seeds"}


def choose_seeds(seed: int, seeds: int | Sequence[int]) -> list[int]:
    """Return the training seeds: as many as `seeds` says, from `seed` on, or the list itself.

    Raises:
        UsageError: the list is empty, or holds a seed twice.
    """
    chosen = list(range(seed, seed + seeds)) if isinstance(seeds, int) else list(seeds)
    if not chosen or len(set(chosen)) < len(chosen):
        raise UsageError(f"seeds = {chosen}: give at least one seed, each once")
    return chosen


def check_evaluation(
    subsets: Sequence[str],
    tests: Sequence[str],
    against: Mapping[str, Sequence[str]],
    hypotheses: Sequence[Hypothesis],
    *,
    steps: int | None,
    epochs: float | None,
    has_comet: bool,
) -> None:
    """Refuse names and options of an evaluation that cannot be meant.

    Raises:
        UsageError: the first of them.
    """
    if steps is not None and epochs is not None:
        raise UsageError("both steps and epochs are given: give one of them, the length of every training")
    if not subsets or not tests:
        raise UsageError("an evaluation needs a subset and a test set")
    for name in [*subsets, *tests]:
        if not re.fullmatch(NAME, name):
            raise UsageError(f"{name!r} cannot name a subset or a test set: use letters, digits, - and _")
    if len(set(tests)) != len(tests):
        raise UsageError("two test sets have the same name: give each its own")
    named = [name for name, baselines in against.items() for name in (name, *baselines)]
    if missing := [name for name in named if name not in subsets]:
        raise UsageError(f"{missing[0]} is to be compared, but no subset has that name")
    for hypothesis in hypotheses:
        if missing := [name for name in (hypothesis.subset, hypothesis.baseline) if name not in subsets]:
            raise UsageError(f"hypothesis on {missing[0]}: no subset has that name")
        if hypothesis.subset == hypothesis.baseline:
            raise UsageError(f"hypothesis on {hypothesis.subset}: compare it with another subset")
        if hypothesis.metric not in TEST_METRICS:
            raise UsageError(f"hypothesis on {hypothesis.subset}: give a metric of {', '.join(TEST_METRICS)}")
        if hypothesis.metric == "COMET" and not has_comet:
            raise UsageError(f"hypothesis on {hypothesis.subset}: COMET needs a model: give comet")
        if hypothesis.test is not None and hypothesis.test not in tests:
            raise UsageError(f"hypothesis on {hypothesis.subset}: {hypothesis.test} is not a test set")


def _choose_against(
    against: Sequence[str] | Mapping[str, Sequence[str]], subsets: Sequence[str], continued: Mapping[str, str]
) -> dict[str, Any]:
    """Return the baselines of each subset; of the default those that are there."""
    if isinstance(against, Mapping):
        return {name: list(baselines) for name, baselines in against.items()}
    named = [name for name in against if name in subsets or tuple(against) != (FULL, "random")]
    baselines = {name: [baseline for baseline in named if baseline != name] for name in subsets}
    if tuple(against) == (FULL, "random"):
        baselines |= {name: baselines_of(baselines[part], continued) for name, part in continued.items()}
    return baselines


@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> Evaluated:
    """Train models on subsets, alike in all but the data, under several seeds, and compare them on held-out text.

    Every model has the same number of updates. Each subset and seed is a trial with a folder and a result of its own;
    an interrupted evaluation continues, and one with more subsets, seeds, tests or hypotheses trains only what is new.
    With `force`, trials of other options are trained again.

    Raises:
        CatpruneError: a folder or file does not fit.
        UsageError: an option has no valid meaning.
        MissingExtra: torch, ctranslate2, sacrebleu or scipy is not installed.
    """
    tokens, out = Path(options.tokens), Path(options.out)
    seeds = choose_seeds(options.seed, options.seeds)
    continued = name_continued(options.after_full, options.subsets)
    compared = [*options.subsets, *continued]
    against, hypotheses = _choose_against(options.against, compared, continued), list(options.hypotheses)
    names = [test.name for test in options.tests]
    check_evaluation(
        compared,
        names,
        against,
        hypotheses,
        steps=options.steps,
        epochs=options.epochs,
        has_comet=options.comet is not None,
    )
    subsets = {name: _by_seed(name, selection, seeds) for name, selection in options.subsets.items()}
    subsets |= {name: subsets[part] for name, part in continued.items()}
    tokenized = read_manifest(tokens, step="tokenize")
    if is_monolingual(tokenized):
        raise UsageError(f"{tokens} holds a monolingual corpus: evaluation trains translation models, which need pairs")
    require_torch()
    require("evaluate", "sacrebleu", "ctranslate2", "scipy")
    opened = Tokens.open(tokens)
    tests = [HeldOut(test.read(), opened) for test in options.tests]
    dev = None if options.dev is None else HeldOut(options.dev.read(), opened)
    bleu_tokenizer = choose_tokenizer(options.bleu_tokenizer, _target_language(tokens, tokenized))
    training = {name: getattr(options, name) for name in TRAINING}
    training["precision"] = Device.choose(options.precision, trained_width=find_size(options.preset).d_model).precision
    plan: dict[str, Any] = {
        **{
            name: getattr(options, name) for name in ("epochs", "steps", "evaluate_every", "translate_every", "average")
        },
        "beam": options.beam,
        "resamples": options.resamples,
        "training": {name: value for name, value in training.items() if name not in ("accumulate", "save_every")},
        "recipe": asdict(choose_recipe(options.preset, training)),
        "seeds": seeds,
        "order": list(subsets),
        "against": against,
        "hypotheses": [hypothesis.text for hypothesis in hypotheses],
        "random_seed": random_seed(),
        "bleu_tokenizer": bleu_tokenizer,
    }
    comet = None if options.comet is None else CometMetric(options.comet, threads=options.threads)
    if comet is not None:
        comet.check()
        plan["comet"] = comet.described
    reads = _reads(tokens, subsets, tests, dev, out)
    force = options.force or _is_same_training(out, reads, plan)
    with _EvaluationFolder(out, step="evaluate", reads=reads, options=plan, force=force) as folder:
        if folder.manifest is not None and options.force:
            folder.start_over()  # compare again: every trial then verifies its own files, and repeats what is damaged
        if folder.manifest is None:
            for selection in {path for chosen in subsets.values() for path in chosen.values() if path is not None}:
                verify_shards(selection, read_manifest(selection, step="select"))
            steps = options.steps or _count_updates(opened, options, seeds[0])
            every = options.evaluate_every or -(-steps // 20)
            design = Design(
                tokens,
                steps,
                training,
                dev,
                every,
                options.translate_every,
                options.average,
                tests,
                options.beam,
                bleu_tokenizer,
                comet,
                full_steps(steps) if continued else None,
            )
            if design.full_steps is not None:
                check_average(steps, every, options.average)
            trials = _trials(design, subsets, seeds, out / "trials", continued)
            how: dict[str, Any] = {"threads": options.threads, "quiet": options.quiet, "force": options.force}
            # Seed by seed, so that all subsets can be compared before the last seed is done.
            with comet or nullcontext():
                runs = {
                    (name, seed): trials[name][place].run(**how) for place, seed in enumerate(seeds) for name in trials
                }
            results = {name: [runs[name, seed] for seed in seeds] for name in trials}
            for trial in trials.get(FULL, ()):
                trial.forget()
            contained = _count_contained(tokens, tokenized, [*tests, *([] if dev is None else [dev])])
            _publish(folder, trials, results, against, hypotheses, resamples=options.resamples, contained=contained)
    return open_evaluation(out, is_new=not folder.finished_before)


def _trials(
    design: Design, subsets: Selections, seeds: Sequence[int], folder: Path, continued: Mapping[str, str]
) -> dict[str, list[Trial]]:
    """Return the trials of each subset, a list over seeds; those that continue `full` come last."""
    trials: dict[str, list[Trial]] = {}
    for name, chosen in subsets.items():
        full = trials[FULL] if name in continued else [None] * len(seeds)
        trials[name] = [
            Trial(design, folder / name / f"seed-{seed}", name, seed, chosen[seed], continues)
            for seed, continues in zip(seeds, full, strict=True)
        ]
    return trials


def _by_seed(name: str, selection: Any, seeds: Sequence[int]) -> dict[int, Path | None]:
    """Return the selection of a subset under each seed."""
    if not isinstance(selection, Mapping):
        return dict.fromkeys(seeds, None if selection is None else Path(selection))
    selections: Mapping[int, Any] = selection
    if missing := [seed for seed in seeds if seed not in selections]:
        raise UsageError(f"subset {name} has no selection for seed {missing[0]}: give one for each seed")
    return {seed: Path(selections[seed]) for seed in seeds}


def _count_contained(tokens: Path, tokenized: Mapping[str, Any], sets: Sequence[HeldOut]) -> dict[str, int] | None:
    """Count the lines of each held-out set that are in the clean pairs; None if their text cannot be read."""
    clean = trace(tokens, tokenized, "clean")
    if clean is None:
        return None
    try:
        return count_contained(clean, [held_out.bitext for held_out in sets])
    except (CatpruneError, OSError):  # the text was moved or changed; the tokens are still there
        return None


def _target_language(tokens: Path, tokenized: Mapping[str, Any]) -> str | None:
    """Return the target language that cleaning was given; None if it is unknown."""
    clean = trace(tokens, tokenized, "clean")
    return None if clean is None else read_manifest(clean, step="clean")["options"].get("target_lang")


def _count_updates(tokens: Tokens, options: EvaluateOptions, seed: int) -> int:
    """Return the updates that the epochs of all clean pairs take."""
    batch_tokens = options.batch_tokens or RECIPES[options.preset].batch_tokens
    return max(1, round((options.epochs or EPOCHS) * Order(tokens, seed, batch_tokens).updates()))


def _reads(tokens: Path, subsets: Selections, tests: Sequence[HeldOut], dev: HeldOut | None, out: Path) -> Any:
    def describe(path: Path | None) -> dict[str, str] | None:
        if path is None:
            return None
        require_origin(path, tokens)  # a clear error before anything is trained
        return describe_folder(path, relative_to=out)

    return {
        "tokens": describe_folder(tokens, relative_to=out),
        "subsets": {
            name: {str(seed): describe(path) for seed, path in chosen.items()} for name, chosen in subsets.items()
        },
        "tests": {test.bitext.name: test.bitext.digests for test in tests},
        "dev": None if dev is None else dev.bitext.digests,
    }


def _is_same_training(out: Path, reads: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    """Whether the folder holds an evaluation that differs only in what is compared: the summary may be replaced."""
    old = read_json(out / "plan.json") if (out / "plan.json").is_file() else {}
    if old.get("step") != "evaluate":
        return False

    def trained(reads: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        common = {name: value for name, value in options.items() if name not in _COMPARED}
        return {**common, "tokens": reads["tokens"], "dev": reads["dev"]}

    same = all(
        seeds.get(seed, selection) == selection
        for name, seeds in old["reads"]["subsets"].items()
        for seed, selection in reads["subsets"].get(name, {}).items()
    )
    return same and trained(old["reads"], old["options"]) == trained(reads, json.loads(to_json(plan)))


def _publish(
    folder: StepFolder,
    trials: Mapping[str, Sequence[Trial]],
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    against: Mapping[str, Sequence[str]],
    hypotheses: Sequence[Hypothesis],
    *,
    resamples: int,
    contained: Mapping[str, int] | None,
) -> None:
    """Write results.json (no times), log/seconds.json (times) and the manifest."""
    first = next(iter(trials.values()))[0]
    tests, design = first.design.tests, first.design
    data = to_json(
        {
            "seeds": [trial.seed for trial in next(iter(trials.values()))],
            "against": against,
            "test_order": [test.bitext.name for test in tests],
            "tests": {test.bitext.name: len(test.bitext.source) for test in tests},
            "dev": None if design.dev is None else len(design.dev.bitext.source),
            "signatures": signatures(tests[0].bitext.target, tokenizer=design.bleu_tokenizer),
            "contained": contained,
            "randomisation": _randomise(trials, against, resamples=resamples),
            **summarise(results, tests=[test.bitext.name for test in tests], against=against, hypotheses=hypotheses),
        }
    )
    write_whole(folder.path / "results.json", data)
    seconds = {name: _mean_seconds([trial.seconds() for trial in listed]) for name, listed in trials.items()}
    write_whole(folder.path / "log" / "seconds.json", to_json(seconds))
    folder.publish(results={"file": "results.json", "digest": digest_bytes(data)})


def _mean_seconds(parts: Sequence[dict[str, float] | None]) -> dict[str, float] | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return {name: sum(part[name] for part in known) / len(known) for name in known[0]}


def _randomise(
    trials: Mapping[str, Sequence[Trial]], against: Mapping[str, Sequence[str]], *, resamples: int
) -> dict[str, Any]:
    """Return test set → subset → baseline → metric → p of approximate randomisation; nothing with several seeds."""
    if len(next(iter(trials.values()))) > 1:
        return {}
    results: dict[str, Any] = {}
    design = next(iter(trials.values()))[0].design
    for test in design.tests:
        texts = {name: listed[0].translations(test) for name, listed in trials.items()}
        p: dict[str, Any] = {name: {} for name in against}
        for baseline in dict.fromkeys(name for baselines in against.values() for name in baselines):
            compared = [name for name, baselines in against.items() if baseline in baselines]
            values = randomise(
                {name: texts[name] for name in (baseline, *compared)},
                test.bitext.target,
                baseline=baseline,
                tokenizer=design.bleu_tokenizer,
                swaps=resamples,
            )
            for name in compared:
                p[name][baseline] = values[name]
        results[test.bitext.name] = p
    return results
