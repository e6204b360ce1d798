"""Special environments: closed streams, NFS, quotas, folders that cannot be synced or written."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import catprune
import pytest
from catprune import CatpruneError
from catprune.workspace import resources
from catprune.workspace.files import whole_file
from catprune.workspace.terminal import one_line, printable

CATPRUNE = [sys.executable, "-m", "catprune"]
PREAMBLE = "import errno, fcntl, os, stat, sys\nfrom catprune.cli import app\n"

#: flock like an NFSv4 client: shared locks need a file open for reading, exclusive locks for writing.
NFS = """
real = fcntl.flock
def flock(file, how):
    number = file if isinstance(file, int) else file.fileno()
    mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
    if stat.S_ISREG(os.fstat(number).st_mode):
        if how & fcntl.LOCK_SH and mode == os.O_WRONLY or how & fcntl.LOCK_EX and mode == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return real(file, how)
fcntl.flock = flock
"""
NO_SYNC = """
real = os.fsync
def fsync(file):
    if stat.S_ISDIR(os.fstat(file if isinstance(file, int) else file.fileno()).st_mode):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return real(file)
os.fsync = fsync
"""
NO_LOCKS = """
def flock(file, how):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = flock
"""


def call(*arguments: Any, system: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"{PREAMBLE}{system}app()", *map(str, arguments)] if system else None
    return subprocess.run(
        command or [*CATPRUNE, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


@pytest.fixture
def texts(pair: Any) -> tuple[Path, Path]:
    lines = [f"the house number {number} is green and old\n" for number in range(40)]
    return pair("".join(lines).encode(), "".join(lines).replace("the house", "das haus").encode())


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault(tmp_path: Path, texts: tuple[Path, Path], redirection: str) -> None:
    quoted = " ".join(f"'{path}'" for path in texts)
    program = f"'{sys.executable}' -m catprune"
    script = (
        f"{program} clean {quoted} -o clean {redirection} && "
        f"{program} tokenize clean -o tokens --vocab-size 300 {redirection}"
    )
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tokens/manifest.json").is_file()


def test_python_without_standard_error(texts: tuple[Path, Path], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert catprune.clean(texts, out=tmp_path / "clean").rows == 40


def test_the_trainer_of_the_tokenizer_imports_nothing_from_the_working_folder(
    tmp_path: Path, texts: tuple[Path, Path]
) -> None:
    catprune.clean(texts, out=tmp_path / "clean", quiet=True)
    for name in ("threading", "json", "tokenizers"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('mine')")
    code = f"import sys, catprune; sys.path = [p for p in sys.path if p]; catprune.tokenize({str(tmp_path / 'clean')!r}"
    run = subprocess.run(
        [sys.executable, "-P", "-c", f"{code}, out='tokens', vocab_size=300, quiet=True)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("system", [NFS, NO_SYNC])
def test_other_file_systems(tmp_path: Path, texts: tuple[Path, Path], system: str) -> None:
    for command in (
        ["clean", *texts, "-o", tmp_path / "clean", "-q"],
        ["tokenize", tmp_path / "clean", "-o", tmp_path / "tokens", "--vocab-size", 300, "-q"],
        ["write", tmp_path / "clean", tmp_path / "p.en", tmp_path / "p.de", "-q"],
        ["score", tmp_path / "clean", "--scorer", f"{tmp_path / 'own.py'}:half", "-o", tmp_path, "--shard=1/2", "-q"],
        ["score", tmp_path / "clean", "--scorer", f"{tmp_path / 'own.py'}:half", "-o", tmp_path, "--shard=2/2", "-q"],
    ):
        (tmp_path / "own.py").write_text("def half(sources, targets):\n    return [0.5 for _ in sources]\n")
        run = call(*command, system=system)
        assert run.returncode == 0, (command, run.stderr)


def test_a_file_system_without_locks_is_named_with_the_file(tmp_path: Path, texts: tuple[Path, Path]) -> None:
    run = call("clean", *texts, "-o", tmp_path / "clean", system=NO_LOCKS)
    assert run.returncode == 1
    assert f"{tmp_path / 'clean/log/lock'} cannot be locked" in run.stderr


def test_a_deleted_working_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    script = f"cd '{tmp_path / 'gone'}'; rmdir '{tmp_path / 'gone'}'; '{sys.executable}' -m catprune clean a b -o c"
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "catprune: the working folder was deleted" in run.stderr


def unprivileged(*arguments: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    if os.geteuid() != 0:
        return call(*arguments, cwd=cwd)
    if shutil.which("setpriv") is None:
        pytest.skip("root without setpriv")
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    return subprocess.run(
        [*drop, *CATPRUNE, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_a_clean_folder_that_cannot_be_written_is_read(tmp_path: Path, texts: tuple[Path, Path]) -> None:
    catprune.clean(texts, out=tmp_path / "clean", quiet=True)
    for path in texts:
        shutil.copyfile(path, path.with_suffix(".copy"))
        path.with_suffix(".copy").replace(path)  # the same bytes, another inode
    for folder in (tmp_path / "clean", tmp_path / "clean/log"):
        folder.chmod(0o555)
    try:
        for command in (["stats", "clean"], ["write", "clean", "p.en", "p.de"], ["clean", "--dry-run", *texts]):
            run = unprivileged(*command, cwd=tmp_path)
            assert run.returncode == 0, run.stderr
        tmp_path.chmod(0o555)
        run = unprivileged("clean", "--dry-run", *texts, cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        run = unprivileged("prune", "--dry-run", *texts, "x.en", "x.de", "--method=random", cwd=tmp_path)
        assert run.returncode == 0, run.stderr
    finally:
        for folder in (tmp_path, tmp_path / "clean", tmp_path / "clean/log"):
            folder.chmod(0o755)


def test_a_damaged_cache_is_no_fault(tmp_path: Path, texts: tuple[Path, Path]) -> None:
    catprune.clean(texts, out=tmp_path / "clean", quiet=True)
    for content in (b"{", b"[]", b"\xff", b'{"x": 1}'):
        (tmp_path / "clean/log/digests.json").write_bytes(content)
        assert sum(batch.num_rows for batch in catprune.open_corpus(tmp_path / "clean")) == 40


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000", "a/cpu.max": "max 100000"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "50000 100000"}, 1),
        ("0::/../outside\n", {"cpu.max": "100000 100000"}, 1),
        ("4:cpu,cpuacct:/x\n", {"cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "50000"}, 2),
        ("4:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, 3),
        ("garbage", {}, 3),
    ],
)
def test_default_threads_follow_quota_and_affinity(
    tmp_path: Path, monkeypatch: Any, groups: str, limits: dict[str, str], expected: int
) -> None:
    group_file(tmp_path, monkeypatch, groups, limits)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 7})
    assert resources.choose_threads(None) == expected
    assert resources.choose_threads(9) == 9


@pytest.mark.parametrize(
    ("groups", "limits"),
    [
        ("0::/job\n", {"job/memory.max": "1073741824", "memory.max": "max"}),
        ("0::/job/step\n", {"job/step/memory.max": "max", "job/memory.max": "1073741824"}),
        ("9:memory:/job\n", {"memory/job/memory.limit_in_bytes": "1073741824"}),
    ],
)
def test_default_memory_is_half_of_the_limit(
    tmp_path: Path, monkeypatch: Any, groups: str, limits: dict[str, str]
) -> None:
    group_file(tmp_path, monkeypatch, groups, limits)
    assert resources.choose_memory(None) == 2**29
    assert resources.choose_memory(None, least=2**29 + 1) == 2**29 + 1


def group_file(tmp_path: Path, monkeypatch: Any, groups: str, limits: dict[str, str]) -> None:
    (tmp_path / "cgroup").write_text(groups)
    for name, text in limits.items():
        path = tmp_path / "limits" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    monkeypatch.setattr(resources, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resources, "_LIMITS", tmp_path / "limits")


def test_threads_of_a_process_that_may_use_one_processor() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from catprune.workspace.resources import choose_threads; print(choose_threads(None))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


def test_numbers_that_cannot_be_are_refused(tmp_path: Path, texts: tuple[Path, Path]) -> None:
    (tmp_path / "t.tsv").write_text("a b\tc d\n")
    huge = 10**20
    for columns in (f"1,{huge}", (1, huge), (0, 1), (2, 2)):
        with pytest.raises(CatpruneError, match="columns"):
            catprune.clean([tmp_path / "t.tsv"], columns=columns, out=tmp_path / "c")  # pyright: ignore[reportArgumentType]
    with pytest.raises(CatpruneError, match="threads"):
        catprune.clean(texts, threads=huge, out=tmp_path / "c")
    with pytest.raises(CatpruneError, match="threads"):
        catprune.open_corpus(list(texts), threads=huge)


def test_paths_that_are_bytes_are_refused(tmp_path: Path, texts: tuple[Path, Path]) -> None:
    catprune.clean(texts, out=tmp_path / "clean", quiet=True)
    for call_it in (
        lambda: catprune.open_corpus(b"/x"),  # pyright: ignore
        lambda: catprune.open_corpus(tmp_path / "clean", selection=b"x"),  # pyright: ignore
        lambda: catprune.open_corpus(list(texts), tags=b"x"),  # pyright: ignore
        lambda: catprune.open_corpus(list(texts), max_line_bytes="x"),  # pyright: ignore
        lambda: catprune.clean(b"/x", out=tmp_path / "c"),  # pyright: ignore
        lambda: catprune.write(b"x", [b"y"]),  # pyright: ignore
    ):
        with pytest.raises(CatpruneError):
            call_it()


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table([["a"], ["b"], ["c"]], names=["en", "de", "en"])
    parquet.write_table(table, tmp_path / "t.parquet")
    for inputs in (table, [tmp_path / "t.parquet"]):
        with pytest.raises(CatpruneError, match="two columns en"):
            catprune.clean(inputs, source_lang="en", target_lang="de", out=tmp_path / "clean", quiet=True)


def test_text_that_is_printed_controls_no_terminal() -> None:
    assert printable("a\x1b[31mb\x07\x7f\x9b\u202e\udcff\n\tüא\u200f") == (
        "a\\x1b[31mb\\x07\\x7f\\x9b\\u202e\\xff\n\tüא\u200f"
    )
    assert one_line("a\nb") == "a\\nb"
    assert len(one_line("x" * 90_000)) < 2100


def test_two_spools_into_one_file_do_not_mix(tmp_path: Path) -> None:
    with whole_file(tmp_path / "all.tsv", wait=False) as first:
        first.write(b"first")
        with (
            pytest.raises(CatpruneError, match="another process writes"),
            whole_file(tmp_path / "all.tsv", wait=False) as second,
        ):
            second.write(b"second")
    assert (tmp_path / "all.tsv").read_bytes() == b"first"


def test_a_parquet_file_that_is_replaced_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    def table(word: str) -> Path:
        rows = 200_000
        path = tmp_path / f"{word}.parquet"
        values = [f"{word} {row}" for row in range(rows)]
        parquet.write_table(pyarrow.table({"en": values, "de": values[::-1]}), path, compression="zstd")
        return path

    first, second = table("one"), table("two")
    digest = catprune.clean([first], fields=("en", "de"), out=tmp_path / "alone", quiet=True).manifest["inputs"][0]
    while_reading = threading.Event()
    original = catprune._core.clean

    def clean_slowly(request: Any, progress: Any) -> Any:
        def report(done: int, rows: int) -> None:
            if done and not while_reading.is_set():
                while_reading.set()
                second.replace(first)
            progress(done, rows)

        return original(request, report)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catprune._core, "clean", clean_slowly)
        done = catprune.clean([first], fields=("en", "de"), out=tmp_path / "clean", threads=1)
    assert while_reading.is_set()
    # The digest is of the bytes that were read; the next step notices the changed file.
    assert done.manifest["inputs"][0]["files"][0]["digest"] == digest["files"][0]["digest"]
    with pytest.raises(CatpruneError, match="changed since it was cleaned"):
        catprune.write(tmp_path / "clean", [tmp_path / "p.en", tmp_path / "p.de"])


def test_errors_of_the_system_name_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file") as caught, whole_file(tmp_path / "file" / "x"):
        pass
    assert caught.value.errno == errno.ENOTDIR
