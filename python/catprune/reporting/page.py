"""A page of HTML: whether a file may be replaced by one, the rendering of its template, and its writing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune.errors import CatpruneError
from catprune.workspace.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST_LINE = b"<!doctype html>"
_START = 400  # bytes that hold the generator and what the page was made from


def check_replaceable(out: Path, kind: str, *, force: bool) -> None:
    """Check that `out` is a page of this kind, if it exists.

    Raises:
        CatpruneError: `out` is a folder, or another file and `force` is not given.
    """
    if out.is_dir() or (out.exists() and not force and not is_page(out, kind)):
        raise CatpruneError(f"{out} is not a page of {kind}: give another name, or force = true to replace the file")


def is_page(path: Path, kind: str, *, made_from: str = "") -> bool:
    """Return whether a file is a page of this kind, and one with the digest `made_from`."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(_START)
    marks = b'<meta name="generator" content="catprune ', f'<meta name="{kind}" content="{made_from}'.encode()
    return start.startswith(_FIRST_LINE) and all(mark in start for mark in marks)


def render(template: str, context: Mapping[str, Any]) -> str:
    """Return the page of a template of this folder."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(context) + "\n"


def write_page(out: Path, page: str) -> None:
    """Write a page, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page.encode())
