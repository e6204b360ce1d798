"""The console script `catprune` and `python -m catprune`; Ctrl-C is handled from the first import on."""

import io
import sys


def main() -> None:
    """Run the command line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the terminal cannot encode must not end the command.
        sys.stdout.reconfigure(errors="replace")
    try:
        from catprune.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
