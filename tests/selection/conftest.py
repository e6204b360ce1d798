"""Fixtures of the tests of selection."""

from support.scores import run as run
