"""The methods as optimizers: a recipe, and the parameters of a model.

    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    optimizer = AdamW([{"params": weights}, {"params": biases, "weight_decay": 0.0}], lr=1e-3)

A face takes the parameters and then what its recipe takes; what the options mean is said there. ``params`` may be groups:
dicts with ``"params"`` and options of their own. ``made_by`` gives a class the signature, the types and the errors of its recipe.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, ParamSpec

from ..gradients import GradientTransform, partition
from ..tensor import DiffTensor
from . import modern, recipes, second_order
from .optimizer import Optimizer, parameters

P = ParamSpec("P")


def made_by(
    recipe: Callable[P, GradientTransform],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, Iterable[Any], P], None]]:
    """``__init__`` of a face: ``(self, params, ...)`` with the options of the recipe, which makes the transform.

    Usage: ``@made_by(sgd)`` above ``def __init__(self) -> None: ...``, whose body is not used.
    """
    options = inspect.signature(recipe)
    own, params = (
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
        for name, kind in (("self", inspect.Parameter.empty), ("params", Iterable[Any]))
    )

    def decorate(_: Callable[..., None]) -> Callable[Concatenate[Any, Iterable[Any], P], None]:
        def __init__(self: Any, params: Iterable[Any], *args: P.args, **kwargs: P.kwargs) -> None:
            try:
                given = options.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(
                    f"{type(self).__name__}: {error}; its options are {', '.join(options.parameters)}"
                ) from None
            given.apply_defaults()
            Optimizer.__init__(self, *_grouped(recipe, params, given.arguments))

        __init__.__doc__ = recipe.__doc__
        __init__.__signature__ = options.replace(  # type: ignore[attr-defined]
            parameters=[own, params, *options.parameters.values()], return_annotation=None
        )
        return __init__

    return decorate


def _grouped(
    recipe: Callable[..., GradientTransform], params: Any, options: dict[str, Any]
) -> tuple[list[DiffTensor], GradientTransform]:
    """Parameters and their transform; ``params`` may be groups ``{"params": [...], "lr": ..., ...}`` with options of their own."""
    groups = parameters(params) if isinstance(params, DiffTensor) else list(params)
    if not any(isinstance(group, dict) for group in groups):
        return groups, recipe(**options)
    flat: list[DiffTensor] = []
    labels: list[int] = []
    transforms: dict[Any, GradientTransform] = {}
    for i, group in enumerate(groups):
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(
                f'params[{i}]: with parameter groups every entry is a dict with "params", for example {{"params": [w], "lr": 0.1}}'
            )
        own = {key: value for key, value in group.items() if key != "params"}
        unknown = own.keys() - options.keys()
        if unknown:
            raise ValueError(f"params[{i}]: unknown option {min(unknown)!r}; this optimizer has {', '.join(options)}")
        members = parameters(group["params"])
        flat += members
        labels += [i] * len(members)
        transforms[i] = recipe(**options | own)
    return flat, partition(transforms, labels)


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (heavy ball) or Nesterov's: ``sgd`` as an optimizer."""

    @made_by(recipes.sgd)
    def __init__(self) -> None: ...


class RMSprop(Optimizer):
    """RMSprop, centered and with momentum if wanted: ``rmsprop`` as an optimizer."""

    @made_by(recipes.rmsprop)
    def __init__(self) -> None: ...


class Adam(Optimizer):
    """Adam, with AMSGrad if wanted: ``adam`` as an optimizer."""

    @made_by(recipes.adam)
    def __init__(self) -> None: ...


class AdamW(Optimizer):
    """Adam with decoupled weight decay: ``adamw`` as an optimizer."""

    @made_by(recipes.adamw)
    def __init__(self) -> None: ...


class NAdam(Optimizer):
    """Adam with Nesterov's momentum: ``nadam`` as an optimizer."""

    @made_by(recipes.nadam)
    def __init__(self) -> None: ...


class RAdam(Optimizer):
    """Adam with rectified variance: ``radam`` as an optimizer."""

    @made_by(recipes.radam)
    def __init__(self) -> None: ...


class Adamax(Optimizer):
    """Adam with the infinity norm: ``adamax`` as an optimizer."""

    @made_by(recipes.adamax)
    def __init__(self) -> None: ...


class Adagrad(Optimizer):
    """Adagrad: ``adagrad`` as an optimizer."""

    @made_by(recipes.adagrad)
    def __init__(self) -> None: ...


class Adadelta(Optimizer):
    """Adadelta: ``adadelta`` as an optimizer."""

    @made_by(recipes.adadelta)
    def __init__(self) -> None: ...


class Lion(Optimizer):
    """Lion: ``lion`` as an optimizer."""

    @made_by(modern.lion)
    def __init__(self) -> None: ...


class AdEMAMix(Optimizer):
    """AdamW with a fast and a slow momentum: ``ademamix`` as an optimizer."""

    @made_by(modern.ademamix)
    def __init__(self) -> None: ...


class Lookahead(Optimizer):
    """Lookahead around any chain; judge the model inside ``evaluation()``: ``lookahead`` as an optimizer."""

    @made_by(modern.lookahead)
    def __init__(self) -> None: ...


class ScheduleFreeSGD(Optimizer):
    """Schedule-free SGD; judge the model inside ``evaluation()``: ``schedule_free_sgd`` as an optimizer."""

    @made_by(modern.schedule_free_sgd)
    def __init__(self) -> None: ...


class ScheduleFreeAdamW(Optimizer):
    """Schedule-free AdamW; judge the model inside ``evaluation()``: ``schedule_free_adamw`` as an optimizer."""

    @made_by(modern.schedule_free_adamw)
    def __init__(self) -> None: ...


class Muon(Optimizer):
    """Muon for matrices, AdamW for the other parameters: ``muon`` as an optimizer."""

    @made_by(second_order.muon)
    def __init__(self) -> None: ...


class Shampoo(Optimizer):
    """Shampoo, grafted to RMSprop: ``shampoo`` as an optimizer."""

    @made_by(second_order.shampoo)
    def __init__(self) -> None: ...


class SOAP(Optimizer):
    """Adam in Shampoo's eigenbases: ``soap`` as an optimizer."""

    @made_by(second_order.soap)
    def __init__(self) -> None: ...
