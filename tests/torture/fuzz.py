"""Fuzzing of what Python parses: run files, sealed files, weights, and the small languages of options.

`PYTHONPATH=tests python -m torture.fuzz --runs 1000000 --seed 1`, from the root of the repository. Seeds are valid
texts; a mutation flips, cuts, repeats and mixes them. A parser returns or refuses with an error of catprune. Anything
else is a finding: its bytes stay in a file, and the program ends with its traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from catprune.checkpoints.native import load_tensors
from catprune.cleaning.languages import base_language, scripts_of
from catprune.cleaning.rule_options import parse_form, read_input_rules
from catprune.corpus.inputs import parse_inputs
from catprune.errors import CatpruneError
from catprune.pipeline.run_file import read_run_file
from catprune.selection.budget import parse_keep, parse_keeps
from catprune.selection.request import parse_guard, parse_merge
from catprune.tokens.blocks import map_safetensors
from catprune.workspace.sealed import read_sealed, seal
from catprune.workspace.shards import Shard
from torture.corpus import RUN_FILE

Parse = Callable[[bytes, Path], object]


def _text(parse: Callable[[str], object]) -> Parse:
    return lambda data, _: parse(data[:4096].decode(errors="surrogateescape"))


def _file(parse: Callable[[Path], object]) -> Parse:
    def run(data: bytes, path: Path) -> None:
        path.write_bytes(data)
        parse(path)

    return run


def _weights() -> bytes:
    header = b'{"__metadata__":{"a":"b"},"t":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}'
    return struct.pack("<Q", len(header)) + header + bytes(16)


_PLAN = seal({"format": 3, "step": "clean", "options": {"a": [1, 2.5, None]}, "reads": {"x": {"path": "../a"}}})

#: Name → the parser and its seeds.
TARGETS: dict[str, tuple[Parse, list[bytes]]] = {
    "run file": (_file(read_run_file), [RUN_FILE.encode(), b'out = "x"\n[clean]\ninputs = ["a.tsv"]\n']),
    "input rules": (_file(read_input_rules), [b'[[input_rules]]\ninput = "a"\nmin_words = 3\n']),
    "sealed file": (_file(read_sealed), [_PLAN]),
    "token block": (_file(map_safetensors), [_weights()]),
    "weights": (_file(load_tensors), [_weights()]),
    "keep": (_text(parse_keep), [b"50%", b"0.5", b"1_000", b"50%tokens", b"123456tokens"]),
    "keeps": (_text(lambda text: parse_keeps(text.split(","), [text])), [b"50%,tag=a:80%", b"input=b:3"]),
    "merge": (_text(parse_merge), [b"0.7*cat-var + 0.3*labse", b"a - b"]),
    "where": (_text(parse_guard), [b"labse>0.6", b"x!=-1e5"]),
    "shard": (_text(Shard.parse), [b"1/2", b"auto"]),
    "form": (_text(parse_form), [b"nfkc,case", b"raw", b"normalised,digits"]),
    "language": (_text(lambda text: (base_language(text), scripts_of(text))), [b"en-GB", b"zh-Hans", b"eng_Latn"]),
    "inputs": (
        _text(lambda text: parse_inputs(text.replace("/", "").split(" "))),
        [b"a.en a.de", b"'x-*.{en,de}.gz'", b"a.tsv b.jsonl"],
    ),
}
_PIECES = (b"\x00", b"\xff", b"9" * 50, b"[", b"{", b'"', b"'", b"\\", b"=", b"-", b"e999", b"nan", b"%", b"\n", b"*")


def mutate(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Change bytes in one to four ways."""
    for _ in range(random.randint(1, 4)):
        first, end = sorted(random.randint(0, len(data)) for _ in range(2))
        kind = random.randrange(6)
        if kind == 0 and data:
            place = random.randrange(len(data))
            data = data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]
        elif kind == 1:
            data = data[:first] + data[end:]
        elif kind == 2:
            data = data[:end] + data[first:end] * random.choice((1, 1, 2, 50)) + data[end:]
        elif kind == 3:
            data = data[:first] + random.choice(_PIECES) * random.choice((1, 1, 1, 2000)) + data[first:]
        elif kind == 4:
            other = random.choice(others)
            data = data[:first] + other[random.randint(0, len(other)) :]
        else:
            data = data[:first] + random.randbytes(random.randint(1, 4)) + data[end:]
    return data[:1_000_000]


def fuzz(name: str, *, runs: int, seed: int, folder: Path) -> int:
    """Run mutated inputs through a parser.

    Returns:
        How many of them it took.

    Raises:
        Exception: whatever the parser raised besides errors of catprune; the input is in `folder`.
    """
    parse, seeds = TARGETS[name]
    random, pool, taken = Random(f"{seed} {name}"), list(seeds), 0
    for _ in range(runs):
        data = mutate(random.choice(pool), random, seeds)
        try:
            with contextlib.suppress(CatpruneError):
                parse(data, folder / "file")
                taken += 1
                # What a parser takes is a seed of its own.
                if len(pool) < 200:
                    pool.append(data)
                else:
                    pool[random.randrange(len(seeds), 200)] = data
        except Exception:
            (folder / "finding").write_bytes(data)
            raise
    return taken


def main() -> None:
    """Fuzz every parser in turn."""
    parser = argparse.ArgumentParser(prog="torture.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100_000, help="Inputs of each parser.")
    parser.add_argument("--seed", type=int, default=1, help="Random seed of the inputs.")
    parser.add_argument("--target", choices=TARGETS, action="append", help="Only these; may be repeated.")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="catprune-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    os.chdir(folder)  # names and wildcards match nothing else
    for name in options.target or TARGETS:
        started = time.monotonic()
        taken = fuzz(name, runs=options.runs, seed=options.seed, folder=folder)
        speed = options.runs / (time.monotonic() - started)
        print(f"{name}: {options.runs:,} inputs, {taken:,} taken, {speed:,.0f}/s", flush=True)


if __name__ == "__main__":
    main()
