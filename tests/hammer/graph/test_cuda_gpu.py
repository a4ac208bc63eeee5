"""Graphs as CUDA kernels on a GPU, against NumPy; and the same bits in each run."""

import numpy as np
import pytest
from test_cuda import ARCHITECTURES, FRAMES, RNG, close, gradients, traced

from autograd import ops
from hammer.graph.cuda import CudaPlan


@pytest.mark.gpu
def test_plans_on_a_gpu():
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("no GPU")
    graphs = [gradients(name, np.float64) for name in ARCHITECTURES]
    graphs += [
        traced(lambda x, axis=axis: (ops.sum(x, axis=axis), ops.softmax(x) * 2.0), RNG(0).normal(size=frame))
        for frame, axis in FRAMES.values()
    ]
    for graph, values in graphs:
        given, expected = [cupy.asarray(v) for v in values], graph.plan()(values)
        for capture in (False, True):
            plan = CudaPlan(graph, cupy.ndarray, capture=capture)
            first = plan(given)
            for a, again, b in zip(first, plan(given), expected, strict=True):
                np.testing.assert_array_equal(a.get(), again.get())  # the same bits in each run
                close(a, b)
