"""Clean: judge every record by rules, find exact duplicates, and write verdicts and measures as columns."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune import _core
from catprune.cleaning.minhash_options import choose_near
from catprune.cleaning.rule_options import (
    PAIR_RULES,
    choose_duplicates,
    choose_input_rules,
    choose_key,
    choose_rules,
    language_rules,
    parse_prefer,
    read_against,
)
from catprune.cleaning.test_sets import check_test_sets, digest_test_sets, parse_test_sets
from catprune.corpus.inputs import input_paths, is_monolingual, parse_inputs, relative_input
from catprune.corpus.spool import spool_inputs
from catprune.corpus.unchanged import check_unchanged, cleaned_files, file_at, look, remember
from catprune.errors import CatpruneError, UsageError
from catprune.workspace.manifest import verify_shards
from catprune.workspace.progress import Progress, bytes_progress
from catprune.workspace.resources import choose_memory, choose_threads
from catprune.workspace.step_folder import StepFolder, finish_once
from catprune.workspace.wording import new_text, share_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catprune.boundary import CleanRequest, CleanResult, FileRead, Input, Rules

#: The least that the pass can be held to.
LEAST_MEMORY = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What cleaning found.

    Attributes:
        folder: the column set; None after a dry run.
        rows: records read.
        kept: records without a reason.
        reasons: how many records have each reason; one record may have several.
        only: how many records have this reason and no other.
        new: records of inputs that this call joined to others; 0 where all were cleaned, or none.
        manifest: everything that the folder's `manifest.json` says.
    """

    folder: Path | None
    rows: int
    kept: int
    reasons: Mapping[str, int]
    only: Mapping[str, int]
    new: int
    manifest: Mapping[str, Any]


def clean(
    inputs: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    source_lang: str | None = None,
    target_lang: str | None = None,
    tags: str | Path | None = None,
    columns: tuple[int, int] | int | None = None,
    fields: tuple[str, str] | str | None = None,
    format: str | None = None,
    monolingual: bool = False,
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
    memory: int | str | None = None,
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
        monolingual: each record is one text, the target, and has no source: inputs are files of lines, or one column or
            field of the others ("text" by default). Rules and measures of a source, and rules that compare two sides,
            do not apply; duplicates of a "pair" are those of the target. Later steps see it in the manifest.
        spool: the file that standard input is copied to, because later steps read it again. If it is there, standard
            input is not read, which is said on standard error; `force` reads it again.
        duplicates: what two records share to be duplicates: "pair", "source", "target", "either" (the source or the
            target: also with a record that is dropped itself), or "none" to keep them.
        duplicates_form: what is made equal first: a list of "nfkc", "case", "white_space", "punctuation" (dropped) and
            "digits" (every digit as 0), "normalised" standing for all but the digits; "raw" for none.
        prefer: of duplicates the first is kept, unless this says otherwise: inputs as they are named in `inputs`, the
            most wished-for first; or one "FILE.parquet:COLUMN" with `row` and a number, the highest being kept. Of near
            duplicates it is always the first.
        against: clean folders; what they keep is dropped here (reason `duplicate_elsewhere`).
        verify: compare what duplicates share byte for byte, not by 88 bits of its hash.
        near_duplicates: what is compared to find near duplicates among the pairs that are left: "pair", "source",
            "target", or "none" to keep them; MinHash over shingles of the normalised text (docs/near-duplicates.md).
        near: options of near duplicates by name, in the place of those of `catprune.cleaning.minhash_options.NEAR`.
        exclude: test sets whose segments must not be trained on: text files of one segment a line, or templates like
            `newstest.{en,de}`. A pair is dropped if a side stands in one (in either side of a lone file), normalised
            as duplicates are; segments of fewer than 10 characters are left out.
        identify_language: drop sides of at least 40 letters that are taken for another language than the one named,
            as a whole and each half of them; for the languages of `IDENTIFIED`.
        rules: thresholds by name, in the place of those of `RULES`.
        input_rules: for an `input`, named as among the inputs, the thresholds that are other than `rules`.
        judge: False for no rules: nothing is measured, and dropped is only what is no pair of text, or duplicate.
        max_line_bytes: longer lines are dropped and never held whole.
        memory: bytes that the pass may use, also as text like "4G", 128 MiB at least; half of the machine's by
            default. Fingerprints that do not fit go through partitions on disk.
        tmp_dir: where those stand; `out` by default.
        threads: worker threads; the machine's by default. The result does not depend on it.
        verify_inputs: hash the files of finished work again, also where size, time and inode are as they were.
        dry_run: count what each rule would drop, and leave nothing behind; `out` is not needed.
        force: replace other work in `out`, also work on files that changed since.
        quiet: show no progress bar.

    Returns:
        Counts, and where the columns are.

    If `out` is finished work on the first of these inputs, the others are joined to it: only they are read, and their
    rows go on from the others'. What was decided stays; a pair that is kept already is a `duplicate_elsewhere` among
    the new ones, and near duplicates are looked for among the new ones alone. `force` cleans all of them anew.

    Raises:
        UsageError: an option that cannot be meant.
        CatpruneError: sides of unequal length, an empty or damaged file, a folder with other work.
        OSError: a file cannot be read or written.
    """
    if isinstance(inputs, str | Path):
        raise UsageError(f"{inputs} is one name: give a list of inputs")
    key = choose_key(duplicates, monolingual=monolingual)
    form = choose_duplicates(key, duplicates_form, prefer=prefer, against=against, verify=verify)
    taken = {"threads": choose_threads(threads), "memory": choose_memory(memory, least=LEAST_MEMORY)}
    if (rules or input_rules or identify_language) and not judge:
        raise UsageError("judge = False is for no rules at all: give none")
    if out is None and not dry_run:
        raise UsageError("give a folder to write, or ask for a dry run")
    if not 1 <= max_line_bytes < 2**20:
        raise UsageError(f"max_line_bytes = {max_line_bytes}: give 1 to {2**20 - 1}")
    compared = choose_near(choose_key(near_duplicates, monolingual=monolingual), near or {})
    folder = Path(out or ".")
    inputs = spool_inputs(inputs, spool, format=format, monolingual=monolingual, force=force, quiet=quiet)
    languages = source_lang, target_lang
    parsed = parse_inputs(
        inputs, columns=columns, fields=fields, languages=languages, format=format, monolingual=monolingual
    )
    sides: dict[str, Any] = {"source_lang": source_lang, "target_lang": target_lang, "monolingual": monolingual}
    chosen = choose_rules(rules or {}, **sides)
    preferred = parse_prefer(prefer, parsed)
    by_input = choose_input_rules(input_rules, inputs=parsed)
    of_languages, notes = language_rules(*languages, identify=identify_language, monolingual=monolingual)
    of_inputs = [choose_rules({**(rules or {}), **by_input.get(number, {})}, **sides) for number in range(len(parsed))]
    if monolingual:
        chosen = {name: value for name, value in chosen.items() if name not in PAIR_RULES}
    for path in [path for one in parsed for path in input_paths(one)] + ([str(tags)] if tags else []):
        Path(path).stat()  # a missing file is told before a folder is made
    tests = parse_test_sets(exclude)
    excluded = digest_test_sets(tests, folder)
    if any(Path(one).absolute() == folder.absolute() for one in against):
        raise UsageError(f"against {out}: a corpus is not cleaned against the folder that it is cleaned into")
    others = read_against(against, key=key, form=form)
    best = preferred["column"] if isinstance(preferred, dict) and "column" in preferred else None

    def run(into: Path, plan: str, *, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
        old = 0 if before is None else len(before["inputs"])
        own = [] if before is None else [str((folder / one["file"]).absolute()) for one in before["fingerprints"]]
        request: CleanRequest = {
            "corpus": {
                "inputs": parsed[old:],
                "tags": str(Path(tags).absolute()) if tags else None,
                "max_line_bytes": max_line_bytes,
                "first_row": 0 if before is None else before["counts"]["rows"],
            },
            "rules": [cast("Rules", one | of_languages) for one in of_inputs[old:]] if judge else [],
            "duplicates": key,
            "duplicates_form": form,
            "verify": verify,
            "prefer": preferred,
            "against": [*own, *(shard for one in others for shard in one["shards"])],
            "near_duplicates": compared,
            "exclude": tests,
            "out": str(into),
            "tmp": str(Path(tmp_dir or into).absolute()),
            "plan": plan,
            "threads": taken["threads"],
            "memory": taken["memory"],
        }
        total = sum(Path(path).stat().st_size for one in parsed[old:] for path in input_paths(one))
        with Progress("clean", total=total, unit="B", quiet=quiet) as bar:
            found = _core.clean(request, bytes_progress(bar))
        check_test_sets(found["excluded"], excluded)
        results = _to_results(found, parsed[old:], folder, notes)
        if monolingual:
            examples = {
                reason: [{"row": one["row"], "target": one["target"]} for one in shown]
                for reason, shown in found["examples"].items()
            }
            results |= {"examples": examples, "monolingual": True}
        return results if before is None else _join(before, results)

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
        "duplicates": key,
        "duplicates_form": form,
        "prefer": best["column"]
        if best
        else preferred["inputs"]
        if isinstance(preferred, dict) and "inputs" in preferred
        else None,
        "verify": verify,
        "near_duplicates": compared,
        "identify_language": identify_language,
        "rules": chosen if judge else None,
        "input_rules": {str(number): one for number, one in sorted(by_input.items())},
        "max_line_bytes": max_line_bytes,
    }
    with StepFolder(folder, step="clean", reads=reads, options=options, force=force, extends=_is_joined) as step:
        finished = step.manifest or step.before
        if finished is not None:
            read = cleaned_files(folder, finished)
            if tags and finished["tags"]:
                read.append(file_at(finished["tags"], str(Path(tags).absolute())))
            try:
                check_unchanged(read, cache=folder / "log" / "digests.json", verify=verify_inputs)
            except CatpruneError:
                if not force:
                    raise
                step.start_over()

        def work() -> dict[str, Any]:
            if step.before is not None:
                verify_shards(folder, {**step.before, "shards": [], "duplicates": [], "files": {}})
            before = [look(path) for one in parsed for path in input_paths(one)]
            results = run(folder, step.digest, before=step.before)
            remember(cleaned_files(folder, results), before, cache=folder / "log" / "digests.json")
            return results

        manifest = finish_once(step, work)
        new = 0 if step.before is None else manifest["counts"]["rows"] - step.before["counts"]["rows"]
    return _cleaned(folder, manifest, new=new)


#: Examples of each reason, as the pass gives them.
_EXAMPLES = 3


def _is_joined(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a plan only adds inputs behind those of another.

    Raises:
        CatpruneError: it does, but what is already decided would have to be decided again.
    """
    count = len(old["reads"]["inputs"])
    rules = {number: one for number, one in new["options"]["input_rules"].items() if int(number) < count}
    fewer = {
        **new,
        "reads": {**new["reads"], "inputs": new["reads"]["inputs"][:count]},
        "options": {**new["options"], "input_rules": rules},
    }
    if fewer != old or len(new["reads"]["inputs"]) == count:
        return False
    asked = [name for name in ("tags", "prefer", "verify") if new["reads"].get(name) or new["options"].get(name)]
    if asked:
        raise CatpruneError(
            f"inputs cannot be joined to a corpus that was cleaned with --{asked[0]}: clean all of them with --force"
        )
    return True


def _join(before: Mapping[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    """The results of the inputs that were joined, with those of the ones before them."""
    counts, more = before["counts"], results["counts"]
    added: dict[str, Any] = {name: counts[name] + more[name] for name in ("rows", "kept")}
    for name in ("reasons", "only"):
        added[name] = {
            reason: counts[name].get(reason, 0) + more[name].get(reason, 0) for reason in {**counts[name], **more[name]}
        }
    examples: dict[str, Any] = {}
    for reason in {**before["examples"], **results["examples"]}:
        earlier, shown = before["examples"].get(reason, []), results["examples"].get(reason, [])
        examples[reason] = (earlier + shown)[:_EXAMPLES]
    excluded = [
        {**one, "pairs": one["pairs"] + earlier["pairs"]}
        for one, earlier in zip(results["excluded"], before["excluded"], strict=True)
    ]
    lists = ("inputs", "shards", "fingerprints", "duplicates")
    joined = {name: before[name] + results[name] for name in lists}
    new = f"{more['rows']:,} rows were joined to {counts['rows']:,}; {more['kept']:,} of the new ones are kept"
    return {
        **results,
        "notes": [*results["notes"], new],
        "counts": {**more, **added},
        "examples": examples,
        "excluded": excluded,
        **joined,
    }


def _cleaned(folder: Path | None, manifest: Mapping[str, Any], *, new: int = 0) -> Cleaned:
    counts = manifest["counts"]
    return Cleaned(folder, counts["rows"], counts["kept"], counts["reasons"], counts["only"], new, manifest)


def summary(done: Cleaned, *, examples: int) -> list[str]:
    """What was dropped and why, in lines for a reader: the commonest reason first, each with a few examples."""
    would = "would be " if done.folder is None else ""
    monolingual = is_monolingual(done.manifest)
    what = "texts" if monolingual else "pairs"
    lines = [
        f"{done.rows:,} {what} read{new_text(done.new, done.rows)}, {share_text(done.kept, done.rows)} {would}kept"
    ]
    lines += done.manifest["notes"]
    if done.kept < done.rows:
        lines.append("dropped for (several are possible; in brackets those that nothing else drops):")
    for reason, count in sorted(done.reasons.items(), key=lambda item: (-item[1], item[0])):
        if not count:
            continue
        lines.append(f"  {reason:24} {share_text(count, done.rows):>20} ({done.only[reason]:,})")
        shown = done.manifest["examples"][reason][:examples]
        for one in shown:
            sides = [one["target"]] if monolingual else [one["source"], one["target"]]
            lines.append(f"    row {one['row']}: {' ||| '.join(map(_shorten, sides))}")
    if done.rows and done.rows == done.reasons["malformed_record"] + done.reasons.get("missing_side", 0):
        lines.append(
            "no record is a text: say with --fields, --columns or --format where it stands"
            if monolingual
            else "no record is a pair: say with --fields, --columns, --format or the languages where the sides stand"
        )
    for one in done.manifest["excluded"]:
        names = " and ".join(file["path"] for file in one["files"])
        short = f", {one['too_short']:,} of them too short to exclude a {what[:-1]}" if one["too_short"] else ""
        lines.append(f"{one['pairs']:,} {what} stand in {names} ({one['lines']:,} lines{short})")
    return lines


def _shorten(text: str) -> str:
    printable = "".join(character if character.isprintable() else "�" for character in text)
    return printable if len(printable) <= 50 else printable[:49] + "…"


def _to_results(found: CleanResult, parsed: Sequence[Input], folder: Path, notes: list[str]) -> dict[str, Any]:
    """The manifest's view of what the pass returned: paths relative to the folder."""

    def relative(file: FileRead) -> FileRead:
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
