"""Optimizer entries: a chain of gradient transforms with the search space that belongs to it.

An entry's space is one for all problems. What a chain fixes (momentum, decay rates, weight decay) is listed under
``fixed`` and printed in every report. Its ``defaults`` are the published values of what is searched: with them it also
takes part where nothing is tuned (docs/protocol.md, rule sets). An entry without a space has nothing to be tuned.
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
    """An optimizer to compare: ``make(**fixed, **searched)`` gives its gradient transform.

    ``defaults`` has one value for each name of ``space``, or is empty if there is none to go by.
    """

    name: str
    title: str
    make: Callable[..., Any]
    space: Mapping[str, LogRange]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    baseline: bool = True
    defaults: Mapping[str, float] = field(default_factory=dict)

    @property
    def without_default(self) -> list[str]:
        """The searched hyper-parameters that no default is declared for."""
        return [name for name in self.space if name not in self.defaults]

    @property
    def searched(self) -> str:
        """What is searched, in words: ``lr 0.0001 to 1, log-uniform``."""
        return ", ".join(f"{name} {values}" for name, values in self.space.items()) or "nothing is searched"

    def transform(self, hyper: Mapping[str, Any]) -> Any:
        """The gradient transform with the searched values ``hyper``."""
        return self.make(**self.fixed, **hyper)


def _recipe(name: str) -> Callable[..., Any]:
    """A recipe of ``autograd.optim``, imported when it is first made: `hammer list optimizers` stays quick."""

    def make(**options: Any) -> Any:
        return getattr(importlib.import_module("autograd.optim"), name)(**options)

    return make


def _ldog(**options: Any) -> Any:
    return importlib.import_module("hammer.dog").ldog(**options)


def _lookahead(base: str) -> Callable[..., Any]:
    """Lookahead around a recipe of ``autograd.optim``."""

    def make(*, k: int, alpha: float, **options: Any) -> Any:
        return _recipe("lookahead")(transform=_recipe(base)(**options), k=k, alpha=alpha)

    return make


def _vortex(base: str) -> Callable[..., Any]:
    """VortexGrad, with the settings ``vortex``, in front of a recipe of ``autograd.optim``."""

    def make(*, vortex: Mapping[str, Any], **options: Any) -> Any:
        link = importlib.import_module("hammer.vortex").vortex(**vortex)
        return importlib.import_module("autograd.gradients").chain(link, _recipe(base)(**options))

    return make


_LR = {"lr": LogRange(1e-4, 1.0)}
_VORTEX = {"vortex": {"decays": (0.98, 0.998), "gains": (5.0, 20.0), "direct": 1.0, "gate": "coordinate"}}

# The defaults are those of the recipes, which are PyTorch's where it has the method, else the paper's or its code's; those of
# VortexGrad and Lookahead are those of the optimizer that they are put around.
ENTRIES = {
    entry.name: entry
    for entry in (
        Entry(
            "sgd",
            "SGD",
            _recipe("sgd"),
            {"lr": LogRange(1e-3, 10.0)},  # the steps that momentum 0.9 makes of _LR
            defaults={"lr": 1e-3},
        ),
        Entry("momentum", "SGD with momentum", _recipe("sgd"), _LR, {"momentum": 0.9}, defaults={"lr": 1e-3}),
        Entry(
            "nesterov",
            "SGD with Nesterov momentum",
            _recipe("sgd"),
            _LR,
            {"momentum": 0.9, "nesterov": True},
            defaults={"lr": 1e-3},
        ),
        Entry("rmsprop", "RMSprop", _recipe("rmsprop"), _LR, defaults={"lr": 1e-2}),
        Entry("adam", "Adam", _recipe("adam"), _LR, defaults={"lr": 1e-3}),
        Entry("adamw", "AdamW", _recipe("adamw"), _LR, {"weight_decay": 0.01}, defaults={"lr": 1e-3}),
        Entry("nadam", "NAdam", _recipe("nadam"), _LR, defaults={"lr": 2e-3}),
        Entry("radam", "RAdam", _recipe("radam"), _LR, defaults={"lr": 1e-3}),
        Entry("adamax", "Adamax", _recipe("adamax"), _LR, defaults={"lr": 2e-3}),
        Entry("adagrad", "Adagrad", _recipe("adagrad"), _LR, defaults={"lr": 1e-2}),
        Entry("adadelta", "Adadelta", _recipe("adadelta"), {"lr": LogRange(1e-2, 100.0)}, defaults={"lr": 1.0}),
        Entry("lion", "Lion", _recipe("lion"), {"lr": LogRange(1e-5, 0.1)}, defaults={"lr": 1e-4}),
        Entry("ademamix", "AdEMAMix", _recipe("ademamix"), _LR, defaults={"lr": 1e-3}),
        Entry(
            "muon", "Muon, with AdamW for vectors", _recipe("muon"), _LR, {"weight_decay": 0.01}, defaults={"lr": 1e-3}
        ),
        Entry("shampoo", "Shampoo, grafted to RMSprop", _recipe("shampoo"), _LR, defaults={"lr": 1e-3}),
        Entry("soap", "SOAP", _recipe("soap"), _LR, defaults={"lr": 3e-3}),
        Entry(
            "lookahead",
            "Lookahead around Adam",
            _lookahead("adam"),
            _LR,
            {"k": 5, "alpha": 0.5},
            defaults={"lr": 1e-3},
        ),
        Entry(
            "schedule_free_adamw",
            "Schedule-Free AdamW",
            _recipe("schedule_free_adamw"),
            _LR,
            {"weight_decay": 0.01},
            defaults={"lr": 2.5e-3},
        ),
        Entry("lbfgs", "L-BFGS, with a fixed step", _recipe("lbfgs"), _LR, {"memory": 10}, defaults={"lr": 1.0}),
        Entry("ldog", "L-DoG", _ldog, {}),
        Entry("vortex", "VortexGrad + SGD", _vortex("sgd"), _LR, _VORTEX, baseline=False, defaults={"lr": 1e-3}),
        Entry(
            "vortex_adamw",
            "VortexGrad + AdamW",
            _vortex("adamw"),
            _LR,
            _VORTEX | {"weight_decay": 0.01},
            baseline=False,
            defaults={"lr": 1e-3},
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
