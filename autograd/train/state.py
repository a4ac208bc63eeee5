"""What a trainer keeps: its history, models that are functions, the random streams inside a model, and its whole state."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..nn import Module
from ..tensor import DiffTensor


class History:
    """The rows of the epochs so far. ``history["val_loss"]`` is a list with one value an epoch; ``final`` is the last row.

    >>> history = History([{"epoch": 1, "val_loss": 2.0}, {"epoch": 2, "val_loss": 1.5}])
    >>> history["val_loss"], history.final["epoch"], len(history)
    ([2.0, 1.5], 2, 2)
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = ()):
        self.rows = [dict(row) for row in rows]

    @property
    def final(self) -> dict[str, Any]:
        """The row of the last epoch; empty before the first."""
        return self.rows[-1] if self.rows else {}

    def __getitem__(self, name: str) -> list[Any]:
        if not any(name in row for row in self.rows):
            raise KeyError(f"the history has no {name!r}; it has {', '.join(self.final) or 'no epochs yet'}")
        return [row.get(name) for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        values = (f"{k}={v:.6g}" for k, v in self.final.items() if isinstance(v, float) and "second" not in k)
        return f"History({len(self)} epochs; final: {', '.join(values)})"


class Function(Module):
    """A function of inputs as a model: its parameters are tensors that it reads from outside."""

    def __init__(self, function: Callable[..., Any], params: Iterable[DiffTensor]):
        super().__init__()
        self.function = function
        for i, parameter in enumerate(params):
            self.register_parameter(str(i), parameter)

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


def streams(model: Module) -> Iterator[tuple[str, np.random.Generator]]:
    """The generators that are attributes of a model's modules, such as those of dropout, by dotted name."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, np.random.Generator):
                yield f"{path}.{name}" if path else name, value


def streams_state(model: Module) -> dict[str, dict[str, Any]]:
    """Where each stream is."""
    return {name: copy.deepcopy(dict(rng.bit_generator.state)) for name, rng in streams(model)}


def load_streams(model: Module, saved: dict[str, dict[str, Any]]) -> Callable[[], None]:
    """Check the saved places of the streams; returns a function that puts the streams there.

    Raises:
        ValueError: other streams than the model's, or of another kind of generator.
    """
    own = dict(streams(model))
    if own.keys() != saved.keys():
        odd = min(own.keys() ^ saved.keys())
        where = "in the model, but not in the saved state" if odd in own else "in the saved state, but not in the model"
        raise ValueError(f"the random stream {odd!r} is {where}; build the model as it was when it was saved")
    for name, rng in own.items():
        kind = type(rng.bit_generator).__name__
        if saved[name].get("bit_generator") != kind:
            raise ValueError(
                f"the random stream {name!r} is of {saved[name].get('bit_generator')}, the model's of {kind}"
            )

    def put() -> None:
        for name, rng in own.items():
            rng.bit_generator.state = copy.deepcopy(saved[name])

    return put


# ---- the state of a trainer ----

PLACE = ("epoch", "batch", "step", "logged", "skipped")


def state_of(trainer: Any) -> dict[str, Any]:
    """All that the rest of a trainer's run depends on: nested dicts of arrays on the host and JSON values."""
    return {
        "about": copy.deepcopy(trainer.about),
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "before": trainer.before.state_dict(),
        "streams": streams_state(trainer.model),
        "metrics": {m.name: m.state_dict() for m in trainer.watched},
        "callbacks": {name: c.state_dict() for name, c in _remembering(trainer.callbacks).items()},
        "history": copy.deepcopy(trainer.history.rows),
        "best": copy.deepcopy(trainer.best),
        "stopped": trainer.stopped,
        "place": {name: getattr(trainer, name) for name in PLACE},
    }


def put_state(trainer: Any, state: dict[str, Any]) -> None:
    """Bring a trainer into a state of ``state_of``, or raise and leave it as it was."""
    before = state_of(trainer)
    lacking = before.keys() - state.keys()
    if lacking:
        raise ValueError(f"load_state_dict: this is no state of a Trainer: it has no {min(lacking)!r}")
    for what in ("callbacks", "metrics"):
        if before[what].keys() != state[what].keys():
            raise ValueError(
                f"load_state_dict: the saved {what} are {', '.join(state[what]) or 'none'}, this trainer's "
                f"{', '.join(before[what]) or 'none'}; make the trainer as it was when it was saved"
            )
    put_streams = load_streams(trainer.model, state["streams"])
    try:
        _put(trainer, state)
    except (ValueError, KeyError, TypeError):
        _put(trainer, before)
        raise
    put_streams()


def _put(trainer: Any, state: dict[str, Any]) -> None:
    trainer.model.load_state_dict(state["model"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.before.load_state_dict(state["before"])
    for m in trainer.watched:
        m.load_state_dict(state["metrics"][m.name])
    for name, c in _remembering(trainer.callbacks).items():
        c.load_state_dict(state["callbacks"][name])
    trainer.history = History(state["history"])
    trainer.best, trainer.stopped = copy.deepcopy(state["best"]), state["stopped"]
    for name in PLACE:
        setattr(trainer, name, int(state["place"][name]))


def _remembering(callbacks: Iterable[Any]) -> dict[str, Any]:
    """The callbacks that have a state, by name."""
    found: dict[str, Any] = {}
    for c in callbacks:
        if c.state:
            name = base = type(c).__name__
            n = 1
            while name in found:
                n += 1
                name = f"{base}_{n}"
            found[name] = c
    return found
