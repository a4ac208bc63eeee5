"""Buckets sent while backward goes on: the bits of sending them afterwards, and the order in which they leave."""

import numpy as np
import pytest

from autograd import DiffTensor, nn, optim
from autograd.gradients import chain
from hammer import agents
from hammer.agents.buckets import buckets_of


def model():
    rng = np.random.default_rng(1)
    layers = [nn.Linear(5, 9, rng=rng), nn.ReLU(), nn.Linear(9, 9, rng=rng), nn.BatchNorm1d(9), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(9, 3, rng=rng))


def data(rank, n=16):
    rng = np.random.default_rng(rank)
    return rng.standard_normal((n, 5)).astype(np.float32), rng.integers(0, 3, n)


def overlapped(comm, bucket_bytes):
    net, loss = model(), nn.CrossEntropyLoss()
    optimizer = optim.Optimizer(net.parameters(), optim.adamw(1e-2))
    x, y = data(comm.rank)
    for _ in range(4):
        optimizer.zero_grad()
        agents.backward(comm, loss(net(x), y), optimizer.params, bucket_bytes=bucket_bytes)
        optimizer.step()
    return b"".join(p.numpy().tobytes() for p in net.parameters())


def afterwards(comm, bucket_bytes):
    net, loss = model(), nn.CrossEntropyLoss()
    link = agents.all_reduce(comm, deterministic=False, bucket_bytes=bucket_bytes)
    optimizer = optim.Optimizer(net.parameters(), chain(link, optim.adamw(1e-2)))
    x, y = data(comm.rank)
    for _ in range(4):
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
    return b"".join(p.numpy().tobytes() for p in net.parameters())


@pytest.mark.parametrize("bucket_bytes", [1, 200, 1 << 20])
def test_the_bits_are_those_of_sending_after_backward(bucket_bytes):
    found = agents.run(3, overlapped, bucket_bytes)
    assert len(set(found)) == 1 and found == agents.run(3, afterwards, bucket_bytes)


def test_a_bucket_leaves_before_the_first_layers_are_computed():
    """Hooks tell when a parameter's gradient is there; sends come between them, the last parameters first."""

    def told(comm):
        events, net = [], nn.Sequential(*[nn.Linear(4, 4, rng=np.random.default_rng(i)) for i in range(3)])
        for i, p in enumerate(net.parameters()):
            p.register_hook(lambda _g, i=i: events.append(i))
        send = comm.all_reduce
        comm.all_reduce = lambda x, op="sum": (events.append(f"send {x.size}"), send(x, op))[1]
        x = np.ones((2, 4), np.float32) * comm.rank
        agents.backward(comm, (net(x) ** 2).sum(), list(net.parameters()), bucket_bytes=80)
        return [sorted(map(str, e)) if isinstance(e, list) else e for e in _grouped(events)]

    layer, weights, flags = "send 20", "send 1", "send 6"
    assert agents.run(2, told)[0] == [weights, ["4", "5"], layer, ["2", "3"], layer, ["0", "1"], layer, flags]


def _grouped(events):
    """Neighbouring parameters in one list: in which order those of one part come is the walk's choice."""
    found = []
    for e in events:
        if isinstance(e, int) and found and isinstance(found[-1], list):
            found[-1].append(e)
        else:
            found.append([e] if isinstance(e, int) else e)
    return found


def test_weights_missing_gradients_and_other_leaves():
    def part(comm):
        a, b, c = (DiffTensor(np.full(2, v), requires_grad=True) for v in (1.0, 2.0, 3.0))
        other = DiffTensor(np.ones(2), requires_grad=True)
        a.grad = np.array([10.0, 10.0])  # accumulated before
        loss = (a * (comm.rank + 1.0) * other).sum() + ((b * b).sum() if comm.rank else 0.0)
        agents.backward(comm, loss, [a, b, c], weight=1.0 + 2 * comm.rank)
        a.add_(np.ones(2))  # as a step does: nothing may be left to compute
        return [None if t.grad is None else t.grad.tolist() for t in (a, b, c, other)]

    first, second = agents.run(2, part)
    assert first[:3] == second[:3] == [[(11 + 3 * 12) / 4] * 2, [3.0, 3.0], None]
    assert first[3] == [1.0, 1.0] and second[3] == [2.0, 2.0]

    def nothing(comm):
        a = DiffTensor(np.ones(2), requires_grad=True)
        agents.backward(comm, a.sum(), [a], weight=0.0)
        return a.grad

    assert agents.run(2, nothing) == [None, None]


def test_one_bucket_is_packed_as_all_are():
    leaves = [np.ones((2, 3), np.float32), None, np.float32(2.0), np.arange(4.0), np.ones(5, np.float16)]
    layout = buckets_of(leaves, 4 * 7)
    assert layout.members == [[4, 2], [3], [0]]
    for b, whole in enumerate(layout.pack(leaves, 2.0)):
        only = [leaf if i in layout.members[b] else None for i, leaf in enumerate(leaves)]
        np.testing.assert_array_equal(layout.vector(b, only, 2.0), whole)


def test_misuse_is_named():
    a = DiffTensor(np.ones(2), requires_grad=True)
    with pytest.raises(ValueError, match="weight must be in"):
        agents.backward(agents.Alone(), a.sum(), [a], weight=-1.0)
    with pytest.raises(ValueError, match="bucket_bytes"):
        agents.backward(agents.Alone(), a.sum(), [a], bucket_bytes=0)
    with pytest.raises(ValueError, match="reduce the output to a scalar"):
        agents.backward(agents.Alone(), a * 2, [a])
