"""The checked options of `clean`, as plan and as request of the pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune import _core
from catprune.cleaning.languages import describe_sides
from catprune.cleaning.minhash_options import choose_near
from catprune.cleaning.rule_options import (
    PAIR_RULES,
    choose_duplicates,
    choose_input_rules,
    choose_key,
    choose_rules,
    language_rules,
    name_as_read,
    parse_prefer,
    parse_repair,
    read_against,
)
from catprune.cleaning.test_sets import digest_test_sets, parse_test_sets
from catprune.corpus.contents import describe_contents
from catprune.corpus.data import spool_options
from catprune.corpus.inputs import input_paths, inputs_of, left_out, relative_inputs
from catprune.corpus.spool import spool_inputs
from catprune.errors import UsageError
from catprune.workspace.common_options import several
from catprune.workspace.files import relative_place
from catprune.workspace.resources import choose_memory, choose_threads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catprune.boundary import (
        CleanRequest,
        Form,
        Input,
        Key,
        LastShard,
        NearOptions,
        Prefer,
        Rules,
        TestSet,
        ValueColumn,
    )
    from catprune.cleaning.options import CleanOptions
    from catprune.workspace.spool import Spool

#: Where a cleaning keeps what it needs to go on after a kill, in its folder.
STATE = "log/cleaning"
#: The least memory that the pass can work in.
LEAST_MEMORY = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Cleaning:
    """The checked options of a cleaning.

    Attributes:
        options: as they were given, but for data, which is named by its files.
        folder: the output folder; the current folder for a dry run without one.
        inputs: the inputs as every pass over text takes them.
        key: what exact duplicates share.
        form: which normal forms are made equal before texts are compared.
        near: options of near duplicates as the pass takes them; None to keep near duplicates.
        prefer: which of exact duplicates is kept, as the pass takes it.
        rules: the thresholds for all inputs; None without filters.
        rules_of: input number -> the thresholds of this input.
        languages: what the filters need to know of the languages.
        notes: remarks on unsupported languages, and on the content of inputs.
        tests: the test sets.
        excluded: their digests.
        against: other corpora whose kept pairs are duplicates here.
        resources: threads and memory.
    """

    options: CleanOptions
    folder: Path
    inputs: list[Input]
    key: Key
    form: Form
    near: NearOptions | None
    prefer: Prefer
    rules: dict[str, Any] | None
    rules_of: dict[int, dict[str, Any]]
    languages: dict[str, Any]
    notes: list[str]
    tests: list[TestSet]
    excluded: list[list[dict[str, str]]]
    against: list[dict[str, Any]]
    resources: dict[str, int]

    @classmethod
    def read(cls, options: CleanOptions, spool: Spool) -> Cleaning:
        """Check the options together and look at the inputs; data among them is spooled.

        Raises:
            UsageError: options that contradict each other.
            OSError: an input does not exist.
        """
        key = choose_key(options.duplicates, monolingual=options.monolingual)
        form = choose_duplicates(options)
        parse_repair(options.repair)  # checked before the inputs
        resources = {
            "threads": choose_threads(options.threads),
            "memory": choose_memory(options.memory, least=LEAST_MEMORY),
        }
        near = choose_near(choose_key(options.near_duplicates, monolingual=options.monolingual), options.near)
        folder = Path(options.out or ".")
        rules = choose_rules(options, {})
        languages, notes = language_rules(options)
        given, options = options, spool_options(options, spool)
        options = replace(options, **name_as_read(given, options.inputs))
        inputs = _read_inputs(options)
        rules_of = choose_input_rules(options.input_rules, inputs=inputs)
        for thresholds in rules_of.values():
            choose_rules(options, thresholds)
        prefer = parse_prefer(options.prefer, inputs)
        for path in [path for entry in inputs for path in input_paths(entry)] + (
            [str(options.tags)] if options.tags else []
        ):
            Path(path).stat()  # report a missing file before a folder is made
        notes += [f"{path} is empty: left out" for path in left_out(options.inputs, inputs)]
        notes = [*describe_sides(inputs, (options.source_lang, options.target_lang)), *notes]
        notes += describe_contents(inputs, (options.source_lang, options.target_lang))
        tests = parse_test_sets(several(options.exclude))
        excluded = digest_test_sets(tests, folder)
        if any(Path(name).absolute() == folder.absolute() for name in several(options.against)):
            raise UsageError(f"against = {options.out}: this is the output folder; give the folder of another corpus")
        against = read_against(several(options.against), key=key, form=form)
        return cls(
            options, folder, inputs, key, form, near, prefer, rules, rules_of, languages, notes, tests, excluded,
            against, resources,
        )  # fmt: skip

    def reads(self) -> dict[str, Any]:
        """What the plan says is read, with paths relative to the folder."""
        options, folder = self.options, self.folder
        column = self._preferred_column()
        return {
            "inputs": relative_inputs(self.inputs, folder),
            "tags": {"path": relative_place(options.tags, folder)} if options.tags else None,
            "against": [
                {"folder": relative_place(other["folder"], folder), "digest": other["digest"]} for other in self.against
            ],
            "prefer": {"path": relative_place(column["path"], folder), "digest": _core.digest_file(column["path"])}
            if column
            else None,
            "exclude": self.excluded,
        }

    def plan(self) -> dict[str, Any]:
        """The options that decide the result."""
        options, column = self.options, self._preferred_column()
        rules = self.rules
        if rules is not None and options.monolingual:
            rules = {name: value for name, value in rules.items() if name not in PAIR_RULES}
        inputs = self.prefer["inputs"] if isinstance(self.prefer, dict) and "inputs" in self.prefer else None
        return {
            "source_lang": options.source_lang,
            "target_lang": options.target_lang,
            "duplicates": self.key,
            "duplicates_form": self.form,
            "prefer": column["column"] if column else inputs,
            "verify": options.verify,
            "near_duplicates": self.near,
            "identify_language": options.identify_language,
            "rules": rules,
            "input_rules": {str(number): thresholds for number, thresholds in sorted(self.rules_of.items())},
            "max_line_bytes": options.max_line_bytes,
            "repair": parse_repair(options.repair),
            "unicode": _core.unicode_version(),
        }

    def request(self, into: Path, plan: str, *, before: Mapping[str, Any] | None) -> CleanRequest:
        """The request of the pass: over all inputs, or over those that are appended to the results `before`."""
        options, folder = self.options, self.folder
        old = 0 if before is None else len(before["inputs"])
        own = [] if before is None else [str((folder / shard["file"]).absolute()) for shard in before["fingerprints"]]
        return {
            "corpus": {
                "inputs": self.inputs[old:],
                "tags": str(Path(options.tags).absolute()) if options.tags else None,
                "max_line_bytes": options.max_line_bytes,
                "repair": parse_repair(options.repair),
                "first_row": 0 if before is None else before["counts"]["rows"],
            },
            "rules": self._rules()[old:],
            "duplicates": self.key,
            "duplicates_form": self.form,
            "verify": options.verify,
            "prefer": self.prefer,
            "continued": None if before is None else _last_shard(folder, before),
            "against": [*own, *(shard for other in self.against for shard in other["shards"])],
            "near_duplicates": self.near,
            "exclude": self.tests,
            "out": str(into),
            "state": None if options.dry_run or options.verify_inputs else str((folder / STATE).absolute()),
            "tmp": str(Path(options.tmp_dir or into).absolute()),
            "plan": plan,
            "threads": self.resources["threads"],
            "memory": self.resources["memory"],
        }

    def _rules(self) -> list[Rules]:
        """The thresholds of each input; none without filters."""
        chosen = (choose_rules(self.options, self.rules_of.get(number, {})) for number in range(len(self.inputs)))
        return [cast("Rules", rules | self.languages) for rules in chosen if rules is not None]

    def _preferred_column(self) -> ValueColumn | None:
        return self.prefer["column"] if isinstance(self.prefer, dict) and "column" in self.prefer else None


def _last_shard(folder: Path, before: Mapping[str, Any]) -> LastShard:
    """The files of the last shard of finished work."""
    last = before["shards"][-1]

    def file(name: str) -> str | None:
        listed = [shard for shard in before[name] if shard["first"] == last["first"]]
        return str((folder / listed[0]["file"]).absolute()) if listed else None

    return {
        "first": last["first"],
        "end": last["end"],
        "decisions": str((folder / last["file"]).absolute()),
        "fingerprints": file("fingerprints"),
        "duplicates": file("duplicates"),
    }


def _read_inputs(options: CleanOptions) -> list[Input]:
    """Spool standard input and read the names of the inputs."""
    names = spool_inputs(
        options.inputs,
        options.spool,
        format=options.format,
        monolingual=options.monolingual,
        force=options.force,
        quiet=options.quiet,
    )
    return inputs_of(options, names)
