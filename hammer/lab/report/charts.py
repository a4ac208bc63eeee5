"""The charts of a report, as SVG fragments that the page and the stand-alone picture share."""

import math

import numpy as np

from ...drawing import style, svg
from .. import optimizers, problems, stats
from ..analysis import AXES, Estimate, Summary
from .text import hyper, number

WIDTH, HEIGHT = 360, 240
"""Of one chart, in SVG units."""

LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 34


def series(summary: Summary, optimizer: str) -> str:
    """The style class of an optimizer."""
    return f"s{summary.config.optimizers.index(optimizer) % style.SERIES}"


def _axes(xs: tuple[float, float], ys: tuple[float, float], log_x: bool, log_y: bool) -> tuple[svg.Axis, svg.Axis]:
    return svg.Axis(*xs, LEFT, WIDTH - RIGHT, log_x), svg.Axis(*ys, HEIGHT - BOTTOM, TOP, log_y)


def curves(summary: Summary, workload: str, axis: str = "steps") -> str:
    """The judged loss over steps, or another of ``AXES``: median and quartiles over seeds of each optimizer, and the target."""
    found = [(name, summary.cells[workload, name]) for name in summary.config.optimizers]
    drawn = [(name, cell, cell.curve) for name, cell in found if cell.curve is not None and axis in cell.curve.spent]
    if not drawn:
        lacking = "no scoring runs yet" if axis == "steps" else "not counted or measured"
        return svg.words(WIDTH / 2, HEIGHT / 2, lacking, "label", "middle")
    target = summary.targets[workload]
    losses = np.concatenate([np.concatenate([c.median, c.low]) for _, _, c in drawn])
    finite = losses[np.isfinite(losses)]
    log = bool(finite.size) and bool(finite.min() > 0)
    # A curve that first climbs far above where all started would flatten the others: the axis ends at three times that.
    top = 3.0 * max((c.median[0] for _, _, c in drawn if np.isfinite(c.median[0])), default=math.inf)
    shown = [*finite[finite <= top], *([target[0]] if target else [])]
    most = max(float(curve.spent[axis][-1]) for _, _, curve in drawn)
    x, y = _axes((0.0, most or 1.0), svg.span(shown, log), False, log)
    parts = [svg.frame(x, y, AXES[axis])]
    if target:
        level = y.at(target[0])
        parts.append(svg.line((x.start, x.end), (level, level), "goal", f"target {number(target[0])}"))
    for name, _, curve in drawn:
        rows = svg.every(curve.step, 120)
        across = [x.at(s) for s in curve.spent[axis][rows]]
        parts.append(
            svg.band(
                across,
                [y.at(v) for v in curve.low[rows]],
                [y.at(v) for v in curve.high[rows]],
                f"band {series(summary, name)}",
            )
        )
    for name, _, curve in drawn:
        rows = svg.every(curve.step, 120)
        title = f"{optimizers.get(name).title}: median {number(curve.median[-1])} at the end"
        parts.append(
            svg.line(
                [x.at(s) for s in curve.spent[axis][rows]],
                [y.at(v) for v in curve.median[rows]],
                f"curve {series(summary, name)}",
                title,
            )
        )
    for name, cell, curve in drawn:
        if target and cell.steps is not None and math.isfinite(cell.steps.value):
            title = f"{optimizers.get(name).title}: target after {number(cell.steps.value)} steps (median), {cell.hits} of {cell.runs} seeds"
            there = float(np.interp(cell.steps.value, curve.step, curve.spent[axis]))
            parts.append(svg.dot(x.at(there), y.at(target[0]), 4, f"mark {series(summary, name)}", title))
    return "".join(parts)


def tuning(summary: Summary, workload: str) -> str:
    """The median final loss on the tuning seeds over the first searched hyper-parameter; the chosen one is larger."""
    points = {}
    for name in summary.config.optimizers:
        settings = [s for s in summary.cells[workload, name].tuning if s.hyper]
        points[name] = sorted(settings, key=lambda s: next(iter(s.hyper.values())))
    xs = [next(iter(s.hyper.values())) for settings in points.values() for s in settings]
    losses = [s.loss for settings in points.values() for s in settings if math.isfinite(s.loss)]
    if not losses:
        return svg.words(WIDTH / 2, HEIGHT / 2, "no tuning runs finished", "label", "middle")
    log = min(losses) > 0
    usual = float(np.quantile(losses, 0.5))
    shown = [loss for loss in losses if not log or loss <= 100 * usual]
    x, y = _axes(svg.span(xs, True), svg.span(shown, log), True, log)
    parts = [svg.frame(x, y, "learning rate")]
    for name, settings in points.items():
        if settings:
            across = [x.at(next(iter(s.hyper.values()))) for s in settings]
            parts.append(
                svg.line(
                    across,
                    [y.at(s.loss) for s in settings],
                    f"curve {series(summary, name)}",
                    optimizers.get(name).title,
                )
            )
    for name, settings in points.items():
        chosen = summary.cells[workload, name].hyper
        for s in settings:
            failed = f", {s.failed} failed" if s.failed else ""
            title = f"{optimizers.get(name).title}, {hyper(s.hyper)}: loss {number(s.loss)}{failed}"
            radius = 5.5 if s.hyper == chosen else 2.6
            parts.append(
                svg.dot(
                    x.at(next(iter(s.hyper.values()))), y.at(s.loss), radius, f"mark {series(summary, name)}", title
                )
            )
    return "".join(parts)


def profile(summary: Summary) -> str:
    """Performance profiles: the share of workloads within a factor of the best, with bands; dotted, where the score ends."""
    found = summary.profiles
    if found is None:
        return svg.words(WIDTH / 2, HEIGHT / 2, "no workload is complete yet", "label", "middle")
    x, y = _axes((float(found.taus[0]), float(found.taus[-1])), (0.0, 1.0), True, False)
    across = [x.at(tau) for tau in found.taus]
    parts = [
        svg.frame(x, y, "τ: times the best optimizer's steps"),
        svg.line((x.at(stats.TAU_MAX),) * 2, (y.start, y.end), "goal"),
    ]
    names = list(enumerate(summary.config.optimizers))
    for i, name in names:
        low, high = ([y.at(v) for v in side[i]] for side in (found.low, found.high))
        parts.append(svg.band(across, low, high, f"band {series(summary, name)}"))
    for i, name in names:
        title = f"{optimizers.get(name).title}: score {found.scores[i].value:.2f}"
        parts.append(svg.line(across, [y.at(v) for v in found.share[i]], f"curve {series(summary, name)}", title))
    return "".join(parts)


def budget(summary: Summary) -> str:
    """The expected speed of the best of k settings, over k."""
    count = summary.config.trials
    top = max(1.0, *(float(curve.max()) for curve in summary.budget.values()))
    x, y = _axes((1.0, float(count)), (0.0, top), False, False)
    parts = [svg.frame(x, y, "k, settings tried", min(count - 1, 5))]
    for name, curve in summary.budget.items():
        at = [(x.at(k + 1), y.at(float(v))) for k, v in enumerate(curve)]
        title = f"{optimizers.get(name).title}: {curve[0]:.2f} for one setting, {curve[-1]:.2f} for {count}"
        parts.append(svg.line([a for a, _ in at], [b for _, b in at], f"curve {series(summary, name)}", title))
        parts += [svg.dot(a, b, 2.6, f"mark {series(summary, name)}", title) for a, b in at]
    return "".join(parts)


def chart(content: str, label: str) -> str:
    """A chart as an element of the page."""
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{content}</svg>'


def interval(e: Estimate, css: str, high: float) -> str:
    """A dot with its interval on a scale from 0 to ``high``, to stand in a line of a table."""
    x = svg.Axis(0.0, high, 6, 164)
    ends = svg.line((x.at(e.low), x.at(e.high)), (9, 9), f"bar {css}")
    scale = svg.line((x.start, x.end), (9, 9), "grid")
    return f'<svg class="interval" viewBox="0 0 170 18" aria-hidden="true">{scale}{ends}{svg.dot(x.at(e.value), 9, 5, f"mark {css}")}</svg>'


def picture(summary: Summary) -> str:
    """All loss curves in one stand-alone SVG file, for a README."""
    workloads, names = summary.config.workloads, summary.config.optimizers
    columns = min(3, len(workloads))
    rows = math.ceil(len(workloads) / columns)
    gap, head = 22, 62
    width, height = columns * (WIDTH + gap) + gap, head + rows * (HEIGHT + 30) + 8
    parts = [f'<rect width="{width}" height="{height}" rx="10" style="fill:var(--page)"/>']
    at = float(gap)
    for name in names:
        title = optimizers.get(name).title
        parts.append(svg.line((at, at + 30), (28, 28), f"curve {series(summary, name)}"))
        parts.append(svg.words(at + 38, 32, title, "key"))
        at += 62 + 7.5 * len(title)
    note = f"held-out loss or f(x): median and quartiles over {summary.config.seeds} seeds; dotted: target"
    parts.append(svg.words(gap, 52, note, "label"))
    for i, workload in enumerate(workloads):
        left, top = gap + (i % columns) * (WIDTH + gap), head + (i // columns) * (HEIGHT + 30)
        title = svg.words(LEFT, 18, problems.get(workload).title, "name")
        parts.append(
            f'<g transform="translate({left},{top})">{title}<g transform="translate(0,22)">{curves(summary, workload)}</g></g>'
        )
    css = style.VARIABLES + style.CHART
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="Loss curves"><style>{css}</style>{"".join(parts)}</svg>\n'
