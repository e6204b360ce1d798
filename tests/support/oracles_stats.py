"""Statistics in a few lines of Python that hold everything in memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import regex
from support import oracles

_SPACE = regex.compile(r"\p{White_Space}+")
_LETTER = regex.compile(r"\p{Alphabetic}")
_PERCENT = {"min": 0, "p1": 1, "p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "p99": 99, "max": 100}


def quantiles(values: list[int], unit: int = 1) -> dict[str, Any] | None:
    """The value at rank ⌈q·count⌉, at least the first."""
    if not values:
        return None
    ordered, count = sorted(values), len(values)
    figures = {name: ordered[max(1, -(-count * percent // 100)) - 1] / unit for name, percent in _PERCENT.items()}
    return {"count": count, "mean": sum(values) / count / unit, **figures}


def ratios(pairs: list[tuple[int, int]]) -> dict[str, Any]:
    whole = [pair for pair in pairs if all(pair)]
    directed = [min(1000 * target // source, 10**6) for source, target in whole]
    longer = [min(1000 * max(pair) // min(pair), 10**6) for pair in whole]
    return {"target_over_source": quantiles(directed, 1000), "longer_over_shorter": quantiles(longer, 1000)}


def side(texts: list[str]) -> dict[str, Any]:
    words = [[word for word in _SPACE.split(text) if word] for text in texts]
    letters = [letter for text in texts for letter in _LETTER.findall(text)]
    return {
        "characters": quantiles([len(text) for text in texts]),
        "words": quantiles([len(word) for word in words]),
        "bytes": quantiles([len(text.encode()) for text in texts]),
        "tokens": sum(map(len, words)),
        "types": len({word for letters in words for word in letters}),
        "letters": len(letters),
    }


def languages(texts: list[str], spoken: dict[str, str]) -> dict[str, Any]:
    """Of texts of at least 40 letters that are all known: which language has how many."""
    known = {text: code for code, text in spoken.items()}
    counts = Counter(known[text] for text in texts if len(_LETTER.findall(text)) >= 40)
    total = counts.total()
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    identified = [{"language": code, "count": count, "share": count / total} for code, count in ordered]
    return {"too_short": len(texts) - total, "identified": identified}


def decoded(pair: tuple[bytes, bytes]) -> tuple[str, str] | None:
    try:
        return pair[0].decode(), pair[1].decode()
    except UnicodeDecodeError:
        return None


def repeats(keys: list[Any]) -> list[bool]:
    seen: set[Any] = set()
    return [key in seen or bool(seen.add(key)) for key in keys]


def figures(pairs: list[tuple[bytes, bytes]], *, form: str, max_line_bytes: int) -> dict[str, Any]:
    """The figures of a group of pairs, `types` exact, without scripts and compression."""
    short = [pair for pair in pairs if max(map(len, pair)) <= max_line_bytes]
    texts = [text for pair in short if (text := decoded(pair)) is not None]
    words = [tuple(len([word for word in _SPACE.split(side) if word]) for side in text) for text in texts]
    keys = [text if form == "raw" else tuple(map(oracles.normalise, text)) for text in texts]
    named = {"pair": keys, "source": [key[0] for key in keys], "target": [key[1] for key in keys]}
    return {
        "rows": len(pairs),
        "malformed_record": 0,
        "line_too_long": len(pairs) - len(short),
        "invalid_utf8": len(short) - len(texts),
        "empty": sum(not all(sides) for sides in words),
        "source": side([text[0] for text in texts]),
        "target": side([text[1] for text in texts]),
        "character_ratio": ratios([(len(source), len(target)) for source, target in texts]),
        "word_ratio": ratios([(sides[0], sides[1]) for sides in words]),
        "duplicates": {name: sum(repeats(values)) for name, values in named.items()},
    }


def sketch(hashes: list[int]) -> int:
    """HyperLogLog of 64-bit hashes over 2^14 registers, with Ertl's estimator."""
    registers = Counter[int]()
    for value in hashes:
        index, rest = value >> 50, value & (2**50 - 1)
        registers[index] = max(registers[index], 51 - rest.bit_length())
    counts, size = Counter(registers.values()), 2**14
    zero, full = size - len(registers), counts[51]
    x = 1 - full / size
    tau = 0.0 if x in (0, 1) else _limit_tau(x)
    total = size * tau
    for rank in range(50, 0, -1):
        total = 0.5 * (total + counts[rank])
    if zero == size:
        return 0
    return round(size * size / (2 * 0.6931471805599453 * (total + size * _limit_sigma(zero / size))))


def _limit_sigma(x: float) -> float:
    terms, power, total = [0.0], 1.0, x
    while total > terms[-1]:
        terms.append(total)
        x, power = x * x, 2 * power
        total += x * power / 2
    return total


def _limit_tau(x: float) -> float:
    total, power = 1 - x, 1.0
    while True:
        x, before, power = x**0.5, total, power / 2
        total -= (1 - x) ** 2 * power
        if total == before:
            return total / 3
