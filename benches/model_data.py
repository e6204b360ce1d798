"""Data of the model benchmark: real text in token blocks, and the same random weights for every engine."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import catprune
from catprune._core import BLOCK_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from catprune.checkpoints.native import Checkpoint


#: Tokens of the batches from which pairs are drawn.
_PLAN_TOKENS = 1024


@dataclass
class Data:
    """Text and models in a scratch folder; existing files are reused.

    Attributes:
        scratch: the folder.
        source, target: the two sides of the text, plain or compressed.
        vocab_size: vocabulary size of the tokenizer, which is trained on all clean pairs.
    """

    scratch: Path
    source: Path
    target: Path
    vocab_size: int

    def _once(self, name: str, make: Callable[[Path], object]) -> Path:
        """Make a folder unless it exists; it has its name only when it is complete."""
        path = self.scratch / name
        if not path.exists():
            temporary = path.with_name(f"{path.name}.making")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.parent.mkdir(parents=True, exist_ok=True)
            make(temporary)
            temporary.rename(path)
        return path

    @property
    def clean(self) -> Path:
        """The whole text, cleaned with the default rules."""
        out = self.scratch / "clean"
        catprune.clean([self.source, self.target], out=out, quiet=True)
        return out

    @property
    def tokens(self) -> Path:
        """The tokens of all clean pairs."""
        out = self.scratch / f"tokens-{self.vocab_size}"
        catprune.tokenize(self.clean, out=out, vocab_size=self.vocab_size, sample=1_000_000, quiet=True)
        return out

    def _kept(self) -> list[Path]:
        paths = [self.scratch / "kept.source", self.scratch / "kept.target"]
        catprune.write(self.clean, paths, quiet=True)
        return paths

    def corpus(self, pairs: int, *, parts: int = 1, tokenizer: Path | None = None) -> Path:
        """Return a tokens folder of `pairs` clean pairs, distributed over `parts` inputs.

        Every input starts a new block, so that several processes can share the work: empty lines, which are no pairs,
        fill the block before.
        """
        chosen = tokenizer or self.tokens / "tokenizer.json"
        name = f"drawn-{self.vocab_size}-{pairs}-{parts}" + ("" if tokenizer is None else "-other")
        drawn = self._draw(pairs)
        lines = [self._lines(path, drawn) for path in self._kept()]

        def deal(folder: Path) -> None:
            folder.mkdir()
            for part in range(parts):
                for side, text in zip(("source", "target"), lines, strict=True):
                    own = text[part::parts]
                    empty = b"\n" * (-len(own) % BLOCK_ROWS if part < parts - 1 else 0)
                    (folder / f"{part}.{side}").write_bytes(b"".join(own) + empty)

        text = self._once(f"{name}/text", deal)
        inputs = [text / f"{part}.{{source,target}}" for part in range(parts)]
        clean = text.with_name("clean")
        catprune.clean([*map(str, inputs)], out=clean, rules=False, duplicates="none", quiet=True)
        catprune.tokenize(
            clean, out=text.with_name("tokens"), tokenizer=chosen, quiet=True, force=tokenizer is not None
        )
        return text.with_name("tokens")

    def _draw(self, pairs: int) -> set[int]:
        """Draw the pairs to score: whole batches of the first block, at random.

        A few thousand random pairs would not fill batches of equal source lengths like a whole block.
        """
        import numpy as np
        from catprune.model.batches import pairs_of, plan_scoring
        from catprune.tokens.blocks import Tokens

        tokens = Tokens.open(self.tokens)
        block = tokens.read(tokens.blocks[0])
        plan = plan_scoring(pairs_of(block), batch_tokens=_PLAN_TOKENS)
        order = np.random.default_rng(1).permutation(len(plan))
        chosen = np.concatenate([plan[place] for place in order])[:pairs]
        if len(chosen) < pairs:
            raise RuntimeError(f"the first block has {len(chosen)} pairs, {pairs} are needed")
        kept = np.sort(np.concatenate([block.rows, block.too_long]))
        return set(np.searchsorted(kept, block.rows[chosen]).tolist())

    @staticmethod
    def _lines(path: Path, numbers: set[int]) -> list[bytes]:
        last = max(numbers)
        with path.open("rb") as file:
            return [line for number, line in zip(range(last + 1), file, strict=False) if number in numbers]

    def checkpoint(self, preset: str) -> Path:
        """Return a native checkpoint with random weights (seed 1)."""

        def make(folder: Path) -> None:
            import torch
            from catprune.checkpoints.native import write_checkpoint
            from catprune.model.sizes import find_size
            from catprune.model.transformer import Transformer
            from catprune.tokens.blocks import Tokens

            torch.manual_seed(1)
            tokens, size = Tokens.open(self.tokens), find_size(preset)
            model = Transformer(size, vocab_size=tokens.tokenizer.vocab_size)
            seen = {"tokens": "", "end": 0, "times": [0]}
            training = {"step": 0, "epoch": 0, "target_tokens": 0, "flops": 0.0, "reverse": False, "seen": seen}
            write_checkpoint(folder, model, tokens, size=size, training=training)

        return self._once(f"{preset}-{self.vocab_size}", make)

    def ctranslate2(self, preset: str) -> Path:
        """Return the same weights for CTranslate2 in float32; it quantizes to int8 while loading."""

        def make(folder: Path) -> None:
            from catprune.evaluation.translate import export

            export(self.checkpoint(preset), folder)

        return self._once(f"{preset}-{self.vocab_size}-ctranslate2", make)

    def trained(self, preset: str, steps: int, *, precision: str) -> list[Path]:
        """Return two checkpoints of a training on the whole text, after a third of the steps and at the end."""
        out = self.scratch / f"trained-{preset}-{self.vocab_size}-{steps}"
        early = max(1, steps // 3)
        done = catprune.train(
            self.tokens,
            out=out,
            preset=preset,
            steps=steps,
            checkpoints=f"{early}steps",
            precision=precision,
            quiet=True,
        )
        return list(done.checkpoints)


def as_transformers(checkpoint: Checkpoint) -> Any:
    """Return the weights in transformers' M2M100, which computes the same function with biases of zero.

    It is pre-norm with final norms, has sinusoidal positions, ReLU, scaled and tied embeddings. Its positions are
    counted from behind the padding symbol's id, which its table is moved to; what it adds is products with zero.
    """
    import torch
    from catprune.checkpoints.native import load_tensors
    from catprune.model.transformer import sinusoids
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    size, special, longest = checkpoint.size, checkpoint.tokenizer, 1024
    sides = {"layers": "_layers", "heads": "_attention_heads", "ffn": "_ffn_dim"}
    shape: dict[str, int] = {}
    for side in ("encoder", "decoder"):
        values = {"layers": size[f"{side}_layers"], "heads": size["heads"], "ffn": size["ffn"]}
        shape |= {f"{side}{sides[key]}": value for key, value in values.items()}
    config = M2M100Config(
        vocab_size=special.vocab_size,
        d_model=size["d_model"],
        max_position_embeddings=longest,
        activation_function="relu",
        scale_embedding=True,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        bos_token_id=special.bos_id,
        eos_token_id=special.eos_id,
        pad_token_id=special.pad_id,
        decoder_start_token_id=special.bos_id,
        use_cache=False,
        **shape,
    )
    model = M2M100ForConditionalGeneration(config).eval()
    tensors, state = load_tensors(checkpoint.weights)[0], model.state_dict()
    for name, value in state.items():
        value.copy_(_of_ours(name, tensors, value))
    for side in (model.model.encoder, model.model.decoder):
        table = torch.zeros(longest + special.pad_id + 1, size["d_model"])
        table[special.pad_id + 1 :] = sinusoids(longest, size["d_model"])
        side.embed_positions.weights = table
    return model


def _of_ours(name: str, tensors: dict[str, Any], like: Any) -> Any:
    """Return the weights with the name `name` in transformers."""
    import torch

    if "embed_tokens" in name or name in ("lm_head.weight", "model.shared.weight"):
        return tensors["embedding.weight"]
    parts = name.removeprefix("model.").split(".")
    side, kind = parts[0], parts[-1]
    if parts[1] == "layer_norm":
        return tensors[f"{side}_norm.{kind}"]
    layer, module = f"{side}.{parts[2]}", parts[3]
    norms = {
        "self_attn_layer_norm": "self_norm",
        "encoder_attn_layer_norm": "cross_norm",
        "final_layer_norm": "ffn_norm",
    }
    if module in norms:
        return tensors[f"{layer}.{norms[module]}.{kind}"]
    if kind == "bias":
        return torch.zeros_like(like)
    if module in ("fc1", "fc2"):
        return tensors[f"{layer}.ffn.{'inner' if module == 'fc1' else 'outer'}.weight"]
    attention = f"{layer}.{'self' if module == 'self_attn' else 'cross'}_attention"
    if parts[4] == "out_proj":
        return tensors[f"{attention}.out.weight"]
    place = "qkv".index(parts[4][0])
    if module == "self_attn":
        return tensors[f"{attention}.query_key_value.weight"].chunk(3)[place]
    if place == 0:
        return tensors[f"{attention}.query.weight"]
    return tensors[f"{attention}.key_value.weight"].chunk(2)[place - 1]


def read_pairs(tokens: Path, *, limit: int | None = None) -> list[tuple[list[int], list[int]]]:
    """Return the ids of the pairs in row order, with end-of-sentence on both sides."""
    from catprune.tokens.blocks import Tokens

    opened, pairs = Tokens.open(tokens), []
    for entry in opened.blocks:
        block = opened.read(entry)
        for i in range(len(block.rows)):
            sides = (
                (block.source_ids, block.source_offsets),
                (block.target_ids, block.target_offsets),
            )
            pairs.append(tuple(ids[offsets[i] : offsets[i + 1]].tolist() for ids, offsets in sides))
            if len(pairs) == limit:
                return pairs
    return pairs


def names_of(tokens: Path) -> list[str]:
    """Return the tokens by id, as in CTranslate2's vocabulary."""
    vocabulary = json.loads((tokens / "tokenizer.json").read_text())
    ids = dict(vocabulary["model"]["vocab"]) | {entry["content"]: entry["id"] for entry in vocabulary["added_tokens"]}
    names = {i: name for name, i in ids.items()}
    return [names.get(i, f"<unused {i}>") for i in range(max(names) + 1)]
