"""The built-in problems, a file each: a file ``NAME.py`` in this folder defines ``PROBLEM`` and is found by its name."""

import importlib
import pkgutil
from functools import cache

from ..problem import Problem


def names() -> list[str]:
    """The problems' names, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


@cache
def get(name: str) -> Problem:
    """The problem of a name out of ``names()``."""
    problem = importlib.import_module(f"{__name__}.{name}").PROBLEM
    if problem.name != name:
        raise ValueError(
            f"hammer/lab/problems/{name}.py describes the problem {problem.name!r}: the two names must agree"
        )
    return problem
