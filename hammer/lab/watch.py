"""``hammer watch``: a live page of the sweeps in a store.

It only reads: the files that sweeps write about themselves (``sweep``) and the trials they have finished. The page is served
on the loopback address alone, needs nothing from elsewhere, and loads itself again every two seconds while a sweep runs.
"""

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from ..drawing import style, svg
from . import sweep
from .errors import UsageError
from .plan import duration
from .report import text
from .report.page import document, table
from .seeds import phase_of
from .store import Store

REFRESH = 2
"""Seconds after which a browser asks again."""

SILENT = 60.0
"""A sweep that has said nothing for so many seconds, and for longer than its slowest trials, may have been killed."""

WIDTH, HEIGHT = 360, 220

Losses = tuple[np.ndarray, np.ndarray]
"""Steps and judged losses of a trial."""


def watch(arguments: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; returns the exit code."""
    if not arguments.store.is_dir():
        raise UsageError(f"--store: there is no folder {arguments.store} yet; a sweep makes it")
    try:
        server = serve(Store(arguments.store), arguments.port)
    except (OSError, OverflowError) as error:
        raise UsageError(f"--port: cannot listen on port {arguments.port} of 127.0.0.1: {error}") from None
    print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("ended")
    finally:
        server.server_close()
    return 0


def serve(store: Store, port: int = 0) -> ThreadingHTTPServer:
    """A server of the page of a store, on 127.0.0.1."""
    view = View(store)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A page elsewhere could send a browser here under another name; it is not to read what is on this machine.
            if self.headers.get("Host", "").partition(":")[0] not in ("127.0.0.1", "localhost"):
                self.send_error(403)
            elif self.path != "/":
                self.send_error(404)
            else:
                content, running = view.page()
                data = content.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("Refresh", str(REFRESH if running else 5 * REFRESH))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


class View:
    """What the page shows. Trials are read once."""

    def __init__(self, store: Store):
        self.store = store
        self._read: dict[str, tuple[dict[str, Any], Losses]] = {}

    def page(self) -> tuple[str, bool]:
        """The page's text, and whether a sweep is running."""
        sweeps = sweep.read(self.store)
        running = [s for s in sweeps if s["state"] == "running"]
        shown = running or sweeps[:1]
        body = ['<header><p class="kind">Live · Hammer</p><h1>Sweeps in this store</h1></header>']
        if not shown:
            body.append("<p>No sweep has run here yet.</p>")
        for one in shown:
            body += self._sweep(one)
        title = f"{len(shown[0]['trials'])}/{shown[0]['total']} {shown[0]['name']}" if shown else "Hammer"
        return document(title, body, style.CHART + _BAR), bool(running)

    def _sweep(self, one: dict[str, Any]) -> list[str]:
        done, total, failures = len(one["trials"]), one["total"], one["failures"]
        took = one["updated"] - one["started"]
        state = {"running": "running", "done": "finished", "interrupted": "interrupted; the same command goes on"}[
            one["state"]
        ]
        silent = time.time() - one["updated"]
        if one["state"] == "running" and silent > SILENT:
            state = f"silent for {duration(silent)}: a long trial, or it was killed (process {one['process']})"
        left = f"about {duration(one['seconds_left'])}" if one["seconds_left"] else "0 s"
        if one["unknown"]:
            left = f"unknown for {', '.join(one['unknown'])}" + (f", else {left}" if one["seconds_left"] else "")
        facts = {"State": state, "Trials": f"{done} of {total}, {one['reused']} of them from the store", "Failed": str(len(failures)), "Running for": duration(took), "Left": left}  # fmt: skip
        listed = "".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
        parts = [
            f'<section><h2>{escape(one["name"])}</h2><progress max="{total}" value="{done}">{done} of {total}</progress><dl>{listed}</dl>'
        ]
        parts.append(self._curves(one["trials"]))
        if failures:
            rows = [
                "".join(
                    f'<td class="left">{escape(str(v))}</td>'
                    for v in (f["problem"], f["optimizer"], text.hyper(f["hyper"]), f["why"])
                )
                for f in failures
            ]
            head = [(label, True) for label in ("Problem", "Optimizer", "Setting", "Why")]
            parts.append(f"<h3>Failed trials</h3>{table(head, [f'<tr>{row}</tr>' for row in rows])}")
        parts.append(
            f"<details><summary class=soft>The config</summary><pre>{escape(one['config'])}</pre></details></section>"
        )
        return parts

    def _curves(self, keys: Sequence[str]) -> str:
        """For each problem a chart: of each optimizer, the median of its scoring runs, or until there are any its best tuning run."""
        found: dict[str, dict[str, dict[str, list[Losses]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        for key in keys:
            record, losses = self._trial(key)
            if record:
                spec = record["spec"]
                found[spec["problem"]][spec["optimizer"]][phase_of(spec["index"])[0]].append(losses)
        optimizers = [*dict.fromkeys(o for of in found.values() for o in of)]
        figures = []
        for problem, of in found.items():
            drawn = {o: _typical(phases) for o, phases in of.items()}
            chart = _chart(drawn, [f"s{optimizers.index(o) % style.SERIES}" for o in drawn])
            figures.append(f"<figure><h3>{escape(problem)}</h3>{chart}</figure>")
        legend = "".join(
            f'<span><svg viewBox="0 0 30 10" aria-hidden="true"><path class="curve s{i % style.SERIES}" d="M1 5L29 5"/></svg>{escape(o)}</span>'
            for i, o in enumerate(optimizers)
        )
        note = "Judged loss: median of the scoring runs so far, or until there are any, the best tuning run."
        return (
            f'<p class="soft">{note}</p><div class="names">{legend}</div><div class="charts">{"".join(figures)}</div>'
            if figures
            else ""
        )

    def _trial(self, key: str) -> tuple[dict[str, Any], Losses]:
        if key not in self._read:
            loaded = Store(self.store.folder).load(key)
            nothing = np.zeros(0)
            if loaded is None:  # it raised an error, or its file has gone
                return {}, (nothing, nothing)
            self._read[key] = loaded[0], (loaded[1]["eval_step"], loaded[1]["loss"])
        return self._read[key]


def _typical(phases: dict[str, list[Losses]]) -> Losses:
    if scoring := phases.get("scoring"):
        step = max((s for s, _ in scoring), key=len)
        alike = [loss for s, loss in scoring if len(s) == len(step)]
        return step, np.quantile(np.array(alike), 0.5, axis=0, method="inverted_cdf")
    runs = [one for of in phases.values() for one in of]
    return min(runs, key=lambda one: math.inf if math.isnan(one[1][-1]) else float(one[1][-1]))


def _chart(drawn: dict[str, Losses], classes: list[str]) -> str:
    finite = [float(v) for _, loss in drawn.values() for v in loss if math.isfinite(v)]
    log = bool(finite) and min(finite) > 0
    last = max(float(step[-1]) for step, _ in drawn.values())
    x, y = svg.Axis(0.0, max(last, 1.0), 46, WIDTH - 10), svg.Axis(*svg.span(finite, log), HEIGHT - 34, 10, log)
    parts = [svg.frame(x, y, "steps")]
    for (name, (step, loss)), css in zip(drawn.items(), classes, strict=True):
        rows = svg.every(step, 120)
        parts.append(
            svg.line([x.at(float(s)) for s in step[rows]], [y.at(float(v)) for v in loss[rows]], f"curve {css}", name)
        )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Loss curves so far">{"".join(parts)}</svg>'


_BAR = (
    "progress{width:100%;height:.8rem;accent-color:var(--s0)}.names{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;margin:.5rem 0}"
    ".names span{display:flex;align-items:center;gap:.45rem;font-size:.92rem}.names svg{width:30px;height:10px}"
)
