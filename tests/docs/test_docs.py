"""The documentation agrees with the code: run-file keys, methods, reasons, messages, and a valid example run file."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from catprune.cleaning.options import Filters
from catprune.pipeline import run_file
from catprune.selection.methods import METHODS
from catprune.training.options import TrainOptions
from catprune.workspace.options import defaults_of

ROOT = Path(__file__).parent.parent.parent
#: Folders whose texts name files and modules of the repository.
TEXTS = ("docs", "python/catprune", "rust/core/src", "rust/python/src", "benches", "tests")
NAMED_PATH = re.compile(r"(?<![\w/.])(?:docs|tests|benches|rust|python)/[A-Za-z0-9_./-]*[A-Za-z0-9_](?![*{])")
NAMED_MODULE = re.compile(r"(?<![\w/.])catprune(?:\.[a-z_]+){2,}")
#: What commands write.
WRITTEN = ("rust/fuzz/corpus", "docs/results/evidence/runs")


def example() -> str:
    return re.findall(r"```toml\n(.*?)```", (ROOT / "docs/how-to/write-a-run-file.md").read_text(), re.DOTALL)[0]


def test_the_example_of_a_run_file_is_valid_and_names_every_key(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(example())
    read = run_file.read_run_file(tmp_path / "run.toml")
    assert read.evaluate is not None and len(read.select) == 7
    values: dict[str, Any] = tomllib.loads(example())
    assert values.keys() == run_file.RunFile.model_fields.keys()
    sections = {"clean": run_file.CleanSection, "train": run_file.TrainSection, "score": run_file.ScoreSection}
    sections |= {"write": run_file.WriteSection}
    for name, section in sections.items():
        assert values[name].keys() >= section.model_fields.keys() - {"steps", "seed"}, name
    assert {key for section in values["select"] for key in section} >= run_file.SelectSection.model_fields.keys() - {
        "sign"
    }
    own = run_file.EvaluateSection.model_fields.keys() - defaults_of(TrainOptions).keys()
    assert values["evaluate"].keys() > own
    assert values["tokenize"].keys() == run_file.TokenizeSection.model_fields.keys() - {"tokenizer", "seed"}
    assert values["clean"]["rules"].keys() < defaults_of(Filters).keys()


def test_the_tests_of_the_promises_exist() -> None:
    page = (ROOT / "docs/explanation/promises.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 30
    for file, name in named:
        assert (ROOT / file).is_file(), file
        assert not name or f"def {name}(" in (ROOT / file).read_text(), (file, name)
    tables = [table.splitlines() for table in page.split("\n\n") if table.startswith("| Promise |")]
    promises = [line for table in tables for line in table[2:]]
    assert len(promises) >= 20
    assert [line for line in promises if "::test_" not in line] == []


def test_the_filters_page_names_every_reason() -> None:
    text = (ROOT / "docs/reference/filters.md").read_text()
    core = (ROOT / "rust/core/src/cleaning/reasons.rs").read_text()
    reasons = re.findall(r'"(\w+)",', core[core.index("REASONS") : core.index("pub const MALFORMED_RECORD")])
    assert len(reasons) == 28
    assert [name for name in reasons if f"`{name}`" not in text] == []


def test_the_messages_page_quotes_the_code() -> None:
    files = [*(ROOT / "python").rglob("*.py"), *(ROOT / "rust").rglob("*.rs")]
    code = re.sub(r'"\s*\n\s*f?"|\\\n\s*', "", "\n".join(path.read_text() for path in files))
    page = (ROOT / "docs/reference/messages.md").read_text()
    quotes = re.findall(r"^\| `(.+?)`[^|]*\|", page, re.MULTILINE)
    assert len(quotes) > 30
    pieces = [piece.strip(" ,:") for quote in quotes for piece in re.split(r"<[^>]*>|\{source\}", quote)]
    assert [piece for piece in pieces if piece not in code] == []


def test_the_page_on_the_report_names_its_sections_in_order() -> None:
    template = (ROOT / "python/catprune/reporting/report.html.j2").read_text()
    headings = [re.sub(r"\{\{.*?\}\}", "tag or input", text) for text in re.findall(r"<h2 id=[^>]*>([^<]+)<", template)]
    page = (ROOT / "docs/tutorial/reading-the-report.md").read_text()
    rows = [row.split("|")[1].strip() for row in page.splitlines() if row.startswith("| ")]
    assert rows[1:] == headings


def test_the_changelog_names_every_method() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert [method.name for method in METHODS if method.name not in text] == []


def test_the_methods_page_names_every_method() -> None:
    text = (ROOT / "docs/reference/methods.md").read_text()
    assert [method.name for method in METHODS if f"| `{method.name}` |" not in text] == []


def test_the_methods_page_agrees_with_the_table_of_methods() -> None:
    text = (ROOT / "docs/reference/methods.md").read_text()
    rows = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("| `")]
    documented = {row.split("|")[1].strip(" `"): row.split("|")[4].strip(" –") for row in rows}
    assert {method.name: method.direction for method in METHODS} == {
        method.name: documented[method.name] for method in METHODS
    }


def test_the_filters_page_names_every_filter_with_its_default() -> None:
    text = (ROOT / "docs/reference/filters.md").read_text()
    for name, default in defaults_of(Filters).items():
        (row,) = (line for line in text.splitlines() if f"`--{name.replace('_', '-')}` |" in line)
        if default is not None and not isinstance(default, bool):
            assert f"| {default:,g}" in row.replace(",", "") or f"| {default:,}" in row, row


def test_paths_and_modules_that_a_text_names_exist() -> None:
    missing: list[str] = []
    for path in [*ROOT.glob("*.md"), *(path for name in TEXTS for path in (ROOT / name).rglob("*"))]:
        if path.suffix not in (".md", ".py", ".pyi", ".rs", ".toml") or "corpus" in path.parts[-3:-1]:
            continue
        text = path.read_text(encoding="utf-8")
        named = [match[0].rstrip("./") for match in NAMED_PATH.finditer(text)]
        modules = ["python/" + match[0].replace(".", "/") for match in NAMED_MODULE.finditer(text)]
        known = [*named, *(module for module in modules if (ROOT / module).parent.is_dir())]
        missing += [f"{path}: {name}" for name in known if not exists(name) and name not in WRITTEN]
    assert missing == []


def exists(name: str) -> bool:
    """Whether a path of the repository exists, or a name in a package of ours."""
    place = ROOT / name
    if place.exists() or any(place.with_suffix(suffix).exists() for suffix in (".py", ".pyi", ".rs")):
        return True
    package = place.parent / "__init__.py"
    return package.exists() and re.search(rf"\b{place.name}\b", package.read_text()) is not None


def test_the_generated_pages_are_up_to_date() -> None:
    script = ROOT / "docs/generate.py"
    run = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
