"""Tiny checkpoints of the transformers library with random weights, each in the library's own files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

PAIRS = [
    ("the cat sat on the mat", "die katze sitzt auf der matte"),
    ("a dog", "ein hund"),
    ("hello world again", "grüß dich noch einmal, welt"),
    ("the dog runs in the park", "der hund rennt im park"),
    ("two words", "zwei"),
    ("a cat", "eine katze rennt"),
]
PROMPT = "en: {source}\nde: "
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def train_pieces(path: Path, *, sides: tuple[int, ...] = (0, 1), vocab_size: int = 60, **options: Any) -> Path:
    """A SentencePiece model of the pairs."""
    text = iter([pair[side] for pair in PAIRS * 20 for side in sides])
    settings = {"vocab_size": vocab_size, "hard_vocab_limit": False, "minloglevel": 2, **options}
    with path.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=text, model_writer=stream, **settings)
    return path


def scored_pieces(folder: Path, *specials: str) -> list[tuple[str, float]]:
    """Special tokens, and the pieces of a SentencePiece model with their scores."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(train_pieces(folder / "unigrams")))
    pieces = [(model.id_to_piece(n), model.get_score(n)) for n in range(3, model.get_piece_size())]
    return [*((special, 0.0) for special in specials), *pieces]


def train_bpe(pre_tokenizer: Any, *specials: str, alphabet: list[str] | None = None) -> dict[str, Any]:
    """Vocabulary and merges of the pairs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=list(specials), initial_alphabet=alphabet or [], show_progress=False
    )
    text = [f"{PROMPT.format(source=source)}{target}" for source, target in PAIRS for _ in range(4)]
    tokenizer.train_from_iterator(text, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}


def sizes(vocab_size: int, **more: Any) -> dict[str, Any]:
    """Options of an encoder-decoder like BART."""
    settings: dict[str, Any] = {"vocab_size": vocab_size, "d_model": 16, "max_position_embeddings": 64}
    for part in ("encoder", "decoder"):
        settings |= {f"{part}_layers": 1, f"{part}_attention_heads": 2, f"{part}_ffn_dim": 32}
    return settings | more


def save(folder: Path, tokenizer: Any, model: Any) -> None:
    tokenizer.save_pretrained(folder)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.3)
    model.save_pretrained(folder)


def vocabulary_of(pieces: Path, path: Path) -> dict[str, int]:
    """A vocab.json of a SentencePiece model's pieces, in another order than its own."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    vocab = {"</s>": 0, "<unk>": 1}
    for number in range(model.get_piece_size()):
        vocab.setdefault(model.id_to_piece(number), len(vocab))
    vocab["<pad>"] = len(vocab)
    path.write_text(json.dumps(vocab))
    return vocab


def marian(folder: Path) -> None:
    pieces = train_pieces(folder / "pieces")
    vocab = vocabulary_of(pieces, folder / "vocab.json")
    for name in ("source.spm", "target.spm"):
        shutil.copy(pieces, folder / name)
    files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    tokenizer = transformers.MarianTokenizer(*files, source_lang="en", target_lang="de")
    ids = {"pad_token_id": vocab["<pad>"], "eos_token_id": 0, "decoder_start_token_id": vocab["<pad>"]}
    model = transformers.MarianMTModel(transformers.MarianConfig(**sizes(len(vocab), **ids)))
    model.final_logits_bias.normal_()
    save(folder, tokenizer, model)


def marian_of_two_vocabularies(folder: Path) -> None:
    """The end of the sentence, padding and the start are other ids on either side."""
    source, target = (train_pieces(folder / name, sides=(n,), vocab_size=40 + 9 * n) for n, name in enumerate("st"))
    vocab = vocabulary_of(source, folder / "vocab.json")
    own = {token: len(vocab) + 20 - number for token, number in vocabulary_of(target, folder / "own.json").items()}
    (folder / "target_vocab.json").write_text(json.dumps(own))
    for path, name in ((source, "source.spm"), (target, "target.spm")):
        shutil.copy(path, folder / name)
    files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json", "target_vocab.json")]
    tokenizer = transformers.MarianTokenizer(*files, separate_vocabs=True)
    ids = {"pad_token_id": vocab["<pad>"], "eos_token_id": 0, "decoder_start_token_id": own["<pad>"]}
    config = sizes(len(vocab), decoder_vocab_size=max(own.values()) + 1, share_encoder_decoder_embeddings=False, **ids)
    save(folder, tokenizer, transformers.MarianMTModel(transformers.MarianConfig(**config)))


def m2m100(folder: Path) -> None:
    pieces = train_pieces(folder / "pieces")
    vocab = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    model = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    for number in range(3, model.get_piece_size()):
        vocab[model.id_to_piece(number)] = len(vocab)
    (folder / "own.json").write_text(json.dumps(vocab))
    tokenizer = transformers.M2M100Tokenizer(str(folder / "own.json"), str(pieces), src_lang="en", tgt_lang="fr")
    config = transformers.M2M100Config(**sizes(len(vocab) + len(tokenizer.lang_code_to_id) + 8))
    save(folder, tokenizer, transformers.M2M100ForConditionalGeneration(config))


def mbart(folder: Path) -> None:
    vocab = scored_pieces(folder, "<s>", "<pad>", "</s>", "<unk>")
    tokenizer = transformers.MBartTokenizer(vocab=vocab, src_lang="en_XX", tgt_lang="ro_RO")
    config = transformers.MBartConfig(**sizes(len(tokenizer)))
    save(folder, tokenizer, transformers.MBartForConditionalGeneration(config))


def mbart50(folder: Path) -> None:
    vocab = scored_pieces(folder, "<unk>", "<s>", "</s>")
    tokenizer = transformers.MBart50Tokenizer(vocab=vocab, src_lang="en_XX", tgt_lang="ro_RO")
    config = transformers.MBartConfig(**sizes(len(tokenizer), decoder_start_token_id=2))
    save(folder, tokenizer, transformers.MBartForConditionalGeneration(config))


def nllb(folder: Path) -> None:
    pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trained = train_bpe(pre_tokenizer, "<s>", "<pad>", "</s>", "<unk>")
    tokenizer = transformers.NllbTokenizer(**trained, src_lang="eng_Latn", tgt_lang="ron_Latn")
    config = transformers.M2M100Config(**sizes(len(tokenizer), decoder_start_token_id=2))
    save(folder, tokenizer, transformers.M2M100ForConditionalGeneration(config))


def t5(folder: Path, *, tied: bool = True) -> None:
    tokenizer = transformers.T5Tokenizer(vocab=scored_pieces(folder, "<pad>", "</s>", "<unk>"), extra_ids=2)
    config = transformers.T5Config(
        **{"vocab_size": len(tokenizer), "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
        decoder_start_token_id=0,
        tie_word_embeddings=tied,
    )
    save(folder, tokenizer, transformers.T5ForConditionalGeneration(config))


def byte_tokenizer(**options: Any) -> Any:
    """GPT-2's: a space belongs to the word that follows it; texts have no start."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = train_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False), "<|endoftext|>", alphabet=alphabet)
    return transformers.GPT2Tokenizer(**trained, **options)


def gpt2(folder: Path, *, tied: bool = True) -> None:
    tokenizer = byte_tokenizer()
    config = transformers.GPT2Config(
        **{"vocab_size": len(tokenizer), "n_embd": 16, "n_layer": 1, "n_head": 2, "tie_word_embeddings": tied},
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    save(folder, tokenizer, transformers.GPT2LMHeadModel(config))


def gpt_sw3(folder: Path) -> None:
    """A tokenizer without character offsets."""
    pieces = train_pieces(folder / "pieces", model_type="bpe", vocab_size=330, byte_fallback=True, pad_id=3)
    tokenizer = transformers.GPTSw3Tokenizer(str(pieces), bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    config = transformers.GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2)
    save(folder, tokenizer, transformers.GPT2LMHeadModel(config))


LAYERS = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
WIDTHS = {"hidden_size": 16, "intermediate_size": 32}


def llama_tokenizer() -> Any:
    """Spaces as characters (▁), a leading space, bytes for unknown characters, and a start symbol."""
    trained = train_bpe(pre_tokenizers.Metaspace(prepend_scheme="first"), "<unk>", "<s>", "</s>", *BYTES)
    tokenizer = transformers.LlamaTokenizer(**trained)
    start = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.backend_tokenizer.post_processor = start
    return tokenizer


def llama(folder: Path) -> None:
    tokenizer = llama_tokenizer()
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), **WIDTHS, **LAYERS)
    save(folder, tokenizer, transformers.LlamaForCausalLM(config))


def gemma3(folder: Path) -> None:
    """The text options are nested in the configuration."""
    tokenizer = byte_tokenizer(bos_token="<|endoftext|>")
    text = {"vocab_size": len(tokenizer), "head_dim": 8, "max_position_embeddings": 64, **WIDTHS, **LAYERS}
    vision = {**WIDTHS, **LAYERS, "image_size": 28, "patch_size": 14}
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    save(folder, tokenizer, transformers.Gemma3ForConditionalGeneration(config))


@dataclass(frozen=True)
class Kind:
    """How a kind of checkpoint is built, and the options for scoring it."""

    build: Callable[..., None]
    settings: dict[str, str] = field(default_factory=dict[str, str])
    options: dict[str, Any] = field(default_factory=dict[str, Any])


KINDS = {
    "marian": Kind(marian),
    "marian-two": Kind(marian_of_two_vocabularies),
    "m2m100": Kind(m2m100, {"source_lang": "en", "target_lang": "fr"}),
    "mbart": Kind(mbart, {"source_lang": "en_XX", "target_lang": "ro_RO"}),
    "mbart50": Kind(mbart50, {"source_lang": "en_XX", "target_lang": "ro_RO"}),
    "nllb": Kind(nllb, {"source_lang": "eng_Latn", "target_lang": "ron_Latn"}),
    "t5": Kind(t5, {"prompt": "the cat {source}"}),
    "t5-untied": Kind(t5, options={"tied": False}),
    "gpt2": Kind(gpt2, {"prompt": PROMPT}),
    "gpt2-untied": Kind(gpt2, {"prompt": "{source}\n"}, {"tied": False}),
    "gpt-sw3": Kind(gpt_sw3, {"prompt": "en: {source} de:"}),
    "llama": Kind(llama, {"prompt": PROMPT}),
    "gemma3": Kind(gemma3, {"prompt": PROMPT}),
}


def build(kind: str, folder: Path, *, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    KINDS[kind].build(folder, **KINDS[kind].options)
    return folder
