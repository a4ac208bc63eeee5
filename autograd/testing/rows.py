"""``check_row``: everything that a row of the op table must satisfy, on calls drawn from its domain.

``row_checks`` has the checks, ``row_report`` what became of them. A row goes through every check unless ``exemptions`` gives a reason.
"""

import time
from collections.abc import Callable

from ..table import OPS
from .calls import Call, calls
from .row_checks import CHECKS, RowCheck
from .row_report import Report, exemptions
from .strategies import HealthCheck, given, settings

ENOUGH = 10  # of so many drawn calls some must go through every check


def check_row(name: str, examples: int = 25, watch: Callable[[Report], None] | None = None) -> Report:
    """Run every check on a row of the op table.

    Args:
        name: the row's name in ``autograd.OPS``.
        examples: how many calls hypothesis draws.
        watch: is given the report, as far as it has come, after every call.

    Returns:
        Which checks were made how many times, and which the row is exempt from.

    Raises:
        AssertionError: naming the check, and the smallest call found that fails it; or the checks that none of the drawn
            calls could go through.
        LookupError: there is no such row, or it has no strategy (see ``autograd.testing.calls``).
    """
    if name not in OPS:
        raise LookupError(f"the op table has no row {name!r}")
    check, start = RowCheck(OPS[name]), time.perf_counter()

    def one(call: Call) -> None:
        try:
            check.call(call)
        finally:
            check.report.seconds = time.perf_counter() - start
            if watch is not None:
                watch(check.report)

    quiet = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    quiet(given(calls(name))(one))()
    check.finish(examples >= ENOUGH)
    check.report.seconds = time.perf_counter() - start
    if watch is not None:
        watch(check.report)
    return check.report


__all__ = ["CHECKS", "Report", "RowCheck", "check_row", "exemptions"]
