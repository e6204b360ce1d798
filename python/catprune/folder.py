"""A step's folder: its plan (what will be done), its manifest (what was done), its lock and its log.

`plan.json` is written before the work starts and `manifest.json` after it ended, both whole or not at all.
An equal plan with a manifest is finished work; an equal plan without one is picked up; another plan is an error, unless
it only adds rows: then the plan lists what it extends (digests of the plans before and of their manifests), what was
done stays, and the manifest is replaced when the new rows are done.
Paths in both are relative to the folder, so that equal work gives equal bytes wherever it is done.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Self

from catprune._core import __version__, digest_bytes, digest_file
from catprune.errors import CatpruneError, OtherPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from catprune.sharing import Shard

FORMAT = 1
#: Where a training keeps what it needs to go on; never part of a result.
STATE = "state.safetensors"
#: The folder in which one that prunes keeps the losses of rows while it lasts; likewise.
PRUNED_ROWS = "pruned-rows"
#: The lists of shards in a manifest; all but the first stand in folders of their names.
COLUMN_SETS = ("shards", "duplicates", "fingerprints")
#: Names of what steps make in their folders; `--force` removes nothing else.
OWN = (
    "manifest.json",
    "part-*",
    "duplicates",
    "fingerprints",
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
    "translations",
    "*.tmp",
)


@contextlib.contextmanager
def whole_file(path: Path) -> Generator[IO[bytes]]:
    """Write `<path>.tmp`, sync it, rename it to `path`, and sync the folder; writers of one file take turns.

    Raises:
        OSError: with the name of the file; nothing is left behind.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with _open_alone(temporary, error_name=str(path)) as stream:
        try:
            stream.truncate(0)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            temporary.rename(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            error.filename = str(path)
            raise
    sync_folder(path.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to a file that has its name when it is whole; see `whole_file`."""
    with whole_file(path) as stream:
        stream.write(data)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append a line of JSON to a log.

    Raises:
        OSError: with the name of the file.
    """
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")
    except OSError as error:
        error.filename = str(path)
        raise


def _open_alone(temporary: Path, *, error_name: str) -> IO[bytes]:
    """Open and lock the file of this name: what a killed process left is taken over, what a living one writes is not.

    The name is looked at again under the lock, because the writer before us has renamed the file that we waited for.
    """
    while True:
        try:
            stream = temporary.open("ab")
        except OSError as error:
            error.filename = error_name
            raise
        fcntl.flock(stream, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), temporary.stat()):
                return stream
        stream.close()


def to_json(value: Mapping[str, Any]) -> bytes:
    """One way to write JSON: sorted keys, two spaces, a final newline; NaN is refused."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError as error:
        # No name holds a quotation mark that JSON has not escaped.
        name = text[text.rindex('"', 0, error.start) + 1 : text.index('"', error.end)]
        raise CatpruneError(f"{name.encode(errors='replace').decode()} is not UTF-8: rename it") from None


def read_json(path: Path, *, remedy: str = "remove it and run the step again") -> dict[str, Any]:
    """Read a JSON object: one that catprune wrote, unless another `remedy` is told where it is damaged."""
    try:
        value: Any = json.loads(path.read_bytes())
    except ValueError as error:
        raise CatpruneError(f"{path} is not JSON ({error}): {remedy}") from None
    if not isinstance(value, dict):
        raise CatpruneError(f"{path} holds no JSON object: {remedy}")
    return value  # pyright: ignore[reportUnknownVariableType]


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


def holds_files(path: Path, *, but: frozenset[str]) -> bool:
    """Whether there is anything in a folder but entries of these names and what an interrupted run did not finish."""
    entries = [entry for entry in path.iterdir() if entry.name not in but]
    return any(one.is_file() and one.suffix != ".tmp" for entry in entries for one in [entry, *entry.rglob("*")])


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


def _listed(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The shards that a manifest lists, of all the column sets of its folder."""
    return [shard for key in COLUMN_SETS for shard in manifest.get(key, [])]


def verify_shards(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Compare every file that a manifest lists with its digest; columns read as fast as the disk gives them.

    Raises:
        CatpruneError: a file is missing or holds other bytes.
    """
    digests = {shard["file"]: shard["digest"] for shard in _listed(manifest)} | manifest.get("files", {})
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file() or digest_file(str(path)) != digest:
            state = "was changed since it was made" if path.is_file() else "is gone"
            raise CatpruneError(f"{path} {state}: run `catprune {manifest['step']}` again with --force")


def _differences(old: object, new: object, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})  # pyright: ignore[reportUnknownVariableType]
        found: list[str] = []
        for key in keys:  # pyright: ignore[reportUnknownVariableType]
            found += _differences(old.get(key), new.get(key), f"{name}.{key}" if name else f"{key}")  # pyright: ignore
        return found
    return [] if old == new else [f"{name} was {json.dumps(old)}, is {json.dumps(new)}"]


class StepFolder:
    """A locked step folder; use it as a context manager. `clear` leaves the entries named in `keeps`.

    Args:
        path: the folder; it is made if it does not exist.
        step: the name of the command that owns it.
        reads: what is read, digests included (see `describe_folder`).
        options: every option that changes the result, and none that does not (threads, memory).
        force: empty a folder that holds other work instead of refusing it; equal work stays.
        extends: whether a new plan only adds rows to an old one, whose work is then kept.
        shard: what this process does of the work; the others may be in the folder at the same time.
        wait: until another process has left the folder, in the place of an error.

    Attributes:
        plan: the dictionary that stands in `plan.json`.
        digest: xxh3-128 of the plan; shards carry it in their metadata.
        manifest: of finished equal work, else None.
        before: of finished work that this plan extends, while it is not finished itself, else None.

    Raises:
        OtherPlan: the folder holds work with another plan.
        CatpruneError: another process is at work in it, or it holds something else.
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
        extends: Callable[[Mapping[str, Any], Mapping[str, Any]], bool] | None = None,
        shard: Shard | None = None,
        wait: bool = False,
    ) -> None:
        self.path = path
        plan = {"format": FORMAT, "step": step, "version": __version__, "reads": reads, "options": options}
        self._set_plan(json.loads(to_json(plan)))
        self.manifest: dict[str, Any] | None = None
        self.before: dict[str, Any] | None = None
        self._extends = extends
        self._force = force
        self._shard = shard if shard is not None and not shard.is_whole else None
        self._wait = wait
        self._locks: list[IO[bytes]] = []
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        if self.path.exists() and not self.path.is_dir():
            raise CatpruneError(f"{self.path} is a file: give a folder")
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
        self.plan, self.digest = plan, digest_bytes(to_json(plan))

    @property
    def digests(self) -> frozenset[str]:
        """Of this plan and of those that it extends: shards of any of them are part of the work."""
        return plan_digests(self.plan)

    def _entries(self) -> list[Path]:
        """What stands in the folder besides what `clear` keeps."""
        return sorted(entry for entry in self.path.iterdir() if entry.name not in self.keeps)

    def _adopt(self, plan_path: Path) -> None:
        """Compare the plan with the one in the folder; write it where there is none."""
        if plan_path.is_file():
            old = read_json(plan_path)
            if old.get("step") != self.plan["step"]:
                held = f"the work of `{old['step']}`" if "step" in old else "a plan.json that is not catprune's"
                raise CatpruneError(f"{self.path} holds {held}: give another folder")
            former = {"extends": old.pop("extends")} if "extends" in old else {}
            if old == self.plan:
                self._set_plan(self.plan | former)
            elif not self._force and self._extends is not None and self._extends(old, self.plan):
                self._extend(old | former)
            else:
                # A plan that nothing came of yet (a mistake in its first seconds) is nobody's work, unless others may
                # have begun by it.
                if (not self._force and holds_files(self.path, but=self.keeps)) or self._shard is not None:
                    differences = _differences(old, self.plan)
                    changed = "; ".join(differences[:3])
                    if all(one.startswith("reads.") and "manifest" in one for one in differences):
                        read = ", ".join(one.partition(" was ")[0].removesuffix(".manifest") for one in differences)
                        changed = f"{read} changed since, or rows were joined to it"
                    raise OtherPlan(
                        f"{self.path} holds work with another plan ({changed}): "
                        "give another folder, or --force to replace it",
                        base=self.path,
                        old=old,
                        new=self.plan,
                    )
                self.clear()
        if not plan_path.is_file():
            write_whole(plan_path, to_json(self.plan))
        if (self.path / "manifest.json").is_file():
            manifest = read_json(self.path / "manifest.json")
            if self._force and "extends" in self.plan:
                self.start_over()
                return
            if not self._is_of_plan(manifest):
                self.before = manifest
                return
            self.manifest = manifest
            if self._force:
                self._redo_damaged(manifest)

    def _is_of_plan(self, manifest: Mapping[str, Any]) -> bool:
        """Whether this is the manifest of the plan, and not of one that it extends."""
        return manifest.get("extends") == self.plan.get("extends")

    def _extend(self, old: dict[str, Any]) -> None:
        """Replace a plan by one that adds rows, whether its work was finished or not."""
        path = self.path / "manifest.json"
        former = {"plan": digest_bytes(to_json(old))}
        if path.is_file() and read_json(path).get("extends") == old.get("extends"):
            former["manifest"] = digest_manifest(self.path)
        self._set_plan({**self.plan, "extends": [*old.get("extends", []), former]})
        write_whole(self.path / "plan.json", to_json(self.plan))

    def _redo_damaged(self, manifest: dict[str, Any]) -> None:
        """Equal work stays under `force`, unless its files are not as they were left."""
        try:
            verify_shards(self.path, manifest)
        except CatpruneError:
            self.start_over()

    def clear(self) -> None:
        """Remove what the step made, the manifest first: what is left is never taken as finished.

        Raises:
            CatpruneError: something in the folder is not the step's own; nothing is removed then.
        """
        for entry in self._entries():
            if not any(entry.match(pattern) for pattern in OWN) or (entry / "plan.json").exists():
                raise CatpruneError(f"{entry} is not what `{self.plan['step']}` makes: move it away first")
        (self.path / "manifest.json").unlink(missing_ok=True)
        for entry in self._entries():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        (self.path / "plan.json").unlink(missing_ok=True)

    def start_over(self) -> None:
        """Empty the folder and write the plan again: what it holds was made from something that changed."""
        self.clear()
        self._set_plan({name: value for name, value in self.plan.items() if name != "extends"})
        write_whole(self.path / "plan.json", to_json(self.plan))
        self.manifest = self.before = None

    def publish(self, **results: Any) -> dict[str, Any]:
        """Write `manifest.json` (the plan and `results`), after removing what interrupted runs left behind."""
        if self._shard is not None:
            # Others may have come to the end, too, or come late: one at a time, and the first does it.
            self._locks.append(lock_folder(self.path, name="publish", wait=True))
            if read_json(self.path / "plan.json") != self.plan:
                raise CatpruneError(f"{self.path} holds other work by now: give another folder")
            path = self.path / "manifest.json"
            if path.is_file() and self._is_of_plan(done := read_json(path)):
                self.manifest = done
                return done
        manifest = json.loads(to_json({**self.plan, **results}))
        listed = {shard["file"] for shard in _listed(manifest)}
        patterns = ["part-*", *(f"{name}/part-*" for name in COLUMN_SETS[1:])]
        shards = [shard for pattern in patterns for shard in self.path.glob(pattern)]
        strays = [shard for shard in shards if str(shard.relative_to(self.path)) not in listed]
        for stray in [*strays, *self.path.rglob("*.tmp")]:
            if stray.is_file():
                stray.unlink(missing_ok=True)
        others = [
            path
            for entry in self._entries()
            if entry.name != PRUNED_ROWS
            for path in [entry, *sorted(entry.rglob("*"))]
            if path.is_file() and path.name not in {"manifest.json", STATE}
        ]
        names = [str(path.relative_to(self.path)) for path in others]
        manifest["files"] = {name: digest_file(str(self.path / name)) for name in names if name not in listed}
        write_whole(self.path / "manifest.json", to_json(manifest))
        self.manifest = manifest
        self.log("finished", seconds=round(time.monotonic() - self._started, 3))
        return manifest

    def log(self, event: str, **values: Any) -> None:
        """Append one line to `log/events.jsonl`: times and speeds, which the manifest never holds."""
        line = {"time": round(time.time(), 3), "event": event, "plan": self.digest, **values}
        append_line(self.path / "log" / "events.jsonl", line)


def lock_folder(path: Path, *, shared: bool = False, name: str = "lock", wait: bool = False) -> IO[bytes]:
    """Make a folder this process's own, or one that it shares, until the stream that comes back is closed.

    Raises:
        CatpruneError: another process has it, or shares it where this one would have it alone.
    """
    (path / "log").mkdir(parents=True, exist_ok=True)
    lock = (path / "log" / name).open("wb")
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        lock.close()
        raise CatpruneError(f"another process is at work in {path}: wait for it or end it") from None
    return lock


def finish_once(folder: StepFolder, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The manifest of `folder`: as it stands if the work is done, else `work()`'s results, published."""
    return folder.manifest if folder.manifest is not None else folder.publish(**work())
