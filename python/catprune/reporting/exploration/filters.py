"""The filters of a run: those with a stored measure have a threshold, others a switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import tomlkit

from catprune.cleaning.options import Filters
from catprune.cleaning.rule_options import OPTION_OF_REASON
from catprune.workspace.options import alternatives, fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["each", "product", "ratio", "most"]
# Filters that compare measures of cleaning with a threshold: what is measured, and how. As in rust/core, `product`
# compares `top` with the threshold times `bottom`, so that rounding decides alike.
#   each, product: a side breaks the rule;  ratio: the longer side over the shorter;  most: the larger values of both.
_MEASURED: dict[str, tuple[Kind, str, str]] = {
    "min_words": ("each", "words", ""),
    "max_words": ("each", "words", ""),
    "max_characters": ("each", "characters", ""),
    "max_word_ratio": ("ratio", "words", ""),
    "max_character_ratio": ("ratio", "characters", ""),
    "min_letter_word_share": ("each", "words_with_letter", "words"),
    "min_letter_share": ("each", "letters", "visible"),
    "max_word_characters": ("each", "longest_word", ""),
    "min_script_share": ("product", "script_letters", "letters"),
    "max_markup_share": ("each", "markup", "visible"),
    "max_number_mismatch": ("most", "unmatched_numbers", "numbers"),
}
# Other filters can be switched off: reason → section, key, and the value that does it.
_SWITCHES: dict[str, tuple[str, str, Any]] = {
    "control_characters": ("clean.rules", "keep_control_characters", True),
    "identical_sides": ("clean.rules", "keep_identical", True),
    "repeated_ngrams": ("clean.rules", "max_repeated_share", 1.0),
    "near_copy": ("clean.rules", "max_common_word_share", 1.0),
    "url_mismatch": ("clean.rules", "max_url_mismatch", 1.0),
    "terminal_punctuation": ("clean.rules", "same_terminal_punctuation", False),
    "wrong_language": ("clean", "identify_language", False),
    "duplicate": ("clean", "duplicates", "none"),
    "near_duplicate": ("clean", "near_duplicates", "none"),
}
# Records with these reasons have no two sides that were measured.
UNMEASURED = ("malformed_record", "line_too_long", "invalid_utf8", "missing_side", "columns", "empty")


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter with a threshold.

    Attributes:
        name: the option.
        help: what it means.
        reason: the reason to drop.
        kind, top, bottom: how a pair is measured.
        bound: "max" or "min".
        value: the threshold of the run.
        default: the default of the run's languages.
        least, most: bounds of the option.
        whole: whether it is a whole number.
        own: number of an input → its own threshold.
    """

    name: str
    help: str
    reason: str
    kind: Kind
    top: str
    bottom: str
    bound: str
    value: float
    default: float
    least: float
    most: float | None
    whole: bool
    own: dict[str, float]


@dataclass(frozen=True, slots=True)
class Switch:
    """A filter that can only be switched off, because its measure is not stored.

    Attributes:
        reason: the reason to drop.
        section, key: where the run file switches it off.
        off: the value that does it, in TOML.
    """

    reason: str
    section: str
    key: str
    off: str


def find_filters(
    rules: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Any]
) -> list[Filter]:
    """Return the filters with a threshold, from the thresholds of the run, of its inputs, and of its languages."""
    reasons = {option: reason for reason, option in OPTION_OF_REASON.items()}
    fields = {field.name: field for field in fields_of(Filters)}
    return [
        Filter(
            name=name,
            help=fields[name].help,
            reason=reasons[name],
            kind=kind,
            top=top,
            bottom=bottom,
            bound=name[:3],
            value=rules[name],
            default=defaults[name],
            least=fields[name].least or 0,
            most=fields[name].most,
            whole=int in alternatives(fields[name].type),
            own={number: values[name] for number, values in own.items() if values.get(name) is not None},
        )
        for name, (kind, top, bottom) in _MEASURED.items()
        if name in rules
    ]


def find_switches(manifest: Mapping[str, Any], rules: Mapping[str, Any]) -> list[Switch]:
    """Return the switches of the filters that are on."""
    options = manifest["options"]
    reads = manifest["reads"]
    values = {**options, "near_duplicates": options["near_duplicates"] or "none"}
    needed = options["verify"] or options["prefer"] or reads["against"]  # these need exact duplicates
    return [
        Switch(reason, section, key, to_toml(off))
        for reason, (section, key, off) in _SWITCHES.items()
        if (rules.get(key, off) if section == "clean.rules" else values[key]) != off
        if not (key == "duplicates" and needed)
    ]


def to_toml(value: Any) -> str:
    """Return a value as a run file spells it."""
    return tomlkit.item(value).as_string()
