"""Evaluation: sacrebleu's numbers, the honest cost, one model a subset, resuming, and the tables."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from catprune._core import digest_file, write_columns
from catprune.errors import CatpruneError, MissingExtra, UsageError
from catprune.evaluation import results
from catprune.evaluation.cost import Cost, flops_of, scorers_of, seconds_of
from catprune.evaluation.evaluate import compare, evaluate
from catprune.selection.methods import MERGE
from catprune.selection.sources import SCORER_STEP
from catprune.workspace.files import to_json
from catprune.workspace.step_folder import StepFolder
from support.synthetic import sentences, write_tokens

if TYPE_CHECKING:
    from collections.abc import Callable

REFERENCES = [f"der Hund sieht die Katze Nummer {n} im Garten" for n in range(60)]
GOOD = [line if n % 7 else line.replace("Hund", "Mann") for n, line in enumerate(REFERENCES)]
BAD = [line.replace("sieht die Katze", "hat eine") for line in REFERENCES]


def finish(
    folder: Path,
    step: str,
    *,
    reads: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    **results: Any,
) -> Path:
    """A finished step's folder with the given manifest."""
    with StepFolder(folder, step=step, reads=reads or {}, options=options or {}) as made:
        made.publish(**results)
    return folder


def speed(folder: Path, measured: float, seconds: float = 1.0, *, what: str = "tokens_per_second", **more: str) -> None:
    with (folder / "log" / "events.jsonl").open("a") as stream:
        event = {"event": "t", "seconds": seconds, what: measured, **more}
        stream.write(json.dumps(event) + "\n")


def trained(folder: Path, *, flops: float, tokens: int, steps: int = 100) -> Path:
    pairs = 10 if folder.name == "full" else 5
    made = finish(
        folder,
        "train",
        counts={"pairs": pairs, "target_tokens": 9 * pairs},
        flops=flops,
        target_tokens=tokens,
        steps=steps,
        epochs=2.0,
        checkpoints=[{"name": "step-100"}],
    )
    speed(made, 50.0)
    return made


def scored(run: Path, name: str, *, step: int, flops: float) -> Path:
    made = finish(
        run / "scores" / name,
        "score",
        reads={"checkpoint": {"path": f"../../warmup/{name}"}},
        checkpoint={"step": step, "epoch": 1.0, "flops": 10.0 * step, "target_tokens": 5 * step},
        counts={"pairs": 7, "too_long": 0, "target_tokens": 400},
        flops=flops,
        shards=[],
    )
    speed(made, 200.0)
    return made


def selected(run: Path, name: str, scores: list[str]) -> Path:
    reads = {"scores": [{"path": f"../../scores/{score}"} for score in scores]}
    return finish(run / "selection" / name, "select", reads=reads, options={"method": name}, shards=[])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    trained(tmp_path / "warmup", flops=9000.0, tokens=4500)
    for step, name in ((100, "epoch-1"), (300, "epoch-3"), (500, "epoch-5")):
        scored(tmp_path, name, step=step, flops=70.0)
    selected(tmp_path, "cat-diff", ["epoch-1", "epoch-3"])
    selected(tmp_path, "random", ["epoch-5"])  # only to know which rows there are
    counts = {"rows": 12, "kept": 10, "pairs": 10, "source_tokens": 80, "target_tokens": 90, "too_long": 0}
    finish(tmp_path / "tokens", "tokenize", counts=counts, shards=[])
    (tmp_path / "test.en").write_text("".join(f"sentence {n}\n" for n in range(60)))
    (tmp_path / "test.de").write_text("".join(line + "\n" for line in REFERENCES))
    return tmp_path


def test_compare_agrees_with_sacrebleu() -> None:
    import sacrebleu

    scores, signatures = compare({"good": GOOD, "bad": BAD}, REFERENCES, against=["bad"], resamples=200)
    for name, hypotheses in (("good", GOOD), ("bad", BAD)):
        bleu = sacrebleu.corpus_bleu(hypotheses, [REFERENCES]).score
        chrf = sacrebleu.corpus_chrf(hypotheses, [REFERENCES]).score
        assert scores[name]["BLEU"].score == pytest.approx(bleu)
        assert scores[name]["chrF"].score == pytest.approx(chrf)
    assert scores["good"]["BLEU"].p["bad"] < 0.05
    assert scores["bad"]["BLEU"].p == {}
    assert (
        signatures["chrF"].startswith("chrF2|nrefs:1|")
        and "bs:200" in signatures["BLEU"]
        and "seed:12345" in signatures["BLEU"]
    )


def test_p_is_what_its_description_says() -> None:
    from sacrebleu import corpus_chrf

    other = [line if n % 8 else line.replace("Katze", "Maus") for n, line in enumerate(REFERENCES)]
    systems = {"a": GOOD, "b": other}
    scores, _ = compare(systems, REFERENCES, against=["a"], resamples=60)

    def difference(places: Any) -> float:
        references = [[REFERENCES[place] for place in places]]
        a, b = (corpus_chrf([lines[place] for place in places], references).score for lines in systems.values())
        return abs(a - b)

    found = np.array([difference(places) for places in np.random.default_rng(12345).choice(60, size=(60, 60))])
    beyond = int((found - found.mean() > difference(range(60))).sum())
    assert 1 < beyond < 30
    assert scores["b"]["chrF"].p["a"] == pytest.approx((beyond + 1) / 61)


def test_equal_systems_do_not_differ() -> None:
    scores, _ = compare({"a": GOOD, "b": list(GOOD)}, REFERENCES, against=["a"], resamples=100)
    assert scores["b"]["BLEU"].p["a"] > 0.5
    assert scores["a"]["BLEU"].interval == scores["b"]["BLEU"].interval > 0


def test_cost_counts_the_warmup_once_up_to_the_last_scored_checkpoint(run: Path) -> None:
    model = trained(run / "model", flops=5000.0, tokens=2500)
    assert flops_of(run / "selection/cat-diff", training=model) == Cost(3000.0, 140.0, 5000.0)
    assert flops_of(run / "selection/random", training=model) == Cost(0.0, 0.0, 5000.0)
    assert flops_of(None, training=model).total == 5000.0
    assert seconds_of(run / "selection/cat-diff", training=model) == Cost(1500 / 50, 2 * 400 / 200, 2500 / 50)


def test_cost_counts_what_columns_were_made_from(run: Path) -> None:
    """A function of stored statistics costs what its checkpoints do; of a scorer the seconds are known."""
    model = trained(run / "model", flops=5000.0, tokens=2500)
    scores = [{"path": f"../{name}"} for name in ("epoch-1", "epoch-3")]
    finish(run / "scores/learnt", SCORER_STEP, reads={"scores": scores}, counts={"pairs": 7})
    made = finish(run / "scores/labse", SCORER_STEP, reads={"clean": {}}, counts={"pairs": 600})
    speed(made, 30.0, what="pairs_per_second")
    files = [{"path": f"../../scores/{name}/part-0-9.parquet"} for name in ("learnt", "labse")]
    merged = finish(run / "selection/merged", "select", reads={"joined": files}, options={"method": MERGE})
    assert flops_of(merged, training=model) == Cost(3000.0, 140.0, 5000.0)
    assert [column.name for column in scorers_of(merged)] == ["labse"]
    expected = Cost(1500 / 50, 2 * 400 / 200 + 600 / 30, 2500 / 50)
    assert seconds_of(merged, training=model) == expected


def test_seconds_come_from_the_longest_run_and_may_be_missing(run: Path) -> None:
    model = trained(run / "model", flops=1.0, tokens=1000)
    speed(model, 100.0, seconds=60.0)
    assert seconds_of(None, training=model) == Cost(0.0, 0.0, 10.0)
    (run / "scores/epoch-1/log/events.jsonl").unlink()
    assert seconds_of(run / "selection/cat-diff", training=model) is None


def test_seconds_of_a_plan_that_was_replaced_do_not_count(run: Path) -> None:
    model = trained(run / "model", flops=1.0, tokens=1000)
    speed(model, 100.0, seconds=60.0, plan=digest_file(str(model / "plan.json")))
    speed(model, 5.0, seconds=600.0, plan="0" * 32)
    with (model / "log/events.jsonl").open("a") as stream:
        stream.write('{"event": "cut o\n')
    assert seconds_of(None, training=model) == Cost(0.0, 0.0, 10.0)


def test_a_training_reached_by_a_link_is_found_where_the_manifest_says(run: Path) -> None:
    checkpoint = run / "elsewhere/epoch-1"
    checkpoint.mkdir(parents=True)
    (run / "warmup/epoch-1").symlink_to(checkpoint)
    model = trained(run / "model", flops=5000.0, tokens=2500)
    assert seconds_of(run / "selection/cat-diff", training=model) == Cost(1500 / 50, 2 * 400 / 200, 2500 / 50)


@dataclass
class FakeTrained:
    checkpoints: tuple[Path, ...]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand-ins for training and translation that say when they are called; both have tests of their own."""
    made: list[str] = []

    def train(_: Path, *, out: Path, steps: int, **options: Any) -> FakeTrained:
        if not (out / "manifest.json").is_file():
            made.append(f"train {out.name}")
            trained(out, flops=1000.0, tokens=100, steps=steps)
        elif json.loads((out / "manifest.json").read_bytes())["steps"] != steps:
            if not options.get("force"):
                raise CatpruneError(f"{out} holds work with other options")
            made.append(f"train {out.name} anew")
        return FakeTrained((out / "step-1", out / f"step-{steps}"))

    def translate(checkpoint: Path, lines: list[str], *, beam: int, **_: Any) -> list[str]:
        subset = checkpoint.parent.name
        made.append(f"translate {subset} {checkpoint.name} beam {beam}")
        assert lines[3] == "sentence 3"
        return {"full": REFERENCES, "cat-diff": GOOD, "random": BAD}[subset]

    monkeypatch.setattr(import_module("catprune.training.train"), "train", train)
    monkeypatch.setattr(import_module("catprune.evaluation.translate"), "translate", translate)
    return made


def evaluate_run(run: Path, **changed: Any) -> results.Evaluated:
    arguments: dict[str, Any] = {
        "subsets": {"full": None, "cat-diff": run / "selection/cat-diff", "random": run / "selection/random"},
        "tests": [results.TestSet("held", run / "test.en", run / "test.de")],
        "out": run / "evaluate",
        "steps": 100,
        "resamples": 100,
        "quiet": True,
    }
    return evaluate(run / "tokens", **(arguments | changed))


def test_evaluate(run: Path, calls: list[str]) -> None:
    found = evaluate_run(run)
    assert calls == [
        f"{what} {name}{more}"
        for name in ("full", "cat-diff", "random")
        for what, more in (("train", ""), ("translate", " step-100 beam 4"))
    ]
    full, cat, random = found.subsets
    assert (full.name, full.pairs, full.target_tokens) == ("full", 10, 90)
    assert (cat.pairs, cat.target_tokens, cat.flops.warmup, random.flops.warmup) == (5, 45, 3000.0, 0.0)
    assert full.scores["held"]["BLEU"].score > cat.scores["held"]["BLEU"].score > random.scores["held"]["BLEU"].score
    assert set(cat.scores["held"]["chrF"].p) == {"full", "random"}
    assert found.held_fixed == "updates"
    lines = (run / "evaluate/translations/cat-diff.held.txt").read_text().splitlines()
    assert lines == GOOD
    calls.clear()
    assert evaluate_run(run) == found
    assert calls == []


def test_interrupted_work_is_not_done_twice_and_ends_alike(run: Path, calls: list[str]) -> None:
    evaluate_run(run)
    expected = {name: digest_file(str(run / "evaluate" / name)) for name in ("results.json", "manifest.json")}
    (run / "evaluate/manifest.json").unlink()
    (run / "evaluate/translations/random.held.txt").unlink()
    calls.clear()
    evaluate_run(run)
    assert calls == ["translate random step-100 beam 4"]
    assert expected == {name: digest_file(str(run / "evaluate" / name)) for name in expected}


def test_translations_of_a_model_that_was_trained_anew_are_made_anew(run: Path, calls: list[str]) -> None:
    evaluate_run(run)
    (run / "evaluate/manifest.json").unlink()
    manifest = run / "evaluate/models/cat-diff/manifest.json"
    manifest.write_bytes(to_json({**json.loads(manifest.read_bytes()), "torch": "another"}))
    calls.clear()
    evaluate_run(run)
    assert calls == ["translate cat-diff step-100 beam 4"]


def test_the_precision_of_this_machine_stands_in_the_plan(run: Path, calls: list[str]) -> None:
    evaluate_run(run)
    plan = json.loads((run / "evaluate/plan.json").read_bytes())
    assert plan["options"]["training"]["precision"] in ("float32", "bfloat16")
    assert calls


def test_another_plan_needs_force_and_keeps_models_that_fit(run: Path, calls: list[str]) -> None:
    evaluate_run(run)
    with pytest.raises(CatpruneError, match=r"other options \(beam was 4, is now 2\)"):
        evaluate_run(run, beam=2)
    calls.clear()
    evaluate_run(run, beam=2, force=True)
    assert calls == [f"translate {name} step-100 beam 2" for name in ("full", "cat-diff", "random")]
    calls.clear()
    evaluate_run(run, steps=200, force=True)
    assert calls[0] == "train full anew"


@pytest.mark.parametrize("dies_at", range(1, 8))
def test_models_outlive_a_replacement_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    kind = import_module("catprune.evaluation.evaluate")._EvaluationFolder
    with kind(tmp_path / "e", step="evaluate", reads={}, options={"beam": 1}) as folder:
        for name in ("models/full/manifest.json", "translations/full.txt", "results.json"):
            (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / name).write_text("{}")
        folder.publish()
    done = 0

    def dying(work: Callable[..., Any]) -> Callable[..., Any]:
        def work_or_die(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done == dies_at:
                raise KeyboardInterrupt
            return work(*arguments, **options)

        return work_or_die

    forced = kind(tmp_path / "e", step="evaluate", reads={}, options={"beam": 2}, force=True)
    with monkeypatch.context() as patch:
        for owner, name in ((Path, "unlink"), (Path, "rename"), (shutil, "rmtree")):
            patch.setattr(owner, name, dying(getattr(owner, name)))
        with contextlib.suppress(KeyboardInterrupt), forced:
            pass
    with forced:
        assert forced.manifest is None
        assert sorted(path.name for path in folder.path.iterdir()) == ["log", "models", "plan.json"]
        assert (folder.path / "models/full/manifest.json").is_file()


@pytest.mark.usefixtures("calls")
def test_the_tables_say_what_they_show(run: Path) -> None:
    text = results.render(evaluate_run(run))
    assert "held (60 lines)" in text
    assert "Updates are held fixed" in text and "not corrected" in text
    assert "sacrebleu's paired bootstrap (about half the p-value of a two-sided test)" in text
    assert "nrefs:1" in text and "bs:100" in text, "sacrebleu's signatures"
    row = next(line for line in text.splitlines() if line.startswith("cat-diff") and "45" in line)
    assert "5 " in row and "±" in row
    assert max(len(line) for line in text.splitlines() if line.startswith(("full", "random", "subset"))) <= 110


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": None}, "equal updates"),
        ({"epochs": 2.0}, "equal updates"),
        ({"against": ["full", "missing"]}, "no subset has that name"),
        ({"beams": 3}, "evaluate: there is no option beams; did you mean beam"),
        ({"subsets": {"../x": None}, "against": []}, "cannot name a subset"),
        ({"tests": []}, "needs a subset and a test set"),
    ],
)
def test_options_that_cannot_be_meant(run: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate_run(run, **changed)


def test_test_sets_are_checked_before_anything_is_trained(run: Path, calls: list[str]) -> None:
    (run / "short.de").write_text("nur eine Zeile\n")
    held = results.TestSet("held", run / "test.en", run / "short.de")
    with pytest.raises(CatpruneError, match=r"has 60 lines.*has 1"):
        evaluate_run(run, tests=[held])
    with pytest.raises(CatpruneError, match="does not exist"):
        evaluate_run(run, tests=[results.TestSet("held", run / "test.en", run / "no.de")])
    assert calls == []


@pytest.mark.parametrize(
    ("package", "extra"), [("torch", "torch"), ("sacrebleu", "evaluate"), ("ctranslate2", "evaluate")]
)
def test_a_missing_package_is_named_with_its_extra(
    run: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"package {package}: install catprune with its extra {extra}"):
        evaluate_run(run)
    assert calls == []


@pytest.mark.usefixtures("calls")
def test_compressed_test_sets_with_odd_line_ends(run: Path) -> None:
    (run / "test.en.gz").write_bytes(gzip.compress((run / "test.en").read_bytes().replace(b"\n", b"\r\n")))
    lines = [line.replace(" ", "\u2028") for line in REFERENCES]
    (run / "odd.de").write_text("\n".join(lines))
    found = evaluate_run(run, tests=[results.TestSet("held", run / "test.en.gz", run / "odd.de")])
    assert found.tests == {"held": 60}


def test_a_seed_that_is_no_number_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACREBLEU_SEED", "none")
    with pytest.raises(UsageError, match="SACREBLEU_SEED"):
        evaluate_run(run)


@pytest.mark.usefixtures("calls")
def test_results_hold_no_times(run: Path) -> None:
    evaluate_run(run)
    results = json.loads((run / "evaluate/results.json").read_bytes())
    assert "seconds" not in to_json(results).decode()
    assert (run / "evaluate/log/seconds.json").is_file()


def test_with_real_models(tmp_path: Path) -> None:
    """Nothing stands in: two small models are trained, translate, and are compared; a second run gives the bytes."""
    tokens = write_tokens(tmp_path / "tokens", pairs=200, longest=4)
    rows = np.arange(200, dtype=np.int64)
    with StepFolder(tmp_path / "half", step="select", reads={"clean": {}}, options={"method": "random"}) as half:
        file = half.path / "part-000000000000-000000000200.parquet"
        kept = rows % 2 == 0
        digest = write_columns(str(file), {"row": rows, "kept": kept}, metadata={"plan": half.digest})
        shard = {"file": file.name, "first": 0, "end": 200, "digest": digest}
        half.publish(shards=[shard])
    sources, targets = sentences(30, seed=9, longest=4)
    for name, lines in (("source", sources), ("target", targets)):
        (tmp_path / name).write_text("".join(line + "\n" for line in lines))
    found = [
        evaluate(
            tokens,
            subsets={"full": None, "half": tmp_path / "half"},
            tests=[results.TestSet("toy", tmp_path / "source", tmp_path / "target")],
            out=tmp_path / name,
            epochs=1,
            against=["full"],
            resamples=20,
            beam=1,
            warmup_steps=4,
            batch_tokens=128,
            precision="float32",
            threads=1,
            quiet=True,
        )
        for name in ("one", "two")
    ]
    full, half_model = found[0].subsets
    assert (full.pairs, half_model.pairs, full.epochs, half_model.epochs) == (200, 100, 1.0, 1.0)
    assert half_model.steps < full.steps and half_model.flops.total < full.flops.total
    assert full.seconds is not None and full.seconds.training > 0
    assert len((tmp_path / "one/translations/half.toy.txt").read_text().splitlines()) == 30
    for name in ("results.json", "manifest.json", "translations/full.toy.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
