"""scipy.special with derivatives: SciPy's own functions for plain arrays, rows of the op table for tensors.

A derivative with respect to a parameter that has no closed form (the order of a Bessel function, the shape of an incomplete
gamma or beta function) is an error when it is asked for.
"""

from collections.abc import Callable
from typing import Any

import scipy.special as _special

from .. import ops
from ..numpy._face import array_of, face, of_arrays, without_gradient
from ..numpy.reductions import _axis
from ..shapes import reduced_shape

__all__ = [
    "beta", "betainc", "betaln", "digamma", "entr", "erf", "erfc", "erfcinv", "erfcx", "erfinv", "expit", "gamma", "gammainc",
    "gammaincc", "gammaln", "gammasgn", "i0", "i0e", "i1", "i1e", "iv", "ive", "j0", "j1", "jn", "jv", "kl_div", "log_expit",
    "log_ndtr", "log_softmax", "loggamma", "logit", "logsumexp", "multigammaln", "ndtr", "ndtri", "polygamma", "psi", "rel_entr",
    "rgamma", "softmax", "xlog1py", "xlogy", "y0", "y1", "yn", "yv", "zeta",
]  # fmt: skip


def _of(name: str, row: Callable, count: int = 1) -> Callable:
    return face(getattr(_special, name), of_arrays(row, count), name)


digamma, psi, gamma, gammaln = (
    _of("digamma", ops.digamma),
    _of("psi", ops.digamma),
    _of("gamma", ops.gamma),
    _of("gammaln", ops.gammaln),
)
loggamma, rgamma, polygamma = (
    _of("loggamma", ops.loggamma),
    _of("rgamma", ops.rgamma),
    _of("polygamma", ops.polygamma, 2),
)
beta, betaln, betainc = _of("beta", ops.beta, 2), _of("betaln", ops.betaln, 2), _of("betainc", ops.betainc, 3)
gammainc, gammaincc = _of("gammainc", ops.gammainc, 2), _of("gammaincc", ops.gammaincc, 2)
erf, erfc, erfcx = _of("erf", ops.erf), _of("erfc", ops.erfc), _of("erfcx", ops.erfcx)
erfinv, erfcinv = _of("erfinv", ops.erfinv), _of("erfcinv", ops.erfcinv)
ndtr, log_ndtr, ndtri = _of("ndtr", ops.ndtr), _of("log_ndtr", ops.log_ndtr), _of("ndtri", ops.ndtri)
j0, j1, y0, y1 = _of("j0", ops.j0), _of("j1", ops.j1), _of("y0", ops.y0), _of("y1", ops.y1)
jv, yv, jn, yn = _of("jv", ops.jv, 2), _of("yv", ops.yv, 2), _of("jv", ops.jv, 2), _of("yn", ops.yn, 2)
i0, i1, i0e, i1e = _of("i0", ops.i0), _of("i1", ops.i1), _of("i0e", ops.i0e), _of("i1e", ops.i1e)
iv, ive = _of("iv", ops.iv, 2), _of("ive", ops.ive, 2)
expit, logit, log_expit = _of("expit", ops.sigmoid), _of("logit", ops.logit), _of("log_expit", ops.log_sigmoid)
xlogy, xlog1py, zeta = _of("xlogy", ops.xlogy, 2), _of("xlog1py", ops.xlog1py, 2), _of("zeta", ops.zeta, 2)
entr, rel_entr, kl_div = _of("entr", ops.entr), _of("rel_entr", ops.rel_entr, 2), _of("kl_div", ops.kl_div, 2)
gammasgn = without_gradient(_special.gammasgn)
multigammaln = face(_special.multigammaln, lambda a, d: ops.multigammaln(array_of(a), int(d)))
softmax = face(_special.softmax, lambda x, axis=None: _over(ops.softmax, array_of(x), _axis(axis)))
log_softmax = face(_special.log_softmax, lambda x, axis=None: _over(ops.log_softmax, array_of(x), _axis(axis)))


def _over(row: Callable, x: Any, axis: Any) -> Any:
    """A row of one axis; over all of them (None) the array counts as a vector."""
    if isinstance(axis, int):
        return row(x, axis=axis)
    if axis is not None:
        raise TypeError(f"softmax of a tensor goes over one axis, or all (None), not over {axis}")
    return ops.reshape(row(ops.ravel(x), axis=0), shape=tuple(x.shape))


def _logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    if return_sign:
        raise TypeError("logsumexp of a tensor has no return_sign; take log(abs(sum(b * exp(a))))")
    a, axis = array_of(a), _axis(axis)
    if b is None:
        return ops.logsumexp(a, axis=axis, keepdims=bool(keepdims))
    b = array_of(b)
    top = ops.max(a.detach() if hasattr(a, "detach") else a, axis=axis, keepdims=True)
    top = ops.where(ops.isfinite(top), top, 0.0)
    total = ops.log(ops.sum(b * ops.exp(a - top), axis=axis, keepdims=True)) + top
    return total if keepdims else ops.reshape(total, shape=reduced_shape(tuple(total.shape), axis, False))


logsumexp = face(_special.logsumexp, _logsumexp, "logsumexp")
