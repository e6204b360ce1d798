"""Prune: a corpus and a share in, its better part out; everything between by good defaults, written to a run file."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.cleaning.clean import clean, summary
from catprune.corpus.appended import has_joined, is_growing, replacing, require_trained
from catprune.corpus.inputs import input_paths, parse_inputs
from catprune.errors import CatpruneError, require
from catprune.pipeline.doctor import EXTRAS
from catprune.pipeline.run import Ran, run
from catprune.pipeline.run_file import read_run_file
from catprune.scoring.scorers import open_scorer
from catprune.selection.methods import CLUSTERED, METHODS
from catprune.selection.request import check_options
from catprune.selection.select import DEFAULTS
from catprune.workspace.device import require_torch
from catprune.workspace.files import write_whole
from catprune.workspace.locks import lock_folder
from catprune.workspace.manifest import read_manifest
from catprune.workspace.resources import choose_threads
from catprune.writing.write import describe_output, name_sides, refuse_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from catprune.boundary import Input
    from catprune.pipeline.run_file import RunFile

#: Seconds of one processor, as docs/architecture.md has them measured: cleaning for each byte of (compressed) text,
#: tokenising for each pair, selecting and writing for each pair. They only serve to say what to expect.
_CLEAN, _TOKENIZE, _WRITE = 1.2e-7, 4e-5, 2e-6
#: Share of a training step's work that scoring the same tokens takes: a forward pass of three.
_FORWARD_SHARE = 1 / 3


def prune(
    inputs: Sequence[str | Path],
    outputs: Sequence[str | Path],
    *,
    keep: str | int | float = "50%",
    out: str | Path = "run",
    source_lang: str | None = None,
    target_lang: str | None = None,
    columns: tuple[int, int] | int | None = None,
    fields: tuple[str, str] | str | None = None,
    format: str | None = None,
    monolingual: bool = False,
    method: str = "progress",
    on: str = "nll",
    seed: int = 1,
    threads: int | None = None,
    memory: int | str | None = None,
    tmp_dir: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    say: Callable[[str], None] | None = None,
) -> Ran:
    """Prune a corpus by what a small model's early training says about each pair.

    If the run in `out` was made from the first of the inputs and with the same options, the others are joined to it, as
    `run` does it, and its run file lists them from then on.

    Args:
        inputs: two files of equal line count, or whatever `clean` takes.
        outputs: two files, or one that holds both sides (or all there is of a monolingual corpus); see `write`.
        keep: what to keep of the pairs that cleaning kept: "50%", 0.5, or a number of pairs.
        out: the run's folder; its `run.toml` repeats the run with `catprune run`.
        source_lang, target_lang: language codes, for the defaults of the length rules and for TMX.
        columns, fields, format, monolingual: where the sides stand in TSV, and in JSONL and Parquet; what files of
            other names hold; whether there is one side alone; see `clean`.
        method: see `select`; a scorer's name has it score all pairs; `progress` kept the most quality in docs/results.
        on: "nll" or "ppl", for the methods that have the choice.
        seed: of everything random.
        threads: the machine's by default.
        memory: bytes for fingerprints; see `clean`.
        tmp_dir: for what does not fit into memory; the steps' own folders by default.
        force: redo what other options change; rows that were joined are left as they are.
        quiet: show no progress bars.
        say: called with each line of what was decided and done.

    Raises:
        UsageError, CatpruneError: as the steps do.
    """
    say = say or (lambda _: None)
    folder = Path(out)
    sides: dict[str, Any] = {"columns": columns, "fields": fields, "format": format, "monolingual": monolingual}
    parsed = parse_inputs(inputs, **sides, languages=(source_lang, target_lang))
    for path in [path for one in parsed for path in input_paths(one)]:
        Path(path).stat()
    ranking, _ = check_options({**DEFAULTS, "method": method, "keep": keep, "on": on, "seed": seed})
    share, what = ranking.share, "texts" if monolingual else "pairs"
    needs_model = any(chosen.needs for chosen in ranking.methods) or ranking.counts_tokens
    if needs_model:
        require_torch()
    if method == CLUSTERED:
        require("faiss", "faiss")
    scorers = [chosen.name for chosen in METHODS if chosen.name == method and chosen.reads == "scorer"]
    for scorer in scorers:
        open_scorer(scorer)
    paths = [Path(path) for path in outputs]
    languages = {"source_lang": source_lang, "target_lang": target_lang}
    describe_output(paths, name_sides(None, languages, monolingual=monolingual))
    refuse_outputs(paths, [Path(path) for one in parsed for path in input_paths(one)], force=force)
    workers = choose_threads(threads)
    options: dict[str, Any] = {"threads": threads, "force": force, "quiet": quiet}
    spilling: dict[str, Any] = {"memory": memory, "tmp_dir": tmp_dir}
    file = folder / "run.toml"
    settings: dict[str, Any] = {
        "scorers": scorers,
        "outputs": [_relative(name, folder) for name in outputs],
        "languages": languages,
        "sides": {**sides, "monolingual": monolingual or None},
        "select": {"name": "pruned", "method": method, "on": on, "keep": keep},
        "seed": seed,
        "report": "report.html" if _can_report() else "",
    }
    with lock_folder(folder):
        growing = is_growing(folder, parsed)
        spared = growing or has_joined(folder)  # rows that were joined are no reason to redo the others
        made = read_run_file(file) if file.is_file() and (spared or not force) else None
        new = parsed
        if made is not None and not force:
            # Before anything is cleaned: inputs that are new are joined to those of the run.
            new = _new_inputs(made, file, settings, parsed)
            if growing:
                require_trained(folder)
        size = sum(Path(path).stat().st_size for one in new for path in input_paths(one))
        say(f"clean     {size / 1e6:,.1f} MB, about {_minutes(size * _CLEAN / workers)}")
        given = {**languages, **sides, **spilling, **options, "force": force and not spared}
        cleaned = replacing(lambda _: force, clean)(inputs, out=folder / "clean", **given)
        say(f"          {summary(cleaned, examples=0)[0]}")  # the reasons follow when the run goes over what is done
        if cleaned.kept < max(100 if needs_model else 1, share.get("rows", 0)):
            many = share.get("rows", 0) > cleaned.kept
            wanted = f"{keep} are to be kept" if many else f"{100 if needs_model else 1} are needed"
            raise CatpruneError(
                f"cleaning kept {cleaned.kept} of {cleaned.rows} {what}, too few ({wanted}): "
                f"{folder / 'clean' / 'manifest.json'} says what dropped the others"
            )
        decided = (_decided(made) if made is not None else None) or decide(cleaned.kept) if needs_model else {}
        settings |= {"inputs": [_relative(name, folder) for name in inputs], **decided}
        write_whole(file, to_toml(settings).encode())
    model = ", ".join(f"{name} {value}" for name, value in decided.items())
    unit = "" if not share.keys() <= {"rows"} else f" {what}"
    say(f"decided   keep {keep}{unit} by {method}; {model or 'no warm-up model is needed'}; see {file}")
    if needs_model and not (folder / "scores").is_dir():
        say(f"tokenize  {cleaned.kept:,} {what}, about {_minutes(cleaned.kept * _TOKENIZE / workers)}")
        run(file, until="tokenize", **spilling, **options)
        estimate(folder, decided, seed=seed, threads=threads, say=say)
    return run(file, **spilling, **options, say=say)


def _new_inputs(made: RunFile, file: Path, settings: dict[str, Any], parsed: list[Input]) -> list[Input]:
    """The inputs that the run in the folder does not have; it is the same run but for these.

    Raises:
        CatpruneError: it has other options, or inputs that are not the first of these.
    """
    old = {"inputs": [_relative(name, file.parent) for name in made.clean.inputs], **_decided(made)}
    if file.read_bytes() != to_toml({**settings, **old}).encode():
        raise CatpruneError(
            f"{file} has other options: give another --out, or --force to redo the steps that they change"
        )
    before = made.clean.parsed()
    if parsed[: len(before)] != before:
        raise CatpruneError(
            f"{file} has other inputs: give those first and new ones behind them, another --out, or --force to prune "
            "all of them anew"
        )
    return parsed[len(before) :]


def _decided(made: RunFile) -> dict[str, Any]:
    """What was decided when the run was made: rows that were joined since change nothing of it."""
    if made.train is None:
        return {}
    names = ("preset", "epochs", "checkpoints")
    model = {"vocab_size": made.tokenize.vocab_size, **{name: getattr(made.train, name) for name in names}}
    return {} if None in model.values() else model


def _can_report() -> bool:
    """Whether the report's packages are there: pruning itself does not need them."""
    return all(importlib.util.find_spec(package) is not None for package in EXTRAS["report"])


def decide(pairs: int) -> dict[str, Any]:
    """Size of the vocabulary and of the warm-up model for a corpus of so many kept pairs.

    The model stays small: it only has to tell pairs apart, and its cost is part of the cost of pruning.
    """
    vocab_size = 1_000 if pairs < 5_000 else 4_000 if pairs < 50_000 else 8_000 if pairs < 1_000_000 else 16_000
    return {
        "vocab_size": vocab_size,
        "preset": "tiny" if pairs < 5_000_000 else "small",
        "epochs": 5,
        "checkpoints": "1,5",
    }


def estimate(
    folder: Path, decided: dict[str, Any], *, seed: int, threads: int | None, say: Callable[[str], None]
) -> None:
    """Say how long training and scoring will take."""
    counts = read_manifest(folder / "tokens", step="tokenize")["counts"]
    speed = measure_speed(folder / "tokens", preset=decided["preset"], seed=seed, threads=threads)
    passes = len(decided["checkpoints"].split(","))
    training = counts["target_tokens"] * decided["epochs"] / speed
    scoring = counts["target_tokens"] * passes * _FORWARD_SHARE / speed
    say(
        f"expected  train {_minutes(training)}, score {_minutes(scoring)}, select and write "
        f"{_minutes(counts['rows'] * _WRITE)} (training does {speed:,.0f} target tokens/s here)"
    )


def measure_speed(tokens: Path, *, preset: str, seed: int, threads: int | None) -> float:
    """Target tokens a second of training: a few updates of the very model on the very tokens, thrown away."""
    from catprune.training.train import train

    # Beside the tokens: a temporary folder elsewhere may be too small for a model.
    folder = tokens / "log" / "speed"
    shutil.rmtree(folder, ignore_errors=True)  # what a killed one left
    try:
        train(tokens, out=folder, preset=preset, steps=10, seed=seed, threads=threads, quiet=True)
        events = (folder / "log" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    trained = next(event for event in map(json.loads, events) if event["event"] == "trained")
    return float(trained["tokens_per_second"])


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def _relative(name: str | Path, folder: Path) -> str:
    return os.path.relpath(Path(name).absolute(), folder.absolute())


def to_toml(settings: dict[str, Any]) -> str:
    """The run file of a pruning. JSON strings are TOML strings."""

    def text(value: object) -> str:
        return json.dumps(value, ensure_ascii=False)

    languages = "".join(
        f"{name} = {text(value)}\n" for name, value in settings["languages"].items() if value is not None
    )
    sides = "".join(f"{name} = {text(value)}\n" for name, value in settings["sides"].items() if value is not None)
    select = "".join(f"{name} = {text(value)}\n" for name, value in settings["select"].items())
    scorers = "".join(f"[[scorer]]\nscorer = {text(name)}\n\n" for name in settings["scorers"])
    model = ""
    if "preset" in settings:
        model = (
            f"[tokenize]\nvocab_size = {settings['vocab_size']}\n\n"
            f"[train]\npreset = {text(settings['preset'])}\nepochs = {settings['epochs']:g}\n"
            f"checkpoints = {text(settings['checkpoints'])}\n\n"
        )
    return (
        "# Made by `catprune prune`; `catprune run` with this file repeats it.\n"
        f'out = "."\nseed = {settings["seed"]}\nreport = "{settings["report"]}"\n\n'
        f"[clean]\ninputs = {text(settings['inputs'])}\n{languages}{sides}\n"
        f"{model}{scorers}[[select]]\n{select}\n"
        f'[write]\nselection = "pruned"\noutputs = {text(settings["outputs"])}\n'
    )
