"""Trainer: its arithmetic against loops written out, resuming bit for bit, stopping, messages, other array libraries."""

import contextlib
import math
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from autograd import DiffTensor, gradients, nn, ops, optim, train
from autograd.train import (
    Callback,
    EarlyStopping,
    History,
    Interrupted,
    Loader,
    NonFiniteError,
    ReduceLROnPlateau,
    Statistics,
    Trainer,
    config,
)
from autograd.train.rates import schedule

N = 50


def data(dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N, 6)).astype(dtype)
    return x, (x[:, 0] + 0.3 * rng.normal(size=N) > 0).astype(np.int64)


def network(dtype: Any = np.float32, dropout: float = 0.3) -> nn.Module:
    rng = np.random.default_rng(0)
    return nn.Sequential(
        nn.Linear(6, 8, rng=rng, dtype=dtype),
        nn.BatchNorm1d(8, dtype=dtype),
        nn.ReLU(),
        nn.Dropout(dropout, rng=rng),
        nn.Linear(8, 2, rng=rng, dtype=dtype),
    )


def same_state(a: Any, b: Any) -> bool:
    """Equal bits, but for times."""
    if isinstance(a, dict):
        timeless = [{k: v for k, v in s.items() if k not in ("seconds", "examples_per_second")} for s in (a, b)]
        return timeless[0].keys() == timeless[1].keys() and all(
            same_state(v, timeless[1][k]) for k, v in timeless[0].items()
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_state, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and (a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b)))


def test_a_run_is_the_loop_written_out() -> None:
    x, y = data()
    model, twin = network(), network()
    rule = gradients.chain(gradients.clip_by_global_norm(0.5), optim.adamw(0.01))
    optimizer = optim.Optimizer(twin.parameters(), rule)
    losses = []
    loader = Loader(train.ArrayDataset(x, y), 8, shuffle=True, seed=3)
    for epoch in range(3):
        total = 0.0
        for xb, yb in loader.batches(epoch):
            optimizer.zero_grad()
            loss = nn.losses.cross_entropy(twin(DiffTensor(xb)), yb)
            loss.backward()
            optimizer.step()
            total += float(loss) * len(yb)
        losses.append(total / N)
    trainer = Trainer(model, optimizer=optim.adamw(0.01), clip=0.5, seed=3)
    history = trainer.fit((x, y), epochs=3, batch_size=8)
    assert same_state(model.state_dict(), twin.state_dict())
    assert history["train_loss"] == losses and trainer.step == 21 and history.final["step"] == 21


def test_accumulated_batches_are_one_big_batch() -> None:
    x, y = data(np.float64)
    models = [nn.Linear(6, 2, rng=0, dtype=np.float64) for _ in range(2)]
    for model, size, k in zip(models, (40, 8), (1, 5), strict=True):  # 50 examples: 40, then 10, which is 8 and 2
        Trainer(model, optimizer=optim.sgd(0.5, momentum=0.9), clip=0.1, accumulate=k).fit(
            Loader(train.ArrayDataset(x, y), size), epochs=4
        )
    for a, b in zip(*(m.state_dict().values() for m in models), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_evaluation_does_not_depend_on_batches_and_restores_modes() -> None:
    x, y = data(np.float64)
    model = network(np.float64)
    model[3].eval()
    trainer = Trainer(model, metrics=["accuracy", "f1"])
    whole, parts = (trainer.evaluate((x, y), batch_size=n) for n in (N, 7))
    assert whole == pytest.approx(parts, rel=1e-13) and set(whole) == {"loss", "accuracy", "f1_macro"}
    assert [m.training for m in model] == [True, True, True, False, True]
    assert all(p.grad is None for p in model.parameters())
    np.testing.assert_allclose(trainer.predict(x, batch_size=7), trainer.predict(x), rtol=1e-13)
    assert whole["accuracy"] == np.mean(trainer.predict(x).argmax(1) == y)


@pytest.mark.parametrize("rule", [optim.lookahead(optim.sgd(0.1), k=1000), optim.schedule_free_sgd(0.1)])
def test_the_parameters_that_a_method_is_judged_by_are_evaluated(rule: Any) -> None:
    """Lookahead's slow weights, the average of schedule-free methods; training goes on from those that are stepped."""
    x, y = data()
    model = network(dropout=0.0)
    optimizer = optim.Optimizer(model.parameters(), rule)
    trainer = Trainer(model, "cross_entropy", optimizer, seed=3)
    trainer.fit((x, y), epochs=1)
    stepped = [p.numpy().copy() for p in model.parameters()]
    model.eval()
    with optimizer.evaluation():
        judged = nn.CrossEntropyLoss()(model(DiffTensor(x)), DiffTensor(y)).item()
        output = model.infer(x)
    assert trainer.evaluate((x, y))["loss"] == pytest.approx(judged, rel=1e-5)
    assert np.array_equal(trainer.predict(x), output)
    assert not np.array_equal(model.infer(x), output)
    assert all(np.array_equal(p.numpy(), before) for p, before in zip(model.parameters(), stepped, strict=True))


def test_infer_takes_trees_and_restores_modes_after_errors() -> None:
    class Two(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            if self.training or x.shape[0] > 4:
                raise RuntimeError("called in training mode, or on too much")
            return {"sum": x + y, "pair": (x, y * 2)}

    model = Two()
    out = model.infer(np.arange(6.0), np.ones(6), batch_size=4)
    assert out["sum"].tolist() == [1, 2, 3, 4, 5, 6] and out["pair"][1].tolist() == [2.0] * 6 and model.training
    with pytest.raises(RuntimeError):
        model.infer(np.arange(6.0), np.ones(6))
    assert model.training
    assert nn.Linear(3, 2).infer(np.zeros((0, 3), np.float32)).shape == (0, 2)
    with pytest.raises(ValueError, match="one first axis"):
        model.infer(np.ones(3), np.ones(4))


def trainer_with_everything() -> Trainer:
    model = network()
    return Trainer(
        model,
        optimizer=optim.AdamW(model.parameters(), lr=0.02),
        metrics=["accuracy", "f1"],
        accumulate=2,
        clip=1.0,
        callbacks=[EarlyStopping(patience=50, track_overfitting=True), ReduceLROnPlateau(patience=0, threshold=0.05)],
        seed=7,
    )


@pytest.mark.parametrize("stops", [(1,), (5, 6), (7,), (3, 8, 20)])
def test_a_resumed_run_ends_with_the_same_bits(stops: tuple[int, ...]) -> None:
    x, y = data()
    fit = lambda t, **more: t.fit((x[:40], y[:40]), (x[40:], y[40:]), epochs=6, batch_size=6, **more)
    whole = trainer_with_everything()
    fit(whole)
    assert whole.step == 24 and len({r["lr"] for r in whole.history.rows}) > 1
    state = None
    for stop in stops:  # inside epochs and at their ends (4 steps each)
        part = trainer_with_everything()
        if state is not None:
            part.load_state_dict(state)
        saved: list[dict[str, Any]] = []
        part.save = lambda *_a, part=part, saved=saved, **_k: saved.append(part.state_dict())  # type: ignore[method-assign]
        part.save_every = 1
        fit(part)
        state = next(s for s in saved if s["place"]["step"] == stop)
    last = trainer_with_everything()
    assert state is not None
    last.load_state_dict(state)
    fit(last)
    assert same_state(whole.state_dict(), last.state_dict())


def test_max_steps_leaves_the_place_inside_an_epoch() -> None:
    x, y = data()
    whole, parts = trainer_with_everything(), trainer_with_everything()
    whole.fit((x, y), (x, y), epochs=3, batch_size=5)
    parts.fit((x, y), (x, y), epochs=3, batch_size=5, max_steps=7)
    assert (parts.epoch, parts.batch, parts.step) == (1, 4, 7)
    parts.fit((x, y), (x, y), epochs=3, batch_size=5)
    assert same_state(whole.model.state_dict(), parts.model.state_dict())


def test_lists_of_batches_keep_their_place_too() -> None:
    x, y = data()
    batches = [(x[i : i + 5], y[i : i + 5]) for i in range(0, N, 5)]
    trainer, whole = Trainer(network()), Trainer(network())
    trainer.fit(batches, epochs=2, max_steps=13)
    assert (trainer.epoch, trainer.batch) == (1, 3)
    trainer.fit(batches, epochs=2)
    whole.fit(batches, epochs=2)
    assert same_state(whole.model.state_dict(), trainer.model.state_dict())

    class Stream:
        def __iter__(self) -> Iterator[Any]:
            return iter(batches)

    assert Trainer(network()).fit(Stream(), epochs=2).final["step"] == 20


def test_states_of_others_are_refused() -> None:
    state = trainer_with_everything().state_dict()
    with pytest.raises(ValueError, match="saved callbacks are EarlyStopping, ReduceLROnPlateau, this trainer's none"):
        Trainer(network(), metrics=["accuracy", "f1"]).load_state_dict(state)
    with pytest.raises(ValueError, match="no state of a Trainer: it has no 'about'"):
        trainer_with_everything().load_state_dict({"model": {}})
    kept = trainer_with_everything()
    kept.fit(data(), data(), epochs=1)
    now = kept.state_dict()
    with pytest.raises((ValueError, KeyError), match="load_state_dict"):
        kept.load_state_dict({**state, "optimizer": {}})
    assert same_state(now, kept.state_dict())
    other = trainer_with_everything()
    other.model[3].rng = np.random.Generator(np.random.MT19937(0))
    with pytest.raises(ValueError, match=r"the random stream '3.rng' is of PCG64, the model's of MT19937"):
        other.load_state_dict(state)
    del other.model[3].rng
    with pytest.raises(ValueError, match=r"'3.rng' is in the saved state, but not in the model"):
        other.load_state_dict(state)


class Rows(Callback):
    """Feeds values into the epochs' rows."""

    def __init__(self, **values: list[float]):
        super().__init__()
        self.values = values

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        row |= {name: values[trainer.epoch - 1] for name, values in self.values.items()}


def run(*callbacks: Callback, epochs: int = 10, **options: Any) -> Trainer:
    trainer = Trainer(nn.Linear(6, 2, rng=0), callbacks=callbacks, **options)
    trainer.fit(data(), data(), epochs=epochs, batch_size=N)
    return trainer


def test_early_stopping() -> None:
    losses = [2.5, 2.4999, 2.0, 2.0, 1.99995, 2.1, 1.0, 1.0, 1.0, 1.0]
    trainer = run(Rows(val_loss=losses), EarlyStopping(patience=3))
    assert trainer.epoch == 6 and "has not improved on 2 for 3 epochs" in str(trainer.stopped)
    assert len(trainer.history) == 6
    assert run(Rows(val_loss=losses), EarlyStopping(patience=4)).epoch == 10
    assert run(Rows(val_loss=losses), EarlyStopping(patience=1, min_delta=1e-5)).epoch == 4
    assert run(Rows(score=[1, 2, 3, 2, 2, 9, 9, 9, 9, 9]), EarlyStopping("score", 2, mode="max")).epoch == 5
    with pytest.raises(KeyError, match=r"has no 'val_f1'; it has .*val_loss"):
        run(EarlyStopping("val_f1"))


def test_overfitting_is_a_gap_that_stays() -> None:
    fallen = {"train_loss": [2.0] * 10, "val_loss": [2.6, 2.3, 2.6, 2.7, 2.8, 2.0, 2.0, 2.0, 2.0, 2.0]}
    stopping = lambda n: EarlyStopping(patience=50, track_overfitting=True, overfitting_patience=n)
    trainer = run(Rows(**fallen), stopping(3))
    assert trainer.epoch == 5 and "overfitting" in str(trainer.stopped)
    assert trainer.history["gap"][1] == pytest.approx(-0.3)
    assert run(Rows(**fallen), stopping(4)).epoch == 10


@pytest.mark.peers
@pytest.mark.parametrize(
    ("mode", "factor", "patience", "kind", "cooldown"),
    [("min", 0.5, 2, "rel", 0), ("max", 0.1, 0, "rel", 1), ("min", 0.5, 1, "abs", 2), ("max", 0.5, 1, "abs", 0)],
)
def test_plateau_is_pytorchs(mode: str, factor: float, patience: int, kind: str, cooldown: int) -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(2).choice([1.0, 0.9, 0.95, 0.9 - 1e-5, 0.5], 40).tolist()
    reference = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    options = {"threshold_mode": kind, "cooldown": cooldown, "threshold": 1e-3}
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(reference, mode, factor, patience, min_lr=1e-4, **options)
    expected = []
    for value in values:
        plateau.step(value)
        expected.append(reference.param_groups[0]["lr"])
    seen: list[float] = []

    class See(Callback):
        def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
            seen.append(trainer.optimizer.lr)

    ours = ReduceLROnPlateau(factor, patience, 1e-4, "score", mode, **options)  # type: ignore[arg-type]
    run(Rows(score=values), ours, See(), epochs=40, lr=0.1, optimizer="sgd")
    assert seen == pytest.approx(expected, rel=1e-12) and len(set(seen)) > 2


def test_schedules_of_configs() -> None:
    def rates(kind: str, **options: Any) -> list[float]:
        rate = schedule(config.Scheduler(type=kind, min_lr=0.1, **options), 1.0, 4, 12)  # type: ignore[arg-type]
        assert rate is not None
        return [round(rate(step), 9) for step in range(12)]

    assert rates("StepLR", step_size=1, factor=0.5) == [1.0] * 4 + [0.5] * 4 + [0.25] * 4
    assert rates("LinearLR") == [round(1 - 0.9 * s / 12, 9) for s in range(12)]
    assert rates("LinearLR", warmup_steps=2)[:4] == [0.5, 1.0, 1.0, 0.91]
    assert rates("CosineAnnealingLR")[6] == pytest.approx(0.55)
    assert rates("constant", warmup_steps=4) == [0.25, 0.5, 0.75] + [1.0] * 9
    assert rates("OneCycleLR", max_lr=2.0, pct_start=0.25)[2] == 2.0
    for kind in ("constant", "ReduceLROnPlateau"):
        assert schedule(config.Scheduler(type=kind), 1.0, 4, 12) is None  # type: ignore[arg-type]


def test_warm_up_goes_with_a_plateau() -> None:
    seen: list[float] = []

    class See(Callback):
        def on_step_end(self, trainer: Any) -> None:
            seen.append(trainer.optimizer.lr)

    plateau = ReduceLROnPlateau(0.5, 1)
    rate = schedule(config.Scheduler(warmup_steps=4), 0.8, 1, 6)
    assert rate is not None
    losses = Rows(val_loss=[1.0, 1.0, 1.0, 1.0, 0.5, 0.5])
    run(losses, plateau, See(), epochs=6, optimizer=optim.sgd(plateau.over(rate)))
    assert seen == pytest.approx(
        [0.4, 0.6, 0.8, 0.4, 0.4, 0.4]
    )  # rates of the next steps; after the third epoch they are halved


def test_a_schedule_sets_the_rate_of_every_step() -> None:
    x, y = data()
    models = [nn.Linear(6, 2, rng=0) for _ in range(2)]
    rate = optim.schedules.cosine(0.1, 20)
    Trainer(models[0], optimizer="sgd", schedule=rate).fit((x, y), epochs=4, batch_size=10)
    Trainer(models[1], optimizer=optim.sgd(rate)).fit((x, y), epochs=4, batch_size=10)
    assert same_state(*(m.state_dict() for m in models))
    with pytest.raises(ValueError, match="follows a schedule"):
        run(ReduceLROnPlateau(), optimizer=optim.sgd(rate))


def test_losses_and_gradients_that_are_not_finite_are_named() -> None:
    x, y = data()
    x[13] = math.nan
    trainer = Trainer(nn.Linear(6, 2, rng=0))
    with pytest.raises(
        NonFiniteError, match=r"the loss of batch 2 of epoch 1 \(step 2\) is nan; try a lower .*now 0.001"
    ):
        trainer.fit(Loader(train.ArrayDataset(x, y), 10), epochs=2)
    model = nn.Linear(6, 2, rng=0)
    model.bias.register_hook(lambda g: g * math.inf)
    with pytest.raises(NonFiniteError, match=r"a gradient of batch 1 of epoch 1 \(step 1\) is not finite"):
        Trainer(model).fit((x[:10], y[:10]), batch_size=10)


def test_steps_that_are_not_finite_can_be_skipped() -> None:
    x, y = data()
    x[13] = math.nan
    with_bad, without = nn.Linear(6, 2, rng=0), nn.Linear(6, 2, rng=0)
    trainer = Trainer(with_bad, nonfinite="skip")
    trainer.fit(Loader(train.ArrayDataset(x, y), 10), epochs=3)
    good = [i for i in range(N) if not 10 <= i < 20]
    Trainer(without).fit(Loader(train.ArrayDataset(x[good], y[good]), 10), epochs=3)
    assert same_state(with_bad.state_dict(), without.state_dict()) and trainer.step == 15
    with pytest.raises(NonFiniteError, match="50 steps in a row"):
        Trainer(nn.Linear(6, 2), nonfinite="skip").fit((x * math.nan, y), epochs=60, batch_size=N)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_mixed_precision_trains_as_float32_does(precision: str) -> None:
    if precision == "bf16":
        pytest.importorskip("ml_dtypes")
    x, y = data()
    finals = []
    for kind in ("fp32", precision):
        t = Trainer(
            network(dropout=0.0),
            optimizer=optim.adamw(0.01),
            precision=kind,
            accumulate=2,
            clip=1.0,
            metrics=["accuracy"],
        )
        finals.append(t.fit((x, y), (x, y), epochs=8, batch_size=8).final)
    assert finals[1]["val_loss"] == pytest.approx(finals[0]["val_loss"], rel=0.03)
    assert finals[1]["val_loss"] != finals[0]["val_loss"]
    assert all(p.dtype == np.float32 for p in t.model.parameters())


def test_steps_that_overflow_lower_the_loss_scale() -> None:
    x, y = data()
    trainer = Trainer(network(), precision="fp16", scaling=gradients.unscale(2.0**40, interval=4))
    trainer.fit((x, y), epochs=30, batch_size=N)
    state = trainer.before.state[0]
    assert state["skips"] > 0 and state["loss_scale"] < 2.0**40
    counts = set(trainer.optimizer.state[0]["t"])
    assert trainer.step == 30 and counts == {30 - state["skips"]}  # the optimizer saw only the others
    whole, part, last = (Trainer(network(), precision="fp16", scaling=gradients.unscale(2.0**40)) for _ in range(3))
    whole.fit((x, y), epochs=4, batch_size=4)
    part.fit((x, y), epochs=4, batch_size=4, max_steps=17)
    last.load_state_dict(part.state_dict())
    last.fit((x, y), epochs=4, batch_size=4)
    assert same_state(whole.model.state_dict(), last.model.state_dict())


def test_functions_and_losses_inside_models() -> None:
    x, _ = data(np.float64)
    w = DiffTensor(np.zeros(6), requires_grad=True)
    trainer = Trainer(lambda v: v @ w, "mse", optim.SGD([w], lr=0.1), metrics=["r2"])
    final = trainer.fit((x, x @ np.arange(6.0)), epochs=60, batch_size=N).final
    np.testing.assert_allclose(w.numpy(), np.arange(6), atol=0.02)
    assert final["train_r2"] > 0.99 and "0" in trainer.state_dict()["model"]

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(np.ones(6))

        def forward(self, v: Any, t: Any) -> Any:
            return ops.mean(ops.square(v @ self.w - t))

    own = Trainer(Own(), None, optim.sgd(0.1))
    assert own.fit((x, x @ np.arange(6.0)), epochs=60, batch_size=N).final["train_loss"] < 1e-4
    with pytest.raises(ValueError, match="or give the Trainer loss=None"):
        Trainer(nn.Linear(6, 2)).fit([x], epochs=1)


def test_arguments_that_cannot_be_used_are_named() -> None:
    for options, message in (
        ({"optimizer": "adanw"}, "unknown optimizer 'adanw'; did you mean 'adamw'"),
        ({"loss": "crossentropy"}, "unknown loss 'crossentropy'; did you mean 'cross_entropy'"),
        ({"accumulate": 0}, "accumulate must be at least 1"),
        ({"nonfinite": "keep"}, 'nonfinite must be "error" or "skip"'),
        ({"mode": "up"}, 'mode must be "min" or "max"'),
        ({"precision": "fp8"}, "precision must be one of 'fp32', 'fp16', 'bf16', not 'fp8'"),
    ):
        with pytest.raises(ValueError, match=message):
            Trainer(nn.Linear(6, 2), **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs an Optimizer"):
        Trainer(lambda x: x)
    with pytest.raises(TypeError, match="a gradient transform such as"):
        Trainer(nn.Linear(6, 2), optimizer=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no batches"):
        Trainer(nn.Linear(6, 2)).fit([], epochs=1)


def test_statistics() -> None:
    rows: list[dict[str, Any]] = []

    class Keep(Callback):
        def on_log(self, trainer: Any, row: dict[str, Any]) -> None:
            rows.append(row)

    w = DiffTensor(np.array([3.0, 4.0]), requires_grad=True)
    Trainer(
        lambda v: v * w, "mse", optim.SGD([w], lr=0.5), callbacks=[Statistics(2), Keep()], clip=100.0, log_every=1
    ).fit([(np.array([[1.0, 0.0]]), np.zeros((1, 2)))] * 2)
    steps = [r for r in rows if "step_loss" in r]
    assert [r["step_loss"] for r in steps] == [4.5, 1.125] and steps[0]["step_grad_norm"] == 3.0
    (row,) = [r for r in rows if "grad_norm/0" in r]
    assert row["step"] == 2 and row["grad_norm/0"] == 1.5 and row["grad_zeros/0"] == 0.5
    assert row["weight_norm/0"] == pytest.approx(math.hypot(1.5, 4))
    assert row["update_ratio/0"] == pytest.approx(0.75 / math.hypot(1.5, 4))


@contextlib.contextmanager
def python_default_handler() -> Iterator[None]:
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)


class Press(Callback):
    """Ctrl-C at a step, while its gradients are there."""

    def __init__(self, at: int, times: int = 1):
        super().__init__()
        self.at, self.times = at, times

    def on_gradients(self, trainer: Any) -> None:
        if trainer.step == self.at:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


def test_checkpoints_on_disk_go_on_with_the_same_bits(tmp_path: Any) -> None:
    x, y = data()
    fit = lambda t, **more: t.fit((x[:40], y[:40]), (x[40:], y[40:]), epochs=4, batch_size=6, **more)
    whole = trainer_with_everything()
    fit(whole)
    with python_default_handler():
        part = trainer_with_everything()
        part.checkpoints = train.CheckpointFolder(tmp_path / "saved", keep_last=2)
        part.callbacks.append(Press(9))
        with pytest.raises(Interrupted, match=r"after step 10, in epoch 3; saved to .*saved: fit\(..., resume=True\)"):
            fit(part)
    last = trainer_with_everything()
    last.checkpoints = train.CheckpointFolder(tmp_path / "saved")
    fit(last, resume=True)
    assert same_state(whole.state_dict(), last.state_dict())
    best = last.checkpoints.best()
    assert best is not None and best[1]["best"] == last.best
    assert last.best is not None and last.best["value"] == min(whole.history["val_loss"])
    with pytest.raises(ValueError, match="no folder"):
        fit(trainer_with_everything(), resume=True)


def test_ctrl_c_finishes_the_step() -> None:
    with python_default_handler():
        trainer = Trainer(network(), callbacks=[Press(3)])
        with pytest.raises(Interrupted, match="interrupted after step 4, in epoch 1; nothing was saved"):
            trainer.fit(data(), epochs=2, batch_size=5)
        assert (trainer.step, trainer.batch) == (4, 4)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        trainer = Trainer(network(), callbacks=[Press(3, 2)])
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(data(), epochs=2, batch_size=5)
        assert trainer.step == 3


def test_another_array_library() -> None:
    strict = pytest.importorskip("array_api_strict")
    x, y = data(np.float64)
    w = DiffTensor(strict.zeros((6, 2), dtype=strict.float64), requires_grad=True)
    v = DiffTensor(np.zeros((6, 2)), requires_grad=True)
    finals = []
    for p in (w, v):
        t = Trainer(
            lambda x, p=p: x @ p,
            "cross_entropy",
            optim.AdamW([p], lr=0.1),
            metrics=["accuracy"],
            accumulate=2,
            clip=1.0,
        )
        finals.append(t.fit((x, y), (x, y), epochs=3, batch_size=8).final)
        assert t.predict(x).shape == (N, 2)
    assert type(w.raw) is type(strict.zeros(1)) and finals[0]["val_loss"] == pytest.approx(
        finals[1]["val_loss"], rel=1e-12
    )


def test_one_line() -> None:
    x, y = data()
    history = train.fit(nn.Linear(6, 2, rng=0), (x, y), epochs=30, lr=0.1, quiet=True)
    assert history.final["val_accuracy"] > 0.7 and "val_loss" in repr(history) and len(history) == 30
    held = train.fit(nn.Linear(6, 2, rng=0), (x, y), val=None, epochs=1, quiet=True)
    assert "val_loss" not in held.final
    with pytest.raises(TypeError, match="a Loader's data is not split"):
        train.fit(nn.Linear(6, 2), Loader(train.ArrayDataset(x, y)), quiet=True)
    with pytest.raises(KeyError, match="no 'val_f1'; it has epoch, step"):
        history["val_f1"]
    assert repr(History()) == "History(0 epochs; final: )"


def test_overriding_compute(make: Callable = network) -> None:
    class Halved(Trainer):
        def compute(self, batch: Any) -> tuple[Any, Any, Any]:
            prediction, target, loss = super().compute(batch)
            return prediction, target, loss * 0.5

    whole, half = Trainer(make()), Halved(make())
    assert half.evaluate(data())["loss"] == pytest.approx(0.5 * whole.evaluate(data())["loss"])
