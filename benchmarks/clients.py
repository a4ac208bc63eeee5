"""Libraries written for HIPS autograd, run unchanged on HIPS autograd and on ours: are the fitted parameters the same?

Two virtual environments hold lifelines and pymanopt at the same versions, with the same versions of everything else they
need; in one ``autograd`` is HIPS's, in the other it is this working tree (installed editable). In each, one process for
each library fits real models: lifelines the Weibull and the log-normal accelerated failure time models on its Rossi
recidivism data, pymanopt the leading eigenvector of a matrix on the sphere and a leading eigenspace on the Stiefel
manifold. A third process runs the programs of ``hips_programs.py``, written with HIPS autograd's own names. What is compared
is every number that was fitted: the largest relative difference, element by element.

    python benchmarks/clients.py --make-envs [FOLDER]   # once: from a clean machine, a few minutes
    python benchmarks/clients.py [--quick] [--envs FOLDER]

``--quick`` leaves out the second model of each library and, unless --out is given, the report. The environments are in
``benchmarks/.venv-clients`` unless another folder is given. The last line is JSON: for each client the relative difference of
the fitted parameters; exit code 1 if one is above 1e-6.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

import common

FOLDER = Path(__file__).resolve().parent / ".venv-clients"
ROOT = Path(__file__).resolve().parent.parent
CLIENTS = ("lifelines==0.30.0", "pymanopt==2.2.1")
HIPS = "autograd==1.9.1"
USERS = ("autograd-gamma", "lifelines", "pymanopt")
"""Distributions that name HIPS's ``autograd`` among their needs: installed with --no-deps where ``autograd`` is ours."""
LIMIT = 1e-6


# ---- environments ----


def _python(folder: Path, which: str) -> Path:
    return folder / which / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _pip(python: Path, *arguments: str) -> str:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {done.returncode}:\n{done.stdout}")
    return done.stdout


def make_environments(folder: Path) -> None:
    """Make both environments in a folder; what is there already is made anew."""
    for which in ("hips", "ours"):
        print(f"making {folder / which}", flush=True)
        venv.create(folder / which, with_pip=True, clear=True)
    hips, ours = _python(folder, "hips"), _python(folder, "ours")
    _pip(hips, "install", "--quiet", *CLIENTS, HIPS)
    pinned = [line for line in _pip(hips, "freeze").splitlines() if "==" in line]
    users = [line for line in pinned if line.partition("==")[0].lower().replace("_", "-") in USERS]
    needs = [line for line in pinned if line not in users and not line.startswith("autograd==")]
    _pip(ours, "install", "--quiet", *needs, "optree")
    _pip(ours, "install", "--quiet", "--no-deps", *users)
    _pip(ours, "install", "--quiet", "--no-deps", "--editable", str(ROOT))


# ---- the fits, each run inside one of the environments ----


def _lifelines(quick: bool) -> dict[str, Any]:
    from lifelines import LogNormalAFTFitter, WeibullAFTFitter
    from lifelines.datasets import load_rossi

    found = {}
    for fitter in (WeibullAFTFitter, LogNormalAFTFitter)[: 1 if quick else 2]:
        start = time.perf_counter()
        model = fitter().fit(load_rossi(), duration_col="week", event_col="arrest")
        parameters = [*model.params_.tolist(), *model.standard_errors_.tolist()]
        found[f"lifelines {fitter.__name__}"] = {"parameters": parameters, "seconds": time.perf_counter() - start}
    return found


def _pymanopt(quick: bool) -> dict[str, Any]:
    import pymanopt
    from pymanopt.manifolds import Sphere, Stiefel
    from pymanopt.optimizers import TrustRegions

    import autograd.numpy as np

    n, k = 40, 3
    places = np.arange(n)
    matrix = np.exp(-0.02 * (places[:, None] - places[None, :]) ** 2) * (1.0 + 0.01 * np.outer(places, places))
    weights = np.diag(np.arange(k, 0.0, -1.0))
    start = np.linalg.qr(np.cos(np.outer(places + 1.0, np.arange(1.0, k + 1))))[0]

    def fit(manifold: Any, cost: Any, begin: Any) -> dict[str, Any]:
        problem = pymanopt.Problem(manifold, pymanopt.function.autograd(manifold)(cost))
        clock = time.perf_counter()
        solver = TrustRegions(verbosity=0, min_gradient_norm=1e-9, max_iterations=200)
        point = solver.run(problem, initial_point=begin).point
        return {"parameters": point.ravel().tolist(), "seconds": time.perf_counter() - clock}

    found = {"pymanopt sphere": fit(Sphere(n), lambda x: -np.dot(x, np.dot(matrix, x)), start[:, 0])}
    if not quick:
        cost = lambda x: -np.trace(np.dot(np.dot(x.T, np.dot(matrix, x)), weights))
        found["pymanopt Stiefel"] = fit(Stiefel(n, k), cost, start)
    return found


def _programs(_quick: bool) -> dict[str, Any]:
    from hips_programs import PROGRAMS

    found = {}
    for name, program in PROGRAMS.items():
        start = time.perf_counter()
        numbers = [float(v) for v in program()]
        found[f"program {name}"] = {"parameters": numbers, "seconds": time.perf_counter() - start}
    return found


def _worker(which: str, library: str, quick: bool) -> None:
    """Run a library's fits in this process and print them as one line of JSON."""
    import numpy

    import autograd

    mine = getattr(autograd, "__distribution__", None) == "hammer-grad"
    if mine != (which == "ours"):
        raise SystemExit(f"the package 'autograd' of {sys.executable} is not the one that the environment is for")
    found = {"lifelines": _lifelines, "pymanopt": _pymanopt, "programs": _programs}[library](quick)
    about = f"Python {sys.version.split()[0]}, NumPy {numpy.__version__}"
    print(json.dumps({"fits": found, "about": about}), flush=True)


def _run(folder: Path, which: str, library: str, quick: bool) -> dict[str, Any]:
    python = _python(folder, which)
    if not python.exists():
        raise SystemExit(
            f"{python} is not there; make the environments first: python benchmarks/clients.py --make-envs"
        )
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    environment |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [str(python), __file__, "--worker", which, library] + ["--quick"] * quick
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False, timeout=600)
    if done.returncode:
        raise SystemExit(f"{library} failed on {which} (exit code {done.returncode}); its messages are above")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


# ---- the comparison ----


def difference(ours: list[float], theirs: list[float]) -> float:
    """The largest relative difference between two lists of numbers, element by element; infinite if they do not pair."""
    if len(ours) != len(theirs):
        return float("inf")
    gaps = [abs(a - b) / max(abs(b), 1e-300) if a != b else 0.0 for a, b in zip(ours, theirs, strict=True)]
    return max((float("inf") if gap != gap else gap for gap in gaps), default=0.0)


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="one model of each library, no report unless --out is given")
    p.add_argument("--envs", type=Path, default=FOLDER, help="folder of the environments (default: %(default)s)")
    p.add_argument("--make-envs", type=Path, nargs="?", const=True, help="make them first, there or in a folder")
    p.add_argument("--out", type=Path, help="folder for the report (default reports/benchmarks)")
    p.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = p.parse_args(argv)
    if options.worker:
        _worker(*options.worker, options.quick)
        return 0
    if options.make_envs is not None:
        options.envs = options.envs if options.make_envs is True else options.make_envs
        make_environments(options.envs.resolve())
    folder, rows, about = options.envs.resolve(), [], ""
    figures: dict[str, Any] = {}
    for library in ("lifelines", "pymanopt", "programs"):
        answers = {which: _run(folder, which, library, options.quick) for which in ("hips", "ours")}
        about = answers["ours"]["about"]
        theirs, ours = answers["hips"]["fits"], answers["ours"]["fits"]
        for fit, there in theirs.items():
            gap = difference(ours[fit]["parameters"], there["parameters"])
            figures[fit] = gap
            rows.append([fit, len(there["parameters"]), f"{gap:.1e}", there["seconds"], ours[fit]["seconds"]])
    header = ["fit", "numbers compared", "largest relative difference", "seconds on HIPS", "seconds on ours"]
    lines = [
        f"{', '.join(CLIENTS)}, unmodified, on {HIPS} (HIPS) and on this tree; {about}, one thread.",
        "Compared are the fitted parameters (with lifelines also their standard errors, from the Hessian), element by element.",
        "",
        *common.table(header, rows),
        "",
        f"Limit: {LIMIT:g}.",
    ]
    print("\n".join(lines))
    common.finish(options, "clients", lines, figures)
    return int(max(figures.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
