"""Explore: the sample, the thresholds, what hostile text does to the page, and the page in a browser."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html.parser
import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
from catprune.cleaning.clean import clean
from catprune.errors import CatpruneError, MissingExtra
from catprune.pipeline.run_file import read_run_file
from catprune.reporting import run_columns
from catprune.reporting.exploration.pair_sample import draw_rows, sample_pairs
from catprune.reporting.explore import explore
from catprune.reporting.run_columns import find_scorers, find_steps
from catprune.scoring.score_pairs import score_pairs
from catprune.selection.select import select
from catprune.workspace.manifest import digest_manifest
from support.scores import put, put_scores

ROWS = 700
TAGS = ["news", "</script><b>\u202e"]
HOSTILE = "</script><script>alert(1)</script><!--<script> {{ 7 * 7 }} &amp; & \u2028 <img src=x onerror=alert(2)>"
REORDERED = "ein \u202e Zeichen \u2066 das umkehrt \x9b"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def write_corpus(folder: Path) -> list[str]:
    """Write two inputs of pairs that break every filter with a stored measure, and some without one."""
    folder.mkdir()
    random = np.random.default_rng(7)
    pieces = np.array(["house", "Haus", "12", "1,000", "--", "%", "слово", "<b>", "&nbsp;", "x" * 30, "a", "."])
    odds = np.array([60, 60, 3, 2, 2, 2, 6, 2, 2, 1, 6, 3], dtype=float)
    sides: list[list[str]] = [[], []]
    for row in range(ROWS):
        length = random.integers(2, 24)
        for side in sides:
            words = random.choice(pieces, size=max(1, length + random.integers(-3, 4)), p=odds / odds.sum())
            side.append(f"{' '.join(words)} number{row}")
    sides[0][11] = sides[1][11] = "the same on both sides eleven"
    sides[0][12], sides[1][12] = HOSTILE, REORDERED
    sides[0][13] = ""
    files = [[folder / f"{part}.{side}" for side in ("en", "de")] for part in ("first", "second")]
    for places, pair in zip((slice(0, 400), slice(400, ROWS)), files, strict=True):
        for path, lines in zip(pair, sides, strict=True):
            path.write_text("".join(line + "\n" for line in lines[places]))
    return [f"{folder}/{part}.{{en,de}}" for part in ("first", "second")]


RULES: dict[str, Any] = {
    "min_words": 3,
    "max_words": 22,
    "max_characters": 110,
    "max_word_ratio": 2.5,
    "max_character_ratio": 3.0,
    "min_letter_word_share": 0.7,
    "min_letter_share": 0.8,
    "max_word_characters": 29,
    "min_script_share": 0.8,
    "max_markup_share": 0.1,
    "max_number_mismatch": 0.5,
}


def quality(sources: list[str], targets: list[str]) -> list[float]:
    return [len(source + target) % 10 / 10 for source, target in zip(sources, targets, strict=True)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was cleaned and selected by catprune; its scores are random."""
    base = tmp_path_factory.mktemp("explore")
    inputs = write_corpus(base / "text")
    run = base / "run"
    own = [{"input": inputs[1], "max_words": 18, "max_word_ratio": 4.0}]
    clean(
        inputs,
        out=run / "clean",
        rules=RULES,
        input_rules=own,
        source_lang="en",
        target_lang="de",
        tags=[TAGS[row % 2] for row in range(ROWS)],
        threads=1,
        quiet=True,
    )
    cleaned = {"path": "../clean", "manifest": digest_manifest(run / "clean")}
    put(run / "tokens", {"step": "tokenize", "reads": {"clean": cleaned}})
    rows = parquet.read_table(run / "clean/columns").filter(_is_clean()).column("row").to_pylist()
    random = np.random.default_rng(3)
    tokens = random.integers(3, 30, len(rows)).tolist()
    for name, step, scale in (("epoch-1", 100, 1.0), ("epoch-5", 500, 0.5)):
        nll = [float(loss) * scale for loss in random.uniform(1, 6, len(rows))]
        put_scores(run, name, step, rows, tokens, nll, [0, ROWS])
    score_pairs(run / "clean", scorer=quality, out=run / "scores", quiet=True)
    for name, options in (
        ("progress", {"method": "progress", "keep": "40%", "where": ["quality>=0.2"]}),
        ("by-input", {"method": "cat-diff", "on": "nll", "within": "input", "direction": "bottom", "keep": 60}),
        ("by-length", {"method": "cat-diff", "on": "nll", "within": "length", "keep": "37%"}),
        ("tokens", {"method": "ppl", "keep": "50%tokens"}),
    ):
        select(run / "scores", out=run / "selection" / name, quiet=True, threads=1, **options)
    return run


def _is_clean() -> Any:
    import pyarrow.compute as compute

    return compute.field("reasons") == 0


class Page(html.parser.HTMLParser):
    """The elements of a page with their attributes, its text, and the content of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str, str]] = []
        self.text = ""
        self._script: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._script = []

    def handle_endtag(self, tag: str) -> None:
        if tag == "script" and self._script is not None:
            kind = str(self.tags[-1][1].get("type") or "")
            self.scripts.append((kind, "".join(self._script)))
            self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self._script.append(data)
        else:
            self.text += data

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(next(text for kind, text in self.scripts if kind == "application/json"))


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(explore(run, out=tmp_path_factory.mktemp("page") / "explore.html", quiet=True).read_text())


def test_the_page_is_whole_and_loads_nothing(page: Page) -> None:
    policy = next(str(attrs["content"]) for tag, attrs in page.tags if attrs.get("http-equiv"))
    scripts = [text for kind, text in page.scripts if not kind]
    assert policy.startswith("default-src 'none'") and len(scripts) == 2
    for script in scripts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert "unsafe" not in policy.partition("script-src")[2], "no other script may run"
    assert "Licensed under the MIT license" in scripts[1][:300], "the notice of plotly.js stays"
    for tag, attrs in page.tags:
        assert tag not in ("link", "iframe", "img", "object")
        assert "src" not in attrs and str(attrs.get("href") or "#").startswith("#")
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    labelled = [attrs for tag, attrs in page.tags if tag == "input" and attrs.get("type") in ("range", "number")]
    assert labelled and all(attrs["aria-label"] for attrs in labelled), "sliders are named for screen readers"


def test_every_filter_has_a_threshold_or_a_switch(page: Page) -> None:
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {f"filter-{name}" for name in RULES} <= ids
    reasons = {entry["reason"] for entry in page.data["switches"]}
    assert reasons == {"control_characters", "identical_sides", "repeated_ngrams", "near_copy", "duplicate"}
    assert {f"switch-{reason}" for reason in reasons} <= ids
    assert "tokens (has a budget of tokens)" in page.text
    assert [entry["name"] for entry in page.data["selections"]] == ["by-input", "by-length", "progress"]
    assert [entry["name"] for entry in page.data["conditions"]] == ["quality", "ppl", "cat-diff"]
    progress = page.data["selections"][2]
    assert progress["conditions"] == ["quality", "ppl"], "cat-diff of the other selection is computed on nll"
    assert "Always dropped: empty (1)" in page.text


def measure(data: dict[str, Any], entry: dict[str, Any], threshold: float | None = None) -> np.ndarray[Any, Any]:
    """Which pairs a filter drops, by NumPy, from the columns on the page."""
    limit = np.full(len(data["rows"]), entry["value"] if threshold is None else threshold, dtype=float)
    for number, value in entry["own"].items():
        limit[np.array(data["inputs"]) == int(number)] = value
    top, bottom = (
        np.array([data["measures"].get(f"{side}_{entry[key]}", np.ones(len(limit))) for side in data["sides"]], float)
        for key in ("top", "bottom")
    )
    with np.errstate(all="ignore"):
        if entry["kind"] == "each":
            shares = top / bottom
            found = (shares < limit if entry["bound"] == "min" else shares > limit).any(axis=0)
        elif entry["kind"] == "product":
            found = (top < limit * bottom).any(axis=0)
        elif entry["kind"] == "ratio":
            found = top.max(axis=0) / top.min(axis=0) > limit
        else:
            found = top.max(axis=0) > limit * bottom.max(axis=0)
    reasons = np.array(data["reasons"])
    empty = reasons >> data["reasonNames"].index("empty") & 1
    return found & (empty == 0)


def test_measures_decide_as_cleaning_did(page: Page) -> None:
    data = page.data
    reasons = np.array(data["reasons"])
    for entry in data["filters"]:
        decided = reasons >> data["reasonNames"].index(entry["reason"].replace("_", " ")) & 1
        assert (measure(data, entry) == decided).all(), entry["name"]
        assert 0 < decided.sum() < ROWS, f"the corpus tests {entry['name']}"


def test_columns_are_those_of_the_run(run: Path, page: Page) -> None:
    data = page.data
    clean_table = parquet.read_table(run / "clean/columns")
    assert data["rows"] == list(range(ROWS)) and data["reasons"] == clean_table.column("reasons").to_pylist()
    for name, values in data["measures"].items():
        assert values == clean_table.column(name).to_pylist(), name
    scored = parquet.read_table(run / "selection/progress/columns").to_pydict()
    expected: list[float | None] = [None] * ROWS
    for row, score in zip(scored["row"], scored["score"], strict=True):
        expected[row] = score
    shown = data["values"]["score of progress"]
    assert [value is None for value in shown] == [value is None for value in expected]
    read_back = [np.float32(value) for value in shown if value is not None]
    assert read_back == [np.float32(value) for value in expected if value is not None]
    assert set(data["values"]) == {
        "loss at epoch-1", "loss at epoch-5", "quality", "ppl",
        "score of by-input", "score of by-length", "score of progress", "score of tokens",
    }  # fmt: skip


def test_equal_runs_give_equal_bytes(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = explore(run, out=tmp_path / "a.html", quiet=True)
    written = first.stat().st_mtime_ns
    assert explore(run, out=first, quiet=True).stat().st_mtime_ns == written, "nothing to do"
    monkeypatch.setattr("catprune.reporting.exploration.pair_sample.WINDOW", 64)
    monkeypatch.setattr(run_columns, "WINDOW", 64)
    assert explore(run, out=tmp_path / "b.html", quiet=True).read_bytes() == first.read_bytes()
    monkeypatch.setattr("catprune.reporting.exploration.pair_sample.PAIRS", 100)
    other = explore(run, out=tmp_path / "c.html", seed=2, quiet=True)
    assert other.read_bytes() != first.read_bytes()


def test_the_sample_is_drawn_by_row(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw_rows(300_000, seed=1, size=1_000)
    assert len(drawn) == 1_000 and (np.diff(drawn) > 0).all() and drawn[-1] < 300_000
    assert abs(drawn.mean() / 300_000 - 0.5) < 0.05
    assert (draw_rows(300_000, seed=2, size=1_000) != drawn).any()
    assert draw_rows(5, seed=1).tolist() == [0, 1, 2, 3, 4] and draw_rows(0, seed=1).tolist() == []
    monkeypatch.setattr(
        "catprune.reporting.exploration.pair_sample.draw_rows",
        lambda rows, *, seed: draw_rows(rows, seed=seed, size=50),
    )
    steps = find_steps(run)
    assert steps.clean is not None
    sample = sample_pairs(steps, steps.clean, find_scorers(run), seed=1)
    table = parquet.read_table(run / "clean/columns").take(sample.rows)
    assert sample.reasons.tolist() == table.column("reasons").to_pylist() and len(sample.rows) == 50
    assert sample.measures["target_words"].tolist() == table.column("target_words").to_pylist()


def test_hostile_text_stays_text(page: Page) -> None:
    assert [kind for kind, _ in page.scripts] == ["application/json", "", ""]
    assert page.data["texts"]["source"][12] == HOSTILE.replace("\u2028", "\u2028")
    target = page.data["texts"]["target"][12]
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x80-\x9f]", page.source) and target.count("\ufffd") == 3
    assert page.data["tags"][:2] == ["news", "</script><b>\ufffd"]
    raw = page.source.partition('id="data">')[2].partition("</script>")[0]
    assert "<" not in raw and ">" not in raw and "&" not in raw


def test_hostile_names_stay_text(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run.parent / "text", tmp_path / "text")
    shutil.copytree(run, tmp_path / "<script>&run")
    page = Page(explore(tmp_path / "<script>&run", out=tmp_path / "explore.html", quiet=True).read_text())
    assert len(page.scripts) == 3 and "Thresholds of <script>&run" in page.text
    assert page.data["header"].endswith("pairs of <script>&run, seed 1")


def test_missing_text_is_said_and_comes_back(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = run.parent / "text" / "first.en"
    before = source.read_bytes()
    source.write_bytes(before.replace(b"house", b"mouse"))
    try:
        page = Page(explore(run, out=tmp_path / "explore.html").read_text())
    finally:
        source.write_bytes(before)
    assert "explore: The text of the pairs cannot be shown" in capsys.readouterr().err
    assert "The text of the pairs cannot be shown" in page.text and page.data["texts"]["target"] == []
    page = Page(explore(run, out=tmp_path / "explore.html", quiet=True).read_text())
    assert "cannot be shown" not in page.text and len(page.data["texts"]["target"]) == ROWS


OTHERS = pytest.mark.parametrize(
    "options", [{"rules": False}, {"monolingual": True}], ids=["unmeasured", "monolingual"]
)


@OTHERS
def test_other_corpora(tmp_path: Path, options: dict[str, Any]) -> None:
    inputs = write_corpus(tmp_path / "text")
    clean(
        str(tmp_path / "text/first.de") if "monolingual" in options else inputs,
        out=tmp_path / "run/clean",
        quiet=True,
        **options,
    )
    page = Page(explore(tmp_path / "run", quiet=True).read_text())
    names = [entry["name"] for entry in page.data["filters"]]
    assert bool(names) is ("monolingual" in options) and "max_word_ratio" not in names
    assert not page.data["selections"] and not page.data["conditions"]
    reasons = np.array(page.data["reasons"])
    for entry in page.data["filters"]:
        decided = reasons >> page.data["reasonNames"].index(entry["reason"].replace("_", " ")) & 1
        assert (measure(page.data, entry) == decided).all(), entry["name"]


def test_repaired_pairs_are_shown_beside_their_stored_text(tmp_path: Path) -> None:
    """The characters that differ are marked; text stays text."""
    long = "a house of many words " * 30
    sides = [
        ["good\u200b", f"{long}<b>\u201cx\u201d", f"{'x' * 500}  "],
        ["gut", "\u201e<script>\u201c \u2014 ja", "fein"],
    ]
    for name, lines in zip(("a.en", "a.de"), sides, strict=True):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines * 30))
    inputs = [tmp_path / "a.en", tmp_path / "a.de"]
    clean(inputs, out=tmp_path / "run/clean", repair="punctuation,spaces", rules=False, duplicates="none", quiet=True)
    source = explore(tmp_path / "run").read_text()
    assert "changed 90 of the 90 pairs" in source and "(the first 50)" in source
    assert "<td><bdi>good<del>&lt;U+200B&gt;</del></bdi></td><td><bdi>good</bdi></td>" in source
    assert "x<del>  </del></bdi></td>" in source
    assert source.count("<del>\u201c</del>x<del>\u201d</del>") == 17
    assert source.count("<del>\u201e</del>&lt;script&gt;<del>\u201c</del> <del>\u2014</del> ja") == 17
    assert source.count("<ins>&#34;</ins>&lt;script&gt;<ins>&#34;</ins> <ins>-</ins> ja") == 17
    clean(inputs, out=tmp_path / "plain/clean", rules=False, duplicates="none", quiet=True)
    assert "Repaired pairs" not in explore(tmp_path / "plain").read_text()


def test_bad_folders_and_files(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CatpruneError, match="holds no clean folder with pairs"):
        explore(tmp_path)
    report = tmp_path / "report.html"
    report.write_text('<!doctype html><meta name="generator" content="catprune 0.1.0"><meta name="report" content="">')
    with pytest.raises(CatpruneError, match="is not a page of explore"):
        explore(run, out=report)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(MissingExtra, match=r"needs the package plotly: install catprune with its extra explore"):
        explore(run, out=tmp_path / "explore.html")


# In a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with api.sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@contextlib.contextmanager
def opened(browser: Any, path: Path, **options: Any) -> Iterator[Any]:
    """A page in a browser; nothing may go wrong in it, and it may ask for nothing."""
    shown = browser.new_page(**options)
    faults: list[str] = []
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.on("console", lambda message: faults.append(message.text))
    shown.on("request", lambda request: faults.append(request.url) if request.url != path.as_uri() else None)
    shown.goto(path.as_uri())
    yield shown
    assert faults == []
    shown.close()


@pytest.fixture
def view(run: Path, browser: Any, tmp_path: Path) -> Iterator[Any]:
    with opened(browser, explore(run, out=tmp_path / "explore.html", quiet=True)) as shown:
        yield shown


def settled(view: Any) -> None:
    """Wait until the page has drawn what changed."""
    view.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def set_number(view: Any, box: str, value: float | str) -> None:
    view.fill(f"#{box} input[type=number]", str(value))
    settled(view)


def shown(view: Any, selector: str) -> int:
    return int(re.sub(r"[,.]", "", re.search(r"[\d,]+", view.inner_text(selector))[0]))  # pyright: ignore[reportOptionalSubscript]


def exported(view: Any) -> dict[str, Any]:
    return tomllib.loads(view.input_value("#toml"))


def test_the_page_starts_with_the_decisions_of_the_run(view: Any, page: Page) -> None:
    reasons = np.array(page.data["reasons"])
    assert shown(view, "#clean-count") == (reasons == 0).sum()
    assert shown(view, "#changed-count") == 0
    for entry in page.data["filters"]:
        assert shown(view, f"#filter-{entry['name']} output") == measure(page.data, entry).sum()
    rules = exported(view)["clean"]["rules"]
    assert rules == {**RULES, "max_word_ratio": 2.5}, "what is not a default"


def test_counts_of_moved_thresholds_are_those_of_numpy(view: Any, page: Page) -> None:
    moved = {"max_words": 12, "min_letter_share": 0.9, "max_word_ratio": 1.5, "max_number_mismatch": 0.25}
    for name, value in moved.items():
        set_number(view, f"filter-{name}", value)
    dropped = {entry["name"]: measure(page.data, entry, moved.get(entry["name"])) for entry in page.data["filters"]}
    mask = sum(2 ** page.data["reasonNames"].index(entry["reason"].replace("_", " ")) for entry in page.data["filters"])
    others = np.array(page.data["reasons"]) & ~mask != 0
    reasons = np.sum([*dropped.values()], axis=0) + others
    for name, found in dropped.items():
        counts = view.inner_text(f"#filter-{name} output")
        assert counts.startswith(f"drops {found.sum()} ("), name
        assert counts.endswith(f"alone {(found & (reasons == 1)).sum()}"), name
    assert shown(view, "#clean-count") == (reasons == 0).sum()


def test_a_slider_moves_by_keyboard_and_cleaning_agrees(view: Any, run: Path, tmp_path: Path) -> None:
    before = shown(view, "#clean-count")
    view.focus("#filter-max_words input[type=range]")
    for _ in range(6):
        view.keyboard.press("ArrowLeft")
    settled(view)
    assert view.input_value("#filter-max_words input[type=number]") == "16"
    set_number(view, "filter-max_character_ratio", 9)
    view.uncheck("#switch-identical_sides input")
    settled(view)
    assert shown(view, "#clean-count") != before
    assert view.inner_text("#panel-name") == "max_character_ratio"
    assert view.locator("#chart .main-svg").count() and view.locator("#at-threshold bdi").count()
    rules = exported(view)["clean"]["rules"]
    assert rules["max_words"] == 16 and rules["max_character_ratio"] == 9.0 and rules["keep_identical"] is True
    inputs = [str(run.parent / "text" / f"{part}.{{en,de}}") for part in ("first", "second")]
    own = [{"input": inputs[1], "max_words": 18, "max_word_ratio": 4.0}]
    done = clean(
        inputs, out=tmp_path / "clean", rules=rules, input_rules=own, source_lang="en", target_lang="de", quiet=True
    )
    assert done.kept == shown(view, "#clean-count"), "cleaning with the exported thresholds keeps as many"


def test_a_selection_with_exported_thresholds_keeps_as_many(view: Any, run: Path, tmp_path: Path) -> None:
    view.select_option("#ranking", label="progress")
    settled(view)
    assert exported(view)["select"] == [
        {"name": "progress", "method": "progress", "keep": "40%", "where": ["quality>=0.2"]}
    ]
    assert shown(view, "#kept-count") == len(parquet.read_table(run / "selection/progress/columns").filter(_kept()))
    set_number(view, "keep", 25)
    set_number(view, "most-1", 8.5)
    section = exported(view)["select"][0]
    assert section["where"] == ["quality>=0.2", "ppl<=8.5"] and section["keep"] == "25%"
    name = section.pop("name")
    done = select(run / "scores", out=tmp_path / name, threads=1, quiet=True, **section)
    assert done.kept == shown(view, "#kept-count")
    assert done.guarded == shown(view, "#least-0 output") + int(view.inner_text("#most-1 output").rsplit(" ", 1)[1])


def _kept() -> Any:
    import pyarrow.compute as compute

    return compute.field("kept")


@pytest.mark.parametrize("name", ["progress", "by-input", "by-length"])
def test_groups_share_what_is_kept_as_in_the_run(view: Any, run: Path, name: str) -> None:
    """By largest remainder: a group is not rounded down by itself."""
    view.select_option("#ranking", label=name)
    settled(view)
    assert shown(view, "#kept-count") == len(parquet.read_table(run / "selection" / name / "columns").filter(_kept()))
    assert shown(view, "#changed-count") == 0


def test_conditions_of_the_run_can_only_be_made_stricter(view: Any) -> None:
    """Pairs that do not meet them have no scores; a share that was not moved is exported as the run has it."""
    view.select_option("#ranking", label="progress")
    settled(view)
    before = shown(view, "#kept-count")
    for looser in (0.0, 0.1, ""):
        set_number(view, "least-0", looser)
        assert exported(view)["select"][0]["where"] == ["quality>=0.2"] and shown(view, "#kept-count") == before
    view.focus("#least-0 input[type=range]")
    view.keyboard.press("Home")
    settled(view)
    assert exported(view)["select"][0]["where"] == ["quality>=0.2"] and shown(view, "#kept-count") == before
    set_number(view, "least-0", 0.6)
    assert exported(view)["select"][0]["where"] == ["quality>=0.6"] and shown(view, "#kept-count") < before
    view.select_option("#ranking", label="by-input")
    settled(view)
    assert exported(view)["select"][0]["keep"] == "60"
    set_number(view, "keep", 30)
    assert exported(view)["select"][0]["keep"] == "30%"


def test_a_run_file_takes_the_exported_thresholds(view: Any, tmp_path: Path) -> None:
    view.uncheck("#switch-duplicate input")
    view.select_option("#ranking", label="by-input")
    settled(view)
    piece = exported(view)
    assert piece["clean"]["duplicates"] == "none"
    assert {"on": "nll", "within": "input", "direction": "bottom"}.items() <= piece["select"][0].items()
    text = view.input_value("#toml").replace("[clean]\n", '[clean]\ninputs = ["a.en", "a.de"]\n')
    (tmp_path / "run.toml").write_text(f'out = "run"\n{text}\n[train]\ncheckpoints = "1,5"\n[score]\n')
    read = read_run_file(tmp_path / "run.toml")
    assert read.clean.rules.max_words == 22 and read.select[0].within == "input"


def test_search_and_hostile_text_in_the_browser(view: Any) -> None:
    view.fill("#query", "ALERT(1)")
    assert view.inner_text("#found") == "1 pair"
    assert HOSTILE.split("\u2028")[0].strip() in view.inner_text("#results bdi >> nth=0")
    details = view.inner_text("#results .why >> nth=0")
    assert "input first.en · tag news" in details
    assert view.locator("#results script, #results img").count() == 0
    view.fill("#query", "")
    view.select_option("#decision", "kept")
    assert shown(view, "#found") == shown(view, "#kept-count")
    rows = view.locator("#results tr.explained").count()
    view.click("#more")
    assert view.locator("#results tr.explained").count() > rows


def test_back_to_the_run_and_no_selection(view: Any) -> None:
    start = view.input_value("#toml")
    set_number(view, "filter-min_words", 5)
    view.uncheck("#switch-repeated_ngrams input")
    settled(view)
    assert view.input_value("#toml") != start and shown(view, "#changed-count")
    view.click("#reset")
    settled(view)
    assert view.input_value("#toml") == start and shown(view, "#changed-count") == 0
    set_number(view, "filter-min_words", 4)
    view.select_option("#ranking", "")
    settled(view)
    assert exported(view)["clean"]["rules"]["min_words"] == 4, "filters stay as they are"
    assert "select" not in exported(view) and not view.is_visible("#keep")


def test_a_phone_in_the_dark(run: Path, browser: Any, tmp_path: Path) -> None:
    out = explore(run, out=tmp_path / "explore.html", quiet=True)
    with opened(browser, out, viewport={"width": 360, "height": 740}, color_scheme="dark") as shown:
        shown.click("#filter-max_words .open")
        settled(shown)
        assert shown.evaluate("document.documentElement.scrollWidth") <= 360, "nothing is cut off at the side"
        assert shown.evaluate("document.querySelector('#filter-max_words').nextElementSibling.id") == "panel"
        assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"


@OTHERS
def test_other_corpora_in_the_browser(tmp_path: Path, browser: Any, options: dict[str, Any]) -> None:
    inputs = write_corpus(tmp_path / "text")
    data = str(tmp_path / "text/first.de") if "monolingual" in options else inputs
    kept = clean(data, out=tmp_path / "run/clean", quiet=True, **options).kept
    with opened(browser, explore(tmp_path / "run", quiet=True)) as view:
        assert shown(view, "#clean-count") == kept
        if view.locator("#filter-max_words").count():
            set_number(view, "filter-max_words", 4)
            assert exported(view)["clean"]["rules"]["max_words"] == 4 and shown(view, "#changed-count")
        view.uncheck("#switch-duplicate input")
        settled(view)
        assert exported(view)["clean"]["duplicates"] == "none"
        assert view.locator("#results .explained").count() == 20
