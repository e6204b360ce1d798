"""Plans, manifests and checkpoints carry their own digest: one changed byte is noticed, whoever reads the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import catprune
import numpy as np
import pytest
from catprune import CatpruneError
from catprune.workspace.sealed import FORMAT, RESULTS, digest_work, is_same_work, read_sealed, seal

QUIET: dict[str, Any] = {"quiet": True}
TRAINING: dict[str, Any] = {
    "epochs": 1.5,
    "checkpoints": "1",
    "batch_tokens": 256,
    "precision": "float32",
    "threads": 1,
}


def test_what_is_sealed_reads_back_and_any_changed_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    values = {"format": FORMAT, "step": "x", "options": {"a": [1, 2.5, None, "ü"]}, "reads": {}}
    data = seal(values)
    path.write_bytes(data)
    assert {key: value for key, value in read_sealed(path).items() if key != "catprune"} == values
    for place in range(len(data)):
        for bit in range(8):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            with pytest.raises(CatpruneError, match=r"plan\.json"):
                read_sealed(path)


def test_json_that_nests_too_deeply_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    for data in (b'{"a":' * 100_000, b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"):
        path.write_bytes(data)
        with pytest.raises(CatpruneError, match=r"plan\.json"):
            read_sealed(path)


def test_the_digest_of_work_does_not_depend_on_places_and_makers() -> None:
    moses = {"format": "moses", "source": "../a.en", "target": "../a.de"}
    plan = {"reads": {"inputs": [moses], "clean": {"path": "../c", "manifest": "0" * 32}}, "options": {"n": 1}}
    moved = {"reads": {"inputs": [{**moses, "source": "b"}], "clean": {"path": "d", "manifest": "0" * 32}}}
    assert digest_work(plan) == digest_work({**plan, **moved, "threads": 3, "catprune": "9", "digest": "1"})
    for other in ({"options": {"n": 2}}, {"reads": {**plan["reads"], "clean": {"path": "../c", "manifest": "1" * 32}}}):
        assert digest_work({**plan, **other}) != digest_work(plan)
    assert not is_same_work(plan, {**plan, **moved}), "the content of inputs is not in a plan"
    inputs = {"reads": {"inputs": [moses], "clean": moved["reads"]["clean"]}}
    assert is_same_work(plan, {**plan, **inputs})


def flip(path: Path, place: int) -> bytes:
    data = path.read_bytes()
    path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
    return data


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of every step, without an evaluation."""
    run = tmp_path_factory.mktemp("run")
    lines = [f"the house number {number} is {number % 7} years old and green" for number in range(120)]
    (run / "a.en").write_text("\n".join(lines) + "\n")
    (run / "a.de").write_text("\n".join(line.replace("the house", "das haus") for line in lines) + "\n")
    (run / "own.py").write_text("def half(sources, targets):\n    return [len(text) for text in sources]\n")
    catprune.clean([run / "a.en", run / "a.de"], out=run / "clean", near_duplicates="pair", **QUIET)
    catprune.tokenize(run / "clean", out=run / "tokens", vocab_size=300, **QUIET)
    catprune.train(run / "tokens", out=run / "warmup", **TRAINING, **QUIET)
    checkpoints = sorted((run / "warmup").glob("epoch-*"))
    assert len(checkpoints) == 2
    scoring = {"precision": "float32", "threads": 1}
    catprune.score(run / "tokens", checkpoints=checkpoints, out=run / "scores", **scoring, **QUIET)
    catprune.score_pairs(run / "clean", scorer=f"{run / 'own.py'}:half", out=run / "scores", **QUIET)
    catprune.select(run / "scores", method="cat-diff", out=run / "half", keep="50%", **QUIET)
    catprune.write(run / "clean", [run / "p.en", run / "p.de"], selection=run / "half", **QUIET)
    return run


#: What reads the files of each folder; each call writes its result again into the folder `new`.
READERS: dict[str, Callable[[Path], Any]] = {
    "clean": lambda run: [
        catprune.write(run / "clean", [run / "new/p.en", run / "new/p.de"], **QUIET),
        catprune.select(
            run / "scores", column="half", clean=run / "clean", condense=run / "clean", out=run / "new/s", **QUIET
        ),
        catprune.clean([run / "a.en", run / "a.de"], against=[run / "clean"], out=run / "new/c", **QUIET),
        catprune.clean([run / "a.en", run / "a.de"], near_duplicates="pair", out=run / "clean", **QUIET),
    ],
    "tokens": lambda run: catprune.score(
        run / "tokens", checkpoints=[run / "warmup/epoch-1"], out=run / "new/s", **QUIET
    ),
    "warmup": lambda run: [
        catprune.score(
            run / "tokens", checkpoints=sorted((run / "warmup").glob("epoch-*")), out=run / "new/s", **QUIET
        ),
        catprune.train(run / "tokens", out=run / "warmup", **TRAINING, **QUIET),
    ],
    "scores": lambda run: [
        catprune.select(run / "scores", method="cat-diff", where="half>1", out=run / "new/s", **QUIET),
        catprune.select(run / "scores", column="half", keep=5, out=run / "new/t", **QUIET),
    ],
    "half": lambda run: [
        catprune.write(run / "clean", [run / "new/p.en", run / "new/p.de"], selection=run / "half", **QUIET),
        catprune.select(run / "scores", method="cat-diff", out=run / "half", keep="50%", **QUIET),
    ],
    "p.en.catprune.json": lambda run: catprune.write(
        run / "clean", [run / "p.en", run / "p.de"], selection=run / "half", **QUIET
    ),
}
#: Files that no later step reads.
UNREAD = ("metrics.jsonl",)


@pytest.mark.parametrize("name", list(READERS))
def test_one_changed_byte_is_refused_by_what_reads_the_file(steps: Path, name: str) -> None:
    def read() -> None:
        shutil.rmtree(steps / "new", ignore_errors=True)
        (steps / "new").mkdir()
        READERS[name](steps)

    read()
    random = np.random.default_rng(7)
    files = [steps / name] if (steps / name).is_file() else sorted((steps / name).rglob("*"))
    for path in files:
        if not path.is_file() or "log" in path.parts or path.name in UNREAD or (path.name == "plan.json"):
            continue
        for place in random.integers(0, path.stat().st_size, 3).tolist():
            data = flip(path, place)
            try:
                read()
            except CatpruneError as error:
                assert path.name in str(error), (path, place)
            else:
                pytest.fail(f"byte {place} of {path} was not noticed")
            finally:
                path.write_bytes(data)
    read()


def test_a_changed_plan_is_refused_and_replaced_by_force(steps: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(steps / "clean", tmp_path / "clean"))
    plan = folder / "plan.json"
    inputs = [steps / "a.en", steps / "a.de"]
    whole = catprune.clean(inputs, out=folder, near_duplicates="pair", **QUIET)
    for place in (5, 100, plan.stat().st_size - 5):
        flip(plan, place)
        with pytest.raises(CatpruneError, match=r"plan\.json"):
            catprune.clean(inputs, out=folder, near_duplicates="pair", **QUIET)
        again = catprune.clean(inputs, out=folder, near_duplicates="pair", force=True, **QUIET)
        assert again.manifest == whole.manifest
    for place in (5, 100):
        flip(folder / "manifest.json", place)
        with pytest.raises(CatpruneError, match=r"manifest\.json"):
            catprune.clean(inputs, out=folder, near_duplicates="pair", **QUIET)
        assert (
            catprune.clean(inputs, out=folder, near_duplicates="pair", force=True, **QUIET).manifest == whole.manifest
        )


def test_a_changed_state_of_a_training_is_refused(steps: Path, tmp_path: Path) -> None:
    from catprune.checkpoints.native import load_tensors, save_tensors

    weights = load_tensors(steps / "warmup/epoch-1/model.safetensors")[0]
    path = tmp_path / "state.safetensors"
    save_tensors(path, weights, metadata={"position": "1"})
    assert load_tensors(path)[1] == {"position": "1"}
    for place in np.random.default_rng(3).integers(0, path.stat().st_size, 40).tolist():
        data = flip(path, place)
        with pytest.raises(CatpruneError, match=r"state\.safetensors"):
            load_tensors(path)
        path.write_bytes(data)


def test_other_results_are_named_with_both_versions(steps: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(RESULTS, "clean", RESULTS["clean"] + 1)
    with pytest.raises(CatpruneError, match="results of `clean` was 2, is now 3"):
        catprune.clean([steps / "a.en", steps / "a.de"], out=steps / "clean", near_duplicates="pair", **QUIET)


def test_another_version_with_the_same_results_changes_nothing(steps: Path, monkeypatch: Any) -> None:
    before = (steps / "clean/manifest.json").read_bytes()
    monkeypatch.setattr("catprune.workspace.sealed.__version__", "9.9.9")
    monkeypatch.setattr("catprune.workspace.step_folder.__version__", "9.9.9")
    catprune.clean([steps / "a.en", steps / "a.de"], out=steps / "clean", near_duplicates="pair", **QUIET)
    assert (steps / "clean/manifest.json").read_bytes() == before
