"""The console script `catprune`, and `python -m catprune`: Ctrl-C counts from the first import on."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from catprune.cli import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
