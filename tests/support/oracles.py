"""Oracles of the Rust passes, in a few lines of Python that hold everything in memory."""

from __future__ import annotations

import unicodedata
from collections import Counter
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
    "max_repeated_share": 0.5,
    "max_number_mismatch": 1.0,
    "max_url_mismatch": 1.0,
    "max_markup_share": 1.0,
    "min_script_share": 0.3,
    "max_common_word_share": 0.9,
    "same_terminal_punctuation": False,
}
_SPACE = regex.compile(r"\p{White_Space}+")
#: What separates words: white space, and the Ethiopic word space.
_WORD_SPACE = regex.compile(r"[\p{White_Space}\u1361]+")
_LETTER = regex.compile(r"\p{Alphabetic}")
_HAN_KANA = r"[\p{Han}\p{Hiragana}\p{Katakana}ーｰ]"
_SYLLABIC = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Tham}\p{Tai_Viet}"
_SYLLABIC += r"\p{Javanese}\p{Balinese}"
_UNSPACED = regex.compile(rf"{_HAN_KANA}|(?=[\p{{Alphabetic}}\p{{M}}])[{_SYLLABIC}]")
_MARKUP = regex.compile(
    r"<(?:!--|[/!?]?[A-Za-z])[^<>]*>"
    r"|&(?:\#[0-9]{1,7}|\#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
    r"|%(?:[0-9]+\$)?[-+\#0]*[0-9]*(?:\.[0-9]+)?(?:hh|h|ll|l|q|z|t|j)?[diouxXeEfgGcsp@%]"
    r"|%\([A-Za-z0-9_]+\)[a-z]|%[0-9]{1,2}"
    r"|[$%\#]?\{{1,2}[A-Za-z0-9_.,:-]*\}{1,2}"
    r"|\\[nrt\"\\]"
)
_NUMBER = regex.compile(r"\p{Nd}+(?:[.,'’\u066b\u066c\u00a0\u2009\u202f]\p{Nd}+)*")


def lines(data: bytes) -> list[bytes]:
    """Lines end at a line feed, one carriage return before it is dropped; a last line without one counts.

    A byte order mark at the start of the file is no text.
    """
    pieces = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    last = [pieces.pop()] if pieces[-1] else pieces.pop() and []
    return [piece.removesuffix(b"\r") for piece in pieces] + list(last)


def split_word(word: str) -> tuple[list[str], list[str], int, int]:
    """Parts between white space: words in scripts with spaces, characters in scripts without."""
    if not _UNSPACED.search(word):
        return [word], [word], 0, 0
    pieces = [piece for piece in regex.split(rf"({_UNSPACED.pattern})", word) if piece]
    units = [piece for piece in pieces if _UNSPACED.match(piece) or regex.search(r"[\p{Alphabetic}\p{Nd}]", piece)]
    han_kana = sum(bool(regex.match(_HAN_KANA, piece)) for piece in units)
    unspaced = sum(bool(_UNSPACED.match(piece)) for piece in units)
    return units, [unit for unit in units if not _UNSPACED.match(unit)], han_kana, unspaced - han_kana


def measures(side: str) -> tuple[int, ...]:
    """Characters, words, letters, visible characters, words with a letter, the longest word."""
    spaced = [word for word in _WORD_SPACE.split(side) if word]
    letters = sum(bool(_LETTER.match(character)) for character in side)
    words, with_letter, longest = 0, 0, 0
    for word in spaced:
        _, others, han_kana, asian = split_word(word)
        count = -(-han_kana // 2) - (-asian // 4)
        words += count + len(others)
        with_letter += count + sum(any(_LETTER.match(character) for character in other) for other in others)
        pieces = [piece for piece in _UNSPACED.split(word) if piece] if count else others
        longest = max(longest, min(han_kana, 2), min(asian, 4), *map(len, pieces), 0)
    return (len(side), words, letters, sum(map(len, spaced)), with_letter, longest)


def script_letters(side: str, scripts: list[str]) -> int:
    shared = ["Common", "Inherited", *scripts]
    of_scripts = regex.compile("[" + "".join(rf"\p{{Script={name}}}" for name in shared) + "]")
    return sum(bool(not scripts or of_scripts.match(letter)) for letter in _LETTER.findall(side))


def markup(side: str) -> int:
    return sum(len(_WORD_SPACE.sub("", match)) for match in _MARKUP.findall(side))


def numbers(side: str) -> Counter[str]:
    def digits(number: str) -> str:
        return "".join(str(unicodedata.decimal(digit)) for digit in number if unicodedata.category(digit) == "Nd")

    return Counter(digits(number).lstrip("0") for number in _NUMBER.findall(side))


def urls(side: str) -> Counter[str]:
    matches = regex.findall(r"(?:(?:[Hh][Tt][Tt][Pp][Ss]?|[Ff][Tt][Pp])://|[Ww]{3}\.)[!\#-;=?-~]+", side)
    return Counter(url.rstrip(".,;:!?')]}") for url in matches)


def differ(counts: Counter[str], other: Counter[str], most: float) -> bool:
    """Whether the unmatched share of the longer list is above `most`."""
    longer = max(counts.total(), other.total())
    return longer - (counts & other).total() > most * longer


def units(side: str) -> list[str]:
    """Words in lower case without ASCII punctuation at their ends; of scripts without spaces characters."""
    lower = "".join(character.lower() if character.isascii() else character for character in side)
    parts = [unit for word in _WORD_SPACE.split(lower) if word for unit in split_word(word)[0]]
    return [
        regex.sub(r"^[\x00-\x2f\x3a-\x60\x7b-\x7f]+|[\x00-\x2f\x3a-\x60\x7b-\x7f]+$", "", unit) or unit
        for unit in parts
    ]


def repeats(side: str, most: float) -> bool:
    words = units(side)
    ngrams = [tuple(words[place : place + 3]) for place in range(len(words) - 2)]
    return len(ngrams) - len(set(ngrams)) > most * len(ngrams)


def resembles(source: str, target: str, most: float) -> bool:
    counts, other = Counter(units(source)), Counter(units(target))
    alike = 2 * (counts & other).total() > most * (counts.total() + other.total())
    return alike and min(counts.total(), other.total()) >= 4


def ends_sentence(side: str) -> bool:
    bare = regex.sub(r"""[\p{White_Space}\u1361\p{Pe}\p{Pf}"']+$""", "", side)
    return bool(regex.search(r"[.!?…;\u037e‼⁇⁈⁉‽。．！？｡؟۔।॥։።፧၊။។៕]$", bare))


def reasons(
    source: bytes | None,
    target: bytes,
    *,
    max_line_bytes: int = 16_384,
    scripts: tuple[list[str], list[str]] = ([], []),
    **thresholds: float,
) -> set[str]:
    """The reasons of the rules without duplicates; None as source means a monolingual corpus."""
    rules = RULES | thresholds
    if names := structure(source, target, max_line_bytes=max_line_bytes):
        return names
    sides = [side.decode() for side in (source, target) if side is not None]
    breaks = [side.replace("\r\n", " ").replace("\n", " ").replace("\t", " ") for side in sides]
    if any(unicodedata.category(character) == "Cc" for side in breaks for character in side):
        names.add("control_characters")
    # Reasons do not depend on the normal form.
    sides = [unicodedata.normalize("NFC", side) for side in sides]
    trimmed = [regex.sub(r"^\p{White_Space}+|\p{White_Space}+$", "", side) for side in sides]
    if len(sides) == 2 and trimmed[0] == trimmed[1]:
        names.add("identical_sides")
    measured = [*map(measures, sides)]
    if not all(measures[1] for measures in measured):
        return names | {"empty"}
    for side, (characters, words, letters, visible, with_letter, longest), written in zip(
        sides, measured, scripts[-len(sides) :], strict=True
    ):
        broken = {
            "too_few_words": words < rules["min_words"],
            "too_many_words": words > rules["max_words"],
            "too_many_characters": characters > rules["max_characters"],
            "few_words_with_letters": with_letter / words < rules["min_letter_word_share"],
            "few_letters": letters / visible < rules["min_letter_share"],
            "long_word": longest > rules["max_word_characters"],
            "repeated_ngrams": repeats(side, rules["max_repeated_share"]),
            "markup": markup(side) / visible > rules["max_markup_share"],
            "wrong_script": script_letters(side, written) < rules["min_script_share"] * letters,
        }
        names |= {name for name, is_broken in broken.items() if is_broken}
    if source is None:
        return names
    for place, name in ((1, "word_ratio"), (0, "character_ratio")):
        short, long = sorted(measures[place] for measures in measured)
        if long / short > rules[f"max_{name}"]:
            names.add(name)
    of_both = {
        "number_mismatch": differ(*map(numbers, sides), rules["max_number_mismatch"]),
        "url_mismatch": differ(*map(urls, sides), rules["max_url_mismatch"]),
        "near_copy": resembles(*sides, rules["max_common_word_share"]),
        "terminal_punctuation": rules["same_terminal_punctuation"] and len(set(map(ends_sentence, sides))) == 2,
    }
    return names | {name for name, is_broken in of_both.items() if is_broken}


def normalise(side: str, form: str = "nfkc,case,white_space,punctuation") -> str:
    """The normal form of a side; a side with only punctuation keeps it."""
    names = form.split(",")
    folded = regex.sub(r"\p{DI}", "", side) if "white_space" in names else side
    if "nfkc" in names:
        parts = regex.split(r"(\p{No})", folded)
        folded = "".join(p if regex.fullmatch(r"\p{No}", p) else unicodedata.normalize("NFKC", p) for p in parts)
    folded = "".join(character.lower() for character in folded) if "case" in names else folded
    bare = _without_punctuation(folded) if "punctuation" in names else folded
    if "white_space" in names:
        bare, folded = (" ".join(word for word in _SPACE.split(text) if word) for text in (bare, folded))
    kept = bare or folded
    return regex.sub(r"\p{Nd}", "0", kept) if "digits" in names else kept


def _without_punctuation(text: str) -> str:
    """Replace each run of punctuation by a space between two non-space characters, otherwise by nothing."""
    marked = ""
    for before, mark, after in zip(" " + text, text, text[1:] + " ", strict=False):
        between = before + after
        number, word = regex.fullmatch(r"\p{Nd}{2}", between), regex.match(r"[\p{Alphabetic}\p{N}]", before)
        sign = unicodedata.category(mark) == "Pd" and not word and regex.match(r"\p{Nd}", after)
        kept = number or sign or (word and mark in "#%‰‱٪")
        marked += "\0" if unicodedata.category(mark)[0] == "P" and not kept else mark
    space = _SPACE.pattern[:-1]
    return regex.sub(rf"(?<!^|{space}|\0)\0+(?!$|{space}|\0)", " ", marked).replace("\0", "")


@dataclass
class Cleaned:
    reasons: list[set[str]] = field(default_factory=list)
    duplicate_of: dict[int, int | None] = field(default_factory=dict)


def keys(source: str, target: str, key: str) -> list[tuple[str, ...]]:
    """The keys of a pair; with "either", one equal side makes a duplicate."""
    pair, sides = (source, target), [("source", source), ("target", target)]
    return {"pair": [pair], "source": sides[:1], "target": sides[1:], "either": sides, "none": []}[key]


def clean(
    pairs: list[tuple[bytes, bytes]] | list[tuple[None, bytes]],
    *,
    key: str = "pair",
    form: str = "normalised",
    rules: bool = True,
    priority: list[float] | None = None,
    against: list[tuple[str, str]] = (),  # type: ignore[assignment]
    **options: float,
) -> Cleaned:
    """The reasons of every pair. Of duplicates, the pair with the lowest priority number stays, then the lower row."""
    cleaned = Cleaned([reasons(*pair, **options) if rules else structure(*pair, **options) for pair in pairs])
    forms = {"raw": lambda side: side, "normalised": normalise}.get(form, lambda side: normalise(side, form))
    groups: dict[tuple[str, ...], list[int | None]] = {}
    for source, target in against:
        for value in keys(forms(source), forms(target), key):
            groups.setdefault(value, [None])
    for row, (source, target) in enumerate(pairs):
        if not cleaned.reasons[row]:
            for value in keys(forms((source or b"").decode()), forms(target.decode()), key):
                groups.setdefault(value, []).append(row)
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


def structure(source: bytes | None, target: bytes, *, max_line_bytes: int = 16_384) -> set[str]:
    """The reasons that hold without rules."""
    sides = [side for side in (source, target) if side is not None]
    if max(map(len, sides)) > max_line_bytes:
        return {"line_too_long"}
    try:
        [side.decode() for side in sides]
    except UnicodeDecodeError:
        return {"invalid_utf8"}
    return set()


def sampled(row: int, *, seed: int, fraction: float) -> bool:
    """Whether a row is in the tokenizer's sample."""
    return xxhash.xxh3_64_intdigest(row.to_bytes(8, "little") + b"sample", seed) <= min(
        int(fraction * 2.0**64), 2**64 - 1
    )
