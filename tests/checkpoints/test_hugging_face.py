"""Checkpoints of the transformers library against its own loss, each on a tiny model in the library's own files."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import catprune
import numpy as np
import pytest
import torch
from catprune.checkpoints.external_model import ExternalModel
from catprune.checkpoints.hugging_face import HuggingFace
from catprune.errors import CatpruneError, MissingExtra, UsageError
from catprune.model.output_layer import token_statistics
from catprune.model.transformer import UNMASKED
from catprune.scoring.score import score
from catprune.tokens import external_blocks
from catprune.tokens.blocks import Tokens
from support.score_rows import rows_of
from tokenizers import processors

pytestmark = pytest.mark.filterwarnings("ignore:Recommended")  # of the library's own, where sacremoses is missing
transformers = pytest.importorskip("transformers")
pytest.importorskip("sentencepiece")
from support.tiny_checkpoints import KINDS, PAIRS, PROMPT, build, byte_tokenizer, save  # noqa: E402


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: Any) -> Path:
    """The pairs as two inputs, with one line that is not a pair."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = [*PAIRS[:3], ("", "leer"), *PAIRS[3:]]
    for number, part in enumerate((lines[:2], lines[2:])):
        for place, language in enumerate(("en", "de")):
            (folder / f"{number}.{language}").write_text("".join(f"{pair[place]}\n" for pair in part))
    inputs = [str(folder / f"{number}.{{en,de}}") for number in range(2)]
    catprune.clean(inputs, out=folder / "clean", quiet=True, rules={"max_word_ratio": 9.0, "max_character_ratio": 9.0})
    return folder / "clean"


def begins(tokenizer: Any, ids: list[int], prompt: str) -> int:
    """The first token of prompt and target that has text of the target."""
    texts = [tokenizer.decode(ids[:count], skip_special_tokens=True) for count in range(len(ids) + 1)]
    return max(count for count, text in enumerate(texts) if prompt.startswith(text))


def own_loss(kind: str, folder: Path) -> list[tuple[int, float]]:
    """Target tokens and summed loss of each pair, computed only by the library."""
    settings = KINDS[kind].settings
    names = {"src_lang": "source_lang", "tgt_lang": "target_lang"}
    languages = {name: settings[option] for name, option in names.items() if option in settings}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **languages)
    is_decoder_only = not transformers.AutoConfig.from_pretrained(folder).is_encoder_decoder
    library = transformers.AutoModelForCausalLM if is_decoder_only else transformers.AutoModelForSeq2SeqLM
    model = library.from_pretrained(folder)
    losses: list[tuple[int, float]] = []
    for source, target in PAIRS:
        prompt = settings.get("prompt", "{source}").replace("{source}", source)
        if is_decoder_only:
            ids = tokenizer(f"{prompt}{target}")["input_ids"]
            first = begins(tokenizer, ids, prompt)
            ids = torch.tensor([[*ids, tokenizer.eos_token_id]])
            labels = ids.clone()
            labels[:, :first] = -100
            loss = model(input_ids=ids, labels=labels).loss
        else:
            batch = tokenizer(prompt, text_target=target, return_tensors="pt")
            labels = batch["labels"]
            assert (batch["input_ids"] == tokenizer.unk_token_id).sum() == 0, "the text is not made of its pieces"
            loss = model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).loss
        count = int((labels != -100).sum())
        losses.append((count, float(loss) * count))
    return losses


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_loss_equals_the_librarys(kind: str, tmp_path: Path, cleaned: Path) -> None:
    checkpoint = build(kind, tmp_path / "checkpoint-40")
    options: dict[str, Any] = {"precision": "float32", "threads": 1, "quiet": True, **KINDS[kind].settings}
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
    unknown = dict.fromkeys(("epoch", "flops", "seen", "target_tokens"))
    assert manifest["checkpoint"] == unknown | {"step": 40, "reverse": False}
    assert scored.flops > 0


def test_checkpoints_share_their_tokens_and_rank_in_training_order(tmp_path: Path, cleaned: Path) -> None:
    for seed, step in enumerate((500, 1000, 9)):
        folder = build("marian", tmp_path / f"checkpoint-{step}", seed=seed)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "epoch": step / 100}))
    paths = [tmp_path / f"checkpoint-{step}" for step in (500, 1000, 9)]
    config = json.loads((paths[1] / "tokenizer_config.json").read_bytes())
    last_call = {"max_length": 128, "is_local": True, "truncation_strategy": "longest_first"}
    (paths[1] / "tokenizer_config.json").write_text(json.dumps(config | last_call))
    options: dict[str, Any] = {"precision": "float32", "threads": 1, "quiet": True}
    score(cleaned, checkpoints=paths, out=tmp_path / "run/scores", **options)
    assert len(list((tmp_path / "run").glob("tokens-*"))) == 1
    selected = catprune.select(tmp_path / "run/scores", out=tmp_path / "s", method="cat-diff", keep=3, quiet=True)
    reads = [Path(entry["path"]).name for entry in selected.manifest["reads"]["scores"]]
    assert reads == ["checkpoint-9", "checkpoint-1000"], "the first and the last in training order"
    catprune.write(cleaned, [tmp_path / "p.en", tmp_path / "p.de"], selection=tmp_path / "s", quiet=True)
    assert len((tmp_path / "p.en").read_text().splitlines()) == 3
    shutil.copytree(paths[0], tmp_path / "best")
    (tmp_path / "best/trainer_state.json").unlink()
    score(cleaned, checkpoints=tmp_path / "best", out=tmp_path / "run/scores", **options)
    with pytest.raises(CatpruneError, match="the training step of the checkpoint is unknown"):
        catprune.select(tmp_path / "run/scores", out=tmp_path / "t", method="cat-diff", keep=3, quiet=True)


def test_blocks_are_those_of_the_cleaned_rows(tmp_path: Path, cleaned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_blocks, "BLOCK_ROWS", 4)
    checkpoint = build("llama", tmp_path / "llama")
    config = json.loads((checkpoint / "config.json").read_bytes())
    (checkpoint / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 18}))
    score(cleaned, checkpoints=checkpoint, out=tmp_path / "scores", prompt=PROMPT, threads=1, quiet=True)
    tokens = Tokens.open(next(tmp_path.glob("tokens-*")))
    blocks = [tokens.read(entry) for entry in tokens.blocks]
    assert [(entry.first, entry.end) for entry in tokens.blocks] == [(0, 4), (4, 7)]
    assert [block.rows.tolist() for block in blocks] == [[1], [5, 6]]
    assert [block.too_long.tolist() for block in blocks] == [[0, 2], [4]]
    with pytest.raises(CatpruneError, match=r"has another tokenizer than .*: give the clean folder"):
        score(tokens.path, checkpoints=checkpoint, out=tmp_path / "t", prompt="{source}", threads=1, quiet=True)
    score(tokens.path, checkpoints=checkpoint, out=tmp_path / "t", prompt=PROMPT, threads=1, quiet=True)
    decoded = transformers.AutoTokenizer.from_pretrained(checkpoint)
    first = blocks[0]
    ids = [*first.source_ids, *first.target_ids]
    assert decoded.decode(ids) == f"<s> {PROMPT.replace('{source}', 'a dog')}ein hund</s>"
    counts = sum(np.bincount(block.target_ids, minlength=tokens.tokenizer.vocab_size) for block in blocks)
    assert tokens.unigrams()[1].tolist() == counts.tolist()


def test_shards_give_the_bytes_of_one_process(tmp_path: Path, cleaned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_blocks, "BLOCK_ROWS", 4)
    checkpoint = build("gpt2", tmp_path / "checkpoint-7")
    options: dict[str, Any] = {"checkpoints": checkpoint, "prompt": PROMPT, "threads": 1, "quiet": True}
    written: list[dict[str, bytes]] = []
    for name, shards in (("whole", [None]), ("shared", ["2/2", "1/2"])):
        for shard in shards:
            scored = score(cleaned, out=tmp_path / name / "scores", shard=shard, **options)
        assert scored.left == {} and len(scored.manifests) == 1
        paths = sorted((tmp_path / name).rglob("*"))
        written.append(
            {
                str(path.relative_to(tmp_path / name)): path.read_bytes()
                for path in paths
                if path.is_file() and path.parent.name != "log"
            }
        )
    assert written[0] == written[1] and len(written[0]) == 10


def test_only_appended_rows_are_tokenized_and_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_blocks, "BLOCK_ROWS", 3)
    checkpoint = build("marian", tmp_path / "checkpoint-7")
    for number, part in enumerate((PAIRS[:4], PAIRS[4:])):
        for place, language in enumerate(("en", "de")):
            (tmp_path / f"{number}.{language}").write_text("".join(f"{pair[place]}\n" for pair in part))
    rules = {"max_word_ratio": 9.0, "max_character_ratio": 9.0}
    inputs = [str(tmp_path / f"{number}.{{en,de}}") for number in range(2)]
    options: dict[str, Any] = {"precision": "float32", "threads": 1, "quiet": True}
    stamps: list[int] = []
    for count in (1, 2):
        catprune.clean(inputs[:count], out=tmp_path / "run/clean", quiet=True, rules=rules)
        score(tmp_path / "run/clean", checkpoints=checkpoint, out=tmp_path / "run/scores", **options)
        first = sorted((tmp_path / "run").glob("tokens-*/part-*0003.*"))
        assert len(first) == 1
        stamps.append(first[0].stat().st_ino)
    assert stamps[0] == stamps[1], "finished work is not repeated"
    catprune.clean(inputs, out=tmp_path / "whole/clean", quiet=True, rules=rules)
    score(tmp_path / "whole/clean", checkpoints=checkpoint, out=tmp_path / "whole/scores", **options)
    appended, whole = (
        [{name: row[name] for name in ("row", "tokens", "nll_sum")} for row in rows_of(path)]
        for path in (tmp_path / "run/scores/checkpoint-7", tmp_path / "whole/scores/checkpoint-7")
    )
    assert appended == whole and len(appended) == 6


def test_nested_configurations_are_read(tmp_path: Path) -> None:
    opened = HuggingFace.open(build("gemma3", tmp_path / "gemma3"), languages=(None, None), prompt=PROMPT)
    assert (opened.longest, opened.tokenizer.vocab_size) == (64, 340)


def test_each_corpus_has_its_own_tokens(tmp_path: Path, cleaned: Path) -> None:
    checkpoint = build("t5", tmp_path / "t5")
    for language in ("en", "de"):
        (tmp_path / f"other.{language}").write_text("a dog\na cat\n")
    rules = {"keep_identical": True}
    catprune.clean([str(tmp_path / "other.{en,de}")], out=tmp_path / "other", quiet=True, rules=rules)
    for name, clean in (("a", cleaned), ("b", tmp_path / "other")):
        score(clean, checkpoints=checkpoint, out=tmp_path / "run" / name, threads=1, quiet=True)
    assert len(list((tmp_path / "run").glob("tokens-*"))) == 2


def test_invalid_checkpoints_are_refused(tmp_path: Path, cleaned: Path) -> None:
    nllb_folder, llama_folder = (build(kind, tmp_path / kind) for kind in ("nllb", "llama"))
    options: dict[str, Any] = {"out": tmp_path / "s", "threads": 1, "quiet": True}
    with pytest.raises(
        UsageError, match=r"needs the codes of both languages, and None is not a code: give codes like .*_Latn"
    ):
        score(cleaned, checkpoints=nllb_folder, **options)
    with pytest.raises(UsageError, match="is a decoder-only model: give the prompt"):
        score(cleaned, checkpoints=llama_folder, **options)
    with pytest.raises(UsageError, match="in the prompt once"):
        score(cleaned, checkpoints=llama_folder, prompt="no source", **options)
    with pytest.raises(UsageError, match="name the languages in the prompt"):
        score(cleaned, checkpoints=llama_folder, prompt=PROMPT, source_lang="en", **options)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text("{}")
    with pytest.raises(CatpruneError, match="is an adapter: merge it"):
        score(cleaned, checkpoints=tmp_path / "adapter", prompt=PROMPT, **options)
    config = llama_folder / "config.json"
    config.write_text(config.read_text().replace('"vocab_size": 3', '"vocab_size": 1'))
    with pytest.raises(CatpruneError, match="the weights cannot be read"):
        score(cleaned, checkpoints=llama_folder, prompt=PROMPT, **options)
    (llama_folder / "model.safetensors").unlink()
    with pytest.raises(CatpruneError, match="holds no weights"):
        score(cleaned, checkpoints=llama_folder, prompt=PROMPT, **options)
    (llama_folder / "tokenizer.json").unlink()
    with pytest.raises(CatpruneError, match="holds no tokenizer: save the tokenizer there too"):
        score(cleaned, checkpoints=llama_folder, prompt=PROMPT, **options)
    (llama_folder / "code.py").write_text(f"open({str(tmp_path / 'harmed')!r}, 'w')")
    described = {"model_type": "unheard-of", "auto_map": {"AutoConfig": "code.Config"}}
    (llama_folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(CatpruneError, match=r"config\.json cannot be read .*; code in the folder is not run"):
        score(cleaned, checkpoints=llama_folder, prompt=PROMPT, **options)
    assert not (tmp_path / "harmed").exists()
    for number in (9, 10):
        build("gpt2", tmp_path / f"training/checkpoint-{number}")
    with pytest.raises(CatpruneError, match=r"holds checkpoints: give those to score: \S+int-9, \S+/checkpoint-10$"):
        score(cleaned, checkpoints=tmp_path / "training", prompt=PROMPT, **options)
    marian_folder = build("marian", tmp_path / "marian")
    with pytest.raises(CatpruneError, match=r"marian is not a clean folder: run `catprune clean`"):
        score(marian_folder, checkpoints=marian_folder, **options)
    (marian_folder / "target.spm").unlink()
    with pytest.raises(CatpruneError, match=r"the tokenizer cannot be read .*; target.spm, .* missing"):
        score(cleaned, checkpoints=marian_folder, **options)


def bert(folder: Path, *, whole: bool) -> Path:
    tokenizer = byte_tokenizer()
    layers = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(tokenizer), **layers)
    kind = transformers.BertForMaskedLM if whole else transformers.BertModel
    save(folder, tokenizer, kind(config))
    return folder


@pytest.mark.parametrize(("layers", "message"), [(2, "are missing: save the whole"), (0, "are not in its config.json")])
def test_weights_are_those_that_the_configuration_describes(
    tmp_path: Path, cleaned: Path, layers: int, message: str
) -> None:
    folder = build("gpt2", tmp_path / "gpt2")
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | {"n_layer": layers}))
    with pytest.raises(CatpruneError, match=message):
        score(cleaned, checkpoints=folder, out=tmp_path / "s", prompt=PROMPT, threads=1, quiet=True)


@pytest.mark.parametrize(("whole", "message"), [(True, "attends to later tokens"), (False, "are missing: save the")])
def test_models_that_do_not_write_text_are_refused(tmp_path: Path, cleaned: Path, message: str, *, whole: bool) -> None:
    folder = bert(tmp_path / "bert", whole=whole)
    with pytest.raises(CatpruneError, match=message):
        score(cleaned, checkpoints=folder, out=tmp_path / "s", prompt=PROMPT, threads=1, quiet=True)


@pytest.mark.parametrize("config", ["gpt2", "llama"])
def test_a_tokenizer_of_a_larger_vocabulary_than_the_model_is_refused(
    tmp_path: Path, cleaned: Path, config: str
) -> None:
    folder = build(config, tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["cat", "Ġcat", "katze"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        CatpruneError, match=r"has a vocabulary size of 340 on the .* side, but the tokenizer returned id 34"
    ):
        score(cleaned, checkpoints=folder, out=tmp_path / "s", prompt=PROMPT, threads=1, quiet=True)


def test_prompts_of_models_with_an_encoder(tmp_path: Path, cleaned: Path) -> None:
    checkpoint = build("t5", tmp_path / "t5")
    prompt = "the cat: {source}"
    score(cleaned, checkpoints=checkpoint, out=tmp_path / "s", prompt=prompt, threads=1, quiet=True)
    tokens = Tokens.open(next(tmp_path.glob("tokens-*")))
    block = tokens.read(tokens.blocks[0])
    plain = transformers.AutoTokenizer.from_pretrained(checkpoint)
    expected = plain([prompt.replace("{source}", source) for source, _ in PAIRS])["input_ids"]
    assert block.source_ids.tolist() == [token for side in expected for token in side]


@pytest.mark.parametrize("ends", [False, True], ids=["", "a tokenizer that appends end-of-sentence"])
@pytest.mark.parametrize(
    ("kind", "prompt", "target", "parts"),
    [
        ("llama", "a dog de:", " ein hund", ["<s>|▁a|▁dog|▁de|:", "▁ein|▁hund"]),
        ("llama", "a dog de: ", "ein hund", ["<s>|▁a|▁dog|▁de|:", "▁ein|▁hund"]),
        ("llama", "a dog de:", "ein", ["<s>|▁a|▁dog|▁de|:", "e|in"]),
        ("llama", "a dog de: ", "🐈", ["<s>|▁a|▁dog|▁de|:|▁", "<0xF0>|<0x9F>|<0x90>|<0x88>"]),
        ("llama", "a d", "og", ["<s>|▁a", "▁dog"]),
        ("gpt2", "a dog\nde: ", "ein hund", ["a|Ġdog|Ċ|de|:", "Ġein|Ġhund"]),
        ("gpt2", "a dog\nde:", "ein hund", ["a|Ġdog|Ċ|de|:", "ein|Ġhund"]),
        ("gpt2", "a dog\nde:", "  ein", ["a|Ġdog|Ċ|de|:", "Ġ|Ġein"]),
        ("gpt2", "a dog\nde: ", "🐈", ["a|Ġdog|Ċ|de|:|Ġ", "ð|Ł|Ĳ|Ī"]),
        ("gpt2", "d", "e", ["<|endoftext|>", "de"]),
        ("gpt-sw3", "a dog ", "ein hund", ["▁a|▁dog", "▁ein|▁hund"]),
    ],
)  # fmt: skip
def test_a_target_begins_where_its_text_begins(
    tmp_path: Path, kind: str, prompt: str, target: str, parts: list[str], *, ends: bool
) -> None:
    folder = build(kind, tmp_path / kind)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    end = tokenizer.eos_token
    if ends and tokenizer.is_fast:
        start, ids = ("<s> ", [("<s>", 1)]) if kind == "llama" else ("", [])
        special_tokens = [*ids, (end, tokenizer.eos_token_id)]
        single = f"{start}$A {end}"
        processor = processors.TemplateProcessing(single=single, special_tokens=special_tokens)
        tokenizer.backend_tokenizer.post_processor = processor
        tokenizer.save_pretrained(folder)
    opened = HuggingFace.open(folder, languages=(None, None), prompt="{source}")
    first = [tokenizer.convert_ids_to_tokens(side[0]) for side in opened.encode([prompt], [target])]
    assert ["|".join(side) for side in first] == [parts[0], f"{parts[1]}|{end}"]


class Poison:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_poisoned_weights_are_refused_and_do_nothing(tmp_path: Path, cleaned: Path) -> None:
    checkpoint = build("llama", tmp_path / "llama")
    (checkpoint / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": Poison(tmp_path / "harmed")}, checkpoint / "pytorch_model.bin")
    with pytest.raises(CatpruneError, match="the weights cannot be read"):
        score(cleaned, checkpoints=checkpoint, out=tmp_path / "s", prompt=PROMPT, threads=1, quiet=True)
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(Poison(tmp_path / "harmed")))
    with pytest.raises(CatpruneError, match="the weights cannot be read"):
        score(cleaned, checkpoints=checkpoint, out=tmp_path / "s", prompt=PROMPT, threads=1, quiet=True)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_text_stay_text(kind: str, tmp_path: Path) -> None:
    path, settings = build(kind, tmp_path / "checkpoint-40"), dict(KINDS[kind].settings)
    languages = settings.pop("source_lang", None), settings.pop("target_lang", None)
    checkpoint = HuggingFace.open(path, languages=languages, prompt=settings.get("prompt"))
    tokenizer: Any = checkpoint._encoder  # pyright: ignore[reportPrivateUsage]
    names = {*tokenizer.all_special_tokens} - {tokenizer.unk_token} | {tokenizer.eos_token}
    own = {name: tokenizer.convert_tokens_to_ids(name) for name in names}
    of_targets = getattr(tokenizer, "target_encoder", {}) or own
    special = (
        {*own.values()},
        {of_targets[name] for name in names if name in of_targets},
    )
    literal = "".join(f"a {token} b{token}" for token in tokenizer.all_special_tokens)
    texts = ["a b", literal, "ab", f"{literal}."]
    plain, *_ = checkpoint.encode(["a b"], ["a b"])
    sources, targets = checkpoint.encode(texts, texts)
    _, ends = checkpoint.encode(["a b"], ["a b"])
    for ids, frame, of_side in ((sources, plain[0], special[0]), (targets, ends[0], special[1])):
        wanted = [id for id in frame if id in of_side]
        assert [[id for id in line if id in of_side] for line in ids] == [wanted] * len(texts)
    # What is not special is encoded as if it were alone.
    assert (sources[::2], targets[::2]) == checkpoint.encode(texts[::2], texts[::2])


def test_special_tokens_of_a_prompt_are_special(tmp_path: Path) -> None:
    path = build("gpt2", tmp_path / "checkpoint-40")
    checkpoint = HuggingFace.open(path, languages=(None, None), prompt="<|endoftext|>{source}<|endoftext|>")
    end = checkpoint.tokenizer.eos_id
    (source, other), (target, _) = checkpoint.encode(["the cat", "the<|endoftext|>cat"], ["a cat", "<|endoftext|>"])
    assert [source.count(end), target.count(end), other.count(end)] == [2, 1, 2]


def opened(kind: str, folder: Path) -> HuggingFace:
    """A checkpoint whose weights are saved in bfloat16."""
    build(kind, folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    library = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    library.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    settings = KINDS[kind].settings
    languages = settings.get("source_lang"), settings.get("target_lang")
    return HuggingFace.open(folder, languages=languages, prompt=settings.get("prompt"))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_16_bits_stay_so_only_on_request(kind: str, tmp_path: Path) -> None:
    checkpoint = opened(kind, tmp_path / "model")
    wide, narrow = (checkpoint.load(device="cpu", own_dtype=own) for own in (False, True))
    assert (wide.output_matrix.dtype, narrow.output_matrix.dtype) == (torch.float32, torch.bfloat16)
    assert narrow.output_bias is None or narrow.output_bias.dtype == torch.float32
    ids, inputs = torch.arange(3, 11).reshape(2, 4), torch.arange(4, 10).reshape(2, 3)
    with torch.inference_mode():
        expected, vectors = (model(ids, inputs, UNMASKED).float() for model in (wide, narrow))
        targets = torch.arange(5, 11)
        losses = [
            token_statistics(vector.flatten(0, 1), model.output_matrix, targets, model.output_bias).nll
            for vector, model in ((expected, wide), (vectors, narrow))
        ]
    torch.testing.assert_close(losses[1], losses[0], atol=0.1, rtol=0.03)


def test_a_model_larger_than_a_gpu_is_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = opened("m2m100", tmp_path / "model")
    size = (tmp_path / "model/model.safetensors").stat().st_size
    for memory, fits in ((1.2 * size, (False, False)), (1.3 * size, (True, False)), (2.6 * size, (True, True))):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda memory=memory: (0, memory))
        assert tuple(checkpoint._fits_one_gpu(own_dtype=own) for own in (True, False)) == fits
    monkeypatch.setattr(HuggingFace, "_fits_one_gpu", lambda *_, **__: False)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "accelerate", None)
        with pytest.raises(MissingExtra, match="needs the package accelerate: install catprune with its extra tran"):
            checkpoint.load(device="cuda")
    pytest.importorskip("accelerate")
    with pytest.raises(CatpruneError, match="does not fit into the memory of all GPUs"):
        checkpoint.load(device="cuda")


@pytest.mark.parametrize("kind", ["m2m100", "t5", "llama"])
def test_spread_models_compute_the_same(kind: str, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    checkpoint = opened(kind, tmp_path / "model")
    alone = checkpoint.load(device="cpu")
    decoder_only = checkpoint.is_decoder_only
    library = transformers.AutoModelForCausalLM if decoder_only else transformers.AutoModelForSeq2SeqLM
    spread = library.from_pretrained(tmp_path / "model", dtype=torch.float32)
    accelerate.dispatch_model(spread, {"": "cpu"}, main_device="cpu", force_hooks=True)
    hooked = ExternalModel(spread, name="spread", is_decoder_only=decoder_only)
    ids, inputs = torch.arange(3, 11).reshape(2, 4), torch.arange(4, 10).reshape(2, 3)
    with torch.inference_mode():
        assert torch.equal(hooked(ids, inputs, UNMASKED), alone(ids, inputs, UNMASKED))
