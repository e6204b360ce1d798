"""Prints the tables of these pages in Markdown, from a run's folder: python docs/results/tables.py data/run."""

import sys
from pathlib import Path

import numpy as np
from catprune.evaluation.results import difference_table, number_text, open_evaluation, score_table
from catprune.reporting.aggregates import draw_sample, take_survey
from catprune.reporting.run_columns import Reader, find_steps

MOST = 12  # number of tags shown, the largest first


def table(rows: list[list[str]]) -> None:
    """Print rows, the first as the header."""
    for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]:
        print("|", " | ".join(row), "|")
    print()


def quality(folder: Path) -> None:
    """Print scores (mean ± standard deviation over seeds), differences with 95% intervals, and costs."""
    evaluated = open_evaluation(folder)
    full = evaluated.subset("full")
    for test in evaluated.tests:
        table(score_table(evaluated, test))
        table(difference_table(evaluated, test))
    costs = [["subset", "updates", "epochs", "warm-up", "scoring", "training", "of full"]]
    for subset in evaluated.subsets:
        parts = [
            number_text(part) if part else "–"
            for part in (subset.flops.warmup, subset.flops.scoring, subset.flops.training)
        ]
        costs.append(
            [
                subset.name,
                f"{subset.steps:,}",
                f"{subset.epochs:.2f}",
                *parts,
                f"{subset.flops.total / full.flops.total:.0%}",
            ]
        )
    table(costs)
    print(*evaluated.signatures.values(), evaluated.signature, sep="\n")


def kept(run: Path) -> None:
    """Print the reasons of cleaning, and the share of each tag that every selection keeps."""
    steps = find_steps(run)
    assert steps.clean is not None
    counts = steps.clean.manifest["counts"]
    reasons = sorted(counts["reasons"].items(), key=lambda item: -item[1])
    table([["reason", "pairs"], *([name, f"{count:,}"] for name, count in reasons if count)])
    reader = Reader(steps, steps.clean)
    survey = take_survey(reader, draw_sample(reader, seed=1), seed=1)
    rows = [["tag", "clean pairs", *steps.selections]]
    for code in np.argsort(-survey.group_survived, kind="stable")[:MOST]:
        survived = int(survey.group_survived[code])
        shares = [f"{part[code] / survived:.1%}" for part in survey.group_kept]
        rows.append([reader.groups[code], f"{survived:,}", *shares])
    total = int(survey.group_survived.sum())
    rows.append(["all", f"{total:,}", *(f"{part.sum() / total:.1%}" for part in survey.group_kept)])
    words = np.arange(len(survey.lengths["input"]))
    lengths = [survey.lengths[name] for name in ("cleaned", *steps.selections)]
    rows.append(["mean target words", *(f"{(words * counts).sum() / counts.sum():.1f}" for counts in lengths)])
    table(rows)


if __name__ == "__main__":
    if (Path(sys.argv[1]) / "evaluate/manifest.json").is_file():
        quality(Path(sys.argv[1]) / "evaluate")
    kept(Path(sys.argv[1]))
