"""About two minutes of the torture program, with a fixed seed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent


def test_no_disturbance_loses_or_changes_a_byte(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "torture", "--seed=7", "--rounds=5", "--minutes=60"]
    done = subprocess.run(
        [*program, f"--json={tmp_path / 'result.json'}", f"--folder={tmp_path}"],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["faults"] == []
    assert result["cases"] == 5 * len(result["scenarios"]) >= 5 * 7
    for name, counts in result["scenarios"].items():
        assert sum(counts.values()) == 5, name
    # The disturbances disturb: commands were killed, and work was refused.
    assert "refused" in " ".join(result["scenarios"]["flipped bits"])
    assert list(tmp_path.iterdir()) == [tmp_path / "result.json"]
