"""What a selection reads: score sets of checkpoints, a clean folder, or a column in a Parquet file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune import _core
from catprune.errors import CatpruneError, UsageError
from catprune.folder import describe_folder, digest_manifest, read_json, read_manifest, trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catprune.methods import Method


@dataclass(frozen=True, slots=True)
class Source:
    """What is read: `reads` for the plan, `request` for the pass, and the cleaned corpus behind it.

    `folders` are those whose shards are ranked. `partly_seen` names the checkpoints that had been trained on some of
    the rows more often than on others.
    """

    reads: dict[str, Any]
    request: dict[str, Any]
    clean: Path | None
    folders: tuple[Path, ...] = ()
    partly_seen: tuple[str, ...] = ()


def open_source(
    source: Path,
    out: Path,
    method: Method,
    *,
    checkpoints: Sequence[str] | None,
    column: str | None,
    clean: Path | None,
) -> Source:
    """Find out what `source` is, and what the pass and the plan must know of it.

    Raises:
        UsageError: a source and options that do not go together.
        CatpruneError: unfinished folders, or checkpoints that cannot be compared.
    """
    if column is not None:
        return _file(source, out, column, clean)
    if source.is_file():
        raise UsageError(f"{source} is a file: name its score column with --column")
    if (source / "manifest.json").is_file() and read_json(source / "manifest.json").get("step") == "clean":
        if method.needs:
            raise UsageError(
                f"{method.name} needs scores of checkpoints, {source} holds verdicts: give a scores folder"
            )
        return Source(
            {"clean": describe_folder(source, relative_to=out)},
            {"source": {"kind": "clean", "shards": _shards(source)}},
            source,
            (source,),
        )
    _refuse_other_steps(source)
    return _scores(source, out, method, checkpoints, clean)


def _refuse_other_steps(source: Path) -> None:
    """A folder of scores holds steps' folders and is none itself."""
    plan = source / "plan.json"
    written = next((path for path in (source / "manifest.json", plan) if path.is_file()), None)
    step = None if written is None else read_json(written).get("step")
    if step == "score":
        raise UsageError(
            f"{source} is one checkpoint's scores: give {source.absolute().parent}, and --checkpoint {source.name}"
        )
    if step == "tokenize":
        raise UsageError(f"{source} is a tokens folder: score it first (`catprune score`), and give the scores' folder")
    if step is not None:
        raise UsageError(f"{source} is a folder of `{step}`: give the folder that `catprune score` wrote into")


def _file(source: Path, out: Path, column: str, clean: Path | None) -> Source:
    if not source.exists():
        raise CatpruneError(f"{source} does not exist: give a Parquet file with row and {column}")
    if not source.is_file():
        raise UsageError(f"{source} is not a file: --column goes with a Parquet file")
    path = os.path.relpath(source.absolute(), out.absolute())
    reads: dict[str, Any] = {"file": {"path": path, "digest": _core.digest_file(str(source))}}
    if clean is not None:
        read_manifest(clean, step="clean")
        reads["clean"] = describe_folder(clean, relative_to=out)
    request: dict[str, Any] = {"source": {"kind": "file", "path": str(source), "column": column}}
    if clean is not None:
        request["clean"] = _shards(clean)
    return Source(reads, request, clean)


def _scores(source: Path, out: Path, method: Method, checkpoints: Sequence[str] | None, clean: Path | None) -> Source:
    folders = find_scores(source, checkpoints)
    if len(folders) < method.needs:
        names = ", ".join(folder.name for folder in folders) or "none"
        raise CatpruneError(
            f"{method.name} needs scores of {method.needs} checkpoints, "
            f"{source} has {len(folders)} ({names}): run `catprune score` for more"
        )
    if not folders:
        raise CatpruneError(f"{source} holds no finished scores: run `catprune score` into it first")
    if method.reads == "ends":
        folders = [folders[0], folders[-1]]
    elif method.reads == "last":
        folders = folders[-1:]
    _check_common_tokens(folders)
    behind = trace(folders[0], read_manifest(folders[0], step="score"), "clean")
    if clean is not None and (behind is None or digest_manifest(clean) != digest_manifest(behind)):
        raise CatpruneError(f"{folders[0]} was made from {behind}, not from {clean}: leave --clean out")
    return Source(
        {"scores": [describe_folder(folder, relative_to=out) for folder in folders]},
        {"source": {"kind": "scores", "sets": [_shards(folder) for folder in folders]}},
        behind,
        tuple(folders),
        tuple(folder.name for folder in folders if method.needs and _is_partly_seen(folder)),
    )


def _is_partly_seen(folder: Path) -> bool:
    """Whether some rows had been trained on more often than others; of other rows than these nothing is known."""
    seen = read_manifest(folder, step="score")["checkpoint"]["seen"]
    return seen is not None and (bool(seen["once_more"]) or seen["rows"] != "all")


def find_scores(source: Path, checkpoints: Sequence[str] | None) -> list[Path]:
    """The finished score sets in a folder, or those of these names, in training order: by step, by name.

    Raises:
        CatpruneError: a name that is not there or is unfinished, or one given twice.
    """
    if not source.is_dir():
        raise CatpruneError(f"{source} does not exist: run `catprune score` into it first")
    if checkpoints is None:
        finished = [entry for entry in source.iterdir() if (entry / "manifest.json").is_file()]
        folders = [entry for entry in finished if read_json(entry / "manifest.json").get("step") == "score"]
    else:
        if len(set(checkpoints)) < len(checkpoints):
            raise UsageError(f"checkpoints {', '.join(checkpoints)}: give each name once")
        folders = [source / name for name in checkpoints]
    steps = {folder: read_manifest(folder, step="score")["checkpoint"]["step"] for folder in folders}
    return sorted(folders, key=lambda folder: (steps[folder], folder.name))


def _check_common_tokens(folders: Sequence[Path]) -> None:
    """Fails unless all of these were scored over the same token blocks."""
    reads = [read_manifest(folder, step="score")["reads"]["tokens"] for folder in folders]
    for folder, read in zip(folders, reads, strict=True):
        if read["manifest"] != reads[0]["manifest"]:
            raise CatpruneError(
                f"{folders[0]} and {folder} were scored over different tokens: their nll cannot be compared"
            )


def _shards(folder: Path) -> list[dict[str, Any]]:
    shards = read_json(folder / "manifest.json")["shards"]
    return [{"path": str(folder / shard["file"]), "first": shard["first"], "end": shard["end"]} for shard in shards]


def describe_groups(within: str | None, clean: Path | None) -> dict[str, Any]:
    """What the pass must know to rank groups apart."""
    if within is None:
        return {"within": None, "inputs": []}
    if clean is None:
        raise UsageError(f"within {within} needs the clean folder: name it with --clean")
    manifest = read_manifest(clean, step="clean")
    if within == "input":
        return {"within": within, "inputs": [[one["first"], one["end"]] for one in manifest["inputs"]]}
    if not manifest["reads"].get("tags"):
        raise UsageError(f"{clean} has no tags: clean with --tags, or rank within input")
    return {"within": within, "inputs": [], "clean": _shards(clean)}
