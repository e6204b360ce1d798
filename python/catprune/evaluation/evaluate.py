"""Evaluate subsets: train a model on each, translate test sets, compare by BLEU and chrF, count the cost."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import digest_bytes, digest_file
from catprune.corpus.inputs import is_monolingual
from catprune.errors import CatpruneError, UsageError, require
from catprune.evaluation.cost import flops_of, scorers_of, seconds_of
from catprune.evaluation.options import EvaluateOptions
from catprune.evaluation.results import Evaluated, Score, TestSet, open_evaluation
from catprune.training.train import require_origin
from catprune.workspace.device import Device, require_torch
from catprune.workspace.files import to_json, write_whole
from catprune.workspace.manifest import describe_folder, digest_manifest, read_manifest, verify_shards
from catprune.workspace.options import takes
from catprune.workspace.step_folder import StepFolder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Evaluated", "TestSet", "compare", "evaluate"]

# Options of `train` that `evaluate` passes on to every subset alike.
TRAINING = (
    *("batch_tokens", "learning_rate", "warmup_steps", "label_smoothing", "dropout"),
    *("precision", "accumulate", "save_every"),
)
# Names of selections, subsets and test sets; they are also file names.
NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"


class _EvaluationFolder(StepFolder):
    """Evaluation folder: each model is a step with its own plan, so a new comparison keeps the models that fit."""

    keeps = StepFolder.keeps | {"models"}


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file, plain or compressed; only line feeds end a line.

    The core's reader drops lines that it cannot read. A test set must keep every line, because systems are compared
    line by line; a test set fits into memory.
    """
    import pyarrow

    try:
        with pyarrow.input_stream(str(path), compression="detect") as stream:
            text = stream.read().decode("utf-8-sig")
    except FileNotFoundError:
        raise CatpruneError(f"{path} does not exist: give the two files of a test set") from None
    except UnicodeDecodeError as error:
        raise CatpruneError(f"{path} is not UTF-8 (byte {error.start}): convert the test set") from None
    except OSError as error:
        raise CatpruneError(f"{path} cannot be read ({error}): check that the file is complete") from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def read_test(test: TestSet) -> tuple[list[str], list[str]]:
    """Read both sides of a test set.

    Raises:
        CatpruneError: a file is missing, empty or not UTF-8, or the sides differ in length.
    """
    source, target = _lines(test.source), _lines(test.target)
    if len(source) != len(target):
        raise CatpruneError(
            f"{test.source} has {len(source)} lines, {test.target} has {len(target)}: a test set needs pairs"
        )
    if not source:
        raise CatpruneError(f"{test.source} is empty: a test set needs lines")
    return source, target


def check_evaluation(
    subsets: Sequence[str],
    tests: Sequence[str],
    against: Sequence[str],
    *,
    steps: int | None,
    epochs: float | None,
) -> None:
    """Check the names and the length of training of an evaluation.

    Raises:
        UsageError: a name or option is invalid.
    """
    if (steps is None) == (epochs is None):
        raise UsageError(
            "an evaluation needs either steps (equal updates) or epochs (equal epochs): give one of the two"
        )
    names = [*subsets, *tests]
    if not subsets or not tests:
        raise UsageError("an evaluation needs a subset and a test set")
    for name in names:
        if not re.fullmatch(NAME, name):
            raise UsageError(f"{name!r} cannot name a subset or a test set: use letters, digits, - and _")
    if len(set(tests)) != len(tests):
        raise UsageError("two test sets have the same name: give each its own")
    if missing := [name for name in against if name not in subsets]:
        raise UsageError(f"{missing[0]} is in against, but no subset has that name")


def _train(tokens: Path, out: Path, selection: Path | None, options: Mapping[str, Any], *, force: bool) -> Path:
    """Train the subset's model unless it is up to date, and return its last checkpoint."""
    from catprune.training.train import train

    return train(tokens, out=out, selection=selection, force=force, **options).checkpoints[-1]


def _drop_stale_translations(folder: Path, subset: str, checkpoint: Path) -> None:
    """Delete a subset's translations unless the current model made them."""
    stamp, model = folder / f"{subset}.model", digest_manifest(checkpoint.parent).encode()
    folder.mkdir(parents=True, exist_ok=True)
    if not stamp.is_file() or stamp.read_bytes() != model:
        for path in folder.glob(f"{subset}.*.txt"):
            path.unlink()
        write_whole(stamp, model)


def _translations(path: Path, source: Sequence[str], checkpoint: Path, *, beam: int, threads: int | None) -> list[str]:
    """Return the hypotheses in `path`, one per line of `source`; translate first if the file is missing."""
    from catprune.evaluation.translate import translate

    if not path.is_file():
        hypotheses = translate(checkpoint, source, beam=beam, threads=threads)
        text = "".join(line.replace("\n", " ") + "\n" for line in hypotheses)
        write_whole(path, text.encode())
    return _lines(path)


def _bootstrap_seed() -> int:
    """Return the seed of sacrebleu's bootstrap: its environment variable or its default."""
    seed = os.environ.get("SACREBLEU_SEED", "12345")
    if not seed.isdecimal():
        raise UsageError(f"SACREBLEU_SEED is {seed!r}: set a number, so that p-values can be repeated")
    return int(seed)


def compare(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[str],
    *,
    against: Sequence[str] = (),
    resamples: int = 1000,
) -> tuple[dict[str, dict[str, Score]], dict[str, str]]:
    """Compute BLEU and chrF of systems on one test set, with paired bootstrap tests against baselines (sacrebleu).

    Args:
        systems: name → hypotheses, one line per reference.
        references: reference translations, one per line.
        against: names of the systems that all others are compared with.
        resamples: bootstrap resamples of the test set.

    Returns:
        system → metric → Score, and metric → signature. The seed is SACREBLEU_SEED (12345 if unset).
        Source: Koehn 2004, as sacrebleu implements it; `Score.p` defines the p-value.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.significance import PairedTest

    p: dict[tuple[str, str, str], float] = {}
    scores: dict[str, dict[str, tuple[float, float]]] = {}
    signatures: dict[str, str] = {}
    for baseline in against or list(systems)[:1]:
        order = [baseline, *(name for name in systems if name != baseline)]
        test: Any = PairedTest(
            [(name, list(systems[name])) for name in order],
            {"BLEU": BLEU(), "chrF": CHRF()},
            references=[list(references)],
            test_type="bs",
            n_samples=resamples,
        )
        test_signatures, results = test()
        names = {"BLEU": "BLEU", "chrF": "chrF2"}  # sacrebleu adds beta
        signatures = {metric: f"{own}|{test_signatures[own]}" for metric, own in names.items()}
        for metric, own in names.items():
            for name, result in zip(order, results[own], strict=True):
                # Score and interval do not depend on the baseline.
                scores.setdefault(name, {}).setdefault(metric, (float(result.score), float(result.ci)))
                if name != baseline and against:
                    # sacrebleu reports a significant difference between two identical systems.
                    same = result.score == results[own][0].score
                    p[name, metric, baseline] = 1.0 if same else float(result.p_value)
    return {
        name: {
            metric: Score(*scores[name][metric], {b: p[name, metric, b] for b in against if b != name})
            for metric in signatures
        }
        for name in systems
    }, signatures


@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> Evaluated:
    """Train one model per subset with the same recipe, and compare the translations of held-out text.

    Each model is a step of its own in `out`/models/NAME. `steps` gives every model the same number of updates;
    `epochs` gives every model the same number of passes over its subset, so smaller subsets get fewer updates.
    With `force`, models with the same options and inputs are kept; others are trained again.

    Raises:
        CatpruneError: a folder or file has other contents than expected.
        UsageError: an option has no valid meaning.
        MissingExtra: torch, ctranslate2 or sacrebleu is not installed.
    """
    tokens, out, tests, against = Path(options.tokens), Path(options.out), options.tests, options.against
    training = {name: getattr(options, name) for name in TRAINING}
    subsets = {name: None if path is None else Path(path) for name, path in options.subsets.items()}
    names = [test.name for test in tests]
    check_evaluation(list(subsets), names, against, steps=options.steps, epochs=options.epochs)
    beam, threads, force = options.beam, options.threads, options.force
    if is_monolingual(read_manifest(tokens, step="tokenize")):
        raise UsageError(f"{tokens} holds a monolingual corpus: evaluation trains translation models, which need pairs")
    require_torch()
    training["precision"] = Device.choose(options.precision).precision
    require("evaluate", "sacrebleu", "ctranslate2")
    texts = {test.name: read_test(test) for test in tests}
    plan: dict[str, Any] = {name: getattr(options, name) for name in ("preset", "steps", "epochs", "seed")}
    model = {**plan, **training, "threads": threads, "quiet": options.quiet}
    plan |= {"training": training, "beam": beam, "against": list(against), "order": list(subsets)}
    plan |= {"resamples": options.resamples, "bootstrap_seed": _bootstrap_seed()}
    with _EvaluationFolder(
        out, step="evaluate", reads=_reads(tokens, subsets, tests, out), options=plan, force=force
    ) as folder:
        if folder.manifest is None:
            for selection in filter(None, subsets.values()):
                verify_shards(selection, read_manifest(selection, step="select"))
            hypotheses: dict[str, dict[str, list[str]]] = {test.name: {} for test in tests}
            for name, selection in subsets.items():
                checkpoint = _train(tokens, out / "models" / name, selection, model, force=force)
                _drop_stale_translations(out / "translations", name, checkpoint)
                for test in tests:
                    path = out / "translations" / f"{name}.{test.name}.txt"
                    hypotheses[test.name][name] = _translations(
                        path, texts[test.name][0], checkpoint, beam=beam, threads=threads
                    )
            _publish(folder, subsets, texts, hypotheses, against=against, resamples=options.resamples)
    return open_evaluation(out)


def _reads(tokens: Path, subsets: Mapping[str, Path | None], tests: Sequence[TestSet], out: Path) -> dict[str, Any]:
    for path in subsets.values():
        if path is not None:
            require_origin(path, tokens)  # a clear error before anything is trained
    selections = {
        name: None if path is None else describe_folder(path, relative_to=out) for name, path in subsets.items()
    }
    return {
        "tokens": describe_folder(tokens, relative_to=out),
        "subsets": selections,
        "tests": {
            test.name: {"source": digest_file(str(test.source)), "target": digest_file(str(test.target))}
            for test in tests
        },
    }


def _publish(
    folder: StepFolder,
    subsets: Mapping[str, Path | None],
    texts: Mapping[str, tuple[list[str], list[str]]],
    hypotheses: Mapping[str, Mapping[str, Sequence[str]]],
    *,
    against: Sequence[str],
    resamples: int,
) -> None:
    """Score, count and write results.json (no times), log/seconds.json (times) and the manifest."""
    scores: dict[str, Any] = {}
    signatures: dict[str, str] = {}
    for test, (_, references) in texts.items():
        scores[test], signatures = compare(hypotheses[test], references, against=against, resamples=resamples)
    entries: list[dict[str, Any]] = []
    seconds: dict[str, Any] = {}
    for name, selection in subsets.items():
        model = folder.path / "models" / name
        trained = read_manifest(model, step="train")
        measured = seconds_of(selection, training=model)
        seconds[name] = None if measured is None else asdict(measured)
        entries.append(
            {
                "name": name,
                "pairs": trained["counts"]["pairs"],
                "target_tokens": trained["counts"]["target_tokens"],
                "steps": trained["steps"],
                "epochs": trained["epochs"],
                "trained_tokens": trained["target_tokens"],
                "scores": {
                    test: {metric: asdict(score) for metric, score in scores[test][name].items()} for test in texts
                },
                "flops": asdict(flops_of(selection, training=model)),
                "scorers": [column.name for column in scorers_of(selection)],
            }
        )
    results = {
        "held_fixed": "updates" if folder.plan["options"]["steps"] is not None else "epochs",
        "against": list(against),
        "test_order": list(texts),
        "tests": {test: len(source) for test, (source, _) in texts.items()},
        "signatures": signatures,
        "subsets": entries,
    }
    data = to_json(results)
    write_whole(folder.path / "results.json", data)
    write_whole(folder.path / "log" / "seconds.json", to_json(seconds))
    folder.publish(results={"file": "results.json", "digest": digest_bytes(data)})
