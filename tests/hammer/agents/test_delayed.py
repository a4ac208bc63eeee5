"""Delayed updates: the mean of s steps ago, exactly, also after a state was saved."""

import numpy as np
import pytest

from autograd import DiffTensor, optim
from autograd.gradients import chain
from autograd.optim import sgd
from hammer import agents


def optimizer_of(comm, staleness, rate=0.1):
    params = [DiffTensor(x.copy(), requires_grad=True) for x in np.split(np.ones(4), 2)]
    return optim.Optimizer(params, chain(agents.delayed(comm, staleness, bucket_bytes=20), sgd(rate)))


def descend(comm, staleness, steps, optimizer=None):
    """SGD on ½‖x − b_r‖²; the parameters after each step, and the optimizer."""
    b = np.arange(4.0) * (1 + comm.rank)
    optimizer, path = optimizer or optimizer_of(comm, staleness), []
    for _ in range(steps):
        x = np.concatenate([p.numpy() for p in optimizer.params])
        optimizer.step(np.split(x - b, 2))
        path.append(np.concatenate([p.numpy() for p in optimizer.params]))
    return np.array(path), optimizer


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_the_gradient_is_that_of_s_steps_ago(staleness):
    found = [path for path, _ in agents.run(3, descend, staleness, 12)]
    x, seen, mean = np.ones(4), [], np.arange(4.0) * 2
    for t in range(12):
        seen.append(x - mean)
        if t >= staleness:
            x = x - 0.1 * seen[t - staleness]
        np.testing.assert_allclose(found[0][t], x, rtol=1e-12)
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
    assert agents.run(3, descend, staleness, 12)[0][0].tobytes() == found[0].tobytes()  # whoever came first


@pytest.mark.parametrize("stop", [1, 2, 7])
def test_a_run_goes_on_from_a_saved_state(stop):
    whole = agents.run(2, descend, 3, 12)

    def begin(comm):
        _, optimizer = descend(comm, 3, stop)
        return [p.numpy().copy() for p in optimizer.params], optimizer.state_dict()

    saved = agents.run(2, begin)

    def go_on(comm):
        params, state = saved[comm.rank]
        optimizer = optimizer_of(comm, 3)
        for p, value in zip(optimizer.params, params, strict=True):
            p.add_(value - p.numpy())
        optimizer.load_state_dict(state)
        return descend(comm, 3, 12 - stop, optimizer)[0]

    np.testing.assert_allclose(agents.run(2, go_on)[1], whole[1][0][stop:], rtol=1e-13)


def test_nobody_waits_for_the_present_step():
    """A rank is s steps ahead before it waits for another: what is under way then was sent and not asked for."""

    def ahead(comm):
        events = []
        recorder = agents.Recorder(comm, clock=lambda: float(len(events)))
        start = recorder.all_reduce

        def told(x, op="sum"):
            pending = start(x, op)
            events.append("send")
            return agents.Pending(lambda: (events.append("wait"), pending.wait())[1])

        recorder.all_reduce = told
        descend(recorder, 2, 4)
        return events

    sends = 3  # a header and two buckets for each step
    assert agents.run(2, ahead)[0] == ["send"] * 3 * sends + ["wait"] * sends + ["send"] * sends + ["wait"] * sends


def test_missing_gradients_count_as_zero():
    def step(comm):
        link, params = agents.delayed(comm, 1), [np.zeros(2), np.zeros(1)]
        state = link.init(params)
        first, state = link.update([np.ones(2) * comm.rank if comm.rank else None, None], state, params)
        second, state = link.update([np.ones(2), np.ones(1)], state, params)
        return first, second

    for first, second in agents.run(2, step):
        assert first == [None, None] and second[0].tolist() == [0.5, 0.5] and second[1] is None


@pytest.mark.parametrize("staleness", [0, 1, 2, 4])
def test_the_stable_rate_is_the_edge(staleness):
    def grown(rate):
        optimizer = optimizer_of(agents.Alone(), staleness, rate)
        path, _ = descend(agents.Alone(), staleness, 400, optimizer)
        return np.abs(path[-20:] - np.arange(4.0)).max() / np.abs(path[:20] - np.arange(4.0)).max()

    edge = agents.stable_rate(staleness)
    assert grown(0.95 * edge) < 0.5 and grown(1.05 * edge) > 2
    assert agents.stable_rate(staleness, 4.0) == pytest.approx(edge / 4)


def test_misuse_is_named():
    with pytest.raises(ValueError, match="staleness must be a whole number, at least 0"):
        agents.delayed(agents.Alone(), -1)
