"""Hammer's stable core: arrays that can be differentiated, from one op table.

    >>> from autograd import DiffTensor, grad, ops
    >>> w = DiffTensor([1.0, 2.0], requires_grad=True)
    >>> ops.sum(w * w).backward()
    >>> w.grad
    array([2., 4.])
    >>> grad(lambda x: ops.sin(x) * x)(1.0).round(6)
    np.float64(1.381773)

``ops`` has the operations, ``table`` and ``tape`` the engine, ``transforms`` grad, jvp, hessian and the like;
``nn``, ``gradients``, ``optim`` and ``testing`` are imported when first used.
"""

import importlib
import os
from typing import Any

__version__ = "0.1.0"
__distribution__ = "hammer-grad"

_foreign = [
    f
    for f in ("wrap_util.py", "differential_operators.py")
    if os.path.exists(os.path.join(os.path.dirname(__file__), f))
]
if _foreign:
    raise ImportError(
        f"the folder of the package 'autograd' also holds files of HIPS autograd ({', '.join(_foreign)}): both distributions "
        "own this import name. Mend the environment with: pip uninstall -y autograd && pip install --force-reinstall --no-deps hammer-grad"
    )

from . import ops
from .context import AnomalyError, AutogradContext, enable_grad, no_grad
from .table import OPS
from .tape import BackwardPass, Node
from .tensor import DiffTensor
from .transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

_LAZY = ("gradients", "nn", "optim", "testing")
__all__ = [
    "OPS", "AnomalyError", "AutogradContext", "BackwardPass", "DiffTensor", "Node", "enable_grad", "grad", "hessian", "hvp",
    "jacobian", "jvp", "no_grad", "ops", "value_and_grad", "vjp", *_LAZY,
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module("." + name, __name__)
    raise AttributeError(f"module 'autograd' has no attribute {name!r}")
