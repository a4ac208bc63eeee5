"""Ranks that are threads of this process: the communicator of tests, and of studies of many agents on one machine.

    results = agents.run(4, lambda comm: comm.all_reduce(np.ones(3)).wait())      # one result for each rank

One rank runs at a time, from one wait to the next: Python would run threads in turns anyway, at a much higher price for each
turn. Arrays are copied as they are posted, as a wire would. Unlike MPI, a mistake is named: ranks that call different operations,
or post different shapes, get an ``AgentsError`` that says who did what, and so do all ranks when one of them raises or
stays away for too long. With ``survive=True`` a rank that raises ``Killed`` is lost as one of MPI is by kill -9, and the others may
go on without it (``survive``).
"""

import functools
import math
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

import numpy as np

from .communicator import (
    OPERATIONS,
    TIMEOUT,
    AgentsError,
    Communicator,
    Pending,
    RankLost,
    check_neighbours,
    check_op,
    check_parts,
    check_rank,
)

Key = tuple[int, int]
"""Which group of ranks (0: all; each ``shrink`` makes the next), and which of its operations."""


class Killed(BaseException):
    """What a rank of ``run(..., survive=True)`` raises to be lost; no ordinary ``except`` is in its way."""


class _Board:
    """Where ranks post: a list of posts for each operation, in the order in which every rank calls them."""

    def __init__(self, size: int, timeout: float, survive: bool):
        if not timeout > 0:
            raise ValueError(f"run: timeout must be more than 0 s, not {timeout!r}")
        self.timeout, self.survive = None if timeout == math.inf else timeout, survive
        self.changed = threading.Condition()
        self.groups: list[list[int]] = [list(range(size))]
        self.dead: set[int] = set()
        self.called_off: set[int] = set()  # groups
        self.posts: dict[Key, dict[int, tuple]] = {}
        self.read: dict[Key, int] = {}
        self.votes: dict[tuple, dict[int, bool]] = {}
        self.decided: dict[tuple, Any] = {}
        self.failed: str | None = None

    def post(self, key: Key, rank: int, kind: tuple, value: Any) -> None:
        with self.changed:
            self._raise(key[0])
            posts = self.posts.setdefault(key, {})
            for other, (theirs, _) in posts.items():
                if theirs != kind:
                    self.fail(f"operation {key[1]}: rank {rank} calls {_said(kind)}, rank {other} {_said(theirs)}")
                    self._raise(key[0])
            posts[rank] = kind, value
            if len(posts) == len(self.groups[key[0]]):
                self.changed.notify_all()

    def whole(self, key: Key) -> bool:
        with self.changed:
            self._raise(key[0])
            return len(self.posts[key]) == len(self.groups[key[0]])

    def values(self, key: Key) -> list:
        """What the ranks of a group posted, once they all have."""
        with self.changed:
            group = self.groups[key[0]]
            away = lambda: sorted(set(group) - self.posts[key].keys())
            over = lambda: self.failed or key[0] in self.called_off or not away() or self.dead & set(away())
            if not self.changed.wait_for(over, self.timeout):
                self.fail(f"operation {key[1]}: ranks {away()} did not come within {self.timeout:g} s")
            if self.dead & set(away()):
                self.called_off.add(key[0])
                self.changed.notify_all()
            self._raise(key[0])
            found = [self.posts[key][rank][1] for rank in group]
            self.read[key] = self.read.get(key, 0) + 1
            if self.read[key] == len(group):
                del self.posts[key], self.read[key]
            return found

    def decide(self, what: tuple, rank: int, flag: bool, decide: Callable[[dict[int, bool]], Any]) -> Any:
        """What all ranks of group ``what[1]`` that are left decide on, once each has said something; the same for all."""
        with self.changed:
            votes, group = self.votes.setdefault(what, {}), set(self.groups[what[1]])
            votes[rank] = flag
            self.changed.notify_all()
            away = lambda: sorted(group - self.dead - votes.keys())
            if not self.changed.wait_for(lambda: self.failed or what in self.decided or not away(), self.timeout):
                self.fail(f"{what[0]}: ranks {away()} did not come within {self.timeout:g} s")
            if self.failed:
                raise AgentsError(self.failed)
            if what not in self.decided:
                self.decided[what] = decide(votes)
            return self.decided[what]

    def kill(self, rank: int) -> None:
        with self.changed:
            self.dead.add(rank)
            self.changed.notify_all()

    def fail(self, reason: str) -> None:
        with self.changed:
            self.failed = self.failed or reason
            self.changed.notify_all()

    def _raise(self, group: int) -> None:
        if self.failed:
            raise AgentsError(self.failed)
        if group in self.called_off:
            raise RankLost("another rank is lost")


def _said(kind: tuple) -> str:
    return f"{kind[0]}({', '.join(map(str, kind[1:]))})"


class Thread(Communicator):
    """One of the ranks of ``run``."""

    def __init__(self, board: _Board, rank: int):
        super().__init__()
        self.rank, self.size, self.survives = rank, len(board.groups[0]), board.survive
        self._board, self._self, self._group, self._calls, self._votes = board, rank, 0, 0, 0

    def _start(self, kind: tuple, value: Any, result: Callable[[list], Any], nbytes: int) -> Pending:
        key, self._calls = (self._group, self._calls), self._calls + 1
        self._board.post(key, self._self, kind, value)
        self.sent += nbytes if self.size > 1 else 0
        return Pending(lambda: result(self._board.values(key)), lambda: self._board.whole(key))

    def unanimous(self, flag: bool) -> bool:
        what, self._votes = ("unanimous", self._group, self._votes), self._votes + 1
        group = set(self._board.groups[self._group])
        found = self._board.decide(
            what, self._self, flag, lambda votes: None if self._board.dead & group else all(votes.values())
        )
        if found is None:
            raise RankLost("another rank is lost")
        return bool(found)

    def shrink(self) -> list[int]:
        if not self.survives:
            return super().shrink()
        board, before = self._board, self._board.groups[self._group]

        def smaller(_votes: dict[int, bool]) -> int:
            board.groups.append([rank for rank in before if rank not in board.dead])
            return len(board.groups) - 1

        self._group = board.decide(("shrink", self._group), self._self, True, smaller)
        left = board.groups[self._group]
        self.rank, self.size, self._calls, self._votes = left.index(self._self), len(left), 0, 0
        return sorted(set(before) - set(left))

    def all_reduce(self, x: np.ndarray, op: str = "sum") -> Pending:
        check_op(op)
        kind = "all_reduce", op, x.shape, x.dtype
        return self._start(
            kind, np.array(x), lambda found: functools.reduce(OPERATIONS[op], found[1:], found[0].copy()), x.nbytes
        )

    def all_gather(self, x: np.ndarray) -> Pending:
        return self._start(("all_gather", x.shape, x.dtype), np.array(x), np.stack, x.nbytes)

    def all_gather_bytes(self, data: bytes) -> list[bytes]:
        return self._start(("all_gather_bytes",), bytes(data), list, len(data)).wait()

    def all_to_all(self, x: np.ndarray, counts: Sequence[int], sources: Sequence[int]) -> Pending:
        check_parts(self, x, counts, sources)

        def mine(found: list) -> np.ndarray:
            got = [parts[self.rank] for parts in found]
            for other, (n, part) in enumerate(zip(sources, got, strict=True)):
                if len(part) != n:
                    raise AgentsError(
                        f"all_to_all: rank {other} sent {len(part)} elements to rank {self.rank}, which expects {n}"
                    )
            return np.concatenate(got)

        parts = np.split(np.array(x), np.cumsum(counts)[:-1])
        return self._start(("all_to_all", x.dtype), parts, mine, x.nbytes - parts[self.rank].nbytes)

    def exchange(self, x: np.ndarray, to: Sequence[int], source: Sequence[int]) -> Pending:
        check_neighbours(self, to, source)

        def mine(found: list) -> dict[int, np.ndarray]:
            for other, (_, receivers) in enumerate(found):
                if (self.rank in receivers) != (other in source):
                    told = "sends to" if self.rank in receivers else "does not send to"
                    raise AgentsError(
                        f"exchange: rank {other} {told} rank {self.rank}, which expects ranks {sorted(source)}"
                    )
            return {other: found[other][0].copy() for other in source}

        kind = "exchange", x.shape, x.dtype
        return self._start(kind, (np.array(x), frozenset(to)), mine, x.nbytes * len(to))

    def broadcast(self, x: np.ndarray, root: int = 0) -> np.ndarray:
        check_rank(self, root)
        kind = "broadcast", root, x.shape, x.dtype
        nbytes = x.nbytes if self.rank == root else 0
        return self._start(kind, np.array(x), lambda found: found[root].copy(), nbytes).wait()


def run(size: int, function: Callable[..., Any], *args: Any, timeout: float = TIMEOUT, survive: bool = False) -> list:
    """Run ``function(comm, *args)`` on so many ranks, each a thread; returns their results in the order of the ranks.

    Args:
        size: how many ranks.
        function: what each does with its communicator. The calling context (``contextvars``) is copied to it.
        timeout: seconds for which a rank waits for another, while these compute in turns too (math.inf: no limit).
        survive: whether ranks that raise ``Killed`` are lost, with None as result, and the others may go on.

    Raises:
        Whatever a rank raises first; the others are then stopped at their next operation.
    """
    if size < 1:
        raise ValueError(f"run: there must be at least one rank, not {size}")
    board = _Board(size, timeout, survive)
    results: list[Any] = [None] * size
    errors: list[tuple[int, BaseException]] = []

    def work(rank: int) -> None:
        try:
            with board.changed:  # a rank has the lock, but for where it waits
                results[rank] = function(Thread(board, rank), *args)
        except BaseException as error:  # noqa: BLE001 - raised again below
            if survive and isinstance(error, Killed):
                board.kill(rank)
                return
            errors.append((rank, error))
            board.fail(f"rank {rank} stopped with {type(error).__name__}: {error}")

    threads = [threading.Thread(target=copy_context().run, args=(work, rank), daemon=True) for rank in range(size)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0][1]
    return results
