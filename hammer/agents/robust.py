"""Aggregation that a minority of faulty or lying ranks cannot bend: ``aggregate(comm, rule)`` in place of the mean.

A *rule* takes the ranks' gradients, the rows of a matrix, and gives one vector. f is the number of rows that may be anything;
those that send an honest gradient plus noise are the rest.

* ``CoordinateMedian`` and ``TrimmedMean(f)``: each coordinate by itself (Yin et al. 2018).
* ``Krum(f)``: the row nearest to its n − f − 2 nearest others, squared distances added up; with ``choose=m`` the mean of the
  m best such rows: multi-Krum (Blanchard et al. 2017).
* ``GeometricMedian``: the point with the least sum of distances, by Weiszfeld's iteration with smoothed weights
  1 / max(ν, ‖v − xᵢ‖) (Pillutla, Kakade & Harchaoui 2022, "RFA").
* ``CenteredClipping(τ)``: v ← v + mean((xᵢ − v) · min(1, τ / ‖xᵢ − v‖)), from the last step's result (Karimireddy, He & Jaggi
  2021).
* ``Bucketing(rule, s)``: the rule on means of s rows drawn at random (Karimireddy, He & Jaggi 2022), for ranks whose data
  differ.

**Worker momentum.** A rule sees one step, and an attack hidden in the honest ranks' noise bends every step a little in the same
direction ("a little is enough"). Ranks that send m ← β m + (1 − β) g instead (the first m is g) have less noise to hide in; the paper on centered
clipping shows that without it no rule that forgets converges. ``momentum=0.9`` is that β.

**Nothing that is not finite reaches the parameters.** A row with a NaN or an infinity in it is left out, whatever the rule, and
counted (``state["rejected"]``); f goes down by as many, for they are found. If no row is left, or what a rule makes of finite
rows overflows, there is no update.

**Cost.** Every rank gets every row and applies the rule itself, so all have the same bits without trusting one of them: n · b
bytes of memory, and b handed over, for gradients of b bytes.

Not every rule is harmless without attackers: for one coordinate of ±1 a median is ±1 where the mean is near 0 (see the tests).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autograd.gradients import GradientTransform
from autograd.gradients.base import Link
from autograd.gradients.scaling import number, whole

from .attacks import Attack
from .buckets import buckets_of
from .communicator import Communicator


class Rule:
    """What makes one vector of many. A rule is a value: it keeps nothing between calls."""

    def __call__(
        self, x: np.ndarray, center: np.ndarray, found: int = 0, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """The aggregate.

        Args:
            x: a matrix of finite numbers, a row for each rank; not changed.
            center: the result of the last call, or zeros.
            found: faulty rows that were left out already.
            rng: for rules that draw.
        """
        raise NotImplementedError

    def check(self, rows: int) -> None:
        """Raise a ValueError where the rule needs more rows."""


@dataclass(frozen=True)
class Mean(Rule):
    """The mean: no protection but against what is not finite."""

    def __call__(
        self, x: np.ndarray, center: np.ndarray, found: int = 0, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        return x.mean(axis=0)


@dataclass(frozen=True)
class CoordinateMedian(Rule):
    """The median of each coordinate; of an even number of rows the mean of the two in the middle."""

    def __call__(
        self, x: np.ndarray, center: np.ndarray, found: int = 0, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        return np.median(x, axis=0)


@dataclass(frozen=True)
class TrimmedMean(Rule):
    """The mean of each coordinate without its f smallest and f largest values.

    Args:
        faulty: f, below half the rows.
    """

    faulty: int

    def __post_init__(self) -> None:
        whole("TrimmedMean: faulty", self.faulty, 0)

    def check(self, rows: int) -> None:
        _need("TrimmedMean", self.faulty, rows, 2 * self.faulty + 1)

    def __call__(
        self, x: np.ndarray, center: np.ndarray, found: int = 0, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        f = min(max(self.faulty - found, 0), (len(x) - 1) // 2)
        return np.partition(x, (f, len(x) - 1 - f), axis=0)[f : len(x) - f].mean(axis=0) if f else x.mean(axis=0)


@dataclass(frozen=True)
class Krum(Rule):
    """The most central rows: of the least sum of squared distances to their n − f − 2 nearest others.

    Args:
        faulty: f; there must be at least 2 f + 3 rows.
        choose: of how many rows the mean is taken; 1 is Krum, more are multi-Krum, at most n − f.
    """

    faulty: int
    choose: int = 1

    def __post_init__(self) -> None:
        whole("Krum: faulty", self.faulty, 0)
        whole("Krum: choose", self.choose)

    def check(self, rows: int) -> None:
        _need("Krum", self.faulty, rows, 2 * self.faulty + 3)
        if self.choose > rows - self.faulty:
            raise ValueError(
                f"Krum: choose must be at most the {rows - self.faulty} honest ones of {rows} rows, not {self.choose}"
            )

    def __call__(
        self, x: np.ndarray, center: np.ndarray, found: int = 0, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        n, f = len(x), max(self.faulty - found, 0)
        near = min(max(n - f - 2, 1), n - 1)
        if near < 1:
            return x[0].copy()
        squares = distances(x) ** 2
        np.fill_diagonal(squares, np.inf)
        scores = np.partition(squares, near - 1, axis=1)[:, :near].sum(axis=1)
        best = np.argsort(scores, kind="stable")[: min(self.choose, max(n - f, 1))]
        return x[np.sort(best)].mean(axis=0)


@dataclass(frozen=True)
class GeometricMedian(Rule):
    """The smoothed geometric median.

    Args:
        iterations: of Weiszfeld.
        smoothing: ν, the least distance that counts, in units of the gradient.
        start: "median" of each coordinate, which lies far from no honest row, or the "mean", from where the iteration has a long
            way if there are large outliers.
    """

    iterations: int = 8
    smoothing: float = 1e-6
    start: str = "median"

    def __post_init__(self) -> None:
        whole("GeometricMedian: iterations", self.iterations)
        number("GeometricMedian: smoothing", self.smoothing, "(0, inf)")
        if self.start not in ("median", "mean"):
            raise ValueError(f'GeometricMedian: start must be "median" or "mean", not {self.start!r}')

    def __call__(
        self, x: np.ndarray, center: np.ndarray, found: int = 0, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        v = np.median(x, axis=0) if self.start == "median" else x.mean(axis=0)
        for _ in range(self.iterations):
            weights = 1.0 / np.maximum(self.smoothing, norms(x - v))
            v = ((weights / weights.sum()).astype(x.dtype)[:, None] * x).sum(axis=0)
        return v


@dataclass(frozen=True)
class CenteredClipping(Rule):
    """The mean of the rows' differences from the last result, each clipped to a radius.

    Args:
        radius: τ, in units of the gradient; None: the median of the rows' distances, anew in each iteration, so that nothing is
            to be tuned (our choice; the paper sets a number).
        iterations: how often.
    """

    radius: float | None = None
    iterations: int = 1

    def __post_init__(self) -> None:
        whole("CenteredClipping: iterations", self.iterations)
        if self.radius is not None:
            number("CenteredClipping: radius", self.radius, "(0, inf)")

    def __call__(
        self, x: np.ndarray, center: np.ndarray, found: int = 0, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        v = center
        for _ in range(self.iterations):
            away = x - v
            lengths = norms(away)
            radius = float(np.median(lengths)) if self.radius is None else self.radius
            factors = np.minimum(1.0, radius / np.maximum(lengths, np.finfo(np.float64).tiny))
            v = v + (factors.astype(x.dtype)[:, None] * away).mean(axis=0)
        return v


@dataclass(frozen=True)
class Bucketing(Rule):
    """Another rule on the means of rows put together at random. The rule's f stays: a bucket is faulty if one of its rows is.

    Args:
        rule: what aggregates the means.
        size: rows in a bucket; the last may have fewer.
    """

    rule: Rule
    size: int = 2

    def __post_init__(self) -> None:
        whole("Bucketing: size", self.size)

    def check(self, rows: int) -> None:
        self.rule.check(-(-rows // self.size))

    def __call__(
        self, x: np.ndarray, center: np.ndarray, found: int = 0, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        if rng is None:
            raise ValueError("Bucketing draws random numbers: give aggregate a seed, the same on every rank")
        order = rng.permutation(len(x))
        means = np.stack([x[order[i : i + self.size]].mean(axis=0) for i in range(0, len(x), self.size)])
        return self.rule(means, center, found, rng)


def _need(name: str, faulty: int, rows: int, least: int) -> None:
    if rows < least:
        raise ValueError(
            f"{name}: {faulty} faulty of {rows} rows are too many; it needs at least {least} rows for that"
        )


def norms(x: np.ndarray) -> np.ndarray:
    """The rows' lengths, in float64."""
    return np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64))


def distances(x: np.ndarray) -> np.ndarray:
    """The distances between rows, in float64."""
    out = np.zeros((len(x), len(x)))
    for i in range(len(x) - 1):
        out[i, i + 1 :] = out[i + 1 :, i] = norms(x[i + 1 :] - x[i])
    return out


class _Aggregate(Link):
    def __init__(
        self,
        comm: Communicator,
        rule: Rule,
        momentum: float,
        attack: Attack | None,
        hostile: Sequence[int],
        key: list[int],
    ):
        self.comm, self.rule, self.momentum, self.key = comm, rule, momentum, key
        self.attack, self.hostile = attack, sorted(hostile)

    def start(self, params: list, spec: Any) -> dict:
        n, dtype = _length(params)
        state: dict[str, Any] = {"step": 0, "rejected": 0, "key": list(self.key), "center": np.zeros(n, dtype)}
        if self.momentum:
            state |= {"seen": 0, "momentum": np.zeros(n, dtype)}
        if self.attack is not None:
            state["attack"] = self.attack.start(len(self.hostile), n, dtype)
        return state

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        state["step"] += 1
        buckets = buckets_of(params)
        vector = np.concatenate(buckets.pack(grads)).astype(state["center"].dtype, copy=False)
        header = self.comm.all_gather(np.array([g is not None for g in grads]))
        if (
            self.momentum and np.isfinite(vector).all()
        ):  # what is not finite is sent as it is, and never comes into the memory
            if state["seen"]:
                state["momentum"] *= self.momentum
                state["momentum"] += (1.0 - self.momentum) * vector
            else:
                state["momentum"][...] = vector
            state["seen"] += 1
            vector = state["momentum"]
        rows = self.comm.all_gather(vector).wait()
        rng = (
            np.random.Generator(np.random.Philox(key=state["key"], counter=[0, 0, 0, state["step"]]))
            if state["key"]
            else None
        )
        with np.errstate(over="ignore", invalid="ignore"):
            if self.attack is not None:
                honest = [r for r in range(self.comm.size) if r not in self.hostile]
                rows[self.hostile] = self.attack(rows[honest], rows[self.hostile], state["attack"], rng)
            whole_rows = np.isfinite(rows).all(axis=1)
            out = int((~whole_rows).sum())
            state["rejected"] += out
            total = self.rule(rows[whole_rows], state["center"], out, rng) if out < len(rows) else None
        if total is None or not np.isfinite(total).all():
            return [None] * len(params), state
        state["center"] = total = total.astype(state["center"].dtype, copy=False)
        used = header.wait().any(axis=0)
        ends = np.cumsum([n for n, _ in buckets.sizes])[:-1]
        like = [p if there else None for p, there in zip(params, used, strict=True)]
        return buckets.unpack(np.split(total.copy(), ends), like), state


def _length(params: list) -> tuple[int, np.dtype]:
    """Elements of all leaves, and the dtype that holds each of them."""
    sizes = buckets_of(params).sizes
    return sum(n for n, _ in sizes), np.result_type(np.float32, *(dtype for _, dtype in sizes))


def aggregate(
    comm: Communicator,
    rule: Rule,
    *,
    momentum: float = 0.0,
    attack: Attack | None = None,
    hostile: Sequence[int] = (),
    seed: np.random.SeedSequence | int | None = None,
) -> GradientTransform:
    """Let through what a rule makes of the ranks' gradients, the same bits on every rank.

    Args:
        comm: the ranks; each call takes one gradient from every one of them.
        rule: ``CoordinateMedian()``, ``CenteredClipping()``, …; see the module.
        momentum: β of the worker momentum, in [0, 1). It is in the state and each rank has its own: save every rank's.
        attack, hostile: for tests and studies: what the ranks of that list send instead, see ``attacks``. Every rank passes the same.
        seed: for rules and attacks that draw random numbers; the same on every rank.

    The state: ``"rejected"``, how many gradients were left out because they were not finite; ``"center"``, the last result.

    Raises:
        ValueError: too few ranks for the rule, hostile ranks that do not exist, or an attack without them.
        TypeError: something else than a rule.
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"aggregate needs a rule, such as CoordinateMedian(), not {rule!r:.60}")
    rule.check(comm.size)
    beta = number("aggregate: momentum", momentum, "[0, 1)")
    if len(set(hostile)) != len(hostile) or not all(0 <= r < comm.size for r in hostile):
        raise ValueError(f"aggregate: hostile must be different ranks from 0 to {comm.size - 1}, not {list(hostile)}")
    if (attack is None) != (not hostile) or len(hostile) >= comm.size:
        raise ValueError("aggregate: an attack and its hostile ranks go together, and one rank at least must be honest")
    sequence = seed if isinstance(seed, np.random.SeedSequence) or seed is None else np.random.SeedSequence(seed)
    key = [] if sequence is None else sequence.generate_state(2, np.uint64).tolist()
    if attack is not None and attack.random and not key:
        raise ValueError(f"aggregate: {type(attack).__name__} draws random numbers: pass seed, the same on every rank")
    return _Aggregate(comm, rule, beta, attack, hostile, key).transform()


RULES: dict[str, Callable[..., Rule]] = {
    "mean": lambda faulty: Mean(),
    "median": lambda faulty: CoordinateMedian(),
    "trimmed mean": lambda faulty: TrimmedMean(faulty),
    "krum": lambda faulty: Krum(faulty),
    "multi-krum": lambda faulty: Krum(faulty, 2 * faulty + 1),
    "geometric median": lambda faulty: GeometricMedian(),
    "centered clipping": lambda faulty: CenteredClipping(),
}
"""Rules by name, for f faulty ranks; for tables that compare them. Each is a function of f."""
