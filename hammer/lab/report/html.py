"""The page of a comparison's report."""

import math
import shlex
from html import escape
from pathlib import Path
from typing import Any

from ...drawing import style
from .. import optimizers, problems, protocol
from ..analysis import AXES, Cell, Estimate, Summary
from ..seeds import phase_of
from . import charts, evidence, tables, text
from .page import document, interval, sort, table


def page(summary: Summary, environment: dict[str, Any], command: str) -> str:
    """The page's text."""
    config = summary.config
    title = f"Hammer: {config.name}"
    optimizers_, workloads = len(config.optimizers), len(config.workloads)
    what = f"{text.count(optimizers_, 'optimizer')} on {text.count(workloads, 'workload')} · {text.plan(config)} each · {summary.done:,} of {summary.total:,} trials"
    body = [
        f'<header><p class="kind">Optimizer comparison · Hammer {escape(environment["hammer"])}</p><h1>{escape(config.name)}</h1>',
        f'<p class="verdict">{escape(summary.verdict)}</p><p class="soft">{escape(what)}</p></header>',
        _ranking(summary),
        evidence.pairs(summary),
        evidence.profile(summary, _legend(summary)),
        _curves(summary),
        _targets(summary),
        _costs(summary),
        _tuning(summary),
        _failures(summary),
        _rules(summary),
        _again(summary, environment, command),
    ]
    return document(title, [part for part in body if part], style.CHART + style.HIDING)


_BEHIND = {"better": "slower", "worse": "faster", "equal": "practically equal", "undecided": "not told apart"}


def _name(summary: Summary, optimizer: str) -> str:
    colour = f"var(--{charts.series(summary, optimizer)})"
    return f'<span class="dotted" style="background:{colour}"></span>{escape(optimizers.get(optimizer).title)}'


def _of(summary: Summary, workload: str, optimizer: str) -> str:
    """The first two cells of a line: workload and optimizer; on a phone they are one, so that figures are in sight."""
    title = escape(problems.get(workload).title)
    return (
        f'<td class="left wrap roomy">{title}</td>'
        f'<td class="left name">{_name(summary, optimizer)}<small class="narrow">{title}</small></td>'
    )


def _ranking(summary: Summary) -> str:
    if not summary.ranking:
        return ""
    config = summary.config
    most = max(1.0, *(row.speed.high for row in summary.ranking))
    rows = []
    for row in summary.ranking:
        lead = "leader"
        if row.lead is not None:
            lead = f"{text.estimate(row.lead.difference, 'score')}<small>{_BEHIND[row.lead.verdict.word]}</small>"
        failed = f'<span class="bad">{row.failed}</span>' if row.failed else "0"
        rows.append(
            f'<tr><td class="left name">{_name(summary, row.optimizer)}</td>'
            f"<td {sort(row.speed.value)}>{text.estimate(row.speed, 'score')}</td>"
            f'<td class="left roomy" {sort(row.speed.value)}>{charts.interval(row.speed, charts.series(summary, row.optimizer), most)}</td>'
            f"<td {sort(row.rank.value)}>{text.estimate(row.rank, 'score')}</td>"
            f"<td {sort(row.lead.difference.value if row.lead else 0.0)}>{lead}</td>"
            f"<td {sort(row.hits / row.runs)}>{row.hits}/{row.runs}</td><td {sort(row.failed)}>{failed}</td></tr>"
        )
    head = [
        ("Optimizer", True),
        ("Speed score", False),
        ("Interval", True),
        ("Mean rank", False),
        ("Behind the leader", False),
        ("Targets hit", False),
        ("Failed", False),
    ]
    left_out = [problems.get(w).title for w in config.workloads if w not in summary.ranked_workloads]
    notes = [
        "The speed score is the interquartile mean, over all scoring runs, of how fast the target was reached: 1 is the median of the "
        "fastest optimizer of the workload, 0 a missed target.",
        f"Intervals: {config.confidence:.0%} stratified bootstrap over seeds, widened for few seeds, on these workloads; those of the differences are "
        "corrected for comparing every pair.",
    ]
    if left_out:
        notes.append(f"Not ranked, because scoring runs are missing: {', '.join(left_out)}.")
    shown = "".join(f"<p class=soft>{note}</p>" for note in notes)
    return f"<section><h2>Ranking</h2>{table(head, rows, ['Interval'])}{evidence.controls(summary)}{shown}</section>"


def _legend(summary: Summary) -> str:
    buttons = []
    for name in summary.config.optimizers:
        css = charts.series(summary, name)
        sample = f'<svg viewBox="0 0 30 10" aria-hidden="true"><path class="curve {css}" d="M1 5L29 5"/></svg>'
        buttons.append(
            f'<button aria-pressed="true" data-series="{css[1:]}">{sample}{escape(optimizers.get(name).title)}</button>'
        )
    return f'<div class="legend">{"".join(buttons)}</div>'


def _figure(workload: str, drawn: str, caption: str) -> str:
    return f"<figure><h3>{escape(problems.get(workload).title)}</h3>{drawn}<figcaption>{caption}</figcaption></figure>"


def _curves(summary: Summary) -> str:
    spent = [cell.curve.spent for cell in summary.cells.values() if cell.curve is not None]
    axes = [axis for axis in AXES if axis == "steps" or any(axis in known for known in spent)]
    figures = []
    for workload in summary.config.workloads:
        problem, target = problems.get(workload), summary.targets[workload]
        goal = f"target {text.number(target[0])}" if target else "no target"
        drawn = "".join(
            f'<div class="by" data-by="{axis}"{"" if axis == "steps" else " hidden"}>'
            + charts.chart(charts.curves(summary, workload, axis), f"Loss over {AXES[axis]}, {escape(problem.title)}")
            + "</div>"
            for axis in axes
        )
        figures.append(_figure(workload, drawn, f"{escape(problem.loss)}; {goal}"))
    intro = "Median over scoring seeds, with the quartiles as a band; dotted, the target, and a dot where the median run reaches it."
    buttons = "".join(
        f'<button aria-pressed="{"true" if axis == "steps" else "false"}" data-by="{axis}">{AXES[axis]}</button>'
        for axis in axes
    )
    choice = f'<div class="axes" role="group" aria-label="Loss over">{buttons}</div>' if len(axes) > 1 else ""
    return f'<section><h2>Loss curves</h2><p class="soft">{intro}</p>{_legend(summary)}{choice}<div class="charts">{"".join(figures)}</div></section>'


def _targets(summary: Summary) -> str:
    rows = []
    for workload in summary.config.workloads:
        cells = {name: summary.cells[workload, name] for name in summary.config.optimizers}
        best = {
            kind: min((c.to_target[kind].value for c in cells.values() if kind in c.to_target), default=math.nan)
            for kind in summary.to_target
        }
        finals = [cell.final.value for cell in cells.values() if cell.final is not None]
        best["final"] = min(finals, default=math.nan)
        for i, (name, cell) in enumerate(cells.items()):
            rows.append(_target_row(summary, workload, name, cell, best, first=i == 0))
    head = [
        ("Workload", True),
        ("Optimizer", True),
        ("Hit", False),
        *((label[0].upper() + label[1:], False) for label in summary.to_target.values()),
        ("Final loss", False),
        ("Final metric", False),
    ]
    targets = []
    for workload in summary.config.workloads:
        target = summary.targets[workload]
        said = f"{text.number(target[0])}: {target[1]}" if target else "none: no baseline finished"
        targets.append(f"<dt>{escape(problems.get(workload).title)}</dt><dd>{escape(said)}</dd>")
    return (
        f'<section><h2>Time to target</h2><p class="soft">{escape(tables.targets_note(summary))}</p>{table(head, rows, ["Workload"])}'
        f'<details><summary class="soft">How the targets were set</summary><dl>{"".join(targets)}</dl></details></section>'
    )


def _target_row(summary: Summary, workload: str, name: str, cell: Cell, best: dict[str, float], first: bool) -> str:
    def number(kind: str, e: Estimate | None, show: str = "number") -> str:
        value = math.inf if e is None else e.value
        css = " class=best" if math.isfinite(value) and value == best[kind] else ""
        return f"<td{css} {sort(value)}>{interval(text.estimate(e, show))}</td>"

    problem = problems.get(workload)
    spent = "".join(
        number(cost, cell.to_target.get(cost), tables.SHOWN_AS.get(cost, "number")) for cost in summary.to_target
    )
    return (
        f"<tr{' class=group' if first else ''}>{_of(summary, workload, name)}"
        f"<td {sort(cell.hits / max(cell.runs, 1))}>{cell.hits}/{cell.runs}</td>{spent}"
        f"{number('final', cell.final)}<td {sort(cell.metric)}>{text.number(cell.metric)}<small>{escape(problem.metric)}</small></td></tr>"
    )


def _costs(summary: Summary) -> str:
    head, said = tables.costs(summary)
    rows = []
    for i, ((workload, name), cell) in enumerate(summary.cells.items()):
        known = (cell.costs.get(cost) for cost in ("cpu_seconds", "flops", "bytes_moved", "state_bytes", "peak_bytes"))
        numbers = "".join(
            f"<td {sort(math.inf if e is None else e.value)}>{interval(shown)}</td>"
            for e, shown in zip(known, said[i][2:], strict=True)
        )
        first = "" if i % len(summary.config.optimizers) else " class=group"
        rows.append(f"<tr{first}>{_of(summary, workload, name)}{numbers}</tr>")
    columns = [(label, i < 2) for i, label in enumerate(head)]
    return f'<section><h2>What a run costs</h2><p class="soft">{escape(tables.costs_note(summary))}</p>{table(columns, rows, ["Workload"])}</section>'


def _tuning(summary: Summary) -> str:
    figures, rows, tuned = [], [], summary.config.rules == "tuned"
    for workload in summary.config.workloads:
        if tuned:
            title = f"Tuning, {escape(problems.get(workload).title)}"
            drawn = charts.chart(charts.tuning(summary, workload), title)
            figures.append(_figure(workload, drawn, "median final loss on the tuning seeds"))
        cells = "".join(_chosen(summary.cells[workload, name]) for name in summary.config.optimizers)
        rows.append(f'<tr><td class="left name">{escape(problems.get(workload).title)}</td>{cells}</tr>')
    head = [("Workload", True), *((optimizers.get(name).title, False) for name in summary.config.optimizers)]
    ranges = "".join(
        f"<dt>{escape(optimizers.get(name).title)}</dt><dd>{escape(optimizers.get(name).searched)}"
        f"{escape(_fixed(name))}</dd>"
        for name in summary.config.optimizers
    )
    frozen = summary.config.targets == "frozen"
    rule = "fewest median steps to the target, then lowest median final loss" if frozen else "lowest median final loss"
    intro = (
        f"Every optimizer had the same {summary.config.trials} points of one list, laid onto its own range. The large dot is the setting that "
        f"won on {text.count(summary.config.tuning_seeds, 'tuning seed')}: {rule}. The wider a curve is at its lowest, the less depends on the choice; so says, below, how many settings reach the target in the median of their tuning runs."
    )
    if not tuned:
        return f'<section><h2>Settings</h2><p class="soft">{escape(text.plan(summary.config))}.</p>{table(head, rows)}<dl>{ranges}</dl></section>'
    return (
        f'<section><h2>Tuning</h2><p class="soft">{intro}</p>{_legend(summary)}<div class="charts">{"".join(figures)}</div>'
        f"<h3 style='margin-top:1.4rem'>Chosen settings</h3>{table(head, rows)}<dl>{ranges}</dl>{evidence.budget(summary)}</section>"
    )


def _chosen(cell: Cell) -> str:
    """The chosen setting, and how many of those tried reach the target: how much depends on the choice."""
    reach = sum(math.isfinite(setting.steps) for setting in cell.tuning)
    tried = f"<small>{reach} of {len(cell.tuning)} reach it</small>" if len(cell.tuning) > 1 else ""
    return f"<td {sort(next(iter((cell.hyper or {}).values()), math.inf))}>{escape(text.hyper(cell.hyper))}{tried}</td>"


def _fixed(name: str) -> str:
    fixed = optimizers.get(name).fixed
    return f"; fixed: {text.settings(fixed)}" if fixed else ""


def _failures(summary: Summary) -> str:
    if not summary.failures:
        return "<section><h2>Failed trials</h2><p>None diverged, none raised an error.</p></section>"
    rows = []
    for trial in summary.failures:
        spec = trial.record["spec"]
        why = (
            f"not finite after {trial.record['diverged_at']} steps"
            if trial.status == "diverged"
            else trial.record["error"]
        )
        phase = f"{summary.phases[trial.record['key']]}, seed {phase_of(spec['index'])[1]}"
        cells = (
            problems.get(spec["problem"]).title,
            optimizers.get(spec["optimizer"]).title,
            text.hyper(spec["hyper"]),
            phase,
            trial.status,
            why,
        )
        rows.append("<tr>" + "".join(f'<td class="left">{escape(str(cell))}</td>' for cell in cells) + "</tr>")
    head = [(label, True) for label in ("Workload", "Optimizer", "Setting", "Phase", "Outcome", "Why")]
    count = {status: sum(t.status == status for t in summary.failures) for status in ("diverged", "error")}
    intro = f"{count['diverged']} diverged, {count['error']} raised an error. Each counts as infinitely slow; none is left out."
    listed = table(head, rows)
    if len(rows) > 12:
        listed = f"<details><summary>All {len(rows)} of them</summary>{listed}</details>"
    return f"<section><h2>Failed trials</h2><p>{intro}</p>{listed}</section>"


def _rules(summary: Summary) -> str:
    rows = []
    for workload in summary.config.workloads:
        p = problems.get(workload)
        steps = protocol.step_limit(summary.config, workload)
        cells = (
            p.about,
            p.data,
            str(steps),
            "–" if p.batch_size is None else str(p.batch_size),
            summary.config.dtype or p.dtype,
        )
        rows.append(
            f'<tr><td class="left name">{escape(p.title)}</td>'
            + "".join(f'<td class="left wrap">{escape(c)}</td>' for c in cells[:2])
            + "".join(f"<td>{escape(c)}</td>" for c in cells[2:])
            + "</tr>"
        )
    head = [
        ("Workload", True),
        ("Model", True),
        ("Data", True),
        ("Step limit", False),
        ("Batch", False),
        ("dtype", False),
    ]
    return f"<section><h2>Workloads</h2>{table(head, rows)}</section>"


def _again(summary: Summary, environment: dict[str, Any], command: str) -> str:
    config = summary.config
    libraries = ", ".join(f"{name} {v}" for name, v in environment["libraries"].items() if v)
    blas = (
        "; ".join(f"{b['name']} {b['version']} ({b['kernel']})" for b in environment["blas"])
        + "; one thread in each trial"
    )
    spent = f"{summary.trial_seconds:.0f} s of training in {summary.done:,} trials, {summary.reused:,} of them taken from the store"
    seeds = (
        f"root {config.seed}; tuning {config.tuning_seeds}, scoring {config.seeds}, drawn from disjoint streams: "
        "SeedSequence(root, spawn_key=(workload, role, index)); the same for every optimizer"
    )
    facts = {
        "Seeds": seeds, "Python": environment["python"], "Libraries": libraries, "BLAS": blas, "Processor": f"{environment['cpu']}, {environment['cores']} cores, SIMD {', '.join(environment['simd'])}",
        "Canary": f"{environment['canary']} (equal canaries promise equal bits)", "System": environment["system"], "Source": environment["git"] or "not a git checkout", "Work": spent, "Made": environment["made"],
    }  # fmt: skip
    folder = shlex.quote(str(Path(shlex.split(command)[2]).parent))
    commands = "\n".join(
        f"# {why}\n{line}"
        for line, why in (
            (command, "all of it; finished trials are taken from the store"),
            (f"hammer reproduce {folder}", "some of its trials, and whether their bits are the same"),
            (f"hammer report {folder}", "this page again from the files beside it"),
            (f"hammer export {folder}", "one archive, to reproduce it on another machine"),
        )
    )
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    return (
        f"<section><h2>Make it again</h2><pre>{escape(commands)}</pre><p class=soft>The config, with every default written out "
        f"(<code>config.yaml</code> beside this page):</p><pre>{escape(config.to_yaml())}</pre><dl>{listed}</dl>"
        "<p class=soft>Beside this page: <code>curves.npz</code> (loss of every trial at every step), <code>trials.csv</code>, "
        "<code>results.json</code>, <code>environment.json</code>, <code>canary.npz</code>, the tables as <code>ranking.csv</code>, <code>pairs.csv</code>, "
        "<code>targets.csv</code>, <code>costs.csv</code> and <code>tables.tex</code>, <code>summary.md</code>, <code>report.svg</code>.</p></section>"
    )
