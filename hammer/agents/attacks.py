"""What hostile or broken ranks may send: for tests and studies of ``rules``.

An attacker is the strongest there is: it sees what all honest ranks send in this step, and all hostile ranks act together.
Attacks are computed where the rule is, from what every rank has, so every rank has the same. ``flipped`` is an attack
on data: hostile ranks train honestly on wrong labels.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np

from autograd.gradients.scaling import number, whole


class Attack:
    """What replaces the rows of hostile ranks."""

    random: ClassVar[bool] = False

    def start(self, hostile: int, length: int, dtype: np.dtype) -> dict[str, Any]:
        """What the attackers remember: a tree of arrays."""
        return {}

    def __call__(
        self, honest: np.ndarray, own: np.ndarray, state: dict[str, Any], rng: np.random.Generator | None
    ) -> np.ndarray:
        """The rows that are sent.

        Args:
            honest: what the honest ranks send, a row each.
            own: what the hostile ranks would send if they were honest.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class SignFlip(Attack):
    """The own gradient with the other sign, ``scale`` times."""

    scale: float = 1.0

    def __call__(self, honest: np.ndarray, own: np.ndarray, state: dict, rng: np.random.Generator | None) -> np.ndarray:
        return -self.scale * own


@dataclass(frozen=True)
class Noise(Attack):
    """The own gradient and Gaussian noise with a standard deviation of ``scale``."""

    scale: float = 100.0
    random = True

    def __call__(self, honest: np.ndarray, own: np.ndarray, state: dict, rng: np.random.Generator | None) -> np.ndarray:
        assert rng is not None
        return own + (self.scale * rng.standard_normal(own.shape)).astype(own.dtype)


@dataclass(frozen=True)
class InnerProduct(Attack):
    """− ε times the honest mean (inner-product manipulation, Xie, Koyejo & Gupta 2020)."""

    scale: float = 1.1

    def __call__(self, honest: np.ndarray, own: np.ndarray, state: dict, rng: np.random.Generator | None) -> np.ndarray:
        return np.broadcast_to(-self.scale * honest.mean(axis=0), own.shape)


@dataclass(frozen=True)
class Alie(Attack):
    """The honest mean minus z honest standard deviations: within their noise ("a little is enough", Baruch et al. 2019).

    Args:
        z: None for the paper's, with which as many honest ranks lie beyond as the attackers need for a majority:
            Φ(z) = (n − f − s) / (n − f) with s = ⌊n / 2 + 1⌋ − f.
    """

    z: float | None = None

    def __call__(self, honest: np.ndarray, own: np.ndarray, state: dict, rng: np.random.Generator | None) -> np.ndarray:
        z = self.deviations(len(honest), len(own)) if self.z is None else self.z
        return np.broadcast_to(honest.mean(axis=0) - z * honest.std(axis=0), own.shape)

    @staticmethod
    def deviations(honest: int, hostile: int) -> float:
        """The paper's z."""
        needed = (honest + hostile) // 2 + 1 - hostile
        share = min(max((honest - needed) / honest, 0.5), 0.999)
        return NormalDist().inv_cdf(share)


@dataclass(frozen=True)
class Broken(Attack):
    """One value everywhere: NaN, an infinity, or 0, as a rank with a fault, or one that does not work, would send."""

    value: float = float("nan")

    def __call__(self, honest: np.ndarray, own: np.ndarray, state: dict, rng: np.random.Generator | None) -> np.ndarray:
        return np.full_like(own, self.value)


@dataclass(frozen=True)
class Stale(Attack):
    """The own gradient of ``delay`` steps ago; zeros before there is one."""

    delay: int = 10

    def __post_init__(self) -> None:
        whole("Stale: delay", self.delay)

    def start(self, hostile: int, length: int, dtype: np.dtype) -> dict[str, Any]:
        return {"next": 0, "kept": np.zeros((self.delay, hostile, length), dtype)}

    def __call__(self, honest: np.ndarray, own: np.ndarray, state: dict, rng: np.random.Generator | None) -> np.ndarray:
        place = state["next"] % self.delay
        old = state["kept"][place].copy()
        state["kept"][place] = own
        state["next"] += 1
        return old


def flipped(labels: Any, classes: int) -> np.ndarray:
    """Labels as a hostile rank reads them: class c as ``classes`` − 1 − c."""
    whole("flipped: classes", classes, 2)
    y = np.asarray(labels)
    number("flipped: the largest label", int(y.max(initial=0)), f"[0, {classes - 1}]")
    return classes - 1 - y
