"""hammer.training_step: the parameters, states, buffers and generators of uncompiled steps, to the bit; and Trainer(compile=True)."""

import warnings

import numpy as np
import pytest
from graph_checks import same

import hammer
from autograd import AutogradContext, DiffTensor, nn, no_grad, ops, optim
from autograd import gradients as gt
from autograd.optim import Optimizer, schedules
from autograd.train import Trainer
from hammer.graph import CompileWarning, GraphError, Spec, UniversalGraph, Update
from hammer.graph.execute import make_plan

CHAINS = {
    "sgd": lambda: optim.sgd(0.1),
    "momentum": lambda: optim.sgd(0.1, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "nesterov": lambda: optim.sgd(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optim.rmsprop(0.01, centered=True, momentum=0.5),
    "adam": lambda: optim.adam(0.01, amsgrad=True, weight_decay=0.1),
    "adamw": lambda: optim.adamw(schedules.warmup_cosine(0.01, 2, 20)),
    "nadam": lambda: optim.nadam(),
    "radam": lambda: optim.radam(0.01, betas=(0.5, 0.6)),
    "adamax": lambda: optim.adamax(),
    "lion": lambda: optim.lion(0.01, weight_decay=0.1),
    "adagrad": lambda: optim.adagrad(lr_decay=0.1),
    "adadelta": lambda: optim.adadelta(),
    "ademamix": lambda: optim.ademamix(warmup=5),
    "global norm": lambda: gt.chain(gt.clip_by_global_norm(0.5), optim.adamw(0.01)),
    "largest": lambda: gt.chain(gt.clip_by_value(0.05), optim.sgd(0.1)),
    "each norm": lambda: gt.chain(gt.clip_by_parameter_norm(0.05), optim.sgd(0.1)),
    "vortex": lambda: gt.chain(hammer.VortexGrad()(), optim.adamw(0.01)),
    "vortex by tensor": lambda: gt.chain(
        hammer.VortexGrad(gate="tensor", exponent=2.0, normalize=True)(), optim.sgd(0.1)
    ),
    "muon": lambda: optim.muon(0.01),
    "schedule-free": lambda: optim.schedule_free_adamw(0.01, warmup_steps=3),
    "lookahead": lambda: optim.lookahead(optim.adam(0.01), k=3),
    "accumulated": lambda: gt.chain(gt.accumulate(2), optim.adamw(0.01)),
}


def mlp(seed=0):
    rng = np.random.default_rng(seed)
    return nn.Sequential(nn.Linear(8, 16, rng=rng), nn.ReLU(), nn.Linear(16, 4, rng=rng))


def cnn():
    rng = np.random.default_rng(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, rng=rng), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3, rng=1),
        nn.Linear(64, 10, rng=rng), nn.BatchNorm1d(10, momentum=None),
    )  # fmt: skip


def batch(k, shape=(8,), n=10, classes=4):
    rng = np.random.default_rng(k)
    return rng.normal(size=(n, *shape)).astype(np.float32), rng.integers(0, classes, n)


class Pair:
    """A model and its optimizer twice: trained plainly, and by a compiled step."""

    def __init__(self, make, chain, **options):
        self.models = make(), make()
        self.plain, self.other = (Optimizer(m.parameters(), chain()) for m in self.models)
        self.step = hammer.training_step(self.loss_of(self.models[1]), self.other, **options)

    @staticmethod
    def loss_of(model):
        return lambda x, y: ops.mean(ops.cross_entropy(model(x), y))

    def both(self, x, y):
        self.plain.zero_grad()
        loss = self.loss_of(self.models[0])(x, y)
        loss.backward()
        self.plain.step()
        same(self.step(x, y), loss)
        self.check()

    def check(self):
        for one, other in zip(*(m.state_dict().items() for m in self.models), strict=True):
            assert one[0] == other[0]
            same(one[1], other[1])
        a, b = self.plain.state_dict(), self.other.state_dict()
        assert a.keys() == b.keys()
        for name in a:
            assert type(a[name]) is type(b[name]), name
            same(a[name], b[name])


@pytest.mark.parametrize("name", CHAINS)
def test_steps_are_those_of_the_uncompiled_chain(name):
    pair = Pair(mlp, CHAINS[name], fallback=False)
    for k in range(7):
        pair.both(*batch(k))
    assert pair.step.traces == 1 and not pair.step.links


def test_batch_statistics_and_masks():
    pair = Pair(cnn, lambda: optim.adamw(0.01), fallback=False)
    for k in range(5):
        pair.both(*batch(k, (1, 6, 6), classes=10, n=6 - k // 3))
        assert pair.models[0][4].rng.bit_generator.state == pair.models[1][4].rng.bit_generator.state
    assert pair.step.traces == 2 and int(pair.models[1][1].num_batches_tracked) == 5
    pair.models[0].eval(), pair.models[1].eval()
    pair.both(*batch(9, (1, 6, 6), classes=10))
    assert pair.step.traces == 3 and int(pair.models[1][1].num_batches_tracked) == 5


def test_a_changed_setting_of_a_module_is_seen():
    pair = Pair(lambda: nn.Sequential(nn.Linear(8, 4, rng=0), nn.Dropout(0.5, rng=1)), lambda: optim.sgd(0.1))
    pair.both(*batch(0))
    for m in pair.models:
        m[1].p = 0.1
    pair.both(*batch(1))
    for m in pair.models:
        m[1].rng = np.random.default_rng(5)
    pair.both(*batch(2))
    assert pair.step.traces == 3


def test_compiled_and_uncompiled_steps_mix():
    pair = Pair(cnn, lambda: gt.chain(gt.clip_by_global_norm(0.5), optim.sgd(0.1, momentum=0.9)), fallback=False)
    shape = (1, 6, 6)
    for k in range(3):
        pair.both(*batch(k, shape, classes=10))
    for model, optimizer in zip(pair.models, (pair.plain, pair.other), strict=True):  # an uncompiled step of both
        optimizer.zero_grad()
        pair.loss_of(model)(*batch(7, shape, classes=10)).backward()
        optimizer.lr = 0.05
        optimizer.step()
    pair.check()
    pair.both(*batch(8, shape, classes=10))
    saved = pair.plain.state_dict(), pair.models[0].state_dict()
    pair.both(*batch(9, shape, classes=10))
    for model, optimizer in zip(pair.models, (pair.plain, pair.other), strict=True):
        optimizer.load_state_dict(saved[0])
        model.load_state_dict(saved[1])
    pair.both(*batch(10, shape, classes=10))


def test_groups_frozen_parameters_and_those_that_are_not_reached():
    def chain_of(model):
        biases = [p for p in model.parameters() if p.ndim == 1]
        weights = [p for p in model.parameters() if p.ndim > 1]
        return optim.AdamW([{"params": weights}, {"params": biases, "weight_decay": 0.0, "lr": 0.02}], lr=0.01)

    models = mlp(), mlp()
    extra = [nn.Parameter(np.ones(3, np.float32)) for _ in models]
    optimizers = []
    for model, unused in zip(models, extra, strict=True):
        model[0].bias.requires_grad = False
        model.register_parameter("unused", unused)
        optimizers.append(chain_of(model))
    step = hammer.training_step(Pair.loss_of(models[1]), optimizers[1], fallback=False)
    for k in range(4):
        optimizers[0].zero_grad()
        Pair.loss_of(models[0])(*batch(k)).backward()
        optimizers[0].step()
        step(*batch(k))
        if k == 2:
            for model in models:
                model[0].bias.requires_grad = True
    for a, b in zip(*(m.state_dict().values() for m in models), strict=True):
        same(a, b)
    assert step.traces == 2 and optimizers[0].state_dict().keys() == optimizers[1].state_dict().keys()
    for a, b in zip(*(o.state_dict().values() for o in optimizers), strict=True):
        same(a, b)


def test_parameters_without_axes_and_of_several_dtypes():
    ends = []
    for compiled in (False, True):
        scale = nn.Parameter(np.float32(2.0))
        w, wide = nn.Parameter(np.ones(3, np.float32)), nn.Parameter(np.ones(3))
        optimizer = optim.Adam([scale, w, wide], lr=0.1)

        def loss(x, scale=scale, w=w, wide=wide):
            return ops.sum((x * scale * w) ** 2 * wide), x * w

        step = hammer.training_step(loss, optimizer, fallback=False)
        for k in range(4):
            x = np.random.default_rng(k).normal(size=3).astype(np.float32)
            if compiled:
                value, more = step(x)
                assert value.node is None and more.shape == (3,)
            else:
                optimizer.zero_grad()
                loss(x)[0].backward()
                optimizer.step()
        ends.append([scale.raw, w.raw, wide.raw, *optimizer.state_dict().values()])
    for a, b in zip(*ends, strict=True):
        same(a, b)


def test_numbers_from_outside_of_the_state():
    """They are taken for constants at first; when one changes, it is an input."""
    outside = [0.5]
    pair = Pair(
        mlp, lambda: gt.chain(gt.leafwise(lambda g, p: g * outside[0]), optim.sgd(0.1, momentum=0.9)), fallback=False
    )
    for k in range(6):
        pair.both(*batch(k))
        outside[0] += k // 2
    (entry,) = pair.step._entries.values()
    assert pair.step.traces == 1 and len(entry.first._variants) == 2 and not entry.first.constants


def test_a_link_that_does_something_else_at_every_step():
    pair = Pair(mlp, lambda: gt.chain(gt.leafwise(lambda g, p, t, m: g ** (2 * t + 1), ["m"]), optim.adamw(0.1)))
    with pytest.warns(CompileWarning, match="12 different things"):
        for k in range(14):
            pair.both(*batch(k))


def test_gradients_are_not_left_and_pending_ones_are_forgotten():
    pair = Pair(mlp, lambda: optim.sgd(0.1))
    pair.both(*batch(0))
    pair.loss_of(pair.models[1])(*batch(1)).backward(lazy=True)
    pair.both(*batch(1))
    assert all(p.grad is None for p in pair.models[1].parameters())


def test_hooks_of_parameters_run_uncompiled():
    pair = Pair(mlp, lambda: optim.sgd(0.1))
    pair.both(*batch(0))
    for model in pair.models:
        model[0].weight.register_hook(lambda g: g * 2.0)
    with pytest.warns(CompileWarning, match="has a hook"):
        pair.both(*batch(1))


def test_graphs_of_the_old_parameters_are_refused():
    pair = Pair(mlp, lambda: optim.sgd(0.1))
    loss = pair.loss_of(pair.models[1])(*batch(0))
    pair.both(*batch(0))
    with pytest.raises(ValueError, match="changed in place"):
        loss.backward()


def test_what_is_returned_does_not_change_later():
    w = nn.Parameter(np.ones(3, np.float32))
    step = hammer.training_step(
        lambda x: (ops.sum(w * x), w, ops.reshape(w, (3, 1))), optim.SGD([w], lr=1.0), fallback=False
    )
    _, first, view = step(np.ones(3, np.float32))
    same(first, np.ones(3, np.float32))
    same(view, np.ones((3, 1), np.float32))
    same(w, np.zeros(3, np.float32))


def test_mixed_precision_is_one_of_the_forward_pass():
    pair = Pair(mlp, lambda: optim.adamw(0.01), fallback=False)
    with AutogradContext(precision="fp16"):
        for k in range(3):
            pair.both(*batch(k))


@pytest.mark.parametrize("chain", [
    lambda: gt.chain(gt.scale(2.0), optim.shampoo(0.01)),
    lambda: gt.chain(gt.clip_by_global_norm(0.5, nonfinite="skip"), optim.adamw(0.01)),
    lambda: gt.chain(gt.trace(0.5), gt.clip_by_global_norm(0.5, nonfinite="skip"), optim.adamw(0.01)),
])  # fmt: skip
def test_links_that_look_at_values_run_between_plans(chain):
    pair = Pair(mlp, chain)
    with pytest.warns(
        CompileWarning, match=r"the link \w+ of the optimizer's chain cannot be traced: .*\n.*between two plans"
    ):
        pair.both(*batch(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(1, 5):
            pair.both(*batch(k))
        x, y = batch(1)
        x[0, 0] = np.inf
        with np.errstate(all="ignore"):
            pair.plain.zero_grad()
            pair.loss_of(pair.models[0])(x, y).backward()
            pair.plain.step()
            pair.step(x, y)
        pair.check()
    assert pair.step.reason is None
    with pytest.raises(GraphError, match="cannot be traced"):
        Pair(mlp, chain, fallback=False).both(*batch(0))


def branching(model):
    def loss(x, y):
        value = ops.mean(ops.cross_entropy(model(x), y))
        return value * 2.0 if value > 0 else value

    return loss


def test_a_loss_that_cannot_be_traced_runs_uncompiled():
    models = mlp(), mlp()
    plain, other = (optim.AdamW(m.parameters()) for m in models)
    step = hammer.training_step(branching(models[1]), other)
    with pytest.warns(
        CompileWarning, match=r"(?s)the training step of loss cannot be compiled.*no value.*in loss.*uncompiled"
    ):
        step(*batch(0))
    step(*batch(1))
    for k in range(2):
        plain.zero_grad()
        branching(models[0])(*batch(k)).backward()
        plain.step()
    for a, b in zip(*(m.state_dict().values() for m in models), strict=True):
        same(a, b)
    assert "uncompiled" in repr(step) and "no value" in step.reason
    with pytest.raises(GraphError, match="cannot be compiled"):
        hammer.training_step(branching(models[1]), other, fallback=False)(*batch(0))


@pytest.mark.parametrize("what, match", [
    (lambda w: ops.sum(w * w, axis=0) * np.ones(2, np.float32), "must be one real number"),
    (lambda w: ops.sum(w.detach()), "reaches no parameter"),
    (lambda w: 1.0, "does not depend on anything"),
])  # fmt: skip
def test_losses_that_are_none(what, match):
    w = nn.Parameter(np.ones(2, np.float32))
    with pytest.raises(GraphError, match=match):
        hammer.training_step(lambda: what(w), optim.SGD([w], lr=1.0), fallback=False)()


def test_sparse_gradients_run_uncompiled():
    table = nn.Embedding(5, 2, sparse=True, rng=0)
    before = table.weight.raw.copy()
    step = hammer.training_step(lambda i: ops.sum(table(i) ** 2), optim.AdamW(table.parameters()))
    with pytest.warns(CompileWarning, match="sparse=True"):
        step(np.array([1, 3]))
    same(table.weight.raw[[0, 2, 4]], before[[0, 2, 4]])


def test_errors_leave_the_state_as_it_was():
    w = nn.Parameter(np.full(2, 0.5, np.float32))
    optimizer = optim.AdamW([w])
    step = hammer.training_step(
        lambda x: ops.mean(ops.binary_cross_entropy(w * x, np.ones(2, np.float32))), optimizer, fallback=False
    )
    step(np.ones(2, np.float32))
    before, old = optimizer.state_dict(), w.raw.copy()
    with pytest.raises(ValueError, match="probabilities must be from 0 to 1"):
        step(np.full(2, 9.0, np.float32))
    same(w, old)
    for name, value in optimizer.state_dict().items():
        same(value, before[name])


def test_misuse_is_named():
    w = nn.Parameter(np.ones(2, np.float32))
    optimizer = optim.SGD([w], lr=1.0)
    with pytest.raises(TypeError, match="loss function and an Optimizer"):
        hammer.training_step(lambda: 1.0)
    with pytest.raises(TypeError, match="must be an autograd"):
        hammer.training_step(lambda: 1.0, [w])
    step = hammer.training_step(optimizer=optimizer, fallback=False)(lambda x: ops.sum(w * x))
    with pytest.raises(GraphError, match="an argument is tracked"):
        step(w)
    with no_grad(), pytest.raises(GraphError, match="no_grad"):
        step(np.ones(2, np.float32))
    with pytest.raises(GraphError, match="share memory"):
        step(w.raw)
    with optimizer.evaluation(), pytest.raises(RuntimeError, match="evaluation"):
        step(np.ones(2, np.float32))
    same(w, np.ones(2, np.float32))


@pytest.mark.parametrize("name", ["momentum", "rmsprop", "adamw", "global norm", "largest", "lion", "vortex"])
def test_other_libraries(name):
    xp = pytest.importorskip("array_api_strict")
    ends = []
    for compiled in (False, True):
        rng = np.random.default_rng(0)
        w = DiffTensor(xp.asarray(rng.normal(size=(4, 3)).astype(np.float32)), requires_grad=True)
        b = DiffTensor(xp.asarray(np.zeros(3, np.float32)), requires_grad=True)
        optimizer = Optimizer([w, b], CHAINS[name]())

        def loss(x, w=w, b=b):
            return ops.sum(ops.dropout(ops.tanh(ops.matmul(x, w) + b) ** 2, 0.3, rng))  # noqa: B023

        step = hammer.training_step(loss, optimizer, fallback=False)
        for k in range(4):
            x = xp.asarray(np.random.default_rng(k).normal(size=(5, 4)).astype(np.float32))
            if compiled:
                step(x)
            else:
                optimizer.zero_grad()
                loss(x).backward()
                optimizer.step()
        assert type(w.raw) is type(x)
        ends.append([np.asarray(p.raw) for p in (w, b)])
    for one, other in zip(*ends, strict=True):
        same(one, other)


def test_updates_alone():
    ends = []
    for compiled in (False, True):
        params = [nn.Parameter(np.ones((3, 2), np.float32)), nn.Parameter(np.ones(2, np.float32))]
        optimizer = Optimizer(params, gt.chain(gt.clip_by_global_norm(0.1), optim.adamw(0.1)))
        update = Update(optimizer) if compiled else optimizer.step
        for k in range(4):
            rng = np.random.default_rng(k)
            grads = [rng.normal(size=p.shape).astype(np.float32) for p in params]
            update([None if k == 2 else grads[0], grads[1]])
        ends.append([*(p.raw for p in params), *optimizer.state_dict().values()])
    for a, b in zip(*ends, strict=True):
        same(a, b)


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("writes", [
    {0: 0, 1: 1}, {0: 1, 1: 0}, {3: 1, 0: 0}, {6: 2, 0: 1}, {6: 2, 3: 1, 1: 0}, {7: 2, 0: 0, 4: 1}, {0: 0, 1: 2},
])  # fmt: skip
def test_plans_write_outputs_into_inputs(writes, order):
    def function(a, b, c):
        m = a * 0.9 + b
        return m, b + m, ops.reshape(b, (-1,)), a, m, ops.reshape(m, (-1,)), c.T, ops.transpose(c) + 1.0

    n = 40
    rng = np.random.default_rng(0)
    arrays = [np.array(rng.normal(size=(n, n)), np.float32, order=order) for _ in range(3)]
    graph = UniversalGraph.trace(function, *[Spec((n, n))] * 3)
    expected = [np.array(v) for v in make_plan(graph)([a.copy() for a in arrays])]
    given = [a.copy(order="K") for a in arrays]
    found = make_plan(graph, writes=writes)(given)
    for k, (value, wanted) in enumerate(zip(found, expected, strict=True)):
        same(value, wanted)
        if k in writes:
            assert value is given[writes[k]]
        else:
            assert not any(np.shares_memory(value, given[to]) for to in writes.values())
    for i in {0, 1, 2} - set(writes.values()):
        same(given[i], arrays[i])


def test_writes_that_are_not_possible():
    graph = UniversalGraph.trace(lambda a, b: (a + 1.0, ops.sum(b)), Spec((3,)), Spec(()))
    for writes, match in (({0: 1}, "cannot be written"), ({1: 1}, "an axis or more")):
        with pytest.raises(GraphError, match=match):
            make_plan(graph, writes=writes)
    with pytest.raises(GraphError, match="into one input"):
        make_plan(UniversalGraph.trace(lambda a: (a + 1.0, a + 2.0), Spec((3,))), writes={0: 0, 1: 0})


# ---- Trainer(compile=True) ----


def equal(a, b, where=()):
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for k in a:
            equal(a[k], b[k], (*where, k))
    elif isinstance(a, (list, tuple)):
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            equal(one, other, (*where, i))
    elif isinstance(a, np.ndarray):
        same(a, b)
    elif "second" not in str(where):
        assert a == b, where


@pytest.mark.parametrize("options", [
    {"clip": 0.1, "metrics": ["accuracy"]},
    {"accumulate": 3, "nonfinite": "skip"},
    {"precision": "fp16", "accumulate": 2},
    {"schedule": lambda step: 0.01 / (step + 1)},
])  # fmt: skip
def test_trainers_train_to_the_same_bits(options):
    x, y = batch(0, (1, 6, 6), n=35, classes=10)
    states = []
    for compiled in (False, True):
        trainer = Trainer(cnn(), "cross_entropy", optim.adamw(0.01), compile=compiled, **options)
        trainer.fit((x, y), val=(x, y), epochs=2, batch_size=8)
        states.append(trainer.state_dict())
        assert not compiled or (trainer._compiled.reason is None and trainer._compiled.update.reason is None)
    equal(*states)


@pytest.mark.parametrize("options", [
    {"clip": 0.1}, {"accumulate": 3}, {"precision": "bf16"}, {"schedule": lambda step: 0.01 / (step + 1)},
])  # fmt: skip
def test_trainers_by_machine_code_train_to_the_same_values_within_rounding(options):
    x, y = batch(0, (1, 6, 6), n=35, classes=10)
    ends = []
    for settings in ({}, {"compile": True, "exact": False}):
        trainer = Trainer(cnn(), "cross_entropy", optim.sgd(0.05, momentum=0.9), **settings, **options)
        trainer.fit((x, y), epochs=2, batch_size=8)
        ends.append([trainer.model.state_dict(), trainer.history.final["train_loss"]])
    assert trainer._compiled.reason is None and trainer._compiled.exact is False
    (plain, loss), (compiled, other) = ends
    tolerance = 2e-2 if "precision" in options else 2e-5
    assert loss == pytest.approx(other, rel=tolerance)
    for name, value in plain.items():
        np.testing.assert_allclose(compiled[name], value, rtol=tolerance, atol=tolerance)


def test_a_trainer_that_is_not_compiled_is_exact():
    with pytest.raises(ValueError, match="exact=False says how steps are compiled"):
        Trainer(mlp(), exact=False)


def test_a_trainer_whose_model_cannot_be_traced_trains_uncompiled():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 4, rng=0)

        def forward(self, x):
            y = self.linear(x)
            return y if ops.sum(y) > 0 else -y

    states = []
    for compiled in (False, True):
        trainer = Trainer(Branching(), "cross_entropy", "adamw", compile=compiled)
        with pytest.warns(CompileWarning, match="no value") if compiled else warnings.catch_warnings():
            trainer.fit(batch(0), epochs=2, batch_size=4)
        states.append(trainer.state_dict())
    equal(*states)


def test_a_trainer_says_which_link_runs_uncompiled():
    states = []
    for compiled in (False, True):
        trainer = Trainer(mlp(), "cross_entropy", optim.shampoo(0.01), compile=compiled)
        with pytest.warns(CompileWarning, match="the link Graft") if compiled else warnings.catch_warnings():
            trainer.fit(batch(0), epochs=2, batch_size=4)
        states.append(trainer.state_dict())
    equal(*states)


def test_updates_that_no_graph_holds_run_uncompiled():
    ends = []
    for compiled in (False, True):
        p = nn.Parameter(np.ones(3, np.float32))
        optimizer = Optimizer([p], gt.chain(gt.leafwise(lambda g, p, t, m: g ** (2 * t + 1), ["m"]), optim.adamw(0.1)))
        update = Update(optimizer) if compiled else optimizer.step
        with pytest.warns(CompileWarning, match="12 different things") if compiled else warnings.catch_warnings():
            for k in range(14):
                update([np.full(3, 1.1 - k / 10, np.float32)])
        ends.append([p.raw, *optimizer.state_dict().values()])
    for a, b in zip(*ends, strict=True):
        same(a, b)


def test_a_trainer_without_a_compiler_says_what_to_import(monkeypatch):
    from autograd import compiling

    monkeypatch.setattr(compiling, "COMPILERS", {})
    monkeypatch.setattr(compiling, "LAZY", {})
    with pytest.raises(ImportError, match="import hammer"):
        Trainer(mlp(), compile=True)


def test_a_trainer_that_accumulates_needs_its_own_compute():
    class Own(Trainer):
        def compute(self, batch):
            return super().compute(batch)

    with pytest.raises(ValueError, match="cannot be overridden"):
        Own(mlp(), accumulate=2, compile=True)
