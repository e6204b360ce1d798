"""Checkpoints of the transformers library against its own loss, each on a tiny model in the library's own files."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import catprune
import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from catprune.errors import CatpruneError, UsageError
from catprune.score import score
from catprune.tokens import Tokens
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

pytestmark = pytest.mark.filterwarnings("ignore:Recommended")  # of the library's own, where sacremoses is missing
transformers = pytest.importorskip("transformers")
sentencepiece = pytest.importorskip("sentencepiece")

PAIRS = [
    ("the cat sat on the mat", "die katze sitzt auf der matte"),
    ("a dog", "ein hund"),
    ("hello world again", "guten tag"),
    ("the dog runs in the park", "der hund rennt im park"),
    ("two words", "zwei"),
    ("a cat", "eine katze rennt"),
]
TINY = {"d_model": 16, "vocab_size": 0}
PROMPT = "en: {source}\nde:"


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: Any) -> Path:
    """A SentencePiece model of the pairs, with bytes for what they do not have."""
    folder = tmp_path_factory.mktemp("spm")
    (folder / "text").write_text("".join(f"{side}\n" for pair in PAIRS * 20 for side in pair))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "spm"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return folder / "spm.model"


def sizes(vocab_size: int, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "d_model": 16,
        **{f"{part}_layers": 1 for part in ("encoder", "decoder")},
        **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
        **{f"{part}_ffn_dim": 32 for part in ("encoder", "decoder")},
        **more,
    }


def marian(folder: Path, pieces: Path) -> None:
    model = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    vocab = {"</s>": 0, "<unk>": 1}
    for number in range(model.get_piece_size()):
        vocab.setdefault(model.id_to_piece(number), len(vocab))
    vocab["<pad>"] = len(vocab)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    for name in ("source.spm", "target.spm"):
        shutil.copy(pieces, folder / name)
    files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    transformers.MarianTokenizer(*files, source_lang="en", target_lang="de").save_pretrained(folder)
    ids = {"pad_token_id": vocab["<pad>"], "eos_token_id": 0, "decoder_start_token_id": vocab["<pad>"]}
    built = transformers.MarianMTModel(transformers.MarianConfig(**sizes(len(vocab), **ids)))
    built.final_logits_bias.normal_()
    built.save_pretrained(folder)


def mbart(folder: Path, pieces: Path) -> None:
    tokenizer = transformers.MBartTokenizer(vocab_file=str(pieces), src_lang="en_XX", tgt_lang="de_DE")
    tokenizer.save_pretrained(folder)
    config = transformers.MBartConfig(**sizes(len(tokenizer), max_position_embeddings=64))
    transformers.MBartForConditionalGeneration(config).save_pretrained(folder)


def nllb(folder: Path, pieces: Path) -> None:
    tokenizer = transformers.NllbTokenizer(vocab_file=str(pieces), src_lang="eng_Latn", tgt_lang="deu_Latn")
    tokenizer.save_pretrained(folder)
    config = transformers.M2M100Config(**sizes(len(tokenizer), decoder_start_token_id=tokenizer.eos_token_id))
    transformers.M2M100ForConditionalGeneration(config).save_pretrained(folder)


def t5(folder: Path, pieces: Path) -> None:
    tokenizer = transformers.T5Tokenizer(vocab_file=str(pieces), extra_ids=2)
    tokenizer.save_pretrained(folder)
    options = {"d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    config = transformers.T5Config(vocab_size=len(tokenizer), d_model=16, **options)
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)


def byte_tokenizer() -> Any:
    vocab = {"<s>": 0, "</s>": 1, **{one: 2 + n for n, one in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def llama(folder: Path, _: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    options = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, **options)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


KINDS = {
    "marian": (marian, {}),
    "mbart": (mbart, {"source_lang": "en_XX", "target_lang": "de_DE"}),
    "nllb": (nllb, {"source_lang": "eng_Latn", "target_lang": "deu_Latn"}),
    "t5": (t5, {}),
    "llama": (llama, {"prompt": PROMPT}),
}


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: Any) -> Path:
    """The pairs as two inputs, one line of them no pair."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = [*PAIRS[:3], ("", "leer"), *PAIRS[3:]]
    for number, part in enumerate((lines[:2], lines[2:])):
        for place, language in enumerate(("en", "de")):
            (folder / f"{number}.{language}").write_text("".join(f"{pair[place]}\n" for pair in part))
    inputs = [str(folder / f"{number}.{{en,de}}") for number in range(2)]
    catprune.clean(inputs, out=folder / "clean", quiet=True, rules={"max_word_ratio": 9.0, "max_character_ratio": 9.0})
    return folder / "clean"


def build(kind: str, folder: Path, pieces: Path, *, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    KINDS[kind][0](folder, pieces)
    return folder


def own_loss(kind: str, folder: Path) -> list[tuple[int, float]]:
    """Target tokens and summed loss of each pair, by the library alone."""
    options: dict[str, Any] = KINDS[kind][1]
    languages = {"src_lang": options.get("source_lang"), "tgt_lang": options.get("target_lang")}
    given = {name: value for name, value in languages.items() if value}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **given)
    losses: list[tuple[int, float]] = []
    if "prompt" in options:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        for source, target in PAIRS:
            prompt = tokenizer(PROMPT.replace("{source}", source))["input_ids"]
            ids = tokenizer(target, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
            labels = torch.tensor([[-100] * len(prompt) + ids])
            loss = model(input_ids=torch.tensor([prompt + ids]), labels=labels).loss
            losses.append((len(ids), float(loss) * len(ids)))
        return losses
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    for source, target in PAIRS:
        batch = tokenizer(source, text_target=target, return_tensors="pt")
        loss = model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).loss
        losses.append((batch["labels"].shape[1], float(loss) * batch["labels"].shape[1]))
    return losses


def rows_of(folder: Path) -> list[dict[str, Any]]:
    shards = json.loads((folder / "manifest.json").read_bytes())["shards"]
    return [row for shard in shards for row in parquet.read_table(folder / shard["file"]).to_pylist()]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_loss_is_the_librarys_own(kind: str, tmp_path: Path, pieces: Path, cleaned: Path) -> None:
    checkpoint = build(kind, tmp_path / "checkpoint-40", pieces)
    options: dict[str, Any] = {"precision": "float32", "threads": 1, "quiet": True, **KINDS[kind][1]}
    scored = score(cleaned, checkpoints=checkpoint, out=tmp_path / "scores", batch_tokens=30, **options)
    rows = rows_of(tmp_path / "scores/checkpoint-40")
    assert [row["row"] for row in rows] == [0, 1, 2, 4, 5, 6]
    for row, (tokens, loss) in zip(rows, own_loss(kind, checkpoint), strict=True):
        assert row["tokens"] == tokens
        assert row["nll_sum"] == pytest.approx(loss, rel=2e-4)
    written = (tmp_path / "scores/checkpoint-40/manifest.json").read_bytes()
    (tmp_path / "scores/checkpoint-40/manifest.json").unlink()
    with torch.enable_grad():
        score(cleaned, checkpoints=checkpoint, out=tmp_path / "scores", batch_tokens=30, **options)
    assert (tmp_path / "scores/checkpoint-40/manifest.json").read_bytes() == written
    manifest = scored.manifests["checkpoint-40"]
    assert manifest["checkpoint"] == dict.fromkeys(("epoch", "flops", "seen", "target_tokens")) | {"step": 40}
    assert scored.flops > 0


def test_checkpoints_share_their_tokens_and_rank_in_training_order(tmp_path: Path, pieces: Path, cleaned: Path) -> None:
    for seed, step in enumerate((500, 1000, 9)):
        folder = build("marian", tmp_path / f"checkpoint-{step}", pieces, seed=seed)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "epoch": step / 100}))
    paths = [tmp_path / f"checkpoint-{step}" for step in (500, 1000, 9)]
    options: dict[str, Any] = {"precision": "float32", "threads": 1, "quiet": True}
    score(cleaned, checkpoints=paths, out=tmp_path / "run/scores", **options)
    assert len(list((tmp_path / "run").glob("tokens-*"))) == 1
    selected = catprune.select(tmp_path / "run/scores", out=tmp_path / "s", method="cat-diff", keep=3, quiet=True)
    reads = [Path(one["path"]).name for one in selected.manifest["reads"]["scores"]]
    assert reads == ["checkpoint-9", "checkpoint-1000"], "the first and the last in training order"
    catprune.write(cleaned, [tmp_path / "p.en", tmp_path / "p.de"], selection=tmp_path / "s", quiet=True)
    assert len((tmp_path / "p.en").read_text().splitlines()) == 3
    shutil.copytree(paths[0], tmp_path / "best")
    (tmp_path / "best/trainer_state.json").unlink()
    score(cleaned, checkpoints=tmp_path / "best", out=tmp_path / "run/scores", **options)
    with pytest.raises(CatpruneError, match="does not say after how many steps"):
        catprune.select(tmp_path / "run/scores", out=tmp_path / "t", method="cat-diff", keep=3, quiet=True)


def test_blocks_are_those_of_the_cleaned_rows(tmp_path: Path, pieces: Path, cleaned: Path) -> None:
    checkpoint = build("llama", tmp_path / "llama", pieces)
    config = json.loads((checkpoint / "config.json").read_bytes())
    (checkpoint / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 50}))
    score(cleaned, checkpoints=checkpoint, out=tmp_path / "scores", prompt=PROMPT, threads=1, quiet=True)
    tokens = Tokens.open(next(tmp_path.glob("tokens-*")))
    blocks = [tokens.read(entry) for entry in tokens.blocks]
    assert [(entry.first, entry.end) for entry in tokens.blocks] == [(0, 2), (2, 7)]
    assert [block.rows.tolist() for block in blocks] == [[1], [2, 5, 6]]
    assert [block.too_long.tolist() for block in blocks] == [[0], [4]]
    with pytest.raises(CatpruneError, match=r"has another tokenizer than .*: give the clean folder"):
        score(tokens.path, checkpoints=checkpoint, out=tmp_path / "t", prompt="{source}", threads=1, quiet=True)
    score(tokens.path, checkpoints=checkpoint, out=tmp_path / "t", prompt=PROMPT, threads=1, quiet=True)
    decoded = transformers.AutoTokenizer.from_pretrained(checkpoint)
    first = blocks[0]
    assert decoded.decode(first.source_ids, skip_special_tokens=True) == PROMPT.replace("{source}", "a dog")
    assert decoded.decode(first.target_ids) == "ein hund</s>"
    counts = sum(np.bincount(block.target_ids, minlength=tokens.tokenizer.vocab_size) for block in blocks)
    assert tokens.unigrams()[1].tolist() == counts.tolist()


def test_each_corpus_has_its_own_tokens(tmp_path: Path, pieces: Path, cleaned: Path) -> None:
    checkpoint = build("t5", tmp_path / "t5", pieces)
    for language in ("en", "de"):
        (tmp_path / f"other.{language}").write_text("a dog\na cat\n")
    rules = {"keep_identical": True}
    catprune.clean([str(tmp_path / "other.{en,de}")], out=tmp_path / "other", quiet=True, rules=rules)
    for name, clean in (("a", cleaned), ("b", tmp_path / "other")):
        score(clean, checkpoints=checkpoint, out=tmp_path / "run" / name, threads=1, quiet=True)
    assert len(list((tmp_path / "run").glob("tokens-*"))) == 2


def test_what_cannot_be_scored_is_refused(tmp_path: Path, pieces: Path, cleaned: Path) -> None:
    nllb_folder, llama_folder = (build(kind, tmp_path / kind, pieces) for kind in ("nllb", "llama"))
    options: dict[str, Any] = {"out": tmp_path / "s", "threads": 1, "quiet": True}
    with pytest.raises(UsageError, match=r"needs the codes of both languages, None is none: it has .*_Latn"):
        score(cleaned, checkpoints=nllb_folder, **options)
    with pytest.raises(UsageError, match="is a decoder-only model: give the prompt"):
        score(cleaned, checkpoints=llama_folder, **options)
    with pytest.raises(UsageError, match="must stand in it once"):
        score(cleaned, checkpoints=llama_folder, prompt="no source", **options)
    with pytest.raises(UsageError, match="say the languages in the prompt"):
        score(cleaned, checkpoints=llama_folder, prompt=PROMPT, source_lang="en", **options)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text("{}")
    with pytest.raises(CatpruneError, match="is an adapter: merge it"):
        score(cleaned, checkpoints=tmp_path / "adapter", prompt=PROMPT, **options)
    (llama_folder / "model.safetensors").unlink()
    with pytest.raises(CatpruneError, match="holds no weights"):
        score(cleaned, checkpoints=llama_folder, prompt=PROMPT, **options)


def test_prompts_of_models_with_an_encoder(tmp_path: Path, pieces: Path, cleaned: Path) -> None:
    checkpoint = build("t5", tmp_path / "t5", pieces)
    prompt = "the cat: {source}"
    score(cleaned, checkpoints=checkpoint, out=tmp_path / "s", prompt=prompt, threads=1, quiet=True)
    tokens = Tokens.open(next(tmp_path.glob("tokens-*")))
    block = tokens.read(tokens.blocks[0])
    plain = transformers.AutoTokenizer.from_pretrained(checkpoint)
    expected = plain([prompt.replace("{source}", source) for source, _ in PAIRS[:2]])["input_ids"]
    assert block.source_ids.tolist() == [token for one in expected for token in one]


def test_a_prompt_does_not_end_the_sentence(tmp_path: Path, pieces: Path, cleaned: Path) -> None:
    checkpoint = build("llama", tmp_path / "llama", pieces)
    tokenizer = byte_tokenizer()
    ended = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer.backend_tokenizer.post_processor = ended
    tokenizer.save_pretrained(checkpoint)
    assert transformers.AutoTokenizer.from_pretrained(checkpoint)("a")["input_ids"][-1] == 1
    score(cleaned, checkpoints=checkpoint, out=tmp_path / "s", prompt=PROMPT, threads=1, quiet=True)
    tokens = Tokens.open(next(tmp_path.glob("tokens-*")))
    block = tokens.read(tokens.blocks[0])
    assert not (block.source_ids == 1).any() and (block.target_ids == 1).sum() == 2


class Poison:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_poisoned_weights_are_refused_and_do_nothing(tmp_path: Path, pieces: Path, cleaned: Path) -> None:
    checkpoint = build("llama", tmp_path / "llama", pieces)
    (checkpoint / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": Poison(tmp_path / "harmed")}, checkpoint / "pytorch_model.bin")
    with pytest.raises(CatpruneError, match="the weights cannot be read"):
        score(cleaned, checkpoints=checkpoint, out=tmp_path / "s", prompt=PROMPT, threads=1, quiet=True)
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(Poison(tmp_path / "harmed")))
    with pytest.raises(CatpruneError, match="the weights cannot be read"):
        score(cleaned, checkpoints=checkpoint, out=tmp_path / "s", prompt=PROMPT, threads=1, quiet=True)
    assert not (tmp_path / "harmed").exists()
