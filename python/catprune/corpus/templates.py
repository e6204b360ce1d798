"""Names of many files: wildcards, and templates like `wmt.{en,de}`."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from catprune.errors import UsageError

#: The sides of `wmt.{en,de}`.
TEMPLATE = re.compile(r"\{([^{},]+),([^{},]+)\}")
#: Wildcards in file names.
WILDCARD = re.compile(r"\*|\?|\[[^\]]+\]")


def expand(text: str) -> list[str]:
    """Expand wildcards in a name into the matching files, sorted; an existing file of that name is not expanded."""
    if Path(text).exists() or not WILDCARD.search(text):
        return [text]
    if found := sorted(glob.glob(text)):  # noqa: PTH207
        return found
    raise UsageError(f"{text}: no such file: check the name")


def expand_pairs(template: str, sides: list[str]) -> list[tuple[str, str]]:
    """Expand wildcards in the two sides of a template into pairs of files, sorted by the name of the source."""
    if not WILDCARD.search(template) or all(Path(side).exists() for side in sides):
        return [(sides[0], sides[1])]
    found = [{_filled(side, name): name for name in sorted(glob.glob(side))} for side in sides]  # noqa: PTH207
    for side, mine, other in ((sides[1], found[0], found[1]), (sides[0], found[1], found[0])):
        if unpaired := [name for filled, name in mine.items() if filled not in other]:
            raise UsageError(f"{template}: {unpaired[0]} has no counterpart that matches {side}")
    if not found[0]:
        raise UsageError(f"{template}: no such file: check the name")
    return sorted((name, found[1][filled]) for filled, name in found[0].items())


def _filled(pattern: str, name: str) -> tuple[str, ...]:
    """Return the parts of a name that match the wildcards of its pattern."""
    pieces = WILDCARD.split(pattern)
    wildcards = [{"*": "([^/]*)", "?": "([^/])"}.get(one, f"([{_inside(one)}])") for one in WILDCARD.findall(pattern)]
    expression = "".join(re.escape(piece) + wild for piece, wild in zip(pieces, [*wildcards, ""], strict=True))
    matched = re.fullmatch(expression, name, re.DOTALL)
    return matched.groups() if matched else (name,)


def _inside(wildcard: str) -> str:
    """Return the characters of a wildcard in brackets, escaped for a regular expression."""
    characters = wildcard[1:-1].replace("\\", r"\\").replace("[", r"\[")
    return f"^{characters[1:]}" if characters.startswith("!") else characters
