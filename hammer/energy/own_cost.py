"""What booking joules costs in time, as far as the ledger cannot see it itself: it goes into the ledger's budget."""

import contextvars
import functools
import time
from typing import Any

from autograd import DiffTensor
from autograd.tape import BackwardPass

from .meter import Meter
from .model import Modelled


@functools.cache
def own_cost(links: int = 30) -> tuple[float, float]:
    """What booking costs beside what it sees of itself, measured once on a chain of small operations: seconds that an operation or a
    rule takes longer when it is heard, without the hearing itself; and seconds of a mark (of a phase, or of a step)."""
    from ..context import HammerContext
    from .ledger import STEP

    weight: Any = DiffTensor([1.0, 2.0], requires_grad=True)

    def once() -> float:
        begin, x = time.perf_counter(), weight
        for _ in range(links):
            x = x * weight
        BackwardPass([x.sum()]).run()
        return time.perf_counter() - begin

    def heard() -> tuple[float, float, float]:
        with HammerContext(energy=Meter(Modelled()), budget=None) as context:
            ledger: Any = context.ledger
            seconds = once()
            calls = sum(s.calls for s in ledger._phases[STEP].parts.values())
            own, marks = ledger._own_step, []
            ledger.budget = 1e-12  # nothing more is heard
            for _ in range(6):
                begin = time.perf_counter()
                with context.phase("nothing"):
                    pass
                context.step()
                marks.append(time.perf_counter() - begin)
                once()  # so that the marks come as rarely as they do in training
        return (seconds - own) / calls, min(marks[1:]) / 2, 1.0 / calls

    def measure() -> tuple[float, float]:
        plain, found = zip(*((once(), heard()) for _ in range(7)), strict=True)
        each = min(f[0] for f in found) - min(plain) * found[0][2]
        return max(0.0, each), min(f[1] for f in found)

    return contextvars.Context().run(measure)  # nobody else hears it
