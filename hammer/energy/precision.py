"""A precision for each layer: what each would cost in loss and in joules, the choice by a price or within a budget, and its use.

options = precisions(model, lambda: loss(model(x), y), ("bf16", "fp32"))
chosen, price = within(options, joules)          # or per_layer(options, price); both in ``price``
with layer_precisions(model, chosen):
    train()
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from autograd import AutogradContext, no_grad
from autograd.context import PRECISIONS
from autograd.nn import Module
from autograd.tape import BackwardPass

from .forwards import wrapped
from .meter import Meter
from .model import Modelled
from .price import Action
from .technologies import Technology


def precisions(
    model: Module, loss: Callable[[], Any], names: Sequence[str] = ("bf16", "fp32"), table: Technology | str = "7nm"
) -> dict[str, dict[str, Action]]:
    """For each layer with parameters of its own, and each precision: minus the loss that it adds, and joules of forward and backward.

    Args:
        model: its layers are tried one at a time, the others staying as they are; in evaluation mode, so that nothing is drawn.
        loss: computes a scalar loss of the model on a batch. Take one that stands for the data: the gains are measured on it.
        names: of ``autograd.context.PRECISIONS``.
        table: what joules are modelled by; precisions below float32 are in "7nm" ("45nm" has float16 alone).

    Layers are leaves: modules without modules inside.
    """
    unknown = sorted(set(names) - set(PRECISIONS))
    if unknown:
        raise ValueError(f"precisions: {unknown[0]!r} is none of {', '.join(PRECISIONS)}")
    found: dict[str, dict[str, Action]] = {}
    layers = [path for path, m in model.named_modules() if not list(m.children()) and list(m.parameters())]
    with model.evaluating():
        plain = loss_of(loss)
        for path in layers:
            found[path] = {}
            for name in names:
                with layer_precisions(model, {path: name}):
                    found[path][name] = Action(plain - loss_of(loss), layer_joules(model, loss, table)[path])
    return found


def loss_of(loss: Callable[[], Any]) -> float:
    with no_grad():
        return float(loss())


def layer_joules(model: Module, loss: Callable[[], Any], table: Technology | str) -> dict[str, float]:
    """Modelled joules of a forward and backward pass by the path of each layer that was called."""
    from ..context import HammerContext  # which books by this package

    with HammerContext(energy=Meter(Modelled(table)), model=model, budget=None) as context:
        BackwardPass([loss()]).run()
    found = dict.fromkeys((path for path, _ in model.named_modules()), 0.0)
    for row in context.report().rows:
        path = "" if row.layer == type(model).__name__ else row.layer
        if path in found:
            found[path] += row.joules or 0.0
    return found


@contextmanager
def layer_precisions(model: Module, chosen: Mapping[str, str]) -> Iterator[None]:
    """Inside the block, the modules of these paths run in these precisions, whatever the block around them says."""
    casts = {path: functools.partial(_casting, name=name) for path, name in chosen.items()}
    with wrapped("layer_precisions", model, casts):
        yield


def _casting(forward: Callable, name: str) -> Callable:
    forward = getattr(forward, "inner", forward)  # a block inside replaces the cast, it does not add one

    def run(*args: Any, **kwargs: Any) -> Any:
        with AutogradContext(precision=name):
            return forward(*args, **kwargs)

    AutogradContext(precision=name)  # what is wrong with the name is said here
    run.inner = forward  # type: ignore[attr-defined]
    return run
