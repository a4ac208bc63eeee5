"""Ranks that are threads of this process: the communicator of tests, and of studies of many agents on one machine.

    results = agents.run(4, lambda comm: comm.all_reduce(np.ones(3)).wait())      # one result for each rank

One rank runs at a time, from one wait to the next: Python would run threads in turns anyway, at a much higher price for each
turn. Arrays are copied as they are posted, as a wire would. Unlike MPI, a mistake is named: ranks that call different operations,
or post different shapes, get an ``AgentsError`` that says who did what, and so do all ranks when one of them raises or
stays away for too long.
"""

import functools
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
    check_neighbours,
    check_op,
    check_parts,
    check_rank,
)


class _Board:
    """Where ranks post: a list of posts for each operation, in the order in which every rank calls them."""

    def __init__(self, size: int, timeout: float):
        self.size, self.timeout = size, timeout
        self.changed = threading.Condition()
        self.posts: dict[int, dict[int, tuple]] = {}
        self.read: dict[int, int] = {}
        self.failed: str | None = None

    def post(self, number: int, rank: int, kind: tuple, value: Any) -> None:
        with self.changed:
            self._raise()
            posts = self.posts.setdefault(number, {})
            for other, (theirs, _) in posts.items():
                if theirs != kind:
                    self.fail(f"operation {number}: rank {rank} calls {_said(kind)}, rank {other} {_said(theirs)}")
                    self._raise()
            posts[rank] = kind, value
            if len(posts) == self.size:
                self.changed.notify_all()

    def whole(self, number: int) -> bool:
        with self.changed:
            self._raise()
            return len(self.posts[number]) == self.size

    def values(self, number: int) -> list:
        """What all ranks posted, once they all have."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.failed or len(self.posts[number]) == self.size, self.timeout):
                away = sorted(set(range(self.size)) - self.posts[number].keys())
                self.fail(f"operation {number}: ranks {away} did not come within {self.timeout:g} s")
            self._raise()
            found = [self.posts[number][rank][1] for rank in range(self.size)]
            self.read[number] = self.read.get(number, 0) + 1
            if self.read[number] == self.size:
                del self.posts[number], self.read[number]
            return found

    def fail(self, reason: str) -> None:
        with self.changed:
            self.failed = self.failed or reason
            self.changed.notify_all()

    def _raise(self) -> None:
        if self.failed:
            raise AgentsError(self.failed)


def _said(kind: tuple) -> str:
    return f"{kind[0]}({', '.join(map(str, kind[1:]))})"


class Thread(Communicator):
    """One of the ranks of ``run``."""

    def __init__(self, board: _Board, rank: int):
        super().__init__()
        self.rank, self.size = rank, board.size
        self._board, self._calls = board, 0

    def _start(self, kind: tuple, value: Any, result: Callable[[list], Any], nbytes: int) -> Pending:
        number, self._calls = self._calls, self._calls + 1
        self._board.post(number, self.rank, kind, value)
        self.sent += nbytes if self.size > 1 else 0
        return Pending(lambda: result(self._board.values(number)), lambda: self._board.whole(number))

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

    def all_to_all(self, parts: Sequence[np.ndarray], counts: Sequence[int]) -> Pending:
        check_parts(self, parts, counts)
        nbytes = sum(p.nbytes for i, p in enumerate(parts) if i != self.rank)

        def mine(found: list) -> list:
            got = [posted[self.rank] for posted in found]
            for other, (n, x) in enumerate(zip(counts, got, strict=True)):
                if len(x) != n:
                    raise AgentsError(
                        f"all_to_all: rank {other} sent {len(x)} elements to rank {self.rank}, which expects {n}"
                    )
            return got

        return self._start(("all_to_all", parts[0].dtype), [np.array(p) for p in parts], mine, nbytes)

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


def run(size: int, function: Callable[..., Any], *args: Any, timeout: float = TIMEOUT) -> list:
    """Run ``function(comm, *args)`` on so many ranks, each a thread; returns their results in the order of the ranks.

    Args:
        size: how many ranks.
        function: what each does with its communicator. The calling context (``contextvars``) is copied to it.
        timeout: seconds for which a rank waits for another.

    Raises:
        Whatever a rank raises first; the others are then stopped at their next operation.
    """
    if size < 1:
        raise ValueError(f"run: there must be at least one rank, not {size}")
    board = _Board(size, timeout)
    results: list[Any] = [None] * size
    errors: list[tuple[int, BaseException]] = []

    def work(rank: int) -> None:
        try:
            with board.changed:  # a rank has the lock, but for where it waits
                results[rank] = function(Thread(board, rank), *args)
        except BaseException as error:  # noqa: BLE001 - raised again below
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
