"""Random streams: every number of a run comes from a stream that its seed names, and never from the optimizer.

A stream is ``SeedSequence(root, spawn_key=(problem, role, index))``: ``root`` is the comparison's ``seed``, ``index`` the
trial's seed. Two optimizers with one index therefore start at the same weights and see the same batches (they are
*paired*), and no stream of one index can meet a stream of another, as it could with ``seed + 1``.

The indices of the three phases of a comparison are far apart, so that a tuning seed is never a scoring seed.
"""

import zlib
from dataclasses import dataclass

import numpy as np

ROLES = ("init", "batches", "dropout", "noise", "split")
"""What a stream is for. New roles go at the end: the place is part of the spawn key."""

FIRST_INDEX = {"scoring": 0, "tuning": 1_000_000, "control": 2_000_000}
"""The first seed index of each phase."""


def indices(phase: str, count: int) -> list[int]:
    """The seed indices of a phase: the first ``count`` of it."""
    return list(range(FIRST_INDEX[phase], FIRST_INDEX[phase] + count))


def phase_of(index: int) -> tuple[str, int]:
    """The phase that a seed index belongs to, and its number within the phase."""
    first, phase = max((first, phase) for phase, first in FIRST_INDEX.items() if first <= index)
    return phase, index - first


@dataclass(frozen=True)
class Streams:
    """The random streams of one trial: ``streams("init")`` is a fresh generator at the start of that stream."""

    root: int
    problem: str
    index: int

    def __call__(self, role: str) -> np.random.Generator:
        return np.random.default_rng(self.sequence(role))

    def sequence(self, role: str) -> np.random.SeedSequence:
        """The seed sequence of one role. The split of the data belongs to the problem: it is the same for every run, or a
        frozen target would mean something else under another root seed."""
        root, index = (0, 0) if role == "split" else (self.root, self.index)
        return np.random.SeedSequence(root, spawn_key=(zlib.crc32(self.problem.encode()), ROLES.index(role), index))
