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
import sys
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

from . import differential, ops
from .batching import vmap
from .builtins import dict, isinstance, list, tuple, type  # noqa: F401 - as HIPS autograd has them
from .context import AnomalyError, AutogradContext, enable_grad, no_grad
from .control import cond, fori_loop, scan
from .custom import custom_jvp, custom_vjp, stop_gradient
from .differential import (
    checkpoint,
    deriv,
    egrad,
    elementwise_grad,
    grad_and_aux,
    grad_named,
    hessian_tensor_product,
    hessian_vector_product,
    holomorphic_grad,
    make_ggnvp,
    make_hvp,
    make_jvp,
    make_jvp_reversemode,
    make_vjp,
    multigrad_dict,
    tensor_jacobian_product,
    vector_jacobian_product,
)  # fmt: skip
from .extend import primitive
from .precision import autocast
from .table import OPS
from .tape import BackwardPass, Node
from .tensor import DiffTensor
from .transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

# HIPS autograd keeps the same functions under these names; libraries import them from there
sys.modules[f"{__name__}.differential_operators"] = sys.modules[f"{__name__}.wrap_util"] = differential

_LAZY = (
    "array_api", "extend", "gradients", "misc", "nn", "numpy", "optim", "protocols", "scipy", "test_util", "testing", "tracer",
    "vspaces",
)  # fmt: skip
_MEMBERS = {
    "binomial_cost": "checkpointing", "checkpoint_sequential": "checkpointing", "rematerialize": "checkpointing",
    "fixed_point": "implicit", "linear_solve": "implicit", "root": "implicit", "odeint": "ode",
    "functional_call": "per_example", "gradient_noise_scale": "per_example", "gradient_signal_to_noise": "per_example",
    "per_example_gradients": "per_example", "per_example_norms": "per_example",
}  # fmt: skip
"""Functions of modules that are not imported before they are used."""
__all__ = [
    "OPS", "AnomalyError", "AutogradContext", "BackwardPass", "DiffTensor", "Node", "autocast", "checkpoint", "cond",
    "custom_jvp", "custom_vjp", "deriv", "egrad", "elementwise_grad", "enable_grad", "fori_loop", "grad",
    "grad_and_aux", "grad_named", "hessian", "hessian_tensor_product", "hessian_vector_product", "holomorphic_grad",
    "hvp", "jacobian", "jvp", "make_ggnvp", "make_hvp", "make_jvp", "make_jvp_reversemode", "make_vjp",
    "multigrad_dict", "no_grad", "ops", "primitive", "scan", "stop_gradient", "tensor_jacobian_product",
    "value_and_grad", "vector_jacobian_product", "vjp", "vmap", *_LAZY, *_MEMBERS,
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module("." + name, __name__)
    if name in _MEMBERS:
        return getattr(importlib.import_module("." + _MEMBERS[name], __name__), name)
    raise AttributeError(f"module 'autograd' has no attribute {name!r}")
