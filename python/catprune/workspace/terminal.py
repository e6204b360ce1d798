"""What is printed: text without characters that control a terminal, on streams that may be closed."""

from __future__ import annotations

import contextlib
import re
import sys

#: Control characters but line ends and tabs, other line separators, and overrides of the direction of text.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
#: Most characters of an error message.
_LONGEST = 2000


def printable(text: str) -> str:
    r"""Return a text in which characters that control a terminal are written as escapes, like `\x1b`."""
    return _CONTROLS.sub(_escape, text)


def one_line(text: str) -> str:
    """Return a text as one printable line, cut in the middle if it is very long."""
    line = printable(text).replace("\n", "\\n")
    half = _LONGEST // 2
    return line if len(line) <= _LONGEST else f"{line[:half]} […] {line[-half:]}"


def print_line(text: str, *, error: bool = False) -> None:
    """Print lines on standard output, or on standard error, as `printable` returns them.

    Raises:
        OSError: standard output cannot be written. Standard error may be closed: messages must not end a step.
    """
    stream = sys.stderr if error else sys.stdout
    if stream is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed when Python started
        return
    with contextlib.suppress(OSError, ValueError) if error else contextlib.nullcontext():
        stream.write(f"{printable(text)}\n")
        stream.flush()


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
