"""The optimizer entries: each is its method, step for step, and is judged by the parameters it means to be judged by.

What the methods themselves are is tested against papers and public implementations in ``tests/autograd``; here, that the
entries are these methods with the settings they print. The peers' settings are written out once more. (Muon, Shampoo and
SOAP are compared with their public implementations in ``tests/autograd/test_second_order.py``.)
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from autograd import DiffTensor
from autograd.optim import Optimizer
from hammer.lab import counting, optimizers, problems, trial
from hammer.lab.seeds import Streams
from hammer.lab.trial import TrialSpec

BASELINES = {
    "SGD": "sgd", "heavy ball": "momentum", "Nesterov": "nesterov", "RMSprop": "rmsprop", "Adam": "adam", "AdamW": "adamw",
    "NAdam": "nadam", "RAdam": "radam", "Lion": "lion", "Adagrad": "adagrad", "Adadelta": "adadelta", "AdEMAMix": "ademamix",
    "Lookahead": "lookahead", "Schedule-Free AdamW": "schedule_free_adamw", "Muon": "muon", "Shampoo": "shampoo", "SOAP": "soap",
    "L-BFGS": "lbfgs",
}  # fmt: skip
AVERAGING = ("lookahead", "schedule_free_adamw")
SHAPES = [(5, 3), (4,), (2, 3)]


def spec(optimizer: str, problem: str = "quadratic", steps: int = 12, every: int = 1, **hyper: float) -> TrialSpec:
    return TrialSpec(problem, optimizer, hyper, 0, 0, steps, every, "float64")


def test_every_baseline_is_there_and_has_a_space() -> None:
    for name in BASELINES.values():
        entry = optimizers.get(name)
        assert entry.baseline and set(entry.space) == {"lr"} and entry.defaults.keys() == {"lr"}


@pytest.mark.parametrize("name", optimizers.ENTRIES)
def test_what_a_step_costs_is_counted(name: str) -> None:
    cost = counting.step_cost("digits_mlp", name, "float32")
    size = 64 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10
    assert (cost.optimizer >= [2.0 * size, 20.0 * size]).all()  # at least -lr g and the update added


# ---- what is judged ----


def test_lookahead_is_judged_by_its_slow_weights() -> None:
    _, arrays = trial.run(spec("lookahead", lr=0.01))
    loss = arrays["loss"]
    assert all(loss[t] == loss[5 * (t // 5)] for t in range(13)) and len(set(loss)) == 3  # they move at steps 5 and 10
    assert len(set(arrays["train_loss"])) == 12  # the fast ones at each


def test_schedule_free_is_judged_by_its_average() -> None:
    """y = (1 - β) z + β x and x the mean of all z so far, so that x follows from y alone."""
    _, arrays = trial.run(spec("schedule_free_adamw", lr=0.01))
    task = problems.get("quadratic").start(Streams(0, "quadratic", 0), "float64")
    (parameter,) = task.parameters
    optimizer = Optimizer([parameter], optimizers.get("schedule_free_adamw").transform({"lr": 0.01}))
    x, beta = parameter.numpy().copy(), 0.9
    for t in range(1, 13):
        optimizer.zero_grad()
        task.loss().backward()
        optimizer.step()
        y = parameter.numpy().copy()
        z = (y - beta * (1 - 1 / t) * x) / (1 - beta + beta / t)
        x = (1 - 1 / t) * x + z / t
        parameter.data = x
        assert arrays["loss"][t] == pytest.approx(task.evaluate()[0], rel=1e-9)
        assert t == 1 or abs(arrays["loss"][t] / task.loss().item() - 1) < 1e-9
        parameter.data = y


@pytest.mark.parametrize("name", [name for name in optimizers.ENTRIES if name not in AVERAGING])
def test_the_others_are_judged_by_the_parameters_that_are_stepped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial has the bits it has without evaluation()."""
    run = spec(name, "breast_cancer_logistic", every=3, **optimizers.get(name).defaults)
    inside = trial.run(run)[0]["bits"]

    @contextlib.contextmanager
    def nothing(self: Optimizer) -> Iterator[None]:
        yield

    monkeypatch.setattr(Optimizer, "evaluation", nothing)
    assert trial.run(run)[0]["bits"] == inside


@pytest.mark.parametrize("name", AVERAGING)
def test_their_bits_are_others_without_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = trial.run(spec(name, every=3, lr=0.01))[0]["bits"]
    monkeypatch.setattr(Optimizer, "evaluation", lambda self: contextlib.nullcontext())
    assert trial.run(spec(name, every=3, lr=0.01))[0]["bits"] != inside


# ---- the methods, with the settings that are printed ----


def _torch(name: str, **options: Any) -> Callable[[Any, list, float], Any]:
    return lambda torch, params, lr: getattr(torch.optim, name)(params, lr=lr, **options)


def _other(package: str, name: str, **options: Any) -> Callable[[Any, list, float], Any]:
    def make(torch: Any, params: list, lr: float) -> Any:
        made = getattr(pytest.importorskip(package), name)(params, lr=lr, **options)
        if hasattr(made, "train"):
            made.train()
        return made

    return make


def _around(torch: Any, params: list, lr: float) -> Any:
    module = pytest.importorskip("pytorch_optimizer")
    return module.Lookahead(torch.optim.Adam(params, lr=lr), k=5, alpha=0.5)


class _Closure:
    """PyTorch's L-BFGS asks for the loss: one evaluation a step, and so no line search."""

    def __init__(self, torch: Any, params: list, lr: float):
        self.inner = torch.optim.LBFGS(
            params, lr=lr, max_iter=1, history_size=10, tolerance_change=0.0, tolerance_grad=0.0
        )
        self.torch = torch

    def step(self) -> None:
        self.inner.step(lambda: self.torch.tensor(0.0))


PEERS = {
    "sgd": _torch("SGD"),
    "momentum": _torch("SGD", momentum=0.9),
    "nesterov": _torch("SGD", momentum=0.9, nesterov=True),
    "rmsprop": _torch("RMSprop", alpha=0.99),
    "adam": _torch("Adam"),
    "adamw": _torch("AdamW", weight_decay=0.01),
    "nadam": _torch("NAdam", momentum_decay=4e-3),
    "radam": _torch("RAdam"),
    "adamax": _torch("Adamax"),
    "adagrad": _torch("Adagrad"),
    "adadelta": _torch("Adadelta", rho=0.9),
    "lbfgs": _Closure,
    "lion": _other("pytorch_optimizer", "Lion", betas=(0.9, 0.99), weight_decay=0.0),
    "ademamix": _other("pytorch_optimizer", "AdEMAMix", betas=(0.9, 0.999, 0.9999), alpha=5.0, weight_decay=0.0),
    "lookahead": _around,
    "schedule_free_adamw": _other("schedulefree", "AdamWScheduleFree", betas=(0.9, 0.999), weight_decay=0.01),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", PEERS)
def test_an_entry_is_its_public_implementation(name: str, double: Any) -> None:
    rng = np.random.default_rng(5)
    params = [DiffTensor(rng.normal(size=shape), requires_grad=True) for shape in SHAPES]
    theirs = [double.tensor(p.numpy().copy(), requires_grad=True) for p in params]
    pull = [rng.uniform(0.5, 2.0, size=shape) for shape in SHAPES]
    entry = optimizers.get(name)
    lr = entry.space["lr"].at(0.6)
    optimizer, peer = Optimizer(params, entry.transform({"lr": lr})), PEERS[name](double, theirs, lr)
    for step in range(40):
        for p, q, h in zip(params, theirs, pull, strict=True):
            p.grad = h * np.tanh(p.numpy())
            q.grad = double.tensor(h * np.tanh(q.detach().numpy()))
        optimizer.step()
        peer.step()
        for p, q in zip(params, theirs, strict=True):
            np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-9, atol=1e-12, err_msg=f"step {step}")
