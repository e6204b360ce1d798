"""The console script `catprune` and `python -m catprune`; signals are handled from the first import on."""

import io
import os
import sys

from catprune.workspace.signals import exit_code, handle_stopping, stop_handling


def main() -> None:
    """Run the command line."""
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the terminal cannot encode must not end the command.
        sys.stdout.reconfigure(errors="replace")
    handle_stopping()
    try:
        from catprune.cli import app

        app()
    except KeyboardInterrupt as error:
        sys.exit(exit_code(error))
    except SystemExit as ended:
        # The library of the command line ends with 130 whatever the signal was, if it comes outside of a command.
        cause = ended.__context__ and ended.__context__.__cause__
        if isinstance(cause, KeyboardInterrupt):
            sys.exit(exit_code(cause))
        raise
    finally:
        stop_handling()


def _open_standard_streams() -> None:
    """Open the standard streams that were closed: otherwise a file of ours would get their number, and messages."""
    closed = [number for number in range(3) if not _is_open(number)]
    for number in closed:
        null = os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
        os.set_inheritable(null, True)  # noqa: FBT003
        stream = open(null, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
        setattr(sys, ("stdin", "stdout", "stderr")[number], stream)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
