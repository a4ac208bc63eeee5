"""What compiles training steps for ``Trainer(compile=True)``: nothing here does, but a package that has graphs can.

Such a package puts a function into ``COMPILERS``. Called with a function of a batch whose first result is the loss, an
optimizer, and whether every bit must be that of the uncompiled step, it returns an object with

* ``gradients(args, seed)``: what the function returns, as constants, and the gradients of the loss, in the order of the
  optimizer's parameters, for the cotangent ``seed(dtype)`` of the loss; or None, if the function cannot be compiled;
* ``update(gradients)``: ``optimizer.step(gradients)``.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any

COMPILERS: dict[str, Callable[[Callable, Any, bool], Any]] = {}
"""Compilers by the name of their package; the one entered last is used."""
LAZY = {"hammer": "graph"}
"""Packages that enter their compiler when a part of them is loaded, which is done if the package itself is."""


def compiler() -> Callable[[Callable, Any, bool], Any]:
    """The function that compiles steps.

    Raises:
        ImportError: there is none.
    """
    for package, part in LAZY.items():
        if not COMPILERS and package in sys.modules:
            importlib.import_module(f"{package}.{part}")
    if not COMPILERS:
        raise ImportError(
            "Trainer(compile=True): no package that compiles training steps is loaded; write `import hammer` before it"
        )
    return next(reversed(COMPILERS.values()))
