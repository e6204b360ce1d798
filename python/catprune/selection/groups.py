"""Groups that are ranked separately: inputs, tags and length buckets, and records with shares of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.corpus.templates import find_sides
from catprune.errors import UsageError
from catprune.selection.external_files import shards_of
from catprune.workspace.manifest import read_manifest
from catprune.workspace.wording import some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catprune.boundary import GroupsRequest, Of, OwnShare, Within
    from catprune.selection.request import Ranking
    from catprune.selection.sources import Source


def describe_groups(within: Within | None, ranking: Ranking, source: Source) -> GroupsRequest:
    """Build the part of the request with the groups that are ranked separately; joins lengths if needed."""
    owns: list[OwnShare] = []
    request: GroupsRequest = {"within": within, "inputs": [], "own": owns, "length": None, "clean": None}
    if within == "length" and source.request["source"]["kind"] != "scores":
        if source.clean is None:
            raise UsageError("within length needs the clean folder: give clean = FOLDER")
        files = [Path(shard["path"]) for shard in shards_of(source.clean)]
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
        request["clean"] = shards_of(source.clean)
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
