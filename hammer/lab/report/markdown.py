"""The report in Markdown: the verdict and the tables, for a terminal or a repository."""

from typing import Any

from .. import optimizers, problems
from ..analysis import Summary
from . import text


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is aligned left, the others right."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, marks, *rows))


def ranking_rows(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the ranking table, as text."""
    head = ["Optimizer", "Speed score", "Mean rank", "Behind the leader", "Targets hit", "Failed"]
    rows = [
        [
            optimizers.get(row.optimizer).title,
            text.estimate(row.speed, "score"),
            text.estimate(row.rank, "score"),
            "–" if row.lead is None else text.estimate(row.lead, "score"),
            f"{row.hits}/{row.runs}",
            str(row.failed),
        ]
        for row in summary.ranking
    ]
    return head, rows


def target_rows(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the time-to-target table, as text."""
    head = ["Workload", "Optimizer", "Setting", "Steps to target", "Seconds to target", "Hit", "Final loss"]
    rows = []
    for (workload, name), cell in summary.cells.items():
        rows.append(
            [
                problems.get(workload).title,
                optimizers.get(name).title,
                text.hyper(cell.hyper),
                text.estimate(cell.steps),
                text.estimate(cell.seconds, "seconds"),
                f"{cell.hits}/{cell.runs}",
                text.estimate(cell.final),
            ]
        )
    return head, rows


def document(summary: Summary, environment: dict[str, Any], command: str) -> str:
    """The text of ``summary.md``."""
    config = summary.config
    parts = [f"# {config.name}", f"**{summary.verdict}**"]
    if summary.ranking:
        parts.append(table(*ranking_rows(summary)))
        parts.append(
            "Speed score: interquartile mean over all scoring runs; 1 is the median of the workload's fastest optimizer, 0 a missed target. "
            f"Intervals: {config.confidence:.0%} stratified bootstrap over {config.seeds} seeds; differences are corrected for several comparisons."
        )
    if summary.control is not None:
        said = "no difference found" if summary.control.passed else "a difference found where there is none"
        title = optimizers.get(summary.control.optimizer).title
        parts.append(
            f"A/A control, {title} against itself on other seeds: {text.estimate(summary.control.difference, 'score')}, {said}."
        )
    parts += ["![Loss curves](report.svg)", "## Time to target", table(*target_rows(summary))]
    failed = [
        f"{t.record['spec']['problem']} with {t.record['spec']['optimizer']}: {t.record['error']}"
        for t in summary.failures
        if t.status == "error"
    ]
    diverged = sum(t.status == "diverged" for t in summary.failures)
    parts.append(f"Trials: {summary.done} of {summary.total}; {diverged} diverged, {len(failed)} raised an error.")
    parts += [f"- {line}" for line in failed]
    libraries = ", ".join(f"{name} {v}" for name, v in environment["libraries"].items() if v)
    parts.append(
        f"Made by Hammer {environment['hammer']} with {environment['python']}, {libraries}, on {environment['cpu']}. Again with:"
    )
    parts.append(f"```sh\n{command}\n```")
    parts.append(f"```yaml\n{config.to_yaml()}```")
    return "\n\n".join(parts) + "\n"
