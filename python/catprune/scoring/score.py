"""Score: the raw training-dynamics statistics of every pair under one or more checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.errors import UsageError
from catprune.scoring.block_scoring import PACKED, Scoring
from catprune.scoring.checkpoints import holds_texts, name_checkpoints, note_weights, open_checkpoint, open_tokens
from catprune.scoring.options import ScoreOptions
from catprune.tokens.blocks import Tokens
from catprune.workspace.device import Device, own_state, require_torch, use_threads
from catprune.workspace.files import relative_place
from catprune.workspace.manifest import describe_folder, reads_appended
from catprune.workspace.options import takes
from catprune.workspace.progress import say
from catprune.workspace.shards import Shard
from catprune.workspace.step_folder import StepFolder
from catprune.workspace.wording import left_text, new_text

if TYPE_CHECKING:
    from catprune.scoring.checkpoints import AnyCheckpoint

#: Default maximum of tokens of a batch on either side.
BATCH_TOKENS = {"cpu": 1024, "cuda": 4096}
#: The same for packed sequences.
PACKED_TOKENS = 16_384


@dataclass(frozen=True, slots=True)
class Scored:
    """Finished scores.

    Attributes:
        folder: the output folder, with one folder per checkpoint.
        folders: the folder of each checkpoint, by name, in the given order.
        pairs: pairs scored under the first checkpoint; `too_long` more pairs have null records. The manifests have the
            counts of each checkpoint: those with other tokenizers differ.
        new: pairs in appended rows, if earlier rows were scored before; else 0.
        too_long: pairs that are too long to be scored.
        flops: floating-point operations of all forward passes, counted from shapes.
        manifests: manifests by name, without checkpoints that have blocks left to other processes.
        left: blocks left to other processes, by name.
        notes: remarks on single checkpoints, by name.
        is_new: whether this call scored; False if the scores of all checkpoints were finished before.
    """

    folder: Path
    folders: dict[str, Path] = field(repr=False)
    pairs: int
    new: int
    too_long: int
    flops: float
    manifests: dict[str, dict[str, Any]] = field(repr=False)
    left: dict[str, int] = field(repr=False)
    notes: dict[str, str] = field(repr=False)
    is_new: bool = field(default=True, compare=False)


@takes(ScoreOptions)
def score(options: ScoreOptions) -> Scored:
    """Score all pairs under each checkpoint; finished checkpoints and blocks are skipped.

    Native checkpoints read a tokens folder. External checkpoints read a clean folder:

    - folders of the transformers library (translation models, or decoder-only models with a prompt),
    - models of Marian-NMT (.npz, with SentencePiece vocabularies).

    The tokenizer of an external checkpoint writes token blocks next to `out`, once for all checkpoints that share it.
    The loss is the library's: over all target tokens, with language codes. For a decoder-only model it covers the
    target and end-of-sentence, not the prompt.

    One forward pass in eval mode with teacher forcing computes, per pair:

    - `tokens`: target tokens,
    - `nll_sum`: in nats,
    - `correct`: tokens that are the most probable ones,
    - `el2n_sum`, `grad_norm_sum`: sums over the tokens (Paul et al. 2021, arXiv 2107.07075); the gradient is of the
      output matrix,
    - `ign_sum`: gradient norms weighted by the self-information of the tokens under the unigram distribution of the
      corpus, scaled to mean 1,
    - `seen`: how often the checkpoint was trained on the row, if known.

    Sums, exponentials and target logits are float32 in either precision. A backward model (`train(reverse=True)`)
    predicts the source, given the target. If rows were appended to the corpus, only these are scored.

    Raises:
        UsageError: an option is invalid.
        CatpruneError: a folder or a checkpoint cannot be read, was changed, or has another tokenizer.
        MissingExtra: torch or safetensors is not installed, or transformers or sentencepiece is needed and missing.
    """
    require_torch()
    from catprune.checkpoints.native import require_tokenizer

    share, out, force, quiet = Shard.parse(options.shard), Path(options.out), options.force, options.quiet
    if force and not share.is_whole:
        raise UsageError("force would remove the work of the other shards: remove the folder yourself")
    device = Device.choose(options.precision, local=share.local)
    tokens = Path(options.tokens)
    monolingual = holds_texts(tokens)
    named = {
        name: open_checkpoint(
            path, languages=(options.source_lang, options.target_lang), prompt=options.prompt, monolingual=monolingual
        )
        for name, path in name_checkpoints(options.checkpoints).items()
    }
    notes = note_weights(named)
    blocks = {
        name: open_tokens(tokens, checkpoint, out=out, wait=not share.is_whole, quiet=quiet)
        for name, checkpoint in named.items()
    }
    for name, checkpoint in named.items():
        require_tokenizer(checkpoint, blocks[name])
    block_count = len(next(iter(blocks.values())).blocks)
    if share.number >= block_count:
        say(f"score: {share.idle_text(block_count)}", quiet=quiet)
    manifests: dict[str, dict[str, Any]] = {}
    left: dict[str, int] = {}
    new, is_new = 0, False
    with own_state(options.threads):
        for name, checkpoint in named.items():
            path, opened, limit = out / name, blocks[name], options.batch_tokens
            with _plan(
                path, opened, checkpoint, device, batch_tokens=limit, force=force, shard=share, threads=options.threads
            ) as folder:
                use_threads(folder.threads)
                is_new |= not folder.finished_before
                if folder.before is not None:
                    new = max(new, opened.manifest["counts"]["pairs"] - folder.before["counts"]["pairs"])
                if folder.manifest is None:
                    scoring = Scoring(folder, opened, checkpoint, device)
                    scoring.run(name, share, quiet=quiet)
                    blocks_left = scoring.blocks_left()
                    if blocks_left:
                        left[name] = blocks_left
                        continue
                    folder.publish(**scoring.describe())
                assert folder.manifest is not None
                manifests[name] = folder.manifest
    counts = next(iter(blocks.values())).manifest["counts"]
    flops = sum(manifest["flops"] for manifest in manifests.values())
    folders = {name: out / name for name in named}
    return Scored(out, folders, counts["pairs"], new, counts["too_long"], flops, manifests, left, notes, is_new)


def _plan(
    path: Path,
    tokens: Tokens,
    checkpoint: AnyCheckpoint,
    device: Device,
    *,
    batch_tokens: int | None,
    force: bool,
    shard: Shard,
    threads: int | None,
) -> StepFolder:
    import torch

    from catprune.checkpoints.native import Checkpoint
    from catprune.model.attention import has_packed

    reads = {
        "tokens": describe_folder(tokens.path, relative_to=path),
        "checkpoint": {
            "path": relative_place(checkpoint.path, path),
            **checkpoint.reads(),
        },
    }
    is_packed = isinstance(checkpoint, Checkpoint) and has_packed(device.name, device.dtype)
    batches = PACKED if is_packed else "equal source lengths"
    batch_tokens = batch_tokens or (PACKED_TOKENS if is_packed else BATCH_TOKENS[device.name])
    options = {"precision": device.precision, "batch_tokens": batch_tokens, "batches": batches}
    extends = reads_appended("tokens", tokens.path)
    return StepFolder(
        path,
        step="score",
        reads=reads,
        options=options,
        force=force,
        extends=extends,
        shard=shard,
        threads=(threads, torch.get_num_threads()),
    )


def summary(done: Scored) -> list[str]:
    """Summarize the scores, in lines."""
    left = [f"{name}: {left_text(blocks)}" for name, blocks in done.left.items()]
    names = ", ".join(done.folders)
    was_extended = done.is_new and any("extends" in manifest for manifest in done.manifests.values())
    new = new_text(done.new, done.pairs, was_extended=was_extended)
    scored = f"{done.pairs:,} pairs have scores of {names}{new}; in {done.folder}"
    pairs = {name: manifest["counts"]["pairs"] for name, manifest in done.manifests.items()}
    if len({*pairs.values()}) > 1:  # other tokenizers find other pairs too long
        scored = (
            f"{'; '.join(f'{count:,} pairs have scores of {name}' for name, count in pairs.items())}; in {done.folder}"
        )
    return [*done.notes.values(), *(left or [scored])]
