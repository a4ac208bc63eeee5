"""Ranks that talk less: local steps, gossip, and compression on the wire."""

import itertools

import numpy as np
import pytest

from autograd import DiffTensor, nn, optim
from autograd.gradients import chain, codecs, compress
from autograd.optim import sgd
from hammer import agents
from hammer.agents.local import fragments_of

# ---- local steps ----


def descend(comm, link, steps, lr=0.1, target=None, parts=2):
    """SGD on ½‖x − b_r‖², b_r the rank's own target; returns the parameters after each step."""
    b = np.arange(4.0) * (1 + comm.rank) if target is None else target(comm.rank)
    params = [_tensor(x) for x in np.split(np.ones(4), parts)]
    optimizer, path = optim.Optimizer(params, chain(sgd(lr), link(comm))), []
    for _ in range(steps):
        x = np.concatenate([p.numpy() for p in params])
        optimizer.step(np.split(x - b, parts))
        path.append(np.concatenate([p.numpy() for p in params]))
    return np.array(path)


def _tensor(x):
    return DiffTensor(x.copy(), requires_grad=True)


def test_local_sgd_averages_every_h_steps():
    paths = agents.run(3, descend, lambda comm: agents.local_steps(comm, 4, sgd(1.0)), 8)
    x, b = np.ones((3, 4)), np.arange(4.0) * np.arange(1, 4)[:, None]
    for t in range(1, 9):
        x = x - 0.1 * (x - b)
        if t % 4 == 0:
            x[:] = x.mean(axis=0)
        np.testing.assert_allclose([p[t - 1] for p in paths], x, rtol=1e-12)
    assert len({p[7].tobytes() for p in paths}) == 1 and len({p[6].tobytes() for p in paths}) == 3


def test_a_meeting_leaves_every_rank_with_the_same_bits():
    def meet(comm):
        rng = np.random.default_rng(comm.rank)
        x = _tensor(np.ones(1000, np.float32))
        optimizer = optim.Optimizer([x], chain(sgd(0.37), agents.local_steps(comm, 3, sgd(0.7, 0.9, nesterov=True))))
        for _ in range(6):
            optimizer.step([rng.standard_normal(1000).astype(np.float32)])
        return x.numpy().tobytes()

    assert len(set(agents.run(3, meet))) == 1


def test_diloco_takes_nesterov_steps_of_the_mean_movement():
    paths = agents.run(2, descend, lambda comm: agents.local_steps(comm, 3, sgd(0.7, 0.9, nesterov=True)), 9)
    b, anchor, m = np.arange(4.0) * np.array([[1.0], [2.0]]), np.ones(4), np.zeros(4)
    for outer in range(3):
        x = np.tile(anchor, (2, 1))
        for _ in range(3):
            x = x - 0.1 * (x - b)
        delta = anchor - x.mean(axis=0)
        m = 0.9 * m + delta
        anchor = anchor - 0.7 * (delta + 0.9 * m)
        np.testing.assert_allclose(paths[1][3 * outer + 2], anchor, rtol=1e-12)


def test_one_rank_with_plain_averaging_is_the_chain_alone():
    path = descend(agents.Alone(), lambda comm: agents.local_steps(comm, 3, sgd(1.0)), 7)
    alone = descend(agents.Alone(), lambda comm: chain(), 7)
    np.testing.assert_allclose(path, alone, rtol=1e-14)


def test_fragments_take_turns():
    def sent(comm):
        counts, b = [], np.arange(4.0)
        params = [_tensor(x) for x in np.split(np.ones(4), 2)]
        optimizer = optim.Optimizer(params, chain(sgd(0.1), agents.local_steps(comm, 4, sgd(1.0), fragments=2)))
        for _ in range(8):
            before = comm.sent
            optimizer.step(np.split(b + comm.rank, 2))
            counts.append(comm.sent - before)
        return counts, [p.numpy().tobytes() for p in params]

    (first, _), (second, _) = agents.run(2, sent)
    assert first == second == [0, 16, 0, 16, 0, 16, 0, 16]  # one of two halves of 16 bytes each
    assert fragments_of([np.zeros(3), None, np.zeros(3), np.zeros(6)], 2) == [0, None, 0, 1]


def test_local_steps_send_a_share_of_the_bytes():
    def sent(comm, link):
        descend(comm, link, 20)
        return comm.sent

    every = agents.run(4, sent, lambda comm: agents.all_reduce(comm, deterministic=False))[0]
    local = agents.run(4, sent, lambda comm: agents.local_steps(comm, 20, sgd(1.0)))[0]
    assert local <= every / 20


def test_parameters_are_shared_bit_for_bit():
    def shared(comm):
        model = nn.Sequential(nn.Linear(3, 2, rng=np.random.default_rng(comm.rank)), nn.LayerNorm(2))
        agents.share_parameters(comm, model.parameters(), 1)
        return b"".join(p.numpy().tobytes() for p in model.parameters())

    own = nn.Linear(3, 2, rng=np.random.default_rng(1))
    found = set(agents.run(3, shared))
    assert len(found) == 1 and found.pop().startswith(own.weight.numpy().tobytes())


def test_diloco_gains_on_plain_averaging():
    """A5 in small: after as many inner steps, the outer momentum is further than plain averaging, with the same bytes."""

    def loss(comm, outer):
        rng = np.random.default_rng(0)
        y = rng.integers(0, 4, 200)
        x = (2 * np.eye(4)[y] + rng.standard_normal((200, 4))).astype(np.float32)
        model, criterion, draw = nn.Linear(4, 4, rng=rng), nn.CrossEntropyLoss(), np.random.default_rng([1, comm.rank])
        optimizer = optim.Optimizer(model.parameters(), chain(optim.adamw(3e-3), agents.local_steps(comm, 10, outer)))
        for _ in range(100):
            i = draw.integers(0, 200, 16)
            optimizer.zero_grad()
            criterion(model(x[i]), y[i]).backward()
            optimizer.step()
        return float(criterion(model(x), y)), comm.sent

    (diloco, sent), (plain, same) = (agents.run(4, loss, o)[0] for o in (sgd(0.7, 0.9, nesterov=True), sgd(1.0)))
    assert diloco < 0.9 * plain and sent == same


# ---- gossip ----


@pytest.mark.parametrize(
    "mixing", [agents.ring(5), agents.ring(2), agents.torus(3, 4), agents.exponential(6), agents.complete(4)]
)
def test_mixing_matrices_are_doubly_stochastic_and_connected(mixing):
    w = mixing.weights
    np.testing.assert_allclose(w.sum(axis=0), 1.0)
    np.testing.assert_allclose(w.sum(axis=1), 1.0)
    values = np.sort(np.linalg.svd(w, compute_uv=False))
    assert mixing.second == pytest.approx(values[-2] if mixing.size > 1 else 0.0, abs=1e-12)
    assert 0 < mixing.gap <= 1


def test_known_spectral_gaps():
    eigenvalue = (1 + 2 * np.cos(2 * np.pi / 7)) / 3
    assert agents.ring(7).second == pytest.approx(eigenvalue) and agents.complete(3).gap == pytest.approx(1.0)
    assert agents.metropolis([[1], [0], [3], [2]]).gap == pytest.approx(0.0)  # two pairs that never meet
    assert agents.exponential(8).gap > agents.torus(2, 4).gap > agents.ring(8).gap


def test_a_matrix_that_is_not_doubly_stochastic_is_refused():
    with pytest.raises(ValueError, match=r"row 1 adds up to 0\.9"):
        agents.Mixing([[0.5, 0.5], [0.5, 0.4]])
    with pytest.raises(ValueError, match=r"column 0 adds up to 1\.5"):
        agents.Mixing([[0.5, 0.5], [1.0, 0.0]])
    with pytest.raises(ValueError, match="not negative"):
        agents.Mixing([[1.5, -0.5], [-0.5, 1.5]])
    with pytest.raises(ValueError, match="square"):
        agents.Mixing(np.ones((2, 3)))
    with pytest.raises(ValueError, match="rank 0 names 1"):
        agents.metropolis([[1], []])
    with pytest.raises(ValueError, match="for 3 ranks, and there are 1"):
        agents.gossip(agents.Alone(), agents.ring(3))


STAR = agents.metropolis([[1, 2, 3, 4], [0], [0], [0], [0]])


@pytest.mark.parametrize("mixing", [agents.ring(5), agents.exponential(5), STAR])
def test_gossip_mixes_by_the_matrix_and_contracts_by_its_second_value(mixing):
    start = np.random.default_rng(0).standard_normal((5, 6))

    def mix(comm):
        params = [_tensor(x) for x in np.split(start[comm.rank], 2)]
        optimizer, path = optim.Optimizer(params, agents.gossip(comm, mixing)), []
        for _ in range(4):
            optimizer.step([np.zeros(3), np.zeros(3)])
            path.append(np.concatenate([p.numpy() for p in params]))
        return path

    expected, before = start, np.linalg.norm(start - start.mean(axis=0))
    for x in zip(*agents.run(5, mix), strict=True):
        expected = mixing.weights @ expected
        np.testing.assert_allclose(x, expected, rtol=1e-12)
        apart = np.linalg.norm(np.array(x) - start.mean(axis=0))
        assert apart <= mixing.second * before * (1 + 1e-9)
        before = apart


def test_gossip_descends_to_the_common_minimum():
    paths = agents.run(4, descend, lambda comm: agents.gossip(comm, agents.ring(comm.size)), 60)
    mean = np.mean([p[-1] for p in paths], axis=0)
    np.testing.assert_allclose(mean, np.arange(4.0) * 2.5, atol=0.02)


# ---- compression ----


def quadratics(comm, link, steps, lr):
    """A3: ½ (x − b_r)ᵀ A_r (x − b_r), another one for each rank; returns the squared distance from the common minimum over that at the start."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.5, 1.5, (comm.size, 40)), rng.standard_normal((comm.size, 40))
    best = (a * b).sum(axis=0) / a.sum(axis=0)
    x = _tensor(np.zeros(40))
    optimizer = optim.Optimizer([x], chain(link(comm), sgd(lr)))
    for _ in range(steps):
        optimizer.step([a[comm.rank] * (x.numpy() - b[comm.rank])])
    return float(np.sum((x.numpy() - best) ** 2) / np.sum(best**2)), optimizer.state[0]


def test_error_feedback_on_heterogeneous_ranks():
    """A3: without feedback top-k stays away from the minimum, with it it comes near, and EF21 comes as near as floats do."""
    far, ef, ef21 = (
        agents.run(3, quadratics, lambda comm, f=f: agents.compressed(comm, codecs.TopK(0.1), f), 250, 0.1)[0][0]
        for f in (False, "ef", "ef21")
    )
    assert far > 5 * ef and ef > 0.01 and ef21 < 1e-12


def test_ef_loses_nothing_for_good():
    """x_t − lr · mean e_t is where plain gradient descent with the same gradients would be."""

    def both(comm):
        rng = np.random.default_rng(comm.rank)
        x = _tensor(np.zeros(30))
        optimizer, plain = optim.Optimizer([x], chain(agents.compressed(comm, codecs.TopK(2)), sgd(0.1))), np.zeros(30)
        for _ in range(50):
            g = rng.standard_normal(30)
            optimizer.step([g])
            plain -= 0.1 * comm.all_reduce(g).wait() / comm.size
        late = comm.all_reduce(optimizer.state[0]["memory"][0]).wait() / comm.size
        return np.abs(x.numpy() - 0.1 * late - plain).max()

    assert max(agents.run(3, both)) < 1e-13


def test_signs_cannot_leave_a_line_without_feedback():
    """A4: on ε |x1 + x2| + |x1 − x2| signs of subgradients never leave the line x1 + x2 = 2 (Karimireddy et al. 2019); with feedback they do."""

    def descend_signs(feedback):
        eps, x = 0.5, _tensor(np.array([1.0, 1.0]))
        optimizer = optim.Optimizer([x], chain(agents.compressed(agents.Alone(), codecs.Sign(), feedback), sgd(0.02)))
        for _ in range(400):
            v = x.numpy()
            s, d = (1.0 if v.sum() >= 0 else -1.0), (1.0 if v[0] - v[1] >= 0 else -1.0)
            optimizer.step([np.array([eps * s + d, eps * s - d])])
        v = x.numpy()
        return v.sum(), eps * abs(v.sum()) + abs(v[0] - v[1])

    total, value = descend_signs(False)
    assert total == pytest.approx(2.0, abs=1e-9) and value > 0.9
    total, value = descend_signs(True)
    assert abs(total) < 0.1 and value < 0.1


@pytest.mark.parametrize(
    ("codec", "feedback"),
    [*itertools.product([codecs.TopK(3), codecs.Sign(), codecs.Threshold(0.3)], [False, "ef", "ef21"]), (codecs.Quantize(4, 8), False), (codecs.PowerSGD(1), "ef")],
)  # fmt: skip
def test_what_arrives_is_the_mean_of_what_each_rank_sent(codec, feedback):
    """Beside ``compress`` on each rank and a plain mean; and the bytes are those of the payloads."""
    params = [np.zeros((6, 5), np.float32), np.zeros(7, np.float32)]
    draws = np.random.default_rng(0).standard_normal((4, 3, 37)).astype(np.float32)

    def send(comm):
        rule = agents.compressed(comm, codec, feedback, 11)
        state, found = rule.init(params), []
        for t in range(4):
            g = draws[t, comm.rank]
            updates, state = rule.update([g[:30].reshape(6, 5), g[30:]], state, params)
            found.append(updates)
        return found, state["bytes"], comm.sent

    results = agents.run(3, send)
    for t in range(4):
        assert len({b"".join(u.tobytes() for u in found[t]) for found, _, _ in results}) == 1
    means, sent = [[np.zeros_like(p) for p in params] for _ in range(4)], []
    for rank in range(3):
        rule = compress(codec, feedback, np.random.SeedSequence(11, spawn_key=(rank,)))
        state = rule.init(params)
        for t in range(4):
            g = draws[t, rank]
            updates, state = rule.update([g[:30].reshape(6, 5), g[30:]], state, params)
            means[t] = [m + u / 3 for m, u in zip(means[t], updates, strict=True)]
        sent.append(state["bytes"])
    for t in range(4):
        for a, b in zip(results[0][0][t], means[t], strict=True):
            assert a.dtype == np.float32
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert [b for _, b, _ in results] == sent
    assert [total for _, _, total in results] == [b + 4 * 2 * 8 for b in sent]


def test_a_leaf_that_one_rank_lacks_counts_as_zero():
    def send(comm):
        params = [np.zeros(4), np.zeros(2), np.zeros(1)]
        rule = agents.compressed(comm, codecs.TopK(1.0), False)
        return rule.update([np.ones(4), np.ones(2) if comm.rank else None, None], rule.init(params), params)[0]

    for a, b, c in agents.run(2, send):
        assert a.tolist() == [1.0] * 4 and b.tolist() == [0.5] * 2 and c is None
