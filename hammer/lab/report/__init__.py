"""A comparison's report: ``write`` puts all files into a folder.

``html`` makes the page with the sections of ``evidence``, ``page`` what all pages have in common, ``markdown`` the summary,
``tables`` the tables in all forms, ``data`` the raw data; ``charts`` draws with the shapes and colours of ``hammer.drawing``;
``text`` prints numbers.
"""

import json
from pathlib import Path
from typing import Any

from autograd.atomic import write_atomically

from .. import canary
from ..analysis import Summary
from ..comparison import Comparison
from ..current import Shown
from ..evidence import controls_sentence
from ..store import npz
from . import charts, data, html, markdown, tables, text

__all__ = ["shown", "text", "write"]


def write(
    folder: Path,
    comparison: Comparison,
    summary: Summary,
    environment: dict[str, Any],
    command: str,
    computed: bytes | None = None,
) -> Path:
    """Write the report's files; returns the path of the page. A file of the same name is replaced.

    ``computed`` is the content of ``canary.npz``; None: what this process computes.
    """
    files: dict[str, str | bytes] = {
        "config.yaml": summary.config.to_yaml(),
        "environment.json": json.dumps(environment, indent=1, ensure_ascii=False) + "\n",
        "trials.csv": data.trials_csv(comparison, summary),
        "curves.npz": data.curves_npz(comparison),
        "results.json": data.results_json(summary),
        "canary.npz": npz(canary.results()) if computed is None else computed,
        "ranking.csv": tables.ranking_csv(summary),
        "pairs.csv": tables.pairs_csv(summary),
        "targets.csv": tables.targets_csv(summary),
        "costs.csv": tables.costs_csv(summary),
        "tables.tex": tables.latex(summary),
        "report.svg": charts.picture(summary),
        "summary.md": markdown.document(summary, environment, command),
        "index.html": html.page(summary, environment, command),
    }
    for name, content in files.items():
        write_atomically(folder / name, content)
    return folder / "index.html"


def shown(summary: Summary) -> Shown:
    """What the command prints of a report."""
    head, rows = tables.ranking(summary) if summary.ranking else ([], [])
    controls = controls_sentence(summary.config, summary.controls)
    return Shown(summary.config.name, head, rows, summary.verdict, controls, summary.done, summary.total)
