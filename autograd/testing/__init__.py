"""Checking derivatives: of your own functions, and of every row of the op table.

``check_grads(fn, *args)`` holds a function's derivatives, in both modes and of higher order, against derivatives found
by evaluation; ``assert_vjp`` and ``assert_jvp_vjp_dual`` are parts of it. ``wrong_ops(fn, *args)`` names the operations of a
function whose own derivatives are wrong. These need nothing but NumPy.

``assert_vmap_equals_loop(fn, *args)`` holds ``vmap`` against a loop over the examples.

``assert_graph_equals_eager(fn, *args)`` holds the graph of a function, and of its gradient, against running them;
``assert_hessian_symmetric(fn, *args)`` needs no reference.

``programs`` has random programs over the op table as data (``Program``, and ``Library``: what they run on), and
``strategies.programs()`` draws them.

``check_row(name)`` runs every check that a row of the op table must pass, on calls drawn by ``strategies``
(hypothesis), and ``check_batching(name)`` its batching rule. They need the extra: ``pip install "hammer-grad[test]"``.
"""

from typing import Any

from .batching import assert_vmap_equals_loop, check_batching
from .blame import WrongOp, wrong_ops
from .check import NotDifferentiable, Undecided, WrongDerivative, assert_jvp_vjp_dual, assert_vjp, check_grads
from .graphs import assert_graph_equals_eager
from .hessian import assert_hessian_symmetric

__all__ = [
    "NotDifferentiable", "Undecided", "WrongDerivative", "WrongOp", "assert_graph_equals_eager", "assert_hessian_symmetric",
    "assert_jvp_vjp_dual", "assert_vjp", "assert_vmap_equals_loop", "check_batching", "check_grads", "check_row", "programs",
    "strategies", "wrong_ops",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "check_row":
        from .rows import check_row

        return check_row
    if name in ("programs", "strategies"):
        import importlib

        return importlib.import_module("." + name, __name__)
    raise AttributeError(f"module 'autograd.testing' has no attribute {name!r}")
