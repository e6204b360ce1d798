"""Made-up results of trials: three subsets whose scores under three seeds move together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catprune.evaluation.summary import Hypothesis, summarise
from catprune.workspace.files import to_json, write_whole
from catprune.workspace.step_folder import StepFolder

TESTS = ("held",)
AGAINST = {"full": ["random"], "half": ["full", "random"], "random": ["full"]}
_LUCK = (-1.0, 0.0, 1.0)
_NOISE = {"full": (0.0, 0.05, -0.05), "half": (0.1, -0.05, 0.1), "random": (0.0, 0.1, 0.05)}
_LEVEL = {"full": 50.0, "half": 50.15, "random": 45.0}


def _curve(name: str, seed: int, *, improving: bool) -> list[dict[str, Any]]:
    """Four checkpoints after 10 to 40 updates; a half makes twice the passes and has paid for its choice."""
    passes, paid = (0.05, 0.0) if name == "full" else (0.1, 2e9 if name == "half" else 0.0)
    losses = (4.0, 3.0, 2.5, 2.0 if improving else 2.6)
    return [
        {
            "step": 10 * place,
            "epoch": 10 * place * passes,
            "target_tokens": 1000 * place,
            "flops": paid + 1e9 * place,
            "nll": loss + 0.1 * _LUCK[seed] - 0.002 * _LEVEL[name],
            **({"chrF": _LEVEL[name] - loss} if place % 2 == 0 else {}),
        }
        for place, loss in enumerate(losses, 1)
    ]


def make_results(*, seeds: int = 3, improving: bool = False, bleu: float | None = None) -> dict[str, Any]:
    """Return the results of all trials; `bleu` replaces all BLEU."""
    results: dict[str, Any] = {}
    for name, level in _LEVEL.items():
        pairs = 599 if name == "full" else 300
        results[name] = []
        for seed in range(seeds):
            chrf = level + _LUCK[seed] + _NOISE[name][seed]
            scores = {"BLEU": chrf / 2 if bleu is None else bleu, "chrF": chrf, "nll": 4 - chrf / 25}
            curve = _curve(name, seed, improving=improving)
            flops = {"warmup": 1.5e9, "scoring": 0.5e9} if name == "half" else {"warmup": 0.0, "scoring": 0.0}
            results[name].append(
                {
                    "counts": {"pairs": pairs, "target_tokens": 10 * pairs},
                    "flops": {**flops, "training": 4e9},
                    "scorers": [],
                    "external": [],
                    "full_steps": 0,
                    "curve": curve,
                    "end": {key: curve[-1][key] for key in ("step", "epoch", "target_tokens", "flops")},
                    "tested": [30],
                    "tests": dict.fromkeys(TESTS, scores),
                }
            )
    return results


def write_evaluation(folder: Path, *, seeds: int = 3, improving: bool = False, bleu: float | None = None) -> None:
    """Write a finished evaluation of made-up results."""
    results = make_results(seeds=seeds, improving=improving, bleu=bleu)
    hypotheses = [Hypothesis("half", "full", 1.0), Hypothesis("half", "random")]
    p = {name: {other: {"BLEU": 0.2, "chrF": 0.01} for other in others} for name, others in AGAINST.items()}
    summary = summarise(results, tests=TESTS, against=AGAINST, hypotheses=hypotheses)
    written = {
        "seeds": list(range(1, seeds + 1)),
        "against": AGAINST,
        "test_order": list(TESTS),
        "tests": dict.fromkeys(TESTS, 40),
        "dev": 20,
        "signatures": {"BLEU": "BLEU|nrefs:1", "chrF": "chrF|nrefs:1"},
        "contained": dict.fromkeys(TESTS, 0),
        "randomisation": dict.fromkeys(TESTS, p) if seeds == 1 else {},
        **summary,
    }
    with StepFolder(
        folder, step="evaluate", reads={}, options={"training": {"preset": "tiny"}, "beam": 4}
    ) as step_folder:
        write_whole(folder / "results.json", to_json(written))
        step_folder.publish()
