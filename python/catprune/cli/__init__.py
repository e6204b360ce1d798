"""The command line: its commands, their options and help, and what they print."""

from catprune.cli.commands import app

__all__ = ["app"]
