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
    counts = [int(share) for share in exact]
    order = sorted(range(len(weights)), key=lambda group: (counts[group] - exact[group], group))
    for group in order[: whole - sum(counts) if sum(weights) else 0]:
        counts[group] += 1
    return counts


def even_parts(whole: int, sizes: list[int]) -> list[int]:
    """Take one more from each group in turn, larger groups first, then later ones, while they have records."""
    parts = [0] * len(sizes)
    while sum(parts) < whole:
        level = min(part for part, size in zip(parts, sizes, strict=True) if part < size)
        open_ones = [i for i, size in enumerate(sizes) if parts[i] == level and parts[i] < size]
        parts[max(open_ones, key=lambda i: (sizes[i], i))] += 1
    return parts


def progress(first: np.ndarray, last: np.ndarray, bins: int) -> np.ndarray:
    """Lower medians within quantile bins of at least 200 rows; float32 in and out."""
    bins = max(1, min(bins, len(first) // 200))
    ordered = np.sort(first)
    bounds = np.array([ordered[b * len(first) // bins] for b in range(1, bins)], dtype=np.float32)
    place = np.searchsorted(bounds, first, side="right")
    expected = np.empty_like(last)
    for number in np.unique(place):
        inside = np.sort(last[place == number])
        expected[place == number] = inside[(len(inside) - 1) // 2]
    return expected - last


def progress_within(first: np.ndarray, last: np.ndarray, bins: int, groups: np.ndarray) -> np.ndarray:
    """`progress` within groups; groups of fewer than 200 rows are joined, if necessary with the next smallest."""
    sizes = dict(zip(*np.unique(groups, return_counts=True), strict=True))
    small = {group for group, size in sizes.items() if size < 200}
    if 0 < sum(sizes[group] for group in small) < 200 and len(small) < len(sizes):
        smallest = min(size for size in sizes.values() if size >= 200)
        small |= {group for group, size in sizes.items() if size == smallest}
    pools = np.array([-1 if group in small else group for group in groups])
    scores = np.empty_like(last)
    for pool in np.unique(pools):
        scores[pools == pool] = progress(first[pools == pool], last[pools == pool], bins)
    return scores


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


def merged(
    columns: list[list[float | None]], weights: list[float], by: str, passed: list[bool] | None = None
) -> list[float | None]:
    """Weighted means of ranks as fractions, or of standard scores, over the records that have all columns; float32."""
    count = len(columns[0])
    whole = [
        i for i in range(count) if all(column[i] is not None for column in columns) and (passed or [True] * count)[i]
    ]
    sums = dict.fromkeys(whole, 0.0)
    for column, weight in zip(columns, weights, strict=True):
        values = [column[i] for i in whole]
        if by == "z":
            exact = [Fraction(value) for value in values]
            mean = sum(exact, Fraction()) / max(len(exact), 1)
            variance = sum(((value - mean) ** 2 for value in exact), Fraction()) / max(len(exact), 1)
            deviation = np.sqrt(float(variance))
            part = [(value - float(mean)) / deviation if deviation else 0.0 for value in values]
        else:
            lower = [sum(other < value for other in values) for value in values]
            equal = [sum(other == value for other in values) for value in values]
            part = [(2 * b + c) / (2 * len(whole)) for b, c in zip(lower, equal, strict=True)]
        for i, value in zip(whole, part, strict=True):
            sums[i] += weight * value
    total = sum(abs(weight) for weight in weights)
    return [float(np.float32(sums[i] / total)) if i in sums else None for i in range(count)]


def bucket(length: int) -> int:
    """⌊2·log₂ n⌋, and -1 of nothing."""
    return (length * length).bit_length() - 1


def draw(weight: float, row: int, seed: int) -> float:
    """log(weight) + Gumbel noise."""
    if not weight:
        return float(np.finfo(np.float32).min)
    uniform = ((row_hash(row, seed) >> 11) + 0.5) / 2**53
    return float(np.float32(np.log(weight) - np.log(-np.log(uniform))))
