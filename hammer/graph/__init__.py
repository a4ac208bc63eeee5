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

from .builder import Builder, Model, Value
from .compiled import Compiled, CompileWarning, compile
from .cost import Cost, NodeCost
from .execute import Plan
from .graph import UniversalGraph
from .ir import GraphError, Node
from .passes import optimize
from .profile import Peaks, PlanStep, Profile
from .sizes import Size, SizedGraph
from .stages import Update
from .step import TrainingStep, training_step
from .trace import Spec

__all__ = [
    "Builder", "CompileWarning", "Compiled", "Cost", "GraphError", "Model", "Node", "NodeCost", "Peaks", "Plan", "PlanStep", "Profile", "Size",
    "SizedGraph", "Spec", "TrainingStep", "UniversalGraph", "Update", "Value", "compile", "optimize", "training_step",
]  # fmt: skip
