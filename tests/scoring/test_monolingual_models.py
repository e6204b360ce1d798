"""Monolingual corpora under decoder-only checkpoints of transformers, against the library's own loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catprune
import pytest
import torch
from catprune.errors import CatpruneError, UsageError
from catprune.scoring.score import score
from catprune.tokens.blocks import Tokens
from support.score_rows import rows_of
from tokenizers import processors

pytestmark = pytest.mark.filterwarnings("ignore:Recommended")  # of the library's own, where sacremoses is missing
transformers = pytest.importorskip("transformers")
pytest.importorskip("sentencepiece")
from support.tiny_checkpoints import PAIRS, PROMPT, build, llama_tokenizer  # noqa: E402

TEXTS = [*(target for _, target in PAIRS), "a"]
#: Tokens that each tokenizer adds to a text.
TEMPLATES = {"begun": "<s> $A", "bare": "$A", "begun and ended": "<s> $A </s>", "ended": "$A </s>"}
SPECIAL = [("<s>", 1), ("</s>", 2)]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: Any) -> Path:
    """The targets as a monolingual corpus of two inputs, one line of them empty."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "0.de").write_text("".join(f"{text}\n" for text in [*TEXTS[:2], ""]))
    (folder / "1.de").write_text("".join(f"{text}\n" for text in TEXTS[2:]))
    catprune.clean([folder / "0.de", folder / "1.de"], out=folder / "clean", monolingual=True, quiet=True)
    return folder / "clean"


def with_template(checkpoint: Path, template: str) -> None:
    tokenizer = llama_tokenizer()
    around = [token for token in SPECIAL if token[0] in template]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=around)
    tokenizer.save_pretrained(checkpoint)


@pytest.mark.parametrize("template", TEMPLATES)
@torch.no_grad()
def test_the_loss_equals_the_librarys(template: str, tmp_path: Path, texts: Path) -> None:
    checkpoint = build("llama", tmp_path / "checkpoint-40")
    with_template(checkpoint, TEMPLATES[template])
    options: dict[str, Any] = {"precision": "float32", "threads": 1, "quiet": True, "batch_tokens": 60}
    scored = score(texts, checkpoints=checkpoint, out=tmp_path / "scores", **options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    rows = rows_of(tmp_path / "scores/checkpoint-40")
    assert [row["row"] for row in rows] == [0, 1, 3, 4, 5, 6, 7] and scored.pairs == len(TEXTS)
    for row, text in zip(rows, TEXTS, strict=True):
        ids = tokenizer(text)["input_ids"]
        if ids[-1] != tokenizer.eos_token_id:
            ids = [*ids, tokenizer.eos_token_id]
        whole = torch.tensor([ids])
        loss = float(model(input_ids=whole, labels=whole).loss)
        assert row["tokens"] == len(ids) - 1, "the first is given, not predicted"
        assert row["nll_sum"] == pytest.approx(loss * (len(ids) - 1), rel=2e-4)
    # The token blocks belong to the monolingual corpus, like the clean folder.
    folder = next(tmp_path.glob("tokens-*"))
    again = score(folder, checkpoints=checkpoint, out=tmp_path / "again", **options)
    assert rows_of(again.folders["checkpoint-40"]) == rows
    tokens = Tokens.open(folder)
    assert len(tokens.read(tokens.blocks[0]).source_ids) == tokens.blocks[0].pairs == len(TEXTS)
    selected = catprune.select(tmp_path / "scores", out=tmp_path / "s", method="ppl", keep=3, quiet=True)
    done = catprune.write(texts, [tmp_path / "p.de"], selection=selected.folder, quiet=True)
    assert done.pairs == 3


@torch.no_grad()
def test_a_begin_that_is_the_end_as_well(tmp_path: Path, texts: Path) -> None:
    """GPT-2: the tokenizer adds no tokens, and one token is start and end."""
    checkpoint = build("gpt2", tmp_path / "checkpoint-40")
    score(texts, checkpoints=checkpoint, out=tmp_path / "scores", precision="float32", threads=1, quiet=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    for row, text in zip(rows_of(tmp_path / "scores/checkpoint-40"), TEXTS, strict=True):
        whole = torch.tensor([[*tokenizer(text)["input_ids"], tokenizer.eos_token_id]])
        loss = float(model(input_ids=whole, labels=whole).loss) * (whole.shape[1] - 1)
        assert row["nll_sum"] == pytest.approx(loss, rel=2e-4)


def test_texts_without_a_token_to_predict_carry_none(tmp_path: Path) -> None:
    checkpoint = build("llama", tmp_path / "checkpoint-40")
    with_template(checkpoint, "$A")
    (tmp_path / "text").write_text("\nein Hund\n")
    catprune.clean([tmp_path / "text"], out=tmp_path / "clean", monolingual=True, rules=False, quiet=True)
    score(tmp_path / "clean", checkpoints=checkpoint, out=tmp_path / "scores", threads=1, quiet=True)
    rows = rows_of(tmp_path / "scores/checkpoint-40")
    ids = transformers.AutoTokenizer.from_pretrained(checkpoint)("ein Hund")["input_ids"]
    assert [row["tokens"] for row in rows] == [None, len(ids)], "the first is given, the end is predicted"


def test_models_that_translate_and_prompts_are_refused(tmp_path: Path, texts: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path / "s", "threads": 1, "quiet": True}
    t5, llama = (build(kind, tmp_path / kind) for kind in ("t5", "llama"))
    with pytest.raises(UsageError, match="translates, and a monolingual corpus has no source"):
        score(texts, checkpoints=t5, **options)
    (tmp_path / "model.npz").write_bytes(b"")
    with pytest.raises(UsageError, match="translates, and a monolingual corpus has no source"):
        score(texts, checkpoints=tmp_path / "model.npz", **options)
    with pytest.raises(UsageError, match="leave the prompt out"):
        score(texts, checkpoints=llama, prompt=PROMPT, **options)
    with pytest.raises(UsageError, match="name the languages in the prompt"):
        score(texts, checkpoints=llama, target_lang="de", **options)
    catprune.tokenize(texts, out=tmp_path / "tokens", vocab_size=300, quiet=True)
    with pytest.raises(CatpruneError, match="has another tokenizer than"):
        score(tmp_path / "tokens", checkpoints=llama, **options)
