"""What a result depends on besides its config: code, libraries, arithmetic and machine.

``describe()`` is recorded with every comparison and shown in its report. ``arithmetic()`` and ``code_version()`` are the
parts of it that can change a trial's bits, so they belong to the trial's key.
"""

import ast
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import autograd
import hammer
from autograd.atomic import write_atomically

from . import canary

LIBRARIES = ("numpy", "scipy", "optree", "scikit-learn", "mlxtend", "pillow", "threadpoolctl")
"""Libraries whose version can change a trial's bits."""

THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Environment variables that set the number of BLAS threads of a process that has not started yet."""


def version(distribution: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def find(module: str) -> bool:
    """Whether a module is installed, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False


def missing_libraries() -> list[str]:
    """Libraries of the ``lab`` extra that are not installed. They are only looked for: importing them takes seconds."""
    modules = ("rich", "ruamel.yaml", "sklearn", "mlxtend", "threadpoolctl")
    return [name for name in modules if not find(name)]


def blas() -> list[dict[str, Any]]:
    """The BLAS libraries loaded in this process (NumPy's and SciPy's): name, version, kernel and threads."""
    import scipy.linalg  # noqa: F401  (loads SciPy's BLAS, so that the answer does not depend on who imported it)
    from threadpoolctl import threadpool_info

    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    columns = {"name": "internal_api", "version": "version", "kernel": "architecture", "threads": "num_threads"}
    return sorted(({new: pool.get(old) for new, old in columns.items()} for pool in found), key=str)


def simd() -> list[str]:
    """The instruction sets that NumPy found and uses."""
    found: Any = np.show_config(mode="dicts")  # type: ignore[call-overload]
    return sorted(found["SIMD Extensions"].get("found", []))  # the entry is left out where there is nothing to say


def python() -> str:
    """The interpreter's name and version."""
    return f"{platform.python_implementation()} {platform.python_version()}"


@cache
def arithmetic() -> dict[str, Any]:
    """Versions and instruction sets that decide the last bits of a result."""
    kernels = [[pool["name"], pool["version"], pool["kernel"]] for pool in blas()]
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "blas": kernels,
        "simd": simd(),
        "canary": canary.digest(),
    }


@cache
def code_version(problem: str, own: tuple[Path, ...] = ()) -> str:
    """A hash of the code that a trial of ``problem`` runs, with a user's ``own`` files. Comments and layout do not count."""
    lab = Path(__file__).parent
    engine = Path(autograd.__file__).parent
    files = [file for file in sorted(engine.rglob("*.py")) if engine / "testing" not in file.parents]
    home = Path(hammer.__file__).parent
    files += [home / "dog.py", *sorted((home / "vortex").glob("*.py"))]
    files += [lab / f"{name}.py" for name in ("counting", "datasets", "optimizers", "problem", "seeds", "trial")]
    built_in = lab / "problems" / f"{problem}.py"
    digest = hashlib.sha256(_code(built_in) if built_in.exists() else b"")
    for file in [*files, *own]:
        digest.update(_code(file))
    return digest.hexdigest()


_hashes: dict[str, str] = {}


@cache
def _code(file: Path) -> bytes:
    content = file.read_bytes()
    name = hashlib.sha256(platform.python_version().encode() + content).hexdigest()
    if name not in _hashes:
        _hashes[name] = hashlib.sha256(ast.dump(ast.parse(content)).encode()).hexdigest()
    return bytes.fromhex(_hashes[name])


@contextlib.contextmanager
def code_hashes(path: Path) -> Iterator[None]:
    """Inside, the hashes of code are looked up in a file and those that are missing are added to it: parsing all of
    Hammer takes more than a second. They are found by the bytes of the source, so that none can be out of date."""
    before: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):  # not there, or damaged: made again
        before = {
            name: bytes.fromhex(code).hex() for name, code in json.loads(path.read_text(encoding="utf-8")).items()
        }
    _hashes.update(before)
    yield
    if path.parent.is_dir() and _hashes.keys() - before.keys():
        with contextlib.suppress(OSError):  # a store that cannot be written to: it is only slower
            write_atomically(path, json.dumps(_hashes) + "\n")


def describe() -> dict[str, Any]:
    """Everything about this process and machine that a reader of a result may want to know."""
    return {
        "hammer": hammer.__version__,
        "python": python(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "blas": blas(),
        "simd": simd(),
        "canary": canary.digest(),
        "git": git_state(),
        "diff": git_diff_hash(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def cpu_model() -> str:
    """The processor's name, or its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def usable_cores() -> int:
    """The number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def git_state() -> str | None:
    """The commit of the source tree that Hammer runs from, marked if files differ from it; None outside a git checkout."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", "autograd", "hammer")
    if commit is None or changes is None:
        return None
    return commit.decode().strip()[:12] + (" with uncommitted changes" if changes.strip() else "")


def git_diff() -> bytes:
    """What tracked source files differ in from the commit, as a patch; empty where nothing does, or outside a checkout."""
    return _git("diff", "--no-ext-diff", "--no-color", "--binary", "HEAD", "--", "autograd", "hammer") or b""


def git_diff_hash() -> str | None:
    """The first 16 hexadecimal digits of the SHA-256 of ``git_diff()``; None where it is empty."""
    diff = git_diff()
    return hashlib.sha256(diff).hexdigest()[:16] if diff else None


def _git(*command: str) -> bytes | None:
    """The output of a git command in the source tree that Hammer runs from; None if it fails or that is no checkout."""
    tree = Path(hammer.__file__).parents[1]
    if shutil.which("git") is None or not (tree / ".git").exists():
        return None
    done = subprocess.run(["git", "-C", str(tree), *command], capture_output=True, timeout=10, check=False)
    return None if done.returncode else done.stdout
