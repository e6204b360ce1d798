"""Write small valid files of every format into rust/fuzz/corpus, for the fuzz targets to start from."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet

CORPUS = Path(__file__).parent / "corpus"
TEXT = b"a house\tein Haus\nline two\tZeile zwei\r\n\tx\n"
TMX = (
    b'<?xml version="1.0"?><tmx version="1.4"><header/><body><tu><tuv xml:lang="en"><seg>a &amp; <ph/>b</seg></tuv>'
    b'<tuv lang="DE-at"><seg><![CDATA[c]]>&#65;</seg></tuv></tu></body></tmx>'
)


def write(target: str, name: str, data: bytes) -> None:
    """One seed of a target."""
    (CORPUS / target).mkdir(parents=True, exist_ok=True)
    (CORPUS / target / name).write_bytes(data)


def main() -> None:
    """All seeds. Targets of one codec take a text, and what follows a codec's first bytes."""
    packed = {
        "gzip": (gzip.compress(TEXT, mtime=0), 3),
        "bzip2": (bz2.compress(TEXT), 7),
        "xz": (lzma.compress(TEXT), 6),
        "zstd": (pyarrow.compress(TEXT, codec="zstd", asbytes=True), 4),
    }
    for target, (data, magic) in packed.items():
        write(target, "text", TEXT)
        write(target, "packed", data[magic:])
        write("tsv", target, data + data)
    write("tsv", "plain", TEXT)
    write("lines", "plain", TEXT)
    write("jsonl", "object", b'{"a": {"b": "x\\n\\u00e9"}, "c": "y", "d": [1, {"e": null}]}\n{"c": 1}\n')
    write("tmx", "document", TMX)
    write("tmx", "unit", b'<tuv lang="en"><seg>x</seg></tuv><tuv lang="de"><seg>y</seg></tuv>')
    table = pyarrow.table({"en": ["a", "b"], "de": ["c", None], "t": [{"en": "x", "de": "y"}, None]})
    for compression in ("none", "snappy", "zstd"):
        path = CORPUS / "parquet" / compression
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, path, compression=compression, use_dictionary=compression == "snappy")
    for dtype in ("<f4", "<f8"):
        array = io.BytesIO()
        np.save(array, np.arange(5, dtype=dtype))
        write("npy", dtype[1:], array.getvalue()[6:])
    for rows in (pyarrow.int64(), pyarrow.uint32()):
        table = pyarrow.table({"row": pyarrow.array([0, 3, 5, 6], rows), "score": [0.5, None, 2.0, -1.0]})
        path = CORPUS / "column" / str(rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        # The library believes a dictionary's page about how many numbers it holds, and asks for as much memory.
        parquet.write_table(table, path, row_group_size=2, use_dictionary=False)


if __name__ == "__main__":
    main()
