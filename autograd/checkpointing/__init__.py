"""Memory for time: what the backward pass reads need not be kept, it can be computed again.

* ``checkpoint(fun)``: the inside of a function is dropped when it returns.
* ``checkpoint_sequential(layers, ...)``: a chain of layers in segments, or within a budget of bytes (Revolve).
* ``rematerialize(budget)``: a block of any form within a budget of bytes (Dynamic Tensor Rematerialization).

``replay`` has the mechanism, which all share: nodes that know how their values are made. ``regions`` has chains of
stages, ``schedule`` which of a chain's values to keep, ``sequential`` the Module, ``eviction`` blocks of any form.
"""

import importlib
from typing import Any

from .regions import checkpoint

__all__ = ["binomial_cost", "checkpoint", "checkpoint_sequential", "rematerialize"]

_WHERE = {"checkpoint_sequential": "sequential", "binomial_cost": "schedule", "rematerialize": "eviction"}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module("." + _WHERE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
