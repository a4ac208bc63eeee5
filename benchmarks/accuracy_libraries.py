"""How ``accuracy`` asks each library for a value and its gradient: Hammer's rows, PyTorch's and JAX's functions.

``run(inputs, tracked, cotangents)`` returns the outputs and the gradients of Σ cotangent · output with respect to the inputs
named in ``tracked``, as NumPy arrays; what a library lacks is None.
"""

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from workers import ROOT

Outputs = list[np.ndarray] | None
Gradients = list[np.ndarray] | None


def load(libraries: Sequence[str]) -> dict[str, Any]:
    """The modules by library; those that are not installed are left out."""
    sys.path.insert(0, str(ROOT))  # the code beside this script, whatever is installed
    found: dict[str, Any] = {"ours": importlib.import_module("autograd")}
    if "torch" in libraries and importlib.util.find_spec("torch"):
        found["torch"] = importlib.import_module("torch")
        found["torch"].set_num_threads(1)
    if "jax" in libraries and importlib.util.find_spec("jax"):
        found["jax"] = importlib.import_module("jax")
        found["jax"].config.update("jax_enable_x64", True)
        importlib.import_module("jax.scipy.special")
    return found


def _outputs(found: Any) -> list:
    return list(found) if isinstance(found, (tuple, list)) else [found]


def resolve(library: str, module: Any, name: str, given: Any) -> Callable | None:
    """A peer's function: one given as ``f(module, *arrays)``, or found under a name in its usual places."""
    if given is None:
        return None
    if callable(given):
        return lambda *xs: given(module, *xs)
    places = (
        [module, module.special, module.nn.functional]
        if library == "torch"
        else [module.numpy, module.scipy.special, module.nn, module.lax]
    )
    return next((getattr(p, given or name) for p in places if hasattr(p, given or name)), None)


def ours(row: Any, params: dict[str, Any], program: Callable | None = None) -> Callable:
    """Our row, or a program ``f(ops, *arrays)`` around it, as ``run``."""
    from autograd import DiffTensor, ops

    def call(xs: list) -> Any:
        if program is not None:
            return program(ops, *xs)
        return row.apply(xs, **params) if row.variadic else row.apply(*xs, **params)

    def run(inputs: Sequence[Any], tracked: Sequence[int], cotangents: Callable) -> tuple[Outputs, Gradients]:
        with np.errstate(all="ignore"):
            xs = [DiffTensor(x, requires_grad=i in tracked) for i, x in enumerate(inputs)]
            out = _outputs(call(xs))
            values = [np.asarray(o.raw) for o in out]
            if not tracked:
                return values, None
            for o, v in zip(out, cotangents(values), strict=True):
                if v is not None:
                    o.backward(v.astype(o.dtype))  # gradients add up in .grad
            grads = [np.asarray(xs[i].grad if not hasattr(xs[i].grad, "raw") else xs[i].grad.raw) for i in tracked]
        return values, grads

    return run


def torch(module: Any, f: Callable) -> Callable:
    """A PyTorch function as ``run``."""

    def run(inputs: Sequence[Any], tracked: Sequence[int], cotangents: Callable) -> tuple[Outputs, Gradients]:
        xs = [module.tensor(np.array(x), requires_grad=i in tracked) for i, x in enumerate(inputs)]
        try:
            out = _outputs(f(*xs))
        except (RuntimeError, NotImplementedError, TypeError):
            return None, None
        values = [o.detach().numpy() for o in out]
        if not tracked:
            return values, None
        try:
            seeds = cotangents(values)
            kept = [
                (o, module.tensor(v.astype(a.dtype)))
                for o, v, a in zip(out, seeds, values, strict=True)
                if v is not None
            ]
            found = module.autograd.grad([o for o, _ in kept], [xs[i] for i in tracked], [v for _, v in kept])
        except (RuntimeError, NotImplementedError):
            return values, None
        return values, [g.numpy() for g in found]

    return run


def jax(module: Any, f: Callable) -> Callable:
    """A JAX function, compiled once for each shape, as ``run``."""
    forward = module.jit(lambda xs: _outputs(f(*xs)))

    def pull(xs: list, tracked: tuple[int, ...], seeds: list) -> tuple:
        def of(*some: Any) -> list:
            place = dict(zip(tracked, some, strict=True))
            return _outputs(f(*(place.get(i, x) for i, x in enumerate(xs))))

        return module.vjp(of, *(xs[i] for i in tracked))[1](seeds)

    backward = module.jit(pull, static_argnums=1)

    def run(inputs: Sequence[Any], tracked: Sequence[int], cotangents: Callable) -> tuple[Outputs, Gradients]:
        xs = [module.numpy.asarray(x) for x in inputs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                values = [np.asarray(o) for o in forward(xs)]
            except (TypeError, NotImplementedError, ValueError):
                return None, None
            if not tracked:
                return values, None
            seeds = [
                (np.zeros(v.shape) if c is None else c).astype(v.dtype)
                for v, c in zip(values, cotangents(values), strict=True)
            ]
            try:
                found = backward(xs, tuple(tracked), seeds)
            except (TypeError, NotImplementedError, ValueError):
                return values, None
        return values, [np.asarray(g) for g in found]

    return run
