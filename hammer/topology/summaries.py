"""Numbers, curves and images of diagrams. All are operations on births and deaths: of recorded tensors they have derivatives.

A diagram is a Diagram or an array (k, 2) of births and deaths. What never dies is left out, except in Betti curves.
"""

import math
from typing import Any

import numpy as np

from autograd import ops

from .diagram import Diagram, as_pairs, beside, host_of, pick


def total_persistence(diagram: Any, power: float = 1.0, skip: int = 0) -> Any:
    """Σ (death − birth) ** power over the pairs, without the ``skip`` that live longest.

    As a loss it closes short-lived features; with ``skip`` it leaves that many alone (and ``-`` it separates them). Of components of
    points with power 1 it is the length of the minimum spanning tree.
    """
    lifetimes = _lifetimes(diagram, "total_persistence")
    if not power > 0:
        raise ValueError(f"total_persistence: power must be above 0, not {power!r}")
    if skip:
        lifetimes = pick(lifetimes, np.sort(np.argsort(-host_of(lifetimes), kind="stable")[skip:]))
    return ops.sum(lifetimes if power == 1 else lifetimes**power)


def persistence_entropy(diagram: Any, normalize: bool = False) -> Any:
    """−Σ p ln p of the shares p of the total persistence: from 0 (one feature) to ln k (all alike).

    Args:
        normalize: whether to divide by ln k, k being the number of pairs; 0 for fewer than two.
    """
    lifetimes = _lifetimes(diagram, "persistence_entropy")
    alive = np.nonzero(host_of(lifetimes) > 0)[0]
    if len(alive) == 0:
        return ops.sum(lifetimes)
    lifetimes = pick(lifetimes, alive)
    share = lifetimes / ops.sum(lifetimes)
    entropy = -ops.sum(share * ops.log(share))
    if normalize:
        return entropy / math.log(len(alive)) if len(alive) > 1 else entropy * 0.0
    return entropy


def betti_curve(diagram: Any, at: Any) -> np.ndarray:
    """How many features are alive at each of the values ``at``, births included and deaths not: (len(at),) integers."""
    pairs = host_of(as_pairs(diagram, "betti_curve"))
    births, deaths = np.sort(pairs[:, 0]), np.sort(pairs[:, 1])
    t = np.asarray(at, np.float64)
    alive = np.searchsorted(births, t, "right") - np.searchsorted(deaths, t, "right")
    if isinstance(diagram, Diagram):
        alive = alive + np.searchsorted(np.sort(host_of(diagram.essential)), t, "right")
    return alive


def persistence_landscape(diagram: Any, at: Any, levels: int = 5) -> Any:
    """λ_1 ≥ λ_2 ≥ … at the values ``at``: the k-th largest of min(t − birth, death − t), or 0 (Bubenik 2015). (levels, len(at)).

    Between two diagrams, no λ differs by more than their bottleneck distance (his stability theorem).
    """
    pairs = as_pairs(diagram, "persistence_landscape")
    if levels < 1:
        raise ValueError(f"persistence_landscape: levels must be at least 1, not {levels!r}")
    t = beside(np.asarray(at, np.float64), pairs)
    births, deaths = pairs[:, 0][:, None], pairs[:, 1][:, None]
    tents = ops.maximum(ops.minimum(t[None, :] - births, deaths - t[None, :]), 0.0)
    k = pairs.shape[0]
    if k < levels:
        zeros = beside(np.zeros((levels - k, t.shape[0])), pairs)
        tents = zeros if k == 0 else ops.concat([tents, zeros], axis=0)
    order = np.argsort(-host_of(tents), axis=0, kind="stable")[:levels]
    return ops.take_along_axis(tents, beside(order, pairs, integer=True), axis=0)


def persistence_image(
    diagram: Any, births: tuple[float, float], lifetimes: tuple[float, float], sigma: float, pixels: int = 20
) -> Any:
    """A diagram as an image: each pair is a Gaussian at (birth, lifetime), weighted by its lifetime, integrated over pixels.

    Args:
        births, lifetimes: the ranges that the image covers: its columns and its rows.
        sigma: the Gaussians' standard deviation.
        pixels: along each side.

    Returns:
        (pixels, pixels), rows by lifetime, in the dtype of the diagram (Adams et al. 2017, with the weight min(lifetime /
        top, 1), top being the upper end of ``lifetimes``). See ``image_bound`` for its stability.
    """
    pairs = as_pairs(diagram, "persistence_image")
    if not sigma > 0 or pixels < 1 or not births[0] < births[1] or not 0 <= lifetimes[0] < lifetimes[1]:
        raise ValueError(
            f"persistence_image: needs sigma above 0, pixels from 1 and ascending ranges, not sigma={sigma}, pixels={pixels}, "
            f"births={births}, lifetimes={lifetimes}"
        )
    lives = pairs[:, 1] - pairs[:, 0]

    def shares(centres: Any, ends: tuple[float, float]) -> Any:
        edges = beside(np.linspace(*ends, pixels + 1), pairs)
        below = ops.ndtr((edges[None, :] - centres[:, None]) / sigma)
        return below[:, 1:] - below[:, :-1]

    weight = ops.minimum(lives / lifetimes[1], 1.0)
    rows = shares(lives, lifetimes) * weight[:, None]
    return ops.matmul(ops.permute(rows, (1, 0)), shares(pairs[:, 0], births))


def image_bound(sigma: float, top: float) -> float:
    """The factor L of ‖I − I'‖_1 ≤ L · W_1(D, D') for images with this ``sigma`` and upper end ``top`` of lifetimes.

    L = 2 / top + √(10/π) / σ, W_1 being ``wasserstein(D, D')``; the form is that of Adams et al. 2017. Of a pair of points at a distance r (by the
    maximum norm) the weights differ by at most 2 r / top, and the Gaussians, which are at most √5 r apart by birth and lifetime, by
    √(2/π) √5 r / σ in L¹. A point at a distance r from the diagonal has the weight 2 r / top or less. Between all points and landmarks W_1
    is at most ``rips_bound`` times the number of pairs of both.
    """
    if not sigma > 0 or not top > 0:
        raise ValueError(f"image_bound: sigma and top must be above 0, not {sigma!r} and {top!r}")
    return 2.0 / top + math.sqrt(10.0 / math.pi) / sigma


def _lifetimes(diagram: Any, what: str) -> Any:
    pairs = as_pairs(diagram, what)
    return pairs[:, 1] - pairs[:, 0]
