"""Sources of a selection: score sets of checkpoints, a clean folder, columns in Parquet files, or a .npy array."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune import _core
from catprune.corpus.templates import find_sides
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
from catprune.selection.score_stream import open_array
from catprune.workspace.files import relative_place
from catprune.workspace.manifest import describe_folder, digest_manifest, read_manifest, trace
from catprune.workspace.sealed import read_sealed
from catprune.workspace.wording import some

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from catprune.boundary import (
        Computed,
        Exposures,
        ExternalFiles,
        GroupsRequest,
        MethodName,
        Of,
        OwnShare,
        ShardFile,
        SourceRequest,
        Within,
    )
    from catprune.selection.request import Ranking

#: The step of folders with a scorer's column; score sets of checkpoints have the step `score`.
SCORER_STEP = "score --scorer"
_PART = re.compile(r"part-(\d{12})-(\d{12})\.parquet")


@dataclass(slots=True)
class Source:
    """The records of a selection and their columns.

    Attributes:
        reads: the files and folders that are read, for the plan.
        request: the part of the request that names the records.
        clean: the clean folder of the records; None if unknown.
        folders: the folders whose shards are ranked.
        exposures: checkpoints that were trained on some rows more often than on others.
        computed: columns that methods compute.
        columns: column name → column number.
        external: external columns, matched by row number.
        trajectory: numbers of the score sets of a loss trajectory, for the method that draws from clusters.
    """

    reads: dict[str, Any]
    request: SourceRequest
    clean: Path | None
    folders: tuple[Path, ...] = ()
    exposures: tuple[Exposures, ...] = ()
    computed: list[Computed] = field(default_factory=list["Computed"])
    columns: dict[str, int] = field(default_factory=dict[str, int])
    external: list[ExternalFiles] = field(default_factory=list["ExternalFiles"])
    trajectory: tuple[int, ...] = ()

    def column_folders(self) -> list[Path]:
        """The folders of steps among those that hold the columns' files."""
        source: Any = self.request["source"]
        files = [path for column in self.external for path in column["paths"]] + list(source.get("paths", ()))
        folders = dict.fromkeys(Path(path).parent.parent for path in files)
        return [folder for folder in folders if (folder / "manifest.json").is_file()]

    def join(self, name: str, files: Sequence[Path], column: str) -> int:
        """Join a column by row unless it is known, and return its number."""
        if name not in self.columns:
            self.columns[name] = len(self.columns)
            self.external.append({"paths": [str(file) for file in files], "column": column})
        return self.columns[name]


def sole_column(sources: Sequence[Path]) -> str | None:
    """Return the column name of a .npy array; None for other sources."""
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
    """Open sources of any kind, with the columns that the ranking names.

    Raises:
        UsageError: sources and options contradict each other, or a column is not found.
        CatpruneError: a folder is unfinished, or checkpoints cannot be compared.
    """
    first = sources[0]
    if first.suffix == ".npy":
        source = _array(first, out, clean)
    elif len(sources) == 1 and (first / "manifest.json").is_file() and _step_of(first) == "clean":
        if needing := [method.name for method in ranking.methods if method.needs]:
            raise UsageError(
                f"{needing[0]} needs scores of checkpoints, {first} is a clean folder: give a scores folder"
            )
        source = Source(
            {"clean": describe_folder(first, relative_to=out)},
            {"source": {"kind": "clean", "shards": _shards(first)}},
            first,
            (first,),
        )
        _compute(source, [method.name for method in ranking.methods if method.reads != "scorer"], {})
    elif any(path.is_file() for path in sources) or _are_columns(sources):
        source = _files(sources, out, ranking, clean)
    elif _reads_checkpoints(ranking) or (within == "length" and _has_checkpoints(sources)):
        source = _scores(sources, out, ranking, checkpoints, reference, clean)
    elif scored := _scorer_columns(sources, ranking):
        source = _scorer(scored, out, clean)
        _compute(source, [method.name for method in ranking.methods if method.reads != "scorer"], {})
    elif ranking.kind == COLUMN and _is_external(ranking.names[0], join) and _has_checkpoints(sources):
        source = _scores(sources, out, ranking, checkpoints, reference, clean)
    elif ranking.kind == COLUMN:
        _require_column(sources, ranking.names[0])
        source = _files(sources, out, ranking, clean)
    else:
        source = _scores(sources, out, ranking, checkpoints, reference, clean)
    _join_names(source, sources, ranking.names, join, out)
    return source


def _step_of(folder: Path) -> Any:
    path = folder / "manifest.json"
    return read_sealed(path).get("step") if path.is_file() else None


def _are_columns(sources: Sequence[Path]) -> bool:
    """Whether all sources are folders of Parquet files that no step of catprune wrote."""
    return all(
        source.is_dir() and not (source / "manifest.json").exists() and any(source.glob("*.parquet"))
        for source in sources
    )


def _refuse_other_steps(source: Path) -> None:
    """Refuse the folder of a step: a scores folder only contains folders of steps."""
    plan = source / "plan.json"
    written = next((path for path in (source / "manifest.json", plan) if path.is_file()), None)
    step = None if written is None else read_sealed(written).get("step")
    if step == "score":
        raise UsageError(
            f"{source} holds the scores of one checkpoint: give {source.absolute().parent} and "
            f"checkpoints = {source.name}"
        )
    if step == "clean":
        read_manifest(source, step="clean")
        raise UsageError(
            f"{source} is a clean folder: give only this folder, or give a file of scores and this folder as clean"
        )
    if step == "tokenize":
        raise UsageError(f"{source} is a tokens folder: run `catprune score` first, and give the scores folder")
    if step is not None:
        raise UsageError(f"{source} is a folder of `{step}`: give a folder that `catprune score` wrote")


def _reads_checkpoints(ranking: Ranking) -> bool:
    """Whether the ranking needs scores of checkpoints."""
    return ranking.counts_tokens or any(method.needs for method in ranking.methods)


def _is_external(name: str, join: Sequence[Path]) -> bool:
    """Whether a column is written by cleaning or is in an external file."""
    return is_of_cleaning(name) or any(name in external_columns(path) for path in join)


def is_of_cleaning(name: str) -> bool:
    """Whether `clean` writes a column of this name."""
    return name == "reasons" or name.startswith(("source_", "target_"))


def _has_checkpoints(sources: Sequence[Path]) -> bool:
    """Whether the folders contain finished scores of checkpoints."""
    return any(_step_of(path.parent) == "score" for source in sources for path in source.glob("*/manifest.json"))


def _scorer_columns(sources: Sequence[Path], ranking: Ranking) -> list[Path]:
    """Return the folders of the scorer column that ranks; without scores of checkpoints, of any scorer column."""
    finished = [path.parent for source in sources for path in sorted(source.glob("*/manifest.json"))]
    scored = [folder for folder in finished if _step_of(folder) == SCORER_STEP]
    named = [folder for folder in scored if folder.name in [name.partition(".")[0] for name in ranking.names]]
    if ranking.kind == COLUMN:
        return [folder for folder in named if folder.name == ranking.names[0].partition(".")[0]]
    if _has_checkpoints(sources):
        return []
    reads = [read_sealed(folder / "manifest.json")["reads"] for folder in scored]
    if not named and len({read.get("clean", {}).get("manifest") for read in reads}) > 1:
        raise UsageError(f"{sources[0]} has columns of several corpora: give the clean folder instead")
    return named or scored


def _origin(folder: Path, clean: Path | None) -> Path | None:
    """Return the clean folder that scores were computed from, and check it against a given clean folder."""
    origin = trace(folder, read_sealed(folder / "manifest.json"), "clean")
    if clean is not None and (origin is None or digest_manifest(clean) != digest_manifest(origin)):
        raise CatpruneError(f"{folder} was made from {origin}, not from {clean}: leave clean out")
    return origin


def _scorer(folders: Sequence[Path], out: Path, clean: Path | None) -> Source:
    """Return the clean pairs as records; the scorer's column is matched by its name."""
    origin = _origin(folders[0], clean)
    if origin is None:
        raise CatpruneError(f"{folders[0]} does not name its clean folder: score again")
    reads = {"clean": describe_folder(origin, relative_to=out)}
    return Source(reads, {"source": {"kind": "clean", "shards": _shards(origin)}}, origin, (origin,))


def _array(source: Path, out: Path, clean: Path | None) -> Source:
    if clean is not None:
        raise UsageError(f"{source}: clean needs a Parquet file with row, not an array: leave clean out")
    if not source.is_file():
        raise CatpruneError(f"{source} does not exist: give a .npy file")
    described, array = _describe_files([source], out)[0], open_array(source)
    reads = {"files": [{**described, "rows": array.shape[0], "type": str(array.dtype)}]}
    return Source(reads, {"source": {"kind": "npy", "path": str(source)}}, None, columns={source.stem: 0})


def _describe_files(files: Sequence[Path], out: Path) -> list[dict[str, str]]:
    """Describe files for a plan, sorted by path because their order has no meaning."""
    described = [{"path": relative_place(file, out), "digest": _core.digest_file(str(file))} for file in files]
    return sorted(described, key=lambda file: file["path"])


def _parquet_files(source: Path) -> list[Path]:
    """Return a file, or the Parquet files of a folder; for a finished step, the files of its manifest."""
    if source.is_file():
        require_parquet(source)
        return [source]
    if not source.is_dir():
        raise CatpruneError(f"{source} does not exist: give a Parquet file with row, or a folder of them")
    if (source / "manifest.json").is_file():
        return [Path(shard["path"]) for shard in _shards(source)]
    if not (files := sorted(source.glob("*.parquet"))):
        raise UsageError(f"{source} holds no Parquet file: give a file with row, or a folder of them")
    return files


def require_parquet(file: Path) -> None:
    """Refuse a file of scores in another format.

    Raises:
        CatpruneError: the file does not begin like Parquet.
    """
    with file.open("rb") as stream:
        if stream.read(4) == b"PAR1":
            return
    raise CatpruneError(
        f"{file} is no Parquet file: give scores as Parquet with a column row (pyarrow.csv and pyarrow.json read other "
        "formats), or as a .npy array with one score for each row"
    )


def count_rows(file: Path) -> int:
    """Return the number of rows of a Parquet file, from its footer."""
    from pyarrow import ArrowInvalid, parquet

    try:
        return parquet.read_metadata(file).num_rows
    except ArrowInvalid as error:
        raise CatpruneError(f"{file} cannot be read as Parquet ({error})") from None


def external_columns(path: Path) -> list[str]:
    """Return the column names of a file, or of a folder of files."""
    return _column_names(_parquet_files(path)[0])


def _type_of(file: Path, column: str) -> str:
    """Return the type of a column, or an empty text if there is no such column."""
    from pyarrow import parquet

    schema = parquet.read_schema(file)
    return str(schema.field(column).type) if column in schema.names else ""


def _column_names(file: Path) -> list[str]:
    from pyarrow import ArrowInvalid, parquet

    try:
        return parquet.read_schema(file).names
    except ArrowInvalid as error:
        raise CatpruneError(f"{file} cannot be read as Parquet ({error})") from None


def _check_parts(files: Sequence[Path]) -> None:
    """Check that files named by row ranges neither skip nor repeat rows."""
    matches = [_PART.fullmatch(file.name) for file in files]
    ranges = sorted((int(match[1]), int(match[2]), file) for match, file in zip(matches, files, strict=True) if match)
    if len(ranges) < len(files):
        return
    for (_, end, before), (first, _, file) in itertools.pairwise(ranges):
        if first > end:
            raise CatpruneError(f"rows {end}..{first} are missing between {before} and {file}: give all shards")
        if first < end:
            raise CatpruneError(f"{before} and {file} both have rows {first}..{end}: give only one of them")


def _files(sources: Sequence[Path], out: Path, ranking: Ranking, clean: Path | None) -> Source:
    files = [file for source in sources for file in _parquet_files(source)]
    _check_parts(files)
    if not any(map(count_rows, files)):
        raise CatpruneError(f"{files[0]} has no rows: give a file with a score for each row")
    column = ranking.terms[0][1]
    if ranking.kind != COLUMN and column not in (names := _column_names(files[0])):
        raise UsageError(
            f"{files[0]} has no column {column}: give its score column as column, or several columns "
            f"({', '.join(name for name in names if name != 'row')}) in merge"
        )
    reads: dict[str, Any] = {"files": _describe_files(files, out)}
    reads["files"][0]["type"] = _type_of(files[0], column)
    if clean is None:
        request: SourceRequest = {"source": {"kind": "file", "paths": [str(file) for file in files], "column": column}}
        return Source(reads, request, None, columns={column: 0})
    read_manifest(clean, step="clean")
    reads["clean"] = describe_folder(clean, relative_to=out)
    source = Source(reads, {"source": {"kind": "clean", "shards": _shards(clean)}}, clean, (clean,))
    source.join(column, files, column)
    return source


def _scores(
    sources: Sequence[Path],
    out: Path,
    ranking: Ranking,
    checkpoints: Sequence[str] | None,
    reference: str | None,
    clean: Path | None,
) -> Source:
    for path in sources:
        _refuse_other_steps(path)
    named = checkpoints if checkpoints is None or reference is None else list(dict.fromkeys([*checkpoints, reference]))
    sets = gather_scores(sources, named)
    backward = [name for name, folders in sets.items() if is_backward(folders[0])]
    where = some([str(source) for source in sources], separator=" and ")
    where += " (named checkpoints)" if checkpoints is not None else ""
    needed = {
        method.name: needed_checkpoints(method, sets, backward, reference, where=where)
        for method in ranking.methods
        if method.reads != "scorer"
    }
    if not sets:
        lacking = (
            "token budgets need scores of checkpoints, which count target tokens: " if ranking.counts_tokens else ""
        )
        raise CatpruneError(f"{lacking}{where} holds no finished scores: run `catprune score` into it first")
    if checkpoints is None and any(method.needs for method in ranking.methods):
        for names in (backward, [name for name in sets if name not in (*backward, reference)]):
            check_one_training([folder for name in names for folder in sets[name]])
    forward = [name for name in sets if name not in backward] or list(sets)
    read = {name for names in needed.values() for name in names} or {forward[-1]}
    sets = {name: folders for name, folders in sets.items() if name in read}
    folders = [folder for parts in sets.values() for folder in parts]
    check_common_tokens(folders)
    for names in needed.values():
        check_common_weights([folder for name in names for folder in sets[name]])
    origin = _origin(folders[0], clean)
    shards = [[shard for folder in parts for shard in _shards(folder)] for parts in sets.values()]
    _check_end(shards, origin)
    compared = {name for method in ranking.methods if method.needs for name in needed[method.name]}
    order = list(sets)
    source = Source(
        {"scores": [describe_folder(folder, relative_to=out) for folder in folders]},
        {"source": {"kind": "scores", "sets": shards, "backward": [order.index(n) for n in backward if n in order]}},
        origin,
        tuple(folders),
        tuple(
            {"set": order.index(name), "name": name, "times": times}
            for name, parts in sets.items()
            if name in compared and len(times := times_seen(parts)) > 1
        ),
    )
    places = {method: [order.index(name) for name in names] for method, names in needed.items()}
    _compute(source, needed, places)
    source.trajectory = tuple(places.get(CLUSTERED, ()))
    return source


def _compute(source: Source, names: Iterable[str], sets: dict[str, list[int]]) -> None:
    """Add columns that are computed by methods."""
    for name in names:
        source.columns[name] = len(source.columns)
        source.computed.append({"method": cast("MethodName", name), "sets": sets.get(name, [])})


def _check_end(sets: Sequence[Sequence[ShardFile]], clean: Path | None) -> None:
    """Check that the shards of each checkpoint reach the end of the cleaned corpus."""
    if clean is None:
        return
    end = max((shard["end"] for shard in _shards(clean)), default=0)
    for shards in sets:
        last = max((shard["end"] for shard in shards), default=0)
        if last < end:
            raise CatpruneError(
                f"rows {last}..{end} are missing after {shards[-1]['path']}: run `catprune score` again"
            )


def _join_names(source: Source, sources: Sequence[Path], names: Sequence[str], join: Sequence[Path], out: Path) -> None:
    """Find and join the columns that no method computes: of scorers, score sets, files, or cleaning."""
    read: dict[str, list[Path]] = {}
    for name in names:
        if name in source.columns:
            continue
        places = [(files, column) for files, column in _places(source, sources, name, join) if files]
        if not places and any(method.name == name and method.reads == "scorer" for method in METHODS):
            _require_column(sources, name)
            raise UsageError(
                f"there is no column {name}: score the clean folder with scorer = {name}, and give the scores folder"
            )
        if not places:
            raise UsageError(
                f"there is no column {name}: name a method ({', '.join(method.name for method in METHODS)}), a folder "
                "with one score column or FOLDER.COLUMN, a column of a file in join, or a column of the clean folder"
            )
        if len(places) > 1:
            raise UsageError(
                f"{name} is a column of {' and of '.join(str(files[0]) for files, _ in places)}: rename a column"
            )
        files, column = places[0]
        source.join(name, files, column)
        read |= {str(file): [file] for file in files}
    known = {file["path"] for file in source.reads.get("files", [])}
    described = _describe_files([file for files in read.values() for file in files], out)
    if external := [file for file in described if file["path"] not in known]:
        source.reads["external"] = external


def _places(source: Source, sources: Sequence[Path], name: str, join: Sequence[Path]) -> list[tuple[list[Path], str]]:
    """Return the files and columns that a name means, from the first kind of place that has it."""
    folder, _, column = name.partition(".")
    if source.request["source"]["kind"] == "scores" or (source.clean is not None and source.clean not in sources):
        sets = [path / folder for path in sources if (path / folder).is_dir()]
        for part in sets:
            _check_column(part, source.clean)
        files = [file for part in sets for file in _parquet_files(part)]
        if files:
            columns = [name for name in _column_names(files[0]) if name != "row"]
            if column in columns or (not column and len(columns) == 1):
                return [(files, column or columns[0])]
    groups = [_parquet_files(path) for path in join]
    if source.request["source"]["kind"] == "file":
        groups.append([Path(path) for path in source.request["source"]["paths"]])
    elif "files" in source.reads and source.external:
        groups.append([Path(path) for path in source.external[0]["paths"]])
    if places := [(files, name) for files in groups if name in _column_names(files[0])]:
        return places
    if source.clean is not None:
        files = [Path(shard["path"]) for shard in _shards(source.clean)]
        if files and name in _column_names(files[0]):
            return [(files, name)]
    return []


def _require_column(sources: Sequence[Path], name: str) -> None:
    """Check that scores folders have a finished column of this name."""
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
    """Check that a column next to scores is finished, and of the same corpus with the same appended rows."""
    if not (folder / "manifest.json").is_file():
        if (folder / "plan.json").is_file():
            read_manifest(folder, step=SCORER_STEP)  # raises: the column is unfinished
        return
    origin = trace(folder, read_sealed(folder / "manifest.json"), "clean")
    if origin is not None and clean is not None and digest_manifest(origin) != digest_manifest(clean):
        raise CatpruneError(
            f"{folder} was made from {origin}, not from {clean}: rows of different corpora do not match"
        )


def _shards(folder: Path) -> list[ShardFile]:
    shards = read_sealed(folder / "manifest.json")["shards"]
    return [{"path": str(folder / shard["file"]), "first": shard["first"], "end": shard["end"]} for shard in shards]


def describe_groups(within: Within | None, ranking: Ranking, source: Source) -> GroupsRequest:
    """Build the part of the request with the groups that are ranked separately; joins lengths if needed."""
    owns: list[OwnShare] = []
    request: GroupsRequest = {"within": within, "inputs": [], "own": owns, "length": None, "clean": None}
    if within == "length" and source.request["source"]["kind"] != "scores":
        if source.clean is None:
            raise UsageError("within length needs the clean folder: give clean = FOLDER")
        files = [Path(shard["path"]) for shard in _shards(source.clean)]
        request["length"] = source.join("target_characters", files, "target_characters")
    kinds = {within, *(own.of for own in ranking.own)} & {"input", "tag"}
    if not kinds:
        return request
    if source.clean is None:
        option = f"within {within}" if within else ranking.own[0].label
        raise UsageError(f"{option} needs the clean folder: give clean = FOLDER")
    manifest = read_manifest(source.clean, step="clean")
    if "tag" in kinds:
        if not manifest["reads"].get("tags"):
            raise UsageError(f"{source.clean} has no tags: clean with tags, or use inputs")
        request["clean"] = _shards(source.clean)
    if "input" in kinds:
        request["inputs"] = [(read["first"], read["end"]) for read in manifest["inputs"]]
    for own in ranking.own:
        of: Of = {"tag": own.name} if own.of == "tag" else {"input": _find_input(own.name, manifest["inputs"])}
        owns.append({"of": of, "label": own.label, "keep": own.keep})
    return request


def _find_input(name: str, inputs: Sequence[dict[str, Any]]) -> int:
    """Return the number of the input with this number, file name, end of a path, or template."""
    names = [
        {str(number), *(text for path in paths for text in (path, Path(path).name))}
        for number, read in enumerate(inputs)
        for paths in [[str(value) for key, value in read.items() if key in ("source", "target", "path")]]
    ]
    sides = find_sides(name)
    ends = [f"/{Path(os.path.normpath(side))}" for side in sides or (name,)]
    numbers = [
        number
        for number, known in enumerate(names)
        if name in known or all(any(f"/{text}".endswith(end) for text in known) for end in ends)
    ]
    if len(numbers) != 1:
        listed = some(
            [
                f"{number} ({', '.join(sorted(text for text in known if '/' in text))})"
                for number, known in enumerate(names)
            ]
        )
        problem = "matches several inputs" if numbers else "is not an input"
        raise UsageError(f"{name} {problem}: give the number of an input, or more of its path: {listed}")
    return numbers[0]
