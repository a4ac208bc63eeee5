"""What a step costs, counted: floating-point operations and bytes moved, of the model and of the optimizer.

*The model.* One step is run under a context that hears of every operation. The backward pass is recorded while it runs: its
rules then are operations of the op table too, and are heard. Each is charged what its row's cost column says
(``Row.cost``: the floating-point operations of the method, and each input read and each output written once).

*The optimizer.* Its links are arithmetic on raw arrays. They are run on ``Counted`` arrays, NumPy arrays that charge every
NumPy function to the row of the same name. What an optimizer does may differ from step to step (Shampoo takes its roots
at every tenth), so ``WINDOW`` steps are counted and the period with which they repeat is found; the steps after
the window cost what the pattern says.

Counts depend on shapes, not on values: they are exact for every trial of a problem, an optimizer and a dtype, the same on
every machine, and are found once. (Only an optimizer that decides by values what to compute, as L-BFGS does when it leaves
out a pair without curvature, may do a little less or more.) Not counted: drawing the batch, arithmetic on single
numbers, and assignments into arrays. A sparse gradient is counted as if it were dense.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from autograd import backend
from autograd.context import AutogradContext
from autograd.gradients.base import link_of, list_spec
from autograd.table import OPS
from autograd.tape import BackwardPass

from . import optimizers, problems
from .seeds import Streams

WINDOW = 40
"""Steps of an optimizer that are counted one by one. A period of up to half of that is found."""


class Uncountable(TypeError):
    """Something was computed that no row of the op table has a cost for."""


@dataclass
class Tally:
    """Floating-point operations and bytes so far."""

    flops: float = 0.0
    bytes: float = 0.0

    def add(self, cost: tuple[float, int]) -> None:
        self.flops += cost[0]
        self.bytes += cost[1]


@dataclass(frozen=True)
class StepCost:
    """What the steps of a trial cost.

    Attributes:
        model: FLOPs and bytes of one loss and its gradient.
        optimizer: those of each of the first ``WINDOW`` updates, (WINDOW, 2).
        period: the updates repeat with this period at the end of the window; 0: no period was found, and the mean of the
            second half of the window stands for the updates after it.
    """

    model: tuple[float, float]
    optimizer: np.ndarray
    period: int

    def total(self, steps: int) -> tuple[float, float]:
        """FLOPs and bytes of the first ``steps`` steps."""
        within = self.optimizer[:steps].sum(axis=0)
        more = max(0, steps - WINDOW)
        tail = self.optimizer[-(self.period or WINDOW // 2) :]
        whole, rest = divmod(more, len(tail))
        after = whole * tail.sum(axis=0) + tail[:rest].sum(axis=0) if self.period else more * tail.mean(axis=0)
        flops, moved = within + after
        return float(flops + steps * self.model[0]), float(moved + steps * self.model[1])


@cache
def step_cost(problem: str, optimizer: str, dtype: str) -> StepCost:
    """What a step of a problem with an optimizer costs. The learning rate and the like are those in the middle of the
    optimizer's range.

    Raises:
        Uncountable: the optimizer computes something that no row of the op table has a cost for.
    """
    entry = optimizers.get(optimizer)
    link = link_of(entry.transform({name: interval.at(0.5) for name, interval in entry.space.items()}))
    model, params, gradients = _model(problem, dtype)
    spec, tally = list_spec(params), Tally()
    raws = [_counted(p, tally) for p in params]
    state = link.start(raws, spec)
    counts = []
    for step in range(WINDOW):
        # The gradient shrinks, as it would on the way to a minimum: then L-BFGS finds curvature, and keeps its pairs.
        grads = [None if g is None else _counted(g * g.dtype.type(0.9**step), tally) for g in gradients]
        tally.flops = tally.bytes = 0.0
        updates, state = link.step(grads, state, raws, spec)
        for raw, update in zip(raws, updates, strict=True):
            if update is not None:
                np.add(raw, update, out=raw, casting="same_kind")
        counts.append((tally.flops, tally.bytes))
    found = np.array(counts)
    return StepCost(model, found, _period(found))


@cache
def _model(problem: str, dtype: str) -> tuple[tuple[float, float], list[np.ndarray], list[np.ndarray | None]]:
    """FLOPs and bytes of a loss and its gradient; the parameters; that gradient."""
    task = problems.get(problem).start(Streams(0, problem, 0), dtype)
    tally = Tally()
    with AutogradContext(observer=_charging(tally)):
        found = BackwardPass([task.loss()], record=True).run()
    gradients = [None if p.node is None else found.get(p.node) for p in task.parameters]
    return (
        (tally.flops, tally.bytes),
        [np.asarray(p.raw) for p in task.parameters],
        [None if g is None else np.asarray(g.raw) for g in gradients],
    )


def _period(counts: np.ndarray) -> int:
    """The smallest period of the second half of the window; 0 if there is none."""
    half = counts[len(counts) // 2 :]
    for period in range(1, len(half) // 2 + 1):
        if np.array_equal(half[period:], half[:-period]):
            return period
    return 0


def _charging(tally: Tally) -> Callable[[Any, tuple, dict, tuple], None]:
    def heard(row: Any, inputs: tuple, params: dict, outputs: tuple) -> None:
        if params.get("backward") is not True:  # that a rule has run: what it did was heard already
            tally.add(row.cost(outputs if len(outputs) > 1 else outputs[0], *inputs, **params))

    return heard


# ---- arrays that count ----


class Counted(np.ndarray):
    """A NumPy array that charges what NumPy computes with it to ``tally``."""

    tally: Tally | None

    def __array_finalize__(self, other: Any) -> None:
        self.tally = getattr(other, "tally", None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: tuple = (), **options: Any) -> Any:
        tally = _tally((*inputs, *out))
        bare = [_bare(x) for x in inputs]
        if out:
            options["out"] = tuple(_bare(x) for x in out)
        result = getattr(ufunc, method)(*bare, **options)
        if tally is not None:
            row = OPS.get(_ROW_OF.get(ufunc.__name__, ufunc.__name__))
            if row is None:
                raise Uncountable(f"numpy.{ufunc.__name__} has no row in the op table, so its cost is not known")
            flops, moved = row.cost(result, *bare)
            if method != "__call__":  # a reduction: an operation for each element that goes in
                flops = flops / max(1, np.size(result)) * np.size(bare[0])
            tally.add((flops, moved))
        return out[0] if len(out) == 1 else _wrapped(result, tally)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        given = _arrays((*args, *kwargs.values()))
        tally = _tally(given)
        bare_args, bare_kwargs = _map(_bare, args), {k: _map(_bare, v) for k, v in kwargs.items()}
        result = function(*bare_args, **bare_kwargs)
        if tally is not None:
            tally.add(_cost(function, result, bare_args, bare_kwargs))
        return _map(lambda x: _wrapped(x, tally), result)


class _Library:
    """NumPy for ``Counted`` arrays: ``asarray`` keeps their class, which NumPy's own does not."""

    __name__ = "numpy"

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def asarray(x: Any, dtype: Any = None, copy: bool | None = None) -> Any:
        made = np.array(_bare(x), dtype=dtype, copy=copy)
        return _wrapped(made, x.tally) if isinstance(x, Counted) else made


backend.adopt(Counted, _Library())

_ROW_OF = {"absolute": "abs", "fabs": "abs", "rint": "round", "conjugate": "conj", "arctan2": "atan2", "amax": "max", "amin": "min"}  # fmt: skip
_FREE = frozenset(
    ["zeros_like", "ones_like", "empty_like", "full_like", "copy", "moveaxis", "transpose", "permute_dims", "matrix_transpose", "swapaxes", "ravel", "concatenate", "shape", "ndim", "size", "atleast_1d", "atleast_2d", "copyto", "array_equal", "iscomplexobj", "result_type", "broadcast_arrays"]
)  # fmt: skip
"""Functions that move data, and count bytes only."""


def _cost(function: Any, result: Any, args: tuple, kwargs: dict) -> tuple[float, int]:
    name = function.__name__
    arrays = tuple(_arrays((*args, *kwargs.values())))
    row = OPS.get(_ROW_OF.get(name, name))
    if row is None or row.flops == 0:
        if row is None and name not in _FREE:
            raise Uncountable(f"numpy.{name} has no row in the op table, so its cost is not known")
        return 0.0, sum(x.nbytes for x in (*_arrays((result,)), *arrays))
    if name == "einsum":
        return row.cost(result, *args[1:], subscripts=args[0])
    bound = inspect.signature(function).bind(*args, **kwargs).arguments
    params = {name: bound.get(name, default) for name, default in row.params.items()}
    return row.cost(tuple(result) if isinstance(result, tuple) else result, *arrays, **params)


def _counted(array: np.ndarray, tally: Tally) -> Counted:
    found = np.array(array).view(Counted)
    found.tally = tally
    return found


def _bare(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, Counted) else x


def _wrapped(x: Any, tally: Tally | None) -> Any:
    if type(x) is not np.ndarray:
        return x
    found = x.view(Counted)
    found.tally = tally
    return found


def _map(function: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, tuple):
        parts = [_map(function, part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return [_map(function, part) for part in value] if isinstance(value, list) else function(value)


def _arrays(values: Any) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if isinstance(value, (tuple, list)):
            found += _arrays(value)
        elif isinstance(value, np.ndarray):
            found.append(value)
    return found


def _tally(values: Any) -> Tally | None:
    return next((x.tally for x in values if isinstance(x, Counted) and x.tally is not None), None)
