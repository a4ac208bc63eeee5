"""SciPy and scikit-learn functions that take any array-API input are differentiable: see ``array_api_consumers``."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import autograd

PROGRAM = Path(__file__).with_name("array_api_consumers.py")
HERE = str(Path(autograd.__file__).parents[1])


@pytest.mark.parametrize("library", ["scipy", "sklearn"])
def test_functions_of_others_are_differentiable(library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    command, environment = [sys.executable, PROGRAM, library], {**os.environ, "PYTHONPATH": HERE}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}
