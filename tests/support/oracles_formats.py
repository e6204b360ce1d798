"""Oracles of the readers: the pair or the reason of each record, in a few lines that hold everything in memory."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

from support import oracles

Found = tuple[bytes, bytes] | str


def field(record: Any, name: str) -> Any:
    if isinstance(record, dict) and name in record and name.split(".")[0] not in record:
        return record[name]
    for part in name.split("."):
        record = record[part] if isinstance(record, dict) and part in record else None
    return record


def text(value: str) -> bytes:
    """A string as bytes; lone surrogates (bytes that are not UTF-8) become invalid bytes again."""
    return value.encode(errors="surrogatepass")


def jsonl(data: bytes, fields: tuple[str, str], *, limit: int = 16_384) -> list[Found]:
    records: list[Found] = []
    for line in oracles.lines(data):
        if len(line) > limit:
            records.append("line_too_long")
            continue
        try:
            record = json.loads(line.decode(errors="surrogateescape"))
        except (ValueError, RecursionError):
            record = None
        sides = [field(record, name) for name in fields]
        good = all(isinstance(side, str) for side in sides)
        records.append((text(sides[0]), text(sides[1])) if good else "malformed_record")
    return records


def table(rows: list[dict[str, Any]], fields: tuple[str, str], *, limit: int = 16_384) -> list[Found]:
    records: list[Found] = []
    for row in rows:
        sides = [field(row, name) for name in fields]
        sides = [side.encode() if isinstance(side, str) else side for side in sides]
        long = None not in sides and max(map(len, sides)) > limit
        records.append("malformed_record" if None in sides else "line_too_long" if long else (sides[0], sides[1]))
    return records


def segment_text(element: ElementTree.Element, *, is_code: bool = False) -> str:
    """The text of a segment: codes are markup of another format, except for the text that they mark as such."""
    own = "" if is_code else element.text or ""
    for child in element:
        code = child.tag in {"bpt", "ept", "ph", "it", "ut"} or (is_code and child.tag != "sub")
        own += segment_text(child, is_code=code) + ("" if is_code else child.tail or "")
    return own


def tmx(data: bytes, languages: tuple[str, str], *, limit: int = 16_384) -> list[Found]:
    records: list[Found] = []
    for unit in ElementTree.fromstring(data).iter("tu"):
        variants: list[list[bytes]] = [[], []]
        for variant in unit.iter("tuv"):
            code = variant.get("{http://www.w3.org/XML/1998/namespace}lang", variant.get("lang", ""))
            for segment in variant.iter("seg"):
                for side, language in enumerate(languages):
                    if re.fullmatch(rf"{language}([-_].*)?", code, re.IGNORECASE):
                        variants[side].append(segment_text(segment).encode())
        pairs = [(source, target) for source in variants[0] for target in variants[1]]
        long = [max(map(len, pair)) > limit for pair in pairs]
        records += ["line_too_long" if over else pair for over, pair in zip(long, pairs, strict=True)] or [
            "missing_side"
        ]
    return records


def is_xml(text: str) -> bool:
    """Whether XML 1.0 has all characters of a text."""
    return not re.search("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)


def clean(records: list[Found]) -> list[set[str]]:
    """The reasons of every record, without duplicates."""
    return [
        {record} if isinstance(record, str) else oracles.reasons(*record, max_line_bytes=1 << 30) for record in records
    ]
