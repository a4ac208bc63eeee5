"""The tables of a comparison, as text for Markdown, LaTeX and a terminal, and as numbers for CSV."""

import csv
import io
import math
from collections.abc import Sequence

from .. import evidence, optimizers, problems
from ..analysis import PER_STEP, RUN_COSTS, Estimate, Summary
from ..evidence import Pairing
from ..protocol import COSTS
from . import text

Table = tuple[list[str], list[list[str]]]
"""Head and rows, as text."""


def ranking(summary: Summary) -> Table:
    """The ranking."""
    head = ["Optimizer", "Speed score", "Mean rank", "Profile score", "Behind the leader", "Targets hit", "Failed"]
    rows = [
        [
            optimizers.get(row.optimizer).title,
            text.estimate(row.speed, "score"),
            text.estimate(row.rank, "score"),
            text.estimate(profile_score(summary, row.optimizer), "score"),
            "–" if row.lead is None else text.estimate(row.lead.difference, "score"),
            f"{row.hits}/{row.runs}",
            str(row.failed),
        ]
        for row in summary.ranking
    ]
    return head, rows


def profile_score(summary: Summary, optimizer: str) -> Estimate | None:
    """AlgoPerf's score of an optimizer."""
    if summary.profiles is None:
        return None
    return summary.profiles.scores[summary.config.optimizers.index(optimizer)]


def pairs(summary: Summary) -> Table:
    """A verdict on every pair."""
    head = ["Pair", "Difference in speed score", "P(first is faster)", "Faster, slower, open", "Verdict"]
    rows = []
    for pair in summary.pairings:
        first, second = (optimizers.get(name).title for name in (pair.first, pair.second))
        wins = " · ".join(map(str, counts(pair, summary.config.confidence)))
        rows.append(
            [
                f"{first} – {second}",
                text.estimate(pair.difference, "score"),
                text.estimate(pair.improvement, "score"),
                wins,
                verdict(summary, pair),
            ]
        )
    return head, rows


def counts(pair: Pairing, confidence: float) -> tuple[int, int, int]:
    """On how many workloads the first one is faster, slower, or neither, by the corrected signed-rank test."""
    found = [w for w in pair.workloads if w.corrected <= 1.0 - confidence]
    faster = sum(w.difference.value > 0 for w in found)
    return faster, len(found) - faster, len(pair.workloads) - len(found)


def verdict(summary: Summary, pair: Pairing) -> str:
    """A pair's verdict in words."""
    first, second = (optimizers.get(name).title for name in (pair.first, pair.second))
    word, needed = pair.verdict.word, pair.verdict.needed
    if word == "equal":
        return f"practically equal (±{summary.config.delta:g})"
    if word == "undecided":
        return "not enough seeds" + (f": {evidence.many(needed)} needed" if needed else "")
    return f"{first} is {'faster' if word == 'better' else 'slower'} than {second}"


def pairs_by_workload(summary: Summary) -> Table:
    """Every pair on every workload."""
    head = ["Pair", "Workload", "Difference in speed", "Wilcoxon p", "Holm's p"]
    rows = [
        [
            f"{optimizers.get(pair.first).title} – {optimizers.get(pair.second).title}",
            problems.get(w.workload).title,
            text.estimate(w.difference, "score"),
            text.p_value(w.p),
            text.p_value(w.corrected),
        ]
        for pair in summary.pairings
        for w in pair.workloads
    ]
    return head, rows


SHOWN_AS = {"cpu_seconds": "seconds", "flops": "count", "joules": "joules", "joules_estimate": "joules"}
"""How ``text.estimate`` shows a cost; others as numbers."""


def targets(summary: Summary) -> Table:
    """What was spent until the target."""
    spent = {name: label[0].upper() + label[1:] for name, label in summary.to_target.items()}
    head = ["Workload", "Optimizer", "Setting", "Hit", *spent.values(), "Final loss"]
    rows = [
        [
            problems.get(workload).title,
            optimizers.get(name).title,
            text.hyper(cell.hyper),
            f"{cell.hits}/{cell.runs}",
            *(text.estimate(cell.to_target.get(cost), SHOWN_AS.get(cost, "number")) for cost in spent),
            text.estimate(cell.final),
        ]
        for (workload, name), cell in summary.cells.items()
    ]
    return head, rows


def targets_note(summary: Summary) -> str:
    """How to read the table of targets."""
    energy = (
        "Joules are those of the processor packages, which count all that runs on the machine."
        if summary.energy == "joules"
        else "Joules were not measured: no energy counter was readable. What stands in their place is an estimate from FLOPs and bytes, a lower bound."
    )
    return (
        f"Medians over {text.count(summary.config.seeds, 'scoring seed')} with {summary.config.confidence:.0%} bootstrap intervals; a missed target counts as "
        f"infinite (∞), and Hit says how many runs reached it. Processor seconds are of training only, taken while other trials ran beside it: "
        f"compare them roughly. FLOPs are counted, not measured. {energy}"
    )


def costs(summary: Summary) -> Table:
    """What a step and a run cost."""
    head = [
        "Workload",
        "Optimizer",
        "Processor time of a step",
        "FLOPs of a step",
        "Bytes of a step",
        "Optimizer state",
        "Peak memory",
    ]
    rows = []
    for (workload, name), cell in summary.cells.items():
        found = cell.costs
        flops, moved, state = (found.get(cost) for cost in ("flops", "bytes_moved", "state_bytes"))
        rows.append(
            [
                problems.get(workload).title,
                optimizers.get(name).title,
                text.estimate(found.get("cpu_seconds"), "seconds"),
                "not counted" if flops is None else text.amount(flops.value),
                "not counted" if moved is None else text.amount(moved.value, "B"),
                "–" if state is None else text.amount(state.value, "B"),
                "not measured" if "peak_bytes" not in found else text.estimate(found["peak_bytes"], "bytes"),
            ]
        )
    return head, rows


def costs_note(summary: Summary) -> str:
    """How to read the table of costs."""
    peak = ", during the trial" if summary.peaks_since == {"trial"} else ""
    if "process" in summary.peaks_since:
        peak = ", since it started, with the trials it ran before, as this system does not start the count anew: it does not tell optimizers apart"
    sent = (
        "Nothing was sent by MPI: a trial is one process."
        if summary.sent_nothing
        else "What was sent by MPI was not measured: it was loaded, and code that is not built in may use it."
    )
    return (
        "Medians over the scoring runs. FLOPs and bytes are those of the model, its gradient and the optimizer, counted by the op table and averaged "
        "over a run's steps. Optimizer state: what it keeps beside parameters and gradients, in arrays. "
        f"Peak memory is all that the worker process held, Python and its libraries too{peak}. {sent}"
    )


def friedman(summary: Summary) -> str | None:
    """The Friedman test as a sentence."""
    if summary.friedman is None or len(summary.ranked_workloads) < 2:
        return None
    statistic, p = summary.friedman
    return (
        f"Friedman's test over {len(summary.ranked_workloads)} workloads, on median steps to target: χ² = {statistic:.2f}, "
        f"p = {text.p_value(p)} (orders drawn anew within each workload)."
    )


# ---- LaTeX ----

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "∞": r"$\infty$", "×": r"$\times$", "±": r"$\pm$", "χ": r"$\chi$", "²": r"$^2$", "½": r"$\frac12$", "·": r"$\cdot$",
    "–": "--", "<": "$<$", ">": "$>$", "ᵀ": r"$^\top$",
} | {digit: f"$^{{{'-0123456789'[i]}}}$" for i, digit in enumerate("⁻⁰¹²³⁴⁵⁶⁷⁸⁹") if digit != "²"}  # fmt: skip


def latex_text(words: str) -> str:
    """Text with what LaTeX would read as commands written out."""
    return "".join(_LATEX.get(c, c) for c in words)


def latex(summary: Summary) -> str:
    """All tables as LaTeX, for ``\\input``; they need the package booktabs."""
    parts = ["% Made by `hammer compare`. Needs \\usepackage{booktabs,graphicx}."]
    for label, caption, (head, rows) in (
        ("ranking", f"{summary.config.name}: ranking. {summary.verdict}", ranking(summary)),
        ("pairs", f"{summary.config.name}: every pair", pairs(summary)),
        (
            "targets",
            f"{summary.config.name}: what was spent until the target. {targets_note(summary)}",
            targets(summary),
        ),
        ("costs", f"{summary.config.name}: what a run costs. {costs_note(summary)}", costs(summary)),
    ):
        if rows:
            lines = [" & ".join(map(latex_text, row)) + r" \\" for row in (head, *rows)]
            columns = "l" + "r" * (len(head) - 1)
            parts.append(
                "\\begin{table}\n\\centering\n"
                f"\\caption{{{latex_text(caption)}}}\\label{{tab:{label}}}\n"
                f"\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
                + "\n".join([lines[0], "\\midrule", *lines[1:]])
                + "\n\\bottomrule\n\\end{tabular}}\n\\end{table}"
            )
    return "\n\n".join(parts) + "\n"


# ---- CSV ----


def _csv(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([head, *rows])
    return buffer.getvalue()


def _numbers(e: Estimate | None) -> list[float]:
    return [math.nan] * 3 if e is None else [e.value, e.low, e.high]


def _columns(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def ranking_csv(summary: Summary) -> str:
    """The ranking as numbers."""
    head = [
        "optimizer",
        *(c for n in ("speed", "rank", "profile", "behind") for c in _columns(n)),
        "hits",
        "runs",
        "failed",
    ]
    rows = [
        [
            row.optimizer,
            *_numbers(row.speed),
            *_numbers(row.rank),
            *_numbers(profile_score(summary, row.optimizer)),
            *_numbers(None if row.lead is None else row.lead.difference),
            row.hits,
            row.runs,
            row.failed,
        ]
        for row in summary.ranking
    ]
    return _csv(head, rows)


def pairs_csv(summary: Summary) -> str:
    """Every pair, over all workloads (the workload is empty) and on each, as numbers."""
    head = ["first", "second", "workload", *_columns("difference"), *_columns("improvement"), "wilcoxon_p", "holm_p", "verdict", "seeds_needed"]  # fmt: skip
    rows: list[list[object]] = []
    for p in summary.pairings:
        needed = "" if p.verdict.needed is None else p.verdict.needed
        rows.append(
            [p.first, p.second, "", *_numbers(p.difference), *_numbers(p.improvement), "", "", p.verdict.word, needed]
        )
        rows += [
            [p.first, p.second, w.workload, *_numbers(w.difference), "", "", "", w.p, w.corrected, "", ""]
            for w in p.workloads
        ]
    return _csv(head, rows)


def targets_csv(summary: Summary) -> str:
    """What was spent until the target, as numbers; NaN: it was not measured or counted."""
    head = ["workload", "optimizer", "hyper", *(c for n in (*COSTS, "final_loss") for c in _columns(n)), "hits", "runs", "failed"]  # fmt: skip
    rows = [
        [
            workload,
            name,
            ";".join(f"{k}={v!r}" for k, v in (cell.hyper or {}).items()),
            *(x for cost in COSTS for x in _numbers(cell.to_target.get(cost))),
            *_numbers(cell.final),
            cell.hits,
            cell.runs,
            cell.failed,
        ]
        for (workload, name), cell in summary.cells.items()
    ]
    return _csv(head, rows)


def costs_csv(summary: Summary) -> str:
    """What a step and a run cost, as numbers: seconds, FLOPs and bytes moved of a step; optimizer state, peak memory and bytes sent by MPI
    of a run."""
    of = {name: f"{name}_per_step" if name in PER_STEP else name for name in RUN_COSTS}
    head = ["workload", "optimizer", *(c for name in of.values() for c in _columns(name))]
    rows = [
        [workload, name, *(x for cost in of for x in _numbers(cell.costs.get(cost)))]
        for (workload, name), cell in summary.cells.items()
    ]
    return _csv(head, rows)
