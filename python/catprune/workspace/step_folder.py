"""A step's folder: its plan (what will be done), its manifest (what was done), its lock and its log.

`plan.json` is written before the work starts, `manifest.json` after it ended; both whole or not at all.

- An equal plan with a manifest is finished work. Plans are equal wherever the folders and files are that they read,
  if their content is equal; then the new places replace the old ones in both files.
- An equal plan without a manifest is continued.
- A plan that only adds rows extends the old one. It lists the digests of the plans before and of their manifests.
  Finished shards stay, but for a last one that is not full: the new rows continue it. The manifest is replaced when the
  new rows are done, and shards that it no longer lists are removed after that.
- Any other plan is an error.

Both files carry their own digest. Paths in them are relative to the folder, so that equal work gives equal bytes
wherever it is done.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Self

from catprune._core import __version__, digest_file
from catprune.errors import CatpruneError, OtherPlan
from catprune.workspace.files import append_line, append_text, holds_files, read_json, to_json, write_whole
from catprune.workspace.locks import check_folder, lock_folder
from catprune.workspace.manifest import (
    COLUMN_SETS,
    digest_manifest,
    listed_shards,
    plan_digests,
    verify_shards,
)
from catprune.workspace.plan_differences import describe_differences
from catprune.workspace.sealed import ABOUT, FORMAT, RESULTS, digest_work, is_same_work, read_sealed, seal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from catprune.workspace.shards import Shard

    Plan = Mapping[str, Any]

#: The state from which a training continues; never part of a result.
STATE = "state.safetensors"
#: The folder in which a training that prunes keeps the losses of rows; never part of a result.
PRUNED_ROWS = "pruned-rows"
#: The digests of finished files, a line each, for a step that is resumed; never part of a result.
SHARDS = "log/shards"
#: Names of the files and folders that steps make; `force` removes nothing else.
OWN = (
    "manifest.json",
    "part-*",
    *COLUMN_SETS.values(),
    "neighbours.npy",
    "tmp",
    "tokenizer.json",
    "unigrams.safetensors",
    "metrics.jsonl",
    STATE,
    PRUNED_ROWS,
    "epoch-*",
    "step-*",
    "results.json",
    "rows.npy",
    "checkpoint",
    "*.tmp",
)


class StepFolder:
    """A locked step folder; use it as a context manager.

    Args:
        path: the folder; it is made if it does not exist.
        step: the name of the command that owns the folder.
        reads: the folders and files that the step reads, with digests (see `describe_folder`).
        options: every option that changes the result, and none that does not (threads, memory).
        force: empty a folder that holds other work instead of refusing it; equal work stays.
        extends: called with the old and the new plan: whether the new one only adds rows. Finished work then stays.
        moved: called with the old and the new plan: the old plan with the new places of inputs whose content is equal,
            and the results that are new by that in the manifest; None if there are none.
        threads: for a step of torch, whose results depend on it: the number of threads that was asked for, and the one
            without that. Unfinished work in the folder goes on with its own number unless one was asked for.
        shard: the part of the work that this process does; the other processes may use the folder at the same time.
        wait: wait until another process has left the folder, instead of raising an error.

    Attributes:
        keeps: names of entries that `clear` leaves.
        plan: the content of `plan.json`.
        digest: xxh3-128 of the plan; shards carry it in their metadata.
        manifest: the manifest of finished equal work, else None.
        finished_before: whether the work was finished when the folder was opened, so that there is nothing to do.
        before: the manifest of finished work that this plan extends, until this plan is finished, else None.
        threads: the number of threads of torch; None for other steps.

    Raises:
        OtherPlan: the folder holds work with another plan.
        CatpruneError: another process uses the folder, or it holds files that are not catprune's.
    """

    keeps: ClassVar[frozenset[str]] = frozenset({"log", "plan.json"})

    def __init__(
        self,
        path: Path,
        *,
        step: str,
        reads: dict[str, Any],
        options: dict[str, Any],
        force: bool = False,
        extends: Callable[[Plan, Plan], bool] | None = None,
        moved: Callable[[Plan, Plan], tuple[dict[str, Any], dict[str, Any]] | None] | None = None,
        threads: tuple[int | None, int] | None = None,
        shard: Shard | None = None,
        wait: bool = False,
    ) -> None:
        self.path = path
        plan = {"format": FORMAT, "step": step, "results": RESULTS.get(step, 1), "reads": reads, "options": options}
        self._set_plan(json.loads(to_json(plan)))
        self.manifest: dict[str, Any] | None = None
        self.finished_before = False
        self.before: dict[str, Any] | None = None
        self._extends = extends
        self._moved = moved
        self._asked = None if threads is None else threads[0]
        self.threads = None if threads is None else threads[0] or threads[1]
        self._force = force
        self._shard = shard if shard is not None and not shard.is_whole else None
        self._wait = wait
        self._locks: list[IO[bytes]] = []
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        check_folder(self.path)
        plan_path = self.path / "plan.json"
        if self.path.is_dir() and not plan_path.is_file() and holds_files(self.path, but=self.keeps):
            raise CatpruneError(f"{self.path} holds files that are not catprune's: give an empty or new folder")
        try:
            self._locks.append(lock_folder(self.path, shared=self._shard is not None, wait=self._wait))
            if self._shard is not None:
                self._locks.append(lock_folder(self.path, name=f"shard-{self._shard.name}"))
            self._adopt(plan_path)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        while self._locks:
            self._locks.pop().close()

    def _set_plan(self, plan: dict[str, Any]) -> None:
        self.plan, self.digest = plan, digest_work(plan)

    @property
    def digests(self) -> frozenset[str]:
        """The digests of this plan and of the plans that it extends: shards of any of them are part of the work."""
        return plan_digests(self.plan)

    def _entries(self) -> list[Path]:
        """The entries of the folder besides those that `clear` keeps."""
        return sorted(entry for entry in self.path.iterdir() if entry.name not in self.keeps)

    def _adopt(self, plan_path: Path) -> None:
        """Compare the plan with the one in the folder; write it if there is none."""
        if plan_path.is_file():
            old, about = self._read_plan(plan_path)
            former = {"extends": old.pop("extends")} if "extends" in old else {}
            if old != self.plan:
                old = self._move(old, former, about)
            if old == self.plan:
                self._set_plan(self.plan | former)
                self._continue(about)
            elif not self._force and self._extends is not None and self._extends(old, self.plan):
                self._extend(old | former)
            else:
                # A plan without files (the step failed in its first seconds) may be replaced, unless other shards may
                # have started by it.
                if (not self._force and holds_files(self.path, but=self.keeps)) or self._shard is not None:
                    raise OtherPlan(
                        f"{self.path} holds work with {describe_differences({**about, **old}, self.plan)}: "
                        "give another folder, or force = true to replace it",
                        base=self.path,
                        old=old,
                        new=self.plan,
                    )
                self.clear()
        if not plan_path.is_file():
            self._write_plan()
        if (self.path / "manifest.json").is_file():
            manifest = self._read_manifest()
            if manifest is None or (self._force and "extends" in self.plan):
                self.start_over()
                return
            if not self._is_of_plan(manifest):
                self.before = manifest
                return
            self.manifest = manifest
            self.finished_before = True
            if "extends" in manifest:
                self._remove_strays(manifest)  # a kill after the manifest was written may have left them
            if self._force:
                self._redo_damaged(manifest)

    def _read_plan(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the plan in the folder, and what it says besides; `force` takes a damaged one for other work."""
        try:
            old = read_sealed(path)
        except CatpruneError:
            if not self._force:
                raise
            old = {"step": self.plan["step"], "reads": {}, "options": {}}
            with contextlib.suppress(CatpruneError):
                old |= read_json(path)
            if old["step"] not in RESULTS:
                old["step"] = self.plan["step"]
            old["results"] = None  # equal to no plan
        if old.get("step") != self.plan["step"]:
            content = f"the work of `{old['step']}`" if "step" in old else "a plan.json that is not catprune's"
            raise CatpruneError(f"{self.path} holds {content}: give another folder")
        return {key: value for key, value in old.items() if key not in ABOUT}, {
            key: value for key, value in old.items() if key in ABOUT
        }

    def _read_manifest(self) -> dict[str, Any] | None:
        """Return the manifest in the folder; None if there is none, or if it was changed and is to be replaced."""
        path = self.path / "manifest.json"
        try:
            return read_sealed(path) if path.is_file() else None
        except CatpruneError:
            if self._force:
                return None
            raise

    def _move(self, old: dict[str, Any], former: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
        """Write the new places of equal inputs into the plan and the manifest, and return the plan with them.

        The manifest comes first: after a kill between the two this is done again.
        """
        is_alike = old["reads"].keys() == self.plan["reads"].keys()
        new, results = (is_alike and self._moved and self._moved(old, self.plan)) or (old, {})
        if is_same_work(new, self.plan):
            new = self.plan
        if new == old:
            return old
        manifest = self._read_manifest()
        if manifest is not None and manifest.get("extends") == former.get("extends"):
            write_whole(self.path / "manifest.json", seal({**manifest, "reads": new["reads"], **results}))
        write_whole(self.path / "plan.json", seal({**new, **former, **about}))
        return new

    def _continue(self, about: dict[str, Any]) -> None:
        """Go on with the number of threads of the work in the folder, unless another one was asked for."""
        if self.threads is None or (self.path / "manifest.json").is_file():
            return
        self.threads = self._asked or about.get("threads") or self.threads
        if about.get("threads") != self.threads:
            self._write_plan()

    def _write_plan(self) -> None:
        write_whole(self.path / "plan.json", seal(self.plan | self._threads()))

    def _threads(self) -> dict[str, Any]:
        return {} if self.threads is None else {"threads": self.threads}

    def _is_of_plan(self, manifest: Mapping[str, Any]) -> bool:
        """Whether a manifest is this plan's, and not that of a plan it extends."""
        return manifest.get("extends") == self.plan.get("extends")

    def _extend(self, old: dict[str, Any]) -> None:
        """Replace the old plan by one that adds rows, whether the old work was finished or not."""
        path = self.path / "manifest.json"
        former = {"plan": digest_work(old)}
        if path.is_file() and read_sealed(path).get("extends") == old.get("extends"):
            former["manifest"] = digest_manifest(self.path)
        self._set_plan({**self.plan, "extends": [*old.get("extends", []), former]})
        self._write_plan()

    def _redo_damaged(self, manifest: dict[str, Any]) -> None:
        """Start over if files of finished work were changed; with `force`, other equal work stays."""
        try:
            verify_shards(self.path, manifest)
        except CatpruneError:
            self.start_over()

    def clear(self) -> None:
        """Remove what the step made. The manifest goes first: a partly removed folder must not look finished.

        Raises:
            CatpruneError: the folder holds something that the step did not make; nothing is removed.
        """
        for entry in self._entries():
            if not any(entry.match(pattern) for pattern in OWN) or (entry / "plan.json").exists():
                raise CatpruneError(f"`{self.plan['step']}` did not make {entry}: move it elsewhere first")
        (self.path / "manifest.json").unlink(missing_ok=True)
        for entry in self._entries():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        (self.path / "plan.json").unlink(missing_ok=True)

    def start_over(self) -> None:
        """Empty the folder and write the plan again, because an input of the finished work changed."""
        self.clear()
        self._set_plan({name: value for name, value in self.plan.items() if name != "extends"})
        self._write_plan()
        self.manifest = self.before = None
        self.finished_before = False

    def publish(self, **results: Any) -> dict[str, Any]:
        """Write `manifest.json` (the plan and `results`), after removing files of interrupted runs.

        Returns:
            The manifest.
        """
        if self._shard is not None:
            # Several processes may find all shards done: they take turns, and the first one publishes.
            self._locks.append(lock_folder(self.path, name="publish", wait=True))
            if self._read_plan(self.path / "plan.json")[0] != self.plan:
                raise CatpruneError(f"{self.path} now holds other work: give another folder")
            path = self.path / "manifest.json"
            if path.is_file() and self._is_of_plan(done := read_sealed(path)):
                self.manifest = done
                return done
        manifest = json.loads(to_json({"catprune": __version__, **self.plan, **self._threads(), **results}))
        # Until the manifest is replaced, the shards that the old one lists must stay.
        self._remove_strays(manifest, self.before or {})
        for draft in self.path.rglob("*.tmp"):
            if draft.is_file():
                draft.unlink(missing_ok=True)
        replaced = {shard["file"] for shard in listed_shards(self.before or {})}
        listed = {shard["file"] for shard in listed_shards(manifest)} | replaced
        others = [
            path
            for entry in self._entries()
            if entry.name != PRUNED_ROWS
            for path in [entry, *sorted(entry.rglob("*"))]
            if path.is_file() and path.name not in {"manifest.json", STATE}
        ]
        names = [str(path.relative_to(self.path)) for path in others]
        manifest["files"] = {name: digest_file(str(self.path / name)) for name in names if name not in listed}
        write_whole(self.path / "manifest.json", seal(manifest))
        if self.before is not None:
            self._remove_strays(manifest)
        self.manifest = manifest
        self.log("finished", seconds=round(time.monotonic() - self._started, 3))
        return manifest

    def _remove_strays(self, *manifests: Mapping[str, Any]) -> None:
        """Remove the shards that no manifest lists."""
        listed = {shard["file"] for manifest in manifests for shard in listed_shards(manifest)}
        for pattern in ("part-*", *(f"{name}/part-*" for name in COLUMN_SETS.values())):
            for shard in self.path.glob(pattern):
                if str(shard.relative_to(self.path)) not in listed and shard.is_file():
                    shard.unlink(missing_ok=True)

    def note_file(self, file: str, digest: str) -> None:
        """Note the digest of a finished file, so that a resumed step believes no other bytes."""
        append_text(self.path / SHARDS, f"{digest} {file}\n")

    def is_noted(self, file: str) -> bool:
        """Whether a file has the bytes that this step finished before."""
        path = self.path / file
        return path.is_file() and self.shard_digests().get(file) == digest_file(str(path))

    def shard_digests(self) -> dict[str, str]:
        """Return the digests of finished files by name: noted ones, and those of the manifest that it extends."""
        path = self.path / SHARDS
        listed = {shard["file"]: shard["digest"] for shard in (self.before or {}).get("shards", [])}
        lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        return listed | {file: digest for digest, _, file in (line.partition(" ") for line in lines)}

    def log(self, event: str, **values: Any) -> None:
        """Append one line to `log/events.jsonl`: times and rates, which the manifest never holds."""
        line = {"time": round(time.time(), 3), "event": event, "plan": self.digest, **values}
        append_line(self.path / "log" / "events.jsonl", line)


def finish_once(folder: StepFolder, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the manifest of `folder`; if the work is not finished, do it and publish its results first."""
    return folder.manifest if folder.manifest is not None else folder.publish(**work())
