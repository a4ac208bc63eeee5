"""Seconds that ``import autograd`` takes, and modules that importing our packages must not load.

What is measured: wall seconds of a fresh interpreter that imports a package, minus those of one that imports nothing;
medians over interleaved rounds (each round starts one interpreter for each column). ``numpy`` stands beside ours because
ours includes it. Peers are given where they are installed. Then ``import autograd, hammer`` runs in a fresh interpreter,
and the modules it has loaded are compared with those that only an extra or a peer brings.

Run it as ``python benchmarks/import_time.py``; the first round, which compiles bytecode, is not counted.

The last line is JSON: ``import_autograd_s``, and ``forbidden_modules``, which should be empty.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import common
import workers

FORBIDDEN = (
    "cupy", "cupyx", "mpi4py", "gudhi", "matplotlib", "plotly", "seaborn", "torch", "jax", "jaxlib", "mygrad", "tensorflow",
    "sklearn", "mlxtend", "pandas", "numba", "hypothesis", "pytest", "rich", "ruamel", "onnx", "safetensors", "codecarbon",
)  # fmt: skip
"""Packages of extras, of peers and for tests: imported when a function needs them, never with the package itself."""

CANDIDATES = {
    "nothing": "pass", "numpy": "import numpy", "autograd": "import autograd", "autograd, hammer": "import autograd, hammer",
    "mygrad": "import mygrad", "jax": "import jax", "torch": "import torch",
}  # fmt: skip


def _environment() -> dict[str, str]:
    """Our package first on the path; and compiled bytecode is kept, as it is where a package is installed."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(workers.ROOT)}


def _run(program: str) -> tuple[float, str]:
    """Wall seconds of a fresh interpreter, and what it printed."""
    environment = _environment()
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=workers.ROOT,
    )
    return time.perf_counter() - start, done.stdout


def forbidden(program: str = "import autograd, hammer") -> list[str]:
    """Forbidden packages that a program loads."""
    _, printed = _run(
        program + "; import json, sys; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    return sorted(set(json.loads(printed)) & set(FORBIDDEN))


def slowest(count: int = 12) -> list[tuple[str, float]]:
    """The modules whose own code takes longest in ``import autograd``, with milliseconds (from ``python -X importtime``)."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", "import autograd"], env=_environment(), stderr=subprocess.PIPE, text=True, check=True)  # fmt: skip
    parts = [
        line.removeprefix("import time:").split("|")
        for line in done.stderr.splitlines()
        if line.startswith("import time:") and "[us]" not in line
    ]
    return sorted(((name.strip(), int(own) / 1000) for own, _, name in parts), key=lambda m: -m[1])[:count]


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__)
    p.add_argument("--rounds", type=int, help="rounds (default: 15, with --quick 5)")
    options = p.parse_args(argv)
    chosen = options.libraries.split(",")
    programs = {
        name: code
        for name, code in CANDIDATES.items()
        if name not in workers.LIBRARIES or (name in chosen and importlib.util.find_spec(name) is not None)
    }
    left_out = {name: "not installed, or not asked for" for name in CANDIDATES if name not in programs}
    lines = common.describe({}, left_out, options.threads)
    lines.insert(1, f"Python {sys.version.split()[0]}.")
    print("\n".join(lines), flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    deadline = time.monotonic() + (35 if options.quick else 600)
    for r in range(1 + (options.rounds or (5 if options.quick else 15))):
        if r > 3 and time.monotonic() > deadline:
            break
        for name, code in programs.items():
            took, _ = _run(code)
            if r:
                seconds[name].append(took)
    beyond = {
        name: statistics.median(a - b for a, b in zip(s, seconds["nothing"], strict=True))
        for name, s in seconds.items()
        if name != "nothing"
    }
    found = forbidden()
    figures: dict[str, Any] = {
        "import_autograd_s": round(beyond["autograd"], 4),
        "import_autograd_hammer_s": round(beyond["autograd, hammer"], 4),
    }
    figures |= {"import_numpy_s": round(beyond["numpy"], 4), "forbidden_modules": found}
    body = [
        "",
        *common.table(["import", "seconds beyond a bare interpreter"], [[name, s] for name, s in beyond.items()]),
        "",
    ]
    body += [
        f"Loaded by `import autograd, hammer` that should not be: {', '.join(found) or 'nothing'}.",
        "",
        "Slowest modules of `import autograd` (own time):",
        "",
    ]
    body += common.table(["module", "milliseconds"], [list(m) for m in slowest()])
    print("\n".join(body))
    common.finish(options, "import_time", lines + body, figures, {"seconds": seconds})


if __name__ == "__main__":
    main()
