"""A seeded toy language as a tokens folder, written here without the Rust core: the target is the source reversed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from catprune._core import __version__, digest_bytes, digest_file
from catprune.workspace.files import to_json
from catprune.workspace.manifest import FORMAT
from safetensors.numpy import save_file

BOS, EOS, PAD = 1, 2, 0
SYMBOLS = [chr(ord("a") + i) for i in range(20)]


def make_tokenizer():
    """A byte-level BPE of single letters that appends end-of-sentence."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    vocab = {"<pad>": PAD, "<s>": BOS, "</s>": EOS}
    for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab[symbol] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    return tokenizer


def sentences(count, seed, longest=8):
    """Random words over twenty letters, and each reversed."""
    random = np.random.default_rng(seed)
    sources = ["".join(random.choice(SYMBOLS, random.integers(1, longest + 1))) for _ in range(count)]
    return sources, [source[::-1] for source in sources]


def write_tokens(folder: Path, *, pairs=300, block=128, seed=0, too_long=(), dropped=(), longest=8, reads=()) -> Path:
    """Write a finished tokens folder over rows 0 to `pairs`; rows in `too_long` and `dropped` carry no tokens."""
    folder.mkdir(parents=True)
    plan = {
        "format": FORMAT,
        "step": "tokenize",
        "version": __version__,
        "reads": dict(reads),
        "options": {"seed": seed},
    }
    (folder / "plan.json").write_bytes(to_json(plan))
    tokenizer = make_tokenizer()
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    sides = [
        [np.array(encoding.ids, np.uint16) for encoding in tokenizer.encode_batch(side)]
        for side in sentences(pairs, seed, longest)
    ]
    unigrams = [np.zeros(tokenizer.get_vocab_size(), np.uint64) for _ in sides]
    shards = []
    for first in range(0, pairs, block):
        end = min(first + block, pairs)
        rows = [row for row in range(first, end) if row not in too_long and row not in dropped]
        long = [row for row in range(first, end) if row in too_long]
        tensors = {"rows": np.array(rows, np.int64), "too_long": np.array(long, np.int64)}
        for name, side, counts in zip(("source", "target"), sides, unigrams, strict=True):
            ids = [side[row] for row in rows]
            tensors[f"{name}_ids"] = np.concatenate(ids) if ids else np.zeros(0, np.uint16)
            tensors[f"{name}_offsets"] = np.cumsum([0, *map(len, ids)]).astype(np.int64)
            np.add.at(counts, tensors[f"{name}_ids"], 1)
        file = f"part-{first:012d}-{end:012d}.safetensors"
        metadata = {"plan": digest_bytes(to_json(plan)), "first": str(first), "end": str(end)}
        save_file(tensors, folder / file, metadata=metadata)
        entry = {"file": file, "first": first, "end": end, "digest": digest_file(str(folder / file))}
        entry |= {"pairs": len(rows), "too_long": len(long)}
        entry |= {f"{side}_tokens": len(tensors[f"{side}_ids"]) for side in ("source", "target")}
        shards.append(entry)
    save_file(dict(zip(("source", "target"), unigrams, strict=True)), folder / "unigrams.safetensors")
    counted = ("pairs", "too_long", "source_tokens", "target_tokens")
    counts = {"rows": pairs, "kept": pairs - len(dropped)}
    counts |= {name: sum(shard[name] for shard in shards) for name in counted}
    special = {"bos_id": BOS, "eos_id": EOS, "pad_id": PAD, "vocab_size": tokenizer.get_vocab_size()}
    described = {"digest": digest_file(str(folder / "tokenizer.json")), **special}
    manifest = {**plan, "tokenizer": described, "counts": counts, "shards": shards}
    manifest["unigrams"] = digest_file(str(folder / "unigrams.safetensors"))
    (folder / "manifest.json").write_bytes(to_json(manifest))
    return folder


def read_ids(folder: Path):
    """Row, source ids and target ids of every pair, read as plainly as possible."""
    from safetensors.numpy import load_file

    for shard in json.loads((folder / "manifest.json").read_bytes())["shards"]:
        block = load_file(folder / shard["file"])
        for i, row in enumerate(block["rows"]):
            sides = []
            for side in ("source", "target"):
                first, end = block[f"{side}_offsets"][i : i + 2]
                sides.append(block[f"{side}_ids"][first:end].astype(np.int64).tolist())
            yield int(row), *sides


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path, logs aside: the files that equal work must leave equal."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "log" not in path.parts
    }
