"""EnergyOptimizer: the batch size of a problem whose best one is known, budgets, hopeless runs, and a log that tells the truth."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autograd import nn
from autograd.context import current
from autograd.train import Callback, Trainer
from hammer import agents
from hammer.energy import EnergyOptimizer, Meter, Modelled, StepEnergy, best_batch
from hammer.energy.meter import Source


class PerStep(Source):
    """Joules by a formula of what the Trainer does: so many for each step, so many for each example."""

    name, kind = "formula", "measured"

    def __init__(self, fixed: float, each: float):
        super().__init__()
        self.fixed, self.each, self.joules = fixed, each, 0.0
        self.lost = False

    def read(self) -> dict[str, float | None]:
        return {"all": None if self.lost else self.joules}


class Spending(Callback):
    """Makes the source spend; it stands before the optimizer in the list of callbacks."""

    def __init__(self, source: PerStep, batch: int):
        super().__init__()
        self.source, self.batch = source, batch

    def on_step_end(self, trainer: Any) -> None:
        self.source.joules += self.source.fixed + self.source.each * self.batch * trainer.accumulate


N, D = 1024, 10
RNG = np.random.default_rng(0)
TRUE = RNG.standard_normal(D)
X = RNG.standard_normal((N, D))
Y = (X @ TRUE + 3.0 * RNG.standard_normal(N))[:, None]


def regression(
    source: PerStep, size: int = 8, lr: float = 0.01, epochs: int = 6, **options: Any
) -> tuple[Trainer, EnergyOptimizer]:
    model = nn.Linear(D, 1, bias=False, rng=np.random.default_rng(1), dtype=np.float64)
    steering = EnergyOptimizer(Meter(source), window=30, probe_every=1, monitor="train_loss", **options)
    trainer = Trainer(model, "mse", "sgd", lr=lr, callbacks=[Spending(source, size), steering])
    trainer.fit((X, Y), epochs=epochs, batch_size=size)
    return trainer, steering


def test_the_batch_size_is_the_one_of_the_formula() -> None:
    source = PerStep(fixed=2.0, each=0.1)
    trainer, steering = regression(source, lr=1e-9)  # the parameters stay where they are, so the noise scale is known
    residual = X @ trainer.model.weight.numpy()[0] - Y[:, 0]
    each = 2 * residual[:, None] * X
    mean = each.mean(0)
    noise = np.trace(np.cov(each.T)) / (mean @ mean)
    (chosen,) = [d for d in steering.decisions if d.what == "batch size"]
    assert steering.noise.scale == pytest.approx(noise, rel=0.35)  # 60 probes of 4 and 4 examples
    best = best_batch(steering.noise.scale, StepEnergy(2.0, 0.1))
    assert chosen.choice == pytest.approx(8 * round(best / 8)) and trainer.accumulate == round(best / 8)
    assert chosen.predicted["joules of a step"] == pytest.approx(2.0 + 0.1 * chosen.choice)  # type: ignore[operator]
    assert chosen.realised is not None
    assert chosen.realised["joules of a step"] == pytest.approx(chosen.predicted["joules of a step"])
    rate = [d for d in steering.decisions if d.what == "learning rate"]
    scale = steering.noise.scale
    if chosen.choice != 8:
        assert rate[0].choice == pytest.approx(1e-9 * (1 + scale / 8) / (1 + scale / chosen.choice))  # type: ignore[operator]
        assert trainer.optimizer.lr == rate[0].choice
    assert "b*" in str(chosen) and "realised: joules of a step" in str(chosen)


def test_cheap_updates_keep_the_batch_small_and_probes_are_booked() -> None:
    source = PerStep(fixed=1e-4, each=1.0)
    trainer, steering = regression(source, rescale=False)
    assert trainer.accumulate == 1 and [d.choice for d in steering.decisions] == [8.0]
    assert steering.report is not None and "probe" in {row.phase for row in steering.report.rows}
    assert current() is None and "compute" not in trainer.__dict__


def test_steering_without_a_choice_changes_no_bit() -> None:
    plain = Trainer(nn.Linear(D, 1, rng=np.random.default_rng(1), dtype=np.float64), "mse", "sgd", lr=0.01)
    plain.fit((X, Y), epochs=2, batch_size=8)
    model = nn.Linear(D, 1, rng=np.random.default_rng(1), dtype=np.float64)
    steering = EnergyOptimizer(Meter(Modelled("45nm", 1.0)), batch=False)
    steered = Trainer(model, "mse", "sgd", lr=0.01, callbacks=[steering])
    steered.fit((X, Y), epochs=2, batch_size=8)
    assert np.array_equal(model.weight.numpy(), plain.model.weight.numpy()) and steering.decisions == []


def test_a_budget_ends_the_run_with_its_epoch() -> None:
    source = PerStep(fixed=1.0, each=0.0)
    trainer, steering = regression(source, budget=300.0, epochs=50, batch=False)
    assert trainer.stopped is not None and "of a budget of 300 J" in trainer.stopped
    assert steering.decisions[-1].what == "stop" and 300.0 <= steering.state["used"] < 300.0 + 128


def test_a_hopeless_run_is_given_up_and_a_hopeful_one_is_not() -> None:
    source = PerStep(fixed=1.0, each=0.0)
    trainer, steering = regression(source, budget=2000.0, target=1.0, epochs=50)  # the noise alone is 9
    assert trainer.stopped is not None and trainer.stopped.startswith("hopeless: train_loss would be")
    assert trainer.epoch < 10 and steering.decisions[-1].predicted["train_loss"] > 1.0
    trainer, steering = regression(PerStep(fixed=1.0, each=0.0), budget=1e6, target=9.5, epochs=6)
    assert trainer.stopped is None and trainer.epoch == 6


def test_without_joules_nothing_is_decided() -> None:
    model = nn.Linear(D, 1, rng=np.random.default_rng(1), dtype=np.float64)
    steering = EnergyOptimizer(Meter(), budget=1.0)
    trainer = Trainer(model, "mse", "sgd", callbacks=[steering])
    trainer.fit((X, Y), epochs=2, batch_size=8)
    assert [d.what for d in steering.decisions] == ["nothing"] and trainer.accumulate == 1 and trainer.epoch == 2

    source = PerStep(1.0, 0.1)

    class Losing(Callback):
        def on_step_end(self, trainer: Any) -> None:
            source.lost = trainer.step > 40

    steering = EnergyOptimizer(Meter(source), window=30)
    trainer = Trainer(model, "mse", "sgd", callbacks=[Spending(source, 8), Losing(), steering])
    trainer.fit((X, Y), epochs=2, batch_size=8)
    assert any("not known any more" in d.reason for d in steering.decisions) and trainer.epoch == 2


def test_a_run_goes_on_with_what_was_chosen(tmp_path: Path) -> None:
    source = PerStep(fixed=5.0, each=0.01)
    trainer, steering = regression(source, epochs=3)
    assert trainer.accumulate > 1
    state = trainer.state_dict()
    model = nn.Linear(D, 1, bias=False, rng=np.random.default_rng(2), dtype=np.float64)
    again = EnergyOptimizer(Meter(PerStep(5.0, 0.01)), monitor="train_loss")
    resumed = Trainer(model, "mse", "sgd", lr=0.01, callbacks=[Spending(source, 8), again])
    resumed.load_state_dict(state)
    resumed.fit((X, Y), epochs=4, batch_size=8)
    assert resumed.accumulate == trainer.accumulate and again.state["stage"] == steering.state["stage"]
    assert again.noise.scale == steering.noise.scale and not [d for d in again.decisions if d.what == "batch size"]
    steering.save_decisions(tmp_path / "decisions.json")
    assert json.loads((tmp_path / "decisions.json").read_text())[0]["what"] in ("batch size", "learning rate")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": 1}, "window"),
        ({"budget": 0.0}, "budget"),
        ({"most": 0}, "most"),
        ({"rise": -1.0}, "rise"),
        ({"precisions": ("fp8",)}, "precisions may be fp32, fp16, bf16, not 'fp8'"),
    ],
)
def test_settings_that_cannot_be(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EnergyOptimizer(Meter(), **options)


def test_a_compiled_trainer_is_steered_too() -> None:
    model = nn.Linear(D, 1, rng=np.random.default_rng(1), dtype=np.float64)
    source = PerStep(5.0, 0.01)
    steering = EnergyOptimizer(Meter(source), window=10)
    trainer = Trainer(model, "mse", "sgd", compile=True, callbacks=[Spending(source, 8), steering])
    trainer.fit((X, Y), epochs=2, batch_size=8)
    assert trainer.accumulate > 1 and steering.noise.state["count"] > 0


def network() -> nn.Module:
    rng = np.random.default_rng(3)
    block = lambda i: nn.Sequential(
        nn.Linear(i, 64, rng=rng), nn.BatchNorm1d(64), nn.LayerNorm(64), nn.Tanh(), nn.Dropout(0.1, rng=rng)
    )
    return nn.Sequential(block(D), block(64), block(64), nn.Linear(64, 1, rng=rng))


def layered(epochs: int = 2, checkpoints: Path | None = None, **options: Any) -> tuple[Trainer, EnergyOptimizer]:
    steering = EnergyOptimizer(Meter(Modelled("7nm")), batch=False, **options)
    trainer = Trainer(network(), "mse", "sgd", lr=0.01, callbacks=[steering], checkpoints=checkpoints)
    trainer.fit((X.astype(np.float32), Y.astype(np.float32)), epochs=epochs, batch_size=256, resume=bool(checkpoints))
    assert not any("forward" in vars(m) for m in trainer.model.modules()), "layers are as they were"
    return trainer, steering


def weights(trainer: Trainer) -> bytes:
    return b"".join(v.tobytes() for v in trainer.model.state_dict().values())


def test_layers_computed_again_give_the_same_bits() -> None:
    plain, _ = layered()
    trainer, steering = layered(recompute=True)
    assert [d.what for d in steering.decisions] == [f"activations of {i}" for i in range(4)]
    again = [str(i) for i, d in enumerate(steering.decisions) if d.choice == "recompute"]
    assert steering.state["layers"]["recompute"] == again != []
    assert weights(trainer) == weights(plain)


def test_layers_get_the_precision_that_the_loss_allows() -> None:
    plain, _ = layered(epochs=1)
    trainer, loose = layered(epochs=1, precisions=("bf16", "fp32"), rise=0.5)
    chosen = loose.state["layers"]["precisions"]
    assert {chosen[f"{i}.0"] for i in range(3)} == {"bf16"} and weights(trainer) != weights(plain)
    assert sum(d.realised["joules"] for d in loose.decisions) < 0 > sum(d.predicted["joules"] for d in loose.decisions)
    _, strict = layered(epochs=1, precisions=("bf16", "fp32"), rise=1e-6)
    risen = [sum(d.predicted["loss"] for d in s.decisions) for s in (strict, loose)]
    assert risen[0] < 2e-5 < risen[1] < 0.5 * 20 and strict.state["layers"]["precisions"] != chosen
    with pytest.raises(ValueError, match="least: the best options raise the loss by"):
        layered(epochs=1, precisions=("bf16",), rise=0.0)


def test_a_run_goes_on_with_its_layers(tmp_path: Path) -> None:
    options = {"precisions": ("bf16", "fp32"), "rise": 0.5, "recompute": True}
    whole, steering = layered(epochs=3, **options)
    layered(epochs=1, checkpoints=tmp_path, **options)
    resumed, again = layered(epochs=3, checkpoints=tmp_path, **options)
    assert again.state["layers"] == steering.state["layers"] and not again.decisions
    assert weights(resumed) == weights(whole)


def test_a_compiled_step_keeps_its_layers() -> None:
    steering = EnergyOptimizer(Meter(), recompute=True)
    with pytest.raises(ValueError, match="compiled step cannot change its layers"):
        Trainer(network(), "mse", "sgd", compile=True, callbacks=[steering]).fit((X, Y), epochs=1)


def test_several_ranks_would_decide_differently() -> None:
    def train(comm: Any, **options: Any) -> Any:
        steering = EnergyOptimizer(Meter(PerStep(1.0, 0.1)), **options)
        trainer = Trainer(network(), "mse", "sgd", agents=agents.Team(comm), callbacks=[steering])
        return trainer.fit((X, Y), epochs=1)

    for options in ({}, {"batch": False, "budget": 1.0}, {"batch": False, "recompute": True}):
        with pytest.raises(ValueError, match="each decide by their own meter"):
            agents.run(2, lambda comm, options=options: train(comm, **options))
    assert len(agents.run(2, lambda comm: train(comm, batch=False))[1]) == len(agents.run(1, train)[0]) == 1
