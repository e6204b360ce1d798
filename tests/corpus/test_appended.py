"""Appended inputs: only they are processed, earlier decisions stay, and a kill loses nothing."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow.parquet as parquet
import pytest
from catprune.checkpoints.native import read_checkpoint
from catprune.cleaning.clean import clean
from catprune.cleaning.summary import summary
from catprune.errors import CatpruneError
from catprune.scoring.score import score
from catprune.scoring.score import summary as score_summary
from catprune.selection.select import select
from catprune.tokens.blocks import Tokens
from catprune.tokens.tokenize import summary as tokenize_summary
from catprune.tokens.tokenize import tokenize
from catprune.training.train import train
from catprune.workspace.manifest import read_manifest
from catprune.writing.write import write
from support.synthetic import contents

QUIET = {"threads": 1, "quiet": True}
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "house", "tree", "river", "stone", "cloud", "bird"]


def write_input(folder, name, seed, count, again=(), *, short=True):
    """A Moses pair of random sentences; some repeat sentences of `again`, and one is too short on request."""
    random = np.random.default_rng(seed)
    pairs = [(" ".join(random.choice(WORDS, 6)), " ".join(random.choice(WORDS, 6))) for _ in range(count)]
    for place, pair in enumerate(again):
        pairs[3 * place] = pair
    if short:
        pairs[1] = ("", "nothing")
    for language, side in zip(("en", "de"), zip(*pairs, strict=True), strict=True):
        (folder / f"{name}.{language}").write_text("".join(f"{text}\n" for text in side))
    return pairs


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three inputs, and a run over the first: cleaned, tokenized, trained on, and scored."""
    base = tmp_path_factory.mktemp("appended")
    first = write_input(base, "a", 1, 150)
    write_input(base, "b", 2, 90, again=first[5:15])
    write_input(base, "c", 3, 60, again=first[20:24], short=False)
    run = base / "run"
    clean([base / "a.en", base / "a.de"], out=run / "clean", **QUIET)
    tokenize(run / "clean", out=run / "tokens", vocab_size=320, **QUIET)
    options = {"batch_tokens": 512, "precision": "float32", **QUIET}
    train(run / "tokens", out=run / "warmup", epochs=2, checkpoints="1", warmup_steps=5, **options)
    score(run / "tokens", checkpoints=checkpoints(run), out=run / "scores", precision="float32", **QUIET)
    return base


def checkpoints(run):
    return [run / "warmup/epoch-1", run / "warmup/epoch-2"]


def inputs(base, *names):
    return [str(base / name) + ".{en,de}" for name in names]


def read_columns(folder, *columns):
    shards = read_manifest(folder, step=json.loads((folder / "manifest.json").read_bytes())["step"])["shards"]
    table = [row for shard in shards for row in parquet.read_table(folder / shard["file"]).to_pylist()]
    return {row["row"]: tuple(row[column] for column in columns) for row in table}


def test_an_appended_corpus_equals_one_of_all_inputs_and_only_new_inputs_are_processed(corpus, tmp_path):
    run = shutil.copytree(corpus / "run", corpus / "appended")
    for names in ("ab", "abc"):  # one after the other
        cleaned = clean(inputs(corpus, *names), out=run / "clean", **QUIET)
        tokenized = tokenize(run / "clean", out=run / "tokens", vocab_size=320, **QUIET)
        assert (cleaned.new, tokenized.new) == {"ab": (90, 79), "abc": (60, 56)}[names]
    assert (cleaned.rows, cleaned.manifest["inputs"][2]["first"]) == (300, 240)
    whole = clean(inputs(corpus, *"abc"), out=tmp_path / "clean", **QUIET)
    assert cleaned.kept == whole.kept < 290
    kept = {row: reasons == 0 for row, (reasons,) in read_columns(run / "clean", "reasons").items()}
    assert kept == {row: reasons == 0 for row, (reasons,) in read_columns(tmp_path / "clean", "reasons").items()}
    assert cleaned.reasons["duplicate_elsewhere"] == whole.reasons["duplicate"] == 14
    assert cleaned.reasons["empty"] == 2 and len(cleaned.manifest["examples"]["empty"]) == 2
    assert cleaned.manifest["notes"][-1] == "60 rows were appended to 240; 56 of the new rows are kept"
    assert summary(cleaned, examples=1)
    fresh = tmp_path / "tokens"
    tokenize(tmp_path / "clean", out=fresh, tokenizer=run / "tokens/tokenizer.json", **QUIET)
    tokens, others = Tokens.open(run / "tokens"), Tokens.open(fresh)
    assert len(tokens.blocks) == 1 and tokens.manifest["counts"] == others.manifest["counts"]
    for entry, other in zip(tokens.blocks, others.blocks, strict=True):
        assert all(np.array_equal(*arrays) for arrays in zip(tokens.read(entry), others.read(other), strict=True))
    before = read_manifest(corpus / "run/tokens", step="tokenize")["counts"]["target_tokens"]
    assert tokens.unigrams()[1].sum() == before < tokens.blocks[0].target_tokens, "counts of the corpus as it was"

    with pytest.raises(CatpruneError, match=r"other inputs \(tokens changed since, or rows were appended to it"):
        train(run / "tokens", out=run / "warmup", epochs=2, checkpoints="1", warmup_steps=5, batch_tokens=512,
              precision="float32", **QUIET)  # fmt: skip
    scored = score(run / "tokens", checkpoints=checkpoints(run), out=run / "scores", precision="float32", **QUIET)
    assert scored.pairs == tokens.manifest["counts"]["pairs"]
    assert scored.new == 79 + 56, "scores had not been made in between"
    files = {path.name for path in [*run.rglob("columns/part-*"), *run.glob("tokens/part-*")]}
    assert {name.partition(".")[0] for name in files} == {"part-000000000000-000000000300"}, "shards were continued"
    event = json.loads((run / "scores/epoch-1/log/events.jsonl").read_text().splitlines()[-2])
    assert event["event"] == "scored"
    assert scored.manifests["epoch-2"]["checkpoint"]["seen"]["times"] == [0, 2]
    assert read_columns(run / "scores/epoch-2", "seen") == {
        row: (2 if row < 150 else 0,) for row, is_kept in kept.items() if is_kept
    }
    weights = {"precision": "float32", "out": tmp_path / "scores", **QUIET}
    score(run / "tokens", checkpoints=checkpoints(run), **weights)
    names = ("row", "tokens", "nll_sum", "correct", "el2n_sum", "ign_sum", "seen")
    assert read_columns(run / "scores/epoch-2", *names) == read_columns(tmp_path / "scores/epoch-2", *names)
    selected = select(run / "scores", out=run / "selection", method="cat-diff", on="nll", keep="50%", **QUIET)
    assert [group["name"] for group in selected.groups] == [
        "seen 0 times by epoch-1, 0 times by epoch-2",
        "seen 1 time by epoch-1, 2 times by epoch-2",
    ]
    written = write(run / "clean", [tmp_path / "p.en", tmp_path / "p.de"], selection=run / "selection", **QUIET)
    assert written.pairs == selected.kept
    again = contents(run)
    clean(inputs(corpus, *"abc"), out=run / "clean", **QUIET)
    tokenize(run / "clean", out=run / "tokens", vocab_size=320, **QUIET)
    score(run / "tokens", checkpoints=checkpoints(run), out=run / "scores", precision="float32", **QUIET)
    assert contents(run) == again, "equal work is finished work"


@pytest.mark.parametrize("step", ["clean", "tokenize", "score"])
def test_appending_continues_after_a_kill(corpus, step):
    undisturbed, broken = corpus / f"undisturbed-{step}", corpus / f"broken-{step}"
    calls = {
        "clean": "clean(inputs, out=run / 'clean', **quiet)",
        "tokenize": "tokenize(run / 'clean', out=run / 'tokens', vocab_size=320, **quiet)",
        "score": "score(run / 'tokens', checkpoints=[run / 'warmup/epoch-1'], out=run / 'scores', "
        "precision='float32', **quiet)",
    }
    script = """
        import os, signal
        from pathlib import Path
        from catprune.workspace import step_folder
        from catprune.cleaning.clean import clean
        from catprune.scoring.score import score
        from catprune.tokens.tokenize import tokenize
        run, inputs, quiet = Path({run!r}), {inputs!r}, {quiet!r}
        publish = step_folder.StepFolder.publish
        def dying(step, **results):
            if step.plan["step"] == {dies!r}:
                os.kill(os.getpid(), signal.SIGKILL)
            return publish(step, **results)
        step_folder.StepFolder.publish = dying
        {calls}
    """

    def started(run, dies):
        text = textwrap.dedent(script).format(
            run=str(run), inputs=inputs(corpus, "a", "b"), quiet=QUIET, dies=dies, calls="\n".join(calls.values())
        )
        return subprocess.run([sys.executable, "-c", text], check=False).returncode

    for run in (undisturbed, broken):
        shutil.copytree(corpus / "run", run)
    folder = broken / {"tokenize": "tokens", "score": "scores/epoch-1"}.get(step, step)
    manifest = (folder / "manifest.json").read_bytes()
    assert started(undisturbed, "nothing") == 0
    assert started(broken, step) == -signal.SIGKILL
    assert (folder / "manifest.json").read_bytes() == manifest, "the folder is unchanged"
    if step != "score":
        assert read_manifest(folder, step=step) and (step == "clean" or Tokens.open(folder).blocks)
    assert started(broken, "nothing") == 0
    assert contents(broken) == contents(undisturbed)


def test_invalid_appended_inputs_are_refused(corpus, tmp_path):
    run = shutil.copytree(corpus / "run", corpus / "refused")
    before = contents(run)
    rule = r".* To append inputs, give all old inputs in the old order, then the new ones; .* force = true"
    with pytest.raises(CatpruneError, match=r"other inputs \("):
        clean(inputs(corpus, "b"), out=run / "clean", **QUIET)
    for other in (inputs(corpus, "b", "a"), inputs(corpus, "b", "a", "c")):
        with pytest.raises(CatpruneError, match=rf"in another order: .*a\.en .*a\.de comes first\.{rule}"):
            clean(other, out=run / "clean", **QUIET)
    clean(inputs(corpus, "a", "c"), out=run / "two", **QUIET)
    for other, fault in (
        (inputs(corpus, "a", "b", "c"), r"in another order: .*c\.en .*c\.de comes right after .*a\.en .*a\.de\."),
        (inputs(corpus, "c", "b"), r"without .*a\.en .*a\.de\."),
        (inputs(corpus, "a"), r"without .*c\.en .*c\.de\."),
    ):
        with pytest.raises(CatpruneError, match=rf"two has cleaned some of these .*{fault}{rule}"):
            clean(other, out=run / "two", **QUIET)
    shutil.rmtree(run / "two")
    with pytest.raises(CatpruneError, match=r"duplicates was "):
        clean(inputs(corpus, "a", "b"), out=run / "clean", duplicates="source", **QUIET)
    assert contents(run) == before
    shard = next((run / "clean/fingerprints").glob("part-*"))
    content = shard.read_bytes()
    shard.write_bytes(content[:-9] + bytes(9))
    with pytest.raises(CatpruneError, match="was changed since it was written"):
        clean(inputs(corpus, "a", "b"), out=run / "clean", **QUIET)
    shard.write_bytes(content)
    clean(inputs(corpus, "a"), out=run / "verified", verify=True, **QUIET)
    with pytest.raises(CatpruneError, match="cannot be appended to a corpus that was cleaned with verify"):
        clean(inputs(corpus, "a", "b"), out=run / "verified", verify=True, **QUIET)
    (tmp_path / "tags").write_text("x\n" * 150)
    clean(inputs(corpus, "a"), out=run / "tagged", tags=tmp_path / "tags", **QUIET)
    with pytest.raises(CatpruneError, match="cannot be appended to a corpus that was cleaned with tags"):
        clean(inputs(corpus, "a", "b"), out=run / "tagged", tags=tmp_path / "tags", **QUIET)
    text = (corpus / "a.en").read_text()
    try:
        (corpus / "a.en").write_text("x" + text[1:])
        with pytest.raises(CatpruneError, match=r"a\.en .*changed"):
            clean(inputs(corpus, "a", "b"), out=run / "clean", **QUIET)
    finally:
        (corpus / "a.en").write_text(text)
    cleaned = clean(inputs(corpus, "a", "b"), out=run / "clean", force=True, **QUIET)
    assert cleaned.reasons["duplicate_elsewhere"] == 0 and "extends" not in cleaned.manifest
    assert read_checkpoint(run / "warmup/epoch-1").seen["end"] == 150


def test_steps_say_that_appended_inputs_add_no_pair(corpus):
    run = shutil.copytree(corpus / "run", corpus / "nothing-new")
    for language in ("en", "de"):
        (corpus / f"again.{language}").write_bytes((corpus / f"a.{language}").read_bytes())
    clean([*inputs(corpus, "a"), *inputs(corpus, "again")], out=run / "clean", **QUIET)
    for new in (True, False):
        tokens = tokenize(run / "clean", out=run / "tokens", vocab_size=320, **QUIET)
        scored = score(run / "tokens", checkpoints=checkpoints(run), out=run / "scores", precision="float32", **QUIET)
        assert (tokens.is_new, tokens.new, scored.is_new, scored.new) == (new, 0, new, 0)
        assert (", of them 0 new, " in tokenize_summary(tokens)[0]) is new
        assert (", of them 0 new; in " in score_summary(scored)[0]) is new


def test_force_recomputes_an_appended_corpus(corpus):
    run = shutil.copytree(corpus / "run", corpus / "forced")
    clean(inputs(corpus, "a", "b"), out=run / "clean", **QUIET)
    tokenize(run / "clean", out=run / "tokens", vocab_size=320, **QUIET)
    cleaned = clean(inputs(corpus, "a", "b"), out=run / "clean", force=True, **QUIET)
    assert (cleaned.reasons["duplicate_elsewhere"], cleaned.reasons["duplicate"]) == (0, 10)
    tokens = tokenize(run / "clean", out=run / "tokens", vocab_size=320, force=True, **QUIET)
    assert not {"extends"} & {*cleaned.manifest, *tokens.manifest}
    assert Tokens.open(run / "tokens").unigrams()[1].sum() == tokens.target_tokens


def test_unfinished_work_is_extended_too(corpus):
    """Inputs are appended while a scoring of the earlier corpus is unfinished."""
    run = shutil.copytree(corpus / "run", corpus / "unfinished")
    scores = run / "scores/epoch-1"
    (scores / "manifest.json").unlink()
    clean(inputs(corpus, "a", "b"), out=run / "clean", **QUIET)
    tokenize(run / "clean", out=run / "tokens", vocab_size=320, **QUIET)
    scored = score(run / "tokens", checkpoints=checkpoints(run), out=run / "scores", precision="float32", **QUIET)
    assert [path.name for path in scores.glob("columns/part-*")] == ["part-000000000000-000000000240.parquet"]
    assert read_columns(scores, "seen").keys() == read_columns(run / "scores/epoch-2", "seen").keys()
    assert [len(scored.manifests[name]["extends"]) for name in ("epoch-1", "epoch-2")] == [1, 1]
