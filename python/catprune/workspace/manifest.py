"""Manifests of finished steps: reading them, what they were made from, and whether their shards are as written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import digest_bytes, digest_file
from catprune.errors import CatpruneError
from catprune.workspace.files import read_json, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


FORMAT = 1


#: The lists of shards in a manifest; all but the first stand in folders of their names.
COLUMN_SETS = ("shards", "duplicates", "fingerprints")


def read_manifest(folder: Path, *, step: str) -> dict[str, Any]:
    """The manifest of a finished step; an error says which command is missing.

    Raises:
        CatpruneError: the folder does not exist, is unfinished, or belongs to another step.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        known = "is unfinished" if (folder / "plan.json").is_file() else "does not exist or is not a step's folder"
        raise CatpruneError(f"{folder} {known}: run `catprune {step}` into it first")
    manifest = read_json(path)
    if manifest.get("step") != step:
        raise CatpruneError(f"{folder} holds the result of `{manifest.get('step')}`, not of `{step}`")
    if manifest.get("format") != FORMAT:
        raise CatpruneError(f"{folder} has format {manifest.get('format')}, this catprune reads {FORMAT}: make it anew")
    return manifest


def describe_folder(folder: Path, *, relative_to: Path) -> dict[str, str]:
    """How a plan names a folder that it reads: relative path, and the digest of its manifest."""
    return {
        "path": os.path.relpath(folder.absolute(), relative_to.absolute()),
        "manifest": digest_manifest(folder),
    }


def plan_digests(manifest: Mapping[str, Any]) -> frozenset[str]:
    """The digests of a manifest's plan and of those that it extends: what its shards carry in their metadata."""
    names = ("format", "step", "version", "reads", "options", "extends")
    plan = {name: manifest[name] for name in names if name in manifest}
    return frozenset([digest_bytes(to_json(plan)), *(former["plan"] for former in manifest.get("extends", []))])


def formers(folder: Path) -> frozenset[str]:
    """The digests of the manifests that a finished folder had before rows were joined to it."""
    extended = read_json(folder / "manifest.json").get("extends", [])
    return frozenset(former["manifest"] for former in extended if "manifest" in former)


def reads_grown(name: str, folder: Path) -> Callable[[Mapping[str, Any], Mapping[str, Any]], bool]:
    """For `StepFolder`: whether a new plan is the old one but for rows that were joined to the `folder` it reads."""

    def extends(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
        read = old["reads"].get(name)
        grown = isinstance(read, dict) and read["manifest"] in formers(folder)  # pyright: ignore[reportUnknownVariableType]
        return grown and {**old, "reads": {**old["reads"], name: new["reads"][name]}} == new

    return extends


def digest_manifest(folder: Path) -> str:
    """xxh3-128 of a folder's manifest: what the folder holds, in 32 digits."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise CatpruneError(f"{folder} is not the folder of a finished step: name one, or finish it first")
    return digest_file(str(path))


def trace(folder: Path, manifest: Mapping[str, Any], step: str) -> Path | None:
    """The folder of an earlier `step` that this one was made from, through the steps between; None if there is none.

    Raises:
        CatpruneError: a folder on the way is gone, or holds other work than it did: rows would not mean the same.
    """
    for name, read in manifest["reads"].items():
        for one in read if isinstance(read, list) else [read]:  # pyright: ignore[reportUnknownVariableType]
            if not (isinstance(one, dict) and "manifest" in one):
                continue
            origin = Path(os.path.normpath(folder.absolute() / str(one["path"])))  # pyright: ignore[reportUnknownArgumentType]
            if not (origin / "manifest.json").is_file():
                raise CatpruneError(f"{folder} was made from {origin}, which is gone: bring it back, or redo {folder}")
            if digest_manifest(origin) != one["manifest"]:
                raise CatpruneError(f"{folder} was made from {origin} as it no longer is: redo {folder}")
            found = origin if name == step else trace(origin, read_json(origin / "manifest.json"), step)
            if found is not None:
                return found
    return None


def listed_shards(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The shards that a manifest lists, of all the column sets of its folder."""
    return [shard for key in COLUMN_SETS for shard in manifest.get(key, [])]


def verify_shards(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Compare every file that a manifest lists with its digest; columns read as fast as the disk gives them.

    Raises:
        CatpruneError: a file is missing or holds other bytes.
    """
    digests = {shard["file"]: shard["digest"] for shard in listed_shards(manifest)} | manifest.get("files", {})
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file() or digest_file(str(path)) != digest:
            state = "was changed since it was made" if path.is_file() else "is gone"
            raise CatpruneError(f"{path} {state}: run `catprune {manifest['step']}` again with --force")
