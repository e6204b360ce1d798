"""Runs one contender in its own process.

    INTERPRETER benches/contenders.py NAME JSON

A contender is a function of own.py, peers.py or scorers.py that prepares (mostly imports) and returns the timed
function. When the clock starts, the process prints `ready`, its private memory and its dirty private memory. It ends
with a line of JSON: seconds, processor seconds with children, and the numbers that the contender reports.
"""

from __future__ import annotations

import json
import os
import sys
from time import perf_counter
from typing import Any

import own
import peers
import scorers
from job import Skipped, Timed, private_bytes


def main() -> None:
    """Prepare, announce, run, report."""
    name, job = sys.argv[1], json.loads(sys.argv[2])
    result: dict[str, Any]
    try:
        home = next(module for module in (own, peers, scorers) if hasattr(module, name))
        timed: Timed = getattr(home, name)(job)
    except (Skipped, ImportError) as reason:
        print(json.dumps({"skipped": str(reason)}))
        return
    print("ready", private_bytes(os.getpid()), private_bytes(os.getpid(), "Dirty"), flush=True)
    before, start = os.times(), perf_counter()
    result = timed()
    seconds, after = perf_counter() - start, os.times()
    processor = sum(after[:4]) - sum(before[:4])
    print(json.dumps({"seconds": seconds, "processor_seconds": processor, **result}))


if __name__ == "__main__":
    main()
