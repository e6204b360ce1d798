"""Checks of the sections of a run file: everything that a later step would refuse, as far as it is known before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.cleaning.minhash_options import choose_near
from catprune.cleaning.rule_options import (
    choose_duplicates,
    choose_input_rules,
    choose_key,
    choose_rules,
    language_rules,
    name_as_read,
    parse_prefer,
)
from catprune.corpus.inputs import check_fields, inputs_of
from catprune.corpus.remote import stand_in
from catprune.selection.request import check_column, check_options
from catprune.writing.outputs import check_added, describe_output, name_sides, output_paths

if TYPE_CHECKING:
    from collections.abc import Sequence


def column_of(section: Any) -> str:
    """Return the name of a scorer's column."""
    default = section.scorer.rpartition(":")[2]
    return section.name or (f"{default}-margin" if section.margin else default)


def check_cleaning(clean: Any) -> None:
    """Check the options of [clean] against each other and against the inputs."""
    options = clean.checked()
    if options.fields and not options.monolingual:
        check_fields(options.fields)
    languages = options.source_lang, options.target_lang
    names = [stand_in(name, languages) for name in clean.inputs]
    inputs, named = inputs_of(clean, names), name_as_read(options, names)
    parse_prefer(named["prefer"], inputs)
    for own in ({}, *choose_input_rules(named["input_rules"], inputs=inputs).values()):
        choose_rules(options, own)
    choose_duplicates(options)
    for key in (options.duplicates, options.near_duplicates):
        choose_key(key, monolingual=options.monolingual)
    choose_near(options.near_duplicates, options.near)
    language_rules(options)


def check_scorers(scorers: Sequence[Any], clean: Any, checkpoints: Sequence[str]) -> None:
    """Check that scorers have pairs, and columns of different names."""
    if scorers and clean.monolingual:
        raise ValueError("scorer: scorers need pairs, the corpus is monolingual")
    columns = [column_of(section) for section in scorers]
    for section in scorers:
        check_column(column_of(section))
        if columns.count(column_of(section)) > 1 or column_of(section) in checkpoints:
            raise ValueError(f"scorer: two columns are named {column_of(section)}: give one of them another name")


def check_selection(section: Any, clean: Any, checkpoints: Sequence[str]) -> None:
    """Check that the run will have what a selection reads."""
    ranking, _ = check_options(section.checked("name", "tokens_of"))
    named = checkpoints if section.checkpoints is None else section.checkpoints
    if unknown := [name for name in named if name not in checkpoints or named.count(name) > 1]:
        raise ValueError(
            f"{section.name}: checkpoint {unknown[0]} is unknown or named twice: use {', '.join(checkpoints)}"
        )
    for method in ranking.methods:
        if method.reads in ("reference", "directions"):
            raise ValueError(
                f"{section.name}: {method.name} needs a model that a run does not train: train it, score with "
                "it and select with the commands of the steps"
            )
        if len(named) < method.needs:
            raise ValueError(
                f"{section.name}: {method.name} needs {method.needs} checkpoints, there will be {len(named)}"
            )
    if not checkpoints and (section.tokens_of or ranking.counts_tokens):
        raise ValueError(f"{section.name}: a token budget needs the scores of [train]")
    if clean.tags is None and (section.within == "tag" or any(own.of == "tag" for own in ranking.own)):
        option_text = "within = tag" if section.within == "tag" else ranking.own[0].label
        raise ValueError(f"{section.name}: {option_text} needs tags: give [clean] a file of tags in a run file (tags)")


def check_outputs(section: Any, clean: Any) -> None:
    """Check that the outputs of [write] can hold what is written."""
    for outputs in filter(None, (section.outputs, section.dropped)):
        languages = {"source_lang": clean.source_lang, "target_lang": clean.target_lang}
        names = name_sides(section.fields, languages, monolingual=clean.monolingual)
        output = describe_output([Path(path) for path in outputs], names)
        check_added(section.checked().with_, {"output": output}, has_scores=section.selection is not None)
    output_paths(section.outputs, dropped=section.dropped, tags=section.tags)
    if (section.tags is not None or "tag" in section.checked().with_) and clean.tags is None:
        raise ValueError("write: tags need the tags of [clean]")
