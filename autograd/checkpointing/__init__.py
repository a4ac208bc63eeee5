"""Memory for time: what the backward pass reads need not be kept, it can be computed again.

* ``checkpoint(fun)``: the inside of a function is dropped when it returns.
* ``checkpoint_sequential(layers, ...)``: a chain of layers in segments, or within a budget of bytes (Revolve).

``replay`` has the mechanism, which all share: nodes that know how their values are made. ``regions`` has chains of
stages, ``schedule`` which of a chain's values to keep, ``sequential`` the Module.
"""

import importlib
from typing import Any

from .regions import checkpoint

__all__ = ["binomial_cost", "checkpoint", "checkpoint_sequential"]

_WHERE = {"checkpoint_sequential": "sequential", "binomial_cost": "schedule"}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module("." + _WHERE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
