"""The report of ``hammer check autograd``: a page, a summary in Markdown, and the numbers."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from autograd.atomic import write_atomically
from autograd.testing.rows import CHECKS

from ..report.markdown import table as markdown_table
from ..report.page import document, sort, table
from ..report.text import count
from .table import RowOutcome

_CSS = "td.ok{color:var(--good)}td.no{color:var(--soft)}td.wrong{color:var(--bad);font-weight:600}"


@dataclass(frozen=True)
class Run:
    """A check of the table: its outcomes in the table's order, and how it was made."""

    outcomes: Sequence[RowOutcome]
    planned: int
    examples: int
    jobs: int
    seconds: float
    environment: dict[str, Any]
    command: str

    @property
    def failures(self) -> list[RowOutcome]:
        return [o for o in self.outcomes if o.failed]

    @property
    def complete(self) -> int:
        """How many rows went through every check that they are not exempt from."""
        return sum(o.complete for o in self.outcomes)

    @property
    def verdict(self) -> str:
        n = len(self.outcomes)
        if n < self.planned:
            start = f"Interrupted after {n} of {count(self.planned, 'row')}: "
        else:
            start = f"{count(n, 'row')}, {sum(o.calls for o in self.outcomes):,} drawn calls: "
        if self.failures:
            return start + f"{count(len(self.failures), 'row')} failed: {', '.join(o.row for o in self.failures)}."
        return start + f"no check failed; {self.complete} with every check made or excused for a stated reason."


def counts_of(check: str, outcomes: Sequence[RowOutcome]) -> list[str]:
    """On how many rows a check was made, how many times, how many rows are exempt, and how many failed it."""
    made = [o.ran[check] for o in outcomes if o.ran.get(check)]
    exempt, failed = sum(check in o.exempt for o in outcomes), sum(o.failed == check for o in outcomes)
    return [str(len(made)), f"{sum(made):,}", str(exempt), str(failed)]


def check_rows_of(run: Run) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of checks, as text."""
    head = ["Check", "Rows", "Times made", "Exempt", "Failed", "What it asserts"]
    rows = []
    for check, what in CHECKS.items():
        rows.append([check, *counts_of(check, run.outcomes), what])
    return head, rows


def write(folder: Path, run: Run) -> Path:
    """Write the report's files; returns the path of the page. A file of the same name is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [asdict(o) | {"seconds": round(o.seconds, 2)} for o in run.outcomes]
    figures = {
        "rows": len(run.outcomes), "complete": run.complete, "failed": len(run.failures), "examples": run.examples,
        "jobs": run.jobs, "seconds": round(run.seconds, 1), "environment": run.environment, "results": rows,
    }  # fmt: skip
    files = {
        "results.json": json.dumps(figures, indent=1, ensure_ascii=False) + "\n",
        "summary.md": _markdown(run),
        "index.html": _page(run),
    }
    for name, content in files.items():
        write_atomically(folder / name, content)
    return folder / "index.html"


def _made(run: Run) -> str:
    e = run.environment
    libraries = ", ".join(f"{name} {e['libraries'][name]}" for name in ("numpy", "scipy") if e["libraries"].get(name))
    return (
        f"{count(run.examples, 'drawn call')} for each row; {run.seconds:.0f} s, {count(run.jobs, 'row')} at a time, one BLAS "
        f"thread each. Hammer {e['hammer']}, {e['python']}, {libraries}, {e['cpu']}."
    )


def _exemptions(run: Run) -> list[tuple[str, str, list[str]]]:
    """(check, reason, rows), the most frequent first."""
    found: dict[tuple[str, str], list[str]] = {}
    for o in run.outcomes:
        for check, reason in o.exempt.items():
            found.setdefault((check, reason), []).append(o.row)
    return sorted(((c, r, rows) for (c, r), rows in found.items()), key=lambda x: -len(x[2]))


def _markdown(run: Run) -> str:
    parts = ["# The op table, checked", f"**{run.verdict}**", markdown_table(*check_rows_of(run)), _made(run)]
    for o in run.failures:
        parts.append(f"## {o.row}: {o.failed}\n\n```\n{o.message}\n```")
        if o.test:
            parts.append(f"```python\n{o.test}```")
    exempt = [[check, reason, ", ".join(rows)] for check, reason, rows in _exemptions(run)]
    if exempt:
        parts += ["## What rows are exempt from, and why", markdown_table(["Check", "Reason", "Rows"], exempt)]
    parts.append(f"Again with:\n\n```sh\n{run.command}\n```")
    return "\n\n".join(parts) + "\n"


def _page(run: Run) -> str:
    e = run.environment
    body = [
        f'<header><p class="kind">Property tests of derivatives · Hammer {escape(e["hammer"])}</p><h1>The op table, checked</h1>',
        f'<p class="verdict">{escape(run.verdict)}</p><p class="soft">{escape(_made(run))}</p></header>',
    ]
    for o in run.failures:
        test = f"<p>A test to paste:</p><pre>{escape(o.test)}</pre>" if o.test else ""
        body.append(
            f'<section><h2><span class="bad">{escape(o.row)}</span>: {escape(o.failed)}</h2><pre>{escape(o.message)}</pre>{test}</section>'
        )
    head, rows = check_rows_of(run)
    cells = [
        f'<tr><td class="left">{escape(r[0])}</td>'
        + "".join(f"<td>{c}</td>" for c in r[1:5])
        + f'<td class="left wrap">{escape(r[5])}</td></tr>'
        for r in rows
    ]
    body.append(f"<section><h2>Checks</h2>{table([(h, i in (0, 5)) for i, h in enumerate(head)], cells)}</section>")
    matrix = [
        f'<tr><td class="left">{escape(o.row)}</td><td>{o.calls}</td>{"".join(_cell(o, c) for c in CHECKS)}'
        f"<td {sort(o.seconds)}>{o.seconds:.1f}</td></tr>"
        for o in run.outcomes
    ]
    columns = [("Row", True), ("Calls", False), *((c, False) for c in CHECKS), ("Seconds", False)]
    body.append(
        "<section><h2>Rows × checks</h2><p class=soft>How many times each check was made; a dash where the row is exempt: the reason "
        f"shows when the pointer rests on it.</p>{table(columns, matrix)}</section>"
    )
    reasons = [
        f'<tr><td class="left">{escape(c)}</td><td class="left wrap">{escape(r)}</td><td class="left wrap">{escape(", ".join(names))}</td></tr>'
        for c, r, names in _exemptions(run)
    ]
    head_of_reasons = [("Check", True), ("Reason", True), ("Rows", True)]
    body.append(f"<section><h2>What rows are exempt from, and why</h2>{table(head_of_reasons, reasons)}</section>")
    body.append(
        f"<section><h2>Make it again</h2><pre>{escape(run.command)}</pre><p class=soft>Beside this page: <code>results.json</code>, "
        "<code>summary.md</code>.</p></section>"
    )
    return document("Hammer: the op table, checked", body, _CSS)


def _cell(o: RowOutcome, check: str) -> str:
    if o.failed == check:
        return f'<td class="wrong" {sort(-2)}>failed</td>'
    if o.ran.get(check):
        return f'<td class="ok">{o.ran[check]}</td>'
    if check in o.exempt:
        return f'<td class="no" {sort(-1)} title="{escape(o.exempt[check])}">–</td>'
    return f'<td class="wrong" {sort(0)}>0</td>'
