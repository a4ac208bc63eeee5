"""``check_grads``: whether a function's derivatives are right, in reverse and forward mode and of higher order.

The derivative along directions is found by evaluating the function (``autograd.testing.numeric``) and compared with
what the tape gives. A comparison allows a relative error and the *measured* uncertainty of the reference, never an
absolute amount: a gradient of 1e-9 that should be 2e-9 is wrong, and where rounding noise hides so small a derivative
the check says so instead of passing.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .numeric import Estimate, Vector, direction, sizes
from .problem import Problem, Space


class WrongDerivative(AssertionError):
    """The tape's derivative is not the one that evaluations give."""


class NotDifferentiable(AssertionError):
    """The function has no derivative at this point: its one-sided derivatives differ."""


class Undecided(AssertionError):
    """The function's own rounding noise is larger than the derivative, so that a wrong one could hide in it."""


MODES = ("rev", "fwd")
MARGIN = 4  # a reference may be off by so many times its measured uncertainty
RESOLVED = 0.3  # a reference must be certain to this fraction of the derivative, or nothing was checked

NEGLIGIBLE = 1e-9  # what this much smaller than others between the same two arrays may drown in rounding noise


@dataclass(frozen=True)
class Options:
    """How strictly and how widely to check; see ``check_grads``."""

    modes: tuple[str, ...] = MODES
    rtol: float = 1e-6
    directions: int = 2
    undecided: bool = False  # whether derivatives may drown in rounding noise
    floor: float = 0.0  # an absolute error allowed along directions of the inputs' size, for functions of known size
    singly: tuple[int, int] = (128, 24)  # up to so many elements are tried one by one: at order 1, and at higher ones


def check_grads(
    fn: Callable,
    *args: Any,
    order: int = 2,
    modes: Sequence[str] = MODES,
    argnums: int | Sequence[int] | None = None,
    rtol: float = 1e-6,
    directions: int = 2,
    seed: int = 0,
    undecided: str = "fail",
) -> None:
    """Check the derivatives of ``fn`` at ``args`` against complex steps or extrapolated differences.

    Args:
        fn: a deterministic function of arrays, or trees of them, that returns an array, a number or a tree of them. It
            is called with tensors in the place of floating-point and complex leaves; other leaves are passed as they are.
        args: where to check. float16 and float32 leaves are checked in float64, unless ``fn`` refuses that.
        order: up to which order of derivative: 1 checks the gradient, 2 also the derivative of the gradient, and so on.
        modes: "rev" (vector-Jacobian products), "fwd" (Jacobian-vector products), or both; at higher orders in all
            combinations.
        argnums: which arguments to differentiate; all by default.
        rtol: the relative error allowed; the measured uncertainty of the reference comes on top.
        directions: how many random directions and cotangents are tried for each array, beside single elements: of
            small arrays every element is tried on its own.
        seed: of the directions (``numpy.random.SeedSequence``).
        undecided: what to do where the function's own rounding noise is larger than the derivative, so that a wrong
            one could hide in it: "fail", or "pass" if such derivatives are known to be zero. (Single elements may drown
            anyway if the noise is 1e9 times smaller than other derivatives between the same two arrays.)

    Raises:
        WrongDerivative, NotDifferentiable, Undecided: AssertionErrors: a derivative is wrong, does not exist at this point,
            or (unless ``undecided="pass"``) cannot be told from rounding noise. The message names argument, element, mode
            and order, and both values.
        TypeError, ValueError: there is nothing to differentiate, the function is not finite or not deterministic, or an
            option is not known.
    """
    if order < 1 or undecided not in ("fail", "pass"):
        raise ValueError(
            f'check_grads: order must be at least 1 and undecided "fail" or "pass", not {order} and {undecided!r}'
        )
    if not modes or isinstance(modes, str) or not set(modes) <= set(MODES):
        raise ValueError(f"check_grads: modes must be one or both of {MODES}, not {modes!r}")
    options = Options(tuple(modes), rtol, directions, undecided == "pass")
    check_problem(Problem.of(fn, args, argnums), order, options, np.random.default_rng(np.random.SeedSequence(seed)))


def assert_vjp(fn: Callable, *args: Any, rtol: float = 1e-6, seed: int = 0) -> None:
    """Check the first reverse-mode derivative only: ``check_grads(fn, *args, order=1, modes=("rev",))``."""
    check_grads(fn, *args, order=1, modes=("rev",), rtol=rtol, seed=seed)


def assert_jvp_vjp_dual(fn: Callable, *args: Any, rtol: float = 1e-10, seed: int = 0) -> None:
    """Check that forward and reverse mode are each other's transpose: ⟨u, Jv⟩ = ⟨Jᵀu, v⟩ for random u and v.

    The terms of these sums may cancel, so ``rtol`` is relative to the sum of their magnitudes; a difference in the last
    bits of the function's own value is allowed too.
    """
    dual(Problem.of(fn, args), rtol, np.random.default_rng(np.random.SeedSequence(seed)))


def dual(problem: Problem, rtol: float, rng: np.random.Generator) -> None:
    """``assert_jvp_vjp_dual`` for a problem."""
    x = problem.x
    for _ in range(2):
        v, u = direction(rng, sizes(x)), direction(rng, np.ones(problem.outputs.size))
        ahead, back = u * problem.push(x, v), v * problem.pull(x, u)
        rounding = 2.0 ** (5 - problem.bits) * np.abs(u * problem.value(x)).sum()
        if not abs(ahead.sum() - back.sum()) <= rtol * max(np.abs(ahead).sum(), np.abs(back).sum()) + rounding:
            raise WrongDerivative(
                f"forward and reverse mode disagree: ⟨u, Jv⟩ = {ahead.sum():.17g}, ⟨Jᵀu, v⟩ = {back.sum():.17g}"
            )


class Way(NamedTuple):
    """What to differentiate along, or of: a combination of elements of one array.

    ``unit`` is the length of the direction of a single element, and 1 for a random one.
    """

    label: str
    v: Vector
    array: int
    unit: float


def check_problem(
    problem: Problem, order: int, options: Options, rng: np.random.Generator, path: str = "", level: int = 1
) -> None:
    """Check one order of derivative, then the functions that the modes make of it, at the next."""
    single = options.singly[min(level, 2) - 1]
    scale = np.concatenate(
        [np.zeros(0), *(sizes(problem.x[problem.inputs.owner == a]) for a in range(len(problem.inputs.names)))]
    )
    ways = _ways(problem.inputs, scale, options.directions, single, rng, "{} along a random direction")
    cotangents = _ways(
        problem.outputs, np.ones(problem.outputs.size), options.directions, single, rng, "a random sum over {}"
    )
    estimates = [problem.estimate(way.v) for way in ways]
    for mode in options.modes:
        check = _Check(problem, options, f"order {level}, mode {mode}{path}", ways, estimates)
        if mode == "fwd":
            check.forward()
        elif cotangents:
            check.reverse(cotangents)
    if level < order and ways and cotangents:
        if "rev" in options.modes:
            u = direction(rng, np.ones(problem.outputs.size))
            check_problem(problem.pulled(u), order, options, rng, f" over rev{path}", level + 1)
        if "fwd" in options.modes:
            v = direction(rng, scale)
            check_problem(problem.pushed(v), order, options, rng, f" over fwd{path}", level + 1)


def _ways(space: Space, scale: Vector, several: int, single: int, rng: np.random.Generator, text: str) -> list[Way]:
    """Each array on its own at random, and single elements (all of them, if they are few)."""
    places = np.arange(space.size)
    found: list[Way] = []
    if space.size > single:
        for a, name in enumerate(space.names):
            if space.lengths[a]:
                found += [
                    Way(text.format(name), np.where(space.owner == a, direction(rng, scale), 0.0), a, 1.0)
                    for _ in range(several)
                ]
        places = np.sort(rng.choice(places, single // 4, replace=False))
    found += [
        Way(space.name(i), np.where(np.arange(space.size) == i, scale, 0.0), int(space.owner[i]), float(scale[i]))
        for i in map(int, places)
    ]
    return found


def _weighted(e: Estimate, us: np.ndarray) -> Estimate:
    """The estimate for weighted sums of the outputs, with a row of ``us`` for each."""
    weights = np.abs(us)
    with np.errstate(invalid="ignore"):  # 0 · inf: an output that this cotangent leaves out
        error = np.where(weights > 0, weights * e.error, 0.0).sum(axis=1)
    kink = (weights * e.kink).sum(axis=1) > 0
    second = None if e.second is None else _weighted(e.second, us)
    return Estimate(us @ e.value, error, weights @ e.moved, kink, us @ e.left, us @ e.right, e.method, second)


class _Check:
    """One mode at one order: what the tape finds against what evaluations find."""

    def __init__(self, problem: Problem, options: Options, title: str, ways: list[Way], estimates: list[Estimate]):
        self.problem, self.options, self.title, self.ways, self.estimates = problem, options, title, ways, estimates
        self.values = problem.magnitude()
        self.largest = np.zeros(
            (len(problem.inputs.names), len(problem.outputs.names))
        )  # derivative, by pairs of arrays
        for way, e in zip(ways, estimates, strict=True):
            np.maximum.at(self.largest[way.array], problem.outputs.owner, np.abs(e.value))

    def forward(self) -> None:
        problem = self.problem
        for way, e in zip(self.ways, self.estimates, strict=True):
            found = problem.push(problem.x, way.v)

            def tape(x: Vector, i: int, v: Vector = way.v) -> float:
                return problem.push(x, v)[i]

            largest = self.largest[way.array, problem.outputs.owner]
            self._judge(
                way, found, e, self.values, np.abs(found), largest, problem.outputs.name, tape, lambda e, i: e.value[i]
            )

    def reverse(self, cotangents: list[Way]) -> None:
        problem = self.problem
        gradients = [problem.pull(problem.x, c.v) for c in cotangents]
        us = np.stack([c.v for c in cotangents])
        weights = np.abs(us)
        for way, e in zip(self.ways, self.estimates, strict=True):
            found = np.stack([g @ way.v for g in gradients])
            terms = np.stack([np.abs(g) @ np.abs(way.v) for g in gradients])

            def tape(x: Vector, i: int, v: Vector = way.v) -> float:
                return problem.pull(x, us[i]) @ v

            largest = self.largest[way.array, [c.array for c in cotangents]]
            self._judge(
                way,
                found,
                _weighted(e, us),
                weights @ self.values,
                terms,
                largest,
                lambda i: cotangents[i].label,
                tape,
                lambda e, i: us[i] @ e.value,
            )

    def _judge(
        self,
        way: Way,
        found: Vector,
        e: Estimate,
        values: Vector,
        terms: Vector,
        largest: Vector,
        name: Callable[[int], str],
        tape: Callable[[Vector, int], float],
        pick: Callable[[Estimate, int], float],
    ) -> None:
        """Compare, and describe the first failure. What agrees with either of two estimates that contradict one another is right.

        ``values`` is the magnitude of what is differentiated, ``terms`` the magnitude of what ``found`` is a sum of, ``largest`` the largest derivative between the same two
        arrays; ``tape(x, i)`` finds element i at another x, and ``pick(estimate, i)`` is that element in an estimate.
        """
        if e.second is not None:
            with contextlib.suppress(AssertionError):
                self._judge(way, found, e.second, values, terms, largest, name, tape, pick)
                return
        slack = self.options.floor + MARGIN * e.error + 2.0 ** (4 - self.problem.bits) * terms
        with np.errstate(invalid="ignore"):
            gap, size = np.abs(found - e.value), np.fmax(np.abs(found), np.abs(e.value))
            known = np.isfinite(e.error)
            equal = (found == e.value) & known
            # saturated: along a direction as large as x the function hardly changes by its last bit, whichever of the two is
            # right; rules such as 1 - tanh² round to 0 there
            ulp = 2.0 ** (1 - self.problem.bits) * values
            flat = (np.abs(e.value) <= ulp) & (np.abs(found) <= 128 * ulp)
            wrong = ~np.isfinite(found) | (~equal & ~flat & ~(gap <= self.options.rtol * size + slack))
            # a zero that the function visibly passes through is a zero
            resolved = (MARGIN * e.error <= RESOLVED * size) | (MARGIN * e.error <= 1e-6 * e.moved)
            drowned = ~wrong & ~equal & ~flat & (~known | (~resolved if e.method == "differences" else False))
        label, unit = way.label, way.unit
        if e.kink.any():
            i = int(np.argmax(e.kink))
            raise NotDifferentiable(
                f"not differentiable here ({self.title}): {label}: the one-sided derivatives of {name(i)} are "
                f"{e.left[i] / unit:.6g} and {e.right[i] / unit:.6g}; the tape gives {found[i] / unit:.6g}. Check at another point"
            )
        for i in map(int, np.flatnonzero(wrong)):
            noise = self._noise(way, i, tape, pick)
            if np.isfinite(found[i]) and gap[i] <= self.options.rtol * size[i] + slack[i] + MARGIN * noise:
                drowned[i] = MARGIN * noise > RESOLVED * size[i]
                continue
            raise WrongDerivative(
                f"wrong derivative ({self.title}): of {name(i)} with respect to {label}: the tape gives {found[i] / unit:.10g}, "
                f"{e.method} {e.value[i] / unit:.10g} ± {e.error[i] / unit:.1g} (relative error {gap[i] / size[i]:.2g})"
            )
        drowned &= ~(MARGIN * e.error <= np.maximum(NEGLIGIBLE * largest, self.options.floor))
        if drowned.any() and not self.options.undecided:
            i = int(np.argmax(drowned))
            raise Undecided(
                f"cannot be decided ({self.title}): of {name(i)} with respect to {label}: the tape gives {found[i] / unit:.10g}, "
                f"{e.method} {e.value[i] / unit:.3g} ± {MARGIN * e.error[i] / unit:.2g}: the function's rounding noise is larger "
                'than the derivative. Check it where it is larger, or pass undecided="pass" if it is zero'
            )

    def _noise(
        self, way: Way, i: int, tape: Callable[[Vector, int], float], pick: Callable[[Estimate, int], float]
    ) -> float:
        """The rounding noise of both sides, looked at more closely: a first estimate comes from few values."""
        problem = self.problem
        nudge = 2.0 ** (5 - problem.bits) * sizes(problem.x)
        ours = [tape(problem.x + k * nudge, i) for k in range(5)]
        theirs = [pick(problem.estimate(c * way.v), i) / c for c in (0.625, 0.75, 0.875, 1.125, 1.25)]
        return float(np.ptp(ours) + np.ptp(theirs))
