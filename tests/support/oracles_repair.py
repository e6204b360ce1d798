"""Repairs of text as a few lines of Python; ftfy decides what mojibake is."""

from __future__ import annotations

import re
import unicodedata
from html.entities import html5

import ftfy

_CONTROLS = "\u206a-\u206f\ufeff\ufff9-\ufffc"


def entities(text: str) -> str:
    def decode(match: re.Match[str]) -> str:
        name = match[1]
        if name[0] != "#":
            return html5.get(f"{name};", match[0])
        digits, base = (name[2:], 16) if name[1:2] in ("x", "X") else (name[1:], 10)
        allowed = "0123456789abcdefABCDEF" if base == 16 else "0123456789"
        if not digits or set(digits) - set(allowed):
            return match[0]
        code = int(digits, base)
        if code == 0 or 0xD800 <= code < 0xE000 or code > 0x10FFFF:
            return match[0]
        if 0x80 <= code < 0xA0:
            byte = bytes([code])
            return byte.decode("cp1252") if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(code)
        return " " if code in (9, 10, 11, 12, 13) else chr(code)

    if "<" in text:
        return text
    return re.sub(r"&([#0-9A-Za-z]{1,32});", decode, text)


def mojibake(text: str) -> str:
    return ftfy.fix_encoding(text)


def controls(text: str) -> str:
    text = re.sub("\x1b\\[[0-9;]*[A-Za-z]", "", text)
    text = re.sub("[\x0b\x0c\x85]", " ", text)
    return re.sub(f"[\x00-\x08\x0e-\x1f\x7f-\x9f{_CONTROLS}]", "", text)


def spaces(text: str) -> str:
    text = re.sub("[\xad\u180e\u200b\u2060\ufeff]", "", text)
    # Python's white space has four separators of files more than Unicode's.
    return re.sub(r"[^\S\x1c-\x1f]+", " ", text).strip(" ")


def punctuation(text: str) -> str:
    text = re.sub("[\u02bc\u2018-\u201b]", "'", text)
    text = re.sub("[\u201c-\u201f]", '"', text)
    text = re.sub("[\u2010-\u2013\u2212]", "-", text)
    out: list[str] = []
    for place, character in enumerate(text):
        if character not in "\u2014\u2015":
            out.append(character)
            continue
        before, after = "".join(out)[-1:], text[place + 1 : place + 2]
        out.append(
            (" " if before and not _is_space(before) else "") + "-" + (" " if after and not _is_space(after) else "")
        )
    return "".join(out)


def _is_space(character: str) -> bool:
    return character.isspace() and character not in "\x1c\x1d\x1e\x1f"


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


ORACLES = {
    "entities": entities,
    "mojibake": mojibake,
    "controls": controls,
    "spaces": spaces,
    "punctuation": punctuation,
    "nfc": nfc,
}


def repair(text: str, names: list[str]) -> str:
    """Apply repairs in their order until nothing changes."""
    for _ in range(16):
        before = text
        for name, oracle in ORACLES.items():
            if name in names:
                text = oracle(text)
        if text == before:
            break
    return text
