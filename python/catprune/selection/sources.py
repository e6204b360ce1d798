"""Sources of a selection: score sets of checkpoints, a clean folder, columns in Parquet files, or a .npy array."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from catprune.errors import CatpruneError, UsageError
from catprune.selection.external_files import (
    check_parts,
    column_names,
    count_rows,
    describe_files,
    external_columns,
    parquet_files,
    shards_of,
    type_of,
)
from catprune.selection.methods import CLUSTERED, COLUMN, METHODS
from catprune.selection.score_sets import (
    check_common_tokens,
    check_common_weights,
    check_one_training,
    gather_scores,
    how_to_score,
    is_backward,
    needed_checkpoints,
    times_seen,
)
from catprune.selection.score_stream import open_array
from catprune.workspace.manifest import describe_folder, digest_manifest, read_manifest, trace
from catprune.workspace.sealed import read_sealed
from catprune.workspace.wording import some

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from catprune.boundary import (
        Computed,
        Exposures,
        ExternalFiles,
        MethodName,
        ShardFile,
        SourceRequest,
    )
    from catprune.selection.request import Ranking

#: The step of folders with a scorer's column; score sets of checkpoints have the step `score`.
SCORER_STEP = "score --scorer"


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
            {"source": {"kind": "clean", "shards": shards_of(first)}},
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
    _require_measures(source, ranking, within, join)
    _join_names(source, sources, ranking.names, join, out)
    return source


def _require_measures(source: Source, ranking: Ranking, within: str | None, join: Sequence[Path]) -> None:
    """Refuse lengths of a corpus that was cleaned without filters: then `clean` measures nothing.

    Raises:
        UsageError: the ranking, a condition or the groups need such a column.
    """
    reads_text = source.request["source"]["kind"] != "scores"  # scores count tokens
    joined = {name for path in join for name in external_columns(path)}
    needed = {name: name for name in ranking.names if is_of_cleaning(name) and name not in joined}
    if reads_text and (within == "length" or "length" in ranking.names):
        needed["length"] = "target_characters"
    shards = shards_of(source.clean) if needed and source.clean is not None else []
    if shards:
        import pyarrow.parquet as parquet

        present = parquet.read_schema(shards[0]["path"]).names
        if unknown := [name for name, column in needed.items() if column not in present]:
            raise UsageError(
                f"{unknown[0]} is not known: {source.clean} was cleaned with rules = false, which measures nothing; "
                "clean with filters, or select by something else"
            )


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
    return Source(reads, {"source": {"kind": "clean", "shards": shards_of(origin)}}, origin, (origin,))


def _array(source: Path, out: Path, clean: Path | None) -> Source:
    if clean is not None:
        raise UsageError(f"{source}: clean needs a Parquet file with row, not an array: leave clean out")
    if not source.is_file():
        raise CatpruneError(f"{source} does not exist: give a .npy file")
    described, array = describe_files([source], out)[0], open_array(source)
    reads = {"files": [{**described, "rows": array.shape[0], "type": str(array.dtype)}]}
    return Source(reads, {"source": {"kind": "npy", "path": str(source)}}, None, columns={source.stem: 0})


def _files(sources: Sequence[Path], out: Path, ranking: Ranking, clean: Path | None) -> Source:
    files = [file for source in sources for file in parquet_files(source)]
    check_parts(files)
    if not any(map(count_rows, files)):
        raise CatpruneError(f"{files[0]} has no rows: give a file with a score for each row")
    column = ranking.terms[0][1]
    if ranking.kind != COLUMN and column not in (names := column_names(files[0])):
        raise UsageError(
            f"{files[0]} has no column {column}: give its score column as column, or several columns "
            f"({', '.join(name for name in names if name != 'row')}) in merge"
        )
    reads: dict[str, Any] = {"files": describe_files(files, out)}
    reads["files"][0]["type"] = type_of(files[0], column)
    if clean is None:
        request: SourceRequest = {"source": {"kind": "file", "paths": [str(file) for file in files], "column": column}}
        return Source(reads, request, None, columns={column: 0})
    read_manifest(clean, step="clean")
    reads["clean"] = describe_folder(clean, relative_to=out)
    source = Source(reads, {"source": {"kind": "clean", "shards": shards_of(clean)}}, clean, (clean,))
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
    remedy = how_to_score(sources)
    needed = {
        method.name: needed_checkpoints(method, sets, backward, reference, where=where, remedy=remedy)
        for method in ranking.methods
        if method.reads != "scorer"
    }
    if not sets:
        lacking = (
            "token budgets need scores of checkpoints, which count target tokens: " if ranking.counts_tokens else ""
        )
        raise CatpruneError(f"{lacking}{where} holds no finished scores: {remedy}")
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
    shards = [[shard for folder in parts for shard in shards_of(folder)] for parts in sets.values()]
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
    end = max((shard["end"] for shard in shards_of(clean)), default=0)
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
    described = describe_files([file for files in read.values() for file in files], out)
    if external := [file for file in described if file["path"] not in known]:
        source.reads["external"] = external


def _places(source: Source, sources: Sequence[Path], name: str, join: Sequence[Path]) -> list[tuple[list[Path], str]]:
    """Return the files and columns that a name means, from the first kind of place that has it."""
    folder, _, column = name.partition(".")
    if source.request["source"]["kind"] == "scores" or (source.clean is not None and source.clean not in sources):
        sets = [path / folder for path in sources if (path / folder).is_dir()]
        for part in sets:
            _check_column(part, source.clean)
        files = [file for part in sets for file in parquet_files(part)]
        if files:
            columns = [name for name in column_names(files[0]) if name != "row"]
            if column in columns or (not column and len(columns) == 1):
                return [(files, column or columns[0])]
    groups = [parquet_files(path) for path in join]
    if source.request["source"]["kind"] == "file":
        groups.append([Path(path) for path in source.request["source"]["paths"]])
    elif "files" in source.reads and source.external:
        groups.append([Path(path) for path in source.external[0]["paths"]])
    if places := [(files, name) for files in groups if name in column_names(files[0])]:
        return places
    if source.clean is not None:
        files = [Path(shard["path"]) for shard in shards_of(source.clean)]
        if files and name in column_names(files[0]):
            return [(files, name)]
    return []


def _require_column(sources: Sequence[Path], name: str) -> None:
    """Check that scores folders have a finished column of this name."""
    for source in sources:
        if source.is_dir() and not (source / "manifest.json").is_file():
            if (source / name / "plan.json").is_file():
                read_manifest(source / name, step=SCORER_STEP)
            if (source / f"{name}-margin" / "manifest.json").is_file():
                raise UsageError(f"{source} holds no column {name}, but {name}-margin: give column = {name}-margin")
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
