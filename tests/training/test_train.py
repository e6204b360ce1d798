"""Training: the order of pairs, checkpoints and exposure, resuming after SIGKILL, selections, refusals."""

import importlib
import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from catprune._core import digest_file, write_columns
from catprune.checkpoints.native import load_tensors, read_checkpoint
from catprune.corpus.bitexts import TestSet
from catprune.errors import CatpruneError, UsageError
from catprune.evaluation.evaluate import evaluate
from catprune.tokens.blocks import Tokens
from catprune.training import data_order, loop, loss
from catprune.training.data_order import Order, Rows, Selection
from catprune.training.train import train
from catprune.workspace.manifest import describe_folder, digest_manifest
from catprune.workspace.progress import Progress
from catprune.workspace.sealed import FORMAT, seal
from catprune.workspace.step_folder import StepFolder
from support.synthetic import BOS, contents, read_ids, write_tokens

FAST = {
    "warmup_steps": 20,
    "learning_rate": 2e-3,
    "batch_tokens": 512,
    "threads": 1,
    "precision": "float32",
    "quiet": True,
    "dropout": 0.1,
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return write_tokens(tmp_path_factory.mktemp("train") / "tokens", too_long=(3,), dropped=(0, 7, 131))


def epoch_of(order, epoch):
    """Every batch of an epoch, gathered, with its rows."""
    for window, entries in enumerate(order.windows(epoch)):
        pairs, planned = order.batches(epoch, window, entries)
        for chosen in planned:
            yield pairs.rows[chosen], pairs.batch(chosen, order.tokens.tokenizer)


@pytest.mark.parametrize("window_pairs", [1, 200, 1 << 18])
def test_an_epoch_is_every_pair_once(tokens, monkeypatch, window_pairs):
    monkeypatch.setattr(data_order, "WINDOW_PAIRS", window_pairs)
    order = Order(Tokens.open(tokens), seed=5, batch_tokens=64)
    ids = {row: (source, target) for row, source, target in read_ids(tokens)}
    orders = []
    for epoch in (0, 1, 0):
        rows = []
        for batch_rows, batch in epoch_of(order, epoch):
            assert max(batch.source.size, batch.targets.size) <= 64
            for i, row in enumerate(batch_rows):
                source, target = ids[row]
                assert batch.source[i, : len(source)].tolist() == source
                assert batch.targets[i, : len(target)].tolist() == target
                assert batch.inputs[i, : len(target)].tolist() == [BOS, *target[:-1]]
                assert (batch.source_lengths[i], batch.target_lengths[i]) == (len(source), len(target))
            rows += batch_rows.tolist()
        assert sorted(rows) == sorted(ids)
        orders.append(rows)
    assert orders[0] == orders[2] != orders[1]


def test_large_batches_are_filled_with_tokens_not_with_padding(tokens, monkeypatch):
    order = Order(Tokens.open(tokens), seed=5, batch_tokens=300)
    padded = [len(rows) for rows, _ in epoch_of(order, 0)]
    monkeypatch.setattr(data_order, "PART_TOKENS", 299)
    rows, most = [], []
    for batch_rows, batch in epoch_of(order, 0):
        most.append(max(batch.source_lengths.sum(), batch.target_lengths.sum()))
        rows += batch_rows.tolist()
    assert sorted(rows) == sorted(row for row, _, _ in read_ids(tokens))
    longest = max(max(len(source), len(target)) for _, source, target in read_ids(tokens))
    assert max(most) <= 300 and sorted(most)[1] > 300 - longest, "all but the last one are full"
    assert len(most) < len(padded)


def test_the_model_learns_and_reports_its_loss(tokens, tmp_path):
    torch.manual_seed(9)
    before = torch.get_rng_state(), torch.get_num_threads()
    trained = train(tokens, out=tmp_path / "w", epochs=10, checkpoints="1, 0.5,30steps", **FAST)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == torch.get_num_threads()
    names = [path.name for path in trained.checkpoints]
    assert names == ["epoch-0.5", "epoch-1", "step-30", "epoch-10"]
    lines = [json.loads(line) for line in (tmp_path / "w/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["nll"] < 2.6 < lines[0]["nll"]
    assert lines[-1]["step"] == trained.steps == read_checkpoint(trained.checkpoints[-1]).step
    assert (lines[-1]["epoch"], trained.epochs) == (10, 10)
    counts = trained.manifest["counts"]
    assert trained.target_tokens == 10 * counts["target_tokens"]
    assert trained.precision == "float32"
    assert not list((tmp_path / "w").rglob("*.tmp")) and not (tmp_path / "w/state.safetensors").exists()


def test_exposure_is_recorded(tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(data_order, "WINDOW_PAIRS", 150)
    trained = train(tokens, out=tmp_path / "w", epochs=1.6, checkpoints="1", **FAST | {"batch_tokens": 128})
    whole, fraction = (read_checkpoint(path) for path in trained.checkpoints)
    digest = digest_manifest(tokens)
    assert (whole.seen, whole.seen_file) == ({"times": [1], "tokens": digest, "end": 300}, None)
    assert (fraction.seen, whole.epoch) == ({"times": [1, 2], "tokens": digest, "end": 300}, 1)
    order = Order(Tokens.open(tokens), seed=1, batch_tokens=128)
    expected, steps = set(), whole.step
    for rows, _ in epoch_of(order, 1):
        if steps == fraction.step:
            break
        expected |= set(rows.tolist())
        steps += 1
    times = read_seen(fraction)
    assert times == {row: 2 if row in expected else 1 for row, _, _ in read_ids(tokens)}
    assert 0.6 * len(times) <= len(expected) < 0.75 * len(times)


def read_seen(checkpoint):
    return dict(zip(*(column.to_pylist() for column in parquet.read_table(checkpoint.seen_file)), strict=True))


def test_a_sample_is_drawn_from_all_blocks_and_only_it_is_trained_on(tokens, tmp_path):
    excluded = np.array([*range(10, 90), 200], np.uint32)
    path = tmp_path / "excluded.npy"
    np.save(path, excluded)
    order = Order(Tokens.open(tokens), seed=3, batch_tokens=64, filters=(Rows(path, exclude=True),), sample=100)
    carrying = {row for row, _, _ in read_ids(tokens)}
    left = carrying - set(excluded.tolist())
    rows = [row for batch_rows, _ in epoch_of(order, 0) for row in batch_rows.tolist()]
    assert len(rows) == len(set(rows)) == 100 and set(rows) <= left
    assert sorted(rows) == sorted(row for batch_rows, _ in epoch_of(order, 1) for row in batch_rows.tolist())
    for block, share in enumerate(order.shares):
        there = [row for row in left if row // 128 == block]
        assert abs(share - 100 * len(there) / len(left)) < 1 and sum(row in there for row in rows) == share
    options = FAST | {"seed": 3, "batch_tokens": 64, "sample": 100, "exclude_rows": path}
    trained = train(tokens, out=tmp_path / "w", epochs=1.5, checkpoints="1", **options)
    assert trained.manifest["counts"]["pairs"] == 100
    whole, fraction = (read_checkpoint(path) for path in trained.checkpoints)
    assert (whole.seen["times"], fraction.seen["times"]) == ([0, 1], [0, 1, 2])
    assert read_seen(whole) == {row: int(row in rows) for row in sorted(carrying)}
    counts = np.bincount([times for row, times in read_seen(fraction).items() if row in rows])
    assert counts[0] == 0 and 50 <= counts[2] < 82, "half of the sample once more, to the end of a batch"


@pytest.mark.parametrize("kind", [np.uint32, np.int64, np.uint8])
def test_rows_of_a_file_are_all_that_is_trained_on(tokens, tmp_path, kind):
    wanted = [0, 5, *range(40, 60), 127, 128, 250]
    np.save(tmp_path / "rows.npy", np.array(wanted, kind))
    order = Order(Tokens.open(tokens), seed=1, batch_tokens=64, filters=(Rows(tmp_path / "rows.npy"),))
    rows = [row for batch_rows, _ in epoch_of(order, 0) for row in batch_rows.tolist()]
    assert sorted(rows) == wanted[1:], "row 0 was dropped"
    assert order.counts[0] == len(wanted) - 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.array([3, 2]), "rows.npy names row 2 after row 3"),
        (np.array([2, 2]), "rows.npy names row 2 after row 2"),
        (np.array([-1, 2]), "rows.npy starts with row -1"),
        (np.array([1, 300]), "rows.npy names row 300, but the tokens end before row 300"),
        (np.array([1.0]), "does not hold a one-dimensional array of whole numbers"),
        (np.array([[1]]), "does not hold a one-dimensional array of whole numbers"),
        (np.array([0, 7]), "has no pairs to train on: the selection and the files of rows exclude all"),
        (b"1\n2\n", "rows.npy is not a .npy file"),
        (b"", "rows.npy is not a .npy file"),
        (None, "rows.npy does not exist: give a .npy file of ascending row numbers"),
    ],
)
def test_invalid_files_of_rows_are_refused(tokens, tmp_path, rows, message):
    path = tmp_path / "rows.npy"
    if isinstance(rows, bytes):
        path.write_bytes(rows)
    elif rows is not None:
        np.save(path, rows)
    with pytest.raises(CatpruneError, match=message):
        train(tokens, out=tmp_path / "w", epochs=1, rows=path, **FAST)


def test_a_sample_larger_than_the_corpus_is_refused(tokens, tmp_path):
    with pytest.raises(CatpruneError, match="sample = 1000, but there are 296 pairs to train on"):
        train(tokens, out=tmp_path / "w", epochs=1, sample=1000, **FAST)


def test_a_backward_model_reads_targets_and_predicts_sources(tokens, tmp_path):
    order = Order(Tokens.open(tokens), seed=1, batch_tokens=64, reverse=True)
    ids = {row: (target, source) for row, source, target in read_ids(tokens)}
    for rows, batch in epoch_of(order, 0):
        for i, row in enumerate(rows):
            source, target = ids[row]
            assert batch.source[i, : len(source)].tolist() == source
            assert batch.targets[i, : len(target)].tolist() == target
    trained = train(tokens, out=tmp_path / "w", steps=2, reverse=True, **FAST)
    assert read_checkpoint(trained.checkpoints[0]).reverse
    assert order.counts[1] == Tokens.open(tokens).manifest["counts"]["source_tokens"]


KILLED = {"steps": 20, "checkpoints": "1,15steps", "save_every": 4, **FAST, "batch_tokens": 256}


@pytest.fixture(scope="module")
def undisturbed(tokens):
    """The result of `KILLED` without a kill (next to the tokens, because paths in plans are relative)."""
    train(tokens, out=tokens.parent / "undisturbed", **KILLED)
    return contents(tokens.parent / "undisturbed")


@pytest.mark.parametrize("dies_at", ["the third state", "the second checkpoint", "the manifest"])
def test_killed_and_run_again_gives_the_same_bytes(tokens, undisturbed, dies_at, capsys):
    broken = tokens.parent / dies_at.replace(" ", "-")
    child = f"""
        import importlib, os, signal
        from catprune.checkpoints import native
        from catprune.training import loop
        from catprune.workspace import step_folder
        calls = []
        def dying(write, after):
            def write_or_die(path, *arguments, **options):
                calls.append(path)
                if len(calls) > after:
                    path.with_name(path.name + ".tmp").write_bytes(b"half")
                    os.kill(os.getpid(), signal.SIGKILL)
                return write(path, *arguments, **options)
            return write_or_die
        if {dies_at!r} == "the third state":
            loop.save_tensors = dying(loop.save_tensors, 2)
        elif {dies_at!r} == "the manifest":
            step_folder.StepFolder.publish = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        else:
            native.save_tensors = dying(native.save_tensors, 1)
        importlib.import_module("catprune.training.train").train({str(tokens)!r}, out={str(broken)!r}, **{KILLED!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(child)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (broken / "state.safetensors").exists() and not (broken / "manifest.json").exists()
    resumed = train(tokens, out=broken, **KILLED | {"quiet": False})
    assert re.fullmatch(r"train: continuing at update \d+ of (about )?\d+\n", capsys.readouterr().err)
    assert resumed.is_new and not train(tokens, out=broken, **KILLED).is_new
    log = (broken / "log/events.jsonl").read_text()
    assert json.loads(log.splitlines()[-2])["target_tokens"] < resumed.target_tokens
    assert contents(broken) == undisturbed


def interrupted(tokens, broken, *, times, number=signal.SIGINT):
    """Train in a child process that gets a signal in its twelfth update; otherwise no state would be saved."""
    options = KILLED | {"checkpoints": "15steps", "save_every": 500}
    child = f"""
        import importlib, os, signal
        from catprune.training import loop
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as in a foreground process without nohup
        signal.signal(signal.SIGINT, signal.default_int_handler)
        update = loop.Training._update
        def interrupted(training, *batch):
            if training.at.step == 11:
                for _ in range({times}):
                    os.kill(os.getpid(), {int(number)})
            update(training, *batch)
        loop.Training._update = interrupted
        importlib.import_module("catprune.training.train").train({str(tokens)!r}, out={str(broken)!r}, **{options!r})
    """
    command = [sys.executable, "-c", textwrap.dedent(child)]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    assert done.returncode and done.stderr.splitlines()[-1].startswith("KeyboardInterrupt")
    assert not (broken / "step-15").exists()
    return options


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_and_run_again_gives_the_same_bytes(tokens, number):
    whole, broken = tokens.parent / f"not-{number}", tokens.parent / f"interrupted-{number}"
    options = interrupted(tokens, broken, times=1, number=number)
    position = json.loads(load_tensors(broken / "state.safetensors")[1]["position"])
    assert position["step"] == 12, "the update at hand was finished, and the state saved"
    before = signal.getsignal(number)
    resumed = train(tokens, out=broken, **options)
    assert signal.getsignal(number) is before
    trained = json.loads((broken / "log/events.jsonl").read_text().splitlines()[-2])
    assert trained["target_tokens"] == resumed.target_tokens - position["target_tokens"] < resumed.target_tokens
    train(tokens, out=whole, **options)
    assert contents(broken) == contents(whole)


def test_a_second_interrupt_ends_at_once(tokens, tmp_path):
    interrupted(tokens, tmp_path / "w", times=2)
    assert not (tmp_path / "w/state.safetensors").exists()


def test_training_runs_on_another_thread(tokens, tmp_path):
    """In a thread that cannot set signal handlers."""
    trained = []
    thread = threading.Thread(target=lambda: trained.append(train(tokens, out=tmp_path / "w", steps=2, **FAST)))
    thread.start()
    thread.join()
    assert trained[0].steps == 2


def test_how_often_the_state_is_saved_changes_nothing(tokens, monkeypatch):
    """With losses whose float64 sums are inexact, so that the order of additions matters."""
    whole = loss.smoothed_loss
    monkeypatch.setattr(
        loss, "smoothed_loss", lambda *arguments, **more: tuple(x / 3 for x in whole(*arguments, **more))
    )
    for save_every in (3, 500):
        train(tokens, out=tokens.parent / f"every-{save_every}", **KILLED | {"save_every": save_every})
    assert contents(tokens.parent / "every-3") == contents(tokens.parent / "every-500")


def test_a_state_is_saved_by_time_too(tokens, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(loop.Training, "_save_state", lambda training: saved.append(training.at.step))
    for seconds, expected in ((3600, []), (0, [1, 2, 3, 4])):
        monkeypatch.setattr(loop, "SAVE_SECONDS", seconds)
        saved.clear()
        train(tokens, out=tmp_path / str(seconds), steps=5, save_every=500, **FAST)
        assert saved == expected


def test_what_was_changed_before_a_resume_is_refused_and_force_starts_again(tokens, tmp_path, monkeypatch):
    """What was written after the last state is dropped; what was written before it must be unchanged."""
    monkeypatch.setattr(loop, "METRICS_EVERY", 1)
    options = FAST | {"steps": 6, "save_every": 4, "checkpoints": "2steps"}
    train(tokens, out=tmp_path / "whole", **options)
    publish = StepFolder.publish
    monkeypatch.setattr(StepFolder, "publish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(tokens, out=tmp_path / "killed", **options)
    monkeypatch.setattr(StepFolder, "publish", publish)
    assert (tmp_path / "killed/metrics.jsonl").read_bytes().count(b"\n") == 6
    for name in ("metrics.jsonl", "state.safetensors", "step-2/model.safetensors", "step-2/config.json"):
        for place in (0, 30, 200):
            folder = Path(shutil.copytree(tmp_path / "killed", tmp_path / f"{name.replace('/', '-')}-{place}"))
            path = folder / name
            data = path.read_bytes()
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            with pytest.raises(CatpruneError, match=re.escape(name)):
                train(tokens, out=folder, **options)
            train(tokens, out=folder, force=True, **options)
            assert contents(folder) == contents(tmp_path / "whole")
    path = tmp_path / "killed/metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-30] + b"\xff{")
    train(tokens, out=tmp_path / "killed", **options)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("room", [1_000_000, 4_000_000])
def test_a_full_disk_is_an_error_with_the_file_and_the_same_call_continues(tokens, undisturbed, room):
    """With less space the first checkpoint does not fit; with more space the first state does not fit."""
    full = tokens.parent / f"room-{room}"
    child = f"""
        import resource
        from catprune.errors import CatpruneError
        from catprune.training.train import train
        resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
        try:
            train({str(tokens)!r}, out={str(full)!r}, **{KILLED!r})
        except OSError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(child)], check=True, capture_output=True, text=True)
    assert "File too large" in done.stdout and ".safetensors" in done.stdout
    assert not list(full.rglob("*.tmp"))
    train(tokens, out=full, **KILLED)
    assert contents(full) == undisturbed


@pytest.mark.parametrize(("end", "unit"), [({"steps": 30}, "updates"), ({"epochs": 2}, "tokens")])
def test_the_bar_knows_how_much_is_left(tokens, tmp_path, monkeypatch, end, unit):
    bars = []

    class Bar(Progress):
        def __init__(self, label, *, total, unit, quiet, done):
            super().__init__(label, total=total, unit=unit, quiet=quiet, done=done)
            self.total, self.unit, self.seen = total, unit, []
            bars.append(self)

        def to(self, done, **shown):
            super().to(done, **shown)
            self.seen.append(done)

    monkeypatch.setattr(importlib.import_module("catprune.training.train"), "Progress", Bar)
    train(tokens, out=tmp_path / "w", **end, **FAST)
    (bar,) = bars
    assert bar.unit == unit
    assert bar.seen[0] == 0 and bar.seen[-1] == bar.total and sorted(bar.seen) == bar.seen


def test_a_state_left_behind_by_a_finished_training_is_removed(tokens, undisturbed):
    state = tokens.parent / "undisturbed/state.safetensors"
    state.write_bytes(b"killed between the manifest and the removal")
    train(tokens, out=state.parent, **KILLED)
    assert contents(state.parent) == undisturbed


def write_selection(folder, kept, *, cuts=(0, 50, 300)):
    folder.mkdir()
    plan = {"format": FORMAT, "step": "select", "results": 1, "reads": {}, "options": {}}
    shards = []
    for first, end in itertools.pairwise(cuts):
        rows = np.array([row for row in range(first, end) if row not in (0, 7, 131)], np.int64)
        columns = {"row": rows, "kept": np.isin(rows, kept)}
        file = f"columns/part-{first:012d}-{end:012d}.parquet"
        write_columns(str(folder / file), columns, metadata={"plan": "0"})
        shards.append({"file": file, "first": first, "end": end, "digest": digest_file(str(folder / file))})
    (folder / "manifest.json").write_bytes(seal({**plan, "shards": shards}))
    return folder


def test_a_selection_is_all_that_is_trained_on(tokens, tmp_path, monkeypatch):
    kept = [5, *range(40, 60), 120, 127, 128, *range(200, 260), 299]
    selection = write_selection(tmp_path / "selection", kept)
    order = Order(Tokens.open(tokens), seed=1, batch_tokens=64, filters=(Selection(selection),))
    rows = [row for batch_rows, _ in epoch_of(order, 0) for row in batch_rows.tolist()]
    assert sorted(rows) == kept
    reads, read_table = [], parquet.read_table
    monkeypatch.setattr(parquet, "read_table", lambda path, **more: reads.append(path) or read_table(path, **more))
    trained = train(tokens, out=tmp_path / "w", epochs=1, selection=selection, **FAST)
    assert len(reads) <= 4 * 2, "two shards: to count pairs, then updates, in the one window, to say what had been seen"
    targets = sum(len(target) for row, _, target in read_ids(tokens) if row in kept)
    assert (trained.manifest["counts"]["pairs"], trained.target_tokens) == (len(kept), targets)
    assert read_seen(read_checkpoint(trained.checkpoints[0])) == {
        row: int(row in kept) for row, _, _ in read_ids(tokens)
    }
    shard = next(selection.glob("columns/part-*"))
    shard.write_bytes(shard.read_bytes()[:-50])
    changed = f"{shard.name} was changed since it was written: run `catprune select` again"
    with pytest.raises(CatpruneError, match=changed):
        train(tokens, out=tmp_path / "c", epochs=1, selection=selection, **FAST)
    (tmp_path / "a").write_text("a\n")
    options = {"tests": [TestSet("toy", tmp_path / "a", tmp_path / "a")], "subsets": {"s": selection}, "against": []}
    with pytest.raises(CatpruneError, match=changed):
        evaluate(tokens, out=tmp_path / "e", steps=1, **options)
    with pytest.raises(UsageError, match="epochs = nan: give a number, above 0"):
        evaluate(tokens, out=tmp_path / "e", epochs=float("nan"), **options)
    with pytest.raises(UsageError, match="learning_rate = inf: give a number, above 0"):
        evaluate(tokens, out=tmp_path / "e", steps=1, learning_rate=float("inf"), **options)
    nothing = write_selection(tmp_path / "nothing", [])
    with pytest.raises(CatpruneError, match="tokens has no pairs to train on: the selection"):
        train(tokens, out=tmp_path / "n", epochs=1, selection=nothing, **FAST)


def test_a_selection_of_other_rows_is_refused(tmp_path):
    for name in ("clean", "other"):
        with StepFolder(tmp_path / name, step="clean", reads={}, options={"name": name}) as clean:
            clean.publish()
    reads = {"clean": describe_folder(tmp_path / "clean", relative_to=tmp_path / "tokens")}
    own = write_tokens(tmp_path / "tokens", reads=reads)
    selection = write_selection(tmp_path / "selection", [5, 6])

    def made_from(folder, clean):
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["reads"] = {"clean": describe_folder(tmp_path / clean, relative_to=folder)}
        (folder / "manifest.json").write_bytes(seal(manifest))

    made_from(selection, "other")
    with pytest.raises(CatpruneError, match=r"selection was made from .*other, .*tokens from .*clean: rows do not"):
        train(own, out=tmp_path / "w", epochs=1, selection=selection, **FAST)
    test = TestSet("toy", tmp_path / "source", tmp_path / "target")
    for path in (test.source, test.target):
        path.write_text("a\n")
    with pytest.raises(CatpruneError, match="rows do not mean the same"):
        evaluate(own, subsets={"full": None, "s": selection}, against=[], tests=[test], out=tmp_path / "e", steps=1)
    assert not (tmp_path / "w").exists() and not (tmp_path / "e").exists()
    made_from(selection, "clean")
    train(own, out=tmp_path / "w", steps=1, selection=selection, **FAST)
    shutil.rmtree(tmp_path / "clean")
    with pytest.raises(CatpruneError, match="which is missing"):
        train(own, out=tmp_path / "v", steps=1, selection=selection, **FAST)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "huge"}, "preset = 'huge': give one of tiny, small"),
        ({"epochs": 1, "steps": 5}, "both epochs and steps"),
        ({"epochs": 0}, "epochs = 0: give a number, above 0"),
        ({"epochs": 2, "checkpoints": "3"}, "epoch-3 is after the end"),
        ({"epochs": 1, "checkpoints": "900steps"}, "step-900 is after the end"),
        ({"checkpoints": "1,900steps"}, "say where to end"),
        ({"checkpoints": "1,,3"}, "is invalid"),
        ({"checkpoints": "1.5steps"}, "is invalid"),
        ({"precision": "int8"}, "precision = 'int8': give one of auto, float32"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0: give a number, above 0"),
        ({"dropout": 1.0}, "dropout = 1.0: give a number, at least 0 and below 1"),
        ({"batch_tokens": 0}, "batch_tokens = 0: give a whole number, at least 1"),
        ({"sample": 0}, "sample = 0: give a whole number, at least 1"),
        ({"threads": 0}, "threads = 0"),
        ({"epochs": float("nan")}, "epochs = nan"),
        ({"epochs": float("inf")}, "epochs = inf"),
        ({"epochs": 1e300}, r"epochs = 1e\+300: give a number, above 0 and at most"),
        ({"steps": 2.5}, r"steps = 2\.5: give a whole number"),
        ({"steps": 10**400}, "steps = 1000"),
        ({"seed": 0.5}, r"seed = 0\.5: give a whole number"),
        ({"batch_tokens": 99.5}, r"batch_tokens = 99\.5: give a whole number"),
        ({"learning_rate": float("inf")}, "learning_rate = inf"),
        ({"learning_rate": float("nan")}, "learning_rate = nan"),
        ({"label_smoothing": float("nan")}, "label_smoothing = nan"),
        ({"checkpoints": [1, 2]}, r"checkpoints = \[1, 2\]: give text"),
        ({"checkpoints": "9" * 400}, "is invalid"),
        ({"epochs": 2, "checkpoints": "0.1234561,0.1234562"}, r"would be named epoch-0\.123456"),
    ],
)
def test_invalid_options_are_refused(tokens, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        train(tokens, out=tmp_path / "w", **FAST | options)


def test_other_work_is_refused_and_replaced_by_force(tokens, tmp_path):
    train(tokens, out=tmp_path / "w", steps=2, **FAST)
    before = contents(tmp_path / "w")
    with pytest.raises(
        CatpruneError, match=r"w holds work with other options \(seed was 1, is now 2\): give another folder"
    ):
        train(tokens, out=tmp_path / "w", steps=2, seed=2, **FAST)
    assert contents(tmp_path / "w") == before
    train(tokens, out=tmp_path / "w", steps=3, seed=2, force=True, **FAST)
    assert not (tmp_path / "w/step-2").exists()


def test_a_loss_that_is_no_number_ends_the_training(tokens, tmp_path):
    options = FAST | {"learning_rate": 1e30, "warmup_steps": 1}
    with pytest.raises(CatpruneError, match="not a number at step 25"):
        train(tokens, out=tmp_path / "w", steps=30, save_every=10, **options)


def test_an_unfinished_tokens_folder_is_refused(tokens, tmp_path):
    broken = Path(shutil.copytree(tokens, tmp_path / "tokens"))
    (broken / "manifest.json").unlink()
    with pytest.raises(CatpruneError, match="is unfinished: run `catprune tokenize`"):
        train(broken, out=tmp_path / "w", **FAST)
