"""Checking derivatives: of your own functions, and of every row of the op table.

``check_grads(fn, *args)`` holds a function's derivatives, in both modes and of higher order, against derivatives found
by evaluation; ``assert_vjp`` and ``assert_jvp_vjp_dual`` are parts of it. ``wrong_ops(fn, *args)`` names the operations of a
function whose own derivatives are wrong. These need nothing but NumPy.

``assert_vmap_equals_loop(fn, *args)`` holds ``vmap`` against a loop over the examples.

``check_row(name)`` runs every check that a row of the op table must pass, on calls drawn by ``strategies``
(hypothesis), and ``check_batching(name)`` its batching rule. They need the extra: ``pip install "hammer-grad[test]"``.
"""

from typing import Any

from .batching import assert_vmap_equals_loop, check_batching
from .blame import WrongOp, wrong_ops
from .check import NotDifferentiable, Undecided, WrongDerivative, assert_jvp_vjp_dual, assert_vjp, check_grads

__all__ = [
    "NotDifferentiable", "Undecided", "WrongDerivative", "WrongOp", "assert_jvp_vjp_dual", "assert_vjp", "assert_vmap_equals_loop",
    "check_batching", "check_grads", "check_row", "strategies", "wrong_ops",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "check_row":
        from .rows import check_row

        return check_row
    if name == "strategies":
        import importlib

        return importlib.import_module(".strategies", __name__)
    raise AttributeError(f"module 'autograd.testing' has no attribute {name!r}")
