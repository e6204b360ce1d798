"""The command line: one command a step, named like its function. Only typer is imported before a command runs."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from catprune.errors import CatpruneError, UsageError, is_out_of_memory

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
            if not is_out_of_memory(error):
                raise
            _fail("out of memory: give smaller batches (batch tokens), a smaller preset or less --memory", 1)

    return guarded


def _fail(message: str, code: int) -> None:
    typer.echo(f"catprune: {message}", err=True)
    raise typer.Exit(code)


def _explain(error: OSError) -> str:
    import errno

    place = f"{error.filename}: " if error.filename else ""
    text = f"{place}{error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = "the disk" if error.filename else "what standard output goes to"
        return f"{text}: free room on {place}; the same command goes on from here"
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


def _fields(text: str | None) -> tuple[str, str] | str | None:
    """The two names of `en,de`, or the one that there is."""
    names = [] if text is None else text.split(",")
    if len(names) > 2:
        raise UsageError(f"--fields {text}: give two, like en,de; of a monolingual corpus one")
    return (names[0], names[1]) if len(names) == 2 else text


def _columns(text: str | None) -> tuple[int, int] | int | None:
    """The two numbers of `1,2`, or the one that there is."""
    names = [] if text is None else text.split(",")
    if len(names) > 2 or not all(name.isascii() and name.isdigit() for name in names):
        raise UsageError(f"--columns {text}: give two numbers, like 1,2; of a monolingual corpus one")
    numbers = [int(name) for name in names]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else numbers[0] if numbers else None


Columns = Annotated[str | None, typer.Option(help="Source and target column of TSV, from 1.  [1,2]")]
FieldNames = Annotated[
    str | None,
    typer.Option(help="Source and target field of JSONL and Parquet, like translation.en,translation.de.  [languages]"),
]

Format = Annotated[str | None, typer.Option(help="What other names hold: tsv, jsonl, parquet or tmx.")]
Monolingual = Annotated[
    bool, typer.Option("--monolingual", help="One text a record, the target: lines, or one of --columns or --fields.")
]
TmpDir = Annotated[Path | None, typer.Option(help="For what does not fit into memory.  [the steps' folders]")]


@app.command()
@_guarded
def clean(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Two files, or .tsv, .jsonl, .parquet, .tmx files, or templates like 'part-*.{en,de}.zst'; or -"
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder to write.")] = None,
    source_lang: Annotated[str | None, typer.Option(help="Language code of the source side.")] = None,
    target_lang: Annotated[str | None, typer.Option(help="Language code of the target side.")] = None,
    tags: Annotated[Path | None, typer.Option(help="A file with one tag a record.")] = None,
    columns: Columns = None,
    fields: FieldNames = None,
    format: Format = None,
    monolingual: Monolingual = False,
    spool: Annotated[
        Path | None,
        typer.Option(
            help="Copy standard input (-) to this file, which is the input then; if it is there, it is taken."
        ),
    ] = None,
    duplicates: Annotated[
        str, typer.Option(help="What duplicates share: pair, source, target, either; or none.")
    ] = "pair",
    duplicates_form: Annotated[
        str, typer.Option(help="raw, or some of nfkc,case,white-space,punctuation,digits; normalised: all but digits.")
    ] = "normalised",
    prefer: Annotated[
        list[str] | None,
        typer.Option(help="Of exact duplicates keep this input's, not the first; or FILE.parquet:COLUMN."),
    ] = None,
    against: Annotated[list[Path] | None, typer.Option(help="Drop what this clean folder keeps; repeat it.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare duplicates byte for byte.")] = False,
    no_rules: Annotated[bool, typer.Option("--no-rules", help="Only duplicates; nothing is measured.")] = False,
    near_duplicates: Annotated[
        str, typer.Option(help="Drop near duplicates too: those of a pair, source or target.")
    ] = "none",
    near_threshold: Annotated[float | None, typer.Option(help="Their Jaccard similarity.  [0.8]")] = None,
    near_permutations: Annotated[int | None, typer.Option(help="Values of a MinHash signature.  [128]")] = None,
    near_bands: Annotated[int | None, typer.Option(help="Bands of a signature.  [by the threshold]")] = None,
    near_shingles: Annotated[str | None, typer.Option(help="characters or words.  [characters]")] = None,
    near_shingle_size: Annotated[
        int | None, typer.Option(help="How many a shingle has.  [5 characters, 2 words]")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            help="Test sets, like 'newstest*.{en,de}' or a text file; their segments are dropped. Repeatable."
        ),
    ] = None,
    min_words: Annotated[int | None, typer.Option(help="Fewest words of a side.  [1]")] = None,
    max_words: Annotated[int | None, typer.Option(help="Most words of a side.  [150]")] = None,
    max_characters: Annotated[int | None, typer.Option(help="Most characters of a side.  [1024]")] = None,
    max_word_ratio: Annotated[float | None, typer.Option(help="Longer side over shorter.  [2; en-sw 3]")] = None,
    max_character_ratio: Annotated[float | None, typer.Option(help="The same in characters.  [2; en-sw 3]")] = None,
    min_letter_word_share: Annotated[float | None, typer.Option(help="Share of words with a letter.  [0.4]")] = None,
    min_letter_share: Annotated[float | None, typer.Option(help="Letters among visible characters.  [0.5]")] = None,
    max_word_characters: Annotated[int | None, typer.Option(help="Longest word.  [40]")] = None,
    max_repeated_share: Annotated[float | None, typer.Option(help="Repeated word 3-grams of a side.  [0.5]")] = None,
    max_common_word_share: Annotated[float | None, typer.Option(help="Words that both sides have.  [0.9]")] = None,
    min_script_share: Annotated[float | None, typer.Option(help="Letters of the language's scripts.  [0.3]")] = None,
    max_markup_share: Annotated[float | None, typer.Option(help="Tags, entities, placeholders.  [1: off]")] = None,
    max_number_mismatch: Annotated[float | None, typer.Option(help="Numbers without an equal.  [1: off]")] = None,
    max_url_mismatch: Annotated[float | None, typer.Option(help="URLs without an equal.  [1: off]")] = None,
    identify_language: Annotated[
        bool, typer.Option("--identify-language", help="Drop sides that are in another language than the one named.")
    ] = False,
    same_terminal_punctuation: Annotated[
        bool, typer.Option("--same-terminal-punctuation", help="Drop a pair of which one side ends a sentence.")
    ] = False,
    input_rules: Annotated[
        Path | None, typer.Option(help="A TOML file with [[input_rules]]: an input and its own thresholds.")
    ] = None,
    keep_identical: Annotated[bool, typer.Option("--keep-identical", help="Keep equal sides.")] = False,
    keep_control_characters: Annotated[
        bool, typer.Option("--keep-control-characters", help="Keep sides with control characters.")
    ] = False,
    max_line_bytes: Annotated[int, typer.Option(help="Longer lines are dropped unread.")] = 16_384,
    memory: Annotated[str | None, typer.Option(help="Of the pass, like 4G.  [half of the machine's]")] = None,
    tmp_dir: Annotated[Path | None, typer.Option(help="For what does not fit into memory.  [--out]")] = None,
    threads: Threads = None,
    verify_inputs: VerifyInputs = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what each rule would drop; write nothing.")] = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Judge every pair by rules, find duplicates and segments of test sets, and write verdicts as columns."""
    from catprune.cleaning.clean import clean as step
    from catprune.cleaning.clean import summary
    from catprune.cleaning.rule_options import read_input_rules

    rules = {
        "min_words": min_words,
        "max_words": max_words,
        "max_characters": max_characters,
        "max_word_ratio": max_word_ratio,
        "max_character_ratio": max_character_ratio,
        "min_letter_word_share": min_letter_word_share,
        "min_letter_share": min_letter_share,
        "max_word_characters": max_word_characters,
        "max_repeated_share": max_repeated_share,
        "max_common_word_share": max_common_word_share,
        "min_script_share": min_script_share,
        "max_markup_share": max_markup_share,
        "max_number_mismatch": max_number_mismatch,
        "max_url_mismatch": max_url_mismatch,
        "same_terminal_punctuation": same_terminal_punctuation or None,
        "keep_identical": keep_identical or None,
        "keep_control_characters": keep_control_characters or None,
    }
    near = {
        "threshold": near_threshold,
        "permutations": near_permutations,
        "bands": near_bands,
        "shingles": near_shingles,
        "shingle_size": near_shingle_size,
    }
    done = step(
        inputs,
        out=out,
        source_lang=source_lang,
        target_lang=target_lang,
        tags=tags,
        columns=_columns(columns),
        fields=_fields(fields),
        format=format,
        monolingual=monolingual,
        spool=spool,
        duplicates=duplicates,
        duplicates_form=duplicates_form,
        identify_language=identify_language,
        input_rules=read_input_rules(input_rules) if input_rules else (),
        near_duplicates=near_duplicates,
        near=near,
        exclude=exclude or (),
        prefer=prefer or (),
        against=against or (),
        verify=verify,
        rules={name: value for name, value in rules.items() if value is not None},
        judge=not no_rules,
        max_line_bytes=max_line_bytes,
        memory=memory,
        tmp_dir=tmp_dir,
        threads=threads,
        verify_inputs=verify_inputs,
        dry_run=dry_run,
        force=force,
        quiet=quiet,
    )
    _show(done, summary(done, examples=3), as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def tokenize(
    clean: Annotated[Path, typer.Argument(help="A clean folder.")],
    out: Out,
    vocab_size: Annotated[
        int | None, typer.Option(help="Types of the byte-level BPE that is trained.  [16000]")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="A tokenizer.json to use instead.")] = None,
    sample: Annotated[
        int | None, typer.Option(help="About how many pairs the tokenizer is trained on.  [1000000]")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="A longer pair carries no tokens and is counted.")] = 512,
    seed: Seed = 1,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the kept pairs as blocks of token ids."""
    from catprune.corpus.inputs import is_monolingual
    from catprune.tokens.tokenize import tokenize as step
    from catprune.workspace.wording import new_text

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
    monolingual = is_monolingual(done.manifest)
    what = "texts" if monolingual else "pairs"
    tokens = f"{done.target_tokens:,} tokens"
    if not monolingual:
        tokens = f"{done.source_tokens:,} source and {done.target_tokens:,} target tokens"
    lines = [
        f"{done.pairs:,} {what}{new_text(done.new, done.pairs)}, {tokens} of {done.vocab_size:,} types; "
        f"{done.too_long:,} {what} are too long and carry none"
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
    checkpoints: Annotated[str | None, typer.Option(help="Epochs or steps, like 1,3,5 or 500steps.  [the end]")] = None,
    selection: Annotated[Path | None, typer.Option(help="Train only on what this selection keeps.")] = None,
    rows: Annotated[Path | None, typer.Option(help="Train only on the rows in this .npy file.")] = None,
    exclude_rows: Annotated[Path | None, typer.Option(help="Train on no row of this .npy file.")] = None,
    sample: Annotated[int | None, typer.Option(help="Train on so many pairs, drawn from all parts.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Train from the target into the source.")] = False,
    prune_while_training: Annotated[
        str | None, typer.Option(help="Pass over pairs by their current loss: infobatch or ddp.")
    ] = None,
    prune_ratio: Annotated[
        float | None, typer.Option(help="Share dropped: infobatch of the easy pairs, ddp of all.  [0.5, ddp 0.3]")
    ] = None,
    prune_anneal: Annotated[
        float | None, typer.Option(help="infobatch: nothing is dropped after this share.  [0.875]")
    ] = None,
    prune_cycle: Annotated[int | None, typer.Option(help="ddp: epochs for which a choice stands.  [1]")] = None,
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
    """Train a translation model and keep its early checkpoints; started by torchrun, all processes train it."""
    from catprune.training.train import train as step
    from catprune.workspace.shards import is_first_process
    from catprune.workspace.wording import share_text

    done = step(
        tokens,
        out=out,
        preset=preset,
        epochs=epochs,
        steps=steps,
        checkpoints=checkpoints,
        selection=selection,
        rows=rows,
        exclude_rows=exclude_rows,
        sample=sample,
        reverse=reverse,
        prune_while_training=prune_while_training,
        prune_ratio=prune_ratio,
        prune_anneal=prune_anneal,
        prune_cycle=prune_cycle,
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
        f"{done.precision}, {done.flops:.2e} FLOPs"
    ]
    if pruned := done.manifest.get("pruned"):
        tokens_passed = done.target_tokens + pruned["target_tokens"]
        lines.append(
            f"{prune_while_training} passed over {pruned['pairs']:,} pairs in all epochs, "
            f"{share_text(pruned['target_tokens'], tokens_passed)} of {tokens_passed:,} target tokens"
        )
    lines += [f"  {path}" for path in done.checkpoints]
    if is_first_process():
        _show(done, lines, as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def score(
    tokens: Annotated[
        Path, typer.Argument(help="A tokens folder; for checkpoints of transformers and for scorers a clean folder.")
    ],
    out: Out,
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="A checkpoint folder, or name=folder; repeat it.")
    ] = None,
    scorer: Annotated[
        str | None, typer.Option(help="In their place: labse, e5, laser, comet-qe, or FILE.py:FUNCTION of two lists.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the scorer's folder.  [the scorer's name]")] = None,
    model: Annotated[str | None, typer.Option(help="The scorer's model: a folder, or a name in its library.")] = None,
    margin: Annotated[bool, typer.Option("--margin", help="Of embeddings the ratio margin, not the cosine.")] = False,
    neighbours: Annotated[int | None, typer.Option(help="Nearest neighbours, for --margin.  [4]")] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of a batch on either side, padding counted.  [1024; 16384 on GPUs]")
    ] = None,
    source_lang: Annotated[
        str | None, typer.Option(help="Code of the source, as the tokenizer of a checkpoint has it.")
    ] = None,
    target_lang: Annotated[str | None, typer.Option(help="Code of the target.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="What stands around the {source}: all that a decoder-only model reads first.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="Score a part alone: i/n, i from 1 to n, or auto, as torchrun or Slurm tell it."),
    ] = None,
    precision: Precision = "auto",
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run checkpoints, or a scorer, over every kept pair and write what they say as columns."""
    if scorer is not None:
        from catprune.scoring.score_pairs import score_pairs, summary

        of_checkpoints = checkpoint, source_lang, target_lang, batch_tokens, precision != "auto"
        if any(of_checkpoints) or prompt is not None:
            raise UsageError("--scorer goes without --checkpoint and the options of checkpoints")
        scored = score_pairs(
            tokens,
            scorer=scorer,
            out=out,
            name=name,
            model=model,
            margin=margin,
            neighbours=neighbours,
            shard=shard,
            threads=threads,
            force=force,
            quiet=quiet,
        )
        _show(scored, summary(scored), as_json=as_json, quiet=quiet)
        return
    if name is not None or model is not None or margin or neighbours is not None:
        raise UsageError("--name, --model, --margin and --neighbours are options of a --scorer")
    if not checkpoint:
        raise UsageError("give at least one --checkpoint, or a --scorer")
    from catprune.scoring.score import score as step
    from catprune.workspace.wording import new_text

    done = step(
        tokens,
        checkpoints=checkpoint,
        out=out,
        batch_tokens=batch_tokens,
        source_lang=source_lang,
        target_lang=target_lang,
        prompt=prompt,
        shard=shard,
        precision=precision,
        threads=threads,
        force=force,
        quiet=quiet,
    )
    left = [f"{name}: {blocks} blocks are left to other shards" for name, blocks in done.left.items()]
    names = ", ".join(done.folders)
    told = [f"{done.pairs:,} pairs have scores of {names}{new_text(done.new, done.pairs)}; in {out}"]
    _show(done, [*done.notes.values(), *(left or told)], as_json=as_json, quiet=quiet)


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
    threshold: Annotated[float, typer.Option(help="Share of right tokens of a known pair, for forgetting.")] = 0.5,
    clusters: Annotated[int, typer.Option(help="Of the courses of the loss, for s2l.")] = 100,
    reference: Annotated[str | None, typer.Option(help="The reference model's scores, for rho.")] = None,
    checkpoint: Annotated[list[str] | None, typer.Option(help="Use only these scores; repeat it.")] = None,
    column: Annotated[str | None, typer.Option(help="The score column of Parquet files.")] = None,
    merge: Annotated[str | None, typer.Option(help="Several columns as one: '0.7*cat-var + 0.3*labse'.")] = None,
    merge_by: Annotated[str, typer.Option(help="rank or z (standard scores).")] = "rank",
    where: Annotated[list[str] | None, typer.Option(help="Rank only pairs with COLUMN>VALUE; repeat it.")] = None,
    always_keep: Annotated[
        list[str] | None, typer.Option(help="input=NAME or tag=VALUE is kept whole, on top of --keep; repeat it.")
    ] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Draw at random, with scores as weights.")] = False,
    condense: Annotated[
        Path | None,
        typer.Option(help="Of near duplicates that this clean folder of the same inputs found, rank the best alone."),
    ] = None,
    join: Annotated[list[Path] | None, typer.Option(help="Parquet files with row and more columns; repeat it.")] = None,
    clean: Annotated[Path | None, typer.Option(help="The clean folder of the rows of Parquet files.")] = None,
    seen_apart: Annotated[
        bool,
        typer.Option(
            "--seen-apart/--seen-together",
            help="Rank rows that a checkpoint had been trained on more often than on others among themselves.",
        ),
    ] = True,
    rows: Annotated[bool, typer.Option("--rows", help="Write only rows.npy, the numbers of the kept rows.")] = False,
    tmp_dir: Annotated[Path | None, typer.Option(help="For temporary files; the output folder by default.")] = None,
    seed: Seed = 1,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Keep the best pairs by a method, exactly."""
    from catprune.selection.select import caution, summary
    from catprune.selection.select import select as step

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
        threshold=threshold,
        clusters=clusters,
        reference=reference,
        checkpoints=checkpoint,
        column=column,
        merge=merge,
        merge_by=merge_by,
        where=where,
        always_keep=always_keep,
        sample=sample,
        condense=condense,
        join=join or (),
        clean=clean,
        seen_apart=seen_apart,
        rows=rows,
        tmp_dir=tmp_dir,
        seed=seed,
        threads=threads,
        force=force,
        quiet=quiet,
    )
    warned = caution(done)
    _show(done, [*summary(done), *([] if warned is None else [warned])], as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def write(
    clean: Annotated[Path, typer.Argument(help="The clean folder of the corpus.")],
    outputs: Annotated[
        list[Path],
        typer.Argument(
            help="Two files (of a monolingual corpus one), or a .tsv, .jsonl, .parquet or .tmx; also .gz and so on."
        ),
    ],
    selection: Annotated[Path | None, typer.Option(help="A selection; all that cleaning kept by default.")] = None,
    fields: Annotated[
        str | None,
        typer.Option(
            help="Names of the fields in JSONL and Parquet, languages of TMX.  [languages; of one side: text]"
        ),
    ] = None,
    tags: Annotated[Path | None, typer.Option(help="Write the tag of each written pair here, one a line.")] = None,
    dropped: Annotated[
        list[Path] | None,
        typer.Option(help="Write the pairs that were not kept here; twice for two files."),
    ] = None,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the kept pairs as text, in corpus order."""
    from catprune.writing.write import summary
    from catprune.writing.write import write as step

    done = step(
        clean,
        outputs,
        selection=selection,
        fields=_fields(fields),
        tags=tags,
        dropped=dropped,
        threads=threads,
        force=force,
        quiet=quiet,
    )
    _show(done, summary(done), as_json=as_json, quiet=quiet)


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
    from catprune.evaluation.results import open_evaluation, render
    from catprune.pipeline.run import evaluate_file

    done = evaluate_file(file, threads=threads, memory=memory, force=force, quiet=quiet, say=_saying(quiet or as_json))
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
    from catprune.reporting.report import report as step

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
    tmp_dir: TmpDir = None,
    verify_inputs: VerifyInputs = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Do every step of a run file that is not done yet."""
    from catprune.pipeline.run import run as step

    done = step(
        file,
        until=until,
        threads=threads,
        memory=memory,
        tmp_dir=tmp_dir,
        verify_inputs=verify_inputs,
        force=force,
        quiet=quiet,
        say=_saying(quiet or as_json),
    )
    _show(done, [], as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def prune(
    files: Annotated[
        list[Path],
        typer.Argument(help="Inputs as of clean, then two files out: a.en a.de pruned.en pruned.de; or one .jsonl, …"),
    ],
    keep: Annotated[str, typer.Option(help="50% or 0.5 of the clean pairs, a number of pairs, or 50%tokens.")] = "50%",
    out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder.")] = Path("run"),
    source_lang: Annotated[str | None, typer.Option(help="Language code of the source side.")] = None,
    target_lang: Annotated[str | None, typer.Option(help="Language code of the target side.")] = None,
    columns: Columns = None,
    fields: FieldNames = None,
    format: Format = None,
    monolingual: Monolingual = False,
    method: Annotated[str, typer.Option(help="See `catprune methods`.")] = "progress",
    on: Annotated[str, typer.Option(help="ppl or nll, for the methods that have the choice.")] = "nll",
    seed: Seed = 1,
    threads: Threads = None,
    memory: Annotated[str | None, typer.Option(help="For fingerprints, like 4G.")] = None,
    tmp_dir: TmpDir = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Prune a corpus: clean, tokenize, train, score, select and write, by good defaults."""
    from catprune.corpus.inputs import format_of
    from catprune.pipeline.prune import prune as step

    outputs = 1 if monolingual or format_of(files[-1]) else 2
    if len(files) <= outputs:
        raise UsageError("give the inputs and then the outputs: two files in the place of one that holds both sides")
    done = step(
        files[:-outputs],
        files[-outputs:],
        keep=keep,
        out=out,
        source_lang=source_lang,
        target_lang=target_lang,
        columns=_columns(columns),
        fields=_fields(fields),
        format=format,
        monolingual=monolingual,
        method=method,
        on=on,
        seed=seed,
        threads=threads,
        memory=memory,
        tmp_dir=tmp_dir,
        force=force,
        quiet=quiet,
        say=_saying(quiet or as_json),
    )
    _show(done, [], as_json=as_json, quiet=quiet)


@app.command()
@_guarded
def stats(
    inputs: Annotated[list[str], typer.Argument(help="Inputs as `clean` takes them, or one clean folder.")],
    tags: Annotated[Path | None, typer.Option(help="A file with one tag a record.")] = None,
    columns: Columns = None,
    fields: FieldNames = None,
    format: Format = None,
    monolingual: Monolingual = False,
    source_lang: Annotated[str | None, typer.Option(help="Language code of the source side.")] = None,
    target_lang: Annotated[str | None, typer.Option(help="Language code of the target side.")] = None,
    duplicates_form: Annotated[
        str, typer.Option(help="raw, or some of nfkc,case,white-space,punctuation,digits; normalised: all but digits.")
    ] = "normalised",
    identify_language: Annotated[
        bool, typer.Option("--identify-language", help="Also count which languages the sides are taken for.")
    ] = False,
    max_line_bytes: Annotated[int, typer.Option(help="Longer lines are counted unread.")] = 16_384,
    memory: Annotated[str | None, typer.Option(help="For duplicates, like 4G.  [half of the machine's]")] = None,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Count what a corpus is made of: lengths, ratios, words, duplicates, scripts, how far it compresses.

    Of a clean folder, what cleaning kept stands beside all. Nothing is written.
    """
    from catprune.cleaning.stats import stats as step
    from catprune.cleaning.stats import summary

    found = step(
        inputs,
        tags=tags,
        columns=_columns(columns),
        fields=_fields(fields),
        format=format,
        monolingual=monolingual,
        source_lang=source_lang,
        target_lang=target_lang,
        duplicates_form=duplicates_form,
        identify_language=identify_language,
        max_line_bytes=max_line_bytes,
        memory=memory,
        threads=threads,
        quiet=quiet,
    )
    _show(found, [] if as_json else summary(found), as_json=as_json, quiet=False)


@app.command()
@_guarded
def methods(as_json: Json = False) -> None:
    """List the methods of `select`, with their sources."""
    from catprune.selection.methods import METHODS

    if as_json:
        _print_json(METHODS)
        return
    for method in METHODS:
        options = "".join(f"; --{name} {value}" for name, value in method.options if value is not None)
        typer.echo(f"{method.name:12} {method.formula}\n{'':12} {method.source}{options}")


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
    from catprune.demonstration.demo import demo as step
    from catprune.demonstration.demo import to_text

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
    from catprune.pipeline.doctor import examine

    found = examine()
    if as_json:
        _print_json(found)
        return
    for name, text in found.items():
        typer.echo(f"{name:13} {text}")


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
