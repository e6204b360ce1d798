"""Memory: it does not grow with the corpus, in any pass over text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: Peak memory of the passes over a corpus, printed in MB; fingerprints of the larger corpus exceed the memory.
PASSES = """
import resource, sys
import catprune
from catprune.cleaning import request

request.LEAST_MEMORY = 1
folder, quiet = sys.argv[1], {"quiet": True}
catprune.clean([f"{folder}/a.en", f"{folder}/a.de"], out=f"{folder}/clean", memory="2M", threads=1, **quiet)
catprune.select(f"{folder}/clean", method="random", out=f"{folder}/half", threads=1, **quiet)
catprune.write(f"{folder}/clean", [f"{folder}/p.en", f"{folder}/p.de"], selection=f"{folder}/half", threads=1, **quiet)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak(folder: Path, pairs: int) -> int:
    folder.mkdir()
    for side, words in (("en", "the house number {} is old and green"), ("de", "das haus nummer {} ist alt und grün")):
        with (folder / f"a.{side}").open("w") as stream:
            stream.writelines(words.format(row * 7919 % pairs) + "\n" for row in range(pairs))
    command = [sys.executable, "-c", PASSES, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_peak_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    few, many = peak(tmp_path / "few", 100_000), peak(tmp_path / "many", 1_000_000)
    # In memory the fingerprints alone are 16 MB for each million pairs, and the text 70 MB.
    assert many - few < 12, (few, many)
