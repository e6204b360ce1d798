"""The GPU benchmark on the processor, so that the script is known to run where a GPU is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHES = Path(__file__).parents[2] / "benches"
#: Stands in for the parts: the first is fine after a failed line, the second dies, the third never ends.
PARTS = """
import json, os, sys, time
for name in sys.argv[3:]:
    print(json.dumps({"begins": name}), flush=True)
    if name == "agreement":
        print(json.dumps({"label": "one", "failed": "an error"}), flush=True)
    if name == "scoring":
        os._exit(3)
    if name == "kernels":
        time.sleep(60)
    print(json.dumps({"label": "two", "value": 1}), flush=True)
"""


def test_the_quick_run_measures_every_part(tmp_path: Path) -> None:
    for package in ("triton", "transformers", "ctranslate2"):
        pytest.importorskip(package)
    command = [sys.executable, str(BENCHES / "gpu.py"), "--quick", "--scratch", str(tmp_path / "scratch")]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (file,) = (tmp_path / "out").glob("*-gpu-quick.json")
    lines = json.loads(file.read_bytes())["lines"]
    parts = {part: [line for line in lines if line["part"] == part] for part in dict.fromkeys(x["part"] for x in lines)}
    assert list(parts) == ["agreement", "scoring", "kernels", "training", "resume", "batches"]
    assert all(line["spearman_nll"] > 0.999 for line in parts["agreement"])
    assert {line["label"] for line in lines if "skipped" in line} <= {
        line["label"] for line in parts["kernels"] if "Liger" in line["label"] or "compile" in line["label"]
    }
    checked = [line for line in parts["kernels"] if "loss kernel against float64" in line["label"]]
    assert len(checked) == 2 and all(line["same_bits_twice"] for line in checked)
    assert len(parts["scoring"]) == 5 and all(line["tokens_per_second"] > 0 for line in parts["scoring"])
    assert all(line["same_bytes"] for line in parts["resume"])


def test_a_part_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.syspath_prepend(str(BENCHES))
    import gpu

    (tmp_path / "parts.py").write_text(PARTS)
    monkeypatch.setattr(gpu, "SCRIPT", tmp_path / "parts.py")
    monkeypatch.setitem(gpu.PARTS, "kernels", 1)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--quick", "--scratch", str(tmp_path), "--out", str(tmp_path / "out")])
    assert gpu.main() == 1
    (file,) = (tmp_path / "out").glob("*.json")
    lines = json.loads(file.read_bytes())["lines"]
    assert [(line["part"], line.get("failed", line.get("value"))) for line in lines] == [
        ("agreement", "an error"),
        ("agreement", 1),
        ("scoring", "the process ended with status 3"),
        ("kernels", "stopped, because it took too long"),
        *((part, 1) for part in ("training", "resume", "batches")),
    ]
    assert capsys.readouterr().out.splitlines()[-1].startswith("3 failures")


def test_without_a_gpu_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHES))
    import gpu

    monkeypatch.setattr(gpu, "gpu", lambda: None)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--scratch", str(tmp_path / "scratch"), "--out", str(tmp_path / "out")])
    assert gpu.main() == 2
    assert not list(tmp_path.iterdir())


def test_parts_without_time_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHES))
    import gpu

    (tmp_path / "parts.py").write_text(PARTS)
    monkeypatch.setattr(gpu, "SCRIPT", tmp_path / "parts.py")
    arguments = ["--quick", "--limit", "2", "--parts", "kernels,training,resume"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments, "--scratch", str(tmp_path), "--out", str(tmp_path / "out")])
    assert gpu.main() == 1
    (file,) = (tmp_path / "out").glob("*.json")
    assert [(line["part"], line["failed"]) for line in json.loads(file.read_bytes())["lines"]] == [
        ("kernels", "stopped, because it took too long"),
        *((part, "not run: the time is over") for part in ("training", "resume")),
    ]


def test_a_stopped_run_stops_its_parts(tmp_path: Path) -> None:
    code = "import json, os, time; print(json.dumps({'label': os.getpid()}), flush=True); time.sleep(60)"
    (tmp_path / "parts.py").write_text(code)
    # As the script runs, but with other parts.
    start = f"import gpu, pathlib; gpu.SCRIPT = pathlib.Path({str(tmp_path / 'parts.py')!r}); gpu.run()"
    command = [sys.executable, "-c", start, "--quick", "--scratch", str(tmp_path), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=BENCHES, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        part = json.loads(process.stdout.readline())["label"]
        process.terminate()
        assert process.stderr.read() == "interrupted\n"
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(part, 0)
