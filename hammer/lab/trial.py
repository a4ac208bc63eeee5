"""A trial: one optimizer with one setting on one problem with one seed.

``run`` is a function of its ``TrialSpec``: the same spec gives the same bits, in whatever process, order or number of
processes. What it measures of time is kept apart from the rest (``seconds``, ``wall_seconds``, ``cpu_seconds``).
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autograd.optim import Optimizer

from . import counting, meters, optimizers, problems
from .seeds import Streams, phase_of

TIMES = ("seconds", "cpu_seconds", "joules")
"""The arrays of a trial that are times, and so differ from run to run."""


@dataclass(frozen=True)
class TrialSpec:
    """Everything that decides a trial, apart from the code and the arithmetic it runs on."""

    problem: str
    optimizer: str
    hyper: Mapping[str, float]
    root: int
    index: int
    steps: int
    eval_every: int
    dtype: str

    def described(self) -> dict[str, Any]:
        """The spec as JSON, with the values that the optimizer's entry fixes."""
        return {**vars(self), "hyper": dict(self.hyper), "fixed": dict(optimizers.get(self.optimizer).fixed)}

    def __str__(self) -> str:
        hyper = " ".join(f"{name}={value:.3g}" for name, value in self.hyper.items())
        phase, number = phase_of(self.index)
        return f"{self.problem} {self.optimizer} {hyper} {phase} seed {number}"


class Stopped(Exception):
    """The comparison was interrupted while the trial ran."""


def run(spec: TrialSpec, stopped: Callable[[], bool] = lambda: False) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Run a trial.

    Args:
        spec: what to run.
        stopped: asked before each evaluation; once it says yes, ``Stopped`` is raised.

    Returns:
        The outcome: ``status`` "finished" or "diverged", ``diverged_at`` (the step at which a loss was first not
        finite, or None), ``steps``, ``wall_seconds`` and ``cpu_seconds`` (training only, without evaluations) and
        ``bits``, the SHA-256 of all that is not a time, final parameters included; ``data``, that of the examples it
        trained on and was judged by (None for a problem without).
        The arrays: ``train_loss`` (steps,) of each batch; and, with one entry for each evaluation (the first before
        any step), ``eval_step``, ``loss``, ``metric`` and ``seconds``. After a divergence ``train_loss`` and ``loss``
        are infinite, ``metric`` is NaN and ``seconds`` stays at the time of the divergence.
    """
    with (
        np.errstate(all="ignore"),
        meters.Joules() as energy,
    ):  # overflow is how a trial diverges; it is found by looking at the losses
        return _run(spec, stopped, energy)


def _run(
    spec: TrialSpec, stopped: Callable[[], bool], energy: meters.Joules
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    task = problems.get(spec.problem).start(Streams(spec.root, spec.problem, spec.index), spec.dtype)
    parameters = list(task.parameters)
    parts = getattr(task, "parts", None)
    data = None if parts is None else _bits([*vars(parts).values()])
    optimizer = Optimizer(parameters, optimizers.get(spec.optimizer).transform(spec.hyper))

    eval_step = np.array([*range(0, spec.steps, spec.eval_every), spec.steps])
    arrays = {
        "train_loss": np.full(spec.steps, np.inf, spec.dtype),
        "eval_step": eval_step,
        "loss": np.full(len(eval_step), np.inf),
        "metric": np.full(len(eval_step), np.nan),
        "seconds": np.zeros(len(eval_step)),
        "cpu_seconds": np.zeros(len(eval_step)),
        "joules": np.full(len(eval_step), np.nan),
    }
    memory = meters.PeakMemory()
    wall = cpu = joules = 0.0
    step, diverged_at = 0, None
    for row, until in enumerate(eval_step):
        if stopped():
            raise Stopped
        joules_before = energy.read()
        wall_before, cpu_before = time.perf_counter(), time.process_time()
        while step < until:
            loss = task.loss()
            value = loss.item()
            if not math.isfinite(value):
                diverged_at = step
                break
            arrays["train_loss"][step] = value
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        wall += time.perf_counter() - wall_before
        cpu += time.process_time() - cpu_before
        joules += energy.read() - joules_before
        arrays["seconds"][row:], arrays["cpu_seconds"][row:], arrays["joules"][row:] = wall, cpu, joules
        if diverged_at is None:
            with optimizer.evaluation():
                judged, metric = task.evaluate()
            if math.isfinite(judged):
                arrays["loss"][row], arrays["metric"][row] = judged, metric
            else:
                diverged_at = step
        if diverged_at is not None:
            break

    outcome = {
        "status": "finished" if diverged_at is None else "diverged",
        "diverged_at": diverged_at,
        "steps": step,
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "data": data,
        "bits": _bits([*(a for name, a in arrays.items() if name not in TIMES), *(p.numpy() for p in parameters)]),
    }
    measured = None if math.isnan(joules) else joules
    outcome |= {
        "state_bytes": sum(leaf.nbytes for leaf in optimizer.state_dict().values() if isinstance(leaf, np.ndarray)),
        "peak_bytes": memory.read(),
        "peak_since": memory.since,
        "joules": measured,
        "joules_source": energy.source,
    }
    return outcome | _counts(spec, step, arrays), arrays


def _counts(spec: TrialSpec, steps: int, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """What is counted, not measured; and the arrays ``flops`` and ``bytes_moved`` at each evaluation."""
    own = problems.own_file(spec.problem) or optimizers.own_file(spec.optimizer)
    found: dict[str, Any] = {"gradient_evaluations": steps, "mpi_bytes": meters.mpi_bytes(own is not None)}
    found["uncounted"] = None
    at = np.minimum(arrays["eval_step"], steps)
    totals = np.full((len(at), 2), np.nan)
    try:
        cost = counting.step_cost(spec.problem, spec.optimizer, spec.dtype)
        totals = np.array([cost.total(int(step)) for step in at])
        flops, moved = cost.total(steps)
        found |= {"flops": flops, "bytes_moved": moved, "joules_estimate": meters.estimate(flops, moved)}
    except Exception as error:  # noqa: BLE001  (a person's own optimizer may do what cannot be counted; the trial stands)
        found |= {"flops": None, "bytes_moved": None, "joules_estimate": None}
        found["uncounted"] = f"{type(error).__name__}: {error}"
    arrays["flops"], arrays["bytes_moved"] = totals.T
    return found


def _bits(arrays: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
