"""The choice of precision, and the waiting of torch's threads."""

import os
import subprocess
import sys

import pytest
import torch
from catprune.workspace import device
from catprune.workspace.device import Device

WAITS = "from catprune.workspace.device import require_torch; require_torch(); import os; print(os.environ.get('{}'))"


@pytest.mark.parametrize(
    ("user", "name", "expected"),
    [
        ({}, "OMP_WAIT_POLICY", "PASSIVE"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "OMP_WAIT_POLICY", "ACTIVE"),
        ({"GOMP_SPINCOUNT": "100"}, "OMP_WAIT_POLICY", "None"),
    ],
)
def test_threads_of_torch_sleep_while_they_wait_unless_the_user_decides_otherwise(user, name, expected):
    environment = {key: value for key, value in os.environ.items() if key not in device._WAITING}
    command = [sys.executable, "-c", WAITS.format(name)]
    done = subprocess.run(command, env=environment | user, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_narrow_models_are_trained_in_float32_on_processors(monkeypatch):
    monkeypatch.setattr(device, "processor_gains_by_bfloat16", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert [Device.choose("auto", trained_width=width).precision for width in (128, 256, None)] == [
        "float32",
        "bfloat16",
        "bfloat16",
    ]
    assert Device.choose("bfloat16", trained_width=128).precision == "bfloat16"


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_gpus_that_only_emulate_bfloat16_compute_in_float32(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert Device.choose("auto") == Device("cuda", precision)
