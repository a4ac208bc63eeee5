"""Modules whose forward goes through a function for a while: how a precision or a recomputation is given to single layers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from autograd.nn import Module


@contextmanager
def wrapped(what: str, model: Module, wraps: Mapping[str, Callable[[Callable], Callable]]) -> Iterator[None]:
    """Inside the block, the forward of each module of a path is what the function of that path makes of it.

    Args:
        what: the caller's name, for the error.
        model: whose modules they are.
        wraps: path of a module -> function of its forward.

    Raises:
        ValueError: a path that the model does not have; nothing has been changed then.
    """
    modules = dict(model.named_modules())
    for path in wraps:
        if path not in modules:
            raise ValueError(f"{what}: the model has no module {path!r}; it has {', '.join(map(repr, modules))}")
    before: list[tuple[Module, Any]] = []
    try:
        for path, wrap in wraps.items():
            module = modules[path]
            before.append((module, module.__dict__.get("forward")))
            module.__dict__["forward"] = wrap(module.forward)
        yield
    finally:
        for module, own in reversed(before):
            if own is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = own
