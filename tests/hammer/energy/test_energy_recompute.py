"""Keeping activations or computing them again: prices by a pencil, gradients to the bit, and what came of it."""

from typing import Any

import numpy as np
import pytest

from autograd import DiffTensor, nn
from autograd.tape import BackwardPass
from hammer.energy import recompute_or_keep, recomputed, technology

X = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32)
N = X.size


class Squares(nn.Module):
    """exp(x · x): keeps the result, whose rule reads it, unless it is computed again."""

    def forward(self, x: Any) -> Any:
        y = (x * x).exp()
        return y + 1.0  # what is handed on is not what is kept


def chain() -> tuple[nn.Module, Any]:
    rng = np.random.default_rng(1)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64, rng=rng), nn.LayerNorm(64), nn.Tanh()) for _ in range(4)))
    return model, lambda: (model(DiffTensor(X)) ** 2).mean()


def test_prices_are_those_of_a_pencil() -> None:
    model, x = nn.Sequential(Squares(), nn.Dropout(0.5), nn.Linear(64, 1)), DiffTensor(0.1 * X, requires_grad=True)
    (path, found), *others = recompute_or_keep(model, lambda: model(x).sum(), "45nm", ["0", "2"]).items()
    assert path == "0" and found.what == "activations of 0"
    # x is the caller's; exp's result is dropped; x · x and exp run again, from DRAM-sized arrays of 64 KB in "1 MB" (100 pJ for 8 bytes)
    moved = 4 * N * (3 + 2)
    assert found.predicted["bytes"] == 4 * N
    assert found.predicted["traffic"] == pytest.approx(1e-12 * 2 * 4 * N / 8 * 100)
    flops = (found.predicted["again"] - 1e-12 * moved / 8 * 100) / (1e-12 * technology("45nm").operation())
    assert flops == pytest.approx(round(flops), rel=1e-6) and flops >= 2 * N  # one for a product, one or more for exp
    assert found.choice == "keep" and found.realised is None
    assert others[0][1].predicted["saved"] <= 0  # a Linear keeps its input and its weight, which are there in any case


def test_far_memory_is_worth_computing_again_and_the_prediction_comes_true() -> None:
    model, loss = chain()
    found = recompute_or_keep(model, loss, "7nm")
    chosen = [path for path, decision in found.items() if decision.choice == "recompute"]
    assert chosen == ["0", "1", "2"]  # the last layer's are needed at once, and still near
    kept = BackwardPass([loss()]).bytes_retained
    with recomputed(model, chosen):
        there = BackwardPass([loss()])
    assert kept - there.bytes_retained == sum(found[path].realised["bytes"] for path in chosen) > 0
    for path in chosen:
        assert found[path].realised == pytest.approx(found[path].predicted)
        assert found[path].predicted["saved"] == found[path].predicted["traffic"] - found[path].predicted["again"] > 0
    assert "DRAM" in found["0"].reason and "activations of 0 → recompute" in str(found["0"])


def test_gradients_are_the_same_to_the_bit_and_the_model_is_left_as_it_was() -> None:
    model, loss = chain()
    plain = BackwardPass([loss()]).run()
    with recomputed(model, ["0", "2"]):
        again = BackwardPass([loss()]).run()
    assert all(np.array_equal(plain[p.node], again[p.node]) for p in model.parameters())
    with pytest.raises(ZeroDivisionError), recomputed(model, ["1"]):
        raise ZeroDivisionError
    recompute_or_keep(model, loss)
    assert model.training and not any("forward" in m.__dict__ for m in model.modules())


def test_power_that_flows_anyway_is_paid_while_computing_again() -> None:
    model, loss = chain()
    found = recompute_or_keep(model, loss, "7nm", static_watts=50.0)
    assert {decision.choice for decision in found.values()} == {"keep"}


def test_values_that_layers_share_are_saved_once() -> None:
    model, loss = chain()
    found = recompute_or_keep(model, loss, "7nm", ["0", "0.1"])  # a layer, and one inside it
    assert [d.choice for d in found.values()] == ["recompute"] * 2
    assert found["0.1"].realised["bytes"] < found["0.1"].predicted["bytes"]


def test_what_is_refused() -> None:
    model, loss = chain()
    with pytest.raises(ValueError, match=r"no module 'x'; it has '', '0'"):
        recompute_or_keep(model, loss, layers=["x"])
    with pytest.raises(ValueError, match="the loss does not call the module '3'"):
        recompute_or_keep(model, lambda: model[0](DiffTensor(X)).sum(), layers=["3"])
    with pytest.raises(ValueError, match="no modules inside"):
        recompute_or_keep(nn.Linear(64, 2), loss)
