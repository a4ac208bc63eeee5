"""The gradient noise scale: how many examples a batch needs until its gradient is more signal than noise.

For examples with gradient covariance Σ and true gradient G the *simple noise scale* is B = tr Σ / |G|² (McCandlish et al., "An empirical
model of large-batch training", 2018, section 2.2 and appendix A.1). Both parts are estimated without bias, and averaged over time
before they are divided: a mean of ratios would be far off.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optree

from autograd.gradients import global_norm


@dataclass(frozen=True)
class Moments:
    """Unbiased estimates of |G|² (may come out below 0 where noise prevails) and tr Σ."""

    signal: float
    noise: float

    @property
    def scale(self) -> float:
        """B, in examples; infinite where no signal shows."""
        return self.noise / self.signal if self.signal > 0 else math.inf


def from_two_batches(small: float, large: float, b_small: int, b_large: int) -> Moments:
    """Moments from the squared norms of mean gradients over ``b_small`` and ``b_large`` examples at the same parameters.

    |G|² = (b₂|g₂|² − b₁|g₁|²)/(b₂ − b₁) and tr Σ = (|g₁|² − |g₂|²)/(1/b₁ − 1/b₂). The batches may overlap: only means enter.
    """
    if not 0 < b_small < b_large:
        raise ValueError(f"noise scale: the batches must be of different size, not {b_small!r} and {b_large!r}")
    signal = (b_large * large - b_small * small) / (b_large - b_small)
    return Moments(signal, (small - large) / (1 / b_small - 1 / b_large))


def from_parts(gradients: Sequence[Any], examples: int) -> Moments:
    """Moments from the gradients of disjoint parts of a batch, of ``examples`` examples each (micro-batches, ranks).

    Args:
        gradients: two or more trees or lists of arrays of one structure.
        examples: in each part.
    """
    if len(gradients) < 2:
        raise ValueError("noise scale: at least two parts are needed")
    small = sum(squared(g) for g in gradients) / len(gradients)
    return from_two_batches(small, squared(_mean(gradients)), examples, examples * len(gradients))


def from_examples(norms: Any, mean: Any) -> Moments:
    """Moments from every example's gradient norm (n,), n ≥ 2 (``autograd.per_example_norms``), and the mean gradient, a tree."""
    squares = [float(x) ** 2 for x in norms]
    return from_two_batches(sum(squares) / len(squares), squared(mean), 1, len(squares))


def squared(tree: Any) -> float:
    """The squared norm of all elements of a tree of arrays."""
    return global_norm(_leaves(tree)) ** 2


def _mean(trees: Sequence[Any]) -> list[Any]:
    return [sum(parts[1:], parts[0]) / len(parts) for parts in zip(*map(_leaves, trees), strict=True)]


def _leaves(tree: Any) -> list[Any]:
    return [leaf for leaf in optree.tree_leaves(tree, none_is_leaf=True) if leaf is not None]  # type: ignore[arg-type]


class NoiseScale:
    """Moments averaged over time, with weights that fade: m ← decay · m + (1 − decay) · x, corrected for its start.

    Args:
        decay: from 0 (the last estimate alone) to below 1; 1 averages all alike, right while parameters hardly move.
    """

    def __init__(self, decay: float = 0.95):
        if not 0 <= decay <= 1:
            raise ValueError(f"NoiseScale: decay must be from 0 to 1, not {decay!r}")
        self.decay = decay
        self.state = {"signal": 0.0, "noise": 0.0, "weight": 0.0, "count": 0}

    def observe(self, moments: Moments) -> None:
        """Take in an estimate."""
        s = self.state
        keep, add = (1.0, 1.0) if self.decay == 1 else (self.decay, 1 - self.decay)
        for name, value in (*asdict(moments).items(), ("weight", 1.0)):
            s[name] = keep * s[name] + add * value
        s["count"] += 1

    @property
    def moments(self) -> Moments | None:
        """The averages; None before the first estimate."""
        s = self.state
        return None if not s["weight"] else Moments(s["signal"] / s["weight"], s["noise"] / s["weight"])

    @property
    def scale(self) -> float | None:
        """B; None before the first estimate."""
        return None if self.moments is None else self.moments.scale
