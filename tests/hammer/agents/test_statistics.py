"""Batch normalisation over all ranks: the run of one process with the whole batch, to rounding."""

import numpy as np
import pytest

from autograd import DiffTensor, grad, nn, optim
from autograd.train import Trainer
from hammer import agents
from hammer.agents.statistics import total


def model(images=False):
    rng = np.random.default_rng(1)
    if images:
        first = [nn.Conv2d(1, 3, 3, rng=rng), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten()]
        return nn.Sequential(*first, nn.Linear(12, 3, rng=rng))
    return nn.Sequential(nn.Linear(4, 6, rng=rng), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3, rng=rng))


def data(images):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 1, 4, 4) if images else (12, 4)).astype(np.float32) * 3 + 5
    return x, rng.integers(0, 3, 12)


def train(comm, images=False, synced=True):
    net, loss, (x, y) = model(images), nn.CrossEntropyLoss(), data(images)
    changed = agents.sync_statistics(comm, net) if synced else 0
    optimizer, mine = optim.SGD(net.parameters(), lr=0.1), slice(comm.rank, None, comm.size)
    for _ in range(5):
        optimizer.zero_grad()
        agents.backward(comm, loss(net(x[mine]), y[mine]), optimizer.params)
        optimizer.step()
    return {k: np.asarray(v) for k, v in net.state_dict().items()}, changed


@pytest.mark.parametrize("images", [False, True])
def test_ranks_train_as_one_process_with_the_whole_batch(images):
    expected, _ = train(agents.Alone(), images, synced=False)
    for size in (1, 3):
        for found, changed in agents.run(size, train, images):
            assert changed == 1 and found.keys() == expected.keys()
            for name in expected:
                np.testing.assert_allclose(found[name], expected[name], rtol=2e-4, atol=2e-5, err_msg=name)
    apart = agents.run(3, train, images, False)[0][0]
    assert not np.allclose(apart["0.weight"], expected["0.weight"], rtol=2e-4, atol=2e-5)


def test_the_sum_over_ranks_can_be_differentiated():
    def derivative(comm):
        f = lambda x: (total(x * x, comm) ** 2).sum()
        x = np.array([1.0, 2.0]) * (comm.rank + 1)
        return grad(f)(x), grad(lambda x: grad(f)(x).sum())(x)

    (first, twice), (second, _) = agents.run(2, derivative)
    sums = np.array([5.0, 20.0])  # each rank's f is their squares' sum, so the two together are twice that
    np.testing.assert_allclose(first, 2 * 2 * sums * 2 * np.array([1.0, 2.0]))
    np.testing.assert_allclose(second, 2 * 2 * sums * 2 * np.array([2.0, 4.0]))
    assert twice.shape == (2,) and np.isfinite(twice).all()


def test_evaluation_uses_running_statistics_and_sends_nothing():
    def evaluate(comm):
        net, (x, _) = model(), data(False)
        agents.sync_statistics(comm, net)
        net.eval()
        return net(x[comm.rank :]).numpy(), comm.sent

    net = model()
    net.eval()
    for found, sent in agents.run(2, evaluate):
        np.testing.assert_array_equal(found[-1], net(data(False)[0]).numpy()[-1])
        assert sent == 0


def test_what_does_not_go_is_named():
    def few(comm):
        layer = nn.Sequential(nn.BatchNorm1d(2))
        agents.sync_statistics(comm, layer)
        return layer(DiffTensor(np.full((1, 2), 0.01 * comm.rank, np.float32))).numpy().tolist()

    with pytest.raises(ValueError, match="all ranks together have 1 values"):
        few(agents.Alone())
    z = 0.005 / np.sqrt(0.005**2 + 1e-5)
    np.testing.assert_allclose(agents.run(2, few), [[[-z, -z]], [[z, z]]], rtol=1e-5)
    net = model()
    agents.sync_statistics(agents.Alone(), net)
    trainer = Trainer(net, agents=agents.Team(agents.Alone(), 2))
    with pytest.raises(ValueError, match="one after the other"):
        trainer.fit(data(False), epochs=1)
