"""Rows of the model benchmark about speed: other engines, batch sizes, threads and processes, four checkpoints."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import numpy as np
from catprune.model.batches import plan_scoring
from catprune.model.sizes import find_size
from catprune.tokens.blocks import Tokens
from catprune.workspace.device import processor_gains_by_bfloat16
from model_rows import Bench, Row, flops_of, pairs_in, speed

if TYPE_CHECKING:
    from catprune.model.batches import Pairs
    from rows import Entry

SIZES = (1024, 2048, 4096, 8192)
#: Batch sizes of CTranslate2 in tokens; the fastest is used.
_PEER_SIZES = (1024, 2048, 4096)
#: Largest relative difference of a pair's nll between engines in float32.
TOLERANCE = 1e-5


def padding(blocks: list[Pairs], batch_tokens: int) -> float:
    """Return the share of padding among the processed positions of both sides."""
    tokens = positions = 0
    for pairs in blocks:
        source, target = pairs.source.lengths, pairs.target.lengths
        tokens += int(source.sum() + target.sum())
        for chosen in plan_scoring(pairs, batch_tokens=batch_tokens):
            positions += len(chosen) * int(source[chosen].max() + target[chosen].max())
    return 1 - tokens / positions


def engines(bench: Bench) -> Row:
    """Compare catprune with other engines on one thread, and with the rate of matrix products."""
    options, data = bench.options, bench.data
    tokens, preset = data.corpus(options.pairs), options.preset
    size, gains_by_bfloat16 = find_size(preset), processor_gains_by_bfloat16()
    vocab_size = Tokens.open(tokens).tokenizer.vocab_size
    shape = {
        "shape": [size.d_model, size.ffn, vocab_size],
        "layers": size.encoder_layers,
        "seconds": options.product_seconds,
    }
    products = [
        bench.entry(
            f"matrix products, {name}", "matrix_products", dtype=name, batch_tokens=options.batch_tokens, **shape
        )
        for name in ("float32", "bfloat16")[: 1 + gains_by_bfloat16]
    ]
    ours = [bench.scoring("catprune float32", tokens)]
    if gains_by_bfloat16:
        ours.append(bench.scoring("catprune bfloat16", tokens, precision="bfloat16"))
    row = Row("One thread", versus="CTranslate2 float32")
    exported, chosen = str(data.ctranslate2(preset)), _peer_batches(bench, row)
    peers = [
        bench.entry(
            f"CTranslate2 {kind}",
            "ctranslate2_scores",
            tokens=str(tokens),
            model=exported,
            type=kind,
            batch_tokens=chosen[kind],
            limit=None,
        )
        for kind in chosen
    ]
    naive = {
        "tokens": str(tokens),
        "checkpoint": str(data.checkpoint(preset)),
        "batch": 32,
        "limit": options.naive_pairs,
    }
    peers += [
        bench.entry(f"transformers, {name}", "transformers_scores", sorted=name == "sorted", **naive)
        for name in ("sorted", "file order")
    ]
    row.rounds = bench.run("engines", [*products, *ours, *peers], keep=True)
    _ask_engines(row, flops_of(tokens, find_size(preset)), gains_by_bfloat16=gains_by_bfloat16)
    _compare(row)
    row.notes.append(
        f"transformers scores the first {options.naive_pairs:,} of the {options.pairs:,} pairs, 32 a batch; "
        f"catprune's batches are of {options.batch_tokens:,} tokens"
    )
    return row


def _peer_batches(bench: Bench, row: Row) -> dict[str, int]:
    """Find the fastest batch size of CTranslate2, for each of its precisions."""
    options = bench.options
    job = {"tokens": str(bench.data.corpus(options.pairs)), "model": str(bench.data.ctranslate2(options.preset))}
    tried: dict[tuple[str, int], Entry] = {
        (kind, size): bench.entry(
            f"{kind} at {size}", "ctranslate2_scores", type=kind, batch_tokens=size, limit=options.naive_pairs, **job
        )
        for size in _PEER_SIZES
        for kind in ("float32", "int8")
    }
    rounds = bench.run("batches of CTranslate2", list(tried.values()), rounds=options.trials)
    speeds = {key: statistics.median(map(speed, rounds[entry.label])) for key, entry in tried.items()}
    best = {kind: max(_PEER_SIZES, key=lambda size: speeds[kind, size]) for kind in ("float32", "int8")}
    row.numbers["batches of CTranslate2"] = {entry.label: speeds[key] for key, entry in tried.items()}
    row.notes.append(
        f"CTranslate2 is fastest with batches of {best['float32']:,} tokens in float32 and {best['int8']:,} in int8, "
        f"of {', '.join(f'{size:,}' for size in _PEER_SIZES)} tried on {options.naive_pairs:,} pairs"
    )
    return best


def _ask_engines(row: Row, work: tuple[float, int], *, gains_by_bfloat16: bool) -> None:
    per_token = work[0] / work[1]
    row.numbers["flops_per_target_token"] = per_token
    shares: dict[str, dict[str, float]] = {}
    for label, products in (
        ("catprune float32", "matrix products, float32"),
        ("CTranslate2 float32", "matrix products, float32"),
        ("catprune bfloat16", "matrix products, bfloat16"),
    ):
        both = list(zip(row.rounds.get(label, ()), row.rounds.get(products, ()), strict=False))
        if both:
            shares[label] = {
                of: statistics.median(speed(record) * per_token / two[of] for record, two in both)
                for of in ("best", "of_the_model")
            }
    row.numbers["share_of_matrix_products"] = shares
    for label, share in shares.items():
        row.notes.append(
            f"{label} reaches {share['best']:.0%} of the best rate of matrix products of its type, "
            f"{share['of_the_model']:.0%} of that at the model's shapes ({per_token / 1e6:.0f} MFLOP a target token)"
        )
    single, two = "float32, one thread", "bfloat16, one thread"
    row.ask(single, "≥ CTranslate2 float32", row.ratio("catprune float32", "CTranslate2 float32"), 1, "{:.2f} ×")
    share = shares.get("catprune float32", {}).get("best")
    row.ask(single, "≥ 75% of the best rate of matrix products", share, 0.75, "{:.0%}")
    ratio = row.ratio("catprune bfloat16", "CTranslate2 int8") if gains_by_bfloat16 else None
    row.ask(two, "≥ CTranslate2 int8", ratio, 1, "{:.2f} ×")
    if not gains_by_bfloat16:
        row.notes.append("this processor does not multiply bfloat16 faster than float32, so that row is not measured")


def _compare(row: Row) -> None:
    """Compare the nll of other engines with catprune's in float32."""
    ours = row.rounds["catprune float32"][0].get("nll")
    if ours is None:
        return
    worst: dict[str, float] = {}
    for label, rounds in row.rounds.items():
        other_nll = rounds[0].get("nll") if rounds else None
        if other_nll is not None and label != "catprune float32":
            same = ours[: len(other_nll)]
            worst[label] = float((np.abs(other_nll - same) / np.abs(same)).max())
    row.numbers["largest_relative_difference_of_nll"] = worst
    exact = {label: value for label, value in worst.items() if "int8" not in label and "bfloat16" not in label}
    most = max(exact.values(), default=None)
    row.ask_most("same nll in every engine, float32", f"≤ {TOLERANCE:g} relative", most, TOLERANCE, "{:.1e}")
    listed = ", ".join(f"{label} {value:.1e}" for label, value in worst.items())
    row.notes.append(f"largest relative difference of a pair's nll from catprune float32: {listed}")


def batches(bench: Bench) -> Row:
    """Measure padding and speed for several batch sizes."""
    options, data = bench.options, bench.data
    tokens = data.corpus(options.pairs)
    row = Row("Batches", versus=f"{SIZES[0]:,} tokens")
    entries = {size: bench.scoring(f"{size:,} tokens", tokens, batch_tokens=size) for size in SIZES}
    row.rounds = bench.run("batches", list(entries.values()), rounds=options.trials)
    scored, block = pairs_in(tokens), pairs_in(data.tokens)[:1]
    shares = {size: padding(scored, size) for size in SIZES}
    full = {size: padding(block, size) for size in SIZES}

    def net(size: int) -> float:
        """Return the relative speed, corrected to the padding of a full block."""
        return (row.ratio(entries[size].label, row.versus) or 0) * (1 - full[size]) / (1 - shares[size])

    fastest = max(SIZES, key=net)
    row.numbers = {"padding": shares, "padding_of_a_full_block": full, "fastest": fastest}
    row.ask_most(
        f"padding of a block at the fastest size ({fastest:,} tokens)",
        "≤ 3% of processed tokens",
        full[fastest],
        0.03,
        "{:.1%}",
    )
    for title, paddings in ((f"of {options.pairs:,} pairs", shares), (f"of a block of {len(block[0].rows):,}", full)):
        listed = ", ".join(f"{share:.1%} at {size:,}" for size, share in paddings.items())
        row.notes.append(f"padding {title}: {listed}")
    return row


def parallel(bench: Bench) -> Row:
    """Compare two threads and two processes with one."""
    tokens = bench.data.corpus(bench.options.pairs // 2, parts=2)
    work = flops_of(tokens, find_size(bench.options.preset))[1]
    row = Row("Two threads, two processes", versus="one")
    row.rounds = bench.run(
        "parallel",
        [
            bench.scoring("one", tokens),
            bench.scoring("two threads", tokens, threads=2),
            bench.scoring("two processes", tokens, function="shards", processes=2, target_tokens=work),
        ],
    )
    for label in ("two threads", "two processes"):
        row.ask(label, "≥ 1.8 × one, on an idle machine", row.ratio(label, "one"), 1.8, "{:.2f} ×")
    row.notes.append(f"{bench.options.pairs // 2:,} pairs in two blocks, distributed in turn")
    return row


def checkpoints(bench: Bench) -> Row:
    """Compare whole calls of `score` with four checkpoints and with one."""
    pairs = max(bench.options.pairs // 8, 1)
    tokens = bench.data.corpus(pairs)
    job = {"function": "whole_score", "target_tokens": flops_of(tokens, find_size(bench.options.preset))[1]}
    row = Row("Four checkpoints", versus="one")
    row.rounds = bench.run(
        "checkpoints", [bench.scoring(label, tokens, count=count, **job) for label, count in (("one", 1), ("four", 4))]
    )
    ratio = row.ratio("four", "one")
    times = None if ratio is None else 4 / ratio
    row.ask_most("four checkpoints", "≤ 4.1 × the time of one", times, 4.1, "{:.2f} ×")
    row.notes.append(f"whole calls of `score` over {pairs:,} pairs, which were tokenized before")
    return row
