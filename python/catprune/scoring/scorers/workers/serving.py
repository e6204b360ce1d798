"""The protocol of the worker scripts: they read names of files and write a model's results next to the files.

The scripts run in environments that uv creates, without catprune.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING

import pyarrow.parquet as parquet

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow

#: Environment variable with the local rank of this process, if a launcher set one.
LOCAL = "CATPRUNE_LOCAL"


def serve(load: Callable[[], Callable[[pyarrow.Table], pyarrow.Table]]) -> None:
    """Print "ready"; then read names of Parquet files line by line, write the result of each, and print "done".

    The result of NAME is written to NAME.out. If the model cannot be loaded, a line with the reason is printed instead
    of "ready", and the script ends.
    """
    # Libraries may print to standard output, which must carry only answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        try:
            work = load()
        except Exception as error:
            traceback.print_exc()
            answers.write(" ".join([f"{type(error).__name__}:", *str(error).split()]) + "\n")
            return
        answers.write("ready\n")
        answers.flush()
        for line in sys.stdin:
            path = line.rstrip("\n")
            result = work(parquet.read_table(path))
            parquet.write_table(result, f"{path}.out", compression="none", use_dictionary=False)
            answers.write("done\n")
            answers.flush()


def choose_gpu() -> int | None:
    """Select the GPU of this process for torch, and return its number; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    gpu = int(os.environ.get(LOCAL, "0")) % torch.cuda.device_count()
    torch.cuda.set_device(gpu)
    return gpu
