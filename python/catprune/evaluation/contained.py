"""Lines of dev and test sets that are also in the training text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from catprune.corpus.open_corpus import open_corpus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from catprune.corpus.bitexts import Bitext

#: Shorter lines occur in many corpora without having leaked; `clean` ignores them, too.
LEAST_CHARACTERS = 10


def count_contained(clean: Path, sets: Sequence[Bitext]) -> dict[str, int]:
    """Count the lines of held-out sets of which a side is, as it is, a side of a clean pair; one pass over the text.

    White space around a line makes no difference. `clean --exclude` also finds lines that differ in case, punctuation
    or the form of their characters.

    Args:
        clean: a finished clean folder.
        sets: dev and test sets.

    Returns:
        Name of the set → number of its lines.
    """
    import pyarrow
    import pyarrow.compute as compute

    sides = ("source", "target")
    lines = {side: [line.strip() for bitext in sets for line in getattr(bitext, side)] for side in sides}
    known: Any = {
        side: pyarrow.array(
            dict.fromkeys(line for line in lines[side] if len(line) >= LEAST_CHARACTERS), pyarrow.large_string()
        )
        for side in sides
    }
    is_in_text = {side: np.zeros(len(known[side]), np.bool_) for side in sides}
    functions: Any = compute
    for batch in open_corpus(clean):
        for side in sides:
            texts = functions.utf8_trim_whitespace(batch[side])
            places = functions.index_in(texts, value_set=known[side]).drop_null()
            is_in_text[side][places.to_numpy(zero_copy_only=False)] = True
    leaked = {side: set(known[side].filter(pyarrow.array(is_in_text[side])).to_pylist()) for side in sides}
    return {
        bitext.name: sum(
            source.strip() in leaked["source"] or target.strip() in leaked["target"]
            for source, target in zip(bitext.source, bitext.target, strict=True)
        )
        for bitext in sets
    }
