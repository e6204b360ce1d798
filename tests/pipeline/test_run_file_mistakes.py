"""Every key of a run file with values of every type: it is read, or the message says what to give."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from catprune import CatpruneError
from catprune.pipeline.run_file import RunFile, read_run_file
from catprune.pipeline.sections import models_within

VALUES = ["zzz", "", -7, 0, 2.5, float("inf"), True, [], [1], ["a", 3], [[1]], {"q": 1}, [{"q": 2}]]
VALID: dict[str, Any] = {
    "out": "run",
    "clean": {"inputs": ["a.en", "a.de"]},
    "tokenize": {},
    "train": {"epochs": 1},
    "score": {},
    "scorer": [{"scorer": "labse"}],
    "select": [{"name": "half", "method": "length", "keep": "50%"}],
    "write": {"selection": "half", "outputs": ["p.en", "p.de"]},
    "evaluate": {"epochs": 1, "tests": [{"name": "test", "source": "a.en", "target": "a.de"}]},
}
#: What pydantic says of types.
WORDS = ("should", "valid ", "Input", "unable", "instance", "dictionary", "iterable")


@pytest.mark.parametrize("section", [name for name, value in VALID.items() if name != "out"])
def test_every_value_is_read_or_explained(tmp_path: Path, section: str) -> None:
    for side in ("en", "de"):
        (tmp_path / f"a.{side}").write_text("x\n")
    path = tmp_path / "run.toml"
    model = next(models_within(RunFile.model_fields[section].annotation))
    path.write_text(tomlkit.dumps(VALID))
    read_run_file(path)
    refused = 0
    for key in (field.rstrip("_") for field in model.model_fields):
        for value in VALUES:
            settings = copy.deepcopy(VALID)
            table = settings[section][0] if isinstance(settings[section], list) else settings[section]
            table[key] = value
            path.write_text(tomlkit.dumps(settings))
            try:
                read_run_file(path)
            except (CatpruneError, OSError) as error:
                message = str(error).replace(str(tmp_path), "")
                assert not any(word in message for word in WORDS), (key, value, message)
                refused += 1
    assert refused > 2 * len(model.model_fields)
