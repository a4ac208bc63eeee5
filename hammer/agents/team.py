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
* where a step has several batches (``accumulate``), each micro-batch goes through its parts of all of them, one after the other,
  as a process by itself would: its gradient is their mean, its running statistics move with each of them, and only then
  the ranks talk, once;
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
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from autograd import DiffTensor
from autograd.gradients.base import link_of
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

    def differentiate(self, trainer: Any, batches: Sequence[Any]) -> list[tuple[int, float, list[tuple]]]:
        """What ``Trainer.differentiate`` does for each batch of a window, by all ranks together, who talk once for the whole window;
        the parameters' ``.grad`` is the mean over all its examples.

        Args:
            trainer: whose ``batch`` is the number of the first one.
            batches: that make one step; the same on every rank.
        """
        if not batches:
            return []
        batches = [tuple(batch) if isinstance(batch, list) else batch for batch in batches]
        model, params = trainer.model, trainer.optimizer.params
        undo = load_streams(model, streams_state(model)) if self.comm.survives else None
        means, statistics, measured = self._together(lambda: self._computed(trainer, batches), undo)
        # all ranks that are left have the whole step: only now something changes
        self._set_streams(trainer, len(batches) - 1, self.micro_batches)  # where they rest is the same on every rank
        for p, mean in zip(params, means, strict=True):
            p.node.grad = mean
        _put(model, statistics)
        if isinstance(self.comm, Recorder):
            self.comm.step()
        return measured

    def _computed(
        self, trainer: Any, batches: Sequence[Any]
    ) -> tuple[list, dict[str, Any], list[tuple[int, float, list[tuple]]]]:
        """The mean gradients, what running statistics become, and the losses and what metrics see. The model stays as it was, but for
        its streams and ``.grad``."""
        spans = [self.shares.spans(examples(batch)) for batch in batches]
        params, kept = trainer.optimizer.params, _statistics(trainer.model)
        leaves = [p.raw for p in params] + [raw for raw in kept.values() if raw.dtype.kind == "f"]
        counts = {name: raw for name, raw in kept.items() if raw.dtype.kind in "iu"}
        changed: set[str] = set()
        state = self._link.start(leaves, None)
        losses = np.zeros((len(batches), self.shares.most))
        seen: list[list[tuple]] = [[] for _ in batches]
        updates: list[Any] = []
        # A micro-batch goes through all batches of the window before the next one does, as a process by itself would: one gradient is
        # held at a time, and nothing is sent before the end.
        for k, slot in enumerate(self.shares.own):
            window: list[tuple[int, float]] = []
            for number, batch in enumerate(batches):
                start, stop = spans[number][k]
                if start < stop:
                    self._set_streams(trainer, number, slot)
                    n, losses[number, k], one = trainer.differentiate(part(batch, start, stop), window)
                    window.append((n, losses[number, k]))
                    seen[number] += one
            found: list[Any] = [None] * len(leaves)
            if window:
                moved = _statistics(trainer.model)
                counts = {name: np.maximum(count, moved[name]) for name, count in counts.items()}
                changed |= {name for name, raw in kept.items() if not np.array_equal(raw, moved[name])}
                found = trainer.mean_gradients(window) + [
                    moved[name] for name, raw in kept.items() if raw.dtype.kind == "f"
                ]
                _put(trainer.model, kept)
            state["weight"] = float(sum(stop - start for start, stop in (each[k] for each in spans)))
            updates, state = self._link.step(found, state, leaves, None)
        statistics = self._average(kept, updates[len(params) :], counts, changed)
        return updates[: len(params)], statistics, self._measured(trainer, [examples(b) for b in batches], losses, seen)

    def _average(self, kept: dict[str, Any], means: list, counts: dict[str, Any], changed: set[str]) -> dict[str, Any]:
        """The model's running statistics as the means of what they became, and its counters as the ranks' largest; what no micro-batch
        has changed (positions, masks, statistics that are frozen) stays."""
        if not kept:
            return {}
        floats = iter(means)
        flags = np.array([name in changed for name in kept], np.int64)
        said = np.concatenate([flags, *(np.ravel(count).astype(np.int64) for count in counts.values())])
        self.comm.all_reduce_in_place(said, "max")
        new, rest = {}, said[len(kept) :]
        for (name, raw), moved in zip(kept.items(), said.tolist(), strict=False):
            value = next(floats) if raw.dtype.kind == "f" else None
            if name in counts:
                own, rest = np.split(rest, [np.size(raw)])
                value = own.reshape(np.shape(raw)).astype(raw.dtype)[()]
            # a copy: means share the memory of messages
            new[name] = DiffTensor(value).raw if moved and value is not None else raw
        return new

    def _measured(
        self, trainer: Any, counts: list[int], losses: np.ndarray, seen: list[list[tuple]]
    ) -> list[tuple[int, float, list[tuple]]]:
        """For each batch its examples, the mean loss, and what metrics see: that of all micro-batches in their order."""
        gathered = self.comm.all_gather_now(losses.reshape(-1)).reshape(-1, *losses.shape)
        found: list[tuple[int, float, list[tuple]]] = []
        told: list[tuple[int, list[tuple[int, float]]]] = []  # batches with a loss: examples and losses of their parts
        for number, n in enumerate(counts):
            sizes = self.shares.sizes(n)
            weights = [size for each in sizes for size in each]
            everyone = [
                loss for row, each in zip(gathered, sizes, strict=True) for loss in row[number, : len(each)].tolist()
            ]
            if not all(map(math.isfinite, everyone)):
                found.append((n, math.nan, []))
                continue
            there = [(w, loss) for w, loss in zip(weights, everyone, strict=True) if w]
            told.append((number, there))
            value = math.fsum(w * loss for w, loss in zip(weights, everyone, strict=True)) / n
            found.append((n, value, [(None, np.empty(w, np.int8), loss) for w, loss in there]))
        if len(trainer.watched) == 1 or not told:  # the loss alone, which counts examples
            return found
        own = [one[:2] for number, _ in told for one in seen[number]]
        if self.comm.size == 1:
            pairs = [iter(own)]
        else:
            came = self.comm.all_gather_bytes(_encoded([array for pair in own for array in pair]))
            pairs = [iter(list(zip(arrays[::2], arrays[1::2], strict=True))) for arrays in map(_decoded, came)]
        for number, there in told:
            n, value, _ = found[number]
            ranks = [each for each, sizes in zip(pairs, self.shares.sizes(n), strict=True) for size in sizes if size]
            found[number] = n, value, [(*next(each), loss) for each, (_, loss) in zip(ranks, there, strict=True)]
        return found

    def _set_streams(self, trainer: Any, number: int, slot: int) -> None:
        """The streams as a micro-batch of the batch with this number in the window has them."""
        for place, (_, rng) in enumerate(streams(trainer.model)):
            key = (trainer.epoch, trainer.batch + number, slot, place)
            sequence = np.random.SeedSequence(trainer.seed, spawn_key=key)
            rng.bit_generator.state = type(rng.bit_generator)(sequence).state


def _statistics(model: Any) -> dict[str, Any]:
    """The array of every buffer: what a model remembers that is not trained."""
    return {name: b.raw for name, b in model.named_buffers() if b is not None}


def _put(model: Any, arrays: dict[str, Any]) -> None:
    """Into the tensors that are there: a compiled step knows the model's tensors, and writes into them as well."""
    buffers = dict(model.named_buffers())
    for name, raw in arrays.items():
        buffers[name].raw = raw


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
