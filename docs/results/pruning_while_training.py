"""Compares pruning while training with static pruning by chrF against FLOPs, and writes a Markdown table.

python docs/results/pruning_while_training.py OUT [--run RUN --test-source FILE --test-target FILE]

Without --run, the corpus of `catprune demo` is used. RUN is a folder with clean/ and tokens/. All work is in OUT; the
same command continues it.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import sacrebleu
import torch
from catprune import clean, score, select, tokenize, train
from catprune.corpus.bitexts import TestSet
from catprune.demonstration.bitext import write_demo_bitext
from catprune.evaluation.cost import choosing_flops
from catprune.evaluation.results import number_text
from catprune.evaluation.translate import translate

# Points of a training at which it is tested, and levels as shares of the full corpus's final chrF.
POINTS = (0.2, 0.3, 0.4, 0.5, 0.7, 1)
LEVELS = (0.7, 0.8, 0.9, 0.95, 1)
WAYS = {
    "full": {},
    "random half": {},
    "progress half": {},
    "infobatch": {"prune_while_training": "infobatch"},
    "ddp": {"prune_while_training": "ddp"},
}


def main() -> None:
    """Train with each method for the same updates, test at the same points, and write the page."""
    options = parse()
    quiet = {"threads": options.threads, "quiet": True}
    run, test = prepare(options, quiet)
    how = {"preset": options.preset, "batch_tokens": options.batch_tokens, "precision": "float32", **quiet}
    how |= {"warmup_steps": max(1, options.steps // 20), "dropout": 0.1}
    steps = sorted({max(1, round(point * options.steps)) for point in POINTS})
    how |= {"steps": options.steps, "checkpoints": ",".join(f"{step}steps" for step in steps)}
    curves: dict[str, list[np.ndarray]] = {name: [] for name in options.ways}
    trained: dict[str, list] = {name: [] for name in options.ways}
    for seed in range(1, options.seeds + 1):
        for name in options.ways:
            out = options.out / f"seed-{seed}" / name.replace(" ", "-")
            selection = None
            if name.endswith(" half"):
                selection = static(name, run, options.out / f"seed-{seed}", how | {"seed": seed})
            done = train(run / "tokens", out=out, selection=selection, seed=seed, **how, **WAYS[name])
            curves[name].append(curve(done, selection, test, options.threads))
            trained[name].append(done)
            print(f"seed {seed}, {name}:", *(f"{chrf:.1f}" for _, chrf in curves[name][-1]), flush=True)
    write(options, curves, trained)


def parse() -> argparse.Namespace:
    """Read the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--run", type=Path, help="a folder with clean/ and tokens/")
    parser.add_argument("--test-source", type=Path)
    parser.add_argument("--test-target", type=Path)
    parser.add_argument("--pairs", type=int, default=6000, help="pairs of the demo corpus")
    parser.add_argument("--steps", type=int, default=900, help="updates of every training")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), help="methods to compare; must include `full`"
    )
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--batch-tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", type=Path, default=Path(__file__).with_name("pruning-while-training.md"))
    return parser.parse_args()


def prepare(options: argparse.Namespace, quiet: dict) -> tuple[Path, TestSet]:
    """Return the folder with clean/ and tokens/, and the test set."""
    if options.run is not None:
        return options.run, TestSet("test", options.test_source, options.test_target)
    bitext = write_demo_bitext(options.out / "bitext", pairs=options.pairs)
    languages = {"source_lang": "en", "target_lang": "de"}
    clean([bitext.source, bitext.target], out=options.out / "clean", **languages, **quiet)
    tokenize(options.out / "clean", out=options.out / "tokens", vocab_size=1000, **quiet)
    return options.out, TestSet("held-out", bitext.test_source, bitext.test_target)


def static(name: str, run: Path, out: Path, how: dict) -> Path:
    """Select half of the corpus; `progress` uses two checkpoints of a warm-up with a third of the updates."""
    quiet = {"threads": how["threads"], "quiet": True}
    folder = out / "selection" / name.replace(" ", "-")
    if name == "random half":
        return select(run / "clean", out=folder, method="random", seed=how["seed"], **quiet).folder
    last = how["steps"] // 3
    shorter = {"steps": last, "checkpoints": f"{max(1, last // 5)}steps"}
    warmup = train(run / "tokens", out=out / "warmup", **how | shorter)
    score(run / "tokens", checkpoints=warmup.checkpoints, out=out / "scores", precision="float32", **quiet)
    return select(out / "scores", out=folder, method="progress", **quiet).folder


def curve(done, selection: Path | None, test: TestSet, threads: int) -> np.ndarray:
    """Return FLOPs, including selection, and chrF of every checkpoint, float64 [checkpoints, 2]."""
    bitext, choosing = test.read(), sum(choosing_flops(selection))
    points = []
    for entry in done.manifest["checkpoints"]:
        path = done.folder / "log" / f"{entry['name']}.chrf.json"
        if not path.is_file():
            hypotheses = translate(done.folder / entry["name"], bitext.source, threads=threads)
            path.write_text(json.dumps(sacrebleu.corpus_chrf(hypotheses, [bitext.target]).score))
        points.append((choosing + entry["flops"], json.loads(path.read_text())))
    return np.array(points)


def reached(points: np.ndarray, chrf: float) -> float | None:
    """Return the FLOPs at which a curve first reaches this chrF, interpolated linearly; None if it never does."""
    flops, scores = np.vstack([[0, 0], points]).T
    above = np.flatnonzero(scores >= chrf)
    if not len(above):
        return None
    place = int(above[0])
    share = (chrf - scores[place - 1]) / (scores[place] - scores[place - 1])
    return float(flops[place - 1] + share * (flops[place] - flops[place - 1]))


def table(rows: list[list[str]]) -> list[str]:
    """Return the lines of a table; the first row is the header."""
    return [f"| {' | '.join(row)} |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]]


def write(options: argparse.Namespace, curves: dict[str, list[np.ndarray]], trained: dict[str, list]) -> None:
    """Write the page: means over the seeds of FLOPs and chrF at each point, and the FLOPs to reach chrF levels."""
    means = {name: np.mean(points, axis=0) for name, points in curves.items()}
    final = means["full"][-1, 1]
    levels = [share * final for share in LEVELS]
    to_level = [["", *(f"chrF {level:.1f}" for level in levels)]]
    whole = [reached(means["full"], level) for level in levels]
    for name, points in means.items():
        cells = [reached(points, level) for level in levels]
        shown = [
            "–" if flops is None else f"{number_text(flops)} ({flops / base:.0%})"
            for flops, base in zip(cells, whole, strict=True)
        ]
        to_level.append([name, *shown])
    at_end = [["", "skipped pairs", "target tokens trained on", "FLOPs", "of full", "chrF", "chrF of each seed"]]
    for name, points in means.items():
        manifests = [done.manifest for done in trained[name]]
        passed = np.mean([manifest.get("pruned", {"pairs": 0})["pairs"] for manifest in manifests])
        tokens = np.mean([manifest["target_tokens"] for manifest in manifests])
        flops, chrf = points[-1]
        seeds = ", ".join(f"{of_seed[-1, 1]:.1f}" for of_seed in curves[name])
        share = f"{flops / means['full'][-1, 0]:.0%}"
        at_end.append([name, f"{passed:,.0f}", f"{tokens:,.0f}", number_text(flops), share, f"{chrf:.1f}", seeds])
    by_point = [["", *(f"{point:.0%}" for point in POINTS)]]
    for name, points in means.items():
        by_point.append([name, *(f"{chrf:.1f} at {number_text(flops)}" for flops, chrf in points)])
    corpus = (
        f"{options.run}" if options.run else f"the corpus of `catprune demo` ({options.pairs:,} pairs before cleaning)"
    )
    lines = [
        "# Pruning while training, compared with pruning before",
        "",
        f"`python docs/results/pruning_while_training.py` on {corpus}: preset `{options.preset}`,",
        f"{options.steps:,} updates, batches of {options.batch_tokens} tokens, {options.seeds} seed(s), float32,",
        f"torch {torch.__version__}. chrF of held-out text, beam 4. FLOPs are counted from shapes; the",
        "`progress` half includes warm-up and scoring.",
        "",
        "## FLOPs until a chrF is reached",
        "",
        "Interpolated linearly between checkpoints; in brackets the share of the FLOPs of the full corpus.",
        "",
        *table(to_level),
        "",
        "## At the end",
        "",
        *table(at_end),
        "",
        "## At each checkpoint, by the share of the updates",
        "",
        *table(by_point),
        "",
    ]
    options.page.write_text("\n".join(lines))
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
