"""HIPS autograd's helpers: ``flatten`` (here), ``optimizers`` and ``fixed_points``."""

from .flatten import flatten, flatten_func

__all__ = ["flatten", "flatten_func"]
