"""What the scripts beside this file share: they answer names of files by what a model makes of the files' columns.

They run in environments that uv makes of them, and know nothing of catprune.
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

#: The number of this process among those of its machine, where a launcher has told one.
LOCAL = "CATPRUNE_LOCAL"


def serve(load: Callable[[], Callable[[pyarrow.Table], pyarrow.Table]]) -> None:
    """Say "ready"; then read names of Parquet files line by line, write what the model makes of each, and say "done".

    What is made of NAME goes into NAME.out. Of a model that cannot be loaded a line says why in the place of "ready",
    and the script ends.
    """
    # Libraries print what they like: only answers may stand in what is read as answers.
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
            made = work(parquet.read_table(path))
            parquet.write_table(made, f"{path}.out", compression="none", use_dictionary=False)
            answers.write("done\n")
            answers.flush()


def choose_gpu() -> int | None:
    """The GPU of this process, which becomes torch's; None where there is none."""
    import torch

    if not torch.cuda.is_available():
        return None
    gpu = int(os.environ.get(LOCAL, "0")) % torch.cuda.device_count()
    torch.cuda.set_device(gpu)
    return gpu
