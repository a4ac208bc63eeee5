"""Functions of SciPy and scikit-learn on tensors: run as ``python array_api_consumers.py scipy`` (or ``sklearn``).

A program of its own because SciPy reads SCIPY_ARRAY_API when it is imported. It checks each gradient against differences and
prints a line of JSON: what went wrong, by function; an empty object if nothing did.
"""

import json
import os
import sys
import warnings
from typing import Any

os.environ["SCIPY_ARRAY_API"] = "1"

import numpy as np

import autograd.array_api as xp
from autograd import DiffTensor, grad
from autograd.testing import check_grads

RNG = np.random.default_rng(0)
X, Y = RNG.uniform(0.5, 2.0, (6, 3)), RNG.uniform(0.5, 2.0, 6)


def scipy_functions() -> dict[str, Any]:
    from scipy import fft, integrate, signal, special, stats
    from scipy.spatial.transform import Rotation

    return {
        "stats.gmean": lambda t: stats.gmean(t, axis=0),
        "stats.zscore": lambda t: stats.zscore(t, axis=0),
        "stats.skew": lambda t: stats.skew(t, axis=0),
        "stats.kurtosis": lambda t: stats.kurtosis(t, axis=0),
        "stats.entropy": lambda t: stats.entropy(t, axis=0),
        "stats.ttest_1samp": lambda t: stats.ttest_1samp(t, 1.0, axis=0).pvalue,
        "stats.pearsonr": lambda t: stats.pearsonr(t[:, 0], xp.asarray(Y)).statistic,
        "stats.circmean": lambda t: stats.circmean(t, axis=0),
        "special.logsumexp": lambda t: special.logsumexp(t, axis=0),
        "special.gammaln": lambda t: special.gammaln(t),
        "special.xlogy": lambda t: special.xlogy(t, t * t),
        "special.stdtr": lambda t: special.stdtr(3.0, t),
        "integrate.trapezoid": lambda t: integrate.trapezoid(t, axis=0),
        "integrate.cumulative_simpson": lambda t: integrate.cumulative_simpson(t, axis=0),
        "fft.rfft": lambda t: xp.abs(fft.rfft(t, axis=0)),
        "signal.fftconvolve": lambda t: signal.fftconvolve(t, t, axes=0),
        "signal.hilbert": lambda t: xp.abs(signal.hilbert(t, axis=0)),
        "Rotation.from_euler": lambda t: Rotation.from_euler("xyz", t).as_matrix(),
    }


def sklearn_functions() -> dict[str, Any]:
    from sklearn import decomposition, discriminant_analysis, linear_model, metrics, mixture, preprocessing
    from sklearn.metrics import pairwise

    y, labels, other = xp.asarray(Y), xp.asarray(np.array([0, 1] * 3)), xp.asarray(X[::-1] + 0.1)
    raw = {"multioutput": "raw_values"}  # else metrics end in float(), which has a value only
    return {
        "mean_squared_error": lambda t: metrics.mean_squared_error(other, t, **raw),
        "mean_absolute_error": lambda t: metrics.mean_absolute_error(other, t, **raw),
        "r2_score": lambda t: metrics.r2_score(other, t, **raw),
        "euclidean_distances": lambda t: pairwise.euclidean_distances(t, other),
        "rbf_kernel": lambda t: pairwise.rbf_kernel(t, other),
        "cosine_similarity": lambda t: pairwise.cosine_similarity(t, other),
        "MinMaxScaler": lambda t: preprocessing.MinMaxScaler().fit_transform(t),
        "PolynomialFeatures": lambda t: preprocessing.PolynomialFeatures().fit_transform(t),
        "PCA": lambda t: decomposition.PCA(2, svd_solver="full").fit(t).explained_variance_,
        "Ridge": lambda t: linear_model.Ridge(solver="svd").fit(t, y).coef_,
        "LinearDiscriminantAnalysis": lambda t: discriminant_analysis.LinearDiscriminantAnalysis().fit(t, labels).coef_,
        "GaussianMixture": lambda t: mixture.GaussianMixture(
            2, init_params="random", random_state=0, max_iter=2, tol=0.0
        ).fit(t).means_,
    }  # fmt: skip


def ridge_by_hand() -> None:
    """The derivative of ridge regression's coefficients in the targets is (XᵀX + αI)⁻¹Xᵀ, X centred."""
    from sklearn.linear_model import Ridge

    x = xp.asarray(X)
    found = grad(lambda y: xp.in_place()(Ridge(alpha=0.7, solver="svd").fit)(x, y).coef_[1])(Y)
    centred = X - X.mean(axis=0)
    expected = np.linalg.solve(centred.T @ centred + 0.7 * np.eye(3), centred.T)[1]
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def along(function: Any) -> Any:
    """A weighted sum of a function's results as a function of one number, by which X moves in a random direction."""
    rng = np.random.default_rng(1)
    direction, weights = (
        xp.asarray(rng.uniform(0.5, 1.5, X.shape) * rng.choice([-1.0, 1.0], X.shape)),
        rng.uniform(0.5, 1.5, 200),
    )

    @xp.in_place()
    def moved(t: Any) -> Any:
        found = function(xp.asarray(X) + t * direction)
        assert type(found) is DiffTensor, "the gradient was lost"
        return xp.sum(found * xp.reshape(xp.asarray(weights[: found.size]), found.shape))

    return moved


def problems(functions: dict[str, Any]) -> dict[str, str]:
    wrong = {}
    for name, function in functions.items():
        try:
            check_grads(along(function), 0.0, order=1, rtol=1e-5)
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            wrong[name] = f"{type(error).__name__}: {error}"[:300]
    return wrong


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1] == "scipy":
        outcome = problems(scipy_functions())
    else:
        import sklearn

        with sklearn.config_context(array_api_dispatch=True):
            outcome = problems(sklearn_functions())
            ridge_by_hand()
    print(json.dumps(outcome))
