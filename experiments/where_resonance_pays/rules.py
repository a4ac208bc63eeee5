"""The rules that decide how far a memory comes in: those of the bank, and three that are tried here.

Each is a function of the gains that returns a gradient transform to stand before AdamW; "none" is AdamW alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autograd.gradients import GradientTransform, identity, leafwise
from hammer.vortex import vortex

DECAYS, GAINS = (0.9, 0.99), (2.0, 4.0)


def _own(gains: Sequence[float], resonance: Callable[..., Any], spike: float | None = None) -> GradientTransform:
    """Two memories with a resonance of one's own: ``resonance(ĉ, c0)`` of the coherence, of gradients or of their signs."""

    def kernel(g: Any, p: Any, t: int, m0: Any, v0: Any, s0: Any, m1: Any, v1: Any, s1: Any) -> Any:
        h = g * 1.0
        for beta, gain, m, v, s in zip(DECAYS, gains, (m0, m1), (v0, v1), (s0, s1), strict=True):
            mass = 1 - beta**t
            if (
                spike is not None
                and t > 10
                and float((g * g).sum()) > spike**2 * float(v.sum()) / (1 - beta ** (t - 1))
            ):
                for x in (m, v, s):  # forget: what was agreed on belongs to another time
                    x *= 0.1
            m *= beta
            m += (1 - beta) * g
            v *= beta
            v += (1 - beta) * g * g
            s *= beta
            s += (1 - beta) * np.sign(g)
            if t == 1:
                continue
            floor = (1 - beta) * (1 + beta**t) / ((1 + beta) * mass)
            h += gain * resonance((m / mass) ** 2 / (v / mass + 1e-12), (s / mass) ** 2, floor) * m / mass
        return h

    return leafwise(kernel, ("m0", "v0", "s0", "m1", "v1", "s1"), elementwise=False)


def excess(c: Any, floor: float) -> Any:
    return np.clip((c - floor) / (1 - floor), 0, 1)


def significant(c: Any, floor: float) -> Any:
    """1 where the mean is two standard errors from 0: t² = c (n − 1) / (1 − c) > 4, with n = 1 / c0 gradients."""
    return (c * (1 / floor + 3) > 4).astype(c.dtype)


RULES: dict[str, Callable[[Sequence[float]], GradientTransform]] = {
    "none": lambda gains: identity(),
    "no gate": lambda gains: vortex(DECAYS, gains, gate="none"),
    "coordinate": lambda gains: vortex(DECAYS, gains),
    "coordinate, γ = 4": lambda gains: vortex(DECAYS, gains, exponent=4.0),
    "tensor": lambda gains: vortex(DECAYS, gains, gate="tensor"),
    "signs": lambda gains: _own(gains, lambda c, s, floor: excess(s, floor)),
    "t-test": lambda gains: _own(gains, lambda c, s, floor: significant(c, floor)),
    "forgets spikes": lambda gains: _own(gains, lambda c, s, floor: excess(c, floor), spike=3.0),
}
"""By name. All that keep memories but "no gate" are gated."""
