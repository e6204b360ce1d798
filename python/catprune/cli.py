"""The command line: one command a step, named like its function. Only typer is imported before a command runs."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from catprune.errors import CatpruneError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    name="catprune",
    help="Prune machine-translation bitext by what a model's own early training says about each pair.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; the machine's by default.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything random.")]
VerifyInputs = Annotated[bool, typer.Option("--verify-inputs", help="Hash inputs again, even if they look unchanged.")]
Force = Annotated[bool, typer.Option("--force", help="Replace other work that is there; equal work stays.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
Json = Annotated[bool, typer.Option("--json", help="A machine-readable summary on standard output.")]
Precision = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Errors as one line on standard error: 1 for what can be mended, 2 for wrong usage, 130 for Ctrl-C."""

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except UsageError as error:
            _fail(str(error), 2)
        except CatpruneError as error:
            _fail(str(error), 1)
        except BrokenPipeError:
            raise typer.Exit(1) from None
        except OSError as error:
            _fail(_explain(error), 1)
        except KeyboardInterrupt:
            _fail("interrupted; the same command goes on from here", 130)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            _fail("out of memory: give smaller batches (batch tokens), a smaller preset or less --memory", 1)

    return guarded


def _is_out_of_memory(error: Exception) -> bool:
    """Whether the machine or the GPU ran out: torch tells it by a class of its own, or only in words."""
    return (
        isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)
    )


def _fail(message: str, code: int) -> None:
    typer.echo(f"catprune: {message}", err=True)
    raise typer.Exit(code)


def _explain(error: OSError) -> str:
    import errno

    place = f"{error.filename}: " if error.filename else ""
    text = f"{place}{error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{text}: free room on the disk; the same command goes on from here"
    return text


def _show(result: Any, lines: list[str], *, as_json: bool, quiet: bool) -> None:
    """The summary of a step: lines for a reader, or the result as JSON."""
    if as_json:
        import dataclasses

        names = [field.name for field in dataclasses.fields(result) if not field.name.startswith("manifest")]
        _print_json({name: getattr(result, name) for name in names})
    elif not quiet:
        for line in lines:
            typer.echo(line)


def _print_json(values: Any) -> None:
    typer.echo(json.dumps(values, default=_plain, sort_keys=True))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "__dataclass_fields__"):
        import dataclasses

        return dataclasses.asdict(value)
    return dict(value)


def _memory(text: str | None) -> int | None:
    """Bytes from `512M`, `4G` or a plain number of bytes."""
    if text is None:
        return None
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in units else (text, "")
    if not number.isdigit() or int(number) == 0:
        raise UsageError(f"--memory {text}: give a number with K, M, G or T, like 512M")
    return int(number) * units.get(unit, 1)


@app.command()
@_guarded
def clean(
    inputs: Annotated[list[str], typer.Argument(help="Two files, or .tsv files, or templates like 'wmt.{en,de}'.")],
    out: Out,
    source_lang: Annotated[str | None, typer.Option(help="Language code of the source side.")] = None,
    target_lang: Annotated[str | None, typer.Option(help="Language code of the target side.")] = None,
    tags: Annotated[Path | None, typer.Option(help="A file with one tag a record.")] = None,
    columns: Annotated[str, typer.Option(help="Source and target column of TSV, from 1.")] = "1,2",
    duplicates: Annotated[str, typer.Option(help="What duplicates share: pair, source, target; or none.")] = "pair",
    duplicates_form: Annotated[str, typer.Option(help="normalised or raw.")] = "normalised",
    min_words: Annotated[int | None, typer.Option(help="Fewest words of a side.  [1]")] = None,
    max_words: Annotated[int | None, typer.Option(help="Most words of a side.  [150]")] = None,
    max_characters: Annotated[int | None, typer.Option(help="Most characters of a side.  [1024]")] = None,
    max_word_ratio: Annotated[float | None, typer.Option(help="Longer side over shorter.  [2; en-sw 3]")] = None,
    max_character_ratio: Annotated[float | None, typer.Option(help="The same in characters.  [2; en-sw 3]")] = None,
    min_letter_word_share: Annotated[float | None, typer.Option(help="Share of words with a letter.  [0.4]")] = None,
    min_letter_share: Annotated[float | None, typer.Option(help="Letters among visible characters.  [0.5]")] = None,
    max_word_characters: Annotated[int | None, typer.Option(help="Longest word.  [40]")] = None,
    keep_identical: Annotated[bool, typer.Option("--keep-identical", help="Keep equal sides.")] = False,
    keep_control_characters: Annotated[
        bool, typer.Option("--keep-control-characters", help="Keep sides with control characters.")
    ] = False,
    max_line_bytes: Annotated[int, typer.Option(help="Longer lines are dropped unread.")] = 16_384,
    memory: Annotated[str | None, typer.Option(help="For fingerprints, like 4G.  [half of the machine's]")] = None,
    threads: Threads = None,
    verify_inputs: VerifyInputs = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Judge every pair by rules, find exact duplicates, and write verdicts as columns."""
    from catprune.clean import clean as step
    from catprune.clean import summary

    rules = {
        "min_words": min_words,
        "max_words": max_words,
        "max_characters": max_characters,
        "max_word_ratio": max_word_ratio,
        "max_character_ratio": max_character_ratio,
        "min_letter_word_share": min_letter_word_share,
        "min_letter_share": min_letter_share,
        "max_word_characters": max_word_characters,
        "keep_identical": keep_identical or None,
        "keep_control_characters": keep_control_characters or None,
    }
    try:
        source_column, target_column = (int(number) for number in columns.split(","))
    except ValueError:
        raise UsageError(f"--columns {columns}: give two numbers, like 1,2") from None
    done = step(
        inputs,
        out=out,
        source_lang=source_lang,
        target_lang=target_lang,
        tags=tags,
        columns=(source_column, target_column),
        duplicates=duplicates,
        duplicates_form=duplicates_form,
        rules=rules,
        max_line_bytes=max_line_bytes,
        memory=_memory(memory),
        threads=threads,
        verify_inputs=verify_inputs,
        force=force,
        quiet=quiet,
    )
    _show(done, summary(done, examples=3), as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def tokenize(
    clean: Annotated[Path, typer.Argument(help="A clean folder.")],
    out: Out,
    vocab_size: Annotated[int, typer.Option(help="Types of the byte-level BPE that is trained.")] = 16_000,
    tokenizer: Annotated[Path | None, typer.Option(help="A tokenizer.json to use instead.")] = None,
    sample: Annotated[int, typer.Option(help="About how many pairs the tokenizer is trained on.")] = 1_000_000,
    max_tokens: Annotated[int, typer.Option(help="A longer pair carries no tokens and is counted.")] = 512,
    seed: Seed = 1,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the kept pairs as blocks of token ids."""
    from catprune.tokenize import tokenize as step

    done = step(
        clean,
        out=out,
        vocab_size=vocab_size,
        tokenizer=tokenizer,
        sample=sample,
        max_tokens=max_tokens,
        seed=seed,
        threads=threads,
        force=force,
        quiet=quiet,
    )
    lines = [
        f"{done.pairs:,} pairs, {done.source_tokens:,} source and {done.target_tokens:,} target tokens "
        f"of {done.vocab_size:,} types; {done.too_long:,} pairs are too long and carry none"
    ]
    _show(done, lines, as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def train(
    tokens: Annotated[Path, typer.Argument(help="A tokens folder.")],
    out: Out,
    preset: Annotated[str, typer.Option(help="tiny, small, base or big.")] = "tiny",
    epochs: Annotated[float | None, typer.Option(help="Passes over the pairs.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates, instead of epochs.")] = None,
    checkpoints: Annotated[str | None, typer.Option(help="Epochs or steps, like 1,3,5 or 500steps.")] = None,
    selection: Annotated[Path | None, typer.Option(help="Train only on what this selection keeps.")] = None,
    batch_tokens: Annotated[int, typer.Option(help="Most tokens of a batch on either side.")] = 2048,
    learning_rate: Annotated[float | None, typer.Option(help="After the warm-up.  [0.64 / width]")] = None,
    warmup_steps: Annotated[int, typer.Option(help="Updates of linear warm-up.")] = 200,
    label_smoothing: Annotated[float, typer.Option(help="Share spread over the vocabulary.")] = 0.1,
    dropout: Annotated[float, typer.Option(help="After embeddings and sub-layers.")] = 0.1,
    precision: Precision = "auto",
    save_every: Annotated[int, typer.Option(help="Updates between saved states.")] = 500,
    seed: Seed = 1,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a translation model and keep its early checkpoints."""
    from catprune.train import train as step

    done = step(
        tokens,
        out=out,
        preset=preset,
        epochs=epochs,
        steps=steps,
        checkpoints=checkpoints,
        selection=selection,
        batch_tokens=batch_tokens,
        learning_rate=learning_rate,
        warmup_steps=warmup_steps,
        label_smoothing=label_smoothing,
        dropout=dropout,
        precision=precision,
        save_every=save_every,
        seed=seed,
        threads=threads,
        force=force,
        quiet=quiet,
    )
    lines = [
        f"{done.steps:,} updates, {done.target_tokens:,} target tokens, {done.parameters:,} parameters, "
        f"{done.precision}, {done.flops:.2e} FLOPs",
        *(f"  {path}" for path in done.checkpoints),
    ]
    _show(done, lines, as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def score(
    tokens: Annotated[Path, typer.Argument(help="A tokens folder.")],
    out: Out,
    checkpoint: Annotated[list[str], typer.Option(help="A checkpoint folder, or name=folder; repeat it.")],
    batch_tokens: Annotated[int, typer.Option(help="Most tokens of a batch on either side, padding counted.")] = 8192,
    precision: Precision = "auto",
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run checkpoints over every kept pair and write their statistics as columns."""
    from catprune.score import score as step

    done = step(
        tokens,
        checkpoints=checkpoint,
        out=out,
        batch_tokens=batch_tokens,
        precision=precision,
        threads=threads,
        force=force,
        quiet=quiet,
    )
    _show(done, [f"scores in {out}"], as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def select(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders of scores, a clean folder, Parquet files or folders of them, or a .npy array.",
        ),
    ],
    out: Out,
    method: Annotated[
        str | None, typer.Option(help="See `catprune methods`.  [cat-diff, where nothing else ranks]")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="50% or 0.5 of the pairs, a number of pairs, or 50%tokens; and tag=NAME:80%.  [50%]"),
    ] = None,
    on: Annotated[str, typer.Option(help="ppl or nll.")] = "ppl",
    direction: Annotated[str, typer.Option(help="top, middle or bottom.")] = "top",
    sign: Annotated[str, typer.Option(help="signed or abs, for cat-diff.")] = "signed",
    within: Annotated[str | None, typer.Option(help="input, tag or length: each gives its own share.")] = None,
    ties: Annotated[str | None, typer.Option(help="row or random.")] = None,
    bins: Annotated[int, typer.Option(help="Quantile bins, for progress.")] = 50,
    checkpoint: Annotated[list[str] | None, typer.Option(help="Use only these scores; repeat it.")] = None,
    column: Annotated[str | None, typer.Option(help="The score column of Parquet files.")] = None,
    merge: Annotated[str | None, typer.Option(help="Several columns as one: '0.7*cat-var + 0.3*labse'.")] = None,
    merge_by: Annotated[str, typer.Option(help="rank or z (standard scores).")] = "rank",
    where: Annotated[list[str] | None, typer.Option(help="Rank only pairs with COLUMN>VALUE; repeat it.")] = None,
    always_keep: Annotated[
        list[str] | None, typer.Option(help="input=NAME or tag=VALUE is kept whole, on top of --keep; repeat it.")
    ] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Draw at random, with scores as weights.")] = False,
    join: Annotated[list[Path] | None, typer.Option(help="Parquet files with row and more columns; repeat it.")] = None,
    clean: Annotated[Path | None, typer.Option(help="The clean folder of the rows of Parquet files.")] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Write only rows.npy, the numbers of the kept rows.")] = False,
    tmp_dir: Annotated[Path | None, typer.Option(help="For temporary files; the output folder by default.")] = None,
    seed: Seed = 1,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Keep the best pairs by a method, exactly."""
    from catprune.select import select as step
    from catprune.select import summary

    done = step(
        sources,
        out=out,
        method=method,
        keep=keep or "50%",
        on=on,
        direction=direction,
        sign=sign,
        within=within,
        ties=ties,
        bins=bins,
        checkpoints=checkpoint,
        column=column,
        merge=merge,
        merge_by=merge_by,
        where=where,
        always_keep=always_keep,
        sample=sample,
        join=join or (),
        clean=clean,
        rows=rows,
        tmp_dir=tmp_dir,
        seed=seed,
        threads=threads,
        force=force,
        quiet=quiet,
    )
    _show(done, summary(done), as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def write(
    clean: Annotated[Path, typer.Argument(help="The clean folder of the corpus.")],
    outputs: Annotated[list[Path], typer.Argument(help="Two files, or one .tsv; .gz and .zst are compressed.")],
    selection: Annotated[Path | None, typer.Option(help="A selection; all that cleaning kept by default.")] = None,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the kept pairs as text, in corpus order."""
    from catprune.write import write as step

    done = step(clean, outputs, selection=selection, threads=threads, force=force, quiet=quiet)
    lines = [f"{done.pairs:,} pairs to {' and '.join(str(path) for path in done.paths)}"]
    if done.unwritable:
        lines.append(f"{done.unwritable:,} kept pairs hold a tab and cannot stand in a TSV: see the record beside it")
    _show(done, lines, as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def evaluate(
    file: Annotated[Path, typer.Argument(help="A run file with an [evaluate] section.")],
    threads: Threads = None,
    memory: Annotated[str | None, typer.Option(help="For fingerprints, like 4G.")] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a model on each subset, translate test sets, and compare."""
    from catprune.evaluation import open_evaluation, render
    from catprune.run import evaluate_file

    done = evaluate_file(
        file, threads=threads, memory=_memory(memory), force=force, quiet=quiet, say=_saying(quiet or as_json)
    )
    evaluated = open_evaluation(done.folder / "evaluate")
    _show(evaluated, [render(evaluated)], as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def report(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The HTML file.  [report.html in the folder]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the pairs that are shown.")] = 1,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show a run in one HTML file that opens offline."""
    from catprune.report import report as step

    path = step(folder, out=out, seed=seed, force=force)
    if as_json:
        _print_json({"path": path})
    elif not quiet:
        typer.echo(path)


@app.command()
@_guarded
def run(
    file: Annotated[Path, typer.Argument(help="A run file.")],
    until: Annotated[str, typer.Option(help="The last step to do.")] = "report",
    threads: Threads = None,
    memory: Annotated[str | None, typer.Option(help="For fingerprints, like 4G.")] = None,
    verify_inputs: VerifyInputs = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Do every step of a run file that is not done yet."""
    from catprune.run import run as step

    done = step(
        file,
        until=until,
        threads=threads,
        memory=_memory(memory),
        verify_inputs=verify_inputs,
        force=force,
        quiet=quiet,
        say=_saying(quiet or as_json),
    )
    _show(done, [], as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def prune(
    files: Annotated[list[Path], typer.Argument(help="Two files in and two out: a.en a.de pruned.en pruned.de.")],
    keep: Annotated[str, typer.Option(help="50% or 0.5 of the clean pairs, a number of pairs, or 50%tokens.")] = "50%",
    out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder.")] = Path("run"),
    source_lang: Annotated[str | None, typer.Option(help="Language code of the source side.")] = None,
    target_lang: Annotated[str | None, typer.Option(help="Language code of the target side.")] = None,
    method: Annotated[str, typer.Option(help="See `catprune methods`.")] = "progress",
    on: Annotated[str, typer.Option(help="ppl or nll, for the methods that have the choice.")] = "nll",
    seed: Seed = 1,
    threads: Threads = None,
    memory: Annotated[str | None, typer.Option(help="For fingerprints, like 4G.")] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Prune two files: clean, tokenize, train, score, select and write, by good defaults."""
    from catprune.prune import prune as step

    half = len(files) // 2
    if len(files) != 4 and not (len(files) == 2 and ".tsv" in files[0].name and ".tsv" in files[1].name):
        raise UsageError("give two files in and two out, or one .tsv in and one out")
    done = step(
        files[:half],
        files[half:],
        keep=keep,
        out=out,
        source_lang=source_lang,
        target_lang=target_lang,
        method=method,
        on=on,
        seed=seed,
        threads=threads,
        memory=_memory(memory),
        force=force,
        quiet=quiet,
        say=_saying(quiet or as_json),
    )
    _show(done, [], as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def methods(as_json: Json = False) -> None:
    """List the methods of `select`, with their sources."""
    from catprune.methods import METHODS

    if as_json:
        _print_json(METHODS)
        return
    for method in METHODS:
        typer.echo(f"{method.name:12} {method.formula}\n{'':12} {method.source}")


@app.command()
@_guarded
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="The demo's folder.")] = Path("catprune-demo"),
    pairs: Annotated[int, typer.Option(min=200, help="Pairs of the generated corpus.")] = 6000,
    steps: Annotated[int | None, typer.Option(min=2, help="Updates of every model.")] = None,
    seed: Seed = 1,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run the whole path on a small generated corpus with planted faults, in a few minutes."""
    from catprune.demo import demo as step
    from catprune.demo import to_text

    done = step(
        out=out,
        pairs=pairs,
        steps=steps,
        seed=seed,
        threads=threads,
        force=force,
        quiet=quiet,
        say=_saying(quiet or as_json),
    )
    _show(done, [to_text(done)], as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def doctor(as_json: Json = False) -> None:
    """Say what this installation can do, and what is missing for the rest."""
    from catprune.doctor import examine

    found = examine()
    if as_json:
        _print_json(found)
        return
    for name, text in found.items():
        typer.echo(f"{name:10} {text}")


def _saying(silent: bool) -> Callable[[str], None]:
    return (lambda _: None) if silent else (lambda line: typer.echo(line, err=True))


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version and end.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("catprune"))
        raise typer.Exit
