"""The summary of a selection: counts, groups, warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catprune.selection.methods import CLUSTERED, METHODS, keeps_hard
from catprune.workspace.wording import share_text

if TYPE_CHECKING:
    from catprune.selection.select import Selected

#: More groups than this are summarized in one line.
_GROUPS_SHOWN = 12
#: Types of score columns that float32 does not hold exactly.
_WIDE = ("float64", "double", "int32", "int64", "uint32", "uint64")
#: From this share of the kept pairs on, ties at the cut are a warning.
_MOST_TIES = 0.01


def summary(done: Selected) -> list[str]:
    """Summarize a selection in lines, with warnings at the end."""
    return [*counts_text(done), *filter(None, (caution(done), advice(done)))]


def counts_text(done: Selected) -> list[str]:
    """Summarize the kept pairs, tokens and ties in lines."""
    lines = [
        f"{share_text(done.kept, done.scored)} of {done.scored:,} scored pairs kept; {done.unscored:,} have no score"
    ]
    lines += _group_lines(done)
    if done.guarded > done.condensed:
        lines.append(f"{done.guarded - done.condensed:,} more pairs do not meet a condition of where")
    if done.condensed:
        lines.append(f"{done.condensed:,} more pairs are near duplicates of a pair that ranks better")
    if done.trusted:
        lines.append(f"{done.trusted:,} of the kept pairs are always kept and were not ranked")
    if done.tokens is not None and done.tokens_kept is not None:
        lines.append(f"{share_text(done.tokens_kept, done.tokens)} of {done.tokens:,} target tokens kept")
    if done.decided_by_ties:
        lines.append(_ties_line(done))
        kinds = [file.get("type") for file in done.manifest["reads"].get("files", [])]
        if wide := next((kind for kind in kinds if kind in _WIDE), None):
            lines.append(f"scores are compared as float32: {wide} values that are closer than that are ties")
    return lines


def _ties_line(done: Selected) -> str:
    """How many pairs share the score at the cut: a warning from 1% of the kept pairs on."""
    how = "the first of them are kept" if done.manifest["options"]["ties"] == "row" else "drawn at random"
    if done.decided_by_ties <= done.kept * _MOST_TIES:
        return f"{done.decided_by_ties:,} pairs share the score at the cut: {how}"
    advice = "; set ties to random, or rank by a finer score" if how.startswith("the first") else ""
    return (
        f"warning: {done.decided_by_ties:,} pairs share the score at the cut "
        f"({done.decided_by_ties / done.kept:.1%} of the kept pairs): {how}{advice}"
    )


def _group_lines(done: Selected) -> list[str]:
    """Summarize the groups: one line per group if there are few, otherwise one line for all."""
    options, count = done.manifest["options"], len(done.groups)
    if not count:
        return []
    sizes = [group["scored"] for group in done.groups]
    if not (options["within"] or options.get("own")):
        range_text = f"of {min(sizes):,} to {max(sizes):,} scored pairs"
        if options["method"] == CLUSTERED:
            whole = sum(group["kept"] == group["scored"] for group in done.groups)
            return [f"  drawn evenly from {count:,} clusters {range_text}; {whole:,} of them are kept whole"]
        return [f"  ranked separately by exposure: {count} groups {range_text}"]
    unit = " target tokens" if options["within"] == "length" and done.tokens is not None else ""
    unit = unit or (" characters" if options["within"] == "length" else "")
    if count > _GROUPS_SHOWN:
        shares = [group["kept"] / group["scored"] for group in done.groups if group["scored"]]
        return [
            f"  {count:,} groups of {min(sizes):,} to {max(sizes):,} scored pairs keep {min(shares, default=0):.1%} to "
            f"{max(shares, default=0):.1%} (--json lists them)"
        ]
    return [
        f"  {group['name'] or 'all others'}{unit if group['name'][:1].isdigit() else ''}: "
        f"{share_text(group['kept'], group['scored'])} of {group['scored']:,} kept"
        + (f"; {group['unscored']:,} have no score" if group["unscored"] else "")
        for group in done.groups
    ]


def caution(done: Selected) -> str | None:
    """Return a warning if rows of different exposure were ranked together by choice."""
    options = done.manifest["options"]
    # Clusters of loss trajectories replace groups by exposure.
    if not done.uneven_exposure or options["by_exposure"] or options["method"] == CLUSTERED:
        return None
    return (
        f"{', '.join(done.uneven_exposure)}: trained on some pairs more often than on others, and the ranking depends "
        "on that; leave by_exposure on, or use checkpoints after whole epochs"
    )


def advice(done: Selected) -> str | None:
    """Return a note if the kept end holds pairs that are hard to learn, or is not the recommended end."""
    options = done.manifest["options"]
    method = next((method for method in METHODS if method.name == done.method), None)
    if method is None or not method.direction:
        return None
    direction = options["direction"]
    if keeps_hard(method, direction, options.get("on")):
        return f"note: the {direction} of {method.name} holds pairs that are hard to learn, and noise: {method.advice}"
    if direction != method.direction:
        return f"note: {method.name} should keep the {method.direction}: {method.advice}"
    return None
