"""What a function holds: the Modules, graphs and tracked tensors that it reaches without being given them."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from autograd.nn.module import Module
from autograd.tape import Leaf
from autograd.tensor import DiffTensor


def tensors_of(holder: Any) -> list[tuple[str, DiffTensor]]:
    """The tensors of a Module, or those that are parameters of a graph, by name."""
    if isinstance(holder, Module):
        return [*holder.named_parameters(), *holder.named_buffers()]
    held = getattr(holder, "parameters", None)  # of a graph: a dict of tensors and arrays
    return [(k, t) for k, t in held.items() if isinstance(t, DiffTensor)] if isinstance(held, dict) else []


def captured(function: Callable, leaves: Iterable[Any]) -> list[tuple[str, DiffTensor]]:
    """The tensors of the Modules and graphs, and the tracked ones, that a function reaches by itself: of the module that it is or
    is a method of, in its closure, its globals, its defaults, or among its arguments. With them a name for each."""
    return tensors_among(holders_of(function)[0] | {f"argument{i}": leaf for i, leaf in enumerate(leaves)})


def holders_of(function: Callable) -> tuple[dict[str, Any], list[tuple[Any, Any, Any]]]:
    """What a function holds that may have tensors, by name; and where: cells (with None) and dicts (with a key), and what is there."""
    found: dict[str, Any] = {}
    places: list[tuple[Any, Any, Any]] = []
    stack, seen = [function], set()
    while stack:
        f: Any = stack.pop()
        if id(f) in seen:
            continue
        seen.add(id(f))
        if isinstance(f, functools.partial):
            stack.append(f.func)
            found |= {f"argument{i}": v for i, v in enumerate(f.args)} | dict(f.keywords)
        elif inspect.ismethod(f):
            found["self"] = f.__self__
            stack.append(f.__func__)
        elif inspect.isfunction(f):
            held = {f"default{i}": v for i, v in enumerate(f.__defaults__ or ())} | (f.__kwdefaults__ or {})
            for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
                with suppress(ValueError):  # a cell that is empty yet
                    held[name] = cell.cell_contents
                    places.append((cell, None, cell.cell_contents))
            for name in f.__code__.co_names:
                if name in f.__globals__:
                    held[name] = f.__globals__[name]
                    places.append((f.__globals__, name, held[name]))
            found |= held
            stack += [v for v in held.values() if inspect.isfunction(v) and v.__module__ == f.__module__]
            stack += [f.__wrapped__] if hasattr(f, "__wrapped__") else []
        else:
            found["self"] = f
    return {k: v for k, v in found.items() if _holds(v)}, [p for p in places if _holds(p[2])]


def _holds(value: Any) -> bool:
    return isinstance(value, (Module, DiffTensor)) or bool(tensors_of(value))


def tensors_among(holders: Mapping[str, Any]) -> list[tuple[str, DiffTensor]]:
    """The tensors of some holders, each once, with their names."""
    several = sum(bool(tensors_of(v)) for v in holders.values()) > 1
    tensors: dict[int, tuple[str, DiffTensor]] = {}
    for name, v in holders.items():
        for label, t in tensors_of(v):
            tensors.setdefault(id(t), (f"{name}.{label}" if several else label, t))
        if isinstance(v, DiffTensor) and isinstance(v.node, Leaf) and not name.startswith("argument"):
            tensors.setdefault(id(v), (name, v))
    return list(tensors.values())
