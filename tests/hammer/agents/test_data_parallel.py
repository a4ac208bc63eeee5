"""Data parallel: the mean is the mean, whoever computes what, and its bits do not depend on the number of ranks."""

import itertools

import numpy as np
import pytest

from autograd import nn, optim
from autograd.gradients import accumulate, chain, clip_by_global_norm, weigh
from autograd.sparse import RowSparse
from autograd.train import ArrayDataset, Loader
from hammer import agents
from hammer.agents.buckets import buckets_of
from hammer.agents.reduction import push, subtrees

SIZES = (1, 2, 3, 4, 8)


# ---- the sum ----


@pytest.mark.parametrize("length", [101, 20_001])  # sent at once, and in pieces
@pytest.mark.parametrize("slots", [1, 5, 8, 12])
def test_a_tree_sum_has_the_same_bits_on_any_number_of_ranks(slots, length):
    values = [np.random.default_rng(i).standard_normal(length).astype(np.float32) * 10.0**i for i in range(slots)]

    def sums(comm):
        nodes = []
        for slot in agents.share(slots, comm.size, comm.rank):
            push(nodes, slot, slot + 1, values[slot].copy(), slots, np.add)
        return agents.TreeSum(comm, slots).start([v for _, _, v in nodes]).finish().tobytes()

    found = {bits for size in range(1, slots + 1) for bits in agents.run(size, sums)}
    assert len(found) == 1
    total = np.frombuffer(found.pop(), np.float32)
    np.testing.assert_allclose(total, np.sum(values, axis=0, dtype=np.float64), rtol=1e-5, atol=1e-6 * 10.0**slots)


def test_the_tree_is_the_stated_one():
    names = lambda a, b: f"({a}{b})"
    nodes = []
    for slot in range(6):
        push(nodes, slot, slot + 1, str(slot), 6, names)
    assert nodes == [(0, 6, "(((01)(23))(45))")]
    assert subtrees(8, 3, 0) == [(0, 2), (2, 3)] and subtrees(8, 3, 2) == [(6, 8)]


def test_the_cost_of_the_tree_is_what_the_ranks_send():
    def send(comm, slots, n):
        nodes = [np.ones(n) for _ in subtrees(slots, comm.size, comm.rank)]
        agents.TreeSum(comm, slots).start(nodes).finish()
        return comm.sent - n * 8 // comm.size  # the all-gather counts once; n - 1 ranks get it

    for slots, size, cost in ((8, 4, 1.0), (8, 3, 4 / 3), (24, 3, 1.0), (24, 4, 1.5)):
        assert agents.tree_cost(slots, size) == pytest.approx(cost)
        n = 24_000 * size
        gathered = n * 8 // size * (size - 1)
        moved = sum(agents.run(size, send, slots, n)) + size * gathered
        assert moved == pytest.approx(cost * size * 2 * (size - 1) / size * n * 8)


@pytest.mark.parametrize("size", SIZES)
def test_shares_are_neighbours_and_all_of_them(size):
    found = [list(agents.share(11, size, rank)) for rank in range(size)]
    assert list(itertools.chain.from_iterable(found)) == list(range(11))
    assert max(map(len, found)) - min(map(len, found)) <= 1


# ---- buckets ----


def test_buckets_hold_one_dtype_from_the_last_leaf_on():
    leaves = [np.ones((2, 3), np.float32), None, np.float32(2.0), np.arange(4.0), np.ones(5, np.float16)]
    layout = buckets_of(leaves, 4 * 7)
    assert layout.sizes == [(6, np.float32), (4, np.float64), (6, np.float32)]
    back = layout.unpack(layout.pack(leaves, 2.0), leaves)
    assert back[1] is None and isinstance(back[2], np.float32) and back[4].dtype == np.float16
    for a, b in zip(leaves, back, strict=True):
        assert a is None or np.array_equal(2 * a, b)


# ---- training ----


def trained(comm, link, steps=6, batch=16, examples=70):
    """Parameters after some steps of a small network on data of odd length, so that the last batch of an epoch is short."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((examples, 5)).astype(np.float32), rng.integers(0, 3, examples)
    model = nn.Sequential(nn.Linear(5, 7, rng=rng), nn.ReLU(), nn.Linear(7, 3, rng=rng))
    optimizer = optim.Optimizer(model.parameters(), chain(link(comm), clip_by_global_norm(0.5), optim.adamw(1e-2)))
    loss, parts, done = nn.CrossEntropyLoss(), agents.Shares(comm, 8), 0
    for epoch in range(99):
        for given in Loader(ArrayDataset(x, y), batch, shuffle=True, seed=1).batches(epoch):
            for a, b in parts(given, optimizer.state):
                optimizer.zero_grad()
                loss(model(a), b).backward()
                optimizer.step()
            done += 1
            if done == steps:
                return [p.numpy().copy() for p in model.parameters()]
    raise AssertionError


def bits(arrays):
    return b"".join(a.tobytes() for a in arrays)


def test_training_has_the_same_bits_on_any_number_of_ranks():
    link = lambda comm: agents.all_reduce(comm, 8, bucket_bytes=64)
    found = {size: {bits(p) for p in agents.run(size, trained, link)} for size in SIZES}
    assert set(map(len, found.values())) == {1}
    assert len(set.union(*found.values())) == 1


def test_the_bits_do_not_depend_on_the_sizes_of_buckets():
    found = {
        bits(agents.run(2, trained, lambda comm, b=b: agents.all_reduce(comm, 8, bucket_bytes=b))[0])
        for b in (1, 100, 1 << 20)
    }
    assert len(found) == 1


def test_the_mean_is_that_of_the_whole_batch():
    """Beside one process that takes each batch at once, to rounding; 70 examples make a last batch of 6 with 8 micro-batches."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((70, 5)).astype(np.float32), rng.integers(0, 3, 70)
    model = nn.Sequential(nn.Linear(5, 7, rng=rng), nn.ReLU(), nn.Linear(7, 3, rng=rng))
    optimizer = optim.Optimizer(model.parameters(), chain(clip_by_global_norm(0.5), optim.adamw(1e-2)))
    loss = nn.CrossEntropyLoss()
    for epoch in range(2):
        for a, b in Loader(ArrayDataset(x, y), 16, shuffle=True, seed=1).batches(epoch):
            optimizer.zero_grad()
            loss(model(a), b).backward()
            optimizer.step()
    for p, q in zip(model.parameters(), agents.run(3, trained, lambda c: agents.all_reduce(c, 8), 10)[2], strict=True):
        np.testing.assert_allclose(p.numpy(), q, rtol=2e-3, atol=2e-5)


def test_every_example_is_seen_once_in_an_epoch():
    def seen(comm):
        parts, found = agents.Shares(comm, 8), []
        rule = agents.all_reduce(comm, 8)
        state = rule.init([np.zeros(1)])
        for batch in Loader(ArrayDataset(np.arange(21.0)), 9, shuffle=True, seed=3).batches(0):
            for (part,) in parts(batch, state):
                found += part.tolist() if state["weight"] else []
        return found

    for size in SIZES:
        assert sorted(itertools.chain.from_iterable(agents.run(size, seen))) == list(range(21))


def reduced(comm, link, grads, weights):
    """What a link makes of this rank's gradients, called once for each."""
    rule = link(comm)
    params = [np.zeros((2, 2)), np.zeros(3, np.float32), np.zeros(1)]
    state = rule.init(params)
    mine = agents.share(len(grads), comm.size, comm.rank)
    for slot in mine:
        state["weight"] = weights[slot]
        updates, state = rule.update(grads[slot], state, params)
        assert slot == mine[-1] or updates == [None] * 3
    return updates, state


@pytest.mark.parametrize("deterministic", [True, False])
def test_weights_missing_and_sparse_gradients(deterministic):
    sparse = RowSparse(np.array([1]), np.array([[3.0, 5.0]]), (2, 2))
    grads = [[np.ones((2, 2)), None, None], [sparse, np.arange(3, dtype=np.float32), None]]
    link = lambda comm: agents.all_reduce(comm, 2 if deterministic else None, deterministic=deterministic)
    for updates, state in agents.run(2, reduced, link, grads, [1.0, 3.0]):
        np.testing.assert_array_equal(updates[0], [[0.25, 0.25], [2.5, 4.0]])
        np.testing.assert_array_equal(updates[1], np.arange(3, dtype=np.float32) * 0.75)
        assert updates[1].dtype == np.float32 and updates[2] is None
        assert state["sums"] == [] and state["count"] == 0


def test_a_group_can_end_early_and_micro_batches_be_empty():
    def early(comm):
        rule = agents.all_reduce(comm, 4)
        params = [np.zeros(2)]
        state = rule.init(params)
        weigh(state, 2.0, last=True)
        first, state = rule.update([np.full(2, 1.0 + comm.rank)], state, params)
        state["weight"] = 0.0
        _, state = rule.update([np.full(2, np.nan)], state, params)  # of weight 0: dropped
        state["weight"] = 1.0
        second, state = rule.update([np.ones(2)], state, params)
        state["weight"] = 0.0
        _, state = rule.update([np.ones(2)], state, params)
        third, state = rule.update([np.ones(2)], state, params)
        return first, second, third

    for first, second, third in agents.run(2, early):
        assert first[0].tolist() == [1.5, 1.5] and second[0].tolist() == [1.0, 1.0] and third == [None]


def test_accumulation_before_plain_reduction_sends_once():
    def sent(comm):
        rule = chain(accumulate(3), agents.all_reduce(comm, deterministic=False))
        params = [np.zeros(1000)]
        state = rule.init(params)
        for i in range(3):
            assert comm.sent == 0
            updates, state = rule.update([np.full(1000, i + comm.rank)], state, params)
        return updates[0][0], comm.sent

    assert agents.run(2, sent) == [(1.5, 8016)] * 2


def test_state_between_steps_goes_to_another_number_of_ranks():
    def half(comm, saved):
        rng = np.random.default_rng(5)
        params = [nn.Linear(3, 2, rng=rng).weight]
        optimizer = optim.Optimizer(params, chain(agents.all_reduce(comm, 8), optim.adamw(0.1)))
        if saved:
            params[0].add_(saved[1] - params[0].numpy())
            optimizer.load_state_dict(saved[0])
        for step in range(3):
            for slot in agents.share(8, comm.size, comm.rank):
                optimizer.step([np.full((2, 3), np.sin(slot + step), np.float32)])
        return optimizer.state_dict(), params[0].numpy()

    runs = {(a, b): agents.run(b, half, agents.run(a, half, None)[0]) for a, b in ((1, 1), (3, 8), (8, 2))}
    assert len({one[1].tobytes() for run in runs.values() for one in run}) == 1


def test_misuse_is_named():
    comm = agents.Alone()
    with pytest.raises(ValueError, match="say how many micro_batches"):
        agents.all_reduce(comm)
    with pytest.raises(ValueError, match="leave it out, and put accumulate"):
        agents.all_reduce(comm, 8, deterministic=False)
    with pytest.raises(ValueError, match="at least the number of ranks"):
        agents.run(3, lambda comm: agents.all_reduce(comm, 2))
    with pytest.raises(ValueError, match="no all_reduce"):
        next(agents.Shares(comm, 2)((np.ones(4),), ()))
    with pytest.raises(ValueError, match="same number of examples"):
        state = agents.all_reduce(comm, 2).init([np.ones(1)])
        next(agents.Shares(comm, 2)((np.ones(4), np.ones(3)), state))
