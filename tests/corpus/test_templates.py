"""Names with wildcards and braces: what is a pattern, and in which order files come."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import catprune
import pytest
from catprune import CatpruneError, UsageError
from catprune.corpus.templates import expand, expand_pairs, find_sides, is_pattern
from catprune.pipeline.written_run_file import to_toml

QUIET: dict[str, Any] = {"quiet": True}


def put(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        text = "das Haus {0} ist gruen und alt\n" if name.endswith("de") else "the house {0} is green and old\n"
        (folder / name).write_text("".join(text.format(f"{name.rpartition('.')[0]} {number}") for number in range(4)))


def test_files_come_in_natural_order(tmp_path: Path) -> None:
    names = ["part-1.en", "part-2.en", "part-10.en", "part-10b.en", "part-100.en", "x-09.en", "x-9.en"]
    put(tmp_path, *reversed(names), *(name.replace(".en", ".de") for name in names))
    assert [Path(name).name for name in expand(f"{tmp_path}/*.en")] == names
    pairs = expand_pairs(f"{tmp_path}/*.{{en,de}}", [f"{tmp_path}/*.en", f"{tmp_path}/*.de"])
    assert [Path(source).name for source, _ in pairs] == names
    assert [Path(target).stem for _, target in pairs] == [Path(name).stem for name in names]


@pytest.mark.parametrize("folder", ["exp[1]", "x{a,b}", "a*b", "why?", "[!x]", "{en,de}[0-9]*"])
def test_a_folder_of_any_name_is_itself(tmp_path: Path, monkeypatch: Any, folder: str) -> None:
    base = tmp_path / folder
    put(base, "a-1.en", "a-1.de", "a-2.en", "a-2.de")
    put(tmp_path / "exp1", "a-3.en", "a-3.de")
    assert expand(f"{base}/a-*.en") == [f"{base}/a-1.en", f"{base}/a-2.en"]
    assert find_sides(f"{base}/a.{{en,de}}") == (f"{base}/a.en", f"{base}/a.de")
    assert not is_pattern(f"{base}/a-1.en") and not is_pattern(f"{base}/new.en")
    monkeypatch.chdir(tmp_path)
    assert catprune.clean([f"{folder}/a-1.en", f"{folder}/a-1.de"], out="alone", **QUIET).rows == 4
    monkeypatch.chdir(base)
    options: dict[str, Any] = {"out": "run", "method": "random", "keep": "50%", **QUIET}
    catprune.prune(["a-*.{en,de}"], outputs=["p.en", "p.de"], **options)
    catprune.run("run/run.toml", **QUIET)
    catprune.prune(["a-*.{en,de}"], outputs=["p.en", "p.de"], **options)
    assert (base / "p.en").read_text().count("\n") == 4
    with pytest.raises(UsageError, match="no such file"):
        expand(f"{base}/b-*.en")


@pytest.mark.parametrize("name", ["a\x7fb", "tab\there", "line\nbreak", "quote\"'\\", "\x1b[31m", "\x80ü\u2028"])
def test_a_run_file_holds_any_path(tmp_path: Path, monkeypatch: Any, name: str) -> None:
    base = tmp_path / name
    put(base, "a.en", "a.de")
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"method": "random", "keep": "50%", **QUIET}
    catprune.prune([base / "a.en", base / "a.de"], outputs=[f"{name}/p.en", f"{name}/p.de"], out="run", **options)
    catprune.run("run/run.toml", **QUIET)
    assert tomllib.loads(to_toml({"clean": {"inputs": [name]}}))["clean"]["inputs"] == [name]


def test_a_name_that_is_no_utf_8_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    put(tmp_path, "a.en", "a.de")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CatpruneError, match="is not UTF-8: rename"):
        catprune.prune(["a.en", "a.de"], outputs=["p\udcff.en", "p.de"], out="run", method="random", keep=1, **QUIET)


def test_refusals_over_many_files_are_short(tmp_path: Path) -> None:
    names = [f"part-{number}.{side}" for number in range(300) for side in ("en", "de")]
    put(tmp_path, *names)
    catprune.clean([tmp_path / "part-*.{en,de}"], out=tmp_path / "clean", **QUIET)
    for change in (
        {"prefer": [str(tmp_path / "nothing")]},
        {"inputs": [tmp_path / f"part-{number}.{{en,de}}" for number in reversed(range(300))]},
    ):
        options: dict[str, Any] = {"inputs": [tmp_path / "part-*.{en,de}"], "out": tmp_path / "clean", **change}
        with pytest.raises(CatpruneError) as caught:
            catprune.clean(**options, **QUIET)
        assert len(str(caught.value)) < 2500
