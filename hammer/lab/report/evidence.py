"""The sections of the page about pairs and performance profiles, and the line about the controls."""

from html import escape

from .. import optimizers, stats
from ..analysis import Summary
from ..evidence import FEWEST_SEEDS, controls_sentence
from . import charts, tables, text
from .page import interval, sort, table

_CLASS = {"better": "good", "worse": "good", "equal": "", "undecided": "bad"}


def controls(summary: Summary) -> str:
    """Whether the controls behaved, with their figures."""
    found, config = summary.controls, summary.config
    judged = bool(found) and config.control and config.seeds >= FEWEST_SEEDS
    css = "" if not judged else "good" if all(c.passed for c in found) else "bad"
    figures = "; ".join(
        f"{escape(optimizers.get(c.optimizer).title)} {'against itself on other seeds' if c.kind == 'A/A' else 'against itself at a tenth of its learning rate'}: "
        f"difference {text.estimate(c.difference, 'score')}"
        for c in found
    )
    return f'<p class="controls"><span class="{css}">{escape(controls_sentence(config, found))}</span></p>' + (
        f"<p class=soft>{figures}.</p>" if figures else ""
    )


def pairs(summary: Summary) -> str:
    """The table of pairs with their verdicts, and each pair on each workload."""
    if not summary.pairings:
        return ""
    config = summary.config
    (head, rows), (by_head, by_rows) = tables.pairs(summary), tables.pairs_by_workload(summary)
    lines = []
    for pair, cells in zip(summary.pairings, rows, strict=True):
        values = (pair.difference.value, pair.improvement.value)
        numbers = "".join(f"<td {sort(v)}>{interval(c)}</td>" for v, c in zip(values, cells[1:3], strict=True))
        css = _CLASS[pair.verdict.word]
        lines.append(
            f'<tr><td class="left name">{escape(cells[0])}</td><td class="left wrap"><span class="{css}">{escape(cells[4])}</span></td>'
            f"{numbers}<td>{escape(cells[3])}</td></tr>"
        )
    listed = table([(head[0], True), (head[4], True), *((label, False) for label in head[1:4])], lines)
    each = [
        f'<tr><td class="left name">{escape(cells[0])}</td><td class="left">{escape(cells[1])}</td>'
        f"<td {sort(w.difference.value)}>{interval(cells[2])}</td><td {sort(w.p)}>{cells[3]}</td><td {sort(w.corrected)}>{cells[4]}</td></tr>"
        for w, cells in zip([w for p in summary.pairings for w in p.workloads], by_rows, strict=True)
    ]
    by_workload = table([(label, i < 2) for i, label in enumerate(by_head)], each)
    n = len(summary.pairings)
    notes = [
        f"Intervals: {config.confidence:.0%} bootstrap, corrected for {text.count(n, 'pair')} and widened for few seeds. Practically equal: the interval "
        f"of two one-sided tests is within ±{config.delta:g}. Needed: the seeds that would lead to a verdict with {stats.POWER:.0%} power if the difference is "
        "what it seems to be. Faster, slower, open: workloads, by Wilcoxon's signed-rank test with Holm's correction.",
        *([said] if (said := tables.friedman(summary)) else []),
    ]
    return (
        f"<section><h2>Pairs</h2>{listed}{''.join(f'<p class=soft>{escape(note)}</p>' for note in notes)}"
        f'<details><summary class="soft">Every pair on every workload</summary>{by_workload}</details></section>'
    )


def profile(summary: Summary, legend: str) -> str:
    """The performance profile."""
    if summary.profiles is None:
        return ""
    intro = (
        f"The share of workloads on which the median run needs at most τ times the steps of the workload's best optimizer, with a {summary.config.confidence:.0%} band "
        f"over seeds. The profile score is the area up to τ = {stats.TAU_MAX:g}, as in AlgoPerf: 1 is the best on every workload."
    )
    scores = [
        f'<tr><td class="left">{escape(optimizers.get(name).title)}</td><td {sort(s.value)}>{text.estimate(s, "score")}</td></tr>'
        for name, s in zip(summary.config.optimizers, summary.profiles.scores, strict=True)
    ]
    chart = charts.chart(charts.profile(summary), "Performance profile")
    return (
        f'<section><h2>Performance profile</h2><p class="soft">{intro}</p>{legend}<div class="charts"><figure>{chart}</figure>'
        f"<div>{table([('Optimizer', True), ('Profile score', False)], scores)}</div></div></section>"
    )


def budget(summary: Summary) -> str:
    """The best-of-k curve, as a figure."""
    if summary.config.trials < 2 or not summary.budget:
        return ""
    caption = (
        f"The expected speed, on the tuning seeds, of the best of k settings: exact, over all subsets of the {summary.config.trials} that were tried, "
        "averaged over workloads. A curve that still climbs at its end would gain from a larger budget."
    )
    chart = charts.chart(charts.budget(summary), "Tuning budget")
    return f"<h3 style='margin-top:1.4rem'>Tuning budget</h3><div class='charts'><figure>{chart}<figcaption>{caption}</figcaption></figure></div>"
