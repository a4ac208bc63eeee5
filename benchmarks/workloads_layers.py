"""The workloads with layers: Hammer and PyTorch, whose modules and functions have the same names.

``step_of(library, workload)`` is a ``workloads.Step``.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from workloads import FUNCTIONS, LSTM, MLPS, RATE, SSM, TRANSFORMER, Problem, Step, chain, fastest, problem

# ---- models ----


def model_of(nn: Any, workload: str, parts: Any) -> Any:
    """A module of either library; ``parts`` has what the two libraries call by different names."""

    class LastState(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(LSTM["inputs"], LSTM["hidden"])
            self.head = nn.Linear(LSTM["hidden"], LSTM["classes"])

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][-1])

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            p = TRANSFORMER
            for name in ("first", "second"):
                layer = nn.TransformerEncoderLayer(p["width"], p["heads"], p["inner"], dropout=0.0, batch_first=True)
                setattr(self, name, layer)
            self.head = nn.Linear(p["width"], p["classes"])
            self.causal = parts.causal(p["length"])

        def forward(self, x: Any) -> Any:
            x = self.second(self.first(x, **self.causal), **self.causal)
            return self.head(x).reshape((-1, TRANSFORMER["classes"]))

    class Diagonal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("alpha", "b", "c", "d"):
                setattr(self, name, nn.Parameter(parts.array(np.zeros(SSM["channels"], np.float32))))
            self.head = nn.Linear(SSM["channels"], SSM["classes"])

        def forward(self, x: Any) -> Any:
            y = parts.diagonal(self.alpha, self.b, self.c, x) + self.d * x
            return self.head(y.mean(1))

    special = {"lstm": LastState, "transformer": Encoder, "ssm": Diagonal}
    if workload in special:
        return special[workload]()
    if workload == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip
    sizes = MLPS[workload][0]
    layers = [layer for m, n in itertools.pairwise(sizes) for layer in (nn.Linear(m, n), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def step_of(library: str, workload: str) -> Step:
    make = {"ours": _ours, "ours_eager": _ours, "torch": _torch, "torch_compile": _torch}[library]
    return make(workload, problem(workload), library in ("ours", "torch_compile"))


# ---- Hammer ----


class _OurParts:
    """What a model of Hammer needs beside ``nn``."""

    array = staticmethod(lambda a: a)

    @staticmethod
    def causal(_length: int) -> dict[str, Any]:
        return {"is_causal": True}

    @staticmethod
    def diagonal(alpha: Any, b: Any, c: Any, x: Any) -> Any:
        from autograd import ops

        return c * ops.linear_scan(ops.sigmoid(alpha), b * x, axis=1)


def our_function(workload: str, data: tuple[Any, ...]) -> Callable[..., Any]:
    """The loss of a workload that is no model, as a function of what it is differentiated with respect to."""
    from autograd import ops

    if workload == "chain":
        return lambda x: chain(ops, x)
    if workload == "softmax_cross_entropy":
        return lambda x: ops.mean(ops.cross_entropy(x, data[0]))
    return lambda x, w, b: ops.mean(ops.layer_norm(x, (x.shape[-1],), w, b, 1e-5) * data[0])


def our_model(workload: str, weights: list[Any]) -> tuple[Any, Callable[[Any, Any], Any]]:
    """A model with its weights, and its loss."""
    from autograd import nn

    net, loss_of = model_of(nn, workload, _OurParts), nn.CrossEntropyLoss()
    for p, w in zip(net.parameters(), weights, strict=True):
        if tuple(p.shape) != w.shape:
            raise ValueError(f"{workload}: a parameter is {tuple(p.shape)}, its weight {w.shape}")
        p.data = w.copy()
    return net, lambda x, y: loss_of(net(x), y)


def whole_step(loss_of: Callable, optimizer: Any, compiled: bool) -> Callable[..., Any]:
    """One training step as a function of the batch."""
    if compiled:
        import hammer

        return hammer.training_step(loss_of, optimizer, exact=False)

    def step(*batch: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(*batch)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _ours(workload: str, given: Problem, compiled: bool) -> Step:
    from autograd import DiffTensor, optim, value_and_grad

    if workload in FUNCTIONS:
        both = value_and_grad(our_function(workload, given.data), tuple(range(len(given.weights))))
        if compiled:
            import hammer

            both = hammer.compile(both, exact=False)
        found: list[Any] = []

        def run() -> Any:
            loss, found[:] = both(*given.weights)
            return loss

        return Step(run, lambda: [np.asarray(g) for g in found])
    net, loss_of = our_model(workload, given.weights)
    step = whole_step(loss_of, optim.SGD(net.parameters(), lr=RATE), compiled)
    batch = [DiffTensor(a) for a in given.data]
    return Step(lambda: step(*batch), lambda: [np.array(p.numpy()) for p in net.parameters()])


# ---- PyTorch ----


class _TorchParts:
    """What a model of PyTorch needs beside ``nn``."""

    def __init__(self, by_convolution: bool):
        self.by_convolution = by_convolution

    @staticmethod
    def array(a: Any) -> Any:
        import torch

        return torch.from_numpy(a)

    @staticmethod
    def causal(length: int) -> dict[str, Any]:
        from torch import nn

        return {"src_mask": nn.Transformer.generate_square_subsequent_mask(length), "is_causal": True}

    def diagonal(self, alpha: Any, b: Any, c: Any, x: Any) -> Any:
        import torch

        decay = torch.sigmoid(alpha)
        if self.by_convolution:  # with the kernel c aᵗ b, as S4D does it (Gu et al. 2022)
            t = x.shape[1]
            kernel = torch.exp(torch.log(decay)[:, None] * torch.arange(t)) * (b * c)[:, None]
            inputs = x.transpose(1, 2).contiguous()
            product = torch.fft.rfft(inputs, 2 * t) * torch.fft.rfft(kernel, 2 * t)
            return torch.fft.irfft(product, 2 * t)[..., :t].transpose(1, 2)
        inputs, states = b * x, []
        h = torch.zeros_like(inputs[:, 0])
        for u in inputs.unbind(1):
            h = torch.addcmul(u, decay, h)
            states.append(h)
        return c * torch.stack(states, 1)


def _torch(workload: str, given: Problem, compiled: bool) -> Step:
    if workload == "cnn" and compiled:
        # PyTorch 2.13.0's compiler, left to choose a layout, gives gradients of zero to both convolutions
        import torch._inductor.config

        torch._inductor.config.layout_optimization = False
        step = _torch_step(workload, given, compiled, False)
        step.note = "with layout_optimization=False, without which its gradients are wrong"
        return step
    if workload != "ssm":
        return _torch_step(workload, given, compiled, False)
    ways = [("by a convolution with FFTs, as S4D does it", lambda: _torch_step(workload, given, compiled, True))]
    if not compiled:  # where the loop of 1,024 steps is unrolled, and takes minutes to compile
        ways.append(("by a loop over the steps", lambda: _torch_step(workload, given, compiled, False)))
    return fastest(ways)


def _torch_step(workload: str, given: Problem, compiled: bool, by_convolution: bool) -> Step:
    import torch
    from torch import nn

    data = [torch.from_numpy(a) for a in given.data]
    if workload in FUNCTIONS:
        losses: dict[str, Callable] = {
            "chain": lambda x: chain(torch, x),
            "softmax_cross_entropy": lambda x: nn.functional.cross_entropy(x, data[0]),
            "layer_norm": lambda x, w, b: torch.mean(nn.functional.layer_norm(x, x.shape[-1:], w, b, 1e-5) * data[0]),
        }
        loss_of = torch.compile(losses[workload]) if compiled else losses[workload]
        inputs = [torch.from_numpy(w).requires_grad_() for w in given.weights]
        found: list[Any] = []

        def function() -> Any:
            loss = loss_of(*inputs)
            found[:] = torch.autograd.grad(loss, inputs)
            return loss.detach()

        return Step(function, lambda: [g.numpy() for g in found])
    net = model_of(nn, workload, _TorchParts(by_convolution))
    with torch.no_grad():
        for p, w in zip(net.parameters(), given.weights, strict=True):
            p.copy_(torch.from_numpy(w))
    optimizer, criterion = torch.optim.SGD(net.parameters(), lr=RATE), nn.CrossEntropyLoss()

    def loss_of_batch(x: Any, y: Any) -> Any:
        return criterion(net(x), y)

    def update() -> None:
        optimizer.step()

    if compiled:
        loss_of_batch, update = torch.compile(loss_of_batch), torch.compile(update)

    def step() -> Any:
        optimizer.zero_grad()
        loss = loss_of_batch(*data)
        loss.backward()
        update()
        return loss.detach()

    return Step(step, lambda: [p.detach().numpy().copy() for p in net.parameters()])
