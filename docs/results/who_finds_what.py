"""Plants faults in real bitext, ranks it by every method, and prints which faults each method finds.

    python docs/results/who_finds_what.py noisy.en-de.{en,de,tag}.zst tatoeba.train.en-de.{en,de}.zst --out RUN

Results are in who-finds-what.md. The same command continues unfinished steps; the tables are printed at the end.
"""

import argparse
import functools
import hashlib
import json
import time
from pathlib import Path

import catprune
import numpy as np
import pyarrow.parquet as parquet
from catprune.scoring.scorers import NEIGHBOURS
from catprune.scoring.scorers.embeddings import E5, cosine
from catprune.scoring.scorers.margin import Neighbours

#: Share of the pairs of every component with each fault.
FAULTS = {"misaligned": 0.10, "untranslated": 0.05, "truncated": 0.05}
EPOCHS = (1, 2, 3, 4, 5)
#: Method, its options, and a word for the options.
METHODS = [
    ("cat-diff", {}, ""),
    ("cat-diff", {"on": "nll"}, "nll"),
    ("cat-var", {}, ""),
    ("cat-var", {"on": "nll"}, "nll"),
    ("progress", {}, ""),
    ("ppl", {"direction": "bottom"}, "bottom"),
    ("ign", {"direction": "bottom"}, "bottom"),
    ("token-grad-norm", {"direction": "bottom"}, "bottom"),
    ("el2n", {"direction": "bottom"}, "bottom"),
    ("confidence", {}, ""),
    ("variability", {}, ""),
    ("correctness", {}, ""),
    ("closeness", {}, ""),
    ("forgetting", {"direction": "bottom"}, "bottom"),
    ("inactive", {}, ""),
    ("s2l", {}, ""),
    ("rho", {"reference": "reference"}, ""),
    ("dual-xent", {}, ""),
    ("e5", {}, ""),
    ("e5", {}, "margin"),
    ("length", {}, ""),
    ("random", {}, ""),
]


def number(*parts) -> float:
    """Return a number in [0, 1) that only depends on the parts."""
    text = "\0".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest()) / 2**56


def plant(source, target, tags, *, out: Path, pairs: int, seed: int) -> None:
    """Write about `pairs` clean pairs, some with a planted fault, and the fault and component of each."""
    if (out / "planted.tag").is_file():
        return
    catprune.clean([source, target], tags=tags, out=out / "raw", **LANGUAGES, quiet=True)
    rows = [row for batch in catprune.open_corpus(out / "raw") for row in batch.to_pylist()]
    rows = [row for row in rows if number(seed, "drawn", row["row"]) * len(rows) < pairs]
    for row in rows:
        draw, row["fault"] = number(seed, "fault", row["row"]), "none"
        for fault, share in FAULTS.items():
            if 0 <= draw < share:
                row["fault"] = fault
            draw -= share
    for tag in {row["tag"] for row in rows}:
        shifted = [row for row in rows if row["tag"] == tag and row["fault"] == "misaligned"]
        targets = [row["target"] for row in shifted]
        for row, moved in zip(shifted, targets[1:] + targets[:1], strict=True):
            row["fault"] = "misaligned" if row["target"] != moved else "none"
            row["target"] = moved
    for row in rows:
        words = row["target"].split()
        if row["fault"] == "untranslated":
            row["target"] = row["source"]
        elif row["fault"] == "truncated":
            row["target"] = " ".join(words[: max(1, len(words) // 2)])
    for name, lines in {
        "planted.source": [row["source"] for row in rows],
        "planted.target": [row["target"] for row in rows],
        "planted.component": [row["tag"] for row in rows],
        "planted.tag": [row["fault"] for row in rows],
    }.items():
        (out / name).write_text("".join(f"{line}\n" for line in lines))


def timed(times: dict, name: str, work):
    """Return the result of `work`; record its processor time in `times` unless it is known."""
    started = time.process_time()
    result = work()
    times.setdefault(name, round(time.process_time() - started, 1))
    return result


def make(out: Path, trusted: list[str], *, vocab_size: int, preset: str, threads: int) -> dict:
    """Make all columns; return processor seconds by step."""
    times_file = out / "times.json"
    times = json.loads(times_file.read_text()) if times_file.is_file() else {}
    # Cleaning keeps the faults, so that the methods have to find them.
    faults = {"max_word_ratio": 1000, "max_character_ratio": 1000, "keep_identical": True}
    both = {"out": out / "clean", "tags": out / "planted.tag", "rules": faults, "duplicates": "none"}
    catprune.clean([out / "planted.source", out / "planted.target"], **both, **LANGUAGES, quiet=True)
    catprune.clean(trusted, out=out / "trusted/clean", **LANGUAGES, quiet=True)
    catprune.tokenize(out / "clean", out=out / "tokens", vocab_size=vocab_size, quiet=True)
    tokenizer = out / "tokens/tokenizer.json"
    catprune.tokenize(out / "trusted/clean", out=out / "trusted/tokens", tokenizer=tokenizer, quiet=True)
    recipe = {"batch_tokens": 2048, "warmup_steps": 200, "dropout": 0.1}  # of `tiny` when the page was made
    warmup = {"preset": preset, **recipe, "threads": threads, "epochs": EPOCHS[-1], "quiet": True}
    marks = ",".join(map(str, EPOCHS[:-1]))
    timed(times, "warm-up", lambda: catprune.train(out / "tokens", out=out / "warmup", checkpoints=marks, **warmup))
    times_file.write_text(json.dumps(times))
    timed(times, "backward", lambda: catprune.train(out / "tokens", out=out / "backward", reverse=True, **warmup))
    times_file.write_text(json.dumps(times))
    timed(times, "reference", lambda: catprune.train(out / "trusted/tokens", out=out / "reference", **warmup))
    times_file.write_text(json.dumps(times))
    named = {f"epoch-{epoch}": out / f"warmup/epoch-{epoch}" for epoch in EPOCHS}
    named |= {"backward": out / f"backward/epoch-{EPOCHS[-1]}", "reference": out / f"reference/epoch-{EPOCHS[-1]}"}
    for name, path in named.items():
        options = {"out": out / "scores", "threads": threads, "quiet": True}
        timed(
            times,
            f"score {name}",
            lambda p=f"{name}={path}", o=options: catprune.score(out / "tokens", checkpoints=p, **o),
        )
        times_file.write_text(json.dumps(times))
    for name, scorer in e5_scorers(threads).items():
        options = {"scorer": scorer, "name": name, "out": out / "scores", "quiet": True}
        timed(times, name, lambda o=options: catprune.score_pairs(out / "clean", **o))
        times_file.write_text(json.dumps(times))
    for name, options, word in METHODS:
        folder = out / "selection" / "-".join(filter(None, (name, word)))
        used = [f"epoch-{epoch}" for epoch in EPOCHS] + (["backward"] if name == "dual-xent" else [])
        ranked = {"column": folder.name} if name == "e5" else {"method": name, "checkpoints": used}
        timed(
            times,
            f"select {folder.name}",
            lambda f=folder, r=ranked, o=options: catprune.select(
                out / "scores", out=f, keep="50%", quiet=True, threads=threads, **r, **o
            ),
        )
        times_file.write_text(json.dumps(times))
    return times


def e5_scorers(threads: int) -> dict:
    """Return scorers like `--scorer e5` and `--scorer e5 --margin` that embed each text once."""

    @functools.cache
    def vectors(texts: tuple[str, ...]) -> np.ndarray:
        with E5(threads=threads) as model:
            return model.embed(texts, "")

    def e5(sources: list[str], targets: list[str]) -> np.ndarray:
        return cosine(vectors(tuple(sources)), vectors(tuple(targets)))

    def e5_margin(sources: list[str], targets: list[str]) -> np.ndarray:
        rows, sides = np.arange(len(sources)), (vectors(tuple(sources)), vectors(tuple(targets)))
        return Neighbours(rows, *sides, NEIGHBOURS, threads=threads).ratio_margin(rows, *sides)

    return {"e5": e5, "e5-margin": e5_margin}


def ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks; equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def auc(good: np.ndarray, bad: np.ndarray) -> float:
    """Return the probability that a sound pair ranks above a faulty pair."""
    both = ranks(np.concatenate([good, bad]))
    return (both[: len(good)].sum() - len(good) * (len(good) + 1) / 2) / (len(good) * len(bad))


def table(rows: list[list[str]]) -> None:
    """Print rows, the first as the header."""
    for row in [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]:
        print("|", " | ".join(row), "|")
    print()


def column(folder: Path, name: str) -> np.ndarray:
    """Read a column from all shards of a folder."""
    return parquet.read_table(folder / "columns", columns=[name])[name].to_numpy()


def report(out: Path, times: dict) -> None:
    """Print the tables."""
    faults = np.array((out / "planted.tag").read_text().splitlines())
    components = np.array((out / "planted.component").read_text().splitlines())
    targets = (out / "planted.target").read_text().splitlines()
    first = f"{METHODS[0][0]}"
    rows = column(out / "selection" / first, "row")
    faults, components = faults[rows], components[rows]
    words = [targets[row].lower().split() for row in rows]
    counts: dict[str, int] = {}
    for word in (word for target in words for word in target):
        counts[word] = counts.get(word, 0) + 1
    lengths = np.array([len(target) for target in words])
    rare = np.array([sum(counts[word] < 5 for word in target) for target in words])
    scored = np.ones(len(rows), bool)
    names, values, kept = [], [], []
    for name, options, word in METHODS:
        folder = out / "selection" / "-".join(filter(None, (name, word)))
        score = column(folder, "score").astype(float)
        scored &= np.isfinite(score)
        names.append(" ".join(filter(None, (name, word))))
        values.append(-score if options.get("direction") == "bottom" else score)
        kept.append(column(folder, "kept").astype(bool))
    print(f"{len(rows):,} pairs, {(~scored).sum():,} of them without a score;", end=" ")
    print(", ".join(f"{(faults == fault).sum():,} {fault}" for fault in FAULTS))
    sound = scored & (faults == "none")
    found_faults = [["method", *FAULTS, "misaligned, within components"]]
    for name, score in zip(names, values, strict=True):
        if name == "s2l":
            continue
        cells = [auc(score[sound], score[scored & (faults == fault)]) for fault in FAULTS]
        within, weights = [], []
        for component in np.unique(components):
            here = components == component
            bad = scored & here & (faults == "misaligned")
            if bad.sum() >= 10:
                within.append(auc(score[sound & here], score[bad]))
                weights.append(bad.sum())
        cells.append(float(np.average(within, weights=weights)))
        found_faults.append([name, *(f"{cell:.3f}" for cell in cells)])
    table(found_faults)
    keeps = [
        ["method", *(f"{fault} kept" for fault in ("none", *FAULTS)), "words per target", "rare words kept", "cost"]
    ]
    for name, mask in zip(names, kept, strict=True):
        shares = [mask[faults == fault].mean() for fault in ("none", *FAULTS)]
        keeps.append(
            [
                name,
                *(f"{share:.0%}" for share in shares),
                f"{lengths[mask].mean():.1f}",
                f"{rare[mask].sum() / rare.sum():.0%}",
                cost(name, times, len(rows)),
            ]
        )
    table(keeps)
    order = [ranks(score[scored]) for score in values]
    matrix = np.corrcoef(order)
    chosen = [place for place, name in enumerate(names) if name not in ("s2l", "random")]
    short = [["", *(str(i + 1) for i in range(len(chosen)))]]
    for i, place in enumerate(chosen):
        short.append([f"{i + 1} {names[place]}", *(f"{round(100 * matrix[place, other])}" for other in chosen)])
    table(short)


def cost(name: str, times: dict, pairs: int) -> str:
    """Return processor minutes per million pairs: training of the needed models, scoring, and ranking."""
    scoring = [f"score epoch-{epoch}" for epoch in EPOCHS]
    base = name.partition(" ")[0]
    needs = {"cat-diff": [scoring[0], scoring[-1]], "progress": [scoring[0], scoring[-1]], "ppl": scoring[-1:]}
    needs |= {
        "rho": [scoring[0], "score reference", "reference"],
        "dual-xent": [scoring[-1], "score backward", "backward"],
    }
    needs |= {"e5": ["e5"], "e5 margin": ["e5", "e5-margin"], "length": [], "random": []}
    steps = needs.get(name, needs.get(base, scoring))
    if any(step in scoring for step in steps):
        steps = [*steps, "warm-up"]
    seconds = sum(times[step] for step in steps) + times[f"select {name.replace(' ', '-')}"]
    return f"{seconds / 60 * 1e6 / pairs:,.0f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "files", nargs=5, help="source, target and tags of dirty text; source and target of trusted text"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--languages", nargs=2, default=["en", "de"])
    parser.add_argument("--pairs", type=int, default=40_000)
    parser.add_argument("--vocab-size", type=int, default=8000)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    LANGUAGES = dict(zip(("source_lang", "target_lang"), options.languages, strict=True))
    options.out.mkdir(parents=True, exist_ok=True)
    plant(*options.files[:3], out=options.out, pairs=options.pairs, seed=options.seed)
    spent = make(
        options.out, options.files[3:], vocab_size=options.vocab_size, preset=options.preset, threads=options.threads
    )
    report(options.out, spent)
