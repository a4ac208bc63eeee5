"""What the tests of graphs share: a graph, and its gradient, held against eager code; and a pass against what passes promise."""

import numpy as np

import hammer
from autograd import DiffTensor, ops
from autograd.backend import is_array, is_inexact
from autograd.transforms import value_and_grad
from hammer.graph import UniversalGraph
from hammer.graph import passes as p
from hammer.graph.algebra import regroup, simplify, simplify_exactly

EXACT = (p.fold, p.merge, simplify_exactly)
ROUNDING = (simplify, regroup)


def raw(value):
    return value.raw if isinstance(value, DiffTensor) else value


def same(a, b, signs=True):
    """Equal to the bit (all NaNs are one), with one shape and dtype; ``signs``: of zeros too."""
    a, b = np.asarray(raw(a)), np.asarray(raw(b))
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    np.testing.assert_array_equal(a, b)
    if signs and a.dtype.kind == "f":
        assert np.array_equal(np.signbit(a[~np.isnan(a)]), np.signbit(b[~np.isnan(b)]))


def near(a, b, ulps=64):
    """Equal up to rounding of the largest element."""
    a, b = np.asarray(raw(a)), np.asarray(raw(b))
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    if a.dtype.kind in "fc":
        scale = np.max(np.abs(b), initial=0.0)
        np.testing.assert_allclose(a, b, rtol=0, atol=ulps * float(np.spacing(scale)))
    else:
        np.testing.assert_array_equal(a, b)


def scalar_of(fun):
    """A function of one real number that every output of ``fun`` enters."""

    def loss(*xs):
        out = fun(*xs)
        total = 0.0
        for o in out if isinstance(out, (tuple, list)) else (out,):
            if o is not None and is_inexact(o.dtype):
                weight = (
                    (np.cos(np.arange(np.prod(o.shape, dtype=int)) * 2.4) + 0.1).reshape(o.shape).astype(np.float64)
                )
                total = total + ops.sum(ops.real(o * weight))
        return total

    return loss


def check_graph(fun, *arrays, bits=True):
    """The graphs of ``fun`` and of its gradient equal eager code to the bit, before and after every exact pass; and so does the
    compiled function. ``bits=False``: a graph's own gradient is rounded differently where equal values have become one."""
    wanted = tuple(i for i, x in enumerate(arrays) if is_array(x) and is_inexact(x.dtype))
    graph = UniversalGraph.trace(fun, *arrays)
    out = graph(*arrays)
    for a, b in zip(flat(out), flat(fun(*arrays)), strict=True):
        same(a, b, signs=bits)  # the zero tangent of what nothing depends on is x * 0 in eager code
    graphs = [graph]
    loss = scalar_of(fun)
    value = loss(*arrays)
    if wanted and hasattr(value, "dtype"):
        made = UniversalGraph.trace(loss, *arrays)
        names = [
            made.inputs[k].name for k, i in enumerate(j for j, x in enumerate(arrays) if is_array(x)) if i in wanted
        ]
        derived = made.grad(wrt=names, value=True)
        expected, gradients = value_and_grad(loss, wanted)(*arrays)
        found, parts = derived(*arrays)
        same(found, expected)
        compiled = hammer.compile(loss, fallback=False)
        found, again = value_and_grad(compiled, wanted)(*arrays)
        same(found, expected)
        for g, e in zip(again, gradients, strict=True):
            same(g, e, signs=False)
        for name, g in zip(names, gradients, strict=True):
            if not bits:
                near(parts[name], g, 1e4)
                continue
            same(parts[name], g, signs=False)  # eager zeros, of what nothing depends on, are x * 0
        graphs.append(derived)
    for g in graphs:
        check_passes(g, *arrays)


def check_passes(graph, *arrays):
    before = flat(graph(*arrays))
    for one in (*EXACT, p.optimize):
        after = one(graph)
        assert len(after) <= len(graph), one
        assert one(after) == after, f"{one.__name__} is not idempotent"
        for a, b in zip(flat(after(*arrays)), before, strict=True):
            same(a, b)
    for one in ROUNDING:
        after = one(graph)
        assert len(after) <= len(graph), one
        assert one(after) == after, f"{one.__name__} is not idempotent"


def flat(tree):
    if isinstance(tree, dict):
        return [x for v in tree.values() for x in flat(v)]
    return [x for v in tree for x in flat(v)] if isinstance(tree, (tuple, list)) else [tree]
