"""The serde structs and enums of the Rust sources, with their fields as Python types."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RUST = Path(__file__).parents[2] / "rust"

_ITEM = re.compile(
    r"#\[derive\((?P<derive>[^)]*)\)\](?P<attributes>(?:\s*#\[[^\]]*\])*)\s*"
    r"(?:pub(?:\([a-z]+\))?\s+)?(?P<kind>struct|enum)\s+(?P<name>\w+)[^{;(]*\{"
)
_ATTRIBUTE = re.compile(r"\s*#\[((?:[^\[\]]|\[[^\]]*\])*)\]")
_OPEN, _CLOSE = "<([{", ">)]}"
_NUMBERS = {**dict.fromkeys(("u8", "u16", "u32", "u64", "usize", "i32", "i64"), "int"), "f32": "float", "f64": "float"}
_TEXTS = {"String": "str", "PathBuf": "str", "&'static str": "str", "bool": "bool"}


@dataclass(frozen=True)
class Field:
    """One field: its type, as `shape` writes types, and whether a request must have it."""

    shape: str
    required: bool


Fields = dict[str, Field]


@dataclass(frozen=True)
class Item:
    """A struct (`fields`) or an enum (`variants`: strings, or the dictionaries that stand for them)."""

    name: str
    fields: Fields
    variants: tuple[str | tuple[tuple[str, Field], ...], ...]


def variant(fields: Fields) -> tuple[tuple[str, Field], ...]:
    """The fields of a variant, in an order that does not matter."""
    return tuple(sorted(fields.items(), key=lambda item: item[0]))


def read_items() -> dict[str, list[Item]]:
    """All structures by name; different modules may have one of the same name."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(RUST.rglob("*.rs")) if "target" not in path.parts]
    bodies = [
        (match, text[match.end() : _end(text, match.end())])
        for text in (re.sub(r"//[^\n]*", "", text) for text in texts)
        for match in _ITEM.finditer(text)
        if re.search(r"\b(?:Serialize|Deserialize)\b", match["derive"])
    ]
    structs = {match["name"]: body for match, body in bodies if match["kind"] == "struct"}
    items: dict[str, list[Item]] = {}
    for match, body in bodies:
        fields = _fields(body, structs) if match["kind"] == "struct" else {}
        variants = tuple(_variants(body, match["attributes"], structs)) if match["kind"] == "enum" else ()
        item = Item(match["name"], fields, variants)
        items.setdefault(item.name, []).append(item)
    return items


def shape(text: str) -> str:
    """A Rust type in Python notation: `Vec<Option<u32>>` is `[int?]`."""
    text = " ".join(text.split())
    if plain := (_NUMBERS | _TEXTS).get(text):
        return plain
    if text.startswith("("):
        return tuple_shape([shape(part) for part in _split(text[1:-1])])
    if generic := re.fullmatch(r"([\w:]+)<(.*)>", text):
        outer, inner = generic[1].rpartition(":")[2], [shape(part) for part in _split(generic[2])]
        wrapped = {"Option": "{}?", "Vec": "[{}]", "BTreeSet": "[{}]", "BTreeMap": "{{{}}}"}
        return wrapped.get(outer, outer + "<{}>").format(inner[-1])
    return text.rpartition(":")[2]


def tuple_shape(parts: list[str]) -> str:
    """A tuple; a tuple of equal types is written like a list, which Python may pass instead."""
    return f"[{parts[0]}]" if len({*parts}) == 1 else f"({', '.join(parts)})"


def struct_shape(fields: Fields) -> str:
    """A structure without a name."""
    return "{" + ", ".join(f"{name}: {field.shape}" for name, field in sorted(fields.items())) + "}"


def _end(text: str, start: int) -> int:
    depth = 1
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if not depth:
            return place
    raise AssertionError("a brace is not closed")


def _split(text: str) -> list[str]:
    """Split at commas outside of brackets and strings."""
    parts, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character == '"'
        if quoted:
            parts[-1] += character
            continue
        depth += (character in _OPEN) - (character in _CLOSE)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _attributes(part: str) -> tuple[str, str]:
    """The attributes before a field or variant, and the rest."""
    attributes = ""
    while match := _ATTRIBUTE.match(part):
        attributes, part = attributes + match[1] + "\n", part[match.end() :]
    return attributes, part.strip()


def _fields(body: str, structs: dict[str, str]) -> Fields:
    fields: Fields = {}
    for part in _split(body):
        attributes, rest = _attributes(part)
        if re.search(r"\bskip\b", attributes):
            continue
        name, _, kind = rest.partition(":")
        name = name.split()[-1].removeprefix("r#")
        if "flatten" in attributes:
            fields |= _fields(structs[shape(kind)], structs)
            continue
        optional = shape(kind).endswith("?") or re.search(r"\bdefault\b", attributes) is not None
        fields[name] = Field(shape(kind), required=not optional)
    return fields


def _variants(body: str, attributes: str, structs: dict[str, str]) -> Iterator[str | tuple[tuple[str, Field], ...]]:
    rule = re.search(r'rename_all = "(\w+|kebab-case)"', attributes)
    tag = re.search(r'tag = "(\w+)"', attributes)
    for part in _split(body):
        own, rest = _attributes(part)
        match = re.match(r"(\w+)\s*(.*)", rest, re.DOTALL)
        assert match is not None
        explicit = re.search(r'rename = "([^"]+)"', own)
        name = explicit[1] if explicit else _renamed(match[1], rule[1] if rule else None)
        content = match[2].strip()
        if tag:
            fields = _fields(content[1:-1], structs) if content else {}
            yield variant({tag[1]: Field(repr(name), required=True), **fields})
        elif not content:
            yield repr(name)
        elif content.startswith("("):
            kinds = [shape(kind) for kind in _split(content[1:-1])]
            yield variant({name: Field(kinds[0] if len(kinds) == 1 else tuple_shape(kinds), required=True)})
        else:
            yield variant({name: Field(struct_shape(_fields(content[1:-1], structs)), required=True)})


def _renamed(name: str, rule: str | None) -> str:
    separator = {"lowercase": "", "snake_case": "_", "kebab-case": "-"}
    return name if rule is None else re.sub(r"(?<!^)(?=[A-Z])", separator[rule], name).lower()
