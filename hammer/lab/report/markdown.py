"""The report in Markdown: the verdict and the tables, for a terminal or a repository."""

from typing import Any

from ..analysis import Summary
from ..evidence import controls_sentence
from . import tables


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is aligned left, the others right."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, marks, *rows))


def document(summary: Summary, environment: dict[str, Any], command: str) -> str:
    """The text of ``summary.md``."""
    config = summary.config
    parts = [f"# {config.name}", f"**{summary.verdict}**"]
    if summary.ranking:
        parts.append(table(*tables.ranking(summary)))
        parts.append(
            "Speed score: interquartile mean over all scoring runs; 1 is the median of the workload's fastest optimizer, 0 a missed target. "
            "Profile score: area under the performance profile up to 4 times the best optimizer's steps. "
            f"Intervals: {config.confidence:.0%} stratified bootstrap over {config.seeds} seeds; differences are corrected for several comparisons."
        )
    parts.append(controls_sentence(config, summary.controls))
    if summary.pairings:
        parts += ["## Pairs", table(*tables.pairs(summary))]
        if said := tables.friedman(summary):
            parts.append(said)
    parts += [
        "![Loss curves](report.svg)",
        "## Time to target",
        table(*tables.targets(summary)),
        tables.targets_note(summary),
    ]
    parts += ["## What a run costs", table(*tables.costs(summary)), tables.costs_note(summary)]
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
