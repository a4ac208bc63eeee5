"""Sequential, Residual, and the layers that have neither parameters nor state: pooling, Flatten and the activations."""

from collections.abc import Iterator, Mapping
from typing import Any, Self, overload

from .. import ops
from ..ops.windows import Lengths, Padding
from .module import MODULE, Module


class Sequential(Module):
    """Modules called one after the other, each with the output of the one before.

    ``Sequential(a, b)`` names them "0" and "1"; ``Sequential({"first": a, "second": b})`` as given. It can be indexed (by
    numbers, also negative, and slices), has a length, and can be iterated over and appended to.
    """

    _layers: tuple[Module, ...] = ()

    def __init__(self, *modules: Module | Mapping[str, Module]):
        super().__init__()
        named: Any = enumerate(modules)
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named = modules[0].items()
        for name, module in named:
            if not isinstance(module, Module):
                raise TypeError(
                    f"Sequential: {module!r:.60} is not a Module; wrap a function by subclassing Module, and pass a list as "
                    "Sequential(*modules)"
                )
            setattr(self, str(name), module)

    def _register(self, name: str, value: Any, kind: str | None) -> None:
        super()._register(name, value, kind)
        if kind == MODULE:
            self.__dict__["_layers"] = tuple(self.children())

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self.__dict__["_layers"] = tuple(self.children())

    def forward(self, x: Any) -> Any:
        for layer in self._layers:
            x = layer(x)
        return x

    def append(self, module: Module) -> Self:
        """Add a module at the end, named by its number; returns the Sequential."""
        setattr(self, str(len(self)), module)
        return self

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> "Sequential": ...
    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return Sequential(dict(list(self.named_children())[index]))
        return self._layers[index]

    def __setitem__(self, index: int, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"Sequential: {module!r:.60} is not a Module")
        name, _ = list(self.named_children())[index]
        setattr(self, name, module)


class Residual(Module):
    """body(x) + x, or body(x) + shortcut(x) where the body changes the shape (He et al. 2016, equations 1 and 2).

    Raises:
        ValueError: what is added has another shape than what the body returns.
    """

    def __init__(self, body: Module, shortcut: Module | None = None):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Any) -> Any:
        y, past = self.body(x), x if self.shortcut is None else self.shortcut(x)
        if tuple(y.shape) != tuple(past.shape):
            raise ValueError(
                f"Residual: the body turned {tuple(x.shape)} into {tuple(y.shape)}, and the shortcut into {tuple(past.shape)}; give a "
                "shortcut, such as Conv2d with kernel_size=1, whose result has the shape of the body's"
            )
        return y + past


class _Pool2d(Module):
    def __init__(self, kernel_size: int | Lengths, stride: int | Lengths | None = None, padding: Padding = 0):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(_Pool2d):
    """The maximum over windows of x (N, C, H, W); see ``autograd.ops.max_pool2d``."""

    def forward(self, x: Any) -> Any:
        return ops.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(_Pool2d):
    """The mean over windows of x (N, C, H, W); see ``autograd.ops.avg_pool2d``."""

    def __init__(
        self,
        kernel_size: int | Lengths,
        stride: int | Lengths | None = None,
        padding: Padding = 0,
        count_include_pad: bool = True,
    ):
        super().__init__(kernel_size, stride, padding)
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Any:
        return ops.avg_pool2d(x, self.kernel_size, self.stride, self.padding, count_include_pad=self.count_include_pad)


class Flatten(Module):
    """x with the axes from ``start_dim`` to ``end_dim`` (inclusive) made one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        return ops.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Any:
        return ops.relu(x)


class LeakyReLU(Module):
    """x where positive, else negative_slope · x."""

    def __init__(self, negative_slope: float = 0.01):
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Any:
        return ops.leaky_relu(x, slope=self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x where positive, else alpha (eˣ - 1)."""

    def __init__(self, alpha: float = 1.0):
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Any) -> Any:
        return ops.elu(x, alpha=self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(Module):
    """x Φ(x); ``approximate="tanh"`` computes it by tanh."""

    def __init__(self, approximate: str = "none"):
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f'GELU: approximate must be "none" or "tanh", not {approximate!r}')
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        return ops.gelu(x, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x · sigmoid(x)."""

    def forward(self, x: Any) -> Any:
        return ops.silu(x)


class Sigmoid(Module):
    """1 / (1 + e⁻ˣ)."""

    def forward(self, x: Any) -> Any:
        return ops.sigmoid(x)


class Tanh(Module):
    """tanh(x)."""

    def forward(self, x: Any) -> Any:
        return ops.tanh(x)


class Softplus(Module):
    """log(1 + e^(beta x)) / beta, exact for every x."""

    def __init__(self, beta: float = 1.0):
        super().__init__()
        if beta <= 0:
            raise ValueError(f"Softplus: beta must be positive, not {beta}")
        self.beta = beta

    def forward(self, x: Any) -> Any:
        return ops.softplus(x) if self.beta == 1.0 else ops.softplus(x * self.beta) * (1.0 / self.beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta}"


class Softmax(Module):
    """eˣ / Σ eˣ along the axis ``dim``."""

    def __init__(self, dim: int = -1):
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> Any:
        return ops.softmax(x, axis=self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """x - log Σ eˣ along the axis ``dim``."""

    def forward(self, x: Any) -> Any:
        return ops.log_softmax(x, axis=self.dim)
