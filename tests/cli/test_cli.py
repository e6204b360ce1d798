"""The command line and the package's interface: exit codes, one-line errors, Ctrl-C, a full disk, lazy imports."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import catprune
import pytest
import typer
from catprune import CatpruneError, _core
from catprune.workspace.signals import STOPPING

CATPRUNE = [sys.executable, "-m", "catprune"]


def call(*arguments: Any, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CATPRUNE, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False)


def loaded(statement: str) -> set[str]:
    heavy = "{'torch', 'numpy', 'pyarrow', 'transformers', 'tokenizers', 'typer', 'pydantic', 'tqdm'}"
    code = f"{statement}\nimport sys\nprint(*({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_import_loads_nothing_heavy() -> None:
    assert loaded("import catprune; dir(catprune); catprune.__version__; catprune.CatpruneError") == set()


def test_help_loads_only_typer_and_the_checks_of_options() -> None:
    quietly = "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):"
    code = f"import catprune.cli as c, contextlib, io\n{quietly} c.app(['--help'])"
    assert loaded(code) == {"typer", "pydantic"}


def test_every_step_is_a_function_of_its_name() -> None:
    import catprune.cleaning.clean
    import catprune.pipeline.run

    for name in catprune.__all__:
        assert getattr(catprune, name) is not None
    for step in (
        "clean",
        "tokenize",
        "train",
        "score",
        "select",
        "write",
        "evaluate",
        "report",
        "explore",
        "run",
        "prune",
        "demo",
    ):
        assert callable(getattr(catprune, step)), step
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        catprune.nothing  # noqa: B018


def test_corpus_commands_work_without_torch(tmp_path: Path, pair: Any) -> None:
    source, target = pair(b"ein Haus\nein Hund\n", b"a house\na dog\n")
    names = "('torch', 'safetensors', 'ctranslate2', 'sacrebleu', 'jinja2')"
    blocked = f"import sys\nfor name in {names}: sys.modules[name] = None\n"
    code = blocked + "from catprune.__main__ import main; main()"
    commands = [
        ["clean", source, target, "-o", tmp_path / "clean"],
        ["tokenize", tmp_path / "clean", "-o", tmp_path / "tokens", "--vocab-size", "300"],
        ["select", tmp_path / "clean", "--method", "random", "--keep", "1", "-o", tmp_path / "half"],
        ["write", tmp_path / "clean", tmp_path / "p.en", tmp_path / "p.de", "--selection", tmp_path / "half"],
        ["methods"],
        ["doctor"],
    ]
    for command in commands:
        run = subprocess.run(
            [sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
    assert (tmp_path / "p.en").read_bytes().count(b"\n") == 1
    train = [sys.executable, "-c", code, "train", str(tmp_path / "tokens"), "-o", str(tmp_path / "warmup")]
    run = subprocess.run(train, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "install catprune with its extra torch" in run.stderr


def test_exit_codes_and_one_line_errors(tmp_path: Path, pair: Any) -> None:
    source, target = pair(b"a b\n" * 3, b"x y\n" * 2)
    run = call("clean", source, target, "-o", tmp_path / "clean")
    assert (run.returncode, run.stderr.count("\n")) == (1, 1)
    assert "text.de ends after line 2" in run.stderr
    run = call("clean", tmp_path / "nowhere", target, "-o", tmp_path / "clean")
    assert (run.returncode, run.stderr.count("\n")) == (1, 1)
    assert "nowhere: No such file or directory" in run.stderr
    assert call("clean", "one", "-o", tmp_path / "clean").returncode == 2
    assert call("clean", source, target).returncode == 2
    assert call("clean", source, target, "-o", tmp_path / "c", "--memory", "lots").returncode == 2
    assert call("nonsense").returncode == 2
    assert call("--version").stdout.strip() == _core.__version__


def test_json_is_the_result(tmp_path: Path, pair: Any) -> None:
    source, target = pair(b"ein Haus\nein Haus\n", b"a house\na house\n")
    run = call("clean", source, target, "-o", tmp_path / "clean", "--json")
    assert json.loads(run.stdout)["kept"] == 1
    assert json.loads(run.stdout)["reasons"]["duplicate"] == 1


RUN_FILE = """
out = "again"
[clean]
inputs = ["train.en", "train.de"]
[[select]]
name = "random"
method = "random"
[evaluate]
steps = 2
batch_tokens = 256
resamples = 20
[[evaluate.tests]]
name = "test"
source = "test.en"
target = "test.de"
"""


def test_every_command_works_from_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run of each, then again: `--json` gives an object, `--quiet` nothing, and finished work is reported."""
    from catprune.cli import app
    from catprune.demonstration.bitext import write_demo_bitext

    monkeypatch.chdir(tmp_path)
    write_demo_bitext(tmp_path, pairs=250, test_pairs=3, seed=1)
    (tmp_path / "run.toml").write_text(RUN_FILE)
    commands = {
        "clean train.en train.de -o run/clean --tags train.kind --threads 1 --memory 1G": "kept",
        "tokenize run/clean -o run/tokens --vocab-size 300": "pairs",
        "train run/tokens -o run/warmup --steps 2 --checkpoints 1steps --batch-tokens 256 --precision float32": "flops",
        "score run/tokens -o run/scores --checkpoints run/warmup/step-1 --checkpoints b=run/warmup/step-2": "folders",
        "select run/scores -o run/selection --method cat-diff --on nll --keep 50%tokens --within tag": "tokens_kept",
        "write run/clean p.en.gz p.de.gz --selection run/selection": "pairs",
        "report run --seed 2": "path",
        "run run.toml --threads 1": "selections",
        "evaluate run.toml --threads 1": "subsets",
        "prune train.en train.de --keep 30 -o pruned": None,
        "prune train.en train.de q.en q.de --keep 30 -o pruned --threads 1": "outputs",
        "demo -o demo --pairs 200 --steps 2 --threads 1": "nll",
        "doctor": "machine",
    }
    for command, key in commands.items():
        code = app([*command.split(), "--json"], standalone_mode=False)
        captured = capsys.readouterr()
        if key is None:
            assert code == 2 and "outputs are missing" in captured.err
            continue
        assert code in (0, None), captured.err
        assert key in json.loads(captured.out)
        if command != "doctor":
            app([*command.split(), "--quiet"], standalone_mode=False)
            assert capsys.readouterr().out == "", command
        if command.split()[0] not in ("doctor", "report"):
            assert json.loads(captured.out)["is_new"] is (command.split()[0] != "evaluate"), command
            app(command.split(), standalone_mode=False)
            lines = capsys.readouterr().out.splitlines()
            assert re.fullmatch(r"nothing to do: .+ (is|are) finished", lines[0]), command
    app(["methods", "--json"], standalone_mode=False)
    assert {method["name"] for method in json.loads(capsys.readouterr().out)} > {"cat-diff", "random"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_a_pass_and_the_same_command_continues(tmp_path: Path, number: int, code: int) -> None:
    text = tmp_path / "text.en"
    text.write_bytes(b"a\n" * 20_000_000)
    (tmp_path / "text.de").hardlink_to(text)
    # A test runner may ignore the signal, and children inherit that.
    listening = "import signal, runpy; signal.signal(signal.SIGINT, signal.default_int_handler)"
    listening += "; [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)]"
    listening += "; runpy.run_module('catprune', run_name='__main__')"
    command = [sys.executable, "-c", listening, "clean", text, tmp_path / "text.de", "-o", tmp_path / "clean"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "clean" / "plan.json").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == code
    assert "interrupted; run the same command again to continue" in errors
    assert not (tmp_path / "clean" / "manifest.json").exists()
    assert not list((tmp_path / "clean").rglob("*.tmp"))


def test_a_full_disk_is_reported_and_nothing_is_published(
    tmp_path: Path, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pair(b"ein Haus\nein Hund\n", b"a house\na dog\n")
    clean = tmp_path / "clean"
    name = "part-000000000000"
    (clean / "columns").mkdir(parents=True)
    (clean / "columns" / f"{name}.tmp").symlink_to("/dev/full")
    run = call("clean", source, target, "-o", clean)
    assert run.returncode == 1
    assert (
        f"{name}-000000000002.parquet: No space left on device: free space on the disk, then run the same command"
        in run.stderr
    )
    assert not list((clean / "columns").glob("*.parquet"))
    assert call("clean", source, target, "-o", clean).returncode == 0
    (tmp_path / "p.de.tmp").symlink_to("/dev/full")
    monkeypatch.setattr(import_module("catprune.writing.write"), "refuse_outputs", lambda *_, **__: None)  # the link
    with pytest.raises(OSError, match=r"No space left on device: .*p\.de"):
        catprune.write(clean, [tmp_path / "p.en", tmp_path / "p.de"])
    assert not (tmp_path / "p.en").exists()
    assert not (tmp_path / "p.de").exists()
    assert call("write", clean, tmp_path / "p.en", tmp_path / "p.de").returncode == 0


def test_a_log_that_cannot_grow_is_named(tmp_path: Path, pair: Any) -> None:
    source, target = pair(b"ein Haus\n", b"a house\n")
    (tmp_path / "clean" / "log").mkdir(parents=True)
    (tmp_path / "clean" / "log" / "events.jsonl").symlink_to("/dev/full")
    run = call("clean", source, target, "-o", tmp_path / "clean")
    assert run.returncode == 1
    assert "events.jsonl: No space left on device" in run.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_outside_of_a_command_has_its_exit_code(monkeypatch: Any, number: int, code: int) -> None:
    """The library of the command line would end with 130 for all of them."""

    def invoke(*_: Any) -> None:
        raise KeyboardInterrupt(number)

    monkeypatch.setattr(import_module("catprune.cli.help").Commands, "invoke", invoke)
    monkeypatch.setattr(sys, "argv", ["catprune", "version"])
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        with pytest.raises(SystemExit) as ended:
            import_module("catprune.__main__").main()
    finally:
        for stopping, handler in before.items():
            signal.signal(stopping, handler)
    assert ended.value.code == code


def test_a_second_signal_while_the_process_exits_changes_nothing() -> None:
    """Launchers send SIGTERM twice."""
    script = (
        "import atexit, os, signal, sys; from catprune.__main__ import main; sys.argv = ['catprune', 'version']; "
        "atexit.register(os.kill, os.getpid(), signal.SIGTERM); main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_out_of_memory_is_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from catprune.cli.output import guarded

    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")):

        @guarded
        def command(error: Exception = error) -> None:
            raise error

        with pytest.raises(typer.Exit) as ended:
            command()
        assert ended.value.exit_code == 1
        shown = capsys.readouterr().err
        assert "out of memory: train in parts" in shown and "smaller preset or less memory" in shown
    with pytest.raises(RuntimeError, match="something else"):
        command(RuntimeError("something else"))


def test_two_processes_do_not_share_a_folder(tmp_path: Path, pair: Any) -> None:
    import fcntl

    paths = pair(b"ein Haus\n", b"a house\n")
    (tmp_path / "clean" / "log").mkdir(parents=True)
    with (tmp_path / "clean" / "log" / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CatpruneError, match="another process is at work"):
            catprune.clean(paths, out=tmp_path / "clean")
    assert catprune.clean(paths, out=tmp_path / "clean").kept == 1
    assert (tmp_path / "clean" / "manifest.json").exists()
