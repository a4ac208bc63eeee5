"""The problems, a file each: a file ``NAME.py`` in this folder defines ``PROBLEM`` and is found by its name.

A user's own are files of the same kind, in folders that ``hammer.lab.discovery`` looks in; they may not take the name of
a built-in one.
"""

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from .. import discovery
from ..problem import Problem


@cache
def _built_in() -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def names() -> list[str]:
    """The problems' names, without importing them."""
    return [*_built_in(), *(name for name in discovery.files("problems") if name not in _built_in())]


def own_file(name: str) -> Path | None:
    """The file of a user's own problem; None for a built-in one."""
    return None if name in _built_in() else discovery.files("problems")[name]


def get(name: str) -> Problem:
    """The problem of a name out of ``names()``."""
    own = own_file(name)
    if own is not None:
        return discovery.load("problems", own, Problem)
    problem = importlib.import_module(f"{__name__}.{name}").PROBLEM
    if problem.name != name:
        raise ValueError(
            f"hammer/lab/problems/{name}.py describes the problem {problem.name!r}: the two names must agree"
        )
    return problem
