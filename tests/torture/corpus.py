"""The small corpus of the torture program: the demo's bitext in every format, with tags, scores and a test set."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from xml.sax.saxutils import escape

import pyarrow
import pyarrow.parquet as parquet
from catprune.demonstration.bitext import write_demo_bitext

PAIRS = 800

#: A scorer of text and a run file of every step.
OWN_SCORER = """
def lengths(sources, targets):
    return [-abs(len(source) - len(target)) for source, target in zip(sources, targets)]
"""
RUN_FILE = """
out = "run"
seed = 3
threads = 1

[clean]
inputs = ["text.{en,de}.gz", "columns.tsv.zst"]
source_lang = "en"
target_lang = "de"
near_duplicates = "pair"

[tokenize]
vocab_size = 300

[train]
checkpoints = "3steps,6steps"
precision = "float32"
batch_tokens = 512
save_every = 2

[score]
precision = "float32"

[[scorer]]
scorer = "own.py:lengths"

[[select]]
name = "cat"
method = "cat-diff"
where = "lengths>-8"

[[select]]
name = "random"
method = "random"
tokens_of = "cat"

[write]
selection = "cat"
outputs = ["run-kept.en", "run-kept.de"]
dropped = ["run-dropped.en", "run-dropped.de"]

[evaluate]
steps = 3
precision = "float32"
batch_tokens = 512
save_every = 2
subsets = ["full", "cat"]
against = ["full"]
resamples = 20

[[evaluate.tests]]
name = "test"
source = "test.en"
target = "test.de"
"""


def write_corpus(folder: Path) -> None:
    """Write the inputs of all steps; equal bytes every time."""
    bitext = write_demo_bitext(folder / "bitext", pairs=PAIRS, test_pairs=8, seed=5)
    pairs = list(zip(_lines(bitext.source), _lines(bitext.target), strict=True))
    # Near duplicates: a fifth of the pairs once more, with a word at the end.
    pairs += [(f"{source} again", f"{target} wieder") for source, target in pairs[::5]]
    parts = [pairs[start::6] for start in range(6)]
    for side, language in enumerate(("en", "de")):
        text = _text([pair[side] for pair in parts[0]])
        (folder / f"text.{language}.gz").write_bytes(gzip.compress(text, mtime=0))
        (folder / f"more.{language}").write_bytes(_text([pair[side] for pair in parts[5]]))
        (folder / f"test.{language}").write_bytes((bitext.test_source, bitext.test_target)[side].read_bytes())
    columns = _text(["\t".join((*pair, "a field")) for pair in parts[1]])
    (folder / "columns.tsv.zst").write_bytes(pyarrow.compress(columns, codec="zstd", asbytes=True))
    objects = [json.dumps({"translation": dict(zip(("en", "de"), pair, strict=True)), "n": 1}) for pair in parts[2]]
    (folder / "objects.jsonl.xz").write_bytes(lzma.compress(_text(objects)))
    (folder / "units.tmx.bz2").write_bytes(bz2.compress(_tmx(parts[3])))
    structs = [{"en": source, "de": target} for source, target in parts[4]]
    table = pyarrow.table({"translation": structs, "n": list(range(len(structs)))})
    parquet.write_table(table, folder / "table.parquet", row_group_size=100)
    rows = sum(map(len, parts[:5]))
    tags = ["news" if row % 3 else "web" for row in range(rows)]
    (folder / "tags.txt").write_bytes(_text(tags))
    scores = pyarrow.table({"row": range(rows), "quality": [row * 7919 % 1000 / 1000 for row in range(rows)]})
    parquet.write_table(scores, folder / "quality.parquet")
    (folder / "own.py").write_text(OWN_SCORER)
    (folder / "run.toml").write_text(RUN_FILE)
    for path in [*(folder / "bitext").iterdir()]:
        path.unlink()
    (folder / "bitext").rmdir()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _tmx(pairs: list[tuple[str, str]]) -> bytes:
    def variants(pair: tuple[str, str]) -> str:
        sides = zip(("en", "de"), pair, strict=True)
        return "".join(f'<tuv xml:lang="{language}"><seg>{escape(text)}</seg></tuv>' for language, text in sides)

    units = "".join(f"<tu>{variants(pair)}</tu>\n" for pair in pairs)
    return f'<?xml version="1.0"?>\n<tmx version="1.4"><header/><body>\n{units}</body></tmx>\n'.encode()
