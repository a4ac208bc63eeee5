"""What users bring along that is not the usual case: masks, frozen parameters, strange batches, absurd numbers, mismatched set-ups."""

import copy
import math

import numpy as np
import pytest

from autograd import DiffTensor, nn
from autograd.gradients import chain
from autograd.optim import Optimizer, sgd
from autograd.train import Trainer
from hammer import agents
from hammer.agents.attacks import Broken
from hammer.agents.rules import CenteredClipping, GeometricMedian, NearestNeighborMixing

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(int)
BUFFERS = {
    "mask": np.tril(np.ones((3, 3), bool)), "places": np.arange(5), "wave": RNG.standard_normal(100).astype(np.float32),
    "phase": np.array([1j, 2.0], np.complex64),
}  # fmt: skip


class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.frozen = nn.Linear(4, 6, rng=np.random.default_rng(1)), nn.BatchNorm1d(6)
        self.norm, self.last = nn.BatchNorm1d(6), nn.Linear(6, 2, rng=np.random.default_rng(2))
        self.register_buffer("seen", DiffTensor(np.zeros(2, np.int32)))
        for name, value in BUFFERS.items():
            self.register_buffer(name, DiffTensor(value.copy()))
        self.frozen.running_mean.raw = np.linspace(0.1, 0.9, 6).astype(np.float32)

    def forward(self, x):
        if self.training:
            self.seen.raw = self.seen.raw + np.array([1, 2], np.int32)
        self.frozen.eval()
        return self.last(self.norm(self.frozen(self.first(x))))


def fitted(comm):
    model = Buffered()
    Trainer(model, "cross_entropy", "sgd", lr=0.1, agents=agents.Team(comm, 4)).fit((X, Y), epochs=3, batch_size=15)
    return {name: np.asarray(b.raw) for name, b in model.named_buffers()}


def test_a_team_leaves_alone_what_no_micro_batch_changes():
    alone = fitted(agents.Alone())
    for name, value in BUFFERS.items():
        assert alone[name].dtype == value.dtype and np.array_equal(alone[name], value), name
    assert np.array_equal(alone["frozen.running_mean"], np.linspace(0.1, 0.9, 6).astype(np.float32))
    assert alone["norm.running_mean"].any() and alone["seen"].tolist() == [12, 24] and alone["seen"].dtype == np.int32
    for there in agents.run(3, fitted):
        assert {n: v.tobytes() for n, v in there.items()} == {n: v.tobytes() for n, v in alone.items()}


def test_a_batch_may_be_a_list():
    def train(comm, kind):
        model = nn.Linear(4, 2, rng=np.random.default_rng(1))
        batches = [kind([X[i : i + 20], Y[i : i + 20]]) for i in (0, 20, 40)]
        Trainer(model, "cross_entropy", "sgd", lr=0.1, agents=agents.Team(comm, 4)).fit(batches)
        return model.weight.numpy().tobytes()

    assert {*agents.run(2, train, list)} == {*agents.run(2, train, tuple)}


def test_frozen_parameters_are_left_out_of_backward():
    def grads(comm):
        net = nn.Sequential(
            nn.Linear(4, 3, rng=np.random.default_rng(1)), nn.ReLU(), nn.Linear(3, 2, rng=np.random.default_rng(2))
        )
        for p in net[0].parameters():
            p.requires_grad = False
        agents.backward(comm, nn.CrossEntropyLoss()(net(X), Y), net.parameters())
        return [p.grad is None for p in net.parameters()], net[2].weight.grad.tobytes()

    first, second = agents.run(2, grads)
    assert first == second and first[0] == [True, True, False, False]


@pytest.mark.parametrize("rule", [GeometricMedian(), CenteredClipping()])
def test_huge_finite_gradients_do_not_stop_training(rule):
    def step(comm):
        p = DiffTensor(np.ones(300, np.float32), requires_grad=True)
        link = agents.aggregate(
            comm, NearestNeighborMixing(rule, 2), attack=Broken(3e38), hostile=(1, 4), seed=0, momentum=0.0
        )
        Optimizer([p], chain(link, sgd(0.1))).step(
            [np.random.default_rng(comm.rank).standard_normal(300).astype(np.float32) + 1]
        )
        return p.numpy()

    moved = agents.run(8, step)[0]
    assert np.isfinite(moved).all() and (moved != 1).any()


def test_shares_of_another_number_than_the_sum_are_refused():
    def loop(comm):
        p = DiffTensor(np.ones(2), requires_grad=True)
        optimizer = Optimizer([p], chain(agents.all_reduce(comm, 8), sgd(0.1)))
        parts = agents.Shares(comm, 4)
        for _ in range(2):
            for _ in parts((X, Y), optimizer.state):
                optimizer.step([np.ones(2)])

    with pytest.raises(ValueError, match="same number of micro_batches"):
        agents.run(2, loop)


def test_parameters_are_shared_in_any_layout():
    def shared(comm):
        p = DiffTensor(np.arange(6.0).reshape(2, 3).T * (comm.rank + 1), requires_grad=True)
        agents.share_parameters(comm, [p])
        return p.numpy().tolist()

    assert agents.run(2, shared)[1] == np.arange(6.0).reshape(2, 3).T.tolist()


def test_a_wait_may_have_no_limit():
    assert [int(v) for v in agents.run(2, lambda c: c.all_reduce(np.array(1)).wait(), timeout=math.inf)] == [2, 2]
    with pytest.raises(ValueError, match="timeout must be more than 0"):
        agents.run(2, lambda c: None, timeout=0)


def test_a_launcher_of_another_mpi_is_noticed(monkeypatch):
    class Lonely(agents.Alone):
        def __init__(self, timeout):
            super().__init__()

    monkeypatch.setattr("hammer.agents.mpi.Mpi", Lonely)
    monkeypatch.setattr("hammer.agents.communicator.launched", lambda: 4)
    with pytest.raises(agents.AgentsError, match="4 processes were started, but MPI sees this one alone"):
        agents.world()


def test_a_synchronised_model_can_be_copied():
    model = nn.Sequential(nn.Linear(4, 3, rng=np.random.default_rng(0)), nn.BatchNorm1d(3))

    def outputs(comm):
        net = copy.deepcopy(model)
        agents.sync_statistics(comm, net)
        return net(X).numpy().tobytes(), copy.deepcopy(net)(X).numpy().tobytes()

    for first, again in agents.run(2, outputs):
        assert first == again


def test_leaves_without_elements_are_summed():
    def updates(comm):
        p = DiffTensor(np.zeros((0, 3), np.float32), requires_grad=True)
        optimizer = Optimizer([p], chain(agents.all_reduce(comm, 3), sgd(0.1)))
        optimizer.step([np.zeros((0, 3), np.float32)])
        return p.shape

    assert agents.run(3, updates) == [(0, 3)] * 3


def test_bytes_from_before_a_recorder_are_not_its_steps():
    def watched(comm):
        comm.all_reduce(np.zeros(1000)).wait()
        recorder = agents.Recorder(comm)
        for _ in range(2):
            recorder.all_reduce(np.zeros(10)).wait()
            recorder.step()
        return recorder.timeline().bytes_per_step()

    assert agents.run(2, watched)[0] == [80.0, 80.0]
