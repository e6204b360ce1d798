"""What a selection reads: score sets of checkpoints, a clean folder, columns in Parquet files, or a .npy array."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune import _core
from catprune.corpus.inputs import find_sides
from catprune.errors import CatpruneError, UsageError
from catprune.selection.methods import CLUSTERED, COLUMN, METHODS
from catprune.selection.score_sets import (
    check_common_tokens,
    check_common_weights,
    check_one_training,
    gather_scores,
    is_backward,
    needed_checkpoints,
    times_seen,
)
from catprune.workspace.files import read_json
from catprune.workspace.manifest import describe_folder, digest_manifest, read_manifest, trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from catprune.boundary import (
        Computed,
        GroupsRequest,
        Joined,
        MethodName,
        Of,
        OwnShare,
        Seen,
        ShardFile,
        SourceRequest,
        Within,
    )
    from catprune.selection.request import Ranking

#: The step of a folder with a scorer's column; those of checkpoints are of `score`.
SCORER_STEP = "score --scorer"
_PART = re.compile(r"part-(\d{12})-(\d{12})\.parquet")


@dataclass(slots=True)
class Source:
    """What is read: `reads` for the plan, `request` for the pass, and the cleaned corpus behind it.

    `folders` are those whose shards are ranked. `trajectory` are the sets whose nll makes the course of a pair, for
    a method that draws from clusters of them. `seen` are the checkpoints that had been trained on some of the rows
    more often than on others: `set`, `name`, and the numbers of `times` that occur. `columns` gives names their
    numbers; `joined` are those joined by row.
    """

    reads: dict[str, Any]
    request: SourceRequest
    clean: Path | None
    folders: tuple[Path, ...] = ()
    seen: tuple[Seen, ...] = ()
    computed: list[Computed] = field(default_factory=list["Computed"])
    columns: dict[str, int] = field(default_factory=dict[str, int])
    joined: list[Joined] = field(default_factory=list["Joined"])
    trajectory: tuple[int, ...] = ()

    def join(self, name: str, files: Sequence[Path], column: str) -> int:
        """The number of a column that is joined by row."""
        if name not in self.columns:
            self.columns[name] = len(self.columns)
            self.joined.append({"paths": [str(file) for file in files], "column": column})
        return self.columns[name]


def sole_column(sources: Sequence[Path]) -> str | None:
    """The name of the column of a .npy array, None if the source is something else."""
    if not any(source.suffix == ".npy" for source in sources):
        return None
    if len(sources) > 1:
        raise UsageError(f"{', '.join(map(str, sources))}: give one .npy array, or Parquet files with row")
    return sources[0].stem


def open_source(
    sources: Sequence[Path],
    out: Path,
    ranking: Ranking,
    *,
    checkpoints: Sequence[str] | None,
    reference: str | None,
    clean: Path | None,
    join: Sequence[Path],
    within: str | None = None,
) -> Source:
    """Find out what `sources` are, and what the pass and the plan must know of them.

    Raises:
        UsageError: sources and options that do not go together, or a name that is nowhere.
        CatpruneError: unfinished folders, or checkpoints that cannot be compared.
    """
    names = ranking.names
    source = sources[0]
    if source.suffix == ".npy":
        found = _array(source, out, clean)
    elif len(sources) == 1 and (source / "manifest.json").is_file() and _step_of(source) == "clean":
        if needing := [method.name for method in ranking.methods if method.needs]:
            raise UsageError(f"{needing[0]} needs scores of checkpoints, {source} holds verdicts: give a scores folder")
        found = Source(
            {"clean": describe_folder(source, relative_to=out)},
            {"source": {"kind": "clean", "shards": _shards(source)}},
            source,
            (source,),
        )
        _compute(found, [method.name for method in ranking.methods if method.reads != "scorer"], {})
    elif any(one.is_file() for one in sources) or _are_columns(sources):
        found = _files(sources, out, ranking, clean)
    elif _reads_checkpoints(ranking) or (within == "length" and _has_checkpoints(sources)):
        found = _scores(sources, out, ranking, checkpoints, reference, clean)
    elif scored := _scored_into(sources, ranking):
        found = _scorer(scored, out, clean)
        _compute(found, [method.name for method in ranking.methods if method.reads != "scorer"], {})
    elif ranking.kind == COLUMN and _is_elsewhere(ranking.names[0], join) and _has_checkpoints(sources):
        found = _scores(sources, out, ranking, checkpoints, reference, clean)
    elif ranking.kind == COLUMN:
        _require_column(sources, ranking.names[0])
        found = _files(sources, out, ranking, clean)
    else:
        found = _scores(sources, out, ranking, checkpoints, reference, clean)
    _join_names(found, sources, names, join, out)
    return found


def _step_of(folder: Path) -> Any:
    path = folder / "manifest.json"
    return read_json(path).get("step") if path.is_file() else None


def _are_columns(sources: Sequence[Path]) -> bool:
    """Whether these are folders of Parquet files, and no folders of catprune's."""
    return all(
        source.is_dir() and not (source / "manifest.json").exists() and any(source.glob("*.parquet"))
        for source in sources
    )


def _refuse_other_steps(source: Path) -> None:
    """A folder of scores holds steps' folders and is none itself."""
    plan = source / "plan.json"
    written = next((path for path in (source / "manifest.json", plan) if path.is_file()), None)
    step = None if written is None else read_json(written).get("step")
    if step == "score":
        raise UsageError(
            f"{source} is one checkpoint's scores: give {source.absolute().parent}, and checkpoints = {source.name}"
        )
    if step == "clean":
        read_manifest(source, step="clean")
        raise UsageError(f"{source} is a clean folder: give it alone, or with a file of scores as clean")
    if step == "tokenize":
        raise UsageError(f"{source} is a tokens folder: score it first (`catprune score`), and give the scores' folder")
    if step is not None:
        raise UsageError(f"{source} is a folder of `{step}`: give the folder that `catprune score` wrote into")


def _reads_checkpoints(ranking: Ranking) -> bool:
    """Whether something is asked for that only scores of checkpoints tell."""
    return ranking.counts_tokens or any(method.needs for method in ranking.methods)


def _is_elsewhere(name: str, join: Sequence[Path]) -> bool:
    """Whether a name is that of a column of cleaning or of a file to join."""
    return is_of_cleaning(name) or any(name in joined_columns(path) for path in join)


def is_of_cleaning(name: str) -> bool:
    """Whether a name is that of a column that `clean` writes."""
    return name == "reasons" or name.startswith(("source_", "target_"))


def _has_checkpoints(sources: Sequence[Path]) -> bool:
    """Whether there are finished scores of checkpoints in these folders."""
    return any(_step_of(path.parent) == "score" for source in sources for path in source.glob("*/manifest.json"))


def _scored_into(sources: Sequence[Path], ranking: Ranking) -> list[Path]:
    """The folders of a scorer's column that ranks, or of any, where the sources have no scores of checkpoints."""
    finished = [path.parent for source in sources for path in sorted(source.glob("*/manifest.json"))]
    scored = [folder for folder in finished if _step_of(folder) == SCORER_STEP]
    asked = [folder for folder in scored if folder.name in [name.partition(".")[0] for name in ranking.names]]
    if ranking.kind == COLUMN:
        return [folder for folder in asked if folder.name == ranking.names[0].partition(".")[0]]
    if _has_checkpoints(sources):
        return []
    if (
        not asked
        and len({read_json(one / "manifest.json")["reads"].get("clean", {}).get("manifest") for one in scored}) > 1
    ):
        raise UsageError(f"{sources[0]} has columns of several corpora: give the clean folder in its place")
    return asked or scored


def _clean_behind(folder: Path, clean: Path | None) -> Path | None:
    """The clean folder that scores were made from, which is the one that was given, if one was."""
    behind = trace(folder, read_json(folder / "manifest.json"), "clean")
    if clean is not None and (behind is None or digest_manifest(clean) != digest_manifest(behind)):
        raise CatpruneError(f"{folder} was made from {behind}, not from {clean}: leave clean out")
    return behind


def _scorer(folders: Sequence[Path], out: Path, clean: Path | None) -> Source:
    """The records that cleaning kept, ranked by a scorer's column, which is joined under its name."""
    behind = _clean_behind(folders[0], clean)
    if behind is None:
        raise CatpruneError(f"{folders[0]} does not say which text was cleaned for it: make it anew")
    reads = {"clean": describe_folder(behind, relative_to=out)}
    return Source(reads, {"source": {"kind": "clean", "shards": _shards(behind)}}, behind, (behind,))


def _array(source: Path, out: Path, clean: Path | None) -> Source:
    if clean is not None:
        raise UsageError(f"{source} counts its values as rows: clean goes with a Parquet file that has row")
    if not source.is_file():
        raise CatpruneError(f"{source} does not exist: give a .npy file")
    reads = {"files": _describe_files([source], out)}
    return Source(reads, {"source": {"kind": "npy", "path": str(source)}}, None, columns={source.stem: 0})


def _describe_files(files: Sequence[Path], out: Path) -> list[dict[str, str]]:
    """How a plan names files: in the order of their names, because the order given means nothing."""
    found = [
        {"path": os.path.relpath(file.absolute(), out.absolute()), "digest": _core.digest_file(str(file))}
        for file in files
    ]
    return sorted(found, key=lambda one: one["path"])


def _parquet_files(source: Path) -> list[Path]:
    """A file, or the Parquet files of a folder; those of a finished step by its manifest."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise CatpruneError(f"{source} does not exist: give a Parquet file with row, or a folder of them")
    if (source / "manifest.json").is_file():
        return [Path(shard["path"]) for shard in _shards(source)]
    if not (files := sorted(source.glob("*.parquet"))):
        raise UsageError(f"{source} holds no Parquet file: give a file with row, or a folder of them")
    return files


def joined_columns(path: Path) -> list[str]:
    """The names of the columns that a file or a folder of files has."""
    return _column_names(_parquet_files(path)[0])


def _column_names(file: Path) -> list[str]:
    from pyarrow import ArrowInvalid, parquet

    try:
        return parquet.read_schema(file).names
    except ArrowInvalid as error:
        raise CatpruneError(f"{file} cannot be read as Parquet ({error})") from None


def _check_parts(files: Sequence[Path]) -> None:
    """Fails if files that are named after their rows leave rows out, or have some twice."""
    matches = [_PART.fullmatch(file.name) for file in files]
    ranges = sorted((int(match[1]), int(match[2]), file) for match, file in zip(matches, files, strict=True) if match)
    if len(ranges) < len(files):
        return
    for (_, end, before), (first, _, file) in itertools.pairwise(ranges):
        if first > end:
            raise CatpruneError(f"rows {end}..{first} are missing between {before} and {file}: give all shards")
        if first < end:
            raise CatpruneError(f"{before} and {file} both have rows {first}..{end}: give each row once")


def _files(sources: Sequence[Path], out: Path, ranking: Ranking, clean: Path | None) -> Source:
    files = [file for source in sources for file in _parquet_files(source)]
    _check_parts(files)
    column = ranking.terms[0][1]
    if ranking.kind != COLUMN and column not in (names := _column_names(files[0])):
        raise UsageError(
            f"{files[0]} is a file without a column {column}: name its score column with column, or its columns "
            f"({', '.join(name for name in names if name != 'row')}) in merge"
        )
    reads: dict[str, Any] = {"files": _describe_files(files, out)}
    if clean is None:
        request: SourceRequest = {"source": {"kind": "file", "paths": [str(file) for file in files], "column": column}}
        return Source(reads, request, None, columns={column: 0})
    read_manifest(clean, step="clean")
    reads["clean"] = describe_folder(clean, relative_to=out)
    found = Source(reads, {"source": {"kind": "clean", "shards": _shards(clean)}}, clean, (clean,))
    found.join(column, files, column)
    return found


def _scores(
    sources: Sequence[Path],
    out: Path,
    ranking: Ranking,
    checkpoints: Sequence[str] | None,
    reference: str | None,
    clean: Path | None,
) -> Source:
    for one in sources:
        _refuse_other_steps(one)
    named = checkpoints if checkpoints is None or reference is None else list(dict.fromkeys([*checkpoints, reference]))
    sets = gather_scores(sources, named)
    backward = [name for name, folders in sets.items() if is_backward(folders[0])]
    where = " and ".join(map(str, sources)) + (" (of those named)" if checkpoints is not None else "")
    needed = {
        method.name: needed_checkpoints(method, sets, backward, reference, where=where)
        for method in ranking.methods
        if method.reads != "scorer"
    }
    if not sets:
        lacking = (
            "token budgets need scores of checkpoints, which count target tokens: " if ranking.counts_tokens else ""
        )
        raise CatpruneError(f"{lacking}{where} holds none that are finished: run `catprune score` into it first")
    if checkpoints is None and any(method.needs for method in ranking.methods):
        for one in (backward, [name for name in sets if name not in (*backward, reference)]):
            check_one_training([folder for name in one for folder in sets[name]])
    forward = [name for name in sets if name not in backward] or list(sets)
    read = {name for names in needed.values() for name in names} or {forward[-1]}
    sets = {name: folders for name, folders in sets.items() if name in read}
    folders = [folder for one in sets.values() for folder in one]
    check_common_tokens(folders)
    for names in needed.values():
        check_common_weights([folder for name in names for folder in sets[name]])
    behind = _clean_behind(folders[0], clean)
    shards = [[shard for folder in one for shard in _shards(folder)] for one in sets.values()]
    _check_end(shards, behind)
    compared = {name for method in ranking.methods if method.needs for name in needed[method.name]}
    order = list(sets)
    found = Source(
        {"scores": [describe_folder(folder, relative_to=out) for folder in folders]},
        {"source": {"kind": "scores", "sets": shards, "backward": [order.index(n) for n in backward if n in order]}},
        behind,
        tuple(folders),
        tuple(
            {"set": order.index(name), "name": name, "times": times}
            for name, one in sets.items()
            if name in compared and len(times := times_seen(one)) > 1
        ),
    )
    places = {method: [order.index(name) for name in names] for method, names in needed.items()}
    _compute(found, needed, places)
    found.trajectory = tuple(places.get(CLUSTERED, ()))
    return found


def _compute(found: Source, names: Iterable[str], sets: dict[str, list[int]]) -> None:
    """Let the pass compute these methods."""
    for name in names:
        found.columns[name] = len(found.columns)
        found.computed.append({"method": cast("MethodName", name), "sets": sets.get(name, [])})


def _check_end(sets: Sequence[Sequence[ShardFile]], clean: Path | None) -> None:
    """Fails if the shards of a checkpoint do not reach to the end of the cleaned corpus."""
    if clean is None:
        return
    end = max((shard["end"] for shard in _shards(clean)), default=0)
    for shards in sets:
        last = max((shard["end"] for shard in shards), default=0)
        if last < end:
            raise CatpruneError(
                f"rows {last}..{end} are missing in {shards[-1]['path']} and the other shards: score them"
            )


def _join_names(found: Source, sources: Sequence[Path], names: Sequence[str], join: Sequence[Path], out: Path) -> None:
    """Find the columns that no method computes: a scorer's, of another set of scores, of files, or of cleaning."""
    read: dict[str, list[Path]] = {}
    for name in names:
        if name in found.columns:
            continue
        places = [(files, column) for files, column in _places(found, sources, name, join) if files]
        if not places and any(method.name == name and method.reads == "scorer" for method in METHODS):
            _require_column(sources, name)
            raise UsageError(
                f"there is no column {name}: score the clean folder with scorer = {name}, and give the folder of scores"
            )
        if not places:
            raise UsageError(
                f"there is no column {name}: name a method ({', '.join(method.name for method in METHODS)}), a folder "
                "of scores with one column or FOLDER.COLUMN, a column of a file in join, or one of the clean folder"
            )
        if len(places) > 1:
            raise UsageError(
                f"{name} is a column of {' and of '.join(str(files[0]) for files, _ in places)}: rename one"
            )
        files, column = places[0]
        found.join(name, files, column)
        read |= {str(file): [file] for file in files}
    known = {one["path"] for one in found.reads.get("files", [])}
    joined = [
        one for one in _describe_files([file for one in read.values() for file in one], out) if one["path"] not in known
    ]
    if joined:
        found.reads["joined"] = joined


def _places(found: Source, sources: Sequence[Path], name: str, join: Sequence[Path]) -> list[tuple[list[Path], str]]:
    """Where a name is a column of; the first kind of place that has it."""
    folder, _, column = name.partition(".")
    if found.request["source"]["kind"] == "scores" or (found.clean is not None and found.clean not in sources):
        sets = [source / folder for source in sources if (source / folder).is_dir()]
        for one in sets:
            _check_column(one, found.clean)
        files = [file for one in sets for file in _parquet_files(one)]
        if files:
            own = [one for one in _column_names(files[0]) if one != "row"]
            if column in own or (not column and len(own) == 1):
                return [(files, column or own[0])]
    groups = [_parquet_files(path) for path in join]
    if found.request["source"]["kind"] == "file":
        groups.append([Path(path) for path in found.request["source"]["paths"]])
    elif "files" in found.reads and found.joined:
        groups.append([Path(path) for path in found.joined[0]["paths"]])
    if places := [(files, name) for files in groups if name in _column_names(files[0])]:
        return places
    if found.clean is not None:
        files = [Path(shard["path"]) for shard in _shards(found.clean)]
        if files and name in _column_names(files[0]):
            return [(files, name)]
    return []


def _require_column(sources: Sequence[Path], name: str) -> None:
    """Fails if folders of scores have no finished column of this name."""
    for source in sources:
        if source.is_dir() and not (source / "manifest.json").is_file():
            if (source / name / "plan.json").is_file():
                read_manifest(source / name, step=SCORER_STEP)
            scorer = next((method.name for method in METHODS if method.name == name), "SCORER")
            raise UsageError(
                f"{source} holds no column {name}: score the clean folder with scorer = {scorer} and "
                f"out = {source} first"
            )


def _check_column(folder: Path, clean: Path | None) -> None:
    """Fails if a column beside scores is unfinished, lacks rows that were joined since, or is of another corpus."""
    if not (folder / "manifest.json").is_file():
        if (folder / "plan.json").is_file():
            read_manifest(folder, step=SCORER_STEP)  # says that it is unfinished
        return
    behind = trace(folder, read_json(folder / "manifest.json"), "clean")
    if behind is not None and clean is not None and digest_manifest(behind) != digest_manifest(clean):
        raise CatpruneError(
            f"{folder} was made from {behind}, not from {clean}: rows of different corpora do not match"
        )


def _shards(folder: Path) -> list[ShardFile]:
    shards = read_json(folder / "manifest.json")["shards"]
    return [{"path": str(folder / shard["file"]), "first": shard["first"], "end": shard["end"]} for shard in shards]


def describe_groups(within: Within | None, ranking: Ranking, found: Source) -> GroupsRequest:
    """What the pass must know to rank groups apart; the length of a pair may have to be joined."""
    owns: list[OwnShare] = []
    request: GroupsRequest = {"within": within, "inputs": [], "own": owns, "length": None, "clean": None}
    if within == "length" and found.request["source"]["kind"] != "scores":
        if found.clean is None:
            raise UsageError("within length needs the clean folder: give clean = FOLDER")
        files = [Path(shard["path"]) for shard in _shards(found.clean)]
        request["length"] = found.join("target_characters", files, "target_characters")
    kinds = {within, *(own.of for own in ranking.own)} & {"input", "tag"}
    if not kinds:
        return request
    if found.clean is None:
        asked = f"within {within}" if within else ranking.own[0].label
        raise UsageError(f"{asked} needs the clean folder: give clean = FOLDER")
    manifest = read_manifest(found.clean, step="clean")
    if "tag" in kinds:
        if not manifest["reads"].get("tags"):
            raise UsageError(f"{found.clean} has no tags: clean with tags, or name inputs")
        request["clean"] = _shards(found.clean)
    if "input" in kinds:
        request["inputs"] = [(one["first"], one["end"]) for one in manifest["inputs"]]
    for own in ranking.own:
        of: Of = {"tag": own.name} if own.of == "tag" else {"input": _find_input(own.name, manifest["inputs"])}
        owns.append({"of": of, "label": own.label, "keep": own.keep})
    return request


def _find_input(name: str, inputs: Sequence[dict[str, Any]]) -> int:
    """The number of the input that has a file of this name or path, or this number; or that a template stands for."""
    names = [
        {str(number), *(text for path in one_paths for text in (path, Path(path).name))}
        for number, one in enumerate(inputs)
        for one_paths in [[str(value) for key, value in one.items() if key in ("source", "target", "path")]]
    ]
    sides = find_sides(name)
    ends = [f"/{Path(os.path.normpath(side))}" for side in sides or (name,)]
    found = [
        number
        for number, known in enumerate(names)
        if name in known or all(any(f"/{text}".endswith(end) for text in known) for end in ends)
    ]
    if len(found) != 1:
        known = ", ".join(f"{n} ({', '.join(sorted(t for t in one if '/' in t))})" for n, one in enumerate(names))
        told = "is the name of several inputs" if found else "is no input"
        raise UsageError(f"{name} {told}: give the number or more of the path of one: {known}")
    return found[0]
