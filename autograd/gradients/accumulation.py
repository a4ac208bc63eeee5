"""Gradients gathered over micro-batches: the step of a big batch in the memory of a small one.

``accumulate(k)`` is a link. It gathers the gradients of k calls and then lets their mean through; before that there is
no update, and the links after it are not called. So what comes after it (clipping, momentum, a schedule, communication between
ranks) sees big batches only, and what comes before it sees every micro-batch.

    optimizer = Optimizer(model.parameters(), chain(accumulate(4), clip_by_global_norm(1.0), adamw(1e-3)))
    for x, y in micro_batches:
        loss(x, y).backward()
        weigh(optimizer.state, examples=len(x))     # needed only where sizes differ
        optimizer.step()
        optimizer.zero_grad()

``accumulated(value_and_grad(loss), k)`` does it for a function: it splits the batch, and returns what the function would
have returned for the whole of it.

**How equal.** The loss must be a mean over examples (or a sum, with equal weights). The gradient is then
``(Σ nᵢ gᵢ) / Σ nᵢ``, added up in the order of the micro-batches. That is bit for bit the gradient of the big batch where
additions are exact or are done in the same order: data for which no sum rounds, or a reduction that adds up examples one
by one, like NumPy's over the first axis, with micro-batches of one example. Otherwise the order of summation differs, and
with it the last bits: in float64 by a few eps times the sum of the magnitudes of what is added. Weights that are powers
of two, or all 1, add no rounding of their own. 16-bit gradients are summed in float32.

**Batch normalisation** normalises over what it sees, a micro-batch: training statistics are those of the micro-batch, so the
gradient is not that of the big batch ("ghost" batch normalisation, Hoffer et al. 2017), and running statistics move k times in
a step. In eval mode, and with layer or group normalisation, the results are those of the big batch. Dropout draws its masks
for each micro-batch in turn, so they are other masks than those of the big batch.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import optree

from .. import backend
from ..sparse import RowSparse, put_rows, take_rows, zeros
from ..tensor import DiffTensor
from .base import GradientTransform, Link, wide_zeros_like
from .scaling import number, whole

NOTHING, SPARSE, DENSE = 0, 1, 2
"""What a leaf has gathered: nothing, rows of sparse gradients only, or a dense gradient."""


class _Accumulate(Link):
    undone = False  # its mean has been handed on

    def __init__(self, every: int):
        self.every = every

    def start(self, params: list, spec: Any) -> dict:
        return {
            "count": 0,
            "weight": 1.0,
            "total": 0.0,
            "last": False,
            "kinds": [NOTHING] * len(params),
            "sums": [p if p is None else wide_zeros_like(p) for p in params],
            "used": [None if p is None or not p.shape else _flags(p) for p in params],
        }

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        weight = number("the weight of a micro-batch", state["weight"], "(0, inf)")
        state["count"] += 1
        state["total"] += weight
        for i, g in enumerate(grads):
            if g is not None:
                self._add(i, g if weight == 1.0 else g * weight, state)
        if state["count"] < self.every and not state["last"]:
            return [None] * len(grads), state
        updates = [p if p is None else self._taken(i, p, state) for i, p in enumerate(params)]
        state.update(count=0, total=0.0, last=False)
        return updates, state

    @staticmethod
    def _add(i: int, g: Any, state: dict) -> None:
        total = state["sums"][i]
        if type(g) is not RowSparse:
            total += g if g.dtype == total.dtype else backend.xp(g).astype(g, total.dtype)
            state["kinds"][i] = DENSE
            return
        put_rows(total, g.indices, take_rows(total, g.indices) + g.rows)
        if state["kinds"][i] != DENSE:
            state["kinds"][i] = SPARSE
            flags = state["used"][i]
            put_rows(flags, g.indices, zeros(flags, g.indices.shape) + 1)

    @staticmethod
    def _taken(i: int, p: Any, state: dict) -> Any:
        """The mean of one leaf; its buffers are zeros again."""
        kind, total, flags = state["kinds"][i], state["sums"][i], state["used"][i]
        state["kinds"][i] = NOTHING
        library = backend.xp(total)
        rounded = lambda x: x if x.dtype == p.dtype else library.astype(x, p.dtype)
        if kind == NOTHING:
            return None
        if kind == DENSE:
            mean = rounded(total / state["total"])
            total[...] = 0
            if flags is not None:
                flags[...] = 0
            return backend.scalar(mean)
        places = library.nonzero(flags)[0]
        rows = take_rows(total, places)
        put_rows(total, places, zeros(rows, rows.shape))
        flags[...] = 0
        return RowSparse._made(places, rounded(rows / state["total"]), tuple(p.shape))


def _flags(p: Any) -> Any:
    """A flag for each row. Numbers, for the array API knows no product of truth values."""
    library = backend.xp(p)
    return library.astype(zeros(p, p.shape[:1]), library.uint8)


def accumulate(every: int) -> GradientTransform:
    """Let nothing through until ``every`` gradients have come, then their weighted mean.

    The state: ``"count"`` gradients gathered, their weights' sum ``"total"``, and the buffers. Two numbers in it are for the
    caller to set, see ``weigh``: ``"weight"``, the weight of the next gradients (1.0 at first; it stays as set), and
    ``"last"``, whether the next ones end their group though it is not full. A parameter without gradient in a
    micro-batch counts as zero there; without any in the group, it gets no update. Sparse gradients stay sparse.

    Raises:
        ValueError: ``every`` is not a whole number from 1.
    """
    return _Accumulate(whole("every", every)).transform()


def weigh(state: Any, examples: float, last: bool = False) -> None:
    """Say of how many examples the next gradients are the mean, to every ``accumulate`` in a state.

    Args:
        state: of a chain or an optimizer (``optimizer.state``).
        examples: their number, or any other weight above 0.
        last: whether they end their group: the last batches of an epoch, which may be fewer than k.

    Raises:
        ValueError: there is no accumulator, or the weight is not above 0.
    """
    weight, found = number("examples", examples, "(0, inf)"), list(_accumulators(state))
    if not found:
        raise ValueError("weigh: this state has no accumulator; put accumulate(k) into the chain")
    for place in found:
        place["weight"], place["last"] = weight, bool(last)


def _accumulators(state: Any) -> Iterator[dict]:
    if isinstance(state, dict) and {"count", "weight", "total", "last", "sums"} <= state.keys():
        yield state
    elif isinstance(state, (dict, list, tuple)):
        for part in state.values() if isinstance(state, dict) else state:
            yield from _accumulators(part)


# ---- communication ----

_synchronizing: ContextVar[bool] = ContextVar("synchronizing", default=True)


@contextmanager
def no_sync() -> Iterator[None]:
    """A block whose gradients are not to be sent to other ranks yet: more of them are coming.

    A link after ``accumulate`` needs this not: it is not called before the group is full. It is for what communicates
    earlier, in hooks or in links before that, and asks ``synchronizing()``. Nests, and holds for this thread or task.
    """
    token = _synchronizing.set(False)
    try:
        yield
    finally:
        _synchronizing.reset(token)


def synchronizing() -> bool:
    """Whether gradients are to be communicated now: True except inside ``no_sync()``."""
    return _synchronizing.get()


# ---- functions ----


def accumulated(function: Callable, micro_batches: int, argnums: int | Sequence[int] | None = None) -> Callable:
    """``function`` of a batch, computed in micro-batches: the same arguments, the same results, less memory at a time.

    Args:
        function: for example ``value_and_grad(loss)``, or ``grad(loss)``; any function whose results (a tree of
            floating-point arrays, numbers or tensors) are means over the examples of the batch.
        micro_batches: into how many parts the batch is split along its first axis. Parts differ by at most one example, larger
            ones first; of fewer examples there are fewer parts. Results are weighted by the parts' sizes and added up
            in order.
        argnums: the positional arguments that are split, arrays or trees of arrays; all but the first if None.

    All parts but the last run inside ``no_sync()``.

    Raises:
        ValueError: nothing to split, an empty batch, or arrays with different numbers of examples.
        TypeError: a batch that holds something else than arrays, or results that are no floating-point numbers.
    """
    k = whole("micro_batches", micro_batches)

    def apply(*args: Any, **kwargs: Any) -> Any:
        split = range(1, len(args)) if argnums is None else (argnums,) if isinstance(argnums, int) else argnums
        chosen = {a % max(len(args), 1) for a in split if -len(args) <= a < len(args)}
        n = _examples([args[a] for a in sorted(chosen)])
        parts = min(k, n)
        ends = [n // parts * (i + 1) + min(n % parts, i + 1) for i in range(parts)]
        sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        unit = math.gcd(*sizes)
        sums: list = []
        spec = None
        for size, end in zip(sizes, ends, strict=True):
            part = [_part(x, end - size, end) if a in chosen else x for a, x in enumerate(args)]
            if end < n:
                with no_sync():
                    found = function(*part, **kwargs)
            else:
                found = function(*part, **kwargs)
            leaves: list = optree.tree_leaves(found)
            structure = optree.tree_structure(found)
            if spec is not None and structure != spec:
                raise ValueError(
                    f"accumulated: the function returned {spec} for one part of the batch, {structure} for another"
                )
            weighted = [_wide(x) * (size // unit) if size > unit else _wide(x) for x in leaves]
            sums = weighted if spec is None else [a + b for a, b in zip(sums, weighted, strict=True)]
            spec, last = structure, leaves
        means = [_like(x / (n // unit) if n > unit else x, one) for x, one in zip(sums, last, strict=True)]
        return optree.tree_unflatten(spec, means)  # type: ignore[arg-type]

    return apply


def _examples(batch: list) -> int:
    leaves: list = optree.tree_leaves(batch)  # type: ignore[arg-type]
    for x in leaves:
        if not hasattr(x, "shape") or not x.shape:
            raise TypeError(
                f"accumulated: the batch holds {type(x).__name__} {x!r:.40}, which has no axis of examples; name the "
                "arguments to split with argnums"
            )
    counts = sorted({int(x.shape[0]) for x in leaves})
    if len(counts) != 1 or counts[0] == 0:
        what = "an empty batch" if counts == [0] else f"arrays of {counts} examples" if counts else "no batch to split"
        raise ValueError(f"accumulated: {what}; every array of the batch needs the same number of examples, at least 1")
    return counts[0]


def _part(tree: Any, start: int, end: int) -> Any:
    return optree.tree_map(lambda x: x[start:end, ...], tree)


def _wide(x: Any) -> Any:
    """A result as it is summed: 16-bit ones in float32."""
    dtype = getattr(x, "dtype", None)
    if not (type(x) is float or (dtype is not None and backend.is_inexact(dtype))):
        raise TypeError(
            f"accumulated: the function returned {type(x).__name__} {x!r:.40}; results must be floating-point means over "
            "the batch, so that their weighted mean is that of the whole batch"
        )
    return x if "16" not in str(dtype) else _astype(x, "float32")


def _like(x: Any, like: Any) -> Any:
    return x if not hasattr(like, "dtype") or x.dtype == like.dtype else _astype(x, like.dtype)


def _astype(x: Any, dtype: Any) -> Any:
    if isinstance(x, DiffTensor):
        return x.astype(dtype)  # type: ignore[attr-defined]
    library = backend.xp(x)
    return library.astype(x, getattr(library, dtype) if isinstance(dtype, str) else dtype)
