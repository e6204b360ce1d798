"""The steps that the torture program disturbs: their commands, what they read and what they make."""

from __future__ import annotations

from dataclasses import dataclass

_INPUTS = ("text.{en,de}.gz", "columns.tsv.zst", "objects.jsonl.xz", "units.tmx.bz2", "table.parquet")
_CLEAN = ("--source-lang=en", "--target-lang=de", "--fields=translation.en,translation.de")
_TORCH = ("--precision=float32", "--threads=1")
_SCORED = ("--checkpoints=warmup/step-4", "--checkpoints=warmup/step-8")
_NEAR = (*_CLEAN, "--near-duplicates=pair", "--exclude=test.{en,de}", "--tags=tags.txt")
_TRAIN = ("--batch-tokens=512", "--save-every=2", *_TORCH)


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        arguments: of `catprune`, from the folder of the case.
        needs: names of steps whose results the command reads, in the order in which they were made.
        makes: its files and folders.
        texts: the inputs that it reads as text.
        torch: whether torch does it, so that its results depend on the number of threads; a report has no threads.
    """

    name: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    torch: bool = False


def _write(name: str, *files: str, more: tuple[str, ...] = ()) -> Step:
    made = (*files, f"{files[0]}.catprune.json", *(file.partition("=")[2] for file in more))
    arguments = ("write", "clean", *files, "--selection=cat", "--fields=en,de", *more)
    return Step(name, arguments, ("clean", "tokenize", "train", "score", "scorer", "select"), made, ALL_TEXTS)


ALL_TEXTS = ("text.en.gz", "text.de.gz", "columns.tsv.zst", "objects.jsonl.xz", "units.tmx.bz2", "table.parquet")
_SCORES = ("clean", "tokenize", "train", "score", "scorer")

STEPS = (
    Step("clean", ("clean", *_INPUTS, "--out=clean", *_NEAR), (), ("clean",), (*ALL_TEXTS, "tags.txt", "test.en")),
    Step("tokenize", ("tokenize", "clean", "--out=tokens", "--vocab-size=300"), ("clean",), ("tokens",), ALL_TEXTS),
    Step(
        "train",
        ("train", "tokens", "--out=warmup", "--checkpoints=4steps,8steps", *_TRAIN),
        ("clean", "tokenize"),
        ("warmup",),
        torch=True,
    ),
    Step(
        "score",
        ("score", "tokens", *_SCORED, "--out=scores", *_TORCH),
        ("clean", "tokenize", "train"),
        ("scores/step-4", "scores/step-8"),
        torch=True,
    ),
    Step(
        "scorer",
        ("score", "clean", "--scorer=own.py:lengths", "--out=scores"),
        ("clean",),
        ("scores/lengths",),
        (*ALL_TEXTS, "own.py"),
    ),
    Step(
        "select",
        ("select", "scores", "--method=cat-diff", "--where=lengths>-8", "--within=tag", "--out=cat"),
        _SCORES,
        ("cat",),
    ),
    Step(
        "join",
        (
            *("select", "scores", "--column=quality", "--join=quality.parquet", "--where=lengths>-8"),
            *("--condense=clean", "--out=joined"),
        ),
        _SCORES,
        ("joined",),
        ("quality.parquet",),
    ),
    _write(
        "write-lines",
        "kept.en.gz",
        "kept.de.gz",
        more=("--dropped=dropped.en.gz", "--dropped=dropped.de.gz", "--tags=kept.tags"),
    ),
    _write("write-tsv", "kept.tsv.zst"),
    _write("write-jsonl", "kept.jsonl.xz"),
    _write("write-parquet", "kept.parquet"),
    _write("write-tmx", "kept.tmx.bz2"),
    Step(
        "train-pruned",
        (
            *("train", "tokens", "--out=pruned", "--prune-while-training=infobatch", "--steps=8"),
            *_TRAIN,
        ),
        ("clean", "tokenize"),
        ("pruned",),
        torch=True,
    ),
    Step("explore", ("explore", ".", "--out=explore.html"), (*_SCORES, "select"), ("explore.html",), torch=True),
    Step("report", ("report", ".", "--out=report.html"), (*_SCORES, "select"), ("report.html",), torch=True),
    # A corpus that is appended: `append` begins with the folder that `first` made.
    Step("first", ("clean", *_INPUTS, "--out=many", *_CLEAN), (), ("many",), ALL_TEXTS),
    Step(
        "append",
        ("clean", *_INPUTS, "more.{en,de}", "--out=many", *_CLEAN),
        ("first",),
        ("many",),
        ("more.en", "more.de"),
    ),
    Step(
        "run",
        ("run", "run.toml", "--until=write"),
        (),
        ("run", "run-kept.en", "run-kept.de", "run-kept.en.catprune.json", "run-dropped.en", "run-dropped.de"),
        ("text.en.gz", "text.de.gz", "columns.tsv.zst"),
        torch=True,
    ),
    Step("evaluate", ("run", "run.toml"), ("run",), ("run",), ("test.en", "test.de"), torch=True),
)
BY_NAME = {step.name: step for step in STEPS}
