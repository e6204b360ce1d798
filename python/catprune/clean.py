"""Clean: judge every pair by rules, find exact duplicates, and write verdicts and measures as columns."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.errors import CatpruneError, UsageError
from catprune.exclude import check_test_sets, digest_test_sets, parse_test_sets
from catprune.folder import StepFolder, finish_once
from catprune.inputs import check_unchanged, cleaned_files, input_paths, parse_inputs, relative_input
from catprune.keep import share_text
from catprune.near_duplicates import choose_near
from catprune.progress import Progress, bytes_progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DUPLICATES = ("pair", "source", "target", "none")
FORMS = ("normalised", "raw")

#: The thresholds of the rules; a pair on a threshold is kept.
RULES: dict[str, float | int | bool] = {
    "min_words": 1,
    "max_words": 150,
    "max_characters": 1024,
    "max_word_ratio": 2.0,
    "max_character_ratio": 2.0,
    "min_letter_word_share": 0.4,
    "min_letter_share": 0.5,
    "max_word_characters": 40,
    "keep_identical": False,
    "keep_control_characters": False,
}
#: Language pairs whose lengths differ more than twofold in honest translations.
WIDE_RATIO = {frozenset({"en", "sw"}): 3.0}


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What cleaning found.

    Attributes:
        folder: the column set.
        rows: records read.
        kept: records without a reason.
        reasons: how many records have each reason; one record may have several.
        manifest: everything that the folder's `manifest.json` says.
    """

    folder: Path
    rows: int
    kept: int
    reasons: Mapping[str, int]
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
    for name in ("max_word_ratio", "max_character_ratio"):
        if not 1 <= rules[name] < math.inf:
            raise UsageError(f"{name} = {rules[name]}: a ratio is a finite number from 1 on (1000 lets all through)")
    for name in ("min_letter_word_share", "min_letter_share"):
        if not 0 <= rules[name] <= 1:
            raise UsageError(f"{name} = {rules[name]}: a share lies between 0 and 1")
    for name in ("min_words", "max_words", "max_characters", "max_word_characters"):
        if not (isinstance(rules[name], int) and 0 <= rules[name] < 2**32):
            raise UsageError(f"{name} = {rules[name]}: give a whole number from 0")
    return rules


def default_memory() -> int:
    """Half of the machine's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def clean(
    inputs: Sequence[str | Path],
    *,
    out: str | Path,
    source_lang: str | None = None,
    target_lang: str | None = None,
    tags: str | Path | None = None,
    columns: tuple[int, int] = (1, 2),
    duplicates: str = "pair",
    duplicates_form: str = "normalised",
    near_duplicates: str = "none",
    near: Mapping[str, float | int | str | None] | None = None,
    exclude: Sequence[str | Path] = (),
    rules: Mapping[str, float | int | bool | None] | None = None,
    max_line_bytes: int = 16_384,
    memory: int | None = None,
    threads: int | None = None,
    verify_inputs: bool = False,
    force: bool = False,
    quiet: bool = False,
) -> Cleaned:
    """Judge every pair of a corpus; the text stays where it is.

    Args:
        inputs: two files of equal line count, or `.tsv` files, or templates like `wmt.{en,de}`; plain, gzip or zstd.
        out: the folder to write; equal work that is finished there is not done again.
        source_lang, target_lang: language codes, for the defaults of the ratio rules.
        tags: a file with a tag for every record, for example the component it comes from.
        columns: source and target column of TSV inputs, from 1.
        duplicates: what two records share to be duplicates: "pair", "source", "target", or "none" to keep them.
        duplicates_form: "normalised" (NFKC, lower case, white space, without punctuation) or "raw".
        near_duplicates: what is compared to find near duplicates among the pairs that are left: "pair", "source",
            "target", or "none" to keep them; MinHash over shingles of the normalised text (docs/near-duplicates.md).
        near: options of near duplicates by name, in the place of those of `catprune.near_duplicates.NEAR`.
        exclude: test sets whose segments must not be trained on: text files of one segment a line, or templates like
            `newstest.{en,de}`. A pair is dropped if a side stands in one (in either side of a lone file), normalised
            as duplicates are; segments of fewer than 10 characters are left out.
        rules: thresholds by name, in the place of those of `RULES`.
        max_line_bytes: longer lines are dropped and never held whole.
        memory: bytes for fingerprints, 16 a slot, at most three quarters of the slots used, and for the tables of near
            duplicates, which go to disk beyond it; half of the machine's by default.
        threads: worker threads; the machine's by default. The result does not depend on it.
        verify_inputs: hash the files of finished work again, also where size, time and inode are as they were.
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
    compared = choose_near(near_duplicates, near or {})
    folder = Path(out)
    parsed = parse_inputs(inputs, columns=columns)
    tests = parse_test_sets(exclude)
    chosen = choose_rules(rules or {}, source_lang=source_lang, target_lang=target_lang)
    for path in [path for one in parsed for path in input_paths(one)] + ([str(tags)] if tags else []):
        Path(path).stat()  # a missing file is told before a folder is made
    excluded = digest_test_sets(tests, folder)
    reads = {
        "inputs": [relative_input(one, folder) for one in parsed],
        "tags": os.path.relpath(tags, folder) if tags else None,
        "exclude": excluded,
    }
    options = {
        "source_lang": source_lang,
        "target_lang": target_lang,
        "duplicates": duplicates,
        "duplicates_form": duplicates_form,
        "near_duplicates": compared,
        "rules": chosen,
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
            total = sum(Path(path).stat().st_size for one in parsed for path in input_paths(one))
            request = {
                "corpus": {
                    "inputs": parsed,
                    "tags": str(Path(tags).absolute()) if tags else None,
                    "max_line_bytes": max_line_bytes,
                },
                "rules": chosen,
                "duplicates": duplicates,
                "duplicates_form": duplicates_form,
                "near_duplicates": compared,
                "exclude": tests,
                "input_bytes": total,
                "out": str(folder),
                "plan": step.digest,
                "threads": threads or os.cpu_count() or 1,
                "memory": memory or default_memory(),
            }
            with Progress("clean", total=total, unit="B", quiet=quiet) as bar:
                found = _core.clean(request, bytes_progress(bar))
            check_test_sets(found["excluded"], excluded)
            return _to_results(found, parsed, folder)

        manifest = finish_once(step, work)
    counts = manifest["counts"]
    return Cleaned(folder, counts["rows"], counts["kept"], counts["reasons"], manifest)


def summary(done: Cleaned, *, examples: int) -> list[str]:
    """What was dropped and why, in lines for a reader: the commonest reason first, each with a few examples."""
    lines = [f"{done.rows:,} pairs read, {share_text(done.kept, done.rows)} kept"]
    if done.kept < done.rows:
        lines.append("dropped for (several are possible):")
    for reason, count in sorted(done.reasons.items(), key=lambda item: (-item[1], item[0])):
        if not count:
            continue
        lines.append(f"  {reason:24} {share_text(count, done.rows):>20}")
        shown = done.manifest["examples"][reason][:examples]
        lines += [f"    row {one['row']}: {_shorten(one['source'])} ||| {_shorten(one['target'])}" for one in shown]
    for one in done.manifest["excluded"]:
        names = " and ".join(file["path"] for file in one["files"])
        short = f", {one['too_short']:,} of them too short to exclude a pair" if one["too_short"] else ""
        lines.append(f"{one['pairs']:,} pairs stand in {names} ({one['lines']:,} lines{short})")
    return lines


def _shorten(text: str) -> str:
    printable = "".join(character if character.isprintable() else "�" for character in text)
    return printable if len(printable) <= 50 else printable[:49] + "…"


def _to_results(found: Any, parsed: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
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
        "counts": {**found["total"], "reasons": found["reasons"], "tags": found["tags"]},
        "examples": found["examples"],
        "excluded": [{**one, "files": [relative(file) for file in one["files"]]} for one in found["excluded"]],
        "shards": found["shards"],
        "duplicates": found["duplicates"],
    }
