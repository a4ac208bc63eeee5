"""Optimizer: a gradient transform that steps the parameters of a model.

    optimizer = AdamW(model.parameters(), lr=1e-3)
    for batch in data:
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()

A face such as ``AdamW`` (``faces``) is a recipe and a list of parameters; ``Optimizer(parameters, chain(...))`` takes any
chain. All that changes from step to step is in ``optimizer.state``, a tree of arrays and numbers.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import optree

from .. import backend
from ..gradients import GradientTransform
from ..gradients.base import APPLIED, link_of, list_spec
from ..gradients.scaling import number
from ..lazy import gradients
from ..sparse import RowSparse
from ..tensor import DiffTensor


class Optimizer:
    """Steps parameters with a gradient transform.

    Args:
        params: the parameters: DiffTensors that are leaves, in any iterable.
        transform: what turns their gradients into updates, a chain or recipe of ``autograd.gradients``.

    Attributes:
        params: the parameters, a list.
        state: the transform's state.

    Raises:
        TypeError: something else than a DiffTensor, or a transform that is none.
        ValueError: no parameters, one given twice, or one that is not a leaf.
    """

    def __init__(self, params: Iterable[DiffTensor], transform: GradientTransform):
        self.params = parameters(params)
        self._link = link_of(transform)
        raws = [p.raw for p in self.params]
        self._spec = list_spec(raws)
        self.state: Any = self._link.init(raws)
        self._evaluating = False

    def step(self, grads: list | None = None) -> None:
        """One update of every parameter that has a gradient; the others, and their state, stay as they are.

        Args:
            grads: gradients (or None) in the order of ``params``, to be used in place of the parameters' own ``.grad``.
        """
        if self._evaluating:
            raise RuntimeError("step: the parameters are those of evaluation(); step after its with-block has ended")
        params = self.params
        own = gradients(params)  # even if others are used: pending ones need the parameters as they are now
        grads = own if grads is None else grads
        if not [g for g in grads if g is not None]:
            return
        updates, self.state = self._link.step(grads, self.state, [p.raw for p in params], self._spec, apply=True)
        self.apply(updates)

    def apply(self, updates: list) -> None:
        """Add updates (None: there is none), in the order of ``params``, to the parameters, in place. The state stays as it is."""
        for p, update in zip(self.params, updates, strict=True):
            if update is APPLIED:
                p.renew()
            elif type(update) is RowSparse:
                p.renew()
                p.raw = update.added_to(p.raw)
            elif update is not None:
                p.add_(update)

    def transformed(self, grads: list) -> list:
        """The updates that gradients (or None), in the order of ``params``, become. The state moves on, the parameters stay."""
        updates, self.state = self._link.step(list(grads), self.state, [p.raw for p in self.params], self._spec)
        return updates

    def zero_grad(self) -> None:
        """Forget all gradients: ``.grad`` is None again."""
        for p in self.params:
            if p.node is not None:
                p.grad = None  # not read before: reading would compute a pending one

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """``with optimizer.evaluation(): ...``: the parameters are those to judge and to save the model by.

        For most methods they are those that are stepped, and nothing happens. Lookahead puts its slow weights in place, and the
        schedule-free methods their average; when the block ends the others are back, to the bit. A step inside is an error.
        """
        before = [p.raw for p in self.params]
        judged = self._link.evaluation(self.state, before)
        outer, self._evaluating = self._evaluating, True
        changed = [] if outer else [
            (p, own, other) for p, own, other in zip(self.params, before, judged, strict=True) if other is not own
        ]  # fmt: skip
        try:
            for p, _, other in changed:
                p.renew()
                p.raw = other
            yield
        finally:
            self._evaluating = outer
            for p, own, _ in changed:
                p.renew()
                p.raw = own

    @property
    def lr(self) -> float:
        """The learning rate of the next step. Set it for all parameters; with a schedule it then holds for one step."""
        rates = {place["lr"] for place in self.rates()}
        if len(rates) > 1:
            raise ValueError(
                f"lr: the groups have several learning rates, {sorted(rates)}; they are in optimizer.state"
            )
        return rates.pop()

    @lr.setter
    def lr(self, value: float) -> None:
        rate = number("lr", value)
        for place in self.rates():
            place["lr"] = rate

    def rates(self) -> list[dict]:
        """The parts of the state that hold a learning rate, under ``"lr"``: one for each group."""
        found = list(_with_lr(self.state))
        if not found:
            raise AttributeError("lr: this chain has no learning rate; end it with scale_by_lr(lr)")
        return found

    # ---- saving ----

    def _named(self) -> tuple[dict[str, Any], Any]:
        paths, leaves, spec = optree.tree_flatten_with_path(self.state)
        return {".".join(map(str, path)): leaf for path, leaf in zip(paths, leaves, strict=True)}, spec

    def state_dict(self) -> dict[str, Any]:
        """The state as a flat dict: name -> NumPy array (a copy) or Python number. Parameters are not in it."""
        named, _ = self._named()
        return {name: np.array(backend.to_device(x, "cpu")) if backend.is_array(x) else x for name, x in named.items()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over a state made by ``state_dict`` of an equal optimizer; steps then go on bit for bit.

        Raises:
            KeyError: names that are missing, or that this optimizer does not have.
            ValueError: an array of another shape or dtype, or an array where a number is kept.
            Nothing is changed then.
        """
        named, spec = self._named()
        for what, names in (
            ("lacks", named.keys() - saved.keys()),
            ("has the unknown entry", saved.keys() - named.keys()),
        ):
            if names:
                raise KeyError(
                    f"load_state_dict: the saved state {what} {min(names)!r} ({len(names)} in all); it is from another optimizer or model"
                )
        self.state = optree.tree_unflatten(spec, [_loaded(name, own, saved[name]) for name, own in named.items()])

    def __repr__(self) -> str:
        rates = ", ".join(f"{place['lr']:g}" for place in _with_lr(self.state))
        return f"{type(self).__name__}({len(self.params)} parameters, lr={rates or None})"


def _with_lr(state: Any) -> Iterator[dict]:
    if isinstance(state, dict) and "lr" in state:
        yield state
    for part in state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ():
        if isinstance(part, (dict, list, tuple)):
            yield from _with_lr(part)


def _loaded(name: str, own: Any, value: Any) -> Any:
    if not backend.is_array(own):
        if np.ndim(value) != 0:
            raise ValueError(
                f"load_state_dict: {name!r} is a number here, but an array of shape {np.shape(value)} in the saved state"
            )
        return type(own)(value)
    if tuple(np.shape(value)) != tuple(own.shape):
        raise ValueError(
            f"load_state_dict: {name!r} has shape {tuple(own.shape)} here, but {np.shape(value)} in the saved state"
        )
    array = np.asarray(value)
    if str(array.dtype) != str(own.dtype).rpartition(".")[2]:
        raise ValueError(f"load_state_dict: {name!r} is {own.dtype} here, but {array.dtype} in the saved state")
    if isinstance(own, np.ndarray):
        return array.copy()
    return backend.xp(own).asarray(array, device=own.device, copy=True)


def parameters(params: Any) -> list[DiffTensor]:
    """The parameters as a list, checked."""
    if isinstance(params, DiffTensor):
        raise TypeError("params must be an iterable of DiffTensors, not one DiffTensor; write [parameter]")
    found = list(params)
    if not found:
        raise ValueError("params is empty: an optimizer needs parameters (was a generator used up before?)")
    for i, p in enumerate(found):
        if not isinstance(p, DiffTensor):
            raise TypeError(f"params[{i}] is {type(p).__name__} {p!r:.60}; parameters must be DiffTensors")
        if not p.is_leaf:
            raise ValueError(
                f"params[{i}], of shape {tuple(p.shape)}, is the result of an operation; only leaves can be optimized: detach() it first"
            )
        if p.raw is None:
            raise ValueError(f"params[{i}], of shape {tuple(p.shape)}, is symbolic: it has no value to optimize")
    if len({id(p) for p in found}) < len(found):
        raise ValueError("params holds the same parameter twice")
    return found
