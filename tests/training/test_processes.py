"""Several processes that train one model: the result equals a single process, and has the same bytes after a kill."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from catprune.checkpoints.native import load_tensors
from catprune.errors import CatpruneError, UsageError
from catprune.training.processes import Processes
from catprune.training.rendezvous import Rendezvous
from catprune.training.train import train
from catprune.workspace.shards import Shard
from support.synthetic import contents, write_tokens
from torch.distributed import TCPStore

OPTIONS = {
    "steps": 12,
    "checkpoints": "6steps",
    "warmup_steps": 5,
    "learning_rate": 2e-3,
    "batch_tokens": 256,
    "save_every": 4,
    "threads": 1,
    "precision": "float32",
    "quiet": True,
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """Also with batches of one pair, which leave a process without a pair."""
    folder = tmp_path_factory.mktemp("processes")
    return write_tokens(folder / "tokens", pairs=90, block=50, longest=120)


def write_script(tokens, out, before, options):
    script = out.with_suffix(".py")
    call = f"importlib.import_module('catprune.training.train').train({str(tokens)!r}, out={str(out)!r}, **{options!r})"
    script.write_text(f"import importlib, os, signal\n{textwrap.dedent(before)}\nprint({call}.steps)\n")
    return script


def train_in_two(tokens, out, *, before="", **options):
    """Train with two processes, as torchrun would start them; `before` runs in each of them first.

    Returns what they ended with, and what both wrote.
    """
    script = write_script(tokens, out, before, options)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables, "RANK": str(number), "LOCAL_RANK": str(number)},
        )
        for number in range(2)
    ]
    wrote = [process.communicate(timeout=300) for process in processes]
    return [process.returncode for process in processes], wrote


def test_two_processes_of_torchrun_train_the_model_of_one(tokens):
    options = OPTIONS | {"dropout": 0.0, "accumulate": 3}
    single, two = tokens.parent / "one", tokens.parent / "two"
    whole = train(tokens, out=single, **options)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command.append(str(write_script(tokens, two, "", options)))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("12") == 2, "both return"
    assert (two / "plan.json").read_bytes() == (single / "plan.json").read_bytes()
    manifest = json.loads((two / "manifest.json").read_bytes())
    assert (manifest["target_tokens"], manifest["steps"]) == (whole.target_tokens, whole.steps)
    assert manifest["flops"] < whole.flops, "each pads its own part"
    for name in ("step-6", "step-12"):
        ours, theirs = (load_tensors(folder / name / "model.safetensors")[0] for folder in (single, two))
        for key in ours:
            torch.testing.assert_close(theirs[key], ours[key], rtol=1e-3, atol=2e-5)
    losses = [
        [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (single, two)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_two_processes_that_are_stopped_go_on_to_the_same_bytes(tokens):
    """First, one process gets Ctrl-C: both stop after the same update. Then one process is killed."""
    whole, broken = tokens.parent / "whole", tokens.parent / "broken"
    codes, wrote = train_in_two(tokens, whole, **OPTIONS)
    assert codes == [0, 0], wrote
    sends = """
        from catprune.training import loop
        signal.signal(signal.SIGINT, signal.default_int_handler)
        update = loop.Training._update
        def disturbed(training, *batch):
            if training.at.step == {step} and os.environ["RANK"] == "1":
                os.kill(os.getpid(), signal.{name})
            update(training, *batch)
        loop.Training._update = disturbed
    """
    codes, wrote = train_in_two(tokens, broken, before=sends.format(step=6, name="SIGINT"), **OPTIONS)
    assert all(codes) and all("KeyboardInterrupt" in err for _, err in wrote)
    assert json.loads(load_tensors(broken / "state.safetensors")[1]["position"])["step"] == 8
    codes, wrote = train_in_two(tokens, broken, before=sends.format(step=9, name="SIGKILL"), **OPTIONS)
    assert codes[1] == -signal.SIGKILL and codes[0]
    assert "another process of this training ended or hangs" in wrote[0][1]
    assert json.loads(load_tensors(broken / "state.safetensors")[1]["position"])["step"] == 8
    assert train_in_two(tokens, broken, **OPTIONS)[0] == [0, 0]
    assert contents(broken) == contents(whole)


@pytest.fixture
def alone(tokens):
    """Start one process of two by the command line; `before` runs in it first."""
    started = []

    def start(number, before=""):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        arguments = ["train", str(tokens), "--out", str(tokens.parent / "alone"), "--steps", "12", "--threads", "1"]
        script = f"import sys\n{textwrap.dedent(before)}\nfrom catprune.__main__ import main\nmain()\n"
        variables = {"RANK": str(number), "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": port}
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables, "MASTER_ADDR": "127.0.0.1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


IMPATIENT = """
    import datetime
    from catprune.training import rendezvous
    rendezvous.NOTICE, rendezvous.HUNG = 0.2, datetime.timedelta(seconds={seconds})
"""


@pytest.mark.parametrize(
    ("number", "whom"),
    [(0, "the other processes (1 of 2 is here; missing: rank 1)"), (1, "rank 0, at 127.0.0.1:")],
)
def test_a_process_whose_peers_do_not_come_says_so_and_ends(alone, number, whom):
    process = alone(number, IMPATIENT.format(seconds=2))
    _, text = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"train: waiting for {whom}" in text and "for at most 2 seconds" in text
    assert f"waited 2 seconds for {whom}" in text and "start all of them with one torchrun command" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_waits_for_its_peers_can_be_stopped(alone, number, name):
    process = alone(number, IMPATIENT.format(seconds=120))
    assert "waiting for" in process.stderr.readline()
    process.send_signal(getattr(signal, name))
    process.communicate(timeout=20)
    assert process.returncode == 128 + getattr(signal, name)


def test_processes_that_wait_for_the_first_can_be_stopped_and_hear_of_its_end(tokens):
    """The first process does something long (it reads the corpus); the other gets a signal, or the first fails."""
    disturbs = """
        import time
        from catprune.errors import UsageError
        from catprune.training import loop
        def disturbed(out):
            {first}
        loop.verify_unfinished = disturbed
        if os.environ["RANK"] == "1":
            from catprune.training.rendezvous import Rendezvous
            broadcast = Rendezvous.broadcast
            def late(*arguments, **options):
                {other}
                return broadcast(*arguments, **options)
            Rendezvous.broadcast = late
    """
    alarm = "signal.signal(signal.SIGALRM, signal.default_int_handler); signal.alarm(1)"
    before = disturbs.format(first="time.sleep(4)", other=alarm)
    codes, wrote = train_in_two(tokens, tokens.parent / "stopped", before=before, **OPTIONS)
    assert all(codes) and "KeyboardInterrupt" in wrote[1][1]
    before = disturbs.format(first="time.sleep(2); raise UsageError('refused')", other="pass")
    codes, wrote = train_in_two(tokens, tokens.parent / "failed", before=before, **OPTIONS)
    assert all(codes) and "refused" in wrote[0][1]
    assert "another process of this training ended" in wrote[1][1]


def test_a_port_that_is_taken_is_an_error(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(CatpruneError, match=r"MASTER_PORT\): address already in use: give the launcher another"):
            Rendezvous.join(Shard(0, 2))
    monkeypatch.setenv("MASTER_PORT", "none")
    with pytest.raises(UsageError, match="MASTER_PORT is not set to a number"):
        Rendezvous.join(Shard(0, 2))


def test_processes_that_are_started_again_do_not_see_the_values_before(monkeypatch):
    """The store of a launcher outlives them: the new rank 1 comes first, and finds what the old rank 0 left."""
    host = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(host.port))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    with ThreadPoolExecutor() as pool:
        for attempt in range(3):
            second = pool.submit(Rendezvous.join, Shard(1, 2))
            time.sleep(0.3)
            assert not second.done()
            first, second = Rendezvous.join(Shard(0, 2)), second.result()
            heard = pool.submit(second.broadcast, stop=False)
            time.sleep(0.3)
            assert not heard.done()
            first.broadcast(stop=attempt == 1)
            assert heard.result() == (attempt == 1)
            first.fail()


@pytest.mark.parametrize("number", [0, 1])
def test_processes_with_other_options_do_not_train(tokens, number):
    out = tokens.parent / f"unlike-{number}"
    other = f"""
        from catprune.training.request import Request
        plan = Request.plan
        if os.environ["RANK"] == "{number}":
            Request.plan = lambda *arguments: plan(*arguments) | {{"seed": 7}}
    """
    codes, wrote = train_in_two(tokens, out, before=other, **OPTIONS)
    values = ("7", "1") if number == 0 else ("1", "7")
    message = (
        f"rank 1 has other options (seed was {values[0]}, is now {values[1]}); the first values are those of rank 0"
    )
    assert all(codes) and all(message in err for _, err in wrote), wrote
    assert not (out / "plan.json").exists()


def test_a_script_may_train_twice(tokens):
    twice = f"""
        from catprune.training.train import train
        train({str(tokens)!r}, out={str(tokens.parent / "first")!r}, **{OPTIONS!r})
    """
    codes, wrote = train_in_two(tokens, tokens.parent / "second", before=twice, **OPTIONS)
    assert codes == [0, 0], wrote
    assert contents(tokens.parent / "first") == contents(tokens.parent / "second")


def test_a_process_that_hangs_is_an_error(tokens):
    hangs = """
        import datetime, time
        from catprune.training import loop, rendezvous
        rendezvous.HUNG = datetime.timedelta(seconds=3)
        update = loop.Training._update
        def disturbed(training, *batch):
            if training.at.step == 2 and os.environ["RANK"] == "1":
                time.sleep(10)
            update(training, *batch)
        loop.Training._update = disturbed
    """
    codes, wrote = train_in_two(tokens, tokens.parent / "hung", before=hangs, **OPTIONS)
    assert all(codes) and "another process of this training ended or hangs" in wrote[0][1]


@pytest.mark.parametrize(
    "way", [{"prune_while_training": "infobatch"}, {"prune_while_training": "ddp", "prune_span": 3}]
)
def test_two_processes_prune_like_one_and_end_with_the_same_bytes(tokens, way):
    options = {name: value for name, value in OPTIONS.items() if name not in ("steps", "checkpoints")}
    options |= {"dropout": 0.0, "epochs": 4, "checkpoints": "2.5", **way}
    single = train(tokens, out=tokens.parent / f"{way['prune_while_training']}-by-one", **options)
    whole, broken = (tokens.parent / f"{way['prune_while_training']}-{name}" for name in ("by-two", "and-killed"))
    codes, wrote = train_in_two(tokens, whole, **options)
    assert codes == [0, 0], wrote
    assert json.loads((whole / "manifest.json").read_bytes())["pruned"] == single.manifest["pruned"]
    assert single.manifest["pruned"]["target_tokens"] > 0
    dies = f"""
        from catprune.training import loop
        update = loop.Training._update
        def disturbed(training, *batch):
            if training.at.step == {int(0.7 * single.steps)} and os.environ["RANK"] == "0":
                os.kill(os.getpid(), signal.SIGKILL)
            update(training, *batch)
        loop.Training._update = disturbed
    """
    assert -signal.SIGKILL in train_in_two(tokens, broken, before=dies, **options)[0]
    assert train_in_two(tokens, broken, **options)[0] == [0, 0]
    assert contents(broken) == contents(whole)


def test_all_hear_that_the_work_is_done_or_refused(tokens):
    out = tokens.parent / "done"
    train(tokens, out=out, **OPTIONS)
    codes, wrote = train_in_two(tokens, out, **OPTIONS)
    assert codes == [0, 0] and [text.split() for text, _ in wrote] == [["12"], ["12"]]
    codes, wrote = train_in_two(tokens, out, **OPTIONS | {"steps": 13})
    assert all(codes) and "epochs or steps was step-12, is now step-13" in wrote[0][1]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "RANK or MASTER_ADDR is not set"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}, "RANK or MASTER_ADDR is not set"),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "99999"},
            "a number from 1 to 65535",
        ),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"},
            "RANK=0, WORLD_SIZE=2 are set, but LOCAL_RANK is not: start the processes with torchrun",
        ),
        (
            {"WORLD_SIZE": "2", "RANK": "5", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"},
            "RANK=5, WORLD_SIZE=2, LOCAL_RANK=0: there is no process 5 of 2",
        ),
        (
            {"WORLD_SIZE": "2", "RANK": "x", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"},
            "RANK=x, .*: these must be numbers",
        ),
    ],
)
def test_one_of_several_processes_does_not_train_alone(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message), Processes.join():
        pass


def test_a_first_process_whose_address_is_unknown_waits_like_others() -> None:
    """It needs no other machine to hold the values, so it hears signals and its time ends."""
    script = (
        "import datetime, catprune.training.rendezvous as rendezvous; rendezvous.HUNG = datetime.timedelta(seconds=2); "
        "from catprune.training.processes import Processes; Processes.join().__enter__()"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    variables = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "no.such.host.invalid"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables, "MASTER_PORT": port},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "waited 2 seconds for the other processes (1 of 2 is here; missing: rank 1)" in done.stderr
