"""The noisy quadratic model, seen through a deep linear network: noise, bad conditioning and depth, and nothing else."""

import numpy as np

from autograd import DiffTensor, no_grad, ops

from ..problem import Problem, Target
from ..seeds import Streams

DIMENSIONS, LAYERS, CONDITION, BATCH = 32, 3, 1e2, 16


class DeepNoisyQuadratic:
    """½ (θ - θ*)ᵀ H (θ - θ*) with θ = W₃ W₂ W₁ 1/√d, and gradient noise of covariance H / batch size.

    The noise is that of the noisy quadratic model (Zhang et al., NeurIPS 2019): each batch sees θ* moved by a normal
    vector of covariance H⁻¹ / batch. The linear layers are those of Saxe et al. 2014: they make it non-convex.
    """

    def __init__(self, streams: Streams, dtype: str):
        d, draw = DIMENSIONS, streams("split")
        turn, _ = np.linalg.qr(draw.normal(size=(d, d)))
        eigenvalues = np.geomspace(1.0 / CONDITION, 1.0, d)
        # With the root R of H = Rᵀ R, the loss is ½ |R (θ - θ*) - noise|² with noise of covariance 1 / batch.
        self._root = (np.sqrt(eigenvalues)[:, None] * turn.T).astype(dtype)
        self._goal = draw.normal(size=d).astype(dtype)
        self._first = np.full(d, 1.0 / np.sqrt(d), dtype)
        init = streams("init")
        self.parameters = [
            DiffTensor((np.eye(d) + init.normal(scale=0.5 / np.sqrt(d), size=(d, d))).astype(dtype), requires_grad=True)
            for _ in range(LAYERS)
        ]
        self._noise = streams("noise")

    def _residual(self) -> DiffTensor:
        theta = self._first
        for weight in self.parameters:
            theta = ops.matmul(weight, theta)
        return ops.matmul(self._root, theta - self._goal)

    def loss(self) -> DiffTensor:
        noise = self._noise.normal(scale=1.0 / np.sqrt(BATCH), size=DIMENSIONS).astype(self._goal.dtype)
        residual = self._residual() - noise
        return 0.5 * ops.dot(residual, residual)

    def evaluate(self) -> tuple[float, float]:
        with no_grad():
            residual = self._residual().raw
        loss = 0.5 * float(residual @ residual)
        return loss, float(np.linalg.norm(np.linalg.solve(self._root.astype(float), residual)))


PROBLEM = Problem(
    name="noisy_quadratic",
    title="Deep noisy quadratic",
    about="noisy quadratic in 32 dimensions, condition number 100, through a linear network of 3 layers",
    data="analytic; gradient noise as of batches of 16",
    start=DeepNoisyQuadratic,
    steps=500,
    eval_every=5,
    batch_size=BATCH,
    loss="loss without noise",
    metric="distance",
    target=Target(
        0.0325, "targets.yaml: 8 of 10 scoring seeds of rmsprop, the best baseline, reach it within 250 of 500 steps"
    ),
)
