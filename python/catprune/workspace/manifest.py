"""Manifests of finished steps: read and verify them, and trace the folders that they were made from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import digest_bytes, digest_file
from catprune.errors import CatpruneError
from catprune.workspace.files import read_json, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


#: The version of plans and manifests; it rises when their content changes its meaning.
FORMAT = 2


#: The folder with the shards of a step's columns; it holds nothing else, so that other tools read it whole.
COLUMNS = "columns"
#: The lists of shards in a manifest, and the folder of each; token blocks are in the step's folder itself.
COLUMN_SETS = {"shards": COLUMNS, "duplicates": "duplicates", "fingerprints": "fingerprints"}


def read_manifest(folder: Path, *, step: str) -> dict[str, Any]:
    """Read the manifest of a finished step.

    Raises:
        CatpruneError: the folder does not exist, is unfinished, or belongs to another step; the message says which
            command to run.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        state = "is unfinished" if (folder / "plan.json").is_file() else "does not exist or is not a step's folder"
        raise CatpruneError(f"{folder} {state}: run `catprune {step}` into it first")
    manifest = read_json(path)
    if manifest.get("step") != step:
        raise CatpruneError(f"{folder} holds the result of `{manifest.get('step')}`, not of `{step}`")
    if manifest.get("format") != FORMAT:
        raise CatpruneError(
            f"{folder} was written in format {manifest.get('format')}, this catprune reads format {FORMAT}: run "
            f"`catprune {step}` again with --force"
        )
    return manifest


def describe_folder(folder: Path, *, relative_to: Path) -> dict[str, str]:
    """Describe a folder that a plan reads: its relative path, and the digest of its manifest."""
    return {
        "path": os.path.relpath(folder.absolute(), relative_to.absolute()),
        "manifest": digest_manifest(folder),
    }


def plan_digests(manifest: Mapping[str, Any]) -> frozenset[str]:
    """Return the digests of a manifest's plan and of the plans that it extends; its shards carry one of them."""
    names = ("format", "step", "version", "reads", "options", "extends")
    plan = {name: manifest[name] for name in names if name in manifest}
    return frozenset([digest_bytes(to_json(plan)), *(former["plan"] for former in manifest.get("extends", []))])


def formers(folder: Path) -> frozenset[str]:
    """Return the digests of the manifests that a finished folder had before rows were appended to it."""
    extended = read_json(folder / "manifest.json").get("extends", [])
    return frozenset(former["manifest"] for former in extended if "manifest" in former)


def reads_appended(name: str, folder: Path) -> Callable[[Mapping[str, Any], Mapping[str, Any]], bool]:
    """Return the `extends` of a `StepFolder`: whether a new plan differs only by rows appended to `folder`.

    Args:
        name: the folder's name among what the plan reads.
        folder: the folder.
    """

    def extends(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
        read = old["reads"].get(name)
        is_appended = isinstance(read, dict) and read["manifest"] in formers(folder)  # pyright: ignore[reportUnknownVariableType]
        return is_appended and {**old, "reads": {**old["reads"], name: new["reads"][name]}} == new

    return extends


def digest_manifest(folder: Path) -> str:
    """Return the xxh3-128 digest of a folder's manifest, which stands for all that the folder holds.

    Raises:
        CatpruneError: the folder has no manifest.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise CatpruneError(
            f"{folder} is not the folder of a finished step: give another folder, or finish the step first"
        )
    return digest_file(str(path))


def trace(folder: Path, manifest: Mapping[str, Any], step: str) -> Path | None:
    """Find the folder of an earlier `step` that a folder was made from, directly or through other steps.

    Returns:
        The folder; None if there is none.

    Raises:
        CatpruneError: a folder in between is missing, or holds other work than it did: rows would not mean the same.
    """
    for name, read in manifest["reads"].items():
        for entry in read if isinstance(read, list) else [read]:  # pyright: ignore[reportUnknownVariableType]
            if not (isinstance(entry, dict) and "manifest" in entry):
                continue
            origin = Path(os.path.normpath(folder.absolute() / str(entry["path"])))  # pyright: ignore[reportUnknownArgumentType]
            if not (origin / "manifest.json").is_file():
                raise CatpruneError(
                    f"{folder} was made from {origin}, which is missing: restore {origin}, or make {folder} again"
                )
            if digest_manifest(origin) != entry["manifest"]:
                raise CatpruneError(f"{folder} was made from {origin}, which changed since: make {folder} again")
            ancestor = origin if name == step else trace(origin, read_json(origin / "manifest.json"), step)
            if ancestor is not None:
                return ancestor
    return None


def listed_shards(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the shards that a manifest lists, of all column sets."""
    return [shard for key in COLUMN_SETS for shard in manifest.get(key, [])]


def verify_shards(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Compare every file that a manifest lists with its digest. This takes about as long as reading the files.

    Raises:
        CatpruneError: a file is missing or was changed.
    """
    digests = {shard["file"]: shard["digest"] for shard in listed_shards(manifest)} | manifest.get("files", {})
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file() or digest_file(str(path)) != digest:
            state = "was changed since it was written" if path.is_file() else "is missing"
            raise CatpruneError(f"{path} {state}: run `catprune {manifest['step']}` again with force = true")
