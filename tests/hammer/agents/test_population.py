"""Agents that differ: population based training and its policies, and memories of which ranks share the slow ones."""

import json
import math

import numpy as np
import pytest

from autograd import DiffTensor, nn, optim
from autograd.gradients import chain
from hammer import agents
from hammer.agents.population import _read, _write
from hammer.vortex import vortex

MEMBERS = [
    agents.Member(r, s, {"lr": 1.0 + r, "gain": 4.0}) for r, s in enumerate([3.0, -math.inf, 9.0, 5.0, 7.0, 1.0])
]


def test_the_worst_go_on_from_the_best_with_settings_nearby():
    drawn = set()
    for seed in range(20):
        found = agents.Truncation(0.34, (0.5, 2.0), {"lr": (0.1, 5.5)})(MEMBERS, np.random.default_rng(seed))
        assert [d.parent for d in (found[0], found[2], found[3], found[4])] == [0, 2, 3, 4]
        assert all(found[r].settings == MEMBERS[r].settings for r in (0, 2, 3, 4))
        for heir in (found[1], found[5]):
            parent = MEMBERS[heir.parent]
            assert heir.parent in (2, 4) and heir.settings["gain"] in (2.0, 8.0)
            assert heir.settings["lr"] in (parent.settings["lr"] / 2, 5.5)
            drawn.add((heir.parent, heir.settings["gain"]))
    assert len(drawn) == 4


@pytest.mark.parametrize(("size", "heirs"), [(1, 0), (2, 1), (3, 1), (10, 2)])
def test_how_many_inherit(size, heirs):
    members = [agents.Member(r, float(-r), {"lr": 1.0}) for r in range(size)]
    found = agents.Truncation()(members, np.random.default_rng(0))
    assert sum(d.parent != r for r, d in enumerate(found)) == heirs
    assert sum(d.settings != {"lr": 1.0} for d in found) == heirs


def agent(comm, scores, population=None, inherit="all", recipe=lambda rank: optim.adamw(0.1)):
    """Trains a little, meets once for each row of scores; what it had after each meeting, and the population."""
    rng = np.random.default_rng(comm.rank)
    model = nn.Sequential(nn.Linear(2, 3, rng=rng), nn.BatchNorm1d(3))
    optimizer, settings, seen = (
        optim.Optimizer(model.parameters(), recipe(comm.rank)),
        {"lr": 0.1 * (comm.rank + 1)},
        [],
    )
    population = population(comm) if population else agents.Population(comm, seed=4, inherit=inherit)
    for row in scores:
        optimizer.zero_grad()
        (model(rng.standard_normal((8, 2)).astype(np.float32)) ** 2).sum().backward()
        optimizer.step()
        settings = population.meet(model, optimizer, row[comm.rank], settings)
        bits = b"".join(np.asarray(a).tobytes() for a in model.state_dict().values())
        seen.append((bits, {k: v for k, v in optimizer.state_dict().items() if "lr" not in k}, optimizer.lr, settings))
    return seen, population


def test_an_heir_has_its_parents_model_and_optimizer():
    found = agents.run(3, agent, [[1.0, 0.5, 3.0], [1.0, math.nan, 2.0]])
    (a, b, c), population = ([seen for seen, _ in found], found[2][1])
    assert c[0][0] == b[0][0] != a[0][0]  # the loss of the last is the largest: it inherits from the second
    assert repr(c[0][1]) == repr(b[0][1])
    assert c[0][2] == c[0][3]["lr"] in (pytest.approx(0.16), pytest.approx(0.24)) and b[0][2] == 0.2
    assert b[1][0] == a[1][0] != c[1][0]  # NaN is worst
    assert population.lineage() == [1, 2] and population.lineage(1) == [0, 0] and population.lineage(0) == [0, 0]
    assert len({repr(p.history) for _, p in found}) == 1
    row = population.history[2]
    assert row == {
        "round": 0, "rank": 2, "parent": 1, "score": 3.0, "settings": {"lr": pytest.approx(0.3)}, "next": c[0][3]
    }  # fmt: skip
    other = agents.Population(agents.Alone())
    other.load_state_dict(json.loads(json.dumps(population.state_dict())))
    assert other.lineage(2) == [1, 2] and other.round == 2


def test_agents_with_other_optimizers_inherit_the_model():
    recipe = lambda rank: optim.sgd(0.1) if rank else optim.adamw(0.1)
    (a, _), (b, _) = agents.run(2, agent, [[2.0, 1.0]], None, "model", recipe)
    assert a[0][0] == b[0][0] and a[0][1].keys() != b[0][1].keys()
    with pytest.raises(KeyError, match="another optimizer"):
        agents.run(2, agent, [[2.0, 1.0]], None, "all", recipe)


def test_only_heirs_get_a_model():
    def sent(comm, scores):
        agent(comm, scores)
        return comm.sent

    same = [[1.0, 1.0, 1.0]]
    before, after = agents.run(3, sent, []), agents.run(3, sent, same)
    assert max(after) > min(after) + 100 and sorted(after)[1] < min(after) + 100 and before == [0, 0, 0]


def test_a_policy_of_your_own():
    class Best(agents.Policy):
        """All go on from the best."""

        def __call__(self, members, rng):
            best = max(members, key=lambda m: m.score)
            return [agents.Decision(best.rank, best.settings) for _ in members]

    found = agents.run(3, agent, [[1.0, 2.0, 0.5]], lambda comm: agents.Population(comm, Best(), mode="max"))
    assert len({seen[0][0] for seen, _ in found}) == 1 and [seen[0][2] for seen, _ in found] == [0.2] * 3

    class Wrong(agents.Policy):
        def __call__(self, members, rng):
            return [agents.Decision(7, {})]

    with pytest.raises(agents.AgentsError, match="Wrong: a policy returns a Decision for each of the 1 agents"):
        agent(agents.Alone(), [[1.0]], lambda comm: agents.Population(comm, Wrong()))


def test_a_population_finds_a_learning_rate():
    """Gradient descent on a quadratic; all but one begin with rates far too small, and end near it."""

    def descend(comm):
        x = DiffTensor(np.full(4, 5.0), requires_grad=True)
        model = nn.Module()
        model.x = nn.Parameter(x.raw)
        rate = {"lr": 0.3 if comm.rank == 2 else 1e-4}
        optimizer = optim.Optimizer(model.parameters(), optim.sgd(rate["lr"]))
        population = agents.Population(comm, agents.Truncation(0.5))
        for _ in range(4):
            for _ in range(5):
                optimizer.step([model.x.raw * np.array([1.0, 0.5, 0.2, 0.1])])
            rate = population.meet(model, optimizer, float((model.x.raw**2).sum()), rate)
        return float((model.x.raw**2).sum()), rate["lr"]

    found = agents.run(4, descend)
    assert min(lr for _, lr in found) > 0.1 and max(score for score, _ in found) < 10


def test_misuse_is_named():
    for bad, said in (
        (lambda: agents.Truncation(0.6), r"\(0, 0.5\]"), (lambda: agents.Truncation(factors=(0.0,)), "positive"),
        (lambda: agents.Truncation(limits={"lr": (2, 1)}), "wrong order"),
        (lambda: agents.Population(agents.Alone(), mode="least"), '"min" or "max"'),
        (lambda: agents.Population(agents.Alone(), inherit="half"), '"all" or "model"'),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            bad()


def test_a_state_survives_the_wire():
    state = {
        "model": {"a": np.float32([[1, 2]]), "n": np.array(3)},
        "optimizer": {"t.0": 5, "lr": 0.1, "b": np.zeros(0)},
    }
    back = _read(_write(state))
    assert back["optimizer"]["lr"] == 0.1 and back["optimizer"]["t.0"] == 5 and back["model"]["a"].dtype == np.float32
    np.testing.assert_array_equal(back["model"]["a"], state["model"]["a"])
    assert back["model"]["n"].shape == () and back["optimizer"]["b"].shape == (0,)


# ---- memories ----

BANK = vortex(decays=(0.5, 0.9), gains=(0.5, 0.5), gate="none")


def remembered(comm, names, every, steps=4):
    link, params = agents.share_state(comm, BANK, names, every), [np.zeros(3), np.zeros(2)]
    state, rng = link.init(params), np.random.default_rng(comm.rank)
    for _ in range(steps):
        _, state = link.update([rng.standard_normal(3), rng.standard_normal(2)], state, params)
    return state["inner"]


def test_slow_memories_are_shared_and_fast_ones_are_not():
    a, b, c = agents.run(3, remembered, ["m1"], 1)
    for i in range(2):
        assert a["m1"][i].tobytes() == b["m1"][i].tobytes() == c["m1"][i].tobytes()
        assert not np.array_equal(a["m0"][i], b["m0"][i])
    streams, state = [np.random.default_rng(r) for r in range(3)], BANK.init([np.zeros(3), np.zeros(2)])
    for _ in range(4):
        drawn = [[rng.standard_normal(3), rng.standard_normal(2)] for rng in streams]
        mean = [np.mean([d[i] for d in drawn], axis=0) for i in range(2)]
        _, state = BANK.update(mean, state, [np.zeros(3), np.zeros(2)])
    np.testing.assert_allclose(a["m1"][0], state["m1"][0], rtol=1e-12)  # the memory of the mean gradient


def test_memories_meet_every_so_many_steps():
    (a, b), (c, d) = agents.run(2, remembered, ["m1"], 4), agents.run(2, remembered, ["m1"], 5)
    assert np.array_equal(a["m1"][0], b["m1"][0]) and not np.array_equal(c["m1"][0], d["m1"][0])
    np.testing.assert_allclose(a["m1"][0], (c["m1"][0] + d["m1"][0]) / 2)


def test_buffers_that_are_not_there_are_named():
    with pytest.raises(ValueError, match="no buffers 'm7'; it has m0, m1"):
        agents.share_state(agents.Alone(), BANK, ["m7"]).init([np.zeros(2)])
    with pytest.raises(ValueError, match="no buffers 'm0'"):
        agents.share_state(agents.Alone(), chain(BANK, optim.sgd(0.1)), ["m0"]).init([np.zeros(2)])
