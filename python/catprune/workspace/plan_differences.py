"""What differs between two plans, in the words of the options: for the error that refuses a folder of other work."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeGuard

from catprune._core import __version__
from catprune.workspace.wording import some

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Options that a plan keeps under another name than the one that the user gave.
_OPTION_NAMES = {
    "end": "epochs or steps",
    "own": "keep or always_keep of single inputs and tags",
    "prune_while_training.method": "prune_while_training",
    "prune_while_training.ratio": "prune_ratio",
    "prune_while_training.anneal": "prune_anneal",
    "prune_while_training.cycle": "prune_cycle",
    "prune_while_training.span": "prune_span",
}
_SHARES = frozenset({"rows", "tokens", "fraction", "token_fraction"})
_DIGEST = re.compile("[0-9a-f]{32}")
_LONGEST_VALUE = 80


def describe_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Say in what the work of an old plan differs: "other options (seed was 1, is now 2)".

    Args:
        old: the plan in the folder.
        new: the plan of this call, of the same step.
    """
    options = list(_option_differences(old["options"], new["options"]))
    inputs = list(_input_differences(old["reads"], new["reads"]))
    kinds = [kind for kind, differences in (("options", options), ("inputs", inputs)) if differences]
    versions = [
        text
        for name, label in (("results", f"results of `{new.get('step')}`"), ("format", "format"))
        for text in _option_differences(old.get(name), new.get(name), label)
    ]
    if versions and old.get("catprune") != __version__:
        versions.append(f"catprune was {old.get('catprune', 'older')}, is now {__version__}")
    changed = some([*options, *inputs], separator="; ")
    return f"other {' and '.join(kinds) or 'versions'} ({'; '.join([*([changed] if changed else []), *versions])})"


def _option_differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """One text for each option that differs; options within options are named like `rules.max_words`."""
    if old == new:
        return
    if _is_mapping(old) and _is_mapping(new) and not _is_share(new):
        for key in dict.fromkeys([*new, *old]):
            yield from _option_differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        return
    yield _change(_OPTION_NAMES.get(name, name), old, new)


def _input_differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """One text for each folder or file that differs: by its path, else by its content."""
    if old == new:
        return
    if _is_mapping(old) and _is_mapping(new):
        place = next((key for key in ("path", "folder") if key in new), None)
        if place is not None and old.get(place) != new[place]:
            yield _change(name, old.get(place), new[place])
        elif place is not None:
            shown = f"{name} ({new[place]})" if name[-1:].isdigit() else name  # which of several
            yield f"{shown} changed since" + (", or rows were appended to it" if "manifest" in new else "")
        else:
            for key in dict.fromkeys([*new, *old]):
                yield from _input_differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif isinstance(old, list) and isinstance(new, list):
        before, now = list[Any](old), list[Any](new)
        if len(before) != len(now):
            yield f"the number of {name} was {len(before)}, is now {len(now)}"
            return
        for number, entries in enumerate(zip(before, now, strict=True), start=1):
            separator = "." if name[-1:].isdigit() else " "  # lists in lists: exclude 1.2
            yield from _input_differences(*entries, name=f"{name}{separator}{number}")
    else:
        yield _change(name, old, new)


def _change(name: str, old: Any, new: Any) -> str:
    if all(isinstance(value, str) and _DIGEST.fullmatch(value) for value in (old, new)):
        return f"{name} changed since"
    return f"{name} was {_text(old)}, is now {_text(new)}"


def _is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, dict)


def _is_share(value: Mapping[str, Any]) -> bool:
    """Whether a value is what a `keep` was parsed to."""
    return len(value) == 1 and value.keys() <= _SHARES


def _text(value: Any) -> str:
    """A value as a user would write it, cut where it is long."""
    if value is None:
        return "not given"
    if _is_mapping(value) and "path" in value:
        return str(value["path"])
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    if _is_mapping(value):
        entries = ", ".join(f"{key} {_text(entry)}" for key, entry in value.items())
        text = _share_text(value) if _is_share(value) else entries or "nothing"
    elif isinstance(value, list):
        text = ", ".join(map(_text, list[Any](value))) or "nothing"
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _share_text(share: Mapping[str, Any]) -> str:
    """The share as `keep` takes it: 50%, 1000, 50%tokens."""
    ((kind, amount),) = share.items()
    number = f"{float(100 * Fraction(*amount)):.10g}%" if "fraction" in kind else f"{amount}"
    return f"{number}tokens" if "token" in kind else number
