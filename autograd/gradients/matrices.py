"""Directions that look at a leaf as a matrix, or as a tensor with one matrix for each axis: Muon's, Shampoo's, SOAP's.

A leaf's state has a list of arrays, one for each axis, where ``scaling`` has one array. What 16-bit leaves keep of this kind is
float32. Eigenvectors are found in float64: statistics have condition numbers that float32 cannot hold. Where a statistic
is not finite, neither are the updates, as with any other link.
"""

import math
from typing import Any, Literal

from .. import backend
from .base import GradientTransform, Link, leafwise, link_of, zeros_like
from .scaling import number, squared, whole

NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
"""Jordan's coefficients: singular values end between about 0.7 and 1.2 after five steps, from 0.003 on."""


def orthogonalize(
    steps: int = 5,
    adjust: Literal["original", "match_rms_adamw"] | None = None,
    coefficients: tuple[float, float, float] = NEWTON_SCHULZ,
    eps: float = 1e-7,
) -> GradientTransform:
    """Bring the singular values of a matrix near 1 by a Newton–Schulz iteration (Jordan et al. 2024, Muon).

    A leaf of more than two axes counts as the matrix of its first axis by all others. The iteration is
    ``X ← a X + (b A + c A²) X`` with ``A = X Xᵀ``, from X = g / ‖g‖, in the dtype of the leaf (float32 for 16 bits).

    Args:
        steps: iterations.
        adjust: what rows m by columns n are multiplied with: nothing; √max(1, m/n) ("original"); or 0.2 √max(m, n), so that the
            root mean square of an update is that of AdamW's and learning rates carry over (Liu et al. 2025).
        coefficients: a, b, c.
        eps: the least norm that is divided by.

    Raises:
        TypeError: a leaf of less than two axes; give those another transform with ``partition``.
    """
    if adjust not in (None, "original", "match_rms_adamw"):
        raise ValueError(f"adjust must be None, 'original' or 'match_rms_adamw', not {adjust!r}")
    a, b, c = (number("coefficients", x, "(-inf, inf)") for x in coefficients)
    least, rounds = number("eps", eps, "(0, inf)"), whole("steps", steps, 0)

    def kernel(g: Any, p: Any) -> Any:
        xp = backend.xp(g)
        if g.ndim < 2:
            raise TypeError(
                f"orthogonalize: a leaf of shape {tuple(g.shape)} is no matrix; give it another transform with partition()"
            )
        x = _unfolded(_wide(g), 0)
        m, n = x.shape
        if m > n:
            x = x.T
        x = x * _over_norm(x, least)
        for _ in range(rounds):
            gram = x @ x.T
            x = a * x + (b * gram + c * (gram @ gram)) @ x
        if m > n:
            x = x.T
        if adjust is not None:
            x = x * (math.sqrt(max(1.0, m / n)) if adjust == "original" else 0.2 * math.sqrt(max(m, n)))
        return _like(xp.reshape(x, g.shape), g)

    return leafwise(kernel, elementwise=False)


def scale_by_shampoo(decay: float = 1.0, eps: float = 1e-4, every: int = 1, max_size: int = 1024) -> GradientTransform:
    """Multiply a gradient along each of its k axes with ``(S_i + eps I)^(−1/2k)`` (Gupta et al. 2018, algorithm 2).

    S_i is the sum over all updates of ``G_i G_iᵀ``, where G_i has the gradient's i-th axis as rows. With ``decay`` below 1 it is a
    running mean, corrected for its start at 0 (Anil et al. 2020; Shi et al. 2023). An eps below the rounding error of S_i is
    raised to it. k counts the axes of at most ``max_size``
    elements; longer ones are left as they are. A number is a vector of one element. The powers are found anew at the
    first and then at every ``every``-th update of a leaf.
    """
    beta, e = number("decay", decay, "(0, 1]"), number("eps", eps)
    period, longest = whole("every", every), whole("max_size", max_size)

    def kernel(g: Any, p: Any, t: int, stats: list, roots: list) -> Any:
        _gather(stats, g, beta, 1 - beta if beta < 1 else 1.0)
        if (t - 1) % period == 0:
            weight = 1 - beta**t if beta < 1 else 1.0
            power = -0.5 / max(1, sum(s is not None for s in stats))
            for stat, root in zip(stats, roots, strict=True):
                if stat is not None:
                    root[...] = _power(stat * (1 / weight), power, e)
        return _along(g, roots)

    make = lambda p: _per_axis(p, longest)
    return leafwise(kernel, {"stats": make, "roots": make}, elementwise=False)


def scale_by_soap(
    b1: float = 0.95,
    b2: float = 0.95,
    decay: float | None = None,
    eps: float = 1e-8,
    every: int = 10,
    max_size: int = 10000,
    vectors: bool = False,
) -> GradientTransform:
    """Adam in the eigenbases of Shampoo's statistics (Vyas et al. 2024, algorithm 3).

    With the statistics S_i of ``scale_by_shampoo``, as running means with ``decay`` (b2 if None), and bases Q_i: the first moment is
    kept as it is, the second of the gradient turned into the bases; their quotient, corrected for bias, is turned back. As in
    the authors' code the first update of a leaf only finds its statistics and bases, and is 0; after every ``every``-th
    update the bases take one step of orthogonal iteration, ``Q ← qr(S Q)``, its columns in the order of their eigenvalues.

    Args:
        b1, b2, eps: as Adam's; eps is added before the correction for bias.
        decay, every: see above.
        max_size: axes of more elements are left as they are.
        vectors: whether leaves of one axis have a basis too; otherwise they are under Adam, as numbers are.
    """
    b1, b2, e = number("b1", b1, "[0, 1)"), number("b2", b2, "[0, 1)"), number("eps", eps)
    beta = b2 if decay is None else number("decay", decay, "[0, 1)")
    period, longest = whole("every", every), whole("max_size", max_size)

    def kernel(g: Any, p: Any, t: int, m: Any, v: Any, stats: list, bases: list) -> Any:
        xp = backend.xp(g)
        if t == 1:
            _gather(stats, g, beta, 1 - beta)
            for stat, basis in zip(stats, bases, strict=True):
                if stat is not None:
                    basis[...] = xp.flip(_eigh(stat)[1], axis=1)
            return backend.scalar(xp.zeros_like(g))
        k = t - 1
        m *= b1
        m += g * (1 - b1)
        v *= b2
        v += _like(squared(_along(g, bases), 1 - b2), v)
        root = xp.sqrt(v)
        root += e
        u = _along(_along(m, bases) / root, bases, back=True)
        _gather(stats, g, beta, 1 - beta)
        if k % period == 0:
            _turn(stats, bases, v)
        return _like(u * (math.sqrt(1 - b2**k) / (1 - b1**k)), g)

    make = lambda p: _per_axis(p, longest if p.ndim > 1 or vectors else 0) if p.ndim else []
    return leafwise(kernel, {"m": zeros_like, "v": zeros_like, "stats": make, "bases": make}, elementwise=False)


def graft(direction: GradientTransform, size: GradientTransform) -> GradientTransform:
    """The updates of ``direction``, each leaf scaled to the norm of that leaf's update by ``size`` (Agarwal et al. 2020).

    Both see the same gradients. State: ``{"direction": …, "size": …}``.
    """
    return _Graft(link_of(direction), link_of(size)).transform()


class _Graft(Link):
    def __init__(self, direction: Link, size: Link):
        self.direction, self.size = direction, size

    def start(self, params: list, spec: Any) -> dict:
        return {"direction": self.direction.start(params, spec), "size": self.size.start(params, spec)}

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        sized, state["size"] = self.size.step(grads, state["size"], params, spec)
        norms = [u if u is None else _norm(u) for u in sized]
        updates, state["direction"] = self.direction.step(grads, state["direction"], params, spec)
        grafted = []
        for u, norm in zip(updates, norms, strict=True):
            if u is not None and norm is not None and (own := _norm(u)) != 0.0:
                u = u * (norm / own)
            grafted.append(u)
        return grafted, state


# ---- tensors and the matrices of their axes ----


def _wide(x: Any) -> Any:
    return backend.xp(x).asarray(x, dtype=backend.xp(x).float32) if "16" in str(x.dtype) else x


def _like(x: Any, other: Any) -> Any:
    return backend.scalar(x if x.dtype == other.dtype else backend.xp(x).asarray(x, dtype=other.dtype))


def _norm(x: Any) -> float:
    x = _wide(x)
    return float(backend.xp(x).sqrt(backend.xp(x).sum(x * x)))


def _over_norm(x: Any, least: float) -> Any:
    """1 / max(norm, least), a number."""
    xp = backend.xp(x)
    norm, later = xp.sqrt(xp.sum(x * x)), getattr(xp, "known_later", None)
    if later is not None:  # arrays that are traced: it is known when a graph runs
        return 1 / xp.maximum(later(norm), least)
    return 1 / max(float(norm), least)


def _vector(x: Any) -> Any:
    """A number as a vector of one element, and 16 bits as float32."""
    return _wide(x if x.ndim else backend.xp(x).reshape(x, (1,)))


def _unfolded(x: Any, axis: int) -> Any:
    """The matrix whose rows are the parts of x along an axis."""
    xp = backend.xp(x)
    n = x.shape[axis]
    return xp.reshape(xp.moveaxis(x, axis, 0), (n, math.prod(x.shape) // max(1, n)))


def _per_axis(p: Any, longest: int) -> list:
    """A square matrix of zeros for each axis that is not longer than ``longest``, else None."""
    x = _vector(backend.xp(p).zeros_like(p))
    columns = [_unfolded(x, i)[:, :1] if n <= longest else None for i, n in enumerate(x.shape)]
    return [c if c is None else c @ c.T for c in columns]


def _gather(stats: list, g: Any, keep: float, weight: float) -> None:
    """``S_i ← keep · S_i + weight · G_i G_iᵀ``, in place."""
    g = _vector(g)
    for i, stat in enumerate(stats):
        if stat is not None:
            rows = _unfolded(g, i)
            stat *= keep
            stat += (rows @ rows.T) * weight


def _along(g: Any, matrices: list, back: bool = False) -> Any:
    """Multiply each axis of g with the transpose of its matrix (or the matrix itself, to go ``back``)."""
    if all(m is None for m in matrices):
        return g
    xp = backend.xp(g)
    x = _vector(g)
    for (
        matrix
    ) in matrices:  # each turn takes the first axis and puts it last, so at the end all are back in their places
        if matrix is None:
            x = xp.permute_dims(x, (*range(1, x.ndim), 0))
        else:
            x = xp.tensordot(x, matrix, axes=((0,), (1 if back else 0,)))
    return _like(xp.reshape(x, g.shape), g)


def _eigh(stat: Any) -> tuple[Any, Any]:
    """Eigenvalues, rising, and eigenvectors, in float64; NaN where the matrix is not finite."""
    xp = backend.xp(stat)
    stat = xp.astype(stat, xp.float64)
    if not bool(xp.all(xp.isfinite(stat))):
        return xp.sum(stat, axis=0) * math.nan, stat * math.nan
    return xp.linalg.eigh(stat)  # type: ignore[no-any-return]


def _power(stat: Any, power: float, eps: float) -> Any:
    """``(S + eps I)^power``, in the dtype of S.

    Eigenvalues below n u λ_max, u the rounding of that dtype, are noise: they are held at 0, and eps is at least that large, or a
    negative power would make the noise the largest part of the update.
    """
    xp = backend.xp(stat)
    values, vectors = _eigh(stat)
    if not stat.shape[0]:
        return stat
    noise = stat.shape[0] * float(xp.finfo(stat.dtype).eps) * float(xp.max(values))
    powers = (xp.clip(values, 0.0, None) + max(eps, noise)) ** power
    return _like((vectors * powers) @ vectors.T, stat)


def _turn(stats: list, bases: list, v: Any) -> None:
    """One step of orthogonal iteration of every basis; v goes along with the order of the columns."""
    xp = backend.xp(v)
    for i, (stat, basis) in enumerate(zip(stats, bases, strict=True)):
        if stat is None:
            continue
        product = stat @ basis
        order = xp.argsort(-xp.sum(basis * product, axis=0))
        v[...] = xp.take(v, order, axis=i)
        basis[...] = xp.linalg.qr(xp.take(product, order, axis=1))[0]
