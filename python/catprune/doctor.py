"""Doctor: what this installation can do, and what is missing for the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil

#: Extra → the packages that it brings.
EXTRAS = {
    "torch": ("torch", "safetensors"),
    "evaluate": ("ctranslate2", "sacrebleu"),
    "report": ("plotly", "jinja2"),
}


def examine() -> list[str]:
    """One line for each thing that matters to a run."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free = shutil.disk_usage(".").free / 2**30
    lines = [
        f"catprune   {importlib.metadata.version('catprune')}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}",
        f"machine    {os.cpu_count()} processors, {memory:.1f} GiB memory, {free:.1f} GiB free in this folder",
    ]
    for extra, packages in EXTRAS.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing:
            lines.append(f"{extra:10} missing {', '.join(missing)}: pip install 'catprune[{extra}]'")
        else:
            found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
            lines.append(f"{extra:10} {found}")
    if importlib.util.find_spec("torch") is not None:
        from catprune.device import Device

        chosen = Device.choose("auto")
        lines.append(f"precision  {chosen.precision} on {chosen.name}")
    return lines
