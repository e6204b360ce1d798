"""Manifests of finished steps: read and verify them, and trace the folders that they were made from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import digest_file
from catprune.errors import CatpruneError
from catprune.workspace.files import resolve_place
from catprune.workspace.resources import digest_all
from catprune.workspace.sealed import digest_work, read_sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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
        for inner in sorted(folder.glob("*/manifest.json")):  # the folder of a whole run
            if read_sealed(inner).get("step") == step:
                raise CatpruneError(f"{folder} is no step's folder: give {inner.parent}")
        state = "is unfinished" if (folder / "plan.json").is_file() else "does not exist or is not a step's folder"
        raise CatpruneError(f"{folder} {state}: run `catprune {step}` into it first")
    manifest = read_sealed(path)
    if manifest.get("step") != step:
        raise CatpruneError(f"{folder} holds the result of `{manifest.get('step')}`, not of `{step}`")
    return manifest


def describe_folder(folder: Path, *, relative_to: Path) -> dict[str, str]:
    """Describe a folder that a plan reads: its relative path, and the digest of its manifest."""
    return {
        "path": os.path.relpath(os.path.realpath(folder), os.path.realpath(relative_to)),
        "manifest": digest_manifest(folder),
    }


def plan_digests(manifest: Mapping[str, Any]) -> frozenset[str]:
    """Return the digests of a manifest's plan and of the plans that it extends; its shards carry one of them."""
    names = ("format", "step", "results", "reads", "options", "extends")
    plan = {name: manifest[name] for name in names if name in manifest}
    return frozenset([digest_work(plan), *(former["plan"] for former in manifest.get("extends", []))])


def formers(folder: Path) -> frozenset[str]:
    """Return the digests of the manifests that a finished folder had before rows were appended to it."""
    extended = read_sealed(folder / "manifest.json").get("extends", [])
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
    """Return the digest of the work in a folder, which stands for all that the folder holds; see `digest_work`.

    Raises:
        CatpruneError: the folder has no manifest, or the manifest was changed.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise CatpruneError(
            f"{folder} is not the folder of a finished step: give another folder, or finish the step first"
        )
    return digest_work(read_sealed(path))


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
            origin = Path(resolve_place(folder, str(entry["path"])))  # pyright: ignore[reportUnknownArgumentType]
            if not (origin / "manifest.json").is_file():
                raise CatpruneError(
                    f"{folder} was made from {origin}, which is missing: restore {origin}, or make {folder} again"
                )
            if digest_manifest(origin) != entry["manifest"]:
                raise CatpruneError(f"{folder} was made from {origin}, which changed since: make {folder} again")
            ancestor = origin if name == step else trace(origin, read_sealed(origin / "manifest.json"), step)
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
    listed = _digests(manifest)
    for name in listed:
        if not (folder / name).is_file():
            raise _unlike(folder / name, manifest)
    digests = digest_all([folder / name for name in listed])
    for (name, digest), now in zip(listed.items(), digests, strict=True):
        if now != digest:
            raise _unlike(folder / name, manifest)


def verify_file(folder: Path, manifest: Mapping[str, Any], name: str) -> None:
    """Compare one file that a manifest lists with its digest.

    Raises:
        CatpruneError: the file is missing or was changed.
    """
    path = folder / name
    if not path.is_file() or digest_file(str(path)) != _digests(manifest).get(name):
        raise _unlike(path, manifest)


def _unlike(path: Path, manifest: Mapping[str, Any]) -> CatpruneError:
    """The error of a file that is not what its manifest lists."""
    state = "was changed since it was written" if path.is_file() else "is missing"
    return CatpruneError(f"{path} {state}: run `catprune {manifest['step']}` again with force = true")


def _digests(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {shard["file"]: shard["digest"] for shard in listed_shards(manifest)} | manifest.get("files", {})
