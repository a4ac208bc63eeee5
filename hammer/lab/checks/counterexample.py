"""What is told of a failure: the arguments, the operation that is wrong, and a test to paste into a project."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from autograd.testing.blame import WrongOp, wrong_ops

from .function import Checks, Failure


def source(value: Any) -> str:
    """A value as Python source that makes it again, to the last bit."""
    if isinstance(value, np.ndarray | np.generic):
        dtype = value.dtype.name
        text = _special(repr(value.tolist()))
        if value.ndim == 0 and dtype in ("float64", "int64", "bool", "complex128"):
            return text
        if value.size == 0:
            return f'np.zeros({value.shape}, "{dtype}")'
        natural = np.asarray(value.tolist()).dtype == value.dtype
        return f"np.array({text})" if natural else f'np.array({text}, "{dtype}")'
    if isinstance(value, tuple):
        return f"({', '.join(map(source, value))}{',' * (len(value) == 1)})"
    if isinstance(value, list):
        return f"[{', '.join(map(source, value))}]"
    if isinstance(value, np.dtype):
        return f'np.dtype("{value.name}")'
    return "np." + value.__name__ if isinstance(value, type) and value.__module__ == "numpy" else _special(repr(value))


def _special(text: str) -> str:
    """Numbers that are not finite have no literals."""
    return text.replace("nan", "np.nan").replace("inf", "np.inf")


def culprits(fn: Callable, failure: Failure, values: Mapping[str, Any], rtol: float) -> list[WrongOp]:
    """The operations of a function whose derivatives are wrong at the arguments of a failure."""
    names = list(failure.call)
    return wrong_ops(
        lambda *given: fn(**dict(zip(names, given, strict=True)), **values), *failure.call.values(), rtol=rtol
    )


def paste_function(
    module: str, name: str, failure: Failure, values: Mapping[str, Any], checks: Checks, note: str = ""
) -> str:
    """A test that fails as the failure did."""
    root, _, _ = name.partition(".")
    given = [f"{k}={k}" for k in failure.call] + [f"{k}={source(v)}" for k, v in values.items()]
    options = [f"order={checks.order}", *([f"modes={checks.modes!r}"] if checks.modes != Checks.modes else [])]
    options += [f"rtol={checks.rtol!r}"] if checks.rtol != Checks.rtol else []
    lines = [f"{k} = {source(v)}" for k, v in failure.call.items()]
    names = ", ".join(failure.call)
    lines.append(f"check_grads(lambda {names}: {name}({', '.join(given)}), {names}, {', '.join(options)})")
    return _test(name.replace(".", "_"), [f"from {module} import {root}{note}"], lines)


def paste_row(name: str, inputs: tuple, params: Mapping[str, Any], variadic: bool) -> str:
    """A test of the derivatives of one call of a row of the op table."""
    drawn = [i for i, x in enumerate(inputs) if isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "fc"]
    inputs_now = [f"x{i}" if i in drawn else source(x) for i, x in enumerate(inputs)]
    arrays = f"[{', '.join(inputs_now)}]" if variadic else ", ".join(inputs_now)
    names = ", ".join(f"x{i}" for i in drawn)
    called = ", ".join([arrays, *(f"{k}={source(v)}" for k, v in params.items())])
    lines = [f"x{i} = {source(inputs[i])}" for i in drawn]
    lines.append(f'check_grads(lambda {names}: OPS["{name}"].apply({called}), {names}, order=2)')
    return _test(name, ["from autograd import OPS"], lines)


def _test(name: str, imports: list[str], body: list[str]) -> str:
    numpy = ["import numpy as np"] if any("np." in line for line in body) else []
    head = [*numpy, *imports, "from autograd.testing import check_grads"]
    return "\n".join([*head, "", "", f"def test_gradients_of_{name}():", textwrap.indent("\n".join(body), "    "), ""])
