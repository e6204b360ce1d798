"""The tokenizer of a run: byte-level BPE trained on a sample, or a `tokenizer.json` with the tokens that we need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.corpus.inputs import is_monolingual, resolve
from catprune.errors import CatpruneError
from catprune.workspace.files import write_whole
from catprune.workspace.manifest import read_manifest
from catprune.workspace.progress import Progress, bytes_progress
from catprune.workspace.resources import choose_threads
from catprune.workspace.signals import STOPPING, raise_interrupt

if TYPE_CHECKING:
    from catprune.boundary import KeptCorpus

BEGIN, END, PAD = "<s>", "</s>", "<pad>"
#: Pairs of the sample behind an estimate.
_ESTIMATED = 20_000

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


def train_tokenizer(
    path: Path, request: KeptCorpus, fraction: float, vocab_size: int, seed: int, *, quiet: bool
) -> None:
    """Train a tokenizer on a sample of the clean pairs, and write it whole or not at all."""
    text = path.with_name("sample.txt.tmp")
    try:
        with Progress("sample", total=None, unit="B", quiet=quiet) as bar:
            _core.sample({**request, "fraction": fraction, "seed": seed, "out": str(text)}, bytes_progress(bar))
        write_whole(path, _train(text, vocab_size))
    finally:
        text.unlink(missing_ok=True)


def estimate_target_tokens(clean: Path, *, vocab_size: int, seed: int, threads: int | None) -> float:
    """Estimate the target tokens of a clean folder, by a tokenizer trained on a small sample of its pairs.

    The sample is in the folder for a while.
    """
    from tokenizers import Tokenizer

    cleaned = read_manifest(clean, step="clean")
    pairs, text = cleaned["counts"]["kept"], clean / "sample.txt.tmp"
    fraction = min(1.0, _ESTIMATED / pairs)
    request = kept_corpus(clean, cleaned, threads=threads)
    sampled = _core.sample({**request, "fraction": fraction, "seed": seed, "out": str(text)})
    tokenizer: Any = Tokenizer.from_str(_train(text, vocab_size).decode())
    lines = text.read_text(encoding="utf-8").split("\n")[:-1]
    targets = lines if is_monolingual(cleaned) else lines[1::2]
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(targets)) * pairs / max(1, sampled)


def kept_corpus(clean: Path, cleaned: dict[str, Any], *, first_row: int = 0, threads: int | None) -> KeptCorpus:
    """The request of a pass over the clean pairs of a folder, from a row on that begins an input.

    Args:
        clean: the clean folder.
        cleaned: its manifest, or the part of it from `first_row` on.
        first_row: the first row.
        threads: worker threads; None: all.
    """
    return {
        "corpus": {**resolve(clean, cleaned), "first_row": first_row},
        "kept": {"clean": [str(clean / shard["file"]) for shard in cleaned["shards"]]},
        "threads": choose_threads(threads),
    }


def _train(text: Path, vocab_size: int) -> bytes:
    """Train a tokenizer on a file of lines in a child process, and return its `tokenizer.json`."""
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
    if -child.returncode in STOPPING:  # sent to all processes of the group
        raise_interrupt(-child.returncode)
    if child.returncode:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or [f"exit {child.returncode}"]
        raise CatpruneError(f"training the tokenizer failed: {last[0]}")
    return trained


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
