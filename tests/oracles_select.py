"""Selection in a few lines of NumPy and Python: whole columns, sorted."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import xxhash


def row_hash(row: int, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(int(row).to_bytes(8, "little"), seed=seed)


def random_score(row: int, seed: int) -> float:
    return (row_hash(row, seed) >> 40) / 2**24


def shares(whole: int, weights: list[int]) -> list[int]:
    """Largest remainder, ties to the first."""
    total = max(sum(weights), 1)
    exact = [Fraction(whole * weight, total) for weight in weights]
    found = [int(share) for share in exact]
    order = sorted(range(len(weights)), key=lambda group: (found[group] - exact[group], group))
    for group in order[: whole - sum(found) if sum(weights) else 0]:
        found[group] += 1
    return found


def progress(first: np.ndarray, last: np.ndarray, bins: int) -> np.ndarray:
    """Lower medians within quantile bins; float32 in and out."""
    ordered = np.sort(first)
    bounds = np.array([ordered[b * len(first) // bins] for b in range(1, bins)], dtype=np.float32)
    place = np.searchsorted(bounds, first, side="right")
    expected = np.empty_like(last)
    for number in np.unique(place):
        inside = np.sort(last[place == number])
        expected[place == number] = inside[(len(inside) - 1) // 2]
    return expected - last


def kept_rows(
    rows: list[int],
    scores: list[float | None],
    tokens: list[int],
    groups: list[int],
    *,
    keep: tuple[str, Fraction],
    direction: str,
    ties: str,
    seed: int,
) -> set[int]:
    """The rows that are kept; `keep` is ("rows" | "fraction" | "tokens" | "token_fraction", how much)."""
    kind, amount = keep
    names = sorted(set(groups))
    scored = {name: [i for i, g in enumerate(groups) if g == name and scores[i] is not None] for name in names}
    weigh = {name: sum(tokens[i] for i in scored[name]) for name in names}
    if kind in {"rows", "fraction"}:
        k = int(amount if kind == "rows" else amount * len(rows))
        if k > sum(map(len, scored.values())):
            raise ValueError("more than there are")
        quota = dict(zip(names, shares(k, [len(scored[name]) for name in names]), strict=True))
    elif kind == "tokens":
        if amount > sum(weigh.values()):
            raise ValueError("more than there are")
        quota = dict(zip(names, shares(int(amount), [weigh[name] for name in names]), strict=True))
    else:
        quota = {name: int(amount * weigh[name]) for name in names}

    sign = 1 if direction == "bottom" else -1
    kept: set[int] = set()
    for name in names:
        ranked = sorted(
            scored[name],
            key=lambda i: (sign * scores[i], -row_hash(rows[i], seed) if ties == "random" else 0, rows[i]),
        )
        if kind in {"rows", "fraction"}:
            start = (len(ranked) - quota[name]) // 2 if direction == "middle" else 0
            chosen = ranked[start : start + quota[name]]
        else:
            fits = np.cumsum([tokens[i] for i in ranked]) <= quota[name]
            chosen = ranked[: int(fits.sum())]
        kept |= {rows[i] for i in chosen}
    return kept
