"""What a command prints: its result as lines or JSON, and errors as one line with an exit code."""

from __future__ import annotations

import errno
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from catprune.errors import CatpruneError, UsageError, is_out_of_memory
from catprune.workspace.signals import exit_code
from catprune.workspace.terminal import one_line, print_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def guarded(command: Callable[..., None], *, spell: Callable[[str], str] = str) -> Callable[..., None]:
    """Print errors as one line: exit code 1 for data and files, 2 for wrong usage, 130 for Ctrl-C, 143 for SIGTERM.

    Args:
        command: what to run.
        spell: writes the options in a message as the command line spells them.
    """

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except UsageError as error:
            fail(spell(str(error)), 2)
        except CatpruneError as error:
            fail(spell(str(error)), 1)
        except BrokenPipeError:
            raise typer.Exit(1) from None
        except OSError as error:
            fail(_explain(error), 1)
        except KeyboardInterrupt as error:
            fail("interrupted; run the same command again to continue", exit_code(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            advice = "train in parts (accumulate = 2 or more), score with a smaller batch_tokens"
            fail(spell(f"out of memory: {advice}, or use a smaller preset or less memory"), 1)

    return run


def fail(message: str, code: int) -> None:
    """Print a message on standard error and exit."""
    print_line(f"catprune: {one_line(message)}", error=True)
    raise typer.Exit(code)


def _explain(error: OSError) -> str:
    if error.errno == errno.ENOENT and not error.filename and not _has_working_folder():
        return "the working folder was deleted: change to another one (cd)"
    text = f"{error.filename}: {error.strerror or error}" if error.filename else f"{error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = "the disk" if error.filename else "the target of standard output"
        return f"{text}: free space on {place}, then run the same command again to continue"
    return text


def _has_working_folder() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def show(result: Any, lines: Sequence[str], *, as_json: bool, quiet: bool) -> None:
    """Print the summary of a step: lines for a reader, or the result as JSON. Work finished before is reported."""
    if as_json:
        import dataclasses

        if isinstance(result, Path):
            print_json({"path": result})
            return
        names = [field.name for field in dataclasses.fields(result) if not field.name.startswith("manifest")]
        print_json({name: getattr(result, name) for name in names})
    elif not quiet:
        if not getattr(result, "is_new", True):
            names = [result.folder] if hasattr(result, "folder") else result.paths
            verb = "is" if len(names) == 1 else "are"
            typer.echo(f"nothing to do: {' and '.join(map(str, names))} {verb} finished")
        for line in lines:
            print_line(line)


def print_json(values: Any) -> None:
    """Print values as one line of JSON."""
    print_line(json.dumps(values, default=_plain, sort_keys=True).replace("\x7f", "\\u007f"))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "__dataclass_fields__"):
        import dataclasses

        return dataclasses.asdict(value)
    return dict(value)


def saying(*, silent: bool, spell: Callable[[str], str]) -> Callable[[str], None]:
    """A function that prints lines of progress on standard error, with options as `spell` writes them."""
    return (lambda _: None) if silent else (lambda line: print_line(spell(line), error=True))
