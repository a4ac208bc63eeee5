"""HIPS autograd's function transforms that ``autograd.transforms`` does not have, each made of those.

All take ``(fun, argnum=0)`` and return a function of the arguments of ``fun``; ``argnum`` may be a tuple of numbers, and the
argument any tree of arrays, unless said otherwise.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from . import ops
from .checkpointing import checkpoint
from .transforms import Argnum, grad, hessian, jacobian, jvp, value_and_grad, vjp
from .vspaces import vspace

__all__ = [
    "checkpoint", "deriv", "egrad", "elementwise_grad", "grad", "grad_and_aux", "grad_named", "hessian",
    "hessian_tensor_product", "hessian_vector_product", "holomorphic_grad", "jacobian", "make_ggnvp", "make_hvp", "make_jvp",
    "make_jvp_reversemode", "make_vjp", "multigrad_dict", "tensor_jacobian_product", "unary_to_nary", "value_and_grad",
    "vector_jacobian_product",
]  # fmt: skip


def unary_to_nary(unary_operator: Callable) -> Callable:
    """Turn ``operator(fun_of_x, x, ...)`` into one of the form ``operator(fun, argnum=0, ...)(*args, **kwargs)``."""

    @functools.wraps(unary_operator)
    def operator(fun: Callable, argnum: Argnum = 0, *options: Any, **named: Any) -> Callable:
        numbers = (argnum,) if isinstance(argnum, int) else tuple(argnum)

        @functools.wraps(fun)
        def of_all(*args: Any, **kwargs: Any) -> Any:
            for i in numbers:
                if not -len(args) <= i < len(args):
                    raise TypeError(
                        f"{operator.__name__}: argument {i} is to be differentiated, but only {len(args)} positional arguments were given"
                    )

            @functools.wraps(fun)
            def of_one(x: Any) -> Any:
                full = list(args)
                for i, value in zip(numbers, (x,) if isinstance(argnum, int) else x, strict=True):
                    full[i] = value
                return fun(*full, **kwargs)

            x = args[argnum] if isinstance(argnum, int) else tuple(args[i] for i in numbers)
            return unary_operator(of_one, x, *options, **named)

        return of_all

    operator.__name__ = unary_operator.__name__.lstrip("_")
    return operator


def _pull(fun: Callable, x: Any) -> tuple[Callable, Any]:
    out, pullback = vjp(fun, x)
    return lambda g: pullback(g)[0], out


@unary_to_nary
def make_vjp(fun: Callable, x: Any) -> tuple[Callable, Any]:
    """``make_vjp(fun)(x)`` is the pair of the pullback (cotangents of the output to gradients of x) and ``fun(x)``."""
    return _pull(fun, x)


@unary_to_nary
def make_jvp(fun: Callable, x: Any) -> Callable:
    """``make_jvp(fun)(x)(v)`` is the pair of ``fun(x)`` and its derivative along v."""
    return lambda v: jvp(fun, (x,), (v,))


@unary_to_nary
def make_jvp_reversemode(fun: Callable, x: Any) -> Callable:
    """``make_jvp_reversemode(fun)(x)(v)`` is the derivative of fun at x along v: the transpose of the pullback."""
    return lambda v: jvp(fun, (x,), (v,))[1]


@unary_to_nary
def elementwise_grad(fun: Callable, x: Any) -> Any:
    """The sum of the Jacobian's rows in one pass: for a function that acts on each element, its derivative there.

    The output must be real; TypeError otherwise.
    """
    pull, out = _pull(fun, x)
    space = vspace(out)
    if space.iscomplex:
        raise TypeError("elementwise_grad: the function must return real numbers; take .real or .imag of its result")
    return pull(space.ones())


egrad = elementwise_grad


@unary_to_nary
def deriv(fun: Callable, x: Any) -> Any:
    """The derivative of the output along a vector of ones: of a function of one number its ordinary derivative."""
    return jvp(fun, (x,), (vspace(x).ones(),))[1]


@unary_to_nary
def holomorphic_grad(fun: Callable, x: Any) -> Any:
    """The complex derivative f'(z) of a holomorphic function of a complex number. TypeError if the argument is real."""
    if not vspace(x).iscomplex:
        raise TypeError("holomorphic_grad: the argument is real; pass a complex number, or use grad")
    return grad(lambda z: ops.real(fun(z)))(x)


def grad_named(fun: Callable, argname: str) -> Callable:
    """``grad`` with respect to the argument of a name."""
    names = list(inspect.signature(fun).parameters)
    if argname not in names:
        raise TypeError(
            f"grad_named: {getattr(fun, '__name__', fun)} has no argument {argname!r}; it has {', '.join(names)}"
        )
    return grad(fun, names.index(argname))


@unary_to_nary
def grad_and_aux(fun: Callable, x: Any) -> tuple[Any, Any]:
    """For a function that returns a pair: the gradient of the first and the second as it is."""
    return grad(fun, has_aux=True)(x)


def multigrad_dict(fun: Callable) -> Callable:
    """A function returning the gradients with respect to all arguments, defaults included, as a dict by name.

    ``*args`` and ``**kwargs`` of the function count as one tuple and one dict of that name.
    """
    signature = inspect.signature(fun)
    kinds = inspect.Parameter

    def gradients(*args: Any, **kwargs: Any) -> dict[str, Any]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()

        def by_name(values: dict[str, Any]) -> Any:
            positional: list[Any] = []
            named: dict[str, Any] = {}
            for name, parameter in signature.parameters.items():
                if parameter.kind is kinds.VAR_POSITIONAL:
                    positional += values[name]
                elif parameter.kind is kinds.VAR_KEYWORD:
                    named |= values[name]
                elif parameter.kind is kinds.KEYWORD_ONLY:
                    named[name] = values[name]
                else:
                    positional.append(values[name])
            return fun(*positional, **named)

        return grad(by_name)(dict(bound.arguments))

    return gradients


@unary_to_nary
def make_hvp(fun: Callable, x: Any) -> tuple[Callable, Any]:
    """``make_hvp(fun)(x)`` is the pair of the Hessian-vector product at x, a function of the vector, and the gradient."""
    return _pull(grad(fun), x)


def hessian_tensor_product(fun: Callable, argnum: int = 0) -> Callable:
    """A function of ``(*args, tensor)``: the Hessian of a scalar function, contracted with a tensor of the argument's shape."""
    gradient = grad(fun, argnum)

    def product(*args: Any, **kwargs: Any) -> Any:
        *args_, tensor = args
        along = lambda *inner: vspace(tensor).inner_prod(vspace(tensor).covector(tensor), gradient(*inner, **kwargs))
        return grad(along, argnum)(*args_)

    return product


hessian_vector_product = hessian_tensor_product


def tensor_jacobian_product(fun: Callable, argnum: int = 0) -> Callable:
    """A function of ``(*args, tensor)``: the Jacobian, contracted from the left with a tensor over all axes of the tensor.

    If the tensor has the output's shape the result has the argument's; if it has fewer axes, those that it lacks remain.
    """

    def product(*args: Any, **kwargs: Any) -> Any:
        *args_, tensor = args
        axes = len(getattr(tensor, "shape", ()))
        if not axes:
            return jacobian(lambda *inner: tensor * fun(*inner, **kwargs), argnum)(*args_)
        return jacobian(lambda *inner: ops.tensordot(tensor, fun(*inner, **kwargs), axes=axes), argnum)(*args_)

    return product


vector_jacobian_product = tensor_jacobian_product


def _half_square(y: Any) -> Any:
    return 0.5 * ops.sum(ops.square(y), axis=-1)


def make_ggnvp(f: Callable, g: Callable = _half_square, f_argnum: int = 0) -> Callable:
    """``make_ggnvp(f, g)(*args)(v)`` is Jᵀ H J v, J the Jacobian of f there and H the Hessian of g at f's value: the
    generalised Gauss-Newton product (Schraudolph 2002). g takes the output of f, and returns a scalar."""

    def at(inner: Callable, x: Any) -> Callable:
        pull, value = _pull(inner, x)

        def product(v: Any) -> Any:
            tangent = jvp(inner, (x,), (v,))[1]
            return pull(jvp(grad(g), (value,), (tangent,))[1])

        return product

    return unary_to_nary(at)(f, f_argnum)
