"""UniversalGraph: define, check, differentiate, optimise, run and keep any program over the op table as a value.

>>> import numpy as np
>>> from autograd import ops
>>> from hammer.graph import Spec, UniversalGraph
>>> graph = UniversalGraph.trace(lambda x: ops.sum(x * x), Spec(("B",)))
>>> print(graph.grad(wrt="x"))  # doctest: +ELLIPSIS
grad of <lambda>(x: float32(B,)):
...
>>> graph.grad(wrt="x")(np.array([1.0, 2.0], np.float32))
array([2., 4.], dtype=float32)
"""

import importlib
from typing import Any

from autograd.compiling import COMPILERS

from .builder import Builder, Model, Value
from .compiled import Compiled, CompileWarning, compile
from .cost import Cost, NodeCost
from .execute import Plan
from .graph import UniversalGraph
from .ir import GraphError, Node
from .passes import optimize
from .sizes import Size, SizedGraph
from .trace import Spec

__all__ = [
    "Builder", "CompileWarning", "Compiled", "Cost", "GraphError", "Model", "Node", "NodeCost", "Parts", "Peaks", "Plan", "PlanStep", "Profile",
    "Size", "SizedGraph", "Spec", "TrainingStep", "UniversalGraph", "Update", "Value", "compile", "optimize", "profile_plan", "training_step",
]  # fmt: skip

_LAZY = {
    "Parts": "step",
    "TrainingStep": "step",
    "Update": "stages",
    "training_step": "step",
    **dict.fromkeys(("Peaks", "PlanStep", "Profile", "profile_plan"), "profile"),
}  # they load the optimizers, or what few programs need


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


COMPILERS["hammer"] = lambda function, optimizer, exact: __getattr__("Parts")(function, optimizer, exact)
