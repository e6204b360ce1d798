"""The check of imports inside rust/core/src: it passes on the tree, and finds planted violations."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[1] / "rust/check_imports.py"
FILES = {
    "lib.rs": "pub mod error;\npub mod io;\npub mod text;\npub mod writing;\n\npub use error::{Error, Result};\n",
    "error.rs": "pub struct Error;\n",
    "io/mod.rs": "pub mod disk;\npub mod spool;\n",
    "io/disk.rs": "use crate::{Error, Result};\n",
    "io/spool.rs": "use super::disk;\n\n#[cfg(test)]\nmod tests {\n    use super::*;\n}\n",
    "text/mod.rs": "pub mod words;\n",
    "text/words.rs": "// use crate::writing::write;\nuse crate::io::{disk, spool::Spool as File};\n",
    "writing/mod.rs": "pub mod formats;\npub mod write;\n",
    "writing/formats.rs": "",
    "writing/write.rs": "fn write() { crate::text::words::count(); }\n",
}


def check(*arguments: Path) -> str:
    """Return the output of the check; empty without violations."""
    done = subprocess.run([sys.executable, CHECK, *arguments], capture_output=True, text=True)
    assert (done.returncode == 0) == (not done.stderr)
    return done.stderr


def plant(folder: Path, changed: dict[str, str]) -> str:
    for name, text in (FILES | changed).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return check(folder)


def test_the_tree_has_no_circle_and_no_import_against_the_order() -> None:
    assert check() == ""


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("io/disk.rs", "", ""),
        ("io/disk.rs", "use crate::io::spool::Spool;\n", "circle: io::disk -> io::spool -> io::disk\n"),
        ("io/disk.rs", "use super::spool::{self, Spool};\n", "circle: io::disk -> io::spool -> io::disk\n"),
        (
            "io/disk.rs",
            "fn f() -> crate::text::words::Words {}\n",
            "io::disk imports text::words: text is not below io",
        ),
        (
            "writing/formats.rs",
            "use crate::{Error, writing::write};\n",
            "writing::formats imports the pass writing::write",
        ),
        ("error.rs", "use crate::Error;\nuse crate::io::disk;\n", "error imports io::disk: io is not below error"),
        ("other/mod.rs", "", "other: the folder other is in no layer"),
    ],
)
def test_planted_violations_are_found(tmp_path: Path, name: str, text: str, message: str) -> None:
    violations = plant(tmp_path, {name: text})
    assert message in violations if message else violations == ""
