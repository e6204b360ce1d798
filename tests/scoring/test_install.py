"""Scorers with their own environment install nothing unless they are asked to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import catprune
import pytest
from catprune import CatpruneError


@pytest.mark.parametrize("scorer", ["laser", "comet-qe"])
def test_gigabytes_are_installed_only_with_install(tmp_path: Path, pair: Any, monkeypatch: Any, scorer: str) -> None:
    catprune.clean(pair(b"a house\na dog\n", b"ein Haus\nein Hund\n"), out=tmp_path / "clean", quiet=True)
    uv = tmp_path / "bin/uv"
    uv.parent.mkdir()
    uv.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$1" != sync ]\n')
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{uv.parent}{os.pathsep}{os.environ['PATH']}")
    options: dict[str, Any] = {"scorer": scorer, "out": tmp_path / "scores", "quiet": True}
    with pytest.raises(CatpruneError, match=rf"several gigabytes .*--scorer {scorer} --install"):
        catprune.score_pairs(tmp_path / "clean", **options)
    assert "sync" not in (tmp_path / "calls").read_text()
    with pytest.raises(CatpruneError, match="uv could not create the environment"):
        catprune.score_pairs(tmp_path / "clean", **options, install=True)
    assert "sync --script" in (tmp_path / "calls").read_text()
