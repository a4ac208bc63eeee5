"""A training run that is killed ends with the same bits: the benchmark's short form, with three kills."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bits() -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("ml_dtypes")
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "resume.py"), "--quick"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["kills"] == figures["bit_exact"] == 3 and figures["during_a_save"] >= 1
