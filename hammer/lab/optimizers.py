"""Optimizer entries: a chain of gradient transforms with the search space that belongs to it.

An entry's space is one for all problems. What a chain fixes (momentum, decay rates, weight decay) is listed under
``fixed`` and printed in every report.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import discovery


@dataclass(frozen=True)
class LogRange:
    """A positive hyper-parameter searched evenly in its logarithm, from ``low`` to ``high``."""

    low: float
    high: float

    def at(self, unit: float) -> float:
        """The value at ``unit`` in [0, 1], rounded to six digits so that it prints as it is."""
        return float(f"{self.low * (self.high / self.low) ** unit:.6g}")

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}, log-uniform"


@dataclass(frozen=True)
class Entry:
    """An optimizer to compare: ``make(**fixed, **searched)`` gives its gradient transform."""

    name: str
    title: str
    make: Callable[..., Any]
    space: Mapping[str, LogRange]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    baseline: bool = True

    def transform(self, hyper: Mapping[str, Any]) -> Any:
        """The gradient transform with the searched values ``hyper``."""
        return self.make(**self.fixed, **hyper)


def _recipe(name: str) -> Callable[..., Any]:
    """A recipe of ``autograd.optim``, imported when it is first made: `hammer list optimizers` stays quick."""

    def make(**options: Any) -> Any:
        return getattr(importlib.import_module("autograd.optim"), name)(**options)

    return make


def _vortex(base: str) -> Callable[..., Any]:
    """VortexGrad, with the settings ``vortex``, in front of a recipe of ``autograd.optim``."""

    def make(*, vortex: Mapping[str, Any], **options: Any) -> Any:
        link = importlib.import_module("hammer.vortex").vortex(**vortex)
        return importlib.import_module("autograd.gradients").chain(link, _recipe(base)(**options))

    return make


_LR = {"lr": LogRange(1e-4, 1.0)}
_VORTEX = {"vortex": {"decays": (0.98, 0.998), "gains": (5.0, 20.0), "direct": 1.0, "gate": "coordinate"}}

ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("sgd", "SGD", _recipe("sgd"), _LR),
        Entry("momentum", "SGD with momentum", _recipe("sgd"), _LR, {"momentum": 0.9}),
        Entry("nesterov", "SGD with Nesterov momentum", _recipe("sgd"), _LR, {"momentum": 0.9, "nesterov": True}),
        Entry("rmsprop", "RMSprop", _recipe("rmsprop"), _LR),
        Entry("adam", "Adam", _recipe("adam"), _LR),
        Entry("adamw", "AdamW", _recipe("adamw"), _LR, {"weight_decay": 0.01}),
        Entry("nadam", "NAdam", _recipe("nadam"), _LR),
        Entry("radam", "RAdam", _recipe("radam"), _LR),
        Entry("adamax", "Adamax", _recipe("adamax"), _LR),
        Entry("adagrad", "Adagrad", _recipe("adagrad"), _LR),
        Entry("adadelta", "Adadelta", _recipe("adadelta"), {"lr": LogRange(1e-2, 100.0)}),
        Entry("lion", "Lion", _recipe("lion"), {"lr": LogRange(1e-5, 0.1)}),
        Entry("ademamix", "AdEMAMix", _recipe("ademamix"), _LR),
        Entry("muon", "Muon, with AdamW for vectors", _recipe("muon"), _LR, {"weight_decay": 0.01}),
        Entry("shampoo", "Shampoo, grafted to RMSprop", _recipe("shampoo"), _LR),
        Entry("soap", "SOAP", _recipe("soap"), _LR),
        Entry("vortex", "VortexGrad + SGD", _vortex("sgd"), _LR, _VORTEX, baseline=False),
        Entry(
            "vortex_adamw",
            "VortexGrad + AdamW",
            _vortex("adamw"),
            _LR,
            _VORTEX | {"weight_decay": 0.01},
            baseline=False,
        ),
    )
}


def names() -> list[str]:
    """The entries' names: the built-in ones, then a user's own (``hammer.lab.discovery``)."""
    return [*ENTRIES, *(name for name in discovery.files("optimizers") if name not in ENTRIES)]


def get(name: str) -> Entry:
    """The entry of a name out of ``names()``."""
    own = own_file(name)
    return ENTRIES[name] if own is None else discovery.load("optimizers", own, Entry)


def own_file(name: str) -> Path | None:
    """The file of a user's own optimizer; None for a built-in one."""
    return None if name in ENTRIES else discovery.files("optimizers")[name]
