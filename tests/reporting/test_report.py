"""The report: numbers, warnings and charts; hostile text is harmless; equal runs give equal bytes."""

from __future__ import annotations

import html.parser
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
from catprune._core import digest_file, write_columns
from catprune.cleaning.clean import clean
from catprune.errors import CatpruneError
from catprune.evaluation.cost import Cost
from catprune.evaluation.results import ONE_SEED
from catprune.reporting import overview, run_columns
from catprune.reporting.aggregates import Examples, _best, draw_sample, hash_rows, take_survey
from catprune.reporting.charts import make_axis, make_bars
from catprune.reporting.loss_trend import measure_trend
from catprune.reporting.overview import Kept, choosing_table
from catprune.reporting.report import report
from catprune.reporting.run_columns import Reader, find_steps
from catprune.reporting.wording import selection_label, shorten, visible
from catprune.selection.select import select
from catprune.workspace.manifest import digest_manifest, read_manifest
from catprune.workspace.step_folder import StepFolder
from catprune.workspace.wording import duration
from support.evaluations import write_evaluation

ROWS = 600
HOSTILE = '<script>alert("1")</script> "quoted" \'single\' &amp; {{ 7 * 7 }} <img src=http://evil.example/x.png>'
TAGS = ["news", "web<b>", "</script><script>alert(2)</script>"]


def write_corpus(folder: Path) -> tuple[Path, Path, Path]:
    """Write a corpus with hostile text in a kept row, in a dropped row, and in the tags."""
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
    """Write a finished folder of one shard, in the documented format."""
    with StepFolder(folder, step=step, reads={}, options=options) as step_folder:
        file = f"columns/part-{0:012d}-{ROWS:012d}.parquet"
        digest = write_columns(str(folder / file), columns, valid=valid, metadata={"plan": step_folder.digest})
        shard = {"file": file, "first": 0, "end": ROWS, "digest": digest}
        step_folder.publish(shards=[shard], **results)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run: cleaned by catprune, scored and selected by NumPy."""
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
    for epoch in (5, 1):  # out of order: the report sorts checkpoints by step
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


class Page(html.parser.HTMLParser):
    """The elements of a page with their attributes, the text, and the texts that points and bars show on hover."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.hovers: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in {"script", "style", "title"}:
            self._inside = tag
        if tag == "title":
            self.hovers.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "title":
            self.hovers[-1] += data
        elif not self._inside:
            self.text += " " + data

    @property
    def words(self) -> str:
        """The text with single spaces."""
        return " ".join(self.text.split())

    def elements(self, tag: str, style: str = "") -> list[dict[str, str | None]]:
        """The attributes of all elements with a CSS class."""
        return [a for name, a in self.tags if name == tag and (not style or style in (a.get("class") or "").split())]


def make_page(run: Path, out: Path) -> Page:
    return Page(report(run, out=out, force=True).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = report(run, out=tmp_path_factory.mktemp("page") / "report.html")
    return Page(path.read_text(encoding="utf-8"))


def test_a_corpus_cleaned_without_filters(tmp_path: Path) -> None:
    """Cleaning measured no lengths: the report leaves them out."""
    for name in ("a.en", "a.de"):
        (tmp_path / name).write_text("".join(f"line {row} of {name}\n" for row in range(50)))
    clean([tmp_path / "a.en", tmp_path / "a.de"], out=tmp_path / "run/clean", rules=False, quiet=True)
    select(tmp_path / "run/clean", out=tmp_path / "run/selection/random", method="random")
    page = report(tmp_path / "run").read_text()
    assert "random keeps 25 of 50" in page and 'id="lengths"' not in page


def test_equal_runs_give_equal_bytes(run: Path, tmp_path: Path) -> None:
    first = report(run, out=tmp_path / "first.html")
    second = report(run, out=tmp_path / "second.html")
    assert digest_file(str(first)) == digest_file(str(second))
    report(run, out=first)
    assert digest_file(str(first)) == digest_file(str(second)), "a report may be replaced"


def test_the_page_loads_nothing_and_runs_nothing(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "img", "object", "embed", "base", "form"}, attributes
        assert not {"src", "srcset", "action", "onclick", "onload"} & set(attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import", page.source)
    policy = next(a["content"] for a in page.elements("meta") if a.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_the_page_is_small(page: Page) -> None:
    assert len(page.source.encode()) < 300_000
    assert len(page.elements("circle", "p")) <= 1000


def test_hostile_text_is_shown_and_not_run(page: Page) -> None:
    assert page.text.count(HOSTILE) >= 2, "as text, exactly as in the corpus"
    assert "Tabulator ␉ dazu" in page.text
    assert any(HOSTILE[:60] in hover and "Tabulator ␉" in hover for hover in page.hovers), "in the data map too"
    assert not any("\u202e" in hover for hover in page.hovers), "marks that reorder text are replaced"
    isolated = page.elements("bdi")
    assert len(isolated) >= 20, "a direction mark in one cell does not reach the next"


def test_control_characters_become_visible() -> None:
    assert visible("a\0b\tc\x7f") == "a␀b␉c␡"
    assert visible("\x85 \u202e \u2066 \u200f") == "\ufffd \ufffd \ufffd \u200f", "right-to-left marks stay"
    assert shorten("x" * 60, longest=40) == "x" * 39 + "…"
    assert shorten("\0" * 3, longest=40) == "␀␀␀"


def test_numbers_become_texts() -> None:
    assert [duration(s) for s in (0.25, 12, 600, 9000)] == ["0.2 s", "12 s", "10 min", "2.5 h"]
    assert selection_label("cat-diff-nll", {"method": "cat-diff"}) == "cat-diff-nll"
    assert selection_label("pruned", {"method": "progress"}) == "pruned (progress)"


def test_the_answers_come_first(page: Page) -> None:
    words = page.words
    assert words.index("What 2 selections keep of 599 clean pairs") < words.index("Did quality hold?")
    assert words.index("Did quality hold?") < words.index("Data map")
    assert "600 pairs read" in words and "599 clean pairs" in words
    assert "300 pairs kept by each of 2 selections 50.1% of the clean pairs" in words
    assert "50.2% of the target tokens kept 3,000" in words
    assert "cat-diff 300 50.1% 3,000 50.2% 10.0" in words
    assert "corpus.en, corpus.de" in words
    assert "trained for the same number of updates with seeds 1, 2, 3" in words and "nrefs:1" in words
    for name in ("clean", "scores/epoch-1", "selection/random", "evaluate"):
        assert name in words


def test_the_decisions_are_shown_with_their_differences(page: Page) -> None:
    assert re.search(
        r"half is not worse by 1 chrF than full \S+ \S+ mean of all test sets\) \+0.2 \[.*\] <?0.\d+ as good",
        page.words,
    )
    assert ONE_SEED not in page.words and "Only the hypotheses that were named" in page.words
    assert page.elements("td", "better") and not page.elements("td", "worse")


def test_differences_have_a_plot_with_the_margin(page: Page) -> None:
    assert "half – full" in page.words and "difference in chrF" in page.words
    assert len(page.elements("line", "margin")) == 1, "of the one hypothesis with a margin, in its metric"
    assert len(page.elements("line", "base")) == 3 * 4
    assert len(page.elements("polygon")) == 2 * 3, "a band for each subset, in the curves of nll and chrF"
    assert "Dev nll at equal budgets" in page.words and "equal epochs (2)" in page.words


def test_one_seed_and_weak_models_colour_nothing(run: Path, tmp_path: Path) -> None:
    for name, message, values in (
        ("one", ONE_SEED, {"seeds": 1}),
        ("weak", "No model reaches 5 BLEU on held (best: 4.9).", {"bleu": 4.9}),
    ):
        part = link_run(run, run.parent / name, "clean", "scores", "selection")
        write_evaluation(part / "evaluate", **values)
        page = make_page(part, tmp_path / f"{name}.html")
        assert message in page.words
        assert not [a for _, a in page.tags if {"better", "worse"} & set((a.get("class") or "").split())]
        assert ("p of randomisation" in page.words) == (name == "one")


def test_a_run_without_evaluation_says_how_to_evaluate(run: Path, tmp_path: Path) -> None:
    part = link_run(run, run.parent / "unevaluated", "clean", "scores", "selection")
    page = make_page(part, tmp_path / "report.html")
    assert "Not evaluated." in page.words and "[[evaluate.tests]]" in page.words
    assert 'method = "random"' not in page.words, "there is a random selection"
    assert "Scores of the models" not in page.words and "BLEU" not in page.words
    anchors = [a["href"] for a in page.elements("a")]
    headings = [f"#{a['id']}" for a in page.elements("h2")]
    assert "#cost" not in anchors and set(anchors) < set(headings), "only existing sections"


def test_the_unknown_training_of_external_checkpoints_is_said() -> None:
    row = Kept("x", 1, 1, None, None, None, None, "words", Cost(0, 5e9, 0), Cost(0, 3.0, 0), ("opus-mt",))
    assert choosing_table([row])[1][:4] == ["x", "unknown", "5G", "unknown"]
    mixed = replace(row, flops=Cost(2e9, 5e9, 0), seconds=Cost(1.0, 3.0, 0))
    assert choosing_table([mixed])[1][1] == "2G + unknown"
    (card,) = overview._cost_cards([row])
    assert card["more"].endswith("; the training of opus-mt is unknown") and "warm-up" not in card["more"]


def test_every_section_has_its_anchor(page: Page) -> None:
    anchors = {a["href"] for a in page.elements("a")}
    assert len(anchors) >= 10
    assert anchors <= {f"#{a['id']}" for a in page.elements("h2")}
    assert all(a.get("aria-label") for a in page.elements("svg") if a.get("role") == "img")


def test_a_selection_of_short_pairs_is_warned_about(run: Path, tmp_path: Path) -> None:
    part = run.parent / "short"
    (part / "selection").mkdir(parents=True)
    (part / "clean").symlink_to(run / "clean")
    rows = np.arange(ROWS, dtype=np.int64)
    counts = {"scored": ROWS, "unscored": 0, "kept": 300, "tokens": 10_000, "tokens_kept": 3_800}
    counts |= {"lowest": 0.5, "highest": 1.0}
    columns = {"row": rows, "kept": rows < 300, "score": (rows < 300).astype(np.float32)}
    for name, tokens in (("progress", 3_800), ("random", 4_900)):
        options = {"method": name, "direction": "top"}
        kept = {**counts, "tokens_kept": tokens}
        publish_columns(part / "selection" / name, "select", columns, options=options, counts=kept, groups=[])
    page = make_page(part, tmp_path / "report.html")
    assert "progress prefers short pairs" in page.words and "random prefers" not in page.words
    assert "50.1% of the clean pairs, but only 38.0% of their target tokens" in page.words


def link_run(run: Path, part: Path, *steps: str) -> Path:
    """A run with some steps of another run, next to it because paths to the text are relative."""
    part.mkdir()
    for name in steps:
        (part / name).symlink_to(run / name)
    return part


def test_digests_of_manifests_are_in_the_page(page: Page, run: Path) -> None:
    assert digest_manifest(run / "selection/cat-diff") in page.text


def test_charts_hold_the_counts(page: Page) -> None:
    bars = [hover for hover in page.hovers if hover.startswith("score ")]
    counts = [[int(number) for number in re.findall(r"(\d+) (?:kept|dropped)", bar)] for bar in bars]
    assert np.sum(counts, axis=0).tolist() == [600, 598 - 0], "both selections; the pair without a score is left out"
    assert "identical sides 1 0.2%" in page.words and "near copy 1 0.2%" in page.words
    assert len(page.elements("line", "cut")) == 2
    lengths = [hover for hover in page.hovers if re.match(r"\d+ words\n", hover)]
    shares = [re.findall(r"(\S+) ([\d.]+)%", hover) for hover in lengths]
    for name in ("input", "cleaned", "cat-diff", "random"):
        assert sum(float(share) for row in shares for key, share in row if key == name) == pytest.approx(100, abs=0.2)


def test_rare_words_are_counted(page: Page, run: Path) -> None:
    targets = (run.parent / "text" / "corpus.de").read_text().splitlines()
    reasons = parquet.read_table(run / "clean/columns").to_pydict()
    cleaned = [row for row, mask in zip(reasons["row"], reasons["reasons"], strict=True) if not mask]
    ranked = parquet.read_table(run / "selection/random/columns").to_pydict()
    kept = {row for row, is_kept in zip(ranked["row"], ranked["kept"], strict=True) if is_kept}
    words = {row: set(targets[row].lower().split()) for row in cleaned if row not in (10, 599)}
    counts = Counter(word for row in words for word in targets[row].lower().split())
    once = {word for word, count in counts.items() if count == 1}
    left = once & set().union(*(words[row] for row in kept if row in words))
    shown = re.search(r'id="rare-words".*?>random<.*?</tr>', page.source, re.DOTALL)
    assert shown is not None
    assert once
    share = 100 * len(left) / len(once)
    _, found, _ = re.findall(r">([\d.]+)%<", shown[0])[-3:]
    assert float(found) == pytest.approx(share, abs=1)


def test_the_data_map_is_last_against_first_loss(page: Page) -> None:
    points = [hover for hover in page.hovers if hover.startswith("row ")]
    assert len(points) == 598, "all but the pair without a score"
    for hover in points:
        match = re.match(r"row [\d,]+: loss ([\d.]+) → ([\d.]+), .*(dropped|kept by )", hover)
        assert match is not None, hover
        assert float(match[1]) / float(match[2]) == pytest.approx(5, rel=0.03), "the loss fell to a fifth"
    circles = page.elements("circle", "p")
    assert {c["cx"] for c in circles} >= {"0.0%", "100.0%"}, "the axes end where the data ends"
    assert sum("k0" in str(c["class"]).split() for c in circles) == 300
    assert len(page.elements("input")) == 3, "a view for each selection, and one for the tags"


def test_examples_say_why(page: Page) -> None:
    whys = re.findall(r"loss ([\d.]+) → ([\d.]+); pairs of similar initial loss: → ([\d.]+)", page.words)
    assert len(whys) >= 20
    for first, last, usual in whys:
        assert float(last) == pytest.approx(float(first) / 5, abs=0.02)
        assert abs(float(usual) - float(last)) < 0.5


def test_the_trend_is_the_median_of_similar_pairs() -> None:
    first = np.linspace(0, 10, 10_000)
    last = first / 2 + np.where(np.arange(10_000) % 2, 0.1, -0.1)
    trend = measure_trend(np.stack([first, first * np.nan, last]))
    assert trend is not None and len(trend.last) == 50
    assert trend.at(5.0) == pytest.approx(2.5, abs=0.15)
    assert trend.at(-1.0) == trend.last[0] and trend.at(99.0) == trend.last[-1]
    assert measure_trend(np.stack([first])) is None
    assert measure_trend(np.full((2, 5), np.nan)) is None
    equal = measure_trend(np.ones((2, 1000)))
    assert equal is not None and equal.at(1.0) == 1.0


def test_axes_end_where_the_data_ends() -> None:
    axis = make_axis("loss", 1.3, 6.7)
    assert (axis.low, axis.high) == (1.3, 6.7)
    assert [tick.label for tick in axis.ticks] == ["2", "4", "6"]
    assert axis.positions([1.3, 4.0, 99.0]) == [0, 50, 100]
    assert [tick.label for tick in make_axis("", -0.25, 1).ticks] == ["−0.25", "0.00", "0.25", "0.50", "0.75", "1.00"]
    assert make_axis("", 2, 2).high > 2
    assert make_axis("", 0, 123_456).ticks[-1].label == "100,000"


def test_bars_are_stacked() -> None:
    x, y = make_axis("", 0, 2), make_axis("", 0, 10)
    bars = make_bars(x, y, [0, 1, 2], [("kept", [5, 0]), ("dropped", [5, 0])], lambda place: f"bar {place}")
    assert [(bar.left, bar.width, bar.hover) for bar in bars] == [(0, 50, "bar 0")], "no empty bars"
    assert bars[0].parts == (("kept", 50, 50), ("dropped", 0, 50))


def test_loss_by_exposure_is_shown(page: Page, run: Path) -> None:
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
    assert kept[examples["kept, random sample"].rows].all()
    assert not kept[examples["dropped, random sample"].rows].any()


def test_windows_do_not_change_the_counts(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def counts() -> tuple[Any, ...]:
        steps = find_steps(run)
        assert steps.clean is not None
        reader = Reader(steps, steps.clean)
        sample = draw_sample(reader, seed=3, size=100)
        survey = take_survey(reader, sample, seed=3)
        examples = [table.rows.tolist() for tables in survey.examples.values() for table in tables.values()]
        groups = survey.group_kept.tolist(), survey.group_rows.tolist(), reader.groups
        return sample.rows.tolist(), survey.overlap.tolist(), groups, examples, np.stack(survey.histogram).tolist()

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
        (["clean"], ["Cleaning keeps 599 of 600 pairs", "No selection.", "No losses of checkpoints"]),
        (["evaluate"], ["No clean/ folder", "Did quality hold?"]),
        (["scores", "selection"], ["No clean/ folder", "Not evaluated."]),
    ],
)
def test_missing_steps_are_named(run: Path, tmp_path: Path, left: list[str], missing: list[str]) -> None:
    page = make_page(link_run(run, tmp_path / "part", *left), tmp_path / "report.html")
    for words in missing:
        assert words in page.words
    assert "Data map" not in page.words, "a section without content is left out"


def test_changed_text_is_not_shown(run: Path, tmp_path: Path) -> None:
    source = run.parent / "text" / "corpus.en"
    before = source.read_bytes()
    source.write_bytes(before.replace(b"number", b"nubmer"))
    try:
        text = Page(report(run, out=tmp_path / "report.html").read_text()).text
    finally:
        source.write_bytes(before)
    assert "The text of the pairs cannot be shown" in text and "changed since it was cleaned" in text
    text = Page(report(run, out=tmp_path / "report.html").read_text()).text
    assert "The text of the pairs cannot be shown" not in text, "the text is back"


def test_equal_scores_are_shown_in_row_order() -> None:
    rows = np.arange(5000, dtype=np.int64)
    zeros = np.zeros(5000)
    equal = Examples(rows, zeros, zeros, zeros, zeros)
    best = None
    for part in np.array_split(rows, 3):
        best = _best(best, equal.take(part), 5)
    assert best is not None and best.rows.tolist() == [0, 1, 2, 3, 4]


def test_bad_folders_and_files(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CatpruneError, match="holds no finished step"):
        report(tmp_path, out=tmp_path / "report.html")
    with pytest.raises(CatpruneError, match="is the folder of one step: give the folder of the run"):
        report(run / "clean", out=tmp_path / "report.html")
    (tmp_path / "thesis.html").write_text("<!doctype html><p>mine</p>")
    with pytest.raises(CatpruneError, match="is not a page of report"):
        report(run, out=tmp_path / "thesis.html")
    assert report(run, out=tmp_path / "thesis.html", force=True).stat().st_size > 50_000
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("part", ["clean", "scores/epoch-5", "selection/random"])
@pytest.mark.parametrize("left", [0, 300])
def test_a_damaged_shard_is_named(run: Path, tmp_path: Path, part: str, left: int) -> None:
    damaged = tmp_path / "text" / "run"  # as deep as the run: paths to the text are relative
    shutil.copytree(run, damaged)
    shard = next((damaged / part).glob("columns/part-*"))
    shard.write_bytes(shard.read_bytes()[:left])
    with pytest.raises(CatpruneError, match=rf"{shard} was changed since it was written: run `catprune \w+` again"):
        report(damaged, out=tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_selection_of_low_scores_is_cut_from_the_other_side(run: Path, tmp_path: Path) -> None:
    part = run.parent / "low"  # next to the run: paths to the text are relative
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
    examples = take_survey(reader, draw_sample(reader, seed=1), seed=1, shown=2).examples["selection"]
    assert examples["just kept"].rows.tolist() == [99, 98]
    assert examples["just dropped"].rows.tolist() == [100, 101]
    page = make_page(part, tmp_path / "r.html")
    assert "method ppl, within tag, direction bottom" in page.words
    assert "2 cuts, 80 to 99" in page.words
    low, high = (float(str(line["x1"]).rstrip("%")) for line in page.elements("line", "cut"))
    assert low / high == pytest.approx(80 / 99, abs=0.05)


def test_the_manifest_is_not_touched(run: Path, tmp_path: Path) -> None:
    before = read_manifest(run / "clean", step="clean")
    report(run, out=tmp_path / "report.html")
    assert read_manifest(run / "clean", step="clean") == before
