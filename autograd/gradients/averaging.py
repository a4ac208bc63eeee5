"""Links that keep other parameters beside those that are stepped: slow weights, and the average of schedule-free methods.

They come last in a chain, because they look at the whole update. Gradients are taken at the parameters that are stepped; a
model should be judged at the others: ``evaluation_params`` finds them in the state, and ``Optimizer.evaluation()`` puts
them in place for a while.
"""

from collections.abc import Callable, Mapping
from typing import Any

import optree

from .. import backend
from .base import GradientTransform, Leafwise, link_of
from .scaling import Schedule, learning_rate, number, whole


class _Averaging(Leafwise):
    """A leafwise link with a view: ``view(p, *buffers)`` is the parameter to judge the model by."""

    def __init__(
        self,
        begin: Callable[[dict], Callable],
        buffers: Mapping[str, Callable[[Any], Any]],
        numbers: Mapping[str, float],
        view: Callable[..., Any],
    ):
        super().__init__(begin, buffers, numbers, elementwise=True)
        self.view = view

    def evaluation(self, state: Any, params: list) -> list:
        lists = [state[name] for name in self.buffers]
        return [p if p is None else self.view(p, *own) for p, *own in zip(params, *lists, strict=True)]


def evaluation_params(transform: GradientTransform, state: Any, params: Any) -> Any:
    """The parameters to judge a model by: for most chains those that are stepped, ``params`` itself.

    Args:
        transform: the chain.
        state: its state.
        params: the parameters that belong to the state, a tree.

    Returns:
        A tree like ``params``; its arrays may be those of ``params``, and none may be written to.
    """
    leaves, spec = optree.tree_flatten(params, none_is_leaf=True)
    return optree.tree_unflatten(spec, link_of(transform).evaluation(state, leaves))


def slow_weights(k: int = 5, alpha: float = 0.5) -> GradientTransform:
    """Lookahead (Zhang et al. 2019, algorithm 1), as the last link of any chain.

    Every k-th update of a leaf moves its slow weights the part ``alpha`` of the way to where the chain has come, and the
    parameter back to them. State: the slow weights, the parameters at first; a model is judged by them.
    """
    period = whole("k", k)
    a = number("alpha", alpha, "[0, 1]")

    def kernel(u: Any, p: Any, t: int, slow: Any) -> Any:
        if t % period:
            return u
        slow += (p + u - slow) * a
        return slow - p

    return _Averaging(lambda state: kernel, {"slow": _copy}, {}, lambda p, slow: backend.scalar(slow)).transform()


def schedule_free(
    lr: float | Schedule,
    momentum: float = 0.9,
    warmup_steps: int = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
) -> GradientTransform:
    """Averaging in place of a decaying learning rate (Defazio et al. 2024, algorithm 1), as the last link of a chain.

    The chain before it gives a direction d at the parameters y. With the rate γ of this update,
    ``z ← z − γ d``, ``x ← (1 − c) x + c z``, ``y ← (1 − momentum) z + momentum x``, where c is the weight
    ``k^r · (largest γ so far)^weight_lr_power`` of the k-th update over the sum of all weights. x is not stored: it follows from
    y and z. The model is judged at x.

    Args:
        lr: the rate, constant by design; its link scales, so no ``scale_by_lr`` comes after it.
        momentum: in (0, 1); how near y is to x.
        warmup_steps: over so many updates the rate rises linearly to ``lr``.
        r, weight_lr_power: the weights of the average.

    State: z, the parameters at first, and numbers that all leaves share: a leaf without gradient is left where it is, but k counts.
    """
    beta = number("momentum", momentum, "(0, 1)")
    rise, power, weighted = (
        whole("warmup_steps", warmup_steps, 0),
        number("weight_lr_power", weight_lr_power),
        number("r", r),
    )
    numbers, take = learning_rate(lr)

    def begin(state: dict) -> Callable:
        state["k"] = k = state["k"] + 1
        rate = take(state) * (min(k / rise, 1.0) if rise else 1.0)
        state["largest"] = max(rate, state["largest"])
        weight = k**weighted * state["largest"] ** power
        state["weights"] += weight
        c = weight / state["weights"] if state["weights"] else 0.0
        back = rate * (1 - beta * (1 - c))

        def kernel(d: Any, y: Any, t: int, z: Any) -> Any:
            u = (z - y) * c
            u -= d * back
            z -= d * rate
            return u

        return kernel

    return _Averaging(
        begin,
        {"z": _copy},
        {**numbers, "k": 0, "largest": 0.0, "weights": 0.0},
        lambda y, z: backend.scalar(z + (y - z) * (1 / beta)),
    ).transform()


def _copy(p: Any) -> Any:
    return backend.xp(p).asarray(p, copy=True)
