"""Checks every row of the op table, in worker processes of one BLAS thread each."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from autograd import OPS
from autograd.testing.rows import CHECKS, Report, check_row, exemptions

from ..worker import one_blas_thread
from .counterexample import paste_row


@dataclass(frozen=True)
class RowOutcome:
    """What the checks of one row found.

    Attributes:
        row: its name.
        calls: how many drawn calls went through their checks.
        ran: how many times each check was made.
        exempt: the checks that the row does not go through, and why.
        seconds: how long it took.
        failed: the check that failed; empty if none did.
        message: what is wrong, with the smallest call found.
        test: a test to paste that fails in the same way, if the derivative is wrong.
    """

    row: str
    calls: int = 0
    ran: dict[str, int] = field(default_factory=dict)
    exempt: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    failed: str = ""
    message: str = ""
    test: str = ""

    @property
    def complete(self) -> bool:
        """Whether the row went through every check that it is not exempt from, and none failed."""
        return not self.failed and all(self.ran.get(c, 0) or c in self.exempt for c in CHECKS)


def check_one(name: str, examples: int) -> RowOutcome:
    """All checks of one row."""
    reports: list[Report] = []
    message = test = ""
    try:
        check_row(name, examples, reports.append)
    except Exception as error:  # noqa: BLE001  (a rule that crashes is a finding like any other)
        message = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
    if not reports:  # not one call could be drawn
        return RowOutcome(name, exempt=exemptions(OPS[name]), failed="drawing calls", message=message)
    found = reports[-1]
    if message and found.failing is not None and found.failed in ("derivatives", "complex"):
        call = found.failing
        test = paste_row(name, call.inputs, call.params, call.row.variadic)
    failed = (found.failed or "made at all") if message else ""
    return RowOutcome(name, found.calls, dict(found.ran), dict(found.exempt), found.seconds, failed, message, test)


def check_rows(rows: Sequence[str], examples: int, jobs: int, done: Callable[[RowOutcome], None]) -> None:
    """Check rows, calling ``done`` after each. A KeyboardInterrupt stops the workers and goes on up."""
    context, lost = multiprocessing.get_context("spawn"), []
    with one_blas_thread(), ProcessPoolExecutor(min(jobs, len(rows)), context, _initialise) as pool:
        futures = {pool.submit(check_one, row, examples): row for row in rows}
        try:
            for future in as_completed(futures):
                try:
                    done(future.result())
                except BrokenProcessPool:
                    lost.append(futures[future])
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    # if a worker dies, all rows in its pool are lost; each gets a pool to itself, and if that dies too, the row is at fault
    for row in lost:
        if len(rows) > 1:
            check_rows([row], examples, 1, done)
        else:
            done(
                RowOutcome(
                    row, failed="run to the end", message="the process died (out of memory, or a crash in a library)"
                )
            )


def _initialise() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent decides
