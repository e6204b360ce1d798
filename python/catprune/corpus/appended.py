"""Appended rows: tells which steps of a run stay valid and which must be repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from catprune.corpus.inputs import relative_inputs
from catprune.errors import CatpruneError, OtherPlan
from catprune.workspace.files import holds_files
from catprune.workspace.manifest import formers
from catprune.workspace.sealed import read_sealed
from catprune.workspace.step_folder import StepFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from catprune.boundary import Input

Result = TypeVar("Result")


def is_before_appending(work: OtherPlan) -> bool:
    """Whether the old work has the same options, but was made before rows were appended to a folder that it reads.

    The other folders that it reads may differ, since they depend on that one.
    """
    same = _without_manifests(work.old) == _without_manifests(work.new)
    return same and any(
        was_appended_to(work.base / read["path"], read["manifest"]) for read in _folders(work.old["reads"])
    )


def is_selected_before(work: OtherPlan, *, but: Sequence[str]) -> bool:
    """Whether an old selection has the same options, but was made before rows were appended to its corpus.

    Args:
        work: the error of the selection.
        but: options that may differ, because they depend on another selection.
    """
    old, new = ({**plan, "options": {**plan["options"]}} for plan in (work.old, work.new))
    if "by_exposure" not in old["options"]:
        but = [*but, "by_exposure"]  # plans have this option only once a model has not seen all rows
    for plan in (old, new):
        # Columns of cleaning and of scorers are listed by their files; appended rows add files.
        plan["reads"] = {name: read for name, read in plan["reads"].items() if name != "external"}
        plan["options"] = {name: value for name, value in plan["options"].items() if name not in but}
    return is_before_appending(OtherPlan(str(work), base=work.base, old=old, new=new))


def replacing(when: Callable[[OtherPlan], bool], step: Callable[..., Result]) -> Callable[..., Result]:
    """Return a step that replaces old work if `when` returns True, and raises `OtherPlan` otherwise."""

    def do(*arguments: Any, **options: Any) -> Result:
        try:
            return step(*arguments, **options)
        except OtherPlan as work:
            if not when(work):
                raise
            return step(*arguments, **{**options, "force": True})

    return do


def was_appended_to(folder: Path, manifest: str) -> bool:
    """Whether rows were appended to a folder since its manifest had this digest."""
    return (folder / "manifest.json").is_file() and manifest in formers(folder)


def _folders(reads: Any) -> Iterator[Mapping[str, str]]:
    """Yield the folders that a plan reads, as `describe_folder` returns them."""
    if isinstance(reads, dict) and "manifest" in reads:
        yield reads  # pyright: ignore[reportUnknownVariableType]
    elif isinstance(reads, dict | list):
        for entry in reads.values() if isinstance(reads, dict) else reads:  # pyright: ignore[reportUnknownVariableType]
            yield from _folders(entry)


def _without_manifests(plan: Any) -> Any:
    """Return a plan without the digests of manifests: folders are identified by path."""
    if isinstance(plan, dict):
        return {name: _without_manifests(entry) for name, entry in plan.items() if name != "manifest"}  # pyright: ignore[reportUnknownVariableType]
    return [_without_manifests(entry) for entry in plan] if isinstance(plan, list) else plan  # pyright: ignore[reportUnknownVariableType]


def has_new_inputs(run: Path, inputs: Sequence[Input]) -> bool:
    """Whether inputs were appended to those that a run has cleaned.

    Args:
        run: the run's folder.
        inputs: all inputs, as `parse_inputs` returns them.
    """
    plan = run / "clean" / "plan.json"
    before = read_sealed(plan)["reads"]["inputs"] if plan.is_file() else []
    now = relative_inputs(inputs, run / "clean")
    return 0 < len(before) < len(now) and now[: len(before)] == before


def has_appended_rows(run: Path) -> bool:
    """Whether inputs were appended to a run since it started."""
    plan = run / "clean" / "plan.json"
    return plan.is_file() and "extends" in read_sealed(plan)


def require_trained(run: Path) -> None:
    """Refuse to append inputs to a run while a training is unfinished: its tokens would be replaced.

    Raises:
        CatpruneError: a training or an evaluation is unfinished.
    """
    for folder in (run / "warmup", run / "evaluate"):
        is_unfinished = (folder / "plan.json").is_file() and not (folder / "manifest.json").is_file()
        if is_unfinished and holds_files(folder, but=StepFolder.keeps):
            raise CatpruneError(
                f"{folder} is unfinished and was started without the new inputs: finish the run without them first, "
                "or move the folder elsewhere"
            )
