"""What the benchmark scripts share beside ``workers``: options, figures, tables and reports.

Figures are medians over rounds, ratios are medians of the ratios within a round (see ``workers.interleave``).
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workers import LIBRARIES, ROOT, TITLES, Worker

# ---- the command line ----


def parser(description: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """The options that every script has; ``defaults`` overrides their defaults."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--quick",
        action="store_true",
        help="end within 50 seconds; figures are rougher, and no report is written unless --out is given",
    )
    p.add_argument("--out", type=Path, help="folder for the report (default reports/benchmarks)")
    p.add_argument(
        "--threads",
        type=int,
        default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        help="threads of every library (default: %(default)s)",
    )
    p.add_argument("--libraries", default=",".join(LIBRARIES), help="which libraries to measure (default: %(default)s)")
    p.add_argument(
        "--hips-python",
        default=os.environ.get("HAMMER_HIPS_PYTHON"),
        help="interpreter of an environment with HIPS autograd (default: $HAMMER_HIPS_PYTHON, else benchmarks/.venv-hips)",
    )
    p.add_argument(
        "--make-hips",
        action="store_true",
        help="make benchmarks/.venv-hips with HIPS autograd in it, if it is not there",
    )
    p.add_argument("--worker", help=argparse.SUPPRESS)
    p.set_defaults(**defaults)
    return p


# ---- figures ----


def medians(seconds: dict[str, dict[str, list[float]]], scale: float = 1.0) -> dict[str, dict[str, float]]:
    return {
        case: {library: statistics.median(s) * scale for library, s in there.items()} for case, there in seconds.items()
    }


def ratio(there: dict[str, list[float]], a: str, b: str) -> float:
    """The median over rounds of a's time divided by b's in the same round."""
    return statistics.median(x / y for x, y in zip(there[a], there[b], strict=True))


# ---- what is printed and written ----


def machine() -> dict[str, Any]:
    """What the figures depend on and a reader cannot see."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):  # only Linux has this file
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    overrides = {k: v for k, v in os.environ.items() if k.startswith(("OPENBLAS_", "OMP_", "MKL_", "GOMP_"))}
    load_average = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": load_average,
        "overrides": overrides,
    }


def describe(running: dict[str, Worker], left_out: dict[str, str], threads: int) -> list[str]:
    """The lines that go before a table: the machine, the libraries, and what is left out."""
    about = machine()
    lines = [
        f"Machine: {about['cpu']}, {about['cores']} cores, {about['system']}, load average {about['load']} at the start; every library has {threads} thread{'s' * (threads != 1)}."
    ]
    if about["overrides"]:
        lines.append(
            "Set in the environment: "
            + ", ".join(f"{k}={v}" for k, v in about["overrides"].items())
            + " (OPENBLAS_* overrides can make NumPy slower: unset them)."
        )
    for library, worker in running.items():
        info = worker.info
        lines.append(
            f"{TITLES[library]} {info['version']}: Python {info['python']}, NumPy {info['numpy']}; {'; '.join(info['pools']) or 'thread pools not known'}."
        )
    return lines + [f"Left out: {what} ({reason})." for what, reason in left_out.items()]


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a Markdown table; numbers are rounded to three significant digits and aligned to the right."""
    cells = [
        [c if isinstance(c, str) else "–" if c is None else f"{c:,.0f}" if abs(c) >= 100 else f"{c:.3g}" for c in row]
        for row in rows
    ]
    widths = [max(len(r[i]) for r in [list(header), *cells]) for i in range(len(header))]
    line = lambda row: (
        "| "
        + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        + " |"
    )
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return [line(list(header)), rule, *map(line, cells)]


def write(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    from autograd.atomic import (
        write_atomically,  # not before: workers read this file beside another package of that name
    )

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)


def finish(
    options: argparse.Namespace,
    name: str,
    lines: Sequence[str],
    figures: dict[str, Any],
    details: dict[str, Any] | None = None,
) -> None:
    """Write the report (a full run, or --out given) and print the figures as the last line.

    ``options.command``, if it is there, is the command that makes the report again; ``options.partial``: this is no full run.
    """
    incomplete = options.quick or getattr(options, "partial", False)
    out = options.out or (None if incomplete else ROOT / "reports" / "benchmarks")
    if out is not None:
        default = f"python benchmarks/{name}.py" + (" --quick" if options.quick else "")
        command = getattr(options, "command", default)
        write(out / f"{name}.md", "\n".join([f"# {name}", "", f"Made by `{command}`.", "", *lines, ""]))
        write(
            out / f"{name}.json",
            json.dumps({"figures": figures, "command": command, "machine": machine(), **(details or {})}, indent=1)
            + "\n",
        )
        print(f"report: {out / name}.md and .json")
    print(json.dumps(figures), flush=True)
