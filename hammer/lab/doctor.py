"""``hammer doctor``: what Hammer finds on this machine, in about a second.

Each line says what was found and, where something is missing, what to do. Nothing heavy is imported unless it is there.
"""

import argparse
import importlib.metadata
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

import hammer

from . import environment
from .errors import missing

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of Intel and AMD processors (RAPL)."""


def doctor(_arguments: argparse.Namespace | None = None) -> int:
    """Print the report; returns 0, or 1 if this installation cannot run a comparison."""
    lines: list[tuple[str, Callable[[], str]]] = [
        (
            "Hammer",
            lambda: (
                f"{hammer.__version__}, {Path(hammer.__file__).parent}"
                + (f", git {g}" if (g := environment.git_state()) else "")
            ),
        ),
        ("Python", environment.python),
        ("Processor", lambda: f"{environment.cpu_model()}, {environment.usable_cores()} usable cores"),
        ("NumPy", lambda: f"{np.__version__}, SIMD {', '.join(environment.simd())}"),
        ("BLAS", blas),
        ("GPU", gpu),
        ("MPI", mpi),
        ("Energy", energy),
        *((f"[{extra}]", lambda found=found: found) for extra, found in extras().items()),  # type: ignore[misc]
    ]
    for label, find in lines:
        print(f"{label:<11}{find()}")
    lacking = environment.missing_libraries()
    if lacking:
        print(f"\n{missing(lacking)}")
    return 1 if lacking else 0


def blas() -> str:
    """The BLAS libraries with kernel and threads, and the environment variables that set them."""
    if not environment.find("threadpoolctl"):
        return 'unknown without threadpoolctl: pip install "hammer-grad[lab]"'
    found = [f"{b['name']} {b['version']} ({b['kernel']} kernel, {b['threads']} threads)" for b in environment.blas()]
    variables = [
        f"{name}={os.environ[name]}"
        for name in (*environment.THREAD_VARIABLES, "OPENBLAS_CORETYPE")
        if name in os.environ
    ]
    return "; ".join([*dict.fromkeys(found), *variables]) or "none found"


def gpu() -> str:
    """Whether CuPy is there and finds a GPU."""
    if not environment.find("cupy"):
        return 'CuPy not installed: pip install "hammer-grad[cuda]"'
    try:
        import cupy

        if not cupy.cuda.is_available():
            return f"CuPy {cupy.__version__}, but no usable GPU"
        names = [
            cupy.cuda.runtime.getDeviceProperties(i)["name"].decode() for i in range(cupy.cuda.runtime.getDeviceCount())
        ]
    except Exception as error:  # noqa: BLE001  (a broken driver raises what it likes; its words are the finding)
        return f"CuPy does not work: {type(error).__name__}: {_first_line(error)}"
    return f"CuPy {cupy.__version__}: {', '.join(names)}"


def mpi() -> str:
    """Whether mpi4py is there and finds an MPI library. MPI is not initialised."""
    if not environment.find("mpi4py"):
        return 'mpi4py not installed: pip install "hammer-grad[mpi]"'
    import mpi4py

    mpi4py.rc.initialize = False
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # mpi4py 4 raises RuntimeError where it finds no MPI library
        return f'mpi4py {mpi4py.__version__}, but no MPI library ({_first_line(error)}): pip install "hammer-grad[mpi]"'
    library = MPI.Get_library_version().partition(",")[0]
    return f"mpi4py {mpi4py.__version__} with {_first_line(library)}"


def energy(powercap: Path = POWERCAP) -> str:
    """Which energy counters are there, and whether they may be read."""
    counters = sorted(powercap.glob("*/energy_uj"))
    readable = [c.parent.name for c in counters if os.access(c, os.R_OK)]
    closed = [c.parent.name for c in counters if not os.access(c, os.R_OK)]
    found = [f"RAPL readable: {', '.join(readable)}"] if readable else []
    found += [f"RAPL there but not readable (needs root or a udev rule): {', '.join(closed)}"] if closed else []
    found += [f"{name} installed" for name in ("pynvml", "zeus") if environment.find(name)]
    return "; ".join(found) or "no meter found; energy is not measured here"


def extras() -> dict[str, str]:
    """The optional extras of this distribution and which of their libraries are installed."""
    try:
        requirements = importlib.metadata.requires("hammer-grad") or []
    except importlib.metadata.PackageNotFoundError:
        return {"extras": "unknown: hammer-grad is not installed, it runs from a folder"}
    by_extra: dict[str, list[str]] = {}
    for requirement in requirements:
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if extra:
            by_extra.setdefault(extra[1], []).append(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
    return {extra: _installed(names) for extra, names in by_extra.items()}


def _installed(names: list[str]) -> str:
    there = {name: environment.version(name) for name in names}
    parts = [f"{name} {version}" for name, version in there.items() if version]
    missing = [name for name, version in there.items() if not version]
    return ", ".join(parts + ([f"missing: {', '.join(missing)}"] if missing else []))


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else "no message"
