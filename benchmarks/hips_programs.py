"""Small programs as one writes them for HIPS autograd. ``clients.py`` runs each on HIPS autograd and on ours.

They use nothing but HIPS's public names, and each returns a list of numbers: what it has fitted or computed.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as onp
from scipy.optimize import minimize

import autograd.numpy as np
from autograd import elementwise_grad, grad, hessian_vector_product, jacobian, value_and_grad
from autograd.builtins import tuple as boxed  # HIPS needs it around what it differentiates; ours takes any tuple
from autograd.extend import defvjp, primitive
from autograd.misc import flatten
from autograd.misc.fixed_points import fixed_point
from autograd.misc.optimizers import adam, rmsprop, sgd
from autograd.scipy.integrate import odeint
from autograd.scipy.special import logsumexp
from autograd.scipy.stats import multivariate_normal, norm


def _net(rng: Any, sizes: list[int]) -> list:
    return [(0.5 * rng.standard_normal((m, n)), 0.1 * rng.standard_normal(n)) for m, n in itertools.pairwise(sizes)]


def neural_net() -> list[float]:
    """A classifier whose parameters are a list of pairs, trained by HIPS's three optimizers."""
    rng = onp.random.default_rng(1)
    inputs = rng.standard_normal((60, 3))
    labels = onp.eye(3)[onp.argmax(inputs * [1.0, -0.5, 0.8], axis=1)]
    start = _net(rng, [3, 12, 3])

    def log_probabilities(parameters: list, h: Any) -> Any:
        for w, b in parameters:
            out = np.dot(h, w) + b
            h = np.tanh(out)
        return out - logsumexp(out, axis=1, keepdims=True)

    def objective(parameters: list, _iteration: int) -> Any:
        vector, _ = flatten(parameters)
        return -np.sum(log_probabilities(parameters, inputs) * labels) + 0.01 * np.dot(vector, vector)

    losses: list[float] = []
    trained = adam(grad(objective), start, lambda p, i, g: losses.append(objective(p, i)), num_iters=80, step_size=0.05)
    others = [f(grad(objective), start, num_iters=40, step_size=s) for f, s in ((sgd, 0.01), (rmsprop, 0.01))]
    return [*losses[::20], *(float(objective(p, 0)) for p in others), *flatten(trained)[0]]


def gaussian_process() -> list[float]:
    """Hyperparameters of a Gaussian process by maximum likelihood, then its prediction."""
    rng = onp.random.default_rng(2)
    x = onp.sort(rng.uniform(0.0, 5.0, 20))[:, None]
    y = onp.sin(1.5 * x[:, 0]) + 0.1 * rng.standard_normal(20)

    def covariance(p: Any, a: Any, b: Any) -> Any:
        gaps = np.expand_dims(a / np.exp(p[1]), 1) - np.expand_dims(b / np.exp(p[1]), 0)
        return np.exp(p[0]) * np.exp(-0.5 * np.sum(gaps**2, axis=2))

    def loss(p: Any) -> Any:
        noisy = covariance(p, x, x) + (np.exp(p[2]) + 1e-4) * np.eye(20)
        return -multivariate_normal.logpdf(y, p[3] * np.ones(20), noisy)

    fit = minimize(
        value_and_grad(loss), onp.array([0.0, 0.0, -1.0, 0.0]), jac=True, method="BFGS", options={"maxiter": 25}
    )
    cross = covariance(fit.x, onp.array([[2.5]]), x)
    return [float(fit.fun), *fit.x, *np.dot(cross, np.linalg.solve(covariance(fit.x, x, x) + 0.01 * np.eye(20), y))]


def differential_equation() -> list[float]:
    """The parameters of a predator-prey equation, from noisy observations, through the solver's adjoint."""
    times = onp.linspace(0.0, 3.0, 5)

    def motion(y: Any, _t: Any, p: Any) -> Any:
        return np.array([p[0] * y[0] - p[1] * y[0] * y[1], 0.2 * y[0] * y[1] - p[2] * y[1]])

    solve = lambda start, p: odeint(motion, start, times, boxed((p,)), rtol=1e-8, atol=1e-8)
    noise = 0.05 * onp.cos(onp.arange(10.0)).reshape(5, 2)
    observed = solve(onp.array([3.0, 2.0]), onp.array([0.9, 0.5, 0.6])) + noise
    loss = lambda v: np.sum((solve(v[:2], v[2:]) - observed) ** 2)
    start = onp.array([2.8, 2.1, 0.8, 0.45, 0.6])
    fit = adam(lambda v, _i: grad(loss)(v), start, num_iters=10, step_size=0.03)
    return [*fit, *value_and_grad(loss)(fit)[1]]


def equilibrium() -> list[float]:
    """Gradients through a fixed point, and of them again."""
    w = 0.3 * onp.cos(onp.arange(16.0)).reshape(4, 4)
    layer = lambda p: lambda z: np.tanh(np.dot(p[0], z) + p[1])
    gap = lambda a, b: np.max(np.abs(a - b))
    solve = lambda p: fixed_point(layer, p, onp.zeros(4), gap, 1e-13)
    found = jacobian(lambda b: solve(boxed((w, b))))(onp.arange(4.0) * 0.2)
    root = lambda a: fixed_point(lambda a: lambda x: 0.5 * (x + a / x), a, 1.0, gap, 1e-13)
    return [*found.ravel(), grad(root)(3.0), grad(grad(root))(3.0)]


def recurrent_net() -> list[float]:
    """The gradient of a recurrent network over a sequence, with dicts of parameters, and a Hessian-vector product."""
    rng = onp.random.default_rng(3)
    p = {
        "in": 0.4 * rng.standard_normal((3, 5)),
        "loop": 0.4 * rng.standard_normal((5, 5)),
        "out": rng.standard_normal((5, 3)),
    }
    sequence = onp.eye(3)[rng.integers(0, 3, (7, 4))]

    def loss(p: dict) -> Any:
        hidden, total = np.zeros((4, 5)), 0.0
        for now, following in itertools.pairwise(sequence):
            hidden = np.tanh(np.dot(now, p["in"]) + np.dot(hidden, p["loop"]))
            logits = np.dot(hidden, p["out"])
            total = total + np.sum(following * (logits - logsumexp(logits, axis=1, keepdims=True)))
        return -total / 24.0

    vector, unflatten = flatten(p)
    product = hessian_vector_product(lambda v: loss(unflatten(v)))(vector, onp.ones(len(vector)))
    return [*flatten(grad(loss)(p))[0], *product]


def variational_inference() -> list[float]:
    """A Gaussian fitted to a funnel by stochastic gradients, with a primitive of one's own in the density."""

    @primitive
    def soft_step(x: Any) -> Any:
        return onp.log1p(onp.exp(-onp.abs(x))) + onp.maximum(x, 0.0)

    defvjp(soft_step, lambda ans, x: lambda g: g / (1.0 + np.exp(-x)))

    def log_density(x: Any) -> Any:
        return norm.logpdf(x[:, 1], 0.0, 1.35) + norm.logpdf(x[:, 0], 0.0, np.exp(x[:, 1])) - 0.1 * soft_step(x[:, 0])

    def objective(p: Any, t: int) -> Any:
        samples = onp.random.default_rng(t).standard_normal((30, 2)) * np.exp(p[2:]) + p[:2]
        return -(np.sum(p[2:]) + np.mean(log_density(samples)))

    end = adam(grad(objective), onp.array([-1.0, -1.0, -2.0, -2.0]), num_iters=60, step_size=0.1)
    return [*end, *elementwise_grad(elementwise_grad(soft_step))(onp.linspace(-2.0, 2.0, 5))]


PROGRAMS: dict[str, Callable[[], list[float]]] = {
    f.__name__: f
    for f in (neural_net, gaussian_process, differential_equation, equilibrium, recurrent_net, variational_inference)
}
