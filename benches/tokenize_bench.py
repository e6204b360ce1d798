"""Tokenising beside the `tokenizers` package: seconds, processor time, peak memory; interleaved, a process each.

    uv run python benches/tokenize_bench.py text.en text.de [--pairs 50000] [--rounds 5] [--unigram]

Ours is the whole pass (text read, ids written to blocks and synced); theirs is `encode_batch` or `encode_batch_fast`
alone, of lines that are in memory already. Both take the same tokenizer, trained on the text.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path


def child(way: str, folder: Path, threads: int) -> None:
    """Measures one way once, and prints it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if way == "ours":
        from catprune import _core

        paths = {"source": str(folder / "text.source"), "target": str(folder / "text.target")}
        with tempfile.TemporaryDirectory(dir=folder) as out:
            request = {
                "corpus": {"inputs": [{"format": "moses", **paths}]},
                "files": json.loads((folder / "files.json").read_text()),
                "kept": "all",
                "tokenizer": str(folder / "tokenizer.json"),
                "max_tokens": 10**6,
                "out": out,
                "plan": "0",
                "threads": threads,
            }
            start = time.perf_counter(), time.process_time()
            shards = _core.tokenize(request)["shards"]
            ids = sum(shard["source_tokens"] + shard["target_tokens"] for shard in shards)
            end = time.perf_counter(), time.process_time()
    else:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        names = ("text.source", "text.target")
        lines = [line for name in names for line in (folder / name).read_text().split("\n")[:-1]]
        encode = tokenizer.encode_batch if way == "encode_batch" else tokenizer.encode_batch_fast
        start = time.perf_counter(), time.process_time()
        ids = sum(len(one.ids) for one in encode(lines))
        end = time.perf_counter(), time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"seconds": end[0] - start[0], "processor": end[1] - start[1], "MB": peak / 1024, "ids": ids}))


def prepare(sources: list[Path], folder: Path, pairs: int, *, unigram: bool) -> None:
    """Writes the lines and a tokenizer that is trained on them."""
    from catprune import _core
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    files = []
    for name, source in zip(("text.source", "text.target"), sources, strict=True):
        with source.open(encoding="utf-8", newline="\n") as stream:
            lines = [line.rstrip("\r\n") + "\n" for line in islice(stream, pairs)]
        (folder / name).write_text("".join(lines), newline="\n")
        path = folder / name
        files.append({"path": str(path), "bytes": path.stat().st_size, "digest": _core.digest_file(str(path))})
    (folder / "files.json").write_text(json.dumps(files))
    special = ["<unk>", "</s>"]
    if unigram:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=16_000, special_tokens=special, unk_token="<unk>")
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(vocab_size=16_000, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train([str(folder / "text.source"), str(folder / "text.target")], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))


def main() -> None:
    """Runs all ways in turn and prints medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs=2, type=Path)
    parser.add_argument("--pairs", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--unigram", action="store_true")
    given = parser.parse_args()
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        prepare(given.files, Path(name), given.pairs, unigram=given.unigram)
        for _ in range(given.rounds):
            for threads in (1, 2):
                for way in ("ours", "encode_batch", "encode_batch_fast"):
                    command = [sys.executable, __file__, "--child", way, name, str(threads)]
                    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
                    shown = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
                    found.setdefault((way, threads), []).append(json.loads(shown))
    print(f"{'':20}{'threads':>8}{'seconds':>10}{'processor':>10}{'MB':>8}{'ids':>12}")
    for (way, threads), runs in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        numbers = f"{middle['seconds']:10.2f}{middle['processor']:10.2f}{middle['MB']:8.0f}{middle['ids']:12.0f}"
        print(f"{way:20}{threads:8}{numbers}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
