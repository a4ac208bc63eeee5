"""Recomputation or memory traffic: for each layer, whether its activations are kept for the backward pass or computed again.

    decisions = recompute_or_keep(model, lambda: loss(model(x), y), "7nm")
    with recomputed(model, [path for path, d in decisions.items() if d.choice == "recompute"]):
        train()

Keeping costs a write and a read of what is kept, at the level of memory that holds all that is moved between the two. Computing again costs
the operations again. Both are priced by a technology table; what is kept and which operations run again is not guessed but tried: a
pass for each layer with that layer alone in a ``checkpoint``.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from autograd import AutogradContext, checkpoint
from autograd.nn import Module
from autograd.tape import BackwardPass, next_serial

from .decision import Decision
from .forwards import wrapped
from .model import Work, backward_work, forward_work, recomputation
from .technologies import Technology, technology


def recompute_or_keep(
    model: Module, loss: Callable[[], Any], table: Technology | str = "45nm", layers: Sequence[str] | None = None,
    static_watts: float | None = None,
) -> dict[str, Decision]:  # fmt: skip
    """For the path of each layer a decision, "recompute" or "keep": what is predicted to cost fewer joules.

    Args:
        model: it runs in evaluation mode: nothing is drawn and no running statistics move, but masks of dropout are not counted.
        loss: computes a scalar loss of the model on a batch of the size that training will have.
        table: prices of arithmetic and of memory by level.
        layers: paths of modules, each kept or computed again as a whole; None: the model's children. Layers inside one another count twice.
        static_watts: in place of the table's: power that flows while a layer is computed again, for as long as it took in the forward pass.

    ``predicted`` has the bytes that are not kept ("bytes"), the joules of their traffic ("traffic") and of computing again ("again",
    static power included), and their difference "saved", from a pass in which this layer alone is computed again. ``realised`` has the
    same, as it came with the layers before it that were chosen too: values that two layers share are saved once. It is None where the
    layer is kept. Joules are modelled, not measured.

    Raises:
        ValueError: the model has no layers, or none of that path.
    """
    paths = [path for path, _ in model.named_children()] if layers is None else list(layers)
    if not paths:
        raise ValueError(
            "recompute_or_keep: the model has no modules inside; give the paths of some, or split it into layers"
        )
    prices = table if isinstance(table, Technology) else technology(table)
    watts = prices.static.value if static_watts is None else static_watts
    found: dict[str, Decision] = {}
    chosen: list[str] = []
    with model.evaluating():
        plain = min((_passed(model, loss, paths, []) for _ in range(3)), key=lambda p: sum(p.seconds.values()))
        for path in paths:
            alone = _effect(plain, plain, _passed(model, loss, paths, [path]), path, prices, watts)
            choice = "recompute" if alone["saved"] > 0 else "keep"
            level = prices.level(plain.live[path]).name
            reason = (
                f"{alone['bytes']:.4g} bytes come back from {level}: {plain.live[path]:.3g} bytes are moved in between"
            )
            found[path] = Decision(0, f"activations of {path}", choice, reason, alone)
        before = plain
        for path, decision in found.items():
            if decision.choice == "recompute":
                chosen.append(path)
                after = _passed(model, loss, paths, chosen)
                decision.realised = _effect(plain, before, after, path, prices, watts)
                before = after
    return found


@contextmanager
def recomputed(model: Module, layers: Sequence[str]) -> Iterator[None]:
    """Inside the block, what the modules of these paths would keep for the backward pass is computed again instead (``autograd.checkpoint``).

    The backward pass may run inside or outside. Gradients are the same to the last bit.
    """
    with wrapped("recomputed", model, dict.fromkeys(layers, checkpoint)):
        yield


@dataclass
class _Pass:
    """A forward and backward pass: bytes kept, operations that ran again, and by layer what was moved between its forward and its
    backward, and the seconds of its forward."""

    kept: int = 0
    again: list[Work] = field(default_factory=list)
    live: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class _Listener(AutogradContext):
    def __init__(self) -> None:
        super().__init__(observer=self._heard)
        self.forward: list[Work] = []
        self.again: list[Work] = []
        self.rules: list[tuple[int, float]] = []
        self.backward = False

    def _heard(self, row: Any, inputs: tuple, params: dict, outputs: tuple) -> None:
        if params.get("backward") is not True:
            (self.again if self.backward else self.forward).append(forward_work(row, inputs, params, outputs))

    def differentiated(self, node: Any, parent: Any, g: Any, d: Any) -> None:
        self.rules.append((node.serial, backward_work(g, node, parent, getattr(d, "raw", d)).bytes))
        super().differentiated(node, parent, g, d)


def _passed(model: Module, loss: Callable[[], Any], paths: Sequence[str], again: Sequence[str]) -> _Pass:
    ends: dict[str, tuple[int, int]] = {}
    found = _Pass()
    with _Listener() as listener:

        def noted(path: str) -> Callable[[Callable], Callable]:
            def wrap(forward: Callable) -> Callable:
                inner = checkpoint(forward) if path in again else forward

                def run(*args: Any, **kwargs: Any) -> Any:
                    begin = time.perf_counter()
                    out = inner(*args, **kwargs)
                    found.seconds[path] = found.seconds.get(path, 0.0) + time.perf_counter() - begin
                    ends[path] = len(listener.forward), next_serial()
                    return out

                return run

            return wrap

        with wrapped("recomputed", model, {path: noted(path) for path in paths}):
            there = BackwardPass([loss()])
        found.kept = there.bytes_retained
        listener.backward = True
        there.run()
    found.again = listener.again
    for path in paths:
        if path not in ends:
            raise ValueError(f"recompute_or_keep: the loss does not call the module {path!r}")
        place, serial = ends[path]
        found.live[path] = sum(w.bytes for w in listener.forward[place:]) + sum(
            b for s, b in listener.rules if s >= serial
        )
    return found


def _effect(plain: _Pass, before: _Pass, after: _Pass, path: str, table: Technology, watts: float) -> dict[str, float]:
    """What it saves to compute a layer again: the pass without that, and with it."""
    freed = float(max(0, before.kept - after.kept))
    price = lambda works, kept: recomputation(works, kept, plain.live[path], table)
    again = price(before.again, 0.0) - price(after.again, 0.0) + watts * plain.seconds[path]
    traffic = price([], freed)
    return {"bytes": freed, "traffic": traffic, "again": again, "saved": traffic - again}
