"""The report: what a run's folders say stands in the page, hostile text does no harm, equal runs give equal bytes."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catprune._core import digest_file, write_columns
from catprune.cleaning.clean import clean
from catprune.errors import CatpruneError
from catprune.evaluation.evaluate import compare
from catprune.reporting import run_columns
from catprune.reporting.aggregates import Examples, _best, draw_sample, hash_rows, take_survey
from catprune.reporting.figures import label, visible
from catprune.reporting.report import report
from catprune.reporting.run_columns import Reader, find_steps
from catprune.workspace.files import to_json, write_whole
from catprune.workspace.manifest import read_manifest
from catprune.workspace.step_folder import StepFolder

ROWS = 600
HOSTILE = '<script>alert("1")</script> "quoted" \'single\' &amp; {{ 7 * 7 }} <img src=http://evil.example/x.png>'
TAGS = ["news", "web<b>", "</script><script>alert(2)</script>"]


def write_corpus(folder: Path) -> tuple[Path, Path, Path]:
    """A corpus with hostile text in a row that is kept, in one that is dropped, and in the tags."""
    folder.mkdir()
    source = [f"the sentence number {row} has {row % 9} words" for row in range(ROWS)]
    target = [f"der Satz Nummer {row} hat {row % 9} Wörter" + " sehr" * (row % 5) for row in range(ROWS)]
    source[10] = target[10] = HOSTILE
    source[599], target[599] = HOSTILE, "ein Zeichen \u202e das kehrt um, und ein Tabulator \t dazu"
    files = folder / "corpus.en", folder / "corpus.de", folder / "tags"
    lines = (source, target, [TAGS[row % 3] for row in range(ROWS)])
    for path, side in zip(files, lines, strict=True):
        path.write_text("".join(line + "\n" for line in side))
    return files


def publish_columns(
    folder: Path, step: str, columns: dict[str, Any], *, options: dict[str, Any], valid: Any = None, **results: Any
) -> None:
    """A finished folder of one shard with a record for every value, in the documented format."""
    with StepFolder(folder, step=step, reads={}, options=options) as made:
        file = f"part-{0:012d}-{ROWS:012d}.parquet"
        digest = write_columns(str(folder / file), columns, valid=valid, metadata={"plan": made.digest})
        shard = {"file": file, "first": 0, "end": ROWS, "digest": digest}
        made.publish(shards=[shard], **results)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run: cleaned by catprune itself, scored and selected by a few lines of NumPy."""
    base = tmp_path_factory.mktemp("report")
    source, target, tags = write_corpus(base / "text")
    run = base / "run"
    rules = {"min_letter_share": 0.0, "min_letter_word_share": 0.0, "max_word_characters": 80}
    clean([source, target], out=run / "clean", tags=tags, rules=rules, threads=1)
    rows = np.array([row for row in range(ROWS) if row != 10], dtype=np.int64)
    valid = rows != 20  # too long to be scored
    random = np.random.default_rng(1)
    first = random.uniform(2, 4, len(rows)).astype(np.float32)
    first[-1] = 4.5  # the hostile pair is among the examples
    for epoch in (5, 1):  # written out of order: the report orders them by step
        columns = {"row": rows, "tokens": np.full(len(rows), 10, dtype=np.uint32), "nll_sum": first * 10 / epoch}
        if epoch == 1:
            columns["seen"] = (rows >= 400).astype(np.uint32)
        checkpoint = {"step": 100 * epoch, "epoch": float(epoch), "flops": 1e9 * epoch, "target_tokens": 1}
        publish_columns(
            run / "scores" / f"epoch-{epoch}",
            "score",
            columns,
            options={},
            valid=valid,
            checkpoint=checkpoint,
            flops=1e9,
        )
    for name, score in (("cat-diff", first * 0.8), ("random", random.random(len(rows), dtype=np.float32))):
        score[valid.argmin()] = -1
        cut = np.sort(score)[-300]
        kept = score >= cut
        counts = {"scored": 598, "unscored": 1, "kept": 300, "tokens": 5980, "tokens_kept": 3000}
        counts |= {"decided_by_ties": 0, "lowest": float(cut), "highest": float(score.max())}
        publish_columns(
            run / "selection" / name,
            "select",
            {"row": rows, "kept": kept, "score": score},
            options={"method": name, "direction": "top", "keep": {"rows": 300}, "on": "nll"},
            counts=counts,
            groups=[],
        )
    write_evaluation(run / "evaluate")
    return run


def write_evaluation(folder: Path) -> None:
    references = [f"der Satz {n} steht im Garten hinter dem Haus" for n in range(40)]
    systems = {"full": references, "cat-diff": references[:30] + ["nein"] * 10, "random": ["ja ja"] * 40}
    scores, signatures = compare(systems, references, against=["full", "random"], resamples=50)
    flops = {"warmup": 5e9, "scoring": 2e9, "training": 9e9}
    subsets = [
        {"name": name, "pairs": 599 if name == "full" else 300, "target_tokens": 3000, "steps": 100, "epochs": 2.0}
        | {"trained_tokens": 9000, "flops": flops}
        | {"scores": {"held": {m: {"score": s.score, "interval": s.interval, "p": s.p} for m, s in found.items()}}}
        for name, found in scores.items()
    ]
    results = {"held_fixed": "epochs", "against": ["full", "random"], "tests": {"held": 40}}
    options = {"preset": "tiny", "seed": 1, "beam": 4, "resamples": 50, "steps": None}
    with StepFolder(folder, step="evaluate", reads={}, options=options) as made:
        write_whole(folder / "results.json", to_json({**results, "signatures": signatures, "subsets": subsets}))
        made.publish()


class Page(html.parser.HTMLParser):
    """The elements, their attributes, and the text outside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts = "", [""]
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in {"script", "style"}:
            self._inside = tag
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif not self._inside:
            self.text += " " + data


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = report(run, out=tmp_path_factory.mktemp("page") / "report.html")
    return Page(path.read_text(encoding="utf-8"))


def test_equal_runs_give_equal_bytes(run: Path, tmp_path: Path) -> None:
    one = report(run, out=tmp_path / "one.html")
    two = report(run, out=tmp_path / "two.html")
    assert digest_file(str(one)) == digest_file(str(two))
    report(run, out=one)
    assert digest_file(str(one)) == digest_file(str(two)), "a report may be written over"


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "img", "object", "embed", "base", "form"}, attributes
        assert not {"src", "srcset", "action"} & set(attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'")


def test_hostile_text_is_shown_and_not_run(page: Page) -> None:
    assert page.text.count(HOSTILE) >= 2, "as text, exactly as it stands in the corpus"
    assert "Tabulator ␉ dazu" in page.text
    names = [tag for tag, _ in page.tags]
    assert names.count("script") == 2, "plotly and the figures, none from the corpus"
    assert "alert" not in page.scripts[1].partition("Plotly.newPlot")[0][:2000]
    assert "</script" not in page.scripts[-1] and "<script" not in page.scripts[-1]
    isolated = sum(tag == "bdi" for tag in names)
    assert isolated >= 20, "a direction mark in one cell does not reach the next"


def test_control_characters_become_visible() -> None:
    assert visible("a\0b\tc\x7f") == "a␀b␉c␡"
    assert label("<b>&\0") == "&lt;b&gt;&amp;␀"
    assert label("x" * 60) == "x" * 39 + "…"


def test_the_summary_and_the_numbers(page: Page) -> None:
    text = " ".join(page.text.split())
    assert "600 pairs read" in text and "599 kept by cleaning" in text
    assert "300 kept by each of 2 selections 50.1% of what cleaning kept" in text
    assert "corpus.en, corpus.de" in text
    assert "worse on 2 of 2" in text and "better on 2 of 2" in text
    assert "Epochs are held fixed" in text
    assert "nrefs:1|bs:50|seed:12345" in text
    for name in ("clean", "scores/epoch-1", "selection/random", "evaluate"):
        assert name in text


def test_digests_of_manifests_stand_in_the_page(page: Page, run: Path) -> None:
    assert digest_file(str(run / "selection/cat-diff/manifest.json")) in page.text


def figure(page: Page, name: str) -> dict[str, Any]:
    found = re.search(rf'Plotly\.newPlot\("{name}", Object\.assign\((.*), {{config}}\)\);', page.scripts[-1])
    assert found is not None, name
    return json.loads(found[1])


def test_figures_hold_the_counts(page: Page, run: Path) -> None:
    bars = figure(page, "figure-reasons")["data"][0]
    assert dict(zip(bars["y"], bars["x"], strict=True)) == {"identical sides": 1, "near copy": 1}
    heat = figure(page, "figure-overlap")["data"][0]["z"]
    assert heat[0][0] == heat[1][1] == 1 and 0.2 < heat[0][1] == heat[1][0] < 0.5
    drawn = figure(page, "figure-score-0")["data"]
    assert [(trace["name"], sum(trace["y"])) for trace in drawn] == [("kept", 300), ("dropped", 299)]
    counts = read_manifest(run / "selection/cat-diff", step="select")["counts"]
    assert figure(page, "figure-score-0")["layout"]["shapes"][0]["x0"] == pytest.approx(counts["lowest"])
    lengths = {trace["name"]: sum(trace["y"]) for trace in figure(page, "figure-lengths")["data"]}
    assert lengths == {name: pytest.approx(100, abs=0.1) for name in ("input", "cleaned", "cat-diff", "random")}


def test_the_data_map_is_confidence_against_variability(page: Page) -> None:
    traces = figure(page, "figure-map")["data"]
    assert sum(len(trace["x"]) for trace in traces if trace["visible"]) == 598, "all but the one without a score"
    assert [trace["name"] for trace in traces[:3]] != TAGS, "tags are escaped for plotly"
    x, y = traces[0]["x"][0], traces[0]["y"][0]
    probabilities = y - x, y + x  # mean and deviation of two numbers give the numbers
    nll = -np.log(np.array(probabilities))
    assert nll[0] / nll[1] == pytest.approx(5, rel=0.02), "nll fell to a fifth from epoch 1 to 5"


def test_the_gap_between_seen_and_unseen_pairs_is_shown(page: Page, run: Path) -> None:
    steps = find_steps(run)
    assert steps.clean is not None
    window = next(Reader(steps, steps.clean).windows())
    rows = np.arange(ROWS)
    scored = np.isfinite(window.nll[0])
    means = [window.nll[0][scored & side].mean() for side in (rows < 400, rows >= 400)]
    pairs = [int((scored & side).sum()) for side in (rows < 400, rows >= 400)]
    shown = [
        f"epoch-1 {times} {count} {mean:.3f} {more}"
        for times, count, mean, more in zip((0, 1), pairs, means, ("–", f"{means[1] - means[0]:+.3f}"), strict=True)
    ]
    assert all(line in " ".join(page.text.split()) for line in shown), shown


def test_examples_are_the_extreme_rows(run: Path) -> None:
    steps = find_steps(run)
    assert list(steps.scores) == ["epoch-1", "epoch-5"]
    assert steps.clean is not None
    reader = Reader(steps, steps.clean)
    sample = draw_sample(reader, seed=1)
    examples = take_survey(reader, sample, seed=1, shown=4).examples["cat-diff"]
    window = next(reader.windows())
    score, kept = window.score[0], window.kept[0]
    order = np.argsort(-np.where(np.isfinite(score), score, -np.inf), kind="stable")
    assert examples["highest scores"].rows.tolist() == order[:4].tolist()
    assert examples["just kept"].rows.tolist() == order[299:295:-1].tolist()
    assert examples["just dropped"].rows.tolist() == order[300:304].tolist()
    assert kept[examples["kept, drawn at random"].rows].all()
    assert not kept[examples["dropped, drawn at random"].rows].any()


def test_windows_do_not_change_the_counts(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def counts() -> tuple[Any, ...]:
        steps = find_steps(run)
        assert steps.clean is not None
        reader = Reader(steps, steps.clean)
        sample = draw_sample(reader, seed=3, size=100)
        found = take_survey(reader, sample, seed=3)
        examples = [some.rows.tolist() for one in found.examples.values() for some in one.values()]
        groups = found.group_kept.tolist(), found.group_rows.tolist(), reader.groups
        return sample.rows.tolist(), found.overlap.tolist(), groups, examples, np.stack(found.histogram).tolist()

    whole = counts()
    monkeypatch.setattr(run_columns, "WINDOW", 37)
    assert counts() == whole
    assert 60 < len(whole[0]) < 150, "about as many as asked for"


def test_the_sample_is_drawn_by_hash() -> None:
    rows = np.arange(100_000, dtype=np.int64)
    drawn = hash_rows(rows, seed=1)
    assert len(np.unique(drawn)) == len(rows)
    assert abs(float((drawn < np.uint64(2**63)).mean()) - 0.5) < 0.01
    assert (hash_rows(rows[500:600], seed=1) == drawn[500:600]).all()
    assert (hash_rows(rows, seed=2) != drawn).all()


@pytest.mark.parametrize(
    ("left", "missing"),
    [
        (["clean"], ["No selection was made", "no scores yet", "Nothing was evaluated"]),
        (["evaluate"], ["holds no clean/"]),
        (["scores", "selection"], ["holds no clean/", "Nothing was evaluated"]),
    ],
)
def test_missing_steps_leave_a_note(run: Path, tmp_path: Path, left: list[str], missing: list[str]) -> None:
    part = tmp_path / "part"
    part.mkdir()
    for name in left:
        (part / name).symlink_to(run / name)
    text = Page(report(part, out=tmp_path / "report.html").read_text()).text
    for words in missing:
        assert words in text


def test_changed_text_is_not_shown(run: Path, tmp_path: Path) -> None:
    source = run.parent / "text" / "corpus.en"
    before = source.read_bytes()
    source.write_bytes(before.replace(b"number", b"nubmer"))
    try:
        text = Page(report(run, out=tmp_path / "report.html").read_text()).text
    finally:
        source.write_bytes(before)
    assert "The text cannot be shown" in text and "changed since it was cleaned" in text
    text = Page(report(run, out=tmp_path / "report.html").read_text()).text
    assert "The text cannot be shown" not in text, "it is there again"


def test_equal_scores_are_shown_in_row_order() -> None:
    rows = np.arange(5000, dtype=np.int64)
    equal = Examples(rows, np.zeros(5000), np.zeros(5000))
    best = None
    for part in np.array_split(rows, 3):
        best = _best(best, Examples(rows[part], equal.score[part], equal.key[part]), 5)
    assert best is not None and best.rows.tolist() == [0, 1, 2, 3, 4]


def test_bad_folders_and_files(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CatpruneError, match="holds no finished step"):
        report(tmp_path, out=tmp_path / "report.html")
    (tmp_path / "thesis.html").write_text("<!doctype html><p>mine</p>")
    with pytest.raises(CatpruneError, match="is not a report"):
        report(run, out=tmp_path / "thesis.html")
    assert report(run, out=tmp_path / "thesis.html", force=True).stat().st_size > 1_000_000
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("part", ["clean", "scores/epoch-5", "selection/random"])
@pytest.mark.parametrize("left", [0, 300])
def test_a_damaged_shard_is_named(run: Path, tmp_path: Path, part: str, left: int) -> None:
    damaged = tmp_path / "text" / "run"  # as deep as the run: paths to the text are relative
    shutil.copytree(run, damaged)
    shard = next((damaged / part).glob("part-*"))
    shard.write_bytes(shard.read_bytes()[:left])
    with pytest.raises(CatpruneError, match=rf"{shard} was changed since it was written: run `catprune \w+` again"):
        report(damaged, out=tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_selection_of_low_scores_is_cut_from_the_other_side(run: Path, tmp_path: Path) -> None:
    part = run.parent / "low"  # beside the run: paths to the text are relative
    part.mkdir()
    (part / "clean").symlink_to(run / "clean")
    rows = np.arange(ROWS, dtype=np.int64)
    score = np.arange(ROWS, dtype=np.float32)
    options = {"method": "ppl", "direction": "bottom", "keep": {"rows": 100}, "within": "tag"}
    counts = {"scored": ROWS, "unscored": 0, "kept": 100, "tokens": None, "tokens_kept": None}
    groups = [{"name": name, "lowest": 0.0, "highest": cut} for name, cut in (("news", 80.0), ("web", 99.0))]
    columns = {"row": rows, "kept": rows < 100, "score": score}
    publish_columns(part / "selection", "select", columns, options=options, counts=counts, groups=groups)
    steps = find_steps(part)
    assert steps.clean is not None and list(steps.selections) == ["selection"]
    reader = Reader(steps, steps.clean)
    found = take_survey(reader, draw_sample(reader, seed=1), seed=1, shown=2).examples["selection"]
    assert found["just kept"].rows.tolist() == [99, 98]
    assert found["just dropped"].rows.tolist() == [100, 101]
    page = Page(report(part, out=tmp_path / "r.html").read_text())
    assert "method ppl, within tag, bottom" in page.text
    layout = figure(page, "figure-score-0")["layout"]
    assert [line["x0"] for line in layout["shapes"]] == [80.0, 99.0]


def test_the_manifest_is_not_touched(run: Path, tmp_path: Path) -> None:
    before = read_manifest(run / "clean", step="clean")
    report(run, out=tmp_path / "report.html")
    assert read_manifest(run / "clean", step="clean") == before
