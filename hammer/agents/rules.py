"""Rules that make one vector of many, so that a minority of them cannot bend it.

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
* ``NearestNeighborMixing(rule, f)``: the rule on the means of each row's n − f nearest rows (Allouah et al. 2023, "Fixing by mixing").

Not every rule is harmless without attackers: for one coordinate of ±1 a median is ±1 where the mean is near 0 (see the tests).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autograd.gradients.scaling import number, whole


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
        v = np.median(x, axis=0) if self.start == "median" else _mean(x)
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
        means = [_mean(x[order[i : i + self.size]]) for i in range(0, len(x), self.size)]
        matrix = np.reshape(means, (-1, x.shape[1])).astype(
            x.dtype, copy=False
        )  # of no rows, too, as the other rules have it
        return self.rule(matrix, center, found, rng)


@dataclass(frozen=True)
class NearestNeighborMixing(Rule):
    """Another rule on means of neighbours: each row becomes the mean of the n − f rows nearest to it, itself among them.

    An honest row is then nearly the mean of the honest rows, so the rows that the rule sees are close together, and there is little
    left to hide in.

    Args:
        rule: what aggregates the means, such as ``TrimmedMean(f)``.
        faulty: f, below half the rows.
    """

    rule: Rule
    faulty: int

    def __post_init__(self) -> None:
        whole("NearestNeighborMixing: faulty", self.faulty, 0)

    def check(self, rows: int) -> None:
        _need("NearestNeighborMixing", self.faulty, rows, 2 * self.faulty + 1)
        self.rule.check(rows)

    def __call__(
        self, x: np.ndarray, center: np.ndarray, found: int = 0, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        near = max(len(x) - max(self.faulty - found, 0), 1)
        nearest = np.sort(np.argsort(distances(x), axis=1, kind="stable")[:, :near], axis=1)
        return self.rule(np.stack([_mean(x[rows]) for rows in nearest]), center, found, rng)


def _need(name: str, faulty: int, rows: int, least: int) -> None:
    if rows < least:
        raise ValueError(
            f"{name}: {faulty} faulty of {rows} rows are too many; it needs at least {least} rows for that"
        )


def _mean(x: np.ndarray) -> np.ndarray:
    """The mean of rows of finite numbers, which is finite too: a sum of huge ones overflows, and would be left to the rule as inf."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = x.mean(axis=0)
    if len(x) and not np.isfinite(mean).all():
        mean = (x * x.dtype.type(1 / len(x))).sum(axis=0)
    return mean


def norms(x: np.ndarray) -> np.ndarray:
    """The rows' lengths, in float64."""
    return np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64))


def distances(x: np.ndarray) -> np.ndarray:
    """The distances between rows, in float64."""
    out = np.zeros((len(x), len(x)))
    for i in range(len(x) - 1):
        out[i, i + 1 :] = out[i + 1 :, i] = norms(x[i + 1 :] - x[i])
    return out


RULES: dict[str, Callable[..., Rule]] = {
    "mean": lambda faulty: Mean(),
    "median": lambda faulty: CoordinateMedian(),
    "trimmed mean": lambda faulty: TrimmedMean(faulty),
    "krum": lambda faulty: Krum(faulty),
    "multi-krum": lambda faulty: Krum(faulty, 2 * faulty + 1),
    "geometric median": lambda faulty: GeometricMedian(),
    "centered clipping": lambda faulty: CenteredClipping(),
    "mixing, trimmed mean": lambda faulty: NearestNeighborMixing(TrimmedMean(faulty), faulty),
}
"""Rules by name, for f faulty ranks; for tables that compare them. Each is a function of f."""
