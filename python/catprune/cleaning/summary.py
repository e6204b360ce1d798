"""The result of cleaning, in lines for a reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catprune.cleaning.rule_options import OPTION_OF_REASON, REPAIRS
from catprune.corpus.inputs import is_monolingual
from catprune.workspace.terminal import printable
from catprune.workspace.wording import first_difference, new_text, share_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from catprune.cleaning.clean import Cleaned

#: Characters of a side that an example shows, and how many of them are before the first difference of the sides.
_SHOWN, _BEFORE = 50, 15
#: A filter that drops a larger share of the records is a warning.
_MOST_DROPPED = 0.3


def summary(done: Cleaned, *, examples: int = 3) -> list[str]:
    """What was dropped and why, the most frequent reason first, each with a few examples."""
    would = "would be " if done.folder is None else ""
    monolingual = is_monolingual(done.manifest)
    unit = "texts" if monolingual else "pairs"
    new = new_text(done.new, done.rows)
    lines = [f"{done.rows:,} {unit} read{new}, {share_text(done.kept, done.rows)} {would}kept"]
    suspicious = [(reason, count) for reason, count in done.reasons.items() if count > _MOST_DROPPED * done.rows]
    warnings = [note for note in done.manifest["notes"] if note.startswith("warning: ")]
    lines[:0] = [
        *warnings,
        *_test_set_warnings(done),
        *(_warning(reason, count, done) for reason, count in suspicious if reason in OPTION_OF_REASON),
    ]
    lines += [note for note in done.manifest["notes"] if note not in warnings]
    lines += _repaired(done, unit, examples)
    if done.kept < done.rows:
        counted = "; rows count from 0" if examples else ""
        lines.append(f"reasons to drop (a record may have several; in brackets: the only reason{counted}):")
    for reason, count in sorted(done.reasons.items(), key=lambda item: (-item[1], item[0])):
        if count:
            lines.append(f"  {reason:24} {share_text(count, done.rows):>20} ({done.only[reason]:,})")
            shown = done.manifest["examples"][reason][:examples]
            lines += [f"    row {example['row']}: {_example(example)}" for example in shown]
    if done.rows and done.rows == done.reasons["malformed_record"] + done.reasons.get("missing_side", 0):
        lines.append(
            f"no record is a {unit[:-1]}: specify where the text is, with fields, columns, format or the languages"
        )
    if done.reasons["columns"]:
        lines.append(
            "columns: the first line of a TSV file says how many columns its lines have; give header = true if that "
            "line holds names"
        )
    for test_set in done.manifest["excluded"]:
        names = _names(test_set)
        short = f", {test_set['too_short']:,} of them too short to match" if test_set["too_short"] else ""
        lines.append(f"{test_set['pairs']:,} {unit} are in {names} ({test_set['lines']:,} lines{short})")
    return lines


def _repaired(done: Cleaned, unit: str, examples: int) -> list[str]:
    """What each repair changed, with a few examples: the stored and the repaired sides."""
    repairs = done.manifest["repairs"]
    lines = [f"repairs ({unit} that each changed; several may change one):"] if repairs else []
    for name in (name for name in REPAIRS if name in repairs):
        counts = repairs[name]
        lines.append(f"  {name:24} {share_text(counts['records'], done.rows):>20}")
        for example in counts["examples"][:examples]:
            for side in ("source", "target"):
                stored, repaired = example[f"stored_{side}"], example[side]
                if stored != repaired:
                    change = _example({"source": stored, "target": repaired}, " → ")
                    lines.append(f"    row {example['row']}: {change}")
    return lines


def _names(test_set: Mapping[str, Any]) -> str:
    return " and ".join(file["path"] for file in test_set["files"])


def _test_set_warnings(done: Cleaned) -> list[str]:
    """The test sets that exclude nothing because of what they hold."""
    warnings: list[str] = []
    for test_set in done.manifest["excluded"]:
        if test_set["too_short"] == test_set["segments"]:
            warnings.append(f"warning: no line of {_names(test_set)} can match: all of them are too short")
        elif not test_set["pairs"] and 2 * test_set["markup"] > test_set["segments"]:
            warnings.append(
                f"warning: no pair is in {_names(test_set)}, whose lines look like markup: give the segments as lines, "
                "TSV, .sgm or .xml"
            )
    return warnings


def _warning(reason: str, count: int, done: Cleaned) -> str:
    """A filter that drops so much that its threshold may not suit the text."""
    option = OPTION_OF_REASON[reason]
    value = (done.manifest["options"]["rules"] or {}).get(option)
    threshold = f" (now {value:g})" if isinstance(value, int | float) and not isinstance(value, bool) else ""
    return f"warning: {reason} drops {share_text(count, done.rows)}: if the text is good, change {option}{threshold}"


def _example(example: Mapping[str, Any], between: str = " ||| ") -> str:
    """The sides of an example; where long sides begin alike, the part around their first difference."""
    sides = [printable(example[side]).replace("\n", "\\n") for side in ("source", "target") if side in example]
    begin = 0
    if len(sides) == 2 and sides[0] != sides[1]:
        alike = first_difference(*sides)
        begin = alike - _BEFORE if alike >= _SHOWN - _BEFORE else 0
    return between.join(_window(side, begin) for side in sides)


def _window(text: str, begin: int) -> str:
    """At most `_SHOWN` characters of a text from a place on."""
    part = ("…" if begin else "") + text[begin:]
    return part if len(part) <= _SHOWN else part[: _SHOWN - 1] + "…"
