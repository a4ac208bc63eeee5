"""How far will it scale? A model of two numbers, fitted to measured all-reduce times, and taken to ranks that are not there.

An all-reduce of b bytes on n ranks takes, in the α–β model (Hockney 1994; Thakur, Rabenseifner & Gropp 2005),

    T(n, b) = s(n) · α + 2 (n − 1)/n · b · β        α: seconds for a message to start; β: seconds for a byte to pass

with s(n) = 2 (n − 1) steps in a ring, which is what it takes for large b, or 2 ⌈log₂ n⌉ by recursive halving and doubling.

    samples = agents.scaling.measure(comm)                      # on the ranks that there are
    model = agents.scaling.fit(samples, comm.size)
    print(agents.scaling.predict(model, nbytes=4e6, compute=0.05))      # 8 to 4,096 ranks, with what is assumed

A prediction is arithmetic on paper, not a measurement; it prints its assumptions, and most of them are kind to large numbers of
ranks.
"""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from autograd.gradients.scaling import number, whole

from .communicator import Communicator

SIZES = (1 << 10, 1 << 13, 1 << 16, 1 << 19, 1 << 22)
"""Bytes of the vectors that are measured."""
RANKS = tuple(8 << k for k in range(10))
"""8, 16, … 4,096."""
ALGORITHMS = {"ring": lambda n: 2 * (n - 1), "halving": lambda n: 2 * math.ceil(math.log2(n)) if n > 1 else 0}


@dataclass(frozen=True)
class AlphaBeta:
    """The fitted model.

    Attributes:
        alpha: seconds for a message to start.
        beta: seconds for a byte.
        ranks: on how many ranks it was fitted.
        algorithm: how the measured all-reduce is taken to work: "ring" or "halving".
        error: the largest relative deviation of the model from a measured time.
    """

    alpha: float
    beta: float
    ranks: int
    algorithm: str = "halving"
    error: float = 0.0

    def seconds(self, nbytes: float, ranks: int, algorithm: str | None = None) -> float:
        """The time of an all-reduce."""
        steps = ALGORITHMS[algorithm or self.algorithm](ranks)
        return steps * self.alpha + 2 * (ranks - 1) / ranks * nbytes * self.beta

    def __str__(self) -> str:
        per_second = f"{1 / self.beta / 1e9:.3g} GB/s" if self.beta else "a bandwidth too large to be seen"
        return f"α {1e6 * self.alpha:.3g} µs, {per_second} ({self.algorithm}, fitted on {self.ranks} ranks, off by up to {self.error:.0%})"


def measure(comm: Communicator, sizes: Sequence[int] = SIZES, repeats: int = 7) -> list[tuple[int, float]]:
    """Times of all-reduces of float32 vectors, the same list on every rank.

    Args:
        comm: the ranks.
        sizes: bytes of the vectors, at least 4 each.
        repeats: of each, from which the median is taken, of the slowest rank's time.

    Returns:
        (bytes, seconds) for each size.
    """
    whole("repeats", repeats)
    found = []
    for size in sizes:
        x = np.zeros(max(1, size // 4), np.float32)
        comm.all_reduce_in_place(x)
        times = []
        for _ in range(repeats):
            comm.barrier()
            start = time.perf_counter()
            comm.all_reduce_in_place(x)
            times.append(time.perf_counter() - start)
        slowest = np.array(times)
        comm.all_reduce_in_place(slowest, "max")
        found.append((x.nbytes, statistics.median(slowest.tolist())))
    return found


def fit(samples: Sequence[tuple[float, float]], ranks: int, algorithm: str = "halving") -> AlphaBeta:
    """The model with the least squares of relative deviations, neither number below 0.

    Args:
        samples: (bytes, seconds), of two sizes at least.
        ranks: on how many ranks they were measured, at least 2.
        algorithm: "ring" or "halving"; which one an MPI library takes depends on the size.

    Raises:
        ValueError: one rank, one size, a time that is not more than 0, or another algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f'fit: algorithm must be "ring" or "halving", not {algorithm!r}')
    if whole("ranks", ranks) < 2:
        raise ValueError("fit: one rank sends nothing, so there is nothing to fit; measure on two at least")
    b, t = np.array(samples, np.float64).reshape(-1, 2).T
    if len(set(b.tolist())) < 2 or not (t > 0).all():
        raise ValueError("fit: needs times, all more than 0, of vectors of two sizes at least")
    terms = np.stack([np.full_like(b, ALGORITHMS[algorithm](ranks)), 2 * (ranks - 1) / ranks * b], axis=1) / t[:, None]
    size = np.linalg.norm(terms, axis=0)  # the two columns differ by many powers of ten
    (alpha, beta), _ = nnls(terms / size, np.ones_like(t))
    alpha, beta = alpha / size[0], beta / size[1]
    error = np.max(np.abs(terms @ [alpha, beta] - 1.0))
    return AlphaBeta(float(alpha), float(beta), ranks, algorithm, float(error))


@dataclass(frozen=True)
class Prediction:
    """Steps of data parallel training on numbers of ranks that were not measured.

    Attributes:
        model: what it follows from.
        nbytes: of a step's gradients.
        compute: seconds that a rank computes in a step.
        messages: all-reduces in a step.
        hidden: part of ``compute`` beside which communication costs nothing.
        rows: (ranks, seconds of all-reduce in a ring, by halving, seconds of a step by the faster, parallel efficiency).
    """

    model: AlphaBeta
    nbytes: float
    compute: float
    messages: int
    hidden: float
    rows: tuple[tuple[int, float, float, float, float], ...]

    @property
    def assumptions(self) -> list[str]:
        return [
            f"{self.model}; both numbers stay the same between any two ranks: as if all were connected like those measured",
            "every rank has the same work as now, however many there are (weak scaling), and none is late",
            f"a step sends {self.nbytes:,.0f} bytes in {self.messages} all-reduce{'s' * (self.messages > 1)}, by the faster of ring and halving",
            f"{self.hidden:.0%} of the computing time can hide communication",
            "adding up what arrives costs nothing, and links are not shared",
        ]

    def __str__(self) -> str:
        lines = [f"{'ranks':>6}{'ring':>12}{'halving':>12}{'step':>12}{'efficiency':>12}"]
        lines += [
            f"{n:>6,}{1e3 * ring:>9.3g} ms{1e3 * halving:>9.3g} ms{1e3 * step:>9.3g} ms{part:>12.1%}"
            for n, ring, halving, step, part in self.rows
        ]
        return "\n".join([*lines, "Computed, not measured. Assumed:", *(f"- {one}" for one in self.assumptions)])


def predict(
    model: AlphaBeta,
    nbytes: float,
    compute: float,
    *,
    messages: int = 1,
    hidden: float = 0.0,
    ranks: Sequence[int] = RANKS,
) -> Prediction:
    """Step times and efficiency on numbers of ranks that were not measured.

    Args:
        model: of ``fit``.
        nbytes: of a step's gradients.
        compute: seconds that a rank computes in a step, such as the timeline's, divided by its steps.
        messages: all-reduces in a step: the number of buckets.
        hidden: part of ``compute`` beside which communication costs nothing, from 0 to 1.
        ranks: how many.

    Raises:
        ValueError: a number out of range.
    """
    nbytes, compute = number("nbytes", nbytes, "[0, inf)"), number("compute", compute, "(0, inf)")
    whole("messages", messages), number("hidden", hidden, "[0, 1]")
    rows = []
    for n in ranks:
        each = {name: messages * model.seconds(nbytes / messages, whole("ranks", n), name) for name in ALGORITHMS}
        step = compute + max(0.0, min(each.values()) - hidden * compute)
        rows.append((n, each["ring"], each["halving"], step, compute / step))
    return Prediction(model, nbytes, compute, messages, hidden, tuple(rows))
