"""Population based training: agents that differ, of which the worse go on from copies of the better.

Every rank trains a model of its own, with settings of its own (a learning rate, a scale of VortexGrad or of fractal
smoothing, …). Now and then all meet and say how well they do; a *policy* decides who goes on from whose state, and with which
settings (Jaderberg et al. 2017: *exploit*, then *explore*). What was inherited from whom is recorded.

    population = agents.Population(comm, agents.Truncation(factors=(0.8, 1.2)), mode="max")
    for _ in range(rounds):
        train(model, optimizer, settings)               # this rank by itself
        settings = population.meet(model, optimizer, accuracy(model), settings)
    population.lineage()                                # which rank's model this was, round by round

A policy is a small class, ``__call__(members, rng) -> decisions``, and needs no coordinating rank: every rank asks its own copy
with the same members and the same random numbers, and gets the same answer. Only who inherits gets a message with a model.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from autograd.gradients.scaling import number

from .communicator import AgentsError, Communicator

Settings = dict[str, float]


@dataclass(frozen=True)
class Member:
    """An agent as a policy sees it. ``score`` is larger for better ones; −∞ for one whose score is NaN."""

    rank: int
    score: float
    settings: Settings


@dataclass(frozen=True)
class Decision:
    """What an agent is to do: go on from the state of ``parent`` (its own rank: as it was), with these settings."""

    parent: int
    settings: Settings


class Policy:
    """What is decided when agents meet. A policy is a value: it keeps nothing between calls."""

    def __call__(self, members: Sequence[Member], rng: np.random.Generator) -> list[Decision]:
        """A decision for each member, in their order, which is that of the ranks.

        Args:
            members: all agents.
            rng: for policies that draw; in the same state on every rank.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Truncation(Policy):
    """Each of the worst agents goes on from one of the best, drawn at random, with settings changed a little.

    Args:
        fraction: of the agents that are worst, and best; at least one, at most half of them.
        factors: a setting of an heir is multiplied by one of these, drawn for each.
        limits: the smallest and largest value of a setting, by name.

    Raises:
        ValueError: a fraction outside (0, 0.5], factors that are not positive, or limits in the wrong order.
    """

    fraction: float = 0.2
    factors: tuple[float, ...] = (0.8, 1.2)
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        number("Truncation: fraction", self.fraction, "(0, 0.5]")
        if not self.factors or not all(f > 0 for f in self.factors):
            raise ValueError(f"Truncation: factors must be some positive numbers, not {self.factors}")
        for name, (low, high) in self.limits.items():
            if not low <= high:
                raise ValueError(f"Truncation: the limits of {name!r} are in the wrong order: {low} and {high}")

    def __call__(self, members: Sequence[Member], rng: np.random.Generator) -> list[Decision]:
        order = sorted(members, key=lambda m: (m.score, -m.rank))
        n = min(max(1, int(self.fraction * len(order))), len(order) // 2)
        worst, best = {m.rank for m in order[:n]}, order[len(order) - n :]
        found = []
        for m in members:
            if m.rank not in worst:
                found.append(Decision(m.rank, m.settings))
                continue
            parent = best[int(rng.integers(len(best)))]
            found.append(Decision(parent.rank, {k: self._near(k, v, rng) for k, v in parent.settings.items()}))
        return found

    def _near(self, name: str, value: float, rng: np.random.Generator) -> float:
        low, high = self.limits.get(name, (-math.inf, math.inf))
        return min(max(value * self.factors[int(rng.integers(len(self.factors)))], low), high)


class Population:
    """The agents of a population, seen from one of them.

    Args:
        comm: the ranks, an agent each.
        policy: who inherits from whom.
        mode: "min" or "max": which way a score is better.
        seed: of the policy's random numbers; the same on every rank.
        inherit: "all", or "model" where agents run different optimizers: an heir's optimizer then goes on as it was.

    Attributes:
        round: how often they have met.
        history: a row for each meeting and agent: "round", "rank", "parent", "score", "settings" before and "next" after. The
            same on every rank, and JSON values.
    """

    def __init__(
        self,
        comm: Communicator,
        policy: Policy | None = None,
        *,
        mode: Literal["min", "max"] = "min",
        seed: int = 0,
        inherit: Literal["all", "model"] = "all",
    ):
        if mode not in ("min", "max"):
            raise ValueError(f'Population: mode must be "min" or "max", not {mode!r}')
        if inherit not in ("all", "model"):
            raise ValueError(f'Population: inherit must be "all" or "model", not {inherit!r}')
        self.comm, self.policy, self.mode, self.seed, self.inherit = comm, policy or Truncation(), mode, seed, inherit
        self.round, self.history = 0, list[dict[str, Any]]()

    def meet(self, model: Any, optimizer: Any, score: float, settings: Settings) -> Settings:
        """Compare with the others, and become the heir of another if the policy says so. All ranks call it.

        Args:
            model: a Module, of the same shapes on every rank; an heir gets the parameters and buffers of its parent.
            optimizer: an ``Optimizer``; an heir gets its parent's state (see ``inherit``).
            score: how well this agent does.
            settings: numbers that this agent trains with, by name.

        Returns:
            The settings to go on with. If one is called "lr", the optimizer has it already.

        Raises:
            AgentsError: what the policy returned is no decision for each agent.
        """
        sign = 1.0 if self.mode == "max" else -1.0
        mine = json.dumps([float(score), {k: float(v) for k, v in settings.items()}]).encode()
        said = [json.loads(data) for data in self.comm.all_gather_bytes(mine)]
        members = [Member(r, -math.inf if s != s else sign * s, own) for r, (s, own) in enumerate(said)]
        decisions = self.policy(members, np.random.default_rng([self.seed, self.round]))
        self._check(decisions)
        for (s, own), m, d in zip(said, members, decisions, strict=True):
            row = {"round": self.round, "rank": m.rank, "parent": d.parent, "score": s, "settings": own}
            self.history.append(row | {"next": dict(d.settings)})
        self.round += 1
        self._inherit(model, optimizer, [d.parent for d in decisions])
        new = dict(decisions[self.comm.rank].settings)
        if "lr" in new:
            optimizer.lr = new["lr"]
        return new

    def _check(self, decisions: Any) -> None:
        there = range(self.comm.size)
        if len(decisions) != self.comm.size or not all(d.parent in there for d in decisions):
            raise AgentsError(
                f"{type(self.policy).__name__}: a policy returns a Decision for each of the {self.comm.size} agents, with a parent "
                f"among them, not {decisions!r:.200}"
            )

    def _inherit(self, model: Any, optimizer: Any, parents: list[int]) -> None:
        me = self.comm.rank
        heirs = [rank for rank, parent in enumerate(parents) if parent == me != rank]
        source = [] if parents[me] == me else [parents[me]]
        if all(rank == parent for rank, parent in enumerate(parents)):
            return
        data = np.frombuffer(self._written(model, optimizer) if heirs else b"", np.uint8)
        lengths = self.comm.all_gather_now(np.array(len(data)))
        parcel = np.zeros(int(lengths.max()), np.uint8)
        parcel[: len(data)] = data
        for parent, came in self.comm.exchange(parcel, heirs, source).wait().items():
            state = _read(came[: int(lengths[parent])].tobytes())
            model.load_state_dict(state["model"])
            if self.inherit == "all":
                optimizer.load_state_dict(state["optimizer"])

    def _written(self, model: Any, optimizer: Any) -> bytes:
        state = {"model": model.state_dict()}
        if self.inherit == "all":
            state["optimizer"] = optimizer.state_dict()
        return _write(state)

    def lineage(self, rank: int | None = None) -> list[int]:
        """Whose model it was that an agent has now: a rank for each round, the first one first.

        Args:
            rank: the agent; None: this one.
        """
        parents = {(row["round"], row["rank"]): row["parent"] for row in self.history}
        at, found = self.comm.rank if rank is None else rank, []
        for r in reversed(range(self.round)):
            at = parents[r, at]
            found.append(at)
        return found[::-1]

    def state_dict(self) -> dict[str, Any]:
        """What the rest of the run depends on beside models and optimizers: JSON values."""
        return {"round": self.round, "history": [dict(row) for row in self.history]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of ``state_dict``."""
        self.round, self.history = int(state["round"]), [dict(row) for row in state["history"]]


def _write(state: dict[str, dict[str, Any]]) -> bytes:
    """Dicts of arrays and numbers as bytes: a line of JSON, in which null stands for an array, then the arrays."""
    out, head = io.BytesIO(), {}
    for part, values in state.items():
        head[part] = {name: None if isinstance(v, np.ndarray) else [v] for name, v in values.items()}
        for v in values.values():
            if isinstance(v, np.ndarray):
                np.lib.format.write_array(out, v, allow_pickle=False)
    return json.dumps(head).encode() + b"\n" + out.getvalue()


def _read(data: bytes) -> dict[str, dict[str, Any]]:
    head, _, arrays = data.partition(b"\n")
    source = io.BytesIO(arrays)
    return {
        part: {
            name: np.lib.format.read_array(source, allow_pickle=False) if v is None else v[0]
            for name, v in values.items()
        }
        for part, values in json.loads(head).items()
    }
