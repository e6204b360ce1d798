"""What each Rust pass must do, in a few lines of Python that hold everything in memory."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

import regex
import xxhash

CHUNK = 4096
RULES = {
    "min_words": 1,
    "max_words": 150,
    "max_characters": 1024,
    "max_word_ratio": 2.0,
    "max_character_ratio": 2.0,
    "min_letter_word_share": 0.4,
    "min_letter_share": 0.5,
    "max_word_characters": 40,
}
_SPACE = regex.compile(r"\p{White_Space}+")
_LETTER = regex.compile(r"\p{Alphabetic}")


def lines(data: bytes) -> list[bytes]:
    """Lines end at a line feed, one carriage return before it is dropped; a last line without one counts."""
    pieces = data.split(b"\n")
    last = [pieces.pop()] if pieces[-1] else pieces.pop() and []
    return [piece.removesuffix(b"\r") for piece in pieces] + list(last)


def measures(side: str) -> tuple[int, ...]:
    words = [word for word in _SPACE.split(side) if word]
    letters = sum(bool(_LETTER.match(character)) for character in side)
    with_letter = sum(any(_LETTER.match(character) for character in word) for word in words)
    longest = max(map(len, words), default=0)
    return (len(side), len(words), letters, sum(map(len, words)), with_letter, longest)


def reasons(source: bytes, target: bytes, *, max_line_bytes: int = 16_384) -> set[str]:
    """The rules' reasons with their defaults, duplicates aside."""
    if max(len(source), len(target)) > max_line_bytes:
        return {"line_too_long"}
    try:
        sides = source.decode(), target.decode()
    except UnicodeDecodeError:
        return {"invalid_utf8"}
    found: set[str] = set()
    if any(unicodedata.category(character) == "Cc" and character != "\t" for side in sides for character in side):
        found.add("control_characters")
    trimmed = [regex.sub(r"^\p{White_Space}+|\p{White_Space}+$", "", side) for side in sides]
    if trimmed[0] == trimmed[1]:
        found.add("identical_sides")
    one, other = map(measures, sides)
    if not one[1] or not other[1]:
        return found | {"empty"}
    for characters, words, letters, visible, with_letter, longest in (one, other):
        if words < RULES["min_words"]:
            found.add("too_few_words")
        if words > RULES["max_words"]:
            found.add("too_many_words")
        if characters > RULES["max_characters"]:
            found.add("too_many_characters")
        if with_letter / words < RULES["min_letter_word_share"]:
            found.add("few_words_with_letters")
        if letters / visible < RULES["min_letter_share"]:
            found.add("few_letters")
        if longest > RULES["max_word_characters"]:
            found.add("long_word")
    for place, name in ((1, "word_ratio"), (0, "character_ratio")):
        short, long = sorted((one[place], other[place]))
        if long / short > RULES[f"max_{name}"]:
            found.add(name)
    return found


def normalise(side: str, form: str = "nfkc,case,white_space,punctuation") -> str:
    """The form of a side: what `form` names is made equal; a side of nothing but punctuation keeps it."""
    names = form.split(",")
    folded = unicodedata.normalize("NFKC", side) if "nfkc" in names else side
    folded = "".join(character.lower() for character in folded) if "case" in names else folded
    bare = "".join(c for c in folded if not ("punctuation" in names and unicodedata.category(c).startswith("P")))
    if "white_space" in names:
        bare, folded = (" ".join(word for word in _SPACE.split(text) if word) for text in (bare, folded))
    kept = bare or folded
    return regex.sub(r"\p{Nd}", "0", kept) if "digits" in names else kept


@dataclass
class Cleaned:
    reasons: list[set[str]] = field(default_factory=list)
    duplicate_of: dict[int, int | None] = field(default_factory=dict)


def keys(source: str, target: str, key: str) -> list[tuple[str, ...]]:
    """What a pair is known by; either side alone is enough to be a duplicate."""
    pair, sides = (source, target), [("source", source), ("target", target)]
    return {"pair": [pair], "source": sides[:1], "target": sides[1:], "either": sides, "none": []}[key]


def clean(
    pairs: list[tuple[bytes, bytes]],
    *,
    key: str = "pair",
    form: str = "normalised",
    judge: bool = True,
    priority: list[float] | None = None,
    against: list[tuple[str, str]] = (),  # type: ignore[assignment]
    **options: int,
) -> Cleaned:
    """Every pair's reasons. Of the survivors that share a key the one of lowest priority stays, then the lower row."""
    cleaned = Cleaned([reasons(*pair, **options) if judge else structure(*pair, **options) for pair in pairs])
    forms = {"raw": lambda side: side, "normalised": normalise}.get(form, lambda side: normalise(side, form))
    groups: dict[tuple[str, ...], list[int | None]] = {}
    for source, target in against:
        for mine in keys(forms(source), forms(target), key):
            groups.setdefault(mine, [None])
    for row, (source, target) in enumerate(pairs):
        if not cleaned.reasons[row]:
            for mine in keys(forms(source.decode()), forms(target.decode()), key):
                groups.setdefault(mine, []).append(row)
    dropped: dict[int, list[int | None]] = {}
    for rows in groups.values():
        here = sorted((row for row in rows if row is not None), key=lambda row: (priority[row] if priority else 0, row))
        best = None if None in rows else here[0]
        for row in here if best is None else here[1:]:
            dropped.setdefault(row, []).append(best)
    for row, others in dropped.items():
        known = [other for other in others if other is not None]
        cleaned.duplicate_of[row] = min(known) if known else None
        cleaned.reasons[row] = {"duplicate" if known else "duplicate_elsewhere"}
    return cleaned


def structure(source: bytes, target: bytes, *, max_line_bytes: int = 16_384) -> set[str]:
    """The reasons that hold without rules."""
    return reasons(source, target, max_line_bytes=max_line_bytes) & {"line_too_long", "invalid_utf8"}


def sampled(row: int, *, seed: int, fraction: float) -> bool:
    """Whether the tokenizer's sample takes a row."""
    return xxhash.xxh3_64_intdigest(row.to_bytes(8, "little") + b"sample", seed) <= min(
        int(fraction * 2.0**64), 2**64 - 1
    )
