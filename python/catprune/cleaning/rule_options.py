"""The options of filters and exact duplicates, checked, as the cleaning pass takes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune.cleaning.densities import max_ratios
from catprune.cleaning.languages import IDENTIFIED, base_language, scripts_of
from catprune.cleaning.options import Filters
from catprune.corpus.inputs import find_inputs
from catprune.errors import CatpruneError, UsageError
from catprune.workspace.files import read_toml
from catprune.workspace.manifest import digest_manifest, read_manifest, verify_shards
from catprune.workspace.options import changed_values, defaults_of, make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catprune.boundary import Form, Key, Prefer, Repair
    from catprune.cleaning.options import CleanOptions

#: Normalizations before texts are compared, and the default ones.
FORM = ("nfkc", "case", "white_space", "punctuation", "digits")
NORMALISED = ("nfkc", "case", "white_space", "punctuation")

#: Repairs of text, in the order in which they are applied.
REPAIRS: tuple[Repair, ...] = ("entities", "mojibake", "controls", "spaces", "punctuation", "nfc")

#: Rules that compare two sides.
PAIR_RULES = (
    "max_word_ratio",
    "max_character_ratio",
    "max_number_mismatch",
    "max_url_mismatch",
    "max_common_word_share",
    "same_terminal_punctuation",
    "keep_identical",
)


#: The option whose threshold decides a reason to drop.
OPTION_OF_REASON = {
    "control_characters": "keep_control_characters",
    "too_few_words": "min_words",
    "too_many_words": "max_words",
    "too_many_characters": "max_characters",
    "word_ratio": "max_word_ratio",
    "character_ratio": "max_character_ratio",
    "identical_sides": "keep_identical",
    "few_words_with_letters": "min_letter_word_share",
    "few_letters": "min_letter_share",
    "long_word": "max_word_characters",
    "repeated_ngrams": "max_repeated_share",
    "number_mismatch": "max_number_mismatch",
    "url_mismatch": "max_url_mismatch",
    "markup": "max_markup_share",
    "wrong_script": "min_script_share",
    "terminal_punctuation": "same_terminal_punctuation",
    "near_copy": "max_common_word_share",
    "wrong_language": "identify_language",
}


def choose_rules(options: CleanOptions, own: Mapping[str, Any]) -> dict[str, float | int | bool] | None:
    """Return the thresholds of an input: its own, then the options, then the defaults of the language pair.

    Args:
        options: the options of `clean`.
        own: thresholds of this input.

    Returns:
        Every threshold; None if the filters are off.

    Raises:
        UsageError: a threshold has no valid meaning, or compares two sides of a monolingual corpus.
    """
    if options.rules is False:
        if options.input_rules or options.identify_language:
            raise UsageError("rules = false switches all filters off: leave input_rules and identify_language out")
        return None
    checked = make(Filters, own, of="input_rules")
    # An input's own threshold counts even where it is the default: the options may have another.
    of_input = {name: getattr(checked, name) for name, value in own.items() if value is not None}
    values = {**changed_values(options.rules or Filters()), **of_input}
    if options.monolingual and (two := [name for name in PAIR_RULES if name in values]):
        raise UsageError(f"{two[0]} compares two sides: a monolingual corpus has one")
    ratios = max_ratios(options.source_lang, options.target_lang)
    return {**defaults_of(Filters), **ratios, **values}


def name_as_read(options: Any, names: Sequence[str | Path]) -> dict[str, Any]:
    """The options that name inputs, with the names of the files that are read instead of URLs and archives.

    Args:
        options: of `clean`, or the section of a run file, as they were given.
        names: what is read for each of `options.inputs`.
    """
    given: Any = [options.inputs] if isinstance(options.inputs, str | Path) else options.inputs
    if not isinstance(given, list | tuple) or len(given) != len(names):
        return {}
    changed = {str(name): str(read) for name, read in zip(given, names, strict=True) if isinstance(name, str | Path)}
    rules, prefer = options.input_rules, options.prefer
    tables = read_input_rules(rules) if isinstance(rules, str | Path) else rules
    return {
        "input_rules": [
            {**table, "input": changed[str(table["input"])]}
            if isinstance(table, Mapping) and str(table.get("input")) in changed
            else table
            for table in tables
        ],
        "prefer": prefer if isinstance(prefer, str) else [changed.get(name, name) for name in prefer],
    }


def choose_input_rules(
    sections: Sequence[Mapping[str, Any]] | str | Path, *, inputs: Sequence[Mapping[str, Any]]
) -> dict[int, dict[str, Any]]:
    """The thresholds of inputs that have their own, by the number of the input.

    Args:
        sections: for each such input `input`, its name as in the inputs (either file of a pair), and thresholds; or a
            TOML file of tables [[input_rules]] with these.
        inputs: the inputs as they were understood.

    Raises:
        UsageError: an input that is not there, or is named twice, or a threshold that has no meaning.
    """
    chosen: dict[int, dict[str, Any]] = {}
    for section in read_input_rules(sections) if isinstance(sections, str | Path) else sections:
        name = section.get("input") if isinstance(section, Mapping) else None  # pyright: ignore[reportUnnecessaryIsInstance]
        if not isinstance(name, str):
            raise UsageError("input_rules: each table needs `input`, named as in inputs")
        for number in find_inputs(name, inputs):
            if number in chosen:
                raise UsageError(f"input rules: {name} has its rules twice")
            chosen[number] = {key: value for key, value in section.items() if key != "input"}
    return chosen


def read_input_rules(path: str | Path) -> list[dict[str, Any]]:
    """The tables `[[input_rules]]` of a TOML file.

    Raises:
        UsageError: it is not such a file.
    """
    values = read_toml(Path(path))
    tables: Any = values.get("input_rules")
    if not isinstance(tables, list) or values.keys() != {"input_rules"}:
        raise UsageError(
            f"{path}: give tables [[input_rules]], each with an input and its thresholds, and nothing else"
        )
    return cast("list[dict[str, Any]]", tables)


def parse_form(text: str) -> Form:
    """Read "raw", or a list like "nfkc,case" or "normalised,digits", as the pass wants it.

    Raises:
        UsageError: a name is unknown.
    """
    chosen = [name.strip().replace("-", "_") for name in text.split(",")]
    if "raw" in chosen and len(chosen) > 1:
        raise UsageError(f"duplicates_form {text}: raw normalizes nothing: give raw alone, or leave raw out")
    if unknown := [name for name in chosen if name not in ("normalised", "raw", *FORM)]:
        raise UsageError(
            f"duplicates_form {text!r}: {unknown[0]!r} is none of normalised, raw, {', '.join(FORM)}; raw for none"
        )
    equal = {*chosen, *(NORMALISED if "normalised" in chosen else ())}
    return cast("Form", {name: name in equal for name in FORM})


def parse_repair(text: str) -> list[Repair]:
    """Read "all", "none" or a list like "mojibake,entities", in the order in which the repairs are applied.

    Raises:
        UsageError: a name is unknown.
    """
    chosen = [name.strip() for name in text.split(",")]
    if chosen in (["none"], ["all"]):
        return [] if chosen == ["none"] else list(REPAIRS)
    if unknown := [name for name in chosen if name not in REPAIRS]:
        raise UsageError(f"repair {text!r}: {unknown[0]!r} is unknown: give all, none, or some of {', '.join(REPAIRS)}")
    return [name for name in REPAIRS if name in chosen]


def parse_prefer(prefer: Sequence[str], parsed: Sequence[Mapping[str, Any]]) -> Prefer:
    """Read inputs as they were named, or one `FILE.parquet:COLUMN`, as the pass wants them; "first" if there are none.

    Raises:
        UsageError: a name is unknown.
    """
    if isinstance(prefer, str):
        raise UsageError(f"prefer = {prefer!r} is one name: give a list")
    if not prefer:
        return "first"
    path, _, column = prefer[0].rpartition(":")
    if len(prefer) == 1 and path.endswith(".parquet"):
        return {"column": {"path": str(Path(path).absolute()), "column": column}}
    numbers = [number for name in prefer for number in find_inputs(name, parsed)]
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"prefer {', '.join(prefer)}: an input is named twice")
    return {"inputs": numbers}


def choose_key(name: str, *, monolingual: bool) -> Key:
    """What records are compared by: a monolingual one is its target, so "pair" means that.

    Raises:
        UsageError: what a monolingual record does not have.
    """
    if monolingual and name in ("source", "either"):
        raise UsageError(f"duplicates by {name}: a monolingual corpus only has a target")
    return "target" if monolingual and name == "pair" else cast("Key", name)


def choose_duplicates(options: CleanOptions) -> Form:
    """The normal form in which texts are compared, as the pass takes it.

    Raises:
        UsageError: options that contradict each other.
    """
    if options.duplicates == "none" and (options.prefer or options.against or options.verify):
        raise UsageError("prefer, against and verify are options of exact duplicates: duplicates = none finds none")
    if options.verify and options.against:
        raise UsageError("verify compares the bytes of this corpus, against has only fingerprints: give one of them")
    return parse_form(options.duplicates_form)


def read_against(against: Sequence[str | Path], *, key: Key, form: Form) -> list[dict[str, Any]]:
    """The folder, digest and fingerprint shards of each corpus that this one is compared with.

    Raises:
        CatpruneError: a folder that was not cleaned, or whose fingerprints are of something else.
    """
    corpora: list[dict[str, Any]] = []
    for folder in map(Path, against):
        manifest = read_manifest(folder, step="clean")
        other = manifest["options"]["duplicates"], manifest["options"]["duplicates_form"]
        if other != (key, form):
            raise CatpruneError(
                f"{folder} has fingerprints of another kind ({other[0]}, {_form_text(other[1])}): clean both corpora "
                f"with the same duplicates and duplicates_form (here {key}, {_form_text(form)})"
            )
        verify_shards(folder, {**manifest, "shards": [], "duplicates": [], "files": {}})
        shards = [str((folder / shard["file"]).absolute()) for shard in manifest["fingerprints"]]
        corpora.append({"folder": folder, "digest": digest_manifest(folder), "shards": shards})
    return corpora


def _form_text(form: Form) -> str:
    return ",".join(name for name in FORM if form[name]) or "raw"


def language_rules(options: CleanOptions) -> tuple[dict[str, Any], list[str]]:
    """What the filters need to know of the languages, and notes on languages that are not known.

    Raises:
        UsageError: languages are to be identified, and neither can be.
    """
    identify, monolingual = options.identify_language, options.monolingual
    rules: dict[str, Any] = {}
    notes: list[str] = []
    for side, code in (("source", options.source_lang), ("target", options.target_lang)):
        scripts = scripts_of(code)
        language = IDENTIFIED.get(base_language(code)) if code and identify else None
        rules |= {f"{side}_scripts": scripts, f"{side}_language": language}
        if monolingual and side == "source":
            continue
        if code and not scripts:
            notes.append(f"the scripts of {code} are not known: wrong_script is off for the {side} side")
        if identify and not language:
            notes.append(f"{code or 'no language'} cannot be identified: wrong_language is off for the {side} side")
    if identify and not (rules["source_language"] or rules["target_language"]):
        raise UsageError(f"identify_language knows {', '.join(IDENTIFIED)}: name one of them as a side's language")
    return rules, notes
