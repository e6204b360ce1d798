"""Ids equal the `tokenizers` package's for the same file: BPE and Unigram, in four languages and scripts."""

from __future__ import annotations

import random
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from catprune import _core
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
LANGUAGES = {
    "de": "Die Straße führt über größere Brücken, weil man's so wollte; 1.234,50 € kostet's — „viel“ für'n Übergang.",
    "ru": "Каждый охотник желает знать, где сидит фазан; ёлка, подъезд, 25-летие и «кавычки» — всё это 12,5 % текста.",
    "hi": "क्षेत्र में हिन्दी भाषा के शब्द, संयुक्ताक्षर और मात्राएँ हैं; १२३ रुपये — \u201cउद्धरण\u201d भी है।",
    "zh": "快速 的 棕色 狐狸跳过了懒狗，价格是１２３元；“引号”与标点。今天天气很好， 我们 去公园 散步。",
}


def sentences(language: str, count: int) -> list[str]:
    """Text of the words of a sentence and made-up words of its letters, with spaces like in real text."""
    chosen = random.Random(language)
    words = LANGUAGES[language].split()
    letters = [letter for letter in LANGUAGES[language] if letter.isalpha()]
    spaces = [" "] * 12 + ["  ", "\u00a0", "\t", " \u3000", "   "]
    lines = []
    for _ in range(count):
        made = ["".join(chosen.choices(letters, k=chosen.randint(1, 9))) for _ in range(3)]
        line = "".join(chosen.choice(words + made) + chosen.choice(spaces) for _ in range(chosen.randint(1, 12)))
        lines.append(
            chosen.choice(["", "", " "]) + line.rstrip("\t ") + chosen.choice(["", "", " ", ".", " </s>", "'s", "  "])
        )
    return lines


def bpe(*, prefix: bool = False) -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )


def unigram() -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer, trainers.UnigramTrainer(
        vocab_size=600, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )


def spaced() -> tuple[Tokenizer, Any]:
    """BPE with a token that contains a space, so that words are not tokenized separately."""
    tokenizer, trainer = bpe()
    tokenizer.add_tokens([AddedToken("führt über", normalized=False), AddedToken("<tag>", lstrip=True, rstrip=True)])
    return tokenizer, trainer


MAKERS = {"bpe": bpe, "bpe with a prefix": lambda: bpe(prefix=True), "unigram": unigram, "spaced": spaced}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tokenizer.json of each kind, trained on a slice of all four languages."""
    folder = tmp_path_factory.mktemp("tokenizers")
    text = [line for language in LANGUAGES for line in sentences(language, 150)]
    paths = {}
    for name, make in MAKERS.items():
        tokenizer, trainer = make()
        tokenizer.train_from_iterator(text, trainer)
        end = tokenizer.token_to_id("</s>")
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
        paths[name] = folder / f"{name}.json"
        tokenizer.save(str(paths[name]))
    return paths


def text_of(tokenizer: Tokenizer, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False).replace(" ", "").replace("\u2581", "")


def check(folder: Path, lines: list[list[str]], tokenizer: Path, threads: int) -> None:
    """Tokenize the lines of two sides; ids and offsets of every row equal the package's."""
    paths = [folder / "source", folder / "target"]
    for path, side in zip(paths, lines, strict=True):
        path.write_text("".join(line + "\n" for line in side), newline="\n")
    files = [
        {"path": str(path), "bytes": path.stat().st_size, "digest": _core.digest_file(str(path))} for path in paths
    ]
    out = Path(tempfile.mkdtemp(dir=folder))
    request = {
        "corpus": {"inputs": [{"format": "moses", "source": str(paths[0]), "target": str(paths[1])}]},
        "files": files,
        "kept": "all",
        "tokenizer": str(tokenizer),
        "max_tokens": 10_000,
        "frozen": False,
        "out": str(out),
        "plan": "0",
        "threads": threads,
    }
    _core.tokenize(request)
    block = load_file(next(out.glob("part-*")))
    package = Tokenizer.from_file(str(tokenizer))
    package.encode_special_tokens = True
    special = {package.token_to_id(token) for token in SPECIAL} - {package.token_to_id("<unk>")}
    assert block["rows"].tolist() == list(range(len(lines[0])))
    for place, side in enumerate(("source", "target")):
        ids, offsets = block[f"{side}_ids"], block[f"{side}_offsets"]
        found = [ids[a:b].tolist() for a, b in pairwise(offsets)]
        wanted = [line.removesuffix("\r") for line in lines[place]]
        for text, ids, encoding in zip(wanted, found, package.encode_batch(wanted), strict=True):
            assert [id for id in ids if id in special] == [package.token_to_id("</s>")], text
            if not special & set(encoding.ids[:-1]):
                assert ids == encoding.ids
            else:  # the model itself has the special token: the text is cut inside it
                assert text_of(package, ids[:-1]) == text_of(package, encoding.ids[:-1])


@pytest.mark.parametrize("kind", list(MAKERS))
@pytest.mark.parametrize("languages", [("de", "ru"), ("hi", "zh")])
def test_ids_in_four_languages(
    tmp_path: Path, tokenizers: dict[str, Path], kind: str, languages: tuple[str, str]
) -> None:
    lines = [sentences(language, 6000) for language in languages]
    check(tmp_path, lines, tokenizers[kind], threads=3)


SPACES = [" ", "  ", "\t", "\u00a0", "\u2028", "\r"]
MARKS = ["'", "'s", "'S", "-", "…", "e\u0301", "\u0301", "\x00", "😀"]
WORDS = ["a", "Ab", "12", "é", "</s>", "<s>", "<tag>", "führt", "über", "क्ष", "中文"]
PIECES = st.sampled_from(SPACES + MARKS + WORDS)


@settings(max_examples=25)
@given(
    pairs=st.lists(st.tuples(*[st.lists(PIECES, min_size=1, max_size=12).map("".join)] * 2), min_size=1, max_size=20)
)
@pytest.mark.parametrize("kind", list(MAKERS))
def test_ids_of_hostile_spaces(
    tmp_path: Path, tokenizers: dict[str, Path], kind: str, pairs: list[tuple[str, str]]
) -> None:
    lines = [[sides[place] for sides in pairs] for place in (0, 1)]
    check(tmp_path, lines, tokenizers[kind], threads=2)
