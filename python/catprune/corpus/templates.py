"""Names of many files: wildcards, and templates like `wmt.{en,de}`."""

from __future__ import annotations

import glob
import os
import re

from catprune.errors import UsageError

#: The sides of `wmt.{en,de}`.
_TEMPLATE = re.compile(r"\{([^{},]+),([^{},]+)\}")
#: Wildcards in file names.
_WILDCARD = re.compile(r"\*|\?|\[[^\]]+\]")


def is_pattern(text: str) -> bool:
    """Whether a name has wildcards or is a template."""
    rest = _split(text)[1]
    return bool(_TEMPLATE.search(rest) or _WILDCARD.search(rest))


def find_sides(text: str) -> tuple[str, str] | None:
    """Expand a template like `wmt.{en,de}` into two names; None if the text is not a template.

    Raises:
        UsageError: one name holds two different templates.
    """
    folder, rest = _split(text)
    templates = {match[0]: match for match in _TEMPLATE.finditer(rest)}
    if len(templates) > 1:
        raise UsageError(f"{text}: give one template, not {' and '.join(templates)}")
    for whole, match in templates.items():
        return folder + rest.replace(whole, match[1]), folder + rest.replace(whole, match[2])
    return None


def expand(text: str) -> list[str]:
    """Expand wildcards in a name into the matching files, in natural order: part-2 comes before part-10."""
    folder, rest = _split(text)
    if not _WILDCARD.search(rest):
        return [text]
    if matches := _match(folder, rest):
        return matches
    raise UsageError(f"{text}: no such file: check the name")


def expand_pairs(template: str, sides: list[str]) -> list[tuple[str, str]]:
    """Expand wildcards in the two sides of a template into pairs of files, in the natural order of the sources."""
    folder, rest = _split(template)
    if not _WILDCARD.search(rest) or all(map(_exists, sides)):
        return [(sides[0], sides[1])]
    patterns = [side[len(folder) :] for side in sides]
    matched = [_by_wildcards(folder, side) for side in patterns]
    for side, files, other in ((sides[1], matched[0], matched[1]), (sides[0], matched[1], matched[0])):
        if unpaired := [name for filled, name in files.items() if filled not in other]:
            raise UsageError(f"{template}: {unpaired[0]} has no counterpart that matches {side}")
    if not matched[0]:
        raise UsageError(f"{template}: no such file: check the name")
    return [(name, matched[1][filled]) for filled, name in matched[0].items()]


def _split(text: str) -> tuple[str, str]:
    """Split a name into the part that exists as it is spelled, folder by folder, and the rest, which may be a pattern.

    A folder `exp[1]` or `x{a,b}`, and a file of such a name, is itself and no pattern.
    """
    folder = ""
    for part in re.split("(?<=/)", text):
        if not _exists(folder + part):
            break
        folder += part
    return folder, text[len(folder) :]


def _exists(name: str) -> bool:
    return os.path.exists(name)  # noqa: PTH110  # it also answers for names that are too long


def _match(folder: str, pattern: str) -> list[str]:
    """The files in a folder that match a pattern, in natural order."""
    return sorted(glob.glob(glob.escape(folder) + pattern), key=_natural)  # noqa: PTH207


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """What names are sorted by: numbers in them by their value."""
    parts = re.split("([0-9]+)", name)
    return [(int(part), "") if number % 2 else (0, part) for number, part in enumerate(parts)], name


def _by_wildcards(folder: str, pattern: str) -> dict[tuple[str, ...], str]:
    """Return the files in a folder that match a pattern, by the parts of their names that match its wildcards."""
    pieces = _WILDCARD.split(pattern)
    parts = _WILDCARD.findall(pattern)
    wildcards = [{"*": "([^/]*)", "?": "([^/])"}.get(wildcard, f"([{_inside(wildcard)}])") for wildcard in parts]
    expression = "".join(re.escape(piece) + wild for piece, wild in zip(pieces, [*wildcards, ""], strict=True))
    matches = re.compile(expression, re.DOTALL).fullmatch
    found = ((matches(name, len(folder)), name) for name in _match(folder, pattern))
    return {match.groups() if match else (name[len(folder) :],): name for match, name in found}


def _inside(wildcard: str) -> str:
    """Return the characters of a wildcard in brackets, escaped for a regular expression."""
    characters = wildcard[1:-1].replace("\\", r"\\").replace("[", r"\[")
    return f"^{characters[1:]}" if characters.startswith("!") else characters
