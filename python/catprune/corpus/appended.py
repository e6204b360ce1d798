"""A corpus that rows were joined to: what of the work that was made from it before stands, and what is made anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from catprune.corpus.inputs import relative_input
from catprune.errors import CatpruneError, OtherPlan
from catprune.workspace.files import holds_files, read_json
from catprune.workspace.manifest import formers
from catprune.workspace.step_folder import StepFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from catprune.boundary import Input

Result = TypeVar("Result")


def is_outgrown(work: OtherPlan) -> bool:
    """Whether what is in the way was made by the same plan, before rows were joined to a folder that it reads.

    What the other folders hold that it reads may differ: they follow from that one.
    """
    same = _without_manifests(work.old) == _without_manifests(work.new)
    return same and any(is_grown(work.base / read["path"], read["manifest"]) for read in _folders(work.old["reads"]))


def is_selected_before(work: OtherPlan, *, but: Sequence[str]) -> bool:
    """Whether a selection that is in the way was made by the same options before rows were joined to its corpus.

    Args:
        work: what is in the way.
        but: options that follow from another selection, and may differ.
    """
    old, new = ({**plan, "options": {**plan["options"]}} for plan in (work.old, work.new))
    if "by_exposure" not in old["options"]:
        but = [*but, "by_exposure"]  # it stands in a plan once a model has not seen all rows
    for plan in (old, new):
        # Columns of cleaning and of scorers are named by their files, of which there are more now.
        plan["reads"] = {name: read for name, read in plan["reads"].items() if name != "joined"}
        plan["options"] = {name: value for name, value in plan["options"].items() if name not in but}
    return is_outgrown(OtherPlan(str(work), base=work.base, old=old, new=new))


def replacing(when: Callable[[OtherPlan], bool], step: Callable[..., Result]) -> Callable[..., Result]:
    """A step that replaces the work in its way where that is right, and only then."""

    def do(*arguments: Any, **options: Any) -> Result:
        try:
            return step(*arguments, **options)
        except OtherPlan as work:
            if not when(work):
                raise
            return step(*arguments, **{**options, "force": True})

    return do


def is_grown(folder: Path, manifest: str) -> bool:
    """Whether rows have been joined to a folder since its manifest had this digest."""
    return (folder / "manifest.json").is_file() and manifest in formers(folder)


def _folders(reads: Any) -> Iterator[Mapping[str, str]]:
    """The folders among what a plan reads, as `describe_folder` gives them."""
    if isinstance(reads, dict) and "manifest" in reads:
        yield reads  # pyright: ignore[reportUnknownVariableType]
    elif isinstance(reads, dict | list):
        for one in reads.values() if isinstance(reads, dict) else reads:  # pyright: ignore[reportUnknownVariableType]
            yield from _folders(one)


def _without_manifests(plan: Any) -> Any:
    """A plan that names folders by their paths alone."""
    if isinstance(plan, dict):
        return {name: _without_manifests(one) for name, one in plan.items() if name != "manifest"}  # pyright: ignore[reportUnknownVariableType]
    return [_without_manifests(one) for one in plan] if isinstance(plan, list) else plan  # pyright: ignore[reportUnknownVariableType]


def is_growing(run: Path, inputs: Sequence[Input]) -> bool:
    """Whether there are inputs behind those that a run has cleaned.

    Args:
        run: the run's folder.
        inputs: as `parse_inputs` gives them.
    """
    plan = run / "clean" / "plan.json"
    before = read_json(plan)["reads"]["inputs"] if plan.is_file() else []
    now = [relative_input(one, run / "clean") for one in inputs]
    return 0 < len(before) < len(now) and now[: len(before)] == before


def has_joined(run: Path) -> bool:
    """Whether inputs have been joined to those that a run began with."""
    plan = run / "clean" / "plan.json"
    return plan.is_file() and "extends" in read_json(plan)


def require_trained(run: Path) -> None:
    """Refuse to join inputs to a run while its models are half trained: what they are trained on would be gone.

    Raises:
        CatpruneError: a training, or an evaluation, is unfinished.
    """
    for folder in (run / "warmup", run / "evaluate"):
        begun = (folder / "plan.json").is_file() and not (folder / "manifest.json").is_file()
        if begun and holds_files(folder, but=StepFolder.keeps):
            raise CatpruneError(
                f"{folder} is unfinished and was begun without the inputs that are new: finish it without them first, "
                "or move it away"
            )
