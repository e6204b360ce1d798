"""Metrics by sacrebleu: BLEU with the tokenizer of the target language, chrF, and tests of two outputs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from catprune.cleaning.languages import base_language
from catprune.errors import CatpruneError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Metrics of translations, by sacrebleu's names without beta.
METRICS = ("BLEU", "chrF")
_TOKENIZERS = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}


def choose_tokenizer(tokenizer: str | None, language: str | None) -> str:
    """Return sacrebleu's tokenizer for BLEU: the one asked for, or that of the target language (None: unknown).

    Raises:
        CatpruneError: the tokenizer needs a package that is not installed.
        UsageError: the language is no language code.
    """
    name = tokenizer or _TOKENIZERS.get(base_language(language) if language else "", "13a")
    try:
        make_metrics(name)
    except (ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CatpruneError(
            f"BLEU cannot tokenize {language or 'text'} by {name} ({reason}): install what it needs, or give "
            "bleu_tokenizer = char"
        ) from None
    return name


def make_metrics(tokenizer: str) -> dict[str, Any]:
    """Return sacrebleu's metrics by name; `tokenizer` is that of BLEU."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return {"BLEU": BLEU(tokenize=tokenizer), "chrF": CHRF()}


def measure(hypotheses: Sequence[str], references: Sequence[str], *, tokenizer: str) -> dict[str, float]:
    """Return BLEU and chrF of translations, 0 to 100.

    Args:
        hypotheses, references: a line each.
        tokenizer: of BLEU.
    """
    metrics = make_metrics(tokenizer)
    return {name: float(metric.corpus_score(hypotheses, [references]).score) for name, metric in metrics.items()}


def signatures(references: Sequence[str], *, tokenizer: str) -> dict[str, str]:
    """Return sacrebleu's signature of each metric."""
    by_metric: dict[str, str] = {}
    for name, metric in make_metrics(tokenizer).items():
        metric.corpus_score(references[:1], [references[:1]])  # the number of references is known after a score
        by_metric[name] = f"{name}|{metric.get_signature()}"
    return by_metric


def randomise(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[str],
    *,
    baseline: str,
    tokenizer: str,
    swaps: int,
) -> dict[str, dict[str, float]]:
    """Return the p of each system and metric against a baseline by approximate randomisation (Riezler & Maxwell 2005).

    The two outputs of each line are swapped at random, `swaps` times. p says whether these two models translate this
    kind of text differently. It says nothing about the data that they were trained on: another seed is another model.
    The random seed is SACREBLEU_SEED (12345 by default).

    Returns:
        System → metric → p, two-sided; without the baseline.
    """
    from sacrebleu.significance import PairedTest

    order = [baseline, *(name for name in systems if name != baseline)]
    named: Any = [(name, list(systems[name])) for name in order]
    test = PairedTest(named, make_metrics(tokenizer), [list(references)], test_type="ar", n_samples=swaps)
    answer: Any = test()[1]
    p: dict[str, dict[str, float]] = {name: {} for name in order[1:]}
    for metric, own in (("BLEU", "BLEU"), ("chrF", "chrF2")):
        first, *others = answer[own]
        for name, result in zip(p, others, strict=True):
            # sacrebleu calls the difference of two equal systems, which is always 0, significant.
            p[name][metric] = 1.0 if result.score == first.score else float(result.p_value)
    return p


def random_seed() -> int:
    """Return the seed of sacrebleu's random swaps: its own environment variable, or its own default.

    Raises:
        UsageError: the variable is not a number.
    """
    seed = os.environ.get("SACREBLEU_SEED", "12345")
    if not seed.isdecimal():
        raise UsageError(f"SACREBLEU_SEED is {seed!r}: set a number, so that p-values can be repeated")
    return int(seed)
