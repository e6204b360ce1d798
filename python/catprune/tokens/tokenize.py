"""The step `tokenize`: train a joint tokenizer on a seeded sample, or load one, and write token blocks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.corpus.inputs import is_monolingual, resolve
from catprune.corpus.unchanged import check_unchanged, cleaned_files
from catprune.errors import CatpruneError, UsageError
from catprune.tokens.options import TokenizeOptions
from catprune.workspace.files import write_whole
from catprune.workspace.manifest import describe_folder, read_manifest, reads_appended, verify_shards
from catprune.workspace.options import takes
from catprune.workspace.progress import Progress, bytes_progress
from catprune.workspace.resources import choose_threads
from catprune.workspace.signals import STOPPING, raise_interrupt
from catprune.workspace.step_folder import StepFolder, finish_once
from catprune.workspace.wording import new_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catprune.boundary import BlockShard, KeptCorpus, TokenizeRequest

VOCAB_SIZE, SAMPLE = 16_000, 1_000_000
BEGIN, END, PAD = "<s>", "</s>", "<pad>"

# Runs in a child process, because the library cannot cancel a training. The standard input of the child ends when this
# process ends, in whatever way; then the child ends too.
_TRAIN = """
import json, os, sys, threading
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
vocab_size, sample, special = json.loads(sys.argv[1])
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=vocab_size,
    special_tokens=special,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
)
tokenizer.train([sample], trainer)
end = special[2]
tokenizer.post_processor = processors.TemplateProcessing(
    single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
)
sys.stdout.buffer.write(tokenizer.to_str(pretty=True).encode())
sys.stdout.flush()
os._exit(0)
"""


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
    tokenizer, seed = options.tokenizer, options.seed
    check_tokenizing(options)
    if tokenizer is not None:
        describe_tokenizer(Path(tokenizer))
    vocab_size, sample = options.vocab_size or VOCAB_SIZE, options.sample or SAMPLE
    clean, folder = Path(options.clean), Path(options.out)
    cleaned = read_manifest(clean, step="clean")
    if not cleaned["counts"]["kept"]:
        raise CatpruneError(f"{clean}: cleaning kept no pair; see `reasons` in its manifest.json")
    plan: dict[str, Any] = {"max_tokens": options.max_tokens}
    if tokenizer is None:
        plan |= {"vocab_size": vocab_size, "sample": sample, "seed": seed}
    reads = {
        "clean": describe_folder(clean, relative_to=folder),
        "tokenizer": _core.digest_file(str(tokenizer)) if tokenizer else None,
    }
    extends = reads_appended("clean", clean)
    with StepFolder(folder, step="tokenize", reads=reads, options=plan, force=options.force, extends=extends) as step:

        def work() -> dict[str, Any]:
            before = step.before
            first_row = 0 if before is None else before["counts"]["rows"]
            new = {**cleaned, **{name: _from(first_row, cleaned[name]) for name in ("inputs", "shards")}}
            files = cleaned_files(clean, new)
            check_unchanged(files, cache=clean / "log" / "digests.json")
            verify_shards(clean, new)
            request: KeptCorpus = {
                "corpus": {**resolve(clean, new), "first_row": first_row},
                "kept": {"clean": [str(clean / shard["file"]) for shard in new["shards"]]},
                "threads": choose_threads(options.threads),
            }
            path = folder / "tokenizer.json"
            if tokenizer is not None:
                write_whole(path, Path(tokenizer).read_bytes())
            elif before is None and not step.is_noted(path.name):
                fraction = min(1.0, sample / cleaned["counts"]["kept"])
                _train_tokenizer(path, request, fraction, vocab_size, seed, quiet=options.quiet)
                step.note_file(path.name, _core.digest_file(str(path)))
            described = describe_tokenizer(path)
            total = sum(file["bytes"] for file in files)
            full: TokenizeRequest = {
                **request,
                "files": files,
                "tokenizer": str(path),
                "max_tokens": options.max_tokens,
                "frozen": before is not None,
                "out": str(folder),
                "plan": step.digest,
            }
            with Progress("tokenize", total=total, unit="B", quiet=options.quiet) as bar:
                counts = _core.tokenize(full, bytes_progress(bar))
            if before is not None:
                if described != before["tokenizer"]:
                    raise CatpruneError(f"{path} was changed after tokenizing: tokenize again with force = true")
                counts = {"shards": before["shards"] + counts["shards"], "unigrams": before["unigrams"]}
            recorded = {"monolingual": True} if is_monolingual(cleaned) else {}
            return {**counts, **recorded, "tokenizer": described, "counts": _counts(cleaned, counts["shards"])}

        manifest = finish_once(step, work)
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


def _from(first_row: int, ranges: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the inputs, or shards, that start at `first_row` or later."""
    return [entry for entry in ranges if entry["first"] >= first_row]


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


def _train_tokenizer(
    path: Path, request: KeptCorpus, fraction: float, vocab_size: int, seed: int, *, quiet: bool
) -> None:
    """Train a tokenizer on a sample of the clean pairs, in a child process, and write it whole or not at all."""
    text = path.with_name("sample.txt.tmp")
    with Progress("sample", total=None, unit="B", quiet=quiet) as bar:
        _core.sample({**request, "fraction": fraction, "seed": seed, "out": str(text)}, bytes_progress(bar))
    arguments = json.dumps([vocab_size, str(text), [PAD, BEGIN, END]])
    child_end, own_end = os.pipe()  # nothing is written: the child only notices that our end closes
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", _TRAIN, arguments], stdin=child_end, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    os.close(child_end)
    try:
        trained, errors = child.communicate()
    except BaseException:
        child.kill()
        child.wait()
        raise
    finally:
        os.close(own_end)
        text.unlink(missing_ok=True)
    if -child.returncode in STOPPING:  # sent to all processes of the group
        raise_interrupt(-child.returncode)
    if child.returncode:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or [f"exit {child.returncode}"]
        raise CatpruneError(f"training the tokenizer failed: {last[0]}")
    write_whole(path, trained)


def describe_tokenizer(path: Path) -> dict[str, Any]:
    """Describe a `tokenizer.json`: digest, vocabulary size and special ids.

    Raises:
        CatpruneError: a begin, end or padding token is missing, or sequences do not end with end-of-sentence.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer: Any = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exceptions
        raise CatpruneError(
            f"{path} cannot be read ({error}): give a tokenizer.json of the tokenizers library"
        ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids = {name: tokenizer.token_to_id(token) for name, token in _special_tokens(tokenizer).items()}
    missing = [name for name, value in ids.items() if value is None]
    if missing:
        raise CatpruneError(f"{path} has no token for {', '.join(missing)}: add {BEGIN}, {END} and {PAD}")
    if tokenizer.encode("a").ids[-1:] != [ids["eos_id"]]:
        raise CatpruneError(f"{path} does not end sequences with {END}: add a TemplateProcessing post-processor")
    # Ids may have gaps, so the number of entries may be less than the size of a table.
    vocab_size = max(tokenizer.get_vocab().values()) + 1
    return {"digest": _core.digest_file(str(path)), "vocab_size": vocab_size, **ids}


def _special_tokens(tokenizer: Any) -> dict[str, str]:
    """Find the special tokens, by our names or those of common tokenizers."""
    spellings = {
        "bos_id": (BEGIN, "<bos>", "[CLS]"),
        "eos_id": (END, "<eos>", "[SEP]"),
        "pad_id": (PAD, "[PAD]"),
    }
    special: dict[str, str] = {}
    for name, tokens in spellings.items():
        present = [token for token in tokens if tokenizer.token_to_id(token) is not None]
        special[name] = present[0] if present else tokens[0]
    return special


def summary(done: Tokenized) -> list[str]:
    """What was tokenized, in lines for a reader."""
    monolingual = is_monolingual(done.manifest)
    unit = "texts" if monolingual else "pairs"
    source = "" if monolingual else f"{done.source_tokens:,} source and "
    tokens = f"{source}{done.target_tokens:,} {'' if monolingual else 'target '}tokens"
    lines = [f"{done.pairs:,} {unit}{new_text(done.new, done.pairs)}, {tokens}, vocabulary size {done.vocab_size:,}"]
    if done.too_long:
        lines.append(f"{done.too_long:,} {unit} are longer than max_tokens and get no tokens")
    return lines
