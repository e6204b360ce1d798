"""Clean: judge every pair by rules, find exact duplicates, and write verdicts and measures as columns."""

from __future__ import annotations

import math
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune import _core
from catprune.errors import CatpruneError, UsageError
from catprune.folder import StepFolder, finish_once
from catprune.inputs import check_unchanged, cleaned_files, input_paths, parse_inputs, relative_input
from catprune.keep import share_text
from catprune.languages import IDENTIFIED, scripts_of
from catprune.progress import Progress, bytes_progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DUPLICATES = ("pair", "source", "target", "none")
FORMS = ("normalised", "raw")

#: The rules and their thresholds; a pair on a threshold is kept. docs/architecture.md says what each means.
RULES: dict[str, float | int | bool] = {
    name: value for name, value in _core.default_rules().items() if isinstance(value, bool | int | float)
}
_RATIOS = ("max_word_ratio", "max_character_ratio")
_COUNTS = ("min_words", "max_words", "max_characters", "max_word_characters")
#: Language pairs whose lengths differ more than twofold in honest translations.
WIDE_RATIO = {frozenset({"en", "sw"}): 3.0}


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What cleaning found.

    Attributes:
        folder: the column set; None after a dry run.
        rows: records read.
        kept: records without a reason.
        reasons: how many records have each reason; one record may have several.
        only: how many records have this reason and no other.
        manifest: everything that the folder's `manifest.json` says.
    """

    folder: Path | None
    rows: int
    kept: int
    reasons: Mapping[str, int]
    only: Mapping[str, int]
    manifest: Mapping[str, Any]


def choose_rules(
    given: Mapping[str, float | int | bool | None], *, source_lang: str | None, target_lang: str | None
) -> dict[str, float | int | bool]:
    """The defaults, widened for the language pair, with the given thresholds in their place.

    Raises:
        UsageError: a threshold has no meaning.
    """
    rules = dict(RULES)
    for code in filter(None, (source_lang, target_lang)):
        if not re.fullmatch(r"[a-z]{2,3}([-_][A-Za-z0-9]+)*", code):
            raise UsageError(f"language {code}: give a code, like en, sw or zh-Hans")
    if wide := WIDE_RATIO.get(frozenset({source_lang or "", target_lang or ""})):
        rules |= {"max_word_ratio": wide, "max_character_ratio": wide}
    for name, value in given.items():
        if name not in rules:
            raise UsageError(f"{name} is not a rule; the rules are {', '.join(rules)}")
        if value is not None:
            rules[name] = value
    for name, value in rules.items():
        if isinstance(RULES[name], bool):
            if not isinstance(value, bool):
                raise UsageError(f"{name} = {value}: give true or false")
        elif name in _RATIOS:
            if not 1 <= value < math.inf:
                raise UsageError(f"{name} = {value}: a ratio is a finite number from 1 on (1000 lets all through)")
        elif name in _COUNTS:
            if not (isinstance(value, int) and 0 <= value < 2**32):
                raise UsageError(f"{name} = {value}: give a whole number from 0")
        elif not 0 <= value <= 1:
            raise UsageError(f"{name} = {value}: a share lies between 0 and 1")
    return rules


def choose_input_rules(
    given: Sequence[Mapping[str, Any]], names: Sequence[str], *, inputs: Sequence[Mapping[str, Any]]
) -> dict[int, dict[str, Any]]:
    """The thresholds that are other for one input than for the others, by the input's number.

    Args:
        given: for each such input `input`, its name as it was given (of two plain files either one), and thresholds.
        names: the inputs as they were given.
        inputs: the inputs as they were understood.

    Raises:
        UsageError: an input that is not there, or is named twice, or a threshold that has no meaning.
    """
    chosen: dict[int, dict[str, Any]] = {}
    for one in given:
        name = one.get("input")
        if not isinstance(name, str):
            raise UsageError("input rules: say which `input` each is for, as it is named among the inputs")
        path = str(Path(name).absolute())
        templates = [str(Path(text).absolute()) for text in names] if len(names) == len(inputs) else []
        found = [
            number
            for number, parsed in enumerate(inputs)
            if path in input_paths(dict(parsed)) or templates[number : number + 1] == [path]
        ]
        if not found:
            raise UsageError(f"input rules: {name} is not one of the inputs: {', '.join(map(str, names))}")
        if found[0] in chosen:
            raise UsageError(f"input rules: {name} has its rules twice")
        chosen[found[0]] = {key: value for key, value in one.items() if key != "input"}
    return chosen


def read_input_rules(path: str | Path) -> list[dict[str, Any]]:
    """The tables `[[input_rules]]` of a TOML file.

    Raises:
        UsageError: it is not such a file.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    tables: Any = values.get("input_rules")
    if not isinstance(tables, list) or values.keys() != {"input_rules"}:
        raise UsageError(
            f"{path}: give tables [[input_rules]], each with an input and its thresholds, and nothing else"
        )
    return cast("list[dict[str, Any]]", tables)


def default_memory() -> int:
    """Half of the machine's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def clean(
    inputs: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    source_lang: str | None = None,
    target_lang: str | None = None,
    tags: str | Path | None = None,
    columns: tuple[int, int] = (1, 2),
    duplicates: str = "pair",
    duplicates_form: str = "normalised",
    identify_language: bool = False,
    rules: Mapping[str, float | int | bool | None] | None = None,
    input_rules: Sequence[Mapping[str, Any]] = (),
    max_line_bytes: int = 16_384,
    memory: int | None = None,
    threads: int | None = None,
    verify_inputs: bool = False,
    dry_run: bool = False,
    force: bool = False,
    quiet: bool = False,
) -> Cleaned:
    """Judge every pair of a corpus; the text stays where it is.

    Args:
        inputs: two files of equal line count, or `.tsv` files, or templates like `wmt.{en,de}`; plain, gzip or zstd.
        out: the folder to write; equal work that is finished there is not done again.
        source_lang, target_lang: language codes, for the defaults of the ratio rules and the scripts of the letters.
        tags: a file with a tag for every record, for example the component it comes from.
        columns: source and target column of TSV inputs, from 1.
        duplicates: what two records share to be duplicates: "pair", "source", "target", or "none" to keep them.
        duplicates_form: "normalised" (NFKC, lower case, white space, without punctuation) or "raw".
        identify_language: drop sides of at least 40 letters that are taken for another language than the one named,
            as a whole and each half of them; for the languages of `IDENTIFIED`.
        rules: thresholds by name, in the place of those of `RULES`.
        input_rules: for an `input`, named as among the inputs, the thresholds that are other than `rules`.
        max_line_bytes: longer lines are dropped and never held whole.
        memory: bytes for fingerprints, 16 a slot, at most three quarters of the slots used; half of the machine's
            by default.
        threads: worker threads; the machine's by default. The result does not depend on it.
        verify_inputs: hash the files of finished work again, also where size, time and inode are as they were.
        dry_run: count what each rule would drop, and write nothing; `out` is not needed.
        force: replace other work in `out`, also work on files that changed since.
        quiet: show no progress bar.

    Returns:
        Counts, and where the columns are.

    Raises:
        UsageError: an option that cannot be meant.
        CatpruneError: sides of unequal length, an empty or damaged file, a folder with other work.
        OSError: a file cannot be read or written.
    """
    if duplicates not in DUPLICATES or duplicates_form not in FORMS:
        raise UsageError(f"duplicates are {', '.join(DUPLICATES)}; their forms {', '.join(FORMS)}")
    if isinstance(inputs, str | Path):
        raise UsageError(f"{inputs} is one name: give a list of inputs")
    if threads is not None and threads < 1:
        raise UsageError(f"threads = {threads}: give at least 1")
    if not 1 <= max_line_bytes < 2**20:
        raise UsageError(f"max_line_bytes = {max_line_bytes}: give 1 to {2**20 - 1}")
    if out is None and not dry_run:
        raise UsageError("give a folder to write, or ask for a dry run")
    folder = Path(out or ".")
    parsed = parse_inputs(inputs, columns=columns)
    chosen = choose_rules(rules or {}, source_lang=source_lang, target_lang=target_lang)
    for path in [path for one in parsed for path in input_paths(one)] + ([str(tags)] if tags else []):
        Path(path).stat()  # a missing file is told before a folder is made
    by_input = choose_input_rules(input_rules, [str(name) for name in inputs], inputs=parsed)
    of_languages, notes = _language_rules(source_lang, target_lang, identify=identify_language)
    of_inputs = [
        choose_rules({**(rules or {}), **by_input.get(number, {})}, source_lang=source_lang, target_lang=target_lang)
        for number in range(len(parsed))
    ]

    def run(plan: str) -> Any:
        request = {
            "corpus": {
                "inputs": parsed,
                "tags": str(Path(tags).absolute()) if tags else None,
                "max_line_bytes": max_line_bytes,
            },
            "rules": [one | of_languages for one in of_inputs],
            "duplicates": duplicates,
            "duplicates_form": duplicates_form,
            "out": str(folder),
            "dry_run": dry_run,
            "plan": plan,
            "threads": threads or os.cpu_count() or 1,
            "memory": memory or default_memory(),
        }
        total = sum(Path(path).stat().st_size for one in parsed for path in input_paths(one))
        with Progress("clean", total=total, unit="B", quiet=quiet) as bar:
            return _core.clean(request, bytes_progress(bar))

    if dry_run:
        found = _to_results(run(""), parsed, folder, notes)
        return _cleaned(None, found)
    reads = {
        "inputs": [relative_input(one, folder) for one in parsed],
        "tags": os.path.relpath(tags, folder) if tags else None,
    }
    options = {
        "source_lang": source_lang,
        "target_lang": target_lang,
        "duplicates": duplicates,
        "duplicates_form": duplicates_form,
        "identify_language": identify_language,
        "rules": chosen,
        "input_rules": {str(number): one for number, one in sorted(by_input.items())},
        "max_line_bytes": max_line_bytes,
    }
    with StepFolder(folder, step="clean", reads=reads, options=options, force=force) as step:
        if step.manifest is not None:
            read = cleaned_files(folder, step.manifest)
            if tags and step.manifest["tags"]:
                read.append({**step.manifest["tags"], "path": str(Path(tags).absolute())})
            try:
                check_unchanged(read, cache=folder / "log" / "digests.json", verify=verify_inputs)
            except CatpruneError:
                if not force:
                    raise
                step.start_over()

        manifest = finish_once(step, lambda: _to_results(run(step.digest), parsed, folder, notes))
    return _cleaned(folder, manifest)


def _language_rules(
    source_lang: str | None, target_lang: str | None, *, identify: bool
) -> tuple[dict[str, Any], list[str]]:
    """What the rules need of the languages, and notes on those that it is not known of.

    Raises:
        UsageError: languages are to be identified, and neither can be.
    """
    rules: dict[str, Any] = {}
    notes: list[str] = []
    for side, code in (("source", source_lang), ("target", target_lang)):
        scripts = scripts_of(code)
        language = IDENTIFIED.get(re.split("[-_]", code)[0]) if code and identify else None
        rules |= {f"{side}_scripts": scripts, f"{side}_language": language}
        if code and not scripts:
            notes.append(f"the scripts of {code} are not known: wrong_script is off for the {side} side")
        if identify and not language:
            notes.append(f"{code or 'no language'} cannot be identified: wrong_language is off for the {side} side")
    if identify and not (rules["source_language"] or rules["target_language"]):
        raise UsageError(f"identify_language knows {', '.join(IDENTIFIED)}: name one of them as a side's language")
    return rules, notes


def _cleaned(folder: Path | None, manifest: Mapping[str, Any]) -> Cleaned:
    counts = manifest["counts"]
    return Cleaned(folder, counts["rows"], counts["kept"], counts["reasons"], counts["only"], manifest)


def summary(done: Cleaned, *, examples: int) -> list[str]:
    """What was dropped and why, in lines for a reader: the commonest reason first, each with a few examples."""
    would = "would be " if done.folder is None else ""
    lines = [f"{done.rows:,} pairs read, {share_text(done.kept, done.rows)} {would}kept"]
    lines += done.manifest["notes"]
    if done.kept < done.rows:
        lines.append("dropped for (several are possible; in brackets those that nothing else drops):")
    for reason, count in sorted(done.reasons.items(), key=lambda item: (-item[1], item[0])):
        if not count:
            continue
        lines.append(f"  {reason:24} {share_text(count, done.rows):>20} ({done.only[reason]:,})")
        shown = done.manifest["examples"][reason][:examples]
        lines += [f"    row {one['row']}: {_shorten(one['source'])} ||| {_shorten(one['target'])}" for one in shown]
    return lines


def _shorten(text: str) -> str:
    printable = "".join(character if character.isprintable() else "�" for character in text)
    return printable if len(printable) <= 50 else printable[:49] + "…"


def _to_results(found: Any, parsed: list[dict[str, Any]], folder: Path, notes: list[str]) -> dict[str, Any]:
    """The manifest's view of what the pass returned: paths relative to the folder."""

    def relative(file: dict[str, Any]) -> dict[str, Any]:
        return {**file, "path": os.path.relpath(file["path"], folder.absolute())}

    inputs = [
        {
            **relative_input(one, folder),
            "first": read["first"],
            "end": read["end"],
            "kept": tally["kept"],
            "files": [relative(file) for file in read["files"]],
        }
        for one, read, tally in zip(parsed, found["read"]["inputs"], found["inputs"], strict=True)
    ]
    return {
        "inputs": inputs,
        "tags": relative(found["read"]["tags"]) if found["read"]["tags"] else None,
        "counts": {**found["total"], "reasons": found["reasons"], "only": found["only"], "tags": found["tags"]},
        "examples": found["examples"],
        "notes": notes,
        "shards": found["shards"],
        "duplicates": found["duplicates"],
    }
