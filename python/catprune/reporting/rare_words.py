"""The section on rare words: which of them each selection still has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catprune._core import rare_words
from catprune.corpus.inputs import resolve
from catprune.corpus.kept_rows import kept_rows
from catprune.reporting.wording import percent, visible
from catprune.workspace.resources import choose_threads

if TYPE_CHECKING:
    from catprune.boundary import RareWords
    from catprune.reporting.run_columns import Part, Steps

#: A word that occurs at most so often in the targets of the clean pairs is rare.
RARE = 5


def count_rare_words(steps: Steps, clean: Part) -> RareWords | None:
    """Count the words of the targets that every selection has, in one pass over the text; None without selections.

    The text must be unchanged: read it before with `read_texts`, which checks that.
    """
    if not steps.selections:
        return None
    return rare_words(
        {
            "corpus": resolve(clean.folder, clean.manifest),
            "kept": kept_rows(clean.folder, clean.manifest, None)[0],
            "threads": choose_threads(None),
            "selections": [
                kept_rows(clean.folder, clean.manifest, part.folder)[0] for part in steps.selections.values()
            ],
            "rare": RARE,
        }
    )


def rare_word_table(steps: Steps, counts: RareWords) -> list[list[str]]:
    """Return the cells of the table: a header, then the clean pairs and every selection."""
    scale = 2 ** counts["halvings"]
    about = "about " if counts["halvings"] else ""
    rows = [["all clean pairs", *(f"{about}{count * scale:,}" for count in counts["words"])]]
    for name, selected in zip(steps.selections, counts["selected"], strict=True):
        shares = (percent(part, whole) for part, whole in zip(selected, counts["words"], strict=True))
        rows.append([visible(name), *shares])
    return [["", "different words", "words that occur once", f"words that occur {RARE} times or less"], *rows]
