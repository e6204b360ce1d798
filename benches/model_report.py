"""A run of the model benchmark as Markdown: goals and results first, then the rows."""

from __future__ import annotations

from typing import Any

from report import head


def markdown(record: dict[str, Any]) -> str:
    """Return the whole run as Markdown."""
    options = record["options"]
    lines = head(record, f"Models, {options['pairs']:,} pairs, {record['started']}")
    lines += [
        f"{options['source']}, {options['target']}: {options['pairs']:,} pairs in batches of the first block, "
        f"drawn at random; a vocabulary of {options['vocab_size']:,}; random weights, preset {options['preset']}.",
        "",
        "| work | goal | measured | |",
        "|---|---|---|---|",
    ]
    words = {True: "reached", False: "**not reached**", None: "not measured"}
    for row in record["rows"]:
        lines += [
            f"| {answer['work']} | {answer['asked']} | {answer['measured']} | {words[answer['reached']]} |"
            for answer in row["answers"]
        ]
    lines.append("")
    for row in record["rows"]:
        lines += _row(row)
    return "\n".join(lines).rstrip() + "\n"


def _row(row: dict[str, Any]) -> list[str]:
    lines = [f"## {row['title']}", ""]
    timed = {label: entry for label, entry in row["entries"].items() if "tokens_per_second" in entry}
    if timed:
        versus = row["versus"] or "first"
        lines += [
            f"| | target tokens | tokens/s | / {versus} | tokens/s of processor time | rounds |",
            "|---|---:|---:|---:|---:|---:|",
        ]
    for label, entry in timed.items():
        ratio = "" if entry["ratio"] is None else f"{entry['ratio']:.2f}"
        lines.append(
            f"| {label} | {entry['tokens']:,} | {entry['tokens_per_second']:,.0f} | {ratio} "
            f"| {entry['tokens_per_processor_second']:,.0f} | {len(entry['rounds'])} |"
        )
    if timed:
        lines.append("")
    products = {
        label: entry["rounds"] for label, entry in row["entries"].items() if label.startswith("matrix products")
    }
    for label, rounds in products.items():
        if rounds:
            lines += _products(label, rounds)
    missing = [label for label, entry in row["entries"].items() if not entry["rounds"]]
    notes = [*row["notes"], *(f"{label} was not measured" for label in missing)]
    return lines + [f"- {note[0].upper()}{note[1:]}." for note in notes] + [""]


def _products(label: str, rounds: list[dict[str, Any]]) -> list[str]:
    """Return a table of the best rate of every shape over the rounds."""
    best = {shape: max(result["rates"][shape] for result in rounds) / 1e9 for shape in rounds[0]["rates"]}
    shapes = [f"| {shape} | {rate:.0f} |" for shape, rate in best.items()]
    model = max(result["of_the_model"] for result in rounds) / 1e9
    return [
        f"| {label} | GFLOP/s |",
        "|---|---:|",
        *shapes,
        f"| all shapes of the model, weighted by use | {model:.0f} |",
        "",
    ]
