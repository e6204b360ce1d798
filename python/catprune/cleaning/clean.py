"""The step `clean`: filter pairs, find duplicates and test-set sentences, and write reasons and measures as columns."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.cleaning.options import CleanOptions
from catprune.cleaning.request import STATE, Cleaning
from catprune.cleaning.test_sets import check_test_sets
from catprune.corpus.data import FOLDER, temporary_spool
from catprune.corpus.inputs import input_paths, relative_inputs
from catprune.corpus.moved import find_moved
from catprune.corpus.unchanged import check_unchanged, cleaned_files, file_at, look, remember
from catprune.errors import CatpruneError, OtherPlan, UsageError
from catprune.workspace.files import Places
from catprune.workspace.manifest import verify_shards
from catprune.workspace.options import takes
from catprune.workspace.progress import Progress, bytes_progress
from catprune.workspace.spool import Spool
from catprune.workspace.step_folder import StepFolder, finish_once
from catprune.workspace.wording import some

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from catprune.boundary import CleanResult, FileRead, Input


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The result of cleaning.

    Attributes:
        folder: the column set; None after a dry run.
        rows: records read.
        kept: records without a reason to drop them.
        reasons: number of records per reason; a record may have several reasons.
        only: number of records that have this reason and no other.
        repairs: number of records that each repair changed; a record may be changed by several.
        new: appended records that this call cleaned; 0 if it cleaned all records, or none.
        manifest: the content of the folder's `manifest.json`.
        is_new: whether this call cleaned; False if the work was finished before.
    """

    folder: Path | None
    rows: int
    kept: int
    reasons: Mapping[str, int] = field(repr=False)
    only: Mapping[str, int] = field(repr=False)
    repairs: Mapping[str, int] = field(repr=False)
    new: int
    manifest: Mapping[str, Any] = field(repr=False)
    is_new: bool = field(default=True, compare=False)


@takes(CleanOptions)
def clean(options: CleanOptions) -> Cleaned:
    """Filter the pairs of a corpus and find duplicates; the text stays where it is.

    If `out` holds finished work on the first of these inputs, the other inputs are appended to it: only they are read,
    and their rows continue the numbering. Earlier decisions stay. A new pair that equals a kept one gets the reason
    `duplicate_elsewhere`; near duplicates are searched among the new pairs alone. `force` cleans all inputs again.

    Pairs, tables and frames among the inputs are copied to Parquet files in the folder `inputs` next to `out`, from
    which later steps read them. Files are named by their content, so that equal data is equal work.

    Returns:
        Counts, and where the columns are.

    Raises:
        UsageError: an option has no valid meaning.
        CatpruneError: sides of unequal length, an empty or damaged file, a folder with other work.
        OSError: a file cannot be read or written.
    """
    if options.dry_run:
        # Decisions that wait for the end of the corpus need the columns for a while.
        with temporary_spool(options.tmp_dir) as spool:
            cleaning = Cleaning.read(options, spool)
            counted = _run(cleaning, spool.folder, f"dry-{os.getpid()}")
            return _cleaned(None, {**counted, "options": cleaning.plan()})
    if options.out is None:
        raise UsageError("out is missing: give a folder to write, or dry_run")
    spool = Spool(Path(options.out).absolute().parent / FOLDER)
    plan = Path(options.out).absolute() / "plan.json"
    with spool.discarded(), spool.replaced(plan, force=options.force):
        return _clean(Cleaning.read(options, spool))


def _clean(cleaning: Cleaning) -> Cleaned:
    """Clean the inputs that the folder has not finished."""
    folder = cleaning.folder
    with (
        _append_rule(),
        StepFolder(
            folder,
            step="clean",
            reads=cleaning.reads(),
            options=cleaning.plan(),
            force=cleaning.options.force,
            extends=_is_appended,
            moved=find_moved(folder),
        ) as step,
    ):
        _check_finished(cleaning, step)
        manifest = finish_once(step, lambda: _work(cleaning, step))
        (folder / STATE).unlink(missing_ok=True)
        new = 0 if step.before is None else manifest["counts"]["rows"] - step.before["counts"]["rows"]
    return _cleaned(folder, manifest, new=new, is_new=not step.finished_before)


def _check_finished(cleaning: Cleaning, step: StepFolder) -> None:
    """Check that the files behind finished work are unchanged; `force` starts over if they are not.

    Raises:
        CatpruneError: a file changed.
    """
    finished = step.manifest or step.before
    if finished is None:
        return
    folder, options = cleaning.folder, cleaning.options
    files = cleaned_files(folder, finished)
    if options.tags and finished["tags"]:
        files.append(file_at(finished["tags"], str(Path(options.tags).absolute())))
    try:
        check_unchanged(files, cache=folder / "log" / "digests.json", verify=options.verify_inputs)
    except CatpruneError:
        if not options.force:
            raise
        step.start_over()


def _work(cleaning: Cleaning, step: StepFolder) -> dict[str, Any]:
    """Run the pass and remember how its files looked."""
    folder = cleaning.folder
    if step.before is not None:
        last = step.before["shards"][-1]["first"]
        read = {
            name: [shard for shard in step.before[name] if shard["first"] == last] for name in ("shards", "duplicates")
        }
        verify_shards(folder, {**step.before, **read, "files": {}})
    before = [look(path) for entry in cleaning.inputs for path in input_paths(entry)]
    results = _run(cleaning, folder, step.digest, before=step.before)
    remember(cleaned_files(folder, results), before, cache=folder / "log" / "digests.json")
    return results


def _run(cleaning: Cleaning, into: Path, plan: str, *, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Run the pass over all inputs, or over those that are appended to the results `before`."""
    old = 0 if before is None else len(before["inputs"])
    inputs = cleaning.inputs[old:]
    total = sum(Path(path).stat().st_size for entry in inputs for path in input_paths(entry))
    with Progress("clean", total=total, unit="B", quiet=cleaning.options.quiet) as bar:
        results = _core.clean(cleaning.request(into, plan, before=before), bytes_progress(bar))
    check_test_sets(results["excluded"], cleaning.excluded)
    manifest = _to_results(results, inputs, cleaning.folder, cleaning.notes)
    if cleaning.options.monolingual:
        examples = {
            reason: [{"row": example["row"], "target": example["target"]} for example in examples]
            for reason, examples in results["examples"].items()
        }
        manifest |= {"examples": examples, "monolingual": True}
    return manifest if before is None else _join(before, manifest)


@contextlib.contextmanager
def _append_rule() -> Generator[None]:
    """Say how to append inputs, where a folder has cleaned some of the inputs, but not as the first of them."""
    try:
        yield
    except OtherPlan as other:
        old, new = (plan["reads"]["inputs"] for plan in (other.old, other.new))
        same = [{**plan, "reads": {**plan["reads"], "inputs": []}} for plan in (other.old, other.new)]
        for plan in same:
            plan["options"] = {**plan["options"], "input_rules": {}}
        if same[0] != same[1] or new[: len(old)] == old or not any(entry in new for entry in old):
            raise
        names = {str(entry): " ".join(Places(other.base).resolve(path) for path in input_paths(entry)) for entry in old}
        missing = [names[str(entry)] for entry in old if entry not in new]
        fault = f"without {some(missing)}"
        if not missing:
            number = next(number for number, entry in enumerate(old) if new[number] != entry)
            place = "first" if number == 0 else f"right after {names[str(old[number - 1])]}"
            fault = f"in another order: {names[str(old[number])]} comes {place}"
        message = (
            f"{other.base} has cleaned some of these inputs, but they are given {fault}. To append inputs, give all "
            "old inputs in the old order, then the new ones; name the files if a wildcard sorts new ones between them. "
            "Otherwise give another folder, or force = true to clean all inputs again"
        )
        raise OtherPlan(message, base=other.base, old=other.old, new=other.new) from None


#: Examples of each reason, as the pass gives them.
_EXAMPLES = 3


def _is_appended(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a plan only appends inputs to those of another.

    Raises:
        CatpruneError: it does, but earlier decisions would have to be made again.
    """
    count = len(old["reads"]["inputs"])
    rules = {number: rules_of for number, rules_of in new["options"]["input_rules"].items() if int(number) < count}
    fewer = {
        **new,
        "reads": {**new["reads"], "inputs": new["reads"]["inputs"][:count]},
        "options": {**new["options"], "input_rules": rules},
    }
    if fewer != old or len(new["reads"]["inputs"]) == count:
        return False
    rereading = [name for name in ("tags", "prefer", "verify") if new["reads"].get(name) or new["options"].get(name)]
    if rereading:
        raise CatpruneError(
            f"inputs cannot be appended to a corpus that was cleaned with {rereading[0]}: "
            "clean all inputs again with force"
        )
    return True


def _join(before: Mapping[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    """Add the results of appended inputs to the results before them."""
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
    repairs = {
        name: {
            "records": earlier["records"] + results["repairs"][name]["records"],
            "examples": (earlier["examples"] + results["repairs"][name]["examples"])[:_EXAMPLES],
        }
        for name, earlier in before["repairs"].items()
    }
    excluded = [
        {**counts, "pairs": counts["pairs"] + earlier["pairs"]}
        for counts, earlier in zip(results["excluded"], before["excluded"], strict=True)
    ]
    first = results["shards"][0]["first"]  # the last shard of the rows before, if that was not full
    lists = ("shards", "fingerprints", "duplicates")
    appended = {name: [shard for shard in before[name] if shard["first"] < first] + results[name] for name in lists}
    new = f"{more['rows']:,} rows were appended to {counts['rows']:,}; {more['kept']:,} of the new rows are kept"
    return {
        **results,
        "notes": [*results["notes"], new],
        "counts": {**more, **added},
        "examples": examples,
        "repairs": repairs,
        "excluded": excluded,
        "inputs": before["inputs"] + results["inputs"],
        **appended,
    }


def _cleaned(folder: Path | None, manifest: Mapping[str, Any], *, new: int = 0, is_new: bool = True) -> Cleaned:
    counts = manifest["counts"]
    repairs = {name: counted["records"] for name, counted in manifest["repairs"].items()}
    reasons, only = counts["reasons"], counts["only"]
    return Cleaned(folder, counts["rows"], counts["kept"], reasons, only, repairs, new, manifest, is_new)


def _to_results(result: CleanResult, parsed: Sequence[Input], folder: Path, notes: list[str]) -> dict[str, Any]:
    """Return the result of the pass for the manifest, with paths relative to the folder."""

    places = Places(folder)

    def relative(file: FileRead) -> FileRead:
        return {**file, "path": places.relative(file["path"])}

    inputs = [
        {
            **entry,
            "first": read["first"],
            "end": read["end"],
            "kept": tally["kept"],
            "files": [relative(file) for file in read["files"]],
        }
        for entry, read, tally in zip(
            relative_inputs(parsed, folder), result["read"]["inputs"], result["inputs"], strict=True
        )
    ]
    return {
        "inputs": inputs,
        "tags": relative(result["read"]["tags"]) if result["read"]["tags"] else None,
        "counts": {**result["total"], "reasons": result["reasons"], "only": result["only"], "tags": result["tags"]},
        "examples": result["examples"],
        "repairs": result["repairs"],
        "notes": notes,
        "excluded": [
            {**test_set, "files": [relative(file) for file in test_set["files"]]} for test_set in result["excluded"]
        ],
        "shards": result["shards"],
        "fingerprints": result["fingerprints"],
        "duplicates": result["duplicates"],
    }
