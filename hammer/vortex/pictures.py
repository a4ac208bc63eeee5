"""Pictures of a bank: the Bode plot of its filter, and a map of coherence over training."""

import base64
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from autograd import backend

from .. import drawing
from ..drawing import Line, Panel, colours, png, svg
from ..drawing.panels import document
from .filters import Resonance
from .settings import VortexGrad, state_of

CELL = 14
"""Height of a row of the map."""


def bode(bank: VortexGrad, resonance: Resonance = 1.0) -> str:
    """The gain (dB) and the phase (degrees) of the filter over frequency (cycles per step), as the text of an SVG file."""
    slowest = min(
        [1 - b for b in bank.decays if b] + [1 / c for c in bank.capacities if bank.memory == "window"], default=0.1
    )
    omega = np.geomspace(min(0.05 * slowest, 0.01), math.pi, 1200)
    h = bank.frequency_response(omega, resonance)
    gain = 20 * np.log10(np.maximum(abs(h), 1e-12))
    phase = np.degrees(np.unwrap(np.angle(h)))
    cycles = omega / (2 * math.pi)
    label = "filter"
    return drawing.picture([
        Panel("gain (dB)", "frequency (cycles per step)", [Line(label, cycles, gain)], log_x=True, levels=[(0.0, "0 dB")]),
        Panel("phase (degrees)", "frequency (cycles per step)", [Line(label, cycles, phase)], log_x=True),
    ], columns=2, note=f"H(1) = {abs(h[0]):.3g} at low frequencies; H(−1) = {bank.nyquist_gain(resonance):.3g} for gradients that change sign")  # fmt: skip


class CoherenceMap:
    """How far every tensor's gradients agreed, over training.

        seen = CoherenceMap(bank, optimizer, names)
        for step in range(steps):
            ...
            optimizer.step()
            seen.record()
        Path("coherence.svg").write_text(seen.picture())

    What it keeps of a tensor is the mean over its coordinates of (c − c0) / (1 − c0): 0 where gradients are noise, 1 where they agree,
    below 0 where they take turns.

    Args:
        bank: the settings, with a gate.
        optimizer: an ``Optimizer`` whose chain has the bank.
        names: of the parameters, in the optimizer's order; None: numbers.
    """

    def __init__(self, bank: VortexGrad, optimizer: Any, names: Sequence[str] | None = None):
        self.bank, self.optimizer = bank, optimizer
        self.names = [str(i) for i in range(len(optimizer.params))] if names is None else list(names)
        if len(self.names) != len(optimizer.params):
            raise ValueError(f"coherence map: {len(self.names)} names for {len(optimizer.params)} parameters")
        self._rows: list[np.ndarray] = []
        self._steps: list[int] = []
        self._calls = 0

    def record(self, every: int = 1) -> None:
        """Take down the coherence after this step, at every so many calls."""
        self._calls += 1
        if self._calls % every:
            return
        counts = state_of(self.bank, self.optimizer)["t"]
        kept = self.bank.kept
        found = np.full((len(kept), len(self.names)), np.nan)
        for i, (k, row) in enumerate(zip(kept, self.bank.coherence(self.optimizer), strict=True)):
            for leaf, c in enumerate(row):
                floor = self.bank.noise_floor(k, counts[leaf]) if counts[leaf] else 1.0
                if c is not None and floor < 1.0:
                    mean = float(backend.xp(c).mean(c)) if backend.is_array(c) else float(c)
                    found[i, leaf] = (mean - floor) / (1 - floor)
        self._rows.append(found)
        self._steps.append(self._calls)

    @property
    def values(self) -> np.ndarray:
        """float64 of shape (memories, parameters, records); NaN before a second gradient."""
        if not self._rows:
            raise ValueError("coherence map: nothing is recorded yet; call record() after optimizer.step()")
        return np.stack(self._rows, -1)

    @property
    def steps(self) -> np.ndarray:
        """The calls of ``record`` that were taken down, counted from 1."""
        return np.array(self._steps)

    def picture(self, columns: int = 400) -> str:
        """The map as the text of an SVG file: a row for each tensor and memory, time to the right, at most so many columns."""
        values = self.values
        ends = np.unique(np.linspace(0, values.shape[-1], min(columns, values.shape[-1]) + 1).astype(int))
        parts = [values[..., a:b] for a, b in itertools.pairwise(ends)]
        grouped = np.stack([_mean(part) for part in parts], -1)
        kept = self.bank.kept
        left, width, top = 16 + 6.6 * max(map(len, self.names)), 520, 54
        high = CELL * len(self.names)
        drawn = []
        for i, k in enumerate(kept):
            y = top + i * (high + 34)
            about = (
                f"β {self.bank.decays[k]:g}"
                if self.bank.memory == "exponential"
                else f"{self.bank.capacities[k]} gradients"
            )
            drawn.append(svg.words(left, y - 8, f"memory {i}: {about}", "name"))
            image = base64.b64encode(png(colours(grouped[i], 0.0, 1.0))).decode()
            drawn.append(
                f'<image x="{left:.0f}" y="{y}" width="{width}" height="{high}" preserveAspectRatio="none" '
                f'style="image-rendering:pixelated" href="data:image/png;base64,{image}"/>'
            )
            drawn += [
                svg.words(left - 6, y + CELL * (j + 0.75), name, "tick", "end") for j, name in enumerate(self.names)
            ]
        below = top + len(kept) * (high + 34)
        scale = base64.b64encode(png(colours(np.linspace(0, 1, 64)[None, :]))).decode()
        drawn.append(
            f'<image x="{left:.0f}" y="{below - 14}" width="160" height="10" preserveAspectRatio="none" href="data:image/png;base64,{scale}"/>'
        )
        drawn.append(svg.words(left + 166, below - 5, "0: noise … 1: all gradients agree", "label"))
        drawn.append(svg.words(left + width, below - 5, f"step {self._steps[0]} to {self._steps[-1]}", "label", "end"))
        total = left + width + 20
        title = svg.words(16, 20, "Coherence of gradients, (c − c0) / (1 − c0)", "heading")
        page = f'<rect width="{total:.0f}" height="{below + 14}" rx="10" style="fill:var(--page)"/>'
        return document(total, below + 14, page + title + "".join(drawn), "Coherence of gradients over training")


def _mean(part: np.ndarray) -> np.ndarray:
    """The mean over the last axis of what is known; NaN where nothing is."""
    known = ~np.isnan(part)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, part, 0).sum(-1) / np.maximum(count, 1), np.nan)
