"""Team: the ranks that train one model together, for ``Trainer(agents=...)``.

    with agents.world() as comm:
        trainer = Trainer(model, "cross_entropy", "adamw", lr=1e-3, agents=agents.Team(comm, micro_batches=8))
        trainer.fit((x, y), epochs=10, batch_size=256)

Every rank runs the same program. A batch is cut into micro-batches (``Shares``); each rank computes some of them, and the
gradients become one mean in the order of the tree (``reduction``), so a run has the same bits on any number of ranks, one
included, and may go on from a checkpoint on another number. For that, nothing a micro-batch depends on may depend on who
computes it:

* random streams in the model (dropout) are set for each micro-batch from (seed, epoch, batch, micro-batch);
* running statistics (batch normalisation) start from the same values in each micro-batch, and what they become is averaged as
  the gradients are. Normalisation itself uses the statistics of a micro-batch ("ghost" batch normalisation);
* losses and metrics are those of all micro-batches, in their order. For metrics other than the loss every rank gets all
  predictions and targets, which a model with large outputs may not want: leave the metrics of training out then.

Validation is computed by every rank (it is cheaper than a step, and needs no messages), and what follows from it is decided by the
first rank's figures. A loss that is not finite, or Ctrl-C on any rank, stops all of them at the same step.

Where the communicator survives a lost rank, a step that was under way is done again by those that are left, from the same
parameters, running statistics and random streams (``survive``): nothing of these is touched before all ranks have the whole step. What the
first rank may have left undone (a row for the loggers, a checkpoint) the next one does again, as a run that was resumed would.
"""

import io
import json
import math
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from autograd.gradients.base import link_of
from autograd.lazy import gradients
from autograd.train.state import load_streams, streams, streams_state

from .buckets import BUCKET_BYTES
from .communicator import Communicator
from .data_parallel import Shares, all_reduce, examples, part
from .recorder import Recorder
from .statistics import is_synced
from .survive import together

T = TypeVar("T")


class Team:
    """Ranks that share the work of every batch.

    Args:
        comm: the ranks, or ``Alone()`` for one that has the bits of many. A ``Recorder`` is told of every step.
        micro_batches: parts of a batch, at least as many as ranks. The bits depend on it, and on nothing else here.
        bucket_bytes: gradients are sent together up to so many bytes.

    Attributes:
        leads: whether this rank logs and saves.
    """

    def __init__(self, comm: Communicator, micro_batches: int = 8, *, bucket_bytes: int = BUCKET_BYTES):
        self.comm, self.micro_batches, self.bucket_bytes = comm, micro_batches, bucket_bytes
        self.owed: list[tuple[str, Any]] = []
        self._trainer: Any = None
        self._share_out()

    def _share_out(self) -> None:
        self.shares = Shares(self.comm, self.micro_batches)
        self._link = link_of(all_reduce(self.comm, self.micro_batches, bucket_bytes=self.bucket_bytes))

    @property
    def leads(self) -> bool:
        return self.comm.rank == 0

    def join(self, trainer: Any) -> None:
        """Work for a trainer, which calls this when it starts to train."""
        self._trainer = trainer
        if is_synced(trainer.model):
            raise ValueError(
                "Team computes micro-batches one after the other, so batch normalisation cannot be synchronised between ranks: leave "
                "out sync_statistics (running statistics are averaged), or use agents.backward in a loop of your own"
            )

    def owe(self, what: str, value: Any) -> None:
        """Remember what the first rank does now, in case that it is lost before it has: for ``Trainer.take_over``."""
        self.owed.append((what, value))

    def agree(self, flag: bool) -> bool:
        """Whether any rank says True."""
        return self._together(lambda: self.comm.agree(flag)) or flag if self.comm.size > 1 else flag

    def same(self, row: dict[str, Any]) -> dict[str, Any]:
        """The first rank's row of figures, on every rank."""
        if self.comm.size == 1:
            return row
        said = json.dumps(row, default=float).encode()
        return json.loads(self._together(lambda: self.comm.all_gather_bytes(said if self.leads else b""))[0])  # type: ignore[no-any-return]

    def _together(self, attempt: Callable[[], T], undo: Callable[[], None] | None = None) -> T:
        led = self.leads

        def regroup(lost: list[int]) -> None:
            nonlocal led
            if undo is not None:
                undo()
            self._share_out()
            if self.leads:
                self._tell(lost)
                if not led:
                    self._trainer.take_over(self.owed)
            led = self.leads

        found = together(self.comm, attempt, regroup)
        self.owed.clear()
        return found

    def _tell(self, lost: list[int]) -> None:
        ranks, left = ", ".join(map(str, lost)), self.comm.size
        print(
            f"step {self._trainer.step + 1}: rank{'s' * (len(lost) > 1)} {ranks} lost; {left} rank{'s' * (left > 1)} "
            f"go{'es' * (left == 1)} on from the same parameters, with {self.micro_batches} micro-batches between them",
            file=sys.stderr, flush=True,
        )  # fmt: skip

    def differentiate(self, trainer: Any, batch: Any) -> tuple[int, float, list[tuple]]:
        """What ``Trainer.differentiate`` does for a batch, by all ranks together; the parameters' ``.grad`` is the mean."""
        model, params = trainer.model, trainer.optimizer.params
        undo = load_streams(model, streams_state(model)) if self.comm.survives else None
        means, statistics, measured = self._together(lambda: self._computed(trainer, batch), undo)
        # all ranks that are left have the whole step: only now something changes
        self._set_streams(trainer, self.micro_batches)  # where they rest is the same on every rank
        for p, mean in zip(params, means, strict=True):
            p.node.grad = mean
        _put(model, statistics)
        if isinstance(self.comm, Recorder):
            self.comm.step()
        return (examples(batch), *measured)

    def _computed(self, trainer: Any, batch: Any) -> tuple[list, dict[str, Any], tuple[float, list[tuple]]]:
        """The mean gradients, what running statistics become, and the loss and what metrics see. The model stays as it was, but for
        its streams and ``.grad``."""
        n, spans = examples(batch), self.shares.spans(examples(batch))
        params, kept = trainer.optimizer.params, dict(_statistics(trainer.model))
        leaves = [p.raw for p in params] + [b.raw for b in kept.values() if b.raw.dtype.kind == "f"]
        state = self._link.start(leaves, None)
        losses, seen = [0.0] * len(spans), []
        counts: dict[str, Any] = {}
        updates: list[Any] = []
        for k, (slot, (start, stop)) in enumerate(zip(self.shares.own, spans, strict=True)):
            found: list[Any] = [None] * len(leaves)
            if start < stop:
                self._set_streams(trainer, slot)
                _, losses[k], one = trainer.differentiate(part(batch, start, stop), [])
                seen += one
                moved = dict(_statistics(trainer.model))
                counts = {name: b.raw for name, b in moved.items() if b.raw.dtype.kind != "f"} or counts
                found = gradients(params) + [b.raw for b in moved.values() if b.raw.dtype.kind == "f"]
                _put(trainer.model, kept)
            state["weight"] = float(stop - start)
            updates, state = self._link.step(found, state, leaves, None)
        statistics = self._average(kept, updates[len(params) :], counts)
        return updates[: len(params)], statistics, self._measured(trainer, n, losses, seen)

    def _average(self, kept: dict[str, Any], means: list, counts: dict[str, Any]) -> dict[str, Any]:
        """The model's running statistics as the means of what they became, and its counters as the ranks' largest."""
        floats, new = iter(means), {}
        whole = [b for b in kept.values() if b.raw.dtype.kind != "f"]
        if whole:
            found = np.array([int(counts.get(name, b.raw)) for name, b in kept.items() if b.raw.dtype.kind != "f"])
            numbers = iter(self.comm.all_reduce(found, "max").wait().tolist())
        for name, b in kept.items():
            value = next(floats) if b.raw.dtype.kind == "f" else b.raw.dtype.type(next(numbers))
            new[name] = b if value is None else type(b)(value)
        return new

    def _measured(self, trainer: Any, n: int, losses: list[float], seen: list) -> tuple[float, list[tuple]]:
        """The mean loss, and what metrics see: that of all micro-batches in their order."""
        most, sizes = self.shares.most, self.shares.sizes(n)
        gathered = self.comm.all_gather_now(np.array(losses + [0.0] * (most - len(losses))))
        everyone = [loss for row, each in zip(gathered, sizes, strict=True) for loss in row[: len(each)].tolist()]
        weights = [size for each in sizes for size in each]
        if not all(map(math.isfinite, everyone)):
            return math.nan, []
        value = math.fsum(w * loss for w, loss in zip(weights, everyone, strict=True)) / n
        there = [(w, loss) for w, loss in zip(weights, everyone, strict=True) if w]
        if len(trainer.watched) == 1:  # the loss alone, which counts examples
            return value, [(None, np.empty(w, np.int8), loss) for w, loss in there]
        if self.comm.size > 1:
            came = self.comm.all_gather_bytes(_encoded([array for one in seen for array in one[:2]]))
            arrays = [array for data in came for array in _decoded(data)]
            pairs = list(zip(arrays[::2], arrays[1::2], strict=True))
        else:
            pairs = [one[:2] for one in seen]
        return value, [(*pair, loss) for pair, (_, loss) in zip(pairs, there, strict=True)]

    def _set_streams(self, trainer: Any, slot: int) -> None:
        for number, (_, rng) in enumerate(streams(trainer.model)):
            key = (trainer.epoch, trainer.batch, slot, number)
            sequence = np.random.SeedSequence(trainer.seed, spawn_key=key)
            rng.bit_generator.state = type(rng.bit_generator)(sequence).state


def _statistics(model: Any) -> Any:
    """Name and tensor of every buffer: what a model remembers that is not trained."""
    return ((name, b) for name, b in model.named_buffers() if b is not None)


def _put(model: Any, values: dict[str, Any]) -> None:
    modules = dict(model.named_modules())
    for name, value in values.items():
        path, _, own = name.rpartition(".")
        setattr(modules[path], own, value)


def _encoded(arrays: list) -> bytes:
    out = io.BytesIO()
    for a in arrays:
        np.lib.format.write_array(out, np.asarray(a), allow_pickle=False)
    return out.getvalue()


def _decoded(data: bytes) -> list[np.ndarray]:
    source, found = io.BytesIO(data), []
    while source.tell() < len(data):
        found.append(np.lib.format.read_array(source, allow_pickle=False))
    return found
