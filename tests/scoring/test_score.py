"""Scores against a plain softmax in float64, nulls and row order, batch plans, resuming, and refusals."""

import itertools
import json
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from catprune.checkpoints.native import load_model, read_checkpoint
from catprune.errors import CatpruneError, UsageError
from catprune.model import attention
from catprune.model.batches import pairs_of, plan_packed, plan_scoring
from catprune.scoring import block_scoring
from catprune.scoring.block_scoring import Scoring, importance_weights
from catprune.scoring.column_shards import STATISTICS
from catprune.scoring.score import Scored, score, summary
from catprune.selection.select import select
from catprune.tokens.blocks import Tokens
from catprune.training.train import train
from catprune.workspace.locks import lock_folder
from catprune.workspace.sealed import seal
from catprune.workspace.shards import ARRAY, ARRAY_RANGE, LAUNCHERS, Shard
from support.synthetic import BOS, contents, read_ids, write_tokens

TOO_LONG, DROPPED = (3, 130, 255), (0, 7, 131)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small matrices are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tokens folder of three blocks and two checkpoints."""
    folder = tmp_path_factory.mktemp("score")
    tokens = write_tokens(folder / "tokens", too_long=TOO_LONG, dropped=DROPPED)
    options = {"steps": 30, "checkpoints": "5steps", "warmup_steps": 10, "batch_tokens": 512}
    train(tokens, out=folder / "warmup", threads=1, precision="float32", quiet=True, **options)
    return folder


def read_scores(folder):
    return {
        row["row"]: row
        for shard in json.loads((folder / "manifest.json").read_bytes())["shards"]
        for row in parquet.read_table(folder / shard["file"]).to_pylist()
    }


@torch.no_grad()
def plain_scores(tokens, checkpoint, *, reverse=False):
    """Every statistic, one pair at a time, from the full softmax in float64."""
    model = load_model(read_checkpoint(checkpoint)).double()
    matrix = model.embedding.weight
    pairs = [(row, *(sides[::-1] if reverse else sides)) for row, *sides in read_ids(tokens)]
    counts = np.bincount([i for _, _, target in pairs for i in target], minlength=len(matrix))
    shares = counts / counts.sum()
    weights = [-np.log(share) if share else 0.0 for share in shares]
    mean = sum(share * weight for share, weight in zip(shares, weights, strict=True))
    for row, source, target in pairs[::6]:
        hidden = model(torch.tensor([source]), torch.tensor([[BOS, *target[:-1]]]))[0]
        sums = dict.fromkeys(STATISTICS, 0.0) | {"tokens": len(target)}
        for h, y in zip(hidden, target, strict=True):
            p = (matrix @ h).softmax(0)
            error = (p - torch.nn.functional.one_hot(torch.tensor(y), len(matrix))).norm()
            sums["nll_sum"] -= float(p[y].log())
            sums["correct"] += int(p.argmax() == y)
            sums["el2n_sum"] += float(error)
            sums["grad_norm_sum"] += float(error * h.norm())
            sums["ign_sum"] += float(error * h.norm()) * weights[y] / mean
        yield row, sums


def test_scores_are_those_of_a_plain_softmax(trained, tmp_path):
    scored = score(
        trained / "tokens",
        checkpoints=[trained / "warmup/step-5", f"end={trained / 'warmup/step-30'}"],
        out=tmp_path,
        precision="float32",
        threads=1,
        quiet=True,
    )
    assert list(scored.folders) == ["step-5", "end"]
    assert (scored.pairs, scored.too_long) == (294, 3)
    for name, checkpoint in (("step-5", "step-5"), ("end", "step-30")):
        rows = read_scores(tmp_path / name)
        assert list(rows) == [row for row in range(300) if row not in DROPPED]
        for row in TOO_LONG:
            assert all(rows[row][column] is None for column in STATISTICS)
        for row, plain in plain_scores(trained / "tokens", trained / "warmup" / checkpoint):
            assert {column: rows[row][column] for column in STATISTICS} == pytest.approx(plain, rel=2e-4)


def test_a_backward_model_scores_the_sources(trained, tmp_path):
    options = {"precision": "float32", "threads": 1, "quiet": True}
    train(trained / "tokens", out=tmp_path / "backward", steps=2, reverse=True, **options)
    checkpoint = tmp_path / "backward/step-2"
    scored = score(trained / "tokens", checkpoints=checkpoint, out=tmp_path / "s", batch_tokens=300, **options)
    manifest = scored.manifests["step-2"]
    assert manifest["checkpoint"]["reverse"]
    counts = Tokens.open(trained / "tokens").manifest["counts"]
    assert manifest["counts"]["target_tokens"] == counts["source_tokens"]
    rows = read_scores(tmp_path / "s/step-2")
    for row, plain in plain_scores(trained / "tokens", checkpoint, reverse=True):
        assert {column: rows[row][column] for column in STATISTICS} == pytest.approx(plain, rel=2e-4)


def test_scores_contain_the_exposure_of_rows(trained, tmp_path):
    options = {"precision": "float32", "threads": 1, "quiet": True}
    tokens = trained / "tokens"
    train(tokens, out=tmp_path / "w", epochs=1.5, checkpoints="1", sample=50, batch_tokens=100, **options)
    train(tokens, out=tmp_path / "all", epochs=1, **options)
    checkpoints = [tmp_path / "w/epoch-1", tmp_path / "w/epoch-1.5", f"all={tmp_path / 'all/epoch-1'}"]
    scored = score(tokens, checkpoints=checkpoints, out=tmp_path / "s", **options)
    for name, occur in (("epoch-1", [0, 1]), ("epoch-1.5", [0, 1, 2])):
        assert scored.manifests[name]["checkpoint"]["seen"]["times"] == occur
        table = parquet.read_table(tmp_path / "w" / name / "seen.parquet").to_pydict()
        expected = dict(zip(table["row"], table["times"], strict=True)) | dict.fromkeys(TOO_LONG)
        assert {row: scores["seen"] for row, scores in read_scores(tmp_path / "s" / name).items()} == expected
        assert sum(times or 0 for times in expected.values()) >= (50 if name == "epoch-1" else 75)
    assert scored.manifests["all"]["checkpoint"]["seen"]["times"] == [1]
    by_row = read_scores(tmp_path / "s/all")
    assert {row: scores["seen"] for row, scores in by_row.items()} == dict.fromkeys(by_row, 1) | dict.fromkeys(TOO_LONG)
    other = write_tokens(tmp_path / "tokens", too_long=TOO_LONG)
    assert (
        score(other, checkpoints=checkpoints[0], out=tmp_path / "o", **options).manifests["epoch-1"]["checkpoint"][
            "seen"
        ]
        is None
    )
    assert "seen" not in next(iter(read_scores(tmp_path / "o/epoch-1").values())), "these are other rows"
    (tmp_path / "w/epoch-1/seen.parquet").unlink()
    with pytest.raises(CatpruneError, match=r"epoch-1/seen\.parquet is missing: restore the file"):
        score(tokens, checkpoints=checkpoints[0], out=tmp_path / "g", **options)


def test_another_batch_plan_gives_equal_scores(trained, tmp_path):
    rows = []
    for batch_tokens in (9, 100, 8192):
        options = {"batch_tokens": batch_tokens, "precision": "float32", "threads": 1, "quiet": True}
        score(trained / "tokens", checkpoints=[trained / "warmup/step-30"], out=tmp_path / str(batch_tokens), **options)
        rows.append(read_scores(tmp_path / str(batch_tokens) / "step-30"))
    for other in rows[1:]:
        assert other.keys() == rows[0].keys()
        for row in other.keys() - set(TOO_LONG):
            assert other[row] == pytest.approx(rows[0][row], rel=1e-5)


def test_packed_batches_give_equal_scores(trained, tmp_path, monkeypatch):
    options = {"checkpoints": trained / "warmup/step-30", "precision": "float32", "threads": 1, "quiet": True}
    score(trained / "tokens", out=tmp_path / "padded", **options)
    monkeypatch.setattr(attention, "has_packed", lambda *_: True)
    packed = {}
    for batch_tokens in (50, 700):
        out = tmp_path / str(batch_tokens)
        scored = score(trained / "tokens", out=out, batch_tokens=batch_tokens, **options)
        assert scored.manifests["step-30"]["options"]["batches"] == "packed"
        packed[batch_tokens] = scored.flops, read_scores(out / "step-30")
    assert packed[50][0] == packed[700][0], "packed scores do not depend on the other pairs of a batch"
    padded = read_scores(tmp_path / "padded/step-30")
    for _, rows in packed.values():
        assert rows.keys() == padded.keys()
        for row in rows.keys() - set(TOO_LONG):
            assert rows[row] == pytest.approx(padded[row], rel=1e-4)


def test_packed_batches_keep_the_limit(trained):
    tokens = Tokens.open(trained / "tokens")
    pairs = pairs_of(tokens.read(tokens.blocks[0]))
    batches = plan_packed(pairs, batch_tokens=50)
    assert sorted(np.concatenate(batches)) == list(range(len(pairs.rows)))
    for batch, after in itertools.pairwise(batches):
        for side in (pairs.source, pairs.target):
            assert side.lengths[batch].sum() <= 50
        more = np.append(batch, after[0])
        assert max(side.lengths[more].sum() for side in (pairs.source, pairs.target)) > 50
    assert [len(batch) for batch in plan_packed(pairs, batch_tokens=1)] == [1] * len(pairs.rows)


def test_batches_have_equal_sources_and_keep_the_limit(trained):
    tokens = Tokens.open(trained / "tokens")
    pairs = pairs_of(tokens.read(tokens.blocks[0]))
    batches = plan_scoring(pairs, batch_tokens=50)
    assert sorted(np.concatenate(batches)) == list(range(len(pairs.rows)))
    for batch in batches:
        assert len(set(pairs.source.lengths[batch])) == 1
        width = max(pairs.source.lengths[batch].max(), pairs.target.lengths[batch].max())
        assert len(batch) * width <= 50


def test_importance_weights_have_mean_one():
    counts = np.array([0, 6, 3, 1], np.uint64)
    weights = importance_weights(counts)
    assert float((counts * weights).sum() / counts.sum()) == pytest.approx(1)
    assert weights[0] == 0 and weights[3] > weights[2] > weights[1]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_run_again_gives_the_same_bytes(trained, tmp_path, how):
    whole, broken = tmp_path / "a/scores", tmp_path / "b/scores"
    for folder in (whole, broken):
        shutil.copytree(trained, folder.parent)
    child = f"""
        import importlib, os, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a foreground process
        step, blocks = (importlib.import_module(f"catprune.scoring.{{name}}") for name in ("score", "block_scoring"))
        write, written = blocks.write_columns, []
        def write_or_die(*arguments, **options):
            if written:
                os.kill(os.getpid(), {int(how)})
            written.append(1)
            return write(*arguments, **options)
        blocks.write_columns = write_or_die
        run = {str(broken.parent)!r}
        step.score(run + "/tokens", checkpoints=[run + "/warmup/step-5", run + "/warmup/step-30"],
                   out=run + "/scores", threads=1, precision="float32", quiet=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(child)]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if how == signal.SIGKILL:
        assert done.returncode == -how
    else:
        assert done.returncode and done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert len(list((broken / "step-5").glob("columns/part-*"))) == 1
    for folder in (broken, whole):
        run = folder.parent
        checkpoints = [run / "warmup/step-5", run / "warmup/step-30"]
        score(run / "tokens", checkpoints=checkpoints, out=folder, threads=1, precision="float32", quiet=True)
    assert contents(broken) == contents(whole)
    before = contents(whole)
    score(whole.parent / "tokens", checkpoints=checkpoints[:1], out=whole, threads=1, precision="float32", quiet=True)
    assert contents(whole) == before


@pytest.mark.parametrize("order", [("1/2", "2/2"), ("3/3", "1/3", "2/3"), ("5/5", "1/5", None)])
def test_shards_give_the_bytes_of_one_process(trained, tmp_path, order):
    whole, shared = tmp_path / "a/scores", tmp_path / "b/scores"
    for folder in (whole, shared):
        shutil.copytree(trained, folder.parent)
    options = {"threads": 1, "precision": "float32", "quiet": True}
    checkpoint = "warmup/step-5"
    score(whole.parent / "tokens", checkpoints=whole.parent / checkpoint, out=whole, **options)
    for shard in order:
        assert not (shared / "step-5/manifest.json").exists()
        scored = score(
            shared.parent / "tokens", checkpoints=shared.parent / checkpoint, out=shared, shard=shard, **options
        )
    assert scored.left == {} and list(scored.manifests) == ["step-5"]
    assert contents(shared) == contents(whole)
    again = score(shared.parent / "tokens", checkpoints=shared.parent / checkpoint, out=shared, shard="1/2", **options)
    assert again == scored, "finished work is finished for every shard"


def test_a_shard_reports_blocks_left_to_others(trained, tmp_path, capsys):
    options = {"checkpoints": trained / "warmup/step-5", "threads": 1, "precision": "float32", "quiet": True}
    scored = score(trained / "tokens", out=tmp_path, shard="2/3", **options)
    assert (scored.left, scored.manifests, scored.pairs) == ({"step-5": 2}, {}, 294)
    assert len(list(tmp_path.glob("step-5/columns/part-*"))) == 1
    assert summary(scored) == ["step-5: 2 blocks are left to other shards"]
    unfinished = "scores of step-5 are unfinished: repeat `catprune score` with --out"
    with pytest.raises(CatpruneError, match=rf"has no finished ones: {unfinished}"):
        select(tmp_path, method="ppl", keep="50%", out=tmp_path / "kept", quiet=True)
    with pytest.raises(CatpruneError, match=rf"holds no finished scores: {unfinished}"):
        select(tmp_path, method="random", keep="50%tokens", out=tmp_path / "kept", quiet=True)
    left = score(trained / "tokens", out=tmp_path, shard="1/3", **options)
    assert summary(left) == ["step-5: 1 block is left to other shards"]
    next(tmp_path.glob("step-5/columns/part-*")).unlink()
    left = score(trained / "tokens", out=tmp_path, shard="5/5", **options | {"quiet": False})
    assert left.left == {"step-5": 2}
    assert capsys.readouterr().err == "score: shard 5/5 has no work: the corpus has 3 blocks for 5 processes\n"
    scored = score(trained / "tokens", out=tmp_path, **options | {"quiet": False})
    assert (scored.left, scored.is_new) == ({}, True)
    assert capsys.readouterr().err == "score step-5: continuing: 1 of 3 blocks is done\n"
    assert summary(scored)[0].startswith("294 pairs have scores of step-5; in ")
    assert not score(trained / "tokens", out=tmp_path, **options).is_new


def test_shards_share_a_folder_with_shards_alone(trained, tmp_path):
    options = {"checkpoints": trained / "warmup/step-5", "threads": 1, "precision": "float32", "quiet": True}
    score(trained / "tokens", out=tmp_path, shard="1/3", **options)
    folder = tmp_path / "step-5"
    with lock_folder(folder, shared=True), lock_folder(folder, name="shard-2-of-3"):
        for shard in (None, "2/3"):
            with pytest.raises(CatpruneError, match="another process is at work"):
                score(trained / "tokens", out=tmp_path, shard=shard, **options)
        assert score(trained / "tokens", out=tmp_path, shard="3/3", **options).left == {"step-5": 1}
        with pytest.raises(CatpruneError, match=r"other options \(batch_tokens was 1024, is now 100\)"):
            score(trained / "tokens", out=tmp_path, shard="3/3", batch_tokens=100, **options)
    with lock_folder(folder), pytest.raises(CatpruneError, match="another process is at work"):
        score(trained / "tokens", out=tmp_path, shard="2/3", **options)
    with pytest.raises(UsageError, match="force would remove the work of the other shards: remove the folder yourself"):
        score(trained / "tokens", out=tmp_path, shard="2/3", force=True, **options)


def test_shards_that_end_together_publish_once(trained, tmp_path):
    run, out = Path(shutil.copytree(trained, tmp_path / "run")), tmp_path / "run/scores"
    child = """
        import sys, catprune
        run, shard = sys.argv[1:]
        catprune.score(run + "/tokens", checkpoints=run + "/warmup/step-5", out=run + "/scores", shard=shard, threads=1,
                       precision="float32", quiet=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(child), str(run)]
    children = [subprocess.Popen([*command, f"{number}/4"]) for number in range(1, 5)]
    assert [child.wait() for child in children] == [0] * 4
    assert list(read_scores(out / "step-5")) == [row for row in range(300) if row not in DROPPED]


@pytest.mark.parametrize("shard", ["", "0/2", "3/2", "1/0", "1", "a/b", "1/2/3", "-1/2", "½/2"])
def test_invalid_shards_are_refused(shard):
    with pytest.raises(UsageError, match="give i/n, with i from 1 to n, or auto"):
        Shard.parse(shard)


def _parsed(monkeypatch, environment):
    with monkeypatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        return Shard.parse("auto")


def test_launchers_tell_the_shard(monkeypatch):
    for names in (*LAUNCHERS.values(), ARRAY, ARRAY_RANGE):
        for name in names:
            monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="neither torchrun nor Slurm"):
        Shard.parse("auto")
    for name in ("SLURM_NTASKS", "SLURM_NPROCS"):
        monkeypatch.delenv(name, raising=False)
    array = {
        "SLURM_ARRAY_TASK_ID": "7",
        "SLURM_ARRAY_TASK_MIN": "5",
        "SLURM_ARRAY_TASK_COUNT": "4",
        "SLURM_PROCID": "0",
    }
    stepped = {
        "SLURM_ARRAY_TASK_ID": "8",
        "SLURM_ARRAY_TASK_MIN": "2",
        "SLURM_ARRAY_TASK_MAX": "10",
        "SLURM_ARRAY_TASK_STEP": "2",
        "SLURM_ARRAY_TASK_COUNT": "5",
    }
    torchrun = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    srun = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "3", "SLURM_LOCALID": "0", "SLURM_NTASKS": "3"}
    for environment, expected in (
        (array, Shard(2, 4)),
        (stepped, Shard(3, 5)),
        (torchrun, Shard(5, 8, 1)),
        (srun, Shard(1, 3, 0)),
        (array | srun, Shard(7, 12, 0)),  # the second of three tasks of the third of four array tasks
        (array | {"SLURM_NTASKS": "1"}, Shard(2, 4)),
        (array | {"SLURM_NTASKS": "2"} | torchrun, Shard(21, 32, 1)),  # the sixth of eight of the third array task
    ):
        with monkeypatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            assert Shard.parse("auto") == expected
            name = next(iter(environment))
            patched.setenv(name, "99")
            with pytest.raises(UsageError, match=r"there is no process 99|the Slurm array has no task 99"):
                Shard.parse("auto")
    with monkeypatch.context() as patched:
        for name, value in {**stepped, "SLURM_ARRAY_TASK_MAX": "12"}.items():  # --array=2,4,6,8,12
            patched.setenv(name, value)
        with pytest.raises(UsageError, match="have gaps"):
            Shard.parse("auto")
    for job in (array, {"SLURM_PROCID": "0"}):  # the script of a job runs once, for all its tasks
        with monkeypatch.context() as patched:
            for name, value in {**job, "SLURM_NTASKS": "3"}.items():
                patched.setenv(name, value)
            with pytest.raises(UsageError, match="the Slurm job has 3 tasks, but srun did not start this process"):
                Shard.parse("auto")
    everyone = [
        _parsed(monkeypatch, array | srun | {"SLURM_ARRAY_TASK_ID": str(5 + job), "SLURM_PROCID": str(task)})
        for job in range(4)
        for task in range(3)
    ]
    assert everyone == [Shard(number, 12, 0) for number in range(12)]
    assert (Shard.parse("2/4").name, Shard.parse(None).is_whole) == ("2-of-4", True)


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
def test_batches_that_do_not_fit_are_halved_and_counted(trained, tmp_path, monkeypatch, error, ahead):
    monkeypatch.setitem(block_scoring.AHEAD, "cpu", ahead)  # as on a GPU
    options = {"checkpoints": trained / "warmup/step-30", "threads": 1, "precision": "float32", "quiet": True}
    whole = score(trained / "tokens", out=tmp_path / "whole", **options).manifests["step-30"]
    queue = Scoring._queue

    def queue_few(self, pairs, chosen):
        if len(chosen) > 3:
            raise error
        return queue(self, pairs, chosen)

    monkeypatch.setattr(Scoring, "_queue", queue_few)
    halved = score(trained / "tokens", out=tmp_path / "halved", **options).manifests["step-30"]
    assert [shard["halved"] for shard in whole["shards"]] == [0, 0, 0]
    assert all(shard["halved"] > 0 for shard in halved["shards"])
    assert halved["flops"] == whole["flops"]
    rows = read_scores(tmp_path / "whole/step-30")
    for row, scores in read_scores(tmp_path / "halved/step-30").items():
        assert row in TOO_LONG or scores == pytest.approx(rows[row], rel=1e-5)
    monkeypatch.setattr(Scoring, "_queue", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(CatpruneError, match=r"row \d+ alone \(\d+ and \d+ tokens\) does not fit into memory"):
        score(trained / "tokens", out=tmp_path / "none", **options)


def test_invalid_checkpoints_are_refused(trained, tmp_path):
    checkpoint, tokens = trained / "warmup/step-5", trained / "tokens"
    with pytest.raises(CatpruneError, match="is not a checkpoint"):
        score(tokens, checkpoints=[tmp_path], out=tmp_path / "s")
    with pytest.raises(UsageError, match="two checkpoints are named step-5"):
        score(tokens, checkpoints=[checkpoint, checkpoint], out=tmp_path / "s")
    with pytest.raises(UsageError, match="no valid name"):
        score(tokens, checkpoints=[f"a/b={checkpoint}"], out=tmp_path / "s")
    other = Path(shutil.copytree(tokens, tmp_path / "tokens"))
    (other / "tokenizer.json").write_text("{}")
    with pytest.raises(CatpruneError, match=r"tokenizer\.json has digest"):
        score(other, checkpoints=[checkpoint], out=tmp_path / "s")
    config = json.loads((checkpoint / "config.json").read_bytes())
    external = Path(shutil.copytree(checkpoint, tmp_path / "external"))
    config["tokenizer"]["digest"] = "0" * 32
    (external / "config.json").write_bytes(seal(config))
    with pytest.raises(CatpruneError, match="was trained with tokenizer 0000"):
        score(tokens, checkpoints=[external], out=tmp_path / "s")


def test_weights_that_training_did_not_write_are_refused(trained, tmp_path):
    warmup, tokens = Path(shutil.copytree(trained / "warmup", tmp_path / "warmup")), trained / "tokens"
    weights = warmup / "step-5/model.safetensors"
    shutil.copy(warmup / "step-30/model.safetensors", weights)
    options = {"threads": 1, "precision": "float32", "quiet": True}
    with pytest.raises(
        CatpruneError, match=rf"{weights} was changed since training: restore the file, or train again with force"
    ):
        score(tokens, checkpoints=[weights.parent], out=tmp_path / "s", **options)
    scored = score(tokens, checkpoints=str(warmup / "step-30"), out=tmp_path / "s", **options)
    assert scored.folders == {"step-30": tmp_path / "s/step-30"}, "a string is one checkpoint, not one a letter"


def test_damaged_weights_and_blocks_are_named(trained, tmp_path):
    checkpoint, tokens = trained / "warmup/step-5", trained / "tokens"
    short = Path(shutil.copytree(checkpoint, tmp_path / "short"))
    (short / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(CatpruneError, match=r"model\.safetensors was changed since training"):
        score(tokens, checkpoints=[short], out=tmp_path / "s", quiet=True)
    narrow = Path(shutil.copytree(checkpoint, tmp_path / "narrow"))
    config = json.loads((checkpoint / "config.json").read_bytes())
    config["size"]["ffn"] = 256
    (narrow / "config.json").write_bytes(seal(config))
    with pytest.raises(CatpruneError, match="needs"):
        score(tokens, checkpoints=[narrow], out=tmp_path / "s", quiet=True)
    changed = Path(shutil.copytree(tokens, tmp_path / "tokens"))
    part = sorted(changed.glob("part-*"))[1]
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    with pytest.raises(CatpruneError, match=f"{part.name} was changed"):
        score(changed, checkpoints=[checkpoint], out=tmp_path / "t", quiet=True)
    counts = changed / "unigrams.safetensors"
    content = counts.read_bytes()
    counts.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CatpruneError, match=r"unigrams\.safetensors was changed"):
        score(changed, checkpoints=[checkpoint], out=tmp_path / "u", quiet=True)
    counts.write_bytes(content)
    part.write_bytes(data[:-50])
    with pytest.raises(CatpruneError, match="not a complete safetensors file"):
        score(changed, checkpoints=[checkpoint], out=tmp_path / "t", quiet=True)


def test_checkpoints_whose_tokenizers_find_other_pairs_too_long() -> None:
    manifests = {name: {"counts": {"pairs": pairs}} for name, pairs in (("small", 90), ("large", 100))}
    scored = {"new": 0, "too_long": 10, "flops": 1.0, "manifests": manifests, "left": {}, "notes": {}}
    done = Scored(Path("scores"), {name: Path("scores") / name for name in manifests}, pairs=90, **scored)
    assert summary(done) == ["90 pairs have scores of small; 100 pairs have scores of large; in scores"]
    manifests["large"]["counts"]["pairs"] = 90
    assert summary(done) == ["90 pairs have scores of small, large; in scores"]
