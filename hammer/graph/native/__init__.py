"""The native executor: graphs compiled to machine code by LLVM, for CPUs.

``lazy`` terms are what a graph becomes (``lowering``); ``schedule`` decides what is stored and fuses the rest into loop nests; ``nests`` and
``calls`` (thin ``products``) write these as LLVM functions, with ``maths`` for elementwise functions; ``program`` lays out memory and puts the steps together,
``jit`` compiles them and keeps the object code, ``team`` has threads run them, and ``plan.NativePlan`` is what a graph's caller sees.

What numba would do here is done with the library beneath it, llvmlite: programs of thousands of steps compile in a second instead
of minutes, and one call runs a whole program, products of matrices included.
"""

from .plan import NativePlan, Unlowered, unavailable

__all__ = ["NativePlan", "Unlowered", "unavailable"]
