"""The executor for NVIDIA's GPUs: graphs compiled to CUDA C, run by CuPy.

Terms, fusion and views are those of ``hammer.graph.native``. ``expressions`` writes elementwise terms as C, ``kernels`` a loop nest as
one or two ``__global__`` functions, whose threads share it as ``layout`` says, ``memory`` knows where everything lies, and ``plan.CudaPlan`` is what a graph's caller sees: it compiles
the functions with ``cupy.RawModule`` and launches them in order; products of matrices are cuBLAS's, and what cannot be lowered
is done by the row's own kernel for CuPy.

Nothing here imports CuPy before there is an array of it.
"""

from ..native.lazy import Unlowered
from .plan import CudaPlan
from .program import program

__all__ = ["CudaPlan", "Unlowered", "program"]
