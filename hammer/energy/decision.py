"""Decision: one line of a log of decisions, with what was predicted and what came of it."""

from dataclasses import dataclass, field


@dataclass
class Decision:
    """What was decided at a step, why, what it was predicted to do, and what came of it (None: not known yet)."""

    step: int
    what: str
    choice: float | str
    reason: str
    predicted: dict[str, float] = field(default_factory=dict)
    realised: dict[str, float] | None = None

    def __str__(self) -> str:
        numbers = lambda values: ", ".join(f"{k} {v:.4g}" for k, v in values.items()) or "–"
        came = "not known yet" if self.realised is None else numbers(self.realised)
        return f"step {self.step}: {self.what} → {self.choice} ({self.reason}); predicted: {numbers(self.predicted)}; realised: {came}"
