"""Fixtures of all tests: small text files, and a deterministic hypothesis profile."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A shell that starts the tests in the background lets them ignore SIGINT; some tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "catprune",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("catprune")


@pytest.fixture
def pair(tmp_path: Path) -> Any:
    """Write the two sides of a corpus and return their paths."""

    def write(source: bytes, target: bytes, name: str = "text") -> tuple[Path, Path]:
        paths = tmp_path / f"{name}.en", tmp_path / f"{name}.de"
        for path, data in zip(paths, (source, target), strict=True):
            path.write_bytes(data)
        return paths

    return write


@pytest.fixture(scope="module")
def any_memory() -> Iterator[None]:
    """Let `clean` accept less memory than its buffers need, so that little text exceeds the memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("catprune.cleaning.request"), "LEAST_MEMORY", 1)
        yield
