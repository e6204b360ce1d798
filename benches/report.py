"""A run of the comparison as Markdown."""

from __future__ import annotations

from typing import Any


def markdown(record: dict[str, Any]) -> str:
    """Return the whole run as Markdown."""
    lines = head(record, f"{record['options']['pairs']:,} pairs, {record['started']}")
    for row in record["rows"]:
        lines += _row(row)
    return "\n".join(lines).rstrip() + "\n"


def head(record: dict[str, Any], title: str) -> list[str]:
    """Return the title, the machine and the versions."""
    machine, options = record["machine"], record["options"]
    disk = machine["scratch"]
    features = f" ({', '.join(machine['features'])})" if machine.get("features") else ""
    lines = [
        f"# {title}",
        "",
        f"catprune {machine['versions']['catprune']} at {machine['commit']}. "
        f"Median of {options['rounds']} interleaved rounds; "
        "ratios are medians of the ratios within a round.",
        "",
        f"- {machine['processor']}{features}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, load {machine['load_at_start']:.1f} at the start",
        f"- scratch on {disk['filesystem']} ({disk['device']}, {disk['disk']}, {disk['mount_options']})",
        "- " + ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
        "",
    ]
    if machine["load_at_start"] > 0.3 * machine["cores"]:
        lines += ["**The machine was busy with other work: these times compare nothing.**", ""]
    return lines


def _row(row: dict[str, Any]) -> list[str]:
    if "skipped" in row:
        return [f"## {row['name']}", "", f"Not run: {row['skipped']}", ""]
    lines = [f"## {row['title']}", ""]
    heads = ["", "seconds", f"/ {row['versus']}", "cores in use", "private MiB", "disk MiB", "kept"]
    lines += ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    notes = []
    for label, entry in row["entries"].items():
        if "seconds" not in entry:
            notes.append(f"{label} was not measured: {entry.get('skipped') or entry.get('failed') or 'no round'}.")
            continue
        once = " (once)" if len(entry["rounds"]) == 1 else ""
        cells = [
            label,
            f"{entry['seconds']:.2f}{once}",
            "" if entry["ratio"] is None else f"{entry['ratio']:.2f}",
            f"{entry['processor_seconds'] / entry['seconds']:.1f}",
            *(f"{entry[name] / 2**20:,.0f}" if name in entry else "" for name in ("private", "disk")),
            f"{entry['kept']:,}" if "kept" in entry else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for goal in row["goals"]:
        if goal["ratio"] is None:
            notes.append(f"Goal: {goal['label']} ≤ {goal['at_most']:g} × {goal['versus']}: not measured.")
        else:
            reached = "reached" if goal["ratio"] <= goal["at_most"] else "**not reached**"
            notes.append(
                f"Goal: {goal['label']} ≤ {goal['at_most']:g} × {goal['versus']}: {goal['ratio']:.2f}, {reached}."
            )
    outputs = row["outputs"]
    if outputs["differing"]:
        notes.append(f"**Outputs differ: {', '.join(outputs['differing'])} from {outputs['compared'][0]}.**")
    elif len(outputs["compared"]) > 1:
        notes.append(f"Outputs agree: {', '.join(outputs['compared'])}.")
    if row["note"]:
        notes.append(row["note"][0].upper() + row["note"][1:] + ".")
    return lines + [f"- {note}" for note in notes] + [""]
