"""Metrics: sacrebleu's numbers, tokenizers by language, and the level of approximate randomisation."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import sacrebleu
from catprune.errors import CatpruneError
from catprune.evaluation.metrics import choose_tokenizer, measure, randomise, signatures

REFERENCES = [f"der Hund sieht die Katze Nummer {n} im Garten" for n in range(60)]
GOOD = [line if n % 7 else line.replace("Hund", "Mann") for n, line in enumerate(REFERENCES)]
BAD = [line.replace("sieht die Katze", "hat eine") for line in REFERENCES]


def test_scores_are_sacrebleus() -> None:
    scores = measure(GOOD, REFERENCES, tokenizer="13a")
    assert scores["BLEU"] == pytest.approx(sacrebleu.corpus_bleu(GOOD, [REFERENCES]).score)
    assert scores["chrF"] == pytest.approx(sacrebleu.corpus_chrf(GOOD, [REFERENCES]).score)
    by_metric = signatures(REFERENCES, tokenizer="13a")
    assert by_metric["BLEU"].startswith("BLEU|nrefs:1|") and "tok:13a" in by_metric["BLEU"]


def test_the_target_language_chooses_the_tokenizer() -> None:
    tokenizers = {None: "13a", "de": "13a", "zh": "zh", "zh-CN": "zh", "zho_Hans": "zh", "cmn": "zh"}
    assert {language: choose_tokenizer(None, language) for language in tokenizers} == tokenizers
    assert choose_tokenizer("char", "zh") == "char"
    chinese = ["我们今天去公园散步吧"], ["我们今天去公园散步"]
    assert measure(*chinese, tokenizer="13a")["BLEU"] < 1 < 80 < measure(*chinese, tokenizer="zh")["BLEU"]


def test_a_tokenizer_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("MeCab", "mecab_ko"):
        monkeypatch.setitem(sys.modules, package, None)  # importing it fails, installed or not
    for name in ("ja_mecab", "ko_mecab"):
        monkeypatch.delitem(sys.modules, f"sacrebleu.tokenizers.tokenizer_{name}", raising=False)
    for language in ("ja", "ko"):
        with pytest.raises(CatpruneError, match=f"cannot tokenize {language} by {language}-mecab .*or give bleu_tok"):
            choose_tokenizer(None, language)


def test_randomisation_tells_outputs_apart_and_not_equal_ones() -> None:
    p = randomise({"a": GOOD, "b": BAD, "c": GOOD}, REFERENCES, baseline="a", tokenizer="13a", swaps=300)
    assert p["b"]["BLEU"] < 0.05 and p["b"]["chrF"] < 0.05
    assert p["c"] == {"BLEU": 1.0, "chrF": 1.0} and "a" not in p


def test_swapped_outputs_are_called_different_in_five_percent_of_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both systems of a pair are random mixtures of the same two outputs, so that every difference is chance."""
    random, cases = np.random.default_rng(3), 300
    words = np.array(["der", "die", "das", "Hund", "Katze", "Mann", "sieht", "hat", "im", "am", "Garten", "Haus"])

    def line() -> str:
        return " ".join(random.choice(words, size=8))

    references = [line() for _ in range(30)]
    outputs = [[line() if random.random() < 0.5 else reference for reference in references] for _ in range(2)]
    false = {"BLEU": 0, "chrF": 0}
    for case in range(cases):
        swap = random.random(len(references)) < 0.5
        mixed = {
            "one": [b if swapped else a for a, b, swapped in zip(*outputs, swap, strict=True)],
            "other": [a if swapped else b for a, b, swapped in zip(*outputs, swap, strict=True)],
        }
        # Other random swaps for each case: the level of few swaps holds on average over them.
        monkeypatch.setenv("SACREBLEU_SEED", str(case + 1))
        p = randomise(mixed, references, baseline="one", tokenizer="13a", swaps=99)["other"]
        for metric, value in p.items():
            false[metric] += value <= 0.05
    assert all(0.03 <= count / cases <= 0.07 for count in false.values()), false
