"""Clean: judge every pair by rules, find exact duplicates, and write verdicts and measures as columns."""

from __future__ import annotations

import math
import os
import re
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune import _core
from catprune.errors import CatpruneError, UsageError
from catprune.exclude import check_test_sets, digest_test_sets, parse_test_sets
from catprune.folder import StepFolder, digest_manifest, finish_once, read_manifest, verify_shards
from catprune.inputs import (
    check_unchanged,
    cleaned_files,
    find_inputs,
    input_paths,
    look,
    parse_inputs,
    relative_input,
    remember,
    spool_inputs,
)
from catprune.keep import share_text
from catprune.languages import IDENTIFIED, scripts_of
from catprune.near_duplicates import choose_near
from catprune.progress import Progress, bytes_progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DUPLICATES = ("pair", "source", "target", "either", "none")
#: What can be made equal before texts are compared, and what is by default.
FORM = ("nfkc", "case", "white_space", "punctuation", "digits")
NORMALISED = ("nfkc", "case", "white_space", "punctuation")
#: The least that the pass can be held to.
LEAST_MEMORY = 128 * 2**20

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
        if isinstance(RULES[name], bool) or isinstance(value, bool):
            if not isinstance(value, bool) or not isinstance(RULES[name], bool):
                wanted = "true or false" if isinstance(RULES[name], bool) else "a number"
                raise UsageError(f"{name} = {value}: give {wanted}")
        elif not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"{name} = {value!r}: give a number")
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
    given: Sequence[Mapping[str, Any]], *, inputs: Sequence[Mapping[str, Any]]
) -> dict[int, dict[str, Any]]:
    """The thresholds that are other for one input than for the others, by the input's number.

    Args:
        given: for each such input `input`, its name as it was given (of two plain files either one), and thresholds.
        inputs: the inputs as they were understood.

    Raises:
        UsageError: an input that is not there, or is named twice, or a threshold that has no meaning.
    """
    chosen: dict[int, dict[str, Any]] = {}
    for one in given:
        name = one.get("input")
        if not isinstance(name, str):
            raise UsageError("input rules: say which `input` each is for, as it is named among the inputs")
        for number in find_inputs(name, inputs):
            if number in chosen:
                raise UsageError(f"input rules: {name} has its rules twice")
            chosen[number] = {key: value for key, value in one.items() if key != "input"}
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


def parse_form(text: str) -> dict[str, bool]:
    """Read "normalised", "raw" or a list like "nfkc,case" as the pass wants it.

    Raises:
        UsageError: anything else.
    """
    named = {"normalised": ",".join(NORMALISED), "raw": ""}.get(text, text)
    chosen = [name.strip().replace("-", "_") for name in named.split(",") if name.strip()]
    if unknown := [name for name in chosen if name not in FORM]:
        raise UsageError(f"duplicates_form {text}: {unknown[0]} is none of normalised, raw, {', '.join(FORM)}")
    return {name: name in chosen for name in FORM}


def parse_prefer(prefer: Sequence[str], parsed: Sequence[Mapping[str, Any]]) -> dict[str, Any] | str:
    """Read inputs as they were named, or one `FILE.parquet:COLUMN`, as the pass wants them; "first" if there are none.

    Raises:
        UsageError: anything else.
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


def choose_duplicates(
    duplicates: str = "pair",
    duplicates_form: str = "normalised",
    *,
    prefer: Sequence[str] = (),
    against: Sequence[str | Path] = (),
    verify: bool = False,
) -> dict[str, bool]:
    """The form that these options of `clean` ask for, as the pass wants it.

    Raises:
        UsageError: options that cannot be meant, alone or together.
    """
    if duplicates not in DUPLICATES:
        raise UsageError(f"duplicates = {duplicates}: give one of {', '.join(DUPLICATES)}")
    if duplicates == "none" and (prefer or against or verify):
        raise UsageError("prefer, against and verify say how duplicates are found: duplicates = none finds none")
    if isinstance(against, str | Path):
        raise UsageError(f"against = {against} is one name: give a list of clean folders")
    if verify and against:
        raise UsageError("verify compares the bytes of this corpus, against has fingerprints only: give one of them")
    return parse_form(duplicates_form)


def read_against(against: Sequence[str | Path], *, key: str, form: Mapping[str, bool]) -> list[dict[str, Any]]:
    """The folder, digest and fingerprint shards of each corpus that this one is compared with.

    Raises:
        CatpruneError: a folder that was not cleaned, or whose fingerprints are of something else.
    """
    found: list[dict[str, Any]] = []
    for folder in map(Path, against):
        manifest = read_manifest(folder, step="clean")
        theirs = manifest["options"]["duplicates"], manifest["options"]["duplicates_form"]
        if theirs != (key, form):
            raise CatpruneError(
                f"{folder} has fingerprints of another kind ({theirs[0]}, {_form_text(theirs[1])}): clean both corpora "
                f"with the same --duplicates and --duplicates-form (here {key}, {_form_text(form)})"
            )
        verify_shards(folder, {**manifest, "shards": [], "duplicates": [], "files": {}})
        shards = [str((folder / shard["file"]).absolute()) for shard in manifest["fingerprints"]]
        found.append({"folder": folder, "digest": digest_manifest(folder), "shards": shards})
    return found


def _form_text(form: Mapping[str, bool]) -> str:
    return ",".join(name for name in FORM if form[name]) or "raw"


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
    columns: tuple[int, int] | None = None,
    fields: tuple[str, str] | None = None,
    format: str | None = None,
    spool: str | Path | None = None,
    duplicates: str = "pair",
    duplicates_form: str = "normalised",
    prefer: Sequence[str] = (),
    against: Sequence[str | Path] = (),
    verify: bool = False,
    near_duplicates: str = "none",
    near: Mapping[str, float | int | str | None] | None = None,
    exclude: Sequence[str | Path] = (),
    identify_language: bool = False,
    rules: Mapping[str, float | int | bool | None] | None = None,
    input_rules: Sequence[Mapping[str, Any]] = (),
    judge: bool = True,
    max_line_bytes: int = 16_384,
    memory: int | None = None,
    tmp_dir: str | Path | None = None,
    threads: int | None = None,
    verify_inputs: bool = False,
    dry_run: bool = False,
    force: bool = False,
    quiet: bool = False,
) -> Cleaned:
    """Judge every pair of a corpus; the text stays where it is.

    Args:
        inputs: two files of equal line count, or files that hold both sides (`.tsv`, `.jsonl`, `.parquet`, `.tmx`),
            or templates like `wmt.{en,de}`; plain, gzip, zstd, xz or bzip2. See `parse_inputs`. "-" alone is standard
            input, with `spool`.
        out: the folder to write; equal work that is finished there is not done again.
        source_lang, target_lang: language codes, for the defaults of the ratio rules, the scripts of the
            letters, and TMX.
        tags: a file with a tag for every record, for example the component it comes from.
        columns: source and target column of TSV inputs, from 1; the first two by default.
        fields: source and target field of JSONL and Parquet inputs; the language codes by default.
        format: what inputs hold whose names do not say it: "tsv", "jsonl", "parquet" or "tmx".
        spool: the file that standard input is copied to, because later steps read it again. If it is there, standard
            input is not read; `force` reads it again.
        duplicates: what two records share to be duplicates: "pair", "source", "target", "either" (the source or the
            target: also with a record that is dropped itself), or "none" to keep them.
        duplicates_form: what is made equal first: a list of "nfkc", "case", "white_space", "punctuation" (dropped) and
            "digits" (every digit as 0); "normalised" for all but the digits, "raw" for none.
        prefer: of duplicates the first is kept, unless this says otherwise: inputs as they are named in `inputs`, the
            most wished-for first; or one "FILE.parquet:COLUMN" with `row` and a number, the highest being kept. Of near
            duplicates it is always the first.
        against: clean folders; what they keep is dropped here (reason `duplicate_elsewhere`).
        verify: compare what duplicates share byte for byte, not by 88 bits of its hash.
        near_duplicates: what is compared to find near duplicates among the pairs that are left: "pair", "source",
            "target", or "none" to keep them; MinHash over shingles of the normalised text (docs/near-duplicates.md).
        near: options of near duplicates by name, in the place of those of `catprune.near_duplicates.NEAR`.
        exclude: test sets whose segments must not be trained on: text files of one segment a line, or templates like
            `newstest.{en,de}`. A pair is dropped if a side stands in one (in either side of a lone file), normalised
            as duplicates are; segments of fewer than 10 characters are left out.
        identify_language: drop sides of at least 40 letters that are taken for another language than the one named,
            as a whole and each half of them; for the languages of `IDENTIFIED`.
        rules: thresholds by name, in the place of those of `RULES`.
        input_rules: for an `input`, named as among the inputs, the thresholds that are other than `rules`.
        judge: False for no rules: nothing is measured, and dropped is only what is no pair of text, or duplicate.
        max_line_bytes: longer lines are dropped and never held whole.
        memory: bytes that the pass may use, 128 MiB at least; half of the machine's by default. Fingerprints
            that do not fit go through partitions on disk.
        tmp_dir: where those stand; `out` by default.
        threads: worker threads; the machine's by default. The result does not depend on it.
        verify_inputs: hash the files of finished work again, also where size, time and inode are as they were.
        dry_run: count what each rule would drop, and leave nothing behind; `out` is not needed.
        force: replace other work in `out`, also work on files that changed since.
        quiet: show no progress bar.

    Returns:
        Counts, and where the columns are.

    Raises:
        UsageError: an option that cannot be meant.
        CatpruneError: sides of unequal length, an empty or damaged file, a folder with other work.
        OSError: a file cannot be read or written.
    """
    if isinstance(inputs, str | Path):
        raise UsageError(f"{inputs} is one name: give a list of inputs")
    form = choose_duplicates(duplicates, duplicates_form, prefer=prefer, against=against, verify=verify)
    if memory is not None and memory < LEAST_MEMORY:
        raise UsageError(f"memory = {memory}: give at least {LEAST_MEMORY} bytes (128M)")
    if (rules or input_rules or identify_language) and not judge:
        raise UsageError("judge = False is for no rules at all: give none")
    if out is None and not dry_run:
        raise UsageError("give a folder to write, or ask for a dry run")
    if threads is not None and threads < 1:
        raise UsageError(f"threads = {threads}: give at least 1")
    if not 1 <= max_line_bytes < 2**20:
        raise UsageError(f"max_line_bytes = {max_line_bytes}: give 1 to {2**20 - 1}")
    compared = choose_near(near_duplicates, near or {})
    folder = Path(out or ".")
    inputs = spool_inputs(inputs, spool, format=format, force=force)
    parsed = parse_inputs(inputs, columns=columns, fields=fields, languages=(source_lang, target_lang), format=format)
    chosen = choose_rules(rules or {}, source_lang=source_lang, target_lang=target_lang)
    preferred = parse_prefer(prefer, parsed)
    by_input = choose_input_rules(input_rules, inputs=parsed)
    of_languages, notes = _language_rules(source_lang, target_lang, identify=identify_language)
    of_inputs = [
        choose_rules({**(rules or {}), **by_input.get(number, {})}, source_lang=source_lang, target_lang=target_lang)
        for number in range(len(parsed))
    ]
    for path in [path for one in parsed for path in input_paths(one)] + ([str(tags)] if tags else []):
        Path(path).stat()  # a missing file is told before a folder is made
    tests = parse_test_sets(exclude)
    excluded = digest_test_sets(tests, folder)
    if any(Path(one).absolute() == folder.absolute() for one in against):
        raise UsageError(f"against {out}: a corpus is not cleaned against the folder that it is cleaned into")
    others = read_against(against, key=duplicates, form=form)
    best = preferred["column"] if isinstance(preferred, dict) and "column" in preferred else None

    def run(into: Path, plan: str) -> dict[str, Any]:
        request = {
            "corpus": {
                "inputs": parsed,
                "tags": str(Path(tags).absolute()) if tags else None,
                "max_line_bytes": max_line_bytes,
            },
            "rules": [one | of_languages for one in of_inputs] if judge else [],
            "duplicates": duplicates,
            "duplicates_form": form,
            "verify": verify,
            "prefer": preferred,
            "against": [shard for one in others for shard in one["shards"]],
            "near_duplicates": compared,
            "exclude": tests,
            "out": str(into),
            "tmp": str(Path(tmp_dir or into).absolute()),
            "plan": plan,
            "threads": threads or os.cpu_count() or 1,
            "memory": memory or default_memory(),
        }
        total = sum(Path(path).stat().st_size for one in parsed for path in input_paths(one))
        with Progress("clean", total=total, unit="B", quiet=quiet) as bar:
            found: dict[str, Any] = _core.clean(request, bytes_progress(bar))
        check_test_sets(found["excluded"], excluded)
        return _to_results(found, parsed, folder, notes)

    if dry_run:
        # Verdicts that wait for the end of the corpus need the columns for a while.
        with tempfile.TemporaryDirectory(prefix="catprune-", dir=tmp_dir or Path.cwd()) as scratch:
            return _cleaned(None, run(Path(scratch), f"dry-{os.getpid()}"))
    reads = {
        "inputs": [relative_input(one, folder) for one in parsed],
        "tags": os.path.relpath(tags, folder) if tags else None,
        "against": [{"folder": os.path.relpath(one["folder"], folder), "digest": one["digest"]} for one in others],
        "prefer": {"path": os.path.relpath(best["path"], folder), "digest": _core.digest_file(best["path"])}
        if best
        else None,
        "exclude": excluded,
    }
    options = {
        "source_lang": source_lang,
        "target_lang": target_lang,
        "duplicates": duplicates,
        "duplicates_form": form,
        "prefer": best["column"] if best else preferred["inputs"] if isinstance(preferred, dict) else None,
        "verify": verify,
        "near_duplicates": compared,
        "identify_language": identify_language,
        "rules": chosen if judge else None,
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

        def work() -> dict[str, Any]:
            before = [look(path) for one in parsed for path in input_paths(one)]
            results = run(folder, step.digest)
            remember(cleaned_files(folder, results), before, cache=folder / "log" / "digests.json")
            return results

        manifest = finish_once(step, work)
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
    if done.rows and done.rows == done.reasons["malformed_record"] + done.reasons["missing_side"]:
        lines.append(
            "no record is a pair: say with --fields, --columns, --format or the languages where the sides stand"
        )
    for one in done.manifest["excluded"]:
        names = " and ".join(file["path"] for file in one["files"])
        short = f", {one['too_short']:,} of them too short to exclude a pair" if one["too_short"] else ""
        lines.append(f"{one['pairs']:,} pairs stand in {names} ({one['lines']:,} lines{short})")
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
        "excluded": [{**one, "files": [relative(file) for file in one["files"]]} for one in found["excluded"]],
        "shards": found["shards"],
        "fingerprints": found["fingerprints"],
        "duplicates": found["duplicates"],
    }
