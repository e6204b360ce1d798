"""The step `tokenize`: train a joint tokenizer on a seeded sample, or load one, and write token blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.corpus.inputs import is_monolingual
from catprune.corpus.unchanged import check_unchanged, cleaned_files
from catprune.errors import CatpruneError, UsageError
from catprune.tokens.options import TokenizeOptions
from catprune.tokens.tokenizer import describe_tokenizer, kept_corpus, train_tokenizer
from catprune.workspace.files import write_whole
from catprune.workspace.manifest import describe_folder, read_manifest, reads_appended, verify_shards
from catprune.workspace.options import takes
from catprune.workspace.progress import Progress, bytes_progress
from catprune.workspace.step_folder import StepFolder, finish_once
from catprune.workspace.wording import new_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catprune.boundary import BlockShard, TokenizeRequest

VOCAB_SIZE, SAMPLE = 16_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Tokenized:
    """A finished tokens folder.

    Attributes:
        folder: the folder of the token blocks.
        pairs: pairs that carry tokens.
        new: pairs in appended rows that this call tokenized; 0 if it tokenized all pairs or none.
        too_long: clean pairs over `max_tokens`, which carry no tokens.
        source_tokens, target_tokens: tokens of each side, end-of-sentence included.
        vocab_size: vocabulary size of the tokenizer.
        manifest: the content of `manifest.json`.
        is_new: whether this call tokenized; False if the work was finished before.
    """

    folder: Path
    pairs: int
    new: int
    too_long: int
    source_tokens: int
    target_tokens: int
    vocab_size: int
    manifest: Mapping[str, Any] = field(repr=False)
    is_new: bool = field(default=True, compare=False)


@takes(TokenizeOptions)
def tokenize(options: TokenizeOptions) -> Tokenized:
    """Write the clean pairs as token ids.

    In a monolingual corpus every source is empty, its end-of-sentence alone, so that an encoder-decoder learns a
    language model; the tokenizer is trained on the targets.

    If inputs were appended to the clean folder, only they are read: the tokenizer and the unigram counts stay those of
    the earlier corpus. `force` tokenizes everything again.

    Raises:
        UsageError: an option has no valid meaning.
        CatpruneError: an input changed since it was cleaned, or the tokenizer cannot be used.
    """
    check_tokenizing(options)
    if options.tokenizer is not None:
        describe_tokenizer(Path(options.tokenizer))
    clean, folder = Path(options.clean), Path(options.out)
    cleaned = read_manifest(clean, step="clean")
    if not cleaned["counts"]["kept"]:
        raise CatpruneError(f"{clean}: cleaning kept no pair; see `reasons` in its manifest.json")
    plan: dict[str, Any] = {"max_tokens": options.max_tokens}
    if options.tokenizer is None:
        sample = options.sample or SAMPLE
        plan |= {"vocab_size": options.vocab_size or VOCAB_SIZE, "sample": sample, "seed": options.seed}
    reads = {
        "clean": describe_folder(clean, relative_to=folder),
        "tokenizer": _core.digest_file(str(options.tokenizer)) if options.tokenizer else None,
    }
    extends = reads_appended("clean", clean)
    with StepFolder(folder, step="tokenize", reads=reads, options=plan, force=options.force, extends=extends) as step:
        manifest = finish_once(step, lambda: _work(options, cleaned, step))
        earlier = None if step.before is None else step.before["counts"]["pairs"]
    counts = manifest["counts"]
    return Tokenized(
        folder,
        counts["pairs"],
        0 if earlier is None else counts["pairs"] - earlier,
        counts["too_long"],
        counts["source_tokens"],
        counts["target_tokens"],
        manifest["tokenizer"]["vocab_size"],
        manifest,
        is_new=not step.finished_before,
    )


def _work(options: TokenizeOptions, cleaned: dict[str, Any], step: StepFolder) -> dict[str, Any]:
    """Train or copy the tokenizer, and write the blocks of the pairs that have none."""
    clean, folder, before = Path(options.clean), Path(options.out), step.before
    first_row = 0 if before is None else before["counts"]["rows"]
    new = {**cleaned, **{name: _from(first_row, cleaned[name]) for name in ("inputs", "shards")}}
    last = None
    if before is not None and first_row % _core.BLOCK_ROWS:
        last = before["shards"][-1]
        verify_shards(folder, {**before, "shards": [last], "files": {}})
    files = cleaned_files(clean, new)
    check_unchanged(files, cache=clean / "log" / "digests.json")
    verify_shards(clean, new)
    request = kept_corpus(clean, new, first_row=first_row, threads=options.threads)
    path = folder / "tokenizer.json"
    if options.tokenizer is not None:
        write_whole(path, Path(options.tokenizer).read_bytes())
    elif before is None and not step.is_noted(path.name):
        plan = step.plan["options"]
        fraction = min(1.0, plan["sample"] / cleaned["counts"]["kept"])
        train_tokenizer(path, request, fraction, plan["vocab_size"], plan["seed"], quiet=options.quiet)
        step.note_file(path.name, _core.digest_file(str(path)))
    described = describe_tokenizer(path)
    full: TokenizeRequest = {
        **request,
        "files": files,
        "tokenizer": str(path),
        "max_tokens": options.max_tokens,
        "frozen": before is not None,
        "continued": None if last is None else str(folder / last["file"]),
        "out": str(folder),
        "plan": step.digest,
    }
    total = sum(file["bytes"] for file in files)
    with Progress("tokenize", total=total, unit="B", quiet=options.quiet) as bar:
        counts = _core.tokenize(full, bytes_progress(bar))
    if before is not None:
        if described != before["tokenizer"]:
            raise CatpruneError(f"{path} was changed after tokenizing: tokenize again with force = true")
        shards = [shard for shard in before["shards"] if shard != last]
        counts = {"shards": shards + counts["shards"], "unigrams": before["unigrams"]}
    recorded = {"monolingual": True} if is_monolingual(cleaned) else {}
    return {**counts, **recorded, "tokenizer": described, "counts": _counts(cleaned, counts["shards"])}


def _from(first_row: int, ranges: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the inputs, or shards, that have rows from `first_row` on."""
    return [entry for entry in ranges if entry["end"] > first_row]


def check_tokenizing(options: TokenizeOptions) -> None:
    """Refuse options that contradict each other.

    Raises:
        UsageError: options for training a tokenizer are given with a finished tokenizer.
    """
    if options.tokenizer is not None and (options.vocab_size is not None or options.sample is not None):
        raise UsageError("vocab_size and sample are options of training a tokenizer: leave them out, or tokenizer")


def _counts(cleaned: dict[str, Any], shards: Sequence[BlockShard]) -> dict[str, int]:
    names = ("pairs", "too_long", "source_tokens", "target_tokens")
    counts = {name: sum(shard[name] for shard in shards) for name in names}
    return {**counts, "rows": cleaned["counts"]["rows"], "kept": cleaned["counts"]["kept"]}


def summary(done: Tokenized) -> list[str]:
    """What was tokenized, in lines for a reader."""
    monolingual = is_monolingual(done.manifest)
    unit = "texts" if monolingual else "pairs"
    source = "" if monolingual else f"{done.source_tokens:,} source and "
    tokens = f"{source}{done.target_tokens:,} {'' if monolingual else 'target '}tokens"
    new = new_text(done.new, done.pairs, was_extended=done.is_new and "extends" in done.manifest)
    lines = [f"{done.pairs:,} {unit}{new}, {tokens}, vocabulary size {done.vocab_size:,}"]
    if done.too_long:
        lines.append(f"{done.too_long:,} {unit} are longer than max_tokens and get no tokens")
    return lines
