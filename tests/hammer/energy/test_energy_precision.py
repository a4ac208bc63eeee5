"""Precisions per layer: what they are measured to cost, and that the chosen ones are those that run."""

import numpy as np
import pytest

from autograd import AutogradContext, DiffTensor, nn, optim
from autograd.nn import losses
from hammer.energy.precision import layer_precisions, precisions
from hammer.energy.price import per_layer, within

X = np.random.default_rng(0).standard_normal((64, 20)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 4, 64)


def net() -> nn.Sequential:
    rng = np.random.default_rng(2)
    return nn.Sequential(nn.Linear(20, 32, rng=rng), nn.ReLU(), nn.Linear(32, 4, rng=rng))


def dtypes(model: nn.Sequential) -> dict[str, str]:
    seen: dict[str, str] = {}
    with AutogradContext(observer=lambda row, inputs, _p, outputs: seen.update({str(inputs[1].shape): str(outputs[0].dtype)}) if row.name == "linear" else None):  # fmt: skip
        model(DiffTensor(X))
    return {"0": seen["(32, 20)"], "2": seen["(4, 32)"]}


def test_half_precision_costs_less_and_loses_a_little() -> None:
    pytest.importorskip("ml_dtypes")
    model = net()
    options = precisions(model, lambda: losses.cross_entropy(model(DiffTensor(X)), Y))
    assert options.keys() == {"0", "2"}
    for actions in options.values():
        assert actions["fp32"].gain == 0.0 and 0 < abs(actions["bf16"].gain) < 0.05
        assert 0 < actions["bf16"].joules < actions["fp32"].joules
    assert dtypes(model) == {"0": "float32", "2": "float32"}  # left as it was
    free = per_layer(options, 0.0)
    dear = per_layer(options, 1e12)
    assert dear == {"0": "bf16", "2": "bf16"}
    assert all(options[k][free[k]].gain >= max(a.gain for a in options[k].values()) for k in options)
    chosen, _ = within(options, sum(a["bf16"].joules for a in options.values()))
    assert chosen == dear


def test_the_chosen_precisions_run_and_train() -> None:
    pytest.importorskip("ml_dtypes")
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with layer_precisions(model, {"0": "bf16"}):
        assert dtypes(model) == {"0": "bfloat16", "2": "float32"}
        before = losses.cross_entropy(model(DiffTensor(X)), Y).item()
        for _ in range(20):
            optimizer.zero_grad()
            losses.cross_entropy(model(DiffTensor(X)), Y).backward()
            optimizer.step()
        assert losses.cross_entropy(model(DiffTensor(X)), Y).item() < before
        assert all(p.dtype == np.float32 for p in model.parameters())
        with layer_precisions(model, {"0": "fp32", "2": "bf16"}):
            assert dtypes(model) == {"0": "float32", "2": "bfloat16"}
        assert dtypes(model) == {"0": "bfloat16", "2": "float32"}
    assert not any("forward" in m.__dict__ for m in model.modules())


def test_what_is_refused() -> None:
    model = net()
    with pytest.raises(ValueError, match="'fp8' is none of"):
        precisions(model, lambda: None, ("fp8",))
    with pytest.raises(ValueError, match="no module '7'"), layer_precisions(model, {"7": "fp16"}):
        pass
    with pytest.raises(ValueError, match="precision must be one of"), layer_precisions(model, {"0": "fp8"}):
        pass
    assert not any("forward" in m.__dict__ for m in model.modules())
