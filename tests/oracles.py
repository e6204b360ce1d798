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


def normalise(side: str) -> str:
    """NFKC, lower case, no punctuation, single spaces; a side of nothing but punctuation keeps it."""
    folded = "".join(character.lower() for character in unicodedata.normalize("NFKC", side))
    bare = "".join(character for character in folded if not unicodedata.category(character).startswith("P"))
    words = [word for word in _SPACE.split(bare) if word] or [word for word in _SPACE.split(folded) if word]
    return " ".join(words)


@dataclass
class Cleaned:
    reasons: list[set[str]] = field(default_factory=list)
    duplicate_of: dict[int, int] = field(default_factory=dict)


def clean(pairs: list[tuple[bytes, bytes]], *, key: str = "pair", form: str = "normalised", **options: int) -> Cleaned:
    """Every pair's reasons; a duplicate is a survivor whose key an earlier survivor had."""
    cleaned, first = Cleaned(), {}
    for row, (source, target) in enumerate(pairs):
        found = reasons(source, target, **options)
        if not found and key != "none":
            sides = [source.decode(), target.decode()]
            sides = sides if form == "raw" else [normalise(side) for side in sides]
            mine = {"pair": tuple(sides), "source": sides[0], "target": sides[1]}[key]
            if mine in first:
                found = {"duplicate"}
                cleaned.duplicate_of[row] = first[mine]
            first.setdefault(mine, row)
        cleaned.reasons.append(found)
    return cleaned


def sampled(row: int, *, seed: int, fraction: float) -> bool:
    """Whether the tokenizer's sample takes a row."""
    return xxhash.xxh3_64_intdigest(row.to_bytes(8, "little") + b"sample", seed) <= min(
        int(fraction * 2.0**64), 2**64 - 1
    )
